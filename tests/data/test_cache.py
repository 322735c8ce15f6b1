"""Chips on disk: equal to the bit, found offline, whole or not there, whoever else is at it."""

from __future__ import annotations

import json
import logging
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import rasterio
from shapely.geometry import Polygon, box

from earthmind_lab import cli
from earthmind_lab.aoi import AOI
from earthmind_lab.conversation import ask
from earthmind_lab.data import cache_key
from earthmind_lab.data.access import Access
from earthmind_lab.data.budget import Budget
from earthmind_lab.data.cache import DRAFT, PLANS_KEPT, ChipCache
from earthmind_lab.data.cache_key import Keys, chip_key
from earthmind_lab.data.chip_files import Folder, read_chip
from earthmind_lab.data.files import Files, Reader
from earthmind_lab.data.kept_arrays import KeptArrays
from earthmind_lab.data.load import load_chip, plan_chip
from earthmind_lab.data.samples import place
from earthmind_lab.data.search import search_pairs
from earthmind_lab.data.series import load_series
from earthmind_lab.errors import AssetUnavailable, EarthMindError
from earthmind_lab.grid import grid_data, grid_of
from earthmind_lab.recording import pixel_hash
from earthmind_lab.settings import Settings
from tests.grd_product import Product, aoi_at, pair_of
from tests.range_server import serve
from tests.stand_in_engine import StandInEngine, square
from tests.tiny_catalog import AOI as PLACE
from tests.tiny_catalog import DATES, write_catalog

KILLS = int(os.environ.get("EARTHMIND_KILLS", "10"))
FILES = {"chip.json", "pair.json", "optical.npy", "sar.npy", "inside.npy", "valid_optical.npy",
         "valid_sar.npy"}  # fmt: skip
AREA = AOI.from_any(PLACE)


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch) -> ChipCache:
    """An empty cache of this test."""
    monkeypatch.setenv("EARTHMIND_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EARTHMIND_CACHE_BYTES", "1GB")
    return ChipCache.from_settings()


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    return write_catalog(tmp_path_factory.mktemp("catalog"))


@pytest.fixture(scope="module")
def pair(catalog):
    return search_pairs(AREA, DATES, catalog=str(catalog))[0]


@contextmanager
def no_file_opens(monkeypatch):
    """Inside, no asset can be opened."""

    def opened(_self, ref):
        raise AssertionError(f"{ref.name} was opened")

    with monkeypatch.context() as patch:
        patch.setattr(Reader, "open", opened)
        yield


def equal(one, other) -> bool:
    """Whether two chips hold the same: every field, every bit."""
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            assert (a.dtype, a.shape) == (b.dtype, b.shape), field.name
            assert a.tobytes() == b.tobytes(), field.name
        elif field.name not in ("pair", "aoi"):
            assert a == b, field.name
    return True


def areas(count):
    """AOIs one pixel apart, each a chip of its own."""
    west, south, east, north = AREA.bounds
    return [AOI.from_bbox(west, south, east - n * 2e-4, north) for n in range(count)]


# --- a hit is the load ---------------------------------------------------------------------------


def test_a_series_that_was_loaded_is_there_again(pair, monkeypatch):
    moved = {"datetime": pair.sar.start + timedelta(days=12)}
    other = replace(pair, optical=None, sar=replace(pair.sar, **moved, start=moved["datetime"]))
    before = load_series([pair, other], AREA)
    chips = [before[0], before[1]]
    with no_file_opens(monkeypatch):
        again = load_series([other, pair], AREA)
        assert all(equal(one, two) for one, two in zip(again, chips, strict=True))


