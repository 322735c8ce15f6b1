"""Splits by place: nothing lost, nothing twice, no ground on two sides; leaks are found."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import Point, box

from earthmind_lab.errors import EarthMindError, LoadError
from earthmind_lab.exchange import Prompt, View
from earthmind_lab.finetune.examples import Example, ExampleInfo, Listed
from earthmind_lab.finetune.ground import block_of
from earthmind_lab.finetune.leaks import find_leaks
from earthmind_lab.finetune.splits import split_by_place


def info(name, place=None, pictures=()):
    return ExampleInfo(id=name, task="question", place=place, pictures=tuple(pictures))


def example(about, seed=None):
    views = ()
    if seed is not None:
        image = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        views = (View(image=image, name="picture", modality="optical"),)
    return Example(info=about, prompt=Prompt(text="?", views=views), reply="Yes.")


def listed(infos):
    return Listed([example(each) for each in infos])


def ids(chosen):
    return [chosen.info(i).id for i in range(len(chosen))]


def square(lon, lat, side=0.02):
    return box(lon, lat, lon + side, lat + side)


PLACES = st.none() | st.builds(
    square, st.floats(-0.5, 0.5), st.floats(60, 60.5), st.sampled_from([0.0, 0.01, 0.2])
)
INFOS = st.lists(
    st.tuples(PLACES, st.lists(st.sampled_from("abcdefgh"), max_size=2)), min_size=1, max_size=25
).map(lambda rows: [info(str(n), *row) for n, row in enumerate(rows)])
SHARES = st.dictionaries(
    st.sampled_from(["train", "validation", "test"]), st.floats(0.1, 5), min_size=1
)


@given(INFOS, SHARES, st.sampled_from([0.5, 5.0, 50.0]), st.integers(0, 9))
def test_a_split_is_a_partition_without_leaks(infos, shares, block_km, seed):
    try:
        sides = split_by_place(listed(infos), shares, block_km=block_km, seed=seed)
    except EarthMindError:
        assert len(shares) > 1  # fewer places than sides; one side takes everything
        return
    assert list(sides) == list(shares)
    assert sorted(name for side in sides.values() for name in ids(side)) == sorted(
        each.id for each in infos
    )
    assert all(len(side) for side in sides.values())
    for name, side in sides.items():
        assert list(side.indices) == sorted(side.indices)
        for other in sides.values():
            assert side is other or not find_leaks(side, other, pixels=False), name


@given(INFOS, st.integers(0, 9), st.randoms(use_true_random=False))
def test_the_order_of_the_source_changes_nothing(infos, seed, rng):
    shuffled = list(infos)
    rng.shuffle(shuffled)
    try:
        one = split_by_place(listed(infos), {"a": 1, "b": 1}, seed=seed)
    except EarthMindError:
        with pytest.raises(EarthMindError):
            split_by_place(listed(shuffled), {"a": 1, "b": 1}, seed=seed)
        return
    other = split_by_place(listed(shuffled), {"a": 1, "b": 1}, seed=seed)
    assert {side: set(ids(one[side])) for side in one} == {
        side: set(ids(other[side])) for side in other
    }


def test_shares_are_met_as_nearly_as_blocks_allow():
    infos = [info(str(n), square(n % 20, 40 + n // 20)) for n in range(200)]
    sides = split_by_place(listed(infos))
    assert [len(side) for side in sides.values()] == [160, 20, 20]
    again = split_by_place(listed(infos))
    assert [ids(side) for side in again.values()] == [ids(side) for side in sides.values()]
    other = split_by_place(listed(infos), seed=1)
    assert ids(other["test"]) != ids(sides["test"])


def test_what_lies_in_one_block_goes_to_one_side():
    rng = random.Random(0)
    infos = [info(str(n), square(rng.uniform(0, 0.5), rng.uniform(0, 0.5), 0.001))
             for n in range(120)]  # fmt: skip
    sides = split_by_place(listed(infos), {"a": 1, "b": 1}, block_km=10)
    by_id = {each.id: block_of(each.place.bounds, 10) for each in infos}
    blocks = {side: {by_id[name] for name in ids(chosen)} for side, chosen in sides.items()}
    assert not blocks["a"] & blocks["b"]
    assert len(blocks["a"] | blocks["b"]) > 10


def test_an_example_on_the_border_of_two_blocks_goes_whole_to_one():
    # 5 km is 0.0449 degrees at the equator: the second lies across, and touches both others.
    infos = [info("west", square(0.030, 0.01, 0.01)), info("across", square(0.0399, 0.01, 0.01)),
             info("east", square(0.0498, 0.01, 0.01)), info("far", square(3, 3))]  # fmt: skip
    assert block_of(infos[0].place.bounds, 5) != block_of(infos[2].place.bounds, 5)
    sides = split_by_place(listed(infos), {"a": 1, "b": 1})
    together = next(side for side in sides.values() if "across" in ids(side))
    assert set(ids(together)) == {"west", "across", "east"}


def test_neighbours_that_share_a_border_only_may_part():
    infos = [info(str(n), square(n * 0.05, 0.0, 0.05)) for n in range(10)]
    sides = split_by_place(listed(infos), {"a": 1, "b": 1})
    assert [len(side) for side in sides.values()] == [5, 5]


def test_blocks_are_about_square_everywhere():
    for lat in (0.0, 60.0, -75.0):
        wide = 5 / (111.32 * np.cos(np.radians(lat)))
        columns = {block_of((n * wide, lat, n * wide, lat), 5.0)[1] for n in range(100)}
        assert 95 <= len(columns) <= 100


def test_twenty_chips_of_one_scene_can_be_split():
    infos = [info(str(n), square(n * 0.2, 10), ["S2_scene"]) for n in range(20)]
    assert [len(s) for s in split_by_place(listed(infos), {"a": 3, "b": 1}).values()] == [15, 5]


def test_a_picture_without_a_place_ties_all_that_show_it():
    infos = [info("1", None, "x"), info("2", None, "xy"), info("3", None, "y"),
             info("4", square(0, 0), "y"), info("5", None, "z"), info("6")]  # fmt: skip
    sides = split_by_place(listed(infos), {"a": 1, "b": 1})
    assert set(ids(next(s for s in sides.values() if "1" in ids(s)))) >= {"1", "2", "3", "4"}


@pytest.mark.parametrize("shares", [{}, {"a": 0}, {"a": -1, "b": 2}, {"a": float("nan")}])
def test_shares_that_are_none(shares):
    with pytest.raises(EarthMindError, match="positive numbers"):
        split_by_place(listed([info("1")]), shares)


def test_too_few_places_says_what_to_change():
    infos = [info(str(n), square(0, 0)) for n in range(9)]
    with pytest.raises(EarthMindError, match=r"9 examples in 1 separate places.*smaller block_km"):
        split_by_place(listed(infos))
    with pytest.raises(EarthMindError, match="block"):
        split_by_place(listed(infos), block_km=0)


# --- leaks -----------------------------------------------------------------------------------


def leaks(first, second, **options):
    return [
        (leak.kind, leak.pairs) for leak in find_leaks(Listed(first), Listed(second), **options)
    ]


def test_every_kind_of_leak_with_its_pairs():
    first = [
        example(info("file", None, ["/data/a.png"]), 1),
        example(info("item", None, ["S2_a"]), 2),
        example(info("pixels", None, ["/data/b.png"]), 3),
        example(info("place", square(5, 5)), 4),
        example(info("alone", square(9, 9), ["S2_b"]), 5),
    ]
    second = [
        example(info("file2", None, ["/data/a.png"]), 11),
        example(info("file3", None, ["/data/a.png"]), 11),
        example(info("item2", square(1, 1), ["S2_a"]), 12),
        example(info("pixels2", None, ["/data/copy.png"]), 3),
        example(info("place2", square(5.01, 5.01)), 14),
        example(info("alone2", square(7, 7), ["S2_b"]), 15),
    ]
    assert leaks(first, second) == [
        ("file", [("file", "file2"), ("file", "file3")]),
        ("item", [("item", "item2")]),
        ("pixels", [("pixels", "pixels2")]),
        ("footprint", [("place", "place2")]),
    ]
    assert [kind for kind, _ in leaks(first, second, pixels=False)] == ["file", "item", "footprint"]
    told = str(find_leaks(Listed(first), Listed(second))[0])
    assert told == "same file /data/a.png: file and file2, file3"


def test_a_pair_is_told_once_and_plain_colours_prove_nothing():
    one = example(info("1", square(0, 0), ["/a.png"]), 1)
    assert [kind for kind, _ in leaks([one], [one])] == ["file"]
    black = View(image=np.zeros((4, 4, 3), np.uint8), name="picture", modality="sar")
    dark = [Example(info=info(n), prompt=Prompt(text="?", views=(black,)), reply="") for n in "ab"]
    assert leaks(dark[:1], dark[1:]) == []


def test_a_shared_border_is_no_leak_and_a_point_is_one():
    west, east = example(info("w", square(0, 0, 1))), example(info("e", square(1, 0, 1)))
    assert leaks([west], [east]) == []
    assert leaks([west], [example(info("p", Point(0.5, 0.5)))]) == [("footprint", [("w", "p")])]


def test_pictures_are_opened_once_and_broken_ones_are_passed_over():
    opened = []

    class Source(Listed):
        def __getitem__(self, index):
            opened.append(index)
            if self.examples[index].info.id == "broken":
                raise LoadError("gone")
            return self.examples[index]

    many = Source([example(info(str(n), None, ["/a.png"]), 1) for n in range(5)]
                  + [example(info("broken", None, ["/b.png"]), 2)])  # fmt: skip
    other = Listed([example(info("x", None, ["/copy.png"]), 1)])
    (leak,) = find_leaks(many, other)
    assert leak.first == ("0", "1", "2", "3", "4") and leak.kind == "pixels"
    assert opened == [0, 5]
