"""The page says what the code does."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from earthmind_lab.finetune.recipe import Recipe, built_in
from earthmind_lab.finetune.run import finetune
from earthmind_lab.finetune.sections import PARTS
from earthmind_lab.finetune.training import FREE
from tests.finetune import toys

PAGE = (Path(__file__).parents[2] / "docs/finetune.md").read_text(encoding="utf-8")


def cells(head: str) -> list[list[str]]:
    table = PAGE.split(f"| {head} |")[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def test_recipes_and_keys_are_all_there():
    assert {name for row in cells("recipe | what it is") for name in quoted(row[0])} == {
        *built_in()
    }
    keys = [name for row in cells("key | meaning") for name in quoted(row[0])]
    assert keys == [field.name for field in dataclasses.fields(Recipe)]
    (train,) = [row[1] for row in cells("key | meaning") if row[0] == "`train`"]
    assert set(quoted(train)) == set(PARTS)
    may = PAGE.split("with the key that differs.")[1].split("may change")[0]
    assert set(quoted(may)) == set(FREE)


def test_the_example_runs(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    section = PAGE.split("## Recipes and training")[1]
    block = re.findall(r"```python\n(.*?)```", section, re.DOTALL)[0]
    small = toys.recipe(toy, "lora", "steps=1")
    monkeypatch.setattr(Recipe, "load", classmethod(lambda cls, name: small))
    space = {"examples": toys.mixed(4), "held_out": toys.single(2), "before": toys.single(2)}
    exec(compile(block, "finetune.md", "exec"), space)
    assert space["recipe"].lora.rank == 8
    held = {path.name for path in space["run"].folder.iterdir()}
    assert held == {name.rstrip("/") for row in cells("file | content") for name in quoted(row[0])}
    assert (space["model"] / "model.safetensors").is_file()
    assert finetune is space["finetune"]
