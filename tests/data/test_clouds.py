from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine
from shapely.geometry import box

from earthmind_lab.aoi import AOI
from earthmind_lab.data.clouds import clear_share, read_mask
from earthmind_lab.data.recognise import bands_of, recognise
from earthmind_lab.errors import AssetUnavailable, GridMismatch
from earthmind_lab.scene import Scene

WEST, NORTH = 10.0, 45.0
"""Corner of every raster in here; 100 pixels of 0.001° make 0.1°."""
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def from_origin(west, north, width, height):
    return Affine(width, 0, west, 0, -height, north)


def write(path, values, *, crs=4326, transform=None, **rest):
    transform = transform or from_origin(WEST, NORTH, 0.001, 0.001)
    height, width = values.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": 1}
    profile |= {"dtype": values.dtype, "crs": crs, "transform": transform}
    with rasterio.open(path, "w", **(profile | rest)) as target:
        target.write(values, 1)
    return str(path)


def scene(href, band="scl", asset=None):
    key = "scl" if band == "scl" else "cloud_mask"
    return Scene(
        id="o",
        sensor="sentinel-2-l2a",
        modality="optical",
        datetime=NOON,
        start=NOON,
        end=NOON,
        footprint=box(9, 44, 11, 46),
        assets={"red": "red.tif", band: href},
        items=({"assets": {key: {"href": href, **(asset or {})}}},),
    )


def aoi(left, top, right, bottom):
    """An AOI by pixel edges of the raster."""
    return AOI.from_bbox(
        WEST + left / 1000, NORTH - bottom / 1000, WEST + right / 1000, NORTH - top / 1000
    )


@pytest.fixture
def scl(tmp_path):
    def make(values, **rest):
        return scene(write(tmp_path / "scl.tif", np.asarray(values, np.uint8), **rest))

    return make


@pytest.mark.parametrize(
    ("value", "clear", "cloud", "observed"),
    [
        (0, 0, 0, 0),
        (1, 0, 0, 0),
        (2, 1, 0, 1),
        (3, 0, 1, 1),
        (4, 1, 0, 1),
        (5, 1, 0, 1),
        (6, 1, 0, 1),
        (7, 1, 0, 1),
        (8, 0, 1, 1),
        (9, 0, 1, 1),
        (10, 0, 1, 1),
        (11, 1, 0, 1),
        (255, 0, 0, 0),
    ],
)
def test_every_class(scl, value, clear, cloud, observed):
    shares = clear_share(scl(np.full((100, 100), value)), aoi(10, 10, 20, 20))
    assert (shares.clear, shares.cloud, shares.observed) == (clear, cloud, observed)
    assert shares.snow == (value == 11)


def test_only_the_aoi_counts(scl):
    values = np.full((100, 100), 9)
    values[20:40, 30:50] = 4
    values[20:30, 30:50] = 3
    shares = clear_share(scl(values), aoi(30, 20, 50, 40))
    assert (shares.clear, shares.cloud, shares.observed) == (0.5, 0.5, 1.0)
    assert clear_share(scl(values), aoi(30, 30, 50, 40)).clear == 1.0
    assert clear_share(scl(values), aoi(60, 60, 61, 61)).clear == 0.0


def test_outside_the_raster_is_not_observed(scl):
    clear = scl(np.full((100, 100), 4))
    assert clear_share(clear, aoi(90, 10, 110, 30)).observed == 0.5
    assert clear_share(clear, aoi(-10, -10, 10, 10)).clear == 0.25
    assert clear_share(clear, aoi(200, 10, 210, 30)).observed == 0.0
    assert clear_share(clear, aoi(-50, -50, 150, 150)).clear == pytest.approx(0.25)


def test_cloud_in_per_cent_is_of_what_was_observed(scl):
    values = np.zeros((100, 100))
    values[:, :50] = 4
    values[:, :10] = 8
    shares = clear_share(scl(values), aoi(0, 0, 100, 100))
    assert shares.cloud == pytest.approx(0.1)
    assert shares.cloud_percent == pytest.approx(20.0)
    assert clear_share(scl(values), aoi(60, 0, 70, 10)).cloud_percent is None


def test_nothing_counts_outside_the_other_footprint(scl):
    values = np.full((100, 100), 4)
    mask = read_mask(scl(values), aoi(0, 0, 100, 100))
    assert mask.shares(box(WEST, NORTH - 1, WEST + 0.05, NORTH)).clear == pytest.approx(0.5)
    assert mask.shares(box(50, 50, 51, 51)).observed == 0.0


