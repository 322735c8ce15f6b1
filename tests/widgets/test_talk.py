"""The talk in the chat panel: again, branches, regions, comparison, copies, faults by area."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from earthmind_lab.answer import format_area
from earthmind_lab.errors import CatalogUnavailable
from earthmind_lab.exchange import Region
from earthmind_lab.session import Session
from earthmind_lab.widgets.chat import ChatPanel
from earthmind_lab.widgets.suggesting import embedded_classes, suggest
from earthmind_lab.widgets.talk_rows import TalkRows, mark_rows, talk_row
from tests.session_world import BOX, DATES, OTHER, SIDE, SlowEngine, made_up

WAIT = 20
WATER, DRY = "Segment the water.", "Is it dry?"
INSIDE = (-0.718, 38.102, -0.714, 38.106)


class SeesBySAR(SlowEngine):
    """Marks water only where it is shown SAR."""

    def submit(self, prompt, options=None):
        handle = super().submit(prompt, options)
        if options is not None and options.sensor_off == "sar":
            make = handle._make
            handle._make = lambda: replace(make(), objects=(), text="There is no water here.")
        return handle


@pytest.fixture
def engine():
    slow = SeesBySAR()
    yield slow
    slow.gate.set()


@pytest.fixture
def session(engine, monkeypatch):
    made_up(monkeypatch)
    with Session(engine=engine) as opened:
        opened.draw(BOX)
        opened.search(dates=DATES).result(WAIT)
        opened.choose(0).result(WAIT)
        yield opened


@pytest.fixture
def panel(session, browser):
    panel = ChatPanel(session)
    browser.follow(panel)
    yield panel
    panel.close()


def asked(session, question=WATER):
    session.ask(question).result(WAIT)
    return session.subject().talk[-1]


def panel_area(turn):
    return format_area(sum(each["properties"]["area_m2"] for each in turn.features["features"]))


def rows(session):
    subject = session.subject()
    return [talk_row(subject, turn) for turn in subject.talk]


# --- messages ------------------------------------------------------------------------------------


def test_again_with_other_words_is_a_branch_that_one_leaves_and_finds(browser, panel, session):
    first = asked(session)
    browser.tell(
        panel, {"kind": "again", "turn": first.id, "text": "Is it dry?", "without": None}
    )  # fmt: skip
    browser.wait(lambda: panel.turns and panel.turns[0]["question"] == DRY)
    (row,) = panel.turns
    assert (row["at"], row["of"], row["before"], row["after"]) == (2, 2, first.id, "")
    browser.tell(panel, {"kind": "branch", "turn": row["before"]})
    browser.wait(lambda: panel.turns[0]["question"] == WATER)
    assert (panel.turns[0]["at"], panel.turns[0]["after"]) == (1, row["id"])
    browser.tell(panel, {"kind": "branch", "turn": None})
    browser.wait(lambda: panel.turns == [] and panel.about["earlier"] == row["id"])
    browser.tell(panel, {"kind": "branch", "turn": panel.about["earlier"]})
    browser.wait(lambda: [each["question"] for each in panel.turns] == [DRY])
    assert panel.about["earlier"] == ""


def test_without_a_sensor_the_second_answer_is_compared(browser, panel, session):
    first = asked(session)
    browser.tell(panel, {"kind": "again", "turn": first.id, "text": None, "without": "sar"})
    browser.wait(lambda: panel.turns and panel.turns[0]["compared"])
    (row,) = panel.turns
    assert row["how"] == "without SAR"
    assert row["without"] == []  # a second sensor less leaves none
    assert row["compared"] == {
        "title": "With and without SAR",
        "head": ["marked", "with both", "without SAR", "IoU"],
        "sentences": [
            "Other words with and without SAR.", "Depends on SAR: without it no water is marked.",
        ],
        "rows": [["water", panel_area(first), "none", "0.00"]],
    }  # fmt: skip


def test_the_words_depends_on_stand_in_a_comparison_only(session):
    asked(session)
    session.again(session.subject().talk[0].id, without="sar").result(WAIT)
    (row,) = rows(session)
    assert "epends on" in json.dumps(row["compared"])
    assert "epends on" not in json.dumps({**row, "compared": None})


def test_other_pixels_are_not_compared(session):
    first = asked(session)
    session.again(first.id, without="sar").result(WAIT)
    subject = session.subject()
    record = {**first.record, "chip": {**first.record["chip"], "pixel_hash": "other"}}
    turns = (replace(first, record=record), subject.turns[1])
    moved = replace(subject, turns=turns)
    found = talk_row(moved, turns[1])["compared"]
    assert found["rows"] == []
    (why,) = found["sentences"]
    assert why.startswith("Not compared: the two answers are about other pixels")


def test_a_copy_goes_to_who_asked_and_a_refusal_is_said(browser, panel, session):
    first = asked(session)
    browser.tell(panel, {"kind": "copy", "turn": first.id})
    (code,) = browser.wait(lambda: browser.kind("code"))
    assert code["turn"] == first.id
    compile(code["text"], "copied", "exec")
    browser.tell(panel, {"kind": "copy", "turn": "ask-99"})
    browser.wait(lambda: "Only an answer can be copied" in panel.fault)


def test_regions_go_into_the_question_and_out_of_it(browser, panel, session):
    region = session.mark(INSIDE, "the field")
    browser.wait(lambda: panel.marks)
    assert panel.marks == [{"id": region, "name": "region1", "label": "the field"}]
    asked(session, DRY)
    browser.wait(lambda: panel.turns)
    assert panel.turns[0]["regions"] == ["region1 “the field”"]
    browser.tell(panel, {"kind": "unmark", "region": region})
    browser.wait(lambda: panel.marks == [])
    browser.wait(lambda: panel.turns[0]["regions"] == ["region1"])
    browser.tell(panel, {"kind": "unmark", "region": region})
    browser.wait(lambda: "no region" in panel.fault)


# --- rows ----------------------------------------------------------------------------------------


def test_only_what_can_be_done_is_offered(session):
    asked(session)
    (row,) = rows(session)
    assert (row["again"], row["copies"], row["without"]) == (True, True, ["sar", "optical"])
    session.ask(DRY, regions=[Region(mask=np.ones(SIDE, bool))]).result(WAIT)
    row = rows(session)[-1]
    assert row["regions"] == ["region1, a mask"]
    assert (row["again"], row["copies"], row["without"]) == (False, False, [])
    task = session.ask("Slow?")
    session.cancel()
    assert task.done
    row = rows(session)[-1]
    assert (row["state"], row["again"], row["copies"]) == ("stopped", True, False)
    session.open_picture(np.zeros((32, 32, 3), np.uint8))
    asked(session, DRY)
    (row,) = rows(session)
    assert (row["again"], row["without"]) == (True, [])


def test_rows_are_made_once_and_forgotten_with_their_turn(session):
    made = TalkRows()
    asked(session)
    (first,) = made.of(session.subject())
    asked(session, DRY)
    both = made.of(session.subject())
    assert both[0] is first
    session.again(both[1]["id"]).result(WAIT)
    later = made.of(session.subject())
    assert later[0] is first and later[1]["of"] == 2
    session.branch(None)
    assert made.of(session.subject()) == []
    assert made._held == {}
    assert made.of(None) == mark_rows(None) == []


def test_hostile_names_go_through_as_text(session):
    session.mark(INSIDE, "<img src=x>\ud800")
    asked(session, DRY)
    (row,) = rows(session)
    assert row["regions"] == ["region1 “<img src=x>?”"]
    assert mark_rows(session.subject())[0]["label"] == "<img src=x>?"


# --- faults --------------------------------------------------------------------------------------


def test_what_went_wrong_elsewhere_is_said_when_one_goes_there(
    browser, panel, session, monkeypatch
):
    def stalls(*_, **__):
        raise CatalogUnavailable("The catalog stalls.")

    monkeypatch.setattr("earthmind_lab.data.search.search_candidates", stalls)
    session.draw(OTHER, name="other")
    browser.wait(lambda: panel.about["name"] == "other")
    with pytest.raises(CatalogUnavailable):
        session.search("area 1", dates=DATES).result(WAIT)
    browser.wait(lambda: "area 1" in panel._faults)
    assert panel.fault == ""
    browser.tell(panel, {"kind": "ask", "text": "?"})
    browser.wait(lambda: "No pair of 'other'" in panel.fault)
    session.select("area 1")
    browser.wait(lambda: panel.fault == "The catalog stalls.")
    session.select("other")
    browser.wait(lambda: "No pair of 'other'" in panel.fault)
    session.select("area 1")
    browser.wait(lambda: panel.fault == "The catalog stalls.")
    browser.tell(panel, {"kind": "branch", "turn": None})  # the next command clears it
    browser.wait(lambda: panel.fault == "")
    session.delete("other")
    browser.wait(lambda: panel._faults == {})


def test_a_new_name_changes_neither_key_nor_fault(browser, panel, session):
    session.draw(OTHER, name="other")
    browser.wait(lambda: panel.about["name"] == "other")
    key = panel.about["key"]
    browser.tell(panel, {"kind": "ask", "text": "?"})
    browser.wait(lambda: panel.fault)
    fault = panel.fault
    session.rename("other", "the field")
    browser.wait(lambda: panel.about["name"] == "the field")
    assert (panel.about["key"], panel.fault) == (key, fault)
    session.select("area 1")
    browser.wait(lambda: panel.about["name"] == "area 1" and panel.fault == "")
    assert panel.about["key"] != key
    session.rename("the field", "lake")
    browser.wait(lambda: "lake" in panel._faults)
    session.undo()  # a name that comes back is one, too
    session.select("the field")
    browser.wait(lambda: panel.fault == fault and panel.about["key"] == key)
    session.delete("the field")
    browser.wait(lambda: list(panel._keys) == ["area 1"])


# --- suggestions ---------------------------------------------------------------------------------


def test_suggestions_follow_what_is_loaded_marked_and_asked(browser, panel, session, engine):
    classes = ("water", "trees", "clouds")
    engine.capabilities = replace(engine.capabilities, classes=classes)
    session.mark(INSIDE)
    browser.wait(lambda: panel.suggestions[:1] == ["What is region1?"])
    assert panel.suggestions == [
        "What is region1?", "Describe the scene.", WATER, "What is the main cover?",
        "Are there clouds?",
    ]  # fmt: skip
    session.unmark()
    asked(session)
    browser.wait(lambda: WATER not in panel.suggestions)
    assert "Segment the trees." in panel.suggestions
    assert "What is region1?" not in panel.suggestions
    assert not any("Segment the clouds" in each for each in panel.suggestions)
    session.branch(None)
    browser.wait(lambda: WATER in panel.suggestions)


def test_nothing_is_suggested_that_can_t_be_asked(browser, session):
    panel = ChatPanel(session)
    browser.follow(panel)
    session.draw(OTHER, name="other")
    browser.wait(lambda: panel.suggestions == [])
    panel.close()
    own = ChatPanel(session, suggestions=["Mine?"])
    assert own.suggestions == ["Mine?"]
    own.close()


def test_no_radar_is_asked_about_clouds():
    known = embedded_classes()
    assert "Are there clouds?" in suggest(known, sensors={"optical", "sar"})
    assert "Are there clouds?" not in suggest(known, sensors={"sar"}, most=99)
    assert "Are there clouds?" not in suggest(("water",), sensors={"optical"}, most=99)
    named = {each[len("Segment the ") : -1] for each in suggest(known, sensors={"sar"}, most=99)
             if each.startswith("Segment")}  # fmt: skip
    assert named == set(known) - {"clouds"}


def test_every_suggestion_is_answered_by_the_embedded_model():
    """None of them is among what it says it can't tell."""
    with Session() as session:
        session.open_place("spain")
        session.search().result(60)
        session.choose(0).result(60)
        for question in suggest(embedded_classes(), sensors={"optical", "sar"}):
            assert "can't tell" not in session.ask(question).result(60).text
