"""Pixel truth: what indices and maps decide, and where they leave a pixel open."""

from __future__ import annotations

import json

import numpy as np
import pytest

from earthmind_lab.data.samples import catalog_path
from earthmind_lab.evaluate.ground import look
from earthmind_lab.evaluate.metrics import Counts
from earthmind_lab.evaluate.truth import (
    BUILT,
    CLASSES,
    CLOUDS,
    CROPS,
    FLOODED,
    LAND_COVER,
    RANGELAND,
    SNOW,
    TREES,
    WATER,
    PixelTruth,
    indices,
    spectral_truth,
    with_clouds,
    with_labels,
    with_land_cover,
)
from earthmind_lab.evaluate.walk import walk

SPECTRA = {  # green, red, nir, swir16: typical reflectance
    "water": (0.08, 0.05, 0.03, 0.01),
    "dark lake": (0.010, 0.008, 0.012, 0.008),
    "forest": (0.05, 0.03, 0.30, 0.12),
    "bare": (0.15, 0.20, 0.25, 0.35),
    "snow": (0.80, 0.80, 0.70, 0.10),
    "dry grass": (0.10, 0.12, 0.25, 0.26),
    "reed in water": (0.07, 0.06, 0.05, 0.03),
}


def bands(name: str) -> dict[str, np.ndarray]:
    names = ("green", "red", "nir", "swir16")
    return {b: np.full((1, 1), v, np.float32) for b, v in zip(names, SPECTRA[name], strict=True)}


def truth_of(name: str) -> PixelTruth:
    return spectral_truth(bands(name), np.ones((1, 1), bool))


@pytest.mark.parametrize(
    ("spectrum", "index", "expected"),
    [
        ("water", WATER, True),
        ("dark lake", WATER, True),
        ("forest", WATER, False),
        ("bare", WATER, False),
        ("snow", WATER, False),
        ("snow", SNOW, True),
        ("water", SNOW, False),
        ("forest", SNOW, False),
        ("forest", TREES, None),
        ("bare", TREES, False),
        ("forest", BUILT, False),
        ("bare", BUILT, None),
        ("water", FLOODED, False),
        ("bare", FLOODED, False),
        ("snow", FLOODED, False),
        ("forest", FLOODED, None),
        ("water", RANGELAND, False),
        ("dry grass", RANGELAND, None),
        ("forest", CLOUDS, None),
    ],
)
def test_the_spectrum_decides_what_it_can(spectrum: str, index: int, expected: bool | None) -> None:
    truth = truth_of(spectrum)
    assert said(truth, index) is expected


def test_a_hidden_pixel_is_unknown() -> None:
    truth = spectral_truth(bands("water"), np.zeros((1, 1), bool))
    assert not truth.known.any()


def test_a_map_names_vegetation_but_never_against_the_picture() -> None:
    trees = np.full((1, 1), 2)
    forest, bare = truth_of("forest"), truth_of("bare")
    named = with_land_cover(forest, trees, indices(bands("forest"))["ndvi"])
    assert named.yes[TREES, 0, 0]
    assert named.no[CROPS, 0, 0]
    refused = with_land_cover(bare, trees, indices(bands("bare"))["ndvi"])
    assert not refused.yes[TREES, 0, 0]


def mapped(spectrum: str, name: str) -> PixelTruth:
    code = next(c for c, i in LAND_COVER.items() if CLASSES[i] == name)
    ndvi = indices(bands(spectrum))["ndvi"]
    return with_land_cover(truth_of(spectrum), np.full((1, 1), code), ndvi)


def said(truth: PixelTruth, index: int) -> bool | None:
    return True if truth.yes[index, 0, 0] else False if truth.no[index, 0, 0] else None


def test_a_maps_rangeland_may_be_pasture_which_is_farmland() -> None:
    grass = mapped("dry grass", "rangeland")
    assert said(grass, RANGELAND) is True
    assert said(grass, CROPS) is None
    assert [said(grass, i) for i in (TREES, BUILT, FLOODED)] == [False] * 3
    # A map's fields are no rangeland, dense forest is none either, and bare ground is none at all.
    assert said(mapped("dry grass", "crops"), RANGELAND) is False
    assert said(mapped("forest", "rangeland"), RANGELAND) is None


