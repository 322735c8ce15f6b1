"""An optical and a SAR scene as cloud-optimised files, for the benchmark of loading.

The shape of a Sentinel-2/Sentinel-1 pair: twelve optical bands at 10, 20 and 60 m in one UTM
zone, VV and VH in the next one, tiled, deflate-compressed, with overviews.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer

OPTICAL = {
    "coastal": 60, "blue": 10, "green": 10, "red": 10, "rededge1": 20, "rededge2": 20,
    "rededge3": 20, "nir": 10, "nir08": 20, "nir09": 60, "swir16": 20, "swir22": 20,
}  # fmt: skip
SAR = ("vv", "vh")
ZONES = {"optical": "EPSG:32736", "sar": "EPSG:32737"}
CORNER = (755_000.0, 9_640_000.0)
"""North-western corner of the optical scene, near the border of the two zones."""


def write_scenes(folder: Path, side: int) -> None:
    """Write all files and two STAC items.

    Args:
        folder: Where to.
        side: Pixels of a 10 m band; a multiple of 6.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    texture = _texture(rng, side)
    x, y = CORNER
    extent = 10.0 * side
    for number, (band, gsd) in enumerate(OPTICAL.items()):
        part = texture[:: gsd // 10, :: gsd // 10]
        noise = rng.normal(0, 60, part.shape)
        dn = np.clip(1300 + 150 * number + 900 * part + noise, 1010, 10_000).astype(np.uint16)
        place = Affine(gsd, 0, x, 0, -gsd, y)
        _write(folder / f"{band}.tif", dn, place, ZONES["optical"], predictor=2)
    change = Transformer.from_crs(ZONES["optical"], ZONES["sar"], always_xy=True)
    west, _, _, north = change.transform_bounds(x, y - extent, x + extent, y)
    for band, mean in (("vv", 0.08), ("vh", 0.015)):
        power = (mean * np.exp(0.6 * texture) * rng.gamma(4, 0.25, texture.shape)).astype("f4")
        place = Affine(10, 0, west + 3.7, 0, -10, north - 2.1)
        _write(folder / f"{band}.tif", power, place, ZONES["sar"], predictor=3, nodata=-9999)
    back = Transformer.from_crs(ZONES["optical"], "EPSG:4326", always_xy=True)
    bounds = back.transform_bounds(x, y - extent, x + extent, y)
    scaling = {"raster:bands": [{"scale": 1e-4, "offset": -0.1, "nodata": 0}]}
    about = {"constellation": "sentinel-2", "processing:level": "L2A"}
    _item(folder, "optical", bounds, tuple(OPTICAL), about, scaling)
    about = {
        "constellation": "sentinel-1",
        "card4l:measurement_type": "gamma0",
        "card4l:measurement_convention": "linear power",
    }
    _item(folder, "sar", bounds, SAR, about, {"raster:bands": [{"nodata": -9999}]})


def _texture(rng: np.random.Generator, side: int) -> NDArray[np.float32]:
    """Fields and woods: noise at several sizes, (side, side), about -2 to 2."""
    total = np.zeros((side, side), dtype=np.float32)
    for step in (256, 64, 16):
        coarse = rng.normal(0, 0.6, (-(-side // step), -(-side // step))).astype(np.float32)
        total += np.kron(coarse, np.ones((step, step), dtype=np.float32))[:side, :side]
    return total


def _write(path: Path, values: NDArray[Any], place: Affine, crs: str, **more: Any) -> None:
    rows, columns = values.shape
    with rasterio.open(
        path, "w", driver="COG", width=columns, height=rows, count=1, dtype=values.dtype, crs=crs,
        transform=place, compress="deflate", blocksize=512, num_threads=2, **more,
    ) as target:  # fmt: skip
        target.write(values, 1)


def _item(
    folder: Path,
    name: str,
    bounds: tuple[float, float, float, float],
    bands: tuple[str, ...],
    properties: dict[str, Any],
    asset: dict[str, Any],
) -> None:
    west, south, east, north = bounds
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    assets = {
        band: {"href": f"./{band}.tif", "roles": ["data"], "type": "image/tiff"} | asset
        for band in bands
    }
    item = {
        "stac_version": "1.0.0", "type": "Feature", "id": name, "bbox": bounds,
        "geometry": {"type": "Polygon", "coordinates": [ring]}, "links": [],
        "properties": {"datetime": "2024-01-31T08:10:00Z", **properties}, "assets": assets,
    }  # fmt: skip
    (folder / f"{name}.json").write_text(json.dumps(item))
