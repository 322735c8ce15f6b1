"""EarthMind: vision tower, projector, language model and mask tower in one model.

The parts are transformers' own classes; this file joins them and offers the steps an engine
caches one by one: `encode_views` -> `embed` -> `forward` -> `segment_features` -> `segment`.
Who needs no steps calls `generate` or, to train, `forward` with pictures and labels.

Shapes: B batch, N pictures or objects, P vision tokens, T visual tokens, L prompt length,
C channels, D width of the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForImageTextToText,
    InternVLVisionModel,
    PreTrainedModel,
    Qwen2ForCausalLM,
)
from transformers.cache_utils import Cache
from transformers.utils.generic import ModelOutput

from earthmind_lab.errors import EngineError
from earthmind_lab.model.config import EarthMindConfig
from earthmind_lab.model.fusion import OFF, weighted
from earthmind_lab.model.generation import PictureGenerationMixin
from earthmind_lab.model.load_report import check_complete, quiet
from earthmind_lab.model.losses import text_loss
from earthmind_lab.model.segmentation import MaskTower, SamFeatures, resize_logits


@dataclass
class EarthMindOutput(ModelOutput):
    """What the language model returns."""

    loss: Tensor | None = None
    """Cross-entropy of the next tokens, where labels were given."""
    logits: Tensor | None = None
    """(B, L, vocabulary)."""
    last_hidden_state: Tensor | None = None
    """(B, L, D), after the final norm; `segment` takes rows of it."""
    past_key_values: Cache | None = None
    """Keys and values of everything read so far."""
    hidden_states: tuple[Tensor, ...] | None = None
    """(`last_hidden_state`,) where `output_hidden_states` asks for it: what `marks` needs, not the
    states of all layers."""


class EarthMindForConditionalGeneration(PreTrainedModel, PictureGenerationMixin):
    """The composite.

    Args:
        config: Sizes of all parts.

    Attributes:
        vision: InternVL vision tower.
        projector: Visual tokens to the language model's width (upstream's ``mlp1``).
        language: Qwen2 with its head.
        text_head: State of a [SEG] token to a mask prompt (upstream's ``text_hidden_fcs``).
        sam: The mask tower.
        local_query: A stray parameter of some checkpoints; kept, never used.
    """

    config_class = EarthMindConfig
    main_input_name = "input_ids"
    input_modalities = ["image", "text"]  # noqa: RUF012 - the library declares it
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012 - the library declares it
    _no_split_modules = [  # noqa: RUF012 - the library declares it
        "InternVLVisionLayer",
        "Qwen2DecoderLayer",
        "Sam2MultiScaleBlock",
    ]

    def __init__(self, config: EarthMindConfig) -> None:
        super().__init__(config)
        vision, text = config.vision_config, config.text_config
        width, mask_width = text.hidden_size, config.sam_config.mask_decoder_config.hidden_size
        stacked = int(vision.hidden_size / config.downsample_ratio**2)
        self.vision = InternVLVisionModel(vision)
        self.projector = nn.Sequential(
            nn.LayerNorm(stacked), nn.Linear(stacked, width), nn.GELU(), nn.Linear(width, width)
        )
        self.language = Qwen2ForCausalLM(text)
        self.text_head = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, mask_width), nn.Dropout(0.0)
        )
        self.sam = MaskTower(config)
        if config.local_query_width:
            self.local_query = nn.Parameter(torch.zeros(2, config.local_query_width))
        self.post_init()  # type: ignore[no-untyped-call]
        self.sam.share_positions()

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | PathLike[Any] | None,
        *inputs: Any,
        **options: Any,
    ) -> EarthMindForConditionalGeneration:
        """Load a model in our own layout or in the published one; no remote code.

        Args:
            pretrained_model_name_or_path: A folder with config.json and safetensors files (one or
                shards), an alias of `published.MODELS`, or a hub id; None with `config` and
                `state_dict`.
            inputs: Passed on.
            options: Of transformers' `from_pretrained`: ``dtype``, ``attn_implementation``,
                ``device_map``, ``quantization_config``, ``revision``, ...; ``fusion`` and
                ``mask_source`` replace what the folder's config says.

        Returns:
            The model in evaluation mode.

        Raises:
            ModelNotFound: No config.json or no weights in the folder.
            UnsafeCheckpoint: The weights are in a format that can run code.
            EngineError: The weights are those of another model: some are missing or left over.
        """
        from earthmind_lab.model import convert, published
        from earthmind_lab.model.files import is_published, read_json, weight_files

        name = pretrained_model_name_or_path
        settings = {key: options.pop(key) for key in SETTINGS if key in options}
        where = None
        if name is not None:
            folder = published.local_folder(name, options.pop("revision", None))
            upstream = is_published(read_json(folder / "config.json"))
            weight_files(folder)
            if upstream:
                config, state = convert.read_upstream(folder)
                if (row := published.row_of(str(name))) is not None:
                    settings = {"fusion": row.fusion, "licence": row.licence} | settings
                options = {"config": config, "state_dict": state} | options
            else:
                where = str(folder)
                options = {"use_safetensors": True, "local_files_only": True} | options
                options.setdefault("config", convert.read_config(folder))
        for key, value in settings.items():
            setattr(options["config"], key, value)
        report = options.pop("output_loading_info", False)
        # Wrong sizes come back in the report instead of as an error that names no tensor.
        options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
        with quiet():
            loaded: Any = super().from_pretrained(where, *inputs, **options)
        check_complete(loaded[1])
        return loaded if report else loaded[0]  # type: ignore[no-any-return]

    def get_input_embeddings(self) -> nn.Module:
        """The language model's embedding table."""
        table: nn.Module = self.language.get_input_embeddings()
        return table

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the language model's embedding table."""
        self.language.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """The language model's head."""
        head: nn.Module = self.language.get_output_embeddings()
        return head

    def vision_features(self, pixel_values: Tensor) -> Tensor:
        """Last hidden states of the vision tower, one per vision patch.

        Args:
            pixel_values: (N, 3, S, S), normalised.

        Returns:
            (N, P, C), row-major from the north-west; the class token is left out.
        """
        hidden: Tensor = self.vision(pixel_values).last_hidden_state
        return hidden[:, 1:]

    def project(self, features: Tensor) -> Tensor:
        """Visual tokens from vision features: pixel shuffle, then the projector.

        Args:
            features: (N, P, C) of a square grid.

        Returns:
            (N, T, D), row-major.
        """
        return self.projector(pixel_shuffle(features, self.config.downsample_ratio))  # type: ignore[no-any-return]

    def encode_views(self, pixel_values: Tensor) -> Tensor:
        """Visual tokens of pictures.

        Args:
            pixel_values: (N, 3, S, S), normalised.

        Returns:
            (N, T, D).
        """
        return self.project(self.vision_features(pixel_values))

    def embed(
        self, input_ids: Tensor, slots: Tensor | None = None, *, image_token_id: int | None = None
    ) -> Tensor:
        """Input embeddings of a prompt, its picture placeholders filled.

        Args:
            input_ids: (B, L).
            slots: (n, D) visual tokens in the order of the placeholders; None without pictures.
            image_token_id: Id of the placeholder; default from the config.

        Returns:
            (B, L, D).

        Raises:
            EngineError: The number of placeholders and of tokens differ.
        """
        embeds: Tensor = self.get_input_embeddings()(input_ids)
        if slots is None:
            return embeds
        token = self.config.image_token_id if image_token_id is None else image_token_id
        places = input_ids == token  # (B, L)
        if int(places.sum()) != slots.shape[0]:
            raise EngineError(
                "The prompt and its pictures do not fit together.",
                found=f"{int(places.sum())} placeholders (id {token}), {slots.shape[0]} tokens",
                change="build the prompt with the tile counts of the encoded views",
            )
        return embeds.masked_scatter(places[..., None], slots.to(embeds.dtype))

    def prompt_embeds(
        self,
        input_ids: Tensor,
        pixel_values: Tensor | None = None,
        slots: Tensor | None = None,
        pairs: Tensor | None = None,
    ) -> Tensor:
        """Input embeddings of prompts with their pictures, in one call.

        Args:
            input_ids: (B, L).
            pixel_values: (N, 3, S, S) squares of all prompts; None without pictures.
            slots: (n,) row of the table of visual tokens that fills each placeholder, in the order
                of the placeholders; default: the rows in their own order. The table holds the
                N * T tokens of the squares, then the fused tokens of each of `pairs`.
            pairs: (G, 9) pairs to fuse by weight; see `batch.PairRow`.

        Returns:
            (B, L, D).
        """
        if pixel_values is None:
            return self.embed(input_ids)
        tokens = self.encode_views(pixel_values.to(self.dtype))
        return self.fill(input_ids, tokens, slots, pairs)

    def fill(
        self,
        input_ids: Tensor,
        tokens: Tensor,
        slots: Tensor | None = None,
        pairs: Tensor | None = None,
    ) -> Tensor:
        """`prompt_embeds` of squares that are encoded already: `tokens` (N, T, D)."""
        table = tokens.flatten(0, 1)
        for row in [] if pairs is None else pairs.tolist():
            table = torch.cat([table, self._fused(tokens, input_ids, row)])
        return self.embed(input_ids, table if slots is None else table[slots])

    def _fused(self, tokens: Tensor, input_ids: Tensor, row: Sequence[int]) -> Tensor:
        """(tiles * T, D) of one row of `pairs`."""
        prompt, sar, tiles, optical, squares, composites, start, stop, off = row
        text = self.get_input_embeddings()(input_ids[prompt, start:stop])  # (M, D)
        fused, _, _ = weighted(
            tokens[optical : optical + squares],
            tokens[sar : sar + tiles],
            text,
            composites=composites,
            off=OFF[off],
        )
        return fused.flatten(0, 1)

    def forward(  # noqa: PLR0913, PLR0917 - the library's form, with what this model adds
        self,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        pixel_values: Tensor | None = None,
        slots: Tensor | None = None,
        pairs: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> EarthMindOutput:
        """One pass of the language model.

        Args:
            input_ids: (B, L); or
            inputs_embeds: (B, L, D), from `embed` or `prompt_embeds`.
            attention_mask: (B, keys) with 1 = seen, or an additive (B, 1, L, keys) mask.
            position_ids: (B, L); default follows the cache.
            past_key_values: What was read before; extended in place.
            use_cache: Return a cache.
            logits_to_keep: Compute logits of the last so many positions only (0 = all), or of
                these positions.
            pixel_values: With `input_ids`: pictures to put into the prompt; see `prompt_embeds`.
            slots: See `prompt_embeds`.
            pairs: See `prompt_embeds`.
            labels: (B, L) ids to predict, each at its own place, -100 = none.
            output_hidden_states: Also return the last hidden state under the library's name.
            kwargs: Passed to the language model.

        Returns:
            Loss where labels were given, logits, last hidden state of all positions, cache.
        """
        kwargs.pop("return_dict", None)
        if pixel_values is not None and inputs_embeds is None and input_ids is not None:
            inputs_embeds = self.prompt_embeds(input_ids, pixel_values, slots, pairs)
        outputs = self.language.get_decoder()(  # also of one with adapters
            input_ids=input_ids if inputs_embeds is None else None,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            **kwargs,
        )
        hidden = outputs.last_hidden_state  # (B, L, D)
        kept = hidden[:, -logits_to_keep:] if isinstance(logits_to_keep, int) else None
        if kept is None:
            kept = hidden[:, logits_to_keep]
        logits = self.language.lm_head(kept)
        return EarthMindOutput(
            loss=None if labels is None else text_loss(logits, labels[:, -logits.shape[1] :]),
            logits=logits,
            last_hidden_state=hidden,
            past_key_values=outputs.past_key_values,
            hidden_states=(hidden,) if output_hidden_states else None,
        )

    def segment_features(self, sam_pixel_values: Tensor) -> SamFeatures:
        """What the mask tower sees of pictures; keep it to draw further masks.

        Args:
            sam_pixel_values: (B, 3, S, S), normalised for SAM 2.
        """
        features: SamFeatures = self.sam.encode(sam_pixel_values)
        return features

    def segment(self, features: SamFeatures, seg_hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Masks of [SEG] tokens.

        The state of a [SEG] is `last_hidden_state` at the step that *reads* the token. A [SEG]
        that ends an answer must therefore be fed once more to get its mask.

        Args:
            features: Of one picture, or of one picture per object.
            seg_hidden: (N, D).

        Returns:
            Logits (N, h, w) of the chosen mask, predicted IoU (N,), object score (N,).
        """
        chosen: tuple[Tensor, Tensor, Tensor] = self.sam(features, self.text_head(seg_hidden))
        return chosen

    def all_masks(
        self, features: SamFeatures, seg_hidden: Tensor, *, multimask: bool | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Every candidate mask: logits (N, M, h, w), IoU (N, M), object score (N,)."""
        return self.sam.decode(features, self.text_head(seg_hidden), multimask=multimask)

    def resize_logits(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Mask logits (N, h, w) on the grid of a picture of `size` (H, W)."""
        return resize_logits(logits, size, sam_image_size=self.config.sam_image_size)


AutoModelForImageTextToText.register(EarthMindConfig, EarthMindForConditionalGeneration)

SETTINGS = ("fusion", "mask_source", "licence")
"""What weights can't tell: fields of the config that `from_pretrained` takes by name."""


def pixel_shuffle(features: Tensor, ratio: float) -> Tensor:
    """Stack neighbouring vision tokens on channels.

    Args:
        features: (N, P, C) of a square grid.
        ratio: 0.5 stacks 2x2 tokens.

    Returns:
        (N, P * ratio², C / ratio²); a cell holds its tokens row by row.
    """
    count, tokens, width = features.shape
    side, block = int(tokens**0.5), round(1 / ratio)
    cells = side // block
    split = features.reshape(count, cells, block, cells, block, width)
    return split.transpose(2, 3).reshape(count, cells * cells, block * block * width)
