"""The section on data of docs/finetune.md does what it says."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from affine import Affine

from earthmind_lab.cli import build_parser
from earthmind_lab.data.samples import places
from earthmind_lab.finetune import asks, opening
from tests.finetune.sets import picture, talk, write
from tests.finetune.test_labelled import collection, feature, write_raster

PAGE = Path(__file__).parents[2] / "docs" / "finetune.md"


@pytest.fixture(scope="module")
def section():
    text = PAGE.read_text(encoding="utf-8")
    return re.split(r"^## ", text, flags=re.MULTILINE)[1]


def test_its_python_runs(section, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    features = []
    for number, each in enumerate(places()[:6]):
        west, south, east, north = each.bbox
        x, y = (west + east) / 2, (south + north) / 2
        name = ("water", "crops")[number % 2]
        features.append(feature(name, x - 0.004, y - 0.003, x + 0.004, y + 0.003))
    collection(tmp_path / "areas.geojson", *features)
    west, south, east, north = places()[0].bbox
    affine = Affine((east - west) / 40, 0, west, 0, (south - north) / 40, north)
    codes = np.repeat([[1, 2]], 20, axis=1).repeat(40, axis=0).astype(np.uint8)
    write_raster(tmp_path / "classes.tif", codes, affine, crs="EPSG:4326")
    picture(tmp_path / "images" / "a.png")
    write(tmp_path / "train.json", [talk("<image>\nWhat?", "A lake.", image="a.png")])
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
        exec(block, names)
    assert {len(chosen) > 0 for chosen in names["made"].sets.values()} == {True}
    assert names["report"].ok and names["report"].shown
    assert not names["find_leaks"](names["sides"]["train"], names["sides"]["test"])
    replies = {names["by_code"].info(i).id: names["by_code"][i].reply for i in range(4)}
    assert "About half." in replies.values()


def test_its_tables_are_the_code(section):
    tables = [re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE) for part in section.split("### ")]
    assert [names for names in tables if names] == [
        list(get_args(asks.Kind)), list(get_args(opening.FormName))
    ]  # fmt: skip


def test_its_command_parses(section):
    for line in re.findall(r"^earthmind .*$", section, re.MULTILINE):
        given = build_parser().parse_args(shlex.split(line)[1:])
        assert isinstance(given, argparse.Namespace) and given.step == "check"
