"""Examples and a recipe that train in a blink."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from earthmind_lab.exchange import Prompt, View
from earthmind_lab.finetune.examples import Example, ExampleInfo, Listed
from earthmind_lab.finetune.recipe import Recipe
from tests.engine import tiny


def view(modality: str = "optical", seed: int = 0) -> View:
    return tiny.view(modality, seed=seed)


def told(number: int, *views: View, reply: str = "yes") -> Example:
    return Example(
        info=ExampleInfo(id=f"told-{number}", task="question"),
        prompt=Prompt(text=f"Is it {number}?", views=views or (view(seed=number),)),
        reply=reply,
    )


def drawn(number: int, *views: View) -> Example:
    masks = np.zeros((1, tiny.SIDE, tiny.SIDE), bool)
    masks[0, 10 + number : 40 + number, 5:30] = True
    return Example(
        info=ExampleInfo(id=f"drawn-{number}", task="segment"),
        prompt=Prompt(text="Where is it?", views=views or (view(seed=100 + number),)),
        reply="It is [SEG].",
        masks=masks,
    )


def pair(number: int) -> tuple[View, View]:
    return view("sar", 200 + number), view("optical", 300 + number)


def mixed(count: int = 8) -> Listed:
    """Questions, masks and pairs in turn."""
    kinds = [
        told,
        drawn,
        lambda n: told(n, *pair(n)),
        lambda n: drawn(n, *pair(n)),
    ]
    return Listed([kinds[n % 4](n) for n in range(count)])


def scenes(count: int = 3, each: int = 4) -> Listed:
    """Questions about scenes, one after the other; every second scene is a pair."""
    made = []
    for scene in range(count):
        views = pair(scene) if scene % 2 else (view(seed=400 + scene),)
        for number in range(each):
            one = (drawn if number % 2 else told)(10 * scene + number, *views)
            made.append(replace(one, info=replace(one.info, pictures=(f"scene {scene}",))))
    return Listed(made)


def single(count: int = 8) -> Listed:
    """Single pictures."""
    return Listed([told(n) if n % 2 else drawn(n) for n in range(count)])


SMALL = {
    "precision": "float32",
    "batch": 2,
    "accumulation": 1,
    "steps": 6,
    "checkpointing": False,
    "device": "cpu",
}


def recipe(model: Path, name: str = "lora", *changes: str, **values: Any) -> Recipe:
    """A built-in recipe at toy size."""
    given = Recipe.load(name).replace(
        "lora.rank=4",
        "lora.alpha=8",
        "losses.points=64",
        "optimiser.rate=5e-3",
        "saving.every=2",
        "saving.keep=10",
        **{**SMALL, "model": str(model)},
    )
    return given.replace(*changes, **values)


def model(folder: Path) -> Path:
    """A random model with as many visual tokens as the June training needs (16 a tile)."""
    vision = {
        "image_size": tiny.SIDE,
        "patch_size": 8,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "attention_bias": True,
    }
    return tiny.save(folder, vision_config=vision)
