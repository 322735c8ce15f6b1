"""Own files give the chip that the catalog gives of the same pixels, or say what to pass."""

from __future__ import annotations

import datetime as dt
import os
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.transform import array_bounds
from rasterio.warp import transform_bounds

from earthmind_lab.aoi import AOI
from earthmind_lab.conversation import ask
from earthmind_lab.data import own_files
from earthmind_lab.data.catalogs import open_catalog
from earthmind_lab.data.kept_arrays import DRAFT, IN_USE_S, KeptArrays
from earthmind_lab.data.load import load_chip
from earthmind_lab.data.own_files import open_chip
from earthmind_lab.data.provenance import sha256
from earthmind_lab.data.samples import catalog_path
from earthmind_lab.errors import (
    AssetUnavailable,
    GridMismatch,
    LoadError,
    NotTerrainCorrected,
    RadiometryUnknown,
)
from earthmind_lab.export import save_chip
from earthmind_lab.render import render
from earthmind_lab.replay import replay
from earthmind_lab.scene import ScenePair
from tests.range_server import serve
from tests.stand_in_engine import StandInEngine, square

ROOT = catalog_path().parent
GEE = {"blue": "B2", "green": "B3", "red": "B4", "nir": "B8"}
SCALE = {"optical_scale": 1e-4, "optical_offset": -0.1}
"""Of the scene of Chile."""
SIGMA = {"sar_quantity": "sigma0", "sar_scale": "dB"}
SIDE = 48
AT = Affine(10, 0, 718_200, 0, -10, 5_699_000)


def folder(place):
    """Folders of a sample place: optical, SAR."""
    return {
        "chile": (
            ROOT / "sentinel-2-l2a" / "S2_L2A_chile_2020-04-08",
            ROOT / "sentinel-1-rtc" / "S1_RTC_chile_2020-04-11",
        ),
        "spain": (
            ROOT / "sentinel-2-l1c" / "S2_L1C_spain_2019-09-18",
            ROOT / "sentinel-1-sigma0" / "S1_SIGMA0_spain_2019-09-17",
        ),
    }[place]


def cut(files, target, *, names, decode=None):
    """A small GeoTIFF of several bands from the middle of sample files; gives the AOI inside."""
    window = rasterio.windows.Window(80, 90, SIDE, SIDE)
    layers = []
    for path in files:
        with rasterio.open(path) as source:
            layers.append(source.read(1, window=window))
            a = source.transform
            profile = {"crs": source.crs, "nodata": source.nodata}
    x, y = a @ (80, 90)
    values = np.stack(layers) if decode is None else decode(np.stack(layers))
    at = Affine(a.a, 0, x, 0, a.e, y)
    write(target, values, at=at, names=names, **profile)
    bounds = transform_bounds(profile["crs"], 4326, *array_bounds(SIDE, SIDE, at))
    west, south, east, north = bounds
    inset = 0.2 * (east - west), 0.2 * (north - south)
    return AOI.from_bbox(west + inset[0], south + inset[1], east - inset[0], north - inset[1])


def write(path, values, *, at=AT, crs="EPSG:32718", names=(), units=(), scales=(), **profile):
    values = np.asarray(values)
    with rasterio.open(
        path, "w", driver=profile.pop("driver", "GTiff"), dtype=values.dtype, count=len(values),
        height=values.shape[1], width=values.shape[2], crs=crs, transform=at, **profile,
    ) as target:  # fmt: skip
        target.write(values)
        if names:
            target.descriptions = names
        if units:
            target.units = units
        if scales:
            target.scales, target.offsets = zip(*scales, strict=True)
    return path


def decibel(power):
    return (10 * np.log10(power)).astype(np.float32)


@pytest.fixture
def chile(tmp_path):
    """Paths as Earth Engine exports them: optical DN, sigma0 in dB; and the AOI."""
    optical, sar = folder("chile")
    aoi = cut(
        [optical / f"{band}.tif" for band in GEE], tmp_path / "s2.tif", names=list(GEE.values())
    )
    cut(
        [sar / f"{band}.tif" for band in ("vv", "vh")], tmp_path / "s1.tif",
        names=["VV", "VH"], decode=decibel,
    )  # fmt: skip
    return str(tmp_path / "s2.tif"), str(tmp_path / "s1.tif"), aoi


def from_catalog(place, aoi, bands):
    catalog = open_catalog()
    scenes = [catalog.find(path.name)[0] for path in folder(place)]
    pair = ScenePair(
        optical=scenes[0], sar=scenes[1], gap=None, overlap=1.0, cloud_in_aoi=None, score=0.0,
        factors={},
    )  # fmt: skip
    return load_chip(pair, aoi, bands=bands)


def optical_dn(path, *, dtype=np.uint16, level=2000, names=("B2", "B3", "B4", "B8"), **more):
    rng = np.random.default_rng(0)
    values = rng.normal(level, 0.1 * level, (len(names), SIDE, SIDE)).astype(dtype)
    return write(path, values, names=names, **more)


def backscatter(path, *, mean=-12.0, spread=3.0, names=("VV", "VH"), count=2, **more):
    rng = np.random.default_rng(1)
    values = rng.normal(mean, spread, (count, SIDE, SIDE)).astype(np.float32)
    return write(path, values, names=names, **more)


# --- the same numbers ----------------------------------------------------------------------------


def test_an_earth_engine_export_is_the_chip_of_the_catalog(chile):
    optical, sar, aoi = chile
    chip = open_chip(optical, sar, aoi=aoi, **SCALE, **SIGMA, optical_level="SR")
    expected = from_catalog("chile", aoi, list(GEE))
    assert chip.grid == expected.grid
    assert (chip.bands, chip.polarisations) == (tuple(GEE), ("vv", "vh"))
    np.testing.assert_array_equal(chip.optical, expected.optical)
    np.testing.assert_array_equal(chip.inside, expected.inside)
    # Power went through float32 dB; where SAR is resampled, from the same neighbours.
    np.testing.assert_allclose(chip.sar, expected.sar, atol=2e-5)
    about = chip.radiometry
    assert (about.level, about.offset_applied) == ("SR", -0.1)
    assert (about.quantity, about.geometry) == ("sigma0", "unknown")
    assert chip.pair.optical.sensor == "sentinel-2-l2a"


