"""Sentinel-1 GRD as chips: what was on the ground, where it was, or refused with the reason."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.warp import Resampling, reproject
from scipy.ndimage import binary_erosion

from earthmind_lab.chip import Chip
from earthmind_lab.data import borders, resample
from earthmind_lab.data.access import Access
from earthmind_lab.data.files import Files, Reader
from earthmind_lab.data.load import load_chip, plan_chip
from earthmind_lab.errors import (
    AccessDenied,
    AssetUnavailable,
    EarthMindError,
    GridMismatch,
    NotTerrainCorrected,
    RadiometryUnknown,
)
from earthmind_lab.grid import placeless
from earthmind_lab.scene import Scene
from tests.grd_product import (
    CRS,
    HEIGHT,
    MIDDLE,
    TIE_LINES,
    WHEN,
    WIDTH,
    Product,
    aoi_at,
    pair_of,
    scene_of,
    sigma_nought,
)
from tests.range_server import serve

HERE = aoi_at(-500, -400, 500, 400)
ALL = aoi_at(-2300, -1900, 2300, 1900)
BOMB = '<!DOCTYPE a [<!ENTITY b "lol"><!ENTITY c "&b;&b;&b;&b;">]>'
ALIEN = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]>'


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks per chip, as large chips have."""
    monkeypatch.setattr(resample, "BLOCK", 64)


def load(scene: Scene, aoi: Any = HERE, **more: Any) -> Chip:
    return load_chip(pair_of(scene), aoi, **more)


def refused(kind: type[EarthMindError], scene: Scene, **more: Any) -> str:
    with pytest.raises(kind) as error:
        load(scene, **more)
    assert type(error.value) is kind and error.value.change
    return f"{error.value} {error.value.found} {error.value.change}"


