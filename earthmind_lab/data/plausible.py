"""Do the pixels contradict what was declared about them?

Declared facts decide what numbers mean (`reflectance`, `backscatter`); here the pixels are the
second witness. Each rule is a bound that no surface and no sensor crosses, so it never decides
between two meanings: it only refuses the one that can't be.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.errors import RadiometryUnknown
from earthmind_lab.sensors import boa_offset

if TYPE_CHECKING:
    from earthmind_lab.data.assets import AssetRef
    from earthmind_lab.data.backscatter import SarMeaning
    from earthmind_lab.data.radiometry import Scaling
    from earthmind_lab.scene import Scene

REFLECTANCE = (-0.5, 5.0)
"""No surface, cloud or glint lies outside; fill that nobody declared does."""
FILL_SHARE = 1e-3
"""So many pixels outside are no single broken detector."""
NEGATIVE, NEGATIVE_SHARE = -0.05, 0.1
"""Atmospheric correction leaves a few pixels below zero, by hundredths. A tenth of all pixels at
minus five per cent had an offset subtracted twice."""
DARKEST, DARKEST_PERCENTILE = 0.095, 0.1
"""A whole scene has shadow or water below this in its darkest thousandth, unless an offset of
0.1 still lies on its numbers."""
BRIGHT, BRIGHT_PERCENTILE = 0.002, 98
"""A whole scene is brighter somewhere, water too: below this in all bands, reflectance was scaled
twice. A chip of water isn't, in the shortwave infrared."""
AIR = ("coastal", "blue")
"""At the top of the atmosphere the air alone reflects about 0.1 in these."""
WEAK_PERCENTILE = 5
"""A whole raster of backscatter has a twentieth of its pixels below 0 dB, towns included; counts,
and linear power that is taken for decibels, have none."""
SWAPPED_DB = 1.0
"""Cross-polarised echo is weaker than co-polarised one by several dB on land, sea and ice."""
ECHO_DB, ECHO_SHARE = -20.0, 0.1
"""Calm water shows the noise of both receivers, either of which may be the stronger one; it lies
below this. A few ships on it tell nothing about the rest."""
SAMPLE = 16
"""Two bands are compared pixel by pixel where so many rows and columns apart they are equal."""
CROSS = (("vv", "vh"), ("hh", "hv"))


def check_reflectance_range(
    values: NDArray[np.float32], whole: Callable[[], NDArray[np.float32]], ref: AssetRef
) -> None:
    """Refuse a band with values that no surface reflects.

    Args:
        values: (y, x) reflectance, NaN = nodata.
        whole: Reads the whole raster, thinned: dark water may be all that `values` show.
        ref: The asset.

    Raises:
        RadiometryUnknown: Fill that nobody declared, or an offset that was subtracted twice.
    """
    low, high = REFLECTANCE
    outside = np.count_nonzero(values < low) + np.count_nonzero(values > high)
    share = float(outside / (np.count_nonzero(np.isfinite(values)) or 1))
    if share > FILL_SHARE:
        worst = float(values[(values < low) | (values > high)][0])
        _refuse(
            f"The numbers in {ref.name} can't all be reflectance.",
            found=f"{100 * share:.3g} % of the pixels outside {low:g} to {high:g}, such "
            f"as {worst:.4g}",
            change="declare the nodata value of the file in raster:bands or bands of the asset",
        )
    if _negative(values) > NEGATIVE_SHARE and (share := _negative(whole())) > NEGATIVE_SHARE:
        _refuse(
            f"The offset of {ref.name} was subtracted from its numbers already.",
            found=f"{100 * share:.3g} % of the whole raster below {NEGATIVE:g}",
            change="offset 0 in raster:bands or bands of the asset",
        )


def _negative(values: NDArray[np.float32]) -> float:
    below = np.count_nonzero(values < NEGATIVE)
    return float(below / np.count_nonzero(np.isfinite(values))) if below else 0.0


def offset_in_doubt(scene: Scene, ref: AssetRef, scaling: Scaling) -> bool:
    """Whether a Sentinel-2 asset declares no offset though its baseline has one.

    Catalogs that subtract it themselves do so rightly; whether this one did, its pixels tell.
    """
    baseline = ref.properties.get("s2:processing_baseline") or scene.processing.get("baseline")
    stated = scene.sensor.startswith("sentinel-2") and boa_offset(str(baseline or ""))
    applied = ref.properties.get("earthsearch:boa_offset_applied") is True
    tells = scene.sensor != "sentinel-2-l1c" or ref.band not in AIR
    return bool(stated) and scaling.offset == 0.0 and not applied and tells


def next_to_nothing(values: NDArray[np.float32]) -> bool:
    """Whether hardly a pixel with data reflects anything."""
    bright = np.count_nonzero(values > BRIGHT) + np.count_nonzero(values < -BRIGHT)
    count = np.count_nonzero(np.isfinite(values))
    return bool(count and bright <= count * (1 - BRIGHT_PERCENTILE / 100))


