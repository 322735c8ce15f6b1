"""The training path against runs of the original training code, in float32 on a CPU.

Each check takes the tensors of one ``*.train.safetensors`` file, a model and its processor. What
the file lacks is not compared, but a check that finds nothing to compare fails. Everything is
recomputed from pixel values and token ids; a stored tensor is only ever compared with.
"""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import torch
from torch import Tensor

from earthmind_lab.model import EarthMindForConditionalGeneration, EarthMindProcessor, weighted
from earthmind_lab.model.attention import attention_target, attention_to_views
from earthmind_lab.model.batch import PairRow
from earthmind_lab.model.fusion import OFF
from earthmind_lab.model.losses import (
    IGNORED,
    LossWeights,
    alignment_loss,
    attention_loss,
    text_loss,
    training_gate,
)
from earthmind_lab.model.text import IMAGE_END
from earthmind_lab.model.training import EarthMindTraining, TrainingForm, TrainingOutput

TOLERANCE = 1e-4


class Compared:
    """Counts what was compared, so that a check cannot pass by comparing nothing."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors, self.names = tensors, []

    def close(self, name: str, found: Tensor, tolerance: float = TOLERANCE) -> None:
        if name not in self.tensors:
            return
        wanted = self.tensors[name]
        found = found.reshape(1) if wanted.shape == (1,) and found.ndim == 0 else found
        assert found.shape == wanted.shape, f"{name}: {found.shape} instead of {wanted.shape}"
        difference = (found.float() - wanted.float()).abs().max().item()
        assert difference <= tolerance, f"{name}: off by {difference:.2e}"
        self.names.append(name)

    def done(self) -> list[str]:
        assert self.names, "nothing to compare in this file"
        return self.names


def is_june_pair(tensors: dict[str, Tensor]) -> bool:
    """Whether the file holds a pair as the June 2025 code trains on it."""
    return "pair.gate" in tensors


def is_weighted_pair(tensors: dict[str, Tensor]) -> bool:
    """Whether the file holds a pair as the newer code trains on it."""
    return "pair.weight_optical" in tensors


def has_kl(tensors: dict[str, Tensor]) -> bool:
    """Whether the file holds a sample of the attention loss."""
    return "kl.masks" in tensors


def _step(
    tensors: dict[str, Tensor],
    model: EarthMindForConditionalGeneration,
    weights: LossWeights,
    form: TrainingForm,
    batch: dict[str, Any],
) -> TrainingOutput:
    """One step as a user takes it, on pictures and ids of the original run."""
    step = EarthMindTraining(model, weights, form=form)
    if form.gate:
        step.query = torch.nn.Parameter(tensors["pair.local_query"])
    return step(attention_mask=torch.ones_like(batch["input_ids"]), **batch)


def _asked(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Text of a pair and its squares, SAR first."""
    sensors = [tensors["pair.pixel_values"], tensors["pair.rgb_pixel_values"]]
    return {
        "input_ids": tensors["pair.input_ids"],
        "labels": tensors["pair.labels"],
        "pixel_values": torch.cat(sensors),
    }


def _tokens(
    tensors: dict[str, Tensor], model: EarthMindForConditionalGeneration
) -> tuple[Tensor, Tensor]:
    """SAR and optical tokens (tiles, T, D); SAR is the first image of the original code."""
    sar = model.encode_views(tensors["pair.pixel_values"])
    return sar, model.encode_views(tensors["pair.rgb_pixel_values"])


def _answer(compared: Compared, model: EarthMindForConditionalGeneration, embeds: Tensor) -> None:
    compared.close("pair.inputs_embeds", embeds)
    logits = model(inputs_embeds=embeds, use_cache=False).logits
    compared.close("pair.logits", logits)
    if "pair.labels" in compared.tensors:
        compared.close("pair.llm_loss", text_loss(logits, compared.tensors["pair.labels"]))


@torch.inference_mode()
def check_gate(
    tensors: dict[str, Tensor],
    model: EarthMindForConditionalGeneration,
    processor: EarthMindProcessor,
) -> list[str]:
    """Tokens of both sensors and the gate of the June 2025 code; returns what was compared."""
    compared = Compared(tensors)
    sar, optical = _tokens(tensors, model)
    compared.close("pair.tokens_first", sar)
    compared.close("pair.tokens_second", optical)
    gate, _, _ = training_gate(sar, optical, tensors["pair.local_query"])
    compared.close("pair.gate", gate)
    assert sar.shape[1] == processor.config.tokens_per_tile
    return compared.done()


@torch.inference_mode()
def check_pair_training(
    tensors: dict[str, Tensor],
    model: EarthMindForConditionalGeneration,
    processor: EarthMindProcessor,
) -> list[str]:
    """Gated pair to losses as the June 2025 code trains; returns what was compared.

    Tile by tile SAR then optical, both gated, in two picture blocks.
    """
    compared = Compared(tensors)
    sar, optical = _tokens(tensors, model)
    compared.close("pair.mse", alignment_loss(sar, optical))
    _, gated_sar, gated_optical = training_gate(sar, optical, tensors["pair.local_query"])
    slots = torch.cat([gated_sar, gated_optical], dim=1).flatten(0, 1)
    embeds = model.embed(tensors["pair.input_ids"], slots, image_token_id=processor.image_token_id)
    _answer(compared, model, embeds)
    return compared.done()


