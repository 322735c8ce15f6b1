"""Scores against counts by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earthmind_lab.evaluate.metrics import (
    LEAST_UNITS,
    Counts,
    accuracy,
    balanced_accuracy,
    interval,
    majority,
    without_own_place,
)

ANSWERS = st.lists(st.tuples(st.sampled_from([True, False, None]), st.booleans()), max_size=30)
PIXELS = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=40)


@given(ANSWERS)
def test_balanced_accuracy_is_the_mean_of_the_two_recalls(answers):
    said, there = [s for s, _ in answers], [t for _, t in answers]
    sides = []
    for side in (True, False):
        asked = hit = 0
        for s, t in answers:
            asked += t is side
            hit += t is side and s is side
        sides.append(hit / asked if asked else None)
    expected = None if None in sides else sum(sides) / 2
    assert balanced_accuracy(said, there) == (None if expected is None else pytest.approx(expected))


@given(st.lists(st.booleans(), min_size=2, max_size=30), st.sampled_from([True, False]))
def test_a_constant_answer_is_chance(there, always):
    score = balanced_accuracy([always] * len(there), there)
    assert score == (0.5 if len(set(there)) == 2 else None)


@given(ANSWERS)
def test_an_inverted_answer_has_the_rest_of_the_score(answers):
    answers = [(s, t) for s, t in answers if s is not None]
    score = balanced_accuracy([s for s, _ in answers], [t for _, t in answers])
    inverted = balanced_accuracy([not s for s, _ in answers], [t for _, t in answers])
    assert (score is None) == (inverted is None)
    if score is not None:
        assert score + inverted == pytest.approx(1)


@given(PIXELS)
def test_counts_are_those_of_a_loop(pixels):
    said, true, where = (np.array([p[i] for p in pixels])[None] for i in range(3))
    found = Counts.of(said, true, where)
    known = [(s, t) for s, t, w in pixels if w]
    assert found.tp == sum(s and t for s, t in known)
    assert found.total == len(known)
    one, other = {i for i, p in enumerate(pixels) if p[0] and p[2]}, set()
    other = {i for i, p in enumerate(pixels) if p[1] and p[2]}
    if one | other:
        assert found.iou == pytest.approx(len(one & other) / len(one | other))
        assert found.f1 == pytest.approx(2 * len(one & other) / (len(one) + len(other)))
        assert found.f1 >= found.iou
    else:
        assert found.iou is None and found.f1 is None
    if known:
        assert found.share_error == pytest.approx((len(one) - len(other)) / len(known))


@given(PIXELS, PIXELS)
def test_counts_add_up(first, second):
    def counts(pixels):
        return Counts.of(*(np.array([p[i] for p in pixels])[None] for i in range(3)))

    assert counts(first) + counts(second) == counts(first + second)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=20))
def test_no_constant_answer_beats_the_majority(true):
    best = max(accuracy([each] * len(true), true) for each in "abc")
    assert majority(true) == pytest.approx(best)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("pqr")), min_size=1, max_size=20))
def test_the_answer_of_other_places_never_sees_its_own(rows):
    true, places = [t for t, _ in rows], [p for _, p in rows]
    said = without_own_place(true, places)
    for answer, place in zip(said, places, strict=True):
        # Turning every truth of the own place changes nothing.
        turned = [not t if p == place else t for t, p in rows]
        again = without_own_place(turned, places)
        assert again[places.index(place)] == said[places.index(place)] == answer


def test_no_interval_below_eight_places():
    few = [f"p{i}" for i in range(LEAST_UNITS - 1)] * 3
    found = interval([1.0] * len(few), few)
    assert (found.low, found.high, found.units) == (None, None, LEAST_UNITS - 1)
    assert "no interval" in str(found)
    enough = [f"p{i}" for i in range(LEAST_UNITS)]
    found = interval([1.0] * LEAST_UNITS, enough)
    assert (found.low, found.high, found.units) == (1.0, 1.0, LEAST_UNITS)


def test_places_are_drawn_together():
    """A place that is photographed often makes nothing surer."""
    rng = np.random.default_rng(1)
    values = list(rng.random(10))
    once = interval(values, [f"p{i}" for i in range(10)])
    often = interval(values * 20, [f"p{i}" for i in range(10)] * 20)
    assert (often.low, often.high) == pytest.approx((once.low, once.high))
    apart = interval(values * 20, [f"p{i}" for i in range(200)])
    assert apart.high - apart.low < 0.5 * (once.high - once.low)


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(60):
        values = list(rng.normal(0.6, 0.1, 20))
        found = interval(values, [str(i) for i in range(20)])
        inside += found.low <= 0.6 <= found.high
    assert 50 <= inside <= 60


ROWS = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0, None]), st.sampled_from("pq"), st.booleans(),
              st.sampled_from("xy")), min_size=1, max_size=20,
)  # fmt: skip


@given(ROWS)
def test_an_interval_is_around_the_score_that_was_asked_for(rows):
    values, units, sides, groups = (list(column) for column in zip(*rows, strict=True))
    held = [row for row in rows if row[0] is not None]
    mean = interval(values, units)
    plain = [value for value, *_ in held]
    assert mean is None if not plain else mean.value == pytest.approx(np.mean(plain))

    expected = []
    for group in "xy":
        kept = [row for row in held if row[3] == group]
        means = [[v for v, _, t, _ in kept if t is side] for side in (False, True)]
        if all(means):
            expected.append(np.mean([np.mean(each) for each in means]))
    found = interval(values, units, sides=sides, groups=groups)
    assert found is None if not expected else found.value == pytest.approx(np.mean(expected))


def test_the_ends_are_those_of_a_loop_over_draws():
    rng = np.random.default_rng(3)
    places = [f"p{i % 9}" for i in range(40)]
    right, there = list(rng.random(40) < 0.7), list(rng.random(40) < 0.5)
    found = interval(right, places, sides=there)
    scores = []
    for _ in range(3000):
        drawn = [i for p in rng.integers(9, size=9) for i in range(40) if places[i] == f"p{p}"]
        said = [there[i] if right[i] else not there[i] for i in drawn]
        scores.append(balanced_accuracy(said, [there[i] for i in drawn]))
    low, high = np.percentile([s for s in scores if s is not None], (2.5, 97.5))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.02)


def test_nothing_decided_has_no_score():
    assert interval([], []) is None
    assert accuracy([], []) is None and majority([]) is None
