"""From an area and dates to a georeferenced answer, on the embedded scenes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from shapely.geometry import shape

import earthmind_lab as em
from earthmind_lab import cli
from earthmind_lab.data.samples import places
from tests.stand_in_engine import StandInEngine, square

SPAIN = ["--aoi", "-0.775,38.09,-0.745,38.12", "--dates", "2019-09-15/2019-09-20"]


def where(place):
    """The words that lead to a place."""
    words = ["--aoi", ",".join(map(str, place.bbox)), "--dates", place.dates]
    words += ["--sensors", ",".join(place.sensors)]
    return [*words, "--max-gap", place.max_gap] if place.max_gap else words


@pytest.mark.parametrize("place", places(), ids=lambda place: place.name)
def test_every_place_keeps_the_contract(place, capsys, monkeypatch):
    def corner(shape_px):
        return square(shape_px, (0, 9, 0, 9))

    double = StandInEngine({"water": corner})
    monkeypatch.setattr("earthmind_lab.engine.loading.load_engine", lambda *_, **__: double)
    assert cli.main(["search", *where(place), "--json"]) == 0
    pairs = json.loads(capsys.readouterr().out)["pairs"]
    assert pairs
    scores = [pair["score"] for pair in pairs if pair["cloud_in_aoi"] is not None]
    assert all(0 <= score <= 100 for score in scores)
    assert cli.main(["ask", "Segment the water.", *where(place), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["pair"] == pairs[0]
    west, south, east, north = place.bbox
    margin = 0.005
    for feature in data["detections"]["features"]:
        assert feature["properties"]["attribution"]
        left, bottom, right, top = shape(feature["geometry"]).bounds
        assert west - margin < left < right < east + margin
        assert south - margin < bottom < top < north + margin


def test_the_embedded_model_answers_from_the_terminal(tmp_path):
    command = [sys.executable, "-m", "earthmind_lab.cli"]
    out = tmp_path / "out"
    words = [*command, "ask", "Segment the water.", *SPAIN, "--out", str(out), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=os.environ.copy())
    data = json.loads(done.stdout)
    assert data["model"]["name"] == "earthmind-nano"
    assert "not the published EarthMind" in data["notice"]
    assert data["notice"] not in data["text"]
    assert data["usage"]["views_encoded"] > 0
    # Model, NDWI and VV threshold side by side.
    assert [c for c in data["evidence"] if c["kind"] == "baseline"]
    assert sorted(f.name for f in out.iterdir()) == ["answer.geojson", "answer.png", "record.json"]
    again = subprocess.run(
        [*command, "replay", data["record"], "--json"],
        capture_output=True, text=True, check=True, env=os.environ.copy(),
    )  # fmt: skip
    assert json.loads(again.stdout) == {"same": True, "differences": []}


def test_a_second_question_costs_no_encoding():
    aoi = em.AOI.from_bbox(-0.775, 38.09, -0.745, 38.12)
    chip = em.load_chip(em.search_pairs(aoi, dates="2019-09-15/2019-09-20")[0], aoi)
    talk = em.Conversation(chip)
    talk.ask("Segment the water.")
    assert talk.ask("Is there snow?").reply.usage.views_encoded == 0
    assert em.load_engine("nano") is talk.engine
