"""Tiny catalogs of single products, with the fields that public catalogs give to theirs.

All lie around one point of California: 64 x 64 px of 30 or 10 m, 200 x 200 px of 0.6 m. Every
band is one value, with a cloud over its western quarter and a pond of the next column.
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

EAST, NORTH = 499_995.0, 4_200_015.0
"""North-west corner: as in Landsat, half a pixel of 30 m off its multiples."""
SURFACE = {
    "coastal": 0.05, "blue": 0.06, "green": 0.08, "red": 0.10, "rededge1": 0.15, "rededge2": 0.20,
    "rededge3": 0.25, "nir": 0.30, "nir08": 0.31, "nir09": 0.29, "swir16": 0.20, "swir22": 0.12,
}  # fmt: skip
POND = 0.03
"""Its reflectance in every band but green, where it is brighter."""
DAY = "2021-06-01T18:30:00Z"
_TO_DEGREES = Transformer.from_crs(32611, 4326, always_xy=True)


def lonlat_box(west: float, south: float, east: float, north: float) -> tuple[float, ...]:
    """Metres east and south (negative) of the corner as lon/lat bounds that lie inside."""
    xs = [EAST + west, EAST + east]
    corners = [_TO_DEGREES.transform(x, NORTH + y) for x in xs for y in (south, north)]
    lons, lats = (sorted(axis) for axis in zip(*corners, strict=True))
    return lons[1], lats[1], lons[2], lats[2]


class Product:
    """One item and its files in a folder of its own."""

    def __init__(self, folder: Path, item_id: str, collection: str, **properties: Any) -> None:
        self.folder, self.assets = folder / item_id, dict[str, Any]()
        self.folder.mkdir(parents=True)
        west, south, east, north = lonlat_box(0, -1920, 1920, 0)
        ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        self.item = {
            "type": "Feature", "stac_version": "1.0.0", "id": item_id, "collection": collection,
            "bbox": [west, south, east, north], "links": [], "assets": self.assets,
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"datetime": DAY, **properties},
        }  # fmt: skip

    def add(self, key: str, values: NDArray[Any], gsd: float, epsg: int, **asset: Any) -> None:
        """An asset and its file."""
        stack = values if values.ndim == 3 else values[None]
        nodata, described = asset.pop("file_nodata", None), asset.pop("described", None)
        with rasterio.open(
            self.folder / f"{key}.tif", "w", driver="GTiff", dtype=stack.dtype.name,
            count=len(stack), height=stack.shape[1], width=stack.shape[2], crs=f"EPSG:{epsg}",
            transform=Affine(gsd, 0, EAST, 0, -gsd, NORTH), nodata=nodata, compress="deflate",
        ) as target:  # fmt: skip
            target.write(stack)
            if described is not None:
                target.update_tags(TIFFTAG_IMAGEDESCRIPTION=described)
        kind = "image/tiff; application=geotiff; profile=cloud-optimized"
        self.assets[key] = {"href": f"./{key}.tif", "type": kind, **asset}

    def save(self) -> Path:
        """Write the item."""
        path = self.folder / "item.json"
        path.write_text(json.dumps(self.item))
        return path


def write_catalog(folder: Path, *products: Product) -> Path:
    """One catalog of some products."""
    links = [{"rel": "item", "href": str(product.save())} for product in products]
    head = {"type": "Catalog", "id": "products", "description": "", "stac_version": "1.0.0"}
    path = folder / "catalog.json"
    path.write_text(json.dumps({**head, "links": links}))
    return path


def surface(band: str) -> NDArray[np.float64]:
    """Reflectance of a band, 64 x 64: a bright cloud, a pond, the surface."""
    values = np.full((64, 64), SURFACE[band])
    values[:, :16] = 0.8
    values[:, 16:24] = 0.06 if band == "green" else POND
    return values


def hls(folder: Path, kind: str, **properties: Any) -> Product:
    """``L30`` or ``S30`` of the Planetary Computer or NASA's CMR: numbers, never names."""
    numbers = {
        "L30": "coastal B01 blue B02 green B03 red B04 nir08 B05 swir16 B06 swir22 B07",
        "S30": "coastal B01 blue B02 green B03 red B04 rededge1 B05 rededge2 B06 rededge3 B07 "
        "nir B08 nir08 B8A nir09 B09 swir16 B11 swir22 B12",
    }[kind].split()
    made = Product(
        folder, f"HLS.{kind}.T11SMB.2021152T183000.v2.0", f"hls2-{kind.lower()}",
        **{"eo:cloud_cover": 24, **properties},
    )  # fmt: skip
    for band, key in zip(numbers[::2], numbers[1::2], strict=True):
        dn = np.rint(surface(band) * 10_000).astype(np.int16)
        dn[0, :] = -9999
        made.add(key, dn, 30, 32611, roles=["data"], file_nodata=-9999)
    fmask = np.full((64, 64), 0b01000000, np.uint8)
    fmask[:, :16], fmask[:, 16:24], fmask[0, :] = 0b10, 0b100000, 255
    made.add("Fmask", fmask, 30, 32611, roles=["data"])
    made.add("SZA", np.full((64, 64), 3000, np.uint16), 30, 32611, roles=["data"])
    made.add("B10", np.full((64, 64), 2500, np.int16), 30, 32611, roles=["data"])
    return made


