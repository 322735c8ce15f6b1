"""Layers of an answer that is in memory: probability, threshold, weights; its origin, its squares.

The engine is scripted: the embedded model weighs no sensors.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from earthmind_lab.answer import format_area
from earthmind_lab.session import Session
from earthmind_lab.widgets.basemap import make_map
from earthmind_lab.widgets.layers import ChipLayer
from earthmind_lab.widgets.overlays import SHARE, SURE, area_curve, colours, sar_share, steps
from earthmind_lab.widgets.squares import squares_of
from tests.session_world import BOX, CHIP, DATES, SIDE, SlowEngine, made_up
from tests.stand_in_engine import StandInEngine, make_chip

WAIT, WATER = 20, "Segment the water."
RAMP = np.broadcast_to(np.linspace(-4, 4, SIDE[1], dtype=np.float32), SIDE)
"""Probability grows from west to east."""


class Weighing(SlowEngine):
    """Marks water along `RAMP`, and weighs SAR fully in the north, not at all in the south."""

    weighs = True

    def submit(self, prompt, options=None):
        handle = super().submit(prompt, options)
        said = handle._make

        def make():
            reply = said()
            objects = [replace(each, mask_logits=RAMP.copy()) for each in reply.objects]
            sar = np.repeat(np.float32([[1.0], [0.0]]), 4, axis=1)  # (2, 4) tokens
            weights = np.stack([1 - sar, sar]) if self.weighs else None
            return replace(reply, objects=tuple(objects), sensor_weights=weights)

        handle._make = make
        return handle

    def pictures(self, views):
        return tuple((view.image,) for view in views)


@pytest.fixture
def asked(monkeypatch, browser):
    """A map with one answer in memory, and its panel's other end."""
    made_up(monkeypatch)
    with Session(engine=Weighing()) as session:
        layer = ChipLayer(session, make_map())
        browser.follow(layer.panel)
        session.draw(BOX)
        session.search(dates=DATES).result(WAIT)
        session.choose(0).result(WAIT)
        session.ask(WATER).result(WAIT)
        browser.wait(lambda: layer.panel.answers)
        (turn,) = session.subject().turns
        yield SimpleNamespace(
            session=session, layer=layer, map=layer.map, panel=layer.panel, browser=browser,
            turn=turn.id, tell=lambda **message: browser.tell(layer.panel, message),
        )  # fmt: skip
        layer.close()


def row(asked):
    return asked.panel.answers[0]


def switch(asked, **overlays):
    wanted = {"probability": False, "weights": False, **overlays}
    asked.tell(kind="switch", turn=asked.turn, visible=True, **wanted)


def names(m):
    return [each.name for each in m.layers]


def test_probability_is_a_layer_with_a_ramp_below_the_outlines(asked):
    sure, weights = row(asked)["overlays"]
    assert sure["title"] == "Probability"
    assert sure["ramp"] == {
        "name": "model's own, uncalibrated", "stops": list(SURE), "low": "0", "high": "1",
        "unit": "",
    }  # fmt: skip
    assert not sure["visible"]
    switch(asked, probability=True)
    asked.browser.wait(lambda: row(asked)["overlays"][0]["visible"])
    assert names(asked.map) == ["land", "Optical", "SAR", "probability", "answer 1"]
    shown = asked.map.layers[3]
    assert shown.pane == "earthmind-answer"
    assert shown.url.startswith("data:image/")
    switch(asked)
    asked.browser.wait(lambda: not row(asked)["overlays"][0]["visible"])
    assert names(asked.map) == ["land", "Optical", "SAR", "answer 1"]
    assert weights["title"] == "Sensor weights (heuristic, not an explanation)"


def test_weights_are_offered_only_where_sensors_were_weighed(asked):
    switch(asked, weights=True)
    asked.browser.wait(lambda: row(asked)["overlays"][1]["visible"])
    assert names(asked.map)[3] == "weights"
    asked.session.engine.weighs = False
    asked.session.ask(WATER).result(WAIT)
    asked.browser.wait(lambda: len(asked.panel.answers) == 2)
    assert [each["kind"] for each in row(asked)["overlays"]] == ["probability"]


def test_the_threshold_cuts_anew_and_undo_takes_it_back(asked):
    before = row(asked)
    assert before["threshold"] == 0.5
    assert before["reason"] == ""
    asked.tell(kind="cut", turn=asked.turn, probability=0.9)
    asked.browser.wait(lambda: row(asked)["threshold"] == 0.9)
    after = row(asked)
    asked.browser.wait(lambda: asked.browser.said("cut at 0.90"))
    # The slider promised this very area.
    assert after["area"] == before["areas"][list(steps()).index(0.9)]
    assert after["area"] != before["area"] == before["areas"][list(steps()).index(0.5)]
    assert [command.kind for command in asked.session.log][-1] == "threshold"
    asked.session.undo()
    asked.browser.wait(lambda: row(asked)["area"] == before["area"])
    assert row(asked)["threshold"] == 0.5


def test_an_engine_far_away_holds_no_panel_up(asked, monkeypatch):
    gate, cut = threading.Event(), []

    def slowly(turn, probability, name):
        gate.wait(WAIT)
        cut.append(probability)

    monkeypatch.setattr(asked.session, "set_threshold", slowly)
    seen = asked.session.engine.pictures
    monkeypatch.setattr(
        asked.session.engine, "pictures", lambda views: gate.wait(WAIT) and seen(views)
    )
    for probability in (0.6, 0.7, 0.8):  # a slider
        asked.tell(kind="cut", turn=asked.turn, probability=probability)
    asked.tell(kind="squares")
    asked.browser.wait(lambda: asked.browser.said("Asking the model what it sees"))
    assert asked.browser.said("Cutting the masks…")
    asked.tell(kind="raster", sensor="sar", visible=False, opacity=1, composite=None)
    asked.browser.wait(lambda: not asked.panel.rasters[1]["visible"])
    assert cut == []
    gate.set()
    assert asked.panel._aside.settle(WAIT)
    # What the slider passed meanwhile is nobody's wish any more.
    assert cut[-1] == 0.8
    assert len(cut) < 3
    asked.browser.wait(lambda: asked.panel.squares)


