"""What is counted and listed of a simulated scene is what its pixels show."""

from functools import lru_cache

import numpy as np
import pytest
from scipy import ndimage

from earthmind_lab.data.simulate import CLASSES, SimulatedScene, simulate_scene
from earthmind_lab.data.simulate_things import CELL, LEAST_TOWN, count_towns
from earthmind_lab.errors import LoadError

WITH_SHIPS, WITH_TOWNS = ("coast", "lakes"), ("farmland", "river plain", "steppe")


@lru_cache(maxsize=32)
def scene(seed: int, biome: str) -> SimulatedScene:
    return simulate_scene(seed, size=256, biome=biome, cloudy=False)


def everything() -> list[SimulatedScene]:
    return [scene(seed, biome) for biome in WITH_SHIPS + WITH_TOWNS for seed in range(5)]


def test_things_are_numbered_listed_and_counted_alike() -> None:
    seen = {"town": 0, "building": 0, "ship": 0}
    for one in everything():
        truth = one.truth
        numbers = np.unique(truth.things[truth.things > 0])
        assert [thing.number for thing in truth.listed] == numbers.tolist()
        assert sum(truth.counts.values()) == len(numbers)
        for thing in truth.listed:
            mine = truth.things == thing.number
            y, x = np.nonzero(mine)
            assert thing.pixels == mine.sum()
            assert thing.box == (x.min(), y.min(), x.max() + 1, y.max() + 1)
            assert (thing.row, thing.column) == pytest.approx((y.mean(), x.mean()))
            seen[thing.kind] += 1
    assert min(seen.values()) >= 8, seen


def test_ships_float_apart_and_shine() -> None:
    for seed in range(5):
        for biome in WITH_SHIPS:
            truth, vv = scene(seed, biome).truth, scene(seed, biome).sar[0]
            ships = truth.mask("ship")
            assert (truth.classes[ships] == CLASSES.index("water")).all()
            assert ndimage.label(ships, np.ones((3, 3)))[1] == truth.counts["ship"]
            if ships.sum() > 30:
                sea = truth.mask("water") & ~ndimage.binary_dilation(ships, iterations=4)
                assert np.median(vv[ships]) > np.median(vv[sea]) + 8


def test_buildings_stand_alone_on_dry_land() -> None:
    for seed in range(5):
        for biome in WITH_TOWNS:
            truth = scene(seed, biome).truth
            alone = truth.mask("building")
            assert (truth.classes[alone] == CLASSES.index("built")).all()
            assert not (ndimage.binary_dilation(alone, iterations=3) & truth.mask("town")).any()


def test_towns_are_large_and_apart() -> None:
    for seed in range(5):
        for biome in WITH_TOWNS:
            one = scene(seed, biome)
            towns = [thing for thing in one.truth.listed if thing.kind == "town"]
            assert all(town.pixels * one.gsd**2 >= LEAST_TOWN for town in towns)
            for town in towns:
                mine = one.truth.things == town.number
                others = one.truth.mask("town") & ~mine
                if others.any():
                    assert ndimage.distance_transform_edt(~mine)[others].min() * one.gsd >= CELL


def test_towns_of_a_drawing() -> None:
    where = np.zeros((90, 90), bool)
    where[0:30, 0:30] = where[0:30, 35:40] = True  # 50 m between them: one town
    where[60:90, 60:90] = True
    where[60:64, 0:4] = True  # 0.16 ha: none
    labels, count = count_towns(where, 10.0)
    assert count == 2
    assert labels[5, 5] == labels[5, 38] != labels[70, 70] > 0 == labels[61, 1] == labels[45, 45]
    assert count_towns(np.zeros((5, 5), bool), 10.0)[1] == 0


def test_shares_masks_and_parts_say_the_same() -> None:
    for one in everything()[:8]:
        truth = one.truth
        assert sum(truth.shares.values()) == pytest.approx(1)
        for name in CLASSES:
            assert truth.shares[name] == pytest.approx(truth.mask(name).mean())
            parts = truth.parts(name, least=20)
            areas = np.bincount(parts.ravel())[1:]
            assert (areas >= 20).all() and (parts > 0).sum() == areas.sum()
            assert not (parts > 0)[~truth.mask(name)].any()
    with pytest.raises(LoadError, match="aeroplane"):
        truth.mask("aeroplane")


def test_a_finer_picture_shows_the_same_things() -> None:
    fine = simulate_scene(2, size=256, gsd=5.0, biome="farmland", cloudy=False).truth
    coarse = simulate_scene(2, size=128, gsd=10.0, biome="farmland", cloudy=False).truth
    assert fine.counts == coarse.counts and sum(coarse.counts.values()) > 0
    np.testing.assert_array_equal(fine.classes[::2, ::2], coarse.classes)
    assert sum(t.pixels for t in fine.listed) == 4 * sum(t.pixels for t in coarse.listed)


def test_no_ships_where_none_can_be_told() -> None:
    for seed in range(12):
        far = simulate_scene(seed, size=96, gsd=30.0, biome="coast", cloudy=False)
        assert far.truth.counts["ship"] == 0
