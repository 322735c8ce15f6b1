"""Session: every command and its inverse, tasks, notes, restarts, hostile input."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from earthmind_lab.aoi import AOI
from earthmind_lab.errors import (
    AOIError,
    Cancelled,
    EarthMindError,
    EngineBusy,
    NoPairFound,
    PromptError,
    SearchError,
)
from earthmind_lab.exchange import Done, Failed, Options
from earthmind_lab.scene import Candidates
from earthmind_lab.session import Session
from earthmind_lab.settings import Settings
from tests.session_world import BOX, DATES, OTHER, SlowEngine, made_up
from tests.stand_in_engine import StandInEngine

WAIT = 20


@pytest.fixture
def engine():
    return SlowEngine()


@pytest.fixture
def session(engine, monkeypatch):
    made_up(monkeypatch)
    with Session(engine=engine) as made:
        yield made


def ready(session, geometry=BOX):
    """An AOI with its chip."""
    name = session.draw(geometry)
    session.search(dates=DATES).result(WAIT)
    session.choose(0).result(WAIT)
    return name


def held(session):
    """All that is visible, as plain data."""
    return [subject.to_dict() for subject in session.subjects.values()], session.active


class Heard:
    """A listener that can be waited for."""

    def __init__(self, session):
        self._notes, self.all = queue.SimpleQueue(), []
        self.stop = session.watch(self._notes.put)

    def until(self, test):
        while not self.all or not test(self.all[-1]):
            self.all.append(self._notes.get(timeout=WAIT))
        return self.all[-1]


# --- commands at once ----------------------------------------------------------------------------


def test_drawn_areas_get_names_and_become_active(session):
    assert [session.draw(BOX), session.draw(OTHER)] == ["area 1", "area 2"]
    assert session.active == "area 2"
    assert session.subject().aoi.name == "area 2"
    assert session.draw(AOI.from_bbox(*BOX, name="x"), name="mine") == "mine"
    assert session.subject("mine").aoi.name == "mine"
    assert [command.kind for command in session.log] == ["draw"] * 3


@pytest.mark.parametrize("name", ["area 1", "", "   ", "n" * 81])
def test_a_name_that_is_taken_or_none_is_refused(session, name):
    session.draw(BOX)
    before = held(session)
    with pytest.raises(AOIError):
        session.draw(OTHER, name=name)
    assert held(session) == before


@pytest.mark.parametrize("command", ["edit", "delete", "select", "search", "choose", "ask"])
def test_an_unknown_subject_is_named(session, command):
    session.draw(BOX)
    arguments = {"edit": ("gone", BOX), "choose": (0, "gone"), "ask": ("What?", "gone")}
    with pytest.raises(AOIError, match=r"'gone'.*'area 1'"):
        getattr(session, command)(*arguments.get(command, ("gone",)))


def test_without_a_subject_it_says_how_to_get_one(session):
    with pytest.raises(AOIError, match="open_place"):
        session.subject()
    assert session.undo() is None
    assert session.cancel() is False


def test_edit_replaces_and_undo_brings_everything_back(session):
    name = ready(session)
    session.ask("Segment the water.").result(WAIT)
    before = held(session)
    session.edit(name, OTHER)
    edited = session.subject(name)
    assert list(session.subjects) == [name]
    assert edited.aoi.bounds == pytest.approx(OTHER)
    assert edited.query is edited.pairs is edited.chosen is session.chip(name) is None
    assert edited.turns == ()
    assert session.undo().kind == "edit"
    assert held(session) == before
    assert session.chip(name) is not None


def test_an_area_that_cannot_be_used_changes_nothing(session, engine):
    name = ready(session)
    task = session.ask("Slow?")
    with pytest.raises(AOIError):
        session.edit(name, (3, 3, 3, 3))
    assert not task.done
    assert session.subject().pairs


def test_delete_and_undo_keep_the_order(session):
    for geometry in (BOX, OTHER, BOX):
        session.draw(geometry)
    before = held(session)
    session.delete("area 2")
    session.delete("area 3")
    assert (list(session.subjects), session.active) == (["area 1"], "area 1")
    session.undo()
    session.undo()
    assert held(session) == before


def test_select_is_undone_and_nothing_twice(session):
    session.draw(BOX)
    session.draw(OTHER)
    session.select("area 1")
    session.select("area 1")
    assert [command.kind for command in session.log] == ["draw", "draw", "select"]
    session.undo()
    assert session.active == "area 2"


def test_a_place_opens_once(session):
    name = session.open_place("spain")
    session.draw(BOX)
    assert session.open_place("spain") == name == session.active == "spain"
    assert list(session.subjects) == ["spain", "area 1"]
    with pytest.raises(SearchError, match="no sample place"):
        session.open_place("atlantis")


def test_a_picture_that_is_kept_is_never_written_again(engine, tmp_path):
    # Another subject's question may be reading it.
    picture = np.full((8, 8, 3), 7, np.uint8)
    with Session(engine=engine, path=tmp_path / "s.json") as session:
        first = Path(session.subject(session.open_picture(picture)).picture)
        before = first.stat()
        second = Path(session.subject(session.open_picture(picture)).picture)
    assert second == first
    assert first.stat().st_ino == before.st_ino and first.stat().st_mtime_ns == before.st_mtime_ns
    assert [each.suffix for each in first.parent.iterdir()] == [".png"]


def test_a_picture_is_asked_about(session, tmp_path):
    name = session.open_picture(np.zeros((16, 16, 3), np.uint8))
    assert session.ask("Segment the water.").result(WAIT).text == "Sure, the water."
    assert session.subject(name).turns[0].features["features"] == []
    for refused in (session.search, lambda: session.choose(0)):
        with pytest.raises(SearchError, match="picture"):
            refused()
    with pytest.raises(AOIError, match="picture"):
        session.edit(name, BOX)
    with pytest.raises(PromptError):
        session.open_picture(tmp_path / "none.png")


# --- commands that take time ---------------------------------------------------------------------


def test_search_choose_ask_and_back(session):
    session.draw(BOX)
    states = [held(session)]
    found = session.search(dates=DATES).result(WAIT)
    states.append(held(session))
    row = session.subject().pairs[0]
    assert (len(found), row.pair["score"], row.ids) == (2, 80.0, ("optical-1", "sar-1"))
    assert "smaller AOI" in row.cost["error"]
    assert [scene["modality"] for scene in row.scenes] == ["optical", "sar"]
    chip = session.choose(0).result(WAIT)
    states.append(held(session))
    assert session.chip() is chip
    answer = session.ask("Segment the water.").result(WAIT)
    turn = session.subject().turns[0]
    assert (turn.state, turn.text, turn.notice) == ("done", answer.text, answer.notice)
    assert turn.features["features"][0]["properties"]["label"] == "water"
    assert turn.record["question"] == "Segment the water."
    assert all(claim["sentence"] for claim in turn.evidence)
    while states:
        session.undo()
        assert held(session) == states.pop()
    assert [command.kind for command in session.log] == ["draw"]


def test_the_model_knows_the_turns_that_hold(session, engine):
    ready(session)
    for question in ("Is it dry?", "And now?", "Third?"):
        session.ask(question).result(WAIT)
    assert [turn.question for turn in engine.prompts[-1].history] == ["Is it dry?", "And now?"]
    session.undo()
    session.undo()
    session.ask("Again?").result(WAIT)
    assert [turn.question for turn in engine.prompts[-1].history] == ["Is it dry?"]


def test_another_pair_makes_turns_stale_until_undone(session, engine):
    ready(session)
    session.ask("Is it dry?").result(WAIT)
    session.choose(1).result(WAIT)
    session.ask("And now?").result(WAIT)
    assert [turn.stale for turn in session.subject().turns] == [True, False]
    assert engine.prompts[-1].history == ()
    session.undo()
    session.undo()
    assert (session.subject().chosen, session.subject().turns[0].stale) == (0, False)


def test_choosing_the_same_pair_again_is_no_command(session):
    ready(session)
    before = session.log
    assert session.choose(0).result(WAIT) is session.chip()
    assert session.log == before


@pytest.mark.parametrize("rank", [-1, 2, True, "0"])
def test_a_rank_out_of_the_table_is_refused(session, rank):
    ready(session)
    with pytest.raises(SearchError, match="0 to 1"):
        session.choose(rank)


def test_what_is_missing_is_said_at_once(session):
    session.draw(BOX)
    with pytest.raises(SearchError, match="dates"):
        session.search()
    with pytest.raises(SearchError, match="name or a path"):
        session.search(dates=DATES, catalog=object())
    with pytest.raises(SearchError, match="not searched"):
        session.choose(0)
    with pytest.raises(PromptError, match="choose a pair"):
        session.ask("What?")
    with pytest.raises(PromptError, match="empty"):
        session.ask(" \n")
    assert [command.kind for command in session.log] == ["draw"]


def test_a_failed_search_leaves_no_trace_but_a_note(session, monkeypatch):
    ready(session)
    before, log = held(session), session.log

    def nothing(*_, **__):
        raise NoPairFound("No pair.", change="max_gap='8 days'")

    monkeypatch.setattr("earthmind_lab.data.search.search_candidates", nothing)
    heard = Heard(session)
    with pytest.raises(NoPairFound):
        session.search(dates=DATES).result(WAIT)
    assert (held(session), session.log) == (before, log)
    assert "8 days" in heard.until(lambda note: note.kind == "error").message


def test_a_failed_ask_is_a_turn_that_says_why(session, monkeypatch):
    ready(session)

    def broken(*_, **__):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("earthmind_lab.conversation.make_record", broken)
    task = session.ask("Segment the water.")
    with pytest.raises(ZeroDivisionError):
        task.result(WAIT)
    turn = session.subject().turns[0]
    assert (turn.state, turn.text.strip()) == ("failed", "Sure, the water.")
    assert "ZeroDivisionError" in turn.message
    assert session.subject().busy is None


def test_stop_is_over_at_once_and_the_next_ask_works(session, engine):
    ready(session)
    task = session.ask("Slow?")
    assert session.subject().busy == "ask"
    with pytest.raises(TimeoutError):
        task.result(0.01)
    assert session.cancel() is True
    assert task.done
    assert session.cancel() is task.cancel() is False
    turn = session.subject().turns[0]
    assert (turn.state, session.subject().busy) == ("stopped", None)
    assert "ask again" in turn.message
    with pytest.raises(Cancelled):
        task.result(WAIT)
    assert session.ask("Is it dry?").result(WAIT).text == "Maybe."
    assert len(session.subject().turns) == 2


def test_one_task_per_subject_and_others_go_on(session, engine):
    name = ready(session)
    first = session.ask("Slow?")
    for second in (lambda: session.ask("What?"), lambda: session.choose(1)):
        with pytest.raises(EngineBusy, match=first.id):
            second()
    ready(session, OTHER)
    assert session.ask("Is it dry?").result(WAIT).text == "Maybe."
    engine.gate.set()
    assert first.result(WAIT).text == "Slowly."
    assert session.subject(name).turns[0].text == "Slowly."


def test_events_are_the_engines_and_end(session):
    ready(session)
    first = session.ask("Is it dry?")
    assert isinstance(list(first.events())[-1], Done)
    first.result(WAIT)  # after the last event comes the evidence
    task = session.ask("Slow?")
    task.cancel()
    assert isinstance(list(task.events())[-1], Failed)
    assert list(session.choose(0).events()) == []


def test_undo_of_a_running_ask_stops_it_without_a_turn(session):
    ready(session)
    before = held(session)
    task = session.ask("Slow?")
    assert session.undo().kind == "ask"
    assert task.done
    assert held(session) == before


@pytest.mark.parametrize("change", ["edit", "delete"])
def test_a_change_while_asking_stops_the_ask_and_loses_nothing(session, engine, change):
    name = ready(session)
    task = session.ask("Slow?")
    assert engine.asked.wait(WAIT)
    session.edit(name, OTHER) if change == "edit" else session.delete(name)
    with pytest.raises(Cancelled):
        task.result(WAIT)
    engine.gate.set()  # what the engine still says belongs to nobody
    session.undo()
    (turn,) = session.subject(name).turns
    assert (turn.state, change in turn.message) == ("stopped", True)
    session.undo()
    assert session.subject(name).turns == ()


def test_a_search_whose_area_goes_is_dropped(session, monkeypatch):
    gate, begun = threading.Event(), threading.Event()

    def slow(*_, **__):
        begun.set()
        assert gate.wait(WAIT)
        return []

    monkeypatch.setattr("earthmind_lab.data.search.search_candidates", slow)
    name = session.draw(BOX)
    task = session.search(dates=DATES)
    assert begun.wait(WAIT)
    session.edit(name, OTHER)
    gate.set()
    with pytest.raises(Cancelled):
        task.result(WAIT)
    assert session.subject().query is None
    assert [command.kind for command in session.log] == ["draw", "edit"]


def test_options_and_regions_reach_the_engine(session, engine):
    ready(session)
    west, south, east, north = session.chip().aoi.bounds
    whole = AOI.from_bbox(west, south, east, north).geometry
    session.ask("What is region1?", regions=[whole], options=Options(seed=4)).result(WAIT)
    assert len(engine.prompts[-1].regions) == 1
    assert session.log[-1].args["options"] == {"seed": 4}
    json.dumps([command.to_dict() for command in session.log])


def test_a_session_is_one_seat_whatever_is_asked_about(session, engine):
    ready(session)
    session.ask("Segment the water.").result(WAIT)
    ready(session, OTHER)
    session.ask("Is it dry?").result(WAIT)
    (seat,) = set(engine.seats)
    assert seat
    with Session(engine=engine) as another:
        ready(another)
        another.ask("Is it dry?", options=Options(seat="mine", seed=4)).result(WAIT)
        assert engine.seats[-1] == "mine"
        assert another.log[-1].args["options"] == {"seed": 4}, "who asked is not kept"
        another.ask("Is it dry?").result(WAIT)
    assert engine.seats[-1] not in ("", "mine", seat)
    kept = [subject.to_dict() for subject in session.subjects.values()]
    assert seat not in json.dumps([kept, [command.to_dict() for command in session.log]])


# --- notes ---------------------------------------------------------------------------------------


def test_notes_tell_the_story_in_order(session):
    heard = Heard(session)
    ready(session)
    task = session.ask("Is it dry?")
    task.result(WAIT)
    heard.until(lambda note: note.what == "turns")
    ask = [note for note in heard.all if note.ask == task.id]
    assert "".join(note.text for note in ask if note.kind == "token") == "Maybe. "
    changed = [note.what for note in heard.all if note.kind == "changed"]
    order = ["subjects", "active", "pairs", "chip", "turns"]
    assert [what for what in dict.fromkeys(changed) if what in order] == order


def test_a_listener_that_raises_breaks_nothing(session, caplog):
    def broken(note):
        raise ValueError("face")

    session.watch(broken)
    heard = Heard(session)
    session.draw(BOX)
    heard.until(lambda note: note.what == "active")
    assert session.active == "area 1"
    assert "A listener failed" in caplog.text


def test_a_listener_may_command_and_can_leave(session):
    heard, seen = Heard(session), []

    def follow(note):
        if note.what == "active" and note.subject == "area 1":
            seen.append(session.draw(OTHER))

    stop = session.watch(follow)
    session.draw(BOX)
    heard.until(lambda note: note.what == "active" and note.subject == "area 2")
    stop()
    stop()
    assert seen == ["area 2"]


def test_after_close_commands_are_refused(session):
    session.draw(BOX)
    session.close()
    session.close()
    for command in (lambda: session.draw(OTHER), session.undo, lambda: session.search(dates=DATES)):
        with pytest.raises(EarthMindError, match="closed"):
            command()


# --- restarts ------------------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path, engine, monkeypatch):
    """Opens one session file, again and again."""
    made_up(monkeypatch)
    settings = Settings(home=tmp_path, device=None, catalog="sample")
    opened = []

    def again(name="default", *, close=True):
        if opened and close:
            opened[-1].close()
        opened.append(Session.open(name, engine=engine, settings=settings))
        return opened[-1]

    yield again
    for each in opened:
        each.close()


def test_a_restart_keeps_all_and_loads_on_need(kept, engine):
    session = kept()
    ready(session)
    session.ask("Segment the water.").result(WAIT)
    session.open_picture(np.full((16, 16, 3), 9, np.uint8))
    before, log = held(session), session.log
    session = kept()
    assert (held(session), session.log, session.messages) == (before, log, ())
    session.ask("And the picture?").result(WAIT)
    assert session.chip("area 1") is None
    session.ask("Is it dry?", "area 1").result(WAIT)
    assert session.chip("area 1") is not None
    assert engine.prompts[-1].history[0].question == "Segment the water."
    while session.undo():
        pass
    assert held(session) == ([], None)


def test_names_and_questions_stay_text(kept):
    hostile, question = "<img src=x onerror=alert(1)> \ud800 \u202e", "<script>alert(1)</script>"
    session = kept()
    session.draw(BOX, name=hostile)
    session.search(dates=DATES).result(WAIT)
    session.choose(0).result(WAIT)
    session.ask(question).result(WAIT)
    session = kept()
    assert session.messages == ()
    assert session.subject(hostile).turns[0].question == question


def test_a_pair_that_left_the_catalog_is_said(kept, monkeypatch):
    session = kept()
    ready(session)
    session = kept()
    nothing = Candidates(pairs=(), rejected=())
    monkeypatch.setattr("earthmind_lab.data.search.search_candidates", lambda *_, **__: nothing)
    with pytest.raises(NoPairFound, match="no longer in the catalog"):
        session.ask("Is it dry?").result(WAIT)
    assert session.subject().turns[0].state == "failed"


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"\xff\xfe", b"[]", b'{"schema": 1}', b'{"schema": "x"}', b"[" * 100_000,
     b'{"schema": 1, "active": "x", "next": 1, "running": [], "log": [], "subjects": []}',
     b'{"schema": 1, "active": null, "next": 1, "running": [], "log": [1], "subjects": []}'],
)  # fmt: skip
def test_a_damaged_file_is_set_aside_and_said(kept, tmp_path, damage):
    path = tmp_path / "sessions" / "default.json"
    path.parent.mkdir()
    for number in (1, 2):
        path.write_bytes(damage)
        session = kept()
        assert "damaged" in session.messages[0]
        assert path.with_name(f"default.damaged-{number}.json").read_bytes() == damage
        assert session.draw(BOX) == "area 1"
        session.close()


def test_a_later_version_is_left_alone(kept, tmp_path):
    path = tmp_path / "sessions" / "default.json"
    path.parent.mkdir()
    path.write_text('{"schema": 99}')
    with pytest.raises(EarthMindError, match="later version"):
        kept()
    assert path.read_text() == '{"schema": 99}'
    assert kept("other").subjects == {}


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "nul\0"])
def test_a_session_name_is_a_file_name(kept, name):
    with pytest.raises(EarthMindError, match="no name"):
        kept(name)


def test_a_cell_that_runs_twice_gets_the_same_session(kept):
    assert kept() is kept(close=False)


def test_a_full_disk_is_said_and_nothing_is_lost(kept, monkeypatch):
    session = kept()
    heard = Heard(session)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.write_text", full)
        session.draw(BOX)
        assert "No space left" in heard.until(lambda note: note.kind == "error").message
    session.draw(OTHER)
    assert list(kept().subjects) == ["area 1", "area 2"]


CHILD = """
import sys
from pathlib import Path
import pytest
from earthmind_lab.session import Session
from earthmind_lab.settings import Settings
from tests.session_world import BOX, DATES, SlowEngine, made_up

