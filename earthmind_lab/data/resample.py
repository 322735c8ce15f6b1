"""Reading one band onto a grid, so that a pixel has one value however the AOI is cut.

Where the source already lies on the lattice, pixels are copied; finer pixels are interpolated one
by one. Averages are computed in blocks that are fixed to the lattice, not to the AOI: a block is
always computed from the same source window with the same arithmetic, and the AOI only chooses
which blocks and which part of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.data.budget import Check
from earthmind_lab.data.interpolate import Places, interpolate, places_of
from earthmind_lab.data.radiometry import row_by_row
from earthmind_lab.data.raster import Raster
from earthmind_lab.grid import placeless

if TYPE_CHECKING:
    from affine import Affine
    from odc.geo.geobox import GeoBox

Kernel: TypeAlias = Literal["none", "bilinear", "average"]
Decode: TypeAlias = Callable[[NDArray[Any]], NDArray[np.float32]]
"""Stored numbers to physical ones, NaN = nodata; called before any resampling."""

BLOCK = 256
"""Side of a block in pixels: a chip of 512 px touches 9 of them at most. GDAL interpolates
coordinates between two CRSs along a block's rows, which are too short to bend by more than a
few hundredths of a pixel below 80° of latitude."""
SAME_PX = 1e-6
"""Two lattices closer than this share of a pixel are one."""
DOWN = 1.01
"""Pixels more than 1 % larger than the source's are averages of it."""


@dataclass(frozen=True)
class Lattice:
    """Pixels without end: an anchor and a step; chips are windows of it."""

    crs: str
    x0: float
    """Easting of a pixel edge."""
    y0: float
    """Northing of a pixel edge."""
    dx: float
    dy: float
    """Pixel height, positive; rows run south."""

    @classmethod
    def of(cls, grid: GeoBox, anchor: tuple[float, float] | None = None) -> Lattice:
        """The lattice of a grid.

        Args:
            grid: An upright, north-up grid.
            anchor: A pixel corner that all grids of the lattice share; by default the one
                nearest to the origin of the CRS, which is the same for every cut.
        """
        a = grid.affine
        x0, y0 = anchor or (0.0, 0.0)
        if not (_whole((a.c - x0) / a.a) and _whole((a.f - y0) / a.e)):
            # Rounded: what is left of a cut's corner carries the errors of its distance.
            x0 = round(math.fmod(a.c / a.a, 1), 6) * a.a
            y0 = round(math.fmod(a.f / a.e, 1), 6) * a.e
        return cls(str(grid.crs), x0, y0, a.a, -a.e)

    def affine(self, row: int, column: int) -> Affine:
        """Pixel to map for the window that starts at a row and column."""
        from affine import Affine

        west, north = self.x0 + column * self.dx, self.y0 - row * self.dy
        return Affine(self.dx, 0.0, west, 0.0, -self.dy, north)

    def start(self, grid: GeoBox) -> tuple[int, int]:
        """(row, column) of a grid's first pixel."""
        a = grid.affine
        return round((self.y0 - a.f) / self.dy), round((a.c - self.x0) / self.dx)


def whole_raster(source: Raster, side: int) -> NDArray[Any]:
    """Stored numbers of a whole raster, thinned to at most `side` a side.

    For what has to be decided about a file: the same whatever part of it an AOI needs.
    """
    step = max(1.0, max(source.width, source.height) / side)
    shape = (math.ceil(source.height / step), math.ceil(source.width / step))
    return np.asarray(source.read(out_shape=shape))


def kernel_for(source: Raster, lattice: Lattice) -> Kernel:
    """How the source gets onto the lattice; decided from the whole raster, never from the AOI."""
    if _offset(source, lattice) is not None:
        return "none"
    return "average" if pixel_ratio(source, lattice) > DOWN else "bilinear"


