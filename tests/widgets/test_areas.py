"""AreaPicker: what is drawn is what the session holds, whoever changed it."""

from __future__ import annotations

import contextlib
import random
import threading
import time

import ipyleaflet
import pytest

from earthmind_lab.errors import AOIError
from earthmind_lab.session import Session
from earthmind_lab.widgets.areas import ACTIVE, AREA, MARKED, REGION, AreaPicker


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


def until(holds):
    """The panel has a thread of its own."""
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def fault(picker, words):
    until(lambda: words in picker.panel.fault if words else not picker.panel.fault)


def held(session):
    return {n: s.aoi.bounds[:2] for n, s in session.subjects.items() if s.aoi is not None}


def agree(picker, session):
    corners, lit = drawn(picker)
    assert corners == held(session)
    assert lit == ([session.active] if session.active in corners else [])
    until(lambda: [row["name"] for row in picker.panel.areas] == list(session.subjects))
    until(lambda: picker.panel.active == (session.active or ""))


def test_a_place_is_opened_and_flown_to(picker, session):
    assert picker.open_place("spain") == "spain"
    agree(picker, session)
    assert session.active == "spain"
    assert picker.map.center == pytest.approx([38.105, -0.76], abs=1e-3)
    picker.map.center = [0, 0]
    picker.open_place("spain")
    assert picker.settle(10)
    assert picker.map.center == pytest.approx([38.105, -0.76], abs=1e-3)
    assert len(session.subjects) == 1


def test_a_drawn_rectangle_is_an_area_and_the_map_stays(picker, session):
    center = list(picker.map.center)
    browser(picker, "created", feature())
    agree(picker, session)
    assert session.active == "area 1"
    assert list(picker.map.center) == center
    # Afterwards a click on its row goes there, as on any other.
    picker.select("area 1")
    assert picker.settle(10)
    assert picker.map.center == pytest.approx([45.01, 15.01], abs=1e-3)


def test_what_was_drawn_is_never_flown_to_whoever_draws_first(picker, session):
    """The note of the new area may be drawn before the command that made it returns."""
    center, draw = list(picker.map.center), session.draw

    def slow(geometry, name=None):
        found = draw(geometry, name)
        picker._later.ask()
        time.sleep(0.2)
        return found

    session.draw = slow
    browser(picker, "created", feature())
    agree(picker, session)
    assert list(picker.map.center) == center
    session.draw((10, 50, 10.02, 50.02))
    assert picker.settle(10)
    assert picker.map.center == pytest.approx([50.01, 10.01], abs=1e-3)


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
    fault(picker, "too large")
    browser(picker, "created", feature())
    agree(picker, session)
    fault(picker, "")


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
    until(lambda: picker.panel.fault)
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
    fault(picker, "no 'area 1'")


def test_a_hole_can_be_edited_and_several_parts_are_shown_beside_the_tools(picker, session):
    hole = feature()
    ring = [[15.005, 45.005], [15.015, 45.005], [15.015, 45.015], [15.005, 45.005]]
    hole["geometry"]["coordinates"].append(ring)
    browser(picker, "created", hole)
    two = [feature()["geometry"]["coordinates"], feature(west=15.1)["geometry"]["coordinates"]]
    session.draw({"type": "MultiPolygon", "coordinates": two}, name="two")
    assert picker.settle(10)
    (shape,) = picker.tools.data
    assert len(shape["geometry"]["coordinates"]) == 2
    (beside,) = picker.outlines.data["features"]
    assert beside["properties"] == {AREA: "two", "style": ACTIVE}
    until(lambda: [bool(row["note"]) for row in picker.panel.areas] == [False, True])
    # An edit of the outline keeps the hole; one that runs through it is refused.
    moved = feature(size=0.03, **{AREA: "area 1"})
    moved["geometry"]["coordinates"].append(ring)
    browser(picker, "edited", moved)
    assert len(session.subject("area 1").aoi.geometry.interiors) == 1
    crossed = feature(size=0.01, **{AREA: "area 1"})
    crossed["geometry"]["coordinates"].append(ring)
    browser(picker, "edited", crossed)
    fault(picker, "crosses itself")
    assert session.subject("area 1").version == 2


def test_in_region_mode_a_shape_is_a_region_of_the_active_area(picker, session):
    browser(picker, "created", feature())
    picker.mode = "region"
    until(lambda: picker.panel.mode == "region")
    browser(picker, "created", feature(west=15.005, size=0.005))
    assert picker.settle(10)
    assert list(session.subjects) == ["area 1"]
    (region,) = session.subject().regions
    assert [shape["properties"].get(AREA) for shape in picker.tools.data] == ["area 1"]
    (drawn_,) = picker.outlines.data["features"]
    assert drawn_["properties"] == {REGION: region.id, "label": "region 1", "style": MARKED}
    until(lambda: [each["label"] for each in picker.panel.regions] == ["region 1"])
    browser(picker, "created", feature(west=17))
    fault(picker, "outside 'area 1'")
    # Another area has its own regions; undo takes one back.
    session.draw((10, 50, 10.02, 50.02))
    assert picker.settle(10)
    assert picker.outlines.data["features"] == []
    session.undo()
    session.undo()
    assert picker.settle(10)
    assert session.subject().regions == ()
    picker.mode = "area"
    browser(picker, "created", feature(west=15.005, size=0.005))
    agree(picker, session)
    assert list(session.subjects) == ["area 1", "area 2"]


def test_a_region_without_an_area_is_refused_in_words(picker, session):
    picker.mode = "region"
    browser(picker, "created", feature())
    fault(picker, "no area yet")
    with pytest.raises(AOIError, match="area or region"):
        picker.mode = "line"


def test_the_maps_view_is_an_area(picker, session):
    with pytest.raises(AOIError, match="not on a screen"):
        picker.take_view()
    for west, turn in ((10.0, 0), (10.0, 360), (10.0, -720)):
        for side, value in (("west", west + turn), ("east", west + turn + 0.03),
                            ("south", 50.0), ("north", 50.02)):  # fmt: skip
            picker.map.set_trait(side, value)
        center = list(picker.map.center)
        name = picker.take_view()
        assert picker.settle(10)
        assert session.subject(name).aoi.bounds == pytest.approx((10.0, 50.0, 10.03, 50.02))
        assert list(picker.map.center) == center
    picker.take_view(replace=True)
    assert session.subject().version == 2
    picker.map.set_trait("west", -712.0)
    with pytest.raises(AOIError, match=r"shows too much.*zoom in"):
        picker.take_view()


def test_selecting_flies_there_again(picker, session):
    for west in (10, 11, 12):
        session.draw((west, 50, west + 0.02, 50.02))
    agree(picker, session)
    for _ in range(2):
        picker.map.center = [0, 0]
        picker.select("area 1")
        agree(picker, session)
        assert picker.map.center == pytest.approx([50.01, 10.01], abs=1e-3)
    with pytest.raises(AOIError):
        picker.select("area 9")


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
    assert not m.layers


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


def suppressed(act, *given):
    with contextlib.suppress(AOIError):  # another thread may have deleted it
        act(*given)


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
                suppressed(picker.select, name)
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
