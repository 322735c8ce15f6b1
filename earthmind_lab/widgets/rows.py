"""Turns as rows of words for the browser: nothing to compute there, nothing is HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from earthmind_lab.answer import format_area
from earthmind_lab.widgets.protocol import clean
from earthmind_lab.widgets.words import source_words

if TYPE_CHECKING:
    from earthmind_lab.session.subject import SaidTurn


def turn_row(turn: SaidTurn) -> dict[str, Any]:
    """A turn for the chat panel: texts, one row per label of its features, evidence."""
    done = turn.state == "done"
    return {
        "id": clean(turn.id),
        "question": clean(turn.question),
        "state": turn.state,
        "text": clean(turn.text),
        "notice": clean(f"{turn.message} {turn.notice}".strip() if done else turn.notice),
        "message": clean(turn.message),
        "stale": turn.stale,
        "features": feature_rows(turn),
        "evidence": [
            {
                "verdict": clean(claim.get("verdict", "uncheckable")),
                "kind": clean(claim.get("kind", "")),
                "sentence": clean(claim.get("sentence") or claim.get("text", "")),
            }
            for claim in turn.evidence
        ],
    }


def feature_rows(turn: SaidTurn) -> list[dict[str, Any]]:
    """The features of a turn by label, sensor and time: count, mapped area, where it is from.

    Returns:
        ``label``, ``count``, ``area`` (text, overlaps counted once), ``source`` (text).
    """
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for feature in turn.features.get("features", ()):
        own = feature.get("properties") or {}
        key = (str(own.get("label", "")), str(own.get("source", "")), str(own.get("observed", "")))
        groups.setdefault(key, []).append(feature)
    return [
        {
            "label": clean(label) or "object",
            "count": len(features),
            "area": format_area(mapped_area(features)),
            "source": clean(source_words(source, observed, turn.record)),
        }
        for (label, source, observed), features in groups.items()
    ]


def mapped_area(features: Sequence[Mapping[str, Any]]) -> float:
    """Square metres that any of the features covers; what two of them share counts once."""
    from shapely import area, make_valid, union_all
    from shapely.geometry import shape

    total = sum(float(each["properties"].get("area_m2") or 0.0) for each in features)
    shapes = [make_valid(shape(each["geometry"])) for each in features if each.get("geometry")]
    apart = float(area(shapes).sum()) if shapes else 0.0
    # The share that overlaps is a ratio, which degrees give as well as metres.
    return total * min(1.0, float(union_all(shapes).area) / apart) if apart else total
