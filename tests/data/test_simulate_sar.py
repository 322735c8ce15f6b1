"""The simulated radar: where it looks, what it lays over, hides and flattens, its speckle."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from earthmind_lab.data.simulate import simulate_scene
from earthmind_lab.data.simulate_materials import MATERIALS
from earthmind_lab.data.simulate_sar import Pass, _double_bounce, _project, _speckle, draw_pass

LOOK = Pass(orbit="ascending", incidence=45.0, quantity="sigma0", looks=5.0, correlated=False)


def tower(height: float, **how: float) -> NDArray[np.float32]:
    """VV of level ground of power 1 with one tower of power 50 at column 30; 10 m pixels."""
    power, heights = np.ones((2, 1, 64), np.float32), np.zeros((1, 64), np.float32)
    power[:, 0, 30], heights[0, 30] = 50, height
    return _project(power, heights, None, 10.0, replace(LOOK, **how))[0, 0]


@pytest.mark.parametrize(("height", "incidence"), [(50.0, 45.0), (80.0, 38.0), (30.0, 30.0)])
def test_a_tower_leans_toward_the_radar_and_hides_what_is_behind(
    height: float, incidence: float
) -> None:
    row = tower(height, incidence=incidence)
    lean = height / np.tan(np.radians(incidence)) / 10
    assert abs(float((row * np.arange(64))[20:30].sum() / row[20:30].sum())) == pytest.approx(
        30 - lean, abs=1.5
    )
    assert row[20:30].max() > 20 > row[30]
    shadow = height * np.tan(np.radians(incidence)) / 10
    dark = np.flatnonzero(row[31:] < 0.5)
    assert len(dark) == pytest.approx(shadow - 1, abs=1.1)
    assert row[:18] == pytest.approx(1) and row[50:] == pytest.approx(1)


def test_layover_keeps_the_power() -> None:
    power = np.random.default_rng(0).random((2, 20, 60)).astype(np.float32)
    heights = np.zeros((20, 60), np.float32)
    heights[:, 30:40] = 15.0  # nothing stands higher than a neighbour nearer to the radar hides
    seen = _project(power.copy(), heights, None, 10.0, LOOK)
    hidden = power[:, :, 40:42].sum()
    assert power.sum() - hidden <= seen.sum() <= power.sum() * 1.0001


def hill(quantity: str) -> NDArray[np.float32]:
    x = np.arange(96, dtype=np.float32)
    relief = np.repeat(180 * np.exp(-(((x - 48) / 14) ** 2))[None], 4, axis=0)
    return _project(
        np.ones((2, 4, 96), np.float32), np.zeros((4, 96), np.float32), relief, 10.0,
        replace(LOOK, quantity=quantity, incidence=38.0),
    )[0, 1]  # fmt: skip


def test_slopes_toward_the_radar_shine_and_correction_flattens_them() -> None:
    plain, flat = hill("sigma0"), hill("gamma0_rtc")
    assert plain[36:44].mean() > 2 > 0.8 > plain[54:62].mean()
    assert np.abs(np.log(flat[10:-10])).max() < 0.35 * np.log(plain.max())


def test_the_other_orbit_sees_the_other_side() -> None:
    west_facing = {}
    for seed in range(60):
        scene = simulate_scene(seed, size=128, gsd=20.0, biome="mountain", cloudy=False)
        if scene.radar.quantity != "sigma0":
            continue
        vv = scene.sar[0] - scene.sar[0].mean()
        # The optical light tells slopes: south-east is lit, so west slopes are dark.
        nir = scene.optical[3] / scene.optical[3].mean()
        west_facing.setdefault(scene.radar.orbit, []).append(np.corrcoef(vv.ravel(), nir.ravel()))
        if {len(v) for v in west_facing.values()} == {4} and len(west_facing) == 2:
            break
    ascending, descending = (
        np.mean([c[0, 1] for c in west_facing[orbit]]) for orbit in ("ascending", "descending")
    )
    assert descending > ascending + 0.1


def test_walls_across_the_look_answer_most() -> None:
    wall = np.full((4, 4), 10.0, np.float32)
    aligned, oblique = _double_bounce(wall, 0.0), _double_bounce(wall, np.pi / 4)
    assert aligned.min() > 4 * oblique.max() * 0.08 and aligned[0, 0, 0] > 4 * oblique[0, 0, 0]
    assert _double_bounce(wall, np.pi / 2) == pytest.approx(aligned)
    assert not _double_bounce(-wall, 0.0).any()


@pytest.mark.parametrize(
    ("looks", "correlated"), [(4.0, False), (8.0, False), (1 / 0.168, True), (2 / 0.168, True)]
)
def test_speckle_has_the_looks_it_says(looks: float, correlated: bool) -> None:
    drawn = _speckle(
        np.random.default_rng(1), 512, replace(LOOK, looks=looks, correlated=correlated)
    )
    assert drawn.mean() == pytest.approx(1, abs=0.01)
    assert drawn.mean() ** 2 / drawn.var() == pytest.approx(looks, rel=0.06)
    neighbours = np.corrcoef(drawn[:, 1:].ravel(), drawn[:, :-1].ravel())[0, 1]
    assert neighbours > 0.4 if correlated else abs(neighbours) < 0.02


def test_passes_are_sentinel_1s() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_pass(rng) for _ in range(200)]
    assert {each.look_azimuth for each in drawn} == {90.0, 270.0}
    assert {each.quantity for each in drawn} == {"sigma0", "gamma0_rtc"}
    assert all(30 <= each.incidence <= 45 and 4 <= each.looks <= 12 for each in drawn)


def test_wind_roughens_open_water_only() -> None:
    calm, windy = [], []
    for seed in range(80):
        scene = simulate_scene(seed, size=96, gsd=20.0, biome="coast", cloudy=False)
        (windy if scene.wind > 3 else calm).append(np.median(scene.sar[0][scene.classes == 0]))
        assert scene.wind == 0 or 1 <= scene.wind <= 7
    assert np.mean(windy) > np.mean(calm) + 2 and len(windy) > 5


def test_stems_in_water_answer_twice() -> None:
    for dry, wet in (("broadleaf", "flooded wood"), ("crop", "flooded crop"), ("meadow", "marsh")):
        assert MATERIALS[wet].backscatter[0] > MATERIALS[dry].backscatter[0] + 1.5
        assert MATERIALS[wet].reflectance[4] < MATERIALS[dry].reflectance[4]
        assert MATERIALS[wet].kind == "flooded vegetation"
