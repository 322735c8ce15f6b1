"""What a training that has ended leaves, and where it was made."""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from earthmind_lab.errors import EngineError
from earthmind_lab.finetune.recipe import Recipe

if TYPE_CHECKING:
    from earthmind_lab.finetune.card import Card

LIBRARIES = ("torch", "transformers", "accelerate", "peft", "numpy", "safetensors")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training that has ended."""

    folder: Path
    """Recipe, log, checkpoints, adapter and card; docs/finetune.md lists the files."""
    recipe: Recipe
    steps: int
    """Of the optimiser."""
    ended: Literal["done", "early", "stopped"]
    """Why: all steps were made, the validation loss went no further down, or Ctrl-C."""
    adapter: Path | None
    """Its folder; None where it was stopped."""
    hash: str = ""
    """SHA-256 of the adapter's weights."""
    guard: Mapping[str, float] = field(default_factory=dict)
    """Loss on the guard set ``before`` and ``after``; empty without one."""
    seconds: float = 0.0
    """Of this process."""

    def losses(self) -> list[dict[str, Any]]:
        """One row per step, and one per validation."""
        from earthmind_lab.finetune.following import read_log

        return read_log(self.folder / "losses.jsonl")

    def merge(self, target: str | Path, **options: Any) -> Path:
        """A whole model with the adapter in it; see `export.merge`."""
        from earthmind_lab.finetune.export import merge

        if self.adapter is None:
            raise EngineError("The training was stopped before its end.", change="go on with it")
        return merge(self.adapter, target, **options)

    def card(self) -> Card:
        """What it could do before and after, from what it learned, how it was made.

        Raises:
            EarthMindError: There is none: it was stopped, or other processes write it.
        """
        from earthmind_lab.finetune.card import Card

        return Card.load(self.folder)

    def _repr_html_(self) -> str:
        from earthmind_lab.errors import EarthMindError

        try:
            return self.card()._repr_html_()
        except EarthMindError:
            return f"<p>{self.steps} steps, {self.ended}; no card.</p>"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        paths = {"folder": str(self.folder), "adapter": self.adapter and str(self.adapter)}
        names = ("steps", "ended", "hash", "seconds")
        kept = {name: getattr(self, name) for name in names}
        # A model that learned nonsense may have a loss that is no number, which JSON can't say.
        guard = {k: v if math.isfinite(v) else None for k, v in self.guard.items()}
        return {**paths, **kept, "recipe": self.recipe.name, "guard": guard}


def environment() -> dict[str, Any]:
    """What decides numbers beside the recipe."""
    import torch

    from earthmind_lab import __version__

    versions = {}
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    cuda = torch.cuda.is_available()
    return {
        "versions": {"earthmind-lab": __version__, **versions},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }
