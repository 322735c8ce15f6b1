"""Sizes, pixel constants and text template of an EarthMind model: everything that is data.

One class describes the published checkpoints and small models of our own; what differs between
them is a field here, never a branch on a name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypedDict, Unpack

from transformers import (
    AutoConfig,
    InternVLVisionConfig,
    PreTrainedConfig,
    Qwen2Config,
    Sam2VideoConfig,
    Sam2VideoMaskDecoderConfig,
)

PHI3_CHAT: dict[str, Any] = {
    "name": "phi3_chat",
    "user_prefix": "<|user|>\n",
    "user_suffix": "<|end|>\n<|assistant|>\n",
    "reply_suffix": "<|end|>\n",
    "stop": ["<|end|>"],
}
"""Strings around a question and a reply; plain text for the tokenizer unless it says otherwise."""

QWEN_CHAT: dict[str, Any] = {
    "name": "qwen_chat",
    "user_prefix": "<|im_start|>user\n",
    "user_suffix": "<|im_end|>\n<|im_start|>assistant\n",
    "reply_suffix": "<|im_end|>\n",
    "stop": ["<|im_end|>"],
}

TEMPLATES: dict[str, dict[str, Any]] = {"phi3_chat": PHI3_CHAT, "qwen_chat": QWEN_CHAT}

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Upstream creates these two in bf16 whatever the model's dtype; the rounding is part of the model.
SAM_MEAN = (0.484375, 0.455078125, 0.40625)
SAM_STD = (0.228515625, 0.2236328125, 0.224609375)


class Sam2Sizes(TypedDict, total=False):
    """The sizes that differ between members of the SAM 2 family, in its own names."""

    image_size: int
    """Input side in pixels, a multiple of four times `patch_stride`."""
    embed_dim: int
    """Width of the first hiera stage; doubles at each stage."""
    num_heads: int
    """Heads of the first stage; double at each stage."""
    stages: list[int]
    """Blocks per stage."""
    global_att_blocks: list[int]
    """Blocks without windows, counted over all stages; none may open a stage."""
    bkg: list[int]
    """Size of the background position code."""
    window_spec: list[int]
    """Window side per stage."""
    d_model: int
    """Width of the feature pyramid and the mask decoder."""
    mem_dim: int
    """Channels of a memory."""
    mem_ff: int
    """Feed-forward width of the memory attention."""
    mem_layers: int
    """Layers of the memory attention."""
    patch_stride: int
    """Stride of the first convolution."""
    mlp_dim: int
    """Feed-forward width of the mask decoder."""
    iou_head_hidden_dim: int
    """Width of the head that predicts a mask's IoU."""
    dynamic_multimask: bool
    """Outside training, replace an unstable single mask by the best of three."""


SAM2_LARGE: Sam2Sizes = {
    "image_size": 1024,
    "embed_dim": 144,
    "num_heads": 2,
    "stages": [2, 6, 36, 4],
    "global_att_blocks": [23, 33, 43],
    "bkg": [7, 7],
    "window_spec": [8, 4, 16, 8],
    "d_model": 256,
    "mem_dim": 64,
    "mem_ff": 2048,
    "mem_layers": 4,
    "patch_stride": 4,
    "mlp_dim": 2048,
    "iou_head_hidden_dim": 256,
    "dynamic_multimask": True,
}
"""Hiera-large, the mask tower of the published checkpoints."""


AS_PUBLISHED = ("vv", "true_colour")
"""The public sets that EarthMind was trained on pair one grey SAR picture with one in true colour.
How each of them was stretched to 8 bit isn't published; ours is fixed, the same on every chip."""


