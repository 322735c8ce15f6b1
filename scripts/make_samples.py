"""Build the embedded catalog `earthmind_lab/samples` from a folder of source data.

    python scripts/make_samples.py SRC [--out earthmind_lab/samples]

SRC holds the source files with their `manifest.json`. Running twice gives the same bytes: no
clock, no order of the file system, one thread in the compressor. The offset of every optical
picture is measured and the script stops where the pixels don't tell (`samples_rasters`).
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import samples_stac as stac
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform as warp
from samples_rasters import (
    MANTISSA_BITS,
    OffsetUnclear,
    Raster,
    at_native_size,
    cloud_beside,
    cloud_mask,
    linear_power,
    measure_offset,
    read_bands,
    write_cog,
)
from samples_scenes import BANDS_13, SPOTS, Picture, Spot, pictures

from earthmind_lab.grid import placeless

LIMIT = 16_000_000
NUMBERS = dict(
    zip(BANDS_13, "B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B10 B11 B12".split(), strict=True)
)
LARGEST = 3200.0
"""Metres: the side of a place's AOI where its scenes are larger."""


class Builder:
    """Writes items and remembers what places need.

    Args:
        source: Folder of the source data.
        out: Folder of the catalog.
    """

    def __init__(self, source: Path, out: Path) -> None:
        self.source, self.out = source, out
        manifest = json.loads((source / "manifest.json").read_text(encoding="utf-8"))
        self.manifest = {entry["path"]: entry for entry in manifest["files"]}
        self.created = f"{manifest['created']}T00:00:00Z"
        self.items: list[dict[str, Any]] = []
        self.rasters: dict[str, list[Raster]] = {}

    def add(self, picture: Picture) -> None:
        """Write the item of one picture with its files."""
        folder = self.out / picture.collection / picture.id
        folder.mkdir(parents=True)
        entry = self.manifest[picture.file.format(band="B02")]
        if picture.collection.startswith("sentinel-2"):
            finest, assets, found = self._optical(picture, folder)
        elif picture.collection.startswith("sentinel-1"):
            finest, assets, found = self._sar(picture, folder)
        else:
            finest, assets, found = self._labels(picture, folder, entry)
        if picture.collection != "land-cover":
            self.rasters.setdefault(picture.place, []).append(finest)
        properties = (
            self._labels_of(picture) | dict(picture.facts) | found | self._source(picture, entry)
        )
        feature = stac.item(picture, finest, assets, properties)
        stac.write_json(folder / f"{picture.id}.json", feature)
        changes = found["earthmind:changes"]
        (folder / "LICENSE.txt").write_text(_notice(picture, entry, changes), encoding="utf-8")
        self.items.append(feature)

    def finish(self) -> None:
        """Write collections, root, places and README."""
        self.link()
        stac.write_json(self.out / "places.json", [self._place(spot) for spot in SPOTS])
        (self.out / "README.md").write_text(_readme(self.items), encoding="utf-8")

    def link(self, **words: str) -> None:
        """Write collections and root; the words are those of `samples_stac.catalog`."""
        names = [
            name for name in stac.COLLECTIONS if any(i["collection"] == name for i in self.items)
        ]
        for name in names:
            held = [each for each in self.items if each["collection"] == name]
            stac.write_json(self.out / name / "collection.json", stac.collection(name, held))
        stac.write_json(self.out / "catalog.json", stac.catalog(names, **words))

    def _read(self, picture: Picture, path: str) -> dict[str, Raster]:
        """The bands of a file of a picture, at their place or at the one made up for them."""
        with placeless():
            bands = read_bands(self._files(path, picture.bands), picture.window)
        if picture.made_up is None:
            return bands
        west, north, code = picture.made_up
        place = {"transform": Affine(10, 0, west, 0, -10, north), "crs": CRS.from_epsg(code)}
        return {name: replace(raster, **place) for name, raster in bands.items()}

    def _files(self, path: str, bands: tuple[str, ...]) -> dict[str, tuple[Path, int]]:
        if "{band}" in path:
            return {b: (self.source / path.format(band=NUMBERS[b]), 1) for b in bands}
        return {band: (self.source / path, number) for number, band in enumerate(bands, 1)}

    def _optical(
        self, picture: Picture, folder: Path
    ) -> tuple[Raster, dict[str, Any], dict[str, Any]]:
        bands = self._read(picture, picture.file)
        finest = bands["red"]
        masks = {"scl": bands.pop("scl")} if "scl" in bands else {}
        measured = measure_offset(bands)
        l1c = bands if "cirrus" in bands else None
        if picture.sibling:
            l1c = read_bands(self._files(picture.sibling, BANDS_13))
            measured["same_acquisition_l1c"] = beside = measure_offset(l1c)
            if beside["dn_offset_found"] != measured["dn_offset_found"]:
                raise OffsetUnclear(f"{picture.id}: L2A and L1C of one source differ: {measured}")
        offset = -1e-4 * measured["dn_offset_found"] if measured["dn_offset_found"] else 0
        changes = ["one file per band, digital numbers unchanged"]
        dropped = [name for name in bands if name in picture.drop]
        if dropped:
            changes.append(f"bands left out: {', '.join(dropped)}")
        if picture.window:
            changes.append(f"cut to row, column, rows, columns {list(picture.window)}")
        if l1c is not None:
            offset_dn = measured["dn_offset_found"]
            clear = self._read(picture, picture.clear) if picture.clear else None
            found = cloud_beside(l1c, clear, offset_dn) if clear else cloud_mask(l1c, offset_dn)
            grid = l1c["blue"]
            masks["cloud_mask"] = Raster(data=found, transform=grid.transform, crs=grid.crs)
            changes.append("cloud mask added, made by earthmind_lab from the L1C picture")
        elif "{band}" in picture.file:
            path = self.source / picture.file.format(band="cloud_mask")
            masks |= read_bands({"cloud_mask": (path, 1)}, picture.window)
        assets: dict[str, Any] = {}
        for name, raster in bands.items():
            if name not in dropped:
                assets[name] = _write(folder, name, raster, np.uint16, offset=round(offset, 4))
        for name, raster in masks.items():
            words = {}
            if name == "cloud_mask":
                words = _mask_words(l1c is not None, picture)
            assets[name] = _write(folder, name, raster, np.uint8, **words)
        halved = [name for name in assets if assets[name]["gsd"] == 20 and "{" not in picture.file]
        if halved:
            changes.append(f"stored at 20 m, the source only repeats pixels: {', '.join(halved)}")
        facts = {"earthmind:offset_measurement": measured, "earthmind:changes": changes}
        return finest, assets, facts | _cloud_cover(masks)

    def _sar(self, picture: Picture, folder: Path) -> tuple[Raster, dict[str, Any], dict[str, Any]]:
        assets = {}
        bands = self._read(picture, picture.file)
        for name, raster in bands.items():
            power = Raster(
                data=linear_power(raster.data), transform=raster.transform, crs=raster.crs
            )
            written = write_cog(folder / f"{name}.tif", power, float("nan"))
            assets[name] = stac.data_asset(name, power, written)
        step = f"dB to linear power (float32, mantissa rounded to {MANTISSA_BITS} bits, < 0.001 dB)"
        lineage = f"{picture.facts['processing:lineage']}; here: {step}"
        return bands["vv"], assets, {"earthmind:changes": [step], "processing:lineage": lineage}

    def _labels(
        self, picture: Picture, folder: Path, entry: Mapping[str, Any]
    ) -> tuple[Raster, dict[str, Any], dict[str, Any]]:
        note = "The map may be older or younger than the picture and may contradict it."
        if not picture.bands:
            (sibling,) = (
                p for p in pictures() if p.place == picture.place and p.bands[:1] == ("vv",)
            )
            grid = read_bands(self._files(sibling.file, sibling.bands))["vv"]
            changes = ["class names only, from the source's labels.json"]
            return grid, {}, {"earthmind:note": note, "earthmind:changes": changes}
        raster = read_bands(self._files(picture.file, picture.bands))["data"]
        written = write_cog(folder / f"{picture.id}.tif", raster, 0)
        asset = stac.data_asset("data", raster, written, href=f"./{picture.id}.tif")
        stated = {int(code): name for code, name in entry["label"].items()}
        if {code: name.replace("/", " or ") for code, name in stated.items()} != dict(
            enumerate(stac.LAND_COVER)
        ):
            raise ValueError(f"{picture.id}: the source's classes are {stated}")
        return raster, {"data": asset}, {
            "earthmind:note": note, "earthmind:changes": ["none but the file layout"],
        }  # fmt: skip

    def _labels_of(self, picture: Picture) -> dict[str, Any]:
        path = self.source / Path(picture.file).parent / "labels.json"
        if not path.exists():
            return {}
        said = json.loads(path.read_text(encoding="utf-8"))
        return {"earthmind:corine_2018_labels": said["labels"]}

    def _source(self, picture: Picture, entry: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "title": f"{picture.collection} of {picture.place}", "earthmind:place": picture.place,
            "license": picture.licence, "attribution": entry["attribution"],
            "created": self.created, "updated": self.created,
            "earthmind:source": {key: entry["source"][key] for key in sorted(entry["source"])}
            | {"sha256": entry["sha256"], "earlier_changes": entry["modifications"]},
        }  # fmt: skip

    def _place(self, spot: Spot) -> dict[str, Any]:
        bbox = spot.bbox or inner_box(self.rasters[spot.name])
        return {
            "name": spot.name, "title": spot.title, "sensors": list(spot.sensors),
            "dates": spot.dates, "bbox": list(bbox), "why": spot.why, "max_gap": spot.max_gap,
        }  # fmt: skip