def test_an_aoi_smaller_than_a_pixel(scl):
    values = np.full((100, 100), 9)
    values[10, 10] = 4
    assert clear_share(scl(values), aoi(10.1, 10.1, 10.2, 10.2)).clear == 1.0


def test_a_polygon_counts_pixel_centres(scl):
    from shapely.geometry import Polygon

    triangle = Polygon([(WEST, NORTH), (WEST + 0.1, NORTH), (WEST, NORTH - 0.1)])
    values = np.full((100, 100), 9)
    values[np.add.outer(np.arange(100), np.arange(100)) < 99] = 4  # centres left of the diagonal
    shares = clear_share(scl(values), AOI(geometry=triangle))
    assert shares.clear == pytest.approx(1.0, abs=0.02)


def test_a_projected_raster(tmp_path):
    values = np.full((200, 200), 4, np.uint8)
    values[:, 100:] = 8
    # UTM 32N: 500 km east is 9° E exactly.
    path = write(
        tmp_path / "utm.tif", values, crs=32632, transform=from_origin(499000, 5000000, 10, 10)
    )
    from pyproj import Transformer

    back = Transformer.from_crs(32632, 4326, always_xy=True)
    west, south = back.transform(499200, 4998400)
    east, north = back.transform(500800, 4999600)
    shares = clear_share(scene(path), AOI.from_bbox(west, south, east, north))
    assert shares.observed == 1.0
    assert shares.clear == pytest.approx(0.5, abs=0.01)


