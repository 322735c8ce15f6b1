"""A talk as rows of words for the browser: each turn with its regions, branches and comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from earthmind_lab.answer import format_area
from earthmind_lab.comparing import Comparison, Told, compare
from earthmind_lab.exchange import Modality
from earthmind_lab.sensors import MODALITY_WORDS
from earthmind_lab.widgets.protocol import clean
from earthmind_lab.widgets.rows import turn_row

if TYPE_CHECKING:
    from earthmind_lab.session.subject import SaidTurn, Subject


class TalkRows:
    """Rows of the turns that are on screen; one is made again only when something in it changed."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def of(self, subject: Subject | None) -> list[dict[str, Any]]:
        """A row for each turn of the talk, oldest first."""
        talk = () if subject is None else subject.talk
        held, self._held = self._held, {}
        for turn in talk:
            assert subject is not None
            key = _key(subject, turn)
            known = held.get(turn.id)
            row = known[1] if known and _same(known[0], key) else talk_row(subject, turn)
            self._held[turn.id] = (key, row)
        return [row for _, row in self._held.values()]


def talk_row(subject: Subject, turn: SaidTurn) -> dict[str, Any]:
    """A turn, and what can be done with it.

    Returns:
        `rows.turn_row` and ``regions`` (words), ``how`` (options that differ), ``again`` (whether
        it can be asked once more), ``without`` (sensors that can be taken away), ``copies``,
        ``at`` and ``of`` (its place among the branches, from 1), ``before`` and ``after`` (ids of
        its neighbours, or empty), ``compared`` (with the turn that it was asked again for).
    """
    branches = [each.id for each in subject.branches(turn)]
    at = branches.index(turn.id)
    again = None not in turn.regions
    return {
        **turn_row(turn),
        "regions": [clean(_region(subject, n, shape)) for n, shape in enumerate(turn.regions, 1)],
        "how": clean(_how(turn)),
        "again": again,
        "without": _without(turn) if again else [],
        "copies": turn.record is not None and again,
        "at": at + 1,
        "of": len(branches),
        "before": clean(branches[at - 1]) if at else "",
        "after": clean(branches[at + 1]) if at + 1 < len(branches) else "",
        "compared": _compared(subject, turn),
    }


def mark_rows(subject: Subject | None) -> list[dict[str, str]]:
    """The regions that go into the next question: ``id``, ``name`` (the model's) and ``label``."""
    regions = () if subject is None else subject.regions
    return [
        {"id": clean(region.id), "name": f"region{number}", "label": clean(region.label)}
        for number, region in enumerate(regions, 1)
    ]


def _key(subject: Subject, turn: SaidTurn) -> tuple[Any, ...]:
    """What a row is made of: values that are the same objects until they change."""
    other = None if turn.against is None else subject.turn(turn.against)
    branches = tuple(each.id for each in subject.branches(turn))
    return (turn, other, branches, subject.regions if turn.regions else None)


def _same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return all(a is b or (isinstance(a, tuple) and a == b) for a, b in zip(one, other, strict=True))


def _region(subject: Subject, number: int, shape: Mapping[str, Any] | None) -> str:
    """``region1``, and how people call it where it is still marked."""
    name = f"region{number}"
    if shape is None:
        return f"{name}, a mask"
    called = (each.label for each in subject.regions if each.geometry == shape)
    label = next(called, "")
    return f"{name} “{label}”" if label and label.replace(" ", "") != name else name


def _how(turn: SaidTurn) -> str:
    """Options that differ from the defaults, in words."""
    given = dict(turn.options)
    off = given.pop("sensor_off", None)
    words = [f"without {MODALITY_WORDS[off]}"] if off in MODALITY_WORDS else []
    words += [f"{key.replace('_', ' ')} {value}" for key, value in given.items()]
    return ", ".join(words)


def _without(turn: SaidTurn) -> list[str]:
    """Sensors that the answer had both of, either of which could be taken away."""
    seen = {each.get("modality") for each in (turn.record or {}).get("inputs", ())}
    had_both = seen >= set(MODALITY_WORDS) and not turn.options.get("sensor_off")
    return list(MODALITY_WORDS) if had_both else []


def _compared(subject: Subject, turn: SaidTurn) -> dict[str, Any] | None:
    both = None if turn.against is None else subject.turn(turn.against)
    off: Modality | None = turn.options.get("sensor_off")
    if both is None or off is None or both.record is None or turn.record is None:
        return None
    one, other = (
        Told(text=each.text, features=each.features, record=each.record)
        for each in (both, turn)
        if each.record is not None
    )
    found = compare(one, other, off)
    sensor = MODALITY_WORDS[off]
    title = f"With and without {sensor}"
    if found is None:
        why = "Not compared: the two answers are about other pixels, or to other questions."
        return {"title": title, "head": [], "sentences": [why], "rows": []}
    return {
        "title": title,
        "head": ["marked", "with both", f"without {sensor}", "IoU"],
        "sentences": [clean(sentence) for sentence in found.sentences],
        "rows": _marked_rows(found),
    }


def _marked_rows(found: Comparison) -> list[list[str]]:
    return [
        [
            clean(each.label) or "object",
            format_area(each.with_m2) if each.with_count else "none",
            format_area(each.without_m2) if each.without_count else "none",
            f"{each.iou:.2f}",
        ]
        for each in found.marked
    ]
