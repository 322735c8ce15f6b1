from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import box, mapping

from earthmind_lab.aoi import AOI
from earthmind_lab.data.catalogs import open_catalog
from earthmind_lab.data.items import resolve_href, scenes_of
from earthmind_lab.data.static import read_static
from earthmind_lab.errors import AssetUnavailable, CatalogUnavailable

WHERE = Path("/cat/items/item.json")
HALF_NUMBERS = [[0, 0], [1, 0], [float("nan"), 1], [0, 1], [0, 0]]


def item(**rest):
    base = {
        "type": "Feature",
        "id": "i",
        "geometry": mapping(box(10, 45, 11, 46)),
        "properties": {"datetime": "2024-05-01T10:00:00Z"},
        "assets": {"red": {"href": "./red.tif"}, "nir": {"href": "https://x.org/nir.tif"}},
    }
    return base | rest


def only(each, where=WHERE):
    (scene,) = scenes_of(each, where)
    return scene


def write(folder, name, data):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def root(*hrefs, rel="item", **rest):
    links = [{"rel": rel, "href": str(href)} for href in hrefs]
    return {"type": "Catalog", "id": "c", "stac_version": "1.0.0", "links": links} | rest


# --- one item -----------------------------------------------------------------------------------


def test_an_item_with_nothing_but_the_necessary_is_a_scene():
    scene = only(item())
    assert (scene.id, scene.modality, scene.sensor) == ("i", "optical", "optical")
    assert scene.datetime == scene.start == scene.end == datetime(2024, 5, 1, 10, tzinfo=UTC)
    assert scene.assets == {"red": "/cat/items/red.tif", "nir": "https://x.org/nir.tif"}
    assert scene.cloud_cover is None
    assert scene.collection is None
    assert scene.orbit == {}
    assert scene.processing == {}
    assert scene.items[0]["assets"]["red"]["href"] == "./red.tif"


def test_everything_an_item_says_is_kept():
    properties = {
        "datetime": "2024-05-01T10:00:00Z",
        "platform": "sentinel-2b",
        "eo:cloud_cover": 12,
        "sat:orbit_state": "descending",
        "sat:relative_orbit": 51,
        "s2:processing_baseline": "05.10",
        "view:sun_elevation": 15.5,
        "earthmind:geolocation_error_px": 4,
    }
    scene = only(item(properties=properties, collection="my-own"))
    assert scene.sensor == "sentinel-2"
    assert scene.cloud_cover == 12.0
    assert scene.collection == "my-own"
    assert scene.orbit == {"state": "descending", "relative": 51, "platform": "sentinel-2b"}
    assert scene.processing == {
        "baseline": "05.10",
        "sun_elevation": 15.5,
        "geolocation_error_px": 4.0,
    }


def test_stac_1_1_bands_and_card4l():
    assets = {
        "one": {"href": "1.tif", "bands": [{"name": "VV"}]},
        "two": {"href": "2.tif", "bands": [{"name": "VH"}]},
    }
    properties = {
        "datetime": "2024-05-01T10:00:00Z",
        "constellation": "sentinel-1",
        "card4l:measurement_type": "sigma0",
        "card4l:measurement_convention": "linear power",
    }
    scene = only(item(assets=assets, properties=properties, stac_version="1.1.0"))
    assert scene.sensor == "sentinel-1-sigma0"
    assert set(scene.assets) == {"vv", "vh"}
    assert scene.processing["measurement_type"] == "sigma0"
    assert scene.processing["measurement_convention"] == "linear power"


@pytest.mark.parametrize("cloud", ["12", -1, 101, None, True, float("nan"), [5]])
def test_a_cloud_cover_that_is_no_percentage_is_unknown(cloud):
    properties = {"datetime": "2024-05-01T10:00:00Z", "eo:cloud_cover": cloud}
    assert only(item(properties=properties)).cloud_cover is None


def test_an_unknown_time_is_an_interval():
    scene = only(
        item(
            properties={
                "datetime": None,
                "start_datetime": "2024-05-01T00:00:00Z",
                "end_datetime": "2024-05-31 23:59:59+00:00",
            }
        )
    )
    assert not scene.time_known
    assert scene.start == datetime(2024, 5, 1, tzinfo=UTC)
    assert scene.end == datetime(2024, 5, 31, 23, 59, 59, tzinfo=UTC)


def test_a_bare_date_is_a_day_and_not_midnight():
    scene = only(item(properties={"datetime": "2024-05-01"}))
    assert not scene.time_known
    assert scene.start.day == scene.end.day == 1


def test_other_time_zones_become_utc():
    scene = only(item(properties={"datetime": "2024-05-01T01:00:00+02:00"}))
    assert scene.datetime == datetime(2024, 4, 30, 23, tzinfo=UTC)
    assert scene.datetime.utcoffset().total_seconds() == 0


