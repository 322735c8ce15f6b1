"""Is there water, are there trees: yes or no, against every truth that decides it.

table = evaluate_presence(load_engine("nano"))
print(table.markdown())
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from earthmind_lab.evaluate.asking import (
    SENSORS,
    ForPlace,
    Shown,
    check_asked,
    engine_of,
    known_classes,
    show,
    sites_for,
)
from earthmind_lab.evaluate.asking import is_twin as is_cloudy_twin
from earthmind_lab.evaluate.controls import check_control
from earthmind_lab.evaluate.ground import PRESENT
from earthmind_lab.evaluate.legends import CLASSES
from earthmind_lab.evaluate.metrics import (
    accuracy,
    balanced_accuracy,
    interval,
    majority,
    mean_of,
    without_own_place,
)
from earthmind_lab.evaluate.report import Part, Table, group_rows
from earthmind_lab.evaluate.rules import index_rule, vv_rule
from earthmind_lab.evaluate.walk import MAX_GAP, Note, walk


@dataclass(frozen=True, kw_only=True)
class Presence:
    """One class on one scene by one choice of sensors, against one truth."""

    scene: str
    place: str
    training: str
    sensors: str
    truth: str
    """Kind of the truth: `ground`."""
    label: str
    there: bool
    share: float | None
    """True share of the ground; None = the truth has no pixels."""
    said: bool | None
    """None = neither yes nor no, which is wrong."""
    blind: bool | None
    """What the engine says without a picture."""
    vv: bool | None
    """By the backscatter threshold; None = it doesn't apply."""
    index: bool | None
    """By a spectral index on the picture asked about."""
    twin: bool
    """Clouds hide the ground that the truth is about."""

    @property
    def right(self) -> bool:
        """Whether the answer is right."""
        return self.said == self.there


def evaluate_presence(
    engine: ForPlace,
    catalog: str | Path = "sample",
    labels: str | None = None,
    *,
    sensors: Sequence[str] = SENSORS,
    places: Collection[str] | None = None,
    control: str | None = None,
    notes: Mapping[str, Note] | None = None,
    max_gap: timedelta = MAX_GAP,
    deadline: float = 120.0,
) -> Table:
    """Ask for every class on every scene of a catalog whether it is there.

    Args:
        engine: The model; or a function from a place's name to the model that never saw it, to
            leave one place out (`folds`).
        catalog: ``sample``, or the path of a static catalog.
        labels: Id of its collection of labels; None = every item with a legend.
        sensors: Of ``optical``, ``sar``, ``both``.
        places: Names of the places to look at; None = all.
        control: ``blank``, ``other``, ``shuffled`` (then `engine` must be the shuffled one:
            `controls.shuffled_engine`), ``no-sar`` or ``no-optical``.
        notes: What is known beyond the items; None = as `walk.walk`.
        max_gap: Longest gap of a pair.
        deadline: Seconds for each load.

    Raises:
        SearchError: The catalog or its labels can't be read, or nothing could be asked.
        EarthMindError: The engine can't answer.
    """
    taken = check_control(control)
    sites = sites_for(engine, walk(catalog, labels, places=places, notes=notes, max_gap=max_gap))
    model, skipped = engine_of(engine, sites), list[str]()
    rows: list[Presence] = []
    blind: dict[str, bool | None] = {}
    for shown in show(
        engine, sites, sensors=sensors, control=taken, skipped=skipped, deadline=deadline
    ):
        rows += _rows(shown, blind)
    check_asked(rows, sites)
    return Table(
        task="presence",
        model=model.name,
        revision=model.revision,
        catalog=str(catalog),
        control=control,
        asked=known_classes(model),
        skipped=tuple(skipped),
        rows=tuple(rows),
        parts=tuple(_parts(rows)),
    )


def _rows(shown: Shown, blind: dict[str, bool | None]) -> list[Presence]:
    looked, found = shown.looked, []
    said: dict[str, bool | None] = {}
    for truth in looked.truths:
        for index, there in enumerate(truth.there):
            label = CLASSES[index]
            if there is None or label not in known_classes(shown.engine):
                continue
            # Clouds are seen by optical sensors only.
            if label == "clouds" and shown.sensors not in ("optical", "both"):
                continue
            if label not in said:
                said[label] = shown.said(label)
            key = f"{shown.engine.revision} {label}"
            if key not in blind:
                blind[key] = shown.blind(label)
            found.append(
                Presence(
                    scene=looked.site.name, place=looked.site.place,
                    training=looked.site.training, sensors=shown.sensors, truth=truth.kind,
                    label=label, there=there, share=truth.share(index), said=said[label],
                    blind=blind[key],
                    vv=_rule(shown, vv_rule(looked.chip, label), "optical"),
                    index=_rule(shown, index_rule(looked.chip, label), "sar"),
                    twin=is_cloudy_twin(looked) and truth.kind != "cloud mask",
                )
            )  # fmt: skip
    return found


def _rule(shown: Shown, mask: Any, not_for: str) -> bool | None:
    if mask is None or shown.sensors == not_for:
        return None
    return bool(mask[shown.looked.chip.inside].mean() >= PRESENT)


