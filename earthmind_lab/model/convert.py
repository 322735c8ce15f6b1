"""Published checkpoint layouts to ours, as a table of renamings.

Upstream keys are read from safetensors only. `RENAMES` are applied in order to each key; three
further tables name the tensors that are split, joined or used twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from earthmind_lab.errors import ModelNotFound, UnsafeCheckpoint
from earthmind_lab.model.config import EarthMindConfig

UNSAFE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")

_HEADS = "output_hypernetworks_mlps\\.\\d+|iou_prediction_head|pred_obj_score_head"
RENAMES: tuple[tuple[str, str], ...] = (
    (r"^mlp1\.", "projector."),
    (r"^text_hidden_fcs\.", "text_head."),
    (r"^language_model\.", "language."),
    # vision tower
    (r"^vision_model\.", "vision."),
    (r"^(vision\.embeddings)\.class_embedding$", r"\1.cls_token"),
    (r"^(vision\.embeddings)\.position_embedding$", r"\1.position_embeddings"),
    (r"^(vision\.embeddings)\.patch_embedding\.", r"\1.patch_embeddings.projection."),
    (r"^(vision\.encoder)\.layers\.", r"\1.layer."),
    (r"^(vision\..*)\.norm1\.", r"\1.layernorm_before."),
    (r"^(vision\..*)\.norm2\.", r"\1.layernorm_after."),
    (r"^(vision\..*)\.attn\.proj\.", r"\1.attention.projection_layer."),
    (r"^(vision\..*)\.attn\.", r"\1.attention."),
    (r"^(vision\..*)\.ls([12])$", r"\1.lambda_\2"),
    # mask tower: picture
    (r"^grounding_encoder\.sam2_model\.", "sam.sam2."),
    (r"\.image_encoder\.trunk\.", ".vision_encoder.backbone."),
    (r"\.image_encoder\.neck\.convs\.(\d+)\.conv\.", r".vision_encoder.neck.convs.\1."),
    (r"(backbone\.patch_embed)\.proj\.", r"\1.projection."),
    (r"(backbone\.blocks\.\d+)\.norm([12])\.", r"\1.layer_norm\2."),
    (r"(backbone\.blocks\.\d+\.mlp)\.layers\.0\.", r"\1.proj_in."),
    (r"(backbone\.blocks\.\d+\.mlp)\.layers\.1\.", r"\1.proj_out."),
    # mask tower: decoder
    (r"\.sam_mask_decoder\.", ".mask_decoder."),
    (rf"(mask_decoder\.(?:{_HEADS}))\.layers\.0\.", r"\1.proj_in."),
    (rf"(mask_decoder\.(?:{_HEADS}))\.layers\.2\.", r"\1.proj_out."),
    (rf"(mask_decoder\.(?:{_HEADS}))\.layers\.1\.", r"\1.layers.0."),
    (r"(mask_decoder\.transformer\.layers\.\d+\.mlp)\.layers\.0\.", r"\1.proj_in."),
    (r"(mask_decoder\.transformer\.layers\.\d+\.mlp)\.layers\.1\.", r"\1.proj_out."),
    (r"(mask_decoder\.transformer\..*)\.norm([1-4])\.", r"\1.layer_norm\2."),
    (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
    (r"\.output_upscaling\.0\.", ".upscale_conv1."),
    (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
    (r"\.output_upscaling\.3\.", ".upscale_conv2."),
    # mask tower: prompts
    (r"\.sam_prompt_encoder\.", ".prompt_encoder."),
    (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
    (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
    (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
    (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
    (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
    (
        r"\.prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$",
        ".prompt_encoder.shared_embedding.positional_embedding",
    ),
    # mask tower: memory
    (r"(memory_encoder)\.out_proj\.", r"\1.projection."),
    (r"(memory_encoder)\.pix_feat_proj\.", r"\1.feature_projection."),
    (r"(memory_encoder)\.fuser\.", r"\1.memory_fuser."),
    (r"(memory_fuser\..*)\.dwconv\.", r"\1.depthwise_conv."),
    (r"(memory_fuser\..*)\.norm\.", r"\1.layer_norm."),
    (r"(memory_fuser\..*)\.pwconv([12])\.", r"\1.pointwise_conv\2."),
    (r"(memory_fuser\..*)\.(?:g_weight|gamma)$", r"\1.scale"),
    (r"(mask_downsampler)\.encoder\.0\.", r"\1.layers.0.conv."),
    (r"(mask_downsampler)\.encoder\.1\.", r"\1.layers.0.layer_norm."),
    (r"(mask_downsampler)\.encoder\.3\.", r"\1.layers.1.conv."),
    (r"(mask_downsampler)\.encoder\.4\.", r"\1.layers.1.layer_norm."),
    (r"(mask_downsampler)\.encoder\.6\.", r"\1.layers.2.conv."),
    (r"(mask_downsampler)\.encoder\.7\.", r"\1.layers.2.layer_norm."),
    (r"(mask_downsampler)\.encoder\.9\.", r"\1.layers.3.conv."),
    (r"(mask_downsampler)\.encoder\.10\.", r"\1.layers.3.layer_norm."),
    (r"(mask_downsampler)\.encoder\.12\.", r"\1.final_conv."),
    (r"(memory_attention)\.norm\.", r"\1.layer_norm."),
    (r"(memory_attention\.layers\.\d+)\.norm([1-3])\.", r"\1.layer_norm\2."),
    (r"\.obj_ptr_proj\.layers\.0\.", ".object_pointer_proj.proj_in."),
    (r"\.obj_ptr_proj\.layers\.1\.", ".object_pointer_proj.layers.0."),
    (r"\.obj_ptr_proj\.layers\.2\.", ".object_pointer_proj.proj_out."),
    (r"\.maskmem_tpos_enc$", ".memory_temporal_positional_encoding"),
    (r"\.no_mem_embed$", ".no_memory_embedding"),
    (r"\.no_mem_pos_enc$", ".no_memory_positional_encoding"),
    (r"\.no_obj_ptr$", ".no_object_pointer"),
    (r"^(sam\..*)\.out_proj\.", r"\1.o_proj."),
)
"""(pattern, replacement), applied in this order to every upstream key."""

SPLIT = re.compile(r"^(vision\..*\.attention)\.qkv\.(weight|bias)$")
"""Three equal blocks of rows: query, key, value."""
JOIN = re.compile(r"^(sam\.sam2\.prompt_encoder)\.point_embeddings\.(\d)\.weight$")
"""Rows of one table, one upstream tensor each."""
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


def rename(key: str) -> str:
    """Our name of an upstream key, before splitting and joining.

    Example:
        >>> rename("vision_model.encoder.layers.0.ls1")
        'vision.encoder.layer.0.lambda_1'
    """
    for pattern, replacement in RENAMES:
        key = re.sub(pattern, replacement, key)
    return key


def convert_state(
    upstream: Iterable[tuple[str, Tensor]], config: EarthMindConfig
) -> dict[str, Tensor]:
    """Our state dict from upstream tensors.

    Args:
        upstream: (key, tensor) pairs; read lazily, one at a time.
        config: `sam_memory` and `local_query_width` decide what is kept.

    Returns:
        Every parameter under our name.
    """
    state: dict[str, Tensor] = {}
    points: dict[str, dict[int, Tensor]] = {}
    for key, tensor in upstream:
        name = rename(key)
        if not config.sam_memory and MEMORY.match(name):
            continue
        if name == "local_query" and not config.local_query_width:
            continue
        if found := SPLIT.match(name):
            parts = tensor.chunk(3, dim=0)
            for letter, part in zip("qkv", parts, strict=True):
                state[f"{found[1]}.{letter}_proj.{found[2]}"] = part.contiguous()
        elif found := JOIN.match(name):
            points.setdefault(f"{found[1]}.point_embed.weight", {})[int(found[2])] = tensor
        else:
            state[name] = tensor
        if name in COPY:
            state[COPY[name]] = tensor.clone()
    for name, rows in points.items():
        state[name] = torch.cat([rows[index] for index in sorted(rows)])
    return state


def load_upstream(source: str | PathLike[Any], config: EarthMindConfig) -> dict[str, Tensor]:
    """Read a published checkpoint under our names.

    Args:
        source: A .safetensors file, or a folder of them.
        config: As for `convert_state`.

    Raises:
        ModelNotFound: Nothing there.
        UnsafeCheckpoint: The weights are in a format that can run code.
    """
    return convert_state(_tensors(weight_files(source)), config)


def is_upstream(folder: str | PathLike[Any]) -> bool:
    """Whether a folder holds a published checkpoint in its own layout."""
    path = Path(folder) / "config.json"
    return path.is_file() and "llm_config" in json.loads(path.read_text())


def read_config(folder: str | PathLike[Any]) -> EarthMindConfig:
    """The configuration of a folder, in our layout or upstream's.

    Raises:
        ModelNotFound: No config.json.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise ModelNotFound(f"{folder} holds no model.", change="pass a folder with config.json")
    fields = json.loads(path.read_text())
    if "llm_config" in fields:
        return EarthMindConfig.from_upstream(fields, sam2=fields.get("sam2"))
    config: EarthMindConfig = EarthMindConfig.from_dict(fields)
    return config


