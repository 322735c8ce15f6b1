"""AreaPanel: each message is one call of the session; files come in pieces and are chosen from."""

from __future__ import annotations

import itertools
import json
import os
import stat

import geopandas
import numpy as np
import pytest
from shapely.geometry import Point, box, mapping

from earthmind_lab.errors import EarthMindError
from earthmind_lab.session import Session
from earthmind_lab.widgets.area_panel import AreaPanel
from earthmind_lab.widgets.area_rows import held_words, limit_words, sees
from earthmind_lab.widgets.areas import AreaPicker
from earthmind_lab.widgets.basemap import make_map
from earthmind_lab.widgets.uploads import MOST_PIECE, PIECE, Uploads
from tests.session_world import BOX, DATES, SlowEngine, made_up

PATIENCE = 20.0
HOSTILE = "<img src=x onerror=alert(1)>"
SQUARES = [box(x, 45, x + 0.02, 45.02) for x in (15.0, 17.0, 19.0)]
BIG = (-0.775, 38.0, -0.6, 38.12)
COUNT = itertools.count()


@pytest.fixture
def session():
    with Session() as one:
        yield one


@pytest.fixture
def panel(session, browser):
    one = AreaPanel(session)
    browser.follow(one)
    yield one
    one.close()


@pytest.fixture
def beside(session, browser):
    """A picker with its map and its panel."""
    one = AreaPicker(session, make_map())
    browser.follow(one.panel)
    yield one
    one.close()


def tell(browser, panel, kind, **fields):
    browser.tell(panel, {"kind": kind, **fields})


def names(panel):
    return [row["name"] for row in panel.areas]


def upload(browser, panel, name, content, piece=PIECE):
    """What the browser does with a file; the id of the upload."""
    ident = f"u{next(COUNT)}"
    tell(browser, panel, "upload", upload=ident, name=name, size=len(content))
    for at in range(0, len(content), piece):
        browser.wait(lambda at=at: {"kind": "received", "upload": ident, "size": at}
                     in browser.messages or _settled(browser, ident))  # fmt: skip
        if _settled(browser, ident):
            return ident
        message = {"kind": "piece", "upload": ident, "at": at}
        panel._handle_custom_msg(message, [memoryview(content[at : at + piece])])
    browser.wait(lambda: _settled(browser, ident))
    return ident


def _settled(browser, ident):
    return {"kind": "settled", "upload": ident} in browser.messages


def kml(names, shapes=SQUARES):
    places = "".join(
        f"<Placemark><name>{name}</name><Polygon><outerBoundaryIs><LinearRing><coordinates>"
        + " ".join(f"{x},{y},0" for x, y in shape.exterior.coords)
        + "</coordinates></LinearRing></outerBoundaryIs></Polygon></Placemark>"
        for name, shape in zip(names, shapes, strict=True)
    )
    return (
        f'<kml xmlns="http://www.opengis.net/kml/2.2"><Document>{places}</Document></kml>'.encode()
    )


def collection(shapes):
    features = [{"type": "Feature", "properties": {"name": name}, "geometry": mapping(shape)}
                for name, shape in shapes]  # fmt: skip
    return json.dumps({"type": "FeatureCollection", "features": features})


# --- rows ----------------------------------------------------------------------------------------


def test_the_list_says_size_and_limit_before_anything_is_read(browser, panel, session):
    session.draw((-0.775, 38.09, -0.745, 38.12), name="small")
    session.draw(BIG, name="big")
    session.draw((-0.9, 38.0, -0.2, 38.6), name="huge")
    session.open_picture(np.zeros((32, 32, 3), dtype=np.uint8), name="picture")
    browser.wait(lambda: len(panel.areas) == 4)
    small, big, huge, picture = panel.areas
    assert small["about"] == "8.76 km², 272 × 341 px at 10 m"
    assert small["hint"] == ""
    assert big["hint"].startswith("Larger than earthmind-nano sees (3.5 km on a side)")
    assert huge["hint"].startswith("Too large to load: a chip has at most 4096 px")
    assert (picture["kind"], picture["about"], picture["hint"]) == ("picture", "plain picture", "")
    assert session.engine is None


