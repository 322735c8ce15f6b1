"""What a SAR raster holds that is no backscatter: fill, cut borders and their noise.

Each is decided from the whole raster, thinned, and then applied to pixels by their exact value and
place, so a pixel's fate never depends on the AOI. The thinned raster is read only where a window
holds a value in doubt.

Exact 0.0 dB is fill where it is far more common than any value beside it. It is not where nothing
exceeds it and the values run up to it: such a raster was clipped at 0 dB, and its bright pixels
(buildings, ships) are data with a lower bound. Zero power is fill where it makes solid ground at
the raster's border, and calm water with its noise subtracted elsewhere. Sentinel-1 GRD products of
processors before IPF 2.9 have strips of noise between fill and image (Ali et al. 2018, "Methods to
Remove the Border Noise From Sentinel-1 GRD Data").
"""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.data.backscatter import SarMeaning, to_db, to_power
from earthmind_lab.data.budget import in_steps
from earthmind_lab.data.radiometry import ROWS, Scaling, physical
from earthmind_lab.data.raster import Raster
from earthmind_lab.data.resample import whole_raster
from earthmind_lab.scene import Scene

if TYPE_CHECKING:
    from rasterio.windows import Window

NOISY_UNTIL = dt.datetime(2018, 3, 13, tzinfo=dt.UTC)
"""From this day on IPF 2.9 delivered Sentinel-1 GRD without border noise."""
NOISE_DB = -30.0
"""Border noise lies below; images of that time hold nothing so dark beside their fill, because
their thermal noise, which they still contain, is stronger."""
CO_POLARISED = ("vv", "hh")
"""Water is darker than `NOISE_DB` in the others; a chip's `valid_sar` takes these along."""
LOOK_SIDE = 1024
"""Side of the thinned raster."""
REPEATED = 3
"""How much more often than any value around it exact 0.0 dB occurs where it is fill."""
AROUND_DB = 2.0
SOLID_CELLS = 16
"""Smaller groups without power occur in calm water by chance."""
NO_POWER_DB = -1e4
"""Stands for the logarithm of nothing."""


@dataclass(frozen=True, eq=False, kw_only=True)
class CleanRaster(Raster):
    """A SAR band that reads as NaN where it holds fill or border noise."""

    meaning: SarMeaning
    numbers: Scaling
    """How stored numbers become backscatter."""
    noisy: bool
    """Whether the product is of a kind that has border noise."""
    masked: Counter[str] = field(default_factory=Counter)
    """Per rule, how many of the pixels read so far became NaN."""
    kept: Counter[str] = field(default_factory=Counter)
    """Per rule, how many stay although they are no plain measurement."""

    def read(
        self, window: Window | None = None, out_shape: Sequence[int] | None = None
    ) -> NDArray[Any]:
        """As `Raster.read`, floating point."""
        stored = super().read(window, out_shape)
        values = stored.astype(np.result_type(stored.dtype, np.float32))
        zero = self._exact_0_db(stored)
        if zero.any():
            self._mask(values, zero & self._zero_is_fill, "fill_0_db")
            if self._zero_is_ceiling:
                self.kept["clipped_at_0_db"] += int(zero.sum())
        nothing = self._nothing(stored)
        if nothing.any():
            values[nothing] = NO_POWER_DB / (self.numbers.scale or 1) if self._in_decibel else 0
            fill = nothing & self._spread(self._fill, window, stored.shape)
            self._mask(values, fill, "fill_no_power")
        if self.noisy:
            dark = self._dark(stored) & ~np.isnan(values)
            if dark.any():
                noise = dark & self._spread(self._noise, window, stored.shape)
                self._mask(values, noise, "border_noise")
        return values

    @property
    def _in_decibel(self) -> bool:
        return self.meaning.convention == "dB"

    def _mask(self, values: NDArray[Any], where: NDArray[np.bool_], rule: str) -> None:
        values[where] = np.nan
        if where.any():
            self.masked[rule] += int(where.sum())

    def _exact_0_db(self, stored: NDArray[Any]) -> NDArray[np.bool_]:
        if not self._in_decibel or self.numbers.offset:
            return np.zeros(stored.shape, dtype=bool)
        return np.asarray(stored == 0, dtype=bool)

    def _nothing(self, stored: NDArray[Any]) -> NDArray[np.bool_]:
        """Pixels of no power at all that aren't declared nodata."""
        none = -math.inf if self._in_decibel else 0
        if none in self.numbers.nodata:
            return np.zeros(stored.shape, dtype=bool)
        return np.asarray(stored == none, dtype=bool)

    def _dark(self, stored: NDArray[Any]) -> NDArray[np.bool_]:
        """Pixels with data darker than an image of that time can be."""
        dark = np.empty(stored.shape, dtype=bool)
        for rows in in_steps(len(stored), ROWS, self.check):
            power = to_power(physical(stored[rows], self.numbers), self.meaning.convention)
            dark[rows] = to_db(power) < NOISE_DB
        return dark

    # --- the whole raster, thinned ----------------------------------------------------------

    @cached_property
    def _look(self) -> NDArray[Any]:
        own = Raster(self.source, self.index, self.version, self.fetch, self.check)
        return whole_raster(own, LOOK_SIDE)

    @cached_property
    def _missing(self) -> NDArray[np.bool_]:
        """Declared nodata; no power isn't."""
        gone = np.isnan(physical(self._look, self.numbers))
        return np.asarray(gone & ~self._nothing(self._look), dtype=bool)

    @cached_property
    def _decibels(self) -> NDArray[np.float32]:
        """All numbers of a raster in dB, (n,)."""
        values = physical(self._look, self.numbers)
        return np.asarray(values[np.isfinite(values)], dtype=np.float32)

    @cached_property
    def _zero_is_ceiling(self) -> bool:
        values = self._decibels
        zeros, below = (values == 0).sum(), ((values > -1) & (values < 0)).sum()
        return bool(zeros and values.max() == 0 and 2 * below >= zeros)

    @cached_property
    def _zero_is_fill(self) -> bool:
        values = self._decibels
        near = values[(np.abs(values) <= AROUND_DB) & (values != 0)]
        most = np.unique(near, return_counts=True)[1].max() if near.size else 1
        repeated = int((values == 0).sum()) > REPEATED * int(most)
        return bool(repeated and not self._zero_is_ceiling)

    @cached_property
    def _fill(self) -> NDArray[np.bool_]:
        """Where no power makes solid ground at the border.

        Calm water is a mix of zeros and small numbers: next to nothing of it survives the
        erosion. A raster whose border is declared nodata has its fill already.
        """
        from scipy import ndimage

        if _at_border(self._missing).any():
            return np.zeros(self._look.shape, dtype=bool)
        square = np.ones((3, 3), dtype=bool)
        solid = ndimage.binary_erosion(self._nothing(self._look), square, border_value=1)
        parts, _ = ndimage.label(solid)
        large = np.bincount(parts.ravel()) >= SOLID_CELLS
        bound = solid & np.isin(parts, np.unique(parts[_at_border(solid)])) & large[parts]
        return np.asarray(ndimage.binary_dilation(bound, square, iterations=2), dtype=bool)

    @cached_property
    def _noise(self) -> NDArray[np.bool_]:
        """Where dark pixels hang on the fill at the border."""
        empty = self._missing | (self._fill & self._nothing(self._look))
        empty |= self._exact_0_db(self._look) & self._zero_is_fill
        return beside_fill(empty, self._dark(self._look))

    def _spread(
        self, look: NDArray[np.bool_], window: Window | None, shape: tuple[int, ...]
    ) -> NDArray[np.bool_]:
        """A mask of the thinned raster on the pixels of a window read as `shape`."""
        spans = window.toranges() if window is not None else ((0, self.height), (0, self.width))
        return spread(look, (self.height, self.width), spans, shape)


