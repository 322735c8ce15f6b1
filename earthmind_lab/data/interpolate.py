"""Bilinear pixels of a lattice, each computed from its own four neighbours and nothing else.

A pixel's place in the source is exact where both share a CRS. Between two CRSs it is exact at
the nodes of a mesh that is fixed to the lattice, and linear between them. So a value depends on
the pixel's row and column of the lattice only, to the last bit, whatever is computed beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.data.budget import Check, in_steps
from earthmind_lab.grid import move_points

if TYPE_CHECKING:
    from affine import Affine

    from earthmind_lab.data.resample import Lattice

STEP = 16
"""Pixels between two nodes of the mesh: at 10 m, what is straight in one CRS bends in another by
less than a thousandth of a pixel over so many."""
ROWS = 32
"""Rows computed at a time, so that what is between stays in the processor's cache."""
Floats: TypeAlias = NDArray[np.float64]
Pixels: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Places:
    """Where the pixels of a window of a lattice lie in a source, in its pixels.

    Whole numbers are the centres of the source's pixels.
    """

    shape: tuple[int, int]
    """(rows, columns) of the window."""
    rows: Floats
    """(y,) of each row, or (node, node) of the mesh."""
    columns: Floats
    """(x,) of each column, or (node, node) of the mesh."""
    first: tuple[int, int] = (0, 0)
    """(row, column) of the window's first pixel, from the first node of the mesh."""

    @property
    def upright(self) -> bool:
        """Whether rows stay rows and columns stay columns."""
        return self.rows.ndim == 1

    def window(self) -> tuple[int, int, int, int] | None:
        """(row, column, rows, columns) of the source that holds all neighbours; None = nowhere."""
        if not (np.isfinite(self.rows).all() and np.isfinite(self.columns).all()):
            return None
        top, left = math.floor(self.rows.min()), math.floor(self.columns.min())
        bottom, right = math.floor(self.rows.max()) + 2, math.floor(self.columns.max()) + 2
        return top, left, bottom - top, right - left

    def part(self, start: int, stop: int) -> tuple[Floats, Floats]:
        """Rows start to stop: places along y and x, (y,) and (x,) if upright, else (y, x) both."""
        if self.upright:
            return self.rows[start:stop], self.columns
        down = (np.arange(start, stop) + self.first[0] + 0.5) / STEP
        across = (np.arange(self.shape[1]) + self.first[1] + 0.5) / STEP
        return _between(self.rows, down, across), _between(self.columns, down, across)


