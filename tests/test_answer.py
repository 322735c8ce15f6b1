"""Replies put on the Earth: what is kept, what is dropped, and what files carry."""

from __future__ import annotations

import json
from dataclasses import replace

import geopandas
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import shape

from earthmind_lab.answer import (
    COLUMNS,
    Claim,
    answer_hash,
    format_area,
    map_reply,
    resolvable_pixels,
)
from earthmind_lab.conversation import ask
from earthmind_lab.errors import EarthMindError
from earthmind_lab.exchange import Found, Reply
from earthmind_lab.grid import mask_area_m2, polygons_to_mask
from earthmind_lab.render import render
from tests.stand_in_engine import NOTICE, StandInEngine, make_chip, square

SIDE = (40, 40)
TWO = square(SIDE, (2, 12, 2, 12), (20, 30, 20, 35))


def answer_of(chip, mask, question="Segment the water."):
    return ask(chip, question, engine=StandInEngine({"water": mask}))


def mapped(chip, *masks, seen_gsd=10.0, view=0):
    objects = tuple(
        Found(label="water", score=0.5, mask_logits=np.where(m, 1.0, -1.0), view=view)
        for m in masks
    )
    return map_reply(Reply(text="", objects=objects), chip, render(chip), seen_gsd=seen_gsd)


def test_one_detection_per_component_larger_first():
    chip = make_chip()
    found = mapped(chip, TWO).detections
    assert [round(d.area_m2, -2) for d in found] == [15_000, 10_000]
    for detection, corner in zip(found, [(20, 30, 20, 35), (2, 12, 2, 12)], strict=True):
        alone = square(SIDE, corner)
        assert detection.area_m2 == pytest.approx(mask_area_m2(alone, chip.grid), rel=1e-9)
        assert (polygons_to_mask(detection.geometry, chip.grid) == alone).all()


def test_zero_is_outside():
    chip = make_chip()
    logits = np.zeros(SIDE, np.float32)
    reply = Reply(text="", objects=(Found(label="water", score=1.0, mask_logits=logits),))
    assert map_reply(reply, chip, render(chip), seen_gsd=10.0).detections == ()


def test_clipped_to_the_aoi_and_to_pixels_with_data():
    inside = square(SIDE, (0, 40, 0, 10))
    valid = square(SIDE, (0, 8, 0, 40))
    chip = make_chip(inside=inside)
    chip = replace(
        chip,
        optical=np.where(valid, chip.optical, np.float32("nan")),
        sar=np.where(valid, chip.sar, np.float32("nan")),
        valid_optical=valid,
        valid_sar=valid,
    )
    (found,) = mapped(chip, np.ones(SIDE, bool)).detections
    assert (polygons_to_mask(found.geometry, chip.grid) == square(SIDE, (0, 8, 0, 10))).all()


def test_small_objects_are_counted_not_mapped():
    chip = make_chip()
    small = square(SIDE, (0, 2, 0, 4), (10, 13, 10, 13))
    found = mapped(chip, small)
    assert len(found.detections) == 1
    assert found.unresolved == {"water": 1}
    # The same objects, seen by a model at 20 m: 3 x 3 of its pixels are 36 of ours.
    assert mapped(chip, small, seen_gsd=20.0).unresolved == {"water": 2}
    assert resolvable_pixels(10.0, 20.0) == 36


def test_the_view_that_drew_it_is_the_source():
    chip = make_chip()
    sar, optical = (mapped(chip, TWO, view=number).detections[0] for number in (0, 1))
    assert (sar.source, sar.observed) == ("sar", "2020-06-02T10:00:00Z")
    assert (optical.source, optical.observed) == ("optical", "2020-06-01T10:00:00Z")


def test_geojson_holds_what_the_contract_names():
    data = answer_of(make_chip(), TWO).to_geojson()
    assert json.loads(json.dumps(data)) == data
    assert data["type"] == "FeatureCollection"
    for feature in data["features"]:
        assert tuple(feature["properties"]) == COLUMNS
        assert feature["properties"]["notice"] == NOTICE
        assert feature["properties"]["licence"] == "CC-BY-4.0"
        assert "contains sar data" in feature["properties"]["attribution"]
        geometry = shape(feature["geometry"])
        assert geometry.is_valid
        assert all(part.exterior.is_ccw for part in geometry.geoms)
        west, south, east, north = geometry.bounds
        assert -180 <= west < east <= 180
        assert -90 <= south < north <= 90


