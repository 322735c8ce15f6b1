from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.warp import Resampling, reproject, transform_bounds, transform_geom
from rasterio.windows import Window
from shapely.geometry import box, mapping

from earthmind_lab.aoi import AOI
from earthmind_lab.data.catalogs import open_catalog
from earthmind_lab.data.clouds import clear_share
from earthmind_lab.data.load import load_chip
from earthmind_lab.data.mosaics import join, with_mosaics, zone_of
from earthmind_lab.data.samples import catalog_path
from earthmind_lab.data.search import search_candidates, search_pairs
from earthmind_lab.errors import LoadError, NoScenesFound, RadiometryUnknown, SearchError
from earthmind_lab.recording import _input
from earthmind_lab.replay import _scene as found_again
from earthmind_lab.scene import Scene

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
AREA = AOI.from_bbox(10.0, 45.0, 10.04, 45.04)
WHOLE = "S2_L2A_denmark_2017-10-30"
RADAR = "S1_RTC_denmark_2017-10-30"
DENMARK = AOI.from_bbox(9.832, 57.2195, 9.858, 57.2345, name="Denmark")
DAY = "2017-10-30"
BANDS = ("red", "green", "cloud")
"""Bands that are cut."""


# --- real pixels: an embedded scene cut into the items of one pass --------------------------------


def sample(name):
    path = next(Path(catalog_path()).parent.glob(f"*/{name}/{name}.json"))
    return path, json.loads(path.read_text())


def cut(folder, source, name, columns, *, bands=BANDS, crs=None, seconds=0, **properties):
    """An item with the columns of a sample scene's rasters, in another CRS where one is given."""
    where, item = sample(source)
    (folder / name).mkdir()
    keys = {key: asset for key, asset in item["assets"].items() if key.split("_")[0] in bands}
    for key, asset in keys.items():
        with rasterio.open(where.parent / asset["href"]) as whole:
            first, last = (round(share * whole.width) for share in columns)
            window = Window(first, 0, last - first, whole.height)
            values, a = whole.read(1, window=window), whole.transform
            place = Affine(a.a, 0, a.c + first * a.a, 0, a.e, a.f)
            edges = place.c, a.f + whole.height * a.e, a.c + last * a.a, a.f
            outline = transform_geom(whole.crs, 4326, mapping(box(*edges)))
            profile = {**whole.profile, "transform": place, "tiled": False}
        if crs:
            nodata = 255 if values.dtype == np.uint8 else 0
            values, place = warped(values, profile["crs"], place, edges, crs, nodata)
            profile |= {"crs": crs, "transform": place, "nodata": nodata}
        profile |= {"height": values.shape[0], "width": values.shape[1]}
        profile = {k: v for k, v in profile.items() if not k.startswith("block")}
        with rasterio.open(folder / name / f"{key}.tif", "w", **profile) as target:
            target.write(values, 1)
        asset["href"] = f"./{key}.tif"
        for field in ("proj:shape", "proj:transform"):  # of the whole one
            asset.pop(field, None)
    when = datetime.fromisoformat(item["properties"]["datetime"]) + timedelta(seconds=seconds)
    item |= {"id": name, "geometry": outline, "assets": keys}
    item["properties"] |= {
        "datetime": when.isoformat(), "platform": "sentinel-2a", "proj:epsg": crs or 32632,
        **properties,
    }  # fmt: skip
    item.pop("bbox")
    (folder / name / f"{name}.json").write_text(json.dumps(item))
    return f"./{name}/{name}.json"


