"""The embedded model sees: take the picture or the weights away and it knows nothing."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import earthmind_lab
from earthmind_lab.engine import load_engine
from earthmind_lab.evaluate.scenes import CASES, Known, load_case
from earthmind_lab.evaluate.table import Row, rows
from earthmind_lab.evaluate.truth import CLASSES
from earthmind_lab.exchange import Options, Prompt, View
from earthmind_lab.render import render

WEIGHTS = Path(earthmind_lab.__file__).parent / "weights" / "nano"
SCENES = ("finland_lake", "spain", "denmark", "ireland_kilkenny")
"""Two with water and two without, none of them trained on."""


@pytest.fixture(scope="module")
def scenes() -> list[Known]:
    return [load_case(case) for case in CASES if case.name in SCENES]


@pytest.fixture(scope="module")
def real(scenes: list[Known]) -> list[Row]:
    return rows(load_engine("nano"), scenes, sensors=["both"])


def balanced(found: Sequence[Row], labels: Sequence[str] = CLASSES) -> float:
    """Accuracy of yes and of no, counted the same, mean over the classes that are there on
    some scenes and not on others: 0.5 is a constant answer per class, or a coin."""
    scores = []
    for label in labels:
        sides = [
            [r.right for r in found if r.label == label and r.there == t] for t in (False, True)
        ]
        if all(sides):
            scores.append(np.mean([np.mean(side) for side in sides]))
    assert scores
    return float(np.mean(scores))


def overlap(found: Sequence[Row], labels: Sequence[str] = CLASSES) -> float:
    """Mean IoU beyond what a mask of everything scores; 0 or less is chance."""
    there = [r for r in found if r.label in labels and r.iou is not None]
    return float(np.mean([(r.iou or 0.0) - (r.all_ones or 0.0) for r in there]))


def test_it_knows_water_on_scenes_it_never_saw(real: list[Row]) -> None:
    assert balanced(real, ["water"]) >= 0.75
    assert overlap(real, ["water"]) >= 0.2
    assert balanced(real) > 0.6


def test_a_blank_picture_tells_nothing(scenes: list[Known]) -> None:
    def blank(views: tuple[View, ...]) -> tuple[View, ...]:
        return tuple(replace(view, image=np.zeros_like(view.image)) for view in views)

    found = rows(load_engine("nano"), scenes, sensors=["both"], change=blank)
    assert balanced(found) == 0.5
    assert overlap(found) <= 0.05


def test_the_picture_of_another_place_misleads(scenes: list[Known]) -> None:
    wet = next(known for known in scenes if known.truth.yes[0].mean() > 0.1)
    dry = [known for known in scenes if known.truth.yes[0].mean() < 0.01]
    wet_views, dry_views = render(wet.chip), render(dry[0].chip)

    def other(views: tuple[View, ...]) -> tuple[View, ...]:
        there = views[0].time == wet_views[0].time
        source = dry_views if there else wet_views
        return tuple(
            replace(view, image=_resized(taken.image, view.shape))
            for view, taken in zip(views, source, strict=True)
        )

    found = rows(load_engine("nano"), [wet, dry[0]], sensors=["both"], change=other)
    assert balanced(found) <= 0.5
    assert overlap(found) <= 0.05


def test_shuffled_weights_know_nothing(scenes: list[Known], tmp_path: Path) -> None:
    folder = tmp_path / "shuffled"
    shutil.copytree(WEIGHTS, folder)
    generator = torch.Generator().manual_seed(0)
    file = folder / "model.safetensors"
    state = {
        name: value.flatten()[torch.randperm(value.numel(), generator=generator)].view_as(value)
        for name, value in load_file(file).items()
    }
    save_file({n: v.contiguous() for n, v in state.items()}, file, metadata={"format": "pt"})
    engine = load_engine(folder)
    found = rows(engine, scenes, sensors=["both"])
    engine.close()
    assert balanced(found) <= 0.5
    assert overlap(found) <= 0.05


def test_two_loads_are_one_engine_and_the_second_question_sees_nothing_anew(
    scenes: list[Known],
) -> None:
    engine = load_engine("nano")
    assert load_engine("nano") is engine
    views = render(scenes[0].chip)
    engine.generate(Prompt(text="Is there water here?", views=views), Options())
    usage = engine.generate(Prompt(text="Describe the scene.", views=views), Options()).usage
    assert usage.views_encoded == 0
    assert usage.tokens_prefilled < 20


@pytest.mark.parametrize("question", ["How many cars are there?", "What is the capital of France?"])
def test_it_abstains_outside_what_it_knows(scenes: list[Known], question: str) -> None:
    views = render(scenes[0].chip)
    reply = load_engine("nano").generate(Prompt(text=question, views=views), Options())
    assert "can't tell" in reply.text
    assert not reply.objects


def test_a_plain_picture_is_answered(scenes: list[Known]) -> None:
    view = replace(render(scenes[0].chip, ["true_colour"])[0], gsd=None, name="picture")
    reply = load_engine("nano").generate(
        Prompt(text="Is there snow? Answer yes or no.", views=(view,)), Options()
    )
    assert reply.text in ("Yes.", "No.")


def _resized(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((shape[1], shape[0])))