def test_a_bbox_stands_in_for_a_missing_geometry():
    assert only(item(geometry=None, bbox=[1, 2, 3, 4])).footprint.bounds == (1, 2, 3, 4)
    assert only(item(geometry=None, bbox=[1, 2, 0, 3, 4, 9])).footprint.bounds == (1, 2, 3, 4)


def test_a_self_crossing_outline_is_mended():
    ring = [[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]
    scene = only(item(geometry={"type": "Polygon", "coordinates": [ring]}))
    assert scene.footprint.is_valid
    assert scene.footprint.area == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("change", "say"),
    [
        ({"id": None}, "no id"),
        ({"geometry": None}, "no geometry"),
        ({"geometry": {"type": "Point", "coordinates": [1, 2]}}, "no area"),
        ({"geometry": mapping(box(0, 0, 1, 1e308))}, "nowhere on the Earth"),
        ({"geometry": {"type": "Polygon", "coordinates": [HALF_NUMBERS]}}, "nowhere on the Earth"),
        ({"properties": {}}, "neither datetime"),
        ({"properties": None}, "neither datetime"),
        ({"properties": {"datetime": "soon"}}, "can't be read"),
        ({"properties": {"datetime": None, "start_datetime": "2024-05-01"}}, "neither"),
        (
            {"properties": {"start_datetime": "2024-05-02", "end_datetime": "2024-05-01"}},
            "ends before",
        ),
        ({"assets": {"red": {"href": "ftp://host/red.tif"}}}, "None of its files"),
    ],
)
def test_an_item_that_lacks_the_necessary_is_refused(change, say):
    with pytest.raises(CatalogUnavailable, match=say):
        scenes_of(item(**change), WHERE)


def test_labels_are_no_scenes():
    assert scenes_of(item(assets={"lulc": {"href": "x.tif"}}), WHERE) == []


# --- hrefs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("href", "path"),
    [
        ("red.tif", "/cat/items/red.tif"),
        ("./a/../red.tif", "/cat/items/red.tif"),
        ("../red.tif", "/cat/red.tif"),
        ("/data/red.tif", "/data/red.tif"),
        ("file:///data/a%20b.tif", "/data/a b.tif"),
        ("file:/data/red.tif", "/data/red.tif"),
        ("https://x.org/red.tif?v=1", "https://x.org/red.tif?v=1"),
        ("a b.tif", "/cat/items/a b.tif"),
        ("GTIFF_DIR:1:/data/red.tif", "/cat/items/GTIFF_DIR:1:/data/red.tif"),
    ],
)
def test_hrefs_start_at_the_folder_of_the_file_that_gives_them(href, path):
    assert resolve_href(href, WHERE) == path


@pytest.mark.parametrize(
    "href",
    [
        "gs://bucket/red.tif",
        "ftp://x.org/red.tif",
        "/vsicurl/http://x.org/red.tif",
        "../../vsicurl/red.tif",
        "<VRTDataset/>",
        "red\0.tif",
        "file://other-machine/red.tif",
        "javascript://x",
        "http://[",
        "https://℀.example/red.tif",
        "s3://[",
    ],
)
def test_other_hrefs_are_refused(href):
    with pytest.raises(AssetUnavailable):
        resolve_href(href, WHERE)


def test_a_refused_asset_does_not_cost_the_others():
    assets = {"red": {"href": "red.tif"}, "nir": {"href": "gs://b/nir.tif"}}
    assert set(only(item(assets=assets)).assets) == {"red"}


# --- catalogs -----------------------------------------------------------------------------------


def test_any_nesting_of_children_collections_and_items(tmp_path):
    write(
        tmp_path,
        "catalog.json",
        root("./a/catalog.json", tmp_path / "b/collection.json", rel="child"),
    )
    write(tmp_path, "a/catalog.json", root("deep/collection.json", rel="child"))
    write(tmp_path, "a/deep/collection.json", root("i1/i1.json", type="Collection"))
    write(tmp_path, "a/deep/i1/i1.json", item(id="i1"))
    write(tmp_path, "b/collection.json", root("i2.json", "../catalog.json", type="Collection"))
    write(tmp_path, "b/i2.json", item(id="i2"))
    catalog = open_catalog(tmp_path / "catalog.json")
    assert [scene.id for scene in catalog.search()] == ["i1", "i2"]
    assert catalog.search()[0].assets["red"] == str(tmp_path / "a/deep/i1/red.tif")
    assert catalog.problems == ()
    assert catalog.name == str(tmp_path / "catalog.json")
    assert len(open_catalog(tmp_path).search()) == 2  # the folder will do
    assert len(open_catalog(f"file://{tmp_path}/catalog.json").search()) == 2  # fmt: skip


