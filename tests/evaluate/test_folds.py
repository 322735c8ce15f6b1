"""No fold trains on what it holds out: no ground in common, no item."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import box

from earthmind_lab.evaluate.folds import (
    APART_KM,
    Spot,
    distance_km,
    leave_one_place_out,
    places_of,
)
from earthmind_lab.evaluate.scenes import CASES
from earthmind_lab.evaluate.walk import walk

CORNERS = st.tuples(st.floats(-179, 179), st.floats(-80, 80))
SQUARES = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 6), st.sampled_from(["", "a", "b"])),
    min_size=2, max_size=12,
)  # fmt: skip


@given(SQUARES)
def test_no_fold_leaks(squares):
    spots = [
        Spot(
            id=str(i), footprint=box(x * 0.05, 40 + y * 0.05, x * 0.05 + 0.06, 40.06 + y * 0.05),
            items=(item,) if item else (),
        )
        for i, (x, y, item) in enumerate(squares)
    ]  # fmt: skip
    if len(set(places_of(spots))) < 2:
        with pytest.raises(ValueError, match="nothing to train on"):
            leave_one_place_out(spots)
        return
    by_id = {spot.id: spot for spot in spots}
    folds = leave_one_place_out(spots)
    assert sorted(i for fold in folds for i in fold.held_out) == sorted(by_id)
    for fold in folds:
        assert sorted(fold.held_out + fold.training) == sorted(by_id)
        for out in fold.held_out:
            for taught in fold.training:
                one, other = by_id[out], by_id[taught]
                assert not one.footprint.intersects(other.footprint)
                assert distance_km(one.footprint, other.footprint) >= APART_KM
                assert not set(one.items) & set(other.items)


def test_overlap_is_passed_on():
    """Two that don't touch are one place where a third lies across both."""
    spots = [Spot(id=str(i), footprint=box(i, 0, i + 1.2, 1)) for i in range(4)]
    spots.append(Spot(id="far", footprint=box(50, 0, 51, 1)))
    assert places_of(spots) == ["0", "0", "0", "0", "far"]


def test_a_shared_item_is_one_place_without_any_outline():
    spots = [Spot(id="a", items=("x", "y")), Spot(id="b", items=("y",)), Spot(id="c", items=("z",))]
    assert [fold.held_out for fold in leave_one_place_out(spots)] == [("a", "b"), ("c",)]


def test_neighbours_across_the_antimeridian_are_one_place():
    east, west = box(179.990, 10, 179.999, 10.1), box(-179.999, 10, -179.99, 10.1)
    assert distance_km(east, west) < APART_KM
    assert len(set(places_of([Spot(id="e", footprint=east), Spot(id="w", footprint=west)]))) == 1


def test_distance_is_that_of_the_earth():
    north = box(0, 60, 0.001, 60.001), box(1, 60, 1.001, 60.001)
    assert distance_km(*north) == pytest.approx(55.6, rel=0.01)


def test_two_spots_of_one_id_are_refused():
    with pytest.raises(ValueError, match="one id"):
        places_of([Spot(id="a"), Spot(id="a")])


def test_the_embedded_scenes_fold_by_place():
    sites = walk()
    spots = [Spot(id=s.name, footprint=s.footprint, name=s.place) for s in sites]
    folds = leave_one_place_out(spots)
    assert len(folds) == 13
    (jiangsu,) = (fold for fold in folds if fold.place == "jiangsu")
    assert set(jiangsu.held_out) == {"jiangsu", "jiangsu_cloudy"}
    assert {case.name for case in CASES} <= {site.name for site in sites}
