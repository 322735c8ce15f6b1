"""Look-up tables of a Sentinel-1 GRD product: numbers along image lines, and all between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.data.assets import AssetRef
from earthmind_lab.data.grd_tables import Table, number, numbers, refused


@dataclass(frozen=True, kw_only=True, eq=False)
class Vectors:
    """A look-up table as the products give it: numbers along some image lines."""

    lines: NDArray[np.float64]
    """(n,) image line of each vector, rising; 0 is the centre of the first."""
    pixels: tuple[NDArray[np.float64], ...]
    """Per vector, image pixels, rising."""
    values: tuple[NDArray[np.float64], ...]
    """Per vector, the numbers at these pixels."""

    def at(self, lines: NDArray[Any], pixels: NDArray[Any]) -> NDArray[np.float64]:
        """(lines, pixels): linear along each vector, then linear between the vectors.

        Args:
            lines: (r,) image lines.
            pixels: (c,) image pixels.
        """
        place = np.interp(lines, self.lines, np.arange(len(self.lines)))
        first, last = int(place.min()), int(np.ceil(place.max()))
        rows = np.stack([np.interp(pixels, self.pixels[i], self.values[i])
                         for i in range(first, last + 1)])  # fmt: skip
        below = np.minimum(place.astype(int), max(last - 1, first)) - first
        above = np.minimum(below + 1, len(rows) - 1)
        share = (place - first - below)[:, None]
        return np.asarray(rows[below] * (1 - share) + rows[above] * share)


@dataclass(frozen=True, kw_only=True, eq=False)
class NoiseBlock:
    """A part of one sub-swath, with how its noise varies along the lines."""

    line: tuple[int, int]
    """First and last image line, both inclusive."""
    pixel: tuple[int, int]
    """First and last image pixel, both inclusive."""
    at: NDArray[np.float64]
    """(n,) image lines, rising."""
    values: NDArray[np.float64]
    """(n,) factors of the noise along range."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Noise:
    """Thermal noise in squared counts."""

    along_range: Vectors
    blocks: tuple[NoiseBlock, ...] = ()
    """Empty before IPF 2.9, whose products have no noise along azimuth."""

    def at(self, lines: NDArray[Any], pixels: NDArray[Any]) -> NDArray[np.float64]:
        """(lines, pixels): noise along range, times that along azimuth inside the blocks."""
        noise = self.along_range.at(lines, pixels)
        for block in self.blocks:
            rows = np.flatnonzero((lines >= block.line[0]) & (lines <= block.line[1]))
            columns = np.flatnonzero((pixels >= block.pixel[0]) & (pixels <= block.pixel[1]))
            factor = np.interp(lines[rows], block.at, block.values)
            noise[np.ix_(rows, columns)] *= factor[:, None]
        return noise


def calibration(table: Table, shape: tuple[int, int], name: str = "sigmaNought") -> Vectors:
    """One of the calibration look-up tables, seen to cover the raster.

    Args:
        table: A calibration table.
        shape: Lines and pixels of the raster.
        name: ``sigmaNought`` or ``betaNought``.

    Raises:
        RadiometryUnknown: It is empty, broken or of a raster of another size.
    """
    found = _vectors(table, "calibrationVectorList/calibrationVector", name)
    if any((values <= 0).any() for values in found.values):
        raise refused(table.ref, f"{name} at or below 0")
    ends = {(pixels[0], pixels[-1]) for pixels in found.pixels}
    step = float(np.median(np.diff(found.lines))) if len(found.lines) > 1 else 1.0
    fits = ends == {(0, shape[1] - 1)} and found.lines[0] < step
    if not fits or not shape[0] - 1 - step < found.lines[-1] < shape[0] + step:
        raise refused(
            table.ref,
            f"lines {found.lines[0]:g} to {found.lines[-1]:g}, pixels {sorted(ends)}, "
            f"for a raster of {shape[0]} lines and {shape[1]} pixels",
        )
    return found


def noise(table: Table) -> Noise:
    """The thermal noise of a product, of either generation.

    Raises:
        RadiometryUnknown: The table is empty or broken.
    """
    if table.root.find("noiseVectorList") is not None:
        old = _vectors(table, "noiseVectorList/noiseVector", "noiseLut")
        return Noise(along_range=old)
    along = _vectors(table, "noiseRangeVectorList/noiseRangeVector", "noiseRangeLut")
    listed = table.root.iterfind("noiseAzimuthVectorList/noiseAzimuthVector")
    return Noise(along_range=along, blocks=tuple(_block(each, table.ref) for each in listed))


def _block(vector: Element, ref: AssetRef) -> NoiseBlock:
    ends = [int(number(vector, name, ref)) for name in (
        "firstAzimuthLine", "lastAzimuthLine", "firstRangeSample", "lastRangeSample"
    )]  # fmt: skip
    at = _rising(numbers(vector, "line", ref), ref)
    values = numbers(vector, "noiseAzimuthLut", ref)
    if at.shape != values.shape or (values < 0).any():
        raise refused(ref, "an azimuth noise vector that is incomplete")
    return NoiseBlock(line=(ends[0], ends[1]), pixel=(ends[2], ends[3]), at=at, values=values)


def _vectors(table: Table, path: str, name: str) -> Vectors:
    ref, found = table.ref, list(table.root.iterfind(path))
    lines = np.array([number(vector, "line", ref) for vector in found])
    pixels = tuple(_rising(numbers(vector, "pixel", ref), ref) for vector in found)
    values = tuple(numbers(vector, name, ref) for vector in found)
    same = all(p.shape == v.shape and (v >= 0).all() for p, v in zip(pixels, values, strict=True))
    if not found or not same:
        raise refused(ref, f"no complete vectors of {name}")
    return Vectors(lines=_rising(lines, ref), pixels=pixels, values=values)


def _rising(values: NDArray[np.float64], ref: AssetRef) -> NDArray[np.float64]:
    if not (np.diff(values) > 0).all():
        raise refused(ref, "lines or pixels that don't rise")
    return values
