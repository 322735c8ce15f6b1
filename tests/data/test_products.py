"""Every product from a catalog to a chip: found, paired, cloud read, numbers and grid right."""

from __future__ import annotations

import numpy as np
import pytest

from earthmind_lab.aoi import AOI
from earthmind_lab.band_groups import band_groups
from earthmind_lab.baselines import water_baselines
from earthmind_lab.data.load import load_chip
from earthmind_lab.data.recognise import recognise
from earthmind_lab.data.search import search_pairs, search_scenes
from earthmind_lab.data.stretch import scene_stretch
from earthmind_lab.errors import LoadError, NoScenesFound, SearchError
from earthmind_lab.render import render
from earthmind_lab.widgets.legend import stretch_words
from tests.product_catalog import (
    EAST,
    NORTH,
    SURFACE,
    hls,
    landsat,
    lonlat_box,
    naip,
    rtc,
    surface,
    write_catalog,
)

FIELD = AOI.from_bbox(*lonlat_box(300, -1200, 1500, -300))
"""From the cloud (its rim at 480 m) over the pond (to 720 m) to dry land."""
GARDEN = AOI.from_bbox(*lonlat_box(20, -80, 60, -40))
LANDSAT = "blue green red nir08 swir16 swir22"
DATES = "2021-06-01/2021-06-02"
L30 = {"platform": "landsat-8", "instruments": ["oli", "tirs"]}
S30 = {"platform": "sentinel-2a", "instruments": ["msi"]}


def optical_of(path, aoi=FIELD, sensors="optical"):
    (pair,) = search_pairs(aoi, DATES, catalog=path, sensors=sensors, max_cloud=100)
    return pair


@pytest.mark.parametrize(
    ("make", "sensor", "bands"),
    [
        (lambda f: hls(f, "L30", **L30), "hls-l30", LANDSAT),
        (lambda f: hls(f, "L30"), "hls-l30", LANDSAT),
        (lambda f: hls(f, "S30", **S30), "hls-s30", "blue green red nir swir16 swir22"),
        (landsat, "landsat-c2-l2", LANDSAT),
        (lambda f: landsat(f, "landsat-7"), "landsat-c2-l2-tm", LANDSAT),
    ],
)  # fmt: skip
def test_thirty_metres_alone_and_with_sentinel_1(tmp_path, make, sensor, bands):
    path = write_catalog(tmp_path, make(tmp_path), rtc(tmp_path))
    (pair,) = search_pairs(FIELD, DATES, catalog=path, max_cloud=20)
    assert (pair.optical.sensor, pair.sar.sensor) == (sensor, "sentinel-1-rtc")
    assert pair.cloud_in_aoi == pytest.approx(15, abs=2)  # 180 of 1200 m
    chip = load_chip(pair, FIELD)
    assert chip.bands == tuple(bands.split())
    assert chip.gsd == pytest.approx(30, rel=1e-3) and chip.radiometry.level == "SR"
    a = chip.grid.affine
    assert ((a.c - EAST) % 30, (a.f - NORTH) % 30) == (0, 0), "a cut of the product's own lattice"
    assert chip.provenance["grid"]["lattice"] == "optical scene"
    assert {chip.provenance["resampling"][band] for band in chip.bands} == {"none"}
    for band in chip.bands:
        assert np.median(chip.band(band)) == pytest.approx(SURFACE[band], abs=2e-5)
    # 0.01 and 0.03 by turns of 10 m: three columns of 30 m average to 0.0167 or 0.0233.
    power = 10 ** (chip.band("vv") / 10)
    assert sorted(np.unique(power.round(4))) == pytest.approx([0.0167, 0.0233], abs=2e-4)
    water = water_baselines(chip)["ndwi"].mask
    pond = chip.band("red") < 0.04
    assert np.array_equal(water, pond) and 0.1 < pond.mean() < 0.3
    names = [view.name for view in render(chip)]
    assert names == ["vv_vh_ratio", "swir_nir_red", "true_colour"]


def test_the_fill_of_a_product_is_no_data(tmp_path):
    edge = AOI.from_bbox(*lonlat_box(900, -300, 1500, 60))
    for number, made in enumerate((hls(tmp_path, "S30", **S30), landsat(tmp_path))):
        path = write_catalog(tmp_path, made)
        chip = load_chip(optical_of(path, edge), edge)
        lost = np.isnan(chip.band("red"))
        assert lost[:2].all() and not lost[4:].any(), number


def test_l30_is_never_read_under_the_numbers_of_sentinel_2(tmp_path):
    made = hls(tmp_path, "L30")
    made.item["collection"] = "harmonised"  # neither satellite nor collection: a guess is refused
    assert recognise(made.item) == {}
    made.item["properties"]["platform"] = "landsat-9"
    assert recognise(made.item)["hls-l30"]["nir08"] == "B05"