def test_cuts_of_two_answers_that_wait_are_both_made(asked, monkeypatch):
    gate, cut = threading.Event(), []

    def slowly(turn, probability, name):
        gate.wait(WAIT)
        cut.append((turn, probability))

    monkeypatch.setattr(asked.session, "set_threshold", slowly)
    wanted = [(asked.turn, 0.6), (asked.turn, 0.7), ("ask-99", 0.8), (asked.turn, 0.9)]
    for turn, probability in wanted:
        asked.tell(kind="cut", turn=turn, probability=probability)
    heard = {"kind": "status", "ask": None, "text": "Cutting the masks…"}
    asked.browser.wait(lambda: asked.browser.messages.count(heard) == len(wanted))
    gate.set()
    assert asked.panel._aside.settle(WAIT)
    assert ("ask-99", 0.8) in cut and (asked.turn, 0.9) in cut


@pytest.mark.parametrize("probability", [0, 1, -3, 7])
def test_what_is_no_probability_is_said(asked, probability):
    asked.tell(kind="cut", turn=asked.turn, probability=probability)
    asked.browser.wait(lambda: "can't be cut at" in asked.panel.fault)
    assert row(asked)["threshold"] == 0.5


def test_areas_fall_as_the_probability_rises(asked):
    answer = asked.session.answer(asked.turn)
    curve = area_curve(answer, CHIP)
    assert len(curve) == len(steps()) == 91
    sure = answer.reply.probability(answer.reply.objects[0])
    for at in (0.05, 0.3, 0.95):
        pixels = int((sure > at).sum())
        # The pixels of a chip of 160 m are of one size, but for a thousandth.
        whole = answer.area_m2 / int((sure > 0.5).sum())
        assert curve[list(steps()).index(at)] == format_area(pixels * whole)
    assert area_curve(answer, None) == area_curve(answer, make_chip(20)) == []


def test_colours_and_weights_lie_where_they_belong():
    assert colours(np.array([[0.0, 0.5, 1.0]]), SHARE)[0].tolist() == [
        [179, 88, 6], [247, 247, 247], [84, 39, 136],
    ]  # fmt: skip
    engine = Weighing()
    weights = np.float32([[[1, 0], [0, 0]], [[0, 3], [1, 0]]])
    reply = replace(engine._made("x", (), (4, 4)), sensor_weights=weights)
    share = sar_share(reply, (4, 4))
    assert share[0].tolist() == [0, 0, 1, 1]
    assert share[3].tolist() == [1, 1, 0.5, 0.5]  # nobody has a weight there
    assert sar_share(replace(reply, sensor_weights=None), (4, 4)) is None


def test_where_the_pixels_come_from(asked):
    optical, sar, grid = asked.panel.origin
    assert optical["title"] == "Sentinel-2 (optical)"
    facts = dict(sar["facts"])
    assert facts["Numbers"] == "gamma0_rtc, dB"
    assert facts["Items"] == "sar-1"
    assert facts["Owner"] == "contains sar data"
    assert facts["Baseline"] == "not stated"
    assert sar["files"][0]["checksum"] == "sha256 " + "0" * 64
    assert "EPSG:32630" in dict(grid["facts"])["Grid"]


def test_the_squares_of_the_embedded_model_have_places():
    from earthmind_lab.engine.loading import load_engine

    chip = make_chip()
    views = squares_of(chip, load_engine("nano"))
    assert {view["title"].split(":")[0] for view in views} == {
        "Sentinel-1, 2 Jun 2020", "Sentinel-2, 1 Jun 2020",
    }  # fmt: skip
    for view in views:
        assert view["squares"]
        for square in view["squares"]:
            assert square["url"].startswith("data:image/jpeg;base64,")
            assert square["size"].endswith(" px")
            assert square["place"]


def test_squares_of_a_long_view_are_numbered_row_by_row():
    class Cutting(StandInEngine):
        def pictures(self, views):
            return tuple(
                (*(v.image[y : y + 20, x : x + 20] for y in (0, 20) for x in (0, 20)),
                 v.image[::2, ::2])
                for v in views
            )  # fmt: skip

    chip = make_chip()
    smooth = np.linspace(0, 0.3, 40, dtype=np.float32)
    chip = replace(chip, optical=np.broadcast_to(smooth, (4, 40, 40)).copy())
    view = next(v for v in squares_of(chip, Cutting()) if "True colour" in v["title"])
    assert [square["place"] for square in view["squares"]] == [
        "row 1 of 2, column 1 of 2", "row 1 of 2, column 2 of 2",
        "row 2 of 2, column 1 of 2", "row 2 of 2, column 2 of 2", "the whole view, smaller",
    ]  # fmt: skip
    assert {square["size"] for square in view["squares"]} == {"20 × 20 px"}


def test_squares_are_shown_on_demand(asked):
    assert asked.panel.squares == []
    asked.tell(kind="squares")
    asked.browser.wait(lambda: asked.panel.squares)
    assert asked.panel.squares[0]["squares"][0]["place"] == "the whole view"
    asked.session.engine = StandInEngine()
    asked.tell(kind="squares")
    asked.browser.wait(lambda: "doesn't show what its vision encoder" in asked.panel.fault)
