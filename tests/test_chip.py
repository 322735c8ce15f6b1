"""Chips: everything in them lies on one grid, and is labelled where tools look for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from affine import Affine
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from odc.geo.geobox import GeoBox
from shapely.geometry import box

from earthmind_lab.aoi import AOI
from earthmind_lab.chip import Chip, ChipSeries, LoadPlan, Radiometry
from earthmind_lab.errors import GridMismatch, LoadError, RadiometryUnknown
from earthmind_lab.scene import Scene, ScenePair

UTM = GeoBox((4, 6), Affine(10, 0, 600000, 0, -10, 4200000), "EPSG:32630")
DEGREES = GeoBox((4, 6), Affine(1e-4, 0, -0.775, 0, -2e-4, 38.12), "EPSG:4326")
WHEN = datetime(2019, 9, 17, tzinfo=UTC)


def make_scene(modality: str) -> Scene:
    return Scene(
        id=modality, sensor=modality, modality=modality, datetime=WHEN, start=WHEN, end=WHEN,
        footprint=box(-2, 37, -1, 38), assets={},
    )  # fmt: skip


RADIOMETRY = Radiometry(
    level="SR",
    offset_applied=-0.1,
    quantity="gamma0_rtc",
    geometry="terrain_corrected",
    noise_floor_db={"vv": -50.0},
)
PAIR = ScenePair(
    optical=make_scene("optical"), sar=make_scene("sar"), gap=None, overlap=1.0,
    cloud_in_aoi=None, score=0.0, factors={},
)  # fmt: skip
ONE_SENSOR = {
    "sar": None,
    "polarisations": (),
    "valid_sar": None,
    "pair": replace(PAIR, sar=None),
    "radiometry": Radiometry(level="SR", offset_applied=-0.1),
}
"""What a chip of `make_chip` changes into without SAR."""


def make_chip(grid: GeoBox = UTM, **changes: Any) -> Chip:
    fields: dict[str, Any] = {
        "grid": grid,
        "optical": np.arange(48, dtype=np.float32).reshape(2, 4, 6),
        "sar": np.full((1, 4, 6), -12, dtype=np.float32),
        "bands": ("red", "nir"),
        "polarisations": ("vv",),
        "valid_optical": np.ones((4, 6), dtype=bool),
        "valid_sar": np.ones((4, 6), dtype=bool),
        "inside": np.eye(4, 6, dtype=bool),
        "radiometry": RADIOMETRY,
        "pair": PAIR,
        "aoi": AOI.from_bbox(-2, 37, -1.5, 37.5),
    }
    return Chip(**(fields | changes))


def test_bands_by_name() -> None:
    chip = make_chip()
    assert np.array_equal(chip.band("nir"), chip.optical[1])
    assert np.array_equal(chip.band("vv"), chip.sar[0])
    with pytest.raises(GridMismatch, match="red, nir, vv"):
        chip.band("vh")


# --- what contradicts itself can't be made ------------------------------------------------------


def pixels(value: float = 0.1, shape: tuple[int, ...] = (2, 4, 6), kind: Any = np.float32) -> Any:
    return np.full(shape, value, dtype=kind)


def mask(*hole: int, shape: tuple[int, ...] = (4, 6)) -> np.ndarray:
    result = np.ones(shape, dtype=bool)
    if hole:
        result[hole] = False
    return result


def placed(*numbers: float, crs: str | None = "EPSG:32630") -> GeoBox:
    return GeoBox((4, 6), Affine(*numbers), crs)


OFF_THE_GRID: dict[str, dict[str, Any]] = {
    "a column less": {"optical": pixels(shape=(2, 4, 5))},
    "a band more": {"optical": pixels(shape=(3, 4, 6))},
    "a band without a name": {"sar": pixels(-12, (2, 4, 6))},
    "rows and columns swapped": {"inside": np.ones((6, 4), dtype=bool)},
    "a mask of another shape": {"valid_sar": mask(shape=(3, 6))},
    "another grid": {"grid": GeoBox((6, 4), UTM.affine, UTM.crs)},
    "no CRS": {"grid": placed(10, 0, 6e5, 0, -10, 4.2e6, crs=None)},
    "a rotated grid": {"grid": placed(10, 1, 6e5, -1, -10, 4.2e6)},
    "a grid upside down": {"grid": placed(10, 0, 6e5, 0, 10, 4.2e6)},
    "a grid back to front": {"grid": placed(-10, 0, 6e5, 0, -10, 4.2e6)},
    "a grid of no size": {"grid": placed(0, 0, 6e5, 0, -10, 4.2e6)},
    "a grid nowhere": {"grid": placed(10, 0, float("nan"), 0, -10, 4.2e6)},
    "nothing inside": {"inside": np.zeros((4, 6), dtype=bool)},
    "double precision": {"optical": pixels(kind=np.float64)},
    "whole numbers": {"sar": pixels(-12, (1, 4, 6), np.int16)},
    "a mask of numbers": {"inside": np.ones((4, 6), dtype=np.uint8)},
    "a mask of validity of numbers": {"valid_optical": np.ones((4, 6), dtype=np.uint8)},
    "a band twice": {"bands": ("red", "red")},
    "a name for two": {"bands": ("red", "vv")},
    "no mask of validity": {"valid_optical": None},
    "valid nodata": {"optical": np.where(mask(0, 0), pixels(), np.nan).astype(np.float32)},
    "data declared missing": {"valid_sar": mask(2, 3)},
    "infinite reflectance": {"optical": np.where(mask(0, 0), pixels(), np.inf).astype("f4")},
    "SAR of zero power": {
        "sar": pixels(-np.inf, (1, 4, 6)), "valid_sar": np.zeros((4, 6), dtype=bool),
    },
    "bands without pixels": ONE_SENSOR | {"polarisations": ("vv",)},
    "a mask without pixels": ONE_SENSOR | {"valid_sar": mask()},
    "pixels without bands": {"optical": pixels(shape=(0, 4, 6)), "bands": ()},
}  # fmt: skip


@pytest.mark.parametrize("changes", OFF_THE_GRID.values(), ids=OFF_THE_GRID)
def test_arrays_that_do_not_agree_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(GridMismatch):
        make_chip(**changes)


MEANINGLESS: dict[str, dict[str, Any]] = {
    "reflectance of no level": {"radiometry": replace(RADIOMETRY, level=None)},
    "reflectance of no offset": {"radiometry": replace(RADIOMETRY, offset_applied=None)},
    "backscatter of no quantity": {"radiometry": replace(RADIOMETRY, quantity=None)},
    "backscatter of no geometry": {"radiometry": replace(RADIOMETRY, geometry=None)},
    "no noise floor": {"radiometry": replace(RADIOMETRY, noise_floor_db={})},
    "the noise floor of another": {"radiometry": replace(RADIOMETRY, noise_floor_db={"vh": -50})},
    "below the noise floor": {"sar": pixels(-50.1, (1, 4, 6))},
    "linear power under a floor of dB": {"radiometry": replace(
        RADIOMETRY, noise_floor_db={"vv": 0.0})},
    "a quantity without SAR": ONE_SENSOR | {"radiometry": RADIOMETRY},
    "a scene without pixels": ONE_SENSOR | {"pair": PAIR},
    "pixels without a scene": {"pair": replace(PAIR, sar=None)},
}  # fmt: skip


@pytest.mark.parametrize("changes", MEANINGLESS.values(), ids=MEANINGLESS)
def test_numbers_whose_meaning_does_not_fit_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RadiometryUnknown):
        make_chip(**changes)


@pytest.mark.parametrize(
    "fields",
    [
        {"level": "L2A"},
        {"quantity": "beta0"},
        {"geometry": "slant"},
        {"offset_applied": float("nan")},
        {"noise_floor_db": {"vv": float("-inf")}},
    ],
)
def test_radiometry_takes_known_words_and_numbers_only(fields: dict[str, Any]) -> None:
    with pytest.raises(RadiometryUnknown):
        Radiometry(**fields)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), nodata=arrays(bool, (4, 6)))
def test_any_single_contradiction_is_refused(data: st.DataObject, nodata: np.ndarray) -> None:
    """A sound chip of any nodata exists; with one of its parts taken from elsewhere it doesn't."""
    assume(nodata.sum() != 1)  # else a mask from elsewhere may happen to be its own
    optical = np.where(nodata, np.nan, pixels()).astype(np.float32)
    sound = {"optical": optical, "valid_optical": ~nodata}
    make_chip(**sound)
    every = (*OFF_THE_GRID.values(), *MEANINGLESS.values())
    changes = data.draw(st.sampled_from([each for each in every if len(each) == 1]))
    with pytest.raises((GridMismatch, RadiometryUnknown)):
        make_chip(**(sound | changes))