@pytest.mark.parametrize("relative", [False, True])
def test_tables_of_a_grd_product_are_among_its_files(tmp_path, relative):
    scene = Product(border=30).write(tmp_path)
    table = Path(scene.items[0]["assets"]["schema-noise-vv"]["href"])
    item = json.loads(json.dumps(scene.items[0]))
    if relative:
        for asset in item["assets"].values():
            asset["href"] = "./" + str(Path(asset["href"]).relative_to(tmp_path))
    alone, area = pair_of(replace(scene, items=(item,))), aoi_at(-500, -400, 500, 400)
    first = load_chip(alone, area)
    assert equal(load_chip(alone, area), first)
    table.write_text(re.sub(r"<noiseRangeLut.*?</noiseRangeLut>", weaker, table.read_text()))
    assert not np.array_equal(load_chip(alone, area).sar, first.sar)


def weaker(lut):
    """Half the noise."""
    return re.sub(r"(?<=[ >])[0-9.e+]+", lambda found: f"{float(found[0]) / 2:g}", lut[0])


@pytest.mark.parametrize("name", ["spain", "tiny", "optical", "sar", "gsd"])
def test_a_hit_is_the_first_load_to_the_bit(name, catalog, monkeypatch):
    where = place("spain")
    area = AOI.from_bbox(*where.bbox) if name == "spain" else AREA
    search = {"dates": where.dates} if name == "spain" else {"dates": DATES, "catalog": catalog}
    sensors = name if name in ("optical", "sar") else ("optical", "sar")
    pair = search_pairs(area, **search, sensors=sensors)[0]
    gsd = 30 if name == "gsd" else None
    plain = load_chip(pair, area, gsd=gsd, cache=False)
    first = load_chip(pair, area, gsd=gsd)
    with no_file_opens(monkeypatch):
        again = load_chip(pair, area, gsd=gsd)
    assert equal(plain, first) and equal(first, again)
    assert pixel_hash(again) == pixel_hash(plain)
    assert (again.pair, again.aoi) == (pair, area)
    engine = StandInEngine({"water": lambda shape: square(shape, (5, 9, 5, 9))})
    one, other = (ask(c, "Segment the water.", engine=engine).record for c in (first, again))
    assert replace(one, created="") == replace(other, created="")


def test_a_hit_can_be_written_into_like_a_load(pair, kept):
    load_chip(pair, AREA)
    load_chip(pair, AREA).optical[:] = 0
    assert load_chip(pair, AREA).optical.any()
    assert kept.verify() == []


def test_a_plan_is_found_again_without_a_file(pair, monkeypatch):
    first = plan_chip(pair, AREA, gsd=20)
    with no_file_opens(monkeypatch):
        again = plan_chip(pair, AREA, gsd=20.0)
        with pytest.raises(AssertionError, match="was opened"):
            plan_chip(pair, AREA)
        with pytest.raises(AssertionError, match="was opened"):
            plan_chip(pair, AREA, gsd=20, cache=False)
    assert {**vars(first)} == {**vars(again)}


def test_a_chip_is_found_with_no_server(catalog, pair, kept):
    """Scenes of a server: loaded once, the server goes, the chip stays."""
    with serve(catalog.parent) as server:
        remote = moved(pair, server)
        reader = Reader(files=Files(Access(hosts=(server.place,))), budget=Budget(20))
        first = load_chip(remote, AREA, reader=reader)
        asked = len(server.requests)
        assert asked
    started = time.monotonic()
    gone = Reader(files=Files(Access(hosts=(server.place,))), budget=Budget(2))
    again = load_chip(remote, AREA, reader=gone)
    assert plan_chip(remote, AREA, reader=gone).grid == again.grid
    assert equal(first, again)
    assert all(facts["etag"] for facts in again.provenance["inputs"])
    with pytest.raises(AssetUnavailable):
        load_chip(remote, AREA, reader=gone, cache=False)
    assert time.monotonic() - started < 20
    assert len(server.requests) == asked


def moved(pair, server):
    """The pair with its files on the server."""

    def scene(one):
        assets = {band: server.href(Path(path)) for band, path in one.assets.items()}
        return replace(one, assets=assets)

    return replace(pair, optical=scene(pair.optical), sar=scene(pair.sar))