def test_an_aerial_picture_is_brightness_and_no_reflectance(tmp_path):
    path = write_catalog(tmp_path, naip(tmp_path), rtc(tmp_path))
    pair = optical_of(path, GARDEN)
    assert pair.optical.sensor == "naip" and pair.cloud_in_aoi is None
    chip = load_chip(pair, GARDEN)
    assert chip.bands == ("blue", "green", "red", "nir") and chip.radiometry.level == "DN"
    assert chip.gsd == pytest.approx(0.6, rel=1e-3) and chip.grid.crs.epsg == 26911
    assert chip.band("red")[0, 0] == pytest.approx(0.2) and chip.band("nir")[0, 0] == pytest.approx(
        0.8
    )
    assert not np.isnan(chip.optical).any(), "black is a colour"
    assert "ndwi" not in water_baselines(chip)
    (view,) = render(chip, ["true_colour"])
    assert view.stretch == ((0, 1),) * 3
    assert view.image[0, 0].tolist() == [51, 102, 153], "as in the file"
    assert stretch_words(view, "DN").startswith("R red 0…1 of full brightness")
    (both,) = search_pairs(GARDEN, DATES, catalog=path)
    paired = load_chip(both, GARDEN)
    assert paired.gsd == pytest.approx(0.6, rel=1e-3)
    power = 10 ** (paired.band("vv") / 10)
    assert 0.01 <= power.min() < power.max() <= 0.03 + 1e-6


def test_another_gsd_takes_the_grid_of_the_aoi(tmp_path):
    path = write_catalog(tmp_path, landsat(tmp_path))
    for gsd, kernel in ((10.0, "bilinear"), (60.0, "average")):
        chip = load_chip(optical_of(path), FIELD, gsd=gsd)
        assert chip.grid == FIELD.grid(gsd)
        assert chip.provenance["resampling"]["red"] == kernel
        assert np.nanmedian(chip.band("red")) == pytest.approx(SURFACE["red"], abs=1e-4)


def test_an_offset_that_the_item_leaves_out_is_the_product_s(tmp_path):
    path = write_catalog(tmp_path, landsat(tmp_path, offset=None))
    chip = load_chip(optical_of(path), FIELD)
    assert chip.radiometry.offset_applied == -0.2
    assert np.median(chip.band("red")) == pytest.approx(SURFACE["red"], abs=2e-5)


def test_a_search_takes_the_sensors_it_is_asked_for(tmp_path):
    made = (landsat(tmp_path), landsat(tmp_path, "landsat-7"), hls(tmp_path, "S30", **S30))
    path = write_catalog(tmp_path, *made, rtc(tmp_path))

    def found(sensors):
        return [s.sensor for s in search_scenes(FIELD, DATES, catalog=path, sensors=sensors)]

    assert len(found("optical")) == 3
    assert found("hls-s30") == ["hls-s30"]
    assert set(found("hls-s30,landsat-c2-l2")) == {"hls-s30", "landsat-c2-l2"}
    assert set(found(["landsat-c2-l2", "sar"])) == {"landsat-c2-l2", "sentinel-1-rtc"}
    (pair,) = search_pairs(
        FIELD, DATES, catalog=path, sensors="landsat-c2-l2,sentinel-1-rtc", max_cloud=50
    )
    assert pair.optical.sensor == "landsat-c2-l2"
    with pytest.raises(NoScenesFound, match=r"holds no NAIP aerial picture scene"):
        found("naip")
    with pytest.raises(NoScenesFound, match=r"Landsat 8/9 Collection 2 Level 2 scenes on 2021"):
        search_scenes(FIELD, "2021-05-01", catalog=path, sensors="landsat-c2-l2")
    with pytest.raises(SearchError, match=r"landsat-c2-l2.*sentinel-1-grd"):
        found("landsat")


def test_the_stretch_of_a_scene_is_that_of_all_its_chips(tmp_path):
    made = landsat(tmp_path)
    path = write_catalog(tmp_path, made)
    pair = optical_of(path)
    bands = ("red", "green", "blue")
    stretch = scene_stretch(pair.optical, bands)
    for band in bands:
        whole = surface(band)[1:]  # the first row is fill
        assert stretch[band] == pytest.approx(np.percentile(whole, (2, 98)), abs=2e-5)
    dry = AOI.from_bbox(*lonlat_box(900, -1200, 1500, -300))
    one, other = (
        band_groups(load_chip(pair, aoi, bands=bands), stretch=stretch)[0] for aoi in (FIELD, dry)
    )
    assert one.stretch == other.stretch == tuple(stretch[band] for band in bands)
    assert one.image[0, -1].tolist() == other.image[0, -1].tolist()
    # Percentiles of each chip would show the same ground in two ways.
    (alone,) = band_groups(load_chip(pair, dry, bands=bands))
    assert alone.stretch != other.stretch
    with pytest.raises(LoadError, match="no band 'nir09'"):
        scene_stretch(pair.optical, ["nir09"])