@settings(max_examples=40, deadline=None)
@given(row=st.integers(0, 3), column=st.integers(0, 5), which=st.sampled_from(["optical", "sar"]))
def test_one_pixel_that_its_mask_denies_is_refused(row: int, column: int, which: str) -> None:
    denied = mask(row, column)
    with pytest.raises(GridMismatch, match=f"valid_{which}"):
        make_chip(**{f"valid_{which}": denied})


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
    data = make_chip(**ONE_SENSOR).dataset
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


def test_a_part_of_a_series_is_a_series_and_loads_nothing() -> None:
    chip, other = make_chip(), make_chip()
    part = ChipSeries(chips=(chip, other))[1:]
    assert isinstance(part, ChipSeries) and list(part) == [other]
    plans = tuple(
        LoadPlan(pair=chip.pair, aoi=chip.aoi, grid=UTM, bands=("red",), polarisations=(),
                 reads=1, bytes=size)
        for size in (1, 2, 4)
    )  # fmt: skip
    asked: list[LoadPlan] = []
    lazy = ChipSeries(plans=plans, load=lambda plan: (asked.append(plan), chip)[1])
    assert lazy[::2].bytes == 5 and not asked
    assert lazy[1:][0] is chip and asked == [plans[1]]
    with pytest.raises(LoadError, match="0 plans"):
        lazy[3:]
    with pytest.raises(IndexError):
        lazy[3]


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


def test_what_a_cell_shows_is_short() -> None:
    chip = make_chip()
    plan = LoadPlan(
        pair=chip.pair, aoi=chip.aoi, grid=UTM, bands=("red",), polarisations=(), reads=1,
        bytes=4_800_000,
    )  # fmt: skip
    series = ChipSeries(plans=(plan,), load=lambda _: chip)
    assert repr(chip) == "Chip(6 x 4 px of 10 m, EPSG:32630: red, nir, vv)"
    assert repr(plan) == "LoadPlan(6 x 4 px of 10 m, EPSG:32630: red; 4.8 MB)"
    assert repr(series) == "ChipSeries(1 chip of 6 x 4 px of 10 m, EPSG:32630)"
    assert "1 assets, 4.8 MB" in plan._repr_html_()
    assert "optical 2019-09-17" in series._repr_html_() and "4.8 MB" in series._repr_html_()
