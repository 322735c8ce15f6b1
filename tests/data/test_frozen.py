"""A frozen search is one standard file that gives the same pairs again, with nothing to ask."""

from __future__ import annotations

import json
import shutil
import socket
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pystac
import pytest
from shapely.geometry import box, mapping

from earthmind_lab.aoi import AOI
from earthmind_lab.data.catalogs import open_catalog
from earthmind_lab.data.frozen import freeze_search
from earthmind_lab.data.load import load_chip
from earthmind_lab.data.samples import place, places
from earthmind_lab.data.search import search_pairs, search_scenes
from earthmind_lab.errors import LoadError, SearchError
from earthmind_lab.recording import pixel_hash
from tests.range_server import serve
from tests.sample_items import SAMPLES, sample_items
from tests.stac_server import serve_stac

SPAIN = AOI.from_bbox(-0.775, 38.09, -0.745, 38.12)
DATES = "2019-09-15/2019-09-20"
BOTH = [each.name for each in places() if set(each.sensors) == {"optical", "sar"}]


@pytest.fixture
def files():
    with serve(SAMPLES) as running:
        yield running


@pytest.fixture
def api(files, monkeypatch):
    """Every optical scene of Spain several times, so that there is an order to keep."""
    items = sample_items(files.url)
    with serve_stac([*items, *variants(items)]) as running:
        monkeypatch.setenv("EARTHMIND_HOSTS", f"{files.place},{running.place}")
        yield running


def variants(items):
    """Twins of Spain: other times, one without a mask, one whose mask is gone."""
    (twin,) = (i for i in items if "spain" in i["id"].lower() and "red" in i["assets"])
    for number in range(4):
        item = json.loads(json.dumps(twin)) | {"id": f"{twin['id']}_{number}"}
        item["properties"]["datetime"] = f"2019-09-1{6 + number}T08:00:00Z"
        item["properties"]["eo:cloud_cover"] = 7.5
        mask = next(key for key in item["assets"] if key in ("scl", "cloud_mask"))
        if number == 1:
            del item["assets"][mask]
        if number == 2:
            item["assets"][mask]["href"] += ".gone"
        yield item


@pytest.fixture
def offline(monkeypatch):
    """No socket opens any more."""

    def refuse(*_args, **_kwargs):
        raise AssertionError("a frozen search asked the network")

    def cut():
        monkeypatch.setattr(socket.socket, "connect", refuse)
        monkeypatch.setattr(socket, "getaddrinfo", refuse)

    return cut


def told(pairs):
    return [pair.to_dict() for pair in pairs]


def test_it_gives_the_same_pairs_with_no_network(api, tmp_path, offline):
    found = search_pairs(SPAIN, DATES, catalog=api.url)
    path = freeze_search(tmp_path / "search.json", found, SPAIN, terms={"dates": DATES})
    offline()
    again = search_pairs(SPAIN, DATES, catalog=path)
    assert len(again) == 5
    assert told(again) == told(found)
    assert [pair.catalog for pair in again] == [str(path)] * 5
    assert [s.assets for p in again for s in p.scenes] == [
        s.assets for p in found for s in p.scenes
    ]


@pytest.mark.parametrize("name", BOTH)
def test_every_place_gives_the_same_pairs_and_chip(name, tmp_path):
    spot = place(name)
    aoi, how = AOI.from_bbox(*spot.bbox), {"max_gap": spot.max_gap} if spot.max_gap else {}
    found = search_pairs(aoi, spot.dates, catalog="sample", **how)
    path = freeze_search(tmp_path / "search.json", found, aoi)
    again = search_pairs(aoi, spot.dates, catalog=path, **how)
    assert told(again) == told(found)
    gsd = 40  # a coarse read proves the files as well as a fine one
    assert pixel_hash(load_chip(again[0], aoi, gsd=gsd)) == pixel_hash(
        load_chip(found[0], aoi, gsd=gsd)
    )


