from __future__ import annotations

import json

import pytest
from shapely.geometry import LineString, MultiPolygon, Point, Polygon, box, mapping

from earthmind_lab.aoi import AOI
from earthmind_lab.errors import AOIError

BOX = (-0.775, 38.09, -0.745, 38.12)


def test_a_box():
    aoi = AOI.from_bbox(*BOX, name="Orihuela")
    assert aoi.bounds == BOX
    assert aoi.name == "Orihuela"
    assert aoi.area_km2 == pytest.approx(2.63 * 3.33, rel=0.01)


def test_the_area_of_half_a_degree_at_the_equator():
    assert AOI.from_bbox(0, 0, 0.5, 0.5).area_km2 == pytest.approx(12308.8 / 4, rel=2e-4)


@pytest.mark.parametrize(
    ("edges", "say"),
    [
        ((1, 0, 0, 1), "west > east"),
        ((0, 1, 1, 0), "south > north"),
        ((179, 0, -179, 1), "antimeridian"),
        ((0, 0, 0, 0), "no area"),
        ((0, 0, 0, 1), "no area"),
        ((float("nan"), 0, 1, 1), "not a number"),
        ((0, 0, float("inf"), 1), "not a number"),
        ((0, 0, 10, 10), r"too large.*10° x 10°.*smaller area"),
        ((0, 0, 1, 0.1), r"too large.*1° x 0.1°"),
        ((10.3, 0, 11.3, 0.1), "too large"),
        ((179, 0, 181, 1), "antimeridian"),
        ((0, 89, 1, 91), "range"),
        ((-179.9, 0, 179.9, 1), "antimeridian"),
        ((0, 0, 1e-7, 1e-7), "no area"),
    ],
)
def test_boxes_that_make_no_sense(edges, say):
    with pytest.raises(AOIError, match=say):
        AOI.from_bbox(*edges)


def test_a_swapped_box_is_offered_the_right_way_round():
    with pytest.raises(AOIError) as caught:
        AOI.from_bbox(2, 0, 1, 1)
    assert "1,0,2,1" in caught.value.change


@pytest.mark.parametrize(
    ("geometry", "say"),
    [
        (Polygon(), "empty"),
        (Point(0, 0), "no area"),
        (LineString([(0, 0), (0.1, 0.1)]), "no area"),
        (Polygon([(0, 0), (0.1, 0.1), (0.1, 0), (0, 0.1)]), "crosses itself"),
    ],
)
def test_geometries_that_are_no_area(geometry, say):
    with pytest.raises(AOIError, match=say):
        AOI.from_any(geometry)


@pytest.mark.parametrize(
    "value",
    [
        BOX,
        list(BOX),
        ",".join(map(str, BOX)),
        " -0.775, 38.09, -0.745, 38.12 ",
        box(*BOX),
        mapping(box(*BOX)),
        {"type": "Feature", "properties": None, "geometry": mapping(box(*BOX))},
        json.dumps(mapping(box(*BOX))),
    ],
)
def test_everything_users_hold(value):
    assert AOI.from_any(value).bounds == pytest.approx(BOX)


def test_an_aoi_stays_itself():
    aoi = AOI.from_bbox(*BOX)
    assert AOI.from_any(aoi) is aoi


@pytest.mark.parametrize(
    "value",
    [
        "nowhere",
        "1,2,3",
        (1, 2, 3),
        ("a", "b", "c", "d"),
        "a,b,c,d",
        "{broken",
        {"type": "Feature", "geometry": None},
        {"type": "FeatureCollection", "features": []},
        {"type": "FeatureCollection", "features": None},
        {"type": "FeatureCollection", "features": 1},
        {"type": "FeatureCollection", "features": {"a": 1}},
        {"type": "FeatureCollection", "features": [1]},
        {"type": "FeatureCollection", "features": [None]},
        {"type": "Feature", "geometry": 1},
        '{"type":"Polygon","coordinates":' + "[" * 100_000 + "]" * 100_000 + "}",
        "x" * 5000,
        "1," * 5000,
        "~no-such-user/x.geojson",
        "~no-such-user/x.gpkg",
        "\x00.geojson",
        {"type": "Polygon"},
        {"type": "Polygon", "coordinates": "abc"},
        {"type": "Nonsense", "coordinates": []},
        {},
    ],
)
def test_everything_else_is_an_aoi_error(value):
    with pytest.raises(AOIError):
        AOI.from_any(value)


@pytest.mark.parametrize("source", ["~no-such-user/x.geojson", "x" * 5000, "\x00"])
def test_from_geojson_of_no_file(source):
    with pytest.raises(AOIError):
        AOI.from_geojson(source)


