"""Asking: turns, waiting, stopping, regions, pictures."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from shapely.geometry import box

from earthmind_lab.cli_verbs import _told
from earthmind_lab.conversation import Conversation, ask
from earthmind_lab.demo_visit import said as said_by_demo
from earthmind_lab.errors import Cancelled, EngineBusy, PromptError
from earthmind_lab.exchange import Done, Options, Region, Token, Turn
from earthmind_lab.session.shelf import turn_of
from earthmind_lab.session.subject import SaidTurn
from earthmind_lab.widgets.rows import turn_row
from tests.stand_in_engine import NOTICE, StandInEngine, make_chip, square

SIDE = (40, 40)
WATER = square(SIDE, (0, 10, 0, 20))
CHIP = make_chip(water=WATER)
REMARKS = ("cut off", "repeated itself", "said nothing")


def test_an_answer_is_complete():
    answer = ask(CHIP, "Segment the water.", engine=StandInEngine({"water": WATER}))
    assert answer.text == "Sure, the water."
    assert answer.notice == NOTICE
    assert len(answer.detections) == 1
    assert answer.grid == CHIP.grid
    assert answer.seen_gsd_m == 10.0
    assert answer.record.text == answer.text


def test_views_go_in_the_declared_order():
    engine = StandInEngine()
    ask(CHIP, "Hello?", engine=engine)
    names = [view.name for view in engine.prompts[0].views]
    assert names == ["vv_vh_ratio", "true_colour"]  # the chip has no SWIR
    assert {view.shape for view in engine.prompts[0].views} == {SIDE}


def test_a_model_is_shown_the_pictures_it_was_trained_on():
    engine = StandInEngine()
    engine.capabilities = replace(engine.capabilities, composites=("vv", "true_colour"))
    ask(CHIP, "Hello?", engine=engine)
    assert [view.name for view in engine.prompts[0].views] == ["vv", "true_colour"]


def test_a_coarser_model_is_said_to_see_less():
    engine = StandInEngine({"water": WATER}, tile_px=20)
    assert ask(CHIP, "Segment the water.", engine=engine).seen_gsd_m == 20.0


def test_turns_travel_and_follow_ups_are_no_turns():
    engine = StandInEngine({"water": WATER}, {"Is there water?": "Yes.", "And trees?": "No."})
    talk = Conversation(CHIP, engine)
    talk.ask("Is there water?")
    talk.ask("And trees?")
    asked = {prompt.text: prompt for prompt in engine.prompts}
    assert asked["And trees?"].history == (Turn(question="Is there water?", reply="Yes."),)
    assert asked["Segment the water."].history == ()
    assert [turn.question for turn in talk.turns] == ["Is there water?", "And trees?"]


def test_submit_returns_before_the_reply_and_a_second_one_must_wait():
    gate = threading.Event()
    talk = Conversation(CHIP, StandInEngine({"water": WATER}, gate=gate))
    pending = talk.submit("Segment the water.")
    assert not pending.done
    with pytest.raises(TimeoutError):
        pending.result(timeout=0.01)
    with pytest.raises(EngineBusy, match="still waiting"):
        talk.submit("And trees?")
    gate.set()
    assert pending.result(timeout=10).text == "Sure, the water."
    assert talk.submit("Hello?").result(timeout=10).text == "I can't tell."


def test_events_are_those_of_the_question():
    talk = Conversation(CHIP, StandInEngine({"water": WATER}))
    events = list(talk.submit("Segment the water.").events())
    assert "".join(e.text for e in events if isinstance(e, Token)).strip() == "Sure, the water."
    assert isinstance(events[-1], Done)


def test_cancel_ends_it_and_leaves_no_turn():
    talk = Conversation(CHIP, StandInEngine(gate=threading.Event()))
    pending = talk.submit("Hello?")
    pending.cancel()
    with pytest.raises(Cancelled):
        pending.result(timeout=10)
    assert talk.turns == ()


def test_cancel_reaches_the_evidence_follow_up():
    class Slow(StandInEngine):
        """The first ask answers, the follow-up hangs until it is cancelled."""

        def submit(self, prompt, options=None):
            handle = super().submit(prompt, options)
            if len(self.prompts) > 1:
                handle._gate = threading.Event()
                asked.set()
            return handle

    asked = threading.Event()
    pending = Conversation(CHIP, Slow(texts={"Is there water?": "Yes."})).submit("Is there water?")
    assert asked.wait(10)
    pending.cancel()
    with pytest.raises(Cancelled):
        pending.result(timeout=10)


def test_an_interrupt_cancels_the_ask(monkeypatch):
    talk = Conversation(CHIP, StandInEngine(gate=threading.Event()))

    def interrupt(pending, options):
        raise KeyboardInterrupt

    monkeypatch.setattr("earthmind_lab.conversation.show_progress", interrupt)
    with pytest.raises(KeyboardInterrupt):
        talk.ask("Hello?")
    with pytest.raises(Cancelled):
        talk._pending.result(timeout=10)


def test_progress_only_on_a_terminal(monkeypatch, capfd):
    engine = StandInEngine({"water": WATER})
    ask(CHIP, "Segment the water.", engine=engine)
    assert capfd.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    ask(CHIP, "Segment the water.", engine=engine)
    assert "token" in capfd.readouterr().err


def test_regions_are_drawn_on_the_grid():
    west, south, east, north = CHIP.aoi.bounds
    half = box(west - 1, south - 1, (west + east) / 2, north + 1)
    engine = StandInEngine()
    ask(CHIP, "What is region1?", engine=engine, regions=[half])
    (region,) = engine.prompts[0].regions
    assert region.label == "region1"
    assert region.mask[:, :18].all()
    assert not region.mask[:, 22:].any()


@pytest.mark.parametrize(
    "region",
    [box(100, 0, 101, 1), Region(mask=np.ones((3, 3), bool)), Region(mask=np.zeros(SIDE, bool))],
)
def test_regions_off_the_chip_are_refused(region):
    with pytest.raises(PromptError):
        ask(CHIP, "What is it?", engine=StandInEngine(), regions=[region])


@pytest.mark.parametrize("question", ["", "  \n"])
def test_an_empty_question_is_refused(question):
    with pytest.raises(PromptError):
        ask(CHIP, question, engine=StandInEngine())


def test_a_plain_picture_stays_in_pixels(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(path)
    answer = ask(path, "Segment the water.", engine=StandInEngine({"water": WATER}))
    assert answer.grid is answer.area_m2 is answer.seen_gsd_m is None
    assert answer.detections == ()
    assert (answer.masks()[0] == WATER).all()
    assert answer.to_geojson()["features"] == []
    assert answer.record.inputs[0]["path"] == str(path)
    with pytest.raises(PromptError, match="plain picture"):
        ask(path, "What?", engine=StandInEngine(), regions=[box(0, 0, 1, 1)])


@pytest.mark.parametrize("subject", [None, 3, b"bytes"])
def test_what_is_no_chip_or_picture_is_refused(subject):
    with pytest.raises(PromptError, match="can't be asked about"):
        ask(subject, "What is this?", engine=StandInEngine())


def test_evidence_can_be_turned_off():
    engine = StandInEngine({"water": WATER}, {"Is there water?": "Yes."})
    answer = Conversation(CHIP, engine, evidence=False).ask("Is there water?")
    assert len(engine.prompts) == 1
    assert [c.verdict for c in answer.evidence if c.kind == "presence"] == ["uncheckable"]


def test_options_are_recorded():
    options = Options(seed=7, max_new_tokens=9)
    answer = ask(CHIP, "Hello?", engine=StandInEngine(), options=options)
    assert answer.record.options["seed"] == 7
    assert answer.record.options["max_new_tokens"] == 9


def test_each_conversation_is_a_seat_and_its_follow_ups_sit_there_too():
    engine = StandInEngine({"water": WATER}, {"Is there water?": "Yes.", "And trees?": "No."})
    talk, other = Conversation(CHIP, engine), Conversation(CHIP, engine, seat="session 1")
    answers = [talk.ask("Is there water?"), talk.ask("And trees?")]
    of_talk = set(engine.seats)
    assert len(engine.seats) > 2, "the answer was checked by further questions"
    assert len(of_talk) == 1 and of_talk != {""}
    answers.append(other.ask("Is there water?"))
    assert engine.seats[-2:] == ["session 1"] * 2 and set(engine.seats[:-2]) == of_talk
    assert not [a for a in answers if "seat" in a.record.options or "seat" in str(a.record)]
    Conversation(CHIP, engine).ask("Hello?", options=Options(seat="mine"))
    assert engine.seats[-1] == "mine"


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        ("stop", ""),
        ("length", "cut off at its greatest length"),
        ("repetition", "repeated itself and was stopped"),
        ("empty", "said nothing"),
    ],
)
def test_how_an_answer_ended_is_said_beside_it(ended, said):
    class Ending(StandInEngine):
        def _reply(self, prompt):
            return replace(super()._reply(prompt), ended=ended)

    answer = ask(CHIP, "Hello?", engine=Ending(texts={"Hello?": "Hello."}))
    assert answer.to_dict().get("ended", "stop") == ended
    turn = turn_of("ask-1", {"question": "Hello?"}, answer)
    assert SaidTurn.from_dict(turn.to_dict()) == turn
    faces = [
        answer._repr_html_(),
        "\n".join(_told(answer, None, None)),
        turn_row(turn)["notice"],
        " ".join(text for _, text in said_by_demo([turn])),
    ]
    for face in faces:
        assert said in face
        assert bool(said) == any(remark in face for remark in REMARKS)
    assert answer.text == turn.text == "Hello.", "never inside what the model said"