def check_pair_step(
    tensors: dict[str, Tensor],
    model: EarthMindForConditionalGeneration,
    processor: EarthMindProcessor,
) -> list[str]:
    """The same through `EarthMindTraining`; returns what was compared."""
    compared = Compared(tensors)
    tiles, each = len(tensors["pair.pixel_values"]), processor.config.tokens_per_tile
    rows = torch.arange(2 * tiles * each).reshape(2, tiles, each)  # sensor, tile, token
    batch = {
        **_asked(tensors),
        "slots": rows.transpose(0, 1).flatten(),
        "aligned": torch.tensor([[0, tiles, tiles]]),
    }
    found = _step(tensors, model, LossWeights.june(), TrainingForm.june(), batch)
    compared.close("pair.mse", found.losses["alignment"])
    compared.close("pair.llm_loss", found.losses["text"])
    return compared.done()


@torch.inference_mode()
def check_weighted_training(
    tensors: dict[str, Tensor],
    model: EarthMindForConditionalGeneration,
    processor: EarthMindProcessor,
) -> list[str]:
    """Fused pair to loss as the newer code trains; returns what was compared.

    The text that weighs the sensors runs to the end of the sequence, so it includes the answer,
    which inference cannot know.
    """
    compared = Compared(tensors)
    sar, optical = _tokens(tensors, model)
    compared.close("pair.sar_tokens", sar)
    compared.close("pair.optical_tokens", optical)
    ids = tensors["pair.input_ids"]
    end = processor.tokenizer.convert_tokens_to_ids(IMAGE_END)
    span = torch.tensor([int((ids[0] == end).nonzero()[-1]) + 1, ids.shape[1]])
    compared.close("pair.text_span", span, 0)
    text = model.get_input_embeddings()(ids[0])  # (L, D)
    fused, by_optical, by_sar = weighted(optical, sar, text[span[0] :])
    compared.close("pair.weight_optical", by_optical[..., None])
    compared.close("pair.weight_sar", by_sar[..., None])
    compared.close("pair.fused_tokens", fused)
    if "pair.labels" in tensors:
        answer = int((tensors["pair.labels"][0] != IGNORED).nonzero()[0])
        _, asked, _ = weighted(optical, sar, text[span[0] : answer])
        compared.close("pair.weight_optical_question_only", asked[..., None])
    embeds = model.embed(ids, fused.flatten(0, 1), image_token_id=processor.image_token_id)
    _answer(compared, model, embeds)
    return compared.done()


def check_weighted_step(
    tensors: dict[str, Tensor],
    model: EarthMindForConditionalGeneration,
    processor: EarthMindProcessor,
) -> list[str]:
    """The same through `EarthMindTraining`; returns what was compared."""
    compared = Compared(tensors)
    tiles, each = len(tensors["pair.pixel_values"]), processor.config.tokens_per_tile
    ids = tensors["pair.input_ids"]
    end = processor.tokenizer.convert_tokens_to_ids(IMAGE_END)
    pair = PairRow(
        prompt=0,
        sar_first=0,
        sar_tiles=tiles,
        optical_first=tiles,
        optical_tiles=tiles,
        composites=1,
        text_start=int((ids[0] == end).nonzero()[-1]) + 1,
        text_stop=ids.shape[1],
        off=OFF.index(None),
    )
    fused = 2 * tiles * each  # the first row behind the tokens of both sensors
    batch = {
        **_asked(tensors),
        "slots": torch.arange(fused, fused + tiles * each),
        "pairs": torch.tensor([astuple(pair)]),
    }
    found = _step(tensors, model, LossWeights.newer(), TrainingForm.newer(), batch)
    compared.close("pair.llm_loss", found.losses["text"])
    return compared.done()


@torch.inference_mode()
def check_kl(
    tensors: dict[str, Tensor],
    model: EarthMindForConditionalGeneration,
    processor: EarthMindProcessor,
) -> list[str]:
    """Attention of [SEG] and its loss as the June 2025 code trains; returns what was compared.

    The model must have been built with the ``eager`` attention kernel: others return no attention.
    """
    compared = Compared(tensors)
    ids, pixels = tensors["kl.input_ids"], tensors["kl.pixel_values"]
    slots = model.encode_views(pixels).flatten(0, 1)
    embeds = model.embed(ids, slots, image_token_id=processor.image_token_id)
    outputs = model.language.model(inputs_embeds=embeds, use_cache=False, output_attentions=True)
    assert outputs.attentions, "no attention came back: build the model with attention 'eager'"
    last = outputs.attentions[-1][0]  # (heads, L, L)
    compared.close("kl.last_layer_attention_mean", last.mean(dim=0))
    seen = attention_to_views(
        last,
        ids[0],
        seg_token_id=processor.seg_token_id,
        image_token_id=processor.image_token_id,
    )
    compared.close("kl.attention_seg_to_image", seen)
    target = attention_target(
        tensors["kl.masks"],
        side=processor.config.grid_side,
        grid=(len(pixels), 1),  # the published raster depends on the number of tokens alone
        thumbnail=False,
        placement="published",
    )
    compared.close("kl.target", target)
    compared.close("kl.loss_unscaled", attention_loss(seen, target))
    return compared.done()


def check_kl_step(
    tensors: dict[str, Tensor],
    model: EarthMindForConditionalGeneration,
    processor: EarthMindProcessor,
) -> list[str]:
    """The loss through `EarthMindTraining`, with any kernel; returns what was compared."""
    compared = Compared(tensors)
    ids, pixels = tensors["kl.input_ids"], tensors["kl.pixel_values"]
    target = attention_target(
        tensors["kl.masks"],
        side=processor.config.grid_side,
        grid=(len(pixels), 1),
        thumbnail=False,
        placement="published",
    )
    batch = {
        "input_ids": ids,
        "labels": ids.masked_fill(ids != processor.seg_token_id, IGNORED),
        "pixel_values": pixels,
        "targets": [target],
    }
    found = _step(tensors, model, LossWeights.june(), TrainingForm(placement="published"), batch)
    compared.close("kl.loss_unscaled", found.losses["attention"])
    return compared.done()
