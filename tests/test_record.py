"""What is written down, and what never is."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from earthmind_lab.conversation import ask
from earthmind_lab.data.clouds import Mask
from earthmind_lab.data.looks import Look, look
from earthmind_lab.data.pairing import make_pair
from earthmind_lab.data.sides import Terms, side_of
from earthmind_lab.errors import EarthMindError
from earthmind_lab.exchange import Region
from earthmind_lab.record import Record
from earthmind_lab.recording import (
    catalog_names,
    cloud_method,
    pixel_hash,
    plain,
    region_dict,
    region_from,
    unsigned,
)
from tests.stand_in_engine import NOTICE, StandInEngine, make_chip, make_scene, square

WATER = square((40, 40), (0, 10, 0, 20))
CHIP = make_chip(water=WATER)


@pytest.fixture(scope="module")
def record():
    return ask(CHIP, "Segment the water.", engine=StandInEngine({"water": WATER})).record


def test_a_record_survives_its_file(record, tmp_path):
    path = record.save(tmp_path / "deep" / "record.json")
    assert Record.load(path) == record
    assert [file.name for file in path.parent.iterdir()] == ["record.json"]


def test_a_record_that_can_not_be_written_leaves_nothing(record, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "a.json", tmp_path / "folder", tmp_path / ("a" * 260)):
        with pytest.raises(EarthMindError, match="can't be written"):
            record.save(path)
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["file", "folder"]


def test_the_cloud_method_is_what_the_pairing_went_by():
    """In the words of the pairing itself, so that a change there is seen here."""
    scene, no = make_scene("optical"), np.zeros((4, 4), dtype=bool)
    mask = Mask(
        inside=~no, observed=~no, cloud=no, snow=no, rasterise=lambda _: ~no,
        place=(Affine.identity(), "EPSG:4326"), title="Classes, by Sen2Cor 2.8",
    )  # fmt: skip
    looks = (
        Look(scene=scene, mask=mask, cloud=0.0),
        look(replace(scene, cloud_cover=12.0), CHIP.aoi),
        look(scene, CHIP.aoi),
    )
    terms = Terms(aoi=CHIP.aoi, catalog="sample")

    def alone(scene, view=None):
        side = side_of(scene, view, terms)
        both = (side, None) if view else (None, side)
        return make_pair(*both, None, (side.share, side.part), terms)

    said = {each.cloud: cloud_method(alone(each.scene, each)) for each in looks}
    assert said == {0.0: mask.title, 12.0: "scene percentage", None: "unknown"}
    assert cloud_method(alone(make_scene("sar"))) is None


def test_catalogs_are_a_list_of_names_that_work_from_any_folder(tmp_path, monkeypatch):
    odd = tmp_path / "one, two"
    odd.mkdir()
    (odd / "catalog.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    here = str(odd / "catalog.json")
    assert catalog_names("one, two/catalog.json") == [here]
    assert catalog_names("sample, one, two/catalog.json") == ["sample", here]
    assert catalog_names("one, two/catalog.json, sample") == [here, "sample"]
    assert catalog_names("sample") == ["sample"]
    assert catalog_names("https://u:p@host/stac?sig=x") == ["https://host/stac"]
    assert catalog_names("mine, yours") == ["mine", "yours"]
    assert catalog_names("") == []


def test_no_credentials(record):
    text = json.dumps(record.to_dict())
    assert "SECRET" not in text
    assert "user:key" not in text
    assert "https://host/optical.tif" in text


def test_it_holds_what_replay_and_a_methods_section_need(record):
    assert record.question == "Segment the water."
    assert record.aoi["geometry"]["type"] == "Polygon"
    assert record.search["ids"] == {"optical": "optical-1", "sar": "sar-1"}
    assert record.search["catalog"] == ["sample"]
    assert record.chip["grid"]["shape"] == [40, 40]
    assert record.chip["radiometry"]["quantity"] == "gamma0_rtc"
    assert record.chip["cloud_method"] == "unknown"
    assert record.model["weight_hash"] == "a" * 64
    assert record.model["notice"] == NOTICE
    optical = record.inputs[0]
    assert (optical["licence"], optical["attribution"]) == ("CC-BY-4.0", "contains optical data")
    assert optical["reads"][0]["sha256"] == "0" * 64
    assert optical["items"][0]["updated"] == "2020-06-03T00:00:00Z"
    assert {"numpy", "rasterio", "gdal", "odc-geo", "earthmind-lab"} <= set(record.versions)
    assert record.prompt["views"][0]["stretch"][0] == [-25.0, 0.0]
    assert len(record.evidence) >= 1
    assert record.created.endswith("Z")


def test_the_same_ask_has_the_same_hash_and_another_has_not(record):
    again = ask(CHIP, "Segment the water.", engine=StandInEngine({"water": WATER})).record
    assert again.answer_hash == record.answer_hash
    other = square((40, 40), (0, 10, 0, 21))
    changed = ask(CHIP, "Segment the water.", engine=StandInEngine({"water": other})).record
    assert changed.answer_hash != record.answer_hash


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1]", "{", '{"question": "?", "answer_hash": "x", "format": 99}', "\x00"],
)
def test_what_is_no_record_is_refused(tmp_path, text):
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(EarthMindError):
        Record.load(path)


def test_a_missing_record_is_refused(tmp_path):
    with pytest.raises(EarthMindError, match="can't be read"):
        Record.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("href", "clean"),
    [
        ("https://a.b/c.tif?sig=x&se=2", "https://a.b/c.tif"),
        ("https://u:p@a.b:443/c.tif#x", "https://a.b:443/c.tif"),
        ("s3://key:secret@bucket/c.tif", "s3://bucket/c.tif"),
        ("/data/odd?name.tif", "/data/odd?name.tif"),
    ],
)
def test_addresses_lose_their_secrets(href, clean):
    assert unsigned(href) == clean


@given(arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_regions_survive(mask):
    data = json.loads(json.dumps(region_dict(Region(mask=mask, label="a"))))
    back = region_from(data)
    assert (back.mask == mask).all()
    assert back.label == "a"


def test_a_broken_region_is_refused():
    with pytest.raises(EarthMindError):
        region_from({"label": "a", "shape": [2, 2], "mask": "!!"})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_plain_is_json_and_stays_itself(value):
    once = plain(value)
    assert json.loads(json.dumps(once, allow_nan=False)) == once
    assert plain(once) == once


def test_pixel_hash_sees_every_pixel_but_no_kind_of_nothing():
    base = pixel_hash(CHIP)
    optical = CHIP.optical.copy()
    optical[0, 3, 3] += 1e-6
    assert pixel_hash(replace(CHIP, optical=optical)) != base
    zero, minus = CHIP.optical.copy(), CHIP.optical.copy()
    zero[0, 0, 0], minus[0, 0, 0] = 0.0, -0.0
    assert pixel_hash(replace(CHIP, optical=zero)) == pixel_hash(replace(CHIP, optical=minus))
    inside = CHIP.inside.copy()
    inside[0, 0] = False
    assert pixel_hash(replace(CHIP, inside=inside)) != base
    assert np.isfinite(CHIP.optical).all()
