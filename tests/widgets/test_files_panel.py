"""The panel of own files against a session: what comes, what is asked for, what is refused."""

from __future__ import annotations

import io
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from earthmind_lab.data.own_files import DECLARATIONS
from earthmind_lab.session import Session
from earthmind_lab.widgets import uploads as uploads_module
from earthmind_lab.widgets.declared import declared_of
from earthmind_lab.widgets.file_panel import FORMATS, MOST_BYTES, FilePanel
from earthmind_lab.widgets.protocol import DECLARED
from tests import own_rasters
from tests.own_rasters import SIDE
from tests.stand_in_engine import StandInEngine, square

DARK = square((SIDE, SIDE), (0, SIDE // 2, 0, SIDE // 2))
NUMBERS = itertools.count(1)
PATIENCE = 20


@pytest.fixture
def session():
    one = Session(engine=StandInEngine({"water": DARK}))
    yield one
    one.close()


@pytest.fixture
def panel(session, browser):
    one = FilePanel(session)
    browser.follow(one)
    yield one
    one.close()


def tell(browser, panel, kind, **given):
    browser.tell(panel, {"kind": kind, **given})


def upload(browser, panel, name, content, piece=100_000):
    """A whole file in pieces; its id."""
    ident = f"u{next(NUMBERS)}"
    tell(browser, panel, "upload", upload=ident, name=name, size=len(content))
    settled = {"kind": "settled", "upload": ident}
    browser.wait(lambda: settled in browser.messages or begun(browser, ident))
    for at in range(0, len(content), piece):
        if settled in browser.messages:
            break
        message = {"kind": "piece", "upload": ident, "at": at}
        panel._handle_custom_msg(message, [content[at : at + piece]])
        browser.wait(lambda n=at + 1: settled in browser.messages or begun(browser, ident, n))
    browser.wait(lambda: settled in browser.messages)
    return ident


def begun(browser, ident, size=0):
    """Whether so much of an upload is there."""
    return any(m["upload"] == ident and m["size"] >= size for m in browser.kind("received"))


def give(browser, panel, path, name=None):
    """A file that is taken; its row."""
    ident = upload(browser, panel, name or path.name, path.read_bytes())
    return browser.wait(lambda: next((r for r in panel.files if r["upload"] == ident), None))


def open_with(browser, panel, *, inside=False, **said):
    tell(browser, panel, "open", inside=inside, **{**dict.fromkeys(DECLARED, ""), **said})


def opened(browser, panel, session, name):
    """Wait until the files are a subject with pixels."""
    browser.wait(lambda: panel.files == [] and session.chip(name) is not None)


def test_two_files_are_asked_about_until_they_are_a_subject(browser, panel, session, tmp_path):
    first = give(browser, panel, own_rasters.optical(tmp_path / "s2.tif"))
    second = give(browser, panel, own_rasters.sar(tmp_path / "s1.tif"))
    assert [first["role"], second["role"]] == ["optical", "sar"]
    open_with(browser, panel)
    browser.wait(lambda: panel.form["asks"])
    assert panel.form["asks"] == ["optical_scale", "optical_offset"]
    assert "no declared scale" in panel.form["message"]
    open_with(browser, panel, optical_scale="1/10000", optical_offset="-0.1")
    browser.wait(lambda: "sar_scale" in panel.form["asks"])
    assert "not declared: sar_quantity, sar_scale" in panel.form["message"]
    assert not session.subjects
    said = {"sar_quantity": "sigma0", "sar_scale": "dB", "datetime": "2020-06-01"}
    open_with(browser, panel, optical_scale="1/10000", optical_offset="-0.1", **said)
    opened(browser, panel, session, "s2")
    assert browser.said("s2 is open: ask about it.")
    assert panel.form == {"asks": [], "message": ""} and panel.fault == ""
    chip = session.chip("s2")
    assert np.unique(chip.optical[0]).tolist() == pytest.approx([0.0, 0.1])
    assert chip.sar is not None
    assert session.ask("Segment the water.").result(PATIENCE).detections
    session.undo()
    session.undo()
    assert not session.subjects


def test_unnamed_bands_and_a_wrong_number_are_asked_for(browser, panel, session, tmp_path):
    path = own_rasters.optical(tmp_path / "a.tif", names=("a", "b", "c", "d"))
    row = give(browser, panel, path)
    assert row["role"] == ""
    open_with(browser, panel)
    browser.wait(lambda: "Say what a.tif is" in panel.fault)
    tell(browser, panel, "role", upload=row["upload"], role="optical")
    browser.wait(lambda: panel.files[0]["role"] == "optical")
    open_with(browser, panel)
    browser.wait(lambda: panel.form["asks"] == ["bands"])
    said = {"bands": "blue,green,red,nir", "optical_offset": "0"}
    open_with(browser, panel, optical_scale="0,0001", **said)
    browser.wait(lambda: "optical_scale is no number. Found: 0,0001" in panel.form["message"])
    assert panel.form["asks"] == ["bands", "optical_scale"]
    open_with(browser, panel, optical_scale="0.0001", **said)
    opened(browser, panel, session, "a")


def test_what_turns_out_wrong_while_loading_is_asked_for_again(browser, panel, session, tmp_path):
    values = np.full((4, SIDE, SIDE), 2000, np.uint16)
    values[:, :9] = 1500
    same = own_rasters.raster(tmp_path / "same.tif", values, ("B2", "B3", "B4", "B8"))
    give(browser, panel, same)
    open_with(browser, panel, optical_scale="0.0001", optical_offset="0")
    browser.wait(lambda: "hold the same pixels" in panel.form.get("message", ""))
    assert [row["name"] for row in panel.files] == ["same.tif"]
    assert not session.subjects and panel.about["loading"] == ""
    assert panel.form["asks"] == ["optical_scale", "optical_offset"]
    # Its first band alone is fine.
    open_with(browser, panel, optical_scale="0.0001", optical_offset="0", bands="blue=1")
    opened(browser, panel, session, "same")


def test_only_a_part_inside_the_active_area(browser, panel, session, tmp_path):
    path = own_rasters.optical(tmp_path / "s2.tif")
    west, south, east, north = session_area(path)
    session.draw((west, south, (west + east) / 2, north), name="half")
    browser.wait(lambda: panel.about["inside"] == "half")
    give(browser, panel, path)
    open_with(browser, panel, inside=True, optical_scale="0.0001", optical_offset="0")
    opened(browser, panel, session, "s2")
    assert session.chip("s2").grid.shape[1] < SIDE
    browser.wait(lambda: panel.about["inside"] == "")


def session_area(path):
    from earthmind_lab.data.own_files import area_of_files

    return area_of_files(str(path), **own_rasters.SCALE).bounds


def test_both_sensors_in_one_file_and_roles_that_clash(browser, panel, session, tmp_path):
    values = np.random.default_rng(2).normal(0.2, 0.02, (4, SIDE, SIDE)).astype(np.float32)
    values[2:] -= 12
    both = own_rasters.raster(tmp_path / "both.tif", values, ("red", "nir", "VV", "VH"))
    first = give(browser, panel, both)
    assert first["role"] == "both"
    second = give(browser, panel, own_rasters.sar(tmp_path / "s1.tif"))
    open_with(browser, panel)
    browser.wait(lambda: "Both are said to be the SAR file" in panel.fault)
    upload(browser, panel, "third.tif", b"x")
    browser.wait(lambda: "two files already" in panel.fault)
    tell(browser, panel, "drop", upload=second["upload"])
    browser.wait(lambda: len(panel.files) == 1)
    open_with(browser, panel, sar_quantity="gamma0", sar_scale="dB")
    opened(browser, panel, session, "both")
    assert session.chip().optical is not None and session.chip().sar is not None


VRT = b"""<VRTDataset rasterXSize="1" rasterYSize="1"><VRTRasterBand dataType="Byte" band="1">
<SimpleSource><SourceFilename>/vsicurl/http://127.0.0.1:9/x.tif</SourceFilename></SimpleSource>
</VRTRasterBand></VRTDataset>"""


@pytest.mark.parametrize(
    ("name", "content", "say"),
    [
        ("a.vrt", VRT, "in no format"),
        ("a.tif", VRT, "can't be read"),
        ("a.tif", b"no raster", "can't be read"),
        ("a.png", b"no picture", "can't be read"),
        ("a.png", VRT, "can't be read"),
        ("/vsicurl/http://127.0.0.1/x", b"x", "in no format"),
        ("a.tif", b"", "can't be taken"),
        ("<img src=x onerror=alert(1)>.exe", b"MZ", "in no format"),
    ],
)
def test_what_is_no_raster_is_refused_and_forgotten(browser, panel, name, content, say):
    upload(browser, panel, name, content)
    browser.wait(lambda: say in panel.fault)
    assert panel.files == [] and not panel._uploads._files


def test_a_raster_without_a_place_is_refused(browser, panel, tmp_path):
    path = tmp_path / "bare.tif"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    upload(browser, panel, "bare.tif", path.read_bytes())
    browser.wait(lambda: "no place" in panel.fault or "place on the Earth" in panel.fault)
    assert panel.files == []


def test_a_too_large_file_is_refused(browser, panel):
    tell(browser, panel, "upload", upload="u", name="a.tif", size=MOST_BYTES + 1)
    browser.wait(lambda: "a.tif' is too large" in panel.fault)
    browser.wait(lambda: {"kind": "settled", "upload": "u"} in browser.messages)


def test_hostile_names_stay_text_and_inside_the_folder(browser, panel, session, tmp_path):
    path = own_rasters.optical(tmp_path / "s2.tif")
    name = "..\\..\\<img src=x onerror=alert(1)>\u202e.tif"
    row = give(browser, panel, path, name)
    assert row["name"] == "<img src=x onerror=alert(1)>\u202e.tif"
    open_with(browser, panel, optical_scale="0.0001", optical_offset="0")
    subject = "<img src=x onerror=alert(1)>\u202e"
    opened(browser, panel, session, subject)
    kept = session.subject(subject).files["arguments"]["optical"]
    assert kept.endswith("/img_src_x_onerror_alert_1_.tif")
    assert session._kept_files._folder.resolve() in type(path)(kept).resolve().parents


def png(array):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def test_a_picture_is_shown_with_the_masks_of_an_answer(browser, panel, session):
    image = np.full((SIDE, SIDE, 3), 90, np.uint8)
    upload(browser, panel, "yard.png", png(image))
    browser.wait(lambda: panel.files)
    assert panel.files[0]["role"] == "picture"
    open_with(browser, panel)
    browser.wait(lambda: panel.picture)
    assert session.subject().kind == "picture" and session.active == "yard"
    plain = panel.picture["url"]
    assert panel.picture["words"] == f"{SIDE} × {SIDE} px, no place on the map"
    session.ask("Segment the water.").result(PATIENCE)
    browser.wait(lambda: panel.picture["shown"])
    (answer,) = panel.picture["answers"]
    share = DARK.mean() * 100
    assert answer["words"] == f"water: {DARK.sum()} px ({share:.1f} %)"
    assert panel.picture["url"] != plain
    tell(browser, panel, "mask", turn=None)
    browser.wait(lambda: panel.picture["url"] == plain)
    tell(browser, panel, "mask", turn=answer["id"])
    browser.wait(lambda: panel.picture["shown"] == answer["id"])
    session._answers._held.clear()  # as after a restart
    session.draw((0, 0, 0.01, 0.01))
    browser.wait(lambda: panel.picture == {})
    session.select("yard")
    browser.wait(lambda: panel.picture)
    assert panel.picture["answers"][0]["words"] == "1 marked; ask again to see them"
    assert panel.picture["url"] == plain


def test_a_picture_that_is_gone_says_so(browser, panel, session, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(np.zeros((8, 8, 3), np.uint8)))
    session.open_picture(path)
    browser.wait(lambda: panel.picture.get("url"))
    path.unlink()
    session.draw((0, 0, 0.01, 0.01))
    browser.wait(lambda: panel.picture == {})
    fresh = FilePanel(session)
    session.select("a")
    browser.wait(lambda: panel.picture)
    fresh._flush()
    assert "There is no picture" in fresh.picture["fault"]
    fresh.close()


def test_a_stopped_load_leaves_the_files_open(browser, panel, session, tmp_path, monkeypatch):
    import threading

    gate = threading.Event()
    load = session._shelf.load

    def slow(subject, task):
        gate.wait(PATIENCE)
        return load(subject, task)

    monkeypatch.setattr(session._shelf, "load", slow)
    give(browser, panel, own_rasters.optical(tmp_path / "s2.tif"))
    open_with(browser, panel, optical_scale="0.0001", optical_offset="0")
    browser.wait(lambda: panel.about["loading"] == "s2")
    open_with(browser, panel)
    browser.wait(lambda: "Files are being loaded" in panel.fault)
    tell(browser, panel, "cancel")
    browser.wait(lambda: panel.about["loading"] == "" and panel.files == [])
    gate.set()
    assert session.subject("s2").busy is None
    session.load("s2").result(PATIENCE)


def test_a_closed_panel_leaves_no_files(browser, session, tmp_path):
    panel = FilePanel(session)
    give(browser, panel, own_rasters.optical(tmp_path / "s2.tif"))
    folder = next(iter(panel._files.values())).path.parents[1]
    assert folder.is_dir()
    panel.close()
    panel.close()
    assert not folder.exists()


def held(panel):
    """Files in the folder of the panel's uploads."""
    folder = panel._uploads._folder
    return [] if folder is None else [p for p in Path(folder.name).rglob("*") if p.is_file()]


def test_what_is_put_away_or_open_takes_no_space(browser, panel, session, tmp_path):
    row = give(browser, panel, own_rasters.optical(tmp_path / "s2.tif"))
    assert len(held(panel)) == 1
    tell(browser, panel, "drop", upload=row["upload"])
    browser.wait(lambda: panel.files == [])
    assert held(panel) == []
    upload(browser, panel, "yard.png", png(np.full((SIDE, SIDE, 3), 90, np.uint8)))
    browser.wait(lambda: panel.files)
    open_with(browser, panel)
    browser.wait(lambda: panel.picture)
    assert held(panel) == []
    row = give(browser, panel, own_rasters.optical(tmp_path / "s2.tif"))
    file = panel._files[row["upload"]]
    file.path = session.keep_file(file.path, file.name)
    tell(browser, panel, "drop", upload=row["upload"])
    browser.wait(lambda: panel.files == [])
    assert file.path.is_file()  # the session's by now


def test_two_pages_bring_two_files_together(browser, panel, tmp_path):
    content = own_rasters.optical(tmp_path / "s2.tif").read_bytes()
    for ident in "abc":
        tell(browser, panel, "upload", upload=ident, name=f"{ident}.tif", size=len(content))
    for ident in "abc":
        panel._handle_custom_msg({"kind": "piece", "upload": ident, "at": 0}, [content])
        browser.wait(lambda ident=ident: {"kind": "settled", "upload": ident} in browser.messages)
    browser.wait(lambda: "two files already" in panel.fault)
    browser.wait(lambda: [row["name"] for row in panel.files] == ["a.tif", "b.tif"])
    assert len(held(panel)) == 2


def test_a_full_disk_ends_the_upload_and_says_what_to_do(browser, panel, monkeypatch):
    def full(path, *_, **__):
        raise OSError(28, "No space left on device", str(path))

    tell(browser, panel, "upload", upload="u", name="a.tif", size=9)
    browser.wait(lambda: begun(browser, "u"))
    for act, message, binary in (
        ("open", {"kind": "piece", "upload": "u", "at": 0}, [b"some"]),
        ("touch", {"kind": "upload", "upload": "v", "name": "a.tif", "size": 9}, []),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(uploads_module.Path, act, full)
            panel._handle_custom_msg(message, binary)
            settled = {"kind": "settled", "upload": message["upload"]}
            browser.wait(lambda settled=settled: settled in browser.messages)
            browser.wait(lambda: "No space left" in panel.fault and "free some" in panel.fault)
        assert panel._uploads._files == {} and held(panel) == []
        tell(browser, panel, "hello")


def test_what_makes_no_sense_is_said(browser, panel):
    tell(browser, panel, "role", upload="none", role="sar")
    browser.wait(lambda: "not here any more" in panel.fault)
    tell(browser, panel, "cancel")
    browser.wait(lambda: browser.said("Nothing is being loaded."))
    open_with(browser, panel)
    browser.wait(lambda: "no file to open" in panel.fault)
    tell(browser, panel, "search", **dict.fromkeys(
        ("dates", "around", "max_gap", "max_cloud", "purpose", "sensors", "catalog")))  # fmt: skip
    browser.wait(lambda: browser.said("nothing to search"))


def test_every_declaration_has_a_field():
    assert set(DECLARED) == {*DECLARATIONS, "gsd"}
    assert all(ending.startswith(".") for ending in FORMATS)
    assert declared_of(dict.fromkeys(DECLARED, " ")) == {}


def test_answers_of_a_subject_are_not_mixed_up(session):
    from earthmind_lab.widgets.pictures import Pictures

    pictures = Pictures(session)
    assert pictures.row(None) == {}
    name = session.open_picture(np.zeros((2000, 30, 3), np.uint8))
    row = pictures.row(session.subject(name))
    assert row["answers"] == [] and row["words"].startswith("30 × 2000 px")
    assert pictures.row(replace(session.subject(name), turns=()))["url"] == row["url"]
