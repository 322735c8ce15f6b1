"""Checkpoints on disk: there as a whole or not at all, and only for the training they belong to."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from earthmind_lab.errors import EngineError
from earthmind_lab.finetune.building import canonical, trained

WEIGHTS = "trained.safetensors"
ABOUT = "about.json"
STATE = "trainer_state.json"
_NAME = re.compile(r"checkpoint-(\d+)$")
_DRAFT = ".draft-"


def all_of(folder: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    found = [
        (int(name[1]), p) for p in folder.glob("checkpoint-*") if (name := _NAME.match(p.name))
    ]
    return [path for _, path in sorted(found)]


def step_of(checkpoint: Path) -> int:
    """The step after which it was written."""
    return int(checkpoint.name.rpartition("-")[2])


def clean(folder: Path) -> None:
    """Remove what was being written when a process ended."""
    for draft in folder.glob(f"{_DRAFT}*"):
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let no second process into a run: each would take the other's files for its own.

    The lock ends with the process, however that ends.

    Raises:
        EngineError: There is one already.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / ".lock"
    with lock.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EngineError(
                f"Another process trains in {folder.parent} right now.",
                change="wait for it, or another folder",
            ) from error
        except OSError:
            pass  # a file system without locks
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def rotate(folder: Path, keep: int, best: int | None) -> None:
    """Remove all but the newest `keep` and that of step `best`."""
    for old in all_of(folder)[:-keep]:
        if step_of(old) != best:
            # Renamed first: a half-removed one must not look complete.
            gone = old.with_name(f"{_DRAFT}{old.name}")
            with suppress(OSError):
                old.rename(gone)
                shutil.rmtree(gone, ignore_errors=True)


@contextmanager
def written(folder: Path, step: int, *, leads: bool, meet: Callable[[], None]) -> Iterator[Path]:
    """A folder to write a checkpoint into; afterwards it is there under its name.

    Args:
        folder: Of all checkpoints.
        step: Of this one.
        leads: Whether this process gives it its name; exactly one does.
        meet: Waits until every process is here.

    Raises:
        EngineError: It can't be written; earlier ones are as they were.
    """
    draft = folder / f"{_DRAFT}{step}"
    try:
        draft.mkdir(parents=True, exist_ok=True)
        yield draft
        meet()
        if leads:
            for file in draft.rglob("*"):
                _sync(file)
            target = folder / f"checkpoint-{step}"
            if target.exists():  # of a training that was not gone on from
                shutil.rmtree(target)
            draft.rename(target)
            _sync(folder)
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(draft, ignore_errors=True)
        kept = [str(step_of(path)) for path in all_of(folder)]
        raise EngineError(
            f"The checkpoint of step {step} can't be written to {folder}.",
            found=" ".join(str(error).split())[:200],
            change="free some space; then the same command goes on from step "
            f"{kept[-1] if kept else 0}",
        ) from error
    meet()


def save_weights(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Safetensors whose bytes depend on the tensors alone."""
    held = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    save_file(held, path, metadata={"format": "pt"})


def load_weights(checkpoint: Path, step: nn.Module) -> None:
    """Put the trained weights of a checkpoint into a model.

    Raises:
        EngineError: They are those of another architecture, or of other parts.
    """
    wanted = dict(trained(step))
    with safe_open(checkpoint / WEIGHTS, "pt") as held:
        names = set(held.keys())
        check_shapes(
            checkpoint,
            {name: tuple(held.get_slice(name).get_shape()) for name in names},
            {name: tuple(weight.shape) for name, weight in wanted.items()},
        )
        with torch.no_grad():
            for name, weight in wanted.items():
                weight.copy_(held.get_tensor(name))


def check_shapes(
    source: Path, found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]
) -> None:
    """Refuse tensors that are not exactly those that are wanted."""
    for name in sorted({*found, *wanted}):
        if found.get(name) != wanted.get(name):
            there = f"{found[name]}" if name in found else "nothing"
            here = f"{wanted[name]}" if name in wanted else "nothing"
            raise EngineError(
                f"{source} is of another architecture, or other parts of it were trained.",
                found=f"{canonical(name)}: {there} there, {here} here",
                change="the recipe and the model that it was written with, or another folder",
            )


def write_json(path: Path, data: Any) -> None:
    """A JSON file that is there as a whole or not at all."""
    draft = path.with_name(path.name + ".part")
    draft.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    draft.replace(path)


def read_json(path: Path) -> Any:
    """What `write_json` wrote.

    Raises:
        EngineError: It can't be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EngineError(f"{path} can't be read.", found=str(error)[:200]) from error


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
