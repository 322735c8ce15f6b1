"""Recipes: what the built-in ones say, what is refused, and that nothing is lost on the way."""

from __future__ import annotations

import dataclasses
import math

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from earthmind_lab.errors import EarthMindError
from earthmind_lab.finetune.recipe import BUILT_IN, Recipe, built_in
from earthmind_lab.finetune.sections import LINEAR, Losses, Source
from earthmind_lab.model import LossWeights, TrainingForm

NAMES = ("dora", "few", "full", "fusion", "image", "instruct", "lora", "multi", "pretrain", "qlora")


def test_the_built_in_recipes_are_the_promised_ones():
    assert built_in() == NAMES
    for name in NAMES:
        recipe = Recipe.load(name)
        assert recipe.name == name
        text = (BUILT_IN / f"{name}.yaml").read_text("utf-8")
        assert "ublished" in text.split("\nname:")[0]


@pytest.mark.parametrize("name", ["lora", "image", "multi", "pretrain", "instruct", "fusion"])
def test_published_settings(name):
    recipe = Recipe.load(name)
    lora, course = recipe.lora, recipe.optimiser
    assert (lora.rank, lora.alpha, lora.dropout, lora.targets) == (128, 256, 0.05, LINEAR)
    assert (course.rate, course.betas, course.decay, course.clip) == (4e-5, (0.9, 0.999), 0.05, 1)
    assert (course.schedule, course.warmup, course.warmup_from) == ("cosine", 0.05, 1e-5)
    assert (recipe.batch, recipe.accumulation, recipe.epochs) == (1, 4, 1)
    assert (recipe.max_length, recipe.precision, recipe.saving.every) == (8192, "bfloat16", 1000)
    published = {"language", "embeddings", "projector", "text_head", "mask_decoder"}
    assert published <= set(recipe.train) <= {*published, "gate"}


def test_stages_repeat_their_code():
    assert Recipe.load("instruct").losses.weights() == LossWeights.june()
    assert Recipe.load("instruct").form() == TrainingForm.june()
    assert Recipe.load("fusion").losses.weights() == LossWeights.newer()
    assert Recipe.load("fusion").form() == TrainingForm.newer()
    assert Recipe.load("multi").form() == TrainingForm()
    assert Recipe.load("fusion").options.fusion == "weighted"


def test_losses_have_the_names_of_the_model():
    ours = {field.name for field in dataclasses.fields(Losses)} - {"points"}
    assert ours == {field.name for field in dataclasses.fields(LossWeights)}


def test_there_and_back(tmp_path):
    for name in NAMES:
        recipe = Recipe.load(name).replace(data=(Source(path="a.json", repeats=3.0),))
        assert Recipe.load(recipe.save(tmp_path / "recipe.yaml")) == recipe


@settings(max_examples=20)
@given(st.floats(1e-9, 1e3), st.integers(1, 512), st.booleans())
def test_values_survive_yaml(rate, rank, checkpointing):
    recipe = Recipe.load("lora").replace(
        f"optimiser.rate={rate!r}", f"lora.rank={rank}", checkpointing=checkpointing
    )
    again = Recipe.load("lora").replace(**yaml.safe_load(recipe.text()))
    assert again == recipe
    assert again.hash == recipe.hash
    assert again.optimiser.rate == rate


def test_numbers_that_yaml_takes_for_text():
    assert math.isclose(Recipe.load("lora").replace("optimiser.rate=4e-5").optimiser.rate, 4e-5)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("lora.rnk=8", "lora has no key 'rnk'. Try: rank"),
        ("lorra.rank=8", "no key 'lorra'. Try: lora"),
        ("precission=float32", "no key 'precission'. Try: precision"),
        ("train=[projectr]", "no key 'projectr'. Try: projector"),
        ("lora.targets=[k_prj]", "no key 'k_prj'. Try: k_proj"),
        ("optimiser.rates={projecter: 2}", "Try: projector"),
        ("method=lorra", "one of lora, qlora, dora, full"),
        ("batch=0", "batch can't be 0"),
        ("batch=1.5", "a whole number"),
        ("batch=true", "a whole number"),
        ("optimiser.rate=fast", "a number"),
        ("optimiser.betas=[0.9]", "2 values"),
        ("lora.dropout=1", "less than 1"),
        ("losses={text: 0, mask: 0, dice: 0}", "one of them more than 0"),
        ("train=[gate]", "no gate to train"),
        ("train=[projector]", "adapters on the language model"),
        ("train=[]", "nothing is learned"),
        ("data=[{}]", "lacks path"),
        ("data=a.json", "a list"),
        ("data=[{path: a, repeats: 0}]", "repeats can't be 0"),
        ("rank", "sets nothing"),
        ("lora.rank=[", "not YAML"),
    ],
)
def test_what_is_refused(change, says):
    with pytest.raises(EarthMindError) as caught:
        Recipe.load("lora").replace(change)
    assert says in str(caught.value)


@pytest.mark.parametrize("content", ["- a", "name: [", "!!python/object/apply:os.system [ls]", ""])
def test_a_file_that_is_no_recipe(tmp_path, content):
    path = tmp_path / "recipe.yaml"
    path.write_text(content)
    with pytest.raises(EarthMindError):
        Recipe.load(path)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(EarthMindError, match="dora, few, full, fusion"):
        Recipe.load("lorra")


def test_a_single_day_is_text():
    assert Recipe.load("few").replace("areas.dates=2023-05-01").areas.dates == "2023-05-01"
    with pytest.raises(EarthMindError, match="side_km"):
        Recipe.load("few").replace("areas.side_km=0")