def test_degree_grids_go_to_the_grid_of_the_aoi():
    optical, sar = folder("spain")
    aoi = AOI.from_bbox(-0.765, 38.10, -0.760, 38.105)
    chip = open_chip(
        {band: optical / f"{band}.tif" for band in GEE},
        {band: sar / f"{band}.tif" for band in ("vv", "vh")},
        aoi=aoi, optical_scale=1e-4, optical_offset=0, sar_quantity="sigma0", sar_scale="power",
    )  # fmt: skip
    expected = from_catalog("spain", aoi, list(GEE))
    assert chip.grid == expected.grid == aoi.grid(10)
    np.testing.assert_array_equal(chip.optical, expected.optical)
    np.testing.assert_array_equal(chip.sar, expected.sar)


def test_one_file_per_band_at_their_own_pixel_sizes(chile):
    *_, aoi = chile
    optical, sar = folder("chile")
    bands = ["blue", "nir", "rededge1", "swir16"]
    chip = open_chip(
        {band: optical / f"{band}.tif" for band in reversed(bands)},
        {"VV": sar / "vv.tif", "vh": sar / "vh.tif"},
        aoi=aoi, **SCALE, sar_quantity="gamma0_rtc", sar_scale="power",
    )  # fmt: skip
    expected = from_catalog("chile", aoi, ["blue", "rededge1", "nir", "swir16"])
    assert chip.bands == expected.bands
    np.testing.assert_array_equal(chip.optical, expected.optical)
    np.testing.assert_array_equal(chip.sar, expected.sar)
    assert chip.radiometry.geometry == "terrain_corrected"


def test_without_an_aoi_the_chip_is_the_file(chile):
    optical, sar, _ = chile
    chip = open_chip(optical, sar, **SCALE, **SIGMA)
    with rasterio.open(optical) as source:
        assert tuple(chip.grid.affine) == tuple(source.transform)
        np.testing.assert_allclose(chip.optical, source.read() * 1e-4 - 0.1, atol=1e-6)
    assert chip.grid.shape == (SIDE, SIDE)
    assert chip.inside.all()
    assert chip.pair.overlap == 1.0


def test_snap_says_quantity_and_unit_itself(chile, tmp_path):
    _, sar, aoi = chile
    with rasterio.open(sar) as source:
        names, units = ("Sigma0_VH_db", "Sigma0_VV_db"), ("intensity_db", "intensity_db")
        write(tmp_path / "snap.tif", source.read([2, 1]), at=source.transform,
              names=names, units=units)  # fmt: skip
        linear = 10 ** (source.read([2, 1]) / 10)
        write(tmp_path / "linear.tif", linear, at=source.transform,
              names=("Gamma0_VH", "Gamma0_VV"), units=("intensity", "intensity"))  # fmt: skip
    chip = open_chip(sar=tmp_path / "snap.tif", aoi=aoi)
    expected = open_chip(sar=sar, aoi=aoi, **SIGMA)
    assert (chip.bands, chip.polarisations) == ((), ("vv", "vh"))
    assert chip.radiometry.quantity == "sigma0"
    np.testing.assert_array_equal(chip.sar, expected.sar)
    power = open_chip(sar=tmp_path / "linear.tif", aoi=aoi)
    assert power.radiometry.quantity == "gamma0"
    np.testing.assert_allclose(power.sar, expected.sar, atol=1e-4)


def test_both_sensors_in_one_file(tmp_path):
    values = np.random.default_rng(0).normal(0.2, 0.02, (5, SIDE, SIDE))
    values[3:] = values[3:] * 20 - 15
    stack = write(tmp_path / "stack.tif", values, names=("B4", "B8", "angle", "VV", "VH"))
    chip = open_chip(stack, stack, **SIGMA)
    assert (chip.bands, chip.polarisations) == (("red", "nir"), ("vv", "vh"))
    np.testing.assert_allclose(chip.sar, values[3:], atol=1e-4)
    assert chip.pair.optical.id != chip.pair.sar.id
    again = open_chip(
        write(tmp_path / "plain.tif", values[[0, 4, 3]]), tmp_path / "plain.tif",
        bands=("red", "vh", "vv"), **SIGMA,
    )  # fmt: skip
    np.testing.assert_array_equal(again.band("red"), chip.band("red"))
    np.testing.assert_array_equal(again.sar, chip.sar)


def test_the_files_of_a_chip_open_again(chile, tmp_path):
    optical, sar, aoi = chile
    chip = open_chip(optical, sar, aoi=aoi, **SCALE, **SIGMA)
    paths = save_chip(chip, tmp_path / "out")
    again = open_chip(paths["optical.tif"], paths["sar.tif"])
    assert again.grid == chip.grid
    np.testing.assert_array_equal(again.optical, chip.optical)
    np.testing.assert_allclose(again.sar, chip.sar, atol=2e-5)
    assert again.radiometry.quantity == "sigma0"


def test_another_gsd(chile):
    optical, sar, aoi = chile
    chip = open_chip(optical, sar, aoi=aoi, gsd=20, **SCALE, **SIGMA)
    assert chip.gsd == 20
    assert chip.grid == aoi.grid(20)


def test_sar_alone_keeps_its_pixel_size(tmp_path):
    path = backscatter(tmp_path / "s1.tif", at=Affine(25, 0, 718_200, 0, -25, 5_699_000))
    assert open_chip(sar=path, **SIGMA).gsd == 25


