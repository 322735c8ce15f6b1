"""EarthMap: its parts share one session; answers from Python; sessions that others hold."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from earthmind_lab.conversation import ask
from earthmind_lab.errors import CatalogUnavailable, PromptError
from earthmind_lab.session import Session
from earthmind_lab.widgets.areas import OUTLINES
from earthmind_lab.widgets.basemap import make_map
from earthmind_lab.widgets.map import EarthMap
from tests.session_world import BOX, DATES, OTHER, SlowEngine, made_up
from tests.stand_in_engine import StandInEngine, make_chip, square

PATIENCE = 20.0
# rasterio hides this one from its callers with warnings.catch_warnings, which threads undo for each
# other: here one thread maps an answer while another draws a picture.
pytestmark = [
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
    # leafmap hands its own arguments on to ipyleaflet.
    pytest.mark.filterwarnings("ignore:Passing unrecognized arguments:DeprecationWarning"),
]
ROOT = Path(__file__).parents[2]
HOLD = """
import sys
from earthmind_lab.session import Session
session = Session.open("map")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EARTHMIND_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def open_map():
    """`open_map(session)`: a map on plain ipyleaflet, which imports quickly."""
    came = []

    def open_map(session=None, **options):
        came.append(EarthMap(session, map=make_map(), **options))
        return came[-1]

    yield open_map
    for each in came:
        each.close()
        each.session.close()


@pytest.fixture
def asked(open_map, monkeypatch):
    """A map with one area and one answer."""
    made_up(monkeypatch)
    m = open_map(Session(engine=SlowEngine()))
    m.session.draw(BOX)
    m.session.search(dates=DATES).result(PATIENCE)
    m.session.choose(0).result(PATIENCE)
    m.session.ask("Segment the water.").result(PATIENCE)
    return m


def settled(m):
    assert m.areas.settle(PATIENCE)
    assert m.layers.settle(PATIENCE)
    return m


def names(m):
    return [layer.name for layer in m.map.layers if layer.name != OUTLINES]


def answer_rows(m, count):
    """Those of the panel of layers, which hears of them after the map."""
    deadline = time.monotonic() + PATIENCE
    while len(m.layers.panel.answers) != count:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return m.layers.panel.answers


def answered():
    """An answer made in Python, without any session."""
    water = square((40, 40), (0, 20, 0, 20))
    return ask(make_chip(water=water), "Segment the water.", engine=StandInEngine({"water": water}))


def test_the_parts_share_one_session(asked):
    m = settled(asked)
    parts = (m.areas, m.layers, m.pairs, m.chat)
    assert {id(part.session) for part in parts} == {id(m.session)}
    assert {id(part.map) for part in (m.areas, m.layers)} == {id(m.map)}
    assert names(m) == ["land", "Optical", "SAR", "answer 1"]
    assert [shape["properties"]["area"] for shape in m.areas.tools.data] == ["area 1"]
    m.session.undo()
    settled(m)
    assert names(m) == ["land", "Optical", "SAR"]


def test_show_on_map_flies_to_the_objects_of_that_turn(asked):
    m = settled(asked)
    (turn,) = m.session.subject().turns
    layer = m.layers.turns[turn.id]
    layer.visible = False
    m.map.center = [0, 0]
    m.chat._show_turn(turn.id)
    west, south, east, north = layer.bounds
    assert m.map.center == pytest.approx([(south + north) / 2, (west + east) / 2], abs=1e-4)
    assert layer.visible


def test_a_turn_that_is_gone_moves_nothing(asked):
    m = settled(asked)
    m.map.center = [1, 2]
    m.layers.fit_turn("no such turn")
    assert m.map.center == [1, 2]


def test_show_of_an_answer_that_has_just_come(asked):
    """The click may come before the layer was drawn."""
    m = asked
    m.session.ask("Segment the water.").result(PATIENCE)
    newest = m.session.subject().turns[-1]
    m.layers.fit_turn(newest.id)
    assert m.layers.turns[newest.id].bounds is not None
    assert m.map.zoom > 10


def test_an_answer_from_python_goes_on_the_map(open_map):
    m = settled(open_map(Session(engine=StandInEngine())))
    answer = answered()
    m.add(answer)
    m.add(answered())  # of a cell that ran twice
    m.add(replace(answer, record=replace(answer.record, question="Segment it.")))
    settled(m)
    assert names(m) == ["land", "answer 1", "answer 2"]
    assert m.map.center == pytest.approx([38.1, -0.72], abs=0.1)
    first, second = (turn.id for turn in m.session.subject().talk)
    assert m.layers.turns[first].colour != m.layers.turns[second].colour
    m.layers.set_turn(first, visible=False, overlays=["probability"])
    settled(m)
    assert names(m) == ["land", "probability", "answer 1", "answer 2"]
    assert not m.layers.turns[first].visible
    rows = {row["id"]: row for row in answer_rows(m, 2)}
    assert rows[first]["added"] and rows[second]["added"] and rows[first]["reason"] == ""
    m.session.discard(first)
    settled(m)
    assert names(m) == ["land", "answer 1"]
    m.session.undo()
    settled(m)
    assert names(m)[-2:] == ["answer 1", "answer 2"]
    m.session.draw(BOX)
    settled(m)
    assert names(m) == ["land"]  # they belong to their area


