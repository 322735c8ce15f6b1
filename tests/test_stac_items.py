"""An answer as a STAC item: valid, at home with its inputs, and true to the answer."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pystac
import pytest
import rasterio
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from shapely.geometry import shape

from earthmind_lab.conversation import ask
from earthmind_lab.data.load import load_chip
from earthmind_lab.data.samples import place
from earthmind_lab.data.search import search_pairs
from earthmind_lab.errors import EarthMindError
from earthmind_lab.exchange import View
from earthmind_lab.record import Record
from earthmind_lab.stac_items import EXTENSIONS, STAC_FILES, to_stac
from tests.stand_in_engine import StandInEngine, make_chip, square

WATER = square((40, 40), (0, 10, 0, 20))


def answer_of(chip: Any) -> Any:
    return ask(chip, "Segment the water.", engine=StandInEngine({"water": lake}))


def lake(size: tuple[int, int]) -> Any:
    return square(size, (5, 30, 5, 30))


@pytest.fixture(scope="module")
def spain() -> Any:
    bbox = place("spain").bbox
    return answer_of(load_chip(search_pairs(bbox, place("spain").dates, catalog="sample")[0], bbox))


@pytest.fixture
def item(spain: Any, tmp_path: Path) -> pystac.Item:
    return pystac.Item.from_file(to_stac(spain, tmp_path / "water"))


def test_it_is_valid_stac(item: pystac.Item, tmp_path: Path) -> None:
    """By the schema that comes with pystac; those of the extensions are on the network."""
    data = json.loads((tmp_path / "water" / "item.json").read_text())
    JsonSchemaSTACValidator().validate_core(data, pystac.STACObjectType.ITEM, "1.1.0")
    assert item.stac_extensions == list(EXTENSIONS)
    broken = {**data, "geometry": None}
    with pytest.raises(pystac.STACValidationError):  # the validator can fail
        JsonSchemaSTACValidator().validate_core(broken, pystac.STACObjectType.ITEM, "1.1.0")


def test_every_field_is_of_the_core_of_a_named_extension_or_ours(item: pystac.Item) -> None:
    core = {
        "datetime", "start_datetime", "end_datetime", "title", "description", "created", "gsd",
    }  # fmt: skip
    prefixes = {name.partition(":")[0] for name in item.properties if ":" in name}
    assert {name for name in item.properties if ":" not in name} <= core
    assert prefixes <= {"proj", "processing", "earthmind"}
    fields = {name for asset in item.assets.values() for name in asset.extra_fields}
    assert fields == {"file:checksum", "file:size", "bands"}


def test_what_other_tools_read_of_it(item: pystac.Item, spain: Any) -> None:
    grid = spain.record.chip["grid"]
    projection = item.ext.proj
    assert (projection.code, projection.shape) == (grid["crs"], grid["shape"])
    assert projection.transform == grid["affine"]
    assert item.assets["mask"].ext.file.size > 0
    assert item.datetime is None
    times = [item.properties[name] for name in ("start_datetime", "end_datetime")]
    assert times[0].startswith("2019-09-17T00:00") and times[1].startswith("2019-09-18T23:59")
    assert shape(item.geometry).bounds == tuple(item.bbox) == tuple(place("spain").bbox)
    assert item.properties["processing:software"]["stand-in"] == "a" * 12


def test_it_is_derived_from_the_items_of_its_inputs(item: pystac.Item, spain: Any) -> None:
    links = [link for link in item.links if link.rel == "derived_from"]
    found = [pystac.Item.from_file(link.href).id for link in links]
    assert found == [given["id"] for given in spain.record.inputs]


def test_inputs_of_an_api_are_linked_by_its_addresses(tmp_path: Path) -> None:
    answer = answer_of(make_chip(water=WATER))
    first = {**answer.record.inputs[0], "items": [{"id": "a", "collection": "c"}]}
    second = {
        **answer.record.inputs[1],
        "items": [{"id": "b", "self": "https://host/b?sig=SECRET"}],
    }
    record = replace(
        answer.record, inputs=(first, second),
        search={**answer.record.search, "catalog": ["planetary-computer"]},
    )  # fmt: skip
    path = to_stac(replace(answer, record=record), tmp_path)
    assert "SECRET" not in path.read_text()
    links = json.loads(path.read_text())["links"]
    assert [link["href"] for link in links] == [
        "https://planetarycomputer.microsoft.com/api/stac/v1/collections/c/items/a",
        "https://host/b",
    ]


def test_the_files_are_what_the_item_says(item: pystac.Item, spain: Any, tmp_path: Path) -> None:
    folder = tmp_path / "water"
    assert sorted(file.name for file in folder.iterdir()) == sorted(STAC_FILES)
    for asset in item.assets.values():
        raw = (folder / asset.href.rpartition("/")[2]).read_bytes()
        assert asset.extra_fields["file:checksum"] == "1220" + hashlib.sha256(raw).hexdigest()
    features = json.loads((folder / "answer.geojson").read_text())["features"]
    assert len(features) == len(spain.detections)
    assert Record.load(folder / "record.json") == spain.record
    with rasterio.open(folder / "mask.tif") as source:
        (bands,) = (item.assets["mask"].extra_fields["bands"],)
        assert source.descriptions == tuple(band["name"] for band in bands)
        assert all(source.nodata == band["nodata"] for band in bands)
        classes = {each["value"]: each for each in bands[0]["classification:classes"]}
        assert source.tags()["class_1"] == classes[1]["title"] == "water"


def test_the_same_analysis_has_the_same_id(item: pystac.Item, spain: Any, tmp_path: Path) -> None:
    later = replace(spain.record, created="2030-01-01T00:00:00Z")
    again = pystac.Item.from_file(to_stac(replace(spain, record=later), tmp_path / "later"))
    other = replace(spain.record, question="Segment the lake.")
    assert again.id == item.id
    assert (
        pystac.Item.from_file(to_stac(replace(spain, record=other), tmp_path / "x")).id != item.id
    )


def test_what_has_no_place_or_time_is_no_item(tmp_path: Path) -> None:
    view = View(image=WATER[..., None].repeat(3, -1).astype("uint8"), name="p", modality="optical")
    picture = ask(view, "Segment the water.", engine=StandInEngine({"water": WATER}))
    with pytest.raises(EarthMindError, match="no place"):
        to_stac(picture, tmp_path / "picture")
    answer = answer_of(make_chip(water=WATER))
    timeless = tuple({**given, "observed": "unknown"} for given in answer.record.inputs)
    with pytest.raises(EarthMindError, match="needs a time"):
        to_stac(replace(answer, record=replace(answer.record, inputs=timeless)), tmp_path / "own")
    assert list(tmp_path.iterdir()) == []
