"""Bands in threes, in the three published orders."""

from __future__ import annotations

import numpy as np
import pytest

from earthmind_lab.band_groups import ORDERS, band_groups, group_names
from earthmind_lab.errors import PromptError
from earthmind_lab.exchange import Prompt
from tests.test_render import make_chip

SENTINEL2 = (
    "coastal", "blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "nir09",
    "swir16", "swir22",
)  # fmt: skip
LANDSAT = ("coastal", "blue", "green", "red", "nir08", "swir16", "swir22")
B = dict(
    zip(
        ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"),
        SENTINEL2,
        strict=True,
    )
)


@pytest.mark.parametrize(
    ("order", "published"),
    [
        ("june", "B01 B02 B03|B04 B05 B06|B07 B08 B8A|B09 B11 B12"),
        ("benchmark", "B04 B03 B02|B01 B05 B06|B07 B08 B8A|B09 B11 B12"),
        ("training", "B04 B03 B02|B05 B06 B07|B8A B11 B12|B01 B09 B09"),
    ],
)
def test_sentinel2_gives_the_published_groups(order: str, published: str) -> None:
    wanted = [tuple(B[name] for name in group.split()) for group in published.split("|")]
    assert group_names(SENTINEL2, order) == wanted  # type: ignore[arg-type]
    assert group_names(SENTINEL2[::-1], order) == wanted  # type: ignore[arg-type]


def test_another_sensor_fills_what_its_wavelengths_reach() -> None:
    assert group_names(LANDSAT, "benchmark") == [
        ("red", "green", "blue"),
        ("coastal", "nir08", "swir16"),
        ("swir22", "swir22", "swir22"),
    ]
    assert group_names(LANDSAT, "june") == [
        ("coastal", "blue", "green"),
        ("red", "nir08", "swir16"),
    ], "the incomplete last group is dropped"
    # The broad near infrared of Sentinel-2 is not among what the training data show.
    assert group_names(("red", "green", "blue", "nir"), "training") == [("red", "green", "blue")]


def test_views_are_stretched_as_each_order_was_published() -> None:
    chip = make_chip()  # reflectance 0.1 to 0.5, one pixel without data
    (first, *_) = band_groups(chip, "june")
    assert first.bands == ("blue", "green", "red")
    assert first.stretch == ((0.0, 0.3),) * 3
    assert first.image[1, 1].tolist() == [85, 170, 255]
    assert first.image[0, 0].tolist() == [0, 0, 0]
    views = band_groups(chip)
    assert [view.name for view in views] == ["benchmark_1", "benchmark_2"]
    assert views[1].bands == ("nir", "swir16", "swir16")
    assert {view.modality for view in views} == {"optical"}
    assert views[0].gsd == chip.gsd
    Prompt(text="Which classes are there?", views=views)


def test_percentiles_are_those_of_valid_pixels() -> None:
    chip = make_chip()
    assert chip.optical is not None
    ramp = np.linspace(0.0, 0.2, 96, dtype=np.float32).reshape(8, 12)
    chip.optical[2] = ramp
    chip.optical[2, 0, 0] = np.nan
    view = band_groups(chip)[0]
    low, high = view.stretch[0]
    assert (low, high) == tuple(np.percentile(ramp.ravel()[1:], (2, 98)).tolist())
    assert view.image[..., 0].max() == 255


def test_unknown_order_and_too_few_bands() -> None:
    with pytest.raises(PromptError, match="no band order 'alphabetical'"):
        band_groups(make_chip(), "alphabetical")  # type: ignore[arg-type]
    for order in ORDERS:
        with pytest.raises(PromptError, match="too few optical bands"):
            band_groups(make_chip(bands=("red", "nir")), order)  # type: ignore[arg-type]
        with pytest.raises(PromptError, match="too few optical bands"):
            band_groups(make_chip(bands=()), order)  # type: ignore[arg-type]
