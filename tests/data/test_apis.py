"""STAC APIs: the embedded scenes behind one, pages, faults, and hrefs that lead astray."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from earthmind_lab.aoi import AOI
from earthmind_lab.data.apis import EMPTY_PAGES, ApiCatalog
from earthmind_lab.data.budget import Budget
from earthmind_lab.data.catalogs import open_catalog
from earthmind_lab.data.known import KNOWN
from earthmind_lab.data.links import BUCKETS
from earthmind_lab.data.load import load_chip
from earthmind_lab.data.search import search_pairs, search_scenes
from earthmind_lab.errors import AccessDenied, CatalogUnavailable, NoScenesFound
from earthmind_lab.recording import pixel_hash
from earthmind_lab.sensors import SENSORS
from tests.range_server import serve
from tests.sample_items import SAMPLES, sample_items
from tests.stac_server import serve_stac

SPAIN = AOI.from_bbox(-0.775, 38.09, -0.745, 38.12)
DATES = "2019-09-15/2019-09-20"


@pytest.fixture
def files():
    with serve(SAMPLES) as running:
        yield running


@pytest.fixture
def api(files, monkeypatch):
    with serve_stac(sample_items(files.url), page=2) as running:
        monkeypatch.setenv("EARTHMIND_HOSTS", f"{files.place},{running.place}")
        yield running


def test_an_api_gives_the_pairs_and_the_chip_of_the_catalog_on_disk(api):
    here = search_pairs(SPAIN, DATES, catalog="sample")
    there = search_pairs(SPAIN, DATES, catalog=api.url)
    assert [pair.to_dict() for pair in there] == [pair.to_dict() for pair in here]
    one, other = load_chip(here[0], SPAIN), load_chip(there[0], SPAIN)
    assert pixel_hash(one) == pixel_hash(other)
    assert np.array_equal(one.sar, other.sar, equal_nan=True)
    assert there[0].catalog == api.url


def test_every_scene_comes_over_pages(api):
    """Every scene that the catalog on disk has there arrives, and once."""
    api.items = [
        {**item, "id": f"{item['id']}_{number}"} for item in api.items for number in range(5)
    ]
    found = [scene.id for scene in open_catalog(api.url).search(SPAIN)]
    here = [scene.id for scene in open_catalog("sample").search(SPAIN)]
    assert found == sorted(f"{one}_{number}" for one in here for number in range(5))
    assert len(api.searches) == len(found) // api.page + len(found) % api.page


def test_an_empty_page_is_not_the_last_where_it_names_a_next(api):
    whole = [scene.id for scene in open_catalog(api.url).search(SPAIN)]
    api.page, api.empty = 1, EMPTY_PAGES
    catalog = open_catalog(api.url)
    assert [scene.id for scene in catalog.search(SPAIN)] == whole and len(whole) > 1
    assert not catalog.problems


def test_empty_pages_without_end_leave_a_partial_answer_that_says_so(api):
    api.page, api.empty = 1, EMPTY_PAGES + 1
    catalog = open_catalog(api.url)
    assert len(catalog.search(SPAIN)) == 1
    assert f"Only the first 1 items could be read: {EMPTY_PAGES + 1} pages" in catalog.problems[0]


def test_what_is_no_item_costs_nothing_else(api):
    """No number, half a character, an id that is none: stricter readers lose the whole page."""
    sound = [scene.id for scene in open_catalog(api.url).search(SPAIN)]
    api.hostile = [{"id": {"a": float("nan")}, "collection": []}, "\ud800", None, [1]]
    catalog = open_catalog(api.url)
    assert [scene.id for scene in catalog.search(SPAIN)] == sound


def test_only_the_collections_of_the_modality_are_asked_for(api):
    search_scenes(SPAIN, DATES, catalog=api.url, sensors="sar")
    asked = {name for search in api.searches for name in search["collections"]}
    assert asked
    assert all(name.startswith("sentinel-1") for name in asked)


@pytest.mark.parametrize(
    ("catalog", "kind", "collections"),
    [
        ("planetary-computer", "optical", ("sentinel-2-l2a",)),
        ("planetary-computer", "sentinel-2-l2a", ("sentinel-2-l2a",)),
        ("planetary-computer", "landsat-c2-l2", ("landsat-c2-l2",)),
        ("planetary-computer", "hls-s30", ("hls2-s30",)),
        ("planetary-computer", "sentinel-1-grd", ("sentinel-1-grd",)),
        ("earth-search", "naip", ("naip",)),
        ("digital-earth-africa", "landsat-c2-l2", ("ls8_sr", "ls9_sr")),
        ("digital-earth-africa", "sentinel-1-rtc", ("s1_rtc",)),
        ("opera", "sentinel-1-rtc", ("OPERA_L2_RTC-S1_V1_1",)),
        ("copernicus", "naip", ()),
    ],
)
def test_what_a_known_catalog_is_asked_for(catalog, kind, collections):
    assert ApiCatalog.open(catalog)._collections(kind) == collections


def test_further_collections_are_those_of_a_sensor():
    for known in KNOWN:
        for name in known.more:
            assert any(name in sensor.collections for sensor in SENSORS.values()), name


def test_a_sensor_asked_for_by_its_key_is_all_that_comes(api):
    every = search_scenes(SPAIN, DATES, catalog=api.url)
    keys = sorted({scene.sensor for scene in every})
    assert len(keys) > 1
    for key in keys:
        found = search_scenes(SPAIN, DATES, catalog=api.url, sensors=key)
        assert [s.id for s in found] == [s.id for s in every if s.sensor == key]


def test_an_api_that_ignores_collections_makes_no_sar_of_optical(api, monkeypatch):
    monkeypatch.setattr(api, "found", lambda _query: api.items)
    (pair,) = search_pairs(SPAIN, DATES, catalog=api.url)
    assert (pair.optical.modality, pair.sar.modality) == ("optical", "sar")


def test_an_empty_search_names_the_nearest_miss(api):
    with pytest.raises(NoScenesFound, match="2019-09") as caught:
        search_pairs(SPAIN, "2019-10-15/2019-10-20", catalog=api.url)
    assert "dates=" in caught.value.change


def test_a_place_without_scenes_says_how_far_it_looked(api):
    with pytest.raises(NoScenesFound, match="90 days"):
        search_pairs(AOI.from_bbox(100, -5, 100.02, -4.98), DATES, catalog=api.url)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_page_that_fails_is_asked_for_again(api, status):
    api.fault = lambda number: status if number == 2 else 200
    found = ApiCatalog.open(api.url).search(SPAIN)
    assert {s.id for s in found} == {s.id for s in open_catalog("sample").search(SPAIN)}


@pytest.mark.parametrize("status", [429, 503])
def test_a_page_waits_as_long_as_the_server_asks(api, monkeypatch, status):
    """Retry-After of a POST, in seconds; without it the pauses are ours."""
    slept = []
    monkeypatch.setattr(Budget, "sleep", lambda _self, seconds: slept.append(seconds))
    api.page, api.retry_after = 1, "7"
    api.fault = lambda number: status if number in (2, 3) else 200
    found = ApiCatalog.open(api.url).search(SPAIN)
    assert {s.id for s in found} == {s.id for s in open_catalog("sample").search(SPAIN)}
    assert slept == [7.0, 7.0]
    assert api.searches[1] == api.searches[2] == api.searches[3]


def test_a_server_that_asks_for_more_time_than_there_is_ends_the_search_at_once(api):
    api.retry_after, api.fault = "3600", lambda _number: 429
    with pytest.raises(CatalogUnavailable, match="not ended after 30 seconds; last: status 429"):
        search_pairs(SPAIN, DATES, catalog=api.url, deadline=30)
    assert len(api.searches) == 1


def test_pages_that_never_come_leave_a_partial_answer_that_says_so(api, caplog):
    api.page = 1
    api.fault = lambda number: 400 if number > 1 else 200
    catalog = ApiCatalog.open(api.url)
    found = catalog.search(SPAIN)
    assert len(found) == 1
    assert "Only the first 1 items" in catalog.problems[0]
    assert "status 400" in caplog.text


def test_a_partial_answer_is_said_in_the_reasons_of_its_pairs(api):
    """The optical scene twice, one a page, and the second page never comes."""
    twin = next(i for i in api.items if i["id"] == search_pairs(SPAIN, DATES)[0].optical.id)
    api.items = [*api.items, {**twin, "id": f"{twin['id']}_again"}]
    api.page = 1
    assert len(search_pairs(SPAIN, DATES, catalog=api.url)) == 2
    api.fault = lambda _number: 400 if "token" in api.searches[-1] else 200
    (pair,) = search_pairs(SPAIN, DATES, catalog=api.url)
    assert "Only the first 1 items could be read" in pair.reasons[-1]


@pytest.mark.parametrize(
    ("status", "error", "match"),
    [
        (401, AccessDenied, "account"),
        (403, AccessDenied, "account"),
        (400, CatalogUnavailable, "status 400"),
        (500, CatalogUnavailable, "in 2 seconds|2 seconds"),
    ],
)
def test_an_api_that_refuses_says_so(api, status, error, match):
    api.fault = lambda _number: status
    with pytest.raises(error, match=match):
        search_pairs(SPAIN, DATES, catalog=api.url, deadline=2)


def test_a_known_catalog_that_refuses_names_its_settings(api):
    api.fault = lambda _number: 401
    copernicus = next(known for known in KNOWN if known.name == "copernicus")
    catalog = ApiCatalog(name="copernicus", url=api.url, known=copernicus)
    with pytest.raises(AccessDenied, match="wants an account") as caught:
        catalog.search(SPAIN)
    assert "CDSE_S3_ACCESS_KEY and CDSE_S3_SECRET_KEY" in caught.value.change


def test_the_next_catalog_of_a_list_takes_over(api):
    api.fault = lambda _number: 400
    pairs = search_pairs(SPAIN, DATES, catalog=[api.url, "sample"])
    assert pairs[0].catalog == "sample"


def test_optical_and_sar_may_come_from_different_catalogs(api):
    pair = search_pairs(SPAIN, DATES, catalog={"optical": api.url, "sar": "sample"})[0]
    assert pair.catalog == f"{api.url}, sample"
    assert pair.optical.assets["red"].startswith("http://")
    assert Path(pair.sar.assets["vv"]).is_file()


def test_what_a_catalog_of_one_sensor_lacks_is_said_of_that_one(api):
    """Optical comes from the embedded catalog, SAR from one that has none."""
    api.items = [item for item in api.items if "sentinel-2" in item["collection"]]
    with pytest.raises(NoScenesFound) as caught:
        search_pairs(SPAIN, DATES, catalog={"optical": "sample", "sar": api.url})
    assert f"The catalog {api.url!r} has no SAR scenes" in str(caught.value)


def test_a_catalog_that_does_not_answer_leaves_time_for_the_next(api):
    api.stall = 30
    pairs = search_pairs(SPAIN, DATES, catalog=[api.url, "sample"], deadline=3)
    assert pairs[0].catalog == "sample"
    assert "can't be read" not in " ".join(pairs[0].reasons)


def test_each_catalog_of_a_list_says_why_it_gave_nothing(api):
    api.fault = lambda _number: 400
    with pytest.raises(CatalogUnavailable) as caught:
        search_pairs(SPAIN, "2001-01-01", catalog=[api.url, "sample"])
    assert f"{api.url!r} can't be searched" in str(caught.value)
    assert "; then No optical and SAR scenes on 2001-01-01" in str(caught.value)


@pytest.mark.parametrize("elsewhere", ["http://169.254.169.254", "http://127.0.0.1:1"])
def test_a_next_page_elsewhere_is_not_fetched(api, elsewhere):
    """The catalog says where its next page is; it can't send us anywhere."""
    api.next_url, api.page = elsewhere, 1
    catalog = ApiCatalog.open(api.url)
    assert catalog.search(SPAIN)
    assert "is not in EARTHMIND_HOSTS" in catalog.cuts[0]