# --- which band is which -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bands", "order"),
    [
        (("blue", "green", "red", "nir"), "bgrn"),
        ("B2,B3,B4,B8", "bgrn"),
        (["nir", "red", "green", "blue"], "nrgb"),
        ({"blue": 1, "green": 2, "red": 3, "nir": 4}, "bgrn"),
        ("nir=1,red=2,green=3,blue=4", "nrgb"),
        ({"blue": "one", "green": "two", "red": "three", "B8": "four"}, "bgrn"),
    ],
)
def test_bands_are_told(tmp_path, bands, order):
    path = optical_dn(tmp_path / "s2.tif", names=("one", "two", "three", "four"))
    chip = open_chip(path, bands=bands, optical_scale=1e-4, optical_offset=0)
    with rasterio.open(path) as source:
        stored = dict(zip(order, source.read() * 1e-4, strict=True))
    np.testing.assert_allclose(chip.optical, [stored[b] for b in "bgrn"], atol=1e-6)


@pytest.mark.parametrize(
    ("names", "bands"),
    [
        (("B3", "B8", "B11"), ("green", "nir", "swir16")),
        (("B2", "B3", "B4", "B5", "B12"), ("blue", "green", "red", "rededge1", "swir22")),
        (("B02", "B8A"), ("blue", "nir08")),
        (("B4", "B8", "QA60"), ("red", "nir")),
        (("Red", "Swir1", "TCI_R"), ("red", "swir16")),
        # Landsat's: B4 is red of 8 and nir of 5, B5 nir of 8.
        (("B2", "B3", "B4"), None),
        (("B2", "B3", "B4", "B5", "B6", "B7"), None),
        (("B4", "B5", "B8"), None),
        (("SR_B4", "SR_B5"), None),
        (("VV", "VH"), None),
        (("red", "Red"), None),
        (("", ""), None),
    ],
)  # fmt: skip
def test_names_in_the_file(tmp_path, names, bands):
    path = optical_dn(tmp_path / "s2.tif", dtype=np.float32, level=0.2, names=names)
    if bands:
        assert open_chip(path).bands == bands
        return
    with pytest.raises(LoadError, match="bands=") as caught:
        open_chip(path)
    assert all(f"{n} '{name}'" in caught.value.found for n, name in enumerate(names, 1) if name)


@pytest.mark.parametrize(
    ("names", "polarisations"),
    [
        (("Sigma0_VH_db_slv1_17Sep2019", "Sigma0_VV_db_slv1_17Sep2019"), ("vv", "vh")),
        (("HH", "angle"), ("hh",)),
        (("VV", "VV/VH"), ("vv",)),
        (("VV_mst", "VV_slv"), None),
        (("band", "other"), None),
    ],
)
def test_names_of_polarisations(tmp_path, names, polarisations):
    path = backscatter(tmp_path / "s1.tif", names=names)
    if polarisations:
        assert open_chip(sar=path, **SIGMA).polarisations == polarisations
    else:
        with pytest.raises(LoadError, match="bands="):
            open_chip(sar=path, **SIGMA)


@pytest.mark.parametrize(
    ("bands", "says"),
    [
        (("red", "green"), "has 4"),
        (("red", "green", "blue", "thermal"), "'thermal'"),
        (("red", "B4", "blue", "nir"), "twice"),
        ({"red": 5}, "no band 5"),
        ({"red": "B9"}, "no band 'B9'"),
        ("scl", "'scl'"),
    ],
)
def test_bands_that_do_not_fit(tmp_path, bands, says):
    path = optical_dn(tmp_path / "s2.tif")
    with pytest.raises(LoadError, match=re.escape(says)):
        open_chip(path, bands=bands, optical_scale=1e-4, optical_offset=0)


def test_one_band_per_file_of_a_mapping(tmp_path):
    path = optical_dn(tmp_path / "s2.tif")
    with pytest.raises(LoadError, match="holds several"):
        open_chip({"red": path}, **SCALE)


# --- what nobody declares ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({}, "optical_scale=0.0001 with optical_offset=-0.1"),
        ({"optical_scale": 1e-4}, "no declared offset"),
        ({"optical_offset": -0.1}, "no declared scale"),
        ({"optical_scale": 0}, "makes no reflectance"),
        ({"optical_scale": float("nan")}, "is no number"),
        ({"optical_scale": 1e-4, "optical_offset": 0, "optical_level": "L2A"}, "'TOA' or 'SR'"),
    ],
)
def test_undeclared_reflectance(tmp_path, more, says):
    with pytest.raises(RadiometryUnknown, match=re.escape(says)):
        open_chip(optical_dn(tmp_path / "s2.tif"), **more)


def test_numbers_of_a_float_file_are_reflectance_only_if_they_can_be(tmp_path):
    names = {"names": ("red", "nir"), "dtype": np.float32}
    chip = open_chip(optical_dn(tmp_path / "good.tif", level=0.3, **names))
    assert 0.25 < np.median(chip.optical) < 0.35
    with pytest.raises(RadiometryUnknown, match="a median of") as caught:
        open_chip(optical_dn(tmp_path / "dn.tif", level=3000, **names))
    assert "optical_scale=0.0001" in caught.value.change
    assert "raster:bands" not in str(caught.value)


def test_a_scale_in_the_file_counts(tmp_path):
    scaled = {"names": ("red", "nir"), "scales": [(2.75e-5, -0.2)] * 2, "level": 12_000}
    path = optical_dn(tmp_path / "scaled.tif", **scaled)
    assert open_chip(path).radiometry.offset_applied == -0.2
    assert open_chip(path, optical_scale=2.75e-5, optical_offset=-0.2).bands == ("red", "nir")
    # Of Sentinel-2, a scale alone leaves the offset open; the caller may close it.
    path = optical_dn(tmp_path / "half.tif", scales=[(1e-4, 0)] * 4)
    with pytest.raises(RadiometryUnknown, match="no declared offset"):
        open_chip(path)
    assert open_chip(path, optical_offset=-0.1).radiometry.offset_applied == -0.1


