"""Which sensor an item is of, and which asset holds which band."""

from __future__ import annotations

from dataclasses import replace

import pytest

from earthmind_lab import sensors
from earthmind_lab.data.recognise import band_place, bands_of, recognise
from earthmind_lab.sensors import SENSORS

RGBN = ("red", "green", "blue", "nir")


def item(keys=(), *, collection=None, assets=None, **properties):
    assets = assets or {key: {"href": f"{key}.tif"} for key in keys}
    return {"id": "i", "collection": collection, "properties": properties, "assets": assets}


def only(found):
    (key,) = found
    return key


@pytest.mark.parametrize(
    ("asset_key", "band"),
    [
        ("B01", "coastal"),
        ("B02", "blue"),
        ("b4", "red"),
        ("B08", "nir"),
        ("B8A", "nir08"),
        ("B12", "swir22"),
        ("rededge1", "rededge1"),
        ("SCL", "scl"),
        ("cloud_mask", "cloud"),
        ("cloud", "cloud"),
        ("VV", "vv"),
        ("vh", "vh"),
        ("gamma0_VV", "vv"),
        ("hv", "hv"),
        ("B03_10m", "green"),
        ("swir16", "swir16"),
    ],
)
def test_asset_keys(asset_key, band):
    assert bands_of(item([asset_key])) == {band: asset_key}


@pytest.mark.parametrize(
    "asset_key",
    ["visual", "thumbnail", "overview", "schema-noise-vv", "B99", "lulc", "data", "aot", "wvp"],
)
def test_asset_keys_that_are_no_band(asset_key):
    assert bands_of(item([asset_key])) == {}


def test_a_finer_key_outranks_a_coarser_one():
    assert bands_of(item(["B02_60m", "B02_10m", "B02_20m"])) == {"blue": "B02_10m"}


def test_a_plain_key_outranks_a_common_name():
    red = {"href": "x.jp2", "type": "image/jp2", "eo:bands": [{"common_name": "red"}]}
    assert bands_of(item(assets={"a-jp2": red, "red": {"href": "r.tif"}})) == {"red": "red"}


def test_a_geotiff_outranks_a_jpeg2000():
    bands = [{"common_name": "red"}]
    assets = {
        "a": {"href": "x.jp2", "type": "image/jp2", "eo:bands": bands},
        "b": {"href": "x.tif", "type": "image/tiff", "eo:bands": bands},
    }
    assert bands_of(item(assets=assets)) == {"red": "b"}


@pytest.mark.parametrize(
    "asset",
    [
        {"eo:bands": [{"name": "x", "common_name": "nir"}]},
        {"eo:bands": [{"name": "B08"}]},
        {"bands": [{"name": "b", "eo:common_name": "nir"}]},
        {"bands": [{"name": "nir"}]},
        {"eo:common_name": "nir"},
    ],
)
def test_oddly_named_assets_are_known_by_their_band_in_stac_1_0_and_1_1(asset):
    assert bands_of(item(assets={"layer_7": {"href": "x.tif", **asset}})) == {"nir": "layer_7"}


def test_polarisations_of_oddly_named_assets():
    assets = {
        "a": {"href": "a.tif", "sar:polarizations": ["VV"]},
        "b": {"href": "b.tif", "bands": [{"name": "VH"}]},
        "both": {"href": "c.tif", "sar:polarizations": ["VV", "VH"]},
        "in_band": {"href": "d.tif", "bands": [{"sar:polarizations": ["HH"]}]},
        "beside": {"href": "e.tif", "bands": [{"name": "x"}], "sar:polarizations": ["HV"]},
    }
    assert bands_of(item(assets=assets)) == {"vv": "a", "vh": "b", "hh": "in_band", "hv": "beside"}


