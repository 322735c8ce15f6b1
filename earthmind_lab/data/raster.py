"""One band of an open raster file, with what the file says about that band."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from affine import Affine
    from rasterio.crs import CRS
    from rasterio.io import DatasetReader
    from rasterio.windows import Window


_FILTERS = threading.Lock()
"""Python's filters of warnings are one for all threads."""


@contextmanager
def placeless() -> Iterator[None]:
    """Around calls of rasterio that warn of rasters without a place, one thread at a time.

    Where a place matters it is told from the CRS. rasterio hushes itself, too, when it warps an
    array: two threads that do so at once take each other's filters away.
    """
    from rasterio.errors import NotGeoreferencedWarning

    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


@dataclass(frozen=True, eq=False)
class Raster:
    """A band that can be read in windows."""

    source: DatasetReader
    index: int = 1
    """Of the band in the file, from 1."""
    version: str | None = None
    """ETag of a remote file; None = a local one, or a server that gives none."""

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
    def dtype(self) -> np.dtype[Any]:
        """Of the stored numbers."""
        kind: np.dtype[Any] = np.dtype(self.source.dtypes[self.index - 1])
        return kind

    @property
    def scaling(self) -> tuple[float, float]:
        """(scale, offset) of the stored numbers; (1, 0) also where the file declares none."""
        return self.source.scales[self.index - 1], self.source.offsets[self.index - 1]

    @property
    def nodata(self) -> float | None:
        """Stored number without data; None where the file declares none."""
        value: float | None = self.source.nodatavals[self.index - 1]
        return value

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
        return np.asarray(self.source.read(self.index, window=window, out_shape=out_shape))

    def read_mask(
        self, window: Window | None = None, out_shape: Sequence[int] | None = None
    ) -> NDArray[np.uint8]:
        """The file's own mask of a window: above 0 where there is data."""
        return np.asarray(self.source.read_masks(self.index, window=window, out_shape=out_shape))