def test_an_item_linked_twice_is_one_scene(tmp_path):
    write(tmp_path, "i.json", item())
    path = write(tmp_path, "catalog.json", root("i.json", "./i.json", tmp_path / "i.json"))
    assert len(read_static(path).scenes) == 1


def test_loops_end(tmp_path):
    write(tmp_path, "i.json", item())
    path = write(tmp_path, "catalog.json", root("catalog.json", "i.json", "b.json", rel="child"))
    write(tmp_path, "b.json", root("catalog.json", rel="child"))
    assert len(read_static(path).scenes) == 1


def test_an_item_collection_is_a_catalog_too(tmp_path):
    features = {"type": "FeatureCollection", "features": [item(), item(id="j"), 5]}
    path = write(tmp_path, "items.json", features)
    assert [scene.id for scene in read_static(path).scenes] == ["i", "j"]


def test_one_broken_item_is_logged_and_counted_and_costs_nothing_else(tmp_path, caplog):
    write(tmp_path, "good.json", item())
    write(tmp_path, "half.json", '{"type": "Feature", "id":')
    write(tmp_path, "timeless.json", item(id="timeless", properties={}))
    write(tmp_path, "odd.json", item(id="odd", geometry={"type": "Polygon", "coordinates": 5}))
    write(tmp_path, "nothing.json", {})
    hrefs = ["good.json", "half.json", "timeless.json", "odd.json", "gone.json", "nothing.json"]
    path = write(tmp_path, "catalog.json", root(*hrefs, "https://x.org/i.json", "s3://b/i.json"))
    with caplog.at_level(logging.WARNING):
        catalog = open_catalog(path)
    assert [scene.id for scene in catalog.search()] == ["i"]
    assert len(catalog.problems) == 7
    assert len(caplog.records) == 7
    text = " ".join(catalog.problems)
    for part in ("half.json", "'timeless'", "'odd'", "gone.json", "nothing.json", "x.org"):
        assert part in text


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=5)
    | st.sampled_from(["9999-12-31", "0001-01-01T00:00:00+10:00", "sentinel-1", "red", "VV"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["type", "coordinates", "href", "name", "roles", "common_name", "vv"]),
        inner, max_size=4,
    ),
    max_leaves=8,
)  # fmt: skip
PATHS = [
    ("id",), ("type",), ("geometry",), ("bbox",), ("properties",), ("assets",), ("collection",),
    ("properties", "datetime"), ("properties", "start_datetime"), ("properties", "platform"),
    ("properties", "instruments"), ("properties", "eo:cloud_cover"), ("geometry", "coordinates"),
    ("properties", "card4l:measurement_type"), ("properties", "view:sun_elevation"),
    ("assets", "red"), ("assets", "red", "href"), ("assets", "red", "roles"),
    ("assets", "red", "type"), ("assets", "red", "eo:bands"), ("assets", "red", "bands"),
    ("assets", "odd"),
]  # fmt: skip


@pytest.fixture(scope="module")
def odd_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    write(folder, "good.json", item())
    write(folder, "catalog.json", root("bad.json", "good.json"))
    return folder


@settings(max_examples=120, deadline=None, derandomize=True)
@given(changes=st.lists(st.tuples(st.sampled_from(PATHS), ODD), min_size=1, max_size=3))
def test_no_field_of_an_item_can_break_a_catalog(odd_folder, changes):
    bad = json.loads(json.dumps(item(id="bad")))
    for path, value in changes:
        holder = bad
        for step in path[:-1]:
            holder = holder.get(step) if isinstance(holder, dict) else None
        if isinstance(holder, dict):
            holder[path[-1]] = value
    write(odd_folder, "bad.json", bad)
    catalog = open_catalog(odd_folder)
    assert "i" in [scene.id for scene in catalog.search()]
    catalog.search(AOI.from_bbox(10.5, 45.5, 10.6, 45.6), datetime(2024, 5, 1, tzinfo=UTC))


def test_a_catalog_with_nothing_readable_is_unavailable(tmp_path):
    path = write(tmp_path, "catalog.json", root("gone.json"))
    with pytest.raises(CatalogUnavailable, match=r"gone\.json"):
        open_catalog(path)


def test_an_empty_catalog_is_empty(tmp_path):
    assert open_catalog(write(tmp_path, "catalog.json", root())).search() == []


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "",
        "[]",
        "5",
        '"x"',
        "{}",
        '{"type": "Catalog"}',
        '{"type": "Catalog", "stac_version": "1.0.0", "links": 5}',
        '{"type": "Topology", "stac_version": "1.0.0", "links": []}',
        "\x00\xff",
        "[" * 100_000,
    ],
)
def test_files_that_are_no_catalog(tmp_path, content):
    path = write(tmp_path, "catalog.json", content)
    with pytest.raises(CatalogUnavailable) as caught:
        open_catalog(path)
    assert "sample" in caught.value.change


