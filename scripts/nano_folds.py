"""Leave one place out: train earthmind-nano's last stage once for each place, then score it there.

    python scripts/nano_folds.py out/nano

Two folds at a time, one core each; what is done is skipped, and a fold that was stopped goes on.
Each place is asked about with the model that never saw it; nothing before that stage has seen any
real scene. Writes out/nano/folds/presence.md and landcover.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nano_loop import PARENT, done
from nano_real import PLACES

from earthmind_lab.engine import load_engine
from earthmind_lab.engine.base import Engine
from earthmind_lab.evaluate.landcover import evaluate_landcover
from earthmind_lab.evaluate.presence import evaluate_presence


def train(work: Path, place: str) -> None:
    """One fold, in a process of its own."""
    if done(work / "folds" / place):
        return
    script = Path(__file__).with_name("train_nano.py")
    command = [sys.executable, str(script), str(work), "fold", place, "--threads", "1"]
    subprocess.run(command, check=True, env={**os.environ, PARENT: str(os.getpid())})


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("work", type=Path)
    work: Path = parser.parse_args().work
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda place: train(work, place), PLACES))

    def never_saw(place: str) -> Engine:
        return load_engine(work / "folds" / place / "model", device="cpu")

    for name, evaluate in (("presence", evaluate_presence), ("landcover", evaluate_landcover)):
        table = evaluate(never_saw).markdown()
        (work / "folds" / f"{name}.md").write_text(table)
        print(table, flush=True)


if __name__ == "__main__":
    main()
