"""Folders of answers and chips: everything appears or nothing does, and nothing stale stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import rasterio
from PIL import Image

from earthmind_lab import export, figures
from earthmind_lab.conversation import Conversation
from earthmind_lab.errors import EarthMindError
from earthmind_lab.export import ANSWER_FILES, CHIP_FILES, check_folder, save_answer, save_chip
from tests.stand_in_engine import NOTICE, StandInEngine, make_chip, square

WATER = square((40, 40), (0, 10, 0, 20))
CHIP = make_chip(water=WATER)


def saved(subject, folder):
    talk = Conversation(
        subject, StandInEngine({"water": lambda shape: square(shape, (0, 9, 0, 9))})
    )
    return save_answer(talk.ask("Segment the water."), folder, talk.views, chip=talk.chip)


def contents(folder):
    return {file.name: file.read_bytes() if file.is_file() else None for file in folder.rglob("*")}


@pytest.mark.parametrize("name", ANSWER_FILES)
def test_a_folder_in_the_way_changes_nothing(tmp_path, name):
    for other in ANSWER_FILES:
        (tmp_path / other).write_text("old")
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    before = contents(tmp_path)
    with pytest.raises(EarthMindError, match="is a folder"):
        saved(CHIP, tmp_path)
    assert contents(tmp_path) == before


def test_a_folder_that_comes_in_the_way_later_changes_nothing(tmp_path, monkeypatch):
    (tmp_path / "answer.geojson").write_text("old")

    def late(*args, **kwargs):
        (tmp_path / "record.json").mkdir()

    monkeypatch.setattr(figures, "save_figure", late)
    with pytest.raises(EarthMindError, match="is a folder"):
        saved(CHIP, tmp_path)
    assert contents(tmp_path) == {"answer.geojson": b"old", "record.json": None}


def test_the_draft_of_an_existing_folder_is_inside_it(tmp_path, monkeypatch):
    places = []
    make = export.tempfile.mkdtemp
    monkeypatch.setattr(
        export.tempfile, "mkdtemp", lambda **how: places.append(how["dir"]) or make(**how)
    )
    saved(CHIP, tmp_path)
    saved(CHIP, tmp_path / "new")
    assert places == [tmp_path, tmp_path]
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([*ANSWER_FILES, "new"])


def test_no_stale_file_beside_a_new_record(tmp_path):
    picture = tmp_path / "picture.png"
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(picture)
    out = tmp_path / "out"
    assert sorted(saved(CHIP, out)) == sorted(ANSWER_FILES)
    (out / "mine.geojson").write_text("mine")
    assert sorted(saved(picture, out)) == ["answer.png", "record.json"]
    assert sorted(file.name for file in out.iterdir()) == [
        "answer.png", "mine.geojson", "record.json",
    ]  # fmt: skip


def test_no_stale_sensor_beside_a_new_chip(tmp_path):
    assert sorted(save_chip(CHIP, tmp_path)) == sorted(CHIP_FILES)
    save_chip(make_chip(sar=False), tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["chip.png", "optical.tif"]


def test_a_folder_without_the_right_to_write(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    for folder in (tmp_path, tmp_path / "new" / "deep"):
        with pytest.raises(EarthMindError, match="no right to write"):
            check_folder(folder)
    with pytest.raises(EarthMindError, match="can't be written"):
        check_folder(tmp_path / ("x" * 5000))


def test_files_carry_their_licence(tmp_path, monkeypatch):
    below = []
    monkeypatch.setattr(
        figures, "save_figure", lambda *_, attribution, **__: below.append(attribution)
    )
    facts = {**CHIP.provenance, "licences": ["CC-BY-4.0", "CC-BY-SA-4.0"]}
    save_chip(replace(CHIP, provenance=facts), tmp_path / "chip")
    for name in ("optical.tif", "sar.tif"):
        with rasterio.open(tmp_path / "chip" / name) as source:
            tags = source.tags()
        assert tags["licence"] == "CC-BY-4.0; CC-BY-SA-4.0"
        assert tags["attribution"] == "contains data"
    saved(CHIP, tmp_path / "answer")
    assert below == [
        "contains data Licence: CC-BY-4.0; CC-BY-SA-4.0.",
        f"{NOTICE} contains optical data; contains sar data Licence: CC-BY-4.0.",
    ]