@pytest.mark.parametrize(
    ("micrometres", "band"), [(0.704, "rededge1"), (0.74, "rededge2"), (0.783, "rededge3")]
)
def test_a_red_edge_is_told_by_its_wavelength(micrometres, band):
    known = [{"common_name": "rededge", "center_wavelength": micrometres}]
    assert bands_of(item(assets={"x": {"href": "x.tif", "eo:bands": known}})) == {band: "x"}


STACK = {"href": "s.tif", "bands": [{"name": "VV"}, {"name": "VH"}, {"name": "angle"}]}


def test_a_file_of_several_bands_gives_each_of_them():
    held = item(assets={"data": STACK})
    assert bands_of(held) == {"vh": "data", "vv": "data"}
    assert band_place(held, STACK, "vv") == (1, 3)
    assert band_place(held, STACK, "vh") == (2, 3)
    common = [{"name": "x", "common_name": "nir"}, {"sar:polarizations": ["HH"]}, 5]
    assert bands_of(item(assets={"a": {"href": "a.tif", "eo:bands": common}})) == {
        "hh": "a", "nir": "a",
    }  # fmt: skip


def test_a_picture_of_the_bands_does_not_stand_in_for_them():
    colours = [{"common_name": name} for name in ("red", "green", "blue")]
    assets = {
        "picture": {"href": "p.tif", "eo:bands": colours},
        "B04": {"href": "r.tif", "eo:bands": colours[:1]},
    }
    assert bands_of(item(assets=assets)) == {"red": "B04"}
    assert bands_of(item(assets={"visual": {**assets["picture"], "roles": ["visual"]}})) == {}


def test_previews_and_metadata_files_are_no_bands():
    assets = {
        "red": {"href": "red.png", "type": "image/png", "roles": ["thumbnail"]},
        "nir": {"href": "nir.xml", "type": "application/xml"},
        "green": {"href": 5},
        "blue": "blue.tif",
    }
    assert bands_of(item(assets=assets)) == {}


def test_a_mask_may_call_itself_metadata():
    assets = {"scl": {"href": "scl.tif", "roles": ["metadata"]}}
    assert bands_of(item(assets=assets)) == {"scl": "scl"}


def test_band_numbers_of_another_satellite_are_not_sentinels():
    assert bands_of(item(["B4", "B5"], platform="landsat-8")) == {}
    assert bands_of(item(["red"], platform="landsat-8")) == {"red": "red"}
    assert bands_of(item(["B4"], platform="sentinel-2a", instruments=["multispectral"]))


@pytest.mark.parametrize(
    ("properties", "collection", "keys", "sensor"),
    [
        ({"constellation": "sentinel-2"}, "sentinel-2-l2a", RGBN, "sentinel-2-l2a"),
        ({"constellation": "sentinel-2"}, "sentinel-2-l1c", RGBN, "sentinel-2-l1c"),
        ({"platform": "Sentinel-2B"}, None, (*RGBN, "scl"), "sentinel-2-l2a"),
        ({"instruments": ["msi"]}, "my-fields", RGBN, "sentinel-2"),
        ({"platform": "S2A", "processing:level": "L1C"}, "x", RGBN, "sentinel-2-l1c"),
        ({"platform": "S2A", "s2:product_type": "S2MSI2A"}, "x", RGBN, "sentinel-2-l2a"),
        ({}, "sentinel-2-c1-l2a", RGBN, "sentinel-2-l2a"),
        ({}, None, RGBN, "optical"),
        ({}, "anything", ("B02", "B03", "B04"), "sentinel-2"),
        ({"platform": "planetscope"}, "sentinel-2-l2a", RGBN, "optical"),
        # Landsat: the product by its collection, or by files that only Level 2 has.
        ({"platform": "landsat-9"}, "landsat-c2-l2", RGBN, "landsat-c2-l2"),
        ({"platform": "LANDSAT_8"}, "landsat-c2l2-sr", RGBN, "landsat-c2-l2"),
        ({"platform": "landsat-7"}, "landsat-c2-l2", RGBN, "landsat-c2-l2-tm"),
        ({"platform": "landsat-8"}, "mine", ("red", "qa_aerosol"), "landsat-c2-l2"),
        ({"platform": "landsat-5"}, "ls5_sr", ("SR_B1", "SR_B4"), "landsat-c2-l2-tm"),
        ({"platform": "landsat-8"}, "ls8_sr", ("SR_B2", "QA_PIXEL"), "landsat-c2-l2"),
        ({"platform": "landsat-8"}, "landsat-c2-l1", (*RGBN, "qa_pixel"), "optical"),
        ({}, "landsat-c2-l2", RGBN, "optical"),  # of which Landsat? their numbers differ
        # HLS: the satellites' own names, told from their own products by Fmask.
        ({"platform": "landsat-8"}, "hls2-l30", ("B02", "Fmask"), "hls-l30"),
        ({"platform": "Landsat-9"}, None, ("B02", "Fmask"), "hls-l30"),
        ({"platform": "sentinel-2b"}, None, ("B02", "Fmask"), "hls-s30"),
        ({}, "HLSL30_2.0", ("B02", "Fmask"), "hls-l30"),
        ({}, "HLSS30_2.0", ("B02", "Fmask"), "hls-s30"),
        ({"naip:year": "2021"}, "mine", RGBN, "naip"),
        ({}, "naip", RGBN, "naip"),
    ],
)
def test_optical_products(properties, collection, keys, sensor):
    assert only(recognise(item(keys, collection=collection, **properties))) == sensor


