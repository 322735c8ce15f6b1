"""Two answers side by side: areas, IoU and words, and nothing where they can't be compared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from earthmind_lab.comparing import Told, compare
from earthmind_lab.conversation import Conversation
from earthmind_lab.exchange import Options, Region
from tests.stand_in_engine import StandInEngine, make_chip, square

SIDE = (40, 40)
LEFT, MIDDLE = square(SIDE, (0, 40, 0, 20)), square(SIDE, (0, 40, 10, 30))
WITHOUT = Options(sensor_off="sar")
SEGMENT = "Segment the water."


def told(masks=None, texts=None, question=SEGMENT, options=None, *, marks=None, regions=()):
    engine = StandInEngine(masks or {}, texts or {}, marks=marks)
    talk = Conversation(make_chip(40), engine)
    return Told.of(talk.ask(question, regions=regions, options=options or Options()))


def test_areas_and_iou_are_those_of_the_masks():
    found = compare(told({"water": LEFT}), told({"water": MIDDLE}, options=WITHOUT), "sar")
    (water,) = found.marked
    assert water.iou == pytest.approx((LEFT & MIDDLE).sum() / (LEFT | MIDDLE).sum(), abs=1e-3)
    assert water.with_m2 == pytest.approx(LEFT.sum() * 100, rel=2e-3)
    assert (water.with_count, water.without_count) == (1, 1)
    assert found.same_words
    assert found.sentences == (
        "The same words with and without SAR.",
        "water is marked with and without SAR: IoU 0.33.",
    )


def test_what_is_marked_by_one_only_depends_on_the_sensor():
    both, less = told({"water": LEFT}), told(options=WITHOUT)
    lost, won = compare(both, less, "sar"), compare(less, both, "optical")
    assert lost.sentences[1:] == ("Depends on SAR: without it no water is marked.",)
    assert won.sentences[1:] == ("Depends on optical: only without it water is marked.",)
    assert lost.marked[0].iou == won.marked[0].iou == 0.0
    assert lost.said == ("Sure, the water.", "There is no water here.")
    assert lost.sentences[0] == "Other words with and without SAR."


def test_several_labels_in_the_order_of_the_first_answer():
    question = "What is here?"
    masks = {"water": LEFT, "trees": MIDDLE, "snow": LEFT}
    texts = {question: "All."}
    both = told(masks, texts, question, marks={question: ("trees", "water")})
    less = told(masks, texts, question, marks={question: ("snow", "water")})
    assert [each.label for each in compare(both, less, "sar").marked] == ["trees", "water", "snow"]


def test_overlapping_objects_count_once():
    marks = {SEGMENT: ("water", "water")}
    twice = told({"water": LEFT}, {SEGMENT: "Twice."}, marks=marks)
    (water,) = compare(twice, twice, "sar").marked
    assert (water.with_count, water.iou) == (2, pytest.approx(1.0))
    assert water.with_m2 == pytest.approx(LEFT.sum() * 100, rel=2e-3)


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ("Yes, there is water.", "No.", "Depends on SAR: the answer is yes with it and no without"),
        ("Yes.", "yes, some.", "Other words"),
        ("Notable fields.", "No.", "Other words"),
        ("Yes.", "Yes.", "The same words"),
    ],
)
def test_yes_and_no(one, other, said):
    question = "Is there water?"
    both, less = (told(texts={question: text}, question=question) for text in (one, other))
    found = compare(both, less, "sar")
    assert found.sentences[0].startswith(said)
    assert found.marked == ()


def test_other_pixels_questions_or_regions_are_not_compared():
    both = told({"water": LEFT})
    moved = {**both.record, "chip": {**both.record["chip"], "pixel_hash": "0"}}
    region = told({"water": LEFT}, regions=[Region(mask=np.ones(SIDE, bool))])
    for other in (replace(both, record=moved), region, told(question="Is it dry?")):
        assert compare(both, other, "sar") is None
