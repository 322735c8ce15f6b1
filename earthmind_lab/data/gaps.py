"""The time between two scenes: one number where both times are known, else an interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeAlias

from earthmind_lab.errors import SearchError
from earthmind_lab.scene import Scene

Gap: TypeAlias = timedelta | tuple[timedelta, timedelta]
"""SAR minus optical; (least, greatest), signed, when a time is unknown."""
TAU_DAYS: Mapping[str, float] = {"flood": 1.0, "default": 5.0, "settlement": 20.0}
"""How fast a gap devalues a pair, by purpose, in days."""
_NONE = timedelta(0)
_HOUR = timedelta(hours=1)


def tau_days(purpose: str) -> float:
    """The time constant of a purpose, in days.

    Raises:
        SearchError: Unknown purpose.
    """
    if purpose not in TAU_DAYS:
        raise SearchError(f"Unknown purpose {purpose!r}.", change=", ".join(sorted(TAU_DAYS)))
    return TAU_DAYS[purpose]


def gap_of(optical: Scene, sar: Scene) -> Gap:
    """SAR minus optical; (least, greatest), signed, when a time is unknown."""
    least = sar.start - optical.end
    if optical.time_known and sar.time_known:
        return least
    return least, sar.end - optical.start


def least_gap(optical: Scene, sar: Scene) -> timedelta:
    """The smallest possible |gap|."""
    return possible(gap_of(optical, sar))[0]


def possible(gap: Gap) -> tuple[timedelta, timedelta]:
    """Smallest and greatest possible |gap|."""
    if not isinstance(gap, tuple):
        return abs(gap), abs(gap)
    straddles = gap[0] <= _NONE <= gap[1]
    ends = sorted(abs(part) for part in gap)
    return _NONE if straddles else ends[0], ends[1]


def middle_gap(gap: Gap | None) -> timedelta:
    """The middle of the possible |gap|; none for one scene alone."""
    if gap is None:
        return _NONE
    return sum(possible(gap), _NONE) / 2 if isinstance(gap, tuple) else abs(gap)


def middle_time(scenes: Sequence[Scene]) -> datetime:
    """The middle between the scenes' times, each the middle of its interval, UTC."""
    first = scenes[0].start
    offsets = [(scene.start - first) + (scene.end - scene.start) / 2 for scene in scenes]
    return first + sum(offsets, _NONE) / len(offsets)


def length(gap: timedelta) -> str:
    """A length of time in a sentence: minutes, hours or days.

    >>> length(timedelta(minutes=25)), length(timedelta(days=3))
    ('25 minutes', '3.0 days')
    """
    hours = gap / _HOUR
    if hours < 1:
        return f"{hours * 60:.0f} minutes"
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.1f} days"


def gap_reason(gap: Gap) -> str:
    """The gap as a sentence."""
    if isinstance(gap, tuple):
        least, greatest = (length(part) for part in possible(gap))
        return f"The gap is unknown: between {least} and {greatest}."
    order = "after" if gap >= _NONE else "before"
    return f"SAR was taken {length(abs(gap))} {order} the optical scene."


def time_reasons(scene: Scene) -> tuple[str, ...]:
    """What is unknown about a scene's time."""
    if scene.time_known:
        return ()
    name = "SAR" if scene.modality == "sar" else "optical"
    return (f"The time of the {name} scene is unknown: {scene.observed}.",)
