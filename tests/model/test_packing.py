"""Questions that share their pictures: the same losses and gradients, and none sees another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from earthmind_lab.errors import EngineError
from earthmind_lab.exchange import Options, Prompt, Region, Turn
from earthmind_lab.model import (
    EarthMindForConditionalGeneration,
    EarthMindProcessor,
    EarthMindTraining,
    LossWeights,
    Sample,
    TrainingForm,
    training_batch,
)
from earthmind_lab.model.packing import PICTURES, Packing, lengths, mask_of
from tests.engine import tiny

SIDE = tiny.SIDE
CONCATENATED = Options(fusion="concatenate")
TEN = Packing(most=10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def processor(folder: Path) -> EarthMindProcessor:
    return EarthMindProcessor.from_pretrained(folder)


def model_of(folder: Path, kernel: str = "sdpa") -> EarthMindForConditionalGeneration:
    return EarthMindForConditionalGeneration.from_pretrained(folder, attn_implementation=kernel)


def square(y: int, x: int) -> np.ndarray:
    mask = np.zeros((1, SIDE, SIDE), bool)
    mask[0, y : y + 30, x : x + 20] = True
    return mask


def about(*views: Any) -> list[Sample]:
    """Told, drawn twice, asked of regions, and after an earlier turn."""
    plain = Prompt(text="What is it?", views=views)
    region = Region(mask=square(20, 30)[0])
    earlier = (Turn(question="Where is water?", reply="Here [SEG]."),)
    return [
        Sample(prompt=plain, reply="A harbour."),
        Sample(prompt=replace(plain, text="Where?"), reply="[SEG].", masks=square(3, 9)),
        Sample(prompt=replace(plain, text="What is region1?", regions=(region,)), reply="Water."),
        Sample(
            prompt=replace(plain, text="And the field?", history=earlier),
            reply="Here [SEG] and [SEG].",
            masks=np.concatenate([square(30, 0), square(0, 40)]),
        ),
    ]


def mixture() -> list[Sample]:
    """Two pictures, a pair and text alone; pictures are opened anew for each question."""
    one = [*about(tiny.view("optical", seed=1)), *about(tiny.view("optical", seed=1))[:2]]
    pair = about(tiny.view("sar", seed=2), tiny.view("optical", seed=3))
    alone = Sample(prompt=Prompt(text="Is the Earth round?"), reply="Yes.")
    return [*one, *pair, alone, *about(tiny.view("optical", seed=4))[:1]]


JUNE = TrainingForm(two_blocks=True, gate=True)


@pytest.mark.parametrize(
    ("kernel", "form", "dtype", "bound"),
    [("sdpa", JUNE, torch.float64, 1e-6), ("eager", TrainingForm(), torch.float32, 1e-4)],
)
def test_losses_and_gradients_are_those_of_rows_of_their_own(
    folder: Path, processor: EarthMindProcessor, kernel: str, form: TrainingForm,
    dtype: torch.dtype, bound: float,
) -> None:  # fmt: skip
    """In 64 bits, too: the library's eager kernel has 32."""
    step = EarthMindTraining(model_of(folder, kernel), LossWeights.june(), form=form, points=64)
    step.to(dtype)
    found = []
    for packing in (None, TEN, Packing(most=3, longest=200)):
        batch = training_batch(processor, mixture(), CONCATENATED, form=form, packing=packing)
        if packing is None:  # angles are computed in 32 bits: padding isn't counted, then
            counted = batch["attention_mask"].cumsum(1) - 1
            batch["position_ids"] = counted.clamp(min=0)
        step.generator.manual_seed(0)
        step.zero_grad()
        outputs = step(**batch)
        outputs.loss.backward()
        gradients = {n: p.grad.clone() for n, p in step.named_parameters() if p.grad is not None}
        found.append((batch, outputs.losses, gradients))
    (alone, losses, gradients), *packed = found
    assert set(losses) == {"text", "mask", "dice", "alignment", "attention"}
    assert "blocks" not in alone and len(alone["input_ids"]) == 12
    assert [len(batch["input_ids"]) for batch, *_ in packed] == [4, 9]
    for batch, own, pulls in packed:
        assert len(batch["pixel_values"]) == 4 and len(batch["sam_pixel_values"]) == 2
        for name, loss in losses.items():
            torch.testing.assert_close(own[name], loss, rtol=bound, atol=0)
        assert pulls.keys() == gradients.keys()
        for name, pull in gradients.items():
            scale = float(pull.abs().max())
            torch.testing.assert_close(pulls[name], pull, rtol=0, atol=bound * scale + 1e-9)


def test_no_question_sees_another(folder: Path, processor: EarthMindProcessor) -> None:
    """To the bit, whatever the others say."""
    model = model_of(folder)
    step = EarthMindTraining(model).eval()
    samples = about(tiny.view("optical", seed=1))
    seen: list[torch.Tensor] = []
    model.language.lm_head.register_forward_hook(lambda *args: seen.append(args[2]))

    def logits(*changed: Sample) -> list[torch.Tensor]:
        batch = training_batch(processor, [*changed, *samples[len(changed) :]], packing=TEN)
        assert batch["blocks"].max() == 4
        learned = batch["labels"][0] != -100
        with torch.no_grad():
            step(**batch)
        of = batch["blocks"][0][learned]
        return [seen[-1][of == number] for number in range(1, 5)]

    before = logits()
    first = replace(samples[0], prompt=replace(samples[0].prompt, text="Where is it?"[:11]))
    after = logits(first)
    assert not torch.equal(before[0], after[0])
    assert all(map(torch.equal, before[1:], after[1:]))


def test_positions_go_on_behind_the_pictures(processor: EarthMindProcessor) -> None:
    batch = training_batch(processor, about(tiny.view("optical", seed=1)), packing=TEN)
    (blocks,), (places,) = batch["blocks"], batch["position_ids"]
    shared = int((blocks == PICTURES).sum())
    assert places[blocks == PICTURES].tolist() == list(range(shared))
    for number in range(1, 5):
        own = places[blocks == number]
        assert own.tolist() == list(range(shared, shared + len(own)))
    alone = training_batch(processor, about(tiny.view("optical", seed=1)))
    assert lengths(batch["attention_mask"], batch["blocks"]) == lengths(
        alone["attention_mask"], None
    )


def test_what_shares_nothing_has_a_row_of_its_own(processor: EarthMindProcessor) -> None:
    """Sensors that are weighed by the question; the same picture as another sensor; text."""
    pair = tiny.view("sar", seed=2), tiny.view("optical", seed=3)
    weighted = training_batch(processor, about(*pair), Options(fusion="weighted"), packing=TEN)
    assert len(weighted["pairs"]) == 4 and "blocks" not in weighted
    one = tiny.view("optical", seed=1)
    others = [one, replace(one, modality="sar"), tiny.view("optical", seed=2)]
    samples = [about(view)[0] for view in others]
    assert "blocks" not in training_batch(processor, samples, packing=TEN)
    text = [Sample(prompt=Prompt(text="Is it?"), reply="Yes.")] * 2
    assert "blocks" not in training_batch(processor, text, packing=TEN)


def test_a_kernel_without_masks_is_refused() -> None:
    with pytest.raises(EngineError, match="sdpa or eager, or packing=1"):
        mask_of(torch.zeros(1, 4), "flash_attention_2", torch.float32)
