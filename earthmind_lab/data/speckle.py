"""The optional speckle filter: Lee's, on the SAR raster's own pixels in linear power.

Speckle is a property of the pixels that the sensor's processor made; after resampling its spread is
another. So it is filtered before, with enough pixels around every window that a pixel has one value
however the AOI is cut. None of the libraries that offer the filter comes without a plotting,
computer-vision or compiler stack; scipy has the sums that it takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.data.assets import AssetRef
from earthmind_lab.data.budget import in_steps
from earthmind_lab.data.radiometry import number
from earthmind_lab.data.raster import Raster
from earthmind_lab.errors import LoadError
from earthmind_lab.scene import Scene

if TYPE_CHECKING:
    from rasterio.windows import Window

Speckle = Literal["lee"]
SIDE_PX = 7
"""Of the square whose mean and spread tell texture from speckle."""
ROWS = 128
"""Rows filtered at a time, in double precision."""
IW_GRD_LOOKS = 4.4
"""Equivalent number of looks of Sentinel-1 IW GRD in high resolution (product specification)."""


def check_filter(name: str | None) -> None:
    """Refuse a filter that isn't there.

    Raises:
        LoadError: It isn't; the message names those that are.
    """
    if name is not None and name not in get_args(Speckle):
        known = ", ".join(get_args(Speckle))
        raise LoadError("There is no such speckle filter.", found=repr(name), change=known)


@dataclass(frozen=True, eq=False, kw_only=True)
class FilteredRaster(Raster):
    """A SAR band that reads as filtered linear power."""

    inner: Raster
    decode: Callable[[NDArray[Any]], NDArray[np.float32]]
    """Stored numbers of `inner` to linear power, NaN = nodata."""
    looks: float

    def read(
        self, window: Window | None = None, out_shape: Sequence[int] | None = None
    ) -> NDArray[Any]:
        """Linear power (rows, columns) of a window, at the band's own resolution."""
        from rasterio.windows import Window

        if out_shape is not None:
            raise ValueError("Speckle is filtered on the band's own pixels.")
        span = ((0, self.height), (0, self.width)) if window is None else window.toranges()
        (top, bottom), (left, right) = ((int(first), int(last)) for first, last in span)
        pad = SIDE_PX // 2
        y0, y1 = max(0, top - pad), min(self.height, bottom + pad)
        x0, x1 = max(0, left - pad), min(self.width, right + pad)
        stored = self.inner.read(window=Window(x0, y0, x1 - x0, y1 - y0))
        result = np.empty((bottom - top, right - left), dtype=np.float32)
        for rows in in_steps(bottom - top, ROWS, self.check):
            first, last = max(y0, top + rows.start - pad), min(y1, top + rows.stop + pad)
            calm = lee(self.decode(stored[first - y0 : last - y0]), self.looks)
            kept = calm[top + rows.start - first :][: rows.stop - rows.start]
            result[rows] = kept[:, left - x0 : right - x0]
        return result


def filtered(
    source: Raster, decode: Callable[[NDArray[Any]], NDArray[np.float32]], looks: float
) -> FilteredRaster:
    """A SAR band as filtered linear power.

    Args:
        source: The band.
        decode: Its stored numbers to linear power, NaN = nodata.
        looks: Equivalent number of looks.
    """
    return FilteredRaster(
        source.source, source.index, source.version, check=source.check,
        inner=source, decode=decode, looks=looks,
    )  # fmt: skip


def lee(power: NDArray[np.float32], looks: float) -> NDArray[np.float32]:
    """The local mean where the spread is that of speckle, the pixel itself where it is far more.

    Lee 1980, "Digital Image Enhancement and Noise Filtering by Use of Local Statistics",
    doi:10.1109/TPAMI.1980.4766994, for multiplicative noise.

    Args:
        power: (y, x) linear power, NaN = nodata.
        looks: Equivalent number of looks; the speckle's variance is mean² / looks.

    Returns:
        (y, x) linear power, NaN where it was.
    """
    valid = np.isfinite(power)
    values = np.where(valid, power, 0).astype(np.float64)
    count = np.maximum(_sum(valid.astype(np.float64)), 1)
    mean, square = _sum(values) / count, _sum(values * values) / count
    # The variance of what lies under the speckle, from that of the product of both.
    texture = np.maximum(square / (1 + 1 / looks) - mean * mean, 0)
    with np.errstate(invalid="ignore"):
        weight = np.nan_to_num(texture / (texture + mean * mean / looks))
    result = mean + weight * (values - mean)
    return np.where(valid, result, np.nan).astype(np.float32)


def looks_of(scene: Scene, ref: AssetRef) -> float:
    """Equivalent number of looks, as the item declares it or as the product has it.

    Raises:
        LoadError: Nothing tells how strong the speckle is.
    """
    declared = number(ref.properties.get("sar:looks_equivalent_number"), math.nan)
    if math.isfinite(declared) and declared > 0:
        return declared
    if scene.sensor.startswith("sentinel-1"):
        return IW_GRD_LOOKS
    raise LoadError(
        f"The speckle of {ref.name} can't be filtered: its number of looks is unknown.",
        found=f"sensor {scene.sensor}, no sar:looks_equivalent_number",
        change="declare sar:looks_equivalent_number in the item's properties, or speckle=None",
    )


def named(looks: float) -> str:
    """The filter in words, for `Radiometry.speckle_filter`."""
    return f"Lee, {SIDE_PX} x {SIDE_PX} px, {looks:g} looks, by earthmind_lab"


def _sum(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over the square around each pixel.

    Every sum is made on its own and in the same order: running sums would carry rounding from
    wherever the window starts.
    """
    from scipy import ndimage

    ones = np.ones(SIDE_PX)
    rows = ndimage.correlate1d(values, ones, axis=0, mode="constant")
    return np.asarray(ndimage.correlate1d(rows, ones, axis=1, mode="constant"))
