"""The form of a recipe: no key is forgotten, nothing is lost, errors stand where they are."""

from __future__ import annotations

import dataclasses
from typing import get_type_hints

import ipywidgets
import pytest

from earthmind_lab.errors import EarthMindError
from earthmind_lab.finetune.fields import flat, recipe_fields
from earthmind_lab.finetune.form import RecipeForm
from earthmind_lab.finetune.plain import plain
from earthmind_lab.finetune.recipe import Recipe, built_in
from tests.finetune import toys


@pytest.fixture(scope="module")
def form():
    return RecipeForm("lora")


def leaves(data: dict, hints: dict, before: str = "") -> set[str]:
    """Keys of a recipe's YAML, but what a mapping of free keys holds."""
    found = set()
    for key, value in data.items():
        if dataclasses.is_dataclass(hints[key]):
            found |= leaves(value, get_type_hints(hints[key]), f"{before}{key}.")
        else:
            found.add(before + key)
    return found


def shown(widget) -> str:
    """All that is in a widget, in its order."""
    if isinstance(widget, ipywidgets.Box | ipywidgets.Accordion):
        return " ".join(shown(each) for each in widget.children)
    return str(getattr(widget, "value", ""))


def test_each_key_has_its_input_and_its_meaning(form):
    keys = leaves(plain(Recipe.load("lora")), get_type_hints(Recipe))
    assert set(form.inputs) == keys and len(keys) > 50
    assert [f.key for f in recipe_fields() if len(f.meaning) < 8] == []
    page = shown(form.widget)
    assert [key for key in keys if f"<code>{key}</code>" not in page] == []


@pytest.mark.parametrize("name", built_in())
def test_there_and_back(form, name, tmp_path):
    recipe = Recipe.load(name)
    form.set(name)
    assert form.recipe == recipe
    form.save_to.value = str(tmp_path / "recipe.yaml")
    form.save_button.click()
    again = RecipeForm(tmp_path / "recipe.yaml")
    assert again.recipe == recipe
    assert {k: each.value for k, each in again.inputs.items()} == {
        k: each.value for k, each in form.inputs.items()
    }


def test_there_and_back_of_what_no_built_in_recipe_says(form):
    recipe = Recipe.load("lora").replace(
        "data=[{path: 'a: b.json', licence: CC-BY-4.0, repeats: 0.5}, {path: c.geojson}]",
        "freeze=['*.norm.*']", "optimiser.rates={projector: 0.5}",
        "areas.dates=2023-01-01/2023-02-01",
        "parallel={kind: ray, config: {num_workers: 2}}", "cache.folder=/tmp/a b", "device=cpu",
        "name='null'", "areas.max_cloud=0", "areas.catalog='12'", "fusion=weighted",
        "logs=tensorboard",
    )  # fmt: skip
    form.set(recipe)
    assert form.recipe == recipe and flat(form.recipe) == flat(recipe)


@pytest.mark.parametrize(
    ("key", "typed", "place", "said"),
    [
        ("lora.rank", "many", "lora.rank", "a whole number"),
        ("lora.rank", "-1", "lora.rank", "more than 0"),
        ("lora.rank", "", "lora.rank", "a whole number"),
        ("optimiser.betas", "[0.9]", "optimiser.betas", "2 values"),
        ("optimiser.betas", "[0.9, 2]", "optimiser.betas", "less than 1"),
        ("train", "[langage, projector]", "train", "language"),
        ("data", "- {pth: a.json}", "data", "path"),
        ("data", "- [", "data", "is not YAML"),
        ("method", "full", "", ""),
        ("train", "[language, gate]", "training_form", "no gate in train"),
        ("losses.text", "-1", "losses", "0 or more"),
    ],
)
def test_errors_stand_where_they_occur(form, key, typed, place, said):
    form.set("lora")
    form.inputs[key].value = typed
    bad = {where: each.value for where, each in form.errors.items() if each.value}
    assert list(bad) == ([place] if said else [])
    assert said in bad.get(place, "")
    assert "<" not in bad.get(place, "")  # the colour is the widget's, the text is text
    assert form.save_button.disabled == form.start_button.disabled == bool(said)
    if said:
        with pytest.raises(EarthMindError):
            _ = form.recipe
    form.set("lora")
    assert form.check() and not any(each.value for each in form.errors.values())


def test_every_error_is_shown_at_once(form):
    form.set("lora")
    for key, typed in (("lora.rank", "-1"), ("optimiser.rate", "fast"), ("cache.bytes", "-1")):
        form.inputs[key].value = typed
    bad = [where for where, each in form.errors.items() if each.value]
    assert sorted(bad) == ["cache.bytes", "lora.rank", "optimiser.rate"]
    assert all(f"<code>{place}</code>" in form._to_mend.value for place in bad)
    form.set("lora")


def test_start_trains_beside_the_notebook(toy, tmp_path):
    sets = {"train": toys.single(4)}
    form = RecipeForm(toys.recipe(toy, "lora", "steps=2", "evaluation.samples=0"), **sets)
    form.start_button.click()
    assert "needs a folder" in form._said.value
    form.out.value = str(tmp_path / "run")
    form.start_button.click()
    run = form.wait(120)
    assert (run.ended, run.steps) == ("done", 2) and not form.running
    assert run.recipe == form.recipe and "Done." in shown(form.widget)
    form.inputs["steps"].value = "3"
    form.start_button.click()
    with pytest.raises(EarthMindError, match="differs in steps"):
        form.wait(120)
    assert "differs in steps" in shown(form.widget)
