"""Bands by name and wavelength, and the masks that come with them.

A name means the same light on every sensor: ``red``, ``nir08``, ``swir16``. Sentinel-2 gave the
names; a sensor without one of its bands may have another that sees nearly the same.

>>> stand_in("nir", {"red": 655.0, "nir08": 865.0})
'nir08'
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

NEAR_NM = 25.0
"""A band stands in for another one whose centre is at most this far off: the narrow near infrared
(865 nm) for the broad one (842 nm), and never red for the red edge."""


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
    """Other asset keys and band names, in any of the ways that `plain` takes for one."""


@dataclass(frozen=True, kw_only=True)
class QualityMask:
    """How a mask that comes with a product says cloud, snow and fill."""

    band: str
    """Name of the band that holds it."""
    cloud: tuple[int, ...]
    """Classes, or numbers of bits from 0: cloud, cirrus, the rim of a cloud, or shadow."""
    snow: tuple[int, ...] = ()
    """Those that are snow or ice."""
    unobserved: tuple[int, ...] = ()
    """Those that carry no observation."""
    bits: bool = False
    """Whether a value is a set of bits; else it is one class."""
    most: int | None = None
    """Greatest value with a meaning, beyond is fill; None = every value has one."""


_DROPPED = str.maketrans("", "", "-_ \t\n")


@lru_cache(maxsize=4096)  # an item repeats the words of the one before
def plain(text: str) -> str:
    """A name without what catalogs write in different ways.

    >>> plain("LANDSAT_8"), plain("B02"), plain("b2")
    ('landsat8', 'b2', 'b2')
    """
    short = text.lower().translate(_DROPPED)
    return "b" + short[2:] if short[:2] == "b0" and short[2:3].isdigit() else short


def stand_in(name: str, held: Mapping[str, float | None]) -> str | None:
    """The band at hand that shows what a named one shows: itself, else the nearest in `NEAR_NM`.

    Args:
        name: One of `OPTICAL_BANDS`, or any other, which only stands for itself.
        held: Bands at hand and their centres in nm.

    >>> stand_in("rededge1", {"red": 665.0}) is None
    True
    """
    if name in held:
        return name
    wanted = WAVELENGTHS.get(name)
    if wanted is None:
        return None
    off = {band: abs(centre - wanted) for band, centre in held.items() if centre is not None}
    best = min(off, key=lambda band: (off[band], band), default=None)
    return best if best is not None and off[best] <= NEAR_NM else None


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
        # NASA's CMR numbers an item's files: 0_VV.
        return Band(name=name, gsd=10.0, aliases=(*before, *after, f"0{name}"))

    return tuple(band(name) for name in ("vv", "vh", "hh", "hv"))


OPTICAL_BANDS = _optical_bands()
"""Sentinel-2's, which other sensors call the same where they see the same."""
SAR_BANDS = _sar_bands()
WAVELENGTHS = {b.name: b.wavelength_nm for b in OPTICAL_BANDS if b.wavelength_nm is not None}
"""Centres in nm."""

SCL = QualityMask(band="scl", cloud=(3, 8, 9, 10), snow=(11,), unobserved=(0, 1), most=11)
"""Sentinel-2's scene classification."""
FMASK = QualityMask(band="fmask", cloud=(0, 1, 2, 3), snow=(4,), bits=True, most=254)
"""HLS: cirrus, cloud, beside cloud or shadow, shadow (HLS User Guide v2.0)."""
QA_PIXEL = QualityMask(band="qa_pixel", cloud=(1, 2, 3, 4), snow=(5,), unobserved=(0,), bits=True)
"""Landsat Collection 2: dilated cloud, cirrus, cloud, shadow (USGS Level 2 Product Guide)."""
QUALITY_MASKS = (SCL, FMASK, QA_PIXEL)
MASKS = (*(mask.band for mask in QUALITY_MASKS), "cloud")
"""Bands that classify pixels; an item with nothing else is not a scene."""