def warped(values, source, place, edges, crs, nodata):
    west, south, east, north = (10 * round(e / 10) for e in transform_bounds(source, crs, *edges))
    affine = Affine(10, 0, west, 0, -10, north)
    result = np.full(((north - south) // 10, (east - west) // 10), nodata, values.dtype)
    reproject(
        values, result, src_transform=place, src_crs=source, dst_transform=affine, dst_crs=crs,
        resampling=Resampling.nearest, dst_nodata=nodata, init_dest_nodata=False,
    )  # fmt: skip
    return result, affine


def catalog(folder, *items):
    links = [{"rel": "item", "href": href} for href in items]
    root = {"type": "Catalog", "id": "c", "stac_version": "1.0.0", "links": links}
    (folder / "catalog.json").write_text(json.dumps(root))
    return folder / "catalog.json"


def best(path, **options):
    return search_pairs(DENMARK, DAY, catalog=path, sensors="optical", max_cloud=100, **options)[0]


@pytest.fixture(scope="module")
def whole():
    """The chip of the scene as it is embedded."""
    (pair,) = search_pairs(DENMARK, DAY, sensors="optical", max_cloud=100)
    return load_chip(pair, DENMARK, bands=["red", "green"])


def test_the_chip_of_two_halves_is_that_of_the_whole_scene(tmp_path, whole):
    path = catalog(
        tmp_path,
        cut(tmp_path, WHOLE, "west", (0, 0.6)),
        cut(tmp_path, WHOLE, "east", (0.6, 1), seconds=20),
    )
    pair = best(path)
    assert pair.optical.id == "west+east"
    assert pair.overlap == pytest.approx(1, abs=1e-3)  # straight edges bend in lon/lat
    chip = load_chip(pair, DENMARK, bands=["red", "green"])
    assert chip.grid == whole.grid
    np.testing.assert_array_equal(chip.optical, whole.optical)
    assert {part["item"] for part in chip.provenance["inputs"]} == {"west", "east"}
    assert {part["resampling"] for part in chip.provenance["inputs"]} == {"none"}
    gap = pair.optical.datetime - datetime.fromisoformat(sample(WHOLE)[1]["properties"]["datetime"])
    assert gap == timedelta(seconds=10)


def test_a_half_in_the_neighbouring_zone_fills_what_the_larger_one_leaves(tmp_path, whole):
    path = catalog(
        tmp_path,
        cut(tmp_path, WHOLE, "west", (0, 0.7)),
        cut(tmp_path, WHOLE, "east", (0.6, 1), crs=32633),
    )
    chip = load_chip(best(path), DENMARK, bands=["red", "green"])
    assert chip.grid == whole.grid
    assert chip.valid_optical[chip.inside].all()
    with rasterio.open(tmp_path / "west" / "red.tif") as west:
        edge = round((west.bounds.right - chip.grid.affine.c) / 10)
    assert 0 < edge < chip.grid.shape[1]
    np.testing.assert_array_equal(chip.optical[..., :edge], whole.optical[..., :edge])
    apart = np.abs(chip.optical[..., edge:] - whole.optical[..., edge:])
    assert np.nanmedian(apart) < 0.01
    assert {p["resampling"] for p in chip.provenance["inputs"]} == {"none", "bilinear"}


def test_the_lattice_is_that_of_the_zone_that_holds_most(tmp_path):
    path = catalog(
        tmp_path,
        cut(tmp_path, WHOLE, "a-west", (0, 0.4)),
        cut(tmp_path, WHOLE, "east", (0.4, 1), crs=32633),
    )
    pair = best(path)
    assert pair.optical.id == "east+a-west"
    chip = load_chip(pair, DENMARK, bands=["red"])
    assert str(chip.grid.crs) == "EPSG:32633"
    assert chip.valid_optical[chip.inside].mean() > 0.99


def test_values_of_a_mosaic_do_not_depend_on_how_the_aoi_is_cut(tmp_path):
    path = catalog(
        tmp_path,
        cut(tmp_path, WHOLE, "west", (0, 0.55)),
        cut(tmp_path, WHOLE, "east", (0.5, 1), crs=32633),
    )
    pair = best(path)
    large = load_chip(pair, DENMARK, bands=["red"])
    part = AOI.from_bbox(9.846, 57.221, 9.857, 57.23)  # most of it lies in the eastern item
    small = load_chip(pair, part, bands=["red"])
    column = round((small.grid.affine.c - large.grid.affine.c) / 10)
    row = round((large.grid.affine.f - small.grid.affine.f) / 10)
    rows, columns = small.grid.shape
    same = large.optical[0, row : row + rows, column : column + columns]
    np.testing.assert_array_equal(small.optical[0], same)


def test_cloud_is_read_from_the_masks_of_all_items(tmp_path):
    path = catalog(
        tmp_path,
        cut(tmp_path, WHOLE, "west", (0, 0.6)),
        cut(tmp_path, WHOLE, "east", (0.55, 1), crs=32633),
    )
    # All cloud in the east: where the west has data, it has the word.
    mask = tmp_path / "east" / "cloud_mask.tif"
    with rasterio.open(mask, "r+") as file:
        file.write(np.full(file.shape, 1, np.uint8), 1)
    (mosaic,) = with_mosaics(open_catalog(path).search(DENMARK), DENMARK)[2:]
    shares = clear_share(mosaic, DENMARK)
    west = clear_share(open_catalog(path).find("west")[0], DENMARK)
    assert shares.observed > 0.995
    assert 0.5 < west.observed < 0.7
    assert shares.clear == west.clear
    assert shares.cloud == pytest.approx(shares.observed - west.clear)


def test_both_sensors_of_a_mosaic_are_found_and_recorded_and_found_again(tmp_path):
    path = catalog(
        tmp_path,
        cut(tmp_path, WHOLE, "west", (0, 0.6)),
        cut(tmp_path, WHOLE, "east", (0.6, 1)),
    )
    chip = load_chip(best(path), DENMARK, bands=["red"])
    record = _input(chip.pair.optical, chip.provenance)
    assert [item["id"] for item in record["items"]] == ["west", "east"]
    assert [part["item"] for part in record["reads"]] == ["west", "east"]
    again = found_again([str(path)], record)
    assert again.id == "west+east"
    assert again.datetime == chip.pair.optical.datetime
    assert [i["id"] for i in again.items] == ["west", "east"]
    with pytest.raises(NoScenesFound, match="no longer"):
        found_again([str(path)], {**record, "items": [{"id": "west"}, {"id": "gone"}]})


def test_slices_of_sar_with_other_backscatter_are_refused(tmp_path):
    radar = {"bands": ("vv",), "platform": "sentinel-1a"}
    items = [
        cut(tmp_path, RADAR, "west", (0, 0.6), **radar),
        cut(tmp_path, RADAR, "east", (0.6, 1), **radar),
    ]
    path = catalog(tmp_path, *items)
    pair = search_pairs(DENMARK, DAY, catalog=path, sensors="sar")[0]
    assert pair.sar.id == "west+east"
    assert load_chip(pair, DENMARK).valid_sar.any()
    first, second = pair.sar.items
    other = {**second, "properties": {**second["properties"], "card4l:measurement_type": "sigma0"}}
    mixed = replace(pair, sar=replace(pair.sar, items=(first, other)))
    with pytest.raises(RadiometryUnknown, match="different backscatter"):
        load_chip(mixed, DENMARK)


# --- which items make a mosaic --------------------------------------------------------------------


def item(name, *, band="red", **properties):
    return {"id": name, "properties": properties, "assets": {band: {"href": f"./{name}.tif"}}}


def scene(name, west=10.0, east=10.02, *, at=NOON, seconds=0, cloud=0.0, orbit=None, **rest):
    when = at + timedelta(seconds=seconds)
    properties = rest.pop("properties", {})
    made = {
        "sensor": "sentinel-2-l2a", "modality": "optical", "datetime": when, "start": when,
        "end": when, "footprint": box(west, 44.9, east, 45.1), "cloud_cover": cloud,
        "assets": {"red": f"/data/{name}.tif"}, "items": (item(name, **properties),),
        "orbit": {"platform": "sentinel-2a"} if orbit is None else orbit,
    }  # fmt: skip
    return Scene(id=name, **(made | rest))


def mosaics(*scenes, aoi=AREA):
    found = with_mosaics(scenes, aoi)
    assert found[: len(scenes)] == list(scenes)
    return [made.id for made in found[len(scenes) :]]


def test_two_halves_are_one_scene_at_the_middle_of_the_pass():
    west, east = scene("w", cloud=10.0), scene("e", 10.02, 10.06, seconds=25, cloud=50.0)
    (*_, made) = with_mosaics([west, east], AREA)
    assert made.id == "e+w"  # both hold half; then by id
    assert made.datetime == made.start == made.end == NOON + timedelta(seconds=12.5)
    assert made.footprint.covers(AREA.geometry)
    assert made.cloud_cover == pytest.approx(30.0)
    assert [each["assets"]["red"]["href"] for each in made.items] == ["/data/e.tif", "/data/w.tif"]
    assert west.items[0]["assets"]["red"]["href"] == "./w.tif"


def test_cloud_is_the_mean_by_what_each_item_gives():
    west, east = scene("w", 9.9, 10.03, cloud=10.0), scene("e", 10.02, 10.06, cloud=50.0)
    (*_, made) = with_mosaics([west, east], AREA)
    assert made.cloud_cover == pytest.approx(0.75 * 10 + 0.25 * 50)
    (*_, made) = with_mosaics([west, replace(east, cloud_cover=None)], AREA)
    assert made.cloud_cover is None


@pytest.mark.parametrize(
    ("change", "joined"),
    [
        ({}, True),
        ({"seconds": 299}, True),
        ({"seconds": 301}, False),
        ({"seconds": -301}, False),
        ({"orbit": {"platform": "Sentinel-2A"}}, True),
        ({"orbit": {"platform": "sentinel-2b"}}, False),
        ({"orbit": {"platform": "sentinel-2a", "datatake": "other"}}, False),
        ({"orbit": {"platform": "sentinel-2a", "relative": 7}}, False),
        ({"processing": {"baseline": "05.10"}}, False),
        ({"processing": {"level": "L1C"}}, False),
        ({"processing": {"sun_elevation": 31.0}}, True),
        ({"collection": "another"}, False),
        ({"sensor": "sentinel-2-l1c"}, False),
        ({"assets": {"red": "r.tif", "nir": "n.tif"}}, False),
        ({"datetime": None}, False),
        ({"properties": {"earthsearch:boa_offset_applied": True}}, False),
    ],
)
def test_what_is_one_pass_processed_alike(change, joined):
    assert mosaics(scene("a"), scene("b", 10.02, 10.06, **change)) == ["a+b"] * joined


def test_without_satellite_and_orbit_nothing_tells_the_pass():
    halves = scene("a", orbit={}), scene("b", 10.02, 10.06, orbit={})
    assert mosaics(*halves) == []
    with_orbit = [replace(half, orbit={"relative": 22, "state": "ascending"}) for half in halves]
    assert mosaics(*with_orbit) == ["a+b"]


def test_an_item_that_covers_the_aoi_alone_needs_no_other():
    assert mosaics(scene("a", 9.9, 10.1), scene("b", 10.02, 10.06)) == []
    assert mosaics(scene("a"), scene("b", 10.0, 10.02)) == []


def test_items_that_add_nothing_stay_out():
    parts = scene("a", 9.9, 10.03), scene("b", 10.01, 10.05), scene("c", 10.02, 10.025)
    assert mosaics(*parts) == ["a+b"]


def test_of_two_versions_of_an_item_the_newer_one_enters():
    old = scene("b-old", 10.02, 10.05, properties={"updated": "2024-05-02"})
    new = scene("a-new", 10.021, 10.05, properties={"updated": "2024-06-01"})
    assert mosaics(scene("w", 10.0, 10.03), old, new) == ["w+a-new"]


def test_cells_of_the_tiling_tell_versions_from_neighbours():
    def cell(name):
        return {"properties": {"grid:code": f"MGRS-{name}"}}

    west = scene("w", 10.0, 10.02)
    one = scene("a", 10.01, 10.06, **cell("32TPS"))
    two = scene("b", 10.012, 10.061, **cell("32TPS"))
    assert mosaics(west, one, two) == ["b+w"]  # two versions; without dates the last by id
    two = scene("b", 10.012, 10.061, properties={"s2:mgrs_tile": "33TUM"})
    assert mosaics(west, one, two) == ["a+w"]  # neighbours of two zones: one is enough
    strips = scene("a", 10.0, 10.02, **cell("32TPS")), scene("b", 10.02, 10.06, **cell("32TPS"))
    assert mosaics(*strips) == ["a+b"]  # one cell, cut where two strips of data meet


def test_the_zone_that_holds_most_comes_first():
    zone = [{"proj:epsg": 32632}, {"proj:code": "EPSG:32633"}]
    large = scene("large", 10.0, 10.025, properties=zone[0])
    small = [
        scene("x", 10.01, 10.03, properties=zone[1]),
        scene("y", 10.025, 10.06, properties=zone[1]),
    ]
    # One item of zone 32 holds more than each of zone 33, but not more than both together.
    assert mosaics(large, *small) == ["x+y+large"]
    assert zone_of(small[0]) == "EPSG:32633"
    assert zone_of(scene("z")) == "EPSG:32632"


def test_two_passes_make_two_mosaics_and_order_does_not_matter():
    scenes = [
        scene(f"{day}{side}", west, east, at=NOON + timedelta(days=day))
        for day in (0, 5)
        for side, west, east in (("w", 10.0, 10.02), ("e", 10.02, 10.06), ("m", 10.01, 10.03))
    ]
    expected = sorted(mosaics(*scenes))
    assert len(expected) == 2
    for seed in range(5):
        shuffled = random.Random(seed).sample(scenes, len(scenes))
        assert sorted(mosaics(*shuffled)) == expected


def test_bands_whose_href_was_refused_are_not_brought_back_by_a_mosaic():
    def two(name, west, east, **assets):
        items = ({**item(name), "assets": {k: {"href": "/etc/x.tif"} for k in ("red", "nir")}},)
        return scene(name, west, east, items=items, assets=assets)

    west = two("a", 10.0, 10.02, red="https://host/a.tif")
    east = two("b", 10.02, 10.06, red="https://host/b.tif")
    (*_, made) = with_mosaics([west, east], AREA)
    for each in made.items:
        assert set(each["assets"]) == {"red"}
        assert each["assets"]["red"]["href"].startswith("https://host/")


def test_joining_what_is_not_one_pass_is_refused():
    with pytest.raises(SearchError, match="one pass"):
        join([scene("a"), scene("b", orbit={"platform": "sentinel-2b"})])
    with pytest.raises(SearchError, match="one pass"):
        join([scene("a"), scene("b", seconds=900)])


def test_the_single_items_stay_candidates(tmp_path):
    path = catalog(
        tmp_path,
        cut(tmp_path, WHOLE, "west", (0, 0.6)),
        cut(tmp_path, WHOLE, "east", (0.6, 1)),
    )
    options = {"catalog": path, "sensors": "optical", "max_cloud": 100}
    found = search_candidates(DENMARK, DAY, **options)
    assert [pair.optical.id for pair in found.pairs] == ["west+east", "west", "east"]
    without = search_candidates(DENMARK, DAY, exclude="east", **options)
    assert [pair.optical.id for pair in without.pairs] == ["west"]
    assert [each.reason for each in without.rejected] == ["Excluded by the user: east."]
    pinned = search_candidates(DENMARK, DAY, pin="east", **options)
    assert [pair.optical.id for pair in pinned.pairs] == ["west+east", "east"]
    (tmp_path / "east" / "red.tif").unlink()
    with pytest.raises(LoadError, match="item 'east'"):
        load_chip(found.pairs[0], DENMARK, bands=["red"])