def test_a_failed_load_keeps_nothing(catalog, pair, kept):
    with serve(catalog.parent) as server:
        server.fault = lambda path, _number: "truncated" if "vh" in path else None
        reader = Reader(files=Files(Access(hosts=(server.place,))), budget=Budget(1.5))
        with pytest.raises(EarthMindError):
            load_chip(moved(pair, server), AREA, reader=reader)
    assert kept.entries() == []
    assert list(kept.folder.glob(f"{DRAFT}*")) == []


# --- what a chip depends on ----------------------------------------------------------------------

SAME = {
    "score": lambda p: {"pair": replace(p.pair, score=1.0, reasons=("because",), catalog="other")},
    "gap": lambda p: {"pair": replace(p.pair, gap=timedelta(days=3), cloud_in_aoi=5.0)},
    "name of the AOI": lambda p: {"aoi": AOI(geometry=p.aoi.geometry, name="other")},
    "cost": lambda p: {"bytes": 1, "reads": 1},
}
OTHER = {
    "band names": lambda p: {"bands": p.bands[::-1]},
    "polarisations": lambda p: {"polarisations": ("vv",)},
    "AOI": lambda p: {"aoi": AOI(geometry=Polygon(p.aoi.geometry.exterior.coords[:3]))},
    "CRS": lambda p: {"grid": grid_of({**GRID(p), "crs": "EPSG:32631"})},
    "affine": lambda p: {"grid": grid_of({**GRID(p), "affine": [10, 0, 1, 0, -10, 1]})},
    "shape": lambda p: {"grid": grid_of({**GRID(p), "shape": [5, 5]})},
    "updated": lambda p: optical(p, items=(touched(p.pair.optical.items[0]),)),
    "href": lambda p: optical(p, assets={**p.pair.optical.assets, "red": "https://a.org/b.tif"}),
    "assets": lambda p: optical(p, assets={"red": p.pair.optical.assets["red"]}),
    "sensor": lambda p: optical(p, sensor="sentinel-2-l1c"),
    "footprint": lambda p: optical(p, footprint=box(-2, 37, 0, 39)),
    "processing": lambda p: optical(p, processing={"geolocation_error_px": 2.0}),
    "collection": lambda p: optical(p, collection="two"),
    "no SAR": lambda p: {"pair": replace(p.pair, sar=None)},
    "places changed": lambda p: {"pair": replace(p.pair, optical=p.pair.sar, sar=p.pair.optical)},
}
GRID = lambda p: grid_data(p.grid)  # noqa: E731  a word for the table


def optical(plan, **changed):
    return {"pair": replace(plan.pair, optical=replace(plan.pair.optical, **changed))}


def touched(item):
    return {**item, "properties": {**item["properties"], "updated": "2024-01-01T00:00:00Z"}}


@pytest.mark.parametrize("what", SAME)
def test_what_changes_no_pixel_changes_no_key(pair, what):
    plan = plan_chip(pair, AREA)
    assert chip_key(replace(plan, **SAME[what](plan))) == chip_key(plan)


@pytest.mark.parametrize("what", OTHER)
def test_what_may_change_a_pixel_changes_the_key(pair, what):
    plan = plan_chip(pair, AREA)
    assert chip_key(replace(plan, **OTHER[what](plan))) not in (chip_key(plan), None)


@pytest.mark.parametrize("name", ["PROCESSING", "_versions"])
def test_other_code_is_another_key(pair, monkeypatch, name):
    plan = plan_chip(pair, AREA)
    before = chip_key(plan)
    monkeypatch.setattr(cache_key, name, 999 if name == "PROCESSING" else lambda: ("0.1",))
    assert chip_key(plan) != before


def test_every_field_of_a_plan_is_in_the_key_or_follows(pair):
    """A field that is added to `LoadPlan` counts by itself; this test names those that don't."""
    plan = plan_chip(pair, AREA)
    assert {f.name for f in fields(plan)} >= set(cache_key._APART)
    assert cache_key._APART == ("pair", "aoi", "reads", "bytes")


