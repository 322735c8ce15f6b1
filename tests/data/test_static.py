"""Static catalogs behind http: the same scenes, the same rules, one deadline."""

from __future__ import annotations

import json
import threading
import time

import pytest

from earthmind_lab.aoi import AOI
from earthmind_lab.data.access import Access
from earthmind_lab.data.budget import Budget
from earthmind_lab.data.catalogs import open_catalog
from earthmind_lab.data.files import Files, Reader
from earthmind_lab.data.load import load_chip
from earthmind_lab.data.samples import catalog_path
from earthmind_lab.data.search import search_pairs
from earthmind_lab.data.static import read_static
from earthmind_lab.errors import Cancelled, CatalogUnavailable
from earthmind_lab.recording import pixel_hash
from tests.range_server import serve

SAMPLES = catalog_path().parent
SPAIN = AOI.from_bbox(-0.775, 38.09, -0.745, 38.12)
DATES = "2019-09-15/2019-09-20"


@pytest.fixture
def server(monkeypatch):
    with serve(SAMPLES) as running:
        monkeypatch.setenv("EARTHMIND_HOSTS", running.place)
        yield running


def address(server) -> str:
    return f"{server.url}/catalog.json"


def test_a_catalog_behind_an_address_gives_the_pairs_and_the_chip_from_disk(server):
    here = search_pairs(SPAIN, DATES, catalog="sample")
    there = search_pairs(SPAIN, DATES, catalog=address(server))
    assert [pair.to_dict() for pair in there] == [pair.to_dict() for pair in here]
    assert there[0].catalog == address(server)
    assert there[0].optical.assets["red"].startswith(server.url)
    assert pixel_hash(load_chip(there[0], SPAIN)) == pixel_hash(load_chip(here[0], SPAIN))


def test_every_item_is_fetched_once_and_several_at_a_time(server):

    def once_the_root_is_asked_for(_path, _number):
        server.together = 4

    server.fault = once_the_root_is_asked_for
    catalog = open_catalog(address(server))
    here = open_catalog("sample").search()
    assert [scene.id for scene in catalog.search()] == [scene.id for scene in here]
    assert max(server.seen.values()) == 1
    assert server.most_at_once >= 4


def test_a_failing_item_costs_only_itself(server):
    server.fault = lambda path, _number: "expired" if "S2_L2A_bolzano" in path else None
    catalog = open_catalog(address(server))
    assert "bolzano" in catalog.problems[0] and "status 403" in catalog.problems[0]
    assert len(catalog.scenes) == len(open_catalog("sample").scenes) - 1


@pytest.mark.parametrize(
    "href", ["file:///etc/passwd", "/vsicurl/http://x/i.json", "ftp://x/i.json"]
)
def test_links_lead_to_no_file_of_this_machine(href, tmp_path):
    links = [{"rel": "item", "href": href}]
    root = {"type": "Catalog", "stac_version": "1.0.0", "id": "c", "links": links}
    (tmp_path / "catalog.json").write_text(json.dumps(root))
    with serve(tmp_path) as server, pytest.raises(CatalogUnavailable, match="is broken"):
        open_catalog(address(server))
    assert not set(server.seen) - {"/catalog.json"} or href.startswith("/")


def test_other_hosts_need_to_be_allowed(tmp_path):
    """The host that the user named may answer; what it links to follows the usual rule."""
    links = [{"rel": "item", "href": "http://127.0.0.1:1/item.json"}]
    root = {"type": "Catalog", "stac_version": "1.0.0", "id": "c", "links": links}
    (tmp_path / "catalog.json").write_text(json.dumps(root))
    with serve(tmp_path) as server, pytest.raises(CatalogUnavailable, match="private network"):
        open_catalog(address(server))


def test_a_missing_catalog_says_so(server):
    with pytest.raises(CatalogUnavailable, match="404"):
        open_catalog(f"{server.url}/nothing.json")


def test_a_catalog_that_never_ends_in_time(server):
    server.fault = lambda path, _number: "stall" if "S1_" in path else None
    reader = Reader(files=Files(Access(hosts=(server.place,))), budget=Budget(1))
    with pytest.raises(CatalogUnavailable, match="in time"):
        read_static(address(server), reader=reader)


def test_cancel_stops_the_reading(server):
    server.delay = 0.2
    budget = Budget(60)
    reader = Reader(files=Files(Access(hosts=(server.place,))), budget=budget)
    threading.Timer(0.5, budget.cancel).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        read_static(address(server), reader=reader)
    assert time.monotonic() - began < 30  # of sixty
