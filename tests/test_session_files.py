"""Own files in a session: opened, kept, loaded again, and refused where they are others by now."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from earthmind_lab.as_python import as_python
from earthmind_lab.conversation import ask
from earthmind_lab.errors import (
    AOIError,
    AssetUnavailable,
    EarthMindError,
    EngineBusy,
    GridMismatch,
    LoadError,
    PromptError,
    RadiometryUnknown,
    SearchError,
)
from earthmind_lab.record import Record
from earthmind_lab.recording import file_sha256
from earthmind_lab.replay import replay
from earthmind_lab.session import Session, kept_files
from earthmind_lab.session.kept_files import confined_name
from earthmind_lab.session.subject import Subject
from earthmind_lab.settings import Settings
from tests import own_rasters
from tests.own_rasters import SCALE, SIDE, SIGMA
from tests.stand_in_engine import StandInEngine, make_chip, square

WAIT = 20
BOTH = {**SCALE, **SIGMA}
DARK = square((SIDE, SIDE), (0, SIDE // 2, 0, SIDE // 2))


@pytest.fixture
def pair(tmp_path):
    return own_rasters.optical(tmp_path / "s2.tif"), own_rasters.sar(tmp_path / "s1.tif")


@pytest.fixture
def opened(tmp_path):
    """Opens one session file, again and again."""
    settings = Settings(home=tmp_path / "home", device=None, catalog="sample")
    held = []

    def again():
        if held:
            held[-1].close()
        held.append(Session.open("files", engine=StandInEngine({"water": DARK}), settings=settings))
        return held[-1]

    yield again
    for each in held:
        each.close()


def test_files_are_a_subject_with_pixels_and_a_talk(opened, pair, tmp_path):
    session = opened()
    task = session.open_files(*pair, datetime="2020-06-01", **BOTH)
    chip = task.result(WAIT)
    assert (task.kind, task.subject, session.active) == ("load", "s2", "s2")
    assert chip.optical.shape == (4, SIDE, SIDE) and chip.sar.shape == (2, SIDE, SIDE)
    assert np.unique(chip.optical[0]).tolist() == pytest.approx([0.0, 0.1])
    subject = session.subject()
    assert subject.kind == "files" and subject.aoi.name == "s2"
    answer = session.ask("Segment the water.").result(WAIT)
    assert answer.area_m2 == pytest.approx(DARK.sum() * 100, rel=0.01)
    assert [command.kind for command in session.log] == ["open", "ask"]
    path = answer.record.save(tmp_path / "record.json")
    assert replay(Record.load(path), engine=StandInEngine({"water": DARK})).same


def test_what_is_not_said_is_asked_for(opened, pair):
    session = opened()
    with pytest.raises(RadiometryUnknown, match="no declared scale") as caught:
        session.open_files(*pair)
    assert caught.value.asks == ("optical_scale", "optical_offset")
    with pytest.raises(RadiometryUnknown, match="sar_quantity") as caught:
        session.open_files(*pair, **SCALE)
    assert caught.value.asks == ("sar_quantity", "sar_scale")
    with pytest.raises(LoadError, match="optical_level") as caught:
        session.open_files(*pair, colour="red")
    assert (session.subjects, session.log) == ({}, ())


def test_bands_without_names_are_asked_for(opened, tmp_path):
    path = own_rasters.optical(tmp_path / "a.tif", names=("a", "b", "c", "d"))
    session = opened()
    with pytest.raises(LoadError, match="lacks names") as caught:
        session.open_files(path, **SCALE)
    assert caught.value.asks == ("bands",)
    with pytest.raises(LoadError, match="no band") as caught:
        session.open_files(path, bands="blue,green,red,purple", **SCALE)
    assert caught.value.asks == ("bands",)
    chip = session.open_files(path, bands="blue,green,red,nir", **SCALE).result(WAIT)
    assert chip.radiometry is not None and len(chip.optical) == 4


def test_a_restart_loads_them_again(opened, pair):
    session = opened()
    first = session.open_files(*pair, **BOTH).result(WAIT)
    session.rename("s2", "my field")
    session.ask("Segment the water.").result(WAIT)
    before = session.subject().to_dict()
    session = opened()
    assert session.messages == () and session.chip() is None
    assert session.subject().to_dict() == before
    again = session.load().result(WAIT)
    assert np.array_equal(again.optical, first.optical) and again.aoi.name == "my field"
    session.load().result(WAIT)
    assert [command.kind for command in session.log] == ["open", "rename", "ask"]
    (turn,) = session.subject().turns
    session.again(turn.id, without="sar").result(WAIT)
    assert len(session.subject().branches(turn)) == 2


def test_a_file_that_is_gone_or_another_is_said(opened, pair):
    opened().open_files(*pair, **BOTH).result(WAIT)
    own_rasters.optical(pair[0], level=3000)
    session = opened()
    with pytest.raises(AssetUnavailable, match=r"s2\.tif of 's2' has changed.*Try: put the old"):
        session.load().result(WAIT)
    pair[1].unlink()
    own_rasters.optical(pair[0])
    with pytest.raises(AssetUnavailable, match=r"s1\.tif of 's2' is gone.*Try: put it back"):
        session.ask("Is there water?").result(WAIT)
    assert session.subject().turns[0].state == "failed"
    own_rasters.sar(pair[1])
    session.ask("Is there water?").result(WAIT)


def test_delete_and_undo(opened, pair):
    session = opened()
    session.open_files(*pair, **BOTH).result(WAIT)
    whole = session.subject().to_dict()
    session.delete("s2")
    session = opened()
    session.undo()
    assert session.subject().to_dict() == whole
    session.load().result(WAIT)
    session.undo()
    assert (session.subjects, session.log) == ({}, ())


def test_files_have_no_outline_to_edit_and_nothing_to_search(opened, pair):
    session = opened()
    session.open_files(*pair, **BOTH).result(WAIT)
    box = session.subject().aoi.bounds
    with pytest.raises(AOIError, match="'s2', files of your own, has no area to edit"):
        session.edit("s2", box)
    with pytest.raises(SearchError, match="nothing to search"):
        session.search(dates="2020-06-01")
    with pytest.raises(SearchError, match="no pair"):
        session.choose(0)
    session.mark(box, "all of it")
    session.ask("What is it?").result(WAIT)
    assert len(session.engine.prompts[-1].regions) == 1


def test_a_part_of_files(opened, pair):
    session = opened()
    session.open_files(*pair, name="whole", **BOTH).result(WAIT)
    west, south, east, north = session.subject().aoi.bounds
    half = (west, south, (west + east) / 2, north)
    chip = session.open_files(*pair, name="part", aoi=half, gsd=20, **BOTH).result(WAIT)
    assert chip.grid.shape[1] < SIDE / 2 and chip.aoi.name == "part"
    with pytest.raises(AOIError, match="There is 'part' already"):
        session.open_files(*pair, name="part", **BOTH)
    with pytest.raises(LoadError, match="does not reach the AOI"):
        session.open_files(*pair, aoi=(10, 10, 10.1, 10.1), **BOTH)


def test_files_that_turn_out_to_be_wrong_leave_no_trace(opened, tmp_path):
    """Their headers are fine, their pixels are not."""
    values = np.full((4, SIDE, SIDE), 2000, np.uint16)
    values[:, :9] = 1500
    same = own_rasters.raster(tmp_path / "same.tif", values, ("B2", "B3", "B4", "B8"))
    session = opened()
    task = session.open_files(same, **SCALE)
    with pytest.raises(RadiometryUnknown, match="hold the same pixels") as caught:
        task.result(WAIT)
    assert caught.value.asks == ("optical_scale", "optical_offset")
    assert (session.subjects, session.log) == ({}, ())


@pytest.mark.parametrize("then", ["select", "draw", "rename"])
def test_files_that_turn_out_to_be_wrong_go_whatever_else_was_done(
    opened, tmp_path, monkeypatch, then
):
    gate = threading.Event()

    def fails(*_):
        gate.wait(WAIT)
        raise LoadError("The pixels are damaged.")

    session = opened()
    session.draw((0, 0, 0.01, 0.01), name="field")
    monkeypatch.setattr(session._shelf, "load", fails)
    task = session.open_files(own_rasters.optical(tmp_path / "s2.tif"), **SCALE)
    if then == "select":
        session.select("field")
    elif then == "draw":
        session.draw((0, 0, 0.02, 0.02), name="other")
    else:
        session.rename("field", "meadow")
    gate.set()
    with pytest.raises(LoadError, match="damaged"):
        task.result(WAIT)
    if then == "rename":  # what was active before them has another name: they stay, and can go
        assert session.active == "s2"
        session.delete("s2")
        return
    assert "s2" not in session.subjects
    assert session.active == {"select": "field", "draw": "other"}[then]
    while session.undo() is not None:
        assert session.active is None or session.subject().name == "field"
    assert session.subjects == {}


def test_too_large_files_are_refused_at_once(opened, tmp_path):
    path = own_rasters.optical(tmp_path / "wide.tif", side=4100)
    with pytest.raises(LoadError, match=r"more than one chip.*4100 x 4100 px") as caught:
        opened().open_files(path, **SCALE)
    assert caught.value.asks == ("gsd",)


def test_what_is_no_raster_or_names_other_files_is_refused(opened, pair, tmp_path):
    session = opened()
    words = tmp_path / "words.tif"
    words.write_text("no picture")
    vrt = f"""<VRTDataset rasterXSize="24" rasterYSize="24">
        <VRTRasterBand dataType="UInt16" band="1">
        <SimpleSource><SourceFilename>{pair[0]}</SourceFilename></SimpleSource></VRTRasterBand>
        </VRTDataset>"""
    for name in ("a.vrt", "a.tif"):
        (tmp_path / name).write_text(vrt)
    for path in (words, tmp_path / "a.vrt", tmp_path / "a.tif", tmp_path / "none.tif"):
        with pytest.raises(AssetUnavailable):
            session.open_files(path, **SCALE)
    for address in ("/vsicurl/http://127.0.0.1:9/a.tif", "ftp://127.0.0.1/a.tif", "GTIFF_DIR:1:x"):
        with pytest.raises(EarthMindError):
            session.open_files(address, **SCALE)
    with pytest.raises(LoadError, match="by their paths"):
        session.open_files(np.zeros((4, SIDE, SIDE)), **SCALE)
    assert session.subjects == {}


def test_a_picture_without_a_place_is_no_chip(opened, tmp_path):
    from PIL import Image

    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(GridMismatch):
        opened().open_files(tmp_path / "a.png", **SCALE)


# --- copies --------------------------------------------------------------------------------------


def test_copies_lie_beside_the_session_while_it_needs_them(opened, pair, tmp_path):
    session = opened()
    place = session.keep_file(pair[0], "../../<b>my scene</b>.TIF")
    folder = tmp_path / "home" / "sessions" / "files.files"
    assert place.is_relative_to(folder) and place.name == "b_.TIF" and not pair[0].exists()
    session.open_files(place, **SCALE).result(WAIT)
    other = session.keep_file(pair[1], "never opened.tif")
    session.delete(session.active)
    session = opened()
    assert place.exists() and not other.exists()
    session.undo()
    session.load().result(WAIT)
    session.undo()
    session = opened()
    assert not place.exists() and folder.exists()


def test_the_same_content_is_kept_once(opened, tmp_path):
    session = opened()
    places = {session.keep_file(own_rasters.optical(tmp_path / name), "s2.tif") for name in "ab"}
    assert len(places) == 1


@pytest.mark.parametrize("ends", [OSError, KeyboardInterrupt])
def test_half_a_copy_is_never_taken_for_the_file(opened, pair, monkeypatch, ends):
    """From another file system, and the disk is full, or the kernel is stopped."""
    session = opened()
    whole = pair[0].read_bytes()

    def half(source, target):
        Path(target).write_bytes(whole[: len(whole) // 2])
        raise ends("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(kept_files.shutil, "move", half)
        with pytest.raises((EarthMindError, KeyboardInterrupt), match="no space left"):
            session.keep_file(pair[0], "s2.tif")
    assert pair[0].read_bytes() == whole
    assert [each for each in session._kept_files._folder.rglob("*") if each.is_file()] == []
    assert session.keep_file(pair[0], "s2.tif").read_bytes() == whole


def test_a_file_is_read_once_for_its_hash_and_the_session_goes_on(opened, pair, monkeypatch):
    session, hashed = opened(), []

    def sha256(path):
        hashed.append(path)
        looker = threading.Thread(target=lambda: session.subjects)
        looker.start()
        looker.join(WAIT)
        assert not looker.is_alive()
        return file_sha256(path)

    monkeypatch.setattr(kept_files, "file_sha256", sha256)
    place = session.keep_file(pair[0], "s2.tif")
    session.open_files(place, **SCALE).result(WAIT)
    assert hashed == [pair[0]]
    assert list(session.subject().files["hashes"].values()) == [file_sha256(place)]
    own_rasters.optical(place, level=3000)
    session._shelf._chips.clear()
    with pytest.raises(AssetUnavailable, match="has changed"):
        session.load().result(WAIT)


@pytest.mark.parametrize("name", ["files", "map[1]"])
def test_a_damaged_session_keeps_its_copies(tmp_path, pair, name):
    settings = Settings(home=tmp_path / "home", device=None, catalog="sample")

    def opened():
        return Session.open(name, engine=StandInEngine(), settings=settings)

    session = opened()
    place = session.keep_file(pair[0], "s2.tif")
    session.open_files(place, **SCALE).result(WAIT)
    session.close()
    (tmp_path / "home" / "sessions" / f"{name}.json").write_text("{")
    with opened() as session:
        assert "damaged" in session.messages[0] and session.subjects == {}
    with opened():
        assert place.exists()


def test_a_full_folder_refuses(opened, pair, monkeypatch):
    monkeypatch.setattr(kept_files, "MOST_BYTES", 1000)
    with pytest.raises(EarthMindError, match="as many files as it may"):
        opened().keep_file(pair[0], "s2.tif")
    assert pair[0].exists()


def test_copies_of_a_session_in_memory_go_with_it(pair):
    session = Session(engine=StandInEngine())
    place = session.keep_file(pair[0], "s2.tif")
    session.open_files(place, **SCALE).result(WAIT)
    session.close()
    del session
    import gc

    gc.collect()
    assert not place.exists()


@pytest.mark.parametrize(
    ("name", "safe"),
    [("..", "file"), ("", "file"), ("a\\b\\c.tif", "c.tif"), (".hidden", "hidden"),
     ("x" * 300 + ".tif", "x" * 60 + ".tif"), ("\u202efit.\ud800.tif", "fit._.tif"),
     ("nul\0.tif", "nul_.tif"), ("a." + "e" * 300, None)],
)  # fmt: skip
def test_names_are_confined(name, safe):
    found = confined_name(name)
    assert found == safe if safe is not None else len(found) <= 70
    assert Path(found).name == found and found not in ("", ".", "..")


# --- what is written -----------------------------------------------------------------------------


def test_an_older_file_has_no_files(opened, pair, tmp_path):
    session = opened()
    session.open_files(*pair, **BOTH).result(WAIT)
    session.draw((0, 0, 0.01, 0.01))
    session.close()
    path = tmp_path / "home" / "sessions" / "files.json"
    data = json.loads(path.read_text())
    old = [each for each in data["subjects"] if each["kind"] == "aoi"]
    for each in old:
        del each["files"]
    path.write_text(json.dumps({**data, "subjects": old, "log": []}))
    assert opened().subject("area 1").files is None
    with pytest.raises(ValueError, match="no subject"):
        Subject.from_dict({**old[0], "kind": "cloud"})


def test_the_code_of_an_answer_opens_the_files(opened, pair):
    session = opened()
    session.open_files(*pair, **BOTH).result(WAIT)
    session.ask("Segment the water.").result(WAIT)
    code = as_python(session.subject(), session.subject().turns[0].id)
    lines = code.replace("em.load_engine('stand-in')", "engine")
    held: dict[str, object] = {"engine": session.engine}
    exec(lines, held)
    assert held["answer"].record.answer_hash == session.subject().turns[0].record["answer_hash"]


# --- answers from elsewhere ----------------------------------------------------------------------


def elsewhere():
    chip = make_chip(16, water=square((16, 16), (0, 8, 0, 8)))
    engine = StandInEngine({"water": square((16, 16), (0, 8, 0, 8))})
    return ask(chip, "Segment the water.", engine=engine)


def test_an_answer_is_kept_as_a_turn(opened):
    session, answer = opened(), elsewhere()
    ident = session.keep_answer(answer)
    subject = session.subject()
    assert subject.aoi.geometry.equals_exact(
        type(subject.aoi).from_geojson(answer.record.aoi["geometry"]).geometry, 1e-9
    )
    assert [turn.id for turn in subject.talk] == [ident]
    assert subject.turn(ident).record["answer_hash"] == answer.record.answer_hash
    assert subject.turn(ident).stale
    assert session.answer(ident) is answer
    log = session.log
    again = elsewhere()
    assert session.keep_answer(again) == ident and session.log == log
    assert session.answer(ident) is again
    other = replace(answer, record=replace(answer.record, question="Segment it."))
    second = session.keep_answer(other)
    assert second != ident and len(session.subjects) == 1
    session = opened()
    assert [turn.id for turn in session.subject().talk] == [ident, second]
    assert session.undo().kind == "keep"
    assert session.undo().kind == "keep"
    assert session.subject().turns == ()
    session.undo()
    assert session.subjects == {}


def test_an_answer_about_the_loaded_pixels_is_history(opened, pair):
    session = opened()
    chip = session.open_files(*pair, **BOTH).result(WAIT)
    session.keep_answer(ask(chip, "Segment the water.", engine=session.engine))
    session.ask("And now?").result(WAIT)
    assert session.engine.prompts[-1].history[0].question == "Segment the water."


def test_discard_keeps_what_goes_on_from_it(opened, pair):
    session = opened()
    session.open_files(*pair, **BOTH).result(WAIT)
    kept = session.keep_answer(elsewhere(), "s2")
    session.ask("Segment the water.").result(WAIT)
    before = session.subject().to_dict()
    with pytest.raises(PromptError, match="no kept answer"):
        session.discard(before["head"])
    session.discard(kept)
    (turn,) = session.subject().talk
    assert turn.parent is None
    session = opened()
    session.undo()
    assert session.subject().to_dict() == before


def test_nothing_is_discarded_while_an_answer_is_written(opened, pair):
    import threading

    session = opened()
    session.open_files(*pair, **BOTH).result(WAIT)
    kept = session.keep_answer(elsewhere(), "s2")
    gate = threading.Event()
    session.engine = StandInEngine(gate=gate)
    task = session.ask("Slow?")
    with pytest.raises(EngineBusy, match="wait for it"):
        session.discard(kept)
    gate.set()
    task.result(WAIT)


def test_an_answer_without_a_place_is_refused(opened, tmp_path):
    session = opened()
    session.open_picture(np.zeros((16, 16, 3), np.uint8), name="p")
    path = session.subject().picture
    picture = ask(path, "What is it?", engine=StandInEngine())
    with pytest.raises(PromptError, match="no place on the map"):
        session.keep_answer(picture)
    with pytest.raises(AOIError, match="'p', a picture, has no place"):
        session.keep_answer(elsewhere(), "p")
    session.keep_answer(replace(elsewhere(), notice=""))
    assert len(session.subjects) == 2
