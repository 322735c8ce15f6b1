"""Trainings in processes of their own: one that can be killed, or several that belong together."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from pathlib import Path

from earthmind_lab.finetune.examples import Listed
from earthmind_lab.finetune.recipe import Recipe
from earthmind_lab.finetune.run import finetune
from tests.finetune import toys

SERVER = multiprocessing.get_context("forkserver")
"""Imports the libraries once; its children begin at once."""
SERVER.set_forkserver_preload(["tests.finetune.spread", "earthmind_lab.finetune.trainer", "peft"])


def examples() -> Listed:
    """Of equal length, so that the mean of two processes' losses is that of one; no masks, whose
    points each process draws for itself."""
    return Listed([toys.told(n, *(toys.pair(n) if n % 4 < 2 else ())) for n in range(8)])


def recipe(model: Path, kind: str) -> Recipe:
    """Two examples per step: one per process, or one after the other in one process."""
    return toys.recipe(
        model, "lora", f"parallel.kind={kind}", "lora.dropout=0", "saving.every=2",
        batch=1, accumulation=2 if kind == "none" else 1, steps=4,
        optimiser={"rate": 1e-3, "decay": 0.0},
    )  # fmt: skip


def train(given: Recipe, out: Path, data: Listed, crash: int = 0) -> None:
    """`crash`: the step after which it ends without a word."""

    def follow(line: dict) -> None:
        if line["step"] == crash:
            raise SystemExit(3)

    finetune(given, out=out, train=data, follow=follow)


def _ranked(rank: int, port: int, words: tuple) -> None:
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    train(*words)


def both(*words: object, limit: float = 150) -> list[int | None]:
    """`train` in two processes over loopback; their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pair = [SERVER.Process(target=_ranked, args=(rank, port, words)) for rank in (0, 1)]
    for process in pair:
        process.start()
    for process in pair:
        process.join(limit)
    ended = [process.exitcode for process in pair]
    for process in pair:
        process.kill()
        process.join()
    return ended


if __name__ == "__main__":  # as torchrun starts it
    train(recipe(Path(sys.argv[1]), "fsdp2"), Path(sys.argv[2]), examples())