def test_a_gsd_is_told_apart_from_none(pair):
    names = (("red",), ("vv",))
    keys = [Keys(pair, AREA).plan(asked=gsd, names=names) for gsd in (None, 10, 10.0, 20)]
    assert keys[1] == keys[2]
    assert len(set(keys)) == 3


def test_a_file_that_was_replaced_is_read_again(tmp_path):
    """Same size, and the time of modification set back: the time of change tells."""
    catalog = write_catalog(tmp_path / "changing")
    pair = search_pairs(AREA, DATES, catalog=str(catalog))[0]
    first = load_chip(pair, AREA)
    red = catalog.parent / "red.tif"
    before = red.stat()
    with rasterio.open(red) as source:
        profile = source.profile
    with rasterio.open(red, "w", **profile) as target:
        target.write(np.full((profile["height"], profile["width"]), 700, np.uint16), 1)
    flat = red.read_bytes()  # compresses better: filled up
    red.write_bytes(flat + bytes(before.st_size - len(flat)))
    os.utime(red, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert red.stat().st_size == before.st_size
    assert np.ptp(first.band("red")) > 0
    assert np.ptp(load_chip(pair, AREA).band("red")) == 0


def test_a_missing_file_is_missing_whatever_is_kept(tmp_path):
    catalog = write_catalog(tmp_path / "shrinking")
    pair = search_pairs(AREA, DATES, catalog=str(catalog))[0]
    load_chip(pair, AREA)
    (catalog.parent / "red.tif").unlink()
    with pytest.raises(AssetUnavailable, match="red"):
        load_chip(pair, AREA)


def test_an_item_that_is_no_plain_data_is_loaded_but_not_kept(pair, kept):
    loop: dict = {}
    loop["self"] = loop
    for odd in (loop, {"x": object()}):
        item = {**pair.optical.items[0], "odd": odd}
        strange = replace(pair, optical=replace(pair.optical, items=(item,)))
        assert load_chip(strange, AREA).optical is not None
    assert kept.entries() == []


# --- the limit -----------------------------------------------------------------------------------


def test_the_longest_unused_go_first(pair, kept, monkeypatch):
    first, second, third, fourth = areas(4)
    sizes = []
    for area in (first, second, third):
        load_chip(pair, area)
        sizes.append(kept.size - sum(sizes))
    assert len(kept.entries()) == 3
    keys = {area.bounds: chip_key(plan_chip(pair, area)) for area in (first, second, third)}
    for age, area in enumerate((third, second, first)):  # now first is the oldest
        os.utime(kept.folder / keys[area.bounds], (1e9 - age, 1e9 - age))
    load_chip(pair, first)  # used again: now third, second, first
    monkeypatch.setenv("EARTHMIND_CACHE_BYTES", str(sum(sizes)))
    load_chip(pair, fourth)
    left = {entry.key for entry in kept.entries()}
    assert keys[second.bounds] not in left
    assert {keys[first.bounds], keys[third.bounds]} < left
    assert kept.size <= sum(sizes)


def test_a_chip_beyond_the_limit_is_loaded_and_not_kept(pair, kept, monkeypatch):
    monkeypatch.setenv("EARTHMIND_CACHE_BYTES", "1KB")
    assert load_chip(pair, AREA).optical is not None
    assert kept.entries() == []


def test_no_limit_no_folder(pair, kept, monkeypatch):
    load_chip(pair, AREA)
    monkeypatch.setenv("EARTHMIND_CACHE_BYTES", "0")
    with no_file_opens(monkeypatch), pytest.raises(AssertionError, match="was opened"):
        load_chip(pair, AREA)
    monkeypatch.setenv("EARTHMIND_HOME", str(kept.folder / "none"))
    load_chip(pair, AREA)
    assert not (kept.folder / "none").exists()


@pytest.mark.parametrize(
    ("text", "size"),
    [("", 10**10), ("10GB", 10**10), (" 1.5 mb ", 1_500_000), ("0", 0), ("123", 123), ("2b", 2)],
)
def test_the_limit_is_a_size(text, size):
    assert Settings.from_env({"EARTHMIND_CACHE_BYTES": text}).cache_bytes == size


@pytest.mark.parametrize("text", ["-1", "much", "1e9", "10 GiB of it", "GB"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(EarthMindError, match="EARTHMIND_CACHE_BYTES"):
        Settings.from_env({"EARTHMIND_CACHE_BYTES": text})


def test_plans_do_not_pile_up(pair, kept, monkeypatch):
    monkeypatch.setattr("earthmind_lab.data.cache.PLANS_KEPT", 4)
    assert PLANS_KEPT > 100
    for area in areas(7):
        plan_chip(pair, area)
    load_chip(pair, AREA)
    assert 0 < len(list((kept.folder / "plans").iterdir())) <= 4


# --- damage --------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def other(path: Path, old: bytes, new: bytes) -> None:
    """Still JSON, with another number in it."""
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new))


def swapped(path: Path) -> None:
    """Whole and sealed, but of another version."""
    from earthmind_lab.data.cache import _writer
    from earthmind_lab.data.chip_files import unsealed, write_sealed

    data = unsealed(path.read_bytes(), path.name)
    path.unlink()
    write_sealed({**data, "format": 99}, path.name, _writer(path.parent))


DAMAGE = {
    "cut array": ("optical.npy", cut),
    "flipped header": ("sar.npy", lambda path: flip(path, 30)),
    "flipped first number": ("optical.npy", lambda path: flip(path, 128)),
    "flipped last number": ("inside.npy", lambda path: flip(path, -1)),
    "missing array": ("valid_sar.npy", Path.unlink),
    "empty array": ("optical.npy", lambda path: path.write_bytes(b"")),
    "block of zeros": ("optical.npy", lambda path: path.write_bytes(bytes(path.stat().st_size))),
    "missing json": ("chip.json", Path.unlink),
    "cut json": ("chip.json", cut),
    "flipped json": ("chip.json", lambda path: flip(path, 400)),
    "another number": ("chip.json", lambda path: other(path, b"0.0001", b"0.0002")),
    "no json": ("chip.json", lambda path: path.write_text("[]")),
    "another version": ("chip.json", swapped),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damage_is_seen_and_mended(pair, kept, how, caplog):
    first = load_chip(pair, AREA)
    (entry,) = kept.entries()
    name, damage = DAMAGE[how]
    damage(kept.folder / entry.key / name)
    with caplog.at_level(logging.WARNING):
        assert equal(load_chip(pair, AREA), first)
    assert "read again" in caplog.text
    assert [each.key for each in kept.entries()] == [entry.key]
    assert {path.name for path in (kept.folder / entry.key).iterdir()} == FILES
    assert kept.verify() == []


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        lambda p: flip(p, -30),
        lambda p: p.write_text("{}"),
        lambda p: other(p, b"10.0", b"20.0"),
    ],
)
def test_a_damaged_plan_is_made_again(pair, kept, damage, caplog):
    first = plan_chip(pair, AREA)
    (path,) = (kept.folder / "plans").iterdir()
    damage(path)
    with caplog.at_level(logging.WARNING):
        assert plan_chip(pair, AREA).grid == first.grid
    assert "made again" in caplog.text
    assert [each.name for each in (kept.folder / "plans").iterdir()] == [path.name]