def landsat(folder: Path, platform: str = "landsat-8", **about: Any) -> Product:
    """Collection 2 Level 2 of the Planetary Computer."""
    newer = platform in ("landsat-8", "landsat-9")
    made = Product(
        folder, f"LC08_L2SP_042034_20210601_02_T1_{platform}", "landsat-c2-l2",
        platform=platform, instruments=["oli", "tirs"] if newer else ["etm+"],
        **{"eo:cloud_cover": 24.0, "landsat:correction": "L2SP"},
    )  # fmt: skip
    declared = {"raster:bands": [{"scale": 2.75e-5, "offset": -0.2, "nodata": 0, **about}]}
    for band in (["coastal"] if newer else []) + "blue green red nir08 swir16 swir22".split():
        dn = np.rint((surface(band) + 0.2) / 2.75e-5).astype(np.uint16)
        dn[0, :] = 0
        common = [{"name": f"OLI_{band}", "common_name": band}]
        made.add(band, dn, 30, 32611, roles=["data"], **{"eo:bands": common}, **declared)
    qa = np.full((64, 64), 21824, np.uint16)  # clear, every confidence low
    qa[:, :16], qa[:, 16:24], qa[0, :] = 22280, 21952, 1  # cloud, water, fill
    made.add("qa_pixel", qa, 30, 32611, roles=["cloud", "cloud-shadow"], title="Pixel Quality")
    kelvin = {"raster:bands": [{"scale": 0.00341802, "offset": 149.0, "unit": "kelvin"}]}
    made.add("lwir11", np.full((64, 64), 44000, np.uint16), 30, 32611, roles=["data"], **kelvin)
    mark = "qa_aerosol" if newer else "cloud_qa"
    made.add(mark, np.full((64, 64), 96, np.uint8), 30, 32611, roles=["data"])
    return made


def naip(folder: Path) -> Product:
    """A picture of the Planetary Computer: one file, four bands, NAD83."""
    made = Product(
        folder, "ca_m_3711701_nw_11_060_20210601", "naip",
        **{"gsd": 0.6, "naip:year": "2021", "naip:state": "ca", "proj:epsg": 26911},
    )  # fmt: skip
    west, south, east, north = lonlat_box(0, -120, 120, 0)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    made.item["geometry"]["coordinates"] = [ring]
    dn = np.stack([np.full((200, 200), level, np.uint8) for level in (51, 102, 153, 204)])
    dn[:, 100:, :] = 0
    bands = [{"name": name, "common_name": name.lower()} for name in ("Red", "Green", "Blue")]
    bands.append({"name": "NIR", "common_name": "nir", "description": "near-infrared"})
    made.add("image", dn, 0.6, 26911, roles=["data"], title="RGBIR", **{"eo:bands": bands})
    return made


def rtc(folder: Path) -> Product:
    """Sentinel-1 RTC of the Planetary Computer, 10 m, over all of it; power 0.01 and 0.03."""
    made = Product(
        folder, "S1A_IW_GRDH_1SDV_20210602_rtc", "sentinel-1-rtc", platform="SENTINEL-1A",
        constellation="Sentinel-1",
        **{"sar:frequency_band": "C", "sar:polarizations": ["VV", "VH"], "sar:product_type": "GRD"},
    )  # fmt: skip
    made.item["properties"]["datetime"] = "2021-06-02T01:50:00Z"
    power = np.full((192, 192), 0.01, np.float32)
    power[:, 1::2] = 0.03
    for key, strength in (("vv", 1.0), ("vh", 0.2)):
        made.add(
            key,
            (power * strength).astype(np.float32),
            10,
            32611,
            roles=["data"],
            **{"raster:bands": [{"nodata": -32768}]},
        )
    return made
