"""A prompt as the language model reads it: embeddings, and what each of them was made from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earthmind_lab.exchange import Options, Prompt, View
from earthmind_lab.model.arrangement import FUSED
from earthmind_lab.model.fusion import weighted
from earthmind_lab.model.modeling import EarthMindForConditionalGeneration
from earthmind_lab.model.processing import EarthMindProcessor, PromptLayout


@dataclass(frozen=True, kw_only=True, eq=False)
class LocalEncoded:
    """Visual tokens of some views."""

    tokens: dict[str, Tensor]
    """View hash -> (tiles, T, D)."""
    views_encoded: int
    single: bool
    """Whether each view was read as one square whatever its shape."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Composed:
    """A prompt, ready to be read."""

    embeds: Tensor
    """(1, L, D)."""
    content: NDArray[np.int64]
    """(L,) what each position is made from: a token id, or a negative number that stands for one
    visual token of one view."""
    start: int
    """Positions before it belong to the pictures; 0 without."""
    sensor_weights: NDArray[np.float32] | None
    """(2, h, w) optical and SAR weights (weighted fusion only)."""


def laid_out(
    processor: EarthMindProcessor, prompt: Prompt, options: Options, *, single: bool
) -> PromptLayout:
    """Token ids of a prompt, whose views are read as one square each where `single`."""
    counts = [processor.tile_count(view.shape, single=single) for view in prompt.views]
    return processor.layout(prompt, counts, options)


def compose(
    model: EarthMindForConditionalGeneration,
    processor: EarthMindProcessor,
    prompt: Prompt,
    options: Options,
    encoded: LocalEncoded,
) -> Composed:
    """Put the visual tokens into a prompt.

    Raises:
        PromptError: The prompt can't be laid out.
    """
    layout = laid_out(processor, prompt, options, single=encoded.single)
    ids = torch.from_numpy(layout.input_ids).to(model.device)  # (1, L)
    tokens, weights = _block_tokens(model, processor, prompt, options, layout, encoded, ids)
    return Composed(
        embeds=model.embed(ids, layout.slots(tokens)),
        content=_content(processor, prompt, options, layout, encoded),
        start=layout.question_start,
        sensor_weights=weights,
    )


def _block_tokens(
    model: EarthMindForConditionalGeneration,
    processor: EarthMindProcessor,
    prompt: Prompt,
    options: Options,
    layout: PromptLayout,
    encoded: LocalEncoded,
    ids: Tensor,
) -> tuple[dict[tuple[int, int], Tensor], NDArray[np.float32] | None]:
    """(T, D) of each picture block, and the sensors' weights where they are fused."""
    if not any(view == FUSED for view, _ in layout.blocks):
        views = {view for view, _ in layout.blocks}
        tokens = {view: encoded.tokens[prompt.views[view].hash] for view in views}
        return {(view, tile): tokens[view][tile] for view, tile in layout.blocks}, None
    sar = next(view for view in prompt.views if view.modality == "sar")
    optical = [view for view in prompt.views if view.modality == "optical"]
    text = model.embed(ids[:, layout.question_start :])[0]  # (M, D)
    fused, w_optical, w_sar = weighted(
        torch.cat([encoded.tokens[view.hash] for view in optical]),
        encoded.tokens[sar.hash],
        text,
        composites=len(optical),
        off=options.sensor_off,
    )
    both = torch.stack([w_optical, w_sar]).cpu().numpy()  # (2, tiles, T)
    return {(FUSED, tile): fused[tile] for tile in range(len(fused))}, _map(processor, both, sar)


def _map(
    processor: EarthMindProcessor, weights: NDArray[np.float32], view: View
) -> NDArray[np.float32]:
    """(2, tiles, T) weights as a map (2, h, w); the thumbnail is left out."""
    columns, rows = processor.grid(view.shape)
    side = processor.config.grid_side
    squares = weights[:, : columns * rows].reshape(2, rows, columns, side, side)
    return squares.transpose(0, 1, 3, 2, 4).reshape(2, rows * side, columns * side)


def _content(
    processor: EarthMindProcessor,
    prompt: Prompt,
    options: Options,
    layout: PromptLayout,
    encoded: LocalEncoded,
) -> NDArray[np.int64]:
    """(L,) what each position of the prompt is made from; see `Composed.content`."""
    content: NDArray[np.int64] = layout.input_ids[0].copy()
    if not layout.blocks:
        return content
    each = processor.config.tokens_per_tile
    # What decides the fused tokens beside the pictures.
    after = f"{options.sensor_off}|".encode() + content[layout.question_start :].tobytes()
    blocks = []
    for view, tile in layout.blocks:
        names = prompt.views if view == FUSED else (prompt.views[view],)
        text = "|".join(one.hash for one in names) + f"|{tile}|{encoded.single}"
        digest = hashlib.sha256(text.encode() + (after if view == FUSED else b"")).digest()
        start = int.from_bytes(digest[:8], "big") >> 2  # room for `each` without overflow
        blocks.append(-1 - start - np.arange(each, dtype=np.int64))
    slots = list(blocks)
    if layout.region_block is not None:
        slots += [blocks[layout.region_block][cells] for cells in layout.region_cells]
    content[content == processor.image_token_id] = np.concatenate(slots)
    return content