def _parts(rows: Sequence[Presence]) -> list[Part]:
    """One line per scene, then per group of scenes and sensors one per class, then the twins."""
    parts = [Part(title="Per scene", lines=_per_scene([row for row in rows if not row.twin]))]
    for title, group in group_rows([row for row in rows if not row.twin]):
        parts.append(Part(title=f"Presence, {title}", lines=_per_class(group)))
    twins = [row for row in rows if row.twin]
    if twins:
        parts.append(
            Part(title="Cloudy twins, truth of the ground under the clouds", lines=_twins(twins))
        )
    return parts


def _per_scene(rows: Sequence[Presence]) -> list[dict[str, Any]]:
    keys = list(dict.fromkeys((r.scene, r.place, r.training, r.sensors, r.truth) for r in rows))
    lines = []
    for key in keys:
        mine = [r for r in rows if (r.scene, r.place, r.training, r.sensors, r.truth) == key]
        wrong = [f"{r.label} ({'there' if r.there else 'not there'})" for r in mine if not r.right]
        lines.append(
            {
                **dict(
                    zip(("scene", "place", "in training", "sensors", "truth"), key, strict=True)
                ),
                "there": ", ".join(r.label for r in mine if r.there) or "none",
                "right": f"{len(mine) - len(wrong)}/{len(mine)}",
                "wrong about": ", ".join(wrong),
            }
        )
    return lines


def _per_class(rows: Sequence[Presence]) -> list[dict[str, Any]]:
    lines = []
    for sensors, truth in dict.fromkeys((r.sensors, r.truth) for r in rows):
        group = [r for r in rows if (r.sensors, r.truth) == (sensors, truth)]
        labels = [label for label in CLASSES if any(r.label == label for r in group)]
        lines += [
            {"sensors": sensors, "truth": truth, "class": label}
            | _scores([r for r in group if r.label == label])
            for label in labels
        ]
        if len(labels) > 1:
            pooled = {"sensors": sensors, "truth": truth, "class": "mean of classes"}
            lines.append(pooled | _pooled(group, labels))
    return lines


def _scores(rows: Sequence[Presence]) -> dict[str, Any]:
    there, places = [r.there for r in rows], [r.place for r in rows]
    right = accuracy([r.said for r in rows], there)
    rivals = {
        "majority": majority(there),
        "blind right": accuracy([r.blind for r in rows], there),
        "other places' answer right": accuracy(without_own_place(there, places), there),
    }
    return {
        "scenes": len(rows),
        "there": sum(there),
        "right": right,
        **rivals,
        "beats them": beats(right, rivals.values()),
        "balanced": interval([r.right for r in rows], places, sides=there),
        "always yes": balanced_accuracy([True] * len(rows), there),
        "blind": balanced_accuracy([r.blind for r in rows], there),
        "VV": _balanced_rule(rows, "vv"),
        "index": _balanced_rule(rows, "index"),
    }


def balanced(rows: Sequence[Presence]) -> float | None:
    """Balanced accuracy of the answers; None where a class is always or never there."""
    return balanced_accuracy([r.said for r in rows], [r.there for r in rows])


def beats(score: float | None, rivals: Iterable[float | None]) -> bool | None:
    """Whether a score is better than every rival's; None where a rival makes no mistake.

    >>> beats(0.9, [0.5, None, 0.8]), beats(0.8, [0.8]), beats(1.0, [1.0]) is None
    (True, False, True)
    """
    held = [rival for rival in rivals if rival is not None]
    if score is None or not held or max(held) >= 1.0:
        return None
    return score > max(held)


def _pooled(rows: Sequence[Presence], labels: Sequence[str]) -> dict[str, Any]:
    """Mean over classes, so that a class with many scenes doesn't speak for the others."""
    by_class = [_scores([r for r in rows if r.label == label]) for label in labels]
    names = ("right", "majority", "blind right", "other places' answer right")
    means = {name: mean_of([scores[name] for scores in by_class]) for name in names}
    return {
        "scenes": len({r.scene for r in rows}), "there": sum(r.there for r in rows), **means,
        "beats them": beats(means["right"], [means[name] for name in names[1:]]),
        "balanced": interval(
            [r.right for r in rows], [r.place for r in rows],
            sides=[r.there for r in rows], groups=[r.label for r in rows],
        ),
        "always yes": mean_of([scores["always yes"] for scores in by_class]),
        "blind": mean_of([scores["blind"] for scores in by_class]),
    }  # fmt: skip


def _balanced_rule(rows: Sequence[Presence], name: str) -> float | None:
    held = [r for r in rows if getattr(r, name) is not None]
    if len(held) < len(rows):
        return None
    return balanced_accuracy([getattr(r, name) for r in held], [r.there for r in held])


def _twins(rows: Sequence[Presence]) -> list[dict[str, Any]]:
    return [
        {
            "scene": r.scene, "sensors": r.sensors, "truth": r.truth, "class": r.label,
            "there": "yes" if r.there else "no", "said": said_word(r.said),
            "right": r.right, "VV": said_word(r.vv), "index": said_word(r.index),
            "blind": said_word(r.blind),
        }
        for r in rows
    ]  # fmt: skip


def said_word(said: bool | None) -> str:
    """An answer as a word; empty = none."""
    return "" if said is None else "yes" if said else "no"