@pytest.mark.parametrize(
    ("more", "lacks"),
    [
        ({}, "sar_quantity, sar_scale"),
        ({"sar_quantity": "sigma0"}, "sar_scale"),
        ({"sar_scale": "dB"}, "sar_quantity"),
    ],
)
def test_undeclared_backscatter(tmp_path, more, lacks):
    with pytest.raises(RadiometryUnknown) as caught:
        open_chip(sar=backscatter(tmp_path / "s1.tif"), **more)
    assert caught.value.found.endswith(f"not declared: {lacks}")
    assert "sar_quantity='sigma0'" in caught.value.change
    assert "sar_scale='dB'" in caught.value.change


def test_counts_need_a_calibration(tmp_path):
    values = np.full((1, SIDE, SIDE), 300, np.uint16)
    path = write(tmp_path / "grd.tif", values, names=("VV",))
    with pytest.raises(RadiometryUnknown, match="not calibrated"):
        open_chip(sar=path, sar_quantity="sigma0", sar_scale="amplitude")
    slc = write(tmp_path / "slc.tif", np.ones((1, SIDE, SIDE), np.complex64), names=("VV",))
    with pytest.raises(RadiometryUnknown, match="complex64"):
        open_chip(sar=slc, **SIGMA)
    with pytest.raises(RadiometryUnknown, match="complex64"):
        open_chip(slc, bands=("red",))
    scaled = write(tmp_path / "scaled.tif", values, names=("VV",), scales=[(0.01, -15.0)])
    np.testing.assert_allclose(open_chip(sar=scaled, **SIGMA).sar, -12, atol=1e-5)


@pytest.mark.parametrize("word", [{"sar_quantity": "beta0"}, {"sar_scale": "db"}])
def test_unknown_words(tmp_path, word):
    with pytest.raises(RadiometryUnknown, match="is not known"):
        open_chip(sar=backscatter(tmp_path / "s1.tif"), **{**SIGMA, **word})


# --- what contradicts itself ---------------------------------------------------------------------


def snap(path, **more):
    return backscatter(
        path, names=("Sigma0_VV_db", "Sigma0_VH_db"), units=("intensity_db",) * 2, **more
    )


@pytest.mark.parametrize(
    ("make", "more", "says"),
    [
        (snap, {"sar_scale": "power"}, "sar_scale='power' contradicts"),
        (snap, {"sar_quantity": "gamma0"}, "sar_quantity='gamma0' contradicts"),
        (backscatter, {"sar_quantity": "sigma0", "sar_scale": "power"}, "can't be backscatter"),
        (backscatter, {"sar_quantity": "sigma0", "sar_scale": "amplitude"}, "can't be backscatter"),
        (
            lambda path: backscatter(path, mean=0.1, spread=0.01),
            SIGMA,
            "can't be backscatter in dB",
        ),
        (
            lambda path: backscatter(path, mean=300, spread=50),
            {"sar_quantity": "sigma0", "sar_scale": "amplitude"},
            "above 0 dB",
        ),
        (
            lambda path: backscatter(
                path, names=("Sigma0_VV_db", "Gamma0_VH_db"), units=("intensity_db",) * 2
            ),
            {},
            "declare different backscatter",
        ),
    ],
)
def test_contradictions_of_backscatter(tmp_path, make, more, says):
    with pytest.raises(RadiometryUnknown, match=re.escape(says)) as caught:
        open_chip(sar=make(tmp_path / "s1.tif"), **more)
    assert "sar_" in caught.value.change
    assert not {"card4l", "optical"} & set(re.findall("card4l|optical", str(caught.value)))


@pytest.mark.parametrize(
    ("file", "more", "says"),
    [
        ({"scales": [(2.75e-5, -0.2)] * 4}, SCALE, "optical_scale=0.0001 contradicts"),
        ({"scales": [(1e-4, -0.2)] * 4}, SCALE, "optical_offset=-0.1 contradicts"),
        ({"dtype": np.float32, "level": 0.2}, {"optical_scale": 1e-4, "optical_offset": 0},
         "can't be reflectance with this scale"),
        ({}, {"optical_scale": 0.1, "optical_offset": 0}, "can't be reflectance"),
        ({"level": 500}, SCALE, "subtracted from its numbers already"),
    ],
)  # fmt: skip
def test_contradictions_of_reflectance(tmp_path, file, more, says):
    with pytest.raises(RadiometryUnknown, match=re.escape(says)) as caught:
        open_chip(optical_dn(tmp_path / "s2.tif", **file), **more)
    assert "optical_" in caught.value.change


def test_an_offset_that_was_taken_off_already(chile, tmp_path):
    """As a harmonised export of the same scene would have it."""
    optical, _, aoi = chile
    with rasterio.open(optical) as source:
        values = np.maximum(source.read(), 1001) - np.uint16(1000)
        names = tuple(GEE.values())
        harmonised = write(tmp_path / "h.tif", values, at=source.transform, names=names)
    with pytest.raises(RadiometryUnknown, match=r"or 0 \(before"):
        open_chip(harmonised, aoi=aoi, **SCALE)
    chip = open_chip(harmonised, aoi=aoi, optical_scale=1e-4, optical_offset=0)
    expected = open_chip(optical, aoi=aoi, **SCALE)
    np.testing.assert_allclose(chip.optical, np.maximum(expected.optical, 1e-4), atol=1e-6)


def test_no_alarm_on_the_embedded_scenes():
    catalog = open_catalog()
    for folder in sorted(ROOT.glob("sentinel-*/*/")):
        (scene,) = catalog.find(folder.name)
        pair = ScenePair(
            **{"optical": None, "sar": None, scene.modality: scene}, gap=None, overlap=1.0,
            cloud_in_aoi=None, score=0.0, factors={},
        )  # fmt: skip
        load_chip(pair, AOI(geometry=scene.footprint.centroid.buffer(0.004)))