def test_an_open_catalog_has_time_for_every_search_and_forgets_what_came_in_part(api, monkeypatch):
    """Someone keeps it open over lunch."""
    catalog = ApiCatalog.open(api.url)
    twin = next(i for i in api.items if i["id"] == search_pairs(SPAIN, DATES)[0].optical.id)
    api.items, api.page = [*api.items, {**twin, "id": f"{twin['id']}_again"}], 1
    api.fault = lambda _number: 400 if "token" in api.searches[-1] else 200
    pairs = search_pairs(SPAIN, DATES, catalog=catalog)
    assert "Only the first" in pairs[0].reasons[-1]
    api.fault = lambda _number: 200
    start = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: start + 3600)
    pairs = search_pairs(SPAIN, DATES, catalog=catalog)
    assert "Only the first" not in " ".join(pairs[0].reasons)
    assert catalog.search(SPAIN)


def test_a_key_in_an_address_is_not_repeated(api):
    pairs = search_pairs(SPAIN, DATES, catalog=f"{api.url}?api_key=hidden")
    assert pairs[0].catalog == api.url


def test_no_server_at_all(monkeypatch):
    monkeypatch.setenv("EARTHMIND_HOSTS", "127.0.0.1:9")
    with pytest.raises(CatalogUnavailable, match="can't be searched"):
        search_pairs(SPAIN, DATES, catalog="http://127.0.0.1:9/stac", deadline=1)


def test_the_table_of_catalogs_names_its_keys():
    names = [known.name for known in KNOWN]
    assert len(set(names)) == len(names)
    for known in KNOWN:
        assert known.url.startswith("https://")
        assert bool(known.settings) == (known.access != "open"), known.name
        assert known.optical or known.sar
    keys = {names for bucket in BUCKETS.values() if (names := bucket.keys)}
    assert {k for pair in keys for k in pair} <= {s for known in KNOWN for s in known.settings}