def test_an_answer_from_python_is_there_again_after_a_restart(home, open_map):
    m = settled(open_map())
    m.add(answered())
    (ident,) = m.layers.turns
    m.close()
    m.session.close()
    m = settled(open_map())
    assert list(m.layers.turns) == [ident] and names(m) == ["land", "answer 1"]
    (row,) = answer_rows(m, 1)
    assert row["added"] and "ask again" in row["reason"]


def test_an_answer_about_a_plain_picture_has_no_place(open_map, tmp_path):
    m = open_map(Session(engine=StandInEngine()))
    picture = tmp_path / "picture.png"
    Image.fromarray(np.zeros((32, 32, 3), dtype=np.uint8)).save(picture)
    with pytest.raises(PromptError, match="no place on the map"):
        m.add(ask(picture, "What is this?", engine=StandInEngine()))


def test_a_cell_that_runs_twice_shows_the_same_session(home, open_map):
    first = open_map()
    first.session.draw(BOX)
    second = settled(open_map())
    assert second.session is first.session
    assert second.chat.fault == ""
    assert [shape["properties"]["area"] for shape in second.areas.tools.data] == ["area 1"]


def test_a_session_that_another_process_holds_is_left_alone(home, open_map):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], cwd=ROOT, text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:  # fmt: skip
        assert other.stdout.readline() == "held\n"
        m = open_map()
        m.session.draw(BOX)
        assert f"pid {other.pid}" in m.chat.fault
        assert "'map 2'" in m.chat.fault
        assert (home / "sessions" / "map 2.json").is_file()
        assert not (home / "sessions" / "map.json").exists()
        other.stdin.close()


def test_an_engine_given_with_a_session_answers(open_map):
    engine = StandInEngine()
    assert open_map(Session(), engine=engine).session.engine is engine


def test_closing_leaves_the_map_and_the_session(asked):
    m = settled(asked)
    controls = [type(each).__name__ for each in m.map.controls]
    m.add(answered())
    m.close()
    assert names(m) == ["land"]
    assert len(m.map.controls) == len(controls) - 3
    assert not m.session.closed
    assert m.session.undo() is not None  # nobody is left who would choke on the note


def told(widgets):
    """Those whose state ipywidgets can tell a page that opens."""
    found = set()
    for widget in widgets:
        with contextlib.suppress(AttributeError):  # it holds one that was closed
            widget.get_state()
            found.add(widget)
    return found


def test_closing_leaves_no_widget_that_holds_a_closed_one(asked):
    # One of them, and the page is told of no widget at all.
    from ipywidgets.widgets.widget import _instances

    m = settled(asked)
    before = told(_instances.values())
    assert m.chat in before
    m.close()
    left = before & set(_instances.values())
    assert m.chat not in left
    assert told(left) == left


def becomes(holds):
    """Whether it holds, now or soon."""
    end = time.monotonic() + PATIENCE
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)
    return holds()


def test_a_failed_search_is_said_once_and_where_one_searches(open_map, monkeypatch):
    def stalls(*_, **__):
        raise CatalogUnavailable("The catalog stalls.")

    m = open_map(Session(engine=StandInEngine()))
    m.session.draw(BOX)
    monkeypatch.setattr("earthmind_lab.data.search.search_candidates", stalls)
    with pytest.raises(CatalogUnavailable):
        m.session.search(dates=DATES).result(PATIENCE)
    assert becomes(lambda: m.pairs.fault == "The catalog stalls.")
    m.session.draw(OTHER)
    assert becomes(lambda: m.chat.about["name"] == "area 2")  # by now it has heard of it
    assert (m.chat.fault, m.chat._faults) == ("", {})


def test_only_what_the_next_step_needs_is_unfolded(asked):
    parts = (asked.areas.panel, asked.pairs, asked.timeline, asked.layers.panel, asked.probe)
    assert becomes(lambda: [p.unfolded for p in parts] == [True, False, False, True, False])
    asked.session.draw(OTHER)  # no pixels any more
    assert becomes(lambda: [p.unfolded for p in parts] == [True, True, False, False, False])


def test_what_a_notebook_shows_is_one_panel(open_map):
    m = open_map(Session(engine=StandInEngine()))
    assert "application/vnd.jupyter.widget-view+json" in m._repr_mimebundle_()


def test_the_default_map_is_leafmap_and_asks_nobody(home):
    m = EarthMap()
    assert type(m.map).__module__.startswith("leafmap")
    assert names(m) == ["land"]
    m.close()
    m.session.close()
