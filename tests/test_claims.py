"""Reading what a text claims."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earthmind_lab.claims import COVERS, asks_for_mask, canonical, read_claims

LABELS = tuple(COVERS)


def read(text, question="Describe the scene.", labels=()):
    return [(said.kind, said.label, said.value) for said in read_claims(text, question, labels)]


@pytest.mark.parametrize(
    ("text", "question", "found"),
    [
        ("Yes.", "Is there any water? Answer yes or no.", [("presence", "water", True)]),
        ("No.", "Are there trees here?", [("presence", "trees", False)]),
        ("no", "Do you see a bridge?", [("presence", "bridge", False)]),
        ("Yes.", "Does the scene contain snow?", [("presence", "snow", True)]),
        ("Yes.", "Is farmland visible?", [("presence", "crops", True)]),
        ("No, there is no water here.", "Is there water?", [("presence", "water", False)]),
        ("There is no snow here.", "Segment the snow.", [("presence", "snow", False)]),
        ("Yes.", "Is there more water than trees?", [("answer", None, True)]),
        ("Yes.", "Is it cloudy?", [("answer", None, True)]),
        ("3", "How many ships are there?", [("count", "ships", 3.0)]),
        ("There are three ships.", "Count them.", [("count", "ships", 3.0)]),
        ("1,250 houses", "?", [("count", "houses", 1250.0)]),
        ("About 30 percent.", "What share of the scene is water?", [("share", "water", 0.3)]),
        ("It covers 12.5 ha.", "How large is the lake?", [("area", "water", 125_000.0)]),
        ("The lake has 2 km².", "?", [("area", "water", 2e6)]),
        ("The lake has 2 square kilometres.", "?", [("area", "water", 2e6)]),
        ("Crops.", "What is the main cover?", [("cover", "crops", None)]),
        (
            "Mostly trees, with some water and crops.",
            "Describe the scene.",
            [("cover", "trees", None), ("presence", "water", True), ("presence", "crops", True)],
        ),
        (
            "There is water but no trees or crops.",
            "Describe the scene.",
            [
                ("presence", "water", True),
                ("presence", "trees", False),
                ("presence", "crops", False),
            ],
        ),
        ("Water is not visible.", "?", [("presence", "water", False)]),
        (
            "no trees and some water",
            "?",
            [("presence", "trees", False), ("presence", "water", True)],
        ),
        (
            "Water covers 12.5 km² and trees 3 %.",
            "?",
            [("area", "water", 12.5e6), ("share", "trees", 0.03)],
        ),
    ],
)
def test_reads(text, question, found):
    assert read(text, question) == found


@pytest.mark.parametrize(
    "text",
    [
        "I can't tell. I know water, trees, crops, built-up areas, bare ground and snow.",
        "I don't know whether there is water.",
        "Clouds hide the ground.",
        "I can't measure. The mapped area comes from the mask.",
        "Taken by Sentinel-2 at 10 metres after 3 days.",
        "",
    ],
)
def test_an_abstention_claims_nothing(text):
    assert read(text) == []


def test_two_covers_and_one_number_stay_open():
    assert read("Water and trees cover 30 %.") == [("share", None, 0.3)]


def test_a_marked_object_is_a_claim_of_presence():
    assert read("Sure.", "Segment the water.", ["water"]) == [("presence", "water", True)]
    assert read("Sure, the water.", "?", ["water"]) == [("presence", "water", True)]


@given(st.sampled_from(LABELS), st.integers(0, 100), st.integers(0, 9))
def test_any_share_is_read(label, whole, tenth):
    (said,) = read_claims(f"The {label} cover {whole}.{tenth} % of the scene.", "?")
    assert (said.kind, said.label) == ("share", label)
    assert said.value == pytest.approx((whole + tenth / 10) / 100)
    assert said.rounding == pytest.approx(0.0005)


@given(
    st.sampled_from(LABELS),
    st.integers(1, 999_999),
    st.sampled_from([("ha", 1e4), ("km²", 1e6), ("km2", 1e6), ("m²", 1.0), ("hectares", 1e4)]),
)
def test_any_area_is_read(label, number, unit):
    for text in (f"{number}", f"{number:,}"):
        (said,) = read_claims(f"{label} of {text} {unit[0]}", "?")
        assert (said.kind, said.label, said.value) == ("area", label, number * unit[1])


@given(st.sampled_from(LABELS), st.booleans())
def test_any_presence_is_read(label, there):
    text = f"Yes, there is {label} here." if there else f"No, there is no {label} here."
    assert read(text, f"Is there {label} here?") == [("presence", label, there)]


@given(st.text(max_size=200), st.text(max_size=80))
def test_no_text_breaks_the_reading(text, question):
    for said in read_claims(text, question, ["water"]):
        assert said.kind


def test_names_of_one_thing_meet():
    assert canonical("the Lakes.") == canonical("open water") == "water"
    assert canonical("ships") == canonical("Ship") == "ship"
    assert canonical("grass") == "grass"


def test_requests_for_masks():
    assert asks_for_mask("Please segment all water.")
    assert not asks_for_mask("Is there water?")
