"""Grids: building and snapping them, masks to polygons and back, geodesic areas.

A grid is an `odc.geo.geobox.GeoBox`: shape, affine and CRS. Polygons are in lon/lat
(EPSG:4326) on the outside of this module and in the grid's CRS on the inside. Straight edges
are cut into short pieces before they change CRS: a line that is straight in one CRS bends in
the other.
"""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.errors import GridMismatch, LoadError

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from pyproj import Transformer
    from shapely.geometry import MultiPolygon, Polygon
    from shapely.geometry.base import BaseGeometry

LONLAT = "EPSG:4326"
EDGE_TOLERANCE_PX = 1e-3
"""An AOI drawn along pixel edges comes back from lon/lat with an error far below this; without
it the cut would gain an empty row."""
SEGMENT_PX = 64
"""Pixel edges are cut into pieces of at most this many pixels before they become lon/lat:
the bend that remains is under a hundredth of a pixel at 10 m."""
SCALE_NODES = 33
"""The areal scale of a projection bends so slowly that a mesh of this many nodes per side is
exact to 1e-7 over a chip."""
_FILTERS = threading.Lock()
"""Python's filters of warnings are one for all threads."""


def grid_for(geometry: BaseGeometry, gsd: float) -> GeoBox:
    """The grid of an area where no optical scene gives one.

    Args:
        geometry: Area in lon/lat.
        gsd: Pixel size in metres.

    Returns:
        Rows and columns in the UTM zone of the centroid (EPSG:3413 beyond 84° N, EPSG:3031
        beyond 80° S), edges on multiples of `gsd`, every touched pixel included.

    Raises:
        LoadError: `gsd` is not a positive number.
    """
    from affine import Affine
    from odc.geo.geobox import GeoBox

    if not (math.isfinite(gsd) and gsd > 0):
        raise LoadError(f"A GSD of {gsd} m makes no grid.", change="a positive number of metres")
    crs = metric_crs(geometry.centroid.x, geometry.centroid.y)
    west, south, east, north = _to_crs(geometry, crs).bounds
    col0, col1 = _span(west / gsd, east / gsd)
    row0, row1 = _span(-north / gsd, -south / gsd)
    affine = Affine(gsd, 0.0, col0 * gsd, 0.0, -gsd, -row0 * gsd)
    return GeoBox((row1 - row0, col1 - col0), affine, crs)


