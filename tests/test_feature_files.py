"""Features as files, from plain data alone; a file appears complete or not at all."""

from __future__ import annotations

import json

import geopandas
import pyogrio
import pytest

from earthmind_lab.errors import EarthMindError
from earthmind_lab.feature_files import COLUMNS, frame_of, save_features
from earthmind_lab.whole_file import whole_file

ABOUT = {"notice": "a small model", "model": "nano", "licence": "CC", "attribution": "ESA <b>"}
SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]}
OWN = {"label": "wässer", "score": None, "probability": 0.9, "area_m2": 12.5, "source": "sar",
       "observed": "2020-06-02T10:00:00Z"}  # fmt: skip
FEATURE = {"type": "Feature", "geometry": SQUARE, "properties": {**OWN, **ABOUT, "mark": 3}}
HELD = {"type": "FeatureCollection", **ABOUT, "features": [FEATURE]}


def test_geojson_keeps_the_collection_without_what_is_the_session_s_own(tmp_path):
    found = json.loads(save_features(HELD, tmp_path / "a.geojson").read_text("utf-8"))
    assert found == {**HELD, "features": [{**FEATURE, "properties": {**OWN, **ABOUT}}]}
    assert HELD["features"][0]["properties"]["mark"] == 3


@pytest.mark.parametrize("ending", [".gpkg", ".parquet", ".GPKG"])
def test_tables_keep_the_columns(tmp_path, ending):
    path = save_features(HELD, tmp_path / f"a{ending}")
    read = geopandas.read_parquet if ending == ".parquet" else geopandas.read_file
    frame = read(path)
    assert sorted(frame.columns) == sorted([*COLUMNS, "geometry"])
    assert (frame.label[0], frame.area_m2[0], frame.crs) == ("wässer", 12.5, "EPSG:4326")
    if ending == ".gpkg":
        assert pyogrio.read_info(path)["layer_metadata"] == ABOUT


def test_an_empty_collection_is_an_empty_table():
    frame = frame_of({**HELD, "features": []})
    assert len(frame) == 0 and list(frame.columns) == [*COLUMNS, "geometry"]


def test_a_file_that_fails_leaves_the_one_before(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before", encoding="utf-8")

    def fail():
        with whole_file(path) as draft:
            draft.write_text("half", encoding="utf-8")
            raise OSError("disk full")

    with pytest.raises(EarthMindError, match=r"can't be written.*disk full"):
        fail()
    assert [each.name for each in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text("utf-8") == "before"
    with whole_file(tmp_path / "deep" / "b.txt") as draft:
        assert draft.suffix == ".txt"
        draft.write_text("after", encoding="utf-8")
    assert [each.name for each in (tmp_path / "deep").iterdir()] == ["b.txt"]
