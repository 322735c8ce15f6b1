"""The embedded model sees: take the picture or the weights away and it knows nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from earthmind_lab.engine import load_engine
from earthmind_lab.evaluate.controls import shuffled_engine
from earthmind_lab.evaluate.landcover import Cover, evaluate_landcover
from earthmind_lab.evaluate.legends import CLASSES
from earthmind_lab.evaluate.presence import Presence, balanced, evaluate_presence
from earthmind_lab.evaluate.scenes import CASES, Known, load_case
from earthmind_lab.exchange import Options, Prompt
from earthmind_lab.render import render

PLACES = ("finland_lake", "spain", "denmark", "ireland_kilkenny")
"""Two with water and two without, none of them trained on."""


@pytest.fixture(scope="module")
def scenes() -> list[Known]:
    return [load_case(case) for case in CASES if case.name in PLACES]


@pytest.fixture(autouse=True)
def kept(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chips are loaded once for all tests in here."""
    monkeypatch.setenv("EARTHMIND_HOME", str(tmp_path_factory.getbasetemp() / "nano"))
    monkeypatch.setenv("EARTHMIND_CACHE_BYTES", "100MB")


def said(engine, control: str | None = None) -> tuple[list[Presence], list[Cover]]:
    """What an engine says and marks about the pairs of the four places."""
    asked = {"places": PLACES, "sensors": ["both"], "control": control}
    covers = evaluate_landcover(engine, **asked).rows
    presence = evaluate_presence(engine, **asked).rows
    return list(presence), [row for row in covers if isinstance(row, Cover) and row.there]


def right(found: Sequence[Presence], labels: Sequence[str] = CLASSES) -> float:
    """Balanced accuracy, mean over the classes that are there on some scenes and not on others:
    0.5 is a constant answer per class, or a coin."""
    each = [balanced([r for r in found if r.label == label]) for label in labels]
    scores = [score for score in each if score is not None]
    assert scores
    return float(np.mean(scores))


def overlap(found: Sequence[Cover], labels: Sequence[str] = CLASSES) -> float:
    """Mean IoU beyond what a mask of everything scores; 0 or less is chance."""
    there = [r for r in found if r.label in labels]
    return float(np.mean([(r.iou or 0.0) - (r.ones.iou or 0.0) for r in there]))


def test_it_knows_water_on_scenes_it_never_saw() -> None:
    presence, covers = said(load_engine("nano"))
    assert {r.training for r in presence} == {"no"}
    assert right(presence, ["water"]) >= 0.75
    assert overlap(covers, ["water"]) >= 0.2
    assert right(presence) > 0.6


def test_a_blank_picture_tells_nothing() -> None:
    presence, covers = said(load_engine("nano"), "blank")
    assert right(presence) == 0.5
    assert overlap(covers) <= 0.05


def test_the_picture_of_another_place_misleads() -> None:
    presence, covers = said(load_engine("nano"), "other")
    assert right(presence) <= 0.5
    assert overlap(covers) <= 0.05


def test_shuffled_weights_know_nothing() -> None:
    with shuffled_engine("nano") as engine:
        assert engine.revision != load_engine("nano").revision
        presence, covers = said(engine, "shuffled")
    assert right(presence) <= 0.5
    assert overlap(covers) <= 0.05


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