def may_be_noisy(scene: Scene, band: str) -> bool:
    """Whether GRD products of a scene's time have border noise that this polarisation tells."""
    early = scene.sensor.startswith("sentinel-1") and scene.end < NOISY_UNTIL
    return early and band in CO_POLARISED


def beside_fill(empty: NDArray[np.bool_], dark: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where dark pixels hang on the fill at the border of a thinned raster, and a rim around.

    Args:
        empty: (y, x) True without data.
        dark: (y, x) True where data are darker than `NOISE_DB`.
    """
    from scipy import ndimage

    square = np.ones((3, 3), dtype=bool)
    fill = ndimage.binary_propagation(_at_border(empty), square, mask=empty)
    reached = ndimage.binary_propagation(fill, square, mask=fill | (dark & ~empty))
    return np.asarray(ndimage.binary_dilation(reached, square, iterations=2), dtype=bool)


def spread(
    look: NDArray[np.bool_],
    size: tuple[int, int],
    spans: Sequence[tuple[float, float]],
    shape: Sequence[int],
) -> NDArray[np.bool_]:
    """A mask of a thinned raster on the pixels of a window.

    Args:
        look: The mask, (y, x).
        size: Rows and columns of the raster.
        spans: First and last edge of the window along rows and columns.
        shape: Rows and columns that the window was read as.
    """
    places = []
    for (start, stop), pixels, cells, side in zip(spans, shape, look.shape, size, strict=True):
        centres = start + (np.arange(pixels) + 0.5) * (stop - start) / pixels
        places.append(np.clip((centres * cells / side).astype(int), 0, cells - 1))
    return np.asarray(look[np.ix_(*places)], dtype=bool)


def clean(
    source: Raster, scene: Scene, band: str, meaning: SarMeaning, scaling: Scaling
) -> CleanRaster:
    """A SAR band without its fill and border noise.

    Args:
        source: The band.
        scene: Its scene: border noise is a matter of sensor and date.
        band: Its polarisation.
        meaning: Which backscatter it holds.
        scaling: How its numbers become backscatter; its nodata needs no rule in here.
    """
    return CleanRaster(
        source.source,
        source.index,
        source.version,
        source.fetch,
        source.check,
        meaning=meaning,
        numbers=scaling,
        noisy=meaning.quantity != "gamma0_rtc" and may_be_noisy(scene, band),
    )


def _at_border(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The outermost pixels of a mask."""
    ring = mask.copy()
    ring[1:-1, 1:-1] = False
    return ring
