"""Replay: the same answer, or the first link that broke, named."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from PIL import Image

from earthmind_lab.aoi import AOI
from earthmind_lab.conversation import Conversation, ask
from earthmind_lab.data.load import load_chip, plan_chip
from earthmind_lab.data.search import search_pairs
from earthmind_lab.errors import EarthMindError
from earthmind_lab.exchange import Region
from earthmind_lab.record import Record
from earthmind_lab.replay import replay
from tests.stand_in_engine import StandInEngine, square
from tests.tiny_catalog import AOI as PLACE
from tests.tiny_catalog import DATES, write_catalog

QUESTION = "Segment the water."


def lake(shape):
    return square(shape, (5, 20, 5, 30))


def engine(**more):
    return StandInEngine({"water": lake}, **more)


@pytest.fixture
def catalog(tmp_path):
    return write_catalog(tmp_path / "catalog")


def chip_of(catalog, gsd=None, **limits):
    aoi = AOI.from_any(PLACE)
    pair = search_pairs(aoi, DATES, catalog=str(catalog), **limits)[0]
    return load_chip(pair, aoi, gsd=gsd)


@pytest.fixture
def path(catalog, tmp_path):
    answer = ask(chip_of(catalog), QUESTION, engine=engine())
    return answer.record.save(tmp_path / "record.json")


def test_the_same_again(path):
    again = replay(path, engine=engine())
    assert (again.same, again.differences) == (True, ())
    assert again.to_dict() == {"same": True, "differences": []}
    assert again.answer.record.answer_hash == Record.load(path).answer_hash


@pytest.mark.parametrize("gsd", [20.0, 13.0])
def test_the_same_on_another_gsd(catalog, gsd):
    record = ask(chip_of(catalog, gsd=gsd), QUESTION, engine=engine()).record
    assert replay(record, engine=engine()).same


def test_the_same_on_the_grid_of_another_chip(catalog):
    """As those of a series are: no gsd gives it."""
    own = chip_of(catalog, sensors="sar")
    a = own.grid.affine
    grid = GeoBox(own.grid.shape, Affine(a.a, 0, a.c + 3, 0, a.e, a.f - 4), own.grid.crs)
    plan = plan_chip(own.pair, own.aoi, grid=grid)
    chip = load_chip(own.pair, own.aoi, plan=plan)
    assert chip.grid == grid != own.grid and not np.array_equal(chip.sar, own.sar)
    record = ask(chip, QUESTION, engine=engine()).record
    assert replay(record, engine=engine()).differences == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [({"crs": "EPSG:0"}, "CRS"), ({"affine": [10, 1, 0, 0, -10, 0]}, "north-up"),
     ({"shape": [9000, 9000]}, "large"), ({"affine": [1]}, "damaged")],
)  # fmt: skip
def test_a_grid_that_can_t_be_is_named(path, change, said):
    record = Record.load(path)
    record = replace(record, chip={**record.chip, "grid": record.chip["grid"] | change})
    try:
        found = " ".join(replay(record, engine=engine()).differences)
    except EarthMindError as error:
        found = str(error)
    assert said in found


@pytest.mark.parametrize("sensors", ["optical", "sar"])
def test_the_same_with_one_sensor(catalog, sensors):
    record = ask(chip_of(catalog, sensors=sensors), QUESTION, engine=engine()).record
    assert replay(record, engine=engine()).differences == ()


def test_the_same_from_another_folder(catalog, monkeypatch, tmp_path):
    monkeypatch.chdir(catalog.parent)
    record = ask(chip_of("catalog.json"), QUESTION, engine=engine()).record
    assert record.search["catalog"] == [str(catalog)]
    monkeypatch.chdir(tmp_path)
    assert replay(record, engine=engine()).same


def test_the_same_with_a_catalog_per_sensor(catalog, tmp_path):
    other = write_catalog(tmp_path / "other, too")
    both = {"optical": str(other), "sar": str(catalog)}
    aoi = AOI.from_any(PLACE)
    chip = load_chip(search_pairs(aoi, DATES, catalog=both)[0], aoi)
    record = ask(chip, QUESTION, engine=engine()).record
    assert record.search["catalog"] == [str(other), str(catalog)]
    assert replay(record, engine=engine()).differences == ()


def test_an_id_is_told_apart_by_its_collection(catalog):
    """Another collection holds a scene of the same id and time over the same place."""
    links = json.loads(catalog.read_text())
    item = json.loads((catalog.parent / "opt.json").read_text())
    (catalog.parent / "opt.json").write_text(json.dumps({**item, "collection": "two"}))
    record = ask(chip_of(catalog), QUESTION, engine=engine()).record
    # The impostor comes first in the catalog's order.
    item["assets"] = {name: item["assets"][name] for name in ("blue", "green", "red", "nir")}
    (catalog.parent / "first.json").write_text(json.dumps({**item, "collection": "one"}))
    links["links"].insert(0, {"rel": "item", "href": "./first.json"})
    catalog.write_text(json.dumps(links))
    assert replay(record, engine=engine()).differences == ()
    (catalog.parent / "opt.json").unlink()
    again = replay(record, engine=engine())
    assert again.differences[0].startswith("scenes: ")
    assert "'two'" in again.differences[0]


def test_a_record_with_one_catalog_as_text_still_replays(path):
    record = Record.load(path)
    search = {**record.search, "catalog": record.search["catalog"][0]}
    assert replay(replace(record, search=search), engine=engine()).same


def test_the_same_with_history_and_regions(catalog):
    chip = chip_of(catalog)
    talk = Conversation(chip, engine())
    talk.ask("Hello?")
    region = Region(mask=lake(chip.inside.shape), label="region1")
    record = talk.ask("What is region1?", regions=[region]).record
    double = engine()
    assert replay(record, engine=double).same
    (prompt,) = double.prompts
    assert prompt.history[0].question == "Hello?"
    assert (prompt.regions[0].mask == region.mask).all()


def test_a_changed_file_is_named_first(path, catalog):
    red = catalog.parent / "red.tif"
    with rasterio.open(red, "r+") as target:
        values = target.read(1)
        values[30:40, 30:40] += 500
        target.write(values, 1)
    again = replay(path, engine=engine())
    assert again.differences[0].startswith("files: the checksum of red of opt differs")
    assert again.differences[1].startswith("pixels:")
    assert any(line.startswith("views: the picture true_colour") for line in again.differences)
    assert not any("vv_vh_ratio" in line for line in again.differences)
    assert again.same  # the stand-in never looks at the picture


@pytest.mark.parametrize(
    ("gone", "link"),
    [("red.tif", "files"), ("catalog.json", "catalog"), ("opt.json", "scenes")],
)
def test_a_missing_link_is_named(path, catalog, gone, link):
    if gone == "opt.json":
        data = json.loads(catalog.read_text())
        data["links"] = [x for x in data["links"] if gone not in x["href"]]
        catalog.write_text(json.dumps(data))
    (catalog.parent / gone).unlink()
    again = replay(path, engine=engine())
    assert not again.same
    assert again.answer is None
    assert again.differences[0].startswith(f"{link}: ")


def test_other_weights_are_named(path):
    again = replay(path, engine=engine(weight_hash="b" * 64))
    assert again.same
    assert again.differences[0].startswith("model: the weights differ")


def test_other_tokens_and_masks_are_named(path):
    other = StandInEngine({"water": lambda shape: square(shape, (0, 9, 0, 9))})
    again = replay(path, engine=other)
    assert not again.same
    assert again.differences[0].startswith("masks: mask 1 differs: 81 pixels instead of 375")
    again = replay(path, engine=StandInEngine(texts={QUESTION: "No."}))
    assert not again.same
    assert again.differences[0].startswith("tokens: the model now says 'No.'")


def test_other_versions_are_named_but_are_no_other_answer(path):
    record = Record.load(path)
    versions = {**record.versions, "numpy": "0.1"}
    again = replay(replace(record, versions=versions), engine=engine())
    assert again.same
    assert again.differences[0].startswith("versions: numpy")


def test_a_model_that_is_not_at_hand_is_named(path):
    again = replay(path)
    assert again.differences[0].startswith("model: ")
    assert "--model" in again.differences[0]


def test_a_picture_replays(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(path)
    record = ask(path, QUESTION, engine=engine()).record
    assert replay(record, engine=engine()).differences == ()
    Image.fromarray(np.full((40, 40, 3), 9, np.uint8)).save(path)
    again = replay(record, engine=engine())
    assert again.differences[0].startswith("files: ")
    path.unlink()
    assert not replay(record, engine=engine()).same


def test_what_is_no_record_is_an_error(tmp_path):
    with pytest.raises(EarthMindError):
        replay(tmp_path / "none.json")
    (tmp_path / "a.json").write_text('{"question": "", "answer_hash": "", "format": 1}')
    with pytest.raises(EarthMindError):
        replay(tmp_path / "a.json")
