"""Claims against masks: planted lies are flagged, the unknown stays unknown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earthmind_lab.conversation import Conversation, ask
from earthmind_lab.errors import EngineBusy
from earthmind_lab.evidence import disagreement, water_baselines
from earthmind_lab.exchange import Region, View
from tests.stand_in_engine import StandInEngine, make_chip, square

SIDE = (40, 40)
LAKES = square(SIDE, (0, 10, 0, 20), (20, 30, 0, 10))
"""300 of 1600 pixels: 18.75 %, 3 ha, two components."""
EMPTY = np.zeros(SIDE, bool)
CHIP = make_chip(water=LAKES)


def claims_of(text, question="Describe the scene.", masks=None, chip=CHIP, **more):
    engine = StandInEngine(
        {"water": LAKES, "trees": EMPTY} if masks is None else masks, {question: text}, **more
    )
    answer = ask(chip, question, engine=engine)
    return [c for c in answer.evidence if c.kind != "baseline"], engine


def verdict(text, question="Describe the scene.", **more):
    (claim,), _ = claims_of(text, question, **more)
    return claim.verdict


@pytest.mark.parametrize(
    ("text", "question", "expected"),
    [
        ("Yes.", "Is there water?", "supported"),
        ("No.", "Is there water?", "contradicted"),
        ("There is no water here.", "Describe the scene.", "contradicted"),
        ("Yes.", "Are there trees?", "contradicted"),
        ("No.", "Are there trees?", "supported"),
        ("Water covers 19 % of the scene.", "?", "supported"),
        ("Water covers 40 % of the scene.", "?", "contradicted"),
        ("Water covers 3 ha.", "?", "supported"),
        ("Water covers 3.6 ha.", "?", "contradicted"),
        ("Water covers 30,000 m².", "?", "supported"),
        ("Water covers 3 km².", "?", "contradicted"),
        ("There are 2 lakes.", "?", "supported"),
        ("There are three lakes.", "?", "contradicted"),
        ("Yes.", "Is it raining?", "uncheckable"),
        ("There are 3 volcanoes.", "?", "contradicted"),
    ],
)
def test_verdicts(text, question, expected):
    assert verdict(text, question) == expected


def test_numbers_come_from_the_mask_of_a_follow_up():
    (claim,), engine = claims_of("Yes.", "Is there water?")
    assert claim.measured["share"] == 0.1875
    assert claim.measured["count"] == 2
    assert claim.measured["area_m2"] == pytest.approx(30_000, rel=2e-3)
    assert claim.measured["source"] == "follow-up"
    assert claim.measured["question"] == "Segment the water."
    assert [prompt.text for prompt in engine.prompts] == ["Is there water?", "Segment the water."]
    assert engine.prompts[1].history == ()
    assert engine.prompts[1].views == engine.prompts[0].views


def test_a_mask_of_the_ask_itself_needs_no_follow_up():
    (claim,), engine = claims_of(
        "Sure, the water.", "Segment the water.", marks={"Segment the water.": ("water",)}
    )
    assert (claim.verdict, claim.measured["source"]) == ("supported", "this ask")
    assert len(engine.prompts) == 1


def test_a_drawn_but_empty_mask_is_contradicted():
    question = "Segment the trees."
    (claim,), _ = claims_of("Sure, the trees.", question, marks={question: ("trees",)})
    assert claim.verdict == "contradicted"


def test_a_refusal_to_segment_proves_nothing():
    (claim,), engine = claims_of("There is no water here.", "Segment the water.")
    assert (claim.verdict, claim.measured) == ("uncheckable", {})
    assert len(engine.prompts) == 1


def test_one_follow_up_per_label():
    claims, engine = claims_of("Water covers 19 %. There are 2 lakes. The lake has 3 ha.")
    assert [claim.verdict for claim in claims] == ["supported"] * 3
    assert len(engine.prompts) == 2


def test_a_little_is_neither_there_nor_not():
    some = square(SIDE, (0, 3, 0, 4))  # 0.75 %
    assert verdict("Yes.", "Is there water?", masks={"water": some}) == "uncheckable"
    assert verdict("No.", "Is there water?", masks={"water": some}) == "uncheckable"
    # A thing is there with one resolvable mark.
    assert verdict("Yes.", "Is there a ship?", masks={"ship": some}) == "supported"


def test_houses_that_touch_are_not_counted_by_components():
    assert verdict("There are 9 houses.", masks={"built-up areas": LAKES}) == "uncheckable"


def test_main_cover():
    most = square(SIDE, (0, 30, 0, 40))
    masks = {"water": LAKES, "trees": most, "crops": EMPTY}
    assert verdict("Mostly trees.", masks=masks) == "supported"
    claims, _ = claims_of("Mostly water, with some trees.", masks=masks)
    assert [claim.verdict for claim in claims] == ["contradicted", "supported"]
    assert claims[0].measured["others"]["trees"] == 0.75
    assert verdict("Mostly trees.", masks={"trees": EMPTY, "water": LAKES}) == "contradicted"


def test_regions_are_judged_inside_themselves():
    region = Region(mask=square(SIDE, (0, 10, 0, 10)), label="region1")
    for text, expected in (
        ("Region 1 is water.", "supported"),
        ("Region 1 is trees.", "contradicted"),
    ):
        engine = StandInEngine({"water": LAKES, "trees": EMPTY}, {"What is region1?": text})
        (claim, *_) = ask(CHIP, "What is region1?", engine=engine, regions=[region]).evidence
        assert (claim.kind, claim.verdict) == ("region", expected)


def test_nothing_outside_the_aoi_counts():
    chip = make_chip(water=LAKES, inside=square(SIDE, (0, 10, 0, 20)))
    (claim,), _ = claims_of("Water covers 100 % of the area.", chip=chip)
    assert (claim.verdict, claim.measured["count"]) == ("supported", 1)


def test_a_plain_picture_has_shares_but_no_areas():
    view = View(image=np.zeros((40, 40, 3), np.uint8), name="picture", modality="optical")
    texts = {"a?": "Water covers 19 %.", "b?": "Water covers 3 ha."}
    talk = Conversation(view, StandInEngine({"water": LAKES}, texts))
    assert talk.ask("a?").evidence[0].verdict == "supported"
    (claim,) = talk.ask("b?").evidence
    assert (claim.verdict, claim.measured["area_m2"]) == ("uncheckable", None)


def test_a_failing_follow_up_leaves_the_answer():
    class Busy(StandInEngine):
        def submit(self, prompt, options=None):
            if self.prompts:
                raise EngineBusy("The queue is full.")
            return super().submit(prompt, options)

    answer = ask(CHIP, "Is there water?", engine=Busy(texts={"Is there water?": "Yes."}))
    assert (answer.text, answer.evidence[0].verdict) == ("Yes.", "uncheckable")


def test_small_marks_are_said_to_be_unresolved():
    small = square(SIDE, (0, 10, 0, 10), (20, 22, 20, 22), (30, 31, 30, 31))
    question = "Segment the water."
    engine = StandInEngine({"water": small})
    (claim,) = (c for c in ask(CHIP, question, engine=engine).evidence if c.kind == "resolution")
    assert claim.measured["count"] == 2
    assert "30 m x 30 m" in claim.text


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 40), st.integers(0, 100))
def test_any_planted_share_is_judged_by_its_distance(rows, said):
    mask = square(SIDE, (0, rows, 0, 40))
    found = verdict(f"Water covers {said}.0 % of the scene.", masks={"water": mask})
    off = abs(said / 100 - round(rows / 40, 4))
    if off > 0.0501:
        assert found == "contradicted"
    elif off < 0.0499:
        assert found == "supported"


@settings(max_examples=25, deadline=None)
@given(st.floats(1.2, 1000))
def test_any_planted_area_lie_is_flagged(factor):
    assert verdict(f"Water covers {3 * factor:.3f} ha.") == "contradicted"
    assert verdict(f"Water covers {3 / factor:.3f} ha.") == "contradicted"


# --- baselines -----------------------------------------------------------------------------------


def test_baselines_are_the_rules_they_name():
    found = water_baselines(CHIP)
    assert set(found) == {"ndwi", "vv"}
    assert (found["ndwi"].mask == LAKES).all()
    assert (found["vv"].mask == LAKES).all()
    assert set(water_baselines(make_chip(sar=False))) == {"ndwi"}


def test_an_index_needs_reflectance():
    picture = replace(CHIP, radiometry=replace(CHIP.radiometry, level="DN"))
    assert set(water_baselines(picture)) == {"vv"}


def test_the_narrow_near_infrared_stands_in_for_the_broad_one():
    names = tuple("nir08" if name == "nir" else name for name in CHIP.bands)
    found = water_baselines(replace(CHIP, bands=names))["ndwi"]
    assert (found.mask == LAKES).all()


def test_baselines_see_nothing_where_there_is_no_data():
    sar = CHIP.sar.copy()
    sar[:, :5] = np.nan
    found = water_baselines(replace(CHIP, sar=sar, valid_sar=np.isfinite(sar[0])))["vv"]
    assert not found.seen[:5].any()
    assert not found.mask[:5].any()


def test_disagreement_is_counted_where_both_saw():
    a, b = square(SIDE, (0, 10, 0, 10)), square(SIDE, (0, 10, 5, 15))
    whole = np.ones(SIDE, bool)
    assert disagreement(a, b, whole) == {
        "iou": 0.3333,
        "both": 0.0312,
        "only_a": 0.0312,
        "only_b": 0.0312,
    }
    assert disagreement(a, b, a)["only_b"] == 0.0
    assert disagreement(EMPTY, EMPTY, whole)["iou"] == 1.0


def test_disagreement_with_the_baselines_is_said_and_changes_nothing():
    wrong = square(SIDE, (30, 40, 30, 40))
    answer = ask(CHIP, "Segment the water.", engine=StandInEngine({"water": wrong}))
    model_ndwi, model_vv, ndwi_vv = (c for c in answer.evidence if c.kind == "baseline")
    assert (model_ndwi.verdict, model_ndwi.measured["iou"]) == ("contradicted", 0.0)
    assert (model_vv.verdict, ndwi_vv.verdict) == ("contradicted", "supported")
    assert "disagree" in model_ndwi.text
    assert "NDWI > 0" in model_ndwi.text
    assert (answer.masks()[0] == wrong).all()


def test_ndwi_under_cloud_decides_nothing():
    cloudy = replace(CHIP, pair=replace(CHIP.pair, cloud_in_aoi=90.0))
    answer = ask(cloudy, "Segment the water.", engine=StandInEngine({"water": LAKES}))
    found = [c.verdict for c in answer.evidence if c.kind == "baseline"]
    assert found == ["uncheckable", "supported", "uncheckable"]


def test_no_baseline_where_water_is_no_topic():
    answer = ask(CHIP, "Are there trees?", engine=StandInEngine(texts={"Are there trees?": "No."}))
    assert not [c for c in answer.evidence if c.kind == "baseline"]
