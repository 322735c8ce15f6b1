"""The table of sensors: what is known about their bands, numbers, masks and names in catalogs.

>>> SENSORS["sentinel-2-l2a"].band("nir").wavelength_nm
842.0
>>> SENSORS["sentinel-1-rtc"].quantity
'gamma0_rtc'

`add_sensor` adds a row; docs/adding_a_sensor.md shows one at work.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

from earthmind_lab.bands import (
    FMASK,
    OPTICAL_BANDS,
    QA_PIXEL,
    SAR_BANDS,
    SCL,
    Band,
    QualityMask,
    plain,
)
from earthmind_lab.errors import SearchError

Modality = Literal["optical", "sar"]
Level = Literal["TOA", "SR", "DN"]
Quantity = Literal["sigma0", "gamma0", "gamma0_rtc"]
Convention = Literal["power", "amplitude", "dB"]

MODALITY_WORDS: Mapping[str, str] = {"sar": "SAR", "optical": "optical"}
"""How people call a sensor family."""


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """One kind of product of one sensor, and how its items are told from others.

    An item is of the sensor that has its collection, else of the one whose `marks` it has, else
    of the one of its `names` that has neither collections nor marks. Where it gives a
    constellation, a platform or instruments, it is of none that doesn't go by one of them.
    """

    key: str
    """What `Scene.sensor` holds."""
    title: str
    """How to call it in a sentence."""
    modality: Modality
    bands: tuple[Band, ...]
    names: tuple[str, ...] = ()
    """Constellations, platforms and instruments it goes by; ``*`` and ``?`` for any letters."""
    marks: tuple[str, ...] = ()
    """Asset keys or properties that no other product of these names has; ``*`` as above."""
    collections: tuple[str, ...] = ()
    """Ids of STAC collections known to hold this product, lower case."""
    scale: float = 1.0
    """Value per DN where item and file declare none; 1.0 = there is no rule."""
    scale_tag: str | None = None
    """Where a TIFF's own description, as JSON, holds the scale of a SAR product: keys joined by
    dots; None = nowhere."""
    offset: float | None = 0.0
    """Added to DN x scale where nothing declares it; None = depends on the baseline."""
    nodata: float | None = None
    """DN that means no data where the item declares none; None = unknown."""
    level: Level | None = None
    """Optical: reflectance at the top of the atmosphere or at the surface, or ``DN``: brightness
    as a share of what the file can hold, which is no reflectance; None = unknown."""
    mask: QualityMask | None = None
    """Where an optical product says cloud; None = no mask of its own."""
    quantity: Quantity | None = None
    """SAR backscatter; None = not known from the product."""
    convention: Convention | None = None
    """What DN x scale + offset is of `quantity`; None = not known from the product."""
    geometry: Literal["ellipsoid", "terrain_corrected", "unknown"] | None = None
    """How a SAR raster of this product lies on the map; ``ellipsoid`` = known uncorrected."""

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

    @cached_property
    def words(self) -> dict[str, str]:
        """What items call its bands (`plain`), to their names."""
        return {plain(word): b.name for b in self.bands for word in (b.name, *b.aliases)}

    def is_named(self, said: Iterable[str]) -> bool:
        """Whether one of an item's names (`plain`) is one of `names`."""
        return any(self._named.match(text) for text in said)

    def is_marked(self, keys: Iterable[str]) -> bool:
        """Whether one of an item's asset keys and properties (`plain`) is one of `marks`."""
        return bool(self.marks) and any(self._marked.match(key) for key in keys)

    @cached_property
    def _named(self) -> re.Pattern[str]:
        return _any_of(self.names)

    @cached_property
    def _marked(self) -> re.Pattern[str]:
        return _any_of(self.marks)


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    # Of no patterns: what matches nothing, not even an empty text.
    return re.compile("|".join(fnmatch.translate(plain(each)) for each in patterns) or r"(?!)")


def _own(
    numbers: Mapping[str, str], gsd: float | None = None, **centres: float
) -> tuple[Band, ...]:
    """Bands under a sensor's own numbers: ``B02`` is blue to one sensor and green to another."""
    usual = {band.name: band for band in OPTICAL_BANDS}
    return tuple(
        replace(
            usual[name],
            gsd=gsd or usual[name].gsd,
            wavelength_nm=centres.get(name, usual[name].wavelength_nm),
            aliases=(*usual[name].aliases, *words.split()),
        )
        for name, words in numbers.items()
    )