def inner_box(rasters: list[Raster]) -> tuple[float, float, float, float]:
    """(west, south, east, north) well inside all rasters, at most `LARGEST` on a side.

    Args:
        rasters: On one place; grids may be rotated against north.
    """
    west, south, east, north = -180.0, -90.0, 180.0, 90.0
    for raster in rasters:
        left, bottom, right, top = raster.bounds
        lon, lat = warp(
            raster.crs, "EPSG:4326", [left, left, right, right], [bottom, top, top, bottom]
        )
        west, east = max(west, *lon[:2]), min(east, *lon[2:])
        south, north = max(south, lat[0], lat[3]), min(north, lat[1], lat[2])
    middle_x, middle_y = (west + east) / 2, (south + north) / 2
    metres_x = 111_320 * np.cos(np.radians(middle_y))
    half_x = min((east - west) / 2 * 0.92, LARGEST / 2 / metres_x)
    half_y = min((north - south) / 2 * 0.92, LARGEST / 2 / 110_900)
    west, east = middle_x - half_x, middle_x + half_x
    south, north = middle_y - half_y, middle_y + half_y
    return tuple(round(float(value), 4) for value in (west, south, east, north))  # type: ignore[return-value]


def _write(folder: Path, name: str, raster: Raster, kind: type, **more: Any) -> dict[str, Any]:
    """Write an optical band or a mask at its native pixel size; returns its asset."""
    # A mask that is clear everywhere repeats its pixels too, but it has 10 m pixels.
    native = raster if name == "cloud_mask" else at_native_size(raster)
    native = Raster(data=native.data.astype(kind), transform=native.transform, crs=native.crs)
    nodata = None if name == "cloud_mask" else 0
    return stac.data_asset(name, native, write_cog(folder / f"{name}.tif", native, nodata), **more)


