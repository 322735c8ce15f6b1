"""Chip: both sensors' pixels of one AOI on one grid, in declared quantities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.errors import GridMismatch
from earthmind_lab.scene import ScenePair

if TYPE_CHECKING:
    import xarray
    from odc.geo.geobox import GeoBox

    from earthmind_lab.aoi import AOI

BRIGHTNESS = (0.0, 1.0)
"""Least and greatest number of optical chips without reflectance (`Radiometry.level` DN), and
their stretch in pictures: whoever made such files has stretched them already."""


@dataclass(frozen=True, kw_only=True)
class Radiometry:
    """What the numbers of a chip mean, and how sure that is."""

    level: Literal["TOA", "SR", "DN"] | None = None
    """Optical reflectance at the top of the atmosphere or at the surface; ``DN``: brightness as a
    share of what the file can hold, 0 to 1, which is no reflectance; None without optical, or
    where nothing tells."""
    offset_applied: float | None = None
    """Offset added to DN x scale; None without optical."""
    quantity: Literal["sigma0", "gamma0", "gamma0_rtc"] | None = None
    """SAR backscatter; None without SAR."""
    geometry: Literal["ellipsoid", "terrain_corrected", "unknown"] | None = None
    """How the SAR raster was put on the map."""
    noise_removed: bool | None = None
    """Whether thermal noise was subtracted; None = unknown."""
    noise_floor_db: Mapping[str, float] = field(default_factory=dict)
    """Per polarisation: power at or below is clipped to it and flagged, never NaN."""
    incidence: str = "unknown"
    """``per pixel``, a range in degrees, or ``unknown``."""
    speckle_filter: str | None = None
    """Filter applied by the source; None = none stated."""
    residual_shift_px: float | None = None
    """Declared or measured optical/SAR shift in pixels; None = not measurable."""
    residual_shift_note: str = "not measurable"
    """Where the shift comes from and how sure it is."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for records."""
        return {**vars(self), "noise_floor_db": dict(self.noise_floor_db)}


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadPlan:
    """What a load will cost, before anything is read."""

    pair: ScenePair
    aoi: AOI
    grid: GeoBox
    """The grid the chip will have."""
    bands: tuple[str, ...]
    """Optical bands to read."""
    polarisations: tuple[str, ...]
    """SAR polarisations to read."""
    reads: int
    """Assets opened."""
    bytes: int
    """Upper estimate of the bytes read, uncompressed."""

    @property
    def pixels(self) -> int:
        """Rows x columns of the grid."""
        return int(self.grid.shape[0] * self.grid.shape[1])


@dataclass(frozen=True, kw_only=True, eq=False)
class Chip:
    """Optical and SAR pixels on one grid."""

    grid: GeoBox
    """Rows, columns, affine and CRS of every array in here."""
    optical: NDArray[np.float32] | None
    """(band, y, x) reflectance, unclipped (or brightness: `Radiometry.level`); NaN = nodata or
    border only."""
    sar: NDArray[np.float32] | None
    """(polarisation, y, x) dB; NaN = nodata or border only."""
    bands: tuple[str, ...] = ()
    """Names along the first axis of `optical`."""
    polarisations: tuple[str, ...] = ()
    """Names along the first axis of `sar`: ``vv``, ``vh``."""
    valid_optical: NDArray[np.bool_] | None = None
    """(y, x) True where every optical band has data."""
    valid_sar: NDArray[np.bool_] | None = None
    """(y, x) True where every polarisation has data."""
    inside: NDArray[np.bool_]
    """(y, x) True where the pixel centre lies inside the AOI."""
    radiometry: Radiometry
    """What the numbers mean."""
    pair: ScenePair
    """The scenes behind it."""
    aoi: AOI
    """The area that was asked for."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Resampling kernels, hrefs, checksums and attribution of each input."""

    def __post_init__(self) -> None:
        shape = tuple(int(side) for side in self.grid.shape)
        for name, names in (("optical", self.bands), ("sar", self.polarisations)):
            array = getattr(self, name)
            if array is not None and array.shape != (len(names), *shape):
                raise GridMismatch(
                    f"The {name} array does not lie on the chip's grid.",
                    found=f"array {array.shape}, grid {shape} with {len(names)} bands",
                )
        for name in ("valid_optical", "valid_sar", "inside"):
            mask = getattr(self, name)
            if mask is not None and mask.shape != shape:
                raise GridMismatch(
                    f"{name} does not lie on the chip's grid.", found=f"{mask.shape}, grid {shape}"
                )

    @property
    def gsd(self) -> float:
        """Metres per pixel; for a degree grid, at its centre, the larger side."""
        from earthmind_lab.grid import gsd_of

        return gsd_of(self.grid)

    @property
    def wavelengths(self) -> dict[str, float | None]:
        """Optical bands and their centres in nm: the sensor's own, else those of the name."""
        from earthmind_lab.bands import WAVELENGTHS
        from earthmind_lab.sensors import SENSORS

        sensor = SENSORS.get(self.pair.optical.sensor) if self.pair.optical else None
        own = {band.name: band.wavelength_nm for band in sensor.bands} if sensor else {}
        return {name: own.get(name) or WAVELENGTHS.get(name) for name in self.bands}

    def band(self, name: str) -> NDArray[np.float32]:
        """One band or polarisation, (y, x).

        Raises:
            GridMismatch: The chip doesn't hold it.
        """
        stacks = ((self.optical, self.bands), (self.sar, self.polarisations))
        for stack, names in stacks:
            if stack is not None and name in names:
                found: NDArray[np.float32] = stack[names.index(name)]
                return found
        held = ", ".join((*self.bands, *self.polarisations))
        raise GridMismatch(f"The chip holds no band {name!r}.", found=held)

    @property
    def dataset(self) -> xarray.Dataset:
        """`optical` (band, y, x) and `sar` (polarisation, y, x), georeferenced for rioxarray."""
        from earthmind_lab.grid import to_dataset

        return to_dataset(self)

    def _repr_html_(self) -> str:
        rows, columns = self.grid.shape
        optical, sar = (", ".join(names) or "none" for names in (self.bands, self.polarisations))
        text = (
            f"Chip {columns} x {rows} px, {self.gsd:.1f} m, {self.grid.crs}; "
            f"optical {optical}; SAR {sar}"
        )
        return f"<p>{escape(text)}</p>"


@dataclass(frozen=True, kw_only=True, eq=False)
class ChipSeries:
    """Chips on one grid, ordered by time."""

    chips: tuple[Chip, ...]

    def __post_init__(self) -> None:
        if any(chip.grid != self.chips[0].grid for chip in self.chips):
            raise GridMismatch("The chips of a series must share one grid.")
