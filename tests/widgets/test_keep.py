"""Keep panel: files go to the browser whole or not at all; references; a replay's verdict."""

from __future__ import annotations

import io
import json
import os
import tempfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from earthmind_lab.errors import Cancelled
from earthmind_lab.replay import Replay
from earthmind_lab.session import Session
from earthmind_lab.stac_items import STAC_FILES
from earthmind_lab.widgets import downloads as downloads_module
from earthmind_lab.widgets.downloads import PIECE, Downloads, safe_name
from earthmind_lab.widgets.keep import (
    FORGOTTEN,
    KINDS,
    NO_PLACE,
    SAME,
    TWO_DATES,
    UNMARKED,
    KeepPanel,
)
from earthmind_lab.widgets.protocol import FILES
from tests.session_world import BOX, DATES, SlowEngine, made_up

WAIT, WATER = 20, "Segment the water."


@pytest.fixture
def engine():
    slow = SlowEngine()
    yield slow
    slow.gate.set()


@pytest.fixture
def session(engine, monkeypatch, tmp_path):
    made_up(monkeypatch)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    with Session(engine=engine, path=tmp_path / "kept.json") as opened:
        opened.draw(BOX, name="../Ebro <b>")
        opened.search(dates=DATES).result(WAIT)
        opened.choose(0).result(WAIT)
        opened.ask(WATER).result(WAIT)
        yield opened


@pytest.fixture
def panel(session, browser):
    panel = KeepPanel(session)
    browser.follow(panel)
    yield panel
    panel.close()


def wish(panel, browser, what, ident="f1", points=40):
    """Ask for a file; what the kernel says of it in the end."""
    turn = panel.session.subject().head
    before = len(browser.messages)
    browser.tell(
        panel, {"kind": "keep", "file": ident, "turn": turn, "what": what, "points": points}
    )
    ended = ("file", "refused")
    return browser.wait(
        lambda: next((m for m in browser.messages[before:] if m["kind"] in ended), None)
    )


def fetch(panel, browser, offer):
    """All bytes of a file, as the browser gets them."""
    held = b""
    while len(held) < offer["size"]:
        got = len(browser.bytes)
        browser.tell(panel, {"kind": "more", "file": offer["file"], "at": len(held)})
        browser.wait(lambda got=got: len(browser.bytes) > got)
        assert browser.messages[-1] == {"kind": "part", "file": offer["file"], "at": len(held)}
        held += browser.bytes[-1]
    return held


def left(tmp_path):
    """Files; folders may go while one looks."""
    found = os.walk(tmp_path / "temporary")
    return [Path(folder) / name for folder, _, names in found for name in names]


# --- files ---------------------------------------------------------------------------------------


def test_every_kind_of_the_protocol_is_made():
    assert tuple(KINDS) == FILES


@pytest.mark.parametrize("what", FILES)
def test_each_file_comes_whole(panel, browser, session, tmp_path, what):
    offer = wish(panel, browser, what)
    assert offer["kind"] == "file", panel.fault
    held = fetch(panel, browser, offer)
    assert len(held) == offer["size"]
    assert offer["name"].startswith("Ebro-b-") and "/" not in offer["name"]
    if what in ("geojson", "record", "notebook"):
        json.loads(held)
    if what == "report":
        assert held.startswith(b"<!doctype html>") and b"Ebro &lt;b&gt;" in held
    if what == "stac":
        names = zipfile.ZipFile(io.BytesIO(held)).namelist()
        folder = offer["name"].removesuffix(".zip")
        assert sorted(each for each in names if not each.endswith("/")) == sorted(
            f"{folder}/{each}" for each in STAC_FILES
        )
    browser.tell(panel, {"kind": "leave", "file": "f1"})
    browser.tell(panel, {"kind": "more", "file": "f1", "at": 0})
    browser.wait(lambda: "no longer held" in panel.fault)
    assert left(tmp_path) == []
    assert [command.kind for command in session.log] == ["draw", "search", "choose", "ask"]


