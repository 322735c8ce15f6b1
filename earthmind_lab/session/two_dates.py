"""Two dates of a subject: whether a pair shows an earlier date than the chosen one, and by what.

Values only: what the pixels must have in common is checked where both are loaded
(`changing.sensor_of`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, TypeAlias

from earthmind_lab.errors import PromptError, SearchError
from earthmind_lab.exchange import Modality
from earthmind_lab.record import Record
from earthmind_lab.record_parts import AFTER, BEFORE
from earthmind_lab.session.queries import check_rank
from earthmind_lab.session.subject import PairRow, Subject

_SENSORS: tuple[Modality, ...] = ("sar", "optical")
"""Who compares, the first that can."""
_Span: TypeAlias = tuple[dt.datetime, dt.datetime]
BOTH_DAYS = "find pairs over days that hold both dates, or of one sensor alone"


def dates_of(subject: Subject) -> dict[str, Any] | None:
    """The two dates that questions about a subject concern; None where they concern one.

    Returns:
        Plain data: ``ids`` of the earlier pair and ``after``, of the chosen one (optical and SAR,
        None for one that isn't); ``sensor`` that both are seen by; ``observed``, when, ISO 8601
        UTC, the earlier first.
    """
    if subject.row is None or subject.row_before is None:
        return None
    sensor = _sensor(subject.row_before, subject.row)
    if sensor is None:  # no command makes it so, but a file may say so
        return None
    both = (subject.row_before, subject.row)
    return {
        "ids": list(both[0].ids), "after": list(both[1].ids), "sensor": sensor,
        "observed": [_observed(row, sensor) for row in both],
    }  # fmt: skip


def dates_of_record(record: Record) -> dict[str, Any] | None:
    """The same of an answer, by its record; None where it is about one date."""
    if BEFORE not in record.chip:
        return None
    sensor = record.prompt["views"][0]["modality"]

    def observed(date: str) -> str:
        seen = (each for each in record.inputs if each["date"] == date)
        return next(str(each["observed"]) for each in seen if each["modality"] == sensor)

    pairs = record.search[BEFORE]["pair"], record.search["pair"]
    before, after = ([pair["optical"], pair["sar"]] for pair in pairs)
    return {
        "ids": before, "after": after, "sensor": sensor,
        "observed": [observed(BEFORE), observed(AFTER)],
    }  # fmt: skip


def check_earlier(subject: Subject, rank: int) -> None:
    """Refuse to compare the chosen pair with one that isn't of an earlier date.

    Args:
        subject: Whose pairs.
        rank: Of the pair to compare with.

    Raises:
        SearchError: No such pair, or none is chosen.
        PromptError: It is no earlier date by any sensor that both have.
    """
    check_rank(rank, subject)
    if subject.pairs is None or subject.row is None:
        raise SearchError(
            f"No pair of {subject.name!r} is chosen.", change="choose the one of the later date"
        )
    other = subject.pairs[rank]
    if _sensor(other, subject.row) is not None:
        return
    shared = [each for each in _SENSORS if _observed(other, each) and _observed(subject.row, each)]
    found = "; ".join(
        f"{each} {_observed(other, each)} and {_observed(subject.row, each)}" for each in shared
    )
    if _sensor(subject.row, other) is not None:
        change = f"choose pair {rank + 1}, then compare it with pair {(subject.chosen or 0) + 1}"
    else:
        change = "another pair" if earlier_ranks(subject) else BOTH_DAYS
    raise PromptError(
        f"Pair {rank + 1} shows no earlier date than the chosen one.",
        found=found or "no sensor in common",
        change=change,
    )


def earlier_ranks(subject: Subject) -> tuple[int, ...]:
    """Ranks of the pairs that the chosen one can be compared with."""
    now = subject.row
    if now is None:
        return ()
    return tuple(n for n, row in enumerate(subject.pairs or ()) if _sensor(row, now) is not None)


def later_ranks(subject: Subject) -> tuple[int, ...]:
    """Ranks of the pairs that could be compared with the chosen one, were they chosen."""
    now = subject.row
    if now is None:
        return ()
    return tuple(n for n, row in enumerate(subject.pairs or ()) if _sensor(now, row) is not None)


def ids_of(ids: Any) -> tuple[str | None, str | None]:
    """Ids as `PairRow.ids`, from what a file gives."""
    optical, sar = ids
    return optical, sar


def check_same(subject: Subject, dates: Mapping[str, Any]) -> None:
    """Refuse to ask again about two dates where another pair is chosen now.

    Raises:
        PromptError: The later of the two is not the chosen one, or the earlier is not there.
    """
    held = [row.ids for row in subject.pairs or ()]
    if subject.row is None or subject.row.ids != ids_of(dates["after"]):
        raise PromptError(
            "It was asked about two dates, and another pair is chosen now.",
            found=f"asked about {' and '.join(dates['observed'])}",
            change="choose that pair, then ask again",
        )
    if ids_of(dates["ids"]) not in held:
        raise PromptError(
            "The earlier of the two dates is no longer among the pairs.",
            found=str(dates["observed"][0]),
            change=BOTH_DAYS,
        )


def _sensor(before: PairRow, after: PairRow) -> Modality | None:
    """By which sensor one pair is of an earlier date than another; None = by none."""
    for sensor in _SENSORS:
        early, late = (_span(_observed(row, sensor)) for row in (before, after))
        if early is not None and late is not None and early[1] < late[0]:
            return sensor
    return None


def _observed(row: PairRow, sensor: Modality) -> str:
    """When its scene was taken, ISO 8601 UTC, or start/end; empty where it has none."""
    scenes = (scene for scene in row.scenes if scene.get("modality") == sensor)
    return next((str(scene.get("observed", "")) for scene in scenes), "")


def _span(observed: str) -> _Span | None:
    """First and last possible instant; None where unknown."""
    try:
        times = [dt.datetime.fromisoformat(part) for part in observed.split("/")]
    except ValueError:
        return None
    known = [t if t.tzinfo else t.replace(tzinfo=dt.UTC) for t in times]
    return known[0], known[-1]
