"""Pixels of the embedded catalog: read, measure the offset, convert, write one COG per band.

The sources hold Sentinel-1 in dB and Sentinel-2 as digital numbers (DN). What is written:

- Optical DN as they are (uint16, 0 = nodata). Whether they carry the +1000 of processing
  baseline 04.00 is measured (`measure_offset`), never taken from a date or a name.
- SAR as linear power, 10 ** (dB / 10), float32, NaN = nodata, the mantissa rounded to 12 bits:
  the error stays under 2 ** -13 of the value (0.0006 dB) and the files halve.

Nodata of SAR. None of the sources has NaN, and none of the odd values found in them is fill:
the 58 exact zeros of the Jiangsu VV lie on bright targets whose neighbours rise continuously
to -0.001 dB, so the source clipped at 0 dB; the values down to -47 dB in the Spanish VH are
402 different numbers over smooth water, so they are measured darkness. Both stay as data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.shutil import copy as rasterio_copy
from rasterio.transform import Affine
from rasterio.windows import Window
from scipy import ndimage

MANTISSA_BITS = 12
OFFSET_DN = 1000
CERTAINLY_NONE = 900
"""A band whose darkest DN lie below this carries no +1000: it would be reflectance < -0.01."""
COMMON_FLOOR = (950, 1200)
"""Where the darkest DN of every band must lie when all carry +1000 and something is dark."""
BRIGHTER = 0.03
"""Reflectance in blue by which cloud exceeds its clear twin; without clouds it was up to 0.02."""
FLOOR_BANDS = ("blue", "red", "nir", "swir22")
"""Bands that must share the floor where no cirrus band is there to measure."""


class OffsetUnclear(ValueError):
    """The darkest pixels don't tell whether +1000 is in the numbers."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Raster:
    """One band on its grid."""

    data: NDArray[Any]
    """(y, x)."""
    transform: Affine
    crs: CRS

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) in the units of `crs`."""
        rows, columns = self.data.shape
        left, top = self.transform @ (0, 0)
        right, bottom = self.transform @ (columns, rows)
        return left, bottom, right, top


def read_bands(
    files: Mapping[str, tuple[Path, int]], window: tuple[int, int, int, int] | None = None
) -> dict[str, Raster]:
    """Read bands as they are.

    Args:
        files: Band name to (file, band number from 1).
        window: (row, column, rows, columns) to cut, in pixels of the finest band.
    """
    finest = min(_pixel_size(path) for path, _ in files.values())
    found = {}
    for name, (path, number) in files.items():
        with rasterio.open(path) as source:
            cut = None
            if window is not None:
                factor = round(source.transform.a / finest)
                row, column, rows, columns = (value // factor for value in window)
                cut = Window(column, row, columns, rows)
            transform = source.window_transform(cut) if cut else source.transform
            found[name] = Raster(
                data=source.read(number, window=cut), transform=transform, crs=source.crs
            )
    return found


def at_native_size(raster: Raster) -> Raster:
    """The raster at twice its pixel size, where the source only repeats every pixel 2 x 2."""
    data = raster.data
    if data.shape[0] % 2 or data.shape[1] % 2:
        return raster
    half = data[::2, ::2]
    if not np.array_equal(np.repeat(np.repeat(half, 2, 0), 2, 1), data):
        return raster
    return Raster(data=half, transform=raster.transform @ Affine.scale(2), crs=raster.crs)


def linear_power(db: NDArray[Any]) -> NDArray[np.float32]:
    """Backscatter in dB to linear power, mantissa rounded to `MANTISSA_BITS`."""
    power = np.power(10.0, db.astype(np.float64) / 10.0).astype(np.float32)
    shift = 23 - MANTISSA_BITS
    bits = power.view(np.uint32)
    rounded = ((bits + np.uint32(1 << (shift - 1))) >> np.uint32(shift)) << np.uint32(shift)
    # Rounding the bits of a NaN could make it infinite.
    return np.where(np.isnan(power), np.float32(np.nan), rounded.view(np.float32))


def floors(bands: Mapping[str, Raster]) -> dict[str, int]:
    """The DN under which the darkest thousandth of each band's valid pixels lies."""
    darkest = {}
    for name, raster in sorted(bands.items()):
        valid = raster.data[raster.data > 0]
        if valid.size:
            darkest[name] = round(float(np.percentile(valid, 0.1)))
    return darkest


