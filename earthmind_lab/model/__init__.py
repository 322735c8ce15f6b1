"""The EarthMind composite: processor, model, weight conversion.

Nothing heavy is imported until a name is used:

    >>> import earthmind_lab.model
    >>> sorted(earthmind_lab.model.__all__)[:2]
    ['EarthMindConfig', 'EarthMindForConditionalGeneration']
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "EarthMindConfig": "config",
    "EarthMindForConditionalGeneration": "modeling",
    "EarthMindOutput": "modeling",
    "EarthMindProcessor": "processing",
    "EarthMindTraining": "training",
    "HierarchicalCrossModalAttention": "attention",
    "LossWeights": "losses",
    "MODELS": "published",
    "FUSED": "arrangement",
    "PromptLayout": "processing",
    "SamFeatures": "segmentation",
    "Sample": "samples",
    "TrainingForm": "batch",
    "collate": "batch",
    "concatenate": "fusion",
    "convert_checkpoint": "convert",
    "load_upstream": "convert",
    "track": "tracking",
    "training_batch": "samples",
    "weighted": "fusion",
}

__all__ = sorted(_HOME)  # noqa: PLE0605 - one table, not two lists to keep equal


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
