"""Which files of an item are a raster's tables, and what lies between their numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from earthmind_lab.data.assets import AssetRef, beside
from earthmind_lab.data.grd_luts import Noise, NoiseBlock, Vectors
from earthmind_lab.data.grd_tables import find_table
from earthmind_lab.errors import AssetUnavailable

PC = "https://sentinel1euwest.blob.core.windows.net/s1-grd/GRD/2024/3/25/IW/DV/S1A_F9DE/"
AWS = "s3://sentinel-s1-l1c/GRD/2024/3/25/EW/DH/S1A_411C/"
SAFE = "s3://eodata/Sentinel-1/SAR/IW_GRDH_1S/2024/03/25/S1A_F9DE.SAFE/"


def ref_of(assets: dict[str, str], band: str = "vv") -> AssetRef:
    listed = {key: {"href": href} for key, href in assets.items()}
    item = {"id": "S1", "properties": {}, "assets": listed}
    return AssetRef(
        item=item, key=band, asset=listed[band], href=assets[band], band=band, fields={}
    )


@pytest.mark.parametrize(
    ("base", "mode", "band"), [(PC, "iw", "vv"), (PC, "iw", "vh"), (AWS, "ew", "hh")]
)
def test_tables_of_catalogs_in_use_are_found(base: str, mode: str, band: str) -> None:
    """As the Planetary Computer and Earth Search list them."""
    assets = {"safe-manifest": f"{base}manifest.safe"}
    for each in ("hh", "hv", "vv", "vh"):
        assets |= {
            each: f"{base}measurement/{mode}-{each}.tiff",
            f"schema-product-{each}": f"{base}annotation/rfi/rfi-{mode}-{each}.xml",
            f"schema-noise-{each}": f"{base}annotation/calibration/noise-{mode}-{each}.xml",
            f"schema-calibration-{each}":
                f"{base}annotation/calibration/calibration-{mode}-{each}.xml",
        }  # fmt: skip
    ref = ref_of(assets, band)
    found = {kind: find_table(ref, kind) for kind in ("calibration", "noise", "product")}
    assert {kind: each and each.href for kind, each in found.items()} == {
        "calibration": f"{base}annotation/calibration/calibration-{mode}-{band}.xml",
        "noise": f"{base}annotation/calibration/noise-{mode}-{band}.xml",
        "product": f"{base}annotation/{mode}-{band}.xml",
    }


def test_tables_are_found_by_their_own_names_too() -> None:
    """As the product's own folder names them, under keys that say little."""
    name = "s1a-iw-grd-{}-20240325t055038-20240325t055103-053134-066fc4-00{}.xml"
    assets = {"vv": f"{SAFE}measurement/a.tiff", "vh": f"{SAFE}measurement/b.tiff"}
    for number, band in ((2, "vh"), (1, "vv")):
        file = name.format(band, number)
        assets |= {
            f"a{number}": f"{SAFE}annotation/{file}",
            f"b{number}": f"{SAFE}annotation/calibration/noise-{file}",
            f"c{number}": f"{SAFE}annotation/calibration/calibration-{file}",
            f"d{number}": f"{SAFE}annotation/rfi/rfi-{file}",
        }
    found = [find_table(ref_of(assets), kind) for kind in ("calibration", "noise", "product")]
    assert [each and each.key for each in found] == ["c1", "b1", "a1"]


def test_what_is_no_table_is_none() -> None:
    other = {"calibration-vh": "/a/calibration-iw-vh.xml", "thumbnail": "/a/noise-vv.png"}
    ref = ref_of({"vv": "/a/vv.tiff", "calibration-vv": "/a/calibration.pdf", **other})
    assert find_table(ref, "calibration") is None and find_table(ref, "noise") is None
    broken: dict[str, Any] = {"a": None, "b": {}, "c": {"href": 5}}
    for assets in (broken, [], None):
        odd = AssetRef(item={"assets": assets}, key="vv", asset={}, href="", band="vv", fields={})
        assert find_table(odd, "noise") is None