def measure_offset(bands: Mapping[str, Raster]) -> dict[str, Any]:
    """Whether Sentinel-2 DN carry +1000, from their darkest pixels.

    Three findings decide, in this order. The cirrus band B10 of L1C sees almost nothing of the
    ground, so its floor is near 0 or near 1000. Any band that goes below 900 rules +1000 out.
    With +1000, water and shadow bring blue, red, NIR and SWIR down to one common floor at 1000.

    Args:
        bands: Reflectance bands by name, DN, 0 = nodata; ``cirrus`` where the source has it.

    Raises:
        OffsetUnclear: None of the three applies.
    """
    floor = floors(bands)
    if not floor:
        raise OffsetUnclear("no valid pixel")
    cirrus = floor.get("cirrus")
    low, high = COMMON_FLOOR
    darkest = min(floor, key=lambda name: floor[name])
    shared = [floor[name] for name in FLOOR_BANDS if name in floor]
    if cirrus is not None and cirrus < CERTAINLY_NONE:
        offset, why = 0, f"floor of B10 (cirrus) is DN {cirrus}; with +1000 it can't be below 1000"
    elif floor[darkest] < CERTAINLY_NONE:
        offset = 0
        why = f"floor of {darkest} is DN {floor[darkest]}; with +1000 a negative reflectance"
    elif cirrus is not None and low <= cirrus <= high:
        offset, why = OFFSET_DN, f"floor of B10 (cirrus) is DN {cirrus}, not near 0"
    elif len(shared) == len(FLOOR_BANDS) and all(low <= value <= high for value in shared):
        offset = OFFSET_DN
        why = f"{', '.join(FLOOR_BANDS)} share a floor at DN {min(shared)} to {max(shared)}"
    else:
        raise OffsetUnclear(f"floors {floor} show neither 0 nor +{OFFSET_DN}")
    return {"dn_offset_found": offset, "why": why, "floor_dn": floor}


def cloud_mask(bands: Mapping[str, Raster], dn_offset: int = 0) -> NDArray[np.uint8]:
    """A plain threshold mask of an L1C scene, made for the samples.

    Codes as in Major TOM: 0 clear, 1 thick cloud, 2 thin cloud, 3 cloud shadow. Thick: blue
    above 0.28; thin: blue above 0.20 or cirrus above 0.012; both opened by 5 x 5 pixels so that
    roofs stay clear. Shadow: only beside thick cloud, NIR under 0.7 of the clear median over
    9 x 9 pixels, and not darker in NIR than in green, which would be water.
    """
    blue, green, nir, cirrus = (
        (bands[name].data.astype(np.float32) - dn_offset) * 1e-4
        for name in ("blue", "green", "nir", "cirrus")
    )
    square = np.ones((5, 5), bool)
    thick = ndimage.binary_opening(blue > 0.28, square)
    thin = ndimage.binary_opening((blue > 0.20) | (cirrus > 0.012), square) & ~thick
    mask = np.where(thick, 1, np.where(thin, 2, 0)).astype(np.uint8)
    clear = mask == 0
    if 0.02 < thick.mean() < 0.9 and clear.any():
        dark = ndimage.uniform_filter(nir, 9) < 0.7 * np.median(nir[clear])
        land = ndimage.uniform_filter(nir - green, 9) > 0
        mask[ndimage.binary_opening(dark & land, square) & clear] = 3
    return mask


def cloud_beside(
    cloudy: Mapping[str, Raster], clear: Mapping[str, Raster], dn_offset: int = 0
) -> NDArray[np.uint8]:
    """The mask of an L1C scene that has a clear twin: cloud is what is brighter than there.

    As `cloud_mask`, but only where blue is brighter than on the twin, by `BRIGHTER` in the mean of
    5 x 5 pixels: sand and roofs are not. What is that much brighter elsewhere, opened by 5 x 5
    pixels, is thin cloud.

    Args:
        cloudy: Bands of the scene, DN.
        clear: Bands of its twin, on the same pixels.
        dn_offset: Of both.
    """
    mask = cloud_mask(cloudy, dn_offset)
    rise = (cloudy["blue"].data.astype(np.float32) - clear["blue"].data) * 1e-4
    brighter = ndimage.uniform_filter(rise, 5) > BRIGHTER
    mask[np.isin(mask, (1, 2)) & ~brighter] = 0
    mask[ndimage.binary_opening(brighter, np.ones((5, 5), bool)) & (mask == 0)] = 2
    return mask


def write_cog(path: Path, raster: Raster, nodata: float | None) -> dict[str, Any]:
    """Write one band as a cloud-optimised GeoTIFF; the same input gives the same bytes.

    Returns:
        The asset's ``proj:*`` and ``file:*`` fields.
    """
    rows, columns = raster.data.shape
    is_float = raster.data.dtype.kind == "f"
    profile = {
        "width": columns, "height": rows, "count": 1, "dtype": raster.data.dtype.name,
        "crs": raster.crs, "transform": raster.transform, "nodata": nodata,
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.MemoryFile() as memory:
        with memory.open(driver="GTiff", **profile) as target:
            target.write(raster.data, 1)
        with memory.open() as source:
            rasterio_copy(
                source, path, driver="COG", COMPRESS="DEFLATE", LEVEL="9",
                PREDICTOR="FLOATING_POINT" if is_float else "STANDARD",
                BLOCKSIZE="256" if max(rows, columns) <= 256 else "512",
                OVERVIEWS="NONE", NUM_THREADS="1",
            )  # fmt: skip
    content = path.read_bytes()
    return {
        "proj:shape": [rows, columns],
        "proj:transform": [float(value) for value in tuple(raster.transform)[:6]],
        "file:size": len(content),
        "file:checksum": "1220" + hashlib.sha256(content).hexdigest(),
    }


def _pixel_size(path: Path) -> float:
    with rasterio.open(path) as source:
        return float(source.transform.a)
