"""STAC items, collections and the root of the embedded catalog, as plain JSON.

Fields are written as Earth Search and Planetary Computer write them (STAC 1.0, ``proj:epsg``,
``raster:bands``, ``eo:bands``), paths are relative, keys sorted, so that the catalog can be
copied anywhere and comes out the same every time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rasterio.warp import transform as warp
from samples_rasters import Raster
from samples_scenes import CC_BY, CC_BY_SA, CDLA, COPERNICUS, Picture

STAC = "https://stac-extensions.github.io"
EXTENSIONS = {
    "proj": f"{STAC}/projection/v1.1.0/schema.json",
    "raster": f"{STAC}/raster/v1.1.0/schema.json",
    "file": f"{STAC}/file/v2.1.0/schema.json",
    "processing": f"{STAC}/processing/v1.1.0/schema.json",
    "eo": f"{STAC}/eo/v1.1.0/schema.json",
    "view": f"{STAC}/view/v1.0.0/schema.json",
    "sar": f"{STAC}/sar/v1.0.0/schema.json",
    "sat": f"{STAC}/sat/v1.0.0/schema.json",
    "classification": f"{STAC}/classification/v1.1.0/schema.json",
}
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
LICENCES = {
    CC_BY: "https://creativecommons.org/licenses/by/4.0/",
    CC_BY_SA: "https://creativecommons.org/licenses/by-sa/4.0/",
    CDLA: "https://cdla.dev/permissive-1-0/",
    COPERNICUS: "https://sentinels.copernicus.eu/documents/247904/690755/Sentinel_Data_Legal_Notice",
}
# Earth Search's own table: title, common name, centre and width in micrometres.
OPTICAL = {
    "blue": ("Blue (band 2)", "blue", 0.49, 0.098),
    "green": ("Green (band 3)", "green", 0.56, 0.045),
    "red": ("Red (band 4)", "red", 0.665, 0.038),
    "rededge1": ("Red edge 1 (band 5)", "rededge", 0.704, 0.019),
    "rededge2": ("Red edge 2 (band 6)", "rededge", 0.74, 0.018),
    "rededge3": ("Red edge 3 (band 7)", "rededge", 0.783, 0.028),
    "nir": ("NIR 1 (band 8)", "nir", 0.842, 0.145),
    "nir08": ("NIR 2 (band 8A)", "nir08", 0.865, 0.033),
    "swir16": ("SWIR 1 (band 11)", "swir16", 1.61, 0.143),
    "swir22": ("SWIR 2 (band 12)", "swir22", 2.19, 0.242),
}
SAR = {
    "vv": "VV: vertical transmit, vertical receive",
    "vh": "VH: vertical transmit, horizontal receive",
}
SCL = (
    "no data", "saturated or defective", "dark area", "cloud shadow", "vegetation",
    "not vegetated", "water", "unclassified", "cloud, medium probability",
    "cloud, high probability", "thin cirrus", "snow",
)  # fmt: skip
CLOUD = ("clear", "thick cloud", "thin cloud", "cloud shadow")
LAND_COVER = (
    "no data", "water", "trees", "flooded vegetation", "crops", "built area", "bare ground",
    "snow or ice", "clouds", "rangeland",
)  # fmt: skip
CLASSES = {"scl": SCL, "cloud_mask": CLOUD, "data": LAND_COVER}
TITLES = {
    "scl": "Scene classification map (SCL)",
    "cloud_mask": "Cloud mask",
    "data": "Land-cover map, may be older or younger than the picture",
}
COLLECTIONS = {
    "sentinel-2-l2a": (
        "Sentinel-2 Level-2A",
        "Surface reflectance. Digital numbers; reflectance = DN x scale + offset of raster:bands.",
    ),
    "sentinel-2-l1c": (
        "Sentinel-2 Level-1C",
        "Top-of-atmosphere reflectance. Digital numbers; reflectance = DN x scale + offset.",
    ),
    "sentinel-1-rtc": (
        "Sentinel-1 radiometrically terrain corrected",
        "gamma0 with radiometric terrain correction, linear power.",
    ),
    "sentinel-1-sigma0": (
        "Sentinel-1 calibrated sigma0",
        "sigma0 in map geometry, no radiometric terrain correction, linear power.",
    ),
    "land-cover": (
        "Land-cover maps",
        "Maps made by others; older or younger than the picture, may contradict it. Not truth.",
    ),
}


def epsg_of(raster: Raster) -> int:
    """EPSG code of the raster's CRS."""
    code = raster.crs.to_epsg()
    if code is None:
        raise ValueError(f"no EPSG code: {raster.crs}")
    return int(code)


def outline(raster: Raster) -> list[list[float]]:
    """The raster's four corners in lon/lat, counter-clockwise, closed."""
    left, bottom, right, top = raster.bounds
    xs, ys = [left, right, right, left], [bottom, bottom, top, top]
    lon, lat = warp(raster.crs, "EPSG:4326", xs, ys)
    ring = [[round(x, 7), round(y, 7)] for x, y in zip(lon, lat, strict=True)]
    return [*ring, ring[0]]


