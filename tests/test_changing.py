"""Two dates: one stretch, what is refused, areas of change by code, records that hold both."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from earthmind_lab.changing import change_claims, date_views, sensor_of
from earthmind_lab.conversation import Conversation, ask_change
from earthmind_lab.data.change import search_change
from earthmind_lab.data.samples import place
from earthmind_lab.data.series import load_series
from earthmind_lab.engine.loading import load_engine
from earthmind_lab.errors import EarthMindError, PromptError
from earthmind_lab.record import Record
from earthmind_lab.replay import replay
from tests.stand_in_engine import StandInEngine, make_chip, make_scene, square

SIDE = (40, 40)
EARLY, LATE = square(SIDE, (0, 40, 0, 10)), square(SIDE, (0, 40, 5, 25))
PIXEL_M2 = 100.0
WHAT = "What has changed?"


def dated(chip, day, **more):
    when = datetime(2020, 6, day, tzinfo=UTC)
    scenes = {
        kind: make_scene(kind, id=f"{kind}-{day}", datetime=when, start=when, end=when, **more)
        for kind in ("optical", "sar")
        if getattr(chip, kind) is not None
    }
    return replace(chip, pair=replace(chip.pair, **scenes))


def chips(sar=True, **more):
    """Two dates of one place, with water that moves."""
    return dated(make_chip(40, water=EARLY, sar=sar), 1), dated(
        make_chip(40, water=LATE, sar=sar), 20, **more
    )


class Dated(StandInEngine):
    """Marks on each date the water that is there, by its brightness in SAR or red."""

    def _reply(self, prompt):
        self.masks = {"water": np.asarray(prompt.views[0].image[..., 0] < 90)}
        return super()._reply(prompt)


def says(text, question=WHAT, **more):
    return Dated(texts={question: text}, **more)


# --- pictures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sensor", "first"), [(None, "sar"), ("optical", "optical")])
def test_both_dates_are_seen_by_one_sensor_in_one_stretch(sensor, first):
    before, after = chips()
    engine = says("More water.")
    ask_change(before, after, engine=engine, sensor=sensor)
    one, other = engine.prompts[0].views
    assert (one.modality, other.modality) == (first, first)
    assert (one.name, one.bands, one.stretch) == (other.name, other.bands, other.stretch)
    assert (one.time, other.time) == ("2020-06-01T00:00:00Z", "2020-06-20T00:00:00Z")
    # One stretch: what is alike on the ground is alike in both pictures.
    dry = ~EARLY & ~LATE
    assert np.array_equal(one.image[dry], other.image[dry])
    assert not np.array_equal(one.image, other.image)


def moved(chip):
    a = chip.grid.affine
    grid = GeoBox(chip.grid.shape, Affine(10, 0, a.c + 10, 0, -10, a.f), chip.grid.crs)
    return replace(chip, grid=grid)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda b, a: (b, moved(a)), r"not lie on one grid.*load_series"),
        (lambda b, a: (a, b), r"earlier date comes first.*other way round"),
        (lambda b, a: (b, replace(a, radiometry=replace(a.radiometry, quantity="gamma0"))),
         r"not of one kind.*search_change"),
        (lambda b, a: (b, replace(a, radiometry=replace(a.radiometry, speckle_filter="Lee"))),
         "speckle filter"),
        (lambda b, a: (b, chips(sar=False)[1], "sar"), r"no sar in common.*optical"),
    ],
)  # fmt: skip
def test_what_would_show_a_change_where_there_is_none_is_refused(spoil, said):
    before, after, *sensor = spoil(*chips())
    with pytest.raises(PromptError, match=said):
        ask_change(before, after, engine=says("?"), sensor=sensor[0] if sensor else None)


def test_other_bands_make_no_comparison():
    before, after = chips()
    floors = {"vv": after.radiometry.noise_floor_db["vv"]}
    radiometry = replace(after.radiometry, noise_floor_db=floors)
    after = replace(after, sar=after.sar[:1], polarisations=("vv",), radiometry=radiometry)
    with pytest.raises(PromptError, match="same bands"):
        date_views(before, after, "sar")
    assert sensor_of(*chips(sar=False), None) == "optical"


def test_two_dates_are_of_chips():
    before, after = chips()
    with pytest.raises(PromptError, match="not by plain pictures"):
        Conversation(date_views(before, after, "sar")[0], says("?"), before=before)
    with pytest.raises(PromptError, match="one date"):
        Conversation(after, says("?")).change("water")


# --- what changed --------------------------------------------------------------------------------


@pytest.mark.parametrize("sensor", ["sar", "optical"])
def test_areas_of_change_are_those_of_the_masks(sensor):
    before, after = chips()
    change = Conversation(after, says("?"), before=before, sensor=sensor).change("water")
    for found, wanted in (
        (change.before_m2, EARLY), (change.after_m2, LATE), (change.gained_m2, LATE & ~EARLY),
        (change.lost_m2, EARLY & ~LATE),
    ):  # fmt: skip
        assert found == pytest.approx(wanted.sum() * PIXEL_M2, rel=2e-3)
    assert np.array_equal(change.gained, LATE & ~EARLY)
    assert change.share == pytest.approx((LATE.sum() - EARLY.sum()) / LATE.size)
    assert change.after_m2 - change.before_m2 == pytest.approx(change.gained_m2 - change.lost_m2)
    kinds = [each["properties"]["change"] for each in change.to_geojson()["features"]]
    assert kinds == ["gained", "lost"]
    json.dumps(change.to_geojson())


def test_only_what_both_dates_see_counts():
    before, after = chips()
    blind = np.ones(SIDE, bool)
    blind[:, :8] = False
    before = replace(before, valid_sar=blind, sar=np.where(blind, before.sar, np.nan))
    change = Conversation(after, says("?"), before=before).change("water")
    assert not change.gained[:, :8].any() and not change.lost[:, :8].any()
    assert change.before_m2 == pytest.approx((EARLY & blind).sum() * PIXEL_M2, rel=2e-3)


@pytest.mark.parametrize(
    ("text", "question", "change", "verdict"),
    [
        ("More water, fewer trees.", WHAT, "more", "supported"),
        ("Less water.", WHAT, "less", "contradicted"),
        ("Yes.", "Is there more water in the second picture?", "more", "supported"),
        ("No.", "Has the water grown?", "not more", "contradicted"),
        ("There is more open water in the second picture.", WHAT, "more", "supported"),
        ("More water than in the first.", WHAT, "more", "supported"),
        ("No, less water than trees.", WHAT, None, "uncheckable"),
        ("The lakes moved.", WHAT, None, "uncheckable"),
    ],
)
def test_what_is_said_is_held_against_both_masks(text, question, change, verdict):
    answer = ask_change(*chips(), question, engine=says(text, question))
    claim = next(each for each in answer.evidence if each.said.get("label") == "water")
    assert (claim.kind, claim.said["change"], claim.verdict) == ("change", change, verdict)
    assert claim.sentence() == claim.text
    assert claim.measured["gained_m2"] > claim.measured["lost_m2"] > 0
    told = "" if change is None else f"{change} "
    assert claim.text.startswith(f"{told}water: 4.00 ha mapped before, 8.00 ha after; 6.00 ha in")


def test_nothing_named_nothing_measured_and_small_changes_decide_nothing():
    assert ask_change(*chips(), engine=says("Nothing has changed.")).evidence == ()
    (claim,) = change_claims("More water.", WHAT, None)
    assert (claim.verdict, claim.measured) == ("uncheckable", {})
    before, _ = chips()
    wet = EARLY.copy()
    wet[:12, 10] = True  # 0.75 % of the AOI
    after = dated(make_chip(40, water=wet), 20)
    (claim,) = ask_change(before, after, engine=says("More water.")).evidence
    assert claim.verdict == "uncheckable"
    still = dated(make_chip(40, water=EARLY), 20)
    (claim,) = ask_change(before, still, engine=says("More water.")).evidence
    assert claim.verdict == "contradicted"


def test_another_threshold_measures_anew_without_a_further_question():
    engine = says("More water.")
    answer = ask_change(*chips(), engine=engine)
    asked = len(engine.prompts)
    (claim,) = answer.at(0.99).evidence
    assert claim.measured["after_m2"] == 0.0
    assert "none is mapped at either date" in claim.text
    assert len(engine.prompts) == asked


def test_two_orbits_are_said():
    before, after = chips(orbit={"relative": 30})
    scene = replace(before.pair.sar, orbit={"relative": 103})
    before = replace(before, pair=replace(before.pair, sar=scene))
    *_, claim = ask_change(before, after, engine=says("More water.")).evidence
    assert "orbit 103 before and 30 after" in claim.text
    *_, claim = ask_change(before, after, engine=says("More water."), sensor="optical").evidence
    assert "orbit" not in claim.text


@pytest.mark.parametrize("view", [0, 1])
def test_an_object_has_the_date_of_the_picture_that_drew_it(view):
    question = "Where is the water?"
    engine = says("Sure, the water.", question, marks={question: ("water",)}, view=view)
    answer = ask_change(*chips(), question, engine=engine)
    assert {each.observed for each in answer.detections} == {
        ("2020-06-01T00:00:00Z", "2020-06-20T00:00:00Z")[view]
    }
    assert [each.mark for each in answer.detections] == [0]


# --- records -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def punjab():
    """Real scenes of June and August, one sensor."""
    aoi = place("punjab").bbox
    dates = ("2020-06-01/2020-06-10", "2020-08-10/2020-09-05")
    found = search_change(aoi, *dates, sensors="optical", max_cloud=100)[0]
    return tuple(load_series([found.before, found.after], aoi))


def test_a_record_holds_both_dates_and_replays_from_the_file(punjab, tmp_path):
    before, after = punjab
    answer = ask_change(before, after, "Is there more water in the second picture?")
    record = answer.record
    assert [(each["date"], each["id"]) for each in record.inputs] == [
        ("before", before.pair.optical.id), ("after", after.pair.optical.id),
    ]  # fmt: skip
    assert record.search["dates"] != record.search["before"]["dates"]
    assert all(
        scene.id in str(answer.cite()) for scene in (before.pair.optical, after.pair.optical)
    )
    again = replay(record.save(tmp_path / "record.json"))
    assert (again.same, again.differences) == (True, ())


def test_chips_at_hand_are_used_for_both_dates(monkeypatch):
    before, after = chips()
    record = ask_change(before, after, engine=says("More water.")).record
    monkeypatch.setattr("earthmind_lab.replay._subject", None)
    assert replay(record, engine=says("More water."), chips=[after, before]).same


def test_a_broken_link_names_its_date(punjab):
    before, after = punjab
    record = ask_change(before, after, engine=says("More water.")).record
    spoilt = {**record.chip, "before": {**record.chip["before"], "pixel_hash": "0" * 64}}
    again = replay(replace(record, chip=spoilt), engine=says("More water."))
    assert again.differences[0] == "pixels: the chip's pixels differ (before)."
    del spoilt["before"]["grid"]
    with pytest.raises(EarthMindError, match="damaged"):
        replay(replace(record, chip=spoilt), engine=says("More water."))
    gone = tuple({**each, "date": "?"} for each in record.inputs)
    again = replay(replace(record, inputs=gone), engine=says("More water."))
    assert not again.same and again.differences[0].startswith("scenes:")


def test_one_date_has_no_trace_of_a_second(punjab):
    answer = Conversation(punjab[1], load_engine()).ask("Describe the scene.")
    assert "before" not in answer.record.chip and "before" not in answer.record.search
    assert all("date" not in each for each in answer.record.inputs)
    assert Record.from_dict(answer.record.to_dict()) == answer.record
