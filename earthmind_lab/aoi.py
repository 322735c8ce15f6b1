"""AOI: a named area of interest in lon/lat, valid from the moment it exists."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from earthmind_lab.errors import AOIError

if TYPE_CHECKING:
    from geopandas import GeoDataFrame
    from odc.geo.geobox import GeoBox
    from shapely.geometry.base import BaseGeometry

AOILike: TypeAlias = (
    "AOI | BaseGeometry | Mapping[str, Any] | str | Path | tuple[float, float, float, float]"
)

MAX_SIDE_DEG = 1.0
"""A side this long is refused: it is a slip of the mouse, or ten thousand pixels at 10 m."""
MIN_AREA_M2 = 1.0
"""Areas under a square metre come from a click that was meant as a drag."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AOI:
    """A named polygon on the Earth.

    >>> aoi = AOI.from_bbox(-0.775, 38.09, -0.745, 38.12, name="Orihuela")
    >>> round(aoi.area_km2, 1)
    8.8
    """

    geometry: BaseGeometry
    """Polygon or MultiPolygon in lon/lat (EPSG:4326), degrees."""
    name: str = "AOI"
    """How the user calls it."""

    def __post_init__(self) -> None:
        _check(self.geometry)

    @classmethod
    def from_bbox(
        cls, west: float, south: float, east: float, north: float, *, name: str = "AOI"
    ) -> AOI:
        """An upright rectangle.

        Args:
            west: Western edge, degrees of longitude.
            south: Southern edge, degrees of latitude.
            east: Eastern edge, degrees of longitude.
            north: Northern edge, degrees of latitude.
            name: How to call it.

        Raises:
            AOIError: Edges are swapped, equal, outside the globe or not numbers.
        """
        from shapely.geometry import box

        asked = f"The bounding box {west:g},{south:g},{east:g},{north:g} (west,south,east,north)"
        if not all(math.isfinite(edge) for edge in (west, south, east, north)):
            raise AOIError(f"{asked} has an edge that is not a number.")
        if west > east:
            turned = f"{east:g},{south:g},{west:g},{north:g}, or " * (west - east <= 180)
            raise AOIError(
                f"{asked} has west > east: swapped, or it crosses the antimeridian.",
                change=f"{turned}one box on each side of 180°",
            )
        if south > north:
            raise AOIError(
                f"{asked} has south > north.", change=f"{west:g},{north:g},{east:g},{south:g}"
            )
        return cls(geometry=box(west, south, east, north), name=name)

    @classmethod
    def from_geojson(
        cls, source: Mapping[str, Any] | str | Path, *, name: str | None = None
    ) -> AOI:
        """A geometry, feature or feature collection.

        Args:
            source: GeoJSON as a mapping, as text, or the path of a file.
            name: How to call it; by default the feature's ``name``.

        Raises:
            AOIError: Not GeoJSON, or no usable polygon in it.
        """
        from shapely.errors import ShapelyError
        from shapely.geometry import shape
        from shapely.ops import unary_union

        data = _read_json(source)
        features = _features(data)
        geometries = [f.get("geometry") if f.get("type") == "Feature" else f for f in features]
        try:
            shapes = [shape(g) for g in geometries if g]
        except (
            ShapelyError, LookupError, TypeError, ValueError, AttributeError, RecursionError,
        ) as error:  # fmt: skip
            raise AOIError("The GeoJSON holds no readable geometry.", found=str(error)) from error
        if not shapes:
            raise AOIError("The GeoJSON holds no geometry.", change="draw one polygon")
        for part in shapes:
            _check(part)
        about = features[0].get("properties")
        found = about.get("name") if isinstance(about, Mapping) else None
        merged = shapes[0] if len(shapes) == 1 else unary_union(shapes)
        return cls(geometry=merged, name=name or str(found or "AOI"))

    @classmethod
    def from_gdf(cls, frame: GeoDataFrame, *, name: str = "AOI") -> AOI:
        """All geometries of a GeoDataFrame, merged.

        Raises:
            AOIError: The frame is empty or says no CRS.
        """
        if frame.empty or frame.geometry.isna().all():
            raise AOIError("The GeoDataFrame holds no geometry.")
        if frame.crs is None:
            raise AOIError(
                "The GeoDataFrame has no CRS, so its coordinates mean nothing.",
                change="frame.set_crs('EPSG:4326') or the CRS it was drawn in",
            )
        return cls(geometry=frame.to_crs(4326).geometry.union_all(), name=name)

    @classmethod
    def from_any(cls, value: AOILike, *, name: str = "AOI") -> AOI:
        """Whatever users hold: an AOI, a box, a geometry, GeoJSON, a vector file, ``"W,S,E,N"``.

        Raises:
            AOIError: It can't be read as an area.
        """
        if isinstance(value, AOI):
            return value
        if isinstance(value, tuple | list):
            return _from_numbers(value, name)
        if hasattr(value, "geom_type"):
            return cls(geometry=value, name=name)
        if isinstance(value, Mapping):
            return cls.from_geojson(value)
        return _from_text(value, name)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(west, south, east, north) in degrees."""
        west, south, east, north = self.geometry.bounds
        return west, south, east, north

    @property
    def area_km2(self) -> float:
        """Geodesic area of the polygon on WGS 84."""
        return _geodesic_area_m2(self.geometry) / 1e6

    def grid(self, gsd: float = 10.0) -> GeoBox:
        """The grid for this AOI where no optical scene gives one.

        Args:
            gsd: Pixel size in metres; 10 is Sentinel-1/-2's own.

        Returns:
            Rows and columns in the UTM zone of the centroid (polar stereographic
            beyond 84° N and 80° S), edges on multiples of `gsd`.
        """
        from earthmind_lab.grid import grid_for

        return grid_for(self.geometry, gsd)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for records."""
        from shapely.geometry import mapping

        return {"name": self.name, "geometry": mapping(self.geometry)}

    def _repr_html_(self) -> str:
        west, south, east, north = self.bounds
        box = f"{west:.4f}, {south:.4f}, {east:.4f}, {north:.4f}"
        return f"<b>{escape(self.name)}</b> {self.area_km2:.2f} km² [{box}]"


