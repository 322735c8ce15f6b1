from __future__ import annotations

import pytest

from earthmind_lab.bands import OPTICAL_BANDS
from earthmind_lab.errors import SearchError
from earthmind_lab.sensors import (
    SENSORS,
    boa_offset,
)


def test_the_table_is_whole():
    assert set(SENSORS) >= {
        "sentinel-2-l2a",
        "sentinel-2-l1c",
        "sentinel-1-grd",
        "sentinel-1-rtc",
        "sentinel-1-sigma0",
        "sar-sigma0",
        "sar-gamma0",
    }
    for key, sensor in SENSORS.items():
        assert sensor.key == key
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
