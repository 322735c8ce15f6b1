"""Samples to tensors: what `training.EarthMindTraining` takes.

Each sample is a question with the answer that is to be learned, and the truth of its masks. Where
the published code trains in another form than it answers, `TrainingForm` has it by name. The forms
of published inference are the default, so that a model is trained on what it'll be asked.

Not repeated from the published code: a space instead of a line break before region prompts, and the
zero picture that samples without masks send through the mask tower.

Shapes: B samples, L prompt length, M objects, V pictures that masks are drawn on, F frames, H W
pixels, h w mask logits, S side of a picture.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from earthmind_lab.errors import PromptError
from earthmind_lab.exchange import Options, Prompt, View
from earthmind_lab.model.attention import attention_target
from earthmind_lab.model.batch import Encoded, Row, TrainingForm, assemble
from earthmind_lab.model.packing import Packing
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
    known: NDArray[np.bool_] | None = None
    """Where that truth is known, of its shape; None = everywhere."""


def training_batch(
    processor: EarthMindProcessor,
    samples: Sequence[Sample],
    options: Options | None = None,
    *,
    form: TrainingForm | None = None,
    encoded: Encoded | None = None,
    packing: Packing | None = None,
) -> dict[str, Any]:
    """Samples as inputs of `EarthMindTraining`.

    Args:
        processor: Of the model.
        samples: Any mixture of forms.
        options: Fusion and mask source; the same for all.
        form: How to arrange them; default: as questions are asked.
        encoded: Where pictures are known already; default: their pixels go into the batch.
        packing: How many samples about the same pictures share a row; default: each has its own.
            The losses are the same within rounding.

    Returns:
        What `batch.collate` gives with replies, and: ``aligned`` (G, 3) int64, per question about a
        pair first SAR square, first optical square, tiles; where rows are shared ``blocks`` and
        ``position_ids`` (rows, L), see `packing`; where there are masks ``sam_pixel_values``
        (V, 3, S, S), ``drawn`` (objects, 2) int64 (index of the [SEG] in the batch, of the picture)
        and ``masks`` (objects, h, w) uint8, where the truth is unknown in places also ``known`` of
        that shape; ``targets``, per sample (M, tokens) float32 or None,
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
    tensors, rows = assemble(processor, prompts, options, replies, form, encoded, packing)
    batch: dict[str, Any] = dict(tensors)
    pictures: dict[Hashable, View] = {}
    drawn: list[tuple[int, int]] = []
    masks: list[Tensor] = []
    known: list[Tensor] = []
    marks = 0
    for index, sample in enumerate(samples):
        found = rows[index].answer.count(processor.seg_token_id)
        truth = _truth(processor, sample, found, options, index)
        if truth is None:
            continue
        sure = _sure(sample, truth, index)
        views = processor.arrange(sample.prompt, options).mask_views
        for frame, view in enumerate(views):
            picture = (*sample.prompt.views, *sample.prompt.follow)[view]
            # Packed questions are drawn on one picture; others have theirs each.
            key = (index, frame) if rows[index].prefix is None else picture.hash
            pictures.setdefault(key, picture)
            at = list(pictures).index(key)
            drawn += [(marks + row, at) for row in range(len(truth))]
            side = processor.config.sam_image_size
            masks.append(_at_logits(truth[:, frame], side))
            known.append(_at_logits(sure[:, frame], side))
        marks += len(truth)
    aligned = [pair for row in rows if (pair := row.aligned()) is not None]
    batch["aligned"] = torch.tensor(aligned, dtype=torch.long).reshape(-1, 3)
    batch["targets"] = [
        _target(processor, sample, row, form) for sample, row in zip(samples, rows, strict=True)
    ]
    if pictures:
        batch |= _masked_pictures(processor, [*pictures.values()], encoded)
        batch["drawn"] = torch.tensor(drawn)
        batch["masks"] = torch.cat(masks)
        if any(sample.known is not None for sample in samples):
            batch["known"] = torch.cat(known)
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


def _sure(sample: Sample, truth: NDArray[np.bool_], index: int) -> NDArray[np.bool_]:
    """(M, F, H, W) where the truth of one sample is known."""
    if sample.known is None:
        return np.ones_like(truth)
    known = sample.known[:, None] if sample.known.ndim == 3 else sample.known
    if known.shape != truth.shape or not known.any(axis=(1, 2, 3)).all():
        raise PromptError(
            f"Where the masks of sample {index} are known must be said for each of them.",
            found=f"masks {truth.shape}, known {known.shape}, of some masks nothing"
            if known.shape == truth.shape
            else f"masks {truth.shape}, known {known.shape}",
            change="an array of the masks' shape, somewhere True in each; or no mark where nothing "
            "is known",
        )
    return known


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
