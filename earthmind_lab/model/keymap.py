"""Names of weights: the published layout and ours, as one table that reads both ways.

A rule says where a piece of a name stands, what the published code calls it and what the classes
of transformers call it. Rules are applied in order, and backwards in the opposite order. Three
small tables name the tensors that are split, joined or used twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from earthmind_lab.errors import EngineError
from earthmind_lab.model.config import EarthMindConfig


class Rule(NamedTuple):
    """One piece of a name in both layouts."""

    where: str
    """Regular expression for what stands before the piece; its own names are already ours."""
    published: str
    ours: str


_TREE = r"^sam\.sam2"
_BLOCK = r"backbone\.blocks\.\d+"
_HEAD = r"mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head|pred_obj_score_head)"
_DECODER_LAYER = r"mask_decoder\.transformer\.layers\.\d+"

RULES: tuple[Rule, ...] = (
    Rule("^", "mlp1.", "projector."),
    Rule("^", "text_hidden_fcs.", "text_head."),
    Rule("^", "language_model.", "language."),
    # vision tower
    Rule("^", "vision_model.", "vision."),
    Rule(r"^vision\.embeddings", ".class_embedding", ".cls_token"),
    Rule(r"^vision\.embeddings", ".position_embedding", ".position_embeddings"),
    Rule(r"^vision\.embeddings", ".patch_embedding.", ".patch_embeddings.projection."),
    Rule(r"^vision\.encoder", ".layers.", ".layer."),
    Rule(r"^vision\..*", ".norm1.", ".layernorm_before."),
    Rule(r"^vision\..*", ".norm2.", ".layernorm_after."),
    Rule(r"^vision\..*", ".attn.", ".attention."),
    Rule(r"^vision\..*\.attention", ".proj.", ".projection_layer."),
    Rule(r"^vision\..*", ".ls1", ".lambda_1"),
    Rule(r"^vision\..*", ".ls2", ".lambda_2"),
    # mask tower: picture
    Rule("^", "grounding_encoder.sam2_model.", "sam.sam2."),
    Rule(_TREE, ".image_encoder.trunk.", ".vision_encoder.backbone."),
    Rule(_TREE, ".image_encoder.neck.", ".vision_encoder.neck."),
    Rule(r"vision_encoder\.neck\.convs\.\d+", ".conv.", "."),
    Rule(r"backbone\.patch_embed", ".proj.", ".projection."),
    Rule(_BLOCK, ".norm1.", ".layer_norm1."),
    Rule(_BLOCK, ".norm2.", ".layer_norm2."),
    Rule(_BLOCK + r"\.mlp", ".layers.0.", ".proj_in."),
    Rule(_BLOCK + r"\.mlp", ".layers.1.", ".proj_out."),
    # mask tower: decoder
    Rule(_TREE, ".sam_mask_decoder.", ".mask_decoder."),
    Rule(_HEAD, ".layers.0.", ".proj_in."),
    Rule(_HEAD, ".layers.2.", ".proj_out."),
    Rule(_HEAD, ".layers.1.", ".layers.0."),
    Rule(_DECODER_LAYER + r"\.mlp", ".layers.0.", ".proj_in."),
    Rule(_DECODER_LAYER + r"\.mlp", ".layers.1.", ".proj_out."),
    *(Rule(_DECODER_LAYER, f".norm{n}.", f".layer_norm{n}.") for n in range(1, 5)),
    Rule(r"mask_decoder\.transformer", ".norm_final_attn.", ".layer_norm_final_attn."),
    Rule("mask_decoder", ".output_upscaling.0.", ".upscale_conv1."),
    Rule("mask_decoder", ".output_upscaling.1.", ".upscale_layer_norm."),
    Rule("mask_decoder", ".output_upscaling.3.", ".upscale_conv2."),
    # mask tower: prompts
    Rule(_TREE, ".sam_prompt_encoder.", ".prompt_encoder."),
    Rule("prompt_encoder", ".mask_downscaling.0.", ".mask_embed.conv1."),
    Rule("prompt_encoder", ".mask_downscaling.1.", ".mask_embed.layer_norm1."),
    Rule("prompt_encoder", ".mask_downscaling.3.", ".mask_embed.conv2."),
    Rule("prompt_encoder", ".mask_downscaling.4.", ".mask_embed.layer_norm2."),
    Rule("prompt_encoder", ".mask_downscaling.6.", ".mask_embed.conv3."),
    Rule(
        "prompt_encoder",
        ".pe_layer.positional_encoding_gaussian_matrix",
        ".shared_embedding.positional_embedding",
    ),
    # mask tower: memory
    Rule("memory_encoder", ".out_proj.", ".projection."),
    Rule("memory_encoder", ".pix_feat_proj.", ".feature_projection."),
    Rule("memory_encoder", ".fuser.", ".memory_fuser."),
    Rule(r"memory_fuser\..*", ".dwconv.", ".depthwise_conv."),
    Rule(r"memory_fuser\..*", ".norm.", ".layer_norm."),
    Rule(r"memory_fuser\..*", ".pwconv1.", ".pointwise_conv1."),
    Rule(r"memory_fuser\..*", ".pwconv2.", ".pointwise_conv2."),
    Rule(r"memory_fuser\..*", ".g_weight", ".scale"),
    *(Rule("mask_downsampler", f".encoder.{3 * n}.", f".layers.{n}.conv.") for n in range(4)),
    *(
        Rule("mask_downsampler", f".encoder.{3 * n + 1}.", f".layers.{n}.layer_norm.")
        for n in range(4)
    ),
    Rule("mask_downsampler", ".encoder.12.", ".final_conv."),
    Rule("memory_attention", ".norm.", ".layer_norm."),
    *(
        Rule(r"memory_attention\.layers\.\d+", f".norm{n}.", f".layer_norm{n}.")
        for n in range(1, 4)
    ),
    Rule(_TREE, ".obj_ptr_proj.layers.0.", ".object_pointer_proj.proj_in."),
    Rule(_TREE, ".obj_ptr_proj.layers.1.", ".object_pointer_proj.layers.0."),
    Rule(_TREE, ".obj_ptr_proj.layers.2.", ".object_pointer_proj.proj_out."),
    Rule(_TREE, ".maskmem_tpos_enc", ".memory_temporal_positional_encoding"),
    Rule(_TREE, ".no_mem_embed", ".no_memory_embedding"),
    Rule(_TREE, ".no_mem_pos_enc", ".no_memory_positional_encoding"),
    Rule(_TREE, ".no_obj_ptr", ".no_object_pointer"),
    Rule(r"^sam\..*", ".out_proj.", ".o_proj."),
)

SPLIT = re.compile(r"^(vision\..*\.attention)\.qkv\.(weight|bias)$")
"""Three equal blocks of rows: query, key, value."""
JOIN = re.compile(r"^(sam\.sam2\.prompt_encoder)\.point_embeddings\.(\d)\.weight$")
"""Rows of one table, one published tensor each."""
COPY = {
    "sam.sam2.prompt_encoder.shared_embedding.positional_embedding": (
        "sam.sam2.shared_image_embedding.positional_embedding"
    )
}
"""Ours -> a second place of the same tensor."""
MEMORY = re.compile(
    r"^sam\.sam2\.(memory_|mask_downsample\.|object_pointer_proj|no_memory_pos|no_object_pointer)"
)
"""What a model without SAM 2's memory leaves out."""

