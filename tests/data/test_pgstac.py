"""A real STAC API (stac-fastapi, pgstac, PostGIS) and HTTP ranges: the same chips as from disk.

Where PostgreSQL with PostGIS is missing, root installs it, and anybody else is told the command.
"""

from __future__ import annotations

import json
from functools import cache

import pytest

from earthmind_lab.aoi import AOI
from earthmind_lab.data import apis
from earthmind_lab.data.catalogs import open_catalog
from earthmind_lab.data.frozen import freeze_search
from earthmind_lab.data.load import load_chip
from earthmind_lab.data.samples import place, places
from earthmind_lab.data.search import search_pairs
from earthmind_lab.recording import pixel_hash
from tests import pgstac_server
from tests.pgstac_server import serve_pgstac
from tests.range_server import serve
from tests.sample_items import SAMPLES, sample_items, write_parquet

BOTH = [each.name for each in places() if set(each.sensors) == {"optical", "sar"}]
pytestmark = pytest.mark.timeout(900)  # the first test may wait for an installation


@pytest.fixture(scope="module")
def files():
    with serve(SAMPLES) as running:
        yield running


@pytest.fixture(scope="module")
def items(files):
    return sample_items(files.url)


@pytest.fixture(scope="module")
def server(items):
    named = sorted({item["collection"] for item in items})
    collections = [json.loads((SAMPLES / n / "collection.json").read_text()) for n in named]
    with serve_pgstac([{**each, "links": []} for each in collections], items) as url:
        yield url


@pytest.fixture
def api(server, files, monkeypatch):
    monkeypatch.setenv("EARTHMIND_HOSTS", f"{files.place},{server.removeprefix('http://')}")
    return server


@pytest.fixture(scope="module")
def table(items, tmp_path_factory):
    return write_parquet(items, tmp_path_factory.mktemp("table") / "items.parquet")


@cache
def from_disk(name):
    """Pairs of a place as plain data, and the hash of the first one's chip."""
    return found(name, "sample")[1:]


def found(name, catalog):
    spot = place(name)
    aoi = AOI.from_bbox(*spot.bbox)
    how = {"max_gap": spot.max_gap} if spot.max_gap else {}
    pairs = search_pairs(aoi, spot.dates, catalog=catalog, **how)
    return pairs, [pair.to_dict() for pair in pairs], pixel_hash(load_chip(pairs[0], aoi))


@pytest.mark.parametrize("name", BOTH)
def test_api_table_and_frozen_search_give_the_pairs_and_the_chip_from_disk(
    name, api, table, tmp_path
):
    pairs, *there = found(name, api)
    assert there == [*from_disk(name)]
    assert pairs[0].catalog == api
    assert all(href.startswith("http://") for s in pairs[0].scenes for href in s.assets.values())
    assert found(name, table)[1:] == from_disk(name)
    frozen = freeze_search(tmp_path / "search.json", pairs, AOI.from_bbox(*place(name).bbox))
    assert found(name, frozen)[1:] == from_disk(name)


@pytest.mark.parametrize("name", BOTH)
def test_pages_hold_every_scene_once(name, api, monkeypatch):
    """One item to a page: pgstac hands out a token for the next."""
    monkeypatch.setattr(apis, "PAGE", 1)
    assert found(name, api)[1:] == from_disk(name)
    catalog, aoi = open_catalog(api), AOI.from_bbox(*place(name).bbox)
    here = [(scene.id, scene.sensor) for scene in open_catalog("sample").search(aoi)]
    assert [(scene.id, scene.sensor) for scene in catalog.search(aoi)] == here
    assert catalog.problems == ()


def test_who_may_not_install_is_told_the_command(monkeypatch):
    monkeypatch.setattr(pgstac_server, "_installed", lambda: None)
    monkeypatch.setattr(pgstac_server, "ROOT", False)
    with pytest.raises(pgstac_server.NotStarted, match=r"apt-get install .*postgis"):
        pgstac_server.find_postgres()


def test_a_scene_is_found_by_its_id(api):
    (scene,) = open_catalog("sample").search(AOI.from_bbox(*place("spain").bbox), modality="sar")
    assert [each.id for each in open_catalog(api).find(scene.id)] == [scene.id]