class EarthMindConfig(PreTrainedConfig):
    """Configuration of `EarthMindForConditionalGeneration`.

    Args:
        vision_config: InternVL vision tower (dict or config).
        text_config: Qwen2 language model; `vocab_size` must equal the tokenizer's length.
        sam_config: SAM 2 sizes; without `sam_memory` only its vision encoder, prompt encoder and
            mask decoder are built.
        image_size: Side of the square the vision tower reads, in pixels.
        sam_image_size: Side of the square SAM 2 reads, in pixels.
        downsample_ratio: Pixel shuffle; 0.5 turns four vision tokens into one visual token.
        min_dynamic_patch: Fewest squares a picture is cut into.
        max_dynamic_patch: Most squares a picture is cut into; 1 = never cut.
        use_thumbnail: Append the whole picture as last square when it was cut.
        max_frames: Most views of one sensor that the language model reads; the published code
            drops further ones without a word.
        composites: Names in `render.COMPOSITES` of the pictures it is shown of a chip; empty =
            those of `render.PREFERRED`.
        template: Text around questions and replies (see `PHI3_CHAT`).
        fusion: How optical and SAR tokens meet: ``concatenate`` or ``weighted``.
        mask_source: The sensor whose picture SAM 2 sees in a pair; ``sar`` as published.
        pixel_mean: Mean of the vision tower's input, in 0 to 1.
        pixel_std: Standard deviation of the same.
        sam_pixel_mean: Mean of SAM 2's input, rounded to bf16 as published.
        sam_pixel_std: Standard deviation of the same.
        notice: What to say wherever this model speaks; empty for the published EarthMind.
        licence: Licence of the weights.
        multimask_output: Take the best of three masks by predicted IoU (as published) instead of
            the single one.
        group_norm_fpn: Normalise each level of SAM 2's feature pyramid (for small models trained
            from nothing; never in a published checkpoint).
        sam_memory: Build SAM 2's video memory too (needed to hold a published checkpoint).
        local_query_width: Width of the stray parameter `local_query`; 0 = absent.
        image_token_id: Id of ``<IMG_CONTEXT>``; filled in from the tokenizer.
        seg_token_id: Id of ``[SEG]``; filled in from the tokenizer.
    """

    model_type = "earthmind"
    sub_configs_defaults: ClassVar[dict[str, Any]] = {
        "vision_config": InternVLVisionConfig,
        "text_config": Qwen2Config,
        "sam_config": Sam2VideoConfig,
    }

    # Older versions of the library know the parts by this name, and leave making them to us.
    if not hasattr(PreTrainedConfig, "sub_configs_defaults"):
        sub_configs = sub_configs_defaults

    vision_config: Any = None
    text_config: Any = None
    sam_config: Any = None
    image_size: int = 448
    sam_image_size: int = 1024
    downsample_ratio: float = 0.5
    min_dynamic_patch: int = 1
    max_dynamic_patch: int = 12
    use_thumbnail: bool = True
    max_frames: int = 5
    composites: list[str] | tuple[str, ...] = ()
    template: Any = None
    fusion: str = "concatenate"
    mask_source: str = "sar"
    pixel_mean: list[float] | tuple[float, ...] = IMAGENET_MEAN
    pixel_std: list[float] | tuple[float, ...] = IMAGENET_STD
    sam_pixel_mean: list[float] | tuple[float, ...] = SAM_MEAN
    sam_pixel_std: list[float] | tuple[float, ...] = SAM_STD
    notice: str = ""
    licence: str = ""
    multimask_output: bool = True
    group_norm_fpn: bool = False
    sam_memory: bool = True
    local_query_width: int = 0
    image_token_id: int | None = None
    seg_token_id: int | None = None
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        if self.template is None:
            self.template = dict(PHI3_CHAT)
        if not hasattr(PreTrainedConfig, "sub_configs_defaults"):
            self._make_parts()
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]
        # The language model decides; the composite repeats it for the library's weight tying.
        self.tie_word_embeddings = bool(self.text_config.tie_word_embeddings)

    def _make_parts(self) -> None:
        """Configs of the parts from their fields, as newer versions of the library do."""
        for name, kind in self.sub_configs_defaults.items():
            fields = getattr(self, name)
            if fields is None or isinstance(fields, Mapping):
                fields = dict(fields or {})
                decoder = fields.get("mask_decoder_config")
                if isinstance(decoder, Mapping):  # they would take it for a prompt encoder
                    fields["mask_decoder_config"] = Sam2VideoMaskDecoderConfig(**decoder)
                setattr(self, name, kind(**fields))

    @property
    def grid_side(self) -> int:
        """Visual tokens along one side of a square."""
        patch: int = self.vision_config.patch_size[0]
        return int(self.image_size // patch * self.downsample_ratio)

    @property
    def tokens_per_tile(self) -> int:
        """Visual tokens of one square."""
        return self.grid_side**2

    @classmethod
    def from_upstream(
        cls, published: Mapping[str, Any], *, sam2: Sam2Sizes | None = None, **changes: Any
    ) -> EarthMindConfig:
        """Read the published config.json.

        Args:
            published: Its content (``llm_config``, ``vision_config``, model_type ``sa2va_chat``).
            sam2: Sizes of the SAM 2 part in its own names; default hiera-large.
            changes: Fields of this class to set beside it.

        Returns:
            The same model in our names.
        """
        sizes: Sam2Sizes = {**SAM2_LARGE, **(sam2 or {})}
        template = published.get("template", "phi3_chat")
        vision = _vision(published["vision_config"])
        fields: dict[str, Any] = {
            "vision_config": vision,
            "text_config": _text(published["llm_config"]),
            "sam_config": sam2_config(**sizes),
            "image_size": published.get("force_image_size") or vision["image_size"],
            "sam_image_size": sizes["image_size"],
            "downsample_ratio": published.get("downsample_ratio", 0.5),
            "min_dynamic_patch": published.get("min_dynamic_patch", 1),
            "max_dynamic_patch": published.get("max_dynamic_patch", 12),
            "use_thumbnail": published.get("use_thumbnail", True),
            "template": dict(TEMPLATES[template]) if isinstance(template, str) else template,
            "local_query_width": 2048,
            "composites": AS_PUBLISHED,
        }
        return cls(**{**fields, **changes})


AutoConfig.register(EarthMindConfig.model_type, EarthMindConfig)


def _vision(published: Mapping[str, Any]) -> dict[str, Any]:
    """InternViT's fields under InternVLVisionConfig's names."""
    same = (
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "hidden_act",
        "norm_type",
        "layer_norm_eps",
        "image_size",
        "patch_size",
    )
    return {name: published[name] for name in same if name in published} | {
        "attention_bias": published.get("qkv_bias", True),
        "use_qk_norm": published.get("qk_normalization", False),
        # The other branch of this switch is a final norm that the checkpoint has no weights for.
        "use_mean_pooling": True,
    }


def _text(published: Mapping[str, Any]) -> dict[str, Any]:
    """Qwen2's fields; only the rotary base moved to a dict since."""
    dropped = ("architectures", "model_type", "rope_theta", "torch_dtype", "_name_or_path")
    fields = {name: value for name, value in published.items() if name not in dropped}
    theta = float(published.get("rope_theta", 1_000_000.0))
    return fields | {"rope_parameters": {"rope_type": "default", "rope_theta": theta}}


def sam2_config(**sizes: Unpack[Sam2Sizes]) -> Sam2VideoConfig:
    """A SAM 2 configuration from a handful of sizes; what is not given is hiera-large's.

    Args:
        sizes: See `Sam2Sizes`.

    Returns:
        A config for transformers' SAM 2 classes.

    Raises:
        ValueError: A block that opens a stage is global, which the library cannot compute.

    Example:
        >>> sam2_config(image_size=256).vision_config.backbone_feature_sizes
        [[64, 64], [32, 32], [16, 16]]
    """
    all_sizes: Sam2Sizes = {**SAM2_LARGE, **sizes}
    stages, width = all_sizes["stages"], all_sizes["d_model"]
    opening = {sum(stages[:stage]) for stage in range(1, len(stages))}
    if wrong := opening & set(all_sizes["global_att_blocks"]):
        raise ValueError(f"global_att_blocks {sorted(wrong)} open a stage; take a later block")
    side, stride = all_sizes["image_size"], all_sizes["patch_stride"]
    coarse = side // stride // 4
    return Sam2VideoConfig(
        vision_config=_pyramid(all_sizes),
        prompt_encoder_config={
            "hidden_size": width,
            "image_size": side,
            "patch_size": stride * 4,
        },
        mask_decoder_config=Sam2VideoMaskDecoderConfig(
            hidden_size=width,
            mlp_dim=all_sizes["mlp_dim"],
            iou_head_hidden_dim=all_sizes["iou_head_hidden_dim"],
            dynamic_multimask_via_stability=all_sizes["dynamic_multimask"],
        ),
        image_size=side,
        enable_occlusion_spatial_embedding=False,
        enable_temporal_pos_encoding_for_object_pointers=False,
        memory_attention_hidden_size=width,
        memory_attention_num_layers=all_sizes["mem_layers"],
        memory_attention_feed_forward_hidden_size=all_sizes["mem_ff"],
        memory_attention_rope_feat_sizes=[coarse, coarse],
        memory_encoder_hidden_size=width,
        memory_encoder_output_channels=all_sizes["mem_dim"],
        mask_downsampler_embed_dim=width,
        memory_fuser_embed_dim=width,
        memory_fuser_intermediate_dim=4 * width,
    )


def _pyramid(sizes: Sam2Sizes) -> dict[str, Any]:
    """SAM 2's image encoder; the pyramid strides are 1, 2 and 4 times `patch_stride`."""
    side, stride = sizes["image_size"], sizes["patch_stride"]
    widths = [sizes["embed_dim"] * 2**stage for stage in range(4)]
    return {
        "model_type": "sam2_vision_model",
        "backbone_config": {
            "model_type": "sam2_hiera_det_model",
            "hidden_size": sizes["embed_dim"],
            "num_attention_heads": sizes["num_heads"],
            "image_size": [side, side],
            "patch_stride": [stride, stride],
            "window_positional_embedding_background_size": list(sizes["bkg"]),
            "blocks_per_stage": list(sizes["stages"]),
            "embed_dim_per_stage": widths,
            "num_attention_heads_per_stage": [sizes["num_heads"] * 2**stage for stage in range(4)],
            "window_size_per_stage": list(sizes["window_spec"]),
            "global_attention_blocks": list(sizes["global_att_blocks"]),
        },
        "backbone_channel_list": widths[::-1],
        "backbone_feature_sizes": [[side // stride // 2**level] * 2 for level in range(3)],
        "fpn_hidden_size": sizes["d_model"],
    }