def test_pieces_stay_small(panel, browser, monkeypatch):
    monkeypatch.setattr(downloads_module, "PIECE", 1000)
    offer = wish(panel, browser, "report")
    held = fetch(panel, browser, offer)
    assert len(browser.bytes) == -(-offer["size"] // 1000) > 3
    assert max(map(len, browser.bytes)) == 1000 and len(held) == offer["size"]
    assert PIECE <= 2**20


def test_what_cannot_be_made_is_refused_with_the_reason(panel, browser, session, tmp_path):
    assert wish(panel, browser, "points", points=1) == {"kind": "refused", "file": "f1"}
    assert "too few" in browser.wait(lambda: panel.fault)
    assert left(tmp_path) == []
    browser.tell(
        panel, {"kind": "keep", "file": "f2", "turn": "ask-99", "what": "record", "points": 0}
    )
    browser.wait(lambda: {"kind": "refused", "file": "f2"} in browser.messages)
    browser.wait(lambda: "no such answer" in panel.fault)
    browser.tell(panel, {"kind": "more", "file": "nothing", "at": 0})
    browser.wait(lambda: {"kind": "refused", "file": "nothing"} in browser.messages)


def test_a_defect_is_said_and_the_panel_goes_on(panel, browser, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("by hand")

    monkeypatch.setattr(Session, "report", broken)
    assert wish(panel, browser, "report")["kind"] == "refused"
    assert "ZeroDivisionError: by hand" in browser.wait(lambda: panel.fault)
    assert wish(panel, browser, "record", "f2")["kind"] == "file"
    assert panel.fault == ""


def test_a_file_that_is_not_wanted_any_more_is_dropped(panel, browser, monkeypatch, tmp_path):
    """Cancelled while it is made: it is never offered."""
    begun, gate = threading.Event(), threading.Event()
    report = Session.report

    def slow(session, path, name):
        begun.set()
        assert gate.wait(WAIT)
        return report(session, path, name)

    monkeypatch.setattr(Session, "report", slow)
    turn = panel.session.subject().head
    browser.tell(panel, {"kind": "keep", "file": "f1", "turn": turn, "what": "report", "points": 0})
    assert begun.wait(WAIT)
    browser.tell(panel, {"kind": "leave", "file": "f1"})
    assert wish(panel, browser, "record", "f2")["kind"] == "file"  # nothing waits for it
    gate.set()
    browser.tell(panel, {"kind": "leave", "file": "f2"})
    for _ in range(200):
        if not left(tmp_path) and all(t.name != "earthmind-file" for t in threading.enumerate()):
            break
        threading.Event().wait(0.05)
    assert wish(panel, browser, "record", "f3")["kind"] == "file"
    assert [m["file"] for m in browser.kind("file")] == ["f2", "f3"]
    assert [path.name for path in left(tmp_path)] == ["Ebro-b-answer-1-record.json"]
    panel.close()
    assert left(tmp_path) == []


@pytest.mark.parametrize("what", ["report", "stac"])
def test_a_panel_that_closes_meanwhile_leaves_no_folder(
    panel, browser, monkeypatch, tmp_path, what
):
    begun, gate, modes = threading.Event(), threading.Event(), []
    name = {"report": "report", "stac": "save_stac"}[what]
    make = getattr(Session, name)

    def slow(session, *given):
        begun.set()
        assert gate.wait(WAIT)
        made = make(session, *given)
        modes.extend(each.stat().st_mode & 0o077 for each in (tmp_path / "temporary").iterdir())
        return made

    monkeypatch.setattr(Session, name, slow)
    turn = panel.session.subject().head
    browser.tell(panel, {"kind": "keep", "file": "f1", "turn": turn, "what": what, "points": 0})
    assert begun.wait(WAIT)
    (maker,) = [each for each in threading.enumerate() if each.name == "earthmind-file"]
    panel.close()
    gate.set()
    maker.join(WAIT)
    assert modes and not any(modes)
    assert list((tmp_path / "temporary").iterdir()) == []


# --- what is offered -----------------------------------------------------------------------------


def test_answers_and_what_they_lack(panel, browser, session, engine, tmp_path):
    (row,) = panel.answers
    assert row["title"].startswith(f"1. {WATER} (") and row["title"].endswith(" mapped)")
    assert row["off"] == {}
    session.ask("Is it dry?").result(WAIT)
    browser.wait(lambda: len(panel.answers) == 2)
    assert panel.answers[1]["off"] == {"probability": UNMARKED}
    session.open_picture(np.zeros((16, 16, 3), np.uint8), name="a picture")
    browser.wait(lambda: panel.about["name"] == "a picture")
    assert panel.answers == [] and "Ask something first" in panel.about["hint"]
    session.ask("Is it dry?").result(WAIT)
    browser.wait(lambda: panel.answers)
    assert set(panel.answers[0]["off"].values()) == {NO_PLACE}
    assert "record" not in panel.answers[0]["off"]
    session.close()
    with Session(engine=engine, path=tmp_path / "kept.json") as again:
        again.select("../Ebro <b>")
        late = KeepPanel(again)
        assert set(late.answers[0]["off"]) == {"mask", "probability", "stac", "points"}
        assert set(late.answers[0]["off"].values()) == {FORGOTTEN}
        late.close()


def test_masks_of_two_dates_are_not_offered(panel, browser, session, engine, tmp_path):
    session.compare(1).result(WAIT)
    session.ask(WATER).result(WAIT)
    browser.wait(lambda: len(panel.answers) == 2)
    row = panel.answers[-1]
    assert row["title"].endswith(" mapped on either date)")
    assert row["off"] == dict.fromkeys(("mask", "probability", "stac", "points"), TWO_DATES)
    for number, what in enumerate(row["off"]):
        assert wish(panel, browser, what, f"f{number}")["kind"] == "refused"
        browser.wait(lambda: "what was marked on which date" in panel.fault)
    session.close()
    with Session(engine=engine, path=tmp_path / "kept.json") as again:
        late = KeepPanel(again)
        assert late.answers[-1]["off"] == row["off"]
        late.close()


def test_what_objects_share_counts_once(panel, browser, session, engine):
    engine.texts["What is here?"] = "Water and water."
    engine.marks = {"What is here?": ("water", "water")}
    session.ask("What is here?").result(WAIT)
    browser.wait(lambda: len(panel.answers) == 2)
    one, two = (row["title"].partition(" (")[2] for row in panel.answers)
    assert one == two


def test_names_are_safe():
    for title in (
        "../../etc/passwd",
        "a\\b:c*?",
        "\u202etxt.exe",
        " . ",
        "x" * 500,
        "nul",
        "\ud800",
    ):
        name = safe_name(title, "-report.html")
        assert name.endswith("-report.html") and not set('/\\:*?"<>|\u202e\ud800') & set(name)
        assert len(name) < 80 and not name.startswith((".", "-", "nul"))
        name.encode()


def test_at_most_a_few_files_are_held(tmp_path):
    downloads = Downloads()
    folders = [downloads.folder(f"f{n}") for n in range(9)]
    assert sum(folder.exists() for folder in folders) == 4
    assert not downloads.awaits("f0", folders[0]) and downloads.awaits("f8", folders[8])
    assert all(folder.stat().st_mode & 0o077 == 0 for folder in folders[5:])
    downloads.close()
    assert not any(folder.exists() for folder in folders)


# --- references and replay -----------------------------------------------------------------------


def test_references_are_text(panel, browser, session):
    turn = session.subject().head
    browser.tell(panel, {"kind": "cite", "turn": turn})
    (cited,) = browser.wait(lambda: browser.kind("citation"))
    assert cited == {"kind": "citation", "turn": turn, "text": str(session.cite(turn))}
    assert "@software{earthmind_lab," in cited["text"]


@pytest.mark.parametrize(
    ("found", "state", "words"),
    [
        (Replay(same=True, differences=("versions: gdal differs.",), answer=None), "same",
         [SAME, "versions: gdal differs."]),
        (Replay(same=False, differences=("files: gone.",), answer=None), "differs",
         ["files: gone."]),
        (Cancelled("It was stopped."), "stopped", ["Stopped before it was known."]),
        (ZeroDivisionError("by hand"), "failed", None),
    ],
)  # fmt: skip
def test_the_verdict_of_a_replay(panel, browser, session, monkeypatch, found, state, words):
    def replay(record, **_):
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr("earthmind_lab.replay.replay", replay)
    turn = session.subject().head
    browser.tell(panel, {"kind": "verify", "turn": turn})
    browser.wait(lambda: panel.checked.get("state") == state)
    assert panel.checked["turn"] == turn
    assert panel.checked["words"] == words or (
        words is None and "by hand" in panel.checked["words"][0]
    )


def test_a_check_is_stopped(panel, browser, session, monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr(
        "earthmind_lab.replay.replay", lambda record, on_stop, **_: on_stop(gate.set) or gate.wait()
    )
    turn = session.subject().head
    browser.tell(panel, {"kind": "verify", "turn": turn})
    browser.wait(lambda: panel.about["busy"] == "replay")
    assert panel.checked["state"] == "running"
    browser.tell(panel, {"kind": "verify", "turn": turn})
    browser.wait(lambda: "still waiting for its replay" in panel.fault)
    browser.tell(panel, {"kind": "cancel"})
    browser.wait(lambda: panel.checked["state"] == "stopped")
    assert gate.is_set()
    browser.tell(panel, {"kind": "cancel"})
    browser.wait(lambda: browser.said("Nothing is being checked."))


def test_what_is_not_its_own_is_said(panel, browser):
    browser.tell(panel, {"kind": "ask", "text": WATER})
    browser.wait(lambda: browser.said("nothing to ask"))


def test_temporary_files_end_with_the_panel(session, browser, tmp_path):
    panel = KeepPanel(session)
    assert wish(panel, browser, "report")["kind"] == "file"
    assert left(tmp_path)
    panel.close()
    assert list(Path(tmp_path / "temporary").iterdir()) == []
