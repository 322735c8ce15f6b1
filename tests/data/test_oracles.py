"""Chips against odc-stac and rasterio on the same grid.

Equal to the bit where no resampling is due. Else within the rounding of the resampling: GDAL may
misplace a pixel between two CRSs by a small part of its width, so a value may differ by that part
of what its neighbours differ.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import odc.stac
import pystac
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.warp import reproject
from scipy.ndimage import maximum_filter, minimum_filter
from shapely.affinity import scale

from earthmind_lab.aoi import AOI
from earthmind_lab.chip import Chip
from earthmind_lab.data.catalogs import open_catalog
from earthmind_lab.data.items import scenes_of
from earthmind_lab.data.load import load_chip
from earthmind_lab.scene import Scene
from tests.benchmarks.load_scenes import CORNER, OPTICAL, SAR, ZONES, write_scenes

from .test_load import lonlat_box, make_pair

# odc-geo multiplies affines in a way that affine 3 is about to retire.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
    # and moves geometries in a way that shapely is about to retire.
    pytest.mark.filterwarnings("ignore:The .shapely.ops.transform:DeprecationWarning"),
]
PLACES = ("spain", "tanzania", "chile", "songkhram", "punjab", "finland_lake")
"""Degrees and UTM; optical at 10 and 20 m; SAR of both and of neither."""
EXACT_PX, GDAL_PX = 1e-3, 0.06
"""How far a pixel may be misplaced: interpolated ones against exact places, and where one of the
two lets GDAL interpolate places along rows (averages; odc-stac)."""


@cache
def samples() -> dict[str, Scene]:
    return {scene.id: scene for scene in open_catalog("sample").search()}


@pytest.fixture(scope="module")
def zones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scene]:
    """Twelve optical bands at 10, 20 and 60 m, and SAR in the next UTM zone."""
    folder = tmp_path_factory.mktemp("zones")
    write_scenes(folder, 240)
    paths = {name: folder / f"{name}.json" for name in ("optical", "sar")}
    return {n: scenes_of(json.loads(p.read_text()), p)[0] for n, p in paths.items()}


def odc_values(scene: Scene, band: str, chip: Chip, kernel: str) -> NDArray[np.float64]:
    """What odc-stac makes of the same item on the chip's grid, in stored numbers."""
    (item,) = scene.items
    plain = pystac.Item.from_dict(json.loads(json.dumps(item)), preserve_dict=False)
    name = Path(scene.assets[band]).name
    key = next(k for k, asset in plain.assets.items() if Path(asset.href).name == name)
    plain.assets = {key: plain.assets[key]}
    plain.assets[key].href = scene.assets[band]
    with rasterio.open(scene.assets[band]) as source:
        nodata = source.nodata
    loaded = odc.stac.load(
        [plain], bands=[key], geobox=chip.grid, dtype="float32",
        resampling="nearest" if kernel == "none" else kernel,
        nodata=np.nan if nodata is None else nodata,
    )  # fmt: skip
    values = loaded[key].values[0].astype(np.float64)
    if nodata is not None:
        values[values == nodata] = np.nan
    return values


def rasterio_values(scene: Scene, band: str, chip: Chip, kernel: str) -> NDArray[np.float64]:
    """What GDAL makes of the same file on the chip's grid, every pixel placed exactly.

    Its warped view is as exact as asked between two CRSs, and its warp of an array within one.
    """
    rows, columns = chip.grid.shape
    method = Resampling["nearest" if kernel == "none" else kernel]
    place = {"dst_crs": str(chip.grid.crs), "dst_transform": chip.grid.affine}
    with rasterio.open(scene.assets[band]) as source:
        missing = np.nan if source.nodata is None else source.nodata
        if str(source.crs) == str(chip.grid.crs):
            values = np.full((rows, columns), missing, dtype=np.float64)
            stored = source.read(1).astype(np.float64)
            about = {"src_transform": source.transform, "src_crs": source.crs}
            nodata = {"src_nodata": missing, "dst_nodata": missing}
            reproject(stored, values, resampling=method, **place, **about, **nodata)
        else:
            with WarpedVRT(
                source, crs=str(chip.grid.crs), transform=chip.grid.affine, width=columns,
                height=rows, resampling=method, tolerance=1e-6, dtype="float64", nodata=missing,
            ) as warped:  # fmt: skip
                values = warped.read(1).astype(np.float64)
    values[values == missing] = np.nan
    return values


ORACLES = {"odc-stac": odc_values, "rasterio": rasterio_values}


