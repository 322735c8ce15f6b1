"""Small GeoTIFFs of a user's own, with and without what they should declare."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

SIDE = 24
AT = Affine(10, 0, 700_000, 0, -10, 4_220_000)
SCALE = {"optical_scale": 1e-4, "optical_offset": -0.1}
SIGMA = {"sar_quantity": "sigma0", "sar_scale": "dB"}


def raster(path: Path, values, names=()) -> Path:
    """Values as (band, y, x) on UTM zone 30."""
    values = np.asarray(values)
    with rasterio.open(
        path, "w", driver="GTiff", dtype=values.dtype, count=len(values), height=values.shape[1],
        width=values.shape[2], crs="EPSG:32630", transform=AT,
    ) as target:  # fmt: skip
        target.write(values)
        target.descriptions = names or ("",) * len(values)
    return path


def optical(path: Path, *, level=2000, names=("B2", "B3", "B4", "B8"), side=SIDE) -> Path:
    """Whole numbers that nothing makes reflectance; darker in the upper left quarter."""
    values = (
        np.full((4, side, side), level, np.uint16) + np.arange(4, dtype=np.uint16)[:, None, None]
    )
    values[:, : side // 2, : side // 2] //= 2
    return raster(path, values, names)


def sar(path: Path, *, names=("VV", "VH")) -> Path:
    """Decibels that nothing calls so."""
    values = np.random.default_rng(1).normal(-12, 2, (2, SIDE, SIDE)).astype(np.float32)
    return raster(path, values, names)
