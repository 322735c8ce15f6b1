"""Recorded answers of the Planetary Computer and of Earth Search parse, pair, plan and load."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest

from earthmind_lab.aoi import AOI
from earthmind_lab.data import files
from earthmind_lab.data.access import Access
from earthmind_lab.data.budget import Budget
from earthmind_lab.data.catalogs import open_catalog
from earthmind_lab.data.files import Files, Reader
from earthmind_lab.data.frozen import freeze_search
from earthmind_lab.data.known import KNOWN
from earthmind_lab.data.links import Links
from earthmind_lab.data.load import load_chip, plan_chip
from earthmind_lab.data.probe import probe
from earthmind_lab.data.search import search_pairs, search_scenes
from earthmind_lab.data.web import Web
from earthmind_lab.errors import AccessDenied
from tests.recorded_web import RECORDED, RecordedWeb, moved

CONGO = AOI.from_bbox(27.500, -7.700, 27.512, -7.688)
"""Inside tile 35MNM."""
UGANDA = AOI.from_bbox(34.300, -0.500, 34.312, -0.488)
"""Inside tile 36MXE, south of the equator."""
PC, ES = (RECORDED["items"][name] for name in ("planetary-computer", "earth-search"))


def world_of(tmp_path, monkeypatch, aoi, optical):
    """The network as recorded, with the recorded RTC scene a day after an optical one."""
    made = RecordedWeb(folder=tmp_path, aoi=aoi)
    later = dt.datetime.fromisoformat(optical["properties"]["datetime"]) + dt.timedelta(days=1)
    when = f"{later:%Y-%m-%dT%H:%M:%SZ}"
    (sar,) = PC["sentinel-1-rtc"]
    held = made.items["planetary-computer"]
    held[held.index(sar)] = moved(sar, optical, when)
    monkeypatch.setattr(Web, "_once", made.behind())
    kept = Files(Access(), Links(env={}, now=lambda: made.now))
    monkeypatch.setattr(files, "_files", lambda _hosts: kept)
    return made


@pytest.fixture
def congo(tmp_path, monkeypatch):
    return world_of(tmp_path, monkeypatch, CONGO, PC["sentinel-2-l2a"][5])


@pytest.fixture
def uganda(tmp_path, monkeypatch):
    return world_of(tmp_path, monkeypatch, UGANDA, ES["sentinel-2-l2a"][2])


def test_every_recorded_item_is_a_scene_of_its_sensor(congo):
    for name, collections in RECORDED["items"].items():
        for collection, items in collections.items():
            for item in items:
                (scene,) = open_catalog(name).find(item["id"])
                assert (scene.sensor, scene.collection) == (collection, collection)
                wanted = {"red", "nir", "scl"} if scene.modality == "optical" else set()
                assert wanted <= set(scene.assets)
                assert scene.modality == "optical" or set(scene.assets) & {"vv", "hh"}
                assert scene.time_known


def test_pages_of_other_collections_as_they_were_recorded(congo):
    """NAIP has one file of four bands an item; an elevation model has no band to look at."""
    naip = open_catalog("planetary-computer")
    scenes = naip._scenes({"collections": ["naip"]})
    assert len(scenes) == 4
    assert {scene.modality for scene in scenes} == {"optical"}
    assert {"red", "nir"} <= set(scenes[0].assets)
    height = open_catalog("earth-search")
    assert height._scenes({"collections": ["cop-dem-glo-30"]}) == []
    assert naip.problems == height.problems == ()


def test_every_page_of_a_search_is_fetched(congo):
    found = search_scenes(CONGO, "2020-06-01/2020-07-31", catalog="planetary-computer")
    assert len(found) == 13 + 1
    searches = [each for each in congo.requests if each.startswith("POST")]
    assert len(searches) == 4 + 1  # 13 optical in pages of 4, one SAR
    assert all(each == f"POST {KNOWN[1].url}/search" for each in searches)


def test_planetary_computer_pairs_plans_and_loads(congo):
    pairs = search_pairs(CONGO, "2020-07-01/2020-07-31", catalog="planetary-computer", max_cloud=40)
    assert pairs[0].optical.id == PC["sentinel-2-l2a"][5]["id"]
    assert {pair.sar.sensor for pair in pairs} == {"sentinel-1-rtc"}
    assert all("by the scene's mask" in " ".join(pair.reasons) for pair in pairs)
    plan = plan_chip(pairs[0], CONGO)
    assert str(plan.grid.crs) == "EPSG:32735"
    assert plan.reads == len(plan.bands) + len(plan.polarisations)
    chip = load_chip(pairs[0], CONGO, plan=plan)
    assert chip.polarisations == ("vv", "vh")
    assert chip.radiometry.quantity == "gamma0_rtc"
    assert np.isfinite(chip.sar[:, chip.inside]).all()
    signed = [each for each in congo.requests if "sig=" in each]
    assert signed
    assert not any("sig=" in facts["href"] for facts in chip.provenance["inputs"])


def test_earth_search_pairs_with_sar_of_another_catalog(uganda):
    both = {"optical": "earth-search", "sar": "planetary-computer"}
    pairs = search_pairs(UGANDA, "2024-01-20/2024-01-31", catalog=both, max_cloud=40)
    assert pairs[0].optical.id == "S2A_36MXE_20240126_0_L2A"
    assert pairs[0].catalog == "earth-search, planetary-computer"
    chip = load_chip(pairs[0], UGANDA)
    assert str(chip.grid.crs) == "EPSG:32736"
    assert chip.radiometry.offset_applied == -0.1
    assert np.isfinite(chip.optical[:, chip.inside]).all()


def test_a_token_that_expires_in_the_middle_of_a_read_is_renewed(congo):
    """The storage account's clock jumps an hour at every seventh part of a file."""
    (pair, *_) = search_pairs(
        CONGO, "2020-07-01/2020-07-10", catalog="planetary-computer", max_cloud=40
    )
    whole = load_chip(pair, CONGO)
    parts = []

    def jump(world, url):
        parts.append(url)
        if len(parts) % 7 == 0:
            world.now += dt.timedelta(hours=1)

    congo.before = jump
    congo.requests.clear()
    kept = Files(Access(), Links(env={}, now=lambda: congo.now))
    again = load_chip(pair, CONGO, reader=Reader(files=kept, budget=Budget(30)))
    assert np.array_equal(again.optical, whole.optical, equal_nan=True)
    assert np.array_equal(again.sar, whole.sar, equal_nan=True)
    asked = [each for each in congo.requests if "/sas/v1/token/" in each]
    assert len(asked) > len({each.rpartition("token/")[2] for each in asked})  # some were renewed
    assert len(parts) > 14


