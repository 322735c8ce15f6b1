"""Versions of an area, its names and regions, branches of a talk, and the files before them."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from shapely.geometry import box, mapping

from earthmind_lab.data.budget import Budget
from earthmind_lab.errors import AOIError, Cancelled, EngineBusy, PromptError, SearchError
from earthmind_lab.exchange import Options, Region
from earthmind_lab.session import Session
from earthmind_lab.settings import Settings
from tests.session_world import BOX, DATES, OTHER, SIDE, SlowEngine, made_up

WAIT = 20
WATER, DRY = "Segment the water.", "Is it dry?"
INSIDE = (-0.718, 38.102, -0.714, 38.106)


@pytest.fixture
def engine():
    slow = SlowEngine()
    yield slow
    slow.gate.set()


@pytest.fixture
def session(engine, monkeypatch):
    made_up(monkeypatch)
    with Session(engine=engine) as opened:
        yield opened


def ready(session, geometry=BOX):
    """An area with a chosen pair."""
    name = session.draw(geometry)
    session.search(name, dates=DATES).result(WAIT)
    session.choose(0, name).result(WAIT)
    return name


def asked(session, question, **how):
    return session.ask(question, **how).result(WAIT)


def everything(session):
    return {name: subject.to_dict() for name, subject in session.subjects.items()}, session.active


def undo_all(session):
    """Every command back; the log ends empty."""
    while session.undo():
        pass
    assert everything(session) == ({}, None)


# --- versions and names --------------------------------------------------------------------------


def test_an_edit_keeps_what_was_there_as_a_version(session):
    name = ready(session)
    asked(session, WATER)
    first = session.subject()
    session.edit(name, OTHER)
    second = session.subject()
    assert (second.version, second.turns, second.chosen) == (2, (), None)
    assert [each.version for each in second.versions] == [1]
    assert second.versions[0].turns == first.turns

    session.restore(name, 1)
    assert session.subject().talk == first.talk
    assert session.subject().row == first.row
    assert session.chip() is not None
    assert [each.version for each in session.subject().versions] == [2]
    session.edit(name, INSIDE)
    assert session.subject().version == 3
    assert [each.version for each in session.subject().versions] == [1, 2]
    assert [session.undo().kind, session.undo().kind] == ["edit", "restore"]
    assert session.subject() == second
    undo_all(session)


def test_a_version_that_is_not_there_changes_nothing(session, engine):
    name = ready(session)
    task = session.ask("Slow?")
    with pytest.raises(AOIError, match=r"no other version 7.*version 1 alone"):
        session.restore(name, 7)
    with pytest.raises(AOIError, match="no other version 1"):
        session.restore(name, 1)
    assert not task.done


def test_a_restore_stops_what_runs_and_keeps_its_turn(session, engine):
    name = ready(session)
    session.edit(name, BOX)
    session.search(dates=DATES).result(WAIT)
    session.choose(0).result(WAIT)
    task = session.ask("Slow?")
    session.restore(name, 1)
    with pytest.raises(Cancelled):
        task.result(WAIT)
    (later,) = session.subject().versions
    assert [turn.state for turn in later.turns] == ["stopped"]
    assert session.subject().turns == ()


def test_a_new_name_goes_with_area_versions_and_talk(session):
    name = ready(session)
    asked(session, WATER)
    session.edit(name, OTHER)
    before = everything(session)
    session.draw(BOX, name="other")
    session.rename(name, "lake")
    assert list(session.subjects) == ["lake", "other"]
    lake = session.subject("lake")
    assert lake.aoi.name == lake.versions[0].aoi.name == lake.versions[0].name == "lake"
    assert session.active == "other"
    with pytest.raises(AOIError, match="already"):
        session.rename("lake", "other")
    with pytest.raises(AOIError, match="no name"):
        session.rename("lake", "  ")
    assert session.log[-1].kind == "rename"
    session.rename("lake", "lake")
    assert [session.undo().kind, session.undo().kind] == ["rename", "draw"]
    assert everything(session) == before
    undo_all(session)


def test_the_active_area_stays_active_under_its_new_name(session):
    name = session.draw(BOX)
    session.rename(name, "lake")
    assert session.active == session.subject().name == "lake"
    session.undo()
    assert session.active == name


def test_a_name_waits_for_what_runs(session, engine):
    name = ready(session)
    session.ask("Slow?")
    with pytest.raises(EngineBusy, match=r"answer.*stop it"):
        session.rename(name, "lake")


# --- marked regions ------------------------------------------------------------------------------


def test_marked_regions_go_into_the_question_and_can_be_taken_away(session, engine):
    name = ready(session)
    first = session.mark(INSIDE)
    second = session.mark(mapping(box(*BOX)), "the field", name)
    labels = [region.label for region in session.subject().regions]
    assert labels == ["region 1", "the field"]
    asked(session, DRY)
    assert [int(region.mask.sum()) > 0 for region in engine.prompts[-1].regions] == [True, True]
    assert len(session.subject().talk[-1].regions) == 2

    session.unmark(first)
    assert [region.id for region in session.subject().regions] == [second]
    asked(session, DRY)
    assert len(engine.prompts[-1].regions) == 1
    asked(session, DRY, regions=())
    assert engine.prompts[-1].regions == ()
    session.unmark()
    session.unmark()
    assert session.subject().regions == ()
    with pytest.raises(AOIError, match=r"no region 'region-0'.*none"):
        session.unmark("region-0")
    session.edit(name, OTHER)
    undo_all(session)


def test_a_region_has_to_lie_on_the_area(session):
    session.draw(BOX)
    with pytest.raises(AOIError, match="outside 'area 1'"):
        session.mark((3, 3, 3.1, 3.1))
    session.open_picture(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(AOIError, match="picture"):
        session.mark(INSIDE)
    assert [command.kind for command in session.log] == ["draw", "open"]


# --- branches ------------------------------------------------------------------------------------


def questions(session):
    return [turn.question for turn in session.subject().talk]


def test_other_words_are_a_branch_and_the_old_one_stays(session, engine):
    ready(session)
    for question in (WATER, DRY, WATER):
        asked(session, question)
    first, middle, last = session.subject().talk
    session.again(middle.id, "Is it wet?").result(WAIT)
    assert questions(session) == [WATER, "Is it wet?"]
    assert [turn.question for turn in engine.prompts[-1].history] == [WATER]
    other = session.subject().talk[-1]
    assert session.subject().branches(other) == (middle, other)

    asked(session, WATER)
    session.branch(middle.id)
    assert session.subject().talk == (first, middle, last)
    session.branch(first.id)  # at the end of its newest branch
    assert questions(session) == [WATER, "Is it wet?", WATER]
    session.branch(None)
    assert questions(session) == []
    asked(session, DRY)
    assert questions(session) == [DRY]
    assert engine.prompts[-1].history == ()
    assert len(session.subject().turns) == 6
    with pytest.raises(PromptError, match="no turn 'ask-99'"):
        session.branch("ask-99")
    session.undo()
    session.undo()
    assert questions(session) == [WATER, "Is it wet?", WATER]
    undo_all(session)


def test_asked_without_a_sensor_it_names_the_turn_that_had_both(session, engine):
    ready(session)
    session.mark(INSIDE)
    asked(session, WATER)
    (both,) = session.subject().talk
    session.unmark()
    answer = session.again(both.id, without="sar").result(WAIT)
    less = session.subject().talk[-1]
    assert (less.against, less.parent, less.options) == (both.id, None, {"sensor_off": "sar"})
    assert less.regions == both.regions  # those that it was asked about
    assert answer.record.options["sensor_off"] == "sar"
    session.again(less.id).result(WAIT)
    assert session.subject().talk[-1].options == {"sensor_off": "sar"}
    # One that lacked a sensor itself is no answer with both.
    session.again(less.id, without="optical").result(WAIT)
    assert session.subject().talk[-1].against == both.id
    asked(session, DRY, options=Options(sensor_off="sar"))
    session.again(session.subject().talk[-1].id, without="optical").result(WAIT)
    assert session.subject().talk[-1].against is None


def test_what_cannot_be_asked_again_says_why(session):
    ready(session)
    with pytest.raises(PromptError, match="no turn 'ask-1'"):
        session.again("ask-1")
    asked(session, DRY, regions=[Region(mask=np.ones(SIDE, bool))])
    (turn,) = session.subject().talk
    with pytest.raises(PromptError, match=r"masks.*regions="):
        session.again(turn.id)
    with pytest.raises(PromptError, match="empty"):
        session.ask("  ")


def test_who_went_elsewhere_while_the_model_wrote_stays_there(session, engine):
    ready(session)
    asked(session, WATER)
    (first,) = session.subject().talk
    task = session.again(first.id, "Slow?")
    session.branch(first.id)
    engine.gate.set()
    task.result(WAIT)
    assert questions(session) == [WATER]
    assert len(session.subject().turns) == 2
    assert session.undo().kind == "branch"
    assert questions(session) == []  # where the question went on from
    undo_all(session)


# --- searches ------------------------------------------------------------------------------------


def test_the_candidates_of_a_search_have_their_reasons(session):
    name = session.draw(BOX)
    assert session.candidates() is None
    session.search(dates=DATES).result(WAIT)
    found = session.candidates(name)
    assert (len(found.pairs), [each.reason for each in found.rejected]) == (
        2, ["Too far away in time."],
    )  # fmt: skip
    session.edit(name, OTHER)
    assert session.candidates() is None


def test_wishes_go_into_the_search_and_stay_in_the_file(session, monkeypatch):
    name = session.draw(BOX)
    given = {}

    def noted(_, **query):
        given.update(query)
        raise SearchError("Nothing.")

    monkeypatch.setattr("earthmind_lab.data.search.search_candidates", noted)
    wishes = {"around": "2020-06-03", "purpose": "flood", "pin": ["sar-2"], "exclude": "sar-1"}
    with pytest.raises(SearchError):
        session.search(name, **wishes, deadline=7).result(WAIT)
    assert given.pop("budget").seconds == 7
    assert given["dates"] == "2020-05-31/2020-06-06"  # three days on both sides
    assert {key: given[key] for key in wishes} == {**wishes, "exclude": ["sar-1"]}
    for bad in ({"purpose": "war"}, {"around": "noon"}, {"pin": "a", "exclude": "a"}):
        with pytest.raises(SearchError):
            session.search(name, dates=DATES, **bad)


@pytest.mark.parametrize("kind", ["search", "load"])
def test_stopping_ends_the_reading_itself(session, monkeypatch, kind):
    name = ready(session)
    budgets, begun, ended = [], threading.Event(), threading.Event()

    def stalls(*_, budget=None, reader=None, **__):
        budgets.append(budget or reader.budget)
        begun.set()
        try:
            while True:
                budgets[0].check()
                threading.Event().wait(0.01)
        finally:
            ended.set()

    where = {"search": "search.search_candidates", "load": "load.load_chip"}[kind]
    monkeypatch.setattr(f"earthmind_lab.data.{where}", stalls)
    session._shelf._chips.clear()
    task = session.search(name, dates=DATES) if kind == "search" else session.choose(0)
    assert begun.wait(WAIT)
    assert session.cancel()
    assert ended.wait(WAIT)  # the thread doesn't read on
    with pytest.raises(Cancelled):
        task.result(WAIT)


def test_a_share_of_the_time_has_the_same_stop_button():
    whole = Budget(100)
    part = whole.part(1)
    assert (part.seconds, whole.left > part.left) == (1, True)
    whole.cancel()
    with pytest.raises(Cancelled):
        part.check()


# --- files ---------------------------------------------------------------------------------------


@pytest.fixture
def settings(tmp_path, monkeypatch):
    made_up(monkeypatch)
    return Settings(home=tmp_path, device=None, catalog="sample")


def test_all_of_it_is_there_after_a_restart(settings, engine):
    with Session.open("kept", engine=engine, settings=settings) as session:
        name = ready(session)
        session.mark(INSIDE)
        asked(session, WATER)
        session.again(session.subject().head, DRY).result(WAIT)
        session.edit(name, OTHER)
        session.rename(name, "lake")
        before, log = everything(session), session.log
    with Session.open("kept", engine=engine, settings=settings) as session:
        assert (everything(session), session.log, session.messages) == (before, log, ())
        undo_all(session)


def test_a_file_of_the_first_schema_is_read_and_can_be_undone(settings, engine):
    """Written by the version before branches: an area with two turns and one under way, an edit,
    a deleted area with two turns."""
    file = Path(__file__).parent / "golden" / "session_schema_1.json"
    (settings.home / "sessions").mkdir(parents=True)
    shutil.copy(file, settings.home / "sessions" / "old.json")
    with Session.open("old", engine=engine, settings=settings) as session:
        assert len(session.messages) == 1
        assert "'Slow?' on 'area 1'" in session.messages[0]
        assert questions(session) == [WATER, DRY, "Slow?"]
        assert [turn.state for turn in session.subject().talk] == ["done", "done", "stopped"]
        assert [turn.parent for turn in session.subject().turns] == [None, "ask-4", "ask-5"]
        undone = []
        while (command := session.undo()) is not None:
            undone.append(command.kind)
            if command.kind == "delete":
                assert [turn.question for turn in session.subject("gone").talk] == [DRY, WATER]
            if command.kind == "edit":
                assert [turn.question for turn in session.subject("field").talk] == [DRY]
        assert len(undone) == 19
        assert everything(session) == ({}, None)
        ready(session)
    with Session.open("old", engine=engine, settings=settings) as session:
        assert session.messages == ()


@pytest.mark.parametrize(
    "damage",
    [
        {"head": "ask-99"},
        {"turns": "circle"},
        {"version": "two"},
        {"versions": [{}]},
        {"regions": [{"id": "r"}]},
    ],
)
def test_a_damaged_talk_is_set_aside_and_said(settings, engine, damage):
    import json

    with Session.open("hurt", engine=engine, settings=settings) as session:
        ready(session)
        asked(session, WATER)
        asked(session, DRY)
    path = settings.home / "sessions" / "hurt.json"
    data = json.loads(path.read_text())
    subject = data["subjects"][0]
    if damage.get("turns") == "circle":
        subject["turns"][0]["parent"] = subject["turns"][1]["id"]
    else:
        subject.update(damage)
    path.write_text(json.dumps(data))
    with Session.open("hurt", engine=engine, settings=settings) as session:
        assert session.subjects == {}
        assert "damaged" in session.messages[0]