def test_verify_names_and_removes_the_damaged(pair, kept):
    for area in areas(3):
        load_chip(pair, area)
    one, two, three = kept.entries()
    flip(kept.folder / two.key / "sar.npy", 500)
    (kept.folder / three.key / "pair.json").write_text("")  # a load doesn't read it
    assert set(kept.verify()) == {two.key, three.key}
    assert [entry.key for entry in kept.entries()] == [one.key]


def test_nothing_of_a_credential_is_on_disk(catalog, pair, kept):
    """Addresses that somebody signed by hand: into no file of the cache."""
    with serve(catalog.parent) as server:
        remote = moved(pair, server)
        signed = {b: f"{h}?sig=SECRET&se=2030" for b, h in remote.optical.assets.items()}
        item = {**remote.optical.items[0], "links": [{"href": f"{server.url}/x?token=SECRET"}]}
        remote = replace(remote, optical=replace(remote.optical, assets=signed, items=(item,)))
        reader = Reader(files=Files(Access(hosts=(server.place,))), budget=Budget(20))
        chip = load_chip(remote, AREA, reader=reader)
    assert any("sig=SECRET" in request for request in server.requests)
    assert "SECRET" not in json.dumps(chip.provenance)
    (entry,) = kept.entries()
    assert all(b"SECRET" not in path.read_bytes() for path in kept.folder.rglob("*.*"))
    assert equal(read_chip(Folder(kept.folder / entry.key)), chip)


