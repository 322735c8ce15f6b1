"""What a training takes, against what torch really keeps."""

from __future__ import annotations

import pytest
import torch

from earthmind_lab.engine.room import Room
from earthmind_lab.errors import OutOfDeviceMemory
from earthmind_lab.finetune.batches import Collator
from earthmind_lab.finetune.building import build, canonical, part_of, trained
from earthmind_lab.finetune.planning import kept_bytes, pass_bytes, plan
from earthmind_lab.finetune.recipe import Recipe
from earthmind_lab.finetune.run import planned
from earthmind_lab.finetune.sections import PARTS
from earthmind_lab.model.memory import Sizes
from earthmind_lab.model.published import PARAMETERS, SIZES
from tests.finetune import toys


@pytest.mark.parametrize(
    ("name", "model"), [("lora", "nano"), ("dora", "toy"), ("full", "toy"), ("instruct", "toy")]
)
def test_numbers_are_exact(toy, name, model):
    recipe = toys.recipe(toy if model == "toy" else "nano", name)
    found = plan(recipe)
    built = build(recipe)
    parts = dict.fromkeys(recipe.train, 0)
    for long, weight in trained(built.step):
        parts[part_of(canonical(long))] += weight.numel()
    assert found.parts == parts
    everything = sum(weight.numel() for weight in built.step.parameters())
    assert found.trained + found.frozen == pytest.approx(everything, rel=2e-3)  # position codes
    held = sum(weight.nbytes for weight in built.step.parameters())
    assert found.weights == pytest.approx(held, rel=2e-3)
    assert (found.gradients, found.optimiser) == (4 * found.trained, 8 * found.trained)


def kept(recipe, examples) -> tuple[int, dict]:
    """Bytes that torch keeps of one pass for the way back, weights left out."""
    built = build(recipe)
    built.step.train()
    batch = Collator(built.processor, recipe)(examples)
    batch.pop("names")
    weights = {weight.untyped_storage().data_ptr() for weight in built.step.parameters()}
    held: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            held[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)
        return tensor

    alive: list[torch.Tensor] = []  # so that no address is used twice
    bf16 = recipe.precision == "bfloat16"
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=bf16),
    ):
        loss = built.step(**batch).loss
    assert loss.requires_grad
    return sum(held.values()), batch


@pytest.mark.parametrize(
    ("name", "checkpointing", "precision"),
    [
        ("lora", True, "bfloat16"),
        ("lora", False, "float32"),
        ("lora", False, "bfloat16"),
        ("dora", False, "bfloat16"),
        ("full", True, "float32"),
        ("full", False, "float32"),
    ],
)
def test_a_pass_is_bounded(name, checkpointing, precision):
    recipe = toys.recipe(
        "nano", name, "lora.dropout=0.05", "lora.rank=16", batch=2, precision=precision
    ).replace(checkpointing=checkpointing)
    found, batch = kept(recipe, toys.mixed(4).examples[2:])
    sizes = Sizes.of(build(recipe).step.model.config.to_dict())
    tokens, learned = batch["input_ids"].numel(), int((batch["labels"] >= 0).sum())
    bound = kept_bytes(recipe, sizes, tiles=4, tokens=tokens, learned=learned, objects=1)
    assert found < bound < 4 * found
    assert bound < pass_bytes(recipe, sizes)


def test_what_does_not_fit_is_refused_with_remedies():
    small = Room(device="cpu", free=1000, total=2000)
    recipe = Recipe.load("full").replace("precision=float32", "batch=2", "checkpointing=false")
    found = plan(recipe, look=lambda _: small)
    assert not found.fits
    with pytest.raises(OutOfDeviceMemory) as caught:
        found.check()
    for change in ("checkpointing=true", "batch=1", "precision=bfloat16", "method=lora"):
        assert change in str(caught.value)


def test_steps_and_time(toy):
    recipe = toys.recipe(toy, "lora", "steps=0", batch=2, accumulation=2, epochs=3.0)
    assert plan(recipe, examples=9).steps == 9  # 5 passes, 3 steps an epoch
    found = planned(recipe, train=toys.mixed(9))
    assert found.seconds_per_step > 0
    assert found.seconds == pytest.approx(9 * found.seconds_per_step)
    assert "measured by one step" in found.explain()[-1]
    assert planned(recipe).seconds is None


def test_spread_weights_take_less():
    recipe = Recipe.load("lora").replace("parallel.kind=fsdp2")
    one = plan(recipe)
    from dataclasses import replace

    assert replace(one, processes=4).needs < one.needs


def test_a_published_checkpoint_is_planned_without_its_files(monkeypatch):
    """Sizes that were counted in its files before; no file may be asked for."""
    monkeypatch.setattr(
        "earthmind_lab.model.published._snapshot", lambda *_: pytest.fail("it was fetched")
    )
    recipe = Recipe.load("lora").replace("model=EarthMind-4B")
    card = Room(device="cuda", free=48 * 10**9, total=48 * 10**9)
    one = plan(recipe, examples=100, look=lambda _: card)
    adapters, vocabulary = one.parts["language"], 2 * SIZES.vocabulary * SIZES.width
    assert one.trained + one.frozen - adapters == pytest.approx(PARAMETERS, abs=256)  # buffers
    assert one.parts["embeddings"] == vocabulary and one.steps == 25
    spread = recipe.replace("parallel.kind=fsdp2", "method=full")
    alone, eight = (
        plan(spread, examples=100, processes=count, look=lambda _: card) for count in (1, 8)
    )
    assert eight.steps == 4 and eight.fits and not alone.fits
    full = recipe.replace("method=full", f"train=[{', '.join(PARTS)}]", "training_form=june")
    assert plan(full, look=lambda _: card).frozen == 2 * SIZES.width  # `local_query`