def test_the_limit_is_that_of_the_engine_where_there_is_one(session):
    name, most = sees(None)
    assert (name, most) == ("earthmind-nano", 352)
    engine = SlowEngine()
    assert sees(engine) == (engine.capabilities.name, engine.capabilities.max_side_px)
    session.draw(BIG)
    assert limit_words(session.subject().aoi, "x", None) == ""


def test_the_embedded_models_own_limit_is_what_its_file_says():
    from earthmind_lab.engine.loading import load_engine

    engine = load_engine("nano")
    assert sees(engine) == sees(None)


def test_versions_say_what_each_has_and_come_back(browser, panel, session, monkeypatch):
    made_up(monkeypatch)
    session.engine = SlowEngine()
    session.draw(BOX, name="field")
    session.search(dates=DATES).result(PATIENCE)
    assert held_words(session.subject()) == "2 pairs found"
    session.choose(0).result(PATIENCE)
    session.ask("Segment the water.").result(PATIENCE)
    session.edit("field", (-0.73, 38.10, -0.71, 38.11))
    browser.wait(lambda: panel.areas and panel.areas[0]["version"] == 2)
    first, second = panel.areas[0]["versions"]
    assert (first["has"], second["has"]) == ("pair chosen, 1 turn", "outline only")
    tell(browser, panel, "restore", name="field", version=1)
    browser.wait(lambda: panel.areas[0]["version"] == 1)
    assert len(session.subject().turns) == 1
    tell(browser, panel, "undo")
    browser.wait(lambda: panel.areas[0]["version"] == 2)
    tell(browser, panel, "restore", name="field", version=9)
    browser.wait(lambda: "no other version 9" in panel.fault)


# --- commands ------------------------------------------------------------------------------------


def test_box_square_and_paste(browser, panel, session):
    edges = {"west": 10, "south": 50, "east": 10.02, "north": 50.02}
    tell(browser, panel, "box", **edges, replace=False)
    browser.wait(lambda: names(panel) == ["area 1"])
    tell(browser, panel, "square", lat=38.1, lon=-0.76, km=3, replace=False)
    browser.wait(lambda: names(panel) == ["area 1", "area 2"])
    assert session.subject().aoi.area_km2 == pytest.approx(9, rel=0.01)
    tell(browser, panel, "paste", text="11,50,11.02,50.02", replace=True)
    browser.wait(lambda: panel.areas[1]["version"] == 2)
    assert session.subject().aoi.bounds[0] == 11.0
    tell(browser, panel, "box", **{**edges, "east": 9}, replace=False)
    browser.wait(lambda: "west > east" in panel.fault)
    for text in ("1,2,3", "", HOSTILE, '{"type": "Point"}'):
        tell(browser, panel, "paste", text=text, replace=False)
    tell(browser, panel, "paste", text="12,50,12.02,50.02", replace=False)
    browser.wait(lambda: len(panel.areas) == 3)
    browser.wait(lambda: panel.fault == "")
    assert [c.kind for c in session.log] == ["draw", "draw", "edit", "draw"]


def test_replacing_nothing_is_said(browser, panel):
    tell(browser, panel, "paste", text="10,50,10.02,50.02", replace=True)
    browser.wait(lambda: "no area yet" in panel.fault)


def test_select_rename_delete_and_place(browser, panel, session):
    for west in (10, 11):
        session.draw((west, 50, west + 0.02, 50.02))
    tell(browser, panel, "select", name="area 1")
    browser.wait(lambda: panel.active == "area 1")
    tell(browser, panel, "rename", name="area 1", new=f" {HOSTILE} ")
    browser.wait(lambda: names(panel) == [HOSTILE, "area 2"])
    assert panel.active == HOSTILE
    tell(browser, panel, "rename", name="area 2", new=HOSTILE)
    browser.wait(lambda: "There is" in panel.fault)
    tell(browser, panel, "delete", name=HOSTILE)
    browser.wait(lambda: names(panel) == ["area 2"])
    tell(browser, panel, "place", place="spain")
    browser.wait(lambda: panel.active == "spain")
    assert {place["name"] for place in panel.places} >= {"spain", "chile"}
    tell(browser, panel, "place", place="nowhere")
    browser.wait(lambda: "no sample place" in panel.fault)