_S2_NUMBERS = {
    "coastal": "b1", "blue": "b2", "green": "b3", "red": "b4", "rededge1": "b5", "rededge2": "b6",
    "rededge3": "b7", "nir": "b8", "nir08": "b8a", "nir09": "b9", "cirrus": "b10",
    "swir16": "b11", "swir22": "b12",
}  # fmt: skip
_OLI_NUMBERS = {
    "coastal": "b1 srb1", "blue": "b2 srb2", "green": "b3 srb3", "red": "b4 srb4",
    "nir08": "b5 srb5", "swir16": "b6 srb6", "swir22": "b7 srb7", "cirrus": "b9",
}  # fmt: skip
_TM_NUMBERS = {
    "blue": "b1 srb1", "green": "b2 srb2", "red": "b3 srb3", "nir08": "b4 srb4",
    "swir16": "b5 srb5", "swir22": "b7 srb7",
}  # fmt: skip
_OLI_NM = {"blue": 482.0, "green": 561.0, "red": 655.0, "swir16": 1609.0, "swir22": 2201.0}
_TM_NM = {"blue": 485.0, "red": 660.0, "nir08": 835.0, "swir16": 1650.0, "swir22": 2220.0}
_FMASK = (Band(name="fmask", gsd=30.0),)
_QA_PIXEL = (Band(name="qa_pixel", gsd=30.0, aliases=("pixelquality", "qualityl1pixel")),)
_MASKS = tuple(band for band in OPTICAL_BANDS if band.wavelength_nm is None)


def _optical(key: str, title: str, **rest: Any) -> Sensor:
    return Sensor(key=key, title=title, modality="optical", **({"bands": OPTICAL_BANDS} | rest))


def _sar(key: str, title: str, **rest: Any) -> Sensor:
    return Sensor(key=key, title=title, modality="sar", bands=SAR_BANDS, **rest)


_S2: dict[str, Any] = {
    "names": ("sentinel-2*", "sentinel-s2*", "s2", "s2?", "msi"),
    "bands": (*_own(_S2_NUMBERS), *_MASKS),
    "scale": 1e-4, "offset": None, "nodata": 0.0, "mask": SCL,
}  # fmt: skip
_HLS: dict[str, Any] = {
    "marks": ("fmask",), "scale": 1e-4, "nodata": -9999.0, "level": "SR", "mask": FMASK,
}  # fmt: skip
_LANDSAT: dict[str, Any] = {
    "scale": 2.75e-5, "offset": -0.2, "nodata": 0.0, "level": "SR", "mask": QA_PIXEL,
}  # fmt: skip
_S1: dict[str, Any] = {"names": ("sentinel-1*", "sentinel-s1*", "s1", "s1?", "c-sar")}
_RTC: dict[str, Any] = {"quantity": "gamma0_rtc", "geometry": "terrain_corrected"}

_TABLE: dict[str, Sensor] = {
    sensor.key: sensor
    for sensor in (
        _optical(
            "sentinel-2-l2a", "Sentinel-2 L2A", level="SR", marks=("scl",), **_S2,
            collections=("sentinel-2-l2a", "sentinel-2-c1-l2a", "sentinel-s2-l2a-cogs", "s2_l2a"),
        ),
        _optical(
            "sentinel-2-l1c", "Sentinel-2 L1C", level="TOA", **_S2,
            collections=("sentinel-2-l1c", "sentinel-s2-l1c"),
        ),
        _optical("sentinel-2", "Sentinel-2 of unknown level", **_S2),
        _optical(
            "hls-l30", "HLS from Landsat", names=("landsat-8", "landsat-9", "oli"), **_HLS,
            bands=(*_own(_OLI_NUMBERS, 30.0, **_OLI_NM), *_FMASK),
            collections=("hls2-l30", "hlsl30_2.0", "hlsl30.v2.0"),
        ),
        _optical(
            "hls-s30", "HLS from Sentinel-2", names=_S2["names"], **_HLS,
            bands=(*_own(_S2_NUMBERS, 30.0), *_FMASK),
            collections=("hls2-s30", "hlss30_2.0", "hlss30.v2.0"),
        ),
        _optical(
            "landsat-c2-l2", "Landsat 8/9 Collection 2 Level 2", names=("landsat-8", "landsat-9"),
            bands=(*_own(_OLI_NUMBERS, 30.0, **_OLI_NM), *_QA_PIXEL),
            marks=("qa_aerosol", "sr_qa_aerosol"), **_LANDSAT,
            collections=("landsat-c2-l2", "landsat-c2l2-sr", "ls8_sr", "ls9_sr"),
        ),
        _optical(
            "landsat-c2-l2-tm", "Landsat 4-7 Collection 2 Level 2",
            names=("landsat-4", "landsat-5", "landsat-7"),
            bands=(*_own(_TM_NUMBERS, 30.0, **_TM_NM), *_QA_PIXEL),
            marks=("atmos_opacity", "cloud_qa", "sr_atmos_opacity", "sr_cloud_qa"), **_LANDSAT,
            collections=("landsat-c2-l2", "landsat-c2l2-sr", "ls5_sr", "ls7_sr"),
        ),
        _optical(
            "naip", "NAIP aerial picture", bands=_own(
                {"red": "", "green": "", "blue": "", "nir": ""}, 0.6, green=555.0, blue=460.0
            ),
            marks=("naip:*",), level="DN", scale=1 / 255, collections=("naip",),
        ),
        _optical("optical", "optical sensor not named", offset=None),
        _sar(
            "sentinel-1-grd", "Sentinel-1 GRD", geometry="ellipsoid", nodata=0.0, **_S1,
            marks=("*calibration*",), collections=("sentinel-1-grd",),
        ),
        _sar(
            "sentinel-1-rtc", "Sentinel-1 RTC", nodata=-32768.0, **_RTC, **_S1, convention="power",
            collections=("sentinel-1-rtc", "s1_rtc", "opera_l2_rtc-s1_v1", "opera_l2_rtc-s1_v1_1"),
        ),
        _sar(
            "sentinel-1-sigma0", "Sentinel-1 sigma0", quantity="sigma0", geometry="unknown",
            **_S1, collections=("sentinel-1-sigma0",),
        ),
        _sar(
            "sentinel-1-gamma0", "Sentinel-1 gamma0", quantity="gamma0", geometry="unknown",
            **_S1, collections=("sentinel-1-gamma0",),
        ),
        _sar("sentinel-1", "Sentinel-1 of undeclared quantity", geometry="unknown", **_S1),
        _sar("sar-rtc", "SAR, gamma0 terrain-corrected", **_RTC),
        _sar("sar-sigma0", "SAR sigma0", quantity="sigma0", geometry="unknown"),
        _sar("sar-gamma0", "SAR gamma0", quantity="gamma0", geometry="unknown"),
        _sar("sar", "SAR of undeclared quantity", geometry="unknown"),
    )
}  # fmt: skip
SENSORS: Mapping[str, Sensor] = MappingProxyType(_TABLE)
"""Every known product by key."""
_BUILT_IN = frozenset(_TABLE)


