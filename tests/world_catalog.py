"""A static catalog of many places with labels, written to a folder: some wet, some dry.

Every place is a square of crops; a wet one holds a lake, which all sensors and the label map see.
A cloudy picture hides the ground from the optical sensor alone, and has a clear twin.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer

SIDE = 64
DRY = {"blue": 0.05, "green": 0.08, "red": 0.06, "nir": 0.35, "swir16": 0.2}
WET = {"blue": 0.06, "green": 0.08, "red": 0.05, "nir": 0.02, "swir16": 0.01}
CLOUD = {"blue": 0.7, "green": 0.68, "red": 0.68, "nir": 0.75, "swir16": 0.5}
LEGEND = {1: "water", 5: "crops"}
S2 = {
    "constellation": "sentinel-2", "platform": "sentinel-2a", "instruments": ["msi"],
    "processing:level": "L2A", "s2:processing_baseline": "02.14",
}  # fmt: skip
S1 = {
    "constellation": "sentinel-1", "platform": "sentinel-1a", "instruments": ["c-sar"],
    "sar:frequency_band": "C", "sar:polarizations": ["VV", "VH"], "sar:instrument_mode": "IW",
    "sar:product_type": "GRD", "card4l:measurement_type": "gamma0",
    "card4l:measurement_convention": "linear power", "card4l:noise_removal_applied": True,
}  # fmt: skip


class World:
    """A catalog that grows place by place."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.names = folder, list[str]()
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def path(self) -> Path:
        """Of the catalog, written now."""
        links = [{"rel": "item", "href": f"./{name}.json"} for name in self.names]
        path = self.folder / "catalog.json"
        head = {"stac_version": "1.0.0", "type": "Catalog", "id": "world", "description": ""}
        path.write_text(json.dumps({**head, "links": links}))
        return path

    def add(
        self,
        number: int,
        lake: NDArray[np.bool_] | None,
        *,
        cloud: NDArray[np.bool_] | None = None,
        labels: bool = True,
    ) -> None:
        """A place, some 10 km from the one before: both sensors, and a map of its ground."""
        wet = np.zeros((SIDE, SIDE), bool) if lake is None else lake
        self.optical(f"opt{number}", number, wet, "2020-06-01T10:50:00Z")
        if cloud is not None:
            self.optical(f"hid{number}", number, wet, "2020-06-06T10:50:00Z", cloud)
        rng = np.random.default_rng(number)
        radar = {}
        for band, (low, high) in {"vv": (-22.0, -9.0), "vh": (-28.0, -15.0)}.items():
            decibel = np.where(wet, low, high) + rng.normal(0, 0.3, wet.shape)
            radar[band] = (10 ** (decibel / 10)).astype(np.float32)
        self.item(f"sar{number}", number, "2020-06-04T18:00:00Z", radar, S1, "s1")
        if labels:
            self.map(f"map{number}", number, np.where(wet, 1, 5).astype(np.uint8))

    def optical(
        self, name: str, number: int, wet: NDArray[np.bool_], when: str,
        cloud: NDArray[np.bool_] | None = None, **properties: Any,
    ) -> None:  # fmt: skip
        """An optical picture of a place, with its cloud mask."""
        hidden = np.zeros_like(wet) if cloud is None else cloud
        rng = np.random.default_rng(number)  # no two places look the same
        bands = {}
        for band, dry in DRY.items():
            ground = np.where(hidden, CLOUD[band], np.where(wet, WET[band], dry))
            bands[band] = ((ground + rng.uniform(0, 0.004, wet.shape)) * 10_000).astype(np.uint16)
        cover = {"eo:cloud_cover": round(100 * float(hidden.mean()), 2)}
        said = {**S2, **cover, **properties}
        self.item(name, number, when, bands, said, "s2", cloud=hidden)

    def map(self, name: str, number: int, codes: NDArray[Any], **properties: Any) -> None:
        """A label map of a place."""
        classes = [{"value": code, "name": word} for code, word in LEGEND.items()]
        more = {"classification:classes": classes}
        self.item(name, number, "2020-01-01T00:00:00Z", {"data": codes}, properties, "maps", **more)

    def item(
        self, name: str, number: int, when: str, bands: dict[str, NDArray[Any]],
        properties: dict[str, Any], collection: str, *, cloud: NDArray[np.bool_] | None = None,
        **asset: Any,
    ) -> None:  # fmt: skip
        """An item with one file per band."""
        scale = [{"scale": 1e-4, "offset": 0.0, "nodata": 0}]
        assets: dict[str, Any] = {}
        for band, values in bands.items():
            _tiff(self.folder / f"{name}_{band}.tif", number, values)
            about = scale if collection == "s2" else []
            assets[band] = {
                "href": f"./{name}_{band}.tif", "roles": ["data"], "gsd": 10, **asset,
                **({"raster:bands": about} if about else {}),
            }  # fmt: skip
        if cloud is not None:
            _tiff(self.folder / f"{name}_cloud.tif", number, cloud.astype(np.uint8))
            assets["cloud"] = {"href": f"./{name}_cloud.tif", "roles": ["data", "cloud"]}
        self.put(name, number, collection, {"datetime": when, **properties}, assets)

    def put(
        self, name: str, number: int, collection: str, properties: dict[str, Any],
        assets: dict[str, Any],
    ) -> None:  # fmt: skip
        """An item as it stands."""
        item = {
            "stac_version": "1.0.0", "type": "Feature", "id": name, "collection": collection,
            "geometry": {"type": "Polygon", "coordinates": [outline(number)]}, "links": [],
            "properties": {"license": "CC0-1.0", "attribution": "us", **properties},
            "assets": assets,
        }  # fmt: skip
        (self.folder / f"{name}.json").write_text(json.dumps(item))
        self.names.append(name)


def origin(number: int) -> tuple[float, float]:
    """West and north of a place, metres in UTM 30N."""
    return 600_000.0 + 10_000 * (number % 10), 4_300_000.0 - 10_000 * (number // 10)


def outline(number: int) -> list[Sequence[float]]:
    """The ring of a place in lon/lat."""
    west, north = origin(number)
    east, south = west + 10 * SIDE, north - 10 * SIDE
    to_lonlat = Transformer.from_crs("EPSG:32630", "EPSG:4326", always_xy=True)
    corners = [(west, south), (east, south), (east, north), (west, north), (west, south)]
    return [to_lonlat.transform(*corner) for corner in corners]


def lake(rows: tuple[int, int], columns: tuple[int, int]) -> NDArray[np.bool_]:
    """(SIDE, SIDE) True in a rectangle."""
    mask = np.zeros((SIDE, SIDE), bool)
    mask[slice(*rows), slice(*columns)] = True
    return mask


def _tiff(path: Path, number: int, values: NDArray[Any]) -> None:
    west, north = origin(number)
    with rasterio.open(
        path, "w", driver="GTiff", dtype=values.dtype.name, count=1, height=SIDE, width=SIDE,
        crs="EPSG:32630", transform=Affine(10, 0, west, 0, -10, north), compress="deflate",
    ) as target:  # fmt: skip
        target.write(values, 1)
