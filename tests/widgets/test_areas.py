"""AreaPicker: what is drawn is what the session holds, whoever changed it."""

from __future__ import annotations

import random
import threading

import ipyleaflet
import pytest

from earthmind_lab.session import Session
from earthmind_lab.widgets.areas import ACTIVE, AREA, AreaPicker

HOSTILE = "<img src=x onerror=alert(1)></script>$\\href{javascript:alert(1)}{x}$"


@pytest.fixture
def session():
    with Session() as one:
        yield one


@pytest.fixture
def picker(session):
    one = AreaPicker(session, ipyleaflet.Map(layers=()))
    yield one
    one.close()


def feature(west=15.0, south=45.0, size=0.02, **properties):
    ring = [(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]
    points = [[west + x * size, south + y * size] for x, y in ring]
    geometry = {"type": "Polygon", "coordinates": [points]}
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def browser(picker, event, shape):
    """What the browser sends: the event, then its own list of shapes."""
    picker.tools._handle_leaflet_event(None, {"event": f"draw:{event}", "geo_json": shape}, None)
    name = shape["properties"].get(AREA)
    rest = [each for each in picker.tools.data if each["properties"].get(AREA) != name]
    picker.tools.data = rest if event == "deleted" else [*rest, shape]


def drawn(picker):
    """Name to bounds of what the map shows, and the highlighted names."""
    assert picker.settle(10)
    shapes = picker.tools.data
    names = [shape["properties"][AREA] for shape in shapes]
    assert len(names) == len(set(names))
    lit = [n for n, s in zip(names, shapes, strict=True) if s["properties"]["style"] == ACTIVE]
    corners = {
        name: (min(p[0] for p in points), min(p[1] for p in points))
        for name, shape in zip(names, shapes, strict=True)
        for points in [shape["geometry"]["coordinates"][0]]
    }
    return corners, lit


def held(session):
    return {n: s.aoi.bounds[:2] for n, s in session.subjects.items() if s.aoi is not None}


def agree(picker, session):
    corners, lit = drawn(picker)
    assert corners == held(session)
    assert lit == ([session.active] if session.active in corners else [])
    rows = [row.children[0].description for row in picker.areas.children]
    assert rows == list(session.subjects)


def test_a_place_is_opened_and_flown_to(picker, session):
    picker.place.value = "spain"
    agree(picker, session)
    assert session.active == "spain"
    assert picker.map.center == pytest.approx([38.105, -0.76], abs=1e-3)
    assert "Open water over fields" in picker.why.value
    picker.map.center = [0, 0]
    picker.go.click()
    assert picker.settle(10)
    assert picker.map.center == pytest.approx([38.105, -0.76], abs=1e-3)
    assert len(session.subjects) == 1


def test_a_drawn_rectangle_is_an_area_and_the_map_stays(picker, session):
    center = list(picker.map.center)
    browser(picker, "created", feature())
    agree(picker, session)
    assert session.active == "area 1"
    assert list(picker.map.center) == center


def test_an_edit_replaces(picker, session):
    browser(picker, "created", feature())
    agree(picker, session)
    browser(picker, "edited", feature(west=16.0, **{AREA: "area 1"}))
    agree(picker, session)
    assert held(session) == {"area 1": (16.0, 45.0)}


def test_a_deleted_shape_comes_back_with_undo(picker, session):
    browser(picker, "created", feature())
    agree(picker, session)
    browser(picker, "deleted", feature(**{AREA: "area 1"}))
    agree(picker, session)
    assert not session.subjects
    session.undo()
    agree(picker, session)
    assert held(session) == {"area 1": (15.0, 45.0)}


def test_a_refused_shape_leaves_the_map_and_says_why(picker, session):
    browser(picker, "created", feature(size=3.0))
    agree(picker, session)
    assert not session.subjects
    assert "too large" in picker.message.value
    browser(picker, "created", feature())
    agree(picker, session)
    assert picker.message.value == ""


def test_an_edit_that_is_refused_keeps_the_old_outline(picker, session):
    browser(picker, "created", feature())
    agree(picker, session)
    browser(picker, "edited", feature(size=3.0, **{AREA: "area 1"}))
    agree(picker, session)
    assert held(session) == {"area 1": (15.0, 45.0)}


@pytest.mark.parametrize(
    "shape",
    [
        {"type": "Feature", "properties": {}, "geometry": None},
        {"type": "Feature", "properties": None, "geometry": {"type": "Polygon"}},
        {"type": "Feature", "properties": {}, "geometry": {"type": "Point", "coordinates": [1, 2]}},
        {"type": "Feature", "properties": {},
         "geometry": {"type": "Polygon", "coordinates": [["x", "y"]]}},
    ],
)  # fmt: skip
def test_nonsense_from_the_browser_is_said_in_words(picker, session, shape):
    picker._on_draw(None, "created", shape)
    agree(picker, session)
    assert picker.message.value
    assert not session.subjects


def test_a_shape_on_the_next_copy_of_the_world(picker, session):
    browser(picker, "created", feature(west=375.0))
    assert picker.settle(10)
    assert session.subject().aoi.bounds[0] == pytest.approx(15.0)


def test_an_edit_of_what_another_face_deleted(picker, session):
    browser(picker, "created", feature())
    session.delete("area 1")
    browser(picker, "edited", feature(west=16, **{AREA: "area 1"}))
    agree(picker, session)
    assert "no 'area 1'" in picker.message.value.replace("&#x27;", "'")


@pytest.mark.parametrize("text", ["10,50,10.02,50.02", '{"type": "Point"}', HOSTILE, "", "1,2,3"])
def test_paste(picker, session, text):
    picker.pasted.value = text
    picker.add.click()
    agree(picker, session)
    if text.startswith("10"):
        assert held(session) == {"area 1": (10.0, 50.0)}
        assert picker.map.center == pytest.approx([50.01, 10.01], abs=1e-3)
        assert picker.pasted.value == ""
    else:
        assert not session.subjects
        assert picker.message.value
        assert "<img" not in picker.message.value
        assert picker.pasted.value == text


def test_paste_replaces_the_active_area(picker, session):
    picker.paste("10,50,10.02,50.02", replace=True)
    assert "There is no area yet" in picker.message.value
    picker.paste("10,50,10.02,50.02")
    picker.paste("11,50,11.02,50.02", replace=True)
    agree(picker, session)
    assert held(session) == {"area 1": (11.0, 50.0)}


def test_rows_select_and_delete(picker, session):
    for west in (10, 11, 12):
        session.draw((west, 50, west + 0.02, 50.02))
    agree(picker, session)
    picker.areas.children[0].children[0].click()
    agree(picker, session)
    assert session.active == "area 1"
    assert picker.map.center == pytest.approx([50.01, 10.01], abs=1e-3)
    picker.areas.children[1].children[1].click()
    agree(picker, session)
    assert list(session.subjects) == ["area 1", "area 3"]


def test_hostile_names_stay_text(picker, session):
    session.draw((10, 50, 10.02, 50.02), name=HOSTILE)
    agree(picker, session)
    # A button's description is a text node; it must not be put into HTML either.
    assert picker.areas.children[0].children[0].description == HOSTILE
    assert "<img" not in picker.message.value + picker.why.value


def test_leafmaps_own_draw_tools_make_room_and_come_back(session):
    own = ipyleaflet.DrawControl()
    m = ipyleaflet.Map(layers=())
    m.add(own)
    picker = AreaPicker(session, m)
    assert own not in m.controls
    assert picker.tools in m.controls
    picker.close()
    assert own in m.controls
    assert picker.tools not in m.controls


def test_a_restored_session_is_drawn(session):
    session.draw((10, 50, 10.02, 50.02))
    picker = AreaPicker(session)
    agree(picker, session)
    assert picker.map.center == pytest.approx([50.01, 10.01], abs=1e-3)
    assert "application/vnd.jupyter.widget-view+json" in picker._repr_mimebundle_()
    picker.close()


def test_two_pickers_of_one_session_agree(picker, session):
    other = AreaPicker(session, ipyleaflet.Map(layers=()))
    browser(picker, "created", feature())
    agree(picker, session)
    agree(other, session)
    browser(other, "edited", feature(west=16, **{AREA: "area 1"}))
    agree(other, session)
    agree(picker, session)
    other.close()


@pytest.mark.parametrize("seed", range(12))
def test_any_order_from_two_threads_ends_in_the_sessions_state(picker, session, seed):
    def act(rng):
        for _ in range(12):
            names = list(session.subjects) or ["area 1"]
            name, west = rng.choice(names), rng.randrange(20)
            what = rng.choice(["created", "created", "edited", "edited", "deleted", "undo", "row"])
            if what == "undo":
                session.undo()
            elif what == "row":
                picker._select(name)
            else:
                properties = {} if what == "created" else {AREA: name}
                event = {"event": f"draw:{what}", "geo_json": feature(west=west, **properties)}
                picker.tools._handle_leaflet_event(None, event, None)
                if rng.random() < 0.3:
                    picker.tools.data = [feature(west=west)]  # the browser's own list

    threads = [threading.Thread(target=act, args=(random.Random(seed * 2 + n),)) for n in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    agree(picker, session)
