"""ChatPanel against a real session: what the browser gets, in which order, and what it may send."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from earthmind_lab.errors import EarthMindError
from earthmind_lab.session import Session
from earthmind_lab.session.subject import SaidTurn
from earthmind_lab.widgets import base
from earthmind_lab.widgets.chat import TAKEN_BACK, ChatPanel
from earthmind_lab.widgets.rows import feature_rows, turn_row
from tests.stand_in_engine import NOTICE, StandInEngine
from tests.widgets.conftest import TEXT


@pytest.fixture
def panel(talking, browser):
    panel = ChatPanel(talking)
    browser.follow(panel)
    yield panel
    panel.close()


def ask(browser, panel, text="What is this?"):
    browser.tell(panel, {"kind": "ask", "text": text})


def halfway(browser):
    return browser.wait(lambda: browser.kind("tokens"))


def written(messages):
    """What a view that gets these messages has written."""
    text = ""
    for message in messages:
        if message["kind"] == "tokens":
            assert message["from"] == len(text)
            text += message["text"]
    return text


# --- an answer -----------------------------------------------------------------------------------


def test_an_answer_from_the_first_word_to_the_turn(browser, panel, gate):
    ask(browser, panel)
    halfway(browser)
    assert panel.turns == []
    gate.set()
    (ended,) = browser.wait(lambda: browser.kind("ended"))
    assert ended["state"] == "done"
    assert written(browser.messages).strip() == TEXT
    (turn,) = panel.turns  # synced before `ended`: nothing flickers
    assert (turn["id"], turn["text"], turn["notice"]) == (ended["ask"], TEXT, NOTICE)
    order = [m["kind"] for m in browser.messages if m["kind"] != "status"]
    assert order[0] == "started"
    assert order[-1] == "ended"


def test_the_panel_answers_while_the_model_works(browser, panel):
    ask(browser, panel)
    halfway(browser)
    began = time.monotonic()
    browser.tell(panel, {"kind": "hello"})
    (snapshot,) = browser.wait(lambda: browser.kind("snapshot"))
    assert time.monotonic() - began < 1.0
    assert snapshot["text"] == "A 🌊 "
    assert snapshot["question"] == "What is this?"
    assert snapshot["seconds"] >= 0


def test_a_view_that_opens_in_the_middle_goes_on_from_its_snapshot(browser, panel, gate):
    ask(browser, panel)
    halfway(browser)
    browser.tell(panel, {"kind": "hello"})
    (snapshot,) = browser.wait(lambda: browser.kind("snapshot"))
    gate.set()
    browser.wait(lambda: browser.kind("ended"))
    after = browser.messages[browser.messages.index(snapshot) + 1 :]
    text = snapshot["text"]
    for message in after:
        if message["kind"] == "tokens":
            text = text[: message["from"]] + message["text"]
    assert text.strip() == TEXT


def test_stop_keeps_what_was_said(browser, panel):
    ask(browser, panel)
    halfway(browser)
    browser.tell(panel, {"kind": "stop"})
    (ended,) = browser.wait(lambda: browser.kind("ended"))
    assert ended["state"] == "stopped"
    assert ended["message"]
    assert panel.turns[0]["state"] == "stopped"
    assert panel.turns[0]["text"] == "A 🌊 "


def test_two_questions_one_after_the_other(browser, panel, gate, talking):
    for number, question in enumerate(("What is this?", "Again?"), start=1):
        gate.clear()
        ask(browser, panel, question)
        browser.wait(lambda n=number: len({m["ask"] for m in browser.kind("tokens")}) == n)
        gate.set()
        browser.wait(lambda n=number: len(browser.kind("ended")) == n)
    first, second = browser.kind("started")
    assert first["ask"] != second["ask"]
    for started in (first, second):
        own = [m for m in browser.messages if m.get("ask") == started["ask"]]
        assert written(own).strip() == TEXT
    assert [turn["question"] for turn in panel.turns] == ["What is this?", "Again?"]


def test_questions_at_once_without_a_pause(browser, panel, gate, talking):
    """One begins before the panel has said that the last is over; some are over unheard."""
    gate.set()
    for question in ("What is this?", "Again?", "What is this?"):
        talking.ask(question).result(20)
    browser.wait(lambda: len(panel.turns) == 3)
    browser.wait(lambda: len(browser.kind("ended")) == len(browser.kind("started")))
    assert [turn["text"] for turn in panel.turns] == [TEXT] * 3


def test_a_question_from_python_shows_too(browser, panel, gate, talking):
    task = talking.ask("What is this?")
    (started,) = browser.wait(lambda: browser.kind("started"))
    assert started == {"kind": "started", "ask": task.id, "question": "What is this?"}
    gate.set()
    browser.wait(lambda: browser.kind("ended"))


def test_undo_takes_the_running_question_back(browser, panel):
    ask(browser, panel)
    halfway(browser)
    assert panel.undo_label == "the question “What is this?”"
    browser.tell(panel, {"kind": "undo"})
    (ended,) = browser.wait(lambda: browser.kind("ended"))
    assert (ended["state"], ended["message"]) == ("stopped", TAKEN_BACK)
    assert panel.turns == []
    assert browser.said("Undone: the question")


def test_a_failure_is_a_turn_with_what_to_do(browser, panel, gate, monkeypatch):
    def fail(engine, prompt):
        raise EarthMindError("The engine is closed.", change="load it again")

    monkeypatch.setattr(StandInEngine, "_reply", fail)
    gate.set()
    ask(browser, panel)
    browser.wait(lambda: panel.turns)
    assert panel.turns[0]["state"] == "failed"
    assert "Try: load it again." in panel.turns[0]["message"]


# --- other subjects ------------------------------------------------------------------------------


def test_only_the_active_talk_is_shown(browser, panel, gate, talking):
    ask(browser, panel)
    halfway(browser)
    talking.open_picture(np.ones((48, 48, 3), dtype=np.uint8), name="other")
    browser.wait(lambda: [m for m in browser.kind("snapshot") if m["ask"] is None])
    assert panel.about["name"] == "other"
    sent = len(browser.kind("tokens"))
    talking.select("a picture")
    (snapshot,) = browser.wait(lambda: [m for m in browser.kind("snapshot") if m["ask"]])
    assert snapshot["text"] == "A 🌊 "
    gate.set()
    (ended,) = browser.wait(lambda: browser.kind("ended"))
    assert ended["state"] == "done"
    assert len(browser.kind("tokens")) >= sent


def test_deleting_the_subject_ends_its_answer(browser, panel, talking):
    ask(browser, panel)
    halfway(browser)
    talking.delete("a picture")
    browser.wait(lambda: browser.kind("ended"))
    browser.wait(lambda: panel.about["name"] == "")
    assert "draw an area" in panel.about["hint"]
    talking.undo()
    browser.wait(lambda: panel.about["name"] == "a picture")


def test_before_a_pair_is_chosen_it_says_what_to_do(browser):
    with Session(engine=StandInEngine()) as session:
        panel = ChatPanel(session)
        browser.follow(panel)
        assert panel.about["ready"] is False
        session.draw((0, 0, 0.01, 0.01))
        browser.wait(lambda: "Search for pairs" in panel.about["hint"])
        ask(browser, panel)
        browser.wait(lambda: "No pair of 'area 1' is chosen" in panel.fault)
        panel.close()


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad", [None, 3, [], {}, {"kind": "ask"}, {"kind": "ask", "text": 5}, {"kind": "constructor"}]
)
def test_garbage_from_the_browser_is_said_and_survived(browser, panel, bad):
    browser.tell(panel, bad)
    browser.wait(lambda: browser.said("makes no sense"))
    browser.tell(panel, {"kind": "hello"})
    browser.wait(lambda: browser.kind("snapshot"))


def test_a_message_of_the_table_is_no_use_here(browser, panel):
    browser.tell(panel, {"kind": "choose", "rank": 0})
    browser.wait(lambda: browser.said("nothing to choose"))


def test_an_empty_question_is_refused_with_words(browser, panel):
    ask(browser, panel, "  ")
    browser.wait(lambda: "The question is empty" in panel.fault)


def test_nothing_to_stop_nothing_to_undo(browser, panel, talking):
    browser.tell(panel, {"kind": "stop"})
    browser.wait(lambda: browser.said("Nothing runs here"))
    while talking.undo():
        pass
    browser.tell(panel, {"kind": "undo"})
    browser.wait(lambda: browser.said("Nothing to undo"))


def test_a_fault_goes_with_the_next_command(browser, panel, gate):
    ask(browser, panel, " ")
    browser.wait(lambda: panel.fault)
    gate.set()
    ask(browser, panel)
    browser.wait(lambda: panel.turns)
    assert panel.fault == ""


def test_a_defect_of_the_map_is_said_and_the_panel_goes_on(browser, talking, gate):
    def broken(turn):
        raise KeyError("layer")

    panel = ChatPanel(talking, on_show=broken)
    browser.follow(panel)
    gate.set()
    talking.ask("What is this?").result(20)
    browser.wait(lambda: panel.turns)
    browser.tell(panel, {"kind": "show", "turn": panel.turns[0]["id"]})
    browser.wait(lambda: "KeyError" in panel.fault)
    browser.tell(panel, {"kind": "hello"})
    browser.wait(lambda: browser.kind("snapshot"))
    panel.close()


# --- showing, closing ----------------------------------------------------------------------------


def test_show_gives_the_turn_to_the_map(browser, talking, gate):
    shown = []
    panel = ChatPanel(talking, on_show=shown.append)
    browser.follow(panel)
    assert panel.about["shows"] is True
    gate.set()
    talking.ask("What is this?").result(20)
    browser.wait(lambda: panel.turns and not panel.about["busy"])
    browser.messages.clear()
    browser.tell(panel, {"kind": "show", "turn": panel.turns[0]["id"]})
    browser.wait(lambda: browser.kind("status"))  # it has been answered, so it has been done
    assert shown == [talking.subject().turns[0]]
    browser.tell(panel, {"kind": "show", "turn": "nobody"})
    browser.wait(lambda: browser.said("no longer there"))
    panel.close()


def test_a_closed_panel_hears_nothing_and_its_thread_ends(browser, talking, gate):
    panel = ChatPanel(talking)
    thread = panel._thread
    panel.close()
    panel.close()
    assert not thread.is_alive()
    gate.set()
    talking.ask("What is this?").result(20)
    assert panel.turns == []


def test_two_panels_show_the_same(browser, talking, gate):
    panels = [ChatPanel(talking), ChatPanel(talking)]
    for panel in panels:
        browser.follow(panel)
    gate.set()
    ask(browser, panels[0])
    browser.wait(lambda: all(len(panel.turns) == 1 for panel in panels))
    assert panels[0].turns == panels[1].turns
    assert panels[0].panel != panels[1].panel
    for panel in panels:
        panel.close()


def test_callbacks_only_enqueue(browser, talking, gate):
    """A click returns at once, from any thread, even while the panel's own thread is held up."""
    held, free = threading.Event(), threading.Event()
    gate.set()
    talking.ask("What is this?").result(20)
    panel = ChatPanel(talking, on_show=lambda _: (held.set(), free.wait(20)))
    browser.tell(panel, {"kind": "show", "turn": talking.subject().turns[0].id})
    assert held.wait(20)
    began = time.monotonic()
    for _ in range(100):
        browser.tell(panel, {"kind": "hello"})
    took = time.monotonic() - began
    assert not browser.kind("snapshot")
    free.set()
    browser.wait(lambda: len(browser.kind("snapshot")) == 100)
    assert took < 0.5
    panel.close()


