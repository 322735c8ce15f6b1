"""The speckle filter: calmer where it is flat, untouched where it isn't, and off by default."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from shapely.geometry import box

from earthmind_lab.aoi import AOI
from earthmind_lab.data.catalogs import open_catalog
from earthmind_lab.data.load import load_chip
from earthmind_lab.data.speckle import lee
from earthmind_lab.errors import LoadError
from earthmind_lab.scene import Scene, ScenePair

LOOKS = 4.4


def speckled(mean: np.ndarray, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).gamma(LOOKS, 1 / LOOKS, mean.shape)
    return (mean * noise).astype(np.float32)


def spread(power: np.ndarray) -> float:
    """Coefficient of variation; 1 / sqrt(looks) for speckle."""
    return float(power.std() / power.mean())


def test_flat_ground_becomes_calm_and_keeps_its_mean() -> None:
    before = speckled(np.full((128, 128), 0.05))
    after = lee(before, LOOKS)[8:-8, 8:-8]
    assert spread(before) == pytest.approx(1 / np.sqrt(LOOKS), rel=0.03)
    assert spread(after) < 0.35 * spread(before)
    assert after.mean() == pytest.approx(before.mean(), rel=0.03)


def test_a_bright_point_and_an_edge_stay() -> None:
    mean = np.full((64, 64), 0.02)
    mean[:, 32:] = 0.5
    mean[20, 10] = 40.0
    before = speckled(mean)
    after = lee(before, LOOKS)
    assert after[20, 10] == pytest.approx(before[20, 10], rel=0.15)
    assert after[:, 28].mean() < 0.1 and after[:, 36].mean() > 0.4
    assert np.median(after[:, 31]) < 0.15 < np.median(after[:, 32])


@settings(max_examples=40, deadline=None)
@given(
    power=arrays(np.float32, (12, 14), elements=st.floats(2.0**-16, 1024, width=32)),
    holes=arrays(bool, (12, 14)),
)
def test_nodata_neither_grows_nor_leaks(power: np.ndarray, holes: np.ndarray) -> None:
    power[holes] = np.nan
    after = lee(power, LOOKS)
    assert np.array_equal(np.isnan(after), holes)
    if not holes.all():
        inside = after[~holes]
        assert inside.min() >= power[~holes].min() * (1 - 1e-6)
        assert inside.max() <= power[~holes].max() * (1 + 1e-6)


@settings(max_examples=40, deadline=None)
@given(value=st.floats(2.0**-16, 1024, width=32), looks=st.floats(1, 100))
def test_a_constant_stays(value: float, looks: float) -> None:
    power = np.full((9, 9), value, dtype=np.float32)
    assert np.allclose(lee(power, looks), power, rtol=1e-6)


def scene_of(place: str) -> Scene:
    found = open_catalog("sample").search()
    return next(s for s in found if place in s.id and s.modality == "sar")


def load(scene: Scene, west: float, south: float, east: float, north: float, **more: Any) -> Any:
    """The chip of a part of the scene, in shares of its extent."""
    x0, y0, x1, y1 = scene.footprint.bounds
    wide, high = x1 - x0, y1 - y0
    part = box(x0 + west * wide, y0 + south * high, x0 + east * wide, y0 + north * high)
    pair = ScenePair(
        optical=None, sar=scene, gap=None, overlap=1.0, cloud_in_aoi=None, score=0.0, factors={}
    )
    return load_chip(pair, AOI(geometry=part), **more)


WHOLE = (0.1, 0.1, 0.9, 0.9)


def test_a_real_scene_is_filtered_where_asked() -> None:
    scene = scene_of("tanzania")
    plain, calm = load(scene, *WHOLE), load(scene, *WHOLE, speckle="lee")
    assert plain.radiometry.speckle_filter is None and "speckle" not in plain.provenance
    assert calm.radiometry.speckle_filter == "Lee, 7 x 7 px, 4.4 looks, by earthmind_lab"
    assert calm.provenance["speckle"] == "lee"
    one, two = (10 ** (chip.band("vv") / 10) for chip in (plain, calm))
    assert np.nanmean(two) == pytest.approx(np.nanmean(one), rel=0.03)
    rough = [np.nanmean(np.abs(np.diff(power, axis=1))) for power in (one, two)]
    assert rough[1] < 0.5 * rough[0]


@settings(max_examples=8, deadline=None)
@given(
    corner=st.tuples(st.floats(0.1, 0.6), st.floats(0.1, 0.6)),
    size=st.tuples(st.floats(0.1, 0.3), st.floats(0.1, 0.3)),
    place=st.sampled_from(["tanzania", "spain"]),  # copied and resampled
)
def test_filtered_values_never_depend_on_the_cut(
    corner: tuple[float, float], size: tuple[float, float], place: str
) -> None:
    scene = scene_of(place)
    small = (*corner, corner[0] + size[0], corner[1] + size[1])
    whole, part = (load(scene, *where, speckle="lee") for where in (WHOLE, small))
    step = whole.grid.affine.a
    left = round((part.grid.affine.c - whole.grid.affine.c) / step)
    top = round((whole.grid.affine.f - part.grid.affine.f) / step)
    rows, columns = part.grid.shape
    expected = whole.sar[:, top : top + rows, left : left + columns]
    assert np.array_equal(part.sar, expected, equal_nan=True)


def test_looks_are_the_item_s_where_it_declares_them() -> None:
    scene = scene_of("tanzania")
    item = scene.items[0]
    stated = {**item, "properties": item["properties"] | {"sar:looks_equivalent_number": 9}}
    chip = load(replace(scene, items=(stated,)), *WHOLE, speckle="lee")
    assert "9 looks" in chip.radiometry.speckle_filter


def test_filters_and_looks_that_are_not_there_are_refused() -> None:
    scene = scene_of("tanzania")
    with pytest.raises(LoadError, match="lee"):
        load(scene, *WHOLE, speckle="median")
    with pytest.raises(LoadError, match="looks_equivalent_number"):
        load(replace(scene, sensor="sar-rtc"), *WHOLE, speckle="lee")
