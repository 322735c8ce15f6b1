"""Two dates of one ground: the named change where the mask says, nothing elsewhere."""

from functools import lru_cache

import numpy as np
import pytest
from scipy import ndimage

from earthmind_lab.data.simulate import CLASSES
from earthmind_lab.data.simulate_change import CHANGES, SimulatedDates, simulate_pair_of_dates
from earthmind_lab.errors import LoadError

SEEDS = range(4)
BECOMES = {
    "flood": {"water", "flooded vegetation"},
    "clearing": {"bare", "rangeland"},
    "new buildings": {"built"},
    "harvest": {"crops"},
    "snow fall": {"snow"},
    "ships": {"water"},
}


@lru_cache(maxsize=64)
def dates(seed: int, change: str) -> SimulatedDates:
    return simulate_pair_of_dates(seed, change, size=160, cloudy=False)


@pytest.mark.parametrize("change", BECOMES)
def test_the_change_is_where_the_mask_says(change: str) -> None:
    for seed in SEEDS:
        both = dates(seed, change)
        before, after = both.before.classes, both.after.classes
        assert both.mask.any() and both.mask.mean() < 0.95
        np.testing.assert_array_equal(before[~both.mask], after[~both.mask])
        assert {CLASSES[k] for k in np.unique(after[both.mask])} <= BECOMES[change]
        if change not in ("harvest", "ships"):
            assert (before[both.mask] != after[both.mask]).all()
        assert both.simulated and both.before.simulated and both.after.simulated


def test_nothing_changes_but_the_day() -> None:
    for seed in SEEDS:
        both = dates(seed, "none")
        assert not both.mask.any()
        assert both.before.truth.counts == both.after.truth.counts
        assert both.before.sun != both.after.sun and both.before.radar == both.after.radar
        assert both.before.level == both.after.level
        assert not np.array_equal(both.before.sar, both.after.sar)


def test_what_lasts_lasts_and_speckle_is_drawn_anew() -> None:
    red, speckle = [], []
    for seed in range(8):
        both = simulate_pair_of_dates(seed, "none", size=160, cloudy=False)
        first, second = (each.optical[2] for each in (both.before, both.after))
        red.append(np.corrcoef(first.ravel(), second.ravel())[0, 1])
        fine = [each.sar[0] - ndimage.uniform_filter(each.sar[0], 9)
                for each in (both.before, both.after)]  # fmt: skip
        speckle.append(np.corrcoef(fine[0].ravel(), fine[1].ravel())[0, 1])
    assert np.median(red) > 0.9
    assert np.median(speckle) < 0.5


def test_new_buildings_are_counted() -> None:
    for seed in SEEDS:
        both = dates(seed, "new buildings")
        more = both.after.truth.counts["building"] - both.before.truth.counts["building"]
        assert more == ndimage.label(both.mask, np.ones((3, 3)))[1] >= 1


def test_ships_move() -> None:
    for seed in SEEDS:
        both = dates(seed, "ships")
        first, second = (each.truth.mask("ship") for each in (both.before, both.after))
        np.testing.assert_array_equal(both.mask, first | second)
        assert both.after.truth.counts["ship"] >= 1


def test_a_flood_darkens_the_radar_and_snow_brightens_the_picture() -> None:
    for seed in SEEDS:
        flood, snow = dates(seed, "flood"), dates(seed, "snow fall")
        open_water = flood.mask & (flood.after.classes == CLASSES.index("water"))
        if open_water.sum() > 100 and flood.after.wind == 0:
            fall = flood.before.sar[0][open_water] - flood.after.sar[0][open_water]
            assert np.median(fall) > 4
        rise = snow.after.optical[2][snow.mask] - snow.before.optical[2][snow.mask]
        assert np.median(rise) > 0.2


def test_same_seed_same_dates() -> None:
    first, second = (simulate_pair_of_dates(9, "flood", size=64) for _ in range(2))
    np.testing.assert_array_equal(first.after.sar, second.after.sar)
    np.testing.assert_array_equal(first.mask, second.mask)


def test_finer_than_the_sensors() -> None:
    both = simulate_pair_of_dates(1, "clearing", size=128, gsd=5.0)
    assert both.mask.shape == both.before.classes.shape == (128, 128)
    np.testing.assert_array_equal(both.before.classes[~both.mask], both.after.classes[~both.mask])


def test_refuses_what_it_does_not_know() -> None:
    with pytest.raises(LoadError, match="none"):
        simulate_pair_of_dates(1, "earthquake")
    with pytest.raises(LoadError, match="Ships"):
        simulate_pair_of_dates(1, "ships", gsd=40.0)
    assert set(BECOMES) | {"none"} == set(CHANGES)