def add_sensor(sensor: Sensor | None = None, /, **fields: Any) -> Sensor:
    """Add a product to `SENSORS`: from here on its items are recognised, read and shown.

    It holds for this process; adding it again replaces it. Where it and a sensor of this package
    fit an item equally well, it is the one that is taken.

    Args:
        sensor: With `names`, `marks` or `collections` to know its items by; None = one of these
            `fields`.
        **fields: Those of a `Sensor`; of a given one, what takes their place. In a new one `bands`
            may be {name: GSD in metres} for bands of the usual wavelengths and aliases; it is
            called by its key where there is no `title`; without a `modality`, polarisations alone
            are SAR.

    Returns:
        The sensor.

    Raises:
        SearchError: Its key is taken or malformed, nothing tells its items from others, it has no
            bands, or it says only one of quantity and convention.
    """
    if sensor is None:
        sensor = _new(**fields)
    elif fields:
        sensor = replace(sensor, **fields)
    asked = f"The sensor {sensor.key!r} can't be added"
    if sensor.key in _BUILT_IN:
        raise SearchError(f"{asked}: there is one of this key.", change="another key")
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", sensor.key):
        raise SearchError(f"{asked}.", change="a key of lower-case letters, digits, - and .")
    names = [band.name for band in sensor.bands]
    if not names or len(set(names)) < len(names):
        raise SearchError(
            f"{asked}.", found=f"bands {', '.join(names) or 'none'}", change="bands, each once"
        )
    if not (sensor.names or sensor.marks or sensor.collections):
        raise SearchError(
            f"{asked}: nothing tells its items from others.",
            change="names (constellation, platform, instruments), marks or collections",
        )
    if (sensor.quantity is None) != (sensor.convention is None):
        raise SearchError(
            f"{asked}: backscatter needs both its quantity and its convention.",
            found=f"quantity {sensor.quantity}, convention {sensor.convention}",
            change="such as quantity='sigma0', convention='amplitude'; neither where it is unknown",
        )
    _TABLE[sensor.key] = sensor
    return sensor


def _new(*, key: str, bands: Mapping[str, float] | Iterable[Band], **rest: Any) -> Sensor:
    """A sensor from fields in short."""
    if isinstance(bands, Mapping):
        usual = {band.name: band for band in (*OPTICAL_BANDS, *SAR_BANDS)}
        bands = [
            replace(usual.get(name, Band(name=name, gsd=gsd)), gsd=float(gsd))
            for name, gsd in bands.items()
        ]
    bands = tuple(bands)
    radar = {band.name for band in bands} <= {band.name for band in SAR_BANDS}
    told = {"title": key, "modality": "sar" if radar else "optical", **rest}
    return Sensor(key=key, bands=bands, **told)


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