def swap(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return change


def targets(places: Any) -> Callable[[Any, Any], Any]:
    """Bright spots of 20 m on dark ground."""

    def ground(x: Any, y: Any) -> Any:
        spots = (np.exp(-((x - e) ** 2 + (y - n) ** 2) / 800) for e, n in places)
        return 0.01 + sum(spots)

    return ground


def waves(x: Any, y: Any) -> Any:
    """Smooth backscatter that differs everywhere."""
    return 0.1 + 0.05 * np.sin((x - MIDDLE[0]) / 150) * np.cos((y - MIDDLE[1]) / 110)


def centres(chip: Chip) -> tuple[Any, Any]:
    columns, rows = np.meshgrid(*(np.arange(side) + 0.5 for side in chip.grid.shape[::-1]))
    a = chip.grid.affine
    return a.c + columns * a.a, a.f + rows * a.e


def power(chip: Chip, band: str = "vv") -> Any:
    return 10 ** (chip.band(band).astype(float) / 10)


@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize(("generation", "ipf"), [("new", "003.10"), ("old", "002.84")])
def test_backscatter_is_the_ground_s(
    tmp_path: Path, generation: str, ipf: str, ascending: bool
) -> None:
    product = Product(generation=generation, ipf=ipf, ascending=ascending)
    chip = load(product.write(tmp_path, ("vv", "vh")))
    assert chip.polarisations == ("vv", "vh")
    assert np.allclose(chip.sar, -10, atol=0.02)  # a count is 0.01 dB
    said = chip.radiometry
    assert (said.quantity, said.geometry, said.noise_removed) == ("sigma0", "ellipsoid", True)
    near, far = (float(each) for each in said.incidence.removesuffix(" degrees").split("-"))
    assert 30 < near < far < 46 and far - near == pytest.approx(16 * 107 / WIDTH, abs=1)
    assert said.residual_shift_px == 0 and "tie points" in said.residual_shift_note
    facts = chip.provenance["inputs"][0]
    assert [table["kind"] for table in facts["tables"]] == ["calibration", "noise", "product"]
    assert all(len(table["sha256"]) == 64 for table in facts["tables"])
    assert (facts["resampling"], facts["nodata"]) == ("bilinear", [0.0])
    json.dumps(chip.provenance)


PLACES = [(-300.0, 200.0), (433.0, -317.0), (12.0, 7.0), (-1650.0, -900.0), (1700.0, 950.0)]
"""Metres from the middle; the last two lie some pixels from a corner of the scene."""


@pytest.mark.parametrize("placed_by", ["both", "points in the file", "annotation"])
@pytest.mark.parametrize("ascending", [True, False])
def test_targets_lie_where_they_are(tmp_path: Path, ascending: bool, placed_by: str) -> None:
    product = Product(ascending=ascending, gcps=placed_by != "annotation")
    spots = [(MIDDLE[0] + east, MIDDLE[1] + north) for east, north in PLACES]
    edge = product.place(np.array([2.0, 150, HEIGHT - 4]), np.array([200.0, 3, WIDTH - 3]))
    spots += list(zip(*edge, strict=True))
    product = replace(product, ground=targets(spots))
    if placed_by == "points in the file":
        product = replace(product, edit={"product": lambda _text: None})
    chip = load(product.write(tmp_path), ALL)
    x, y = centres(chip)
    shine = np.nan_to_num(power(chip)) - 0.01
    for east, north in spots:
        near = (np.abs(x - east) < 80) & (np.abs(y - north) < 80) & (shine > 0.1)
        # A spot cut by the edge has no centre of mass, so its height is fitted where it is seen.
        fit = np.stack([x[near] - east, y[near] - north, np.ones(near.sum())], axis=1)
        radius = (x[near] - east) ** 2 + (y[near] - north) ** 2
        slope = np.linalg.lstsq(fit, np.log(shine[near]) + radius / 840, rcond=None)[0]
        assert np.hypot(*(slope[:2] * 420)) / 10 < 0.1
        assert near.sum() > 15


@pytest.mark.parametrize("ascending", [True, False])
def test_placement_agrees_with_gdal_s_spline(tmp_path: Path, ascending: bool) -> None:
    """GDAL's thin plate through the same points, moved to the centres that they mean."""
    product = Product(ascending=ascending, ground=waves)
    scene = product.write(tmp_path)
    chip = load(scene, aoi_at(-1400, -900, 1400, 900))
    with rasterio.open(scene.assets["vv"]) as source:
        points, crs = source.gcps
        counts = source.read(1)
    for point in points:
        point.row, point.col = point.row + 0.5, point.col + 0.5
    line, pixel = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    squared = (counts.astype(float) ** 2 - product.noise(line, pixel)) / sigma_nought(
        line, pixel
    ) ** 2
    expected = np.zeros(chip.grid.shape, dtype=np.float32)
    with placeless():
        reproject(
            squared.astype(np.float32), expected, gcps=points, src_crs=crs,
            dst_transform=chip.grid.affine, dst_crs=CRS, resampling=Resampling.bilinear,
            MAX_GCP_ORDER=-1, tolerance=0,
        )  # fmt: skip
    apart = np.abs(power(chip) - expected)
    # The steepest wave changes by 0.0033 a pixel.
    assert apart.max() < 0.1 * 0.0033 + 0.0004


def test_points_that_mean_centres_place_the_same(tmp_path: Path) -> None:
    """GDAL moves the points of a raster that says Point by half a pixel; we take that back."""
    scene = Product(ground=waves, edit={"product": lambda _text: None}).write(tmp_path)
    before = load(scene)
    with rasterio.open(scene.assets["vv"]) as source:
        profile, (points, crs), tags = source.profile, source.gcps, source.tags()
        counts = source.read(1)
    for point in points:  # GDAL adds half a pixel when it writes them, too
        point.row, point.col = point.row - 0.5, point.col - 0.5
    del profile["transform"], profile["crs"]
    with rasterio.open(scene.assets["vv"], "w", **profile, gcps=points, crs=crs) as target:
        target.update_tags(**tags | {"AREA_OR_POINT": "Point"})
        target.write(counts, 1)
    with rasterio.open(scene.assets["vv"]) as source:
        assert source.gcps[0][0].row == 0.5
    assert np.array_equal(load(scene).sar, before.sar)


@pytest.mark.parametrize("gsd", [10.0, 25.0, 60.0])
def test_values_never_depend_on_how_the_aoi_is_cut(tmp_path: Path, gsd: float) -> None:
    scene = Product(ground=waves, border=30).write(tmp_path)
    whole = load(scene, ALL, gsd=gsd)
    for west, south, east, north in (
        (-500, -400, 500, 400),
        (-1801, -37, -803, 655),
        (5, 5, 95, 95),
    ):
        part = load(scene, aoi_at(west, south, east, north), gsd=gsd)
        a, b = whole.grid.affine, part.grid.affine
        row, column = round((a.f - b.f) / gsd), round((b.c - a.c) / gsd)
        rows, columns = part.grid.shape
        same = whole.sar[:, row : row + rows, column : column + columns]
        assert np.array_equal(part.sar, same, equal_nan=True)


def test_coarser_pixels_are_averages_of_power(tmp_path: Path) -> None:
    def dots(x: Any, y: Any) -> Any:
        return np.where((np.floor(x / 40) + np.floor(y / 40)) % 2 == 0, 0.5, 0.02)

    scene = Product(ground=dots).write(tmp_path)
    chip = load(scene, gsd=80.0)
    assert chip.provenance["resampling"] == {"vv": "average"}
    assert np.allclose(power(chip), 0.26, rtol=0.1)  # the mean of dB would be 0.1
    assert plan_chip(pair_of(scene), HERE, gsd=80.0).bytes <= WIDTH * HEIGHT * 2


def test_averages_lie_where_they_are_and_end_by_majority(tmp_path: Path) -> None:
    chip = load(Product(ground=waves, border=60).write(tmp_path), ALL, gsd=40.0)
    x, y = centres(chip)
    steps = (np.arange(20) + 0.5) * 2 - 20
    expected = np.mean([waves(x + east, y + north) for east in steps for north in steps], axis=0)
    away = np.abs(power(chip) - expected)[chip.valid_sar]
    # An average that starts at the pixel's corner, 2.5 m off, is off by 0.0004 on average.
    assert away.mean() < 0.0001
    seen = chip.valid_sar.sum() * 1600 / ((WIDTH - 60) * HEIGHT * 100)
    assert 0.985 < seen < 1.015


def test_border_is_nodata_and_denoised_zeros_are_data(tmp_path: Path) -> None:
    def lake(x: Any, y: Any) -> Any:
        return np.where(np.hypot(x - MIDDLE[0], y - MIDDLE[1]) < 250, -0.002, 0.1)

    chip = load(Product(ground=lake, border=60).write(tmp_path), ALL)
    x, y = centres(chip)
    away = np.hypot(x - MIDDLE[0], y - MIDDLE[1])
    assert (chip.band("vv")[away < 220] == -50).all()
    assert np.allclose(chip.band("vv")[(away > 280) & chip.valid_sar], -10, atol=0.02)
    floor = chip.provenance["inputs"][0]["pixels_at_floor"]
    assert 0.9 < floor * 100 / (np.pi * 250**2) < 1.1
    whole = load(Product(ground=lake).write(tmp_path / "whole"), ALL)
    assert 0.99 < (whole.valid_sar.sum() - chip.valid_sar.sum()) / (60 * HEIGHT) < 1.01
    assert np.isnan(chip.sar[:, ~chip.valid_sar]).all()


def noisy(folder: Path, border: int, bands: tuple[str, ...] = ("vv",)) -> Scene:
    """A scene with eight pixels of faint counts after its border, and as faint a lake."""
    scene = Product(ground=waves, border=border).write(folder, bands)
    for href in scene.assets.values():
        with rasterio.open(href, "r+") as target:
            counts = target.read(1)
            counts[:, border : border + 8] = counts[100:130, 200:230] = 20
            target.write(counts, 1)
    return scene


@pytest.mark.parametrize("border", [0, 30])
def test_border_noise_of_early_products_is_nodata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, border: int
) -> None:
    late = load(noisy(tmp_path, border, ("vv", "vh")), ALL)
    monkeypatch.setattr(borders, "NOISY_UNTIL", WHEN + timedelta(days=1))
    early = load(noisy(tmp_path / "early", border, ("vv", "vh")), ALL)
    gone = (late.valid_sar & ~early.valid_sar).sum()
    assert 0.9 < gone / (8 * HEIGHT) < 1.1
    inner = binary_erosion(early.valid_sar, iterations=2)
    assert np.array_equal(early.sar[:, inner], late.sar[:, inner])
    assert (early.band("vv")[early.valid_sar] == -50).sum() > 800, "the lake stays"
    assert np.isfinite(early.band("vh")).sum() == np.isfinite(late.band("vh")).sum()
    facts = early.provenance["inputs"]
    assert "border noise" in facts[0]["decided_by"] and facts[1]["pixels_masked"] == {}
    # Neighbouring blocks read some of the counts twice.
    assert 1 <= facts[0]["pixels_masked"]["border_noise"] / (8 * HEIGHT) < 2
    part = load(noisy(tmp_path / "part", border), aoi_at(-1900, -300, -1200, 300))
    a, b = early.grid.affine, part.grid.affine
    row, column = round((a.f - b.f) / 10), round((b.c - a.c) / 10)
    rows, columns = part.grid.shape
    same = early.sar[:1, row : row + rows, column : column + columns]
    assert np.array_equal(part.sar, same, equal_nan=True)
    assert np.isnan(part.sar).any() and np.isfinite(part.sar).any()