_TO_OURS = tuple(
    (re.compile(f"({rule.where}){re.escape(rule.published)}"), rf"\g<1>{rule.ours}")
    for rule in RULES
)
_TO_PUBLISHED = tuple(
    (re.compile(f"({rule.where}){re.escape(rule.ours)}"), rf"\g<1>{rule.published}")
    for rule in reversed(RULES)
    if rule.ours != "."
)
_QKV = re.compile(r"^(vision\..*\.attention)\.([qkv])_proj\.(weight|bias)$")
_POINTS = "sam.sam2.prompt_encoder.point_embed.weight"
_NECK = re.compile(r"^(grounding_encoder\.sam2_model\.image_encoder\.neck\.convs\.\d+)\.")


def rename(key: str) -> str:
    """Our name of a published key, before splitting and joining.

    Example:
        >>> rename("vision_model.encoder.layers.0.ls1")
        'vision.encoder.layer.0.lambda_1'
    """
    key = re.sub(r"(memory_encoder\.fuser\..*)\.gamma$", r"\1.g_weight", key)  # SAM 2's own name
    for pattern, replacement in _TO_OURS:
        key = pattern.sub(replacement, key)
    return key


def published_name(name: str) -> str:
    """The published key of one of our names; the other way of `rename`.

    Example:
        >>> published_name("vision.encoder.layer.0.lambda_1")
        'vision_model.encoder.layers.0.ls1'
    """
    for pattern, replacement in _TO_PUBLISHED:
        name = pattern.sub(replacement, name)
    return _NECK.sub(r"\1.conv.", name)


def convert_state(
    published: Iterable[tuple[str, Tensor]], config: EarthMindConfig
) -> dict[str, Tensor]:
    """Our state dict from published tensors; no data are copied but for two small tables.

    Args:
        published: (key, tensor) pairs; read lazily, one at a time.
        config: `sam_memory` and `local_query_width` decide what is kept.

    Returns:
        Every parameter under our name.
    """
    state: dict[str, Tensor] = {}
    points: dict[int, Tensor] = {}
    for key, tensor in published:
        name = rename(key)
        if not config.sam_memory and MEMORY.match(name):
            continue
        if name == "local_query" and not config.local_query_width:
            continue
        if found := SPLIT.match(name):
            parts = tensor.chunk(3, dim=0)
            for letter, part in zip("qkv", parts, strict=True):
                state[f"{found[1]}.{letter}_proj.{found[2]}"] = part
        elif found := JOIN.match(name):
            points[int(found[2])] = tensor
        else:
            state[name] = tensor
        if name in COPY:
            state[COPY[name]] = tensor.clone()
    if points:
        state[_POINTS] = torch.cat([points[index] for index in sorted(points)])
    return state


def publish_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published tensors from our state dict; the other way of `convert_state`.

    Raises:
        EngineError: The model has parts that no published checkpoint has, or lacks some.
    """
    names = set(state)
    if any(name.startswith("sam.fpn_norms") for name in names) or not any(
        MEMORY.match(name) for name in names
    ):
        raise EngineError(
            "This model can't be written in the published layout.",
            found="a mask tower of another form (no memory, or normalised levels)",
            change="to='ours'",
        )
    published: dict[str, Tensor] = {}
    for name in sorted(names - set(COPY.values())):
        if found := _QKV.match(name):
            if found[2] == "q":
                parts = [state[f"{found[1]}.{letter}_proj.{found[3]}"] for letter in "qkv"]
                published[published_name(f"{found[1]}.qkv.{found[3]}")] = torch.cat(parts)
        elif name == _POINTS:
            for index in range(len(state[name])):
                key = _POINTS.replace("point_embed", f"point_embeddings.{index}")
                published[published_name(key)] = state[name][index : index + 1].contiguous()
        else:
            published[published_name(name)] = state[name].contiguous()
    return published