def _check(geometry: BaseGeometry) -> None:
    """Refuse what can't be an area of interest, with the next step."""
    if geometry is None or geometry.is_empty:
        raise AOIError("The AOI is empty.", change="draw a polygon or pass a bounding box")
    if geometry.geom_type not in ("Polygon", "MultiPolygon"):
        raise AOIError("The AOI has no area.", found=geometry.geom_type, change="draw a polygon")
    flat = "The AOI has no area."
    if 0.0 in (geometry.bounds[2] - geometry.bounds[0], geometry.bounds[3] - geometry.bounds[1]):
        # GEOS calls a rectangle without width self-crossing, which helps nobody.
        raise AOIError(flat, change="drag a rectangle instead of clicking")
    if not geometry.is_valid:
        from shapely.validation import explain_validity

        raise AOIError(
            "The AOI crosses itself.",
            found=explain_validity(geometry),
            change="draw it again, or pass shapely.make_valid(geometry)",
        )
    west, south, east, north = geometry.bounds
    if west < -180 or east > 180 or south < -90 or north > 90:
        raise AOIError(
            "The AOI leaves the range of lon/lat in degrees, or crosses the antimeridian.",
            found=f"bounds {west:g},{south:g},{east:g},{north:g}",
            change="longitudes in -180..180 and latitudes in -90..90, one polygon per side of 180°",
        )
    if east - west > 180:
        raise AOIError(
            "The AOI spans more than half the globe: it most likely crosses the antimeridian.",
            found=f"longitudes {west:g} to {east:g}",
            change="one polygon on each side of 180°, asked separately",
        )
    # Rounded: 11.3 - 10.3 is a little less than 1.
    if round(max(east - west, north - south), 9) >= MAX_SIDE_DEG:
        raise AOIError(
            f"The AOI is too large: every side must be shorter than {MAX_SIDE_DEG:g} degree.",
            found=f"{east - west:.3g}° x {north - south:.3g}°",
            change="a smaller area, or several of them one by one; or longitude before latitude, "
            "in degrees",
        )
    if _geodesic_area_m2(geometry) < MIN_AREA_M2:
        raise AOIError(flat, change="drag a rectangle instead of clicking")


