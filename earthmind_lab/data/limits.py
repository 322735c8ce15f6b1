"""What a search must meet, in canonical form: dates, gap, cloud and sensors as users write them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, TypeAlias

from earthmind_lab.errors import SearchError
from earthmind_lab.scene import Scene
from earthmind_lab.sensors import MODALITY_WORDS, SENSORS

Day: TypeAlias = str | date | datetime

DatesLike: TypeAlias = "Day | Sequence[Day]"
MODALITIES = ("optical", "sar")
DATES_HELP = "dates='2019-09-15/2019-09-20' (first and last UTC day), or one day"
AROUND_DAYS: Mapping[str, int] = {"flood": 3, "default": 10, "settlement": 60}
"""How far from `around` scenes are searched where no dates are given, by purpose: water is gone in
days, a building stays."""
_UNITS = {"w": 168.0, "d": 24.0, "h": 1.0, "m": 1 / 60}


@dataclass(frozen=True, kw_only=True)
class Around:
    """The date that a search is about: an instant, or a UTC day."""

    start: datetime
    """UTC."""
    end: datetime
    """UTC; of a day its last instant, of an instant the same."""

    @property
    def text(self) -> str:
        """For sentences."""
        return f"{self.start:%Y-%m-%d}" if self.start < self.end else f"{self.start:%Y-%m-%dT%XZ}"

    def off(self, when: datetime) -> timedelta:
        """How long after the date (negative: before it) a UTC time is; zero within the day."""
        return max(when - self.end, timedelta(0)) + min(when - self.start, timedelta(0))


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a scene or a pair must meet, in canonical form."""

    first: date
    """First UTC day."""
    last: date
    """Last UTC day, inclusive."""
    max_gap: timedelta
    max_cloud: float
    """Per cent of cloud and shadow inside the AOI."""
    modalities: tuple[str, ...]
    """``optical``, ``sar`` or both, in this order."""
    sensors: tuple[str, ...] = ()
    """Keys of `SENSORS` that alone will do; where a modality has none in here, any of it."""
    around: Around | None = None
    """The date that scenes should be near."""

    def kinds(self, modality: str) -> tuple[str, ...]:
        """What to ask a catalog for: the sensors of a modality, or the modality itself."""
        keys = tuple(key for key in self.sensors if SENSORS[key].modality == modality)
        return keys or (modality,)

    def takes(self, scene: Scene) -> bool:
        """Whether a scene is of a sensor that was asked for."""
        return bool({scene.modality, scene.sensor} & set(self.kinds(scene.modality)))

    def name(self, modality: str) -> str:
        """What was asked for of a modality, for messages."""
        return " or ".join(
            MODALITY_WORDS.get(kind) or SENSORS[kind].title for kind in self.kinds(modality)
        )

    @property
    def terms(self) -> dict[str, Any]:
        """For records: one form, whatever words the user had; `search_pairs` takes them all."""
        near = {} if self.around is None else {"around": self.around.text}
        hours = f"{self.max_gap / timedelta(hours=1):.6f}".rstrip("0").rstrip(".")
        return {
            "dates": f"{self.first}/{self.last}",
            **near,
            "sensors": [each for modality in self.modalities for each in self.kinds(modality)],
            "max_gap": f"{hours} hours",
            "max_cloud": self.max_cloud,
        }

    @property
    def start(self) -> datetime:
        """First instant, UTC."""
        return datetime.combine(self.first, time.min, UTC)

    @property
    def end(self) -> datetime:
        """Last instant, UTC."""
        return datetime.combine(self.last, time.max, UTC)

    @property
    def asked(self) -> str:
        """For messages."""
        kinds = " and ".join(self.name(kind) for kind in self.modalities)
        when = f"from {self.first} to {self.last}" if self.first < self.last else f"on {self.first}"
        return f"{kinds} scenes {when}"


def parse_dates(dates: DatesLike) -> tuple[date, date]:
    """First and last UTC day, both inclusive.

    Raises:
        SearchError: Not two days, not days at all, or reversed.

    >>> parse_dates("2019-09-15/2019-09-20")
    (datetime.date(2019, 9, 15), datetime.date(2019, 9, 20))
    """
    if isinstance(dates, str):
        parts: list[Any] = [part.strip() for part in dates.split("/")]
    elif isinstance(dates, date):
        parts = [dates]
    else:
        parts = list(dates) if isinstance(dates, Sequence) else []
    if len(parts) not in (1, 2):
        raise SearchError(f"The dates {dates!r} are not one or two days.", change=DATES_HELP)
    first, last = _day(parts[0]), _day(parts[-1])
    if first > last:
        raise SearchError(
            f"The dates {first}/{last} are reversed.", change=f"dates='{last}/{first}'"
        )
    return first, last


