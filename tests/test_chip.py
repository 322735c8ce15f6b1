"""Chips: everything in them lies on one grid, and is labelled where tools look for it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from shapely.geometry import box

from earthmind_lab.aoi import AOI
from earthmind_lab.chip import Chip, ChipSeries, LoadPlan, Radiometry
from earthmind_lab.errors import GridMismatch, LoadError
from earthmind_lab.scene import Scene, ScenePair

UTM = GeoBox((4, 6), Affine(10, 0, 600000, 0, -10, 4200000), "EPSG:32630")
DEGREES = GeoBox((4, 6), Affine(1e-4, 0, -0.775, 0, -2e-4, 38.12), "EPSG:4326")
WHEN = datetime(2019, 9, 17, tzinfo=UTC)


def make_chip(grid: GeoBox = UTM, **changes: Any) -> Chip:
    scene = Scene(
        id="S2", sensor="sentinel-2-l2a", modality="optical", datetime=WHEN, start=WHEN, end=WHEN,
        footprint=box(-2, 37, -1, 38), assets={},
    )  # fmt: skip
    pair = ScenePair(
        optical=scene, sar=None, gap=None, overlap=1.0, cloud_in_aoi=None, score=0.0, factors={}
    )
    fields: dict[str, Any] = {
        "grid": grid,
        "optical": np.arange(48, dtype=np.float32).reshape(2, 4, 6),
        "sar": np.full((1, 4, 6), -12, dtype=np.float32),
        "bands": ("red", "nir"),
        "polarisations": ("vv",),
        "valid_optical": np.ones((4, 6), dtype=bool),
        "valid_sar": np.ones((4, 6), dtype=bool),
        "inside": np.eye(4, 6, dtype=bool),
        "radiometry": Radiometry(level="SR", quantity="gamma0_rtc"),
        "pair": pair,
        "aoi": AOI.from_bbox(-2, 37, -1.5, 37.5),
    }
    return Chip(**(fields | changes))


def test_bands_by_name() -> None:
    chip = make_chip()
    assert np.array_equal(chip.band("nir"), chip.optical[1])
    assert np.array_equal(chip.band("vv"), chip.sar[0])
    with pytest.raises(GridMismatch, match="red, nir, vv"):
        chip.band("vh")


@pytest.mark.parametrize(
    "changes",
    [
        {"optical": np.zeros((2, 4, 5), dtype=np.float32)},
        {"optical": np.zeros((3, 4, 6), dtype=np.float32)},
        {"sar": np.zeros((2, 4, 6), dtype=np.float32)},
        {"inside": np.zeros((6, 4), dtype=bool)},
        {"valid_sar": np.zeros((3, 6), dtype=bool)},
    ],
)
def test_arrays_off_the_grid_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(GridMismatch):
        make_chip(**changes)


def test_gsd_is_in_metres_even_for_degrees() -> None:
    assert make_chip().gsd == 10
    assert make_chip(DEGREES).gsd == pytest.approx(22.2, abs=0.05)


@pytest.mark.parametrize("grid", [UTM, DEGREES])
# odc-geo multiplies affines in a way that affine 3 is about to retire.
@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
def test_dataset_is_labelled_and_georeferenced(grid: GeoBox) -> None:
    chip = make_chip(grid)
    data = chip.dataset
    assert data["optical"].dims == ("band", "y", "x")
    assert data["sar"].dims == ("polarisation", "y", "x")
    assert np.array_equal(data["optical"].sel(band="nir").values, chip.optical[1])
    assert data["sar"].polarisation.values.tolist() == ["vv"]
    assert data["sar"].attrs == {"units": "dB", "long_name": "gamma0_rtc"}
    assert data["inside"].dtype == bool
    assert data.odc.geobox == grid
    x, y = grid.affine @ (2.5, 1.5)  # coordinates are pixel centres
    assert float(data.x[2]) == pytest.approx(x) and float(data.y[1]) == pytest.approx(y)


def test_dataset_of_one_sensor() -> None:
    data = make_chip(sar=None, polarisations=(), valid_sar=None).dataset
    assert "sar" not in data and "valid_sar" not in data and "polarisation" not in data.coords


# NetCDF and rioxarray find the CRS by this name.
def test_dataset_names_its_grid_mapping() -> None:
    data = make_chip().dataset
    assert data["optical"].encoding["grid_mapping"] == "spatial_ref"
    assert "UTM zone 30N" in data["spatial_ref"].attrs["crs_wkt"]


def test_series_share_one_grid() -> None:
    assert len(ChipSeries(chips=(make_chip(), make_chip())).chips) == 2
    with pytest.raises(GridMismatch):
        ChipSeries(chips=(make_chip(), make_chip(DEGREES)))


def test_series_are_held_or_planned() -> None:
    chip = make_chip()
    series = ChipSeries(chips=(chip, chip))
    assert list(series) == [chip, chip] and series[1] is chip and series.grid == UTM
    assert series.bytes == 0
    plan = LoadPlan(
        pair=chip.pair, aoi=chip.aoi, grid=UTM, bands=("red",), polarisations=(), reads=1, bytes=48
    )
    lazy = ChipSeries(plans=(plan, plan), load=lambda asked: make_chip(grid=asked.grid))
    assert (len(lazy), lazy.bytes, lazy[0].grid) == (2, 96, UTM)
    for wrong in ({}, {"chips": (chip,), "plans": (plan,)}, {"plans": (plan,)}):
        with pytest.raises(LoadError, match="plans"):
            ChipSeries(**wrong)


def test_radiometry_is_plain_data() -> None:
    data = Radiometry(level="TOA", noise_floor_db={"vv": -50.0}).to_dict()
    assert data["level"] == "TOA" and data["noise_floor_db"] == {"vv": -50.0}


def test_plan_counts_pixels() -> None:
    chip = make_chip()
    plan = LoadPlan(
        pair=chip.pair, aoi=chip.aoi, grid=UTM, bands=("red",), polarisations=(), reads=1, bytes=48
    )
    assert plan.pixels == 24


def test_html_is_escaped() -> None:
    text = make_chip(bands=("<b>", "nir"))._repr_html_()
    assert "<b>" not in text and "&lt;b&gt;" in text
