"""Every real scene at hand against a committed table of what loading it must find."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

import earthmind_lab as em
from earthmind_lab.chip import Chip
from earthmind_lab.data.catalogs import open_catalog
from earthmind_lab.data.items import scenes_of
from earthmind_lab.data.load import load_chip
from earthmind_lab.data.own_files import open_chip
from earthmind_lab.data.shift import ALARM_PX
from earthmind_lab.errors import EarthMindError, RadiometryUnknown
from earthmind_lab.scene import Scene, ScenePair

FOLDER = Path(__file__).parents[1] / "golden" / "findings"
TABLE = tomllib.loads((FOLDER / "findings.toml").read_text(encoding="utf-8"))
ELSEWHERE = os.environ.get("EARTHMIND_REAL_DATA")
"""Folder of the files that are too large for a repository."""
LATITUDE_PX = 0.35
"""A measured shift may change by so much with the versions of the libraries."""
ROWS = [row for row in TABLE["files"] if row.get("here") or ELSEWHERE]


def named(row: dict[str, Any]) -> str:
    words = [str(row.get(key)) for key in ("optical", "sar", "item") if row.get(key)]
    return " + ".join(words) + f": {row['finding']}"


def pair_of(optical: Scene | None, sar: Scene | None) -> ScenePair:
    return ScenePair(
        optical=optical, sar=sar, gap=None, overlap=1.0, cloud_in_aoi=None, score=0.0, factors={}
    )


def check(row: dict[str, Any], chip: Chip) -> None:
    said = chip.radiometry
    if row["finding"] == "loads":
        assert chip.optical is None or chip.sar is None
    elif row["finding"] == "not measurable":
        assert said.measured_shift is None
        assert said.residual_shift_note.startswith("not measurable")
        assert said.residual_shift_px == row.get("pixels")
    else:
        assert said.residual_shift_px == pytest.approx(row["pixels"], abs=LATITUDE_PX)
        assert ("different pixels" in said.residual_shift_note) == (row["finding"] == "alarm")
        assert (said.residual_shift_px > ALARM_PX) == (row["finding"] == "alarm")


def loaded(row: dict[str, Any]) -> Chip:
    """What a row of files gives."""
    root = FOLDER if row.get("here") else Path(str(ELSEWHERE))
    if "item" in row:
        path = root / row["item"]
        item = json.loads(path.read_text(encoding="utf-8"))
        for asset in item["assets"].values():  # its files lie beside it
            asset["href"] = "./" + asset["href"].rpartition("/")[2]
        (scene,) = scenes_of(item, path)
        return load_chip(
            pair_of(scene, None), em.AOI(geometry=scene.footprint.centroid.buffer(0.01))
        )
    about = {k: v for k, v in row.items() if k not in ("finding", "says", "pixels", "here")}
    for kind in ("optical", "sar"):
        if kind in about:
            about[kind] = str(root / about[kind])
    return open_chip(**about)


@pytest.mark.parametrize("row", TABLE["embedded"], ids=named)
def test_embedded_scenes(row):
    catalog = open_catalog("sample")
    scenes = {k: catalog.find(row[k])[0] for k in ("optical", "sar") if k in row}
    area = scenes["optical"].footprint
    if "sar" in scenes:
        area = area.intersection(scenes["sar"].footprint)
    pair = pair_of(scenes["optical"], scenes.get("sar"))
    check(row, load_chip(pair, em.AOI(geometry=area, name="overlap")))


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_files(row):
    if "says" not in row:
        check(row, loaded(row))
        return
    with pytest.raises(EarthMindError, match=row["says"]) as caught:
        loaded(row)
    assert type(caught.value).__name__ == row["finding"]


def test_every_embedded_scene_is_in_the_table():
    rows = {row[kind] for row in TABLE["embedded"] for kind in ("optical", "sar") if kind in row}
    assert rows == {scene.id for scene in open_catalog("sample").search()}


def test_the_raw_grd_as_an_item_lacks_its_calibration():
    """In a catalog a GRD is placed by its points, but its counts mean nothing without tables."""
    item = {
        "type": "Feature", "id": "S1A_IW_GRDH_1SDV_20180716T004042", "collection": "sentinel-1-grd",
        "geometry": {"type": "Polygon", "coordinates": [[[75.6, 9.2], [78.2, 9.2], [78.2, 11.2],
                                                         [75.6, 11.2], [75.6, 9.2]]]},
        "properties": {"datetime": "2018-07-16T00:40:42Z", "platform": "sentinel-1a",
                       "constellation": "sentinel-1"},
        "assets": {"vv": {"href": "./grd_raw_vv.tif", "roles": ["data"]}},
    }  # fmt: skip
    (scene,) = scenes_of(item, FOLDER / "item.json")
    assert scene.sensor == "sentinel-1-grd"
    with pytest.raises(RadiometryUnknown, match="calibration"):
        load_chip(pair_of(None, scene), em.AOI.from_bbox(77.0, 10.2, 77.01, 10.21))
