"""The pages of docs/ do what they say."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from earthmind_lab import sensors
from earthmind_lab.aoi import AOI
from earthmind_lab.data.cache_key import chip_key
from earthmind_lab.data.load import load_chip, plan_chip
from earthmind_lab.data.recognise import recognise
from earthmind_lab.data.search import search_pairs
from earthmind_lab.errors import RadiometryUnknown
from earthmind_lab.render import render
from tests.product_catalog import Product, lonlat_box, write_catalog

PAGE = Path(__file__).parents[1] / "docs" / "adding_a_sensor.md"
AOI_PORT = AOI.from_bbox(*lonlat_box(20, -80, 60, -40))


@pytest.fixture
def page():
    """The page's Python, run; its sensors are gone afterwards."""
    before, names = dict(sensors._TABLE), dict[str, object]()
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(block, names)
    yield PAGE.read_text(encoding="utf-8")
    sensors._TABLE.clear()
    sensors._TABLE.update(before)


def capella(folder, described=None, dtype=np.uint16, **declared):
    """A GEO item as Capella's open data give it, over 120 m."""
    made = Product(
        folder, "CAPELLA_C02_SM_GEO_HH", "capella-open-data", platform="capella-2",
        constellation="capella", instruments=["capella-radar-2"],
        **{"sar:frequency_band": "X", "sar:polarizations": ["HH"], "sar:product_type": "GEO"},
    )  # fmt: skip
    dn = np.full((240, 240), 200, dtype)
    dn[:, ::2], dn[0, 0] = 600, 0
    about = {"sar:polarizations": ["HH"], "raster:bands": [{"data_type": "uint16", **declared}]}
    made.add("HH", dn, 0.5, 32611, roles=["data"], described=described, **about)
    return write_catalog(folder, made)


def port(path):
    (pair,) = search_pairs(AOI_PORT, "2021-06-01", catalog=path, sensors="sar")
    return pair


SAID = json.dumps({"collect": {"image": {"scale_factor": 0.0005}}})


@pytest.mark.parametrize("where", [{"scale": 0.0005, "nodata": 0}, {"described": SAID}])
def test_capella_is_calibrated_by_its_scale_factor(page, tmp_path, where):
    pair = port(capella(tmp_path, **where))
    assert pair.sar.sensor == "capella-geo"
    chip = load_chip(pair, AOI_PORT, gsd=0.5)
    found = sorted(set(chip.band("hh").ravel().round(3).tolist()))
    wanted = [10 * np.log10((0.0005 * dn) ** 2) for dn in (200, 600)]
    assert found == pytest.approx(wanted, abs=1e-3)
    assert chip.radiometry.quantity == "sigma0"
    assert chip.radiometry.geometry == "terrain_corrected"
    assert [view.name for view in render(chip)] == ["hh"]


def test_a_chip_of_other_rules_is_another_chip(page, tmp_path):
    pair = port(capella(tmp_path, scale=0.0005))
    plan = plan_chip(pair, AOI_PORT, gsd=0.5)
    key = chip_key(plan)
    sensors.add_sensor(replace(sensors.SENSORS["capella-geo"], convention="power"))
    assert key is not None and chip_key(plan) not in (None, key)


@pytest.mark.parametrize(
    "described",
    [None, "GEO", "[]", "{}", SAID.replace("0.0005", "null"), SAID.replace("0.0005", "-1"),
     SAID.replace("0.0005", "NaN")],
)  # fmt: skip
def test_without_the_scale_factor_it_is_refused_in_the_words_of_the_page(
    page, tmp_path, described
):  # fmt: skip
    with pytest.raises(RadiometryUnknown) as refused:
        load_chip(port(capella(tmp_path, described)), AOI_PORT)
    shown = re.search(r"```text\nRadiometryUnknown: (.*?)```", page, re.DOTALL)
    assert " ".join(shown[1].split()) == str(refused.value)


def test_complex_numbers_are_refused(page, tmp_path):
    with pytest.raises(RadiometryUnknown, match="complex"):
        load_chip(port(capella(tmp_path, SAID, np.complex64)), AOI_PORT)


def test_an_x_band_product_of_which_nothing_is_known_is_refused(tmp_path):
    pair = port(capella(tmp_path))
    assert pair.sar.sensor == "sar"
    with pytest.raises(RadiometryUnknown, match="no declared meaning"):
        load_chip(pair, AOI_PORT)


def test_the_optical_example_is_recognised_by_its_collection(page):
    item = {
        "id": "o",
        "collection": "orchard-sr",
        "properties": {},
        "assets": {key: {"href": f"{key}.tif"} for key in ("b2", "b3", "b4", "quality")},
    }
    assert recognise(item) == {
        "orchard-cam": {"green": "b2", "nir": "b4", "quality": "quality", "red": "b3"}
    }
    masks_alone = {**item, "assets": {"quality": {"href": "q.tif"}}}
    assert recognise(masks_alone) == {}
