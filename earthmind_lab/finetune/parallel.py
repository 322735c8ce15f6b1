"""Several processes: what a recipe's ``parallel`` means to transformers' Trainer."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

from earthmind_lab.errors import EngineUnavailable
from earthmind_lab.finetune import zero
from earthmind_lab.finetune.recipe import Recipe

PACKAGES = {"deepspeed": "deepspeed", "ray": "ray"}
FSDP = {
    "version": 2,
    "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
    "transformer_layer_cls_to_wrap": ["Qwen2DecoderLayer"],
    "state_dict_type": "FULL_STATE_DICT",
}
"""Unless the recipe says otherwise: each decoder layer is spread over the processes."""


def processes() -> int:
    """How many there are, by what ``torchrun`` says."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def leads() -> bool:
    """Whether this process writes the files of the run."""
    return os.environ.get("RANK", "0") == "0"


def spread(recipe: Recipe) -> str:
    """The kind that alone can read its checkpoints, as moments lie in pieces there; else empty."""
    kind = recipe.parallel.kind
    return kind if kind in ("fsdp2", "deepspeed") else ""


def check(recipe: Recipe) -> None:
    """Refuse a recipe that doesn't fit how this process was started.

    Raises:
        EngineUnavailable: A package lacks, or ``torchrun`` wasn't used or wasn't meant.
        EarthMindError: DeepSpeed's configuration says what the recipe decides.
    """
    kind = recipe.parallel.kind
    if kind == "deepspeed":
        zero.configuration(recipe)
    package = PACKAGES.get(kind)
    if package and importlib.util.find_spec(package) is None:
        raise EngineUnavailable(
            f"parallel: kind: {kind} needs {package}.",
            found=f"no {package}",
            change=f"pip install {package}, or parallel.kind=ddp",
        )
    if kind == "none" and processes() > 1:
        raise EngineUnavailable(
            f"{processes()} processes were started, but the recipe is for one.",
            change="--set parallel.kind=ddp, or fsdp2",
        )
    if kind in ("ddp", "fsdp2", "deepspeed") and "WORLD_SIZE" not in os.environ:
        raise EngineUnavailable(
            f"parallel: kind: {kind} is for several processes, but there is one.",
            change="torchrun --nproc-per-node 2 -m earthmind_lab.cli finetune run …, or "
            "parallel.kind=none",
        )


def arguments(recipe: Recipe, *, cpu: bool) -> dict[str, Any]:
    """Of `TrainingArguments`.

    Args:
        recipe: With its ``parallel``.
        cpu: Whether the processes compute there.
    """
    kind, config = recipe.parallel.kind, dict(recipe.parallel.config)
    found: dict[str, Any] = {}
    if kind in ("ddp", "fsdp2", "ray"):
        found["ddp_backend"] = "gloo" if cpu else "nccl"
        # Every trained weight gets a gradient in every pass; see EarthMindTraining.every_part.
        found["ddp_find_unused_parameters"] = False
    if kind == "fsdp2":
        found |= {"fsdp": True, "fsdp_config": {**FSDP, **config}}
    if kind == "deepspeed":
        found["deepspeed"] = zero.configuration(recipe)
    # Of DeepSpeed's processes it casts by itself, as `zero.configuration` says.
    found["bf16"] = recipe.precision == "bfloat16" and kind != "deepspeed"
    return found