def test_without_a_map_view_and_mode_are_refused_in_words(browser, panel, session):
    assert panel.about["map"] is False
    session.draw(BOX)
    for kind, fields in (("view", {"replace": False}), ("mode", {"mode": "region"})):
        tell(browser, panel, kind, **fields)
        browser.wait(lambda: "no map beside this list" in panel.fault)
        tell(browser, panel, "select", name="area 1")
        browser.wait(lambda: panel.fault == "")
    tell(browser, panel, "ask", text="What?")
    browser.wait(lambda: browser.said("nothing to ask"))


def test_beside_a_map_the_view_the_mode_and_the_regions(browser, beside, session):
    panel = beside.panel
    browser.wait(lambda: panel.about["map"] is True)
    for side, value in (("west", 10.0), ("east", 10.03), ("south", 50.0), ("north", 50.02)):
        beside.map.set_trait(side, value)
    tell(browser, panel, "view", replace=False)
    browser.wait(lambda: names(panel) == ["area 1"])
    tell(browser, panel, "mode", mode="region")
    browser.wait(lambda: panel.mode == "region")
    assert beside.mode == "region"
    session.mark((10.01, 50.005, 10.015, 50.01), "pond")
    browser.wait(lambda: [each["label"] for each in panel.regions] == ["pond"])
    assert panel.regions[0]["about"].endswith("km²")
    tell(browser, panel, "unmark", region=panel.regions[0]["id"])
    browser.wait(lambda: panel.regions == [])
    beside.map.center = [0, 0]
    tell(browser, panel, "select", name="area 1")
    browser.wait(lambda: browser.said("") and beside.settle(10) and beside.map.center != [0, 0])


# --- files ---------------------------------------------------------------------------------------


def test_a_file_with_three_areas_is_chosen_from(browser, panel, session):
    ident = upload(
        browser, panel, "C:\\fields\\fields.KML", kml(["a", HOSTILE.replace("<", "&lt;"), "c"])
    )
    browser.wait(lambda: panel.choice)
    assert not session.subjects
    assert panel.choice["file"] == "fields.KML"
    assert [row["name"] for row in panel.choice["rows"]] == ["a", HOSTILE, "c"]
    assert browser.said("fields.KML holds 3 areas: choose.")
    tell(browser, panel, "take", upload=ident, features=[0, 2])
    browser.wait(lambda: names(panel) == ["a", "c"])
    browser.wait(lambda: panel.choice == {})
    tell(browser, panel, "take", upload=ident, features=[1])
    browser.wait(lambda: "not here any more" in panel.fault)
    # The same file again: names that are taken get a number.
    again = upload(browser, panel, "fields.kml", kml(["a", "b", "c"]))
    tell(browser, panel, "take", upload=again, features=[0, 1, 2])
    browser.wait(lambda: names(panel) == ["a", "c", "a 2", "b", "c 2"])


def test_a_file_with_one_area_is_added_at_once(browser, panel):
    upload(browser, panel, "lake.geojson", collection([(None, SQUARES[0])]).encode(), piece=100)
    browser.wait(lambda: names(panel) == ["lake"])
    assert panel.choice == {}
    assert not any(panel._uploads._files)


def test_what_makes_no_area_says_why_and_takes_nothing(browser, panel, session):
    shapes = [("spot", Point(1, 2)), ("field", SQUARES[0])]
    ident = upload(browser, panel, "mixed.json", collection(shapes).encode())
    browser.wait(lambda: panel.choice)
    assert "no area" in panel.choice["rows"][0]["refused"]
    for features in ([], [1, 0], [5]):
        tell(browser, panel, "take", upload=ident, features=features)
        browser.wait(lambda: panel.fault)
        tell(browser, panel, "hello")
    assert not session.subjects
    tell(browser, panel, "drop", upload=ident)
    browser.wait(lambda: panel.choice == {})
    assert not any(panel._uploads._files)


def test_layers_of_a_geopackage_are_chosen_by_name(browser, panel, tmp_path):
    path = tmp_path / "two.gpkg"
    frame = geopandas.GeoDataFrame({"name": ["a", "b", "c"]}, geometry=SQUARES, crs=4326)
    frame.to_crs(3857).to_file(path, layer="fields")
    frame.iloc[:1].to_file(path, layer="lakes")
    ident = upload(browser, panel, "two.gpkg", path.read_bytes(), piece=20_000)
    browser.wait(lambda: panel.choice)
    assert (panel.choice["layer"], panel.choice["layers"]) == ("fields", ["fields", "lakes"])
    tell(browser, panel, "layer", upload=ident, layer="lakes")
    browser.wait(lambda: panel.choice["layer"] == "lakes")
    assert len(panel.choice["rows"]) == 1
    tell(browser, panel, "take", upload=ident, features=[0])
    browser.wait(lambda: names(panel) == ["a"])


