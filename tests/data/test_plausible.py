"""Bounds that no surface and no sensor crosses; what lies within them is left alone."""

from __future__ import annotations

import numpy as np
import pytest

from earthmind_lab.data.assets import AssetRef
from earthmind_lab.data.plausible import (
    check_bands,
    check_offset,
    check_reflectance_range,
    darkest,
    too_strong,
)
from earthmind_lab.errors import RadiometryUnknown

RNG = np.random.default_rng(7)
REF = AssetRef(item={"id": "i"}, key="red", asset={}, href="red.tif", band="red", fields={})


def ground(mean: float, spread: float = 0.02, count: int = 10_000) -> np.ndarray:
    return RNG.normal(mean, spread, (100, count // 100)).astype(np.float32)


@pytest.mark.parametrize(
    "values",
    [
        ground(0.2), ground(0.9, 0.3),  # fields, snow and cloud
        np.concatenate([ground(0.2), np.full((1, 100), np.nan, np.float32)]),
        np.where(RNG.random((100, 100)) < 0.05, -0.07, 0.3).astype(np.float32),  # overcorrected
        np.where(RNG.random((100, 100)) < 5e-4, 6.0, 0.3).astype(np.float32),  # glint
        np.full((4, 4), np.nan, np.float32),
    ],
)  # fmt: skip
def test_what_surfaces_reflect_passes(values):
    check_reflectance_range(values, REF)


@pytest.mark.parametrize("fill", [6.5, -1.0])
def test_fill_that_nobody_declared_is_named(fill):
    values = ground(0.2)
    values[:10] = fill
    with pytest.raises(RadiometryUnknown, match=f"{fill:.4g}") as caught:
        check_reflectance_range(values, REF)
    assert "nodata" in caught.value.change


def test_an_offset_subtracted_twice_shows_on_dark_ground_only():
    with pytest.raises(RadiometryUnknown, match="already"):
        check_reflectance_range(ground(0.03) - np.float32(0.1), REF)
    check_reflectance_range(ground(0.35) - np.float32(0.1), REF)


def test_one_dark_band_shows_that_the_offset_is_gone():
    check_offset({"blue": 0.03, "swir16": 0.2}, "the scene 's'")
    check_offset({}, "the scene 's'")
    check_offset({"blue": None}, "the scene 's'")
    with pytest.raises(RadiometryUnknown, match=r"0\.104"):
        check_offset({"blue": 0.104, "swir16": 0.2}, "the scene 's'")


def test_the_darkest_thousandth_is_no_single_broken_pixel():
    values = ground(0.3, 0.001)
    values[0, 0] = 0.0
    assert darkest(values) > 0.29
    assert darkest(np.full((2, 2), np.nan, np.float32)) is None


def test_a_town_has_weak_echoes_too_and_counts_have_none():
    town = np.concatenate([ground(4, 2), ground(-8, 3)[:10]])
    assert not too_strong(town)
    assert too_strong(ground(24, 3))
    assert not too_strong(np.full((2, 2), np.nan, np.float32))


def test_polarisations_that_changed_places():
    bands = {"vv": ground(-10, 2), "vh": ground(-17, 2)}
    check_bands(bands, "the scene 's'")
    check_bands({"vv": np.full((2, 2), np.nan), "vh": np.full((2, 2), np.nan)}, "the scene 's'")
    with pytest.raises(RadiometryUnknown, match=r"7\.\d dB"):
        check_bands({"hh": bands["vh"], "hv": bands["vv"]}, "the scene 's'")


def test_one_file_under_two_names():
    band = ground(0.2)
    with pytest.raises(RadiometryUnknown, match="red and nir"):
        check_bands({"red": band, "green": ground(0.1), "nir": band.copy()}, "the scene 's'")
    flat = np.full((4, 4), 0.1, np.float32)
    check_bands({"red": flat, "nir": flat.copy()}, "the scene 's'")  # nothing to tell them by