def parse_gap(gap: str | timedelta) -> timedelta:
    """A length of time such as ``"6 days"``, ``"36 hours"``, ``"1 day 12 hours"``.

    Raises:
        SearchError: Negative, without a unit, or not a length of time.

    >>> parse_gap("36 hours")
    datetime.timedelta(days=1, seconds=43200)
    """
    change = "max_gap='6 days' or max_gap='36 hours'"
    if isinstance(gap, timedelta):
        if gap < timedelta(0):
            raise SearchError(f"max_gap={gap!r} is negative.", change=change)
        return gap
    part = r"(\d+(?:\.\d+)?)\s*(w|d|h|m)(?:eeks?|ays?|ours?|rs?|in|ins|inutes?)?\b[\s,]*"
    text = str(gap).strip().lower()
    if not re.fullmatch(f"(?:{part})+", text):
        raise SearchError(f"max_gap={gap!r} is not a length of time.", change=change)
    try:
        hours = sum(float(number) * _UNITS[unit] for number, unit in re.findall(part, text))
        return timedelta(hours=hours)
    except OverflowError as error:
        raise SearchError(f"max_gap={gap!r} is too long.", change=change) from error


def parse_sensors(sensors: str | Iterable[str]) -> tuple[str, ...]:
    """What was asked for, optical before SAR: modalities, or keys of `SENSORS` in their place.

    Raises:
        SearchError: Anything else.

    >>> parse_sensors("sar,optical"), parse_sensors(["sentinel-1-rtc", "hls-l30", "hls-s30"])
    (('optical', 'sar'), ('hls-l30', 'hls-s30', 'sentinel-1-rtc'))
    """
    parts = re.split(r"[,+\s]+", sensors.strip()) if isinstance(sensors, str) else list(sensors)
    asked = {str(part).strip().lower() for part in parts}
    found: list[str] = []
    for modality in MODALITIES:
        keys = [key for key, sensor in SENSORS.items() if sensor.modality == modality]
        named = [key for key in keys if key in asked - set(MODALITIES)]
        found += named or ([modality] if modality in asked else [])
        asked -= {modality, *named}
    if asked or not found:
        raise SearchError(
            f"The sensors {sensors!r} are not known.",
            found=", ".join(sorted(asked)) or None,
            change=f"sensors='optical,sar', 'optical' or 'sar', or keys: {', '.join(SENSORS)}",
        )
    return tuple(found)


def parse_around(around: Day) -> Around:
    """The date that a search is about; a text or time with a clock time is an instant.

    Raises:
        SearchError: Not a date.

    >>> parse_around("2019-09-15").text, parse_around("2019-09-15T06:00Z").text
    ('2019-09-15', '2019-09-15T06:00:00Z')
    """
    if isinstance(around, datetime) or (isinstance(around, str) and len(around.strip()) > 10):
        _day(around)  # refuses what is no date
        when = around if isinstance(around, datetime) else datetime.fromisoformat(around.strip())
        when = when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
        return Around(start=when, end=when)
    day = _day(around)
    return Around(
        start=datetime.combine(day, time.min, UTC), end=datetime.combine(day, time.max, UTC)
    )


def limits_of(
    dates: DatesLike | None,
    sensors: str | Iterable[str],
    max_gap: str | timedelta,
    max_cloud: float,
    *,
    around: Day | None = None,
    purpose: str = "default",
) -> Limits:
    """Bring what a user wrote into canonical form.

    Args:
        dates: First and last day; None = `AROUND_DAYS` on both sides of `around`.
        sensors: As `parse_sensors` takes them.
        max_gap: As `parse_gap` takes it.
        max_cloud: Per cent.
        around: The date that scenes should be near.
        purpose: Chooses the days around it.

    Raises:
        SearchError: One of them makes no sense; the message says which.
    """
    asked = parse_sensors(sensors)
    centre = None if around is None else parse_around(around)
    if dates is None and centre is not None:
        first, last = _window(centre, purpose)
    elif dates is None:
        raise SearchError("No dates were given.", change=f"{DATES_HELP}, or around='2019-09-15'")
    else:
        first, last = parse_dates(dates)
    number = isinstance(max_cloud, int | float) and not isinstance(max_cloud, bool)
    if not number or not 0 <= max_cloud <= 100:
        raise SearchError(f"max_cloud={max_cloud!r} is not a percentage.", change="max_cloud=20")
    return Limits(
        first=first,
        last=last,
        max_gap=parse_gap(max_gap),
        max_cloud=float(max_cloud),
        modalities=tuple(k for k in MODALITIES if k in {_modality(each) for each in asked}),
        sensors=tuple(each for each in asked if each not in MODALITIES),
        around=centre,
    )


def _modality(asked: str) -> str:
    return asked if asked in MODALITIES else SENSORS[asked].modality


def _window(centre: Around, purpose: str) -> tuple[date, date]:
    margin = timedelta(days=AROUND_DAYS.get(purpose, AROUND_DAYS["default"]))
    try:
        return (centre.start - margin).date(), (centre.end + margin).date()
    except OverflowError as error:
        raise SearchError(f"The date {centre.text} is out of range.", change=DATES_HELP) from error


def _day(value: Any) -> date:
    try:
        if isinstance(value, datetime):
            return value.astimezone(UTC).date() if value.tzinfo else value.date()
        if isinstance(value, date):
            return value
        when = datetime.fromisoformat(str(value).strip())
        return when.astimezone(UTC).date() if when.tzinfo else when.date()
    except (ValueError, OverflowError) as error:
        raise SearchError(f"{value!r} is not a day.", change=DATES_HELP) from error
