"""The mask tower: SAM 2's parts, prompted by a hidden state of the language model.

transformers has no single-frame call that takes a language prompt, and its video call blanks a
mask whose object score is negative; EarthMind does neither, so the parts are called one by one:
picture -> feature pyramid; two "not a point" tokens + the language embedding -> mask decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
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

    coarse: Tensor
    """(B, C, h, w), the coarsest level, without any memory of other frames."""
    fine: Tensor
    """(B, C/8, 4h, 4w), the finest level, projected for the decoder."""
    middle: Tensor
    """(B, C/4, 2h, 2w), the level between, projected for the decoder."""

    @property
    def nbytes(self) -> int:
        """Bytes held on the device."""
        return sum(t.numel() * t.element_size() for t in (self.coarse, self.fine, self.middle))

    def to(self, device: torch.device | str) -> SamFeatures:
        """The same features on another device."""
        return SamFeatures(
            coarse=self.coarse.to(device),
            fine=self.fine.to(device),
            middle=self.middle.to(device),
        )

    def select(self, index: Tensor) -> SamFeatures:
        """Features of the pictures `index` (N,), repeated as asked; one picture per object."""
        return SamFeatures(
            coarse=self.coarse[index], fine=self.fine[index], middle=self.middle[index]
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """What the mask decoder gave for N objects; M candidates each."""

    masks: Tensor
    """(N, M, 4h, 4w) logits."""
    iou: Tensor
    """(N, M) predicted IoU."""
    tokens: Tensor
    """(N, M or 1, C) decoder states the masks were made from."""
    score: Tensor
    """(N,) object score; negative = SAM 2 would call the object hidden."""

    def best(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of each object the mask (N, 4h, 4w), IoU (N,) and state (N, C) of the best candidate."""
        chosen = self.iou.argmax(dim=1)  # (N,)
        rows = torch.arange(len(chosen), device=chosen.device)
        states = self.tokens[rows, chosen if self.tokens.shape[1] > 1 else 0]
        return self.masks[rows, chosen], self.iou[rows, chosen], states


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
        return self.features(self.pyramid(pixel_values))

    def pyramid(self, pixel_values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the vision encoder makes of pictures, before any weight of the mask decoder.

        Args:
            pixel_values: (B, 3, S, S), normalised.

        Returns:
            (B, C, 4h, 4w), (B, C, 2h, 2w), (B, C, h, w).
        """
        levels = self.sam2.vision_encoder(pixel_values).fpn_hidden_states  # fine to coarse
        if len(self.fpn_norms):
            levels = [norm(level) for norm, level in zip(self.fpn_norms, levels, strict=True)]
        return levels[0], levels[1], levels[2]

    def features(self, levels: Sequence[Tensor]) -> SamFeatures:
        """What `decode` needs of a `pyramid`; gradients flow."""
        decoder = self.sam2.mask_decoder
        return SamFeatures(
            coarse=levels[2],
            fine=decoder.conv_s0(levels[0]),
            middle=decoder.conv_s1(levels[1]),
        )

    def conditioned(self, features: SamFeatures) -> Tensor:
        """(B, C, h, w) what the decoder reads of a picture that has no memory to go by."""
        code: Tensor = self.sam2.no_memory_embedding
        return features.coarse + code.reshape(1, -1, 1, 1)

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
        pictures, objects = features.coarse.shape[0], prompts.shape[0]
        if pictures not in (1, objects):
            raise EngineError(
                "Masks need one picture for all objects or one for each.",
                found=f"{pictures} pictures, {objects} objects",
            )
        # (pictures, objects per picture): SAM 2 shares a picture over its second axis.
        shared = prompts.reshape(pictures, -1, prompts.shape[1])
        drawn = self.draw(features, self.conditioned(features), shared, multimask=multimask)
        return drawn.masks, drawn.iou, drawn.score

    def draw(
        self,
        features: SamFeatures,
        conditioned: Tensor,
        prompts: Tensor | None,
        *,
        multimask: bool | None = None,
    ) -> Drawn:
        """One call of the mask decoder.

        Args:
            features: Of B pictures.
            conditioned: (B, C, h, w) the coarsest level with what memory adds to it.
            prompts: (B, N, C) language embeddings; None = none, as on a frame that only memory
                tells about (N = 1).
            multimask: Three masks instead of one; default as configured.

        Returns:
            Masks of B * N objects.
        """
        pictures = conditioned.shape[0]
        objects = 1 if prompts is None else prompts.shape[1]
        point = conditioned.new_zeros((pictures, objects, 1, 2))
        label = torch.full((pictures, objects, 1), -1, device=point.device)
        sparse, dense = self.sam2.prompt_encoder(
            input_points=point, input_labels=label, input_boxes=None, input_masks=None
        )  # (B, N, 2, C): the point and the pad, both "not a point"
        if prompts is not None:
            sparse = torch.cat([sparse.to(prompts.dtype), prompts[:, :, None]], dim=2)
        masks, iou, tokens, score = self.sam2.mask_decoder(
            image_embeddings=conditioned,
            image_positional_embeddings=self._positions(conditioned),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=self.multimask_output if multimask is None else multimask,
            high_resolution_features=[
                level.expand(pictures, -1, -1, -1) for level in (features.fine, features.middle)
            ],
        )
        return Drawn(
            masks=masks.flatten(0, 1),
            iou=iou.flatten(0, 1),
            tokens=tokens.flatten(0, 1),
            score=score.flatten(),
        )

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

    def _positions(self, conditioned: Tensor) -> Tensor:
        positions: Tensor = self.sam2.get_image_wide_positional_embeddings()
        return positions.to(conditioned.dtype).expand(conditioned.shape[0], -1, -1, -1)


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
