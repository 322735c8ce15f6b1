"""Bounds that no surface and no sensor crosses; what lies within them is left alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from earthmind_lab.data.assets import AssetRef
from earthmind_lab.data.catalogs import open_catalog
from earthmind_lab.data.plausible import (
    check_bands,
    check_offset,
    check_reflectance_range,
    check_scaled,
    darkest,
    next_to_nothing,
    offset_in_doubt,
    too_strong,
)
from earthmind_lab.data.radiometry import Scaling
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
    check_reflectance_range(values, lambda: values, REF)


@pytest.mark.parametrize("fill", [6.5, -1.0])
def test_fill_that_nobody_declared_is_named(fill):
    values = ground(0.2)
    values[:10] = fill
    with pytest.raises(RadiometryUnknown, match=f"{fill:.4g}") as caught:
        check_reflectance_range(values, lambda: values, REF)
    assert "nodata" in caught.value.change


def test_an_offset_subtracted_twice_shows_on_dark_ground_only():
    dark, light = ground(0.03) - np.float32(0.1), ground(0.35) - np.float32(0.1)
    with pytest.raises(RadiometryUnknown, match="already"):
        check_reflectance_range(dark, lambda: dark, REF)
    check_reflectance_range(light, lambda: light, REF)


def test_overcorrected_water_in_a_sound_scene_is_no_offset_subtracted_twice():
    check_reflectance_range(ground(-0.07), lambda: ground(0.2), REF)


def test_reflectance_that_was_scaled_twice_is_dim_in_every_band():
    assert next_to_nothing(ground(0.2) * np.float32(1e-4))
    assert not next_to_nothing(ground(0.02)) and not next_to_nothing(ground(-0.02))
    assert not next_to_nothing(np.full((2, 2), np.nan, np.float32))
    check_scaled([True, False], "the scene 's'")
    check_scaled([], "the scene 's'")
    with pytest.raises(RadiometryUnknown, match="scale"):
        check_scaled([True, True], "the scene 's'")


@pytest.mark.parametrize(("band", "doubt"), [("blue", False), ("swir16", True)])
def test_bright_air_is_no_offset(band, doubt):
    stated = {"id": "i", "properties": {"s2:processing_baseline": "05.09"}}
    ref = replace(REF, band=band, item=stated)
    scene = open_catalog("sample").search()[0]
    for sensor, expected in (("sentinel-2-l1c", doubt), ("sentinel-2-l2a", True)):
        seen = offset_in_doubt(replace(scene, sensor=sensor), ref, Scaling(scale=1e-4))
        assert seen is expected


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


def test_noise_over_calm_water_is_no_echo_of_either():
    water, ship = {"hh": ground(-27, 1), "hv": ground(-24, 1)}, ground(-30, 1)
    check_bands(water, "the scene 's'")
    ship[:5] = 10
    check_bands(water | {"hv": np.maximum(water["hv"], ship)}, "the scene 's'")


def test_one_file_under_two_names():
    band = ground(0.2)
    with pytest.raises(RadiometryUnknown, match="red and nir"):
        check_bands({"red": band, "green": ground(0.1), "nir": band.copy()}, "the scene 's'")
    flat = np.full((4, 4), 0.1, np.float32)
    check_bands({"red": flat, "nir": flat.copy()}, "the scene 's'")  # nothing to tell them by
