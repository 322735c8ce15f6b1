"""Vision features that are kept: the same training, and no picture encoded twice."""

from __future__ import annotations

import pytest
import torch

from earthmind_lab.finetune.batches import Collator
from earthmind_lab.finetune.building import build
from earthmind_lab.finetune.features import DiskStore, FrozenFeatures, MemoryStore, open_store
from earthmind_lab.finetune.run import finetune
from earthmind_lab.finetune.sections import Cache
from tests.finetune import toys

KINDS = {
    "vision_features": ("language", "projector", "mask_decoder"),
    "visual_tokens": ("language", "mask_decoder"),
}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("key", KINDS)
@pytest.mark.parametrize("name", ["lora", "instruct", "fusion"])
def test_losses_and_gradients_are_those_without(toy, key, precision, name):
    recipe = toys.recipe(toy, name, train=KINDS[key], precision=precision)
    built = build(recipe)
    features = FrozenFeatures(built.step, built.processor, MemoryStore(1e9))
    assert features.key == key
    found = []
    for encoded in (None, features, features):
        batch = Collator(built.processor, recipe, encoded)(toys.mixed(8).examples)
        assert batch.pop("names")[0] == "told-0"
        assert (key in batch) == ("sam_levels" in batch) == (encoded is not None)
        built.step.generator.manual_seed(1)
        built.step.zero_grad()
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            loss = built.step(**batch).loss
        loss.backward()
        weight = built.step.model.sam.sam2.mask_decoder.conv_s0.weight
        found.append((loss.detach(), weight.grad.clone()))
    bound = 2e-2 if precision == "bfloat16" else 1e-5
    for loss, gradient in found[1:]:
        torch.testing.assert_close(loss, found[0][0], rtol=bound, atol=0)
        scale = float(found[0][1].abs().max())
        assert scale > 0
        torch.testing.assert_close(gradient, found[0][1], rtol=0, atol=10 * bound * scale)
    # 8 examples with 4 pairs: 12 views of the vision tower, 4 pictures that masks are drawn on.
    assert features.encoded == 16


def test_what_is_trained_is_not_kept(toy):
    recipe = toys.recipe(toy, "full", train=("language", "vision", "mask_encoder"))
    built = build(recipe)
    features = FrozenFeatures(built.step, built.processor, MemoryStore(1e9))
    batch = Collator(built.processor, recipe, features)(toys.mixed(4).examples)
    assert features.key == "pixel_values" and features.encoded == 0
    plain = Collator(built.processor, recipe)(toys.mixed(4).examples)
    assert torch.equal(batch["pixel_values"], plain["pixel_values"])
    assert torch.equal(batch["sam_pixel_values"], plain["sam_pixel_values"])


def test_a_training_with_and_without(toy, tmp_path):
    runs = []
    for where in ("none", "memory", "disk", "disk"):
        recipe = toys.recipe(
            toy, "lora", f"cache.where={where}", f"cache.folder={tmp_path / 'kept'}"
        ).replace("optimiser.rate=1e-4", batch=1)
        run = finetune(recipe, out=tmp_path / str(len(runs)), train=toys.mixed(4))
        runs.append([row["loss"] for row in run.losses()])
    assert runs[1] == runs[2] == runs[3]
    assert runs[0] == pytest.approx(runs[1], rel=1e-4)


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_limits(where, tmp_path):
    def store(limit):
        return MemoryStore(limit) if where == "memory" else DiskStore(tmp_path, "a", limit)

    kept = store(5000)
    tensor = torch.arange(500, dtype=torch.float32)  # 2000 bytes
    for key in "abc":
        kept.put(key, (tensor,))
    assert [kept.get(key) is not None for key in "abc"] == [True, True, False]
    assert torch.equal(kept.get("a")[0], tensor)
    assert kept.nbytes == 4000
    store(0).put("d", (tensor,))
    assert kept.get("d") is None


def test_a_damaged_file_is_computed_anew(tmp_path):
    store = DiskStore(tmp_path, "a", 1e6)
    store.put("x", (torch.ones(3), torch.zeros(2, dtype=torch.bfloat16)))
    again = DiskStore(tmp_path, "a", 1e6)
    assert again.nbytes > 0
    assert [tensor.dtype for tensor in again.get("x")] == [torch.float32, torch.bfloat16]
    (tmp_path / "a/x.safetensors").write_bytes(b"broken")
    assert again.get("x") is None and again.get("x") is None


def test_features_of_other_models_go_first(tmp_path):
    old, new = DiskStore(tmp_path, "old", 5000), DiskStore(tmp_path, "new", 5000)
    tensor = torch.zeros(500)
    old.put("a", (tensor,))
    new = DiskStore(tmp_path, "new", 5000)
    new.put("b", (tensor,))
    new.put("c", (tensor,))
    assert old.get("a") is None
    assert new.get("b") is not None and new.get("c") is not None


def test_another_model_reads_other_files(toy, tmp_path):
    built = build(toys.recipe(toy))
    cache = Cache(where="disk", folder=str(tmp_path))
    folders = {open_store(cache, built.step, weights, tmp_path).own for weights in ("1", "2", "1")}
    assert len(folders) == 2
    assert open_store(Cache(where="none"), built.step, "1", tmp_path) is None