def test_the_caller_may_know_that_gamma0_is_flattened(tmp_path):
    path = backscatter(tmp_path / "s1.tif", names=("Gamma0_VV_db", "Gamma0_VH_db"))
    assert open_chip(sar=path).radiometry.quantity == "gamma0"
    assert open_chip(sar=path, sar_quantity="gamma0_rtc").radiometry.quantity == "gamma0_rtc"


# --- place ---------------------------------------------------------------------------------------


def test_without_a_place(tmp_path):
    flat = np.full((1, SIDE, SIDE), 0.2, np.float32)
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        write(tmp_path / "flat.tif", flat, at=Affine.identity(), crs=None, names=("red",))
    with pytest.raises(GridMismatch, match=r"em\.ask\('picture.png'"):
        open_chip(tmp_path / "flat.tif")
    with pytest.raises(GridMismatch, match="no CRS"):
        open_chip(sar=tmp_path / "flat.tif", **SIGMA)
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        write(tmp_path / "half.tif", flat, at=Affine.identity(), names=("red",))
    with pytest.raises(GridMismatch, match="without a transform"):
        open_chip(tmp_path / "half.tif")


def test_radar_geometry(tmp_path):
    corners = [(0, 0, 0, 40), (0, SIDE, 1, 40), (SIDE, 0, 0, 39), (SIDE, SIDE, 1, 39)]
    points = [GroundControlPoint(row=r, col=c, x=x, y=y) for r, c, x, y in corners]
    path = tmp_path / "grd.tif"
    with rasterio.open(
        path, "w", driver="GTiff", dtype="float32", count=1, height=SIDE, width=SIDE,
        gcps=points, crs="EPSG:4326",
    ) as target:  # fmt: skip
        target.write(np.full((1, SIDE, SIDE), -10, np.float32))
    with pytest.raises(NotTerrainCorrected, match="Terrain Correction"):
        open_chip(sar=path, bands=("vv",), **SIGMA)


def test_files_apart(tmp_path):
    optical = optical_dn(tmp_path / "s2.tif")
    sar = backscatter(tmp_path / "s1.tif", at=Affine(10, 0, 750_000, 0, -10, 5_699_000))
    with pytest.raises(LoadError, match="don't overlap") as caught:
        open_chip(optical, sar, **SCALE, **SIGMA)
    assert caught.value.found.count(",-38.") == 4  # both bounds
    with pytest.raises(LoadError, match="does not reach the AOI") as caught:
        open_chip(optical, aoi="-72.0,-38.8,-71.99,-38.79", **SCALE)
    assert "AOI -72.0000" in caught.value.found


def test_files_of_bands_apart(tmp_path):
    """The scene is where all of its bands are."""
    one = {"dtype": np.float32, "level": 0.2}
    red = optical_dn(tmp_path / "red.tif", names=("red",), **one)
    near = optical_dn(
        tmp_path / "nir.tif", names=("nir",), at=Affine(10, 0, 718_400, 0, -10, 5_699_000), **one
    )
    chip = open_chip({"red": red, "nir": near})
    assert chip.grid.shape == (SIDE, SIDE - 20)
    assert chip.valid_optical.all()
    far = optical_dn(
        tmp_path / "far.tif", names=("nir",), at=Affine(10, 0, 738_400, 0, -10, 5_699_000), **one
    )
    with pytest.raises(LoadError, match="bands don't overlap") as caught:
        open_chip({"red": red, "nir": far})
    assert "red.tif -72" in caught.value.found


def test_two_crs(chile, tmp_path):
    """SAR in degrees comes onto the optical file's own lattice."""
    optical, _, aoi = chile
    with rasterio.open(optical) as source:
        bounds = transform_bounds(source.crs, 4326, *source.bounds)
    step = 1e-4
    at = Affine(step, 0, bounds[0] - 5 * step, 0, -step, bounds[3] + 5 * step)
    backscatter(tmp_path / "degrees.tif", spread=0.1, at=at, crs="EPSG:4326")
    chip = open_chip(optical, tmp_path / "degrees.tif", aoi=aoi, **SCALE, **SIGMA)
    assert chip.grid == open_chip(optical, aoi=aoi, **SCALE).grid
    assert np.nanmedian(chip.sar) == pytest.approx(-12, abs=0.1)


def test_larger_than_one_chip(tmp_path, monkeypatch):
    path = optical_dn(tmp_path / "s2.tif")
    monkeypatch.setattr(own_files, "MAX_SIDE_PX", SIDE - 1)
    with pytest.raises(LoadError, match=f"{SIDE} x {SIDE} px") as caught:
        open_chip(path, **SCALE)
    assert "aoi=" in caught.value.change
    wide = optical_dn(tmp_path / "wide.tif", at=Affine(0.1, 0, 10, 0, -0.1, 50), crs="EPSG:4326")
    with pytest.raises(LoadError, match="aoi="):
        open_chip(wide, **SCALE)


def test_a_file_that_is_not_there_is_asked_for(tmp_path):
    with pytest.raises(AssetUnavailable, match=r"There is no file .*s2\.tif\. Try: its path"):
        open_chip(optical=tmp_path / "s2.tif")


def test_unknown_times_are_told_in_hours(chile):
    optical, sar, aoi = chile
    chip = open_chip(optical, sar, aoi=aoi, **SCALE, **SIGMA, datetime="2020-04-08")
    assert "The gap is unknown: between 0 minutes and 24.0 hours." in chip.pair.reasons


def test_nothing_given():
    with pytest.raises(LoadError, match="No file was given"):
        open_chip()
    with pytest.raises(LoadError, match="No file was given"):
        open_chip({})


# --- files that are none -------------------------------------------------------------------------


