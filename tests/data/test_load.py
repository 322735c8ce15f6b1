"""Loading: grids, kernels, values that don't depend on the cut, and refusals."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
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
from rasterio.control import GroundControlPoint
from rasterio.warp import Resampling, reproject
from rasterio.windows import Window
from shapely.geometry import box

from earthmind_lab.aoi import AOI
from earthmind_lab.chip import Chip
from earthmind_lab.data import plan, resample
from earthmind_lab.data.load import load_chip, plan_chip
from earthmind_lab.errors import (
    AssetUnavailable,
    GridMismatch,
    LoadError,
    NotTerrainCorrected,
    RadiometryUnknown,
)
from earthmind_lab.scene import Scene, ScenePair

WHEN = datetime(2024, 1, 31, 8, 10, tzinfo=UTC)
UTM = "EPSG:32736"
ORIGIN = (617301.81987845, 9625098.22745184)
"""A corner as real products have it: on no multiple of anything."""
SIDE = 120
RNG = np.random.default_rng(7)
BANDS = ("blue", "green", "red", "nir")
DN = {band: RNG.integers(1000, 5000, (SIDE, SIDE), dtype=np.uint16) for band in BANDS}
DN["swir16"] = RNG.integers(1000, 5000, (SIDE // 2, SIDE // 2), dtype=np.uint16)
POWER = {
    "vv": RNG.gamma(4, 0.02, (SIDE + 40, SIDE + 40)).astype(np.float32),
    "vh": RNG.gamma(4, 0.004, (SIDE + 40, SIDE + 40)).astype(np.float32),
}
GAMMA0 = {"card4l:measurement_type": "gamma0", "card4l:measurement_convention": "linear power"}


def write(
    path: Path, values: np.ndarray, affine: Affine, crs: str | None = UTM, **more: Any
) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", width=values.shape[1], height=values.shape[0], count=1,
        dtype=values.dtype, crs=crs, transform=affine, tiled=True, blockxsize=64, blockysize=64,
        **more,
    ) as target:  # fmt: skip
        target.write(values, 1)
    return str(path)


def upright(x: float, y: float, dx: float, dy: float | None = None) -> Affine:
    return Affine(dx, 0, x, 0, -(dy or dx), y)


def lonlat_box(crs: str, west: float, south: float, east: float, north: float) -> Any:
    change = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    return shapely.transform(box(west, south, east, north), change.transform, interleaved=False)


def make_scene(
    hrefs: Mapping[str, str],
    *,
    name: str = "S2",
    sensor: str = "sentinel-2-l2a",
    properties: Mapping[str, Any] | None = None,
    asset: Mapping[str, Any] | None = None,
    footprint: Any = None,
) -> Scene:
    assets = {band: {"href": href, **(asset or {})} for band, href in hrefs.items()}
    item = {"id": name, "properties": dict(properties or {}), "assets": assets}
    return Scene(
        id=name,
        sensor=sensor,
        modality="sar" if "vv" in hrefs else "optical",
        datetime=WHEN,
        start=WHEN,
        end=WHEN,
        footprint=footprint or box(-180, -90, 180, 90),
        assets=dict(hrefs),
        items=(item,),
    )


def make_pair(optical: Scene | None, sar: Scene | None = None) -> ScenePair:
    return ScenePair(
        optical=optical, sar=sar, gap=None, overlap=1.0, cloud_in_aoi=None, score=0.0, factors={}
    )


S2_FIELDS = {"raster:bands": [{"scale": 0.0001, "offset": -0.1, "nodata": 0}]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One S2 scene (10 and 20 m), and S1 of it in another zone and in degrees."""
    folder = tmp_path_factory.mktemp("scenes")
    x, y = ORIGIN
    for band, values in DN.items():
        write(folder / f"{band}.tif", values, upright(x, y, 10.0 * SIDE / len(values)))
    for band, values in POWER.items():
        shifted = upright(x - 203.7, y + 198.1, 10)
        write(folder / "utm" / f"{band}.tif", values, shifted, nodata=-9999)
        degrees = upright(34.0545, -3.3898, 7.9e-5, 9.05e-5)
        write(folder / "degrees" / f"{band}.tif", values, degrees, "EPSG:4326", nodata=-9999)
    return folder


@pytest.fixture
def optical(folder: Path) -> Scene:
    return make_scene({b: str(folder / f"{b}.tif") for b in DN}, asset=S2_FIELDS)