made_up(pytest.MonkeyPatch())
engine = SlowEngine()
settings = Settings(home=Path(sys.argv[1]), device=None, catalog="sample")
session = Session.open(engine=engine, settings=settings)
session.draw(BOX)
session.search(dates=DATES).result()
session.choose(0).result()
session.ask("Is it dry?").result()
session.ask("Slow?")
assert engine.asked.wait(60)
print("asking", flush=True)
sys.stdin.read()
"""


def test_a_killed_process_leaves_a_stopped_turn_and_two_do_not_share(kept, tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip
    try:
        assert child.stdout.readline() == "asking\n"
        with pytest.raises(EarthMindError, match=f"another process.*pid {child.pid}"):
            kept()
        assert kept("other").subjects == {}
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait(WAIT)
        child.stdin.close()
        child.stdout.close()
    session = kept()
    done, stopped = session.subject().turns
    assert (done.state, stopped.state, stopped.question) == ("done", "stopped", "Slow?")
    assert "program ended" in stopped.message
    assert "Slow?" in session.messages[0]
    assert session.subject().busy is None
    session.undo()
    assert [turn.question for turn in session.subject().turns] == ["Is it dry?"]


# --- the embedded catalog ------------------------------------------------------------------------


def test_from_a_place_to_features_over_a_restart(tmp_path):
    def corner(shape):
        mask = np.zeros(shape, dtype=bool)
        mask[:20, :20] = True
        return mask

    settings = Settings(home=tmp_path, device=None, catalog="sample")
    engine = StandInEngine({"water": corner})
    with Session.open(engine=engine, settings=settings) as session:
        session.open_place("spain")
        session.search().result(60)
        row = session.subject().pairs[0]
        assert row.cost["reads"] > 0
        assert row.cost["bytes"] > row.cost["width"] * row.cost["height"] > 0
        chip = session.choose(0).result(60)
        assert chip.grid.shape == (row.cost["height"], row.cost["width"])
        session.ask("Segment the water.").result(60)
    with Session.open(engine=engine, settings=settings) as session:
        assert session.chip() is None
        (turn,) = session.subject().turns
        properties = turn.features["features"][0]["properties"]
        assert properties["source"] and properties["observed"]
        session.ask("Segment the water.").result(60)
        first, second = session.subject().turns
        assert first.record["answer_hash"] == second.record["answer_hash"]
        assert second.record["search"]["rank"] == 1