def _geodesic_area_m2(geometry: BaseGeometry) -> float:
    import shapely
    from pyproj import Geod

    # pyproj adds up signed areas: a hole that turns like its outline would count twice.
    geometry = shapely.orient_polygons(geometry)
    area, _ = Geod(ellps="WGS84").geometry_area_perimeter(geometry)
    return abs(float(area))


def _from_numbers(value: Any, name: str) -> AOI:
    if len(value) != 4:
        raise AOIError("A bounding box has four numbers.", found=f"{len(value)} values")
    try:
        west, south, east, north = (float(edge) for edge in value)
    except (TypeError, ValueError) as error:
        raise AOIError("A bounding box has four numbers.", found=repr(value)) from error
    return AOI.from_bbox(west, south, east, north, name=name)


def _from_text(value: str | Path, name: str) -> AOI:
    text = str(value).strip()
    if text.startswith("{"):
        return AOI.from_geojson(text)
    if "," in text and Path(text).suffix.lower() not in (".gpkg", ".geojson", ".json", ".kml"):
        return _from_numbers(text.split(","), name)
    path = _file(text)
    if path is None:
        raise AOIError(
            f"The AOI {_short(text)!r} is neither a bounding box nor a file.",
            change="W,S,E,N in degrees, or a GeoJSON or GeoPackage file",
        )
    if path.suffix.lower() in (".geojson", ".json"):
        return AOI.from_geojson(path)
    import geopandas

    try:
        frame = geopandas.read_file(path)
    except Exception as error:  # pyogrio's errors share no public base
        raise AOIError(f"The file {path.name!r} can't be read.", found=str(error)) from error
    if not hasattr(frame, "geometry"):  # a table without geometry comes as a plain one
        raise AOIError(f"The file {path.name!r} holds no geometry.", change="draw one polygon")
    return AOI.from_gdf(frame, name=path.stem)


def _file(text: str) -> Path | None:
    """The file that a text names; None where there is none, whatever the text is."""
    try:
        path = Path(text).expanduser()
        return path if path.is_file() else None
    except (OSError, ValueError, RuntimeError):  # too long for a name; a user who does not exist
        return None


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."


def _features(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The features of a collection, or the one object itself.

    Raises:
        AOIError: The collection holds no list of objects, or an empty one.
    """
    if data.get("type") != "FeatureCollection":
        return [data]
    features = data.get("features")
    if not isinstance(features, list | tuple):
        raise AOIError(
            "The GeoJSON holds no list of features.", found=f"features: {_short(repr(features))}"
        )
    odd = [feature for feature in features if not isinstance(feature, Mapping)]
    if odd:
        raise AOIError("A feature of the GeoJSON is no object.", found=_short(repr(odd[0])))
    if not features:
        raise AOIError("The GeoJSON holds no geometry.", change="draw one polygon")
    return list(features)


def _read_json(source: Mapping[str, Any] | str | Path) -> dict[str, Any]:
    if isinstance(source, Mapping):
        return dict(source)
    text = str(source)
    try:
        if isinstance(source, Path) or not text.lstrip().startswith("{"):
            text = Path(source).expanduser().read_text(encoding="utf-8")
        data = json.loads(text)
    except (OSError, ValueError, RuntimeError) as error:  # RecursionError is a RuntimeError
        found = _short(f"{type(error).__name__}: {error}")
        raise AOIError("The AOI can't be read as GeoJSON.", found=found) from error
    if not isinstance(data, dict):
        raise AOIError("The AOI can't be read as GeoJSON.", found=type(data).__name__)
    return data
