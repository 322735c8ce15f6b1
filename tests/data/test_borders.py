"""Borders of SAR rasters: fill and border noise become nodata, water and bright targets stay."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from shapely.geometry import box

from earthmind_lab.aoi import AOI
from earthmind_lab.chip import Chip
from earthmind_lab.data import borders
from earthmind_lab.data.catalogs import open_catalog
from earthmind_lab.data.load import load_chip
from earthmind_lab.scene import Scene, ScenePair

SIDE = 96
EARLY, LATE = datetime(2017, 6, 1, tzinfo=UTC), datetime(2020, 6, 1, tzinfo=UTC)
INSET = 0.01


def land(seed: int = 0, mean_db: float = -10.0) -> np.ndarray:
    """Speckled land in dB, (SIDE, SIDE) float32: no two values are equal."""
    speckle = np.random.default_rng(seed).gamma(4, 0.25, (SIDE, SIDE))
    return (10 * np.log10(speckle) + mean_db).astype(np.float32)


def power_of(decibel: np.ndarray) -> np.ndarray:
    return (10 ** (decibel / 10)).astype(np.float32)


def load(
    folder: Path,
    values: np.ndarray,
    convention: str = "dB",
    *,
    when: datetime = LATE,
    kind: str = "sigma0",
    window: tuple[int, int, int, int] = (0, SIDE, 0, SIDE),
    gsd: float | None = None,
    **profile: Any,
) -> Chip:
    """A SAR chip of rows and columns of a raster with these numbers."""
    path = folder / "vv.tif"
    x, y = 600_000, 4_200_000
    with rasterio.open(
        path, "w", driver="GTiff", width=SIDE, height=SIDE, count=1, dtype=values.dtype,
        crs="EPSG:32630", transform=Affine(10, 0, x, 0, -10, y), **profile,
    ) as target:  # fmt: skip
        target.write(values, 1)
    stated = {"card4l:measurement_type": kind, "card4l:measurement_convention": convention}
    item = {"id": "S1", "properties": stated, "assets": {"vv": {"href": str(path)}}}
    scene = Scene(
        id="S1", sensor="sentinel-1-sigma0", modality="sar", datetime=when, start=when, end=when,
        footprint=box(-180, -90, 180, 90), assets={"vv": str(path)}, items=(item,),
    )  # fmt: skip
    pair = ScenePair(
        optical=None, sar=scene, gap=None, overlap=1.0, cloud_in_aoi=None, score=0.0, factors={}
    )
    row0, row1, column0, column1 = window
    outline = box(
        x + 10 * column0 + INSET, y - 10 * row1 + INSET,
        x + 10 * column1 - INSET, y - 10 * row0 - INSET,
    )  # fmt: skip
    change = Transformer.from_crs("EPSG:32630", "EPSG:4326", always_xy=True)
    aoi = AOI(geometry=shapely.transform(outline, change.transform, interleaved=False))
    return load_chip(pair, aoi, gsd=gsd)


def facts(chip: Chip) -> dict[str, Any]:
    return dict(chip.provenance["inputs"][0])


# --- exact 0.0 dB -------------------------------------------------------------------------------


def test_repeated_exact_0_db_is_fill_wherever_it_lies(tmp_path: Path) -> None:
    values = land()
    values[:, :20] = 0.0
    values[50:54, 60:64] = 0.0
    chip = load(tmp_path, values)
    assert np.array_equal(np.isnan(chip.band("vv")), values == 0)
    assert facts(chip)["pixels_masked"] == {"fill_0_db": 20 * SIDE + 16}


def test_fill_doesn_t_bleed_into_resampled_pixels(tmp_path: Path) -> None:
    values = land()
    values[:, :48] = 0.0
    chip = load(tmp_path, values, gsd=20)
    assert np.nanmax(chip.band("vv")) < -4
    assert np.array_equal(chip.valid_sar.all(axis=0), np.arange(48) >= 24)


def test_a_single_0_db_is_a_value(tmp_path: Path) -> None:
    values = land()
    values[40, 40] = values[70, 20] = 0.0
    chip = load(tmp_path, values)
    assert chip.valid_sar.all() and facts(chip)["pixels_masked"] == {}


def test_0_db_of_whole_numbers_is_as_common_as_its_neighbours(tmp_path: Path) -> None:
    values = np.round(land(mean_db=-1), 1)  # decibels in steps of a tenth
    assert (values == 0).sum() > 100
    chip = load(tmp_path, values)
    assert chip.valid_sar.all()


def test_a_raster_clipped_at_0_db_keeps_its_bright_pixels(tmp_path: Path) -> None:
    values = np.minimum(land(mean_db=-2), 0)
    values[10:14, 10:14] = 0.0
    chip = load(tmp_path, values)
    assert chip.valid_sar.all()
    assert facts(chip)["pixels_masked"] == {}
    assert facts(chip)["pixels_clipped_at_0_db"] == (values == 0).sum() > 500


# --- no power -----------------------------------------------------------------------------------


@pytest.mark.parametrize("convention", ["linear power", "linear amplitude", "dB"])
def test_solid_zeros_at_the_border_are_fill_and_inside_they_are_water(
    tmp_path: Path, convention: str
) -> None:
    power = power_of(land())
    power[:, :30] = power[:12] = 0
    power[60:80, 60:80] = 0
    with np.errstate(divide="ignore"):
        stored = {"linear power": power, "linear amplitude": np.sqrt(power)}.get(
            convention, (10 * np.log10(power)).astype(np.float32)
        )
    chip = load(tmp_path, stored, convention)
    expected = power == 0
    expected[60:80, 60:80] = False
    assert np.array_equal(np.isnan(chip.band("vv")), expected)
    assert (chip.band("vv")[60:80, 60:80] == -50).all()
    assert facts(chip)["pixels_at_floor"] == 400
    assert facts(chip)["pixels_masked"] == {"fill_no_power": int(expected.sum())}


def test_denoised_water_at_the_border_stays(tmp_path: Path) -> None:
    """Noise subtraction leaves about half of calm water without power, at random."""
    power = power_of(land())
    rng = np.random.default_rng(3)
    power[:, :30] = np.maximum(rng.normal(0, 1e-3, (SIDE, 30)), 0)
    chip = load(tmp_path, power, "linear power")
    assert chip.valid_sar.all()
    assert facts(chip)["pixels_at_floor"] == (power <= 1e-5).sum() > 1000


@pytest.mark.parametrize("fill", [-9999.0, float("nan")])
def test_a_raster_with_a_nodata_border_has_water_of_no_power(tmp_path: Path, fill: float) -> None:
    power = power_of(land())
    power[:, :10] = fill
    power[40:, 10:40] = 0
    chip = load(tmp_path, power, "linear power", nodata=fill)
    assert np.array_equal(np.isnan(chip.band("vv")[0]), np.arange(SIDE) < 10)
    assert (chip.band("vv")[40:, 10:40] == -50).all()


# --- border noise -------------------------------------------------------------------------------


def noisy_scene() -> tuple[np.ndarray, np.ndarray]:
    """Fill, then a ragged strip of noise, then land with a dark lake; and the strip."""
    values = land(1)
    strip = np.zeros((SIDE, SIDE), dtype=bool)
    widths = np.random.default_rng(2).integers(3, 9, SIDE)
    for row, width in enumerate(widths):
        strip[row, 10 : 10 + width] = True
    values[strip] -= 40
    values[:, :10] = np.nan
    values[50:70, 50:70] = -34 + land(5, mean_db=0)[50:70, 50:70] * 0.1
    return values, strip


def test_early_border_noise_is_masked_and_a_lake_is_not(tmp_path: Path) -> None:
    values, strip = noisy_scene()
    chip = load(tmp_path, values, when=EARLY)
    assert np.array_equal(np.isnan(chip.band("vv")), strip | np.isnan(values))
    assert facts(chip)["pixels_masked"] == {"border_noise": int(strip.sum())}


@pytest.mark.parametrize("more", [{"when": LATE}, {"when": EARLY, "kind": "gamma0_rtc"}])
def test_other_products_have_no_border_noise(tmp_path: Path, more: dict[str, Any]) -> None:
    values, strip = noisy_scene()
    chip = load(tmp_path, values, **more)
    assert not np.isnan(chip.band("vv")[strip]).any()


def test_a_cut_of_an_early_scene_has_no_border_of_its_own(tmp_path: Path) -> None:
    values = land(1)
    values[:, :30] = -34 + land(5, mean_db=0)[:, :30] * 0.1  # a lake at the edge of the cut
    assert load(tmp_path, values, when=EARLY).valid_sar.all()


# --- one value however the AOI is cut ------------------------------------------------------------


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), gsd=st.sampled_from([None, 30.0]), look=st.sampled_from([1024, 40]))
def test_what_is_masked_never_depends_on_the_cut(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    data: st.DataObject,
    gsd: float | None,
    look: int,
) -> None:
    monkeypatch.setattr(borders, "LOOK_SIDE", look)
    values, _ = noisy_scene()
    values[70:80, 80:90] = 0.0
    row0, column0 = data.draw(st.integers(0, 60)), data.draw(st.integers(0, 60))
    row1 = data.draw(st.integers(row0 + 20, SIDE))
    column1 = data.draw(st.integers(max(column0 + 6, 30), SIDE))
    whole = load(tmp_path, values, when=EARLY, gsd=gsd)
    part = load(tmp_path, values, when=EARLY, gsd=gsd, window=(row0, row1, column0, column1))
    top, left = (
        round(abs(a - b) / part.grid.affine.a)
        for a, b in (
            (part.grid.affine.f, whole.grid.affine.f),
            (part.grid.affine.c, whole.grid.affine.c),
        )
    )
    rows, columns = part.grid.shape
    expected = whole.sar[:, top : top + rows, left : left + columns]
    assert np.array_equal(part.sar, expected, equal_nan=True)


def test_no_pixel_of_the_embedded_scenes_is_masked() -> None:
    """None of them has fill or a border; Jiangsu's bright pixels were clipped by its source."""
    scenes = [scene for scene in open_catalog("sample").search() if scene.modality == "sar"]
    assert len(scenes) >= 10
    for scene in scenes:
        pair = ScenePair(
            optical=None, sar=scene, gap=None, overlap=1.0, cloud_in_aoi=None, score=0, factors={}
        )
        aoi = AOI(geometry=scene.footprint.centroid.buffer(0.003, cap_style="square"))
        chip = load_chip(pair, aoi)
        assert all(entry["pixels_masked"] == {} for entry in chip.provenance["inputs"])
