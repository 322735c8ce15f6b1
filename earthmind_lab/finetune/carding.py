"""Makes the card of a run: asks the model from before and the one from after."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from earthmind_lab.errors import EarthMindError
from earthmind_lab.figures import draw_masks
from earthmind_lab.finetune.card import VALIDATION, Card, compared, table, worst
from earthmind_lab.finetune.checkpoints import read_json
from earthmind_lab.finetune.examples import Chosen, Examples
from earthmind_lab.finetune.leaks import shared
from earthmind_lab.finetune.outcome import Run
from earthmind_lab.finetune.plain import plain
from earthmind_lab.finetune.rights import rights_of
from earthmind_lab.finetune.scoring import ask_all, commonest, described, some_of
from earthmind_lab.finetune.shown import small

SHOWN = 3
"""Pictures of an example on it."""


def make_card(run: Run, train: Examples, sets: Mapping[str, Examples | None]) -> Card:
    """Ask both models and write the card into the folder of a run.

    Args:
        run: One that has ended with an adapter.
        train: What was learned from.
        sets: ``test``, ``validation`` and ``guard``, where there are any. The validation set is
            asked only where there is no test set.

    Raises:
        EarthMindError: A model can't be opened, or the card can't be written.
    """
    told = read_json(run.folder / "run.json")
    chosen = {name: examples for name, examples in sets.items() if examples}
    if "test" in chosen:
        chosen.pop(VALIDATION, None)
    most = run.recipe.evaluation.answers
    known = {name: shared(train, examples) for name, examples in chosen.items()} if most else {}
    asked = {name: some_of(_apart(chosen[name], ids), most) for name, ids in known.items()}
    remark, answers = "", {}
    try:
        answers = _both(run, asked) if asked else {}
    except EarthMindError as error:  # the training is done, and its card says what it lacks
        remark = f"The models could not be asked. {error}"
    learned = commonest(train)
    found: dict[str, Any] = {}
    pictures: dict[str, dict[str, list[str]]] = {}
    for name, (before, after) in answers.items():
        about = [described(asked[name], index) for index in range(len(asked[name]))]
        rows = compared(about, before, after)
        found[name] = {
            "examples": len(chosen[name]), "asked": len(rows), "shared": len(known[name]),
            "rows": table(rows, learned["answers"]), "outcomes": rows,
        }  # fmt: skip
        ids = {row["id"] for row in worst(rows)}
        for index, row in enumerate(rows):
            if row["id"] in ids:
                pictures.setdefault(name, {})[row["id"]] = _pictures(asked[name], index)
    card = Card(
        {
            "name": run.recipe.name,
            "model": Path(run.recipe.model).name,
            "model_licence": _licence(run.recipe.model),
            "steps": run.steps,
            "ended": run.ended,
            "seconds": run.seconds,
            "seed": run.recipe.seed,
            "processes": told["processes"],
            "base": told["weights"],
            "adapter": run.hash,
            "remark": remark,
            "sets": found,
            "data": {**rights_of(train), "baseline": learned},
            "environment": {
                k: told[k] for k in ("versions", "python", "machine", "device", "threads")
            },
            "recipe": plain(run.recipe),
            "pictures": pictures,
        }
    )
    card.save(run.folder)
    return card


def _apart(examples: Examples, shared: set[str]) -> Chosen:
    return Chosen(examples, [i for i in range(len(examples)) if examples.info(i).id not in shared])


def _both(run: Run, asked: Mapping[str, Examples]) -> dict[str, tuple[Any, Any]]:
    """What each model makes of the examples; the one from after as it will be handed on."""
    device = run.recipe.device
    before = ask_all(run.recipe.model, asked, device=device, said="asking the model from before")
    for old in run.folder.glob(".card-*"):  # of a process that was killed
        shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=".card-", dir=run.folder))
    try:
        whole = run.merge(folder / "model")
        after = ask_all(whole, asked, device=device, said="asking the model from after")
    except OSError as error:
        raise EarthMindError(
            "The merged model can't be written.", found=str(error), change="some space"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {name: (before[name], after[name]) for name in asked}


def _licence(model: str) -> str:
    """Of the weights that the training began from."""
    from earthmind_lab.model.convert import read_config
    from earthmind_lab.model.published import local_folder, row_of

    row = row_of(model)
    if row is not None:
        return str(row.licence or "")
    return str(read_config(local_folder(model)).licence or "")


def _pictures(examples: Examples, index: int) -> list[str]:
    """Small pictures of an example with its true masks and regions, as data URLs."""
    try:
        example = examples[index]
    except EarthMindError:
        return []
    found = []
    for view in example.prompt.views[:SHOWN]:
        masks = [region.mask for region in example.prompt.regions]
        if example.masks is not None:
            masks += list(example.masks if example.masks.ndim == 3 else example.masks[:, 0])
        fit = [mask for mask in masks if mask.shape == view.shape]
        found.append(small(draw_masks(view.image, fit) if fit else view.image))
    return found
