"""What a raster file of the user's own says about itself, read once: place, bands, numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.aoi import AOI
from earthmind_lab.data.assets import AssetRef
from earthmind_lab.data.files import Reader
from earthmind_lab.data.items import resolve_href
from earthmind_lab.errors import AssetUnavailable, GridMismatch, LoadError, NotTerrainCorrected
from earthmind_lab.grid import LONLAT

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from rasterio.io import DatasetReader
    from shapely.geometry.base import BaseGeometry

OUTLINE_PX = 16
"""An outline gets a point every so many pixels: what it bends between them, seen from lon/lat,
stays far under a thousandth of a pixel."""


@dataclass(frozen=True, kw_only=True)
class FileBand:
    """One band of a file, as the file describes it."""

    number: int
    """In the file, from 1."""
    description: str
    """Name in the file; empty where it has none."""
    unit: str
    """Empty where the file declares none."""
    dtype: str
    scaling: tuple[float, float] | None
    """(scale, offset); None where the file declares none."""

    def __str__(self) -> str:
        about = repr(self.description) if self.description else "without a name"
        return f"{self.number} {about}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Header:
    """One file."""

    href: str
    """Absolute path or address."""
    bands: tuple[FileBand, ...]
    grid: GeoBox
    acquired: str | None
    """Acquisition time that the file's metadata give; the date of the file itself is none."""

    @property
    def name(self) -> str:
        """For messages and ids."""
        return _name(self.href)

    @property
    def listed(self) -> str:
        """The bands, for messages."""
        return ", ".join(map(str, self.bands))


def absolute(path: str | Path) -> str:
    """The absolute path of a file, or its address.

    Raises:
        AssetUnavailable: Neither a file nor http(s) or s3.
    """
    text = str(path)
    return resolve_href(text if "://" in text else str(Path(text).expanduser()), Path.cwd() / "x")


def read_header(href: str, modality: str, reader: Reader) -> Header:
    """Open a file and read what it says; no pixels.

    Args:
        href: Absolute path or address.
        modality: ``optical`` or ``sar``, for messages.
        reader: Opens it.

    Raises:
        AssetUnavailable: It can't be read.
        GridMismatch: It has no place on the Earth.
        NotTerrainCorrected: SAR with ground control points only.
    """
    name = _name(href)
    ref = AssetRef(
        item={"id": name}, key=modality, asset={}, href=href, listed=None, band=modality, fields={}
    )
    try:
        with reader.open(ref) as raster:
            source = raster.source
            return Header(
                href=href, bands=_bands(source), grid=_grid(source, name, modality),
                acquired=_acquired(source),
            )  # fmt: skip
    except AssetUnavailable as error:
        if "://" in href:
            raise
        if not Path(href).is_file():
            raise AssetUnavailable(f"There is no file {href}.", change="its path") from error
        if not Path(href).stat().st_size:
            raise
        raise AssetUnavailable(
            f"The file {name} can't be read.",
            found=error.found,
            change="a GeoTIFF, JPEG 2000, PNG or JPEG; other formats opened with xarray: "
            f"open_chip({modality}=xarray.open_dataset(…))",
        ) from error


def outline(grid: GeoBox) -> BaseGeometry:
    """The outline of a grid in lon/lat, its edges bent as they really run."""
    import shapely
    from pyproj import Transformer

    a, (height, width) = grid.affine, grid.shape
    corners = [a @ corner for corner in ((0, 0), (0, height), (width, height), (width, 0))]
    step = OUTLINE_PX * max(math.hypot(a.a, a.d), math.hypot(a.b, a.e))
    change = Transformer.from_crs(str(grid.crs), LONLAT, always_xy=True)

    def move(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack(change.transform(points[:, 0], points[:, 1]), axis=1)

    return shapely.transform(shapely.Polygon(corners).segmentize(step), move)


def overlap(shapes: Sequence[BaseGeometry]) -> BaseGeometry:
    """What all shapes cover; shared corners and edges left out."""
    import shapely

    if len(shapes) == 1:
        return shapes[0]
    met = shapely.intersection_all(shapes)
    return shapely.union_all([part for part in shapely.get_parts(met) if part.area > 0])


def outside(name: str, shape: BaseGeometry, aoi: AOI) -> LoadError:
    """The error for a file that an AOI lies outside of, with both bounds."""
    return LoadError(
        f"The {name} does not reach the AOI {aoi.name!r}.",
        found=f"{box_text(shape.bounds)}, AOI {box_text(aoi.bounds)}",
        change="an aoi= inside it",
    )


def box_text(bounds: Sequence[float]) -> str:
    """West, south, east, north for messages."""
    return ",".join(f"{edge:.4f}" for edge in bounds)


def _name(href: str) -> str:
    """The end of a path; of an address without its query, where signatures live."""
    return PurePosixPath(urlsplit(href).path if "://" in href else href).name


def _bands(source: DatasetReader) -> tuple[FileBand, ...]:
    tagged = str(source.tags().get("unit") or "")  # as `save_chip` writes it
    return tuple(
        FileBand(
            number=number,
            description=(source.descriptions[number - 1] or "").strip(),
            unit=source.units[number - 1] or tagged,
            dtype=source.dtypes[number - 1],
            scaling=_declared((source.scales[number - 1], source.offsets[number - 1])),
        )
        for number in source.indexes
    )


def _declared(scaling: tuple[float, float]) -> tuple[float, float] | None:
    # GDAL says (1, 0) where the file says nothing.
    return None if scaling == (1.0, 0.0) else scaling


def _grid(source: DatasetReader, name: str, modality: str) -> GeoBox:
    from odc.geo.geobox import GeoBox

    if source.crs is None and source.gcps[0] and modality == "sar":
        raise NotTerrainCorrected(
            f"The file {name} is in radar geometry, not on the map.",
            found="only ground control points",
            change="a terrain-corrected file: SNAP's Range-Doppler Terrain Correction writes one",
        )
    if source.crs is None or source.transform.is_identity:
        where = "only ground control points" if source.gcps[0] else "no CRS"
        raise GridMismatch(
            f"The file {name} has no place on the Earth.",
            found="a CRS without a transform" if source.crs is not None else where,
            change="a georeferenced file; a plain picture goes to em.ask('picture.png', …)",
        )
    return GeoBox.from_rio(source)


def _acquired(source: DatasetReader) -> str | None:
    """GDAL's IMAGERY domain; TIFFTAG_DATETIME is when the file was written."""
    tags: dict[str, Any] = source.tags(ns="IMAGERY")
    return tags.get("ACQUISITIONDATETIME") or None