@pytest.mark.parametrize("ending", [".geojson", ".gpkg"])
def test_saved_files_read_back_with_notice(tmp_path, ending):
    answer = answer_of(make_chip(), TWO)
    path = answer.save(tmp_path / f"water{ending}")
    frame = geopandas.read_file(path)
    assert len(frame) == 2
    assert frame.crs.to_epsg() == 4326
    assert set(frame["notice"]) == {NOTICE}
    assert frame["area_m2"].sum() == pytest.approx(answer.area_m2, abs=0.2)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_an_answer_without_objects_still_carries_its_notice(tmp_path):
    answer = answer_of(make_chip(), np.zeros(SIDE, bool))
    assert answer.detections == ()
    path = answer.save(tmp_path / "none.geojson")
    assert json.loads(path.read_text())["notice"] == NOTICE
    assert answer.to_gdf().attrs["notice"] == NOTICE
    import pyogrio

    path = answer.save(tmp_path / "none.gpkg")
    assert pyogrio.read_info(path)["layer_metadata"]["notice"] == NOTICE


def test_a_failed_save_leaves_nothing(tmp_path, monkeypatch):
    answer = answer_of(make_chip(), TWO)
    (tmp_path / "a.geojson").write_text("old")

    def broken(self):
        raise OSError("disk full")

    monkeypatch.setattr("earthmind_lab.answer.Answer.to_geojson", broken)
    with pytest.raises(EarthMindError, match="disk full"):
        answer.save(tmp_path / "a.geojson")
    assert [file.name for file in tmp_path.iterdir()] == ["a.geojson"]
    assert (tmp_path / "a.geojson").read_text() == "old"


@pytest.mark.parametrize("ending", [".geojson", ".gpkg", ".parquet"])
def test_a_place_that_can_not_be_written(tmp_path, ending):
    answer = answer_of(make_chip(), TWO)
    (tmp_path / "file").write_text("")
    for path in (tmp_path / f"{'a' * 245}{ending}", tmp_path / "file" / f"a{ending}"):
        with pytest.raises(EarthMindError, match="can't be written"):
            answer.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["a.shp", "a", "a.GEOJSON.zip"])
def test_unknown_endings_are_refused(tmp_path, name):
    with pytest.raises(EarthMindError, match=r"geojson, \.gpkg"):
        answer_of(make_chip(), TWO).save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_text_of_a_model_is_never_html():
    engine = StandInEngine(texts={"Hello?": "<script>alert(1)</script>"})
    html = ask(make_chip(), "Hello?", engine=engine)._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_hash_sees_tokens_masks_and_geometry():
    chip = make_chip()
    shapes = [d.geometry for d in mapped(chip, TWO).detections]
    base = answer_hash([1, 2], [TWO], shapes)
    assert base == answer_hash([1, 2], [TWO.copy()], [s.reverse() for s in shapes])
    moved = [s.__class__(s) for s in shapes]
    from shapely.affinity import translate

    assert base == answer_hash([1, 2], [TWO], [translate(s, 1e-10, 0) for s in moved])
    assert base != answer_hash([1, 2], [TWO], [translate(s, 1e-6, 0) for s in shapes])
    assert base != answer_hash([1, 3], [TWO], shapes)
    assert base != answer_hash([1, 2], [~TWO], shapes)


@given(st.floats(min_value=0.5, max_value=1e13))
def test_a_formatted_area_is_within_rounding(area):
    number, unit = format_area(area).split()
    back = float(number) * {"m²": 1, "ha": 1e4, "km²": 1e6}[unit]
    assert back == pytest.approx(area, rel=0.006, abs=0.51)


def test_claims_read_as_sentences():
    claim = Claim(
        text="Water covers 3 %.", kind="share", said={"label": "water", "share": 0.03},
        measured={"share": 0.2, "area_m2": 20_000.0, "count": 2}, verdict="contradicted",
    )  # fmt: skip
    assert "20.0% of the AOI, 2.00 ha, 2 objects" in claim.sentence()
    bare = replace(claim, measured={})
    assert "no mask" in bare.sentence()


def test_overlaps_are_counted_once():
    chip = make_chip()
    question = "Segment both."
    lower = square(SIDE, (5, 12, 2, 12))
    engine = StandInEngine(
        {"water": TWO, "lake": lower}, {question: "Sure."},
        marks={question: ("water", "water", "lake")},
    )  # fmt: skip
    answer = ask(chip, question, engine=engine)
    assert len(answer.detections) == 5
    assert answer.areas["water"] == pytest.approx(mask_area_m2(TWO, chip.grid), rel=1e-4)
    assert answer.areas["lake"] == pytest.approx(mask_area_m2(lower, chip.grid), rel=1e-4)
    assert answer.area_m2 == pytest.approx(mask_area_m2(TWO, chip.grid), rel=1e-4)