def test_a_large_aoi_is_sampled(tmp_path):
    values = np.full((3000, 3000), 4, np.uint8)
    values[:1500] = 9
    path = write(tmp_path / "large.tif", values, transform=from_origin(WEST, NORTH, 1e-4, 1e-4))
    mask = read_mask(scene(path), AOI.from_bbox(WEST, NORTH - 0.3, WEST + 0.3, NORTH))
    assert max(mask.inside.shape) <= 512
    assert mask.shares().clear == pytest.approx(0.5, abs=0.01)
    beyond = AOI.from_bbox(WEST - 0.3, NORTH - 0.3, WEST + 0.3, NORTH)
    assert clear_share(scene(path), beyond).observed == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("values", "asset", "clear", "observed"),
    [
        ([0, 1], None, 0.5, 1.0),
        ([0, 3], None, 0.5, 1.0),
        ([0, 255], None, 0.5, 1.0),
        ([10, 49, 50, 100], None, 0.5, 1.0),
        ([1, 2], {"title": "Cloud Probability"}, 1.0, 1.0),
        (
            [0, 1, 2, 3],
            {
                "classification:classes": [
                    {"value": 0, "name": "clear"},
                    {"value": 1, "name": "thick-cloud"},
                    {"value": 2, "name": "thin_cloud"},
                    {"value": 3, "name": "cloud_shadow"},
                ]
            },
            0.25,
            1.0,
        ),
        (
            [0, 1, 2, 4],
            {
                "bands": [
                    {
                        "classification:classes": [
                            {"value": 0, "description": "No data"},
                            {"value": 1, "description": "Cloud-free"},
                            {"value": 2, "description": "Not cloud"},
                            {"value": 4, "description": "Cirrus"},
                        ]
                    }
                ]
            },
            0.5,
            0.75,
        ),
        ([0, 1], {"classification:classes": "odd", "raster:bands": [5]}, 0.5, 1.0),
    ],
)
def test_cloud_masks(tmp_path, values, asset, clear, observed):
    raster = np.tile(np.asarray(values, np.uint8), (100, 100 // len(values)))
    path = write(tmp_path / "cloud.tif", raster)
    shares = clear_share(scene(path, "cloud", asset), aoi(0, 0, 100, 100))
    assert shares.clear == pytest.approx(clear)
    assert shares.observed == pytest.approx(observed)


def quality(tmp_path, values, sensor, key, dtype, asset=None, **rest):
    """A scene whose columns hold the values of its own mask, in equal shares."""
    raster = np.tile(np.asarray(values, dtype), (100, 100 // len(values)))
    href = write(tmp_path / f"{key}.tif", raster, **rest)
    item = {"assets": {key: {"href": href, **(asset or {})}, "red": {"href": "red.tif"}}}
    item["properties"] = {"platform": "landsat-8" if "s30" not in sensor else "sentinel-2b"}
    item["collection"] = {"hls-l30": "hls2-l30", "hls-s30": "hls2-s30"}.get(sensor, sensor)
    assert list(recognise(item)) == [sensor]
    band = next(band for band, held in bands_of(item).items() if held == key)
    return replace(scene(href, band), sensor=sensor, items=(item,))


@pytest.mark.parametrize("sensor", ["hls-l30", "hls-s30"])
def test_bits_of_fmask(tmp_path, sensor):
    # Clear (with aerosol bits 6-7), water, snow; cirrus, cloud, beside, shadow; fill.
    values = [0b11000000, 1 << 5, 1 << 4, 1 << 0, 1 << 1, 1 << 2, 1 << 3, 255, 0, 0]
    mask = quality(tmp_path, values, sensor, "Fmask", np.uint8)
    shares = clear_share(mask, aoi(0, 0, 100, 100))
    assert shares.clear == pytest.approx(0.5) and shares.cloud == pytest.approx(0.4)
    assert shares.observed == pytest.approx(0.9) and shares.snow == pytest.approx(0.1)


CLEAR = 1 << 6
CONFIDENCE = 0b01 << 8  # low, in each of the longer fields
QA_VALUES = [
    1, CLEAR, CLEAR | 1 << 7 | CONFIDENCE, CLEAR | 1 << 5, 1 << 1, 1 << 2, 1 << 3 | 0b11 << 8,
    1 << 4, CLEAR | 0b01 << 14, CLEAR,
]  # fmt: skip


def bitfield(offset, name, *classes, length=1):
    listed = [{"value": value, "name": each} for value, each in enumerate(classes)]
    return {"name": name, "offset": offset, "length": length, "classes": listed}


# As the Planetary Computer declares them.
BITFIELDS = [
    bitfield(0, "fill", "not_fill", "fill"),
    bitfield(1, "dilated_cloud", "not_dilated", "dilated"),
    bitfield(2, "cirrus", "not_cirrus", "cirrus"),
    bitfield(3, "cloud", "not_cloud", "cloud"),
    bitfield(4, "cloud_shadow", "not_shadow", "shadow"),
    bitfield(5, "snow", "not_snow", "snow"),
    bitfield(6, "clear", "not_clear", "clear"),
    bitfield(7, "water", "land_or_cloud", "water"),
    bitfield(8, "cloud_confidence", "not_set", "low", "medium", "high", length=2),
    bitfield(14, "cirrus_confidence", "not_set", "low", "reserved", "high", length=2),
]


@pytest.mark.parametrize(
    "asset",
    [
        None,
        {"classification:bitfields": BITFIELDS},
        {"raster:bands": [{"classification:bitfields": BITFIELDS}]},
        {"classification:bitfields": [{"length": 1, "offset": 10**9, "name": "cloud"}, 7]},
    ],
)
def test_bits_of_landsat(tmp_path, asset):
    mask = quality(tmp_path, QA_VALUES, "landsat-c2-l2", "qa_pixel", np.uint16, asset)
    shares = clear_share(mask, aoi(0, 0, 100, 100))
    assert shares.clear == pytest.approx(0.5) and shares.cloud == pytest.approx(0.4)
    assert shares.observed == pytest.approx(0.9) and shares.snow == pytest.approx(0.1)
    assert shares.cloud_percent == pytest.approx(100 * 4 / 9)


def test_bits_that_an_item_declares_outrank_the_table(tmp_path):
    moved = {"classification:bitfields": [bitfield(9, "cloud", "not_cloud", "cloud")]}
    mask = quality(tmp_path, [1 << 9, 1 << 3], "landsat-c2-l2", "qa_pixel", np.uint16, moved)
    assert clear_share(mask, aoi(0, 0, 50, 50)).clear == 0.5
    assert clear_share(mask, aoi(1, 1, 2, 2)).clear == 1.0
    # A declaration that names no cloud says nothing about it.
    mute = {"classification:bitfields": [bitfield(7, "water", "land_or_cloud", "water")]}
    mask = quality(tmp_path, [1 << 9, 1 << 3], "landsat-c2-l2", "qa_pixel", np.uint16, mute)
    assert clear_share(mask, aoi(1, 1, 2, 2)).clear == 0.0


def test_declared_snow_is_clear_and_counted(tmp_path):
    classes = [{"value": 0, "name": "clear"}, {"value": 1, "name": "snow_ice"}]
    path = write(tmp_path / "cloud.tif", np.tile(np.array([0, 1], np.uint8), (100, 50)))
    shares = clear_share(
        scene(path, "cloud", {"classification:classes": classes}), aoi(0, 0, 100, 100)
    )
    assert (shares.clear, shares.snow) == (1.0, 0.5)


def test_what_a_cloud_raster_means_does_not_depend_on_the_aoi(tmp_path):
    raster = np.full((100, 100), 2, np.uint8)
    raster[:, 90:] = 80
    path = write(tmp_path / "cloud.tif", raster)
    assert clear_share(scene(path, "cloud"), aoi(0, 0, 100, 100)).clear == pytest.approx(0.9)
    # Two per cent is no cloud either where nothing higher is inside the AOI.
    assert clear_share(scene(path, "cloud"), aoi(10, 10, 20, 20)).clear == 1.0


@pytest.mark.parametrize(
    ("values", "dtype", "asset", "clear"),
    [
        ([0, 2], np.uint8, {"raster:bands": [{"unit": "%"}]}, 1.0),
        ([0, 2], np.uint8, {"raster:bands": [{"unit": "percent"}]}, 1.0),
        ([0, 1], np.uint8, {"raster:bands": [{"unit": "1"}]}, 0.5),
        ([0.1, 0.6], np.float32, None, 0.5),
        ([0.1, 40], np.float32, None, 1.0),
    ],
)
def test_unit_and_data_type_of_a_cloud_raster(tmp_path, values, dtype, asset, clear):
    path = write(tmp_path / "cloud.tif", np.tile(np.asarray(values, dtype), (100, 50)))
    assert clear_share(scene(path, "cloud", asset), aoi(0, 0, 100, 100)).clear == clear


@pytest.mark.parametrize("band", ["scl", "cloud"])
def test_a_mask_that_names_other_files_is_refused(tmp_path, band):
    source = write(tmp_path / "secret.tif", np.full((100, 100), 4, np.uint8))
    vrt = tmp_path / "mask.vrt"
    vrt.write_text(
        '<VRTDataset rasterXSize="100" rasterYSize="100"><SRS>EPSG:4326</SRS>'
        f"<GeoTransform>{WEST}, 0.001, 0, {NORTH}, 0, -0.001</GeoTransform>"
        '<VRTRasterBand dataType="Byte" band="1"><SimpleSource><SourceFilename>'
        f"{source}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    with pytest.raises(AssetUnavailable, match=r"mask\.vrt"):
        clear_share(scene(str(vrt), band), aoi(0, 0, 10, 10))


def test_declared_nodata_of_a_cloud_mask_is_not_observed(tmp_path):
    raster = np.tile(np.array([0, 255], np.uint8), (100, 50))
    path = write(tmp_path / "cloud.tif", raster, nodata=255)
    shares = clear_share(scene(path, "cloud"), aoi(0, 0, 100, 100))
    assert (shares.clear, shares.observed) == (0.5, 0.5)


def test_a_scene_without_a_mask():
    bare = scene("x.tif", "nir")
    assert clear_share(bare, aoi(0, 0, 10, 10)) is None


def test_masks_that_cannot_be_read(tmp_path):
    area = aoi(0, 0, 10, 10)
    with pytest.raises(AssetUnavailable, match=r"gone\.tif"):
        clear_share(scene(str(tmp_path / "gone.tif")), area)
    text = tmp_path / "text.tif"
    text.write_text("not a raster")
    with pytest.raises(AssetUnavailable):
        clear_share(scene(str(text)), area)
    whole = write(tmp_path / "whole.tif", np.full((100, 100), 4, np.uint8))
    cut = tmp_path / "cut.tif"
    cut.write_bytes(Path(whole).read_bytes()[:3000])
    with pytest.raises(AssetUnavailable):
        clear_share(scene(str(cut)), aoi(0, 0, 100, 100))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_mask_without_a_place_on_the_map(tmp_path):
    with rasterio.open(
        tmp_path / "bare.tif", "w", driver="GTiff", height=9, width=9, count=1, dtype="uint8"
    ) as target:
        target.write(np.full((9, 9), 4, np.uint8), 1)
    with pytest.raises(AssetUnavailable, match="no place on the map"):
        clear_share(scene(str(tmp_path / "bare.tif")), aoi(0, 0, 10, 10))


def test_a_mask_whose_pixels_all_lie_on_one_line(tmp_path):
    flat = Affine(0.001, 0, WEST, 0.001, 0, NORTH)
    href = write(tmp_path / "flat.tif", np.full((10, 10), 4, np.uint8), transform=flat)
    with pytest.raises(GridMismatch, match="no place on the map"):
        read_mask(scene(href), aoi(0, 0, 10, 10))
