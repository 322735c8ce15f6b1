"""From samples to losses: what a batch holds, what a step learns, what's refused."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers
from numpy.typing import NDArray

from earthmind_lab.errors import EngineError, PromptError
from earthmind_lab.exchange import Modality, Options, Prompt, Region, View
from earthmind_lab.model import (
    EarthMindProcessor,
    EarthMindTraining,
    LossWeights,
    Sample,
    TrainingForm,
    training_batch,
)
from earthmind_lab.model.losses import IGNORED
from earthmind_lab.model.training import _input_of, seg_attention
from tests.model.parity import CASES, build, built

STEM = CASES[0][0]
WEIGHTED = Options(fusion="weighted")
CONCATENATED = Options(fusion="concatenate")


def view(modality: Modality = "optical", *, side: int = 60, name: str = "true colour") -> View:
    picture = np.random.default_rng(len(modality)).integers(0, 256, (side, side, 3), np.uint8)
    return View(image=picture, name=name, modality=modality)


def pair(side: int = 60) -> tuple[View, View]:
    return view("sar", side=side, name="SAR grey"), view(side=side)


def squares(*corners: tuple[int, int], side: int = 60) -> NDArray[np.bool_]:
    """(M, side, side): one square of 20 pixels each."""
    masks = np.zeros((len(corners), side, side), bool)
    for mask, (y, x) in zip(masks, corners, strict=True):
        mask[y : y + 20, x : x + 20] = True
    return masks


def drawn(*views: View) -> Sample:
    views = views or (view(),)
    return Sample(
        prompt=Prompt(text="Segment the two fields.", views=views),
        reply="Here [SEG] and there [SEG].",
        masks=squares((5, 5), (35, 30), side=views[0].shape[0]),
    )


def told(*views: View, **fields: Any) -> Sample:
    return Sample(prompt=Prompt(text="What is it?", views=views, **fields), reply="A harbour.")


@pytest.fixture
def processor() -> EarthMindProcessor:
    return built(STEM, "sdpa")[1]


def text_of(processor: EarthMindProcessor, ids: torch.Tensor) -> str:
    return processor.tokenizer.decode(ids)


# --- batches -------------------------------------------------------------------------------------


def test_the_reply_is_learned_with_its_stop_string_and_nothing_else(
    processor: EarthMindProcessor,
) -> None:
    stop = processor.stop_strings[0]
    ended = Sample(prompt=told().prompt, reply=told().reply + stop)
    batch = training_batch(processor, [told(view()), told(), ended])
    for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
        learned = labels != IGNORED
        assert text_of(processor, labels[learned]) == told().reply + stop
        assert torch.equal(ids[learned], labels[learned])
        assert learned.nonzero()[0, 0] + learned.sum() == len(ids)  # at the end, in one piece


def test_masks_follow_their_marks_through_a_mixed_batch(processor: EarthMindProcessor) -> None:
    second = Sample(
        prompt=Prompt(text="Segment the pond.", views=(view(side=40),)),
        reply="It is here [SEG].",
        masks=squares((10, 0), side=40),
    )
    batch = training_batch(processor, [told(view()), drawn(), told(), second])
    assert batch["drawn"].tolist() == [[0, 0], [1, 0], [2, 1]]
    side = processor.config.sam_image_size
    assert batch["sam_pixel_values"].shape == (2, 3, side, side)
    assert batch["masks"].shape == (3, side // 4, side // 4)
    shares = batch["masks"].float().mean((1, 2))
    torch.testing.assert_close(shares, torch.tensor([1 / 9, 1 / 9, 1 / 4]), atol=0.01, rtol=0)
    assert [t is None for t in batch["targets"]] == [True, False, True, False]


def test_each_frame_of_a_series_has_its_own_truth(processor: EarthMindProcessor) -> None:
    frames = (view(), view())
    masks = np.stack([squares((5, 5), (35, 30)), squares((0, 0), (40, 40))], axis=1)
    sample = Sample(prompt=drawn(*frames).prompt, reply=drawn().reply, masks=masks)
    batch = training_batch(processor, [sample])
    assert batch["drawn"].tolist() == [[0, 0], [1, 0], [0, 1], [1, 1]]
    corner = batch["masks"][:, 0, 0].tolist()
    assert corner == [0, 0, 1, 0]
    assert batch["targets"] == [None]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"masks": None}, "2 \\[SEG\\], no mask"),
        ({"masks": squares((5, 5))}, "2 \\[SEG\\], 1 masks"),
        ({"reply": "Nothing."}, "0 \\[SEG\\], 2 masks"),
        ({"masks": squares((5, 5), (9, 9), side=50)}, "\\(2, 50, 50\\)"),
        ({"masks": squares((5, 5), (9, 9))[:, None].repeat(3, 1)}, "\\(2, 3, 60, 60\\)"),
    ],
)
def test_masks_that_fit_nothing_are_refused(
    processor: EarthMindProcessor, changes: dict[str, Any], found: str
) -> None:
    sample = Sample(
        **{"prompt": drawn().prompt, "reply": drawn().reply, **drawn_masks(), **changes}
    )
    with pytest.raises(PromptError, match=f"ample 1.*{found}"):
        training_batch(processor, [told(), sample])


def test_where_masks_are_known_goes_with_them(processor: EarthMindProcessor) -> None:
    half = np.ones((2, 60, 60), bool)
    half[1, :, 30:] = False
    partly = replace(drawn(), known=half)
    assert "known" not in training_batch(processor, [drawn()])
    known = training_batch(processor, [drawn(), partly])["known"].float()
    assert known.shape[0] == 4
    assert known.mean((1, 2)).tolist() == pytest.approx([1, 1, 1, 0.5], abs=0.05)
    nothing = half & np.array([True, False])[:, None, None]
    for wrong in (half[:1], nothing):
        with pytest.raises(PromptError, match="sample 1 are known must be said for each"):
            training_batch(processor, [told(), replace(drawn(), known=wrong)])


def drawn_masks() -> dict[str, Any]:
    return {"masks": drawn().masks}


def test_a_pair_in_the_form_of_june(processor: EarthMindProcessor) -> None:
    """Two picture blocks of equal length; everything else stays as it is asked."""
    sample = told(*pair(side=200))
    asked = training_batch(processor, [sample], CONCATENATED)
    june = training_batch(processor, [sample], CONCATENATED, form=TrainingForm.june())
    ids = june["input_ids"][0]
    text = text_of(processor, ids)
    blocks = [block.split("</img>")[0] for block in text.split("<img>")[1:]]
    assert len(blocks) == 2
    assert blocks[0] == blocks[1]
    assert text.replace("</img><img>", "") == text_of(processor, asked["input_ids"][0])
    assert torch.equal(june["slots"], asked["slots"])
    tiles = len(june["pixel_values"]) // 2
    assert tiles > 1
    assert june["aligned"].tolist() == asked["aligned"].tolist() == [[0, tiles, tiles]]


def test_text_that_weighs_a_pair(processor: EarthMindProcessor) -> None:
    """By default the question alone, so that training meets what asking can know."""
    (asked,) = training_batch(processor, [told(*pair())], WEIGHTED)["pairs"].tolist()
    answer = training_batch(processor, [told(*pair())], WEIGHTED, form=TrainingForm.newer())
    (newer,) = answer["pairs"].tolist()
    first = int((answer["labels"][0] != IGNORED).nonzero()[0])
    assert asked[7] == first
    assert newer[7] == answer["labels"].shape[1] > first
    assert asked[:7] == newer[:7]


def test_pairs_in_a_batch_are_counted_from_its_first_square(processor: EarthMindProcessor) -> None:
    batch = training_batch(processor, [told(view()), told(*pair()), told(*pair())], CONCATENATED)
    before = len(batch["pixel_values"]) - 2 * 2 * batch["aligned"][0, 2]
    tiles = int(batch["aligned"][0, 2])
    starts = [[before + k * 2 * tiles, before + (k * 2 + 1) * tiles, tiles] for k in (0, 1)]
    assert batch["aligned"].tolist() == starts


# --- attention of [SEG] --------------------------------------------------------------------------


def test_recomputed_attention_is_that_of_the_eager_kernel() -> None:
    """Also behind padding on the left, and down to the gradients."""
    model, processor = build(STEM, "eager")
    batch = training_batch(processor, [drawn(), drawn(view(side=200)), told()])
    mask, ids = batch["attention_mask"], batch["input_ids"]
    assert not mask.all()
    embeds = model.prompt_embeds(ids, batch["pixel_values"], batch["slots"]).detach()
    last = model.language.model.layers[-1]
    for row in range(2):
        read = mask[row].bool()
        places = (batch["labels"][row] == processor.seg_token_id) & read
        with _input_of(last) as seen:
            outputs = model.language.model(
                inputs_embeds=embeds, attention_mask=mask, output_attentions=True, use_cache=False
            )
        wanted = outputs.attentions[-1][row].mean(0)[places]
        found = seg_attention(last, seen, row, places, read)
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)
        weight = last.self_attn.q_proj.weight
        pull = torch.randn(found.shape, generator=torch.Generator().manual_seed(row))
        gradients = [
            torch.autograd.grad((attention * pull).sum(), weight, retain_graph=True)[0]
            for attention in (found, wanted)
        ]
        torch.testing.assert_close(*gradients, atol=1e-7, rtol=1e-4)
        assert gradients[0].any()


# --- steps ---------------------------------------------------------------------------------------


def learn(
    step: EarthMindTraining, batch: dict[str, Any], rounds: int, rate: float = 1e-3
) -> list[dict[str, float]]:
    """Losses of each round, the last one after the last change."""
    optimiser = torch.optim.Adam((p for p in step.parameters() if p.requires_grad), lr=rate)
    found = []
    for _ in range(rounds):
        outputs = step(**batch)
        found.append({name: loss.item() for name, loss in outputs.losses.items()})
        optimiser.zero_grad()
        outputs.loss.backward()
        optimiser.step()
    return found


def test_all_losses_together_train_every_part() -> None:
    """Pairs, masks and plain questions in one batch, with everything June has."""
    model, processor = build(STEM, "sdpa")
    samples = [told(*pair()), drawn(), drawn(*pair()), told()]
    form = TrainingForm.june()
    batch = training_batch(processor, samples, CONCATENATED, form=form)
    step = EarthMindTraining(model, LossWeights.june(), form=form, points=500)
    outputs = step(**batch)
    assert set(outputs.losses) == {"text", "mask", "dice", "alignment", "attention"}
    total = LossWeights.june().total(outputs.losses)
    torch.testing.assert_close(outputs.loss.detach(), total)
    outputs.loss.backward()
    parts = {
        "vision": model.vision.embeddings.patch_embeddings.projection.weight,
        "projector": model.projector[1].weight,
        "embeddings": model.get_input_embeddings().weight,
        "last attention": model.language.model.layers[-1].self_attn.q_proj.weight,
        "text head": model.text_head[0].weight,
        "mask decoder": model.sam.sam2.mask_decoder.mask_tokens.weight,
        "query": step.query,
    }
    for name, weight in parts.items():
        assert weight.grad is not None and weight.grad.isfinite().all(), name
        assert weight.grad.any(), name
    rounds = learn(step, batch, 60)  # Dice, at points that move, is the slowest to go down
    for name in rounds[0]:
        assert rounds[-1][name] < rounds[0][name], name


def test_logits_are_computed_where_something_is_learned(processor: EarthMindProcessor) -> None:
    """The same loss as with all logits; padding changes nothing."""
    model, _ = built(STEM, "sdpa")
    samples = [told(view(side=200)), told(), drawn(*pair())]
    step = EarthMindTraining(model)
    seen: list[tuple[int, ...]] = []
    handle = model.language.lm_head.register_forward_hook(
        lambda _, args, __: seen.append(tuple(args[0].shape))
    )
    with torch.no_grad():
        batch = training_batch(processor, samples, WEIGHTED)
        loss = step(**batch).losses["text"]
        learned = int((batch["labels"] != IGNORED).sum())
        assert [shape[0] for shape in seen] == [learned]
        handle.remove()
        plain = {k: v for k, v in batch.items() if k not in (*DRAWN, "aligned", "targets")}
        torch.testing.assert_close(model(**plain).loss, loss)
        parts = [training_batch(processor, [sample], WEIGHTED) for sample in samples]
        counts = [int((part["labels"] != IGNORED).sum()) for part in parts]
        each = [step(**part).losses["text"] for part in parts]
    mean = sum(n * one for n, one in zip(counts, each, strict=True)) / sum(counts)
    torch.testing.assert_close(loss, mean, atol=1e-5, rtol=1e-5)


DRAWN = ("sam_pixel_values", "drawn", "masks")


def test_the_gate_scales_both_sensors_of_its_pair_only(processor: EarthMindProcessor) -> None:
    model, _ = built(STEM, "sdpa")
    samples = [told(view()), told(*pair())]
    form = TrainingForm(gate=True)
    batch = training_batch(processor, samples, CONCATENATED, form=form)
    step = EarthMindTraining(model, form=form)
    with torch.no_grad():
        tokens = model.encode_views(batch["pixel_values"])
        gated = step._pairs(tokens, batch["aligned"], {})
    sar, optical, tiles = batch["aligned"][0].tolist()
    assert torch.equal(gated[:sar], tokens[:sar])
    scale = gated / tokens
    torch.testing.assert_close(scale[sar : sar + tiles], scale[optical : optical + tiles])
    assert (scale[sar:] < 1).all()


def test_the_gate_belongs_to_the_training_not_to_the_model() -> None:
    model, _ = built(STEM, "sdpa")
    names = dict(EarthMindTraining(model, form=TrainingForm.june()).named_parameters())
    assert "query" in names
    assert "query" not in dict(EarthMindTraining(model).named_parameters())


def test_nothing_to_learn_is_refused(processor: EarthMindProcessor) -> None:
    batch = training_batch(processor, [told()])
    batch["labels"] = torch.full_like(batch["labels"], IGNORED)
    with pytest.raises(EngineError, match="Nothing is learned"):
        EarthMindTraining(built(STEM, "sdpa")[0])(**batch)


def test_adapters_and_checkpointing_work_through_the_step() -> None:
    model, processor = build(STEM, "sdpa")
    model.requires_grad_(requires_grad=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft reads a name that transformers has renamed
        model.language = peft.get_peft_model(
            model.language, peft.LoraConfig(r=4, target_modules=r".*\.(q|v)_proj")
        )
        model.train()
        model.gradient_checkpointing_enable({"use_reentrant": False})
    batch = training_batch(processor, [drawn(), told(view())])
    step = EarthMindTraining(model, LossWeights.june(), points=500)
    rounds = learn(step, batch, 8, rate=0.02)
    assert rounds[-1]["text"] < rounds[0]["text"] - 0.1
    trained = {name for name, p in step.named_parameters() if p.grad is not None and p.grad.any()}
    assert trained
    assert all("lora_" in name for name in trained)


def test_a_seed_gives_the_same_points_and_gate() -> None:
    model, processor = built(STEM, "sdpa")
    form = TrainingForm(gate=True)
    batch = training_batch(processor, [drawn(*pair())], CONCATENATED, form=form)
    with torch.no_grad():
        found = [
            EarthMindTraining(model, form=form, points=50, seed=seed)(**batch).loss.item()
            for seed in (1, 1, 2)
        ]
    assert found[0] == found[1] != found[2]


def test_regions_are_read_but_not_aimed_at(processor: EarthMindProcessor) -> None:
    region = Region(mask=squares((5, 5))[0])
    sample = Sample(
        prompt=Prompt(text="Segment region1.", views=(view(),), regions=(region,)),
        reply="[SEG]",
        masks=squares((5, 5)),
    )
    batch = training_batch(processor, [sample])
    assert batch["targets"] == [None]
    assert len(batch["masks"]) == 1


def test_the_librarys_trainer_steps_through_it(tmp_path: Path) -> None:
    model, processor = build(STEM, "sdpa")
    samples = [told(), told(view())]
    trainer = transformers.Trainer(
        model=EarthMindTraining(model),
        args=transformers.TrainingArguments(
            output_dir=str(tmp_path),
            max_steps=8,
            per_device_train_batch_size=2,
            learning_rate=1e-3,
            remove_unused_columns=False,
            save_strategy="no",
            logging_steps=1,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        ),
        train_dataset=samples,
        data_collator=lambda drawn: training_batch(processor, drawn),
    )
    trainer.train()
    losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 8
    assert losses[-1] < losses[0] - 0.5
