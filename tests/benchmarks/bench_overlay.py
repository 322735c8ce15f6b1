"""How long a picture of a chip takes to be ready for the map: its places and encoding.

`python tests/benchmarks/bench_overlay.py [side]` prints milliseconds, the best of three runs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from earthmind_lab.widgets.web_mercator import lay_out, shown_url


def best(work: Callable[[], Any], runs: int = 3) -> tuple[float, Any]:
    """(milliseconds, result) of the fastest run."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - start)
    return 1000 * min(times), result


def main() -> None:
    side = int(sys.argv[1]) if sys.argv[1:] else 2048
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 200, (side // 8, side // 8, 3)).repeat(8, axis=0).repeat(8, axis=1)
    image = (coarse + rng.integers(0, 40, coarse.shape)).astype(np.uint8)
    shape = image.shape[:2]
    grid = GeoBox(shape, Affine(10, 0, 690_000, 0, -10, 4_220_600), "EPSG:32630")
    spent, shown = best(lambda: lay_out(image, grid))
    print(f"lay out {side} px in {len(shown.pieces)} pieces: {spent:.0f} ms")
    spent, url = best(lambda: shown_url(shown))
    print(f"encode: {spent:.0f} ms, {len(url) / 2**20:.2f} MiB on the wire")


if __name__ == "__main__":
    main()
