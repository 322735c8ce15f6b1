"""The Planetary Computer and Earth Search as recorded, in place of the network.

Landing pages, the form of pages and next links, and items are the recorded ones
(tests/golden/stac). A search is answered with the recorded items that meet it, the token service
and the storage accounts with made-up ones: each file that an item names exists as a sparse
GeoTIFF with the item's CRS, transform and shape, filled around the AOI. Time is turned by hand.
"""

from __future__ import annotations

import datetime as dt
import gzip
import json
import re
import threading
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import rasterio
from affine import Affine
from rasterio.warp import transform_bounds
from rasterio.windows import Window, from_bounds
from shapely.geometry import shape

from earthmind_lab.aoi import AOI
from earthmind_lab.data.budget import WebError
from earthmind_lab.data.links import AZURE, PLANETARY_COMPUTER
from earthmind_lab.data.web import Response, Web

RECORDED = json.loads(
    gzip.decompress((Path(__file__).parent / "golden/stac/recorded.json.gz").read_bytes())
)
ROOTS = {
    "planetary-computer": "https://planetarycomputer.microsoft.com/api/stac/v1",
    "earth-search": "https://earth-search.aws.element84.com/v1",
}
PAGE = 4


@dataclass
class RecordedWeb:
    """Stands behind `Web._once`; keeps every request."""

    folder: Path
    aoi: AOI
    now: dt.datetime = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
    items: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """By catalog."""
    requests: list[str] = field(default_factory=list)
    """Method and address, in order."""
    before: Any = lambda _world, _url: None
    """Called before a file is answered."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        for name, collections in RECORDED["items"].items():
            self.items[name] = [item for rows in collections.values() for item in rows]

    def behind(self) -> Callable[..., Response]:
        """What `Web._once` does, without a socket."""

        def once(
            client: Web, method: str, url: str, _budget: Any, headers: Mapping[str, str], body: Any
        ) -> Response:
            client.access.check(url)
            self.requests.append(f"{method} {url}")
            if url.startswith(PLANETARY_COMPUTER):
                return self._token()
            for name, root in ROOTS.items():
                if url.startswith(root):
                    query = json.loads(body) if body else None
                    return _json(self._api(name, url.removeprefix(root).rstrip("/"), query))
            return self._file(url, headers)

        return once

    def _api(self, name: str, path: str, query: dict[str, Any] | None) -> Any:
        for each in RECORDED["exchanges"]:
            same = each["url"] == ROOTS[name] + path and each["body"] is None
            if same and query is None:
                return each["response"]
        if path.startswith("/collections/"):
            (listed,) = (e for e in RECORDED["exchanges"] if e["url"].endswith("/collections"))
            held = {each["id"]: each for each in listed["response"]["collections"]}
            if path.rpartition("/")[2] in held:
                return held[path.rpartition("/")[2]]
        if path != "/search" or query is None:
            raise WebError("missing", f"status 404 from {name}")
        (page,) = (
            e["response"] for e in RECORDED["exchanges"] if e["url"] == ROOTS[name] + "/search"
        )
        (following,) = (link for link in page["links"] if link["rel"] == "next")
        if query.get("collections") == following["body"]["collections"]:
            first = set(query) <= {"collections", "limit"}
            return page if first else {**page, "features": [], "links": []}
        return self._page(name, query, page, following)

    def _page(self, name: str, query: dict[str, Any], page: Any, following: Any) -> Any:
        """Items that meet a query, in the form of the recorded page, with its kind of next link."""
        key = "token" if name == "planetary-computer" else "next"
        found = [item for item in self.items[name] if _meets(item, query)]
        start = int(query.get(key, "0").rpartition("-")[2])
        links = [link for link in page["links"] if link["rel"] != "next"]
        if start + PAGE < len(found):
            links.append({**following, "body": {**query, key: f"next-{start + PAGE}"}})
        return {**page, "features": found[start : start + PAGE], "links": links}

    def _token(self) -> Response:
        until = self.now + dt.timedelta(minutes=45)
        return _json({
            "msft:expiry": f"{until:%Y-%m-%dT%H:%M:%SZ}",
            "token": f"st=2026-11-23&se={until:%Y-%m-%dT%H:%M:%SZ}&sp=rl&sr=c&sig=made%2Bup%3D",
        })  # fmt: skip

    def _file(self, url: str, headers: Mapping[str, str]) -> Response:
        self.before(self, url)
        parts = urlsplit(url)
        if parts.netloc.endswith(AZURE):  # a storage account opens with a token that still holds
            until = parse_qs(parts.query).get("se", [""])[0]
            if "sig=" not in parts.query or until <= f"{self.now:%Y-%m-%dT%H:%M:%SZ}":
                raise WebError("denied", f"status 403 from {parts.netloc}")
        content = self._content(url.partition("?")[0])
        first, last = map(int, headers["Range"].removeprefix("bytes=").split("-"))
        part = content[first : last + 1]
        told = f"bytes {first}-{first + len(part) - 1}/{len(content)}"
        return Response(status=206, headers={"Content-Range": told, "ETag": '"1"'}, body=part)

    def _content(self, href: str) -> bytes:
        path = self.folder / f"{zlib.crc32(href.encode()):08x}.tif"
        with self.lock:
            return self._made(path, href)

    def _made(self, path: Path, href: str) -> bytes:
        if not path.exists():
            known = (
                (item, key)
                for items in self.items.values()
                for item in items
                for key, asset in item["assets"].items()
                if asset["href"] == href
            )
            found = next(known, None)
            if found is None:
                raise WebError("missing", f"status 404 for {href}")
            _write(path, *found, self.aoi)
        return path.read_bytes()


def moved(item: Mapping[str, Any], target: Mapping[str, Any], when: str) -> dict[str, Any]:
    """A recorded SAR item over the tile of an optical one, at another time.

    No recording holds both sensors at one place.
    """
    asset = next(a for k, a in target["assets"].items() if k in ("B04", "red"))
    place = {name: asset[name] for name in ("proj:shape", "proj:transform")}
    times = {"datetime": when, "start_datetime": when, "end_datetime": when}
    properties = {**item["properties"], **times, **place, "proj:epsg": _epsg(target)}
    return {
        **item,
        "geometry": target["geometry"],
        "bbox": target["bbox"],
        "properties": properties,
    }


def _meets(item: Mapping[str, Any], query: Mapping[str, Any]) -> bool:
    first, _, last = query.get("datetime", "/").partition("/")
    when = item["properties"]["datetime"]
    return (
        item["collection"] in query.get("collections", [item["collection"]])
        and item["id"] in query.get("ids", [item["id"]])
        and (not first or first <= when)
        and (not last or when <= last)
        and shape(item["geometry"]).intersects(shape(query.get("intersects", item["geometry"])))
    )


def _epsg(item: Mapping[str, Any]) -> int:
    """As the item says, or from the MGRS tile in its id."""
    stated = item["properties"].get("proj:epsg")
    tile = re.search(r"_(\d\d)([C-X])[A-Z]{2}_", item["id"])
    return int(stated or (32600 if tile[2] >= "N" else 32700) + int(tile[1]))


def _write(path: Path, item: Mapping[str, Any], key: str, aoi: AOI) -> None:
    asset = item["assets"][key]
    rows, columns = asset.get("proj:shape") or item["properties"]["proj:shape"]
    place = Affine(*(asset.get("proj:transform") or item["properties"]["proj:transform"])[:6])
    crs = f"EPSG:{_epsg(item)}"
    kind = "uint8" if key.lower() == "scl" else "float32" if key in ("vv", "vh") else "uint16"
    left, bottom, right, top = transform_bounds("EPSG:4326", crs, *aoi.bounds)
    window = from_bounds(left - 1000, bottom - 1000, right + 1000, top + 1000, place)
    window = window.round_offsets().round_lengths()
    side = (int(window.height), int(window.width))
    rng = np.random.default_rng(zlib.crc32(f"{item['id']} {key}".encode()))
    values = {
        "uint8": lambda: np.where(rng.random(side) < rng.uniform(0, 0.3), 9, 4),
        "uint16": lambda: rng.integers(300, 3000, side),
        "float32": lambda: rng.gamma(4.4, 0.02, side),
    }[kind]()
    with rasterio.open(
        path, "w", driver="GTiff", width=columns, height=rows, count=1, dtype=kind, crs=crs,
        transform=place, tiled=True, blockxsize=512, blockysize=512, compress="deflate",
        sparse_ok=True,
    ) as target:  # fmt: skip
        at = Window(window.col_off, window.row_off, side[1], side[0])
        target.write(values.astype(kind), 1, window=at)


def _json(data: Any) -> Response:
    return Response(status=200, headers={}, body=json.dumps(data).encode())
