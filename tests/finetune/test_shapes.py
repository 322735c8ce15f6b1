"""Outlines: polygons and run lengths, packed and not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from earthmind_lab.errors import LoadError
from earthmind_lab.finetune.shapes import mask_of
from tests.finetune.sets import packed, runs, square

MASKS = arrays.arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 40)))


@given(MASKS)
def test_run_lengths_come_back(mask):
    for form in (runs(mask), packed(mask), [runs(mask), runs(mask)]):
        assert np.array_equal(mask_of(form, mask.shape, "here"), mask)


def test_packed_counts_of_the_description():
    # 6 outside, 5 inside, 9 outside down the columns of 4 x 5; the fourth count of a longer one is
    # stored as its difference to the second: both written by hand from COCO's description.
    mask = mask_of({"size": [4, 5], "counts": "659"}, (4, 5), "here")
    assert np.flatnonzero(mask.T).tolist() == [6, 7, 8, 9, 10]
    longer = mask_of({"size": [4, 5], "counts": "251O7"}, (4, 5), "here")  # 2 5 1 (5-1) 8
    assert np.flatnonzero(longer.T).tolist() == [2, 3, 4, 5, 6, 8, 9, 10, 11]


def test_counts_beyond_five_bits():
    mask = np.zeros((50, 60), bool)
    mask[10:40, 5:50] = True
    assert max(runs(mask)["counts"]) > 500
    assert np.array_equal(mask_of(packed(mask), mask.shape, "here"), mask)


def test_a_polygon_holds_pixels_by_their_centre():
    mask = mask_of(square(2, 3, 7, 9), (20, 30), "here")
    assert mask.sum() == 30 and mask[3:9, 2:7].all()
    half = mask_of([[0, 0, 1.4, 0, 1.4, 1.4, 0, 1.4]], (3, 3), "here")
    assert half.tolist() == [[True, False, False], [False] * 3, [False] * 3]


def test_parts_are_one_object_and_may_leave_the_picture():
    parts = [*square(0, 0, 3, 3), *square(8, 8, 99, 99)]
    assert mask_of(parts, (10, 10), "here").sum() == 9 + 4
    assert mask_of(square(0, 0, 3, 3)[0], (10, 10), "here").sum() == 9
    assert not mask_of([], (10, 10), "here").any()


@pytest.mark.parametrize(
    "segmentation",
    [
        None, "x", 7, {}, [None], [[1, 2, 3, 4]], [["a"] * 6], [[float("nan")] * 6], [[True]],
        {"size": [4, 5], "counts": [21]}, {"size": [4, 5], "counts": [-1, 21]},
        {"size": [4, 5], "counts": [20.0]}, {"size": [4, 5], "counts": "P" * 9},
        {"size": [4, 5], "counts": "\udc80"}, {"size": [5, 4], "counts": [20]},
        {"counts": [20]}, {"size": [4, 5], "counts": [True] * 20},
    ],
)  # fmt: skip
def test_what_is_no_outline(segmentation):
    with pytest.raises(LoadError, match=r"^here: "):
        mask_of(segmentation, (4, 5), "here")


def test_a_huge_mask_is_refused_before_it_is_made():
    with pytest.raises(LoadError, match="too large"):
        mask_of({"size": [10**6, 10**6], "counts": [10**12]}, (10**6, 10**6), "here")
