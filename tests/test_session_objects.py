"""Objects of an answer: masks cut at another probability, one of them selected."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import earthmind_lab as em
from earthmind_lab.errors import EarthMindError, PromptError
from earthmind_lab.exchange import Options, Reply
from earthmind_lab.replay import replay
from earthmind_lab.session import Selected, Session
from earthmind_lab.session.shelf import chip_bytes
from earthmind_lab.settings import Settings
from tests.session_world import BOX, CHIP, DATES, SIDE, SlowEngine, made_up

WAIT, WATER = 20, "Segment the water."


class Ramp(SlowEngine):
    """Marks water with a probability that grows from west to east."""

    def submit(self, prompt, options=None):
        handle = super().submit(prompt, options)
        said = handle._make

        def make():
            reply = said()
            ramp = np.broadcast_to(np.linspace(-4, 4, SIDE[1], dtype=np.float32), SIDE)
            objects = [replace(each, mask_logits=ramp.copy()) for each in reply.objects]
            return replace(reply, objects=tuple(objects))

        handle._make = make
        return handle


@pytest.fixture
def session(monkeypatch):
    made_up(monkeypatch)
    with Session(engine=Ramp()) as opened:
        yield opened


def asked(session, question=WATER):
    """A turn about an area with a chosen pair."""
    if session.active is None:
        session.draw(BOX)
        session.search(dates=DATES).result(WAIT)
        session.choose(0).result(WAIT)
    session.ask(question).result(WAIT)
    return session.subject().talk[-1]


def area(session, turn):
    features = session.subject().turn(turn.id).features["features"]
    return sum(feature["properties"]["area_m2"] for feature in features)


def test_a_higher_probability_marks_less_and_is_recorded(session):
    turn = asked(session)
    (feature,) = turn.features["features"]
    assert feature["properties"]["mark"] == 0
    assert 0.5 < feature["properties"]["probability"] < 1
    half = area(session, turn)
    session.set_threshold(turn.id, 0.9)
    cut = session.subject().turn(turn.id)
    assert area(session, turn) < half
    assert cut.options == {"mask_threshold": 0.9}
    assert cut.record["options"]["mask_threshold"] == 0.9
    assert cut.record["answer_hash"] != turn.record["answer_hash"]
    assert cut.features["features"][0]["properties"]["probability"] > 0.9
    assert (cut.text, cut.parent, cut.raw) == (turn.text, turn.parent, turn.raw)
    session.set_threshold(turn.id, 0.5)
    assert session.subject().turn(turn.id).features == turn.features


def test_a_slider_that_moves_is_one_command(session):
    turn = asked(session)
    for probability in (0.6, 0.7, 0.8):
        session.set_threshold(turn.id, probability)
    assert [command.kind for command in session.log][-2:] == ["ask", "threshold"]
    assert session.undo().kind == "threshold"
    assert session.subject().turn(turn.id) == turn
    session.set_threshold(turn.id, 0.6)
    other = asked(session)
    session.set_threshold(other.id, 0.7)
    session.set_threshold(turn.id, 0.7)
    assert [command.kind for command in session.log][-4:] == [
        "threshold", "ask", "threshold", "threshold",
    ]  # fmt: skip
    while session.undo():
        pass
    assert session.subjects == {}


def test_asked_again_it_is_cut_where_it_was(session):
    turn = asked(session)
    session.set_threshold(turn.id, 0.9)
    answer = session.again(turn.id).result(WAIT)
    assert answer.reply.threshold == 0.9
    assert session.subject().talk[-1].features == session.subject().turn(turn.id).features


@pytest.mark.parametrize("probability", [0, 1, -1, 2, float("nan")])
def test_what_is_no_probability_changes_nothing(session, probability):
    turn = asked(session)
    with pytest.raises(PromptError, match=r"0 and less than 1"):
        session.set_threshold(turn.id, probability)
    assert session.subject().turn(turn.id) == turn
    with pytest.raises(PromptError, match="0 and less than 1"):
        session.ask(WATER, options=Options(mask_threshold=probability)).result(WAIT)


def test_what_is_not_in_memory_says_what_to_do(session):
    turn = asked(session)
    with pytest.raises(PromptError, match="no turn 'ask-99'"):
        session.set_threshold("ask-99", 0.6)
    session._answers._held.clear()
    assert session.answer(turn.id) is None
    with pytest.raises(PromptError, match="ask the question again"):
        session.set_threshold(turn.id, 0.6)


def test_after_a_restart_objects_are_there_and_probabilities_are_not(tmp_path, monkeypatch):
    made_up(monkeypatch)
    settings = Settings(home=tmp_path, device=None, catalog="sample")
    with Session.open("kept", engine=Ramp(), settings=settings) as session:
        turn = asked(session)
        session.set_threshold(turn.id, 0.8)
        cut = session.subject().turn(turn.id)
    with Session.open("kept", engine=Ramp(), settings=settings) as session:
        assert session.subject().turn(turn.id) == cut
        assert session.answer(turn.id) is None
        assert session.undo().kind == "threshold"
        assert session.subject().turn(turn.id) == turn


def test_the_oldest_answers_make_way(session, monkeypatch):
    # Two masks, and once the pixels that all of them are about.
    room = 2 * 16 * 16 * 4 + chip_bytes(CHIP)
    monkeypatch.setattr("earthmind_lab.session.answers.ANSWER_BYTES", room)
    turns = [asked(session) for _ in range(3)]
    held = [session.answer(turn.id) is not None for turn in turns]
    assert held == [False, True, True]
    session.set_threshold(turns[2].id, 0.6)
    assert session.answer(turns[1].id) is not None


def test_an_object_is_selected_for_map_and_text(session):
    turn = asked(session)
    log = session.log
    session.select_object(turn.id)
    assert session.selected == Selected(turn=turn.id, number=0)
    for wrong in (("ask-99", 0), (turn.id, 1), (turn.id, -1)):
        with pytest.raises(PromptError, match="no object"):
            session.select_object(*wrong)
    assert session.selected == Selected(turn=turn.id, number=0)
    session.select_object(None)
    assert session.selected is None
    assert session.log == log


def test_an_answer_cut_elsewhere_replays(tmp_path):
    """The embedded model on embedded scenes."""
    spain = next(place for place in em.places() if place.name == "spain")
    aoi = em.AOI.from_bbox(*spain.bbox)
    chip = em.load_chip(em.search_pairs(aoi, spain.dates)[0], aoi)
    answer = em.ask(chip, WATER)
    cut = answer.at(0.8)
    assert 0 < cut.area_m2 < answer.area_m2
    assert answer.at(0.5).record.answer_hash == answer.record.answer_hash
    assert all(item.probability > 0.8 for item in cut.detections)
    found = replay(cut.record.save(tmp_path / "record.json"))
    assert found.same
    assert em.ask(chip, WATER, options=Options(mask_threshold=0.8)).record.analysis() == (
        cut.record.analysis()
    )


def test_shifting_there_and_back_is_the_same():
    assert Reply(text="").at(0.5).threshold == 0.5
    with pytest.raises(EarthMindError):
        Reply(text="").at(1.0)
