"""Samples to losses: the training forward of both generations of EarthMind.

`training_batch` makes tensors of samples, `EarthMindTraining` a weighted sum of losses of them.
Which losses exist and what they mean is said in `losses`; where the published code trains in
another form than it answers, `TrainingForm` has it by name. The forms of published inference are
the default, so that a model is trained on what it'll be asked.

Not repeated from the published code: a space instead of a line break before region prompts, and the
zero picture that samples without masks send through the mask tower.

Shapes: B samples, L prompt length, N squares, T visual tokens of a square, D width, M objects,
V pictures that masks are drawn on, H W pixels, h w mask logits, S side of a picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb
from transformers.utils.generic import ModelOutput

from earthmind_lab.errors import EngineError, PromptError
from earthmind_lab.exchange import Options, Prompt, View
from earthmind_lab.model.attention import attention_target
from earthmind_lab.model.batch import Encoded, Row, TrainingForm, assemble
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
from earthmind_lab.model.processing import EarthMindProcessor

MASK_STRIDE = 4
"""Pixels of the mask tower's picture per pixel of its logits, along an edge."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One question with the answer that is to be learned."""

    prompt: Prompt
    reply: str
    """The answer with its marks ([SEG], <p>, </p>); the stop string is added."""
    masks: NDArray[np.bool_] | None = None
    """Truth of each [SEG] of the reply in its order: (M, H, W) on the grid of the view that masks
    are drawn on, or (M, F, H, W) for the F frames of a series. None without [SEG]."""


def training_batch(
    processor: EarthMindProcessor,
    samples: Sequence[Sample],
    options: Options | None = None,
    *,
    form: TrainingForm | None = None,
    encoded: Encoded | None = None,
) -> dict[str, Any]:
    """Samples as inputs of `EarthMindTraining`.

    Args:
        processor: Of the model.
        samples: Any mixture of forms.
        options: Fusion and mask source; the same for all.
        form: How to arrange them; default: as questions are asked.
        encoded: Where pictures are known already; default: their pixels go into the batch.

    Returns:
        What `batch.collate` gives with replies, and: ``aligned`` (G, 3) int64, per pair first SAR
        square, first optical square, tiles; where there are masks ``sam_pixel_values``
        (V, 3, S, S), ``drawn`` (objects, 2) int64 (index of the [SEG] in the batch, of the picture)
        and ``masks`` (objects, h, w) uint8; ``targets``, per sample (M, tokens) float32 or None,
        where the attention of its [SEG] tokens should go. With `encoded` its key takes the place of
        ``pixel_values``, and ``sam_levels`` (three tensors of V pictures) that of
        ``sam_pixel_values``.

    Raises:
        PromptError: A sample whose masks don't fit its reply or its views.
    """
    form, options = form or TrainingForm(), options or Options()
    stop = processor.stop_strings[0]
    replies = [s.reply if s.reply.endswith(stop) else s.reply + stop for s in samples]
    prompts = [sample.prompt for sample in samples]
    tensors, rows = assemble(processor, prompts, options, replies, form, encoded)
    batch: dict[str, Any] = dict(tensors)
    learned = batch["labels"] == processor.seg_token_id
    pictures: list[View] = []
    drawn: list[tuple[int, int]] = []
    masks: list[Tensor] = []
    marks = 0
    for index, sample in enumerate(samples):
        truth = _truth(processor, sample, int(learned[index].sum()), options, index)
        if truth is None:
            continue
        views = processor.arrange(sample.prompt, options).mask_views
        for frame, view in enumerate(views):
            picture = (*sample.prompt.views, *sample.prompt.follow)[view]
            drawn += [(marks + row, len(pictures)) for row in range(len(truth))]
            pictures.append(picture)
            masks.append(_at_logits(truth[:, frame], processor.config.sam_image_size))
        marks += len(truth)
    aligned = [pair for row in rows if (pair := row.aligned()) is not None]
    batch["aligned"] = torch.tensor(aligned, dtype=torch.long).reshape(-1, 3)
    batch["targets"] = [
        _target(processor, sample, row, form) for sample, row in zip(samples, rows, strict=True)
    ]
    if pictures:
        batch |= _masked_pictures(processor, pictures, encoded)
        batch["drawn"] = torch.tensor(drawn)
        batch["masks"] = torch.cat(masks)
    return batch


def _masked_pictures(
    processor: EarthMindProcessor, pictures: Sequence[View], encoded: Encoded | None
) -> dict[str, Any]:
    """What the mask tower reads."""
    known = [] if encoded is None else [encoded.levels(picture) for picture in pictures]
    levels = [each for each in known if each is not None]
    if len(levels) == len(pictures):
        return {"sam_levels": tuple(torch.cat(level) for level in zip(*levels, strict=True))}
    pixels = [processor.sam_pixel_values(picture) for picture in pictures]
    return {"sam_pixel_values": torch.from_numpy(np.concatenate(pixels))}


