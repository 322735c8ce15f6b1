"""How a training is followed and ended: its course, its log, what is known of it so far."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from transformers import TrainerCallback

from earthmind_lab.finetune.recipe import Recipe
from earthmind_lab.finetune.watching import Watcher


@dataclass
class Watch:
    """What is known of a training while it goes on; saved with each checkpoint."""

    best: float = math.inf
    """Smallest validation loss."""
    best_step: int | None = None
    since: int = 0
    """Validations without a smaller one."""
    ended: str = ""
    """Why it ended before its last step: ``early`` or ``stopped``."""
    names: list[str] = field(default_factory=list)
    """Examples since the last step of the optimiser."""
    parts: dict[str, list[float]] = field(default_factory=dict)
    """Each loss of the passes since the last step."""


class StopSaves(TrainerCallback):
    """Ends a training after the step under way, with a checkpoint.

    Args:
        watch: Told why.
        watchers: Told of the beginning; each of them may ask for the end.
    """

    def __init__(self, watch: Watch, watchers: Sequence[Watcher] = ()) -> None:
        self.watch, self.asked, self._watchers = watch, False, watchers

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 - the library's form
        """Where it begins and where it will end is known only now."""
        for watcher in self._watchers:
            watcher.began(state.global_step, state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 - as above
        """Save and end, if that was asked for; several processes end together."""
        asked = self.asked or any(watcher.stop for watcher in self._watchers)
        if args.world_size > 1:
            flag = torch.tensor(float(asked), device=args.device)
            torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
            asked = bool(flag > 0)
        if asked:
            control.should_save = control.should_training_stop = True
            self.watch.ended = "stopped"

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 - as above
        """An epoch that was broken off is not validated: without the break it wouldn't be."""
        if self.watch.ended == "stopped" and not float(state.epoch).is_integer():
            control.should_evaluate = False

    def ask(self) -> None:
        """Ask for the end after the step under way."""
        self.asked = True


def course(recipe: Recipe, step: int, steps: int) -> float:
    """Learning rate of a step in the full one.

    Example:
        >>> recipe = Recipe.load("lora")
        >>> [round(course(recipe, step, 100), 2) for step in (0, 5, 52, 100)]
        [0.0, 1.0, 0.51, 0.0]
    """
    wanted = recipe.optimiser
    warm = round(wanted.warmup * steps)
    if step < warm:
        return wanted.warmup_from + (1 - wanted.warmup_from) * step / warm
    if wanted.schedule == "constant":
        return 1.0
    done = min(1.0, (step - warm) / max(1, steps - warm))
    return 1 - done if wanted.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2


class Log:
    """Lines of JSON that can be read while they are written.

    Args:
        path: Of the file.
        after: Go on after this step: what was written of later ones goes. None = begin anew.
    """

    def __init__(self, path: Path, after: int | None = None) -> None:
        self.path = path
        kept = [] if after is None else [line for line in read_log(path) if line["step"] <= after]
        draft = path.with_name(path.name + ".part")
        draft.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        draft.replace(path)

    def write(self, line: dict[str, Any]) -> None:
        """Add a line; it is on its way to the disk when this returns."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a log; a last one that was cut off is left out."""
    lines = []
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    for line in text.splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines
