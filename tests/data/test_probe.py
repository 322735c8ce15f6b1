"""A known catalog is asked whether it answers, holds its collections, and has its keys."""

from __future__ import annotations

from dataclasses import replace

import pytest

from earthmind_lab import checks
from earthmind_lab.data import known
from earthmind_lab.data.budget import WebError
from earthmind_lab.data.known import Known
from earthmind_lab.data.probe import probe
from earthmind_lab.errors import AccessDenied, CatalogUnavailable
from tests.sample_items import sample_items
from tests.stac_server import serve_stac


@pytest.fixture
def api():
    with serve_stac(sample_items("https://x.org")) as running:
        yield running


@pytest.fixture
def catalog(api):
    return Known(
        name="ours", title="Ours", url=api.url, optical=("sentinel-2-l1c",), sar=("sentinel-1-rtc",)
    )


def keyed(catalog):
    return replace(catalog, access="key", settings=("OUR_KEY", "OUR_SECRET"))


def test_an_open_catalog_that_answers(catalog):
    assert probe(catalog) == "open: sentinel-2-l1c, sentinel-1-rtc"


def test_a_key_is_looked_for(catalog):
    env = {"OUR_KEY": "k", "OUR_SECRET": "s"}
    assert probe(keyed(catalog), env).endswith("; OUR_KEY and OUR_SECRET set, not tried")
    found = probe(keyed(catalog), {"OUR_SECRET": ""})
    assert found.endswith("; to read its pixels, not set: OUR_KEY and OUR_SECRET")


def test_half_a_key_is_a_mistake(catalog):
    with pytest.raises(AccessDenied, match="key: Ours can be searched") as caught:
        probe(keyed(catalog), {"OUR_KEY": "k", "OUR_SECRET": ""})
    assert caught.value.change == "set OUR_SECRET"


def test_a_collection_that_is_gone(catalog):
    with pytest.raises(CatalogUnavailable, match="no collection sentinel-9"):
        probe(replace(catalog, sar=("sentinel-9",)))


@pytest.mark.parametrize("path", ["/nowhere", "/collections"])
def test_something_else_at_its_address(catalog, path):
    other = replace(catalog, url=catalog.url + path, optical=(), sar=())
    with pytest.raises(CatalogUnavailable, match=r"no STAC API|status 404") as caught:
        probe(replace(other, title="Else"))
    assert "Else" in str(caught.value)


def test_a_catalog_that_does_not_answer():
    dead = Known(name="dead", title="Dead", url="http://127.0.0.1:9", access="requester-pays")
    with pytest.raises(CatalogUnavailable, match="requester-pays: Dead does not answer"):
        probe(dead, seconds=0.5)


def test_doctor_has_a_row_for_each_with_its_remedy(catalog, monkeypatch):
    """A key that isn't set is no failure: most people use one catalog."""
    lacking = replace(keyed(catalog), name="keyed")
    halved = replace(lacking, name="halved", settings=("OUR_KEY", "OUR_OTHER"))
    monkeypatch.setattr(known, "KNOWN", (catalog, lacking, halved))
    for name in ("OUR_KEY", "OUR_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OUR_OTHER", "k")
    good, unset, bad = checks._catalogs()
    assert (good.name, good.ok, good.remedy) == ("ours", True, None)
    assert (unset.name, unset.ok, unset.remedy) == ("keyed", True, None)
    assert "not set: OUR_KEY and OUR_SECRET" in unset.detail
    assert (bad.name, bad.ok, bad.remedy) == ("halved", False, "set OUR_KEY")
    assert bad.detail.startswith("key: ")


def test_a_catalog_that_refuses_is_a_failure(api, catalog, monkeypatch):
    def refuse(*_args, **_more):
        raise WebError("denied", "status 401")

    monkeypatch.setattr("earthmind_lab.data.web.Web.get", refuse)
    with pytest.raises(CatalogUnavailable, match="status 401"):
        probe(catalog)
