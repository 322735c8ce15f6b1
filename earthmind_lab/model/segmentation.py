"""The mask tower: SAM 2's parts, prompted by a hidden state of the language model.

transformers has no single-frame call that takes a language prompt, and its video call blanks a
mask whose object score is negative; EarthMind does neither, so the parts are called one by one:
picture -> feature pyramid; two "not a point" tokens + the language embedding -> mask decoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Sam2Config, Sam2Model, Sam2VideoModel

from earthmind_lab.errors import EngineError
from earthmind_lab.model.config import EarthMindConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class SamFeatures:
    """What SAM 2 saw of one or more pictures: enough to draw any number of masks."""

    embedding: Tensor
    """(B, C, h, w), the coarsest level with the "no memory" code added."""
    fine: Tensor
    """(B, C/8, 4h, 4w), the finest level, projected for the decoder."""
    middle: Tensor
    """(B, C/4, 2h, 2w), the level between, projected for the decoder."""

    @property
    def nbytes(self) -> int:
        """Bytes held on the device."""
        return sum(t.numel() * t.element_size() for t in (self.embedding, self.fine, self.middle))

    def to(self, device: torch.device | str) -> SamFeatures:
        """The same features on another device."""
        return SamFeatures(
            embedding=self.embedding.to(device),
            fine=self.fine.to(device),
            middle=self.middle.to(device),
        )

    def select(self, index: Tensor) -> SamFeatures:
        """Features of the pictures `index` (N,), repeated as asked; one picture per object."""
        return SamFeatures(
            embedding=self.embedding[index], fine=self.fine[index], middle=self.middle[index]
        )


class MaskTower(nn.Module):
    """SAM 2 with a language prompt.

    Args:
        config: Sizes; `sam_memory` decides between the video class and the single-picture class,
            whose common parts have the same names.
    """

    def __init__(self, config: EarthMindConfig) -> None:
        super().__init__()
        sam = config.sam_config
        if config.sam_memory:
            self.sam2: Any = Sam2VideoModel(sam)
        else:
            self.sam2 = Sam2Model(_without_memory(sam))
        self.multimask_output = config.multimask_output
        levels = sam.vision_config.num_feature_levels if config.group_norm_fpn else 0
        width = sam.vision_config.fpn_hidden_size
        self.fpn_norms = nn.ModuleList(nn.GroupNorm(1, width) for _ in range(levels))

    def share_positions(self) -> None:
        """Give prompts and pictures one position code, as every trained SAM 2 has it.

        The library draws the two copies independently, which matters only for a model that
        starts from nothing.
        """
        source = self.sam2.shared_image_embedding.positional_embedding
        if source.device.type != "meta":
            with torch.no_grad():
                self.sam2.prompt_encoder.shared_embedding.positional_embedding.copy_(source)

    def encode(self, pixel_values: Tensor) -> SamFeatures:
        """Features of pictures.

        Args:
            pixel_values: (B, 3, S, S), normalised.

        Returns:
            What `decode` needs; gradients flow.
        """
        levels = self.sam2.vision_encoder(pixel_values).fpn_hidden_states  # fine to coarse
        if len(self.fpn_norms):
            levels = [norm(level) for norm, level in zip(self.fpn_norms, levels, strict=True)]
        decoder = self.sam2.mask_decoder
        return SamFeatures(
            embedding=levels[2] + self.sam2.no_memory_embedding.reshape(1, -1, 1, 1),
            fine=decoder.conv_s0(levels[0]),
            middle=decoder.conv_s1(levels[1]),
        )

    def decode(
        self, features: SamFeatures, prompts: Tensor, *, multimask: bool | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """All masks of language prompts.

        Args:
            features: Of one picture for all prompts, or of one picture per prompt.
            prompts: (N, C) language embeddings.
            multimask: Three masks instead of one; default as configured.

        Returns:
            Logits (N, M, 4h, 4w), predicted IoU (N, M), object score (N,).

        Raises:
            EngineError: The number of pictures fits neither form.
        """
        pictures, objects = features.embedding.shape[0], prompts.shape[0]
        if pictures not in (1, objects):
            raise EngineError(
                "Masks need one picture for all objects or one for each.",
                found=f"{pictures} pictures, {objects} objects",
            )
        # (pictures, objects per picture): SAM 2 shares a picture over its second axis.
        per_picture = objects if pictures == 1 else 1
        point = prompts.new_zeros((pictures, per_picture, 1, 2))
        label = torch.full((pictures, per_picture, 1), -1, device=prompts.device)
        sparse, dense = self.sam2.prompt_encoder(
            input_points=point, input_labels=label, input_boxes=None, input_masks=None
        )  # (pictures, per_picture, 2, C): the point and the pad, both "not a point"
        language = prompts.reshape(pictures, per_picture, 1, -1)
        masks, iou, _, score = self.sam2.mask_decoder(
            image_embeddings=features.embedding,
            image_positional_embeddings=self._positions(features.embedding),
            sparse_prompt_embeddings=torch.cat([sparse.to(language.dtype), language], dim=2),
            dense_prompt_embeddings=dense,
            multimask_output=self.multimask_output if multimask is None else multimask,
            high_resolution_features=[features.fine, features.middle],
        )
        return masks.flatten(0, 1), iou.flatten(0, 1), score.flatten()

    def forward(self, features: SamFeatures, prompts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The mask with the highest predicted IoU for each prompt.

        Returns:
            Logits (N, 4h, 4w), predicted IoU (N,), object score (N,). A negative object score
            does not blank the mask.
        """
        masks, iou, score = self.decode(features, prompts)
        best = iou.argmax(dim=1)  # (N,)
        rows = torch.arange(len(best), device=best.device)
        return masks[rows, best], iou[rows, best], score

    def _positions(self, embedding: Tensor) -> Tensor:
        positions: Tensor = self.sam2.get_image_wide_positional_embeddings()
        return positions.to(embedding.dtype).expand(embedding.shape[0], -1, -1, -1)


def resize_logits(logits: Tensor, size: tuple[int, int], *, sam_image_size: int) -> Tensor:
    """Mask logits on the grid of a picture, in the two steps of the published model.

    Args:
        logits: (N, h, w).
        size: (H, W) in pixels.
        sam_image_size: Side of SAM 2's input, the step between.

    Returns:
        (N, H, W) float32.
    """
    square = (sam_image_size, sam_image_size)
    steps = logits[:, None].float()  # (N, 1, h, w)
    for target in (square, size):
        steps = functional.interpolate(steps, target, mode="bilinear", align_corners=False)
    return steps[:, 0]


def _without_memory(sam: Sam2Config) -> Sam2Config:
    """The single-picture part of a video configuration."""
    parts = ("vision_config", "prompt_encoder_config", "mask_decoder_config")
    fields = {name: getattr(sam, name).to_dict() for name in parts}
    for name in parts[1:]:
        fields[name].pop("model_type", None)
    plain = Sam2Config(**fields)
    # The library's own name for the attention kernel; a config made from parts forgets it.
    plain._attn_implementation = sam._attn_implementation  # noqa: SLF001
    return plain