def test_a_maps_flooded_vegetation_may_be_woods_and_never_open_water() -> None:
    swamp = mapped("forest", "flooded vegetation")
    assert (said(swamp, FLOODED), said(swamp, TREES), said(swamp, RANGELAND)) == (True, None, False)
    # The picture shows water without a plant, the map plants: nobody knows.
    open_water = mapped("water", "flooded vegetation")
    assert (said(open_water, FLOODED), said(open_water, WATER)) == (None, True)
    assert said(mapped("bare", "flooded vegetation"), FLOODED) is False


def test_clouds_hide_the_ground_and_change_nothing_of_it() -> None:
    water = truth_of("water")
    assert said(with_clouds(water, None), CLOUDS) is None
    for there in (True, False):
        found = with_clouds(water, np.full((1, 1), there))
        assert said(found, CLOUDS) is there
        assert said(found, WATER) is True


def test_labels_of_a_scene_rule_classes_out() -> None:
    ndvi = indices(bands("forest"))["ndvi"]
    truth = with_labels(truth_of("forest"), ("water", "trees", "built"), "crops", ndvi)
    assert truth.yes[CROPS, 0, 0]
    assert truth.no[[WATER, TREES, BUILT], 0, 0].all()


def test_what_looks_like_an_absent_class_becomes_unknown() -> None:
    truth = with_labels(truth_of("water"), ("water",), None, np.zeros((1, 1), np.float32))
    assert not truth.known[WATER, 0, 0]


def test_a_pixel_cannot_be_both() -> None:
    both = np.ones((len(CLASSES), 1, 1), bool)
    with pytest.raises(ValueError, match="be and not be"):
        PixelTruth(yes=both, no=both)


def test_map_codes_are_those_that_the_embedded_catalog_declares() -> None:
    (item,) = catalog_path().parent.rglob("LC_chile.json")
    declared = json.loads(item.read_text())["assets"]["data"]["classification:classes"]
    names = {each["value"]: each["name"] for each in declared}
    for code, index in LAND_COVER.items():
        assert names[code].replace("_", " ").startswith(CLASSES[index]), (code, names[code])


@pytest.fixture(autouse=True)
def kept(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chips are loaded once for all tests in here."""
    monkeypatch.setenv("EARTHMIND_HOME", str(tmp_path_factory.getbasetemp() / "truth"))
    monkeypatch.setenv("EARTHMIND_CACHE_BYTES", "100MB")


def test_the_drawings_are_truth_on_two_scenes_and_under_the_clouds_of_one():
    found = {}
    for site in walk(places=["finland_lake", "jiangsu"]):
        looked = look(site)
        truths = {truth.kind: truth for truth in looked.truths}
        drawn = truths["hand-drawn"]
        index = truths.get("clear twin") or truths["spectral index"]
        assert drawn.there == (True, *[None] * 8)
        both = drawn.known(WATER) & index.known(WATER)
        apart = Counts.of(index.yes[WATER], drawn.yes[WATER], both & ~drawn.edge)
        # Two ways of looking at one water: they part at its edge and in reeds, not inside.
        assert apart.iou > 0.9
        assert Counts.of(index.yes[WATER], drawn.yes[WATER], both & drawn.edge).iou < 0.9
        found[site.name] = drawn
    assert set(found) == {"finland_lake", "jiangsu", "jiangsu_cloudy"}
    clear, cloudy = found["jiangsu"], found["jiangsu_cloudy"]
    assert np.array_equal(clear.yes, cloudy.yes)


def test_labels_can_be_taken_alone():
    kinds = {t.kind for site in walk(labels="drawn") for t in site.labels}
    assert kinds == {"hand-drawn"}
    kinds = {t.kind for site in walk(labels="land-cover") for t in site.labels}
    assert kinds == {"label map", "label list"}
