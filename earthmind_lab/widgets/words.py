"""Sensors and days in words, for every panel and for the map; text only, nothing is HTML.

>>> day("2019-09-17T00:00:00Z/2019-09-17T23:59:59Z"), moment("2020-06-01T10:56:02Z")
('17 Sep 2019', '1 Jun 2020 10:56 UTC')
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from earthmind_lab.record_parts import AFTER, BEFORE, date_of
from earthmind_lab.sensors import MODALITY_WORDS

_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
_PLACES = {"optical": "the optical scene", "sar": "the SAR scene"}
_WHICH = {BEFORE: ", the earlier date", AFTER: ", the later date"}
NO_PIXELS = "choose a pair or open files; after a restart, load them again"
"""What helps where an area has no pixels."""
WHOLE_DAY = dt.timedelta(hours=23, minutes=59)


def source_words(source: str, observed: str, record: Mapping[str, Any] | None = None) -> str:
    """Which sensor drew it and when.

    Args:
        source: ``optical`` or ``sar``.
        observed: ISO 8601 UTC, or start/end.
        record: Of the answer; its inputs name the sensors.

    >>> source_words("sar", "2019-09-17T17:55:00Z", {"inputs": [{"sensor": "sentinel-1-rtc"}]})
    'from Sentinel-1, 17 Sep 2019'
    """
    inputs = (record or {}).get("inputs", ())
    name = _PLACES.get(source, source or "an unnamed scene")
    for scene in inputs:
        key = str(scene.get("sensor", ""))
        if _modality(key) == source:
            name = sensor_words(key, str(scene.get("platform") or ""))
    when = day(observed)
    date = _WHICH.get(date_of({"source": source, "observed": observed}, inputs), "")
    return f"from {name}, {when or 'day unknown'}{date}"


def sensor_words(key: str, platform: str = "") -> str:
    """The family a person knows a sensor by.

    >>> sensor_words("sentinel-2-l2a"), sensor_words("sar-rtc"), sensor_words("optical", "x-7")
    ('Sentinel-2', 'the SAR scene', 'x-7')
    >>> sensor_words("hls-l30", "landsat-8")
    'HLS from Landsat'
    """
    from earthmind_lab.sensors import SENSORS

    if key.startswith("sentinel-"):
        return f"Sentinel-{key[len('sentinel-')]}"
    sensor = SENSORS.get(key)
    if sensor and (sensor.names or sensor.marks or sensor.collections):
        return sensor.title
    return platform or _PLACES.get(_modality(key), "an unnamed scene")


def _modality(key: str) -> str:
    from earthmind_lab.sensors import SENSORS

    return SENSORS[key].modality if key in SENSORS else ""


def day(observed: str) -> str:
    """The UTC day, or the first and the last one; empty where unknown."""
    days = [f"{t.day} {_MONTHS[t.month - 1]} {t.year}" for t in times(observed)]
    return " to ".join(dict.fromkeys(days))


def moment(observed: str) -> str:
    """Day and time of an instant; of an interval the days alone."""
    found = times(observed)
    if not found:
        return "time unknown"
    if len(found) == 1:
        return f"{day(observed)} {found[0]:%H:%M} UTC"
    whole = found[0].date() == found[1].date() and found[1] - found[0] >= WHOLE_DAY
    return f"{day(observed)}, time unknown" if whole else day(observed)


def dates_words(observed: Sequence[str]) -> str:
    """Two dates, the earlier first; with their times where the day is one.

    >>> dates_words(["2020-06-07T01:08:00Z", "2020-09-03T13:12:12Z"])
    '7 Jun 2020 → 3 Sep 2020'
    """
    days = [day(each) for each in observed]
    return " → ".join(days if len(set(days)) > 1 else map(moment, observed))


def two_dates_words(dates: Mapping[str, Any]) -> str:
    """`two_dates.dates_of` for people: "7 Jun 2020 → 3 Sep 2020, by SAR"."""
    return f"{dates_words(dates['observed'])}, by {MODALITY_WORDS[dates['sensor']]}"


def times(observed: str) -> list[dt.datetime]:
    """An instant, or both ends of an interval, UTC; empty where unknown."""
    try:
        found = [dt.datetime.fromisoformat(part) for part in observed.split("/") if part]
    except ValueError:
        return []
    return [t.replace(tzinfo=dt.UTC) if t.tzinfo is None else t.astimezone(dt.UTC) for t in found]
