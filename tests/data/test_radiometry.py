"""Optical scale and offset, and the SAR quantity: from declared facts only."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from shapely.geometry import box

from earthmind_lab.data.assets import AssetRef, assets_of
from earthmind_lab.data.backscatter import (
    SAR_FLOOR_DB,
    Convention,
    grd_counts,
    sar_details,
    sar_meaning,
    sar_scaling,
    to_db,
    to_power,
)
from earthmind_lab.data.radiometry import Scaling, physical
from earthmind_lab.data.reflectance import check_reflectance, optical_level, optical_scaling
from earthmind_lab.errors import LoadError, RadiometryUnknown
from earthmind_lab.scene import Scene

WHEN = datetime(2024, 1, 31, tzinfo=UTC)


def make_scene(
    *,
    band: str = "red",
    key: str | None = None,
    sensor: str = "sentinel-2-l2a",
    collection: str | None = None,
    properties: dict[str, Any] | None = None,
    asset: dict[str, Any] | None = None,
) -> tuple[Scene, AssetRef]:
    modality = "sar" if band in ("vv", "vh") else "optical"
    held = {"href": f"./{band}.tif", **(asset or {})}
    item = {"id": "one", "assets": {key or band: held}, "properties": properties or {}}
    if collection:
        item["collection"] = collection
    scene = Scene(
        id="one",
        sensor=sensor,
        modality=modality,
        datetime=WHEN,
        start=WHEN,
        end=WHEN,
        footprint=box(0, 0, 1, 1),
        assets={band: f"/catalog/{band}.tif"},
        collection=collection,
        items=(item,),
    )
    return scene, assets_of(scene, band)[0]


def scaling_of(dtype: str = "uint16", **facts: Any) -> Scaling:
    scene, ref = make_scene(**facts)
    return optical_scaling(scene, ref, dtype=dtype)


# --- optical ------------------------------------------------------------------------------------

STAC_1_0 = {"raster:bands": [{"scale": 0.0001, "offset": -0.1, "nodata": 0}]}
STAC_1_1 = {"bands": [{"name": "red", "raster:scale": 0.0001, "raster:offset": -0.1, "nodata": 0}]}
LIFTED = {"bands": [{"name": "red"}], "raster:scale": 0.0001, "raster:offset": -0.1, "nodata": 0}


@pytest.mark.parametrize("asset", [STAC_1_0, STAC_1_1, LIFTED])
def test_declared_numbers_are_taken_in_every_form(asset: dict[str, Any]) -> None:
    scaling = scaling_of(asset=asset, properties={"s2:processing_baseline": "02.14"})
    assert (scaling.scale, scaling.offset, scaling.nodata) == (0.0001, -0.1, (0.0,))
    assert "declared" in scaling.reason


@pytest.mark.parametrize(
    ("baseline", "offset"), [("02.14", 0.0), ("03.01", 0.0), ("04.00", -0.1), ("05.10", -0.1)]
)
def test_undeclared_sentinel_2_follows_its_baseline(baseline: str, offset: float) -> None:
    scaling = scaling_of(properties={"s2:processing_baseline": baseline})
    assert (scaling.scale, scaling.offset) == (0.0001, offset)
    assert baseline in scaling.reason


@pytest.mark.parametrize("baseline", ["99.99", None, "", "unknown"])
def test_an_unknown_baseline_is_not_a_new_one(baseline: str | None) -> None:
    with pytest.raises(RadiometryUnknown, match="raster:bands") as refused:
        scaling_of(properties={"s2:processing_baseline": baseline})
    assert "'red'" in str(refused.value) and "'one'" in str(refused.value)


def test_an_offset_that_the_catalog_subtracted_is_not_subtracted_again() -> None:
    properties = {"earthsearch:boa_offset_applied": True, "s2:processing_baseline": "05.10"}
    assert scaling_of(asset=STAC_1_0, properties=properties).offset == 0
    assert scaling_of(properties=properties).offset == 0
    properties["earthsearch:boa_offset_applied"] = False
    assert scaling_of(asset=STAC_1_0, properties=properties).offset == -0.1
    assert scaling_of(properties=properties).offset == -0.1


SCALE_ONLY = {"raster:bands": [{"scale": 0.0001, "nodata": 0}]}


@pytest.mark.parametrize(
    ("baseline", "applied", "offset"),
    [("05.10", False, -0.1), ("02.14", False, 0.0), ("05.10", True, 0.0), ("99.99", True, 0.0)],
)
def test_a_scale_without_an_offset_follows_the_baseline(
    baseline: str, applied: bool, offset: float
) -> None:
    properties = {"s2:processing_baseline": baseline, "earthsearch:boa_offset_applied": applied}
    scaling = scaling_of(asset=SCALE_ONLY, properties=properties)
    assert (scaling.scale, scaling.offset) == (0.0001, offset)
    scene, ref = make_scene(properties=properties)
    in_file = optical_scaling(scene, ref, dtype="uint16", file_scaling=(0.0001, 0.0))
    assert (in_file.scale, in_file.offset) == (0.0001, offset)


@pytest.mark.parametrize("baseline", ["99.99", None])
def test_a_scale_without_an_offset_needs_a_baseline(baseline: str | None) -> None:
    properties = {"s2:processing_baseline": baseline}
    with pytest.raises(RadiometryUnknown, match="no declared offset"):
        scaling_of(asset=SCALE_ONLY, properties=properties)
    scene, ref = make_scene(asset=SCALE_ONLY, properties=properties)
    # The file's own offset counts where it has the same scale.
    scaling = optical_scaling(scene, ref, dtype="uint16", file_scaling=(0.0001, -0.1))
    assert scaling.offset == -0.1
    # Declared zeros, reflectance in floating point and other sensors are taken at their word.
    zero = {"raster:bands": [{"scale": 0.0001, "offset": 0}]}
    assert scaling_of(asset=zero, properties=properties).offset == 0
    one = {"raster:bands": [{"scale": 1}]}
    assert scaling_of("float32", asset=one, properties=properties).offset == 0
    assert scaling_of(asset=SCALE_ONLY, properties=properties, sensor="optical").offset == 0


def test_other_sensors_have_no_rule_to_fall_back_on() -> None:
    with pytest.raises(RadiometryUnknown):
        scaling_of(sensor="optical", properties={"s2:processing_baseline": "02.14"})


@pytest.mark.parametrize(
    ("sensor", "dtype", "scale", "offset", "nodata", "level"),
    [
        ("landsat-c2-l2", "uint16", 2.75e-5, -0.2, (0.0,), "SR"),
        ("landsat-c2-l2-tm", "uint16", 2.75e-5, -0.2, (0.0,), "SR"),
        ("hls-l30", "int16", 1e-4, 0.0, (-9999.0,), "SR"),
        ("hls-s30", "int16", 1e-4, 0.0, (-9999.0,), "SR"),
        ("naip", "uint8", 1 / 255, 0.0, (), "DN"),
    ],
)
def test_every_sensor_has_its_documented_rule(
    sensor: str, dtype: str, scale: float, offset: float, nodata: tuple[float, ...], level: str
) -> None:
    scaling = scaling_of(dtype, sensor=sensor)
    assert (scaling.scale, scaling.offset, scaling.nodata) == (scale, offset, nodata)
    assert optical_level(*make_scene(sensor=sensor)) == level


def test_a_declared_scale_without_an_offset_is_not_half_a_rule() -> None:
    asset = {"raster:bands": [{"scale": 2.75e-5, "nodata": 0}]}
    assert scaling_of(sensor="landsat-c2-l2", asset=asset).offset == -0.2
    asset["raster:bands"][0]["offset"] = 0
    assert scaling_of(sensor="landsat-c2-l2", asset=asset).offset == 0
    other = {"raster:bands": [{"scale": 1e-4, "nodata": 0}]}
    assert scaling_of(sensor="landsat-c2-l2", asset=other).offset == 0


def test_a_zero_of_hls_is_a_dark_surface_and_no_gap() -> None:
    scaling = scaling_of("int16", sensor="hls-s30")
    values = physical(np.array([-9999, 0, -120, 2500], dtype=np.int16), scaling)
    assert np.isnan(values[0]) and values[1:].tolist() == pytest.approx([0, -0.012, 0.25])


def test_the_file_s_own_metadata_counts_where_the_item_is_silent() -> None:
    scene, ref = make_scene(sensor="optical")
    scaling = optical_scaling(scene, ref, dtype="int16", file_scaling=(0.001, 0.5))
    assert (scaling.scale, scaling.offset) == (0.001, 0.5)


def test_floating_point_without_a_scale_is_reflectance_with_real_zeros() -> None:
    scaling = scaling_of("float32", sensor="optical")
    assert (scaling.scale, scaling.offset, scaling.nodata) == (1.0, 0.0, ())


@given(dn=st.integers(0, 20000))
def test_nodata_is_decided_before_the_offset(dn: int) -> None:
    scaling = Scaling(scale=0.0001, offset=-0.1, nodata=(0.0,))
    (value,) = physical(np.array([dn], dtype=np.uint16), scaling)
    assert np.isnan(value) if dn == 0 else value == np.float32(dn * 0.0001 - 0.1)


def test_reflectance_is_not_clipped() -> None:
    values = physical(np.array([1, 18000], dtype=np.uint16), Scaling(scale=1e-4, offset=-0.1))
    assert values[0] < 0 and values[1] > 1.6


def test_dn_in_floating_point_are_refused() -> None:
    _, ref = make_scene()
    check_reflectance(np.array([0.1, 1.2, np.nan], dtype=np.float32), ref)
    with pytest.raises(RadiometryUnknown, match="can't be reflectance"):
        check_reflectance(np.array([1200, 800, np.nan], dtype=np.float32), ref)


@pytest.mark.parametrize(
    ("sensor", "level", "expected"),
    [
        ("sentinel-2-l1c", None, "TOA"),
        ("sentinel-2-l2a", None, "SR"),
        ("sentinel-2", "L1C", "TOA"),
        ("sentinel-2", "L2A", "SR"),
        ("sentinel-2", None, None),
        ("optical", "L2", "SR"),
    ],
)
def test_level_of_reflectance(sensor: str, level: str | None, expected: str | None) -> None:
    scene, ref = make_scene(sensor=sensor, properties={"processing:level": level})
    assert optical_level(scene, ref) == expected


# --- SAR ----------------------------------------------------------------------------------------


def sar(**facts: Any) -> tuple[Scene, AssetRef]:
    return make_scene(**{"band": "vv", "sensor": "sentinel-1", **facts})


def card4l(kind: str, convention: str | None = "linear power", **more: Any) -> dict[str, Any]:
    stated = {"card4l:measurement_type": kind, "card4l:measurement_convention": convention}
    return {name: value for name, value in (stated | more).items() if value is not None}


@pytest.mark.parametrize(
    ("properties", "quantity", "convention", "geometry"),
    [
        (card4l("gamma0"), "gamma0", "power", "unknown"),
        (
            card4l("gamma0", "power", **{"card4l:specification": "NRB"}),
            "gamma0_rtc",
            "power",
            "terrain_corrected",
        ),
        (
            card4l("gamma0", **{"processing:lineage": "radiometric terrain correction"}),
            "gamma0_rtc",
            "power",
            "terrain_corrected",
        ),
        (
            card4l("sigma0", **{"earthmind:sar_geometry": "ellipsoid"}),
            "sigma0",
            "power",
            "ellipsoid",
        ),
        (card4l("gamma0_rtc", "dB"), "gamma0_rtc", "dB", "terrain_corrected"),
        (card4l("sigma0", "linear amplitude"), "sigma0", "amplitude", "unknown"),
        (
            card4l("sigma0", **{"card4l:geometric_accuracy_type": "gtc"}),
            "sigma0",
            "power",
            "terrain_corrected",
        ),
        (
            card4l("sigma0", **{"processing:lineage": "calibrated, not terrain-corrected"}),
            "sigma0",
            "power",
            "ellipsoid",
        ),
    ],
)
def test_card4l_fields_come_first(
    properties: dict[str, Any], quantity: str, convention: str, geometry: str
) -> None:
    # The collection says otherwise and must not win.
    meaning = sar_meaning(*sar(properties=properties, collection="my-sentinel-1"))
    found = (meaning.quantity, meaning.convention, meaning.geometry)
    assert found == (quantity, convention, geometry)


def test_card4l_outranks_a_known_collection() -> None:
    scene, ref = sar(properties=card4l("sigma0", "dB"), collection="sentinel-1-rtc")
    assert sar_meaning(scene, ref).quantity == "sigma0"


def test_gamma0_of_the_rtc_collection_is_terrain_flattened() -> None:
    meaning = sar_meaning(*sar(properties=card4l("gamma0"), collection="sentinel-1-rtc"))
    assert (meaning.quantity, meaning.geometry) == ("gamma0_rtc", "terrain_corrected")


def test_known_collection_needs_no_fields() -> None:
    meaning = sar_meaning(*sar(collection="sentinel-1-rtc", sensor="sentinel-1-rtc"))
    found = (meaning.quantity, meaning.convention, meaning.geometry)
    assert found == ("gamma0_rtc", "power", "terrain_corrected")


def test_the_band_s_unit_comes_last() -> None:
    meaning = sar_meaning(*sar(asset={"raster:bands": [{"unit": "sigma0 dB"}]}))
    assert (meaning.quantity, meaning.convention) == ("sigma0", "dB")
    described = {"name": "vv", "unit": "dB", "description": "Gamma naught"}
    meaning = sar_meaning(*sar(asset={"bands": [described]}))
    assert (meaning.quantity, meaning.convention) == ("gamma0", "dB")
    mixed = sar(properties=card4l("gamma0", None), asset={"raster:bands": [{"unit": "dB"}]})
    assert (sar_meaning(*mixed).quantity, sar_meaning(*mixed).convention) == ("gamma0", "dB")


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"properties": {"sar:product_type": "RTC"}},
        {"properties": {"sar:product_type": "NRB", "description": "gamma0 in linear power"}},
        {"asset": {"description": "Terrain-corrected gamma naught, linear power", "title": "dB"}},
        {"properties": card4l("gamma0", None)},
        {"properties": card4l("beta0")},
        {"properties": card4l(["gamma0"])},
        {"properties": card4l(5), "collection": "sentinel-1-rtc", "sensor": "sentinel-1-rtc"},
        {"properties": card4l("")},
        {"properties": {"card4l:measurement_convention": "dB"}},
        {"asset": {"bands": [{"name": "vv", "unit": "dB"}]}},
        {"asset": {"raster:bands": [{"unit": "dB", "description": "gamma0 from sigma0"}]}},
        {"asset": {"raster:bands": [{"unit": "dB"}], "description": "sigma0"}},
        {"collection": "sentinel-1-grd", "sensor": "sentinel-1-grd"},
    ],
)
def test_undeclared_backscatter_is_refused(facts: dict[str, Any]) -> None:
    with pytest.raises(RadiometryUnknown, match="'vv' of item 'one'") as refused:
        sar_meaning(*sar(**facts))
    assert re.search("gamma0.*sigma0|terrain-corrected scene", str(refused.value.change))


def test_undeclared_numbers_of_a_grd_are_counts() -> None:
    assert grd_counts(*sar(collection="sentinel-1-grd"))
    assert grd_counts(*sar(sensor="sentinel-1-grd"))
    assert not grd_counts(*sar(properties=card4l("sigma0"), sensor="sentinel-1-grd"))
    assert not grd_counts(*sar(asset={"bands": [{"unit": "dB"}]}, sensor="sentinel-1-grd"))
    assert not grd_counts(*sar(collection="sentinel-1-rtc", sensor="sentinel-1-rtc"))


@pytest.mark.parametrize("convention", ["linear amplitude", "dB"])
def test_counts_need_a_scale(convention: str) -> None:
    scene, ref = sar(properties=card4l("gamma0", convention))
    meaning = sar_meaning(scene, ref)
    with pytest.raises(RadiometryUnknown, match="uncalibrated"):
        sar_scaling(scene, ref, meaning, dtype="int16", file_scaling=(1.0, 0.0))
    scaling = sar_scaling(scene, ref, meaning, dtype="int16", file_scaling=(0.01, 2.0))
    assert (scaling.scale, scaling.offset) == (0.01, 2.0)


def test_the_usual_fill_of_rtc_is_no_calm_water() -> None:
    for sensor, nodata in (("sentinel-1-rtc", (-9999.0, -32768.0)), ("sentinel-1", (-9999.0,))):
        scene, ref = sar(properties=card4l("gamma0"), sensor=sensor)
        meaning = sar_meaning(scene, ref)
        scaling = sar_scaling(scene, ref, meaning, dtype="float32", file_nodata=-9999.0)
        assert scaling.nodata == nodata
    # Calibrated zeros of a GRD are calm water; 0 is nodata in its counts only.
    scene, ref = sar(properties=card4l("sigma0"), sensor="sentinel-1-grd")
    assert sar_scaling(scene, ref, sar_meaning(scene, ref), dtype="float32").nodata == ()


def test_scaled_decibels_are_read() -> None:
    fields = {"raster:bands": [{"scale": 0.01, "nodata": -32768, "unit": "dB"}]}
    scene, ref = sar(properties=card4l("sigma0", "dB"), asset=fields)
    scaling = sar_scaling(scene, ref, sar_meaning(scene, ref), dtype="int16")
    stored = np.array([-1234, -32768], dtype=np.int16)
    decibel = to_db(to_power(physical(stored, scaling), "dB"))
    assert decibel[0] == pytest.approx(-12.34, abs=1e-5) and np.isnan(decibel[1])


def test_conventions_meet_in_decibels() -> None:
    for convention, stored in (("dB", -12.0), ("power", 10**-1.2), ("amplitude", 10**-0.6)):
        power = to_power(np.array([stored], dtype=np.float32), convention)  # type: ignore[arg-type]
        assert to_db(power)[0] == pytest.approx(-12.0, abs=1e-4)


@given(
    decibel=arrays(np.float32, 20, elements=st.floats(-50, 40, width=32)),
    missing=arrays(bool, 20),
)
def test_decibels_survive_the_way_through_power(decibel: np.ndarray, missing: np.ndarray) -> None:
    decibel[missing] = np.nan
    power = to_power(decibel, "dB")
    back = to_db(power)
    assert np.allclose(back, decibel, atol=1e-5, equal_nan=True)
    assert np.allclose(to_power(back, "dB"), power, rtol=3e-6, equal_nan=True)
    order = np.argsort(decibel[~missing])
    assert (np.diff(power[~missing][order]) >= 0).all()


@given(value=st.floats(-1e6, 1e6, width=32), convention=st.sampled_from(get_args(Convention)))
def test_no_number_gives_less_than_the_floor_or_nothing(
    value: float, convention: Convention
) -> None:
    with np.errstate(over="ignore"):  # 10 ** 1e5 has no number
        power = to_power(np.array([value], dtype=np.float32), convention)
    assert power[0] >= np.float32(10 ** (SAR_FLOOR_DB / 10))
    assert to_db(power)[0] >= SAR_FLOOR_DB


def test_the_floor_is_data_and_the_rest_is_not() -> None:
    stored = np.array([0.0, 1e-9, 1e-5, -1e-3, np.nan, 1.0], dtype=np.float32)
    decibel = to_db(to_power(stored, "power"))
    assert list(decibel[:4]) == [SAR_FLOOR_DB] * 4
    assert np.isnan(decibel[4]) and decibel[5] == 0
    negative = np.array([-2.0], dtype=np.float32)
    assert to_db(to_power(negative, "amplitude"))[0] == SAR_FLOOR_DB
    assert decibel.dtype == np.float32


def test_details_are_as_declared() -> None:
    properties = {
        "card4l:noise_removal_applied": True,
        "card4l:speckle_filtering": {"type": "Lee", "window_size_col": 5},
        "card4l:incidence_angle_near_range": 30.1,
        "card4l:incidence_angle_far_range": 45.9,
    }
    details = sar_details(sar(properties=properties)[1])
    assert details == {
        "noise_removed": True,
        "speckle_filter": "Lee",
        "incidence": "30.1-45.9 degrees",
    }
    assert sar_details(sar()[1])["noise_removed"] is None


# --- which asset --------------------------------------------------------------------------------


def test_assets_are_found_under_the_keys_of_either_big_catalog() -> None:
    _, ref = make_scene(key="B04", collection="sentinel-2-l2a", asset=STAC_1_0)
    assert (ref.key, ref.fields["scale"]) == ("B04", 0.0001)


def test_a_missing_band_is_named() -> None:
    scene, _ = make_scene()
    with pytest.raises(LoadError, match="no band 'nir'"):
        assets_of(scene, "nir")
