"""Turns and pairs as rows of words for the browser: nothing to compute there, nothing is HTML.

>>> day("2019-09-17T00:00:00Z/2019-09-17T23:59:59Z"), moment("2020-06-01T10:56:02Z")
('17 Sep 2019', '1 Jun 2020 10:56 UTC')
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from earthmind_lab.answer import format_area
from earthmind_lab.widgets.protocol import clean

if TYPE_CHECKING:
    from earthmind_lab.session.subject import PairRow, SaidTurn

_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
_PLACES = {"optical": "the optical scene", "sar": "the SAR scene"}
FACTORS = {"V": "valid and clear", "T": "close in time", "Q": "quality"}
"""What the factors of a pair's score mean; a name that is not in here is a penalty within Q."""
WHOLE_DAY = dt.timedelta(hours=23, minutes=59)


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


def source_words(source: str, observed: str, record: Mapping[str, Any] | None = None) -> str:
    """Which sensor drew it and when.

    Args:
        source: ``optical`` or ``sar``.
        observed: ISO 8601 UTC, or start/end.
        record: Of the answer; its inputs name the sensors.

    >>> source_words("sar", "2019-09-17T17:55:00Z", {"inputs": [{"sensor": "sentinel-1-rtc"}]})
    'from Sentinel-1, 17 Sep 2019'
    """
    name = _PLACES.get(source, source or "an unnamed scene")
    for scene in (record or {}).get("inputs", ()):
        key = str(scene.get("sensor", ""))
        if _modality(key) == source:
            name = sensor_words(key, str(scene.get("platform") or ""))
    when = day(observed)
    return f"from {name}, {when}" if when else f"from {name}, day unknown"


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


def pair_row(row: PairRow, rank: int) -> dict[str, Any]:
    """A ranked pair for the table.

    Args:
        row: As the session keeps it.
        rank: 0 = best.

    Returns:
        Words for every column; ``refused`` says why it can't be loaded, or is empty.
    """
    pair, cost = row.pair, row.cost
    cloud = pair.get("cloud_in_aoi")
    return {
        "rank": rank,
        "score": f"{pair.get('score', 0.0):.1f}",
        "scenes": [
            {
                "id": clean(scene.get("id", "")),
                "modality": clean(scene.get("modality", "")),
                "sensor": clean(sensor_words(str(scene.get("sensor", "")))),
                "observed": clean(moment(str(scene.get("observed", "")))),
            }
            for scene in row.scenes
        ],
        "gap": gap_words(pair.get("gap_hours")),
        "cloud": "unknown" if cloud is None else f"{cloud:.1f} %",
        "overlap": f"{100 * pair.get('overlap', 0.0):.0f} %",
        "cost": cost_words(cost),
        "refused": clean(cost.get("error", "")),
        "factors": [
            {"name": clean(name), "meaning": FACTORS.get(name, "penalty"), "value": f"{value:.2f}"}
            for name, value in pair.get("factors", {}).items()
        ],
        "reasons": [clean(reason) for reason in pair.get("reasons", ())],
    }


def cost_words(cost: Mapping[str, Any]) -> str:
    """What a load reads and makes.

    >>> cost_words({"reads": 8, "bytes": 5_150_000, "width": 272, "height": 341})
    '272 × 341 px, reads up to 5.2 MB'
    """
    if "error" in cost:
        return "can't be loaded"
    return f"{cost['width']} × {cost['height']} px, reads up to {size_words(cost['bytes'])}"


def size_words(count: float) -> str:
    """Bytes for people.

    >>> size_words(900), size_words(5_150_000), size_words(2_100_000_000)
    ('900 bytes', '5.2 MB', '2.1 GB')
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"


def gap_words(hours: float | Sequence[float] | None) -> str:
    """Time between the scenes: the later one is named.

    >>> gap_words(16.6), gap_words(-72.0), gap_words([-48.0, 0.0]), gap_words(None)
    ('SAR 16.6 h later', 'SAR 3.0 days earlier', '0 to 2.0 days, time unknown', 'one sensor')
    """
    if hours is None:
        return "one sensor"
    if isinstance(hours, Sequence):
        least, most = min(hours), max(hours)
        nearest = 0.0 if least <= 0 <= most else min(abs(least), abs(most))
        longest = max(abs(least), abs(most))
        return f"{_span(nearest).removesuffix(' h')} to {_span(longest)}, time unknown"
    if hours == 0:
        return "at the same time"
    return f"SAR {_span(abs(hours))} {'later' if hours > 0 else 'earlier'}"


def _span(hours: float) -> str:
    if hours == 0:
        return "0"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def day(observed: str) -> str:
    """The UTC day, or the first and the last one; empty where unknown."""
    days = [f"{t.day} {_MONTHS[t.month - 1]} {t.year}" for t in _times(observed)]
    return " to ".join(dict.fromkeys(days))


def moment(observed: str) -> str:
    """Day and time of an instant; of an interval the days alone."""
    times = _times(observed)
    if not times:
        return "time unknown"
    if len(times) == 1:
        return f"{day(observed)} {times[0]:%H:%M} UTC"
    whole = times[0].date() == times[1].date() and times[1] - times[0] >= WHOLE_DAY
    return f"{day(observed)}, time unknown" if whole else day(observed)


def _times(observed: str) -> list[dt.datetime]:
    try:
        found = [dt.datetime.fromisoformat(part) for part in observed.split("/") if part]
    except ValueError:
        return []
    return [t.replace(tzinfo=dt.UTC) if t.tzinfo is None else t.astimezone(dt.UTC) for t in found]
