"""What of a record is of which date, and what of it the model was shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from earthmind_lab.record import Record

BEFORE, AFTER = "before", "after"
"""Where two dates were compared: ``date`` of each input, and the key under which `Record.search`
and `Record.chip`, which are of the later date, hold those of the earlier one."""


def record_of_date(record: Record, date: str) -> Record:
    """The part of a record that is of one of its two dates, as a record of its own.

    Args:
        record: Of a comparison of two dates.
        date: `BEFORE` or `AFTER`.
    """
    chip, search = record.chip, record.search
    if date == BEFORE:
        chip, search = chip[BEFORE], search[BEFORE]
    inputs = tuple(each for each in record.inputs if each.get("date") == date)
    return replace(record, inputs=inputs, chip=chip, search=search)


def inputs_seen(record: Record) -> tuple[Mapping[str, Any], ...]:
    """The inputs that the model was shown: of two dates one sensor's, none that was switched off.

    Args:
        record: Of an answer.
    """
    views = record.prompt.get("views", ())
    if not views:  # nobody knows
        return record.inputs
    shown = {view["modality"] for view in views}
    shown -= {record.options.get("sensor_off")}
    return tuple(each for each in record.inputs if each.get("modality") in {*shown, None})


def date_of(about: Mapping[str, Any], inputs: Iterable[Mapping[str, Any]]) -> str:
    """On which of two dates an object was marked: `BEFORE` or `AFTER`; empty for one date.

    Args:
        about: Properties of a feature of the answer: ``source`` and ``observed``.
        inputs: Of the answer's record.
    """
    dated = [each for each in inputs if each.get("date")]
    if not dated:
        return ""
    source, observed = about.get("source"), about.get("observed")
    own = [each for each in dated if each.get("modality") == source]
    dates = [each["date"] for each in own if each.get("observed") == observed]
    return BEFORE if dates == [BEFORE] else AFTER
