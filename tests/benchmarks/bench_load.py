"""Loading a pair against plain odc-stac and plain rasterio, from disk and over a slow network.

    python -m tests.benchmarks.bench_load [FOLDER] [--rounds 5] [--side 4098]

Twelve optical bands and VV/VH of another UTM zone become one chip of 1024 x 1024 px. The others
get the grid for nothing and give stored numbers; ours finds the grid, and gives reflectance and dB
with checks and provenance. Each side runs in a process of its own, warmed up on another place, in
turns; the files are in the page cache. The network is a server on this machine that waits 50 ms
before each answer. odc-stac and rasterio run with GDAL's options for the cloud. Processor seconds
tell more than seconds where the machine does other things, too.

FOLDER: where the scenes lie, or will; a temporary folder when missing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.benchmarks.load_scenes import OPTICAL, SAR, write_scenes

DELAY_S = 0.05
CHIP_PX = 1024
SIDES = ("ours", "ours again", "odc-stac", "odc-stac with threads", "rasterio with threads")
CLOUD = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_HTTP_MULTIPLEX": "YES",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES", "VSI_CACHE": "TRUE",
}  # fmt: skip


def chip_grid(folder: Path) -> Any:
    """A grid of 1024 px in the middle of the optical scene, on its lattice."""
    import rasterio
    from affine import Affine
    from odc.geo.geobox import GeoBox

    with rasterio.open(folder / "red.tif") as source:
        place, side, crs = source.transform, source.width, str(source.crs)
    start = (side - min(CHIP_PX, side - 12)) // 2 + 1
    size = min(CHIP_PX, side - 12)
    x, y = place @ (start, start)
    return GeoBox((size, size), Affine(10, 0, x, 0, -10, y), crs)


def ours(folder: Path, base: str, *, cache: bool = False) -> Callable[[], Any]:
    """`load_chip`, its plan included."""
    import earthmind_lab as em
    from earthmind_lab.aoi import AOI
    from earthmind_lab.data.access import Access
    from earthmind_lab.data.files import Files, Reader
    from earthmind_lab.data.items import scenes_of
    from earthmind_lab.scene import ScenePair

    scenes = [
        scene
        for name in ("optical", "sar")
        for scene in scenes_of(
            json.loads((folder / f"{name}.json").read_text()),
            f"{base}/{name}.json" if "://" in base else folder / f"{name}.json",
        )
    ]
    pair = ScenePair(
        optical=scenes[0], sar=scenes[1], gap=None, overlap=1.0, cloud_in_aoi=None, score=0.0,
        factors={},
    )  # fmt: skip
    grid = chip_grid(folder)
    inner = grid.buffered(-1.0)  # m: the borders of the area lie in the outermost pixels
    aoi = AOI(geometry=inner.extent.to_crs("EPSG:4326", 1000).geom)
    reader = Reader(files=Files(Access(hosts=(urlsplit(base).netloc,))))

    def run() -> Any:
        chip = em.load_chip(pair, aoi, bands=tuple(OPTICAL), reader=reader, cache=cache)
        assert tuple(chip.grid.shape) == tuple(grid.shape), chip.grid
        return chip

    return run


def odc_stac(folder: Path, base: str, threads: int | None = None) -> Callable[[], Any]:
    """`odc.stac.load` once per sensor; by default it reads with one thread."""
    import odc.stac
    import pystac

    odc.stac.configure_rio(cloud_defaults=True, **CLOUD)
    grid, items = chip_grid(folder), []
    for name in ("optical", "sar"):
        item = pystac.Item.from_dict(json.loads((folder / f"{name}.json").read_text()))
        for key, asset in item.assets.items():
            asset.href = f"{base}/{key}.tif"
        items.append(item)

    def run() -> Any:
        more = {"geobox": grid, "resampling": "bilinear", "pool": threads}
        optical = odc.stac.load([items[0]], bands=tuple(OPTICAL), dtype="uint16", **more)
        sar = odc.stac.load([items[1]], bands=SAR, dtype="float32", **more)
        return optical, sar

    return run


def plain_rasterio(folder: Path, base: str) -> Callable[[], Any]:
    """A `WarpedVRT` a band, as many at a time as ours."""
    import rasterio
    from rasterio.enums import Resampling
    from rasterio.vrt import WarpedVRT

    grid = chip_grid(folder)

    def read(band: str) -> Any:
        with rasterio.Env(**CLOUD), rasterio.open(f"{base}/{band}.tif") as source, WarpedVRT(
            source, crs=str(grid.crs), transform=grid.affine, width=grid.shape[1],
            height=grid.shape[0], resampling=Resampling.bilinear,
        ) as warped:  # fmt: skip
            return warped.read(1)

    def run() -> Any:
        with ThreadPoolExecutor(threads_for(base)) as lanes:
            return list(lanes.map(read, (*OPTICAL, *SAR)))

    return run


def ours_again(folder: Path, base: str) -> Callable[[], Any]:
    """`load_chip` of what was loaded before, from the cache on disk."""
    load = ours(folder, base, cache=True)
    load()
    return load


def odc_threads(folder: Path, base: str) -> Callable[[], Any]:
    """odc-stac with as many threads as ours."""
    return odc_stac(folder, base, threads_for(base))


def threads_for(base: str) -> int:
    """As many as ours."""
    from earthmind_lab.data.layers import LOCAL_LANES, REMOTE_LANES

    return REMOTE_LANES if "://" in base else LOCAL_LANES


LOADS = {
    "ours": ours,
    "ours again": ours_again,
    "odc-stac": odc_stac,
    "odc-stac with threads": odc_threads,
    "rasterio with threads": plain_rasterio,
}


def measure(side: str, folder: Path, base: str) -> None:
    """Print the seconds of one load, and those of the processors, after one load elsewhere."""
    LOADS[side](folder / "warm", f"{base}/warm")()
    load = LOADS[side](folder, base)
    start, busy = time.perf_counter(), time.process_time()
    load()
    print(time.perf_counter() - start, time.process_time() - busy)


@contextmanager
def slow_server(folder: Path) -> Iterator[str]:
    """The folder behind HTTP, in a process of its own."""
    command = [sys.executable, "-m", "tests.range_server", str(folder), str(DELAY_S)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def compare(title: str, folder: Path, base: str, rounds: int) -> None:
    """Print the ratios of one place of the files."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_load", str(folder), "--base", base]
    found: dict[str, list[float]] = {side: [] for side in SIDES}
    busy: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(rounds):
        for side in SIDES:
            with tempfile.TemporaryDirectory() as home:
                done = subprocess.run(
                    [*command, "--one", side], capture_output=True, text=True, check=False,
                    env={**os.environ, "EARTHMIND_HOME": home},
                )  # fmt: skip
            if done.returncode:
                sys.exit(done.stderr[-2000:])
            wall, processors = done.stdout.split()[-2:]
            found[side].append(float(wall))
            busy[side].append(float(processors))
    for name, seconds in (("seconds", found), ("processor seconds", busy)):
        each = ", ".join(f"{side} {statistics.median(seconds[side]):.2f}" for side in SIDES)
        print(f"{title}: {name}: {each}")
    pairs = [("ours", other) for other in SIDES[2:]] + [("ours again", "odc-stac")]
    for one, other in pairs:
        ratios = sorted(a / b for a, b in zip(found[one], found[other], strict=True))
        print(
            f"{title}: {one} / {other} {statistics.median(ratios):.3g} times "
            f"({ratios[0]:.3g} to {ratios[-1]:.3g}, n={rounds})"
        )


def main() -> None:
    """Print the ratios, or, for one side, its seconds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", type=int, default=4098, help="pixels of a 10 m band")
    parser.add_argument("--local", action="store_true", help="not over the network")
    parser.add_argument("--one", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--base", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        return measure(given.one, given.folder, given.base)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        if not (folder / "sar.json").is_file():
            write_scenes(folder / "warm", 600)
            write_scenes(folder, given.side)
        compare("local", folder, str(folder), given.rounds)
        if given.local:
            return None
        with slow_server(folder) as base:
            compare(f"{DELAY_S * 1000:.0f} ms", folder, base, given.rounds)
    return None


if __name__ == "__main__":
    main()
