"""What stands beside a picture or an object on the map: units, stretch, sensor, day, owner.

All of it is text. Whoever puts it into HTML escapes it: titles, labels and attributions come from
catalogs and models.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from earthmind_lab.answer import format_area
from earthmind_lab.chip import Chip
from earthmind_lab.exchange import View
from earthmind_lab.scene import Scene
from earthmind_lab.widgets.protocol import clean
from earthmind_lab.widgets.words import day, sensor_words, source_words

BLACK = "#000000"
RGB = (("R", "#ff0000"), ("G", "#00ff00"), ("B", "#0000ff"))
"""What a channel of a picture is on its own, at full value."""


def picture_title(view: View, chip: Chip) -> str:
    """Which sensor and which day a picture shows: "Sentinel-1, 17 Sep 2019"."""
    scene = scene_of(chip, view.modality)
    name = sensor_words(scene.sensor) if scene else view.modality
    when = day(view.time or "")
    return f"{name}, {when or 'day unknown'}"


def composite_title(name: str) -> str:
    """How a composite is called on the screen.

    >>> composite_title("true_colour"), composite_title("vv_vh_ratio"), composite_title("vv")
    ('True colour', 'VV, VH and their ratio', 'VV')
    """
    held = {"vv_vh_ratio": "VV, VH and their ratio", "hh_hv_ratio": "HH, HV and their ratio",
            "swir_nir_red": "SWIR, NIR, red", "nir": "NIR"}  # fmt: skip
    if name in held:
        return held[name]
    return name.upper() if len(name) == 2 else name.replace("_", " ").capitalize()


def scene_of(chip: Chip, modality: str) -> Scene | None:
    """The scene of a chip that a sensor family took."""
    return chip.pair.sar if modality == "sar" else chip.pair.optical


def ramps(view: View, chip: Chip) -> list[dict[str, Any]]:
    """The colours of a picture with the values they stand for, one ramp per channel.

    Returns:
        ``name``, ``stops`` (colours as #rrggbb, lowest value first), ``low``, ``high``, ``unit``.
    """
    unit = unit_of(view.modality, chip)
    channels = list(zip(view.bands, view.stretch, strict=True))
    if len(set(channels)) == 1:
        return [_ramp(_band(view.bands[0]), (BLACK, "#ffffff"), view.stretch[0], unit)]
    return [
        _ramp(f"{letter} {_band(band)}", (BLACK, colour), stretch, unit)
        for (letter, colour), (band, stretch) in zip(RGB, channels, strict=True)
    ]


def _ramp(
    name: str, stops: Iterable[str], stretch: tuple[float, float], unit: str
) -> dict[str, Any]:
    low, high = map(_number, stretch)
    return {"name": clean(name), "stops": list(stops), "low": low, "high": high, "unit": unit}


def share_ramp(name: str, stops: Iterable[str]) -> dict[str, Any]:
    """A ramp of something without a unit between 0 and 1."""
    return _ramp(name, stops, (0.0, 1.0), "")


def unit_of(modality: str, chip: Chip) -> str:
    """What the numbers of a sensor family are."""
    if modality == "sar":
        return f"dB {_QUANTITIES.get(chip.radiometry.quantity or '', '')}".strip()
    return _LEVELS.get(chip.radiometry.level or "", "reflectance")


_QUANTITIES = {"sigma0": "σ⁰", "gamma0": "γ⁰", "gamma0_rtc": "γ⁰ (terrain-flattened)"}
_LEVELS = {
    "DN": "of full brightness", "TOA": "top-of-atmosphere reflectance", "SR": "surface reflectance",
}  # fmt: skip


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
    """An object of an answer: name, mapped area, how sure, sensor and day that drew it.

    >>> feature_words({"label": "water", "area_m2": 301000.0, "score": 0.9, "probability": 0.97,
    ...                "source": "sar", "observed": "2019-09-17T00:00:00Z"})
    'water, 30.1 ha mapped, score 0.90, probability 0.97, from the SAR scene, 17 Sep 2019'
    """
    parts = [str(properties.get("label") or "object")]
    area = properties.get("area_m2")
    if isinstance(area, int | float):
        parts.append(f"{format_area(area)} mapped")
    for name in ("score", "probability"):
        value = properties.get(name)
        if isinstance(value, int | float) and math.isfinite(value):
            parts.append(f"{name} {value:.2f}")
    source, observed = (str(properties.get(key) or "") for key in ("source", "observed"))
    parts.append(source_words(source, observed, record))
    return ", ".join(parts)


def _band(name: str) -> str:
    return name.upper().replace("-", "−") if name.startswith(("v", "h")) else name


def _number(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def _joined(values: Iterable[Any]) -> str:
    return "; ".join(dict.fromkeys(str(value) for value in values if value))
