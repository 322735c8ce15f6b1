"""What a session takes home: each kind of file, after a restart, and where it can't be written."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import geopandas
import numpy as np
import pytest
import rasterio
from PIL import Image

from earthmind_lab.answer import COLUMNS
from earthmind_lab.errors import AOIError, Cancelled, EarthMindError, EngineBusy, PromptError
from earthmind_lab.record import Record
from earthmind_lab.sampling_points import estimate_area
from earthmind_lab.session import Session
from earthmind_lab.stac_items import STAC_FILES
from tests.session_world import BOX, DATES, SlowEngine, made_up
from tests.stand_in_engine import StandInEngine, square
from tests.tiny_catalog import AOI as PLACE
from tests.tiny_catalog import DATES as PLACE_DATES
from tests.tiny_catalog import write_catalog

WAIT, WATER = 60, "Segment the water."
VECTORS = (".geojson", ".gpkg", ".parquet")


@pytest.fixture
def engine():
    slow = SlowEngine()
    yield slow
    slow.gate.set()


@pytest.fixture
def session(engine, monkeypatch, tmp_path):
    """One answer about made-up pixels, kept in a file."""
    made_up(monkeypatch)
    with Session(engine=engine, path=tmp_path / "kept.json") as opened:
        opened.draw(BOX)
        opened.search(dates=DATES).result(WAIT)
        opened.choose(0).result(WAIT)
        opened.ask(WATER).result(WAIT)
        yield opened


@pytest.fixture
def turn(session):
    return session.subject().turns[0].id


def restarted(session, tmp_path):
    """The session of the file in what stands for a new process: nothing in memory."""
    session.close()
    return Session(engine=session.engine, path=tmp_path / "kept.json")


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def rows(path):
    read = geopandas.read_parquet if path.suffix == ".parquet" else geopandas.read_file
    return read(path)


# --- features ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", VECTORS)
def test_features_are_the_same_after_a_restart(session, turn, tmp_path, ending):
    made = session.export(turn, tmp_path / "out" / f"water{ending}")
    frame, answer = rows(made), session.answer(turn)
    assert set(frame.columns) == {*COLUMNS, "geometry"}
    assert list(frame.label) == [each.label for each in answer.detections] == ["water"]
    assert frame.area_m2[0] == round(answer.detections[0].area_m2, 1)
    assert frame.crs == "EPSG:4326"
    exact = answer.detections[0].geometry.normalize()
    assert frame.geometry[0].normalize().equals_exact(exact, 1e-6)
    assert files(tmp_path / "out") == [f"water{ending}"]
    with restarted(session, tmp_path) as again:
        assert again.answer(turn) is None
        late = rows(again.export(turn, tmp_path / "late" / f"water{ending}"))
    assert late.equals(frame)


def test_geojson_is_what_the_answer_saves(session, turn, tmp_path):
    made = session.export(turn, tmp_path / "made.geojson")
    saved = session.answer(turn).save(tmp_path / "saved.geojson")
    assert json.loads(made.read_text("utf-8")) == json.loads(saved.read_text("utf-8"))


def test_an_answer_that_marks_nothing_is_an_empty_table(session, tmp_path):
    session.ask("Is it dry?").result(WAIT)
    dry = session.subject().talk[-1].id
    for ending in VECTORS:
        frame = rows(session.export(dry, tmp_path / f"dry{ending}"))
        assert len(frame) == 0
    with pytest.raises(EarthMindError, match="marks nothing"):
        session.export(dry, tmp_path / "dry.tif", probability=True)


# --- what needs the masks ------------------------------------------------------------------------


def test_rasters(session, turn, tmp_path):
    with rasterio.open(session.export(turn, tmp_path / "mask.tif")) as mask:
        assert mask.descriptions == ("class", "object")
        assert mask.tags()["answer_hash"] == session.answer(turn).record.answer_hash
        marked = mask.read(1) == 1
    with rasterio.open(session.export(turn, tmp_path / "p.tif", probability=True)) as sure:
        assert sure.descriptions == ("water",)
        assert sure.tags()["question"] == WATER
        share = sure.read(1)
        assert sure.transform == session.answer(turn).grid.affine
    inside = ~np.isnan(share)
    assert 0 <= np.nanmin(share) <= np.nanmax(share) <= 1
    assert (share[marked] > 0.5).all() and (share[inside & ~marked] <= 0.5).all()


def test_a_stac_item_lies_with_its_assets(session, turn, tmp_path):
    item = session.save_stac(turn, tmp_path / "item")
    assert files(tmp_path / "item") == sorted(STAC_FILES)
    found = json.loads(item.read_text("utf-8"))
    assert found["properties"]["earthmind:question"] == WATER


def test_points_to_label_give_an_area(session, turn, tmp_path):
    path = session.sample_points(turn, tmp_path / "points.gpkg", n=40, seed=3)
    points = geopandas.read_file(path)
    assert len(points) == 40 and set(points.stratum) == {"water", "background"}
    assert (points.reference.isna() | (points.reference == "")).all()
    points["reference"] = points.stratum
    assert estimate_area(points)["water"].users == 1
    again = session.sample_points(turn, tmp_path / "again.parquet", n=40, seed=3)
    assert list(rows(again).lon) == pytest.approx(list(points.lon))
    as_json = rows(session.sample_points(turn, tmp_path / "p.geojson", n=40, seed=3))
    assert list(as_json.stratum) == list(points.stratum)
    with pytest.raises(EarthMindError, match=r"points.csv.*geojson"):
        session.sample_points(turn, tmp_path / "points.csv", n=40)


def test_after_a_restart_what_needs_the_masks_says_ask_again(session, turn, tmp_path):
    with restarted(session, tmp_path) as again:
        for make in (
            lambda path: again.export(turn, path / "mask.tif"),
            lambda path: again.export(turn, path / "p.tif", probability=True),
            lambda path: again.save_stac(turn, path / "item"),
            lambda path: again.sample_points(turn, path / "points.gpkg", n=40),
        ):
            with pytest.raises(PromptError, match=r"no longer in memory.*ask the question again"):
                make(tmp_path / "out")
        assert not (tmp_path / "out").exists()
        again.again(turn).result(WAIT)
        new = again.subject().head
        assert again.export(new, tmp_path / "mask.tif").is_file()


def test_an_undone_cut_leaves_the_file_of_the_turn(session, turn, tmp_path):
    first = session.answer(turn).record.answer_hash
    session.set_threshold(turn, 0.9)
    cut = session.answer(turn).record.answer_hash
    session.undo()
    assert session.subject().turn(turn).record["answer_hash"] == first
    with rasterio.open(session.export(turn, tmp_path / "mask.tif")) as mask:
        assert mask.tags()["answer_hash"] == first
    assert session.answer(turn).record.answer_hash == cut  # nothing was changed


# --- what needs the record alone -----------------------------------------------------------------


def test_record_references_and_report_after_a_restart(session, turn, tmp_path):
    record = session.answer(turn).record
    said = str(session.cite(turn))
    assert said == str(session.answer(turn).cite()) and record.answer_hash in said
    with restarted(session, tmp_path) as again:
        assert str(again.cite(turn)) == said
        assert Record.load(again.save_record(turn, tmp_path / "r.json")) == Record.from_dict(
            again.subject().turn(turn).record
        )
        assert record.answer_hash in again.report(tmp_path / "r.html").read_text("utf-8")


def test_a_picture_has_a_record_and_no_place(engine, tmp_path):
    Image.fromarray(np.full((32, 32, 3), 90, np.uint8)).save(tmp_path / "picture.png")
    with Session(engine=engine) as session:
        session.open_picture(tmp_path / "picture.png")
        session.ask("Is it dry?").result(WAIT)
        turn = session.subject().head
        for name in "a.geojson", "a.tif":
            with pytest.raises(PromptError, match="plain picture has no place"):
                session.export(turn, tmp_path / name)
        assert session.save_record(turn, tmp_path / "r.json").is_file()
        assert "plain picture" in session.cite(turn).methods


# --- refusals ------------------------------------------------------------------------------------


def test_what_is_no_answer_says_so(session, engine, tmp_path):
    task = session.ask("Slow?")
    assert engine.asked.wait(WAIT)
    task.cancel()
    engine.gate.set()
    stopped = session.subject().head
    for ident, found in ((stopped, "a turn without one"), ("ask-99", "no such turn")):
        for make in (
            lambda ident: session.export(ident, tmp_path / "a.geojson"),
            session.cite,
            session.replay,
            lambda ident: session.save_record(ident, tmp_path / "a.json"),
        ):
            with pytest.raises(PromptError, match=f"no answer {ident!r}.*{found}"):
                make(ident)
    with pytest.raises(AOIError):
        session.cite(stopped, "nobody")
    assert not list(tmp_path.glob("a.*"))


def test_endings(session, turn, tmp_path):
    with pytest.raises(EarthMindError, match=r"'a.shp'.*\.geojson, \.gpkg, \.parquet"):
        session.export(turn, tmp_path / "a.shp")
    with pytest.raises(PromptError, match=r"raster.*\.tif"):
        session.export(turn, tmp_path / "a.gpkg", probability=True)
    with pytest.raises(PromptError, match="no name of a notebook"):
        session.notebook(tmp_path / "a.py")
    assert not list(tmp_path.glob("a.*"))


KINDS = {
    "a.geojson": Session.export, "a.gpkg": Session.export, "a.parquet": Session.export,
    "a.tif": Session.export, "r.json": Session.save_record, "item": Session.save_stac,
    "report.html": lambda session, _, path: session.report(path),
    "talk.ipynb": lambda session, _, path: session.notebook(path),
    "points.gpkg": lambda session, turn, path: session.sample_points(turn, path, 40),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_a_target_that_cannot_be_written_stays_as_it_was(session, turn, tmp_path, name):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(EarthMindError, match="can't be written"):
        KINDS[name](session, turn, tmp_path / "file" / "under" / name)
    taken = tmp_path / "there" / name  # a folder has the name, or for an item one of its files
    (taken / "item.json" if name == "item" else taken).mkdir(parents=True)
    with pytest.raises(EarthMindError, match="can't be written"):
        KINDS[name](session, turn, taken)
    assert (tmp_path / "file").read_text("utf-8") == "mine"
    assert files(tmp_path / "there") == []


@pytest.mark.parametrize("name", KINDS)
def test_a_file_replaces_its_like_and_nothing_else(session, turn, tmp_path, name):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine", encoding="utf-8")
    for _ in range(2):
        KINDS[name](session, turn, folder / name)
    assert (folder / "mine.txt").read_text("utf-8") == "mine"
    own = sorted(STAC_FILES) if name == "item" else [name]
    assert files(folder) == sorted([*own, "mine.txt"])
    assert [command.kind for command in session.log] == ["draw", "search", "choose", "ask"]


# --- replay --------------------------------------------------------------------------------------


def lake(shape):
    return square(shape, (5, 20, 5, 30))


@pytest.fixture
def real(tmp_path):
    """A session whose pixels come from files."""
    catalog = write_catalog(tmp_path / "catalog")
    with Session(engine=StandInEngine({"water": lake})) as session:
        session.draw(PLACE)
        session.search(dates=PLACE_DATES, catalog=str(catalog)).result(WAIT)
        session.choose(0).result(WAIT)
        session.ask(WATER).result(WAIT)
        yield session


def test_an_answer_replays(real):
    task = real.replay(real.subject().head)
    assert task.kind == "replay"
    found = task.result(WAIT)
    assert (found.same, found.differences) == (True, ())
    assert real.subject().busy is None
    assert [command.kind for command in real.log] == ["draw", "search", "choose", "ask"]


def test_the_broken_link_is_named(real, tmp_path):
    (tmp_path / "catalog" / "vv.tif").write_bytes(b"no picture")
    found = real.replay(real.subject().head).result(WAIT)
    assert not found.same
    assert found.differences[0].startswith("files:")


def test_another_model_in_the_session_is_not_asked(real):
    other = StandInEngine({"water": lake})
    other.capabilities = replace(other.capabilities, name="other")
    real.engine = other
    found = real.replay(real.subject().head).result(WAIT)
    assert not found.same
    assert "'stand-in' of the record is not at hand" in found.differences[-1]
    assert other.prompts == []


def test_a_replay_is_stopped_and_one_runs_at_a_time(session, engine, monkeypatch):
    session.ask("Slow?")
    assert engine.asked.wait(WAIT)
    engine.gate.set()
    while session.subject().busy:
        threading.Event().wait(0.01)
    slow = session.subject().head
    engine.gate.clear()
    engine.asked.clear()
    monkeypatch.setattr("earthmind_lab.replay._subject", lambda *_: session.chip())
    task = session.replay(slow)
    assert engine.asked.wait(WAIT)
    with pytest.raises(EngineBusy, match="waiting for its replay"):
        session.ask(WATER)
    assert session.cancel()
    with pytest.raises(Cancelled):
        task.result(WAIT)
    assert session.subject().turn(slow).state == "done"
