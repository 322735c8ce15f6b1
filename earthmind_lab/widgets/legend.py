"""What stands beside a picture or an object on the map: units, stretch, sensor, day, owner.

All of it is text. Whoever puts it into HTML escapes it: titles, labels and attributions come from
catalogs and models.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from earthmind_lab.answer import format_area
from earthmind_lab.chip import Chip
from earthmind_lab.exchange import View
from earthmind_lab.sensors import SENSORS
from earthmind_lab.widgets.words import day, source_words

SENSOR_WORDS = {"optical": "optical", "sar": "SAR"}


def day_of(observed: str | None) -> str:
    """The UTC day of an instant, or the days of an interval.

    >>> day_of("2019-09-17T00:00:00Z"), day_of("2019-09-17/2019-09-18"), day_of(None)
    ('17 Sep 2019', '17 Sep 2019 to 18 Sep 2019', 'day unknown')
    """
    return day(observed or "") or "day unknown"


def sensor_title(key: str | None, modality: str) -> str:
    """How to call a sensor in a sentence; its family where the table does not know it."""
    sensor = SENSORS.get(key or "")
    return sensor.title if sensor else SENSOR_WORDS.get(modality, modality)


def stretch_words(view: View, level: str | None = None) -> str:
    """Bands of a picture with the values that are black and full colour, and their unit.

    Args:
        view: The picture.
        level: `Radiometry.level` of its chip.

    >>> import numpy as np
    >>> vv = View(image=np.zeros((1, 1, 3), np.uint8), name="vv", modality="sar",
    ...           bands=("vv",) * 3, stretch=((-25.0, 0.0),) * 3)
    >>> stretch_words(vv)
    'VV −25…0 dB'
    """
    optical = " of full brightness" if level == "DN" else " reflectance"
    unit = " dB" if view.modality == "sar" else optical
    parts = [
        f"{_band(band)} {_number(low)}…{_number(high)}{unit}"
        for band, (low, high) in zip(view.bands, view.stretch, strict=True)
    ]
    if len(set(parts)) == 1:
        return parts[0]
    return ", ".join(f"{c} {part}" for c, part in zip("RGB", parts, strict=True))


def picture_words(view: View, chip: Chip) -> str:
    """One line of the legend: which sensor, which day, what the colours mean."""
    scene = chip.pair.sar if view.modality == "sar" else chip.pair.optical
    title = sensor_title(scene.sensor if scene else None, view.modality)
    return f"{title}, {day_of(view.time)}: {stretch_words(view, chip.radiometry.level)}"


def attribution_of(chip: Chip, modality: str | None = None) -> str:
    """Owners and licences of a chip's files, of one sensor or of both."""
    files = [
        part
        for part in chip.provenance.get("inputs", ())
        if modality in (None, part.get("modality"))
    ]
    owners = _joined(part.get("attribution") for part in files)
    licences = _joined(part.get("licence") for part in files)
    parts = (owners and f"{owners}.", licences and f"Licence: {licences}.")
    return " ".join(filter(None, parts)).replace("..", ".")


def feature_words(properties: Mapping[str, Any], record: Mapping[str, Any] | None = None) -> str:
    """An object of an answer: name, mapped area, sensor and day that drew it.

    >>> feature_words({"label": "water", "area_m2": 301000.0, "source": "sar",
    ...                "observed": "2019-09-17T00:00:00Z"})
    'water, 30.1 ha mapped, from the SAR scene, 17 Sep 2019'
    """
    source, observed = (str(properties.get(key) or "") for key in ("source", "observed"))
    parts = [str(properties.get("label") or "object")]
    area = properties.get("area_m2")
    if isinstance(area, int | float):
        parts.append(f"{format_area(area)} mapped")
    parts.append(source_words(source, observed, record))
    return ", ".join(parts)


def _band(name: str) -> str:
    return name.upper().replace("-", "−") if name.startswith(("v", "h")) else name


def _number(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def _joined(values: Iterable[Any]) -> str:
    return "; ".join(dict.fromkeys(str(value) for value in values if value))