@pytest.fixture
def sar(folder: Path) -> Scene:
    hrefs = {b: str(folder / "degrees" / f"{b}.tif") for b in POWER}
    return make_scene(hrefs, name="S1", sensor="sentinel-1-rtc", properties=GAMMA0)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many block borders inside a small chip."""
    monkeypatch.setattr(resample, "BLOCK", 32)


def aoi_of(row0: float, row1: float, column0: float, column1: float) -> AOI:
    """Rows and columns of the scene as an area."""
    x, y = ORIGIN
    inset = 0.01  # m, so that the borders of the area lie in the pixels meant
    west, east = x + 10 * column0 + inset, x + 10 * column1 - inset
    return AOI(geometry=lonlat_box(UTM, west, y - 10 * row1 + inset, east, y - 10 * row0 - inset))


WHOLE = (20, 100, 20, 100)


# --- the grid -----------------------------------------------------------------------------------


def test_native_bands_are_the_scene_s_own_pixels(optical: Scene, folder: Path) -> None:
    chip = load_chip(make_pair(optical), aoi_of(20, 80, 30, 100))
    assert chip.bands == ("blue", "green", "red", "nir", "swir16")
    assert chip.grid.affine == upright(ORIGIN[0] + 300, ORIGIN[1] - 200, 10)
    assert str(chip.grid.crs) == UTM and chip.gsd == 10
    with rasterio.open(folder / "red.tif") as source:
        dn = source.read(1, window=Window(30, 20, 70, 60))
    assert np.array_equal(chip.band("red"), (dn * 0.0001 - 0.1).astype(np.float32))
    assert chip.provenance["resampling"]["red"] == "none"
    assert chip.provenance["resampling"]["swir16"] == "bilinear"
    same = load_chip(make_pair(optical), aoi_of(20, 80, 30, 100), gsd=10)
    assert same.grid == chip.grid


def test_coarse_bands_are_bilinear(optical: Scene, folder: Path) -> None:
    chip = load_chip(make_pair(optical), aoi_of(20, 80, 30, 100), bands=["swir16"])
    expected = np.empty(tuple(chip.grid.shape), dtype=np.float32)
    stored = (DN["swir16"] * 0.0001 - 0.1).astype(np.float32)
    reproject(
        stored, expected, src_transform=upright(*ORIGIN, 20), src_crs=UTM,
        dst_transform=chip.grid.affine, dst_crs=UTM, resampling=Resampling.bilinear,
    )  # fmt: skip
    assert chip.bands == ("swir16",)
    assert np.allclose(chip.band("swir16"), expected, atol=1e-6)


def test_other_gsd_takes_the_aoi_s_grid_and_averages(optical: Scene) -> None:
    aoi = aoi_of(*WHOLE)
    chip = load_chip(make_pair(optical), aoi, gsd=40)
    assert chip.grid == aoi.grid(40)
    assert chip.provenance["resampling"]["red"] == "average"
    # The mean of a whole area survives averaging.
    expected = (DN["red"][20:100, 20:100] * 0.0001 - 0.1).mean()
    assert chip.band("red").mean() == pytest.approx(expected, abs=0.003)


def test_sar_alone_and_degree_scenes_take_the_aoi_s_grid(sar: Scene, folder: Path) -> None:
    aoi = aoi_of(*WHOLE)
    assert load_chip(make_pair(None, sar), aoi).grid == aoi.grid(10)
    degrees = upright(34.0545, -3.3898, 8e-5)
    href = write(folder / "red4326.tif", DN["red"], degrees, "EPSG:4326")
    chip = load_chip(make_pair(make_scene({"red": href}, asset=S2_FIELDS), sar), aoi)
    assert chip.grid == aoi.grid(10)
    assert chip.provenance["grid"]["lattice"] == "multiples of the GSD"


def test_declared_gsd_of_a_degree_scene_is_its_own(folder: Path) -> None:
    href = write(folder / "fine.tif", DN["red"], upright(34.06, -3.3925, 4e-5), "EPSG:4326")
    scene = make_scene({"red": href}, asset=S2_FIELDS | {"gsd": 5})
    assert load_chip(make_pair(scene), aoi_of(30, 50, 30, 50)).gsd == 5


# --- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize("gsd", [None, 10.5, 25.0])
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_values_never_depend_on_how_the_aoi_is_cut(
    optical: Scene, sar: Scene, gsd: float | None, data: st.DataObject
) -> None:
    pair = make_pair(optical, sar)
    large = load_chip(pair, aoi_of(*WHOLE), gsd=gsd)
    row0, column0 = data.draw(st.integers(20, 90)), data.draw(st.integers(20, 90))
    row1 = data.draw(st.integers(row0 + 5, 100))
    column1 = data.draw(st.integers(column0 + 5, 100))
    small = load_chip(pair, aoi_of(row0, row1, column0, column1), gsd=gsd)
    step = large.grid.affine.a
    left = round((small.grid.affine.c - large.grid.affine.c) / step)
    top = round((large.grid.affine.f - small.grid.affine.f) / step)
    part = (slice(None), slice(top, top + small.grid.shape[0]),
            slice(left, left + small.grid.shape[1]))  # fmt: skip
    assert np.array_equal(small.optical, large.optical[part], equal_nan=True)
    assert np.array_equal(small.sar, large.sar[part], equal_nan=True)


def test_blocks_leave_no_seams(optical: Scene, sar: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = make_pair(optical, sar)
    small = load_chip(pair, aoi_of(*WHOLE))
    monkeypatch.setattr(resample, "BLOCK", 512)
    large = load_chip(pair, aoi_of(*WHOLE))
    assert np.allclose(small.optical, large.optical, atol=1e-6)
    # A hundredth of a pixel of coordinate error is all that may differ.
    assert np.abs(small.sar - large.sar).max() < 0.2


def test_sar_is_averaged_as_power(sar: Scene) -> None:
    chip = load_chip(make_pair(None, sar), aoi_of(*WHOLE), gsd=100)
    power = 10 ** (chip.band("vv")[1:-1, 1:-1] / 10)
    assert chip.provenance["resampling"]["vv"] == "average"
    # gamma(4, 0.02) has the mean 0.08; the mean of its decibels would give 0.07.
    assert power.mean() == pytest.approx(0.08, rel=0.02)


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**32 - 1), holes=st.floats(0, 0.6), looks=st.sampled_from([0.5, 4.0]))
def test_a_coarse_pixel_is_the_mean_power_of_its_own(
    tmp_path: Path, seed: int, holes: float, looks: float
) -> None:
    rng = np.random.default_rng(seed)
    decibel = (10 * np.log10(rng.gamma(looks, 0.05 / looks, (40, 48)) + 1e-4)).astype(np.float32)
    decibel[rng.random(decibel.shape) < holes] = np.nan
    place = upright(617280, 9625120, 10)  # on multiples of 40 m: 4 x 4 pixels make one
    hrefs = {"vv": write(tmp_path / "vv.tif", decibel, place)}
    stated = GAMMA0 | {"card4l:measurement_convention": "dB"}
    scene = make_scene(hrefs, name="S1", sensor="sentinel-1-gamma0", properties=stated)
    outline = lonlat_box(UTM, 617281, 9624721, 617759, 9625119)
    chip = load_chip(make_pair(None, scene), AOI(geometry=outline), gsd=40)
    blocks = (10 ** (decibel.astype(np.float64) / 10)).reshape(10, 4, 12, 4).swapaxes(1, 2)
    valid = np.isfinite(blocks).mean(axis=(2, 3))
    with np.errstate(invalid="ignore"):
        expected = 10 * np.log10(np.nansum(blocks, axis=(2, 3)) / (valid * 16))
    assert np.array_equal(chip.valid_sar, valid >= 0.5)
    assert np.allclose(chip.band("vv")[valid >= 0.5], expected[valid >= 0.5], atol=1e-3)


def test_sar_matches_a_plain_warp(sar: Scene, folder: Path) -> None:
    """The oracle: GDAL over the whole chip at once."""
    chip = load_chip(make_pair(None, sar), aoi_of(*WHOLE), gsd=5)
    expected = np.empty(tuple(chip.grid.shape), dtype=np.float32)
    with rasterio.open(folder / "degrees" / "vv.tif") as source:
        reproject(
            source.read(1), expected, src_transform=source.transform, src_crs=source.crs,
            dst_transform=chip.grid.affine, dst_crs=str(chip.grid.crs),
            resampling=Resampling.bilinear,
        )  # fmt: skip
    assert chip.provenance["resampling"]["vv"] == "bilinear"
    assert np.abs(10 ** (chip.band("vv") / 10) - expected).max() < 0.01 * expected.max()


@pytest.mark.parametrize(("convention", "back"), [("dB", 10.0), ("linear amplitude", 20.0)])
def test_other_conventions_become_power_first(
    sar: Scene, tmp_path: Path, convention: str, back: float
) -> None:
    stored = {b: 10 * np.log10(v) if convention == "dB" else np.sqrt(v) for b, v in POWER.items()}
    degrees = upright(34.0545, -3.3898, 7.9e-5, 9.05e-5)
    hrefs = {b: write(tmp_path / f"{b}.tif", v, degrees, "EPSG:4326") for b, v in stored.items()}
    stated = GAMMA0 | {"card4l:measurement_convention": convention}
    other = make_scene(hrefs, name="other", sensor="sentinel-1-gamma0", properties=stated)
    one = load_chip(make_pair(None, sar), aoi_of(*WHOLE), gsd=30)
    two = load_chip(make_pair(None, other), aoi_of(*WHOLE), gsd=30)
    assert np.allclose(one.sar, two.sar, atol=1e-3)


def test_nodata_stays_where_it_is(tmp_path: Path) -> None:
    dn = DN["red"].copy()
    dn[40:50, 40:50] = 0
    swir = DN["swir16"].copy()
    swir[30:35, 30:35] = 0
    hrefs = {
        "red": write(tmp_path / "red.tif", dn, upright(*ORIGIN, 10)),
        "swir16": write(tmp_path / "swir16.tif", swir, upright(*ORIGIN, 20)),
    }
    chip = load_chip(make_pair(make_scene(hrefs, asset=S2_FIELDS)), aoi_of(20, 100, 20, 100))
    red, coarse = np.isnan(chip.band("red")), np.isnan(chip.band("swir16"))
    expected = np.zeros((80, 80), dtype=bool)
    expected[20:30, 20:30] = True
    assert np.array_equal(red, expected)
    expected = np.zeros((80, 80), dtype=bool)
    expected[40:50, 40:50] = True  # nearest: neither grown nor eaten by the kernel
    assert np.array_equal(coarse, expected)
    assert np.array_equal(chip.valid_optical, ~(red | coarse))


def test_averages_of_mostly_nodata_are_nodata(tmp_path: Path) -> None:
    x, y = 617300.0, 9625100.0  # on multiples of 40 m, so that four by four pixels make one
    dn = DN["red"].copy()
    dn[40:44, 40:42] = 0  # half of one
    dn[40:44, 60:63] = 0  # three quarters of another
    href = write(tmp_path / "red.tif", dn, upright(x - x % 40, y - y % 40, 10))
    chip = load_chip(make_pair(make_scene({"red": href}, asset=S2_FIELDS)), aoi_of(*WHOLE), gsd=40)
    row = round((chip.grid.affine.f - (y - y % 40) + 400) / 40)
    column = round((x - x % 40 + 400 - chip.grid.affine.c) / 40)
    expected = np.zeros(tuple(chip.grid.shape), dtype=bool)
    expected[row, column + 5] = True
    assert np.array_equal(np.isnan(chip.band("red")), expected)


def test_outside_the_scene_is_nodata(optical: Scene) -> None:
    chip = load_chip(make_pair(optical), aoi_of(100, 130, 100, 130))
    assert tuple(chip.grid.shape) == (30, 30)
    assert np.array_equal(chip.valid_optical[:20, :20], np.ones((20, 20), dtype=bool))
    assert not chip.valid_optical[20:].any() and not chip.valid_optical[:, 20:].any()


def test_calm_water_is_data(tmp_path: Path) -> None:
    power = POWER["vv"].copy()
    power[60:80, 60:80] = 0
    power[90:100, 90:100] = -9999
    href = write(tmp_path / "vv.tif", power, upright(*ORIGIN, 10), nodata=-9999)
    scene = make_scene({"vv": href}, name="S1", sensor="sentinel-1-rtc", properties=GAMMA0)
    optical = make_scene({"red": write(tmp_path / "red.tif", DN["red"], upright(*ORIGIN, 10))},
                         asset=S2_FIELDS)  # fmt: skip
    chip = load_chip(make_pair(optical, scene), aoi_of(50, 110, 50, 110))
    assert (chip.band("vv")[10:30, 10:30] == -50).all()
    assert np.isnan(chip.band("vv")[40:50, 40:50]).all()
    assert chip.valid_sar.sum() == 60 * 60 - 100
    assert chip.radiometry.noise_floor_db == {"vv": -50.0}
    assert [i["pixels_at_floor"] for i in chip.provenance["inputs"] if i["band"] == "vv"] == [400]


def test_items_of_one_acquisition_fill_each_other(tmp_path: Path) -> None:
    left, right = DN["red"].copy(), DN["red"].copy()
    left[:, 60:] = 0
    right[:, :60] = 0
    hrefs = [write(tmp_path / f"{n}.tif", v, upright(*ORIGIN, 10))
             for n, v in (("left", left), ("right", right))]  # fmt: skip
    items = tuple(
        {"id": Path(h).stem, "properties": {}, "assets": {"red": {"href": h, **S2_FIELDS}}}
        for h in hrefs
    )
    one = make_scene({"red": hrefs[0]})
    scene = Scene(**(vars(one) | {"items": items}))
    chip = load_chip(make_pair(scene), aoi_of(*WHOLE))
    expected = (DN["red"][20:100, 20:100] * 0.0001 - 0.1).astype(np.float32)
    assert np.array_equal(chip.band("red"), expected)
    assert [i["item"] for i in chip.provenance["inputs"]] == ["left", "right"]


def write_db(
    path: Path, values: np.ndarray, *, scale: float | None = None, unit: str | None = "dB"
) -> str:
    """A SAR file whose numbers only its own band metadata explain."""
    href = write(path, values, upright(*ORIGIN, 10))
    with rasterio.open(path, "r+") as target:
        target.scales = (scale or 1.0,)
        target.units = (unit or "",)
    return href


def test_scale_and_unit_of_a_sar_file_count(tmp_path: Path) -> None:
    stored = np.full((SIDE, SIDE), -1234, np.int16)
    href = write_db(tmp_path / "vv.tif", stored, scale=0.01)
    stated = {"card4l:measurement_type": "sigma0"}  # the convention is in the file's unit
    scene = make_scene({"vv": href}, name="S1", sensor="sentinel-1", properties=stated)
    chip = load_chip(make_pair(None, scene), aoi_of(*WHOLE))
    assert np.allclose(chip.band("vv"), -12.34, atol=1e-4)
    assert chip.radiometry.quantity == "sigma0"
    assert chip.provenance["inputs"][0]["scale"] == 0.01
    unnamed = make_scene({"vv": href}, name="S1", sensor="sentinel-1")
    assert "card4l:measurement_type" in refused(RadiometryUnknown, unnamed)


@pytest.mark.parametrize(
    ("value", "dtype", "convention"),
    [(-1234, "int16", "dB"), (-1234, "float32", "dB"), (-12.3, "float32", "linear power")],
)
def test_misdeclared_backscatter_is_refused(
    tmp_path: Path, value: float, dtype: str, convention: str
) -> None:
    href = write_db(tmp_path / "vv.tif", np.full((SIDE, SIDE), value, dtype), unit=None)
    stated = GAMMA0 | {"card4l:measurement_convention": convention}
    scene = make_scene({"vv": href}, name="S1", sensor="sentinel-1", properties=stated)
    assert "scale and offset" in refused(RadiometryUnknown, scene)


def test_an_aoi_of_calm_water_only_is_data(tmp_path: Path) -> None:
    power = POWER["vv"][:SIDE, :SIDE].copy()
    power[40:70, 40:70] = -1e-4
    power[100:, 100:] = -32768  # the usual fill, undeclared
    href = write(tmp_path / "vv.tif", power, upright(*ORIGIN, 10))
    scene = make_scene({"vv": href}, name="S1", sensor="sentinel-1-rtc", properties=GAMMA0)
    chip = load_chip(make_pair(None, scene), aoi_of(45, 60, 45, 60))
    assert (chip.band("vv")[chip.inside] == -50).all() and chip.valid_sar[chip.inside].all()
    assert "no data" in refused(LoadError, scene, aoi_of(105, 115, 105, 115))


def test_an_aoi_of_dark_water_only_is_data(tmp_path: Path) -> None:
    dn = np.full((SIDE, SIDE), 3000, np.uint16) + np.arange(SIDE, dtype=np.uint16)
    dn[40:70, 40:70] = 1001  # dark as water is in the shortwave infrared
    dn[80:110, 40:70] = 300  # as overcorrected water is in Landsat's blue
    href = write(tmp_path / "swir22.tif", dn, upright(*ORIGIN, 10))
    scene = make_scene({"swir22": href}, asset=S2_FIELDS)
    for rows, expected in (((45, 60), 0.0001), ((85, 100), -0.07)):
        chip = load_chip(make_pair(scene), aoi_of(*rows, 45, 60))
        assert np.allclose(chip.band("swir22")[chip.inside], expected, atol=1e-6)
    twice = {"raster:bands": [{"scale": 1e-8, "offset": 0, "nodata": 0}]}
    assert "this scale" in refused(RadiometryUnknown, make_scene({"swir22": href}, asset=twice))


# --- what is said about it ----------------------------------------------------------------------


def test_provenance_and_radiometry(optical: Scene, sar: Scene, folder: Path) -> None:
    more = {"license": "proprietary", "attribution": "Copernicus"}
    more |= {"earthmind:geolocation_error_px": 4}
    item = {**sar.items[0], "properties": GAMMA0 | more}
    chip = load_chip(make_pair(optical, Scene(**(vars(sar) | {"items": (item,)}))), aoi_of(*WHOLE))
    by_band = {entry["band"]: entry for entry in chip.provenance["inputs"]}
    assert set(by_band) == {*DN, "vv", "vh"}
    digest = hashlib.sha256((folder / "red.tif").read_bytes()).hexdigest()
    assert by_band["red"]["sha256"] == digest
    assert by_band["red"]["item"] == "S2" and by_band["red"]["offset"] == -0.1
    assert by_band["vv"]["licence"] == "proprietary"
    assert chip.provenance["attribution"] == ["Copernicus"]
    assert by_band["red"]["licence"] == "unknown" and by_band["red"]["attribution"] is None
    assert chip.provenance["licences"] == ["proprietary", "unknown"]
    radiometry = chip.radiometry
    assert (radiometry.level, radiometry.offset_applied) == ("SR", -0.1)
    assert (radiometry.quantity, radiometry.geometry) == ("gamma0", "unknown")
    assert radiometry.residual_shift_px == 4 and "declared" in radiometry.residual_shift_note


def test_providers_are_credited_where_nothing_says_an_attribution(optical: Scene) -> None:
    held = {"license": "CC-BY-4.0", "providers": [{"name": "ESA"}, 5, {"name": "Element 84"}]}
    scene = Scene(**(vars(optical) | {"items": ({**optical.items[0], "properties": held},)}))
    facts = load_chip(make_pair(scene), aoi_of(*WHOLE), bands=["red"]).provenance
    assert (facts["licences"], facts["attribution"]) == (["CC-BY-4.0"], ["ESA, Element 84"])


def test_plan_costs_nothing_and_says_what_the_load_costs(optical: Scene, sar: Scene) -> None:
    plan = plan_chip(make_pair(optical, sar), aoi_of(*WHOLE), bands=["red", "nir"])
    assert (plan.reads, plan.pixels) == (4, 80 * 80)
    assert plan.bands == ("red", "nir") and plan.polarisations == ("vv", "vh")
    assert plan.bytes >= 2 * 80 * 80 * 2 + 2 * 80 * 80 * 4
    chip = load_chip(plan.pair, plan.aoi, plan=plan)
    assert chip.grid == plan.grid and chip.bands == plan.bands


def test_nir08_stands_in_only_without_nir(folder: Path) -> None:
    red, nir = str(folder / "red.tif"), str(folder / "nir.tif")
    aoi = aoi_of(*WHOLE)
    alone = make_scene({"red": red, "nir08": nir}, asset=S2_FIELDS)
    assert plan_chip(make_pair(alone), aoi).bands == ("red", "nir08")
    both = make_scene({"red": red, "nir08": nir, "nir": nir}, asset=S2_FIELDS)
    assert plan_chip(make_pair(both), aoi).bands == ("red", "nir")


# --- refusals -----------------------------------------------------------------------------------


def refused(kind: type[LoadError], scene: Scene, aoi: AOI | None = None, **more: Any) -> str:
    pair = make_pair(None, scene) if scene.modality == "sar" else make_pair(scene)
    with pytest.raises(kind) as error:
        load_chip(pair, aoi or aoi_of(*WHOLE), **more)
    assert type(error.value) is kind
    return str(error.value)


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "text", "directory"])
def test_damaged_assets_are_named(tmp_path: Path, folder: Path, damage: str) -> None:
    path = tmp_path / "red.tif"
    whole = (folder / "red.tif").read_bytes()
    if damage == "directory":
        path.mkdir()
    elif damage != "missing":
        content = {"empty": b"", "truncated": whole[: len(whole) // 3], "text": b"<xml/>" * 99}
        path.write_bytes(content[damage])
    scene = make_scene({"blue": str(folder / "blue.tif"), "red": str(path)}, asset=S2_FIELDS)
    message = refused(AssetUnavailable, scene)
    assert "'red'" in message and "'S2'" in message


@pytest.mark.parametrize("href", ["s3://bucket/red.tif", "/vsicurl/http://x/red.tif", "ftp://x/r"])
def test_other_schemes_are_refused(href: str) -> None:
    refused(AssetUnavailable, make_scene({"red": href}, asset=S2_FIELDS))


def test_a_file_that_names_other_files_is_refused(tmp_path: Path, folder: Path) -> None:
    vrt = tmp_path / "red.vrt"
    vrt.write_text(
        f'<VRTDataset rasterXSize="120" rasterYSize="120"><SRS>{UTM}</SRS>'
        "<GeoTransform>617301.8, 10, 0, 9625098.2, 0, -10</GeoTransform><VRTRasterBand "
        f'dataType="UInt16" band="1"><SimpleSource><SourceFilename>{folder / "red.tif"}'
        "</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    refused(AssetUnavailable, make_scene({"red": str(vrt)}, asset=S2_FIELDS))


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_bands_of_one_file_are_those_of_separate_files(
    tmp_path: Path, optical: Scene, version: str
) -> None:
    """As Google Earth Engine and SNAP write them; each band with its own scale and nodata."""
    stack, numbers = tmp_path / "stack.tif", ("nir", "blue", "red", "green")
    place = {"crs": UTM, "transform": upright(*ORIGIN, 10), "width": SIDE, "height": SIDE}
    with rasterio.open(stack, "w", driver="GTiff", count=4, dtype="uint16", **place) as target:
        for index, band in enumerate(numbers, start=1):
            target.write(DN[band] // (2 if band == "red" else 1), index)
    names = [{"name": band} for band in numbers]
    scales = [
        {"scale": 0.0002 if b == "red" else 0.0001, "offset": -0.1, "nodata": 0} for b in numbers
    ]
    fields: dict[str, Any] = {"eo:bands": names, "raster:bands": scales}
    if version == "1.1":
        fields = {"bands": [a | b for a, b in zip(names, scales, strict=True)]}
    item = {"id": "S2", "assets": {"image": {"href": str(stack), "roles": ["data"], **fields}}}
    scene = replace(optical, assets=dict.fromkeys(numbers, str(stack)), items=(item,))
    aoi = aoi_of(20, 70, 30, 90)
    found = load_chip(make_pair(scene), aoi)
    wanted = load_chip(make_pair(optical), aoi, bands=found.bands)
    assert set(found.bands) == set(numbers)
    for band in numbers:
        step = 0.0001 if band == "red" else 0  # halved DN lose their last bit
        np.testing.assert_allclose(found.band(band), wanted.band(band), atol=step + 1e-7)


def test_several_bands_in_one_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rgb.tif"
    with rasterio.open(path, "w", driver="GTiff", width=9, height=9, count=3, dtype="uint8",
                       crs=UTM, transform=upright(*ORIGIN, 10)) as target:  # fmt: skip
        target.write(np.ones((3, 9, 9), dtype=np.uint8))
    assert "3 bands" in refused(AssetUnavailable, make_scene({"red": str(path)}, asset=S2_FIELDS))


def test_undeclared_numbers_are_refused(folder: Path) -> None:
    refused(RadiometryUnknown, make_scene({"red": str(folder / "red.tif")}))
    bare = make_scene({"vv": str(folder / "utm" / "vv.tif")}, name="S1", sensor="sentinel-1")
    assert "card4l:measurement_type" in refused(RadiometryUnknown, bare)


@pytest.mark.parametrize("gcps", [True, False])
def test_rasters_off_the_map_are_refused(tmp_path: Path, gcps: bool) -> None:
    path = tmp_path / "vv.tif"
    points = [GroundControlPoint(row=r, col=c, x=34 + c / 100, y=-3 - r / 100)
              for r, c in ((0, 0), (0, 90), (90, 0))]  # fmt: skip
    place = {"gcps": points, "crs": "EPSG:4326"} if gcps else {}
    with (
        pytest.warns() if not gcps else nullcontext(),
        rasterio.open(
            path, "w", driver="GTiff", width=99, height=99, count=1, dtype="float32", **place
        ) as target,
    ):
        target.write(np.ones((99, 99), dtype=np.float32), 1)
    sar = make_scene({"vv": str(path)}, name="S1", sensor="sentinel-1", properties=GAMMA0)
    message = refused(NotTerrainCorrected, sar)
    assert ("control points" if gcps else "no CRS") in message
    refused(GridMismatch, make_scene({"red": str(path)}, asset=S2_FIELDS))


def test_areas_elsewhere_and_empty_areas_are_refused(optical: Scene, tmp_path: Path) -> None:
    here = Scene(**(vars(optical) | {"footprint": box(34.0, -3.5, 34.2, -3.3)}))
    message = refused(LoadError, here, AOI.from_bbox(10, 50, 10.1, 50.1))
    assert "does not reach" in message
    # The footprint says yes, the pixels say no.
    assert "no data" in refused(LoadError, optical, aoi_of(300, 320, 300, 320))
    empty = write(tmp_path / "red.tif", DN["red"] * 0, upright(*ORIGIN, 10))
    assert "no data" in refused(LoadError, make_scene({"red": empty}, asset=S2_FIELDS))


def test_too_large_is_refused_with_the_size(
    optical: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = refused(LoadError, optical, AOI.from_bbox(34.0, -3.6, 34.5, -3.4))
    assert "px, at most 4096" in message
    monkeypatch.setattr(plan, "MAX_SIDE_PX", 80)
    assert tuple(load_chip(make_pair(optical), aoi_of(*WHOLE)).grid.shape) == (80, 80)
    assert "80 x 81 px" in refused(LoadError, optical, aoi_of(20, 101, 20, 100))


def test_an_aoi_between_the_pixel_centres_is_refused(optical: Scene, sar: Scene) -> None:
    between = aoi_of(40.1, 40.4, 40.1, 40.4)
    assert "smaller than a pixel" in refused(LoadError, optical, between)
    assert "smaller than a pixel" in refused(LoadError, sar, between, gsd=40)
    with pytest.raises(LoadError, match="no pixel centre"):
        plan_chip(make_pair(optical, sar), between)
    centre = aoi_of(40.4, 40.6, 40.4, 40.6)
    assert load_chip(make_pair(optical), centre).inside.sum() == 1


def test_unknown_and_missing_bands_are_refused(optical: Scene, folder: Path) -> None:
    assert "'thermal'" in refused(LoadError, optical, bands=["red", "thermal"])
    refused(LoadError, optical, bands=[])
    only_mask = make_scene({"scl": str(folder / "red.tif")})
    assert "scl" in refused(LoadError, only_mask)


@pytest.mark.parametrize("gsd", [-10.0, float("nan")])
def test_impossible_gsd_is_refused(optical: Scene, gsd: float) -> None:
    assert "GSD" in refused(LoadError, optical, gsd=gsd)


def test_dtypes_and_masks_of_a_chip(optical: Scene, sar: Scene) -> None:
    chip: Chip = load_chip(make_pair(optical, sar), aoi_of(*WHOLE))
    assert chip.optical.dtype == chip.sar.dtype == np.float32
    assert chip.inside.dtype == bool and chip.inside.all()
    assert chip.valid_optical.all() and chip.valid_sar.all()


# --- the embedded catalog -----------------------------------------------------------------------


def sample_scenes() -> dict[str, Scene]:
    from earthmind_lab.data.catalogs import open_catalog

    return {scene.id: scene for scene in open_catalog("sample").search()}


def test_every_optical_and_sar_scene_of_the_catalog_loads() -> None:
    scenes = sample_scenes()
    assert len({scene.footprint.centroid.wkt for scene in scenes.values()}) >= 13
    for scene in scenes.values():
        aoi = AOI(geometry=scene.footprint.centroid.buffer(0.001, cap_style="square"))
        pair = make_pair(None, scene) if scene.modality == "sar" else make_pair(scene)
        chip = load_chip(pair, aoi)
        assert chip.radiometry.quantity if scene.modality == "sar" else chip.radiometry.level
        assert all(entry["licence"] != "unknown" for entry in chip.provenance["inputs"])


def test_spain_loads_as_promised() -> None:
    scenes = sample_scenes()
    (optical,) = (s for n, s in scenes.items() if "spain" in n and s.modality == "optical")
    (sar,) = (s for n, s in scenes.items() if "spain" in n and s.modality == "sar")
    chip = load_chip(make_pair(optical, sar), AOI.from_bbox(-0.775, 38.09, -0.745, 38.12))
    assert chip.grid == chip.aoi.grid(10)  # the source is in degrees
    assert (chip.radiometry.level, chip.radiometry.quantity) == ("TOA", "sigma0")
    assert chip.valid_optical.all() and chip.valid_sar.all()
    assert 0.0 < np.median(chip.band("red")) < 0.3
    assert -20 < np.median(chip.band("vv")) < -3
    assert all(entry["licence"] and entry["attribution"] for entry in chip.provenance["inputs"])


def test_punjab_says_its_geolocation_error() -> None:
    scenes = [s for n, s in sample_scenes().items() if "punjab" in n]
    optical = next(s for s in scenes if s.modality == "optical")
    sar = next(s for s in scenes if s.modality == "sar")
    centre = optical.footprint.centroid
    aoi = AOI(geometry=centre.buffer(0.004, cap_style="square"))
    assert load_chip(make_pair(optical, sar), aoi).radiometry.residual_shift_px == 4
