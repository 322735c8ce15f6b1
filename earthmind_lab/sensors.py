"""The table of sensors: what is known about their bands, numbers and names in catalogs.

>>> SENSORS["sentinel-2-l2a"].band("nir").wavelength_nm
842.0
>>> SENSORS["sentinel-1-rtc"].quantity
'gamma0_rtc'
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from earthmind_lab.errors import SearchError

Modality = Literal["optical", "sar"]
Quantity = Literal["sigma0", "gamma0", "gamma0_rtc"]


@dataclass(frozen=True, kw_only=True)
class Band:
    """One band or polarisation."""

    name: str
    """The name used everywhere in here: ``red``, ``nir``, ``vv``, ``scl``."""
    gsd: float
    """Native ground sampling distance in metres."""
    wavelength_nm: float | None = None
    """Centre wavelength in nanometres; None for SAR and masks."""
    aliases: tuple[str, ...] = ()
    """Other asset keys and band names, lower case without ``-`` and ``_``."""


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """One kind of product of one sensor."""

    key: str
    """What `Scene.sensor` holds."""
    title: str
    """How to call it in a sentence."""
    modality: Modality
    bands: tuple[Band, ...]
    scale: float = 1.0
    """Value per DN where the item declares none."""
    offset: float | None = 0.0
    """Added to DN x scale where the item declares none; None = depends on the baseline."""
    nodata: float | None = None
    """DN that means no data where the item declares none; None = unknown."""
    level: Literal["TOA", "SR"] | None = None
    """Optical reflectance at the top of the atmosphere or at the surface; None = unknown."""
    quantity: Quantity | None = None
    """SAR backscatter; None = not known from the product."""
    geometry: Literal["ellipsoid", "terrain_corrected", "unknown"] | None = None
    """How a SAR raster of this product lies on the map; ``ellipsoid`` = known uncorrected."""
    collections: tuple[str, ...] = ()
    """Ids of STAC collections known to hold this product."""

    def band(self, name: str) -> Band:
        """The band of this name.

        Raises:
            SearchError: The sensor has no such band.
        """
        for band in self.bands:
            if band.name == name:
                return band
        held = ", ".join(band.name for band in self.bands)
        raise SearchError(f"{self.title} has no band {name!r}.", found=held)

    @property
    def gsd(self) -> float:
        """Finest ground sampling distance in metres."""
        return min(band.gsd for band in self.bands)


def _optical_bands() -> tuple[Band, ...]:
    rows = (
        ("coastal", 60, 443, ("coastalaerosol", "ultrablue")),
        ("blue", 10, 490, ()),
        ("green", 10, 560, ()),
        ("red", 10, 665, ()),
        ("rededge1", 20, 704, ("rededge071",)),
        ("rededge2", 20, 740, ("rededge075",)),
        ("rededge3", 20, 783, ("rededge078",)),
        ("nir", 10, 842, ("nir1",)),
        ("nir08", 20, 865, ("nirnarrow", "nir2", "nir08a")),
        ("nir09", 60, 945, ("watervapor", "watervapour", "nir3")),
        ("cirrus", 60, 1375, ()),
        ("swir16", 20, 1610, ("swir1",)),
        ("swir22", 20, 2190, ("swir2",)),
    )
    bands = [Band(name=n, gsd=float(g), wavelength_nm=float(w), aliases=a) for n, g, w, a in rows]
    bands.append(Band(name="scl", gsd=20.0, aliases=("sceneclassification",)))
    bands.append(Band(name="cloud", gsd=20.0, aliases=("cloudmask", "clouds", "cloudprobability")))
    return tuple(bands)


def _sar_bands() -> tuple[Band, ...]:
    kinds = ("gamma0", "sigma0", "gammanaught", "sigmanaught")

    def band(name: str) -> Band:
        before, after = (f"{kind}{name}" for kind in kinds), (f"{name}{kind}" for kind in kinds)
        return Band(name=name, gsd=10.0, aliases=(*before, *after))

    return tuple(band(name) for name in ("vv", "vh", "hh", "hv"))


OPTICAL_BANDS = _optical_bands()
SAR_BANDS = _sar_bands()
MASKS = ("scl", "cloud")
"""Bands that classify pixels; an item with nothing else is not a scene."""


def _optical(key: str, title: str, **rest: Any) -> Sensor:
    return Sensor(key=key, title=title, modality="optical", bands=OPTICAL_BANDS, **rest)


def _sar(key: str, title: str, **rest: Any) -> Sensor:
    return Sensor(key=key, title=title, modality="sar", bands=SAR_BANDS, **rest)


_S2: dict[str, Any] = {"scale": 1e-4, "offset": None, "nodata": 0.0}
_RTC: dict[str, Any] = {"quantity": "gamma0_rtc", "geometry": "terrain_corrected"}

SENSORS: Mapping[str, Sensor] = {
    sensor.key: sensor
    for sensor in (
        _optical(
            "sentinel-2-l2a", "Sentinel-2 L2A", level="SR", **_S2,
            collections=("sentinel-2-l2a", "sentinel-2-c1-l2a", "sentinel-s2-l2a-cogs"),
        ),
        _optical(
            "sentinel-2-l1c", "Sentinel-2 L1C", level="TOA", **_S2,
            collections=("sentinel-2-l1c", "sentinel-s2-l1c"),
        ),
        _optical("sentinel-2", "Sentinel-2 of unknown level", **_S2),
        _optical("optical", "optical sensor not named", offset=None),
        _sar(
            "sentinel-1-grd", "Sentinel-1 GRD", geometry="ellipsoid", nodata=0.0,
            collections=("sentinel-1-grd",),
        ),
        _sar(
            "sentinel-1-rtc", "Sentinel-1 RTC", nodata=-32768.0, **_RTC,
            collections=("sentinel-1-rtc",),
        ),
        _sar(
            "sentinel-1-sigma0", "Sentinel-1 sigma0", quantity="sigma0", geometry="unknown",
            collections=("sentinel-1-sigma0",),
        ),
        _sar(
            "sentinel-1-gamma0", "Sentinel-1 gamma0", quantity="gamma0", geometry="unknown",
            collections=("sentinel-1-gamma0",),
        ),
        _sar("sentinel-1", "Sentinel-1 of undeclared quantity", geometry="unknown"),
        _sar("sar-rtc", "SAR, gamma0 terrain-corrected", **_RTC),
        _sar("sar-sigma0", "SAR sigma0", quantity="sigma0", geometry="unknown"),
        _sar("sar-gamma0", "SAR gamma0", quantity="gamma0", geometry="unknown"),
        _sar("sar", "SAR of undeclared quantity", geometry="unknown"),
    )
}  # fmt: skip
"""Every known product by key."""


def boa_offset(baseline: str | None) -> float | None:
    """The documented reflectance offset of a Sentinel-2 processing baseline.

    Args:
        baseline: ``s2:processing_baseline`` such as ``"05.10"``.

    Returns:
        0.0 before 04.00, -0.1 from 04.00 on, None where the baseline is missing or a
        placeholder such as ``99.99``: the reader must then measure it or refuse.

    >>> boa_offset("02.14"), boa_offset("05.10"), boa_offset("99.99")
    (0.0, -0.1, None)
    """
    if not re.fullmatch(r"\d{2}\.\d{2}", str(baseline or "")):
        return None
    number = float(str(baseline))
    return None if number >= 90 else (-0.1 if number >= 4 else 0.0)