# --- a disk that doesn't want --------------------------------------------------------------------


def test_a_folder_that_cannot_be_written(pair, kept, caplog):
    kept.folder.parent.mkdir(parents=True)
    kept.folder.write_text("a file, no folder")
    with caplog.at_level(logging.WARNING):
        assert equal(load_chip(pair, AREA), load_chip(pair, AREA, cache=False))
    assert len(caplog.records) == 1  # of the plan and the chip together
    assert kept.folder.read_text() == "a file, no folder"


def test_a_disk_that_is_full(pair, kept, caplog):
    """No file may grow beyond 20,000 bytes: optical.npy breaks in the middle."""
    plan = plan_chip(pair, AREA)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with caplog.at_level(logging.WARNING):
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000 - 20_000 % 4096, hard))
            chip = load_chip(pair, AREA, plan=plan)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert chip.optical.nbytes > 20_000
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        f"Nothing is kept in {kept.folder}"
    ]
    assert kept.entries() == []
    assert {path.name for path in kept.folder.iterdir()} == {"plans"}


def test_drafts_of_the_dead_are_swept(pair, kept):
    dead = subprocess.Popen(["true"])
    dead.wait()
    here, alive = socket.gethostname(), os.getpid()
    names = {
        f"{DRAFT}{dead.pid}-a-{here}": False,
        f"{DRAFT}{alive}-b-{here}": True,
        f"{DRAFT}{dead.pid}-c-elsewhere-2": True,  # another machine's process may be alive
        f"{DRAFT}odd": True,
        f"{DRAFT}{alive}-old-{here}": False,
        f"{DRAFT}1-old-elsewhere": False,
    }
    for name in names:
        (kept.folder / name).mkdir(parents=True)
        (kept.folder / name / "optical.npy").write_bytes(b"half")
        if "old" in name:
            os.utime(kept.folder / name, (1e9, 1e9))
    load_chip(pair, AREA)
    assert {name: (kept.folder / name).exists() for name in names} == names


# --- other processes -----------------------------------------------------------------------------