def test_no_driver_but_those_of_pictures(tmp_path):
    optical_dn(tmp_path / "s2.tif")
    (tmp_path / "s2.vrt").write_text(
        f'<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand dataType="UInt16" band="1">'
        f"<SimpleSource><SourceFilename>{tmp_path / 's2.tif'}</SourceFilename></SimpleSource>"
        "</VRTRasterBand></VRTDataset>"
    )
    with pytest.raises(AssetUnavailable, match="other formats opened with xarray"):
        open_chip(tmp_path / "s2.vrt", **SCALE)
    for href in ("ftp://host/s2.tif", "/vsicurl/http://host/s2.tif", "/vsizip/s2.zip"):
        with pytest.raises(AssetUnavailable, match="neither a file"):
            open_chip(href, **SCALE)
    with pytest.raises(AssetUnavailable, match="no file"):
        open_chip(tmp_path / "none.tif", **SCALE)


def test_pictures_with_a_place(tmp_path):
    values = np.random.default_rng(0).integers(1, 255, (3, SIDE, SIDE), dtype=np.uint8)
    tiff = write(tmp_path / "rgb.tif", values)
    png = write(tmp_path / "rgb.png", values, driver="PNG")
    bands = {"bands": ("red", "green", "blue")}
    for path in (tiff, png):
        with pytest.raises(LoadError, match="bands="):
            open_chip(path)
        with pytest.raises(RadiometryUnknown, match=r"em\.ask\('picture.png'") as caught:
            open_chip(path, **bands)
        assert "optical_scale=1/255" in caught.value.change
        chip = open_chip(path, **bands, optical_scale=1 / 255, optical_offset=0)
        np.testing.assert_allclose(chip.band("green"), values[1] / 255, atol=1e-6)


def test_nodata_of_the_caller(tmp_path):
    values = np.full((1, SIDE, SIDE), -10, np.float32)
    values[0, :5] = -7
    path = write(tmp_path / "s1.tif", values, names=("VV",))
    assert open_chip(sar=path, **SIGMA).valid_sar.all()
    for nodata in (-7, {"sar": -7, "optical": 7}):
        chip = open_chip(sar=path, nodata=nodata, **SIGMA)
        assert not chip.valid_sar[:5].any()
        assert chip.valid_sar[5:].all()
    with pytest.raises(LoadError, match="names neither"):
        open_chip(sar=path, nodata={"s1": 0}, **SIGMA)


def test_a_file_behind_an_address(chile, tmp_path, monkeypatch):
    optical, _, aoi = chile
    with serve(tmp_path) as server:
        monkeypatch.setenv("EARTHMIND_HOSTS", server.place)
        chip = open_chip(f"{server.href(Path(optical))}?sig=secret", aoi=aoi, **SCALE)
        assert chip.pair.optical.id == "s2.tif"
        record = ask(chip, "Segment the water.", engine=engine()).record
        assert "secret" not in str(record.to_dict())
        assert replay(record, engine=engine()).same
    np.testing.assert_array_equal(chip.optical, open_chip(optical, aoi=aoi, **SCALE).optical)


# --- time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("when", "observed"),
    [
        ("2019-09-17T06:10:00Z", "2019-09-17T06:10:00Z"),
        ("2019-09-17T08:10:00+02:00", "2019-09-17T06:10:00Z"),
        (dt.datetime(2019, 9, 17, 6, 10, tzinfo=dt.UTC), "2019-09-17T06:10:00Z"),
        (np.datetime64("2019-09-17T06:10:00.000000000"), "2019-09-17T06:10:00Z"),
        (dt.date(2019, 9, 17), "2019-09-17T00:00:00Z/2019-09-17T23:59:59.999999Z"),
        ("2019-09-01/2019-09-30", "2019-09-01T00:00:00Z/2019-09-30T23:59:59.999999Z"),
        ({"optical": "2019-09-17T06:10:00Z"}, "2019-09-17T06:10:00Z"),
        (None, "unknown"),
        ({"sar": "2019-09-17"}, "unknown"),
    ],
)
def test_times(tmp_path, when, observed):
    chip = open_chip(optical_dn(tmp_path / "s2.tif"), **SCALE, datetime=when)
    assert chip.pair.optical.observed == observed
    view = render(chip)[0]
    assert view.time == (None if observed == "unknown" else observed)


def test_times_of_a_pair(chile):
    optical, sar, aoi = chile
    both = {"aoi": aoi, **SCALE, **SIGMA}
    unknown = open_chip(optical, sar, **both, datetime={"sar": "2020-04-11"}).pair
    assert unknown.gap is None
    assert "The time of the optical file is unknown." in unknown.reasons
    times = {"optical": "2020-04-08T14:37:29Z", "sar": "2020-04-11T09:37:29Z"}
    known = open_chip(optical, sar, **both, datetime=times).pair
    assert known.gap_hours == 67
    assert "SAR was taken 2.8 days after the optical scene." in known.reasons
    (day,) = {open_chip(optical, sar, **both, datetime="2020-04-08").pair.gap}
    assert max(day) == -min(day)


@pytest.mark.parametrize(
    "when", ["soon", "2019-13-01", "2019-09-30/2019-09-01", "2019-09-01/2019-09-02/2019-09-03", ""]
)
def test_no_times(tmp_path, when):
    with pytest.raises(LoadError, match="is no time"):
        open_chip(optical_dn(tmp_path / "s2.tif"), **SCALE, datetime=when)


def test_times_in_the_file(tmp_path):
    path = optical_dn(tmp_path / "s2.tif")
    with rasterio.open(path, "r+") as target:
        target.update_tags(TIFFTAG_DATETIME="2024:01:01 00:00:00")  # when it was written
    assert not open_chip(path, **SCALE).pair.optical.told
    with rasterio.open(path, "r+") as target:
        target.update_tags(ns="IMAGERY", ACQUISITIONDATETIME="2019-09-17T06:10:00Z")
    assert open_chip(path, **SCALE).pair.optical.observed == "2019-09-17T06:10:00Z"


# --- arrays --------------------------------------------------------------------------------------


@pytest.fixture
def chip(chile):
    optical, sar, aoi = chile
    return open_chip(optical, sar, aoi=aoi, **SCALE, **SIGMA)


