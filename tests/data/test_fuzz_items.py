"""STAC items as strangers write them: nothing but our errors, no request astray.

Real items are broken at random (a fixed seed) and served by an API beside a sound pair. Every
batch must still give that pair; whatever else it gives is planned and loaded; and a second server,
which nothing may ask, listens for GDAL's own connections, which Python doesn't see.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from earthmind_lab.aoi import AOI
from earthmind_lab.data import web
from earthmind_lab.data.budget import Budget
from earthmind_lab.data.files import Reader
from earthmind_lab.data.frozen import freeze_search
from earthmind_lab.data.load import load_chip, plan_chip
from earthmind_lab.data.samples import place
from earthmind_lab.data.search import search_pairs
from earthmind_lab.errors import EarthMindError
from tests.range_server import serve
from tests.recorded_web import RECORDED
from tests.sample_items import SAMPLES, sample_items
from tests.stac_server import serve_stac

COUNT = int(os.environ.get("EARTHMIND_FUZZ_ITEMS", "200"))
SEED = int(os.environ.get("EARTHMIND_FUZZ_SEED", "5"))
BATCH = 20
PLACES = ("spain", "chile", "denmark", "jiangsu")
TEXTS = (
    "", " ", "\0", "a\0b", "x" * 20_000, "\ud800", "Ünïcødé \u202e txet", "../../..", "{{7*7}}",
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</td></table><h1>",
    "javascript:alert(1)", "2019-09-17", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00",
    "0000-00-00", "nan", "1e999", "sentinel-1", "sentinel-2-l2a", "gamma0", "VV", "red",
)  # fmt: skip
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 10**300, -(10**19), 1e308, 1e-320, float("nan"), float("inf"),
    [], {}, [[]], [None], {"": None}, [{}], {"a": {"b": [1, {"c": []}]}}, [1e308, -1e308], *TEXTS,
)  # fmt: skip


PUBLIC = {"sentinel-cogs.s3.us-west-2.amazonaws.com:443"}
"""What is looked up for the hrefs below: the one public place among them."""


def hrefs(canary: str, secret: Path) -> tuple[str, ...]:
    """Where an href may try to lead."""
    vrt = (
        "<VRTDataset rasterXSize='9' rasterYSize='9'><VRTRasterBand dataType='Byte' band='1'>"
        f"<SimpleSource><SourceFilename>/vsicurl/{canary}/a.tif</SourceFilename></SimpleSource>"
        "</VRTRasterBand></VRTDataset>"
    )
    return (
        f"file://{secret}", str(secret), f"//{secret}", f"file:{secret}", f"GTIFF_RAW:{secret}",
        f"GTIFF_DIR:1:{secret}", f"/vsicurl/{canary}/a.tif", f"/vsizip//vsicurl/{canary}/a.zip",
        f"vrt://{canary}/a.tif", f"WMS:{canary}/wms", f"PG:host=127.0.0.1 {canary}", vrt, canary,
        "<GDAL_WMS/>", f"{canary}/a.tif", f"{canary}/a.vrt", canary.replace("//", "//user:pass@"),
        "s3://unknown/a.tif", "s3://", "s3:///a.tif", "s3://sentinel-cogs/../../a.tif",
        "s3://eodata/a.jp2", "gs://b/a.tif", "ftp://127.0.0.1/a.tif", "http://[", "http://",
        "http:a", "s3://[", "http://169.254.169.254/latest/meta-data", "HTTP://169.254.169.254/",
        "http://[fd00:ec2::254]/", "http://0x7f000001/", "http://2130706433/", "http://a..b/",
        "http://localhost:22/", "https://user:pass@127.0.0.1/", "https://\0/", "https:// /a.tif",
        "http://127.0.0.1:99999/", "http://127.0.0.1:-1/", "http://\u2100.example/", "?", "#",
        "http://127.1/", "%00", "data:image/tiff;base64,SUkqAA==", "\\\\host\\share\\a.tif",
        "C:\\a.tif", "a" * 70_000, "./" * 5000, "\ud800.tif",
    )  # fmt: skip


class Stranger:
    """Breaks items."""

    def __init__(self, seed: int, canary: str, secret: Path) -> None:
        self.rng = np.random.default_rng(seed)
        self.hrefs = hrefs(canary, secret)

    def one_of(self, values: Any) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def broken(self, item: dict[str, Any], number: int) -> Any:
        """A copy with one to four things wrong; now and then no item at all."""
        if self.rng.random() < 0.01:
            return self.one_of(ODD)
        item = json.loads(json.dumps(item)) | {"id": f"{item['id']}_{number}"}
        for _ in range(int(self.rng.integers(1, 5))):
            self.one_of((self.drop, self.replace, self.replace, self.double, self.lead, self.bury))(
                item
            )
        return item

    def drop(self, item: Any) -> None:
        holder, key = self.spot(item)
        if isinstance(holder, dict):
            del holder[key]

    def replace(self, item: Any) -> None:
        holder, key = self.spot(item)
        holder[key] = json.loads(json.dumps(self.one_of(ODD)))  # its own copy

    def double(self, item: Any) -> None:
        """A part of an item under another of its names."""
        (one, key), (other, name) = self.spot(item), self.spot(item)
        other[name] = json.loads(json.dumps(one[key]))

    def lead(self, item: Any) -> None:
        """Some assets elsewhere."""
        assets = item.get("assets")
        for asset in assets.values() if isinstance(assets, dict) else ():
            if isinstance(asset, dict) and self.rng.random() < 0.4:
                asset["href"] = self.one_of(self.hrefs)
                asset["title"] = self.one_of(TEXTS)

    def bury(self, item: Any) -> None:
        holder, key = self.spot(item)
        for _ in range(int(self.one_of((1, 3, 100)))):
            holder[key] = self.one_of(([holder[key]], {"a": holder[key]}))

    def spot(self, item: Any) -> tuple[Any, Any]:
        """Somewhere in an item: a holder and a key; deeper with each throw of the dice."""
        holder, key = item, self.one_of(list(item) or ["x"])
        item.setdefault(key, None)
        while isinstance(holder[key], dict | list) and holder[key] and self.rng.random() < 0.75:
            holder = holder[key]
            key = self.one_of(list(holder) if isinstance(holder, dict) else range(len(holder)))
        return holder, key


@pytest.fixture
def files():
    with serve(SAMPLES) as running:
        yield running


@pytest.fixture
def canary(tmp_path):
    with serve(tmp_path) as running:
        yield running


@pytest.fixture
def secret(tmp_path):
    """A sound raster that no catalog on the network may open."""
    source = next(SAMPLES.glob("sentinel-2-l1c/*spain*/*red*.tif"))
    return shutil.copy(source, tmp_path / "secret.tif")


@pytest.fixture
def asked(monkeypatch):
    """Every address that Python connects to or looks up."""
    seen: Counter[str] = Counter()
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def connecting(self, address):
        seen[f"{address[0]}:{address[1]}"] += 1
        return connect(self, address)

    def looking(host, port, *rest, **more):
        seen[f"{host}:{port}"] += 1
        return look_up(host, port, *rest, **more)

    monkeypatch.setattr(socket.socket, "connect", connecting)
    monkeypatch.setattr(socket, "getaddrinfo", looking)
    return seen


def test_items_of_strangers(files, canary, secret, asked, tmp_path, monkeypatch):
    monkeypatch.setattr(web, "PAUSE_S", 0.001)
    items = sample_items(files.url)
    recorded = [i for rows in RECORDED["items"].values() for each in rows.values() for i in each]
    stranger = Stranger(SEED, canary.url, secret)
    outcomes: Counter[str] = Counter()
    with serve_stac(items) as api:
        monkeypatch.setenv("EARTHMIND_HOSTS", f"{files.place},{api.place}")
        for number in range(-(-COUNT // BATCH)):
            name = PLACES[number % len(PLACES)]
            spot = place(name)
            sound = [item for item in items if name in item["id"]]
            aoi = middle(spot.bbox)
            api.hostile = [
                stranger.broken(stranger.one_of(sound if each % 4 else recorded), each)
                for each in range(number * BATCH, (number + 1) * BATCH)
            ]
            frozen = tmp_path / "search.json"
            outcomes += one_batch(aoi, spot, api.url, {item["id"] for item in sound}, frozen)
    assert set(asked) <= {files.place, api.place}
    assert canary.requests == []
    assert outcomes["chip"] > COUNT / 50, outcomes
    assert outcomes["AssetUnavailable"] > COUNT / 100, outcomes


def test_no_private_address_is_asked_where_public_ones_may_be(canary, secret, monkeypatch):
    """Without EARTHMIND_HOSTS: names are looked up (here, in vain), private addresses aren't."""
    monkeypatch.delenv("EARTHMIND_HOSTS", raising=False)
    monkeypatch.setattr(web, "TRIES", 1)
    looked: set[str] = set()
    real = socket.getaddrinfo

    def look_up(host, port, *rest, **more):
        looked.add(f"{host}:{port}")
        if host != "127.0.0.1":
            raise socket.gaierror(f"no {host} here")
        return real(host, port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    spain = [item for item in sample_items("https://x.org") if "spain" in item["id"]]
    with serve_stac([]) as api:
        for href in hrefs(canary.url, secret):
            api.hostile = json.loads(json.dumps(spain))
            for item in api.hostile:
                for asset in item["assets"].values():
                    asset["href"] = href
            with pytest.raises(EarthMindError):
                search_and_load("spain", api.url)
        assert looked == PUBLIC | {api.place}
    assert canary.requests == []


def search_and_load(name, url):
    spot = place(name)
    aoi = middle(spot.bbox)
    pairs = search_pairs(aoi, spot.dates, catalog=url, max_cloud=100)
    return load_chip(pairs[0], aoi)


def one_batch(aoi, spot, url, sound, frozen) -> Counter[str]:
    """Search, freeze and load what was found; the sound pairs are among it."""
    outcomes: Counter[str] = Counter()
    how = {"max_gap": spot.max_gap} if spot.max_gap else {}
    pairs = search_pairs(aoi, spot.dates, catalog=url, max_cloud=100, deadline=20, **how)
    ids = [{scene.id for scene in pair.scenes} for pair in pairs]
    assert any(each <= sound for each in ids)
    freeze_search(frozen, pairs, aoi)
    again = search_pairs(aoi, spot.dates, catalog=frozen, max_cloud=100, **how)
    assert list(map(names, again)) == list(map(names, pairs))
    fresh = [pair for pair, each in zip(pairs, ids, strict=True) if not each <= sound]
    for pair in fresh[:5]:
        assert tags(pair) <= {"table", "tr", "th", "td"}
        for scene in pair.scenes:
            assert all(href.startswith(("http://", "https://", "s3://")) or "://" in href
                       for href in scene.assets.values())  # fmt: skip
        reader = Reader(budget=Budget(10))
        try:
            plan = plan_chip(pair, aoi, gsd=60, reader=reader)
            chip = load_chip(pair, aoi, plan=plan, reader=reader)
            assert "script" not in tags(chip)
            assert "secret.tif" not in json.dumps(chip.provenance, default=str)
            outcomes["chip"] += 1
        except EarthMindError as error:
            outcomes[type(error).__name__] += 1
    return outcomes


def names(pair) -> list[str]:
    return [scene.id for scene in pair.scenes]


def middle(bbox) -> AOI:
    """A few hundred metres: what matters is which files are opened."""
    west, south, east, north = bbox
    lon, lat = (west + east) / 2, (south + north) / 2
    return AOI.from_bbox(lon - 0.002, lat - 0.002, lon + 0.002, lat + 0.002)


def tags(value: Any) -> set[str]:
    """The HTML elements that a notebook would make of something."""
    return {name.lower() for name in re.findall(r"<\s*/?\s*([a-zA-Z!][\w-]*)", value._repr_html_())}