def read_upstream(folder: str | PathLike[Any]) -> tuple[EarthMindConfig, dict[str, Tensor]]:
    """Configuration and weights of a published checkpoint folder.

    The stray `local_query` is kept where it exists; its presence says nothing else.
    """
    config = read_config(folder)
    width = 0
    for path in weight_files(folder):
        with safe_open(path, "pt") as handle:
            if "local_query" in list(handle.keys()):
                width = handle.get_slice("local_query").get_shape()[1]
    config.local_query_width = width
    return config, load_upstream(folder, config)


def convert_checkpoint(
    source: str | PathLike[Any], target: str | PathLike[Any], **changes: Any
) -> Path:
    """Write a published checkpoint folder in our own layout.

    Args:
        source: Folder with config.json, tokenizer.json and safetensors files.
        target: Folder to write.
        changes: Config fields to set, for example ``fusion="weighted"``.

    Returns:
        `target`.
    """
    from earthmind_lab.model.modeling import EarthMindForConditionalGeneration
    from earthmind_lab.model.processing import EarthMindProcessor

    config, state = read_upstream(source)
    for name, value in changes.items():
        setattr(config, name, value)
    processor = EarthMindProcessor.from_pretrained(source, config)
    model = EarthMindForConditionalGeneration.from_pretrained(
        None, config=config, state_dict=state, dtype="auto"
    )
    model.save_pretrained(target)
    processor.save_pretrained(target)
    return Path(target)


