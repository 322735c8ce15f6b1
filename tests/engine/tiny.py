"""A random EarthMind of a few thousand parameters, saved as a folder that `load_engine` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from earthmind_lab.exchange import View
from earthmind_lab.model import (
    EarthMindConfig,
    EarthMindForConditionalGeneration,
    EarthMindProcessor,
)
from earthmind_lab.model.config import sam2_config

SIDE = 64
CONTROL = ("<img>", "</img>", "<IMG_CONTEXT>", "<vp>", "</vp>", "[SEG]", "<p>", "</p>", "<eos>")


def tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, and the control tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True) for token in CONTROL])
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>", pad_token="<eos>")


def sam2(**changes: Any) -> Any:
    """Sizes of a small mask tower with one layer of memory."""
    sizes: dict[str, Any] = {
        "image_size": SIDE,
        "embed_dim": 8,
        "num_heads": 1,
        "stages": [1, 1, 2, 1],
        "global_att_blocks": [3],
        "window_spec": [8, 4, 4, 2],
        "d_model": 64,
        "mem_ff": 32,
        "mem_layers": 1,
        "mlp_dim": 32,
        "iou_head_hidden_dim": 32,
    }
    return sam2_config(**{**sizes, **changes})


def save(folder: Path, *, seed: int = 0, **changes: Any) -> Path:
    """Write a model folder; `changes` are fields of `EarthMindConfig`."""
    torch.manual_seed(seed)
    words = tokenizer()
    fields: dict[str, Any] = {
        "vision_config": {
            "image_size": SIDE,
            "patch_size": 16,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "attention_bias": True,
        },
        "text_config": {
            "vocab_size": len(words),
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 64,
            "tie_word_embeddings": False,
            "max_position_embeddings": 2048,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
        "sam_config": sam2(bkg=[7, 7], d_model=32, dynamic_multimask=False),
        "image_size": SIDE,
        "sam_image_size": SIDE,
        "max_dynamic_patch": 1,
        "sam_memory": False,
        "multimask_output": False,
        "notice": "a random model",
        "licence": "Apache-2.0",
    }
    config = EarthMindConfig(**{**fields, **changes})
    processor = EarthMindProcessor(words, config)
    model = EarthMindForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.language.parameters():
            parameter.mul_(8)  # the library's start is so flat that every token ties
        model.language.lm_head.weight[processor.seg_token_id].mul_(4)  # so that marks occur
        model.language.lm_head.weight[processor.eos_token_id].zero_()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def view(modality: str = "optical", *, seed: int = 0, side: int = SIDE, gsd: float | None = 10.0):
    """A picture of noise."""
    image = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    return View(image=image, name=f"{modality}{seed}", modality=modality, gsd=gsd)