def georeferenced(array, at=AT, crs="EPSG:32718"):
    from odc.geo.geobox import GeoBox
    from odc.geo.xr import xr_coords

    box = GeoBox(array.shape[-2:], at, crs)
    return array.assign_coords(xr_coords(box, dims=array.dims[-2:]))


def scene_array(names=("red", "nir"), values=None, **attrs):
    if values is None:
        values = np.random.default_rng(0).integers(500, 3000, (len(names), SIDE, SIDE), np.uint16)
    coords = {"band": list(names)}
    return georeferenced(
        xarray.DataArray(values, dims=("band", "y", "x"), coords=coords, attrs=attrs)
    )


def test_a_chip_survives_xarray(chip):
    again = open_chip(optical=chip.dataset, sar=chip.dataset)
    assert again.grid == chip.grid
    assert again.bands == chip.bands
    np.testing.assert_array_equal(again.optical, chip.optical)
    np.testing.assert_array_equal(again.sar, chip.sar)
    assert again.radiometry.quantity == "sigma0"
    inputs = {part["modality"]: part for part in again.provenance["inputs"]}
    assert set(again.provenance["from_memory"]) == set(inputs) == {"optical", "sar"}
    for name, checksum in again.provenance["from_memory"].items():
        assert checksum[:32] in inputs[name]["href"]
    changed = chip.dataset.copy(deep=True)
    changed["optical"][0, 0, 0] += 0.01
    other = open_chip(optical=changed).provenance["from_memory"]["optical"]
    assert other != again.provenance["from_memory"]["optical"]


def test_a_chip_of_one_variable_survives_xarray(chip):
    again = open_chip(optical=chip.dataset["optical"].sel(band="nir"), sar=chip.dataset["sar"][0])
    assert (again.bands, again.polarisations) == (("nir",), ("vv",))
    np.testing.assert_array_equal(again.optical[0], chip.band("nir"))


def test_a_dataset_of_bands_as_odc_stac_loads_it(chip):
    array = scene_array(nodata=0)
    data = array.to_dataset("band").expand_dims(time=[np.datetime64("2020-04-08T14:37:29")])
    data["scl"] = data["red"].astype(np.uint8)
    data["red"].attrs["nodata"] = data["nir"].attrs["nodata"] = 700
    data["red"][0, 0, 0] = 700
    with pytest.raises(RadiometryUnknown, match="optical_scale"):
        open_chip(optical=data)
    chip = open_chip(optical=data, **SCALE)
    assert chip.bands == ("red", "nir")
    assert chip.pair.optical.observed == "2020-04-08T14:37:29Z"
    assert np.isnan(chip.optical[0, 0, 0])
    np.testing.assert_allclose(chip.band("nir"), array.sel(band="nir") * 1e-4 - 0.1, atol=1e-6)


def test_attributes_of_cf_and_rioxarray(tmp_path):
    array = scene_array(
        names=(1, 2), scale_factor=1e-4, add_offset=-0.1, _FillValue=0, long_name=("B4", "B8")
    )
    array[0, 3, 3] = 0
    chip = open_chip(optical=array)
    assert (chip.bands, chip.radiometry.offset_applied) == (("red", "nir"), -0.1)
    assert np.isnan(chip.optical[0, 3, 3])
    assert np.isfinite(chip.optical).sum() == 2 * SIDE * SIDE - 1


def test_south_first():
    array = scene_array()
    north = open_chip(optical=array, **SCALE)
    south = open_chip(optical=array[:, ::-1], **SCALE)
    assert south.grid == north.grid
    np.testing.assert_array_equal(south.optical, north.optical)


def test_a_lazy_array_is_computed_where_it_is_needed(chile):
    from dask import array as lazy

    computed = []

    def block(block_info=None):
        place = block_info[None]["chunk-location"]
        computed.append(place)
        return np.full((1, 512, 512), 2000, np.uint16)

    values = lazy.map_blocks(block, chunks=((1,), (512,) * 9, (512,) * 9), dtype=np.uint16)
    aoi = chile[-1]
    at = Affine(10, 0, 718_000, 0, -10, 5_699_500)
    array = georeferenced(
        xarray.DataArray(values, dims=("band", "y", "x"), coords={"band": ["red"]}), at=at
    )
    chip = open_chip(optical=array, aoi=aoi, **SCALE)
    np.testing.assert_allclose(chip.optical, 0.1, atol=1e-6)
    assert set(computed) == {(0, 0, 0)}
    assert (chip.grid.affine.c - 718_000) % 10 == 0
    with pytest.raises(LoadError, match="does not reach the AOI"):
        open_chip(optical=array, aoi="10,50,10.01,50.01", **SCALE)
    with pytest.raises(LoadError, match="aoi="):
        open_chip(optical=array, **SCALE)
    assert len(computed) == 1


def plain(array):
    """Rows and columns without what xarray keeps beside them, the CRS among it."""
    return {name: array[name].values for name in ("y", "x")}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a: a.drop_vars(("spatial_ref", "x", "y")), "no even rows"),
        (
            lambda a: xarray.DataArray(
                a.values, dims=a.dims, coords={n: a[n].values for n in a.dims}
            ),
            "no CRS",
        ),
        (lambda a: a[:, :, [0, 1, 5, 9]], "no even rows and columns"),
        (lambda a: a[:, [0, 1, 5, 9]], "no even rows and columns"),
        (lambda a: a.expand_dims(time=[1, 2]), "time=0"),
        (lambda a: a.astype(complex), "kind of numbers"),
        (lambda a: a.to_dataset("band").assign(red=a[0].astype(float)), "kind of numbers"),
        (lambda a: a.to_dataset("band")[[]], "no band"),
    ],
)
def test_arrays_that_are_none(change, says):
    with pytest.raises(LoadError, match=says):
        open_chip(optical=change(scene_array()), **SCALE)