def _cloud_cover(masks: Mapping[str, Raster]) -> dict[str, Any]:
    """``eo:cloud_cover`` of the item's own pixels, where a mask tells."""
    for name, codes in (("cloud_mask", (1, 2)), ("scl", (8, 9, 10))):
        if name in masks:
            return {
                "eo:cloud_cover": round(100 * float(np.isin(masks[name].data, codes).mean()), 2)
            }
    return {}


def _mask_words(ours: bool, picture: Picture) -> dict[str, Any]:
    if not ours:
        return {"roles": ["data", "cloud"], "title": "Cloud mask of Major TOM Core"}
    seen = "the L1C picture of the same acquisition" if picture.sibling else "this picture"
    seen += " and its clear twin" if picture.clear else ""
    return {
        "roles": ["data", "cloud"], "title": "Cloud mask made by earthmind_lab",
        "description": f"Thresholds on {seen}, not from the source and not checked by hand: thin "
        "haze and shadow edges are often missed.",
        "earthmind:made_by": "earthmind_lab",
    }  # fmt: skip


def _notice(picture: Picture, entry: Mapping[str, Any], changes: list[str]) -> str:
    where = entry["source"]
    return (
        f"SPDX-License-Identifier: {picture.licence}\n"
        f"SPDX-FileCopyrightText: {entry['attribution']}\n\n"
        f"Licence: {stac.LICENCES[picture.licence]}\n"
        f"Terms as found: {entry['licence']['data']}\n"
        f"Source: {where['repository']} at {where['commit']}\n"
        f"Changes: {'; '.join([entry['modifications'], *changes])}\n"
    )


