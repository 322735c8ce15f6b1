"""The embedded catalog is complete, self-contained, licensed, and says what its numbers mean."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
from rasterio.transform import Affine
from rasterio.warp import transform as warp

from earthmind_lab.data import samples
from earthmind_lab.data.samples import catalog_path, place, places
from earthmind_lab.errors import AssetUnavailable, SearchError

ROOT = catalog_path().parent
SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
LIMIT = 16_000_000


@pytest.fixture(scope="module")
def items() -> dict[str, dict]:
    found = [json.loads(path.read_text(encoding="utf-8")) for path in ROOT.glob("*/*/*.json")]
    return {item["id"]: item | {"folder": _folder(item)} for item in found}


@pytest.fixture(scope="module")
def rasters():
    """scripts/samples_rasters.py as a module."""
    spec = importlib.util.spec_from_file_location("samples_rasters", SCRIPTS / "samples_rasters.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def _folder(item: dict) -> Path:
    return ROOT / item["collection"] / item["id"]


def test_pystac_reads_the_whole_catalog_offline(items: dict[str, dict]) -> None:
    catalog = pystac.read_file(str(catalog_path()))
    found = {item.id: item for item in catalog.get_items(recursive=True)}
    assert set(found) == set(items)
    assert {child.id for child in catalog.get_children()} == {
        "sentinel-2-l2a", "sentinel-2-l1c", "sentinel-1-rtc", "sentinel-1-sigma0", "land-cover",
    }  # fmt: skip
    for item in found.values():
        assert item.get_collection().id == item.collection_id
        for asset in item.assets.values():
            assert Path(asset.get_absolute_href()).is_file()


def test_every_href_stays_inside_and_every_raster_is_listed(items: dict[str, dict]) -> None:
    listed = set()
    for item in items.values():
        for asset in item["assets"].values():
            assert asset["href"].startswith("./")
            listed.add((item["folder"] / asset["href"]).resolve())
    assert listed == {path.resolve() for path in ROOT.rglob("*.tif")}


def test_size_fits_the_budget() -> None:
    assert sum(path.stat().st_size for path in ROOT.rglob("*") if path.is_file()) <= LIMIT


def test_files_are_cogs_that_match_their_items(items: dict[str, dict]) -> None:
    for item in items.values():
        for asset in item["assets"].values():
            path = item["folder"] / asset["href"]
            content = path.read_bytes()
            assert asset["file:checksum"] == "1220" + hashlib.sha256(content).hexdigest(), path
            with rasterio.open(path) as source:
                assert source.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG", path
                assert list(source.shape) == asset["proj:shape"]
                assert list(source.transform)[:6] == pytest.approx(asset["proj:transform"])
                assert source.crs.to_epsg() == item["properties"]["proj:epsg"]
                assert source.dtypes[0] == asset["raster:bands"][0]["data_type"]


def test_footprints_are_where_the_pixels_are(items: dict[str, dict]) -> None:
    for item in items.values():
        left, bottom, right, top = item["properties"]["proj:bbox"]
        lon, lat = warp(
            f"EPSG:{item['properties']['proj:epsg']}", "EPSG:4326", [left, right], [bottom, top]
        )
        west, south, east, north = item["bbox"]
        assert min(lon) >= west - 1e-6
        assert min(lat) >= south - 1e-6
        assert max(lon) <= east + 1e-6
        assert max(lat) <= north + 1e-6


def test_every_item_carries_licence_and_attribution(items: dict[str, dict]) -> None:
    share_alike = 0
    for item in items.values():
        licence = item["properties"]["license"]
        notice = (item["folder"] / "LICENSE.txt").read_text(encoding="utf-8")
        assert f"SPDX-License-Identifier: {licence}\n" in notice
        assert item["properties"]["attribution"] in notice
        assert any(link["rel"] == "license" and "://" in link["href"] for link in item["links"])
        source = item["properties"]["earthmind:source"]["repository"]
        if source == "IBM/terramind" or "songkhram" in item["id"]:
            assert licence == "CC-BY-SA-4.0"
            share_alike += 1
    assert share_alike == 10


def test_readme_lists_every_item(items: dict[str, dict]) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for item in items.values():
        row = f"| `{item['collection']}/{item['id']}` | {item['properties']['license']} |"
        assert row in text


def test_sar_is_linear_power_with_its_meaning_declared(items: dict[str, dict]) -> None:
    kinds = {"sentinel-1-rtc": "gamma0", "sentinel-1-sigma0": "sigma0"}
    seen = 0
    for item in items.values():
        if item["collection"] not in kinds:
            continue
        seen += 1
        properties = item["properties"]
        assert properties["card4l:measurement_type"] == kinds[item["collection"]]
        assert properties["card4l:measurement_convention"] == "linear power"
        assert "terrain correction" in properties["processing:lineage"]
        with rasterio.open(item["folder"] / "vv.tif") as source:
            power = source.read(1)
        assert (power > 0).all()
        assert -15 < 10 * np.log10(np.median(power)) < -5
    assert seen == 11


def test_offset_is_declared_as_measured_and_gives_plausible_reflectance(
    items: dict[str, dict],
) -> None:
    shifted = set()
    for item in items.values():
        if not item["collection"].startswith("sentinel-2"):
            continue
        measured = item["properties"]["earthmind:offset_measurement"]["dn_offset_found"]
        band = item["assets"]["red"]["raster:bands"][0]
        assert band["offset"] == pytest.approx(-measured * band["scale"])
        if measured:
            shifted.add(item["id"])
        with rasterio.open(item["folder"] / "red.tif") as source:
            dn = source.read(1)
        darkest = np.percentile(dn[dn > 0], 0.1) * band["scale"] + band["offset"]
        # A forgotten or doubled offset moves the floor of every picture by 0.1.
        cloudy = "lazio_2018-0" in item["id"] or "finland_snow" in item["id"]
        assert -0.01 < darkest < (0.5 if cloudy else 0.085), item["id"]
    assert shifted == {"S2_L2A_chile_2020-04-08"}


def test_unknown_times_are_intervals(items: dict[str, dict]) -> None:
    for name in ("S2_L1C_spain_2019-09-18", "S2_L1C_jiangsu_2018-fall_cloudy"):
        properties = items[name]["properties"]
        assert properties["datetime"] is None
        assert properties["start_datetime"] < properties["end_datetime"]
    assert items["S2_L2A_chile_2020-04-08"]["properties"]["datetime"] == "2020-04-08T14:37:29Z"


def test_cloud_masks_are_marked_and_tell_clear_from_cloudy(items: dict[str, dict]) -> None:
    cover = {}
    for state in ("clear", "cloudy"):
        item = items[f"S2_L1C_jiangsu_2018-fall_{state}"]
        asset = item["assets"]["cloud_mask"]
        assert asset["earthmind:made_by"] == "earthmind_lab"
        assert [each["value"] for each in asset["classification:classes"]] == [0, 1, 2, 3]
        with rasterio.open(item["folder"] / asset["href"]) as source:
            cover[state] = float((source.read(1) > 0).mean())
    assert cover["clear"] == 0
    assert 0.3 < cover["cloudy"] < 0.7


def test_land_cover_holds_only_declared_classes(items: dict[str, dict]) -> None:
    item = items["LC_chile"]
    names = {c["value"]: c["name"] for c in item["assets"]["data"]["classification:classes"]}
    with rasterio.open(item["folder"] / item["assets"]["data"]["href"]) as source:
        present = set(np.unique(source.read(1)).tolist())
    assert {names[code] for code in present} == {
        "water", "trees", "flooded_vegetation", "crops", "built_area", "rangeland",
    }  # fmt: skip
    assert "contradict" in item["properties"]["earthmind:note"]


def test_punjab_declares_its_geolocation_error(items: dict[str, dict]) -> None:
    found = [item for item in items.values() if item["properties"]["earthmind:place"] == "punjab"]
    assert len(found) == 5
    assert all(item["properties"]["earthmind:geolocation_error_px"] == 4 for item in found)


def test_places_lie_inside_all_their_scenes_and_are_small(items: dict[str, dict]) -> None:
    for each in places():
        west, south, east, north = each.bbox
        assert 0 < (north - south) * 111.32 <= 3.4
        assert 0 < (east - west) * 111.32 * np.cos(np.radians(south)) <= 3.4
        scenes = [
            item for item in items.values()
            if item["properties"]["earthmind:place"] == each.name
            and item["collection"] != "land-cover"
        ]  # fmt: skip
        sensors = {"sar" if s["collection"].startswith("sentinel-1") else "optical" for s in scenes}
        assert sensors == set(each.sensors)
        for scene in scenes:
            lon, lat = [west, east, east, west], [south, south, north, north]
            xs, ys = warp("EPSG:4326", f"EPSG:{scene['properties']['proj:epsg']}", lon, lat)
            left, bottom, right, top = scene["properties"]["proj:bbox"]
            assert left < min(xs) < max(xs) < right, each.name
            assert bottom < min(ys) < max(ys) < top, each.name


def test_place_by_name() -> None:
    assert place("spain").bbox == (-0.775, 38.09, -0.745, 38.12)
    with pytest.raises(SearchError, match="There is no sample place 'atlantis'"):
        place("atlantis")


def test_damaged_list_of_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "places.json").write_text("[{}]", encoding="utf-8")
    monkeypatch.setattr(samples, "_FOLDER", tmp_path)
    places.cache_clear()
    try:
        with pytest.raises(AssetUnavailable, match="install earthmind_lab again"):
            places()
    finally:
        places.cache_clear()


def _band(rasters, values: list[int]):
    data = np.array([values], np.uint16)
    return rasters.Raster(data=data, transform=Affine.identity(), crs=None)


@pytest.mark.parametrize(
    ("floors", "found"),
    [
        ({"cirrus": 8, "blue": 1100}, 0),
        ({"cirrus": 1011, "blue": 1800}, 1000),
        ({"blue": 330, "red": 1400}, 0),
        ({"blue": 1107, "red": 1085, "nir": 1160, "swir22": 1127}, 1000),
    ],
)
def test_offset_is_measured(rasters, floors: dict[str, int], found: int) -> None:
    bands = {name: _band(rasters, [0, floor, floor, floor]) for name, floor in floors.items()}
    assert rasters.measure_offset(bands)["dn_offset_found"] == found


@pytest.mark.parametrize(
    "floors",
    [
        {"blue": 1500, "red": 1600, "nir": 2500, "swir22": 1800},  # bright: haze or offset?
        {"blue": 1100, "red": 1090},  # too few bands to share a floor
        {"cirrus": 1300, "blue": 2400},  # high cirrus or offset?
    ],
)
def test_unclear_offset_is_refused(rasters, floors: dict[str, int]) -> None:
    bands = {name: _band(rasters, [0, floor, floor]) for name, floor in floors.items()}
    with pytest.raises(rasters.OffsetUnclear):
        rasters.measure_offset(bands)


def test_linear_power_keeps_a_thousandth_of_a_decibel(rasters) -> None:
    db = np.linspace(-47, 26, 1001).reshape(7, 143)
    power = rasters.linear_power(db)
    assert power.dtype == np.float32
    assert np.abs(10 * np.log10(power.astype(np.float64)) - db).max() < 0.001
    assert np.isnan(rasters.linear_power(np.array([np.nan]))).all()


def test_repeated_pixels_are_stored_once(rasters) -> None:
    small = np.arange(6, dtype=np.uint16).reshape(2, 3)
    grid = Affine(10, 0, 500, 0, -10, 900)
    large = rasters.Raster(data=small.repeat(2, 0).repeat(2, 1), transform=grid, crs=None)
    native = rasters.at_native_size(large)
    assert np.array_equal(native.data, small)
    assert native.transform == Affine(20, 0, 500, 0, -20, 900)
    assert native.bounds == large.bounds
    odd = rasters.Raster(
        data=np.arange(16, dtype=np.uint16).reshape(4, 4), transform=grid, crs=None
    )
    assert rasters.at_native_size(odd) is odd


def test_writing_twice_gives_the_same_bytes(rasters, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = rng.integers(1, 9000, (300, 280)).astype(np.uint16)
    grid = Affine(10, 0, 600000, 0, -10, 5000000)
    band = rasters.Raster(data=data, transform=grid, crs=rasterio.crs.CRS.from_epsg(32632))
    one = rasters.write_cog(tmp_path / "one.tif", band, 0)
    two = rasters.write_cog(tmp_path / "two.tif", band, 0)
    assert one == two
    with rasterio.open(tmp_path / "one.tif") as source:
        assert np.array_equal(source.read(1), data)
        assert not source.overviews(1)
