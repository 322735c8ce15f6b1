"""Chip: both sensors' pixels of one AOI on one grid, in declared quantities.

A chip whose grid, arrays, masks, radiometry and scenes contradict each other can't be made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.chip_checks import check_grid, check_mask, check_radiometry, check_stack
from earthmind_lab.errors import GridMismatch, LoadError, RadiometryUnknown
from earthmind_lab.scene import ScenePair, html_table
from earthmind_lab.sensors import Quantity

if TYPE_CHECKING:
    import xarray
    from odc.geo.geobox import GeoBox

    from earthmind_lab.aoi import AOI

Level = Literal["TOA", "SR", "DN", "unknown"]
Geometry = Literal["ellipsoid", "terrain_corrected", "unknown"]
BRIGHTNESS = (0.0, 1.0)
"""Least and greatest number of optical chips without reflectance (`Radiometry.level` DN), and
their stretch in pictures: whoever made such files has stretched them already."""


@dataclass(frozen=True, kw_only=True)
class Radiometry:
    """What the numbers of a chip mean, and how sure that is."""

    level: Level | None = None
    """Reflectance at the top of the atmosphere or at the surface, or undeclared which; ``DN``:
    brightness as a share of what the file can hold, which is no reflectance; None without
    optical."""
    offset_applied: float | None = None
    """Offset added to DN x scale; None without optical."""
    quantity: Quantity | None = None
    """SAR backscatter; None without SAR."""
    geometry: Geometry | None = None
    """How the SAR raster was put on the map; None without SAR."""
    noise_removed: bool | None = None
    """Whether thermal noise was subtracted; None = unknown."""
    noise_floor_db: Mapping[str, float] = field(default_factory=dict)
    """Per polarisation: power at or below is clipped to it and flagged, never NaN."""
    incidence: str = "unknown"
    """``per pixel``, a range in degrees, or ``unknown``."""
    speckle_filter: str | None = None
    """Filter applied by the source, and by the load where asked for; None = none stated."""
    residual_shift_px: float | None = None
    """Optical/SAR shift in pixels: measured, else declared by a source; None = not measurable."""
    residual_shift_confidence: float | None = None
    """Of the measured shift, 0 to 1; None = not measurable."""
    measured_shift: tuple[float, float] | None = None
    """Pixels that SAR lies (south, east) of optical; None = not measurable. Never applied."""
    residual_shift_note: str = "not measurable"
    """Where the shift comes from, how sure it is, and what follows for the masks."""

    def __post_init__(self) -> None:
        kinds = {"level": Level, "quantity": Quantity, "geometry": Geometry}
        for name, kind in kinds.items():
            value, known = getattr(self, name), get_args(kind)
            if value is not None and value not in known:
                raise RadiometryUnknown(
                    f"{value!r} is no {name} of a chip.", change=", ".join(known)
                )
        numbers = [self.offset_applied, *self.noise_floor_db.values()]
        if any(number is not None and not math.isfinite(number) for number in numbers):
            raise RadiometryUnknown("Offset and noise floor are numbers.", found=str(numbers))

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
    speckle: str | None = None
    """Filter for the SAR pixels, such as ``lee``; None = as they are."""
    reads: int
    """Assets opened."""
    bytes: int
    """Upper estimate of the bytes read, uncompressed."""

    @property
    def pixels(self) -> int:
        """Rows x columns of the grid."""
        return int(self.grid.shape[0] * self.grid.shape[1])

    def __repr__(self) -> str:
        names = ", ".join((*self.bands, *self.polarisations))
        return f"LoadPlan({grid_words(self.grid)}: {names}; {self.bytes / 1e6:.1f} MB)"

    def _repr_html_(self) -> str:
        rows = [("chip", grid_words(self.grid)), *_held(self.bands, self.polarisations)]
        return html_table([*rows, ("reads", f"{self.reads} assets, {self.bytes / 1e6:.1f} MB")])


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
        check_grid(self.grid)
        shape = tuple(int(side) for side in self.grid.shape)
        check_stack("optical", self.optical, self.bands, self.valid_optical, shape)
        check_stack("sar", self.sar, self.polarisations, self.valid_sar, shape)
        check_mask("inside", self.inside, shape)
        if not self.inside.any():
            raise GridMismatch("No pixel of the chip lies inside the AOI.", found=self.aoi.name)
        shared = set(self.bands) & set(self.polarisations)
        if shared:
            raise GridMismatch("A band and a polarisation share a name.", found=str(shared))
        check_radiometry(self)

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
        from earthmind_lab.stack import chip_dataset

        return chip_dataset(self)

    def __repr__(self) -> str:
        names = ", ".join((*self.bands, *self.polarisations))
        return f"Chip({grid_words(self.grid)}: {names})"

    def _repr_html_(self) -> str:
        from earthmind_lab.quicklook import quicklook

        rows = [("chip", grid_words(self.grid))]
        rows += _held(self.bands, self.polarisations)
        rows += [(scene.modality, f"{scene.id}, {scene.observed}") for scene in self.pair.scenes]
        return html_table(rows) + quicklook(self)


@dataclass(frozen=True, kw_only=True, eq=False)
class ChipSeries:
    """Chips on one grid, ordered by time: held, or loaded one by one when they are asked for."""

    chips: tuple[Chip, ...] = ()
    """Held in memory; or empty, and there are `plans`."""
    plans: tuple[LoadPlan, ...] = ()
    """What is loaded on demand, and what that will cost."""
    load: Callable[[LoadPlan], Chip] | None = None
    """Loads the chip of a plan."""

    def __post_init__(self) -> None:
        members = self.chips or self.plans
        if not members or (self.chips and self.plans) or (self.plans and self.load is None):
            raise LoadError(
                "A series is made of chips, or of plans and what loads them.",
                found=f"{len(self.chips)} chips, {len(self.plans)} plans",
            )
        if any(member.grid != self.grid for member in members):
            raise GridMismatch("The chips of a series must share one grid.")

    @property
    def grid(self) -> GeoBox:
        """Of every chip."""
        return (self.chips or self.plans)[0].grid

    @property
    def bytes(self) -> int:
        """Upper estimate of what all loads together read, uncompressed."""
        return sum(plan.bytes for plan in self.plans)

    def __len__(self) -> int:
        return len(self.chips or self.plans)

    @overload
    def __getitem__(self, index: int) -> Chip: ...
    @overload
    def __getitem__(self, index: slice) -> ChipSeries: ...
    def __getitem__(self, index: int | slice) -> Chip | ChipSeries:
        """A chip, or for a slice a series; a chip that isn't held is loaded, each time."""
        if isinstance(index, slice):
            return replace(self, chips=self.chips[index], plans=self.plans[index])
        if self.chips or self.load is None:
            return self.chips[index]
        return self.load(self.plans[index])

    def __iter__(self) -> Iterator[Chip]:
        return (self[index] for index in range(len(self)))

    @property
    def dataset(self) -> xarray.Dataset:
        """As `Chip.dataset` with `time` in front; nothing is read before it is computed."""
        from earthmind_lab.stack import series_dataset

        return series_dataset(self)

    @property
    def _count(self) -> str:
        return f"{len(self)} chip{'s' * (len(self) != 1)} of {grid_words(self.grid)}"

    def __repr__(self) -> str:
        return f"ChipSeries({self._count})"

    def _repr_html_(self) -> str:
        rows = [("series", self._count)]
        members: tuple[Chip | LoadPlan, ...] = self.chips or self.plans
        for number, member in enumerate(members):
            scenes = ", ".join(f"{each.id} {each.observed}" for each in member.pair.scenes)
            rows.append((str(number), scenes))
        return html_table([*rows, ("to read", f"{self.bytes / 1e6:.1f} MB")])


def grid_words(grid: GeoBox) -> str:
    """A grid for people.

    >>> from affine import Affine
    >>> from odc.geo.geobox import GeoBox
    >>> grid_words(GeoBox((50, 100), Affine(10, 0, 600000, 0, -10, 500), "EPSG:32630"))
    '100 x 50 px of 10 m, EPSG:32630'
    """
    from earthmind_lab.grid import gsd_of

    rows, columns = grid.shape
    return f"{columns} x {rows} px of {gsd_of(grid):.4g} m, {grid.crs}"


def _held(bands: Sequence[str], polarisations: Sequence[str]) -> list[tuple[str, str]]:
    return [
        (name, ", ".join(held))
        for name, held in (("bands", bands), ("polarisations", polarisations))
        if held
    ]
