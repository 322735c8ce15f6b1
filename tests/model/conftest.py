"""A model of all parts with random weights, small enough to build in a test."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from earthmind_lab.model import EarthMindConfig
from tests.engine import tiny


def _config(**changes: object) -> EarthMindConfig:
    fields = {
        "vision_config": {
            "image_size": 64,
            "patch_size": 8,
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "attention_bias": True,
        },
        "text_config": {
            "vocab_size": 437,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 48,
            "tie_word_embeddings": True,
            "max_position_embeddings": 512,
        },
        "sam_config": tiny.sam2(iou_head_hidden_dim=16, dynamic_multimask=False),
        "image_size": 64,
        "sam_image_size": 64,
        "max_dynamic_patch": 1,
        "sam_memory": False,
        "multimask_output": False,
        "group_norm_fpn": True,
        "notice": "a small model",
    }
    return EarthMindConfig(**{**fields, **changes})


@pytest.fixture
def small_config() -> Callable[..., EarthMindConfig]:
    """64-pixel input, 4 x 4 visual tokens, tied embeddings, no memory, normalised pyramid."""
    return _config
