"""Names and shapes of the published checkpoints, known without their files."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from earthmind_lab.model.config import EarthMindConfig
from earthmind_lab.model.published import SIZES


@cache
def published_outline() -> tuple[EarthMindConfig, dict[str, tuple[int, ...]]]:
    """Configuration of the published size, and the shape of each weight by our names.

    Nothing is allocated: the model is built of empty shapes.

    >>> config, shapes = published_outline()
    >>> shapes["language.lm_head.weight"]
    (151679, 2048)
    """
    from earthmind_lab.model.modeling import EarthMindForConditionalGeneration

    config = EarthMindConfig.from_upstream(
        {
            "vision_config": {
                "hidden_size": SIZES.vision_width, "intermediate_size": SIZES.vision_inner,
                "num_hidden_layers": 24, "num_attention_heads": 16, "patch_size": 14,
                "image_size": SIZES.tile_px, "norm_type": "layer_norm", "qkv_bias": True,
            },
            "llm_config": {
                "hidden_size": SIZES.width, "intermediate_size": SIZES.inner,
                "num_hidden_layers": SIZES.layers, "num_attention_heads": 16,
                "num_key_value_heads": 2, "vocab_size": SIZES.vocabulary,
                "max_position_embeddings": 32768, "rope_theta": 1e6,
                "tie_word_embeddings": False,
            },
        }
    )  # fmt: skip
    with torch.device("meta"):
        model: Any = EarthMindForConditionalGeneration(config)
    return config, {name: tuple(p.shape) for name, p in model.named_parameters()}