def metric_crs(lon: float, lat: float) -> str:
    """EPSG code of the UTM zone of a point, or of the polar stereographic CRS beyond UTM.

    >>> metric_crs(-0.76, 38.1), metric_crs(20.0, 85.0)
    ('EPSG:32630', 'EPSG:3413')
    """
    if lat > 84:
        return "EPSG:3413"
    if lat < -80:
        return "EPSG:3031"
    zone = min(60, int((lon + 180) // 6) + 1)
    return f"EPSG:{(32600 if lat >= 0 else 32700) + zone}"


def snap_to(scene_grid: GeoBox, geometry: BaseGeometry) -> GeoBox:
    """The cut of a scene's own lattice that covers an area.

    The cut is not limited to the scene: where the area leaves it, the chip has nodata there
    and keeps the size that was asked for.

    Args:
        scene_grid: Grid of the scene, upright (no rotation).
        geometry: Area in lon/lat.

    Raises:
        GridMismatch: The scene's grid is rotated.
    """
    from affine import Affine
    from odc.geo.geobox import GeoBox

    affine = scene_grid.affine
    if affine.b or affine.d:
        raise GridMismatch("A rotated grid can't be cut along rows.", found=str(affine))
    west, south, east, north = _to_crs(geometry, str(scene_grid.crs)).bounds
    columns = sorted(((west - affine.c) / affine.a, (east - affine.c) / affine.a))
    rows = sorted(((north - affine.f) / affine.e, (south - affine.f) / affine.e))
    col0, col1 = _span(*columns)
    row0, row1 = _span(*rows)
    cut = Affine(
        affine.a, 0.0, affine.c + col0 * affine.a, 0.0, affine.e, affine.f + row0 * affine.e
    )
    return GeoBox((row1 - row0, col1 - col0), cut, scene_grid.crs)


def grid_data(grid: GeoBox) -> dict[str, Any]:
    """A grid as plain data: shape, affine and CRS."""
    rows, columns = grid.shape
    affine = [float(value) for value in tuple(grid.affine)[:6]]
    return {"shape": [int(rows), int(columns)], "affine": affine, "crs": str(grid.crs)}


def grid_of(data: Mapping[str, Any]) -> GeoBox:
    """The grid that `grid_data` wrote."""
    from affine import Affine
    from odc.geo.geobox import GeoBox

    rows, columns = (int(side) for side in data["shape"])
    return GeoBox((rows, columns), Affine(*map(float, data["affine"])), str(data["crs"]))


def gsd_of(grid: GeoBox) -> float:
    """Metres per pixel, the larger side; for a degree grid, at its centre."""
    affine = grid.affine
    rows, columns = grid.shape
    x, y = affine @ (columns / 2, rows / 2)
    across, down = math.hypot(affine.a, affine.d), math.hypot(affine.b, affine.e)
    return max(metres_at(_crs(grid), x, y, across, down))


def metres_at(crs: Any, x: float, y: float, across: float, down: float) -> tuple[float, float]:
    """Width and height in metres of a pixel centred on a point.

    Args:
        crs: Anything that names a CRS.
        x: Easting or longitude of the point, in units of the CRS.
        y: Northing or latitude of the point.
        across: Width in units of the CRS.
        down: Height in units of the CRS.
    """
    crs = _pyproj_crs(str(crs))
    if not crs.is_geographic:
        unit = float(crs.axis_info[0].unit_conversion_factor)
        return across * unit, down * unit
    geod = crs.get_geod()
    _, _, east = geod.inv(x - across / 2, y, x + across / 2, y)
    _, _, north = geod.inv(x, y - down / 2, x, y + down / 2)
    return float(east), float(north)


def move_points(
    x: NDArray[np.float64], y: NDArray[np.float64], source: str, target: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points in another CRS; infinite where it has no place for them.

    Args:
        x: Eastings or longitudes, any shape.
        y: Northings or latitudes, same shape.
        source: Names the CRS they are in.
        target: Names the CRS they shall be in.
    """
    moved_x, moved_y = _transformer(source, target).transform(x, y)
    return moved_x, moved_y


@contextmanager
def placeless() -> Iterator[None]:
    """Around calls of rasterio that warn of rasters without a place, one thread at a time.

    Where a place matters it is told from the CRS. rasterio hushes itself, too, when it warps,
    rasterises or outlines an array: two threads that do so at once take each other's filters away.
    """
    from rasterio.errors import NotGeoreferencedWarning

    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def inside_mask(grid: GeoBox, geometry: BaseGeometry) -> NDArray[np.bool_]:
    """Which pixels have their centre inside an area.

    Args:
        grid: Grid of the result.
        geometry: Area in lon/lat.

    Returns:
        (y, x) bool.
    """
    return polygons_to_mask(geometry, grid)


def polygons_to_mask(
    geometry: BaseGeometry | Sequence[BaseGeometry], grid: GeoBox
) -> NDArray[np.bool_]:
    """Pixels whose centre lies inside any of the areas.

    Args:
        geometry: One area in lon/lat, or several.
        grid: Grid of the result.

    Returns:
        (y, x) bool.
    """
    from rasterio.features import geometry_mask

    parts = list(geometry) if isinstance(geometry, Sequence) else [geometry]
    shape = (int(grid.shape[0]), int(grid.shape[1]))
    projected = [_to_crs(part, str(grid.crs)) for part in parts if not part.is_empty]
    if not projected:
        return np.zeros(shape, dtype=bool)
    with placeless():
        outside = geometry_mask(projected, out_shape=shape, transform=grid.affine)
    return np.asarray(~outside, dtype=bool)


def mask_to_polygons(
    mask: NDArray[np.bool_], grid: GeoBox, *, clip: BaseGeometry | None = None
) -> list[Polygon | MultiPolygon]:
    """Connected objects of a mask as outlines along pixel edges.

    Pixels that meet only at a corner belong to one object (8-connectivity): a thin diagonal
    river stays one river. Such an object is a MultiPolygon, because two rings that touch in
    a point are no valid polygon.

    Args:
        mask: (y, x) bool.
        grid: Grid of the mask.
        clip: Area in lon/lat that the objects are cut to; None = not cut.

    Returns:
        One geometry in lon/lat per object, from north to south.

    Raises:
        GridMismatch: The mask doesn't lie on the grid.
    """
    from rasterio.features import shapes
    from shapely import make_valid
    from shapely.geometry import shape

    _check_shape(mask, grid)
    mask = np.asarray(mask, dtype=bool)
    with placeless():
        found = list(shapes(mask.astype(np.uint8), mask, connectivity=8, transform=grid.affine))
    step = SEGMENT_PX * max(abs(grid.affine.a), abs(grid.affine.e))
    result: list[Polygon | MultiPolygon] = []
    for outline, _ in found:
        outline = make_valid(shape(outline)).segmentize(step)
        lonlat = _transform(outline, str(grid.crs), LONLAT)
        if clip is not None:
            lonlat = lonlat.intersection(clip)
        area = _only_area(lonlat)
        if area is not None:
            result.append(area)
    return result


def mask_area_m2(mask: NDArray[np.bool_], grid: GeoBox) -> float:
    """Mapped area: the geodesic area of the pixels of a mask, in m².

    Args:
        mask: (y, x) bool.
        grid: Grid of the mask.

    Raises:
        GridMismatch: The mask doesn't lie on the grid.
    """
    _check_shape(mask, grid)
    areas = pixel_areas(grid)
    mask = np.asarray(mask, dtype=bool)
    return float((mask.sum(axis=1) * areas).sum() if areas.ndim == 1 else areas[mask].sum())


def pixel_areas(grid: GeoBox) -> NDArray[np.float64]:
    """Geodesic area of each pixel in m²: (y,) for a degree grid, else (y, x)."""
    crs = _crs(grid)
    if crs.is_geographic and not (grid.affine.b or grid.affine.d):
        return _degree_areas(grid)
    rows, columns = grid.shape
    flat = abs(grid.affine.determinant) * _metres_per_unit(grid) ** 2
    y, x = np.arange(rows) + 0.5, np.arange(columns) + 0.5
    nodes_y, nodes_x = np.linspace(0, rows, SCALE_NODES), np.linspace(0, columns, SCALE_NODES)
    scale = _areal_scale(grid, nodes_y, nodes_x)
    across = np.stack([np.interp(x, nodes_x, row) for row in scale])  # (node, x)
    full = np.stack([np.interp(y, nodes_y, column) for column in across.T], axis=1)  # (y, x)
    return np.asarray(flat / full, dtype=np.float64)


def _span(low: float, high: float) -> tuple[int, int]:
    """Whole pixels that cover low..high, at least one."""
    first = math.floor(low + EDGE_TOLERANCE_PX)
    return first, max(first + 1, math.ceil(high - EDGE_TOLERANCE_PX))


def _to_crs(geometry: BaseGeometry, crs: str) -> BaseGeometry:
    """A lon/lat geometry in `crs`, its edges bent as they really run."""
    west, south, east, north = geometry.bounds
    step = max(east - west, north - south) / 64
    return _transform(geometry.segmentize(step) if step > 0 else geometry, LONLAT, crs)


def _transform(geometry: BaseGeometry, source: str, target: str) -> BaseGeometry:
    from shapely import transform

    if source == target:
        return geometry
    change = _transformer(source, target)

    def move(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack(change.transform(points[:, 0], points[:, 1]), axis=1)

    return transform(geometry, move)


@lru_cache(maxsize=64)
def _transformer(source: str, target: str) -> Transformer:
    from pyproj import Transformer

    return Transformer.from_crs(source, target, always_xy=True)


def _only_area(geometry: BaseGeometry) -> Polygon | MultiPolygon | None:
    """The polygons of a geometry: a cut also leaves lines and points behind."""
    from shapely import get_parts, make_valid
    from shapely.geometry import MultiPolygon

    parts = [geometry] if geometry.geom_type == "Polygon" else list(get_parts(geometry))
    flat = [p for part in parts for p in get_parts(make_valid(part))]
    polygons = [part for part in flat if part.geom_type == "Polygon" and part.area > 0]
    if len(polygons) > 1:
        return MultiPolygon(polygons)
    return polygons[0] if polygons else None


def _check_shape(mask: NDArray[np.bool_], grid: GeoBox) -> None:
    if tuple(mask.shape) != tuple(grid.shape):
        raise GridMismatch(
            "The mask does not lie on the grid.",
            found=f"mask {tuple(mask.shape)}, grid {tuple(grid.shape)}",
        )


def _crs(grid: GeoBox) -> Any:
    if grid.crs is None:
        raise GridMismatch("The grid has no CRS, so it has no place and no metres.")
    return _pyproj_crs(str(grid.crs))


@lru_cache(maxsize=64)
def _pyproj_crs(name: str) -> Any:
    from pyproj import CRS

    return CRS.from_user_input(name)


def _metres_per_unit(grid: GeoBox) -> float:
    return float(_crs(grid).axis_info[0].unit_conversion_factor)


def _areal_scale(
    grid: GeoBox, rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How much larger than on the ellipsoid areas are drawn, at row/column nodes."""
    from pyproj import Proj

    x, y = np.meshgrid(columns, rows)
    a = grid.affine
    points = a.a * x + a.b * y + a.c, a.d * x + a.e * y + a.f
    crs = _crs(grid)
    lon, lat = _transformer(str(grid.crs), LONLAT).transform(*points)
    factors = Proj(crs).get_factors(lon.ravel(), lat.ravel(), radians=False)
    return np.asarray(factors.areal_scale, dtype=np.float64).reshape(x.shape)


def _degree_areas(grid: GeoBox) -> NDArray[np.float64]:
    """Exact areas between parallels and meridians on the CRS's ellipsoid, (y,)."""
    ellipsoid = _crs(grid).ellipsoid
    a, b = ellipsoid.semi_major_metre, ellipsoid.semi_minor_metre
    e = math.sqrt(1 - (b / a) ** 2)
    edges = grid.affine.f + grid.affine.e * np.arange(int(grid.shape[0]) + 1)
    sine = np.sin(np.radians(np.clip(edges, -90, 90)))
    flat = sine if e == 0 else sine / (1 - (e * sine) ** 2) / 2 + np.arctanh(e * sine) / (2 * e)
    zone = b * b * (flat if e else sine)  # m² per radian of longitude, equator to the edge
    areas = np.abs(np.diff(zone)) * math.radians(abs(grid.affine.a))
    return np.asarray(areas, dtype=np.float64)