def test_a_footprint_that_covers_a_part_keeps_its_share(api, tmp_path, offline):
    """V is asked of the part of the AOI that both scenes cover: samples are kept, not a share."""
    west, south, east, north = SPAIN.bounds
    half = box(west - 1, south - 1, (2 * west + east) / 3, north + 1)
    for item in api.items:
        if "vv" in item["assets"]:
            item["geometry"], item["bbox"] = mapping(half), list(half.bounds)
    found = search_pairs(SPAIN, DATES, catalog=api.url)
    assert found[0].overlap < 0.5
    path = freeze_search(tmp_path / "search.json", found, SPAIN)
    offline()
    assert told(search_pairs(SPAIN, DATES, catalog=path)) == told(found)


def test_other_areas_ask_the_masks_themselves(api, files, tmp_path):
    path = freeze_search(tmp_path / "s.json", search_pairs(SPAIN, DATES, catalog=api.url), SPAIN)
    files.requests.clear()
    part = AOI.from_bbox(-0.770, 38.09, -0.745, 38.12)
    assert told(search_pairs(part, DATES, catalog=path)) == told(
        search_pairs(part, DATES, catalog=api.url)
    )
    assert files.requests
    # The same area, its ring drawn the other way round.
    files.requests.clear()
    turned = AOI(geometry=SPAIN.geometry.reverse())
    search_pairs(turned, DATES, catalog=path)
    assert not files.requests


def test_the_file_is_a_standard_item_collection_that_tells_how_it_came_about(api, tmp_path):
    found = search_pairs(SPAIN, DATES, catalog=api.url)
    terms = {"dates": DATES, "max_gap": timedelta(days=6), "sensors": ("optical", "sar")}
    path = freeze_search(tmp_path / "search.json", found, SPAIN, terms=terms)
    items = pystac.ItemCollection.from_file(str(path)).items
    assert {item.id for item in items} == {s.id for pair in found for s in pair.scenes}
    search = json.loads(path.read_text())["earthmind:search"]
    assert search["catalog"] == [api.url]
    assert search["terms"] == {
        "dates": DATES, "max_gap": "144 hours", "sensors": ["optical", "sar"],
    }  # fmt: skip
    assert search["pairs"] == told(found)
    assert search["aoi"]["geometry"]["type"] == "Polygon"
    assert path.stat().st_size < 200_000
    assert list(tmp_path.iterdir()) == [path]


def test_no_key_is_written(api, tmp_path):
    for item in api.items:
        item["assets"]["thumbnail"] = {"href": "https://me:secret@x.org/a.png?sig=secret"}
        item["properties"]["source"] = "https://x.org/?X-Amz-Signature=secret&v=1"
        item["links"] = [{"rel": "self", "href": "https://x.org/i?token=secret"}]
    path = freeze_search(tmp_path / "s.json", search_pairs(SPAIN, DATES, catalog=api.url), SPAIN)
    assert "secret" not in path.read_text()
    assert "https://x.org/a.png" in path.read_text()


def test_hrefs_of_a_catalog_on_disk_become_absolute(tmp_path):
    path = freeze_search(tmp_path / "s.json", search_pairs(SPAIN, DATES, catalog="sample"), SPAIN)
    for item in json.loads(path.read_text())["features"]:
        for asset in item["assets"].values():
            assert asset["href"].startswith(str(SAMPLES))


def test_every_item_of_a_scene_keeps_its_own_files(tmp_path):
    """A scene of two items has one href per band; the other item's must not become it."""
    (pair,) = search_pairs(SPAIN, DATES, catalog="sample")
    (item,) = pair.optical.items
    folder = Path(pair.optical.assets["red"]).parent
    for key, asset in item["assets"].items():
        shutil.copy(folder / asset["href"], tmp_path / f"{key}.tif")
    assets = {
        key: {**asset, "href": f"{tmp_path}/{key}.tif"} for key, asset in item["assets"].items()
    }
    other = {**item, "id": "other", "assets": assets}
    both = replace(pair.optical, id=f"{item['id']}+other", items=(item, other))
    path = freeze_search(tmp_path / "s.json", [replace(pair, optical=both)], SPAIN)
    frozen = {each["id"]: each for each in json.loads(path.read_text())["features"]}
    hrefs = {key: asset["href"] for key, asset in frozen["other"]["assets"].items()}
    assert hrefs == {key: f"{tmp_path}/{key}.tif" for key in assets}
    hrefs = [asset["href"] for asset in frozen[item["id"]]["assets"].values()]
    assert all(href.startswith(str(SAMPLES)) for href in hrefs)
    masks = {
        mask["scene"]
        for each in frozen.values()
        for mask in each["properties"].get("earthmind:masks", ())
    }
    assert masks == {both.id, item["id"], "other"}  # of both together, and of each by itself


