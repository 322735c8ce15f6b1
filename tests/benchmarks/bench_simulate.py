"""Scenes per second of the simulator beside an older one, in turns, in one run.

    python tests/benchmarks/bench_simulate.py [REVISION] [--scenes 60] [--size 352]

Each revision runs in a process of its own that draws the same number of scenes whenever it is its
turn, so that whatever else the machine does slows down both alike. Printed are the processor time
per scene of both and the ratio, for whole scenes and for what a training window of earthmind-nano
takes: a clear scene and the clouds to cover it with.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
ROUNDS = 6
WORK = """
import sys, time
from earthmind_lab.data import simulate as s
size, scenes = int(sys.argv[1]), int(sys.argv[2])
def clouds(seed):
    if hasattr(s, "simulate_clouds"):
        return s.simulate_clouds(seed, size=size // 2, gsd=20.0)[0]
    return s.simulate_scene(seed, size=size // 2, gsd=20.0, cloudy=True).cloud
first = 0
for line in sys.stdin:
    start = time.process_time()
    for seed in range(first, first + scenes):
        s.simulate_scene(seed, size=size, cloudy=False)
    middle = time.process_time()
    for seed in range(first, first + scenes):
        clouds(seed)
    first += scenes
    print((middle - start) / scenes, (time.process_time() - start) / scenes, flush=True)
"""


def worker(root: Path, size: int, scenes: int) -> subprocess.Popen[str]:
    """A process that draws scenes with the package of a tree, a round per line it is sent."""
    return subprocess.Popen(
        [sys.executable, "-c", WORK, str(size), str(scenes)], cwd=root, text=True,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("revision", nargs="?", default="HEAD")
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--size", type=int, default=352)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        packed = subprocess.run(
            ["git", "archive", asked.revision, "earthmind_lab/__init__.py", "earthmind_lab/data",
             "earthmind_lab/errors.py"],
            cwd=ROOT, capture_output=True, check=True,
        ).stdout  # fmt: skip
        with tarfile.open(fileobj=BytesIO(packed)) as archive:
            archive.extractall(folder, filter="data")
        both = [worker(root, asked.size, asked.scenes // ROUNDS) for root in (Path(folder), ROOT)]
        times: list[list[tuple[float, float]]] = [[], []]
        for number in range(ROUNDS + 1):
            for who, process in enumerate(both):
                assert process.stdin is not None and process.stdout is not None
                process.stdin.write("\n")
                process.stdin.flush()
                scene, window = map(float, process.stdout.readline().split())
                if number:  # the first fills caches
                    times[who].append((scene, window))
        for process in both:
            process.communicate(timeout=60)
    for k, name in enumerate(("scene", "training window")):
        old, new = ([each[k] for each in whose] for whose in times)
        ratios = sorted(a / b for a, b in zip(old, new, strict=True))
        print(
            f"{name}: {1 / median(old):.1f} a second of {asked.revision}, "
            f"{1 / median(new):.1f} now: "
            f"{median(ratios):.2f} times as many ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


if __name__ == "__main__":
    main()
