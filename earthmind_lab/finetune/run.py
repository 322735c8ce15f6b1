"""One function from a recipe to an adapter, and what it leaves in its folder."""

from __future__ import annotations

import gc
import importlib.util
import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthmind_lab.errors import EarthMindError
from earthmind_lab.finetune import parallel
from earthmind_lab.finetune.events import EventFiles, check_events
from earthmind_lab.finetune.examples import Examples
from earthmind_lab.finetune.leaks import shared
from earthmind_lab.finetune.outcome import Run
from earthmind_lab.finetune.packing import packed
from earthmind_lab.finetune.recipe import Recipe
from earthmind_lab.finetune.rehearsal import rehearsed
from earthmind_lab.finetune.rights import NOT_SAID, rights_of
from earthmind_lab.finetune.sets import Sets, open_sets
from earthmind_lab.finetune.training import Training, quiet
from earthmind_lab.finetune.watching import Follow, Watcher
from earthmind_lab.progress import cell_waits

if TYPE_CHECKING:
    from earthmind_lab.finetune.planning import Plan

LOG = logging.getLogger(__name__)
NEEDED = ("ipywidgets", "matplotlib")
"""What the view of a training needs to be shown unasked."""


def finetune(
    recipe: Recipe | str | Path,
    *,
    out: str | Path,
    train: Examples | None = None,
    validation: Examples | None = None,
    guard: Examples | None = None,
    test: Examples | None = None,
    resume: bool = True,
    follow: Callable[[dict[str, Any]], None] | None = None,
    watch: Sequence[Watcher] | None = None,
) -> Run:
    """Train by a recipe.

    Args:
        recipe: A recipe, the name of a built-in one, or a file.
        out: Folder of the run. With checkpoints in it, the training goes on where they end, with
            the same losses as without the break.
        train: Examples; default: those that the recipe names.
        validation: For early stop and for choosing; nothing is learned from them.
        guard: What should not get worse: their loss is measured before and after, and the card
            has what both models answer.
        test: Held out: answered before and after for the card, used for nothing else.
        resume: False = begin anew; refused where there are checkpoints.
        follow: Gets every row of the log as it is written.
        watch: Who else is told of it and may end it; default: in the cell of a notebook that
            waits for it a `live.LiveView`, elsewhere nobody.

    Returns:
        What came of it. Ctrl-C, or Stop of the view, ends it after the step under way, with a
        checkpoint.

    Raises:
        EarthMindError: Recipe, examples or model can't be trained with; see the message.
        EngineError: A loss is not a number, a checkpoint can't be written, or `out` holds another
            training.
        OutOfDeviceMemory: It wouldn't fit.
    """
    from earthmind_lab.finetune.building import check_method
    from earthmind_lab.finetune.planning import plan

    recipe = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    parallel.check(recipe)
    check_method(recipe)
    if recipe.logs == "tensorboard":
        check_events()
    plan(recipe).check()
    given = Sets(train=train, validation=validation, guard=guard, test=test)
    watchers = [*_watchers(recipe, Path(out), watch), *([Follow(follow)] if follow else [])]
    try:
        if recipe.parallel.kind == "ray":
            from earthmind_lab.finetune.spreading import by_ray

            held = {"train": train, "validation": validation, "guard": guard, "test": test}
            run = by_ray(recipe, Path(out), held, watchers, resume=resume)
        else:
            run = _run(recipe, Path(out), given, watchers, resume=resume)
    except BaseException as error:
        _tell_end(watchers, str(error) or type(error).__name__)
        raise
    _tell_end(watchers, run.ended)
    return run


def _run(
    recipe: Recipe, out: Path, given: Sets, watchers: Sequence[Watcher], *, resume: bool
) -> Run:
    """Open, train, make the card."""
    began = time.monotonic()
    learned, sets = opened(recipe, given)
    if recipe.rehearsal.share:
        for watcher in watchers:
            watcher.says("Asking the model what it answers today, to be rehearsed…")
    learned = rehearsed(recipe, learned)
    _let_go()
    run = Training(recipe, out, learned, sets.validation, sets.guard, watchers).run(
        resume=resume, began=began
    )
    if run.adapter is not None and parallel.leads():
        from earthmind_lab.finetune.carding import make_card

        for watcher in watchers:
            watcher.says("Asking the models from before and after for the card…")
        _let_go()
        held = {"test": sets.test, "validation": sets.validation, "guard": sets.guard}
        make_card(run, learned, held)
    return run


def _watchers(recipe: Recipe, out: Path, watch: Sequence[Watcher] | None) -> list[Watcher]:
    """Everybody who is told; of several processes one tells."""
    if not parallel.leads():
        return []
    found = list(watch or ())
    if watch is None and cell_waits() and all(map(importlib.util.find_spec, NEEDED)):
        from earthmind_lab.finetune.live import view_of

        view = view_of(recipe, out)
        view.show()
        found.append(view)
    if recipe.logs == "tensorboard" and recipe.parallel.kind != "ray":  # a worker writes them
        found.append(EventFiles(out))
    return found


def _tell_end(watchers: Sequence[Watcher], how: str) -> None:
    for watcher in watchers:
        watcher.ended(how)


def _let_go() -> None:
    """Free one model before the next is opened."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def opened(recipe: Recipe, given: Sets) -> tuple[Examples, Sets]:
    """What is learned, and all sets; what there is to say of them is logged."""
    sets = open_sets(recipe, given)
    for line in sets.said if parallel.leads() else ():
        LOG.info("%s", line)
    if sets.train is None or not len(sets.train):
        raise EarthMindError("There are no examples to learn from.", change="--data PATH")
    if silent := rights_of(sets.train)["licences"].get(NOT_SAID):
        LOG.warning(
            "%d of %d examples say no licence: what is learned from them can't be handed on later. "
            "Say it now (--licence, or licence: in the recipe), or keep the model to yourself.",
            silent, len(sets.train),
        )  # fmt: skip
    if sets.guard and len(shared(sets.train, sets.guard)) == len(sets.guard):
        LOG.warning(
            "All %d examples of the guard set show ground or pictures that are trained on: nobody "
            "will know what got worse, and publish will refuse. Guard with other places.",
            len(sets.guard),
        )
    return sets.train, sets


def planned(recipe: Recipe | str | Path, *, train: Examples | None = None) -> Plan:
    """What a training takes: memory, and with examples the time of a step, which is measured.

    Args:
        recipe: A recipe, the name of a built-in one, or a file.
        train: Examples; default: those that the recipe names.

    Raises:
        EarthMindError: Recipe, examples or model can't be trained with; see the message.
    """
    from earthmind_lab.finetune.building import check_method
    from earthmind_lab.finetune.planning import plan

    recipe = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    check_method(recipe)
    train = open_sets(recipe, Sets(train=train)).train
    found = plan(recipe, examples=None if train is None else len(packed(recipe, train)))
    if train is None or not found.fits:
        return found
    with tempfile.TemporaryDirectory() as folder, quiet():
        return Training(recipe, Path(folder), train, None, None).measure(found)
