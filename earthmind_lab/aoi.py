"""AOI: a named area of interest in lon/lat, valid from the moment it exists."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from earthmind_lab.errors import AOIError

if TYPE_CHECKING:
    from geopandas import GeoDataFrame
    from odc.geo.geobox import GeoBox
    from shapely.geometry.base import BaseGeometry

    from earthmind_lab.vector_features import VectorFeature

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
    def from_center(cls, lon: float, lat: float, km: float, *, name: str = "AOI") -> AOI:
        """An upright square around a point.

        Args:
            lon: Longitude of the centre, degrees.
            lat: Latitude of the centre, degrees.
            km: Side, kilometres on the ground.
            name: How to call it.

        Raises:
            AOIError: It is none on this globe, or too large.
        """
        from pyproj import Geod

        if not (abs(lat) <= 90 and abs(lon) <= 180 and 0 < km <= 120):  # a degree is 111 km
            raise AOIError(
                f"There is no AOI of {km:g} km around latitude {lat:g}, longitude {lon:g}.",
                change="degrees in -90..90 and -180..180, and a side of 0 to 110 km",
            )
        ends = [Geod(ellps="WGS84").fwd(lon, lat, at, 500 * km) for at in (270, 180, 90, 0)]
        return cls.from_bbox(ends[0][0], ends[1][1], ends[2][0], ends[3][1], name=name)

    @classmethod
    def from_geojson(
        cls, source: Mapping[str, Any] | str | Path, *, name: str | None = None
    ) -> AOI:
        """A geometry, feature or feature collection.

        Args:
            source: GeoJSON as a mapping, as text, or the path of a file.
            name: How to call it; by default the feature's ``name``.

        Raises:
            AOIError: Not GeoJSON, no usable polygon in it, or several areas far apart.
        """
        from earthmind_lab.vector_files import geojson_features, geojson_of

        features = geojson_features(geojson_of(source))
        return _merged(features, name=name or features[0].name or "AOI")

    @classmethod
    def from_gdf(cls, frame: GeoDataFrame, *, name: str = "AOI") -> AOI:
        """All geometries of a GeoDataFrame, merged.

        Raises:
            AOIError: The frame is empty, says no CRS, or holds several areas far apart.
        """
        if frame.empty or frame.geometry.isna().all():
            raise AOIError("The GeoDataFrame holds no geometry.")
        if frame.crs is None:
            raise AOIError(
                "The GeoDataFrame has no CRS, so its coordinates mean nothing.",
                change="frame.set_crs('EPSG:4326') or the CRS it was drawn in",
            )
        from earthmind_lab.vector_features import VectorFeature

        shapes = [each for each in frame.to_crs(4326).geometry if each is not None]
        return _merged([VectorFeature(name=None, geometry=each) for each in shapes], name=name)

    @classmethod
    def many_from_file(
        cls,
        source: str | Path | bytes,
        *,
        filename: str | None = None,
        layer: str | None = None,
        skip: bool = False,
    ) -> tuple[AOI, ...]:
        """Every feature of a vector file as an AOI of its own.

        Args:
            source: A file, or its content: GeoJSON, GeoPackage, KML, KMZ or a zipped shapefile.
            filename: What the content was called: the ending says the format.
            layer: Which of several.
            skip: Leave out features that make no AOI (points, lines, whole countries).

        Returns:
            In the file's order, at least one; named by the attribute ``name`` or ``title``, else
            by the file and a number.

        Raises:
            AOIError: It can't be read, has several layers of which none is named, or holds a
                feature that makes no AOI.

        >>> import json
        >>> square = AOI.from_bbox(0, 0, 0.1, 0.1).to_dict()["geometry"]
        >>> text = json.dumps({"type": "Feature", "geometry": square, "properties": {}})
        >>> AOI.many_from_file(text.encode(), filename="field.geojson")[0].name
        'field'
        """
        from earthmind_lab.vector_features import names_for
        from earthmind_lab.vector_files import features_of

        content, filename = _opened(source, filename)
        features = features_of(content, filename, layer)
        found, refused = [], []
        for name, feature in zip(names_for(features, filename), features, strict=True):
            try:
                found.append(cls(geometry=feature.geometry, name=name))
            except AOIError as error:
                if not skip:
                    raise AOIError(
                        f"{name!r} of {_short(filename)!r} makes no AOI. {error.asked}",
                        found=error.found, change=f"{error.change or 'mend it'}; or skip=True",
                    ) from error  # fmt: skip
                refused.append(error)
        if not found:
            raise refused[0]
        return tuple(found)

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


def _merged(features: Sequence[VectorFeature], *, name: str) -> AOI:
    """One AOI of all features.

    Raises:
        AOIError: One makes no AOI, or together they are too large for one.
    """
    from shapely import union_all

    if len(features) == 1:
        return AOI(geometry=features[0].geometry, name=name)
    for feature in features:
        _check(feature.geometry)
    merged = union_all([feature.geometry for feature in features])
    if _side(merged) >= MAX_SIDE_DEG:
        said = [repr(each.name) for each in features if each.name]
        raise AOIError(
            "These are several areas far apart: choose.",
            found=_short(f"{len(features)} areas" + (": " + ", ".join(said) if said else "")),
            change="one of them, or all by AOI.many_from_file(...)",
        )
    return AOI(geometry=merged, name=name)


def _side(geometry: BaseGeometry) -> float:
    """The longer side of the bounds, degrees."""
    west, south, east, north = geometry.bounds
    return float(round(max(east - west, north - south), 9))  # 11.3 - 10.3 is a little less than 1


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
    if _side(geometry) >= MAX_SIDE_DEG:
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
    path = _file(text)
    if path is None and "," in text:
        return _from_numbers(text.split(","), name)
    if path is None:
        raise AOIError(
            f"The AOI {_short(text)!r} is neither a bounding box nor a file.",
            change="W,S,E,N in degrees, or a GeoJSON, GeoPackage or KML file",
        )
    from earthmind_lab.vector_files import FORMATS, features_of

    if path.suffix.lower() in FORMATS:
        features = features_of(path, path.name)
        own = features[0].name if len(features) == 1 else None
        return _merged(features, name=own or path.stem)
    import geopandas

    try:
        frame = geopandas.read_file(path)
    except Exception as error:  # pyogrio's errors share no public base
        raise AOIError(f"The file {path.name!r} can't be read.", found=str(error)) from error
    if not hasattr(frame, "geometry"):  # a table without geometry comes as a plain one
        raise AOIError(f"The file {path.name!r} holds no geometry.", change="draw one polygon")
    return AOI.from_gdf(frame, name=path.stem)


def _opened(source: str | Path | bytes, filename: str | None) -> tuple[Path | bytes, str]:
    """A file or its content, and what it is called."""
    if isinstance(source, bytes):
        if filename is None:
            raise AOIError(
                "The content of a file alone doesn't say its format.", change="filename='a.kml'"
            )
        return source, filename
    path = _file(str(source))
    if path is None:
        raise AOIError(f"There is no file {_short(str(source))!r}.", change="the path of a file")
    return path, filename or path.name


def _file(text: str) -> Path | None:
    """The file that a text names; None where there is none, whatever the text is."""
    try:
        path = Path(text).expanduser()
        return path if path.is_file() else None
    except (OSError, ValueError, RuntimeError):  # too long for a name; a user who does not exist
        return None


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