def read_on_grid(
    source: Raster, lattice: Lattice, grid: GeoBox, decode: Decode
) -> NDArray[np.float32]:
    """One band on a grid.

    Args:
        source: Open raster of one band with a CRS.
        lattice: The lattice that `grid` is a window of.
        grid: Rows and columns of the result.
        decode: Stored to physical numbers.

    Returns:
        (y, x) float32; NaN = nodata or outside the raster.
    """
    row0, column0 = lattice.start(grid)
    rows, columns = int(grid.shape[0]), int(grid.shape[1])
    offset = _offset(source, lattice)
    if offset is not None:
        window = (row0 - offset[0], column0 - offset[1], rows, columns)
        return _read(source, window, decode)
    if kernel_for(source, lattice) == "bilinear":
        places = _places(source, lattice, grid)
        needed = places.window()
        if needed is None:
            return np.full((rows, columns), np.nan, dtype=np.float32)
        return interpolate(_read(source, needed, decode), needed[:2], places, source.check)
    _prefetch(source, lattice, (row0, column0), (rows, columns))

    def block(start: tuple[int, int]) -> NDArray[np.float32]:
        return _warp_block(source, lattice, start, decode)

    return by_blocks(lattice, grid, block, source.check)


def by_blocks(
    lattice: Lattice,
    grid: GeoBox,
    compute: Callable[[tuple[int, int]], NDArray[np.float32]],
    check: Check,
) -> NDArray[np.float32]:
    """A grid put together from blocks of its lattice.

    Args:
        lattice: The lattice that `grid` is a window of.
        grid: Rows and columns of the result.
        compute: (row, column) of a block's first pixel to its (BLOCK, BLOCK) numbers.
        check: Asked before every block.
    """
    row0, column0 = lattice.start(grid)
    rows, columns = int(grid.shape[0]), int(grid.shape[1])
    result = np.full((rows, columns), np.nan, dtype=np.float32)
    for block_row in range(row0 // BLOCK, (row0 + rows - 1) // BLOCK + 1):
        for block_column in range(column0 // BLOCK, (column0 + columns - 1) // BLOCK + 1):
            check()
            top, left = block_row * BLOCK, block_column * BLOCK
            block = compute((top, left))
            y0, y1 = max(top, row0), min(top + BLOCK, row0 + rows)
            x0, x1 = max(left, column0), min(left + BLOCK, column0 + columns)
            part = block[y0 - top : y1 - top, x0 - left : x1 - left]
            result[y0 - row0 : y1 - row0, x0 - column0 : x1 - column0] = part
    return result


def _prefetch(
    source: Raster, lattice: Lattice, start: tuple[int, int], shape: tuple[int, int]
) -> None:
    """Get what the blocks of a window need of a remote file in one go, not block by block."""
    if source.fetch is None:
        return
    from rasterio.windows import Window

    ends = [range(s // BLOCK, (s + n - 1) // BLOCK + 1) for s, n in zip(start, shape, strict=True)]
    found = [_source_window(source, lattice, (row * BLOCK, column * BLOCK))
             for row in ends[0] for column in ends[1]]  # fmt: skip
    source.prefetch(Window(w[1], w[0], w[3], w[2]) for w in found if w is not None)


def window_pixels(source: Raster, lattice: Lattice, grid: GeoBox) -> int:
    """Upper estimate of the source pixels that `read_on_grid` reads."""
    rows, columns = int(grid.shape[0]), int(grid.shape[1])
    kernel = kernel_for(source, lattice)
    if kernel == "bilinear":
        _, _, rows, columns = _places(source, lattice, grid).window() or (0, 0, 0, 0)
    if kernel == "average":
        ratio = pixel_ratio(source, lattice)
        rows, columns = (math.ceil((side + 2 * BLOCK) * ratio) for side in (rows, columns))
    return min(rows * columns, int(source.width) * int(source.height))


def _places(source: Raster, lattice: Lattice, grid: GeoBox) -> Places:
    """Where the pixels of a grid lie in a source."""
    crs = None if _same_crs(source, lattice) else str(source.crs)
    shape = (int(grid.shape[0]), int(grid.shape[1]))
    return places_of(lattice, lattice.start(grid), shape, (source.transform, crs))


def _warp_block(
    source: Raster,
    lattice: Lattice,
    start: tuple[int, int],
    decode: Decode,
) -> NDArray[np.float32]:
    """One block of the lattice, (BLOCK, BLOCK), from the part of the source around it."""
    from affine import Affine
    from rasterio.warp import Resampling, reproject

    result = np.full((BLOCK, BLOCK), np.nan, dtype=np.float32)
    window = _source_window(source, lattice, start)
    if window is None:
        return result
    values = _read(source, window, decode)
    valid = np.isfinite(values)
    if not valid.any():
        return result
    places = {
        "src_transform": source.transform @ Affine.translation(window[1], window[0]),
        "src_crs": source.crs,
        "dst_transform": lattice.affine(*start),
        "dst_crs": lattice.crs,
    }
    nan = {"src_nodata": np.nan, "dst_nodata": np.nan}
    with placeless():
        source.check()  # it may have waited for other threads
        reproject(values, result, resampling=Resampling.average, **nan, **places)
    if not valid.all():
        # An average needs one valid pixel only, but validity is a mask, and masks shrink by
        # majority (mode).
        share = np.zeros((BLOCK, BLOCK), dtype=np.float32)
        with placeless():
            source.check()
            reproject(valid.astype(np.float32), share, resampling=Resampling.average, **places)
        result[share < 0.5] = np.nan
    return result


def _source_window(
    source: Raster, lattice: Lattice, start: tuple[int, int]
) -> tuple[int, int, int, int] | None:
    """(row, column, rows, columns) of the source that a block needs; None = it lies outside.

    Wider than the raster by the kernel, so that its border is nodata like any other.
    """
    from rasterio.warp import transform_bounds

    a = lattice.affine(*start)
    bounds = (a.c, a.f - BLOCK * lattice.dy, a.c + BLOCK * lattice.dx, a.f)
    west, south, east, north = transform_bounds(lattice.crs, source.crs, *bounds, densify_pts=21)
    inverse = ~source.transform
    corners = [inverse @ (x, y) for x in (west, east) for y in (south, north)]
    pad = 2 + 2 * math.ceil(max(1.0, pixel_ratio(source, lattice)))
    if not np.isfinite(corners).all():
        return None
    column0 = max(math.floor(min(c for c, _ in corners)) - pad, -pad)
    row0 = max(math.floor(min(r for _, r in corners)) - pad, -pad)
    column1 = min(math.ceil(max(c for c, _ in corners)) + pad, source.width + pad)
    row1 = min(math.ceil(max(r for _, r in corners)) + pad, source.height + pad)
    if column1 <= 0 or row1 <= 0 or column0 >= source.width or row0 >= source.height:
        return None
    return row0, column0, row1 - row0, column1 - column0


def _read(source: Raster, window: tuple[int, int, int, int], decode: Decode) -> NDArray[np.float32]:
    """A window that may leave the raster: NaN outside."""
    from rasterio.windows import Window

    row, column, rows, columns = window
    result = np.full((rows, columns), np.nan, dtype=np.float32)
    top, left = max(row, 0), max(column, 0)
    bottom, right = min(row + rows, source.height), min(column + columns, source.width)
    if bottom > top and right > left:
        stored = source.read(window=Window(left, top, right - left, bottom - top))
        inside = result[top - row : bottom - row, left - column : right - column]
        row_by_row(decode, stored, source.check, inside)
    return result


def _offset(source: Raster, lattice: Lattice) -> tuple[int, int] | None:
    """(row, column) on the lattice of the source's first pixel, when it lies on the lattice."""
    a = source.transform
    square = math.isclose(a.a, lattice.dx, rel_tol=1e-9)
    square = square and math.isclose(-a.e, lattice.dy, rel_tol=1e-9) and not (a.b or a.d)
    if not square or not _same_crs(source, lattice):
        return None
    row, column = (lattice.y0 - a.f) / lattice.dy, (a.c - lattice.x0) / lattice.dx
    return (round(row), round(column)) if _whole(row) and _whole(column) else None


def _same_crs(source: Raster, lattice: Lattice) -> bool:
    from odc.geo.crs import CRS

    return bool(CRS(str(source.crs)) == CRS(lattice.crs))


def pixel_ratio(source: Raster, lattice: Lattice) -> float:
    """Side of a lattice pixel in source pixels, where the source's centre is."""
    from earthmind_lab.grid import metres_at

    a = source.transform
    x, y = a @ (source.width / 2, source.height / 2)
    across, down = math.hypot(a.a, a.d), math.hypot(a.b, a.e)
    east, north = metres_at(str(source.crs), x, y, across, down)
    return math.sqrt(lattice.dx * lattice.dy / (east * north))


def _whole(value: float) -> bool:
    return abs(value - round(value)) < SAME_PX
