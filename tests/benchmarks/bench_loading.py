"""Loading a full-size checkpoint: memory against the weights, time against safetensors' own read.

    python -m tests.benchmarks.bench_loading [FOLDER]

FOLDER: a checkpoint of `full_size.write_checkpoint`; written to a temporary folder when missing.
Each side runs in a process of its own, after the files were read once, in turns. Mapped pages of
the weight files count as memory of the process here (VmHWM), although the system may drop them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.full_size import write_checkpoint

ROUNDS = 3

LOAD = """
import json, sys, time
import numpy as np, torch
from earthmind_lab.exchange import Prompt, View
from earthmind_lab.model import EarthMindForConditionalGeneration, EarthMindProcessor, collate

def status(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

start = time.perf_counter()
model = EarthMindForConditionalGeneration.from_pretrained(sys.argv[1], dtype="auto")
seconds = time.perf_counter() - start
before = status("VmHWM")
for parameter in model.parameters():  # what is mapped is read when it is used
    parameter.view(-1)[::1024].sum()
touched = time.perf_counter() - start
processor = EarthMindProcessor.from_pretrained(sys.argv[1], model.config)
pixels = np.random.default_rng(0).integers(0, 256, (448, 448, 3), dtype=np.uint8)
view = View(image=pixels, name="picture", modality="optical")
inputs = collate(processor, [Prompt(text="What is it?", views=(view,))])
ids = model.generate(**inputs, max_new_tokens=2, do_sample=False)
print(json.dumps({"seconds": seconds, "touched": touched, "peak": status("VmHWM"),
                  "anonymous": status("RssAnon"), "after_load": before,
                  "written": ids.shape[1] - inputs["input_ids"].shape[1]}))
"""
READ = """
import glob, json, sys, time
from safetensors import safe_open
start, size = time.perf_counter(), 0
for path in sorted(glob.glob(sys.argv[1] + "/*.safetensors")):
    with safe_open(path, "pt") as handle:
        for key in handle.keys():
            size += handle.get_tensor(key).clone().nbytes
print(json.dumps({"seconds": time.perf_counter() - start, "bytes": size}))
"""


def run(code: str, folder: Path) -> dict[str, float]:
    """The JSON object that a new process prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print three lines."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        if not (folder / "config.json").is_file():
            write_checkpoint(folder)
        run(READ, folder)
        rounds = [(run(LOAD, folder), run(READ, folder)) for _ in range(ROUNDS)]
    size = rounds[0][1]["bytes"]
    peak = max(ours["peak"] for ours, _ in rounds) / size
    own = max(ours["anonymous"] for ours, _ in rounds) / size
    print(f"weights: {size / 1e9:.2f} GB; answered {rounds[0][0]['written']} tokens with them")
    print(f"peak memory / weights: {peak:.3f} (of its own, not mapped: {own:.3f})")
    for name, what in (("seconds", "load"), ("touched", "load and touch every page")):
        ratio = statistics.median(ours[name] / theirs["seconds"] for ours, theirs in rounds)
        print(f"{what} / safetensors' own read: {ratio:.2f} times (n={ROUNDS})")


if __name__ == "__main__":
    main()
