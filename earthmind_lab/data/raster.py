"""One band of an open raster file, with what the file says about that band."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.data.budget import Check, unlimited

if TYPE_CHECKING:
    from affine import Affine
    from rasterio.control import GroundControlPoint
    from rasterio.crs import CRS
    from rasterio.io import DatasetReader
    from rasterio.windows import Window


HELD = 32 * 2**20
"""Bytes of pixels that are fetched as one; `remote` keeps twice as many of a file."""


@dataclass(frozen=True, eq=False)
class Raster:
    """A band that can be read in windows."""

    source: DatasetReader
    index: int = 1
    """Of the band in the file, from 1."""
    version: str | None = None
    """ETag of a remote file; None = a local one, or a server that gives none."""
    fetch: Callable[[list[tuple[int, int]]], object] | None = None
    """Gets (first byte, count) ranges of a remote file together; None = a local one."""
    check: Check = unlimited
    """Asked before every read, and between the parts of what is computed from the pixels."""

    @property
    def crs(self) -> CRS | None:
        """None = the file has no place on the Earth."""
        return self.source.crs

    @property
    def transform(self) -> Affine:
        """Pixel to map."""
        affine: Affine = self.source.transform
        return affine

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.source.width)

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.source.height)

    @property
    def has_gcps(self) -> bool:
        """Whether ground control points are all that places it."""
        return bool(self.source.gcps[0])

    @property
    def gcps(self) -> tuple[list[GroundControlPoint], CRS | None]:
        """Ground control points, and the CRS of their places."""
        points, crs = self.source.gcps
        return points, crs

    @property
    def tags(self) -> dict[str, str]:
        """Texts in the file's header."""
        found: dict[str, str] = self.source.tags()
        return found

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the stored numbers."""
        kind: np.dtype[Any] = np.dtype(self.source.dtypes[self.index - 1])
        return kind

    @property
    def scaling(self) -> tuple[float, float]:
        """(scale, offset) of the stored numbers; (1, 0) also where the file declares none."""
        return self.source.scales[self.index - 1], self.source.offsets[self.index - 1]

    def scaling_at(self, tag: str | None) -> tuple[float, float]:
        """`scaling`; where the file declares none, with the scale that its description holds.

        Args:
            tag: Keys of the JSON in ``TIFFTAG_IMAGEDESCRIPTION``, joined by dots
                (`Sensor.scale_tag`); None = there is nothing.
        """
        if tag is None or self.scaling != (1.0, 0.0):
            return self.scaling
        try:
            value = json.loads(self.source.tags().get("TIFFTAG_IMAGEDESCRIPTION", ""))
            for key in tag.split("."):
                value = value[key]
            scale = float(value)
        except (ValueError, TypeError, LookupError, RecursionError, OverflowError):
            return self.scaling
        return (scale, 0.0) if math.isfinite(scale) and scale > 0 else self.scaling

    @property
    def nodata(self) -> float | None:
        """Stored number without data; None where the file declares none."""
        value: float | None = self.source.nodatavals[self.index - 1]
        return value

    @property
    def overviews(self) -> list[int]:
        """How many pixels a side one of each overview stands for, finest first."""
        return [int(factor) for factor in self.source.overviews(self.index)]

    @property
    def unit(self) -> str | None:
        """As the file declares it."""
        unit: str | None = self.source.units[self.index - 1]
        return unit

    @property
    def description(self) -> str | None:
        """The band's name in the file."""
        name: str | None = self.source.descriptions[self.index - 1]
        return name

    def read(
        self, window: Window | None = None, out_shape: Sequence[int] | None = None
    ) -> NDArray[Any]:
        """Stored numbers (rows, columns) of a window, thinned to `out_shape`."""
        if window is None or out_shape is not None:
            self.check()
            return np.asarray(self.source.read(self.index, window=window, out_shape=out_shape))
        parts = []
        for strip in self._strips(window):
            self.check()
            if self.fetch is not None:
                self.fetch(self._ranges(strip))
            parts.append(np.asarray(self.source.read(self.index, window=strip)))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def prefetch(self, windows: Iterable[Window]) -> None:
        """Get the tiles of several windows of a remote file together, if memory holds them."""
        if self.fetch is None:
            return
        ranges = sorted({part for window in windows for part in self._ranges(window)})
        if sum(size for _, size in ranges) <= HELD:
            self.fetch(ranges)

    def _strips(self, window: Window) -> list[Window]:
        """A window in parts so small that the tiles of one are held in memory together."""
        from rasterio.windows import Window

        rows = int(self.source.block_shapes[self.index - 1][0])
        (top, bottom), (left, right) = window.toranges()
        most = max(1, HELD // (rows * max(1, int(right - left)) * self.dtype.itemsize)) * rows
        edges = [int(top), *range((int(top) // most + 1) * most, int(bottom), most), int(bottom)]
        return [Window(left, a, right - left, b - a) for a, b in pairwise(edges)]

    def _ranges(self, window: Window) -> list[tuple[int, int]]:
        """Where the tiles of a window lie in the file: GDAL would fetch them one by one."""
        rows, columns = self.source.block_shapes[self.index - 1]
        (top, bottom), (left, right) = window.toranges()
        bottom, right = min(int(bottom), self.height), min(int(right), self.width)
        ranges = []
        for row in range(max(0, int(top)) // rows, -(-bottom // rows)):
            for column in range(max(0, int(left)) // columns, -(-right // columns)):
                offset, size = (
                    self.source.get_tag_item(f"{name}_{column}_{row}", "TIFF", bidx=self.index)
                    for name in ("BLOCK_OFFSET", "BLOCK_SIZE")
                )
                if offset is not None and size is not None:  # None = not a TIFF, or an empty tile
                    ranges.append((int(offset), int(size)))
        return ranges

    def read_mask(
        self, window: Window | None = None, out_shape: Sequence[int] | None = None
    ) -> NDArray[np.uint8]:
        """The file's own mask of a window: above 0 where there is data."""
        self.check()
        return np.asarray(self.source.read_masks(self.index, window=window, out_shape=out_shape))
