"""Simulated scenes as chips: like any other chip, and never taken for an observation."""

import datetime as dt

import numpy as np
import pytest

from earthmind_lab.data.simulate import simulate_scene
from earthmind_lab.data.simulate_change import simulate_pair_of_dates
from earthmind_lab.data.simulate_chips import ATTRIBUTION, chip_of, simulated_chip
from earthmind_lab.render import render


def test_a_chip_holds_the_scene() -> None:
    scene = simulate_scene(5, size=64)
    chip = simulated_chip(5, size=64)
    np.testing.assert_array_equal(chip.optical, scene.optical)
    assert chip.sar is not None and chip.sar.min() >= -60
    np.testing.assert_array_equal(chip.sar, np.maximum(scene.sar, np.float32(-60)))
    assert chip.gsd == 10.0 and chip.inside.all()
    assert chip.radiometry.level == scene.level
    assert chip.radiometry.quantity == scene.radar.quantity
    assert [view.name for view in render(chip)] == ["vv_vh_ratio", "swir_nir_red", "true_colour"]
    assert chip.aoi.area_km2 == pytest.approx(0.64**2, rel=0.01)


def test_it_says_that_it_is_simulated() -> None:
    chip = simulated_chip(6, size=64)
    assert chip.provenance["simulated"] is True and chip.provenance["simulator"]["seed"] == 6
    assert chip.provenance["attribution"] == (ATTRIBUTION,) and "imulated" in ATTRIBUTION
    assert chip.pair.catalog == "simulated" and "simulated" in chip.aoi.name
    for scene in chip.pair.scenes:
        assert "simulated" in scene.id and scene.collection == "simulated"
        assert scene.observed == "unknown" and scene.processing == {"simulated": True}
    assert all(view.time is None for view in render(chip))


def test_seeds_lie_apart_and_at_sea() -> None:
    scene = simulate_scene(0, size=32, gsd=100.0)
    boxes = []
    for seed in (*range(300), 5000, 100_000, 400_000):
        object.__setattr__(scene, "seed", seed)
        boxes.append(chip_of(scene).aoi.geometry)
    west, south, east, north = np.array([box.bounds for box in boxes]).T
    assert west.min() > -175 and east.max() < -88 and south.min() > -56 and north.max() < -35
    for i, box in enumerate(boxes):
        assert not any(box.intersects(other) for other in boxes[:i])


def test_two_dates_share_the_place_and_can_have_times() -> None:
    dates = simulate_pair_of_dates(4, "none", size=64)
    noon = dt.datetime(2001, 5, 1, 12, tzinfo=dt.UTC)
    first, second = chip_of(dates.before, datetime=noon), chip_of(dates.after)
    assert first.grid == second.grid
    assert first.pair.gap == dt.timedelta(0) and render(first)[0].time == "2001-05-01T12:00:00Z"