def test_a_folder_that_is_not_there_is_said_before_anything_is_read(tmp_path):
    found = search_pairs(SPAIN, DATES, catalog="sample")
    with pytest.raises(SearchError, match="no folder"):
        freeze_search(tmp_path / "nowhere" / "search.json", found, SPAIN)


def test_a_partial_answer_stays_partial(api, tmp_path):
    api.page = 3
    api.fault = lambda number: 400 if "token" in api.searches[-1] else 200
    found = search_pairs(SPAIN, DATES, catalog=api.url)
    path = freeze_search(tmp_path / "search.json", found, SPAIN)
    again = search_pairs(SPAIN, DATES, catalog=path)
    assert again[0].reasons[-1] == f"{path}: {found[0].reasons[-1]}"
    assert "Only the first 3 items" in again[0].reasons[-1]


def test_scenes_freeze_too(api, tmp_path, offline):
    found = search_scenes(SPAIN, DATES, catalog=api.url)
    path = freeze_search(tmp_path / "search.json", found, SPAIN)
    pairs = told(search_pairs(SPAIN, DATES, catalog=api.url))
    offline()
    again = search_scenes(SPAIN, DATES, catalog=path)
    assert [scene.id for scene in again] == [scene.id for scene in found]
    assert [p["score"] for p in told(search_pairs(SPAIN, DATES, catalog=path))] == [
        p["score"] for p in pairs
    ]


def test_a_mask_that_is_gone_meanwhile_is_an_error_and_leaves_nothing(api, files, tmp_path):
    found = search_pairs(SPAIN, DATES, catalog=api.url)
    files.fault = lambda path, _number: "expired"
    from earthmind_lab.data import files as opened

    opened._files.cache_clear()
    with pytest.raises((LoadError, SearchError), match="account"):
        freeze_search(tmp_path / "search.json", found, SPAIN)
    assert not list(tmp_path.iterdir())


def test_nothing_is_no_search(tmp_path):
    with pytest.raises(SearchError, match="nothing to freeze"):
        freeze_search(tmp_path / "search.json", [], SPAIN)


@pytest.mark.parametrize(
    "change",
    [
        {"samples": "AAAA"},
        {"samples": 5},
        {"samples": ""},
        {"shape": [100_000, 100_000]},
        {"shape": [0, 0]},
        {"shape": "x"},
        {"transform": [0, 0, 0, 0, 0, 0]},
        {"transform": [1]},
        {"crs": "http://169.254.169.254/"},
        {"crs": None},
        {"title": {"a": 1}, "shape": None},
    ],
)
def test_a_damaged_mask_is_said_and_breaks_nothing(tmp_path, change):
    found = search_pairs(SPAIN, DATES, catalog="sample")
    path = freeze_search(tmp_path / "search.json", found, SPAIN)
    data = json.loads(path.read_text())
    for item in data["features"]:
        for mask in item["properties"].get("earthmind:masks", ()):
            mask.update(change)
    path.write_text(json.dumps(data))
    (pair,) = search_pairs(SPAIN, DATES, catalog=path, max_cloud=100)
    assert any("keeps of a cloud mask is damaged" in reason for reason in pair.reasons)


def test_a_frozen_file_without_a_search_is_an_item_collection(tmp_path):
    path = freeze_search(tmp_path / "s.json", search_pairs(SPAIN, DATES, catalog="sample"), SPAIN)
    data = json.loads(path.read_text())
    data["earthmind:search"] = ["odd"]
    path.write_text(json.dumps(data))
    assert open_catalog(path).cuts == ()
