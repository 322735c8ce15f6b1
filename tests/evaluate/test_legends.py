"""What codes and names of maps mean, and that nothing ambiguous becomes a truth."""

from __future__ import annotations

import json

import pytest

from earthmind_lab.data.samples import catalog_path
from earthmind_lab.evaluate.ground import _listed
from earthmind_lab.evaluate.legends import (
    CLASSES,
    CODES,
    SOURCES,
    class_of,
    key_of,
    legend_of,
    named,
    possible,
)
from earthmind_lab.evaluate.truth import CLASSES as TAUGHT


def test_every_legend_has_a_source_and_names_our_classes():
    assert set(CODES) == set(SOURCES)
    for legend, codes in CODES.items():
        assert set(codes.values()) - {None} <= set(CLASSES), legend
    # CORINE has no class for snow that comes and goes, none has clouds of a day.
    assert {found for codes in CODES.values() for found in codes.values()} - {None} == set(
        CLASSES
    ) - {"clouds"}


@pytest.mark.parametrize(
    ("legend", "code", "name"),
    [
        ("worldcover", 10, "trees"), ("worldcover", 95, "flooded vegetation"),
        ("worldcover", 100, None), ("esri", 5, "crops"), ("esri", 10, None),
        ("esri", 11, "rangeland"), ("terramesh", 5, "built-up areas"), ("corine", 231, "crops"),
        ("corine", 324, None), ("corine", 335, "snow"), ("corine", 523, "water"),
        ("corine_raster", 1, "built-up areas"), ("corine_raster", 12, "crops"),
        ("corine_raster", 41, "water"), ("corine_raster", 44, "water"),
    ],
)  # fmt: skip
def test_codes(legend, code, name):
    assert CODES[legend][code] == name


def test_the_embedded_maps_declare_what_we_read():
    (item,) = catalog_path().parent.rglob("LC_denmark.json")
    asset = json.loads(item.read_text())["assets"]["data"]
    assert legend_of(asset) == CODES["terramesh"]
    values_only = {"file:values": asset["file:values"]}
    assert legend_of(values_only) == CODES["terramesh"]
    assert legend_of({"href": "x.tif"}) is None


def test_a_code_for_the_rest_is_no_class_but_not_unknown():
    rows = [{"value": 0, "name": "not water"}, {"value": 1, "name": "water"}]
    assert legend_of({"classification:classes": rows}) == {0: "", 1: "water"}


def test_a_list_decides_only_what_its_names_exclude():
    there = dict(zip(CLASSES, _listed(("Coniferous forest", "Olive groves")), strict=True))
    assert there["trees"] is True
    assert there["crops"] is None  # olive groves may be
    assert there["water"] is False
    assert there["snow"] is None and there["clouds"] is None  # come and go
    assert set(_listed(("Never heard of",))) == {None}


def test_names():
    assert class_of("Water bodies") == "water"
    assert class_of("Peatbogs") is None
    assert possible("Peatbogs") == {"flooded vegetation", "rangeland", "water"}
    assert possible("???") == set(CLASSES)
    assert named("Mostly crops, with some forest and built-up areas.") == (
        "crops", "trees", "built-up areas",
    )  # fmt: skip
    assert named("There is flooded vegetation.") == ("flooded vegetation",)
    assert named("I can't tell.") == ()


def test_the_classes_are_those_of_the_pixel_truth():
    """Indices of `truth` are used for both."""
    assert tuple(map(key_of, TAUGHT)) == CLASSES