def check(chip: Chip, scene: Scene, oracle: str) -> dict[str, str]:
    """Compare every band of a scene in a chip; returns the kernels met."""
    met = {}
    for facts in chip.provenance["inputs"]:
        if facts["scene"] != scene.id:
            continue
        band, kernel = facts["band"], facts["resampling"]
        stored = ORACLES[oracle](scene, band, chip, kernel)
        found = chip.band(band).astype(np.float64)
        met[band] = kernel
        expected = stored * facts["scale"] + facts["offset"]
        if scene.modality == "sar":
            found, expected = 10 ** (found / 10), np.maximum(expected, 1e-5)
        if kernel == "none":
            if scene.modality == "optical":
                assert np.array_equal(found, expected.astype(np.float32), equal_nan=True), band
            else:  # through decibels and back
                np.testing.assert_allclose(found, expected, rtol=1e-5)
            continue
        exact = oracle == "rasterio" and kernel == "bilinear"
        compare(found, expected, EXACT_PX if exact else GDAL_PX, kernel, f"{scene.id} {band}")
    return met


def compare(
    found: NDArray[Any], expected: NDArray[Any], shift: float, kernel: str, name: str
) -> None:
    both = np.isfinite(found) & np.isfinite(expected)
    # Where data ends, a pixel may lie on either side.
    assert (np.isfinite(found) != np.isfinite(expected)).mean() < 0.01, name
    assert both.mean() > 0.3, name
    filled = np.where(both, expected, np.nanmean(expected))
    around = (maximum_filter(filled, 3) - minimum_filter(filled, 3))[both]
    off = np.abs(found - expected)[both] - 2e-6 - 1e-5 * np.abs(filled[both])
    # GDAL's averages jump where a pixel's border nearly meets one of the source's.
    rare = 0.001 if kernel == "average" else 0.0
    assert (off > shift * around).mean() <= rare, (name, (off / (around + 1e-9)).max())
    assert (off <= around / 3).all(), name


def inner(scene: Scene) -> AOI:
    """The middle of a scene, and a strip beyond one of its borders."""
    west, south, east, north = scale(scene.footprint, 0.5, 0.5).bounds
    return AOI.from_bbox(west, south, east + 0.35 * (east - west), north)


@pytest.mark.parametrize("oracle", ORACLES)
@pytest.mark.parametrize("gsd", [None, 30.0])
@pytest.mark.parametrize("place", PLACES)
def test_sample_scenes(place: str, gsd: float | None, oracle: str) -> None:
    held = [scene for name, scene in samples().items() if place in name]
    optical = next(scene for scene in held if scene.modality == "optical")
    sar = next((scene for scene in held if scene.modality == "sar"), None)
    chip = load_chip(make_pair(optical, sar), inner(optical), gsd=gsd)
    for scene in (optical, sar):
        if scene is not None:
            met = check(chip, scene, oracle)
            assert met and (gsd is None or set(met.values()) == {"average"})


@pytest.mark.parametrize("oracle", ORACLES)
@pytest.mark.parametrize(
    ("gsd", "kernels"),
    [
        (None, {"red": "none", "swir16": "bilinear", "coastal": "bilinear", "vv": "bilinear"}),
        (20.0, {"red": "average", "swir16": "none", "coastal": "bilinear", "vv": "average"}),
        (30.0, {"red": "average", "swir16": "average", "coastal": "bilinear", "vv": "average"}),
        (60.0, {"red": "average", "swir16": "average", "coastal": "bilinear", "vv": "average"}),
    ],
)
def test_two_zones(
    zones: Mapping[str, Scene], gsd: float | None, kernels: Mapping[str, str], oracle: str
) -> None:
    x, y = CORNER
    area = AOI(geometry=lonlat_box(ZONES["optical"], x + 305, y - 2105, x + 2095, y - 395))
    pair = make_pair(zones["optical"], zones["sar"])
    chip = load_chip(pair, area, gsd=gsd, bands=tuple(OPTICAL))
    met = check(chip, zones["optical"], oracle) | check(chip, zones["sar"], oracle)
    assert len(met) == len(OPTICAL) + len(SAR)
    assert {band: met[band] for band in kernels} == dict(kernels)


def test_the_comparison_sees_a_shift() -> None:
    """A tenth of a pixel is found."""
    place = np.arange(64)[None, :] + np.zeros((64, 1))
    compare(np.sin(place / 4), np.sin(place / 4), GDAL_PX, "bilinear", "same")
    with pytest.raises(AssertionError):
        compare(np.sin((place + 0.1) / 4), np.sin(place / 4), GDAL_PX, "average", "shifted")