def _readme(items: list[dict[str, Any]]) -> str:
    rows = "\n".join(
        f"| `{each['collection']}/{each['id']}` | {each['properties']['license']} | "
        f"{each['properties']['attribution']} |"
        for each in sorted(items, key=lambda each: (each["collection"], each["id"]))
    )
    return f"""# Sample scenes

A self-contained static STAC catalog of real Sentinel-1 and Sentinel-2 pixels: open
`catalog.json`. `places.json` lists the places worth asking about. Everything in this folder is
written by `scripts/make_samples.py`; don't edit it by hand.

The data are **not** under the licence of the code. Each item's folder holds a `LICENSE.txt` with
SPDX identifier, attribution, source and changes; the same stands in the item (`license`,
`attribution`, link `license`). CC-BY-SA-4.0 (TerraMesh, Major TOM) is share-alike: what you make
from these pixels and pass on keeps that licence. `LicenseRef-Copernicus-Sentinel` is the legal
notice on the use of Copernicus Sentinel data: free, full and open, with attribution.

What to know before using them:

- Optical values are digital numbers; reflectance = DN x `scale` + `offset` of `raster:bands`.
  The offset was measured on the pixels: `earthmind:offset_measurement`. L1C is reflectance at
  the top of the atmosphere, L2A at the surface; don't compare the two.
- SAR values are linear power. `sentinel-1-rtc` is gamma0 with radiometric terrain correction,
  `sentinel-1-sigma0` is calibrated sigma0 without it; don't compare the two.
- Where a source gives a day or a season only, `datetime` is null with start and end.
- `cloud_mask` (0 clear, 1 thick cloud, 2 thin cloud, 3 shadow) is made by earthmind_lab with plain
  thresholds, save that of Songkhram, which is Major TOM's. `eo:cloud_cover` is the share of the
  item's own pixels, or, in Punjab without a mask, of the whole Sentinel-2 granule.
- `land-cover` holds maps made by others. They may be older or younger than the picture and
  contradict it; the codes are TerraMesh's (1 water, 2 trees, 3 flooded vegetation, 4 crops,
  5 built area, 6 bare ground, 7 snow or ice, 8 clouds, 9 rangeland), not the numbers of the
  original map.
- Pictures of Punjab are about 4 pixels misplaced against each other, TerraMesh's 1 to 3
  (`earthmind:geolocation_error_px`).

| folder | licence | attribution |
|---|---|---|
{rows}
"""


def main(arguments: list[str] | None = None) -> int:
    """Build the catalog; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path, help="folder with the source files and manifest.json")
    parser.add_argument("--out", type=Path, default=Path("earthmind_lab/samples"))
    given = parser.parse_args(arguments)
    building = given.out.with_name(f"{given.out.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    builder = Builder(given.source, building)
    for picture in pictures():
        builder.add(picture)
        found = builder.items[-1]["properties"].get("earthmind:offset_measurement")
        sys.stderr.write(f"{picture.id}: {found['why'] if found else 'written'}\n")
    builder.finish()
    total = sum(path.stat().st_size for path in building.rglob("*") if path.is_file())
    sys.stderr.write(f"{total / 1e6:.2f} MB\n")
    if total > LIMIT:
        raise SystemExit(f"The catalog has {total} bytes, allowed are {LIMIT}; see {building}.")
    shutil.rmtree(given.out, ignore_errors=True)
    building.rename(given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