def test_a_token_is_renewed_before_it_expires(congo):
    href = PC["sentinel-1-rtc"][0]["assets"]["vv"]["href"]
    links, client = Links(env={}, now=lambda: congo.now), Web(Access())
    first = links.sign(href, client, Budget(5)).url
    congo.now += dt.timedelta(minutes=42)
    assert links.sign(href, client, Budget(5)).url == first
    congo.now += dt.timedelta(minutes=2)  # within two minutes of the end
    assert links.sign(href, client, Budget(5)).url != first


def test_a_storage_account_that_refuses_every_token_is_access_denied(congo):
    (pair, *_) = search_pairs(
        CONGO, "2020-07-01/2020-07-10", catalog="planetary-computer", max_cloud=40
    )

    def refuse(world, _url):
        world.now += dt.timedelta(hours=1)

    congo.before = refuse
    with pytest.raises(AccessDenied, match="without an account"):
        load_chip(pair, CONGO, reader=Reader(files=Files(Access(), Links(now=lambda: congo.now))))


def test_requester_pays_names_the_setting(congo):
    (scene,) = open_catalog("earth-search").find(ES["sentinel-1-grd"][0]["id"])
    assert scene.assets["hh"].startswith("s3://sentinel-s1-l1c/")
    with pytest.raises(AccessDenied, match="requester-pays") as caught:
        Links(env={}).sign(scene.assets["hh"], Web(Access()), Budget(5))
    assert caught.value.change == "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


def test_a_frozen_search_holds_no_signature_and_asks_no_api(congo, tmp_path):
    found = search_pairs(CONGO, "2020-07-01/2020-07-31", catalog="planetary-computer", max_cloud=40)
    path = freeze_search(tmp_path / "search.json", found, CONGO)
    congo.requests.clear()
    again = search_pairs(CONGO, "2020-07-01/2020-07-31", catalog=path, max_cloud=40)
    assert [pair.to_dict() for pair in again] == [pair.to_dict() for pair in found]
    assert congo.requests == []
    assert "sig=" not in path.read_text()


def test_doctor_finds_the_recorded_earth_search(congo):
    (known,) = (each for each in KNOWN if each.name == "earth-search")
    env = dict.fromkeys(known.settings, "set")
    assert probe(known, env).startswith("requester-pays: sentinel-2-l2a, sentinel-1-grd; AWS")
