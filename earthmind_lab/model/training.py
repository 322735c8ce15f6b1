"""A batch to losses: the training forward of both generations of EarthMind.

`samples.training_batch` makes tensors of samples, `EarthMindTraining` a weighted sum of losses of
them. Which losses exist and what they mean is said in `losses`.

Shapes: B samples, L prompt length, N squares, T visual tokens of a square, D width, M objects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb
from transformers.utils.generic import ModelOutput

from earthmind_lab.errors import EngineError
from earthmind_lab.model.batch import TrainingForm
from earthmind_lab.model.losses import (
    IGNORED,
    POINTS,
    LossWeights,
    alignment_loss,
    attention_loss,
    mask_losses,
    token_loss,
    training_gate,
)
from earthmind_lab.model.modeling import EarthMindForConditionalGeneration
from earthmind_lab.model.packing import mask_of, spans


@dataclass
class TrainingOutput(ModelOutput):
    """What a training step gives."""

    loss: Tensor | None = None
    """Weighted sum, to go back through."""
    losses: dict[str, Tensor] | None = None
    """Each loss without its weight, detached, by the names of `LossWeights`; only what the batch
    has."""


class EarthMindTraining(nn.Module):
    """A model with its losses: what an optimiser and transformers' `Trainer` step through.

    Args:
        model: In any dtype; also with adapters on its language model.
        weights: Of the losses; default `LossWeights.newer()`.
        form: The one the batches were made with.
        points: Points that a mask is compared at.
        seed: Of these points.
        every_part: Give every trained weight a gradient, be it zero, also where a batch lacks
            what it is for: several processes wait for each other's gradients of all of them.

    Attributes:
        query: The gate's query (2, D) where `form` has a gate, drawn anew as published. It isn't
            part of the model and answering doesn't use it.

    Example:
        >>> from earthmind_lab.exchange import Prompt
        >>> from earthmind_lab.model import EarthMindProcessor, Sample, training_batch
        >>> model = EarthMindForConditionalGeneration.from_pretrained("nano")
        >>> processor = EarthMindProcessor.from_pretrained("nano", model.config)
        >>> sample = Sample(prompt=Prompt(text="Is there any water?"), reply="Yes.")
        >>> step = EarthMindTraining(model)(**training_batch(processor, [sample]))
        >>> step.loss.requires_grad, list(step.losses)
        (True, ['text'])
    """

    def __init__(
        self,
        model: EarthMindForConditionalGeneration,
        weights: LossWeights | None = None,
        *,
        form: TrainingForm | None = None,
        points: int = POINTS,
        seed: int = 0,
        every_part: bool = False,
    ) -> None:
        super().__init__()
        self.every_part = every_part
        self.model, self.weights = model, weights or LossWeights.newer()
        self.form, self.points = form or TrainingForm(), points
        self.generator = torch.Generator().manual_seed(seed)
        if self.form.gate:
            width = model.config.text_config.hidden_size
            drawn = torch.randn(2, width, generator=self.generator)
            self.query = nn.Parameter(drawn.to(model.device))

    def train(self, mode: bool = True) -> EarthMindTraining:
        """Vision towers of which nothing is trained stay as they are when they answer."""
        super().train(mode)
        for tower in (self.model.vision, self.model.sam.sam2.vision_encoder):
            if not any(weight.requires_grad for weight in tower.parameters()):
                tower.eval()
        return self

    def forward(  # noqa: PLR0913, PLR0917 - one tensor of `training_batch` each
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        pixel_values: Tensor | None = None,
        slots: Tensor | None = None,
        pairs: Tensor | None = None,
        aligned: Tensor | None = None,
        sam_pixel_values: Tensor | None = None,
        drawn: Tensor | None = None,
        masks: Tensor | None = None,
        known: Tensor | None = None,
        targets: Sequence[Tensor | None] = (),
        vision_features: Tensor | None = None,
        visual_tokens: Tensor | None = None,
        sam_levels: Sequence[Tensor] | None = None,
        blocks: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> TrainingOutput:
        """Losses of one batch; see `training_batch` for the arguments.

        Logits are computed where a token is learned and nowhere else.

        Raises:
            EngineError: No sample of the batch learns anything.
        """
        model, losses = self.model, dict[str, Tensor]()
        learned = labels[:, 1:] != IGNORED
        if not learned.any():
            raise EngineError(
                "Nothing is learned from this batch.",
                found="no label",
                change="samples with replies, not cut off before them",
            )
        if pixel_values is not None:
            vision_features = model.vision_features(pixel_values.to(model.dtype))
        tokens = visual_tokens if vision_features is None else model.project(vision_features)
        if tokens is None:
            embeds = model.embed(input_ids)
        else:
            tokens = self._pairs(tokens, aligned, losses)  # (N, T, D)
            embeds = model.fill(input_ids, tokens, slots, pairs)
        last = _language(model).layers[-1]
        mask = attention_mask
        if blocks is not None:
            kernel = last.self_attn.config._attn_implementation  # noqa: SLF001 - no other door
            mask = mask_of(blocks, kernel, embeds.dtype)
        with _input_of(last) as seen:
            outputs = _language(model)(
                inputs_embeds=embeds,
                attention_mask=mask,
                position_ids=position_ids,
                use_cache=False,
            )
        hidden = outputs.last_hidden_state  # (B, L, D)
        logits = model.get_output_embeddings()(hidden[:, :-1][learned])
        losses["text"] = token_loss(logits, labels[:, 1:][learned])
        marked = labels == model.config.seg_token_id  # (B, L)
        if sam_pixel_values is not None:
            sam_levels = model.sam.pyramid(sam_pixel_values.to(model.dtype))
        if sam_levels is not None and drawn is not None and masks is not None:
            states = hidden[marked][drawn[:, 0]]  # of the step that reads the [SEG]
            features = model.sam.features(sam_levels)
            logits, _, _ = model.segment(features.select(drawn[:, 1]), states)
            losses["mask"], losses["dice"] = mask_losses(
                logits, masks, generator=self.generator, points=self.points, known=known
            )
        if self.weights.attention and any(target is not None for target in targets):
            told = spans(attention_mask, blocks)
            losses["attention"] = self._looks(last, seen, input_ids, told, marked, targets)
        loss = self.weights.total(losses)
        return TrainingOutput(
            loss=loss + self._untouched() if self.every_part else loss,
            losses={name: loss.detach() for name, loss in losses.items()},
        )

    def _untouched(self) -> Tensor:
        """Zero, with a way back to every trained weight outside the language model."""
        language = {id(weight) for weight in self.model.language.parameters()}
        trained = (p for p in self.parameters() if p.requires_grad and id(p) not in language)
        return torch.stack([0 * p.sum(dtype=torch.float32) for p in trained]).sum()

    def _pairs(self, tokens: Tensor, aligned: Tensor | None, losses: dict[str, Tensor]) -> Tensor:
        """Tokens (N, T, D), gated where the form says so; adds the alignment loss."""
        if aligned is None or not len(aligned):
            return tokens
        scale = torch.ones_like(tokens[..., :1])  # (N, T, 1)
        apart = []
        # Questions about one pair name it each; it counts as often as it is asked about.
        for (first_sar, first_optical, tiles), asked in Counter(
            map(tuple, aligned.tolist())
        ).items():
            sar = tokens[first_sar : first_sar + tiles]
            optical = tokens[first_optical : first_optical + tiles]
            apart.append(asked * alignment_loss(sar, optical))
            if self.form.gate:
                gate, _, _ = training_gate(sar, optical, self.query)
                for first in (first_sar, first_optical):
                    scale[first : first + tiles] = gate.to(scale.dtype)
        losses["alignment"] = torch.stack(apart).sum() / len(aligned)
        return tokens * scale if self.form.gate else tokens

    def _looks(
        self,
        layer: nn.Module,
        seen: Mapping[str, Any],
        input_ids: Tensor,
        told: Iterable[tuple[int, Tensor]],
        marked: Tensor,
        targets: Sequence[Tensor | None],
    ) -> Tensor:
        """`attention_loss` over all objects of the batch."""
        parts, objects = [], 0
        for (row, read), target in zip(told, targets, strict=True):
            if target is None:
                continue
            looks = seg_attention(layer, seen, row, marked[row] & read, read)  # (M, L)
            looks = looks[:, (input_ids[row] == self.model.config.image_token_id) & read]
            parts.append(attention_loss(looks, target.to(looks.device)) * len(target))
            objects += len(target)
        return torch.stack(parts).sum() / objects


def _language(model: EarthMindForConditionalGeneration) -> Any:
    """The decoder without its head; adapters inside it stay in use."""
    return model.language.get_decoder()


@contextmanager
def _input_of(layer: nn.Module) -> Iterator[dict[str, Any]]:
    """What a decoder layer is given, while the model runs."""
    seen: dict[str, Any] = {}

    def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not seen:  # gradient checkpointing runs the layer once more
            states = args[0] if args else kwargs["hidden_states"]
            seen.update(states=states, positions=kwargs["position_embeddings"])

    handle = layer.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


def seg_attention(
    layer: Any, seen: Mapping[str, Any], row: int, places: Tensor, read: Tensor
) -> Tensor:
    """Attention of some positions of one sample in one layer, averaged over heads.

    Recomputed from the layer's input for these rows alone: kernels other than ``eager`` return no
    attention, and ``eager`` would keep (heads, L, L) of every layer.

    Args:
        layer: A Qwen2 decoder layer.
        seen: ``states`` (B, L, D) and ``positions``, the rotary (cos, sin), each (1 or B, L, d).
        row: The sample.
        places: (L,) bool, the positions that look.
        read: (L,) bool, the positions that the sample is told by; the others aren't seen.

    Returns:
        (places, L) float32, rows summing to 1.
    """
    attention = layer.self_attn
    states = layer.input_layernorm(seen["states"][row : row + 1])  # (1, L, D)
    cos, sin = (p[row : row + 1] if len(p) > 1 else p for p in seen["positions"])
    shape = (1, states.shape[1], -1, attention.head_dim)
    query = attention.q_proj(states).view(shape).transpose(1, 2)
    key = attention.k_proj(states).view(shape).transpose(1, 2)
    query, key = apply_rotary_pos_emb(query, key, cos, sin)
    groups = query.shape[1] // key.shape[1]
    key = key[0].repeat_interleave(groups, dim=0)  # (heads, L, d)
    scores = query[0][:, places].float() @ key.float().transpose(1, 2) * attention.scaling
    at = torch.arange(len(read), device=read.device)
    visible = read & (at <= at[places][:, None])  # (places, L)
    looks: Tensor = scores.masked_fill(~visible, float("-inf")).softmax(dim=-1)
    return looks.mean(dim=0)