@pytest.mark.parametrize(
    ("raster", "stated", "table", "expected"),
    [
        ("/cat/a/vv.tiff", "vv.tiff", "cal.xml", "/cat/a/cal.xml"),
        ("/cat/a/m/vv.tiff", "./m/vv.tiff", "c/cal.xml", "/cat/a/c/cal.xml"),
        ("/cat/vv.tiff", "../vv.tiff", "../cal.xml", "/cat/cal.xml"),
        ("/cat/vv.tiff", "/cat/vv.tiff", "cal.xml", "/cat/cal.xml"),
        ("/cat/vv.tiff", "vv.tiff", "https://x.org/cal.xml", "https://x.org/cal.xml"),
        ("https://x.org/a/m/vv.tiff?k=1", "m/vv.tiff", "c/cal.xml", "https://x.org/a/c/cal.xml"),
        ("https://x.org/a/vv.tiff", "vv.tiff", "/etc/passwd", "https://x.org/etc/passwd"),
    ],
)
def test_assets_beside_resolve_like_the_raster(
    raster: str, stated: str, table: str, expected: str
) -> None:
    item = {"id": "S1", "assets": {"vv": {"href": stated}, "cal": {"href": table}}}
    ref = AssetRef(
        item=item, key="vv", asset=item["assets"]["vv"], href=raster, band="vv", fields={}
    )  # type: ignore[arg-type]
    assert beside(ref, "cal", table).href == expected


@pytest.mark.parametrize("href", ["file:///etc/passwd", "/vsicurl/x", "ftp://x.org/cal.xml"])
def test_a_remote_item_can_t_name_files_here(href: str) -> None:
    ref = ref_of({"vv": "https://x.org/vv.tiff", "cal": href})
    with pytest.raises(AssetUnavailable):
        beside(ref, "cal", href)


def vectors(lines: list[float], pixels: list[list[float]], values: list[list[float]]) -> Vectors:
    return Vectors(
        lines=np.array(lines, float),
        pixels=tuple(np.array(each, float) for each in pixels),
        values=tuple(np.array(each, float) for each in values),
    )


def test_between_vectors_of_different_pixels_all_is_linear() -> None:
    table = vectors([0, 10], [[0, 10], [0, 5, 10]], [[0, 10], [100, 105, 110]])
    found = table.at(np.array([0, 5, 10, 99]), np.array([0, 2, 10]))
    assert np.allclose(found, [[0, 2, 10], [50, 52, 60], [100, 102, 110], [100, 102, 110]])
    part = table.at(np.array([5.0]), np.array([2.0]))
    assert part.item() == 52
    single = vectors([4], [[0, 10]], [[1, 11]])
    assert single.at(np.array([0, 8]), np.array([5])).tolist() == [[6], [6]]


def test_windows_of_a_table_are_cuts_of_the_whole() -> None:
    rng = np.random.default_rng(1)
    table = vectors([-5, 7, 30, 61], [[0, 20, 49]] * 4, rng.uniform(1, 2, (4, 3)).tolist())
    whole = table.at(np.arange(60), np.arange(50))
    assert np.array_equal(table.at(np.arange(13, 40), np.arange(9, 33)), whole[13:40, 9:33])


def test_noise_along_azimuth_stays_in_its_blocks() -> None:
    block = NoiseBlock(
        line=(2, 4), pixel=(1, 2), at=np.array([2.0, 4.0]), values=np.array([1.0, 3.0])
    )
    flat = vectors([0, 9], [[0, 9]] * 2, [[2, 2]] * 2)
    found = Noise(along_range=flat, blocks=(block,)).at(np.arange(6), np.arange(4))
    expected = np.full((6, 4), 2.0)
    expected[2:5, 1:3] *= np.array([[1], [2], [3]])
    assert np.array_equal(found, expected)