@pytest.mark.parametrize(
    ("properties", "collection", "sensor"),
    [
        ({"constellation": "sentinel-1"}, "sentinel-1-rtc", "sentinel-1-rtc"),
        ({"platform": "SENTINEL-1A"}, "sentinel-1-grd", "sentinel-1-grd"),
        ({"instruments": ["c-sar"]}, "unheard-of", "sentinel-1"),
        ({"sar:frequency_band": "C"}, None, "sar"),
        ({}, None, "sar"),
        ({}, "sentinel-1-rtc", "sentinel-1-rtc"),
        ({"platform": "alos-2"}, "sentinel-1-rtc", "sar"),
        ({"platform": "S1A", "sar:product_type": "GRD"}, "x", "sentinel-1"),
        ({"platform": "S1A", "card4l:measurement_type": "sigma0"}, "x", "sentinel-1-sigma0"),
        ({"platform": "S1A", "card4l:measurement_type": "gamma0"}, "x", "sentinel-1-gamma0"),
        ({"card4l:measurement_type": "gamma0"}, "sentinel-1-rtc", "sentinel-1-rtc"),
        (
            {"platform": "S1A", "card4l:measurement_type": "gamma0", "card4l:specification": "NRB"},
            None,
            "sentinel-1-rtc",
        ),
        # What the item declares outranks what its collection usually holds.
        ({"platform": "S1A", "card4l:measurement_type": "sigma0"}, "sentinel-1-rtc",
         "sentinel-1-sigma0"),
        ({"platform": "S1A", "card4l:measurement_type": "beta0"}, "sentinel-1-rtc", "sentinel-1"),
        ({"sar:frequency_band": "X", "card4l:measurement_type": "sigma0"}, None, "sar-sigma0"),
    ],
)  # fmt: skip
def test_sar_products(properties, collection, sensor):
    assert only(recognise(item(["vv", "vh"], collection=collection, **properties))) == sensor


def test_opera_is_known_by_its_collection_and_numbered_keys():
    """Its items name no satellite, and CMR numbers their files."""
    found = recognise(item(["0_VV", "0_VH", "0_mask"], collection="OPERA_L2_RTC-S1_V1_1"))
    assert found == {"sentinel-1-rtc": {"vv": "0_VV", "vh": "0_VH"}}


def test_card4l_fields_of_an_asset_count():
    assets = {"vv": {"href": "vv.tif", "card4l:measurement_type": "sigma0"}}
    assert only(recognise(item(assets=assets))) == "sar-sigma0"