def check_scaled(dim: Sequence[bool], title: str) -> None:
    """Refuse reflectance that is next to nothing in every band.

    Args:
        dim: Of each file, whether it is `next_to_nothing` in the AOI and as a whole.
        title: Of the scene, for messages.

    Raises:
        RadiometryUnknown: The numbers were reflectance before their scale was applied.
    """
    if dim and all(dim):
        _refuse(
            f"The numbers of {title} can't be reflectance with this scale.",
            found=f"{BRIGHT_PERCENTILE} % of them below {BRIGHT:g} in every band",
            change="scale 1 and offset 0 if the files hold reflectance already",
        )


def darkest(whole: NDArray[np.float32]) -> float | None:
    """Reflectance of the darkest thousandth of a whole raster; None = it is empty."""
    seen = whole[np.isfinite(whole)]
    return float(np.percentile(seen, DARKEST_PERCENTILE)) if seen.size else None


def check_offset(dark: Mapping[str, float | None], title: str) -> None:
    """Refuse a scene that still carries its offset: one whose every band lacks dark pixels.

    Args:
        dark: `darkest` of each band whose offset is in doubt.
        title: Of the scene, for messages.

    Raises:
        RadiometryUnknown: Nothing in the whole scene is dark.
    """
    known = [value for value in dark.values() if value is not None]
    if known and min(known) > DARKEST:
        _refuse(
            f"The numbers of {title} still carry an offset that its item says is 0.",
            found=f"nothing below {min(known):.3g} in {', '.join(dark)}, of a processing baseline "
            "that adds 0.1",
            change="offset -0.1 in raster:bands or bands of its assets; or, of bare sand or snow "
            "whose catalog did subtract it, earthsearch:boa_offset_applied true in the properties",
        )


def too_strong(decibel: NDArray[np.float32]) -> bool:
    """Whether not even a twentieth of the pixels with data is below 0 dB."""
    count = np.count_nonzero(np.isfinite(decibel))
    return bool(count and np.count_nonzero(decibel <= 0) < count * WEAK_PERCENTILE / 100)


def refuse_strong(ref: AssetRef, meaning: SarMeaning) -> NoReturn:
    """A whole raster without weak echoes: its numbers are not of the convention declared for it.

    Raises:
        RadiometryUnknown: Always.
    """
    _refuse(
        f"The numbers in {ref.name} can't be backscatter in {meaning.convention}.",
        found=f"{100 - WEAK_PERCENTILE} % of the whole raster above 0 dB",
        change="the card4l:measurement_convention and the scale that the numbers have",
    )


def check_bands(bands: Mapping[str, NDArray[np.float32]], title: str) -> None:
    """Refuse bands that are one file under two names, and polarisations that changed places.

    Args:
        bands: (y, x) reflectance or dB by name.
        title: Of the scene, for messages.

    Raises:
        RadiometryUnknown: Two bands are equal in every pixel, or the cross-polarised echo is the
            stronger one.
    """
    for one, other in itertools.combinations(bands, 2):
        if _same(bands[one], bands[other]):
            _refuse(
                f"The bands {one} and {other} of {title} hold the same pixels.",
                found="two names for one band",
                change="an item whose assets name their own files",
            )
    for co, cross in CROSS:
        if co in bands and cross in bands:
            gap = _stronger(bands[co], bands[cross])
            if gap < -SWAPPED_DB:
                _refuse(
                    f"The polarisations {co} and {cross} of {title} have changed places.",
                    found=f"{cross} is stronger than {co} by {-gap:.1f} dB",
                    change="an item that names them rightly",
                )


def _same(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    """Whether two bands are equal in every pixel, and not the same number everywhere."""
    few = np.s_[::SAMPLE, ::SAMPLE]
    return bool(
        np.array_equal(one[few], other[few], equal_nan=True)
        and np.array_equal(one, other, equal_nan=True)
        and _varies(one)
    )


def _stronger(co: NDArray[np.float32], cross: NDArray[np.float32]) -> float:
    """Median of co- above cross-polarised echo in dB, over what stands out from the noise."""
    echo = np.maximum(co, cross) > ECHO_DB  # False where one of them is NaN
    if np.count_nonzero(echo) <= ECHO_SHARE * echo.size:
        return 0.0
    return float(np.median(co[echo] - cross[echo]))


def _varies(values: NDArray[np.float32]) -> bool:
    seen = values[np.isfinite(values)]
    return bool(seen.size) and bool((seen != seen[0]).any())


def _refuse(asked: str, *, found: str, change: str) -> NoReturn:
    raise RadiometryUnknown(asked, found=found, change=change)
