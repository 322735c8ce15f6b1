"""From lines and pixels of the radar onto a grid, so that a pixel has one value however it is cut.

As in `resample`, blocks that are fixed to the lattice are computed from the same source window
with the same arithmetic. The places of a block's pixels are found at nodes 16 pixels apart and
taken linearly between them: over so short a way the geometry bends by less than 0.01 of a pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.data import resample
from earthmind_lab.data.budget import Check, in_steps
from earthmind_lab.data.grd_place import Floats, TiePoints
from earthmind_lab.data.raster import Raster
from earthmind_lab.data.resample import DOWN, Kernel, Lattice

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

Calibrate: TypeAlias = Callable[[NDArray[Any], int, int], NDArray[np.float32]]
"""Stored counts of a window, its first line and its first pixel to linear power."""

NODE_PX = 16
STRIP = 512
"""Lines that are calibrated at a time, in double precision."""


def sample(
    source: Raster, ties: TiePoints, calibrate: Calibrate, lattice: Lattice, grid: GeoBox
) -> tuple[NDArray[np.float32], Kernel]:
    """A raster in radar geometry on a grid.

    Args:
        source: The raster.
        ties: Its tie points in the CRS of the lattice.
        calibrate: Counts to linear power, NaN = border.
        lattice: The lattice that `grid` is a window of.
        grid: Rows and columns of the result.

    Returns:
        (y, x) linear power, NaN = border or outside; and the kernel: averages where the pixels
        are more than 1 % larger than the raster's, else bilinear.
    """
    ratio = _ratio(ties, lattice)
    kernel: Kernel = "average" if ratio > DOWN else "bilinear"
    parts = 2 * math.ceil(ratio) if kernel == "average" else 1

    def block(start: tuple[int, int]) -> NDArray[np.float32]:
        nodes = _nodes(ties, lattice, start)
        window = _window(source, nodes)
        if window is None:
            return np.full((resample.BLOCK, resample.BLOCK), np.nan, dtype=np.float32)
        power = _read(source, window, calibrate)
        origin = window[0], window[1]
        if parts > 1:
            return _average(power, origin, nodes, parts, source.check)
        return _linear(power, origin, nodes)

    return resample.by_blocks(lattice, grid, block, source.check), kernel


def window_pixels(source: Raster, ties: TiePoints, lattice: Lattice, grid: GeoBox) -> int:
    """Upper estimate of the pixels that `sample` reads."""
    rows, columns = (int(side) + 2 * resample.BLOCK for side in grid.shape)
    wanted = math.ceil(rows * columns * max(1.0, _ratio(ties, lattice) ** 2))
    return min(wanted, source.width * source.height)


def _ratio(ties: TiePoints, lattice: Lattice) -> float:
    """Side of a lattice pixel in pixels of the raster, at its middle."""
    return math.sqrt(lattice.dx * lattice.dy) / ties.spacing()


def _nodes(ties: TiePoints, lattice: Lattice, start: tuple[int, int]) -> tuple[Floats, Floats]:
    """Lines and pixels at the nodes of a block, its outer edges among them."""
    steps = np.arange(0, resample.BLOCK + 1, NODE_PX)
    a = lattice.affine(*start)
    x, y = np.meshgrid(a.c + steps * a.a, a.f + steps * a.e)
    return ties.find(x, y)


def _between(nodes: Floats, down: NDArray[Any], across: NDArray[Any]) -> Floats:
    """Node values at positions in the block, in pixels from its corner."""
    i, j = (np.minimum(at // NODE_PX, len(nodes) - 2).astype(int) for at in (down, across))
    y, x = (down / NODE_PX - i)[:, None], across / NODE_PX - j
    along = nodes[:, j] * (1 - x) + nodes[:, j + 1] * x
    return np.asarray(along[i] * (1 - y) + along[i + 1] * y)


def _window(source: Raster, nodes: tuple[Floats, Floats]) -> tuple[int, int, int, int] | None:
    """Line, pixel, lines and pixels that a block needs; None = nothing of it is in the raster."""
    if not np.isfinite(nodes).all():
        return None
    spans = []
    for places, size in zip(nodes, (source.height, source.width), strict=True):
        first = max(0, math.floor(places.min()) - 1)
        last = min(size, math.ceil(places.max()) + 2)
        if last <= first:
            return None
        spans.append((first, last - first))
    return spans[0][0], spans[1][0], spans[0][1], spans[1][1]


def _read(
    source: Raster, window: tuple[int, int, int, int], calibrate: Calibrate
) -> NDArray[np.float32]:
    """Linear power of a window with a rim of NaN, calibrated some lines at a time."""
    from rasterio.windows import Window

    line, pixel, lines, pixels = window
    stored = source.read(window=Window(pixel, line, pixels, lines))
    power = np.full((lines + 2, pixels + 2), np.nan, dtype=np.float32)
    for rows in in_steps(lines, STRIP, source.check):
        strip = calibrate(stored[rows], line + rows.start, pixel)
        power[rows.start + 1 : rows.stop + 1, 1:-1] = strip
    return power


def _linear(
    power: NDArray[np.float32], origin: tuple[int, int], nodes: tuple[Floats, Floats]
) -> NDArray[np.float32]:
    """Bilinear, weights of border shared by the rest; valid where the nearest pixel is."""
    centres = np.arange(resample.BLOCK) + 0.5
    places = [_between(each, centres, centres) - start + 1
              for each, start in zip(nodes, origin, strict=True)]  # fmt: skip
    total, weight = np.zeros(places[0].shape), np.zeros(places[0].shape)
    first = [np.floor(each) for each in places]
    for down in (0, 1):
        for across in (0, 1):
            value = _take(power, first[0] + down, first[1] + across)
            share = np.abs(1 - down - (places[0] - first[0])) * np.abs(
                1 - across - (places[1] - first[1])
            )
            seen = np.isfinite(value)
            total += np.where(seen, value * share, 0)
            weight += share * seen
    nearest = np.isfinite(_take(power, np.rint(places[0]), np.rint(places[1])))
    return np.where(nearest, total / np.where(weight > 0, weight, 1), np.nan).astype(np.float32)


def _average(
    power: NDArray[np.float32],
    origin: tuple[int, int],
    nodes: tuple[Floats, Floats],
    parts: int,
    check: Check,
) -> NDArray[np.float32]:
    """Mean over each pixel, looked up at parts x parts places; valid where most of them are."""
    total = np.zeros((resample.BLOCK, resample.BLOCK))
    count = np.zeros(total.shape)
    steps = [np.arange(resample.BLOCK) + (part + 0.5) / parts for part in range(parts)]
    for down in steps:
        check()
        for across in steps:
            places = [np.rint(_between(each, down, across) - start + 1)
                      for each, start in zip(nodes, origin, strict=True)]  # fmt: skip
            value = _take(power, places[0], places[1])
            seen = np.isfinite(value)
            total += np.where(seen, value, 0)
            count += seen
    valid = count >= 0.5 * parts**2
    return np.where(valid, total / np.maximum(count, 1), np.nan).astype(np.float32)


def _take(power: NDArray[np.float32], lines: Floats, pixels: Floats) -> Floats:
    """Pixels by place; the rim of NaN stands for all that lies outside."""
    rows = np.clip(lines, 0, power.shape[0] - 1).astype(np.intp)
    columns = np.clip(pixels, 0, power.shape[1] - 1).astype(np.intp)
    return power[rows, columns].astype(np.float64)