WORKERS = """
import itertools, os, random, sys, time
from earthmind_lab.aoi import AOI
from earthmind_lab.data import cache, load
from earthmind_lab.data.search import search_pairs
from earthmind_lab.data.series import load_series
from earthmind_lab.recording import pixel_hash
from tests.tiny_catalog import AOI as PLACE, DATES

west, south, east, north = AOI.from_any(PLACE).bounds
areas = [AOI.from_bbox(west, south, east - n * 2e-4, north) for n in range(8)]
pair = search_pairs(areas[0], DATES, catalog=sys.argv[1])[0]

def work(seed, seconds):
    chance = random.Random(seed)
    hits, read, seen = 0, load._read, {}
    load._read = lambda *args: (misses.append(1), read(*args))[1]
    misses, loads, end = [], 0, time.monotonic() + seconds
    while time.monotonic() < end or loads < 20:
        number = chance.randrange(len(areas))
        found = pixel_hash(load.load_chip(pair, areas[number]))
        assert seen.setdefault(number, found) == found, "another chip"
        loads += 1
    truth = pixel_hash(load.load_chip(pair, areas[number], cache=False))
    assert seen[number] == truth, "a wrong chip"
    return loads - len(misses)

def killed_at(step):
    writer = cache._writer
    count = itertools.count()
    def new(folder, *more):
        def opened(name):
            if next(count) == step:
                with writer(folder, *more)(name) as stream:
                    stream.write(b"half a file")
                    stream.flush()
                    os.kill(os.getpid(), 9)
            return writer(folder, *more)(name)
        return opened
    cache._writer = new
    load.load_chip(pair, areas[0])

def killed_evicting():
    remove = cache.shutil.rmtree
    def half(path, **more):
        arrays = sorted(path.rglob("*.npy"))
        if arrays:
            arrays[0].unlink()
            os.kill(os.getpid(), 9)
        remove(path, **more)
    cache.shutil.rmtree = half
    cache.ChipCache.from_settings().clear()

for line in sys.stdin:  # a process for each line: forked, so that nothing is imported again
    task = line.split()
    if task[0] == "wait":
        codes = []
        while True:
            try:
                codes.append(os.waitstatus_to_exitcode(os.wait()[1]))
            except ChildProcessError:
                break
        print("codes", *sorted(codes), flush=True)
        continue
    child = os.fork()
    if child == 0:
        os.environ["EARTHMIND_HOME"], os.environ["EARTHMIND_CACHE_BYTES"] = task[:2]
        status = 1
        try:
            if task[2] == "work":
                print("hits", work(int(task[3]), float(task[4])), flush=True)
            elif task[2] == "evict":
                killed_evicting()
            else:
                killed_at(int(task[3]))
            status = 0
        finally:
            os._exit(status)
    print("started", child, flush=True)
"""


@pytest.fixture(scope="module")
def nursery(catalog):
    """A process that forks a worker for each line it is told."""
    with subprocess.Popen(
        [sys.executable, "-c", WORKERS, str(catalog)], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    ) as process:  # fmt: skip
        yield process
        process.stdin.close()
        assert process.wait(60) == 0


@pytest.fixture
def said():
    """What workers said of their hits."""
    return []


@pytest.fixture
def start(nursery, kept, said):
    """Start a worker on the cache of this test; its process id."""

    def start(task, limit=10**9):
        nursery.stdin.write(f"{kept.folder.parent} {limit} {task}\n")
        nursery.stdin.flush()
        while (line := nursery.stdout.readline().split())[0] != "started":
            said.append(int(line[1]))
        return int(line[1])

    return start


@pytest.fixture
def end(nursery, said):
    """Wait for the workers: their exit codes."""

    def end():
        nursery.stdin.write("wait\n")
        nursery.stdin.flush()
        while (line := nursery.stdout.readline().split())[0] != "codes":
            said.append(int(line[1]))
        return [int(code) for code in line[1:]]

    return end


def test_processes_share_a_tiny_cache(pair, kept, start, end, said):
    """Three of them, room for three of eight chips: all the time one removes what another reads."""
    load_chip(pair, AREA)
    limit = 3 * kept.size
    for seed in range(3):
        start(f"work {seed} 1.0", limit)
    assert end() == [0, 0, 0]
    assert len(said) == 3 and sum(said) > 0
    assert kept.size <= limit
    assert kept.verify() == []
    assert list(kept.folder.glob(f"{DRAFT}*")) == []