def check_folder(folder: str | PathLike[Any]) -> None:
    """Refuse a folder without safe weights.

    Raises:
        ModelNotFound: No config.json, or no weights.
        UnsafeCheckpoint: Weights only in a format that can run code.
    """
    read_config(folder)
    weight_files(folder)


def weight_files(source: str | PathLike[Any]) -> list[Path]:
    """The safetensors files of a checkpoint, checked to be such.

    Raises:
        ModelNotFound: Nothing there.
        UnsafeCheckpoint: Another format, whatever the file is called.
    """
    source = Path(source)
    if not source.exists():
        raise ModelNotFound(f"There is no checkpoint at {source}.")
    files = sorted(source.glob("*.safetensors")) if source.is_dir() else [source]
    present = sorted(source.iterdir()) if source.is_dir() else [source]
    unsafe = [path.name for path in present if path.suffix in UNSAFE_SUFFIXES]
    if unsafe and (not files or not source.is_dir()):
        raise UnsafeCheckpoint(
            f"The weights at {source} are in a format that can run code when opened.",
            found=", ".join(unsafe[:3]),
            change="save them as safetensors",
        )
    if not files:
        raise ModelNotFound(f"{source} holds no weights.", change="expected *.safetensors")
    for path in files:
        _check_header(path)
    return files


def _check_header(path: Path) -> None:
    """A renamed pickle or archive is refused before anything reads it."""
    try:
        with safe_open(path, "pt"):
            return
    except (SafetensorError, OSError) as error:
        raise UnsafeCheckpoint(
            f"{path.name} is not a safetensors file.",
            found=str(error),
            change="save the weights as safetensors",
        ) from error


def _tensors(files: Iterable[Path]) -> Iterator[tuple[str, Tensor]]:
    for path in files:
        with safe_open(path, "pt") as handle:
            for key in list(handle.keys()):
                yield key, handle.get_tensor(key)