def test_raw_grd_is_known_by_its_calibration_files():
    keys = ["vv", "schema-calibration-vv"]
    assert only(recognise(item(keys, platform="sentinel-1a"))) == "sentinel-1-grd"


def test_labels_and_masks_alone_are_not_scenes():
    assert recognise(item(["lulc"], constellation="sentinel-2")) == {}
    assert recognise(item(["scl", "cloud"], constellation="sentinel-2")) == {}
    assert recognise(item(["data"], **{"label:type": "raster"})) == {}
    assert recognise({"id": "x"}) == {}
    assert recognise({"id": "x", "assets": []}) == {}


def test_an_item_with_both_kinds_gives_both():
    found = recognise(item(["red", "nir", "vv"]))
    assert found == {"optical": {"red": "red", "nir": "nir"}, "sar": {"vv": "vv"}}


NUMBERED = ("B02", "B04", "B05", "B07", "B8A", "B10", "B11", "Fmask", "SAA")


@pytest.mark.parametrize(
    ("platform", "bands"),
    [
        ("landsat-8", {"blue": "B02", "red": "B04", "nir08": "B05", "swir22": "B07"}),
        ("sentinel-2a", {"blue": "B02", "red": "B04", "rededge1": "B05", "rededge3": "B07",
                         "nir08": "B8A", "cirrus": "B10", "swir16": "B11"}),
        ("landsat-4", {}),  # no HLS is made of it
        (None, {}),
    ],
)  # fmt: skip
def test_one_number_is_another_band_of_another_sensor(platform, bands):
    given = {} if platform is None else {"platform": platform}
    assert bands_of(item(NUMBERED, **given)) == {**bands, "fmask": "Fmask"}


def test_thermal_bands_are_no_reflectance():
    keys = ("red", "lwir", "lwir11", "ST_B10", "trad", "emis", "qa_pixel", "qa_radsat")
    found = recognise(item(keys, platform="landsat-8", collection="landsat-c2-l2"))
    assert found == {"landsat-c2-l2": {"red": "red", "qa_pixel": "qa_pixel"}}
    assert recognise(item(["lwir11", "qa_pixel"], platform="landsat-8")) == {}


def test_one_file_of_an_aerial_picture_gives_its_bands():
    listed = [{"name": n, "common_name": n.lower()} for n in ("Red", "Green", "Blue", "NIR")]
    image = {"href": "i.tif", "roles": ["data"], "eo:bands": listed}
    made = item(assets={"image": image, "thumbnail": {"href": "t.jpg"}}, collection="naip")
    assert recognise(made) == {"naip": dict.fromkeys(("blue", "green", "nir", "red"), "image")}
    assert band_place(made, image, "nir") == (4, 4)


def test_what_users_add_outranks_what_is_here_where_both_fit(monkeypatch):
    own = replace(SENSORS["sentinel-2-l2a"], key="own-l2a")
    monkeypatch.setitem(sensors._TABLE, "own-l2a", own)
    made = item((*RGBN, "scl"), platform="sentinel-2a")
    assert only(recognise(made)) == "own-l2a"
    monkeypatch.setitem(sensors._TABLE, "own-l2a", replace(own, collections=("own",)))
    assert only(recognise(made | {"collection": "own"})) == "own-l2a"
    assert only(recognise(made | {"collection": "sentinel-2-l2a"})) == "sentinel-2-l2a"


def test_odd_types_do_not_break_recognition():
    odd = item(["red"], platform=7, instruments="msi", constellation=None)
    odd["assets"]["red"] |= {"roles": "data", "type": None, "eo:bands": "red", "bands": {}}
    assert recognise(odd) == {"optical": {"red": "red"}}
    assert recognise({"properties": None, "assets": {"vv": {"href": "vv.tif"}}}) == {
        "sar": {"vv": "vv"}
    }