def test_fill_values_that_differ():
    data = scene_array().to_dataset("band")
    data["red"].attrs["_FillValue"], data["nir"].attrs["_FillValue"] = 0, 65535
    with pytest.raises(LoadError, match="different fill values"):
        open_chip(optical=data, **SCALE)


def test_a_home_that_cannot_be_written(monkeypatch):
    monkeypatch.setenv("EARTHMIND_HOME", "/dev/null/home")
    with pytest.raises(LoadError, match="EARTHMIND_HOME"):
        open_chip(optical=scene_array(), **SCALE)


@pytest.fixture
def arrays(tmp_path, monkeypatch):
    """A home of its own that has room for one array and a half, and the one that is kept."""
    monkeypatch.setenv("EARTHMIND_HOME", str(tmp_path / "home"))
    open_chip(optical=scene_array(), **SCALE)
    ((first, size, _),) = KeptArrays.from_settings().entries()
    monkeypatch.setenv("EARTHMIND_CACHE_BYTES", str(size * 3 // 2))
    return first


def other_array(seed):
    values = np.random.default_rng(seed).integers(500, 3000, (2, SIDE, SIDE), np.uint16)
    return scene_array(values=values)


def age(path, seconds):
    os.utime(path, (time.time() - seconds,) * 2)


def test_the_longest_unused_array_goes(arrays, monkeypatch):
    kept = KeptArrays.from_settings()
    age(arrays, IN_USE_S + 1)
    open_chip(optical=other_array(1), **SCALE)
    ((second, _, _),) = kept.entries()
    assert second != arrays
    monkeypatch.setenv("EARTHMIND_CACHE_BYTES", str(kept.limit * 5 // 3))  # two and a half
    open_chip(optical=other_array(2), **SCALE)
    (third,) = (path for path, _, _ in kept.entries() if path != second)
    age(second, IN_USE_S + 200)
    age(third, IN_USE_S + 100)
    open_chip(optical=str(second), **SCALE)  # as a replay does: it is used
    open_chip(optical=other_array(3), **SCALE)
    left = {path for path, _, _ in kept.entries()}
    assert len(left) == 2 and second in left and third not in left


def test_an_array_in_use_stays_whatever_the_limit(tmp_path, monkeypatch):
    monkeypatch.setenv("EARTHMIND_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EARTHMIND_CACHE_BYTES", "0")
    for seed in (1, 2):
        open_chip(optical=other_array(seed), **SCALE)
    kept = KeptArrays.from_settings()
    assert len(kept.entries()) == 2
    draft = kept.folder / f"optical_array.tif.0{DRAFT}"
    draft.write_bytes(b"half")
    (kept.folder / "notes.txt").write_text("of somebody else")
    replace(kept, clock=lambda: time.time() + IN_USE_S - 60).sweep()
    assert len(kept.entries()) == 2 and draft.exists()
    replace(kept, clock=lambda: time.time() + IN_USE_S + 60).sweep()
    assert [path.name for path in kept.folder.iterdir()] == ["notes.txt"]


def test_an_array_that_is_gone_is_named_so(arrays):
    record = ask(open_chip(optical=scene_array(), **SCALE), "Describe.", engine=engine()).record
    assert replay(record, engine=engine()).same
    assert KeptArrays.from_settings().clear() == 1
    with pytest.raises(AssetUnavailable, match=r"no longer kept.*open_chip with the array itself"):
        open_chip(optical=arrays, **SCALE)
    again = replay(record, engine=engine())
    assert again.answer is None and "no longer kept" in again.differences[0]
    open_chip(optical=scene_array(), **SCALE)
    assert replay(record, engine=engine()).same


# --- provenance and replay -----------------------------------------------------------------------


def engine():
    return StandInEngine({"water": lambda shape: square(shape, (2, 9, 2, 9))})


def test_provenance(chip, chile):
    optical, sar, _ = chile
    files = {part["modality"]: part for part in chip.provenance["inputs"]}
    assert files["optical"]["href"] == optical
    assert files["sar"]["sha256"] == sha256(Path(sar))
    assert (files["sar"]["licence"], files["sar"]["attribution"]) == ("unknown", None)
    assert chip.provenance["own_files"] == {"optical": optical, "sar": sar, **SCALE, **SIGMA}
    assert "from_memory" not in chip.provenance


@pytest.mark.parametrize("kind", ["by name", "by number", "arrays", "one", "coarse"])
def test_an_answer_replays(chip, chile, kind, tmp_path):
    optical, sar, aoi = chile
    both = {**SCALE, **SIGMA, "aoi": aoi}
    chip = {
        "by name": lambda: open_chip(optical, sar, **both, datetime="2020-04-08"),
        "by number": lambda: open_chip(
            optical, sar, **both, bands={"nir": 4, "red": 3, "vh": 2, "vv": 1}
        ),
        "arrays": lambda: open_chip(chip.dataset, chip.dataset),
        "one": lambda: open_chip(sar=sar, **SIGMA),
        "coarse": lambda: open_chip(optical, sar, **both, gsd=20),
    }[kind]()
    record = ask(chip, "Segment the water.", engine=engine()).record
    again = replay(record.save(tmp_path / "record.json"), engine=engine())
    assert again.differences == ()
    assert again.same


def test_replay_names_what_broke(chip, chile):
    optical, sar, _ = chile
    record = ask(chip, "Segment the water.", engine=engine()).record
    with rasterio.open(optical, "r+") as target:
        values = target.read()
        target.write(values + np.uint16(900))
    again = replay(record, engine=engine())
    assert again.differences[0].startswith("files: the checksum of optical of s2.tif differs")
    Path(sar).unlink()
    again = replay(record, engine=engine())
    assert again.answer is None
    assert again.differences[0].startswith("files: ")
    assert sar in again.differences[0]
    damaged = replace(record, chip={**record.chip, "provenance": {"own_files": {"colour": 1}}})
    with pytest.raises(Exception, match="damaged"):
        replay(damaged, engine=engine())
