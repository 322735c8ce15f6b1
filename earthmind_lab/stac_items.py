"""An answer as a STAC item, so that catalogs and their tools find it beside its inputs.

    to_stac(answer, "out/water")

DIR/item.json       what, where, when; `derived_from` links to the items of the inputs
DIR/answer.geojson  features in lon/lat
DIR/mask.tif        classes and objects, a cloud-optimised GeoTIFF
DIR/record.json     how it came about

Fields of published extensions are used where they fit: projection, processing, classification and
file. The Machine Learning Model extension describes models, not what they have said, so the model
stands under ``processing:software`` and the rest under ``earthmind:``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from earthmind_lab.answer import Answer
from earthmind_lab.citing import cite
from earthmind_lab.cogs import MEDIA_TYPE, OUTSIDE, mask_bands, write_mask
from earthmind_lab.digests import digest
from earthmind_lab.errors import EarthMindError
from earthmind_lab.export import whole_folder
from earthmind_lab.record import Record, unsigned

ITEM = "item.json"
STAC_FILES = ("answer.geojson", ITEM, "mask.tif", "record.json")
"""What `to_stac` writes."""
EXTENSIONS = (
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
)
_ABOUT: Mapping[str, tuple[str, str, Sequence[str]]] = {
    "answer.geojson": ("application/geo+json", "Features with mapped areas", ("data",)),
    "mask.tif": (MEDIA_TYPE, "Class and object of each pixel", ("data",)),
    "record.json": ("application/json", "Record: how the answer came about", ("metadata",)),
}
"""Media type, title and roles of each asset."""


def to_stac(answer: Answer, folder: str | Path) -> Path:
    """Write an answer as a STAC 1.1 item with its assets.

    Args:
        answer: About a chip.
        folder: Where; made if missing, `STAC_FILES` in it are replaced.

    Returns:
        The path of the item.

    Raises:
        EarthMindError: A plain picture has no place, or the folder can't be written.
        PromptError: The answer is about two dates.
    """
    _, labels = mask_bands(answer)
    with whole_folder(folder, STAC_FILES) as draft:
        answer.save(draft / "answer.geojson")
        write_mask(answer, draft / "mask.tif")
        answer.record.save(draft / "record.json")
        item = _item(answer, labels)
        item["assets"] = {
            name.partition(".")[0]: _asset(draft / name) for name in _ABOUT
        }  # fmt: skip
        item["assets"]["mask"] |= _classes(labels)
        text = json.dumps(item, indent=2, ensure_ascii=False, allow_nan=False)
        (draft / ITEM).write_text(text + "\n", encoding="utf-8")
    return Path(folder) / ITEM


def _item(answer: Answer, labels: Sequence[str]) -> dict[str, Any]:
    from shapely.geometry import shape

    record, about = answer.record, answer.about()
    assert record.aoi is not None
    grid = record.chip["grid"]
    properties = {
        **_times(record),
        "title": f"{record.question} {record.text}",
        "description": about["notice"] or f"An answer of {about['model']}.",
        "created": record.created,
        "gsd": record.chip["gsd"],
        "proj:code": grid["crs"],
        "proj:shape": grid["shape"],
        "proj:transform": grid["affine"],
        "processing:lineage": cite(record).methods,
        "processing:software": _software(record),
        "processing:datetime": record.created,
        "earthmind:question": record.question,
        "earthmind:answer": record.text,
        "earthmind:labels": list(labels),
        "earthmind:mapped_area_m2": {k: round(v, 1) for k, v in answer.areas.items()},
        "earthmind:answer_hash": record.answer_hash,
        "earthmind:weight_hash": record.model["weight_hash"],
        "earthmind:licence_of_inputs": about["licence"],
        "earthmind:attribution_of_inputs": about["attribution"],
    }
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": list(EXTENSIONS),
        "id": f"earthmind-{digest(record.analysis())[:16]}",
        "geometry": record.aoi["geometry"],
        "bbox": list(shape(record.aoi["geometry"]).bounds),
        "properties": properties,
        "links": list(_links(record)),
    }


def _software(record: Record) -> dict[str, str]:
    names = ("earthmind-lab", "torch", "transformers", "gdal")
    used = {name: record.versions[name] for name in names if name in record.versions}
    return {**used, str(record.model["name"]): str(record.model["revision"])}


def _times(record: Record) -> dict[str, Any]:
    """When the inputs were observed: an instant, or from the first to the last.

    Raises:
        EarthMindError: Nothing tells the time of any input.
    """
    times = sorted(
        (datetime.fromisoformat(part), part)
        for given in record.inputs
        if given["observed"] != "unknown"
        for part in str(given["observed"]).split("/")
    )
    if not times:
        raise EarthMindError(
            "A STAC item needs a time, and nothing tells when the files were taken.",
            change="open_chip(..., datetime='2020-06-01')",
        )
    first, last = times[0][1], times[-1][1]
    if first == last:
        return {"datetime": first}
    return {"datetime": None, "start_datetime": first, "end_datetime": last}


def _links(record: Record) -> Iterator[dict[str, Any]]:
    hrefs = _places(record)
    for given in record.inputs:
        for item in given.get("items") or [{"id": given["id"]}]:
            first = next(iter(given["assets"].values()), "")
            href = item.get("self") or hrefs.get((item.get("collection"), item["id"])) or first
            if href:
                yield {
                    "rel": "derived_from",
                    "href": unsigned(str(href)),
                    "title": f"{given['sensor']} {item['id']}",
                    **({"type": "application/geo+json"} if href != first else {}),
                }


def _places(record: Record) -> dict[tuple[Any, Any], str]:
    """Where the items of the catalogs are, by collection and id."""
    found: dict[tuple[Any, Any], str] = {}
    for name in record.search.get("catalog", ()):
        found |= dict(_in_api(str(name), record) or _in_files(str(name)))
    return found


def _in_api(name: str, record: Record) -> list[tuple[tuple[Any, Any], str]]:
    """By the path that the specification of STAC APIs has for an item."""
    from earthmind_lab.data.known import KNOWN

    url = next((known.url for known in KNOWN if known.name == name), name)
    if not url.startswith(("http://", "https://")) or url.endswith(".json"):
        return []
    items: Iterable[Mapping[str, Any]] = (i for given in record.inputs for i in given["items"])
    return [
        ((item.get("collection"), item["id"]),
         f"{url.rstrip('/')}/collections/{item['collection']}/items/{item['id']}")
        for item in items if item.get("collection")
    ]  # fmt: skip


def _in_files(name: str) -> Iterator[tuple[tuple[Any, Any], str]]:
    """Of a catalog on this machine; of one that is gone, nothing."""
    from earthmind_lab.data.samples import catalog_path
    from earthmind_lab.data.static import static_items

    path = catalog_path() if name == "sample" else Path(name)
    if path.suffix != ".json" or not path.is_file():
        return
    for item, where in static_items(path, []):
        yield (item.get("collection"), item.get("id")), str(where)


def _asset(path: Path) -> dict[str, Any]:
    kind, title, roles = _ABOUT[path.name]
    raw = path.read_bytes()
    return {
        "href": f"./{path.name}", "type": kind, "title": title, "roles": list(roles),
        # A multihash: 12 = SHA-256, 20 = its 32 bytes.
        "file:checksum": f"1220{hashlib.sha256(raw).hexdigest()}", "file:size": len(raw),
    }  # fmt: skip


def _classes(labels: Sequence[str]) -> dict[str, Any]:
    """What the numbers of the mask mean."""
    named = [
        {"value": number, "name": f"class_{number}", "title": label, "description": label}
        for number, label in enumerate(labels, start=1)
    ]
    nothing = {"value": 0, "name": "unmarked", "description": "inside the AOI, nothing marked"}
    number = {"data_type": "uint16", "nodata": OUTSIDE}
    return {
        "bands": [
            {"name": "class", **number, "classification:classes": [nothing, *named]},
            {"name": "object", **number, "description": "number of the feature, from 1"},
        ]
    }
