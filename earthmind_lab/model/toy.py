"""A random model of the published architecture at toy size, to try commands and code with."""

from __future__ import annotations

import json
import shutil
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from earthmind_lab.errors import EngineError
from earthmind_lab.model.config import EarthMindConfig, Sam2Sizes
from earthmind_lab.model.keymap import publish_state
from earthmind_lab.model.published import EMBEDDED, local_folder

VISION = {
    "model_type": "intern_vit_6b", "hidden_size": 64, "num_attention_heads": 4,
    "intermediate_size": 128, "num_hidden_layers": 2, "image_size": 112, "patch_size": 14,
    "qkv_bias": True, "qk_normalization": False, "norm_type": "layer_norm",
    "layer_norm_eps": 1e-6, "hidden_act": "gelu",
}  # fmt: skip
LANGUAGE = {
    "model_type": "qwen2", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096,
    "rope_theta": 1e6, "rms_norm_eps": 1e-6, "hidden_act": "silu", "tie_word_embeddings": False,
    "use_sliding_window": False, "attention_dropout": 0.0,
}  # fmt: skip
SAM2: Sam2Sizes = {
    "image_size": 128, "embed_dim": 16, "num_heads": 1, "stages": [1, 1, 2, 1],
    "global_att_blocks": [3], "bkg": [7, 7], "window_spec": [8, 4, 8, 4], "d_model": 128,
    "mem_dim": 64, "mem_ff": 128, "mem_layers": 1,
}  # fmt: skip


def toy_checkpoint(folder: str | PathLike[Any], *, seed: int = 0) -> Path:
    """Write a checkpoint in the published layout whose weights are random numbers.

    It has every part of EarthMind-4B, each a few thousand numbers large, and the embedded model's
    words. It knows nothing.

    Args:
        folder: To write; must not exist.
        seed: Of its weights.

    Returns:
        `folder`.

    Raises:
        EngineError: The folder is there already.
    """
    from earthmind_lab.model.modeling import EarthMindForConditionalGeneration
    from earthmind_lab.model.processing import EarthMindProcessor

    folder = Path(folder)
    words = local_folder(EMBEDDED) / "tokenizer.json"
    vocabulary = len(EarthMindProcessor.from_pretrained(words.parent).tokenizer)
    fields = {
        "model_type": "sa2va_chat", "vision_config": VISION,
        "llm_config": {**LANGUAGE, "vocab_size": vocabulary}, "sam2": SAM2,
        "template": "phi3_chat", "select_layer": -1, "force_image_size": VISION["image_size"],
        "downsample_ratio": 0.5, "ps_version": "v2", "dynamic_image_size": True,
        "use_thumbnail": True, "min_dynamic_patch": 1, "max_dynamic_patch": 16,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = EarthMindForConditionalGeneration(
            EarthMindConfig.from_upstream(fields, sam2=SAM2)
        )
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        raise EngineError(f"There is a {folder} already.", change="another folder") from error
    shutil.copyfile(words, folder / words.name)
    state = {
        name: tensor.contiguous() for name, tensor in publish_state(model.state_dict()).items()
    }
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")
    return folder