def test_what_the_session_tells_of_its_opening_is_shown(browser, talking, monkeypatch):
    told = property(lambda _: ("The file was damaged.", "It was set aside."))
    monkeypatch.setattr(Session, "messages", told, raising=False)
    panel = ChatPanel(talking)
    assert panel.fault == "The file was damaged.\nIt was set aside."
    panel.close()


def test_without_its_built_files_it_says_how_to_build_them(talking, monkeypatch, tmp_path):
    monkeypatch.setattr(base, "STATIC", tmp_path / "static")
    base.static.cache_clear()
    with pytest.raises(EarthMindError, match=r"build_widgets\.py"):
        ChatPanel(talking)
    base.static.cache_clear()


# --- rows ----------------------------------------------------------------------------------------


def feature(label, x, width=1.0, **more):
    ring = [[x, 0], [x + width, 0], [x + width, 1], [x, 1], [x, 0]]
    own = {"label": label, "source": "sar", "observed": "2019-09-17T17:55:00Z", "area_m2": 10_000.0}
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {**own, **more},
    }


def test_features_by_label_with_overlaps_counted_once():
    features = [feature("water", 0), feature("water", 0), feature("trees", 5, source="optical")]
    turn = SaidTurn(
        id="a", question="?", state="done",
        features={"type": "FeatureCollection", "features": features},
        record={"inputs": [{"sensor": "sentinel-1-rtc"}, {"sensor": "sentinel-2-l2a"}]},
    )  # fmt: skip
    assert feature_rows(turn) == [
        {"label": "water", "count": 2, "area": "1.00 ha", "source": "from Sentinel-1, 17 Sep 2019"},
        {"label": "trees", "count": 1, "area": "1.00 ha", "source": "from Sentinel-2, 17 Sep 2019"},
    ]


def test_hostile_text_goes_through_as_text():
    hostile = "<img src=x onerror=alert(1)>\ud800"
    turn = SaidTurn(
        id="a", question=hostile, state="failed", text=hostile, message=hostile,
        evidence=({"verdict": "supported", "kind": "area", "sentence": hostile},),
    )  # fmt: skip
    row = turn_row(turn)
    assert row["text"] == row["message"] == row["evidence"][0]["sentence"]
    assert row["text"] == "<img src=x onerror=alert(1)>?"