@pytest.mark.parametrize(
    ("product", "removed"),
    [
        (Product(edit={"noise": lambda _text: None}), False),
        (Product(generation="old", ipf="002.43"), False),
        (Product(generation="old", ipf="?"), False),
        (Product(denoised=True), True),
    ],
)
def test_noise_that_can_t_or_need_not_be_removed_stays(
    tmp_path: Path, product: Product, removed: bool
) -> None:
    chip = load(product.write(tmp_path))
    assert chip.radiometry.noise_removed is removed
    assert (chip.band("vv") > -9.97).all()  # 0.1 and the noise
    assert ("not removed" in chip.provenance["inputs"][0]["decided_by"]) is not removed


def test_raw_grd_without_its_tables_is_refused(tmp_path: Path) -> None:
    scene = Product(edit=dict.fromkeys(("calibration", "noise", "product"), lambda _text: None))
    message = refused(RadiometryUnknown, scene.write(tmp_path))
    assert "calibration table is missing" in message and "schema-calibration-vv" in message


@pytest.mark.parametrize(
    ("kind", "change", "found"),
    [
        ("calibration", swap("<polarisation>VV", "<polarisation>VH"), "'vh' instead of 'vv'"),
        ("noise", swap("<polarisation>VV", "<polarisation>HH"), "'hh' instead of 'vv'"),
        ("calibration", swap("2019-09-17T03:30", "2019-09-18T03:30"), "taken 2019-09-18"),
        ("product", swap("2019-09-17T03:30", "2019-09-17T03:31"), "taken 2019-09-17T03:31"),
        ("calibration", swap(f" {WIDTH - 1}</pixel>", " 25580</pixel>"), "25580"),
        ("calibration", swap(f"<line>{HEIGHT}<", "<line>900<"), "lines 0 to 900"),
        ("calibration", swap(f"<line>{HEIGHT}<", "<line>50<"), "don't rise"),
        ("product", swap(f">{WIDTH}<", ">401<"), "401 samples"),
        ("calibration", swap("calibration>", "noise>"), "'noise' instead of 'calibration'"),
        ("calibration", swap("sigmaNought", "gamma"), "sigmaNought without numbers"),
        ("calibration", swap('count="5">1500', 'count="5">0'), "at or below 0"),
        ("calibration", swap('count="5">1500 ', 'count="5">'), "no complete vectors"),
        ("noise", swap('count="4">20000', 'count="4">many'), "noiseRangeLut without numbers"),
        ("noise", swap('count="4">20000', 'count="4">nan'), "noiseRangeLut without numbers"),
        ("noise", swap("<line>150</line>", "<line/>"), "line without numbers"),
        ("noise", swap("<firstRangeSample>0</firstRangeSample>", ""), "firstRangeSample"),
        ("noise", swap('<noiseAzimuthLut count="1">', '<noiseAzimuthLut count="2">1 '), "azimuth"),
        ("calibration", lambda text: text[: len(text) // 2], "no plain XML"),
        ("calibration", lambda _text: "no XML", "no plain XML"),
        ("calibration", swap("?>\n", f"?>\n{BOMB}"), "DTDForbidden"),
        ("noise", swap("?>\n", f"?>\n{ALIEN}"), "DTDForbidden"),
        ("product", swap("UTF-8", "klingon"), "no plain XML"),
    ],
)  # fmt: skip
def test_tables_that_are_not_the_raster_s_are_refused(
    tmp_path: Path, kind: str, change: Callable[[str], str], found: str
) -> None:
    message = refused(RadiometryUnknown, Product(edit={kind: change}).write(tmp_path))
    assert f"'schema-{kind}-vv'" in message and found in message


def test_listed_tables_must_be_there_and_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Product().write(tmp_path)
    monkeypatch.setattr("earthmind_lab.data.grd_tables.MOST", 2**10)
    assert "more than" in refused(AssetUnavailable, scene)
    monkeypatch.undo()
    for kind in ("calibration", "noise", "product"):
        href = Path(scene.items[0]["assets"][f"schema-{kind}-vv"]["href"])
        kept = href.read_bytes()
        href.unlink()
        assert f"'schema-{kind}-vv'" in refused(AssetUnavailable, scene)
        href.write_bytes(kept)
    load(scene)


def hilly(line: Any, _pixel: Any) -> Any:
    """The mean heights along the lines, as products give them: 3 m apart."""
    return 100 + 3.0 * np.searchsorted(TIE_LINES, line)


def test_uneven_ground_is_refused_and_a_coarser_gsd_admits_it(tmp_path: Path) -> None:
    scene = Product(height=hilly).write(tmp_path)
    message = refused(NotTerrainCorrected, scene)
    assert "sentinel-1-rtc" in message and "px of 10 m" in message
    gsd = float(message.rpartition("a gsd of ")[2].partition(" m")[0])
    assert refused(NotTerrainCorrected, scene, gsd=gsd - 2)
    chip = load(scene, gsd=gsd)
    # All five cells or all but one, times the root of five for means; near range is steepest.
    angle = np.radians(float(chip.radiometry.incidence.split("-")[0]))
    expected = 15 * np.sqrt(5) / np.tan(angle) / gsd
    assert chip.radiometry.residual_shift_px == pytest.approx(expected, rel=0.01)
    assert 1.5 < expected <= 2


def test_heights_of_single_points_count_as_they_are(tmp_path: Path) -> None:
    product = Product(height=lambda _line, pixel: np.where(pixel == WIDTH - 1, 40.0, 30.0))
    chip = load(product.write(tmp_path), aoi_at(700, -200, 1100, 200))
    angle = float(chip.radiometry.incidence.split("-")[0])
    shift = 10 / np.tan(np.radians(angle)) / 10
    assert chip.radiometry.residual_shift_px == pytest.approx(shift, rel=0.01)
    far = load(product.write(tmp_path), aoi_at(-1500, -200, -1300, 200))
    assert far.radiometry.residual_shift_px == 0


def test_the_worst_of_declared_and_expected_shift_counts(tmp_path: Path) -> None:
    scene = Product(height=lambda line, _pixel: 30 + line / 150).write(tmp_path)
    expected = load(scene).radiometry
    assert 0.1 < expected.residual_shift_px < 1.5
    item = scene.items[0]
    declared = {**item["properties"], "earthmind:geolocation_error_px": 1.7}
    said = load(replace(scene, items=({**item, "properties": declared},))).radiometry
    assert said.residual_shift_px == 1.7 and "declared" in said.residual_shift_note


@pytest.mark.parametrize("there", [True, False])
def test_an_interference_report_points_to_the_annotation(tmp_path: Path, there: bool) -> None:
    """Catalogs in use list ``rfi-iw-vv.xml`` as the product schema."""
    scene = Product(ground=waves).write(tmp_path)
    before = load(scene)
    assets = dict(scene.items[0]["assets"])
    report = tmp_path / "annotation" / "rfi" / "rfi-iw-vv.xml"
    report.parent.mkdir()
    report.write_text("<rfi/>")
    if not there:
        (tmp_path / "annotation" / "iw-vv.xml").unlink()
    assets["schema-product-vv"] = {"href": str(report)}
    chip = load(scene_of(assets))
    assert np.array_equal(chip.sar, before.sar)
    kinds = [table["kind"] for table in chip.provenance["inputs"][0]["tables"]]
    assert ("product" in kinds) is there
    # Without the annotation, the calibration table tells the incidence.
    said, known = (each.provenance["inputs"][0]["incidence_degrees"] for each in (chip, before))
    assert said == pytest.approx(known, abs=0.2)


def test_a_guess_that_a_storage_forbids_costs_nothing(tmp_path: Path) -> None:
    scene = Product().write(tmp_path)
    assets = dict(scene.items[0]["assets"])
    assets["schema-product-vv"] = {"href": str(tmp_path / "annotation" / "rfi" / "rfi-iw-vv.xml")}
    with serve(tmp_path, fault=lambda path, _n: "expired" if "n/iw-vv.xml" in path else None) as at:
        files = Files(Access(hosts=(at.place,)))
        chip = load(remote(scene_of(assets), tmp_path, at.url), reader=Reader(files=files))
        assert any("n/iw-vv.xml" in path for path in at.requests)
        listed = remote(scene, tmp_path, at.url)
        assert refused(AccessDenied, listed, reader=Reader(files=files))
    assert np.allclose(chip.sar, -10, atol=0.02)


def test_contradicting_places_are_refused(tmp_path: Path) -> None:
    moved = Product(edit={"product": swap("<longitude>3.9", "<longitude>3.8")})
    assert "degrees apart" in refused(GridMismatch, moved.write(tmp_path / "moved"))
    scene = Product().write(tmp_path / "whole")
    with rasterio.open(scene.assets["vv"]) as source:
        (points, crs), counts = source.gcps, source.read(1)
    for kept, rows in ((points[:-1], counts), (points, counts[:-40])):
        path = tmp_path / "vv.tif"
        with rasterio.open(path, "w", driver="GTiff", width=WIDTH, height=len(rows), count=1,
                           dtype="uint16", gcps=kept, crs=crs) as target:  # fmt: skip
            target.write(rows, 1)
        assets = dict(scene.items[0]["assets"]) | {"vv": {"href": str(path)}}
        del assets["schema-product-vv"]
        assert refused(GridMismatch, scene_of(assets))


def test_numbers_that_are_no_counts_of_the_radar_are_refused(tmp_path: Path) -> None:
    scene = Product().write(tmp_path)
    utm = {"crs": CRS, "transform": Affine(10, 0, MIDDLE[0] - 2000, 0, -10, MIDDLE[1] + 1500)}
    for dtype, found in (("float32", "float32"), ("uint16", "a raster in EPSG:32637")):
        path = tmp_path / f"{dtype}.tif"
        with rasterio.open(path, "w", driver="GTiff", width=WIDTH, height=HEIGHT, count=1,
                           dtype=dtype, **utm) as target:  # fmt: skip
            target.write(np.full((HEIGHT, WIDTH), 7, dtype), 1)
        assets = dict(scene.items[0]["assets"]) | {"vv": {"href": str(path)}}
        assert found in refused(RadiometryUnknown, scene_of(assets))


def test_nothing_that_places_it_is_refused(tmp_path: Path) -> None:
    scene = Product(gcps=False, edit={"product": lambda _text: None}).write(tmp_path)
    assert "neither" in refused(NotTerrainCorrected, scene)


def test_the_file_counts_not_a_transform_that_the_item_claims(tmp_path: Path) -> None:
    scene = Product(ground=waves).write(tmp_path)
    claims = {"proj:code": CRS, "proj:transform": [10, 0, 0, 0, -10, 0], "proj:shape": [9, 9]}
    claimed = scene_of(dict(scene.items[0]["assets"]), **claims)
    assert np.array_equal(load(claimed).sar, load(scene).sar)


def remote(scene: Scene, folder: Path, url: str, tables: str | None = None) -> Scene:
    def moved(key: str, href: str) -> str:
        return href.replace(str(folder), tables if tables and "schema" in key else url)

    assets = {k: {**a, "href": moved(k, a["href"])} for k, a in scene.items[0]["assets"].items()}
    return scene_of(assets)


def test_a_chip_over_http_is_the_chip_from_disk(tmp_path: Path) -> None:
    scene = Product(ground=waves).write(tmp_path)
    with serve(tmp_path) as server:
        files = Files(Access(hosts=(server.place,)))
        chip = load(remote(scene, tmp_path, server.url), reader=Reader(files=files))
        tables = chip.provenance["inputs"][0]["tables"]
        assert {table["href"].startswith(server.url) for table in tables} == {True}
        elsewhere = remote(scene, tmp_path, server.url, "http://10.0.0.1/secret")
        assert "EARTHMIND_HOSTS" in refused(AssetUnavailable, elsewhere, reader=Reader(files=files))
        local = remote(scene, tmp_path, server.url, "/etc")
        assert f"{server.url}/etc" in refused(AssetUnavailable, local, reader=Reader(files=files))
    before = load(scene)
    assert np.array_equal(chip.sar, before.sar)
    assert [each["sha256"] for each in tables] == [
        each["sha256"] for each in before.provenance["inputs"][0]["tables"]
    ]


def test_angles_that_no_radar_has_are_refused(tmp_path: Path) -> None:
    """With 90 degrees, any relief would seem harmless."""
    flat = Product(edit={"product": lambda text: re.sub(r"(eAngle>)[\d.]+", r"\g<1>89.9", text)})
    assert "89.9" in refused(RadiometryUnknown, flat.write(tmp_path))
