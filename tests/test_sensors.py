from __future__ import annotations

from dataclasses import replace

import pytest

from earthmind_lab import sensors
from earthmind_lab.bands import OPTICAL_BANDS, Band
from earthmind_lab.errors import SearchError
from earthmind_lab.sensors import SENSORS, Sensor, add_sensor, boa_offset


def test_the_table_is_whole():
    assert set(SENSORS) >= {
        "sentinel-2-l2a",
        "sentinel-2-l1c",
        "sentinel-1-grd",
        "sentinel-1-rtc",
        "sentinel-1-sigma0",
        "hls-l30",
        "hls-s30",
        "landsat-c2-l2",
        "naip",
        "sar-sigma0",
        "sar-gamma0",
    }
    for key, sensor in SENSORS.items():
        assert sensor.key == key
        assert sensor.collections == tuple(map(str.lower, sensor.collections))
        assert sensor.mask is None or sensor.band(sensor.mask.band)
        assert len({band.name for band in sensor.bands}) == len(sensor.bands)
    assert SENSORS["sentinel-2-l2a"].level == "SR"
    assert SENSORS["sentinel-2-l1c"].level == "TOA"
    assert SENSORS["sentinel-2-l2a"].offset is None  # depends on the baseline
    assert SENSORS["sentinel-1-grd"].geometry == "ellipsoid"
    assert SENSORS["sar"].quantity is None


def test_wavelengths_rise_from_coastal_to_swir():
    lengths = [band.wavelength_nm for band in OPTICAL_BANDS if band.wavelength_nm]
    assert lengths == sorted(lengths)
    assert len(lengths) == 13


def test_a_band_that_is_not_there():
    with pytest.raises(SearchError, match="no band 'tir'"):
        SENSORS["sentinel-2-l2a"].band("tir")


@pytest.mark.parametrize(
    ("baseline", "offset"),
    [
        ("02.14", 0.0),
        ("03.01", 0.0),
        ("04.00", -0.1),
        ("05.10", -0.1),
        ("99.99", None),
        (None, None),
        ("", None),
        ("5", None),
        ("N0214", None),
    ],
)
def test_offset_of_a_baseline(baseline, offset):
    assert boa_offset(baseline) == offset


def test_band_numbers_are_each_sensor_s_own():
    held = {key: SENSORS[key].words for key in ("hls-l30", "hls-s30", "landsat-c2-l2-tm")}
    assert {key: words["b5"] for key, words in held.items()} == {
        "hls-l30": "nir08",
        "hls-s30": "rededge1",
        "landsat-c2-l2-tm": "swir16",
    }
    assert SENSORS["landsat-c2-l2"].words["srb2"] == "blue"
    assert SENSORS["landsat-c2-l2-tm"].words["srb2"] == "green"
    assert not {"b10", "b11", "lwir11"} & set(held["hls-l30"])


def test_native_gsd():
    found = {
        key: SENSORS[key].gsd for key in ("sentinel-2-l2a", "hls-s30", "landsat-c2-l2", "naip")
    }
    assert list(found.values()) == [10, 30, 30, 0.6]


CAMERA = Sensor(
    key="camera",
    title="Camera",
    modality="optical",
    bands=(Band(name="red", gsd=1.0),),
    names=("flyer-?",),
)


@pytest.fixture
def table():
    before = dict(sensors._TABLE)
    yield SENSORS
    sensors._TABLE.clear()
    sensors._TABLE.update(before)


def test_a_sensor_is_added_and_replaced_by_its_key(table):
    assert add_sensor(CAMERA) is CAMERA and table["camera"] is CAMERA
    better = replace(CAMERA, title="Better camera")
    add_sensor(better)
    assert table["camera"].title == "Better camera"
    assert better.is_named(["flyer1"]) and not better.is_named(["flyer12", "a-flyer1"])
    with pytest.raises(TypeError):
        table["camera"] = CAMERA


def test_a_sensor_in_short(table):
    """Names and GSD give the usual bands; what isn't said follows from key and bands."""
    radar = add_sensor(key="x-band", bands={"hh": 0.5}, names=("x*",))
    assert (radar.title, radar.modality, radar.gsd) == ("x-band", "sar", 0.5)
    assert "gamma0hh" in radar.bands[0].aliases
    eye = add_sensor(key="eye", bands={"red": 3, "hh": 3, "odd": 4}, names=("eye",), title="An eye")
    assert (eye.title, eye.modality, table["eye"]) == ("An eye", "optical", eye)
    assert [band.wavelength_nm for band in eye.bands] == [665.0, None, None]
    other = add_sensor(eye, key="eye-2", nodata=0)
    assert (other.bands, other.nodata, table["eye"].nodata) == (eye.bands, 0, None)
    with pytest.raises(TypeError, match="quantitty"):
        add_sensor(key="y-band", bands={"hh": 1}, names=("y*",), quantitty="sigma0")
    with pytest.raises(SearchError, match="bands none"):
        add_sensor(key="y-band", bands={}, names=("y*",))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"key": "sentinel-2-l2a"}, "there is one of this key"),
        ({"key": "My Camera"}, "lower-case"),
        ({"key": ""}, "lower-case"),
        ({"bands": ()}, "bands none"),
        ({"bands": CAMERA.bands * 2}, "bands red, red"),
        ({"names": ()}, "nothing tells its items"),
        ({"modality": "sar", "quantity": "sigma0"}, "both its quantity and its convention"),
        ({"modality": "sar", "convention": "power"}, "both its quantity and its convention"),
    ],
)
def test_a_sensor_that_says_too_little_is_refused(table, wrong, message):
    before = dict(table)
    with pytest.raises(SearchError, match=message):
        add_sensor(replace(CAMERA, **wrong))
    assert dict(table) == before