def places_of(
    lattice: Lattice,
    start: tuple[int, int],
    shape: tuple[int, int],
    source: tuple[Affine, str | None],
) -> Places:
    """Where a window of a lattice lies in a raster.

    Args:
        lattice: The lattice.
        start: (row, column) of the window's first pixel.
        shape: (rows, columns) of the window.
        source: Pixel to map of the raster, and its CRS; None = the lattice's own.
    """
    from odc.geo.crs import CRS

    to_map, crs = source
    if crs is None and not (to_map.b or to_map.d):
        x = lattice.x0 + (start[1] + 0.5 + np.arange(shape[1], dtype=np.float64)) * lattice.dx
        y = lattice.y0 - (start[0] + 0.5 + np.arange(shape[0], dtype=np.float64)) * lattice.dy
        rows, columns = (y - to_map.f) / to_map.e - 0.5, (x - to_map.c) / to_map.a - 0.5
        return Places(shape=shape, rows=rows, columns=columns)
    nodes = [STEP * np.arange(s // STEP, -(-(s + n) // STEP) + 1)
             for s, n in zip(start, shape, strict=True)]  # fmt: skip
    x, y = np.meshgrid(lattice.x0 + nodes[1] * lattice.dx, lattice.y0 - nodes[0] * lattice.dy)
    if crs is not None:
        x, y = move_points(x, y, lattice.crs, crs)
        if CRS(crs).geographic:
            # Beyond the antimeridian longitudes go on as the raster's do.
            west = to_map.c
            x = np.where(x < west - 90, x + 360, np.where(x >= west + 270, x - 360, x))
    inverse = ~to_map
    return Places(
        shape=shape,
        rows=inverse.d * x + inverse.e * y + inverse.f - 0.5,
        columns=inverse.a * x + inverse.b * y + inverse.c - 0.5,
        first=(start[0] - int(nodes[0][0]), start[1] - int(nodes[1][0])),
    )


def interpolate(values: Pixels, corner: tuple[int, int], places: Places, check: Check) -> Pixels:
    """Bilinear values at places of a raster.

    What has no data takes no part; the result has none where the nearest pixel has none.

    Args:
        values: (rows, columns) of the source's window, NaN = nodata.
        corner: (row, column) of the window in the source.
        places: Where to; the window must hold all their neighbours.
        check: Asked before every few rows.

    Returns:
        (y, x) float32.
    """
    valid = np.isfinite(values)
    whole = valid.all()
    filled = values if whole else np.where(valid, values, np.float32(0))
    four = None if whole else valid[:-1, :-1] & valid[1:, :-1] & valid[:-1, 1:] & valid[1:, 1:]
    result = np.empty(places.shape, dtype=np.float32)
    for step in in_steps(places.shape[0], ROWS, check):
        rows, columns = places.part(step.start, step.stop)
        at = _At.of(rows - corner[0], columns - corner[1], places.upright)
        part = at.mean(filled)
        if four is not None and not (sure := at.nearest(four, 0.0)).all():
            with np.errstate(divide="ignore", invalid="ignore"):
                rest = part / at.mean(valid.astype(np.float32))
            rest[~at.nearest(valid, 0.5)] = np.nan
            part = np.where(sure, part, rest)
        result[step] = part
    return result


def _between(mesh: Floats, down: Floats, across: Floats) -> Floats:
    """A mesh between its nodes, linear: (y, x) at y and x counted in nodes."""
    row, column = np.floor(down).astype(np.intp), np.floor(across).astype(np.intp)
    y, x = (down - row)[:, None], across - column
    band, row = mesh[row[0] : row[-1] + 2], row - row[0]
    along = band[:, column] * (1 - x) + band[:, column + 1] * x
    between: Floats = along[row] * (1 - y) + along[row + 1] * y
    return between


@dataclass(frozen=True, kw_only=True, eq=False)
class _At:
    """Places between the pixels of a window: the pixel above and left, and the share below."""

    rows: Floats
    columns: Floats
    row: NDArray[np.intp]
    column: NDArray[np.intp]
    down: Pixels
    across: Pixels
    upright: bool

    @classmethod
    def of(cls, rows: Floats, columns: Floats, upright: bool) -> _At:
        row, column = np.floor(rows).astype(np.intp), np.floor(columns).astype(np.intp)
        return cls(
            rows=rows,
            columns=columns,
            row=row,
            column=column,
            down=(rows - row).astype(np.float32),
            across=(columns - column).astype(np.float32),
            upright=upright,
        )

    def mean(self, values: Pixels) -> Pixels:
        """Of the four neighbours, by distance."""
        one = np.float32(1)
        x, y = self.across, self.down
        if self.upright:
            low, high = int(self.row.min()), int(self.row.max()) + 2
            band, row, y = values[low:high], self.row - low, y[:, None]
            along = band[:, self.column] * (one - x) + band[:, self.column + 1] * x
            mean: Pixels = along[row] * (one - y) + along[row + 1] * y
            return mean
        flat, step = values.ravel(), values.shape[1]
        at = self.row * step + self.column
        above = flat.take(at) * (one - x) + flat.take(at + 1) * x
        below = flat.take(at + step) * (one - x) + flat.take(at + step + 1) * x
        mixed: Pixels = above * (one - y) + below * y
        return mixed

    def nearest(self, mask: NDArray[np.bool_], shift: float) -> NDArray[np.bool_]:
        """Of the pixel that a place plus a shift lies in."""
        row = np.floor(self.rows + shift).astype(np.intp)
        column = np.floor(self.columns + shift).astype(np.intp)
        found: NDArray[np.bool_] = mask[row[:, None], column] if self.upright else mask[row, column]
        return found
