"""A real STAC API (stac-fastapi, pgstac, PostGIS) and HTTP ranges: the same chips as from disk.

Where PostgreSQL with PostGIS is missing, root installs it, and anybody else is told the command.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from earthmind_lab.aoi import AOI
from earthmind_lab.data import apis
from earthmind_lab.data.catalogs import open_catalog
from earthmind_lab.data.frozen import freeze_search
from earthmind_lab.data.load import load_chip
from earthmind_lab.data.samples import place, places
from earthmind_lab.data.search import search_pairs
from earthmind_lab.recording import pixel_hash
from tests import apt, pgstac_server
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


def pairs_of(name, catalog):
    spot = place(name)
    how = {"max_gap": spot.max_gap} if spot.max_gap else {}
    return search_pairs(AOI.from_bbox(*spot.bbox), spot.dates, catalog=catalog, **how)


def told(name, pairs):
    """Pairs as plain data, and the hash of the first one's chip."""
    chip = load_chip(pairs[0], AOI.from_bbox(*place(name).bbox))
    return [pair.to_dict() for pair in pairs], pixel_hash(chip)


@pytest.mark.parametrize("name", BOTH)
def test_api_table_and_frozen_search_give_the_pairs_and_the_chip_from_disk(
    name, api, table, tmp_path, monkeypatch
):
    here = told(name, pairs_of(name, "sample"))
    pairs = pairs_of(name, api)
    assert pairs[0].catalog == api
    assert all(href.startswith("http://") for s in pairs[0].scenes for href in s.assets.values())
    assert told(name, pairs) == here
    monkeypatch.setattr(apis, "PAGE", 1)  # pgstac hands out a token for the next page
    assert told(name, pairs_of(name, api)) == here
    assert told(name, pairs_of(name, table)) == here
    frozen = freeze_search(tmp_path / "search.json", pairs, AOI.from_bbox(*place(name).bbox))
    assert told(name, pairs_of(name, frozen)) == here


def test_pages_hold_every_scene_once(api, monkeypatch):
    monkeypatch.setattr(apis, "PAGE", 1)
    for name in BOTH:
        catalog, aoi = open_catalog(api), AOI.from_bbox(*place(name).bbox)
        here = [(scene.id, scene.sensor) for scene in open_catalog("sample").search(aoi)]
        assert [(scene.id, scene.sensor) for scene in catalog.search(aoi)] == here
        assert catalog.problems == ()


def test_who_may_not_install_is_told_the_command(monkeypatch):
    monkeypatch.setattr(pgstac_server, "_installed", lambda: None)
    monkeypatch.setattr(pgstac_server, "ROOT", False)
    with pytest.raises(pgstac_server.NotStarted, match=r"apt-get install .*postgis"):
        pgstac_server.find_postgres()


def test_two_processes_never_install_at_the_same_time(tmp_path, monkeypatch):
    """And the second finds what the first has installed."""
    there = tmp_path / "there"
    monkeypatch.setattr(pgstac_server, "_installed", lambda: there if there.exists() else None)
    monkeypatch.setattr(pgstac_server, "_install", lambda: pytest.fail("it is there"))
    monkeypatch.setattr(pgstac_server, "ROOT", True)
    monkeypatch.setattr(apt, "LOCK", tmp_path / "lock")
    with ThreadPoolExecutor(1) as other:
        with apt.alone():
            found = other.submit(pgstac_server.find_postgres)
            with pytest.raises(TimeoutError):
                found.result(0.2)
            there.touch()
        assert found.result(10) == there


def test_a_scene_is_found_by_its_id(api):
    (scene,) = open_catalog("sample").search(AOI.from_bbox(*place("spain").bbox), modality="sar")
    assert [each.id for each in open_catalog(api).find(scene.id)] == [scene.id]
