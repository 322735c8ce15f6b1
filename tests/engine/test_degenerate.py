from __future__ import annotations

import random

import pytest

from earthmind_lab.engine.base import StopRule
from earthmind_lab.engine.degenerate import SHORTEST, SHORTEST_MARKED, Circle, ended


def closed_at(text: str) -> int | None:
    """Characters read until the circle is closed; None = never."""
    watch = Circle(lambda ids: bytes(ids).decode(errors="replace"), StopRule())
    return next((n for n, byte in enumerate(text.encode(), 1) if watch.closed(byte)), None)


@pytest.mark.parametrize("period", range(1, 33))
def test_a_circle_of_any_period_is_closed_after_three_rounds(period):
    round_ = "".join(chr(ord("A") + i) for i in range(period))
    assert closed_at(f"before {round_ * 99}") == len("before ") + max(3 * period, SHORTEST)


def test_beyond_the_longest_period_nothing_is_said():
    assert closed_at("".join(chr(ord("A") + i) for i in range(33)) * 9) is None


@pytest.mark.parametrize(
    "text",
    [
        "There is water in the north, and water in the south, and forest in between.",
        "-" * (SHORTEST - 1),
        "2019-09-01: 0.1, 2019-09-02: 0.2, 2019-09-03: 0.3, 2019-09-04: 0.4, 2019-09-05: 0.5.",
        "ship [SEG], " * 20 + "that is all.",
        "[SEG], " * (SHORTEST_MARKED // 7),
    ],
)
def test_what_is_no_circle(text):
    assert closed_at(text) is None


def test_marks_are_borne_longer_but_not_for_ever():
    assert closed_at("[SEG], " * 99) == SHORTEST_MARKED
    assert closed_at("ship [SEG], " * 99) == SHORTEST_MARKED


def test_a_round_that_breaks_off_begins_anew():
    assert closed_at("ab" * 23 + "!" + "ab" * 23) is None
    assert closed_at("ab" * 23 + "!" + "ab" * 24) == 46 + 1 + 48


def test_noise_closes_no_circle():
    noise = random.Random(5)
    assert closed_at("".join(noise.choice("abcd") for _ in range(5000))) is None


@pytest.mark.parametrize(
    ("stopped", "circle", "text", "marks", "why"),
    [
        (True, False, "Yes.", 0, "stop"),
        (False, False, "Yes", 0, "length"),
        (False, True, "no no", 0, "repetition"),
        (True, False, "", 0, "empty"),
        (False, False, " \n", 0, "empty"),
        (False, True, "", 0, "empty"),
        (True, False, "", 1, "stop"),
    ],
)
def test_why_an_answer_ended(stopped, circle, text, marks, why):
    assert ended(stopped=stopped, circle=circle, text=text, marks=marks) == why
