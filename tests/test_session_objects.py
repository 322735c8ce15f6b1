"""Objects of an answer: masks cut at another probability, one of them selected."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import earthmind_lab as em
from earthmind_lab.conversation import ask, ask_change
from earthmind_lab.errors import EarthMindError, PromptError
from earthmind_lab.exchange import Options, Reply
from earthmind_lab.replay import replay
from earthmind_lab.session import Selected, Session
from earthmind_lab.session.answers import Answers
from earthmind_lab.session.commands import State, undo
from earthmind_lab.session.shelf import chip_bytes
from earthmind_lab.session.subject import SaidTurn, Subject
from earthmind_lab.session.talk_commands import said_anew
from earthmind_lab.settings import Settings
from tests.session_world import BOX, CHIP, DATES, SIDE, SlowEngine, made_up
from tests.stand_in_engine import StandInEngine, make_chip, square

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


def test_pixels_that_kept_answers_hold_count(session, monkeypatch):
    """Of two dates both; those of answers that hold the same ones count once."""
    before, after = (make_chip(16, water=square(SIDE, (0, 8, 0, n))) for n in (8, 4))
    one = ask(after, WATER, engine=session.engine)
    two = ask_change(before, after, WATER, engine=session.engine)
    assert (one.chips, two.chips) == ((after,), (before, after))
    assert one.at(0.9).chips == (after,)
    room = 2 * 16 * 16 * 4 + 2 * chip_bytes(after)
    for left, most in ((True, room), (False, room - 1)):
        monkeypatch.setattr("earthmind_lab.session.answers.ANSWER_BYTES", most)
        held = Answers()
        held.keep("keep-1", two)
        held.keep("keep-2", one)
        assert (held.find("keep-1") is not None) is left


def meanwhile(session, turn, change):
    """Has something done while the masks of a turn are cut."""
    answer = session.answer(turn)

    def cut(probability):
        change()
        return answer.at(probability)

    session._answers.keep(turn, replace(answer, cut=cut))


def test_a_cut_leaves_the_talk_as_it_is_by_then(session, tmp_path):
    """The answer that it went on from is taken away while the masks are cut."""
    settings = Settings(home=tmp_path, device=None, catalog="sample")
    with Session.open("cut", engine=session.engine, settings=settings) as opened:
        first = asked(opened)
        kept = opened.keep_answer(ask(make_chip(16), WATER, engine=session.engine), "area 1")
        last = asked(opened)
        meanwhile(opened, last.id, lambda: opened.discard(kept))
        opened.set_threshold(last.id, 0.9)
        assert [turn.id for turn in opened.subject().talk] == [first.id, last.id]
        meanwhile(opened, last.id, lambda: opened.choose(1).result(WAIT))
        opened.set_threshold(last.id, 0.8)
        subject = opened.subject()
        assert subject.talk[-1].stale
    with Session.open("cut", engine=session.engine, settings=settings) as opened:
        assert opened.messages == ()
        assert opened.subject().to_dict() == subject.to_dict()


def test_an_undone_cut_leaves_what_others_have_changed():
    """It was cut while a search had made it stale, and the search was stopped."""
    turn = SaidTurn(id="ask-1", question=WATER, state="done", text="Whole.", stale=True)
    subject = Subject(name="a", kind="aoi", aoi=CHIP.aoi, turns=(turn,), head=turn.id)
    state = said_anew(State(subjects={"a": subject}), "a", replace(turn, text="Cut."))
    (cut,) = state.subjects["a"].turns
    assert (cut.text, cut.stale) == ("Cut.", True)
    fresh = replace(state.subjects["a"], turns=(replace(cut, stale=False),))
    undone = undo(replace(state, subjects={"a": fresh}), state.log[-1])
    assert undone.subjects["a"].turns == (replace(turn, stale=False),)


def test_no_talk_is_stored_that_would_not_be_read_again(session):
    turn = asked(session)
    state = session._keeper.state
    wrong = replace(session.subject(), turns=(replace(turn, parent="ask-99"),))
    with pytest.raises(ValueError, match="'ask-99', which isn't before it"):
        session._keeper.commit(replace(state, subjects={wrong.name: wrong}))
    assert session._keeper.state is state


@pytest.mark.parametrize("ends", ["answered", "stopped"])
def test_what_is_kept_while_a_question_runs_comes_before_it(session, ends):
    asked(session)
    task = session.ask("Slow?")
    assert session.engine.asked.wait(WAIT)
    first = ask(make_chip(16), WATER, engine=StandInEngine())
    kept = [session.keep_answer(each, "area 1") for each in (first, replace(
        first, record=replace(first.record, question="Once more?")
    ))]  # fmt: skip
    if ends == "answered":
        session.engine.gate.set()
        task.result(WAIT)
    else:
        task.cancel()
    before = session.subject().turns[0].id
    assert [turn.id for turn in session.subject().talk] == [before, *kept, task.id]
    assert session.undo().kind == "keep"
    assert [turn.id for turn in session.subject().talk] == [before, kept[0], task.id]
    session.undo()
    assert [turn.id for turn in session.subject().talk] == [before, task.id]
    session.undo()
    assert [turn.id for turn in session.subject().turns] == [before]


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
