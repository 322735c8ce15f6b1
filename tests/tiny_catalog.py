"""A static catalog of two tiny scenes, written to a folder: one file per band, card4l fields."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

SIDE = 64
AOI = "-0.7180,38.1070,-0.7140,38.1100"
"""Inside the scenes, with west and north negative or positive as on the real Earth."""
WEST, NORTH = 699_900.0, 4_220_600.0
DATES = "2020-06-01/2020-06-05"
DRY = {"blue": 0.08, "green": 0.10, "red": 0.12, "nir": 0.30, "swir16": 0.25}
WET = {"blue": 0.06, "green": 0.08, "red": 0.05, "nir": 0.02, "swir16": 0.01}


def write_catalog(folder: Path, **sar_properties: Any) -> Path:
    """Write `catalog.json`, two items and their GeoTIFFs; `sar_properties` replace the SAR's."""
    rng = np.random.default_rng(0)
    lake = np.zeros((SIDE, SIDE), dtype=bool)
    lake[20:40, 10:50] = True
    folder.mkdir(parents=True, exist_ok=True)
    for band, dry in DRY.items():
        values = np.where(lake, WET[band], dry) + rng.normal(0, 0.004, lake.shape)
        _tiff(folder / f"{band}.tif", np.clip(values * 10_000, 1, None).astype(np.uint16))
    for band, (wet, dry) in {"vv": (-22.0, -9.0), "vh": (-28.0, -15.0)}.items():
        decibel = np.where(lake, wet, dry) + rng.normal(0, 0.5, lake.shape)
        _tiff(folder / f"{band}.tif", (10 ** (decibel / 10)).astype(np.float32))
    optical = {
        "constellation": "sentinel-2", "platform": "sentinel-2a", "eo:cloud_cover": 3.0,
        "instruments": ["msi"], "processing:level": "L2A", "s2:processing_baseline": "02.14",
    }  # fmt: skip
    sar = {
        "constellation": "sentinel-1", "platform": "sentinel-1a", "instruments": ["c-sar"],
        "sar:frequency_band": "C", "sar:polarizations": ["VV", "VH"],
        "sar:instrument_mode": "IW", "sar:product_type": "GRD",
        "card4l:measurement_type": "gamma0", "card4l:measurement_convention": "linear power",
        "card4l:noise_removal_applied": True,
    }  # fmt: skip
    _item(folder, "opt", "2020-06-01T10:50:00Z", tuple(DRY), optical, scale=1e-4)
    _item(folder, "sar", "2020-06-02T18:00:00Z", ("vv", "vh"), {**sar, **sar_properties})
    links = [{"rel": "item", "href": f"./{name}.json"} for name in ("opt", "sar")]
    path = folder / "catalog.json"
    path.write_text(_json({"type": "Catalog", "id": "tiny", "description": "", "links": links}))
    return path


def _item(
    folder: Path, name: str, when: str, bands: tuple[str, ...], properties: dict[str, Any],
    scale: float | None = None,
) -> None:  # fmt: skip
    about = [{"scale": scale, "offset": 0.0, "nodata": 0}] if scale else [{"nodata": "nan"}]
    assets = {
        band: {"href": f"./{band}.tif", "roles": ["data"], "gsd": 10, "raster:bands": about}
        for band in bands
    }
    west, south, east, north = -0.7200, 38.1053, -0.7126, 38.1111
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    item = {
        "type": "Feature",
        "id": name,
        "bbox": [west, south, east, north],
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"datetime": when, "license": "CC-BY-4.0", "attribution": "us", **properties},
        "assets": assets,
        "links": [],
    }
    (folder / f"{name}.json").write_text(_json(item))


def _tiff(path: Path, values: NDArray[Any]) -> None:
    with rasterio.open(
        path, "w", driver="GTiff", dtype=values.dtype.name, count=1, height=SIDE, width=SIDE,
        crs="EPSG:32630", transform=Affine(10, 0, WEST, 0, -10, NORTH), compress="deflate",
    ) as target:  # fmt: skip
        target.write(values, 1)


def _json(data: dict[str, Any]) -> str:
    return json.dumps({"stac_version": "1.0.0", **data})
