"""A training whose processes Ray starts, on one machine or several."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from earthmind_lab.errors import EngineError
from earthmind_lab.finetune.examples import Examples
from earthmind_lab.finetune.outcome import Run
from earthmind_lab.finetune.recipe import Recipe


def by_ray(recipe: Recipe, out: Path, sets: Mapping[str, Examples | None]) -> Run:
    """Train with Ray Train; each of its workers is a process of ``ddp``.

    Args:
        recipe: With ``parallel: kind: ray``; its ``config`` goes to ``ray.train.ScalingConfig``.
        out: Folder of the run, the same on every machine.
        sets: ``train``, ``validation``, ``guard`` and ``test``, where they aren't the recipe's;
            they travel.

    Raises:
        EngineError: A worker failed.
    """
    # By name: nothing else in this package may need Ray to be there.
    train: Any = importlib.import_module("ray.train")
    torch: Any = importlib.import_module("ray.train.torch")
    given = {"workers": recipe.replace("parallel={kind: ddp}"), "out": str(out), "sets": dict(sets)}
    trainer = torch.TorchTrainer(
        _work,
        train_loop_config=given,
        scaling_config=train.ScalingConfig(**recipe.parallel.config),
        run_config=train.RunConfig(name="ray", storage_path=str(out.absolute())),
    )
    try:
        trainer.fit()
    except Exception as error:  # whatever Ray calls it, the worker's words are in it
        raise EngineError(
            "A worker of Ray ended the training.", found=str(error).strip()[-400:]
        ) from error
    told = json.loads((out / "run.json").read_text(encoding="utf-8"))
    return Run(
        folder=out,
        recipe=recipe,
        adapter=out / "adapter" if told["adapter"] else None,
        **{name: told[name] for name in ("steps", "ended", "hash", "guard", "seconds")},
    )


def _work(given: dict[str, Any]) -> None:
    from earthmind_lab.finetune.run import finetune

    finetune(given["workers"], out=given["out"], **given["sets"])