def test_a_kill_at_each_file_leaves_no_half_entry(pair, kept, start, end):
    """`SIGKILL` in the middle of the plan and of every file of a chip."""
    for number, step in enumerate((0, *range(len(FILES))), start=1):
        start(f"step {step}")
        assert end() == [-signal.SIGKILL]
        assert kept.entries() == []
        assert len(list(kept.folder.glob(f"{DRAFT}*"))) == number
        plan_chip(pair, AREA)  # the first kill hit its plan, the others the chip
    load_chip(pair, AREA)
    assert list(kept.folder.glob(f"{DRAFT}*")) == []
    assert kept.verify() == [] and len(kept.entries()) == 1


def test_a_kill_in_the_middle_of_an_eviction_leaves_no_half_entry(pair, kept, start, end):
    load_chip(pair, AREA)
    start("evict")
    assert end() == [-signal.SIGKILL]
    assert (kept.entries(), kept.verify()) == ([], [])
    assert len(list(kept.folder.glob(f"{DRAFT}*"))) == 1


def test_kills_in_the_middle_of_loads_leave_a_usable_cache(pair, kept, start, end):
    """EARTHMIND_KILLS workers that load, keep and evict, each killed at a random moment."""
    chance = np.random.default_rng(11)
    truth = [load_chip(pair, area, cache=False) for area in areas(8)]
    load_chip(pair, AREA)
    limit = 3 * kept.size
    for number in range(KILLS):
        pid = start(f"work {number} 60", limit)
        time.sleep(chance.uniform(0.01, 0.2))
        os.kill(pid, signal.SIGKILL)
        assert kept.verify() == []
        which = int(chance.integers(8))
        assert equal(load_chip(pair, areas(8)[which]), truth[which])
    assert end() == [-signal.SIGKILL] * KILLS
    kept.clear()
    load_chip(pair, AREA)
    assert list(kept.folder.glob(f"{DRAFT}*")) == []
    assert len(kept.entries()) == 1


# --- on the command line -------------------------------------------------------------------------


def run(capsys, *words):
    code = cli.main([str(word) for word in words])
    out = capsys.readouterr().out
    return code, json.loads(out) if "--json" in words else out


def test_the_command_counts_verifies_and_clears(pair, kept, capsys):
    assert run(capsys, "cache", "--json") == (0, {
        "folder": str(kept.folder), "entries": 0, "bytes": 0, "limit": 10**9,
        "arrays": {"folder": str(kept.folder.parent / "arrays"), "entries": 0, "bytes": 0},
    })  # fmt: skip
    for area in areas(3):
        load_chip(pair, area)
    code, data = run(capsys, "cache", "--json")
    assert (code, data["entries"], data["bytes"]) == (0, 3, kept.size)
    damaged = kept.entries()[1].key
    flip(kept.folder / damaged / "sar.npy", 500)
    code, data = run(capsys, "cache", "--verify", "--json")
    assert (code, data["damaged"], data["entries"]) == (0, [damaged], 2)
    code, text = run(capsys, "cache")
    assert code == 0
    assert f"2 chips in {kept.folder}" in text
    assert "1.00 GB" in text
    array = KeptArrays.from_settings().path("sar", "0" * 64)
    array.parent.mkdir()
    array.write_bytes(b"pixels")
    code, data = run(capsys, "cache", "--clear", "--json")
    assert (code, data["removed"], data["entries"], data["bytes"]) == (0, 2, 0, 0)
    assert (data["arrays"]["removed"], data["arrays"]["entries"], array.exists()) == (1, 0, False)
    assert list(kept.folder.rglob("*.npy")) == []


def test_the_chip_command_uses_it(catalog, capsys, monkeypatch):
    words = ("chip", "--aoi", PLACE, "--dates", DATES, "--catalog", catalog, "--json")
    code, first = run(capsys, *words)
    assert code == 0
    with monkeypatch.context() as patch:
        patch.setattr("earthmind_lab.data.load.read_layers", lambda *_: pytest.fail("read again"))
        assert run(capsys, *words) == (0, first)
