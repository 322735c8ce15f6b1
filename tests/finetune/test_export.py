"""What a training leaves, opened by whoever reads such files."""

from __future__ import annotations

import json
import warnings

import peft
import pytest
import torch
from safetensors.torch import load_file

from earthmind_lab.engine.loading import load_engine
from earthmind_lab.errors import EngineError
from earthmind_lab.exchange import Options, Prompt
from earthmind_lab.finetune import carding, sets
from earthmind_lab.finetune.batches import Collator
from earthmind_lab.finetune.building import build
from earthmind_lab.finetune.export import adapter_hash, merge
from earthmind_lab.finetune.run import finetune
from earthmind_lab.model import EarthMindForConditionalGeneration, convert_checkpoint
from earthmind_lab.model.config import AS_PUBLISHED, EarthMindConfig
from tests.finetune import toys
from tests.model.test_convert import upstream_folder


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A training of a checkpoint in the published layout."""
    folder = tmp_path_factory.mktemp("published")
    source = upstream_folder(folder / "source")
    recipe = toys.recipe(source, "lora", "steps=2")
    return source, finetune(recipe, out=folder / "run", train=toys.mixed(4))


def test_pictures_and_licence_follow_the_config_in_either_layout(published, capfd):
    """Read as a config of ours, the published one would give its defaults and a warning."""
    source, run = published
    assert sets._composites(run.recipe) == AS_PUBLISHED
    assert EarthMindConfig().composites != AS_PUBLISHED
    assert carding._licence(str(source)) == ""
    assert "You are using a model of type" not in capfd.readouterr().err


def state(folder) -> dict[str, torch.Tensor]:
    return EarthMindForConditionalGeneration.from_pretrained(folder).state_dict()


def test_to_the_published_layout_and_back(published, tmp_path):
    source, run = published
    ours = run.merge(tmp_path / "ours")
    there = run.merge(tmp_path / "there", to="published")
    back = convert_checkpoint(there, tmp_path / "back")
    names = set(load_file(source / "model.safetensors"))
    assert set(load_file(there / "model.safetensors")) == names
    assert json.loads((there / "config.json").read_text()) == json.loads(
        (source / "config.json").read_text()
    )
    first, before = state(ours), state(source)
    for folder in (there, back):
        assert all(torch.equal(first[name], tensor) for name, tensor in state(folder).items())
    assert any(not torch.equal(first[name], before[name]) for name in first)
    engine = load_engine(there, device="cpu")
    try:
        reply = engine.generate(Prompt(text="What?", views=(toys.view(),)), Options())
        assert reply.usage.tokens_new > 0
    finally:
        engine.close()


def test_a_merged_model_is_the_trained_one(toy, tmp_path):
    """The loss that the trained model had is that of the merged one."""
    recipe = toys.recipe(toy, "dora", "lora.dropout=0", "steps=4")
    guard = toys.single(4)
    run = finetune(recipe, out=tmp_path / "run", train=toys.mixed(), guard=guard)
    merged = run.merge(tmp_path / "merged")
    built = build(recipe.replace(model=str(merged), method="full"))
    built.step.eval()
    built.step.generator.manual_seed(0)
    losses = []
    with torch.no_grad():
        for first in (0, 2):
            batch = Collator(built.processor, recipe)(guard.examples[first : first + 2])
            batch.pop("names")
            losses.append(float(built.step(**batch).loss))
    assert sum(losses) / 2 == pytest.approx(run.guard["after"], rel=1e-4)
    assert run.guard["before"] != pytest.approx(run.guard["after"], rel=1e-2)


def test_the_adapter_is_one_of_peft(toy, tmp_path):
    run = finetune(toys.recipe(toy, "lora", "steps=2"), out=tmp_path, train=toys.mixed(4))
    held = load_file(run.adapter / "adapter_model.safetensors")
    assert all(name.startswith("base_model.model.model.layers.") for name in held)
    model = EarthMindForConditionalGeneration.from_pretrained(toy)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft reads a name that transformers has renamed
        language = peft.PeftModel.from_pretrained(model.language, str(run.adapter))
    loaded = peft.get_peft_model_state_dict(language, save_embedding_layers=False)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in held.items())
    about = json.loads((run.adapter / "earthmind.json").read_text())
    assert about["hash"] == run.hash == adapter_hash(run.adapter)
    assert about["recipe"] == run.recipe.hash and about["steps"] == 2


def test_what_cannot_be_merged(toy, tmp_path):
    run = finetune(toys.recipe(toy, "lora", "steps=1"), out=tmp_path / "run", train=toys.mixed(4))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(EngineError, match="not empty"):
        run.merge(tmp_path / "full")
    with pytest.raises(EngineError, match="doesn't come from a published checkpoint"):
        run.merge(tmp_path / "there", to="published")
    with pytest.raises(EngineError, match=r"earthmind\.json can't be read"):
        merge(tmp_path / "full", tmp_path / "there")
    assert not (tmp_path / "there").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