def data_asset(key: str, raster: Raster, written: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """The asset of one band.

    Args:
        key: Band or mask name.
        raster: What was written.
        written: ``proj:*`` and ``file:*`` fields of the file.
        **more: Fields that this asset adds; ``offset`` goes into ``raster:bands``.
    """
    offset = more.pop("offset", 0)
    # Degree grids of the sources are 10 m grids too, resampled.
    metres = raster.transform.a if raster.crs.is_projected else 10
    gsd = 20 if metres > 15 else 10
    band: dict[str, Any] = {"data_type": raster.data.dtype.name, "spatial_resolution": gsd}
    asset: dict[str, Any] = {"href": f"./{key}.tif", "type": COG, "gsd": gsd, "roles": ["data"]}
    if key in OPTICAL:
        title, common, centre, width = OPTICAL[key]
        asset |= {"title": f"{title} - {gsd}m", "roles": ["data", "reflectance"]}
        asset["eo:bands"] = [
            {
                "name": key, "common_name": common, "description": title,
                "center_wavelength": centre, "full_width_half_max": width,
            }
        ]  # fmt: skip
        band |= {"scale": 0.0001, "offset": offset, "nodata": 0, "unit": "1"}
    elif key in SAR:
        asset |= {"title": SAR[key], "sar:polarizations": [key.upper()]}
        asset["description"] = "Linear power (not dB), terrain corrected."
        band |= {"nodata": "nan", "unit": "linear power"}
    else:
        asset |= {"title": TITLES[key], "classification:classes": _classes(CLASSES[key])}
        asset["file:values"] = [
            {"values": [code], "summary": name} for code, name in enumerate(CLASSES[key])
        ]
        if key != "cloud_mask":
            band["nodata"] = 0
    asset["raster:bands"] = [band]
    return asset | dict(written) | more


def item(
    picture: Picture,
    raster: Raster,
    assets: Mapping[str, Any],
    properties: Mapping[str, Any],
) -> dict[str, Any]:
    """A STAC item.

    Args:
        picture: What it shows.
        raster: The finest band; gives the footprint.
        assets: Asset key to asset.
        properties: Everything known besides time and projection.
    """
    ring = outline(raster)
    lon, lat = [point[0] for point in ring], [point[1] for point in ring]
    rows, columns = raster.data.shape
    times: dict[str, Any] = {"datetime": picture.time}
    if not isinstance(picture.time, str):
        start, end = picture.time
        times = {"datetime": None, "start_datetime": start, "end_datetime": end}
    full = {
        **times, **properties,
        "proj:epsg": epsg_of(raster), "proj:shape": [rows, columns],
        "proj:transform": [float(value) for value in tuple(raster.transform)[:6]],
        "proj:bbox": list(raster.bounds),
    }  # fmt: skip
    used = {name.split(":")[0] for name in full} | {
        name.split(":")[0] for asset in assets.values() for name in asset
    }
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": picture.id,
        "stac_extensions": [url for prefix, url in EXTENSIONS.items() if prefix in used],
        "collection": picture.collection,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [min(lon), min(lat), max(lon), max(lat)],
        "properties": full, "assets": dict(assets),
        "links": [
            {"rel": "root", "href": "../../catalog.json", "type": "application/json"},
            {"rel": "parent", "href": "../collection.json", "type": "application/json"},
            {"rel": "collection", "href": "../collection.json", "type": "application/json"},
            {"rel": "license", "href": LICENCES[picture.licence], "title": picture.licence},
            {"rel": "license", "href": "./LICENSE.txt", "type": "text/plain"},
        ],
    }  # fmt: skip


def collection(name: str, items: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """A STAC collection over its items."""
    held = sorted(items, key=lambda each: str(each["id"]))
    title, description = COLLECTIONS[name]
    boxes = [each["bbox"] for each in held]
    starts = [_span(each)[0] for each in held]
    ends = [_span(each)[1] for each in held]
    licences = sorted({each["properties"]["license"] for each in held})
    whole = [min(b[0] for b in boxes), min(b[1] for b in boxes),
             max(b[2] for b in boxes), max(b[3] for b in boxes)]  # fmt: skip
    return {
        "type": "Collection", "stac_version": "1.0.0", "id": name, "title": title,
        "description": description, "stac_extensions": [],
        "license": licences[0] if len(licences) == 1 else "various",
        "extent": {
            "spatial": {"bbox": [whole, *boxes]},
            "temporal": {"interval": [[min(starts), max(ends)]]},
        },
        "summaries": {"license": licences},
        "links": [
            {"rel": "root", "href": "../catalog.json", "type": "application/json"},
            {"rel": "parent", "href": "../catalog.json", "type": "application/json"},
            *({"rel": "license", "href": LICENCES[name], "title": name} for name in licences),
            *(
                {"rel": "item", "href": f"./{each['id']}/{each['id']}.json",
                 "type": "application/geo+json"}
                for each in held
            ),
        ],
    }  # fmt: skip


def catalog(names: Iterable[str], **words: str) -> dict[str, Any]:
    """The root of the catalog.

    Args:
        names: Of its collections.
        **words: ``id``, ``title``, ``description`` of another catalog than the embedded one.
    """
    return {
        "type": "Catalog", "stac_version": "1.0.0", "id": "earthmind-samples",
        "title": "Sample scenes of earthmind_lab",
        "description": "Real Sentinel-1 and Sentinel-2 pixels of a few places, with licences; "
        "see README.md and places.json.",
        "links": [
            {"rel": "root", "href": "./catalog.json", "type": "application/json"},
            *(
                {"rel": "child", "href": f"./{name}/collection.json", "type": "application/json",
                 "title": COLLECTIONS[name][0]}
                for name in names
            ),
        ],
    } | words  # fmt: skip


def write_json(path: Path, data: Any) -> None:
    """Write JSON that comes out the same every time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _classes(names: Iterable[str]) -> list[dict[str, Any]]:
    return [
        {"value": code, "name": name.replace(",", "").replace(" ", "_"), "description": name}
        for code, name in enumerate(names)
    ]


def _span(feature: Mapping[str, Any]) -> tuple[str, str]:
    properties = feature["properties"]
    when = properties["datetime"]
    return (when, when) if when else (properties["start_datetime"], properties["end_datetime"])
