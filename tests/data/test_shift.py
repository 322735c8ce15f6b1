"""Shift between the sensors: told where the pixels tell it, and never where they don't."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earthmind_lab.aoi import AOI
from earthmind_lab.chip import Chip
from earthmind_lab.data.catalogs import open_catalog
from earthmind_lab.data.load import load_chip
from earthmind_lab.data.shift import CONFIDENT, REACH_PX, measure_shift
from earthmind_lab.scene import Scene, ScenePair

PLACES = ("chile", "denmark", "tanzania", "spain", "jiangsu")


@lru_cache
def scenes() -> dict[str, Scene]:
    return {scene.id: scene for scene in open_catalog("sample").search()}


@lru_cache
def load(place: str, **parts: str) -> Chip:
    """The chip of a place of the embedded catalog: all that both sensors show."""
    found = [s for name, s in sorted(scenes().items()) if place in name]
    optical, sar = (
        next(s for s in found if s.modality == kind and parts.get(kind, "") in s.id)
        for kind in ("optical", "sar")
    )
    pair = ScenePair(
        optical=optical, sar=sar, gap=None, overlap=1.0, cloud_in_aoi=None, score=0.0, factors={}
    )
    return load_chip(pair, AOI(geometry=optical.footprint.intersection(sar.footprint)))


def cut(
    chip: Chip, rows: int, columns: int
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...], np.ndarray]:
    """What is measured, with SAR moved south and east by whole pixels of its own."""
    high, wide = (int(side) for side in chip.grid.shape)
    edge = REACH_PX
    inner = (slice(None), slice(edge, high - edge), slice(edge, wide - edge))
    moved = (
        slice(None),
        slice(edge - rows, high - edge - rows),
        slice(edge - columns, wide - edge - columns),
    )
    valid = np.isfinite(chip.optical[inner]).all(0) & np.isfinite(chip.sar[moved]).all(0)
    return chip.optical[inner], chip.sar[moved], chip.bands, valid


def test_sure_measurements_are_right_within_a_pixel() -> None:
    """Real pairs, moved on purpose: 95 % of what is told holds, and most of it is told."""
    rng = np.random.default_rng(5)
    told, errors = 0, []
    for place in PLACES:
        chip = load(place)
        at_rest = chip.radiometry.measured_shift
        assert at_rest is not None
        for rows, columns in rng.integers(-4, 5, (12, 2)):
            shift = measure_shift(*cut(chip, rows, columns))
            assert shift is not None
            if shift.measurable:
                error = (shift.rows - rows - at_rest[0], shift.columns - columns - at_rest[1])
                errors.append(math.hypot(*error))
            told += shift.measurable
    assert told >= 45
    assert (np.array(errors) <= 1).mean() >= 0.95 and max(errors) < 1.5


@pytest.mark.parametrize(
    ("place", "least", "most"),
    [("jiangsu", 0, 1), ("spain", 0, 1), ("tanzania", 1, 2), ("denmark", 2, 3), ("chile", 1, 2)],
)
def test_real_pairs_lie_as_far_apart_as_is_known(place: str, least: float, most: float) -> None:
    radiometry = load(place).radiometry
    assert least <= radiometry.residual_shift_px <= most
    assert radiometry.residual_shift_confidence >= CONFIDENT
    assert radiometry.residual_shift_px == pytest.approx(
        math.hypot(*radiometry.measured_shift), abs=0.02
    )


def test_punjab_alarms() -> None:
    """Its geotransform, not its pixels, is about four pixels wrong."""
    radiometry = load("punjab", optical="L2A").radiometry
    assert 4 < radiometry.residual_shift_px < 6
    assert "one thing at different pixels" in radiometry.residual_shift_note
    assert "declared by the source" in radiometry.residual_shift_note


def test_clouds_hide_the_shift() -> None:
    radiometry = load("jiangsu", optical="cloudy").radiometry
    assert radiometry.residual_shift_px is None and radiometry.measured_shift is None
    assert radiometry.residual_shift_note.startswith("not measurable (confidence 0.")


def test_pictures_of_different_places_have_no_shift() -> None:
    chips = [load(place) for place in PLACES]
    for one in chips:
        for other in chips:
            if one is other:
                continue
            high, wide = np.minimum(one.grid.shape, other.grid.shape)
            valid = np.ones((int(high), int(wide)), dtype=bool)
            optical, sar = one.optical[:, :high, :wide], other.sar[:, :high, :wide]
            shift = measure_shift(np.nan_to_num(optical), np.nan_to_num(sar), one.bands, valid)
            assert shift is not None and not shift.measurable


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), level=st.sampled_from([0.0, 0.002]))
def test_water_and_flat_texture_tell_nothing(seed: int, level: float) -> None:
    rng = np.random.default_rng(seed)
    optical = (0.03 + level * rng.standard_normal((2, 160, 160))).astype(np.float32)
    sar = (10 * np.log10(rng.gamma(4, 0.25, (2, 160, 160))) - 22).astype(np.float32)
    shift = measure_shift(optical, sar, ("red", "nir"), np.ones((160, 160), dtype=bool))
    assert shift is not None and not shift.measurable


def test_what_has_no_data_counts_for_nothing() -> None:
    chip = load("tanzania")
    optical, sar, bands, _ = cut(chip, 0, 0)
    hole = (slice(None), slice(60, 110), slice(80, 150))
    optical, sar = optical.copy(), sar.copy()
    optical[hole], sar[:, 64:114, 84:154] = np.nan, np.nan
    valid = np.isfinite(optical).all(axis=0) & np.isfinite(sar).all(axis=0)
    shift = measure_shift(optical, sar, bands, valid)
    assert shift is not None and shift.measurable
    assert np.hypot(shift.rows + 1.6, shift.columns + 0.3) < 0.7  # as without the hole


@pytest.mark.parametrize("side", [40, 119])
def test_small_chips_tell_nothing(side: int) -> None:
    rng = np.random.default_rng(0)
    stack = rng.random((2, side, side), dtype=np.float32)
    assert measure_shift(stack, stack, ("red", "nir"), np.ones((side, side), dtype=bool)) is None


def test_mostly_nodata_tells_nothing() -> None:
    stack = np.random.default_rng(0).random((2, 200, 200), dtype=np.float32)
    valid = np.zeros((200, 200), dtype=bool)
    valid[:90] = True
    assert measure_shift(stack, stack, ("red", "nir"), valid) is None


def test_a_shift_beyond_reach_is_not_taken_for_a_small_one() -> None:
    chip = load("tanzania")
    optical, sar, bands, valid = cut(chip, 0, 0)
    far = np.roll(sar, (30, -25), axis=(1, 2))
    shift = measure_shift(optical, far, bands, valid)
    assert shift is not None and not shift.measurable
