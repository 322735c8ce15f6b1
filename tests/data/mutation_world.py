"""A real pair as a catalog of files that tests may spoil: one witness at a time.

Sentinel-2 and Sentinel-1 of a river in Chile, cut to a shape that isn't square, on the scenes'
own grid; everything about them (pixels, headers, items) agrees until something is changed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

from earthmind_lab.aoi import AOI
from earthmind_lab.data.catalogs import open_catalog

ROWS, COLUMNS = 160, 200
OPTICAL = ("blue", "green", "red", "nir", "swir16")
SAR = ("vv", "vh")
CRS = "EPSG:32718"
AREA = AOI.from_bbox(-72.4880, -38.8345, -72.4740, -38.8240, name="river")
DATES = "2020-04-05/2020-04-15"
PLAIN = {"driver": "GTiff", "count": 1, "compress": "deflate", "tiled": True,
         "blockxsize": 64, "blockysize": 64}  # fmt: skip


@dataclass
class World:
    """The files of the pair and what may be changed about them."""

    folder: Path
    pixels: dict[str, NDArray[Any]]
    """By band; (y, x) stored numbers."""
    headers: dict[str, dict[str, Any]]
    """By band; what rasterio.open takes, and ``description``."""
    items: dict[str, dict[str, Any]]
    """``optical`` and ``sar``."""
    after: list[Callable[[], object]] = field(default_factory=list)
    """What is done to the files once they are written."""

    def path(self, band: str) -> Path:
        """The file of a band."""
        return self.folder / f"{band}.tif"

    def asset(self, band: str) -> dict[str, Any]:
        """The asset of a band."""
        item = self.items["sar" if band in SAR else "optical"]
        return item["assets"][band]

    def properties(self, kind: str) -> dict[str, Any]:
        """Properties of an item."""
        return self.items[kind]["properties"]

    def forget_place(self, kind: str) -> None:
        """Take every ``proj:`` field out of an item: then its outline is all that places it."""
        for holder in (self.items[kind]["properties"], *self.items[kind]["assets"].values()):
            for name in [name for name in holder if name.startswith("proj:")]:
                del holder[name]
        for asset in self.items[kind]["assets"].values():
            for band in asset["raster:bands"]:
                band.pop("spatial_resolution", None)

    def write(self) -> Path:
        """Write all of it; the path of the catalog."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for band, values in self.pixels.items():
            header = dict(self.headers[band])
            description = header.pop("description", None)
            rows, columns = values.shape
            with rasterio.open(
                self.path(band), "w", height=rows, width=columns, dtype=values.dtype, **header
            ) as target:
                target.write(values, 1)
                if description:
                    target.set_band_description(1, description)
        for kind, item in self.items.items():
            (self.folder / f"{kind}.json").write_text(json.dumps(item))
        links = [{"rel": "item", "href": f"./{kind}.json"} for kind in self.items]
        catalog = {"type": "Catalog", "stac_version": "1.0.0", "id": "spoilt", "description": "",
                   "links": links}  # fmt: skip
        path = self.folder / "catalog.json"
        path.write_text(json.dumps(catalog))
        for change in self.after:
            change()
        return path


def make_world(folder: Path) -> World:
    """The pair as it is, nothing spoilt."""
    scenes = [s for s in open_catalog("sample").search() if "chile" in s.id]
    by_kind = {scene.modality: scene for scene in scenes}
    items = {kind: json.loads(json.dumps(scene.items[0])) for kind, scene in by_kind.items()}
    pixels, headers = {}, {}
    for kind, bands in (("optical", OPTICAL), ("sar", SAR)):
        assets = {}
        for band in bands:
            with rasterio.open(by_kind[kind].assets[band]) as source:
                step = round(source.transform.a / 10)
                pixels[band] = source.read(1)[: ROWS // step, : COLUMNS // step]
                headers[band] = {
                    **PLAIN, "crs": CRS, "transform": source.transform,
                    "nodata": source.nodata, "description": band.upper(),
                }  # fmt: skip
            asset = items[kind]["assets"][band]
            assets[band] = {
                **{k: v for k, v in asset.items() if not k.startswith("file:")},
                "href": f"./{band}.tif",
                "proj:shape": list(pixels[band].shape),
                "proj:transform": list(headers[band]["transform"])[:6],
            }
        items[kind]["assets"] = assets
        items[kind]["links"] = []
        for name in ("proj:shape", "proj:transform", "proj:bbox"):
            items[kind]["properties"].pop(name, None)
    # The numbers carry the offset, as those of this baseline do.
    items["optical"]["properties"]["s2:processing_baseline"] = "05.10"
    outline = _outline(headers["red"]["transform"])
    for item in items.values():
        item["geometry"], item["bbox"] = outline, _bbox(outline)
    return World(folder=folder, pixels=pixels, headers=headers, items=items)


def shifted(transform: Affine, columns: float, rows: float) -> Affine:
    """A transform some pixels further."""
    return transform @ Affine.translation(columns, rows)


def _outline(transform: Affine) -> dict[str, Any]:
    from pyproj import Transformer

    corners = [(0, 0), (0, ROWS), (COLUMNS, ROWS), (COLUMNS, 0), (0, 0)]
    points = np.array([transform @ corner for corner in corners])
    lon, lat = Transformer.from_crs(CRS, 4326, always_xy=True).transform(*points.T)
    ring = [[float(x), float(y)] for x, y in zip(lon, lat, strict=True)]
    return {"type": "Polygon", "coordinates": [ring]}


def _bbox(outline: dict[str, Any]) -> list[float]:
    points = np.array(outline["coordinates"][0])
    return [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]
