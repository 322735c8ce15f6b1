"""How the published code answers, on our model: what it computes, without what it caches.

Every question encodes every picture again and reads the whole prompt, computing logits at all its
positions and keeping the hidden states of all layers; a pair is followed by a second pass over the
bare token ids with all attentions kept, whose result is thrown away; each [SEG] encodes the
picture for the mask tower again. Attention is sdpa where the original takes eager, and the stop
rule isn't run: both spare it time that the original spends.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from earthmind_lab.exchange import Options, Prompt
from earthmind_lab.model import FUSED, EarthMindForConditionalGeneration, EarthMindProcessor
from earthmind_lab.model.fusion import weighted


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add the wall time of the block to `seconds[name]`."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start


@torch.inference_mode()
def answer(
    model: EarthMindForConditionalGeneration,
    processor: EarthMindProcessor,
    prompt: Prompt,
    options: Options,
    *,
    new: int,
    masks: int,
) -> dict[str, float]:
    """Seconds of the parts of one answer.

    Args:
        model: On the CPU.
        processor: Its.
        prompt: The question.
        options: Fusion.
        new: Tokens to write.
        masks: [SEG] tokens to draw (with the last hidden state, since random weights write none).

    Returns:
        ``first`` (until the first token), ``decode``, ``mask`` each in all.
    """
    seconds: dict[str, float] = {}
    with timed(seconds, "first"):
        embeds, ids = _prompt(model, processor, prompt, options)
        output = model.language(inputs_embeds=embeds, use_cache=True, output_hidden_states=True)
        token = output.logits[:, -1].argmax(dim=-1)
    if options.fusion is not None and len(prompt.views) > 1:
        with timed(seconds, "first"):
            _wasted_pass(model, ids)
    state = output.hidden_states[-1][:, -1]
    with timed(seconds, "decode"):
        for _ in range(new - 1):
            output = model.language(
                input_ids=token[:, None],
                past_key_values=output.past_key_values,
                use_cache=True,
                output_hidden_states=True,
            )
            token = output.logits[:, -1].argmax(dim=-1)
    view = prompt.views[processor.arrange(prompt, options).mask_view] if masks else None
    with timed(seconds, "mask"):
        for _ in range(masks):
            assert view is not None
            pixels = torch.from_numpy(processor.sam_pixel_values(view)).to(model.dtype)
            logits, _, _ = model.segment(model.segment_features(pixels), state)
            model.resize_logits(logits, view.shape)
    return seconds


def _prompt(
    model: EarthMindForConditionalGeneration,
    processor: EarthMindProcessor,
    prompt: Prompt,
    options: Options,
) -> tuple[Tensor, Tensor]:
    """Input embeddings (1, L, D) and ids (1, L), from pictures and text."""
    single = processor.arrange(prompt, options).single_tile
    counts = [processor.tile_count(view.shape, single=single) for view in prompt.views]
    layout = processor.layout(prompt, counts, options)
    ids = torch.from_numpy(layout.input_ids)
    encoded = [
        model.encode_views(
            torch.from_numpy(processor.pixel_values(view, single=single)).to(model.dtype)
        )
        for view in prompt.views
    ]
    tokens = {(i, j): tile for i, tiles in enumerate(encoded) for j, tile in enumerate(tiles)}
    if any(view == FUSED for view, _ in layout.blocks):
        optical, sar = _by_sensor(prompt, encoded)
        text = model.embed(ids[:, layout.question_start :])[0]
        fused, _, _ = weighted(optical, sar, text)
        tokens |= {(FUSED, tile): row for tile, row in enumerate(fused)}
    return model.embed(ids, layout.slots(tokens)), ids


def _by_sensor(prompt: Prompt, encoded: list[Tensor]) -> tuple[Tensor, Tensor]:
    by = {view.modality: tokens for view, tokens in zip(prompt.views, encoded, strict=True)}
    return by["optical"], by["sar"]


def _wasted_pass(model: EarthMindForConditionalGeneration, ids: Tensor) -> None:
    """What `generate_multi` computes a second time and drops."""
    model.language.set_attn_implementation("eager")  # others return no attentions
    try:
        model.language(input_ids=ids, output_attentions=True, output_hidden_states=True)
    finally:
        model.language.set_attn_implementation("sdpa")
