"""Grids: where pixels lie, what they measure, and masks to polygons and back."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Geod, Transformer
from shapely.geometry import Polygon, box
from shapely.ops import unary_union

from earthmind_lab.aoi import AOI
from earthmind_lab.errors import GridMismatch, LoadError
from earthmind_lab.grid import (
    grid_for,
    gsd_of,
    inside_mask,
    mask_area_m2,
    mask_to_polygons,
    metric_crs,
    pixel_areas,
    polygons_to_mask,
    snap_to,
)

SPAIN = box(-0.775, 38.09, -0.745, 38.12)
UTM = GeoBox((40, 60), Affine(10, 0, 617301.82, 0, -10, 9625098.23), "EPSG:32736")
DEGREES = GeoBox((40, 60), Affine(1e-4, 0, -0.775, 0, -1e-4, 38.12), "EPSG:4326")
ARCTIC = GeoBox((40, 60), Affine(10, 0, 500000, 0, -10, -300000), "EPSG:3413")
GRIDS = (UTM, DEGREES, ARCTIC)


def geodesic(geometry) -> float:
    return abs(Geod(ellps="WGS84").geometry_area_perimeter(geometry)[0])


def outline(grid: GeoBox, x0: float, y0: float, x1: float, y1: float):
    """A rectangle in pixels as lon/lat."""
    (west, north), (east, south) = grid.affine @ (x0, y0), grid.affine @ (x1, y1)
    corners = [(west, north), (east, north), (east, south), (west, south)]
    return to_lonlat(Polygon(corners), grid)


def to_lonlat(polygon: Polygon, grid: GeoBox) -> Polygon:
    change = Transformer.from_crs(str(grid.crs), "EPSG:4326", always_xy=True)
    return shapely.transform(polygon, change.transform, interleaved=False)


def extent(grid: GeoBox) -> Polygon:
    rows, columns = grid.shape
    return outline(grid, 0, 0, columns, rows)


@pytest.mark.parametrize(
    ("lon", "lat", "crs"),
    [
        (-0.76, 38.1, "EPSG:32630"),
        (34.06, -3.4, "EPSG:32736"),
        (179.99, 10.0, "EPSG:32660"),
        (180.0, 10.0, "EPSG:32660"),
        (20.0, 84.5, "EPSG:3413"),
        (20.0, -80.5, "EPSG:3031"),
    ],
)
def test_crs_of_a_place(lon: float, lat: float, crs: str) -> None:
    assert metric_crs(lon, lat) == crs


@pytest.mark.parametrize("gsd", [10.0, 20.0, 7.5])
def test_grid_for_lies_on_multiples_and_covers_the_area(gsd: float) -> None:
    grid = grid_for(SPAIN, gsd)
    assert (grid.affine.a, grid.affine.e) == (gsd, -gsd)
    assert (grid.affine.c / gsd).is_integer() and (grid.affine.f / gsd).is_integer()
    assert extent(grid).buffer(1e-9).contains(SPAIN)
    # Not more than the area needs: one row or column less would cut it.
    smaller = GeoBox((grid.shape[0] - 1, grid.shape[1]), grid.affine, grid.crs)
    assert not extent(smaller).buffer(1e-9).contains(SPAIN)


PLACES = st.tuples(st.floats(-179.8, 179.8), st.floats(-79.5, 83.5))
"""Where UTM is."""


@settings(max_examples=40, deadline=None)
@given(
    place=PLACES,
    gsd=st.sampled_from([0.5, 10.0, 30.0, 7.3]),
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
)
def test_a_grid_survives_the_way_through_lonlat(
    place: tuple[float, float], gsd: float, size: tuple[int, int]
) -> None:
    """The outline of a cut is cut out again, pixel for pixel; so is the whole."""
    lon, lat = place
    grid = grid_for(box(lon - 1e-4, lat - 1e-4, lon + 1e-4, lat + 1e-4), gsd)
    cut = GeoBox(size, grid.affine, grid.crs)
    (west, north), (east, south) = cut.affine @ (0, 0), cut.affine @ size[::-1]
    outline = to_lonlat(box(west, south, east, north).segmentize(4 * gsd), cut)
    assert snap_to(grid, outline) == cut
    if metric_crs(outline.centroid.x, outline.centroid.y) == str(cut.crs):
        assert grid_for(outline, gsd) == cut


@settings(max_examples=40, deadline=None)
@given(place=PLACES, gsd=st.sampled_from([0.5, 10.0, 30.0]), degrees=st.booleans())
def test_areas_are_those_of_pyproj(place: tuple[float, float], gsd: float, degrees: bool) -> None:
    lon, lat = place
    step = gsd / 111_000
    grid = (
        GeoBox((20, 30), Affine(step, 0, lon, 0, -step, lat), "EPSG:4326")
        if degrees
        else GeoBox((20, 30), grid_for(box(lon, lat, lon + 1e-5, lat + 1e-5), gsd).affine,
                    metric_crs(lon, lat))
    )  # fmt: skip
    whole = np.ones((20, 30), dtype=bool)
    assert mask_area_m2(whole, grid) == pytest.approx(geodesic(extent(grid)), rel=2e-5)


@pytest.mark.parametrize("gsd", [0.0, -10.0, float("nan"), float("inf")])
def test_grid_for_refuses_a_gsd_that_makes_no_grid(gsd: float) -> None:
    with pytest.raises(LoadError, match="GSD"):
        grid_for(SPAIN, gsd)


def test_snap_to_returns_the_cut_of_the_lattice() -> None:
    cut = snap_to(UTM, outline(UTM, 10, 5, 30, 25))
    assert tuple(cut.shape) == (20, 20)
    assert cut.affine.c == UTM.affine.c + 10 * 10
    assert cut.affine.f == UTM.affine.f - 5 * 10


def test_snap_to_keeps_touched_pixels_and_may_leave_the_scene() -> None:
    cut = snap_to(UTM, outline(UTM, -3.4, 5.2, 10.1, 7.9))
    assert tuple(cut.shape) == (3, 15)
    assert cut.affine.c == UTM.affine.c - 4 * 10


def test_snap_to_refuses_a_rotated_grid() -> None:
    rotated = GeoBox((10, 10), UTM.affine @ Affine.rotation(10), UTM.crs)
    with pytest.raises(GridMismatch, match="rotated"):
        snap_to(rotated, SPAIN)


def test_gsd_in_metres() -> None:
    assert gsd_of(UTM) == 10
    assert gsd_of(DEGREES) == pytest.approx(11.0998, abs=1e-3)  # the meridian's side is longer
    feet = GeoBox((10, 10), Affine(10, 0, 2e6, 0, -10, 7e5), "EPSG:2263")
    assert gsd_of(feet) == pytest.approx(3.048, abs=1e-4)


@pytest.mark.parametrize("grid", GRIDS)
def test_pixel_areas_are_geodesic(grid: GeoBox) -> None:
    areas = pixel_areas(grid)
    assert areas.dtype == np.float64
    assert areas.shape == ((40,) if grid is DEGREES else (40, 60))
    for row, column in ((0, 0), (39, 59)):
        area = areas[row] if areas.ndim == 1 else areas[row, column]
        expected = geodesic(outline(grid, column, row, column + 1, row + 1))
        assert area == pytest.approx(expected, rel=2e-5)  # the polygon's corners are rounded
    assert areas.sum() * (60 if areas.ndim == 1 else 1) == pytest.approx(
        geodesic(outline(grid, 0, 0, 60, 40)), rel=1e-6
    )


def test_polar_pixels_are_not_a_hundred_square_metres() -> None:
    assert abs(pixel_areas(ARCTIC).mean() - 100) > 1


def test_inside_is_decided_by_pixel_centres() -> None:
    inside = inside_mask(UTM, outline(UTM, 10.4, 5.6, 20.4, 8.6))
    expected = np.zeros((40, 60), dtype=bool)
    expected[6:9, 10:20] = True
    assert np.array_equal(inside, expected)


def test_area_of_a_drawn_polygon_is_close_to_its_mask() -> None:
    aoi = AOI(geometry=SPAIN)
    grid = aoi.grid(10)
    mask = inside_mask(grid, aoi.geometry)
    assert mask_area_m2(mask, grid) / 1e6 == pytest.approx(aoi.area_km2, rel=1e-3)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0, 1), which=st.sampled_from(GRIDS))
def test_masks_survive_the_round_trip(seed: int, share: float, which: GeoBox) -> None:
    mask = np.random.default_rng(seed).random(tuple(which.shape)) < share
    polygons = mask_to_polygons(mask, which)
    assert all(polygon.is_valid for polygon in polygons)
    assert np.array_equal(polygons_to_mask(polygons, which), mask)
    assert sum(map(geodesic, polygons)) == pytest.approx(mask_area_m2(mask, which), rel=1e-5)


def test_corner_neighbours_are_one_object_and_distant_pixels_two() -> None:
    mask = np.zeros((40, 60), dtype=bool)
    mask[3, 3] = mask[4, 4] = True
    assert [p.geom_type for p in mask_to_polygons(mask, UTM)] == ["MultiPolygon"]
    mask[20, 20] = True
    assert len(mask_to_polygons(mask, UTM)) == 2


def test_holes_stay_holes() -> None:
    mask = np.zeros((40, 60), dtype=bool)
    mask[5:15, 5:15] = True
    mask[8:10, 8:10] = False
    (polygon,) = mask_to_polygons(mask, UTM)
    assert len(polygon.interiors) == 1
    assert geodesic(polygon) == pytest.approx(96 * 100, rel=2e-3)


def test_clip_cuts_objects_and_drops_what_only_touches() -> None:
    mask = np.zeros((40, 60), dtype=bool)
    mask[5:15, 5:15] = True
    mask[5:15, 40:50] = True
    clip = outline(UTM, 0, 0, 10, 40)
    (polygon,) = mask_to_polygons(mask, UTM, clip=clip)
    assert unary_union([polygon, clip]).area == pytest.approx(clip.area, rel=1e-9)
    assert geodesic(polygon) == pytest.approx(50 * 100, rel=2e-3)


def test_nothing_gives_nothing() -> None:
    empty = np.zeros((40, 60), dtype=bool)
    assert mask_to_polygons(empty, UTM) == []
    assert mask_area_m2(empty, UTM) == 0
    assert not polygons_to_mask([], UTM).any()
    assert not polygons_to_mask(Polygon(), UTM).any()


def test_long_edges_stay_on_their_pixels_near_the_pole() -> None:
    grid = GeoBox((4, 3000), Affine(10, 0, 400000, 0, -10, 8900000), "EPSG:32633")
    mask = np.zeros((4, 3000), dtype=bool)
    mask[2] = True
    assert np.array_equal(polygons_to_mask(mask_to_polygons(mask, grid), grid), mask)


def test_masks_of_another_shape_are_refused() -> None:
    for call in (mask_to_polygons, mask_area_m2):
        with pytest.raises(GridMismatch, match="does not lie on the grid"):
            call(np.ones((3, 3), dtype=bool), UTM)