def test_a_pasted_collection_is_chosen_from_too(browser, panel):
    text = collection([("a", SQUARES[0]), ("b", SQUARES[1])])
    tell(browser, panel, "paste", text=text, replace=False)
    browser.wait(lambda: panel.choice)
    tell(browser, panel, "take", upload=panel.choice["upload"], features=[0, 1])
    browser.wait(lambda: names(panel) == ["a", "b"])


@pytest.mark.parametrize(
    ("name", "content", "say"),
    [
        ("a.kml", b"<OGRVRTDataSource/>", "holds no geometry"),
        ("a.gpkg", b"no database", "is no GeoPackage"),
        ("a.vrt", b"<OGRVRTDataSource/>", "in no format"),
        ("S2.TIF", b"II*", "drop it under “Your own files”"),
        ("/vsicurl/http://127.0.0.1/x", b"x", "in no format"),
        ("a.kml", b"", "can't be taken"),
    ],
)
def test_a_file_that_is_none_is_refused_and_forgotten(browser, panel, name, content, say):
    upload(browser, panel, name, content)
    browser.wait(lambda: say in panel.fault)
    assert not any(panel._uploads._files)


def test_a_cancelled_upload_leaves_nothing(browser, panel):
    tell(browser, panel, "upload", upload="u", name="a.kml", size=100)
    panel._handle_custom_msg({"kind": "piece", "upload": "u", "at": 0}, [b"<kml"])
    browser.wait(lambda: {"kind": "received", "upload": "u", "size": 4} in browser.messages)
    path = panel._uploads._files["u"].path
    assert path.is_file()
    tell(browser, panel, "drop", upload="u")
    browser.wait(lambda: _settled(browser, "u"))
    assert not path.exists()
    panel._handle_custom_msg({"kind": "piece", "upload": "u", "at": 4}, [b"rest"])
    browser.wait(lambda: "not awaited" in panel.fault)


def test_a_closed_panel_leaves_no_files(browser, session):
    panel = AreaPanel(session)
    tell(browser, panel, "upload", upload="u", name="a.kml", size=100)
    browser.wait(lambda: browser.kind("received"))
    folder = panel._uploads._files["u"].path.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    panel.close()
    panel.close()
    assert not folder.exists()


# --- Uploads -------------------------------------------------------------------------------------


@pytest.fixture
def uploads():
    one = Uploads((".kml",), most=3 * MOST_PIECE)
    yield one
    one.close()


@pytest.mark.parametrize(
    "name", ["../../etc/cron.kml", "a/../../b.kml", "..\\b.kml", "\x00.kml", "x" * 300 + ".kml"]
)
def test_a_files_name_never_reaches_a_path(uploads, name):
    uploads.begin("u", name, 4)
    held = uploads.add("u", 0, b"four")
    assert held.path.name == "upload-1.kml"
    assert held.done
    if os.name == "posix":
        assert stat.S_IMODE(held.path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("at", "piece"), [(1, b"x"), (0, b""), (0, b"x" * (MOST_PIECE + 1)), (0, b"x" * 11)]
)
def test_pieces_that_do_not_fit_end_the_upload(uploads, at, piece):
    uploads.begin("u", "a.kml", 10 if len(piece) < 12 else 2 * MOST_PIECE)
    with pytest.raises(EarthMindError, match="don't fit"):
        uploads.add("u", at, piece)
    with pytest.raises(EarthMindError, match="not awaited"):
        uploads.add("u", 0, b"x")


def test_limits_of_files(uploads):
    with pytest.raises(EarthMindError, match=r"too large.*3 MB"):
        uploads.begin("u", "a.kml", 3 * MOST_PIECE + 1)
    for number in range(9):
        uploads.begin(f"u{number}", "a.kml", 5)
    assert len(uploads._files) == 4
    with pytest.raises(EarthMindError, match="not awaited"):
        uploads.add("u0", 0, b"x")
