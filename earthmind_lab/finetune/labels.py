"""What is known of the ground of a chip: from a raster of classes, or from polygons with a class.

Each pixel and class is yes, no or unknown (`evaluate.truth.PixelTruth`). Unknown are pixels without
a label, with a code that the legend doesn't have, and where two polygons say different things.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from earthmind_lab.chip import Chip
from earthmind_lab.errors import AssetUnavailable, GridMismatch, LoadError
from earthmind_lab.evaluate.truth import PixelTruth

UNKNOWN = "unknown"
"""Class of a polygon whose ground isn't known."""
COMPLETE = "complete"
"""Class of a polygon within which everything of every class was drawn, be it nothing."""
NO_CLASS = (UNKNOWN, COMPLETE)
"""What a polygon may be called that is no class."""


@runtime_checkable
class Labels(Protocol):
    """Knows classes on the grid of any chip."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the classes, as questions call them: ``water``, ``built-up areas``."""
        ...

    def truth(self, chip: Chip) -> PixelTruth:
        """What is known, (class, H, W), in the order of `names`."""
        ...


@dataclass(frozen=True, eq=False)
class RasterLabels:
    """A class per pixel.

    Args:
        raster: A georeferenced file of codes, or codes (H, W) on the grid of the one chip that is
            labelled.
        legend: Code to name. Several codes may share one; codes that are left out are unknown.

    Example:
        >>> RasterLabels(np.zeros((2, 2)), {1: "water", 2: "trees", 3: "trees"}).names
        ('water', 'trees')
    """

    raster: str | Path | NDArray[Any]
    legend: Mapping[int, str]

    def __post_init__(self) -> None:
        if not self.legend or not all(str(name).strip() for name in self.legend.values()):
            raise LoadError(
                "A legend names each code.",
                found=str(dict(self.legend)),
                change="{1: 'water', 2: 'trees'}",
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Each once, in the order of the legend."""
        return tuple(dict.fromkeys(self.legend.values()))

    def truth(self, chip: Chip) -> PixelTruth:
        """The classes of a chip's pixels.

        Raises:
            AssetUnavailable: The file is missing or can't be read.
            GridMismatch: It has no place on the Earth, or the array isn't on the chip's grid.
        """
        if isinstance(self.raster, np.ndarray):
            if self.raster.shape != chip.inside.shape:
                raise GridMismatch(
                    "The labels don't lie on the grid of the chip.",
                    found=f"labels {self.raster.shape}, chip {chip.inside.shape}",
                    change="an array of the chip's shape, or a georeferenced file",
                )
            codes = self.raster
        else:
            codes = _codes(Path(self.raster), chip)
        which = [[c for c, name in self.legend.items() if name == n] for n in self.names]
        yes = np.stack([np.isin(codes, own) for own in which])
        return PixelTruth(yes=yes, no=yes.any(axis=0) & ~yes)


def _codes(path: Path, chip: Chip) -> NDArray[np.float64]:
    """Codes on the chip's grid, NaN where there are none.

    The nearest code, and of pixels that are much finer than the chip's the most frequent one.
    """
    import rasterio
    from rasterio.errors import RasterioError
    from rasterio.warp import Resampling, reproject

    from earthmind_lab.grid import metres_at, placeless

    if not path.is_file():
        raise AssetUnavailable(f"There is no raster of labels {str(path)!r}.", change="its path")
    codes = np.full(chip.inside.shape, np.nan)
    try:
        with placeless(), rasterio.open(path) as source:
            if source.crs is None or source.transform.is_identity:
                raise GridMismatch(
                    f"The labels {path.name!r} have no place on the Earth.",
                    change="a GeoTIFF with a CRS, or an array on the chip's grid",
                )
            x, y = source.xy(source.height / 2, source.width / 2)
            side = max(metres_at(source.crs, x, y, *map(abs, source.res)))
            finer = side * 2 <= chip.gsd
            reproject(
                rasterio.band(source, 1), codes, dst_transform=chip.grid.affine,
                dst_crs=str(chip.grid.crs), src_nodata=source.nodata, init_dest_nodata=False,
                resampling=Resampling.mode if finer else Resampling.nearest,
            )  # fmt: skip
    except RasterioError as error:
        raise AssetUnavailable(
            f"The labels {path.name!r} can't be read.", found=str(error)
        ) from error
    return codes


@dataclass(frozen=True, kw_only=True, eq=False)
class Area:
    """A polygon that somebody labelled."""

    id: str
    name: str
    """Its class."""
    geometry: BaseGeometry
    """In lon/lat."""


@dataclass(frozen=True, eq=False)
class PolygonLabels:
    """Polygons with a class.

    Args:
        areas: From `read_areas`.
        complete: Whether everything of these classes was drawn, so that ground outside the
            polygons is none of them. Otherwise it is unknown: what isn't drawn isn't absent.
        extra: Further classes to ask about, which the polygons don't have; with `complete` they
            are absent everywhere.

    A polygon of the class `UNKNOWN` is ground that its drawer couldn't tell: it is no class and
    rules none out. Within one of the class `COMPLETE` everything was drawn: what no other polygon
    covers there is none of the classes.
    """

    areas: Sequence[Area]
    complete: bool = False
    extra: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Each class once, in the order of the polygons."""
        named = (area.name for area in self.areas if area.name not in NO_CLASS)
        return tuple(dict.fromkeys((*named, *self.extra)))

    def truth(self, chip: Chip) -> PixelTruth:
        """The classes of a chip's pixels, by their centres."""
        from earthmind_lab.grid import polygons_to_mask

        def mask(name: str) -> NDArray[np.bool_]:
            return polygons_to_mask([a.geometry for a in self.areas if a.name == name], chip.grid)

        every = np.stack([mask(name) for name in self.names])
        once = every.sum(axis=0) == 1  # where two classes lie over each other, neither is sure
        yes = every & once
        no = once & ~yes
        no |= ~every.any(axis=0) & (self.complete | mask(COMPLETE))
        known = ~mask(UNKNOWN)
        return PixelTruth(yes=yes & known, no=no & known)


def read_areas(path: str | Path, column: str = "class") -> list[Area]:
    """Labelled polygons of a GeoJSON or GeoPackage file.

    Args:
        path: The file.
        column: Holds the class of each polygon.

    Raises:
        AssetUnavailable: The file is missing or can't be read.
        LoadError: No CRS, no such column, or a feature without class or area; says which.
    """
    import geopandas
    from shapely import make_valid

    path = Path(path).expanduser()
    if not path.is_file():
        raise AssetUnavailable(f"There is no file of areas {str(path)!r}.", change="its path")
    try:
        frame = geopandas.read_file(path)
    except Exception as error:  # pyogrio's errors share no public base
        raise AssetUnavailable(f"{path.name} can't be read.", found=str(error)) from error
    columns = [str(name) for name in frame.columns if name != "geometry"]
    if column not in columns or not hasattr(frame, "geometry"):
        raise LoadError(
            f"{path.name} has no column {column!r} with the class of each area.",
            found=", ".join(columns) or "no columns",
            change="column=…, one of these",
        )
    if frame.crs is None:
        raise LoadError(f"{path.name} says no CRS.", change="save it with one")
    found = []
    for number, (name, geometry) in enumerate(
        zip(frame[column], frame.to_crs(4326).geometry, strict=True), start=1
    ):
        where = f"{path.name}, area {number} of {len(frame)}"
        if not isinstance(name, str) or not name.strip():
            raise LoadError(f"{where}: it has no class.", found=f"{column} = {name!r}",
                            change="a name such as water")  # fmt: skip
        geometry = None if geometry is None else make_valid(geometry)
        if geometry is None or geometry.is_empty or geometry.area == 0:
            raise LoadError(f"{where}: it has no area.", found=str(geometry)[:80],
                            change="a polygon")  # fmt: skip
        found.append(Area(id=f"{path.stem}-{number}", name=name.strip(), geometry=geometry))
    if all(area.name in NO_CLASS for area in found):
        raise LoadError(f"{path.name} holds no area with a class.", change="draw some")
    return found
