"""The steps of a stage of earthmind-nano, with checkpoints from which they go on.

Everything that a step draws follows from the seed of its stage and its number, so that a stage that
was killed and went on ends with the same weights as one that never stopped. Checkpoints are those
of the package's own trainer: there as a whole or not at all, the newest two.
"""

from __future__ import annotations

import fcntl
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from earthmind_lab.errors import EngineError
from earthmind_lab.finetune import checkpoints

STATE, DONE, PARENT = "state.pt", "done.json", "NANO_PARENT"


def rng_of(seed: int, step: int) -> np.random.Generator:
    """All that a step draws in numpy; torch is seeded too."""
    torch.manual_seed(seed * 1_000_003 + step)
    return np.random.default_rng([seed, step])


class Loop:
    """Steps of one stage.

    Args:
        folder: Of the stage; one process at a time works in it.
        steps: Updates.
        modules: What is kept, by name.
        groups: Of AdamW.
        save: Seconds between two checkpoints.
        warmup: Steps of rising rate.
        flat: Share of the steps before the cosine decay begins: by steps, so that a pause can't
            eat the schedule.
    """

    def __init__(
        self,
        folder: Path,
        steps: int,
        modules: Mapping[str, nn.Module],
        groups: list[dict[str, Any]],
        *,
        save: float,
        warmup: int = 60,
        flat: float = 0.3,
    ) -> None:
        self.folder, self.steps, self.modules, self.save = folder, steps, modules, save
        self.history: dict[str, Any] = {}
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.05)

        def rate(step: int) -> float:
            rise = min(1.0, (step + 1) / warmup)
            done = max(0.0, (step / steps - flat) / (1 - flat))
            return rise * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))

        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, rate)
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = alone(folder)
        checkpoints.clean(folder)

    def __iter__(self) -> Iterator[int]:
        """Numbers of the steps that are left; shows progress and the time that remains."""
        first, last = self._go_on(), time.monotonic()
        name = self.folder.name
        self.bar = tqdm(range(self.steps), desc=name, initial=first, mininterval=2.0)
        if first:
            print(f"{name}: goes on from step {first} of {self.steps}", flush=True)
        for step in range(first, self.steps):
            yield step
            self.bar.update()
            if orphaned():  # nobody would go on after it
                raise SystemExit("the training that started this stage is gone")
            if step + 1 == self.steps or time.monotonic() - last >= self.save:
                self.keep(step + 1)
                last = time.monotonic()
        self.bar.close()

    def close(self) -> None:
        """Give the folder back; otherwise the end of the process does."""
        os.close(self._lock)

    def step(self, loss: Tensor) -> None:
        """One update; a loss that is no number ends the stage.

        Gradients are clipped at 1 for each group apart: they learn different things, and large ones
        of masks must not make language stand still.
        """
        if not bool(torch.isfinite(loss)):
            raise EngineError(
                f"A loss of {self.folder.name} is not a number; nothing was learned from it.",
                found=f"step {self.bar.n + 1}",
                change="the same command goes on from the last checkpoint",
            )
        self.optimizer.zero_grad()
        loss.backward()
        for group in self.optimizer.param_groups:
            nn.utils.clip_grad_norm_(group["params"], 1.0)
        self.optimizer.step()
        self.schedule.step()

    def keep(self, step: int) -> None:
        """A checkpoint."""
        with checkpoints.written(self.folder, step, leads=True, meet=lambda: None) as draft:
            checkpoints.save_weights(draft / checkpoints.WEIGHTS, tensors(self.modules))
            state = {"optimizer": self.optimizer.state_dict(), "rate": self.schedule.state_dict()}
            torch.save(state, draft / STATE)
            about = {"steps": self.steps, "history": self.history}
            checkpoints.write_json(draft / checkpoints.ABOUT, about)
        checkpoints.rotate(self.folder, 2, None)

    def _go_on(self) -> int:
        found = checkpoints.all_of(self.folder)
        if not found:
            return 0
        about = checkpoints.read_json(found[-1] / checkpoints.ABOUT)
        if about["steps"] != self.steps:
            raise EngineError(
                f"{self.folder} holds a stage of another length.",
                found=f"{about['steps']} steps there, {self.steps} here",
                change="another folder",
            )
        put(found[-1], load_file(found[-1] / checkpoints.WEIGHTS), self.modules)
        state = torch.load(found[-1] / STATE, weights_only=True)
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["rate"])
        self.history = about["history"]
        return checkpoints.step_of(found[-1])


def tensors(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Every tensor once: tied ones share their numbers."""
    found: dict[str, Tensor] = {}
    for name, module in modules.items():
        seen: set[int] = set()
        for key, value in module.state_dict().items():
            if value.data_ptr() not in seen or not value.numel():
                seen.add(value.data_ptr())
                found[f"{name}.{key}"] = value
    return found


def put(source: Path, held: Mapping[str, Tensor], modules: Mapping[str, nn.Module]) -> None:
    """Put tensors back where `tensors` took them from."""
    shapes = {name: tuple(value.shape) for name, value in tensors(modules).items()}
    checkpoints.check_shapes(source, {k: tuple(v.shape) for k, v in held.items()}, shapes)
    for name, module in modules.items():
        own = {k.removeprefix(f"{name}."): v for k, v in held.items() if k.startswith(f"{name}.")}
        module.load_state_dict(own, strict=False)  # tied tensors lack


def result(folder: Path, prefix: str) -> dict[str, Tensor]:
    """Tensors of a stage's end that start with a prefix, without it."""
    held = load_file(checkpoints.all_of(folder)[-1] / checkpoints.WEIGHTS)
    return {k.removeprefix(prefix): v for k, v in held.items() if k.startswith(prefix)}


def done(folder: Path) -> bool:
    """Whether a stage has ended."""
    return (folder / DONE).exists()


def ended(folder: Path, about: Any) -> None:
    """Say that a stage has ended, with what came of it."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoints.write_json(folder / DONE, about)


def alone(folder: Path, patience: float = 60.0) -> int:
    """Hold a folder, so that no second process works in it; given back when this one ends.

    Returns:
        What to close to give it back earlier.

    Raises:
        EngineError: Another process holds it.
    """
    handle = os.open(folder / "lock", os.O_CREAT | os.O_WRONLY)
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if time.monotonic() >= until:
                os.close(handle)
                raise EngineError(
                    f"Another process works in {folder}.", change="wait for it, or end it"
                ) from error
            time.sleep(0.2)
        else:
            return handle


def orphaned() -> bool:
    """Whether the process that started this one, and said so, is gone."""
    parent = os.environ.get(PARENT)
    return parent is not None and os.getppid() != int(parent)
