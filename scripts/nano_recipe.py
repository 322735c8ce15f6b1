"""The last stage of earthmind-nano: scripts/nano.yaml, run by the package's own trainer.

What it learns from are random windows with the questions of `nano_text`, as the stage before has
them, but as the package's `Example`s: the recipe packs those of a window into one row.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nano_data import Dates, Window, Windows
from nano_language import CLOUD_SHARES, SHARES
from nano_loop import orphaned
from nano_model import DATES, LICENCE, MODES, prompt_of, shown, view_of, views_in
from nano_text import Line, change_lines, earlier_of, lines
from nano_towers import visible

from earthmind_lab.exchange import View
from earthmind_lab.finetune.examples import Example, ExampleInfo
from earthmind_lab.finetune.export import merge
from earthmind_lab.finetune.recipe import Recipe
from earthmind_lab.finetune.run import finetune
from earthmind_lab.finetune.watching import Watcher

RECIPE = Path(__file__).with_name("nano.yaml")
SEED = 24
"""Of the windows; the stages before have their own."""


class Questions:
    """So many questions about each of so many random windows, drawn when they are opened.

    A window follows from its number and nothing else, so that a training which goes on sees the
    same ones. The last one is kept: a packed row asks for its questions one after the other, and
    they must hold the very same pictures.

    Args:
        data: Draws the windows.
        count: Windows.
        each: Questions about one.

    Example of an id: ``window 12: 3``, the fourth question about the thirteenth window.
    """

    def __init__(self, data: Windows, count: int, each: int) -> None:
        self.data, self.count, self.each = data, count, each
        about = (SEED, data.share_real, data.kept, [scene.name for scene in data.real],
                 len(data.scenes), len(data.dates))  # fmt: skip
        self._content = hashlib.sha256(repr(about).encode()).hexdigest()
        self._last: tuple[int, list[Example]] = (-1, [])

    def __len__(self) -> int:
        return self.count * self.each

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = index // self.each
        if self._last[0] != number:
            self._last = (number, self._drawn(number))
        return self._last[1][index % self.each]

    def info(self, index: int) -> ExampleInfo:
        """Without drawing the window, which may be simulated or real: the stricter licence."""
        number, place = divmod(index, self.each)
        return ExampleInfo(
            id=f"window {number}: {place}", task="question", pictures=(f"window {number}",),
            licence=LICENCE, attribution="see NOTICE", content=self._content,
        )  # fmt: skip

    def _drawn(self, number: int) -> list[Example]:
        # torch is left alone: the trainer draws from it too, in another order after a break.
        rng = np.random.default_rng([SEED, number])
        mode = str(rng.choice(list(SHARES), p=list(SHARES.values())))
        if mode in DATES:
            window: Window | Dates = self.data.draw_dates(rng)
            found = change_lines(window, rng, self.each)
        else:
            window = self.data.draw(rng, MODES[mode], clouds=CLOUD_SHARES[mode])
            found = lines(window, mode, rng, self.each)
        views = views_of(window, mode)
        return [
            Example(
                info=self.info(number * self.each + place),
                prompt=prompt_of(line, views, earlier_of(line, found, rng), rng),
                reply=line.answer,
                **masks_of(line, window, mode),
            )
            for place, line in enumerate(found)
        ]


def views_of(window: Window | Dates, mode: str) -> list[View]:
    """The pictures of a prompt of `mode`."""
    images = shown(window, mode)
    return [view_of(i, image) for i, image in zip(views_in(mode), images, strict=True)]


def masks_of(line: Line, window: Window | Dates, mode: str) -> dict[str, Any]:
    """What an `Example` is told of the masks of its answer."""
    if not line.segments or isinstance(window, Dates):
        return {}
    # Where there is SAR, masks lie on it (mask_source of the model).
    yes, no = visible(window, optical=mode in ("optical", "picture"))
    index = list(line.segments)
    return {"masks": yes[index], "known": yes[index] | no[index]}


class _Parent(Watcher):
    """Ends a training whose starter is gone, with a checkpoint."""

    wants_answers = False

    def row(self, row: dict[str, Any]) -> None:  # noqa: ARG002 - of a watcher
        self.stop = orphaned()


def tune(base: Path, folder: Path, data: Windows, changes: Sequence[str] = ()) -> Path:
    """Train by the recipe, or go on.

    Args:
        base: Model to begin from.
        folder: Of the run.
        data: Windows to learn from.
        changes: To the recipe, as `Recipe.replace` takes them.

    Returns:
        Folder of the whole model in half precision, in that of the run.
    """
    recipe = Recipe.load(RECIPE).replace(*changes, model=str(base))
    examples = Questions(data, recipe.steps * recipe.batch, recipe.packing)
    run = finetune(recipe, out=folder, train=examples, watch=[_Parent()])
    if run.adapter is None:
        raise SystemExit(f"{folder} was stopped; the same command goes on")
    target = folder / "model"
    # There already, where a process ended between this and the note that the stage is done.
    shutil.rmtree(target, ignore_errors=True)
    return merge(run.adapter, target, model=base, dtype="bfloat16")