def _truth(
    processor: EarthMindProcessor, sample: Sample, marks: int, options: Options, index: int
) -> NDArray[np.bool_] | None:
    """(M, F, H, W) of one sample; None without objects."""
    masks = sample.masks
    if masks is None or not len(masks):
        if marks:
            raise PromptError(
                f"Sample {index} marks objects, but there is no truth of them.",
                found=f"{marks} [SEG], no mask",
                change="one mask per [SEG], or a reply without marks",
            )
        return None
    if len(masks) != marks:
        # The published code cuts both to the shorter list and then trains on neither.
        raise PromptError(
            f"Sample {index} needs one mask for each [SEG] of its reply.",
            found=f"{marks} [SEG], {len(masks)} masks",
            change="repeat, add or remove masks or marks",
        )
    views = processor.arrange(sample.prompt, options).mask_views
    frames = (*sample.prompt.views, *sample.prompt.follow)
    truth = masks[:, None] if masks.ndim == 3 else masks
    wanted = (len(views), *frames[views[0]].shape)
    if truth.shape[1:] != wanted:
        raise PromptError(
            f"The masks of sample {index} do not lie on its views.",
            found=f"masks {tuple(masks.shape)}",
            change=f"masks of shape {(marks, *(wanted if len(views) > 1 else wanted[1:]))}",
        )
    return truth


def _at_logits(truth: NDArray[np.bool_], side: int) -> Tensor:
    """(M, h, w) uint8 of (M, H, W): the nearest pixel, as published."""
    size = side // MASK_STRIDE
    values = torch.from_numpy(np.ascontiguousarray(truth, dtype=np.float32))[:, None]
    return functional.interpolate(values, (size, size), mode="nearest")[:, 0].to(torch.uint8)


def _target(
    processor: EarthMindProcessor, sample: Sample, row: Row, form: TrainingForm
) -> Tensor | None:
    """(M, tokens) of a sample with one view, masks and no regions; published for those only."""
    masks, prompt = sample.masks, sample.prompt
    if masks is None or not len(masks) or prompt.regions or row.layout.form != "single":
        return None
    truth = torch.from_numpy(np.ascontiguousarray(masks if masks.ndim == 3 else masks[:, 0]))
    if form.placement == "published":
        side = processor.config.sam_image_size
        truth = _at_logits(truth.numpy(), side)
    return attention_target(
        truth,
        side=processor.config.grid_side,
        grid=processor.grid(prompt.views[row.kept[0]].shape),
        thumbnail=processor.config.use_thumbnail,
        placement=form.placement,
    )


# --- forward -------------------------------------------------------------------------------------


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
        >>> from earthmind_lab.model import EarthMindProcessor
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
        targets: Sequence[Tensor | None] = (),
        vision_features: Tensor | None = None,
        visual_tokens: Tensor | None = None,
        sam_levels: Sequence[Tensor] | None = None,
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
        with _input_of(last) as seen:
            outputs = _language(model)(
                inputs_embeds=embeds, attention_mask=attention_mask, use_cache=False
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
                logits, masks, generator=self.generator, points=self.points
            )
        if self.weights.attention and any(target is not None for target in targets):
            losses["attention"] = self._looks(
                last, seen, input_ids, attention_mask, marked, targets
            )
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
        for first_sar, first_optical, tiles in aligned.tolist():
            sar = tokens[first_sar : first_sar + tiles]
            optical = tokens[first_optical : first_optical + tiles]
            apart.append(alignment_loss(sar, optical))
            if self.form.gate:
                gate, _, _ = training_gate(sar, optical, self.query)
                for first in (first_sar, first_optical):
                    scale[first : first + tiles] = gate.to(scale.dtype)
        losses["alignment"] = torch.stack(apart).mean()
        return tokens * scale if self.form.gate else tokens

    def _looks(
        self,
        layer: nn.Module,
        seen: Mapping[str, Any],
        input_ids: Tensor,
        attention_mask: Tensor,
        marked: Tensor,
        targets: Sequence[Tensor | None],
    ) -> Tensor:
        """`attention_loss` over all objects of the batch."""
        parts, objects = [], 0
        for row, target in enumerate(targets):
            if target is None:
                continue
            read = attention_mask[row].bool()
            places = marked[row] & read
            looks = seg_attention(layer, seen, row, places, read)  # (M, L)
            looks = looks[:, input_ids[row] == self.model.config.image_token_id]
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
        read: (L,) bool, the positions that aren't padding.

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
