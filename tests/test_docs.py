"""The pages of docs/ do what they say."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio

from earthmind_lab import errors, sensors
from earthmind_lab.aoi import AOI
from earthmind_lab.data.cache_key import chip_key
from earthmind_lab.data.gaps import TAU_DAYS
from earthmind_lab.data.known import KNOWN
from earthmind_lab.data.load import load_chip, plan_chip
from earthmind_lab.data.looks import UNKNOWN_CLEAR
from earthmind_lab.data.own_files import open_chip
from earthmind_lab.data.penalties import PENALTIES
from earthmind_lab.data.recognise import recognise
from earthmind_lab.data.search import search_pairs
from earthmind_lab.errors import LoadError, RadiometryUnknown
from earthmind_lab.render import render
from tests.product_catalog import Product, lonlat_box, write_catalog

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "adding_a_sensor.md"
AOI_PORT = AOI.from_bbox(*lonlat_box(20, -80, 60, -40))


def blocks(text):
    """The Python of a page."""
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def page():
    """The page's Python, run; its sensors are gone afterwards."""
    before, names = dict(sensors._TABLE), dict[str, object]()
    for block in blocks(PAGE.read_text(encoding="utf-8")):
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


def test_the_worked_example_is_ten_lines():
    (call,) = re.findall(r"^add_sensor\(\n.*?^\)", PAGE.read_text(), re.DOTALL | re.MULTILINE)[:1]
    assert "capella-geo" in call and len(call.splitlines()) == 10


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


# --- docs/data.md --------------------------------------------------------------------------------

DATA = (DOCS / "data.md").read_text(encoding="utf-8")


def rows(*head: str) -> list[list[str]]:
    """Cells of the table on data.md that begins with these columns."""
    table = DATA.split(f"| {' | '.join(head)} |")[1].split("\n\n")[0]
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in table.splitlines() if line.startswith("| ")
    ]  # fmt: skip


def exported(folder, chip, scale=1e-4, offset=0.0):
    """A chip as Earth Engine exports it: DN under Sentinel-2's names, dB under VV and VH."""
    names = {"blue": "B2", "green": "B3", "red": "B4", "nir": "B8"}
    optical = np.stack([chip.band(band) for band in names])
    dn = np.where(np.isfinite(optical), (optical - offset) / scale, 0).round().astype(np.uint16)
    raster(folder / "s2.tif", dn, names.values(), chip.grid)
    raster(folder / "s1.tif", chip.sar.astype(np.float64), ("VV", "VH"), chip.grid)


def raster(path, values, names, grid):
    count, height, width = values.shape
    with rasterio.open(
        path, "w", driver="GTiff", dtype=values.dtype, count=count, height=height, width=width,
        crs=str(grid.crs), transform=grid.affine,
    ) as target:  # fmt: skip
        target.write(values)
        target.descriptions = tuple(names)


@pytest.fixture(scope="module")
def spain():
    aoi = AOI.from_bbox(-0.775, 38.09, -0.745, 38.12)
    return load_chip(search_pairs(aoi, "2019-09-15/2019-09-20", catalog="sample")[0], aoi)


# Cutting a grid in odc-geo multiplies affines the old way.
@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
def test_the_blocks_of_the_data_page_run(spain, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exported(tmp_path, spain)
    names: dict[str, object] = {}
    for block in blocks(DATA):
        exec(block, names)
    for kept in ("own", "chip"):
        assert np.allclose(names[kept].band("red"), spain.band("red"), atol=1e-4, equal_nan=True)
    assert [each.to_dict() for each in names["again"]] == [
        each.to_dict() for each in names["pairs"]
    ]


def test_the_catalogs_of_the_data_page_are_the_known_ones():
    def ticked(words):
        return ", ".join(f"`{word}`" for word in words)

    assert rows("name", "pixels", "searched") == [
        [f"`{each.name}`", each.access, ticked(each.optical + each.sar), ticked(each.more),
         ticked(each.settings)]
        for each in KNOWN
    ]  # fmt: skip


def test_the_sensors_of_the_data_page_are_those_of_the_table():
    told = rows("key", "product", "numbers become")
    for key, title, become, cloud in told:
        sensor = sensors.SENSORS[key.strip("`")]
        # GRD declares counts; its own tables make sigma0 of them.
        known = sensor.level or sensor.quantity or {"sentinel-1-grd": "sigma0"}[sensor.key]
        assert (title, become) == (sensor.title, known)
        assert cloud == (sensor.mask.band if sensor.mask else "")
    others = {key for key in sensors.SENSORS if f"`{key}`" not in DATA}
    assert others == {"sentinel-2", "sentinel-1"}  # of a level or quantity that nothing tells


def test_the_factors_of_the_data_page_are_those_of_a_score():
    told = dict(rows("factor", "is"))
    for purpose, days in TAU_DAYS.items():
        assert re.search(rf"{days:g}( day)? for (`purpose=\")?`?{purpose}", told["T"])
    for name, (factor, _) in PENALTIES.items():
        assert f"{factor:g} for" in told["Q"], name
    assert told["Q"].count(" for ") == len(PENALTIES)
    assert f"{UNKNOWN_CLEAR:g}" in told["V"]


def test_every_refusal_on_the_data_page_is_said_somewhere():
    package = Path(sensors.__file__).parent
    trees = [ast.parse(path.read_text("utf-8")) for path in package.rglob("*.py")]
    said = "\n".join(
        node.value
        for tree in trees for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )  # fmt: skip
    told = rows("what", "refused as", "says")
    assert len(told) > 10
    for _, error, words in told:
        assert issubclass(getattr(errors, error.strip("`")), errors.EarthMindError)
        phrases = re.findall(r"\*([^*]+)\*", words)
        assert phrases and [each for each in phrases if each not in said] == []


@pytest.mark.parametrize("number", range(7))
def test_what_to_pass_with_a_file_is_enough_and_not_too_much(spain, tmp_path, number):
    """Each row opens with what it says, to the chip of the catalog; and asks without it."""
    file, names, given = rows("file", "bands by name", "you pass")[number]
    words = dict(
        re.findall(r"(optical_scale|optical_offset|sar_quantity|sar_scale)=([^,`]+)", given)
    )
    told = {name: ast.literal_eval(value) for name, value in words.items()}
    optical = "optical_scale" in told
    if optical:
        exported(tmp_path, spain, told["optical_scale"], told["optical_offset"])
        source, band = tmp_path / "s2.tif", "red"
        if "Landsat" in file:
            told["bands"] = ("blue", "green", "red", "nir")
            raster(source, rasterio.open(source).read(), [""] * 4, spain.grid)
    else:
        source, band = tmp_path / "s1.tif", "vv"
        linear = told.get("sar_scale") == "power"
        values = 10 ** (spain.sar / 10) if linear else spain.sar
        first = names.split("`")[1]
        raster(source, values, (first, first.replace("VV", "VH")), spain.grid)
    made = open_chip(**{"optical" if optical else "sar": source}, aoi=spain.aoi, **told)
    assert np.allclose(made.band(band), spain.band(band), atol=1e-3, equal_nan=True)
    if told:
        with pytest.raises((RadiometryUnknown, LoadError)):
            open_chip(**{"optical" if optical else "sar": source}, aoi=spain.aoi)