def test_a_long_text_is_cut_in_the_message():
    with pytest.raises(AOIError) as caught:
        AOI.from_any("x" * 5000)
    assert len(str(caught.value)) < 300


def test_properties_that_are_no_object_give_no_name():
    feature = {"type": "Feature", "properties": [1], "geometry": mapping(box(*BOX))}
    assert AOI.from_any(feature).name == "AOI"


def test_a_table_without_geometry(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(AOIError, match="no geometry"):
        AOI.from_any(path)


def test_a_file_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.geojson").write_text(json.dumps(mapping(box(*BOX))))
    assert AOI.from_any("~/a.geojson").bounds == pytest.approx(BOX)


def test_a_geojson_file_with_a_name(tmp_path):
    path = tmp_path / "fields.geojson"
    feature = {"type": "Feature", "properties": {"name": "Fields"}, "geometry": mapping(box(*BOX))}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    for given in (path, str(path)):
        assert AOI.from_any(given).name == "Fields"


def test_several_features_become_one_area():
    features = [
        {"type": "Feature", "properties": {}, "geometry": mapping(box(x, 0, x + 0.1, 0.1))}
        for x in (0, 0.5)
    ]
    aoi = AOI.from_any({"type": "FeatureCollection", "features": features})
    assert aoi.geometry.geom_type == "MultiPolygon"
    assert aoi.area_km2 == pytest.approx(2 * AOI.from_bbox(0, 0, 0.1, 0.1).area_km2, rel=1e-6)


def test_the_area_does_not_depend_on_how_a_ring_turns():
    shell = [(0, 0), (0.1, 0), (0.1, 0.1), (0, 0.1)]
    hole = [(0.02, 0.02), (0.08, 0.02), (0.08, 0.08), (0.02, 0.08)]
    full = AOI(geometry=Polygon(shell)).area_km2
    for turned in (hole, hole[::-1]):
        holed = AOI(geometry=Polygon(shell, [turned])).area_km2
        assert holed == pytest.approx(full * 0.64, rel=0.01)
    there = Polygon([(x + 0.2, y) for x, y in shell[::-1]])
    both = AOI(geometry=MultiPolygon([Polygon(shell), there]))
    assert both.area_km2 == pytest.approx(2 * full, rel=1e-6)


def test_a_frame_needs_a_crs_and_a_geometry():
    geopandas = pytest.importorskip("geopandas")
    frame = geopandas.GeoDataFrame(geometry=[box(*BOX)], crs=4326)
    assert AOI.from_gdf(frame.to_crs(32630)).bounds == pytest.approx(BOX, abs=1e-3)
    with pytest.raises(AOIError, match="no CRS"):
        AOI.from_gdf(geopandas.GeoDataFrame(geometry=[box(*BOX)]))
    with pytest.raises(AOIError, match="no geometry"):
        AOI.from_gdf(frame.iloc[:0])


def test_plain_data_and_html():
    aoi = AOI.from_bbox(*BOX, name="<b>")
    assert aoi.to_dict()["geometry"]["type"] == "Polygon"
    assert "&lt;b&gt;" in aoi._repr_html_()


def test_a_box_over_the_antimeridian_is_not_turned_round_the_globe():
    with pytest.raises(AOIError) as refused:
        AOI.from_bbox(179, 0, -179, 1)
    assert refused.value.change == "one box on each side of 180°"
    with pytest.raises(AOIError, match=r"Try: -0\.8,38,-0\.7,39, or one box"):
        AOI.from_bbox(-0.7, 38, -0.8, 39)


@pytest.mark.parametrize("lat", [-60.0, 0.0, 38.105, 88.0])
def test_a_square_around_a_point(lat):
    aoi = AOI.from_center(-0.76, lat, 2.0, name="square")
    assert aoi.area_km2 == pytest.approx(4.0, rel=0.01)
    west, south, east, north = aoi.bounds
    assert (west + east) / 2 == pytest.approx(-0.76)
    assert (south + north) / 2 == pytest.approx(lat, abs=1e-4)


@pytest.mark.parametrize(
    ("lon", "lat", "km"),
    [(0, 0, 0), (0, 0, -1), (0, 91, 1), (181, 0, 1), (0, 0, 500), (float("nan"), 0, 1),
     (0, 0, float("inf")), (180, 0, 2), (0, 90, 2)],
)  # fmt: skip
def test_squares_that_are_none(lon, lat, km):
    with pytest.raises(AOIError):
        AOI.from_center(lon, lat, km)