@pytest.mark.parametrize(
    "asked",
    [
        "/nowhere/catalog.json", "", "planetary_computer", "~/nowhere.json", "~no-such-user/x",
        "x" * 5000, "a/" * 5000, "a\0b", "file://elsewhere/catalog.json",
    ],
)  # fmt: skip
def test_catalogs_that_are_not_there(asked):
    with pytest.raises(CatalogUnavailable, match="no catalog") as caught:
        open_catalog(asked)
    assert "sample" in caught.value.change
    assert len(str(caught.value)) < 1000


def test_a_catalog_is_named_so_that_it_opens_from_any_folder(tmp_path, monkeypatch):
    path = write(tmp_path, "held/catalog.json", root("i.json"))
    write(tmp_path, "held/i.json", item())
    monkeypatch.chdir(tmp_path)
    for asked in ("held", "held/catalog.json", Path("held"), f"file://{path}"):
        assert open_catalog(asked).name == str(path)
    monkeypatch.chdir("/")
    assert len(open_catalog(str(path)).search()) == 1
    assert open_catalog("sample").name == "sample"


def test_items_inherit_licence_and_providers_of_the_nearest_collection(tmp_path):
    def collection(name, *hrefs, **rest):
        return root(*hrefs, type="Collection", id=name, **rest)

    owners = [{"name": "ESA"}]
    outer = collection("outer", "inner.json", "a.json", license="CC-BY-4.0", providers=owners)
    inner = collection("inner", "b.json", "c.json", "d.json", license="CC0-1.0")
    write(tmp_path, "outer.json", outer)
    write(tmp_path, "inner.json", inner)
    own = {"datetime": "2024-05-01T10:00:00Z", "license": "proprietary"}
    write(tmp_path, "a.json", item(id="a", collection="outer"))
    write(tmp_path, "b.json", item(id="b"))
    write(tmp_path, "c.json", item(id="c", properties=own))
    write(tmp_path, "d.json", item(id="d", collection="elsewhere"))
    write(tmp_path, "e.json", item(id="e"))
    links = root("outer.json", "e.json", license="MIT")  # a catalog says nothing of its items
    found = {
        s.id: s.items[0] for s in open_catalog(write(tmp_path, "catalog.json", links)).search()
    }
    licences = {name: each["properties"].get("license") for name, each in found.items()}
    assert licences == {"a": "CC-BY-4.0", "b": "CC0-1.0", "c": "proprietary", "d": None, "e": None}
    assert found["a"]["properties"]["providers"] == owners
    assert "providers" not in found["b"]["properties"]


@pytest.mark.parametrize(
    ("href", "read"),
    [
        ("b/red.tif", "https://x.org/stac/b/red.tif"),
        ("/b/red.tif", "https://x.org/b/red.tif"),
        ("//y.org/red.tif", "https://y.org/red.tif"),
        ("s3://bucket/red.tif", "s3://bucket/red.tif"),
    ],
)
def test_hrefs_of_a_catalog_on_the_network_stay_on_the_network(href, read):
    assert resolve_href(href, "https://x.org/stac/search") == read


@pytest.mark.parametrize(
    "href", ["file:///etc/passwd", "file:/etc/passwd", "C:\\x.tif", "gs://b/x", "/vsimem/x.tif"]
)
def test_a_catalog_on_the_network_names_no_file_of_this_machine(href):
    with pytest.raises(AssetUnavailable):
        resolve_href(href, "https://x.org/stac/search")


def test_the_settings_name_the_catalog(tmp_path, monkeypatch):
    path = write(tmp_path, "catalog.json", root("i.json"))
    write(tmp_path, "i.json", item())
    monkeypatch.setenv("EARTHMIND_CATALOG", str(path))
    assert len(open_catalog().search()) == 1


def test_search_by_area_and_time(tmp_path):
    write(tmp_path, "i.json", item())
    catalog = open_catalog(write(tmp_path, "catalog.json", root("i.json")))

    def found(aoi=None, start=None, end=None):
        return len(catalog.search(aoi, start, end))

    when = datetime(2024, 5, 1, 10, tzinfo=UTC)
    later = datetime(2024, 5, 1, 11, tzinfo=UTC)
    assert found(AOI.from_bbox(10.5, 45.5, 10.6, 45.6)) == 1
    assert found(AOI.from_bbox(11, 45.5, 11.1, 45.6)) == 0  # an edge is not an area
    assert found(start=when, end=when) == 1
    assert found(start=later) == 0
    assert found(end=when) == 1
    assert found(end=datetime(2024, 5, 1, 9, tzinfo=UTC)) == 0
