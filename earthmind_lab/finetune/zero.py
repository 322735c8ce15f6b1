"""DeepSpeed's ZeRO: what it is told, where its weights are, what of it a checkpoint holds.

ZeRO spreads AdamW's moments (stage 1) and gradients (2) over the processes. Each weight that is
trained has a float32 original in pieces; these, not what a pass computes with, are what is saved.
Stage 3 would spread each module's weights: a process comes to a module only if its examples need it
(masks, pictures), and the others would wait forever for its piece.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthmind_lab.errors import EarthMindError, EngineError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from earthmind_lab.finetune.recipe import Recipe

ZERO = {"stage": 2, "reduce_bucket_size": 50_000_000, "allgather_bucket_size": 50_000_000}
"""Stage 2 is what was used for the published model; numbers per bucket, of which DeepSpeed's own
default would take 2 GB on each device."""
STAGES = (1, 2)
FROM_RECIPE = {
    "train_batch_size": "batch and accumulation",
    "train_micro_batch_size_per_gpu": "batch",
    "gradient_accumulation_steps": "accumulation",
    "gradient_clipping": "optimiser.clip",
    "optimizer": "optimiser",
    "scheduler": "optimiser",
    "bf16": "precision",
    "fp16": "precision",
    "torch_autocast": "precision",
}
"""What a recipe says already, and where; DeepSpeed's configuration may say ``auto``."""


def configuration(recipe: Recipe) -> dict[str, Any]:
    """DeepSpeed's configuration: ours, and over it what the recipe has under ``parallel.config``.

    Raises:
        EarthMindError: That says what other keys of the recipe decide, or asks for stage 3.
    """
    own = _without_auto(recipe.parallel.config)
    for name, key in FROM_RECIPE.items():
        if name in own:
            raise EarthMindError(
                f"parallel: config: {name} is decided by {key} of the recipe.",
                found=f"{name}: {own[name]}"[:200],
                change=f"{key}, and no {name} in parallel.config",
            )
    zero = _zero(recipe)
    if zero["stage"] not in STAGES:
        raise EarthMindError(
            "Of DeepSpeed's ZeRO stages this model trains with 1 and 2: 3 can't spread weights, "
            "as processes with and without masks go different ways through them.",
            found=f"zero_optimization: stage: {zero['stage']}",
            change="parallel.kind=fsdp2, which spreads the decoder layers, or stage: 2",
        )
    found: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        **own,
        "zero_optimization": zero,
    }
    if recipe.precision == "bfloat16":
        # As everywhere: trained weights in float32, autocast between, gradients added in float32.
        # With DeepSpeed's `bf16` every weight would be rounded, and the passes be others.
        found["torch_autocast"] = {
            "enabled": True,
            "dtype": "bfloat16",
            "lower_precision_safe_modules": [],
        }
    return found


def held_bytes(recipe: Recipe, trained: int, processes: int) -> int:
    """What a process holds beside the weights: originals and moments, gradients, their bucket.

    Args:
        recipe: Its parallel.
        trained: Numbers that are.
        processes: That share them.
    """
    zero = _zero(recipe)
    originals = 12 * trained / processes
    gradients = 4 * trained / (processes if zero["stage"] == 2 else 1)
    buckets = 4 * int(zero["reduce_bucket_size"]) * (2 if zero.get("overlap_comm") else 1)
    return math.ceil(originals + gradients + buckets)


def whole(named: Iterable[tuple[str, nn.Parameter]]) -> dict[str, Tensor]:
    """The originals of trained weights, in main memory; every process must ask for them."""
    from deepspeed.utils import safe_get_full_fp32_param  # type: ignore[import-not-found]

    found = {}
    for name, weight in named:
        found[name] = safe_get_full_fp32_param(weight).detach().cpu()
    return found


def read(engine: Any, checkpoint: Path) -> None:
    """Go on with the weights and moments of a checkpoint.

    Raises:
        EngineError: DeepSpeed can't.
    """
    try:
        # Frozen weights are not in it.
        found, _ = engine.load_checkpoint(str(checkpoint), load_module_strict=False)
    except Exception as error:  # of many kinds
        raise _unreadable(checkpoint, error) from error
    if found is None:
        raise _unreadable(checkpoint, "nothing of DeepSpeed's")


def _unreadable(checkpoint: Path, why: object) -> EngineError:
    return EngineError(
        f"DeepSpeed can't go on from {checkpoint}.",
        found=" ".join(str(why).split())[:200] or type(why).__name__,
        change="the same parallel.config and number of processes, or another folder",
    )


def _zero(recipe: Recipe) -> dict[str, Any]:
    return {**ZERO, **_without_auto(recipe.parallel.config).get("zero_optimization", {})}


def _without_auto(config: Mapping[str, Any]) -> dict[str, Any]:
    """What transformers would fill in is said by the recipe, or DeepSpeed has a default."""
    found = {}
    for name, value in config.items():
        kept = _without_auto(value) if isinstance(value, Mapping) else value
        if kept != "auto" and not (kept == {} and value):
            found[name] = kept
    return found
