"""Answers taken home from the map: files that a browser downloads, references, a replay."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import expect

from tests.browser.axe import axe
from tests.browser.lab_server import Lab
from tests.browser.lab_side import WIDTH
from tests.browser.main_way import READY, WATER

NARROW = 480


@pytest.fixture(scope="module")
def lab(serve, tmp_path_factory):
    """Behind a hub's prefix: whatever comes must come over the widgets' own channel."""
    return Lab(serve, tmp_path_factory.mktemp("lab"), kernel="7.3.0", prefix="/user/ann/")


@pytest.fixture
def asked(notebook):
    """A map on which one question is answered."""
    notebook.execute(READY)
    notebook.execute(f"m.session.ask({WATER!r}).result()")
    keep = notebook.page.get_by_role("region", name="Keep")
    notebook.unfold(keep)
    expect(keep.get_by_role("combobox", name="Answer")).to_have_value(re.compile("ask-"))
    return notebook


def fetched(asked, label, folder, *, key=None):
    """The file that a button brings, as the browser saves it."""
    keep = asked.page.get_by_role("region", name="Keep")
    button = keep.get_by_role("button", name=label, exact=True)
    with asked.page.expect_download() as coming:
        if key is None:
            button.click()
        else:
            button.focus()
            asked.page.keyboard.press(key)
    path = Path(folder) / coming.value.suggested_filename
    coming.value.save_as(path)
    said = re.compile(rf"{re.escape(path.name)}, [\d.]+ (bytes|kB|MB): handed to the browser")
    expect(keep.get_by_role("status").last).to_have_text(said)
    expect(button).to_have_attribute("aria-disabled", "false")
    return path


def test_answers_go_home_as_files(asked, browser, tmp_path):
    page, keep = asked.page, asked.page.get_by_role("region", name="Keep")
    requests = len(asked.visitor.requests)
    features = fetched(asked, "GeoJSON", tmp_path, key="Enter")
    expect(keep.get_by_role("button", name="GeoJSON")).to_be_focused()
    report = fetched(asked, "Report", tmp_path)
    notebook = fetched(asked, "Notebook", tmp_path, key="Space")
    mask = fetched(asked, "Mask (COG)", tmp_path)
    assert [path.name for path in (features, report, notebook, mask)] == [
        "spain-answer-1.geojson", "spain-report.html", "spain-talk.ipynb",
        "spain-answer-1-mask.tif",
    ]  # fmt: skip
    # Over the widgets' own channel alone: the server was asked for no file.
    asked_for = [each.url for each in asked.visitor.requests[requests:]]
    assert [
        url for url in asked_for if re.search(r"/(files|nbconvert|proxy|download)\b", url)
    ] == []
    assert [url for url in asked_for if any(p.name in url for p in tmp_path.iterdir())] == []

    held = json.loads(features.read_text("utf-8"))
    assert (
        held["features"]
        == asked.value("m.session.answer(m.session.subject().head).to_geojson()")["features"]
    )
    assert mask.read_bytes()[:4] == b"II*\0"
    made = nbformat.read(notebook, as_version=4)
    nbformat.validate(made)
    assert asked.value("m.session.subject().talk[-1].record['answer_hash']") in str(made)

    # The report, opened from the disk by a browser without any network.
    context = browser.new_context(offline=True)
    outside, errors = [], []
    alone = context.new_page()
    alone.on("request", lambda request: outside.append(request.url))
    alone.on("console", lambda message: errors.append(message.text))
    alone.goto(report.as_uri())
    expect(alone.get_by_role("heading", name="spain", exact=True)).to_be_visible()
    expect(alone.get_by_role("heading", name=WATER)).to_be_visible()
    pictures = alone.locator("figure img")
    assert pictures.count() >= 3
    for picture in pictures.all():
        assert picture.evaluate("each => each.decode().then(() => each.naturalWidth)") > 0
    assert [url for url in outside if not url.startswith(("file:", "data:"))] == []
    assert errors == []
    context.close()

    # Refused: said, and nothing is saved.
    keep.get_by_label("how many").fill("1")
    keep.get_by_role("button", name="Points to label").click()
    expect(keep.get_by_role("alert")).to_contain_text("too few")
    expect(keep.get_by_role("progressbar")).to_have_count(0)
    assert page.locator(".em-keep img").count() == 0


def test_references_and_a_replay(asked):
    page, keep = asked.page, asked.page.get_by_role("region", name="Keep")
    asked.visitor.context.grant_permissions(["clipboard-read", "clipboard-write"])
    keep.get_by_role("button", name="Cite").click()
    box = keep.get_by_label("What to write about this answer")
    expect(box).to_be_focused()
    assert "Contains modified Copernicus Sentinel data 2019." in box.input_value()
    keep.get_by_role("button", name="Copy").click()
    expect(keep.get_by_role("status").last).to_have_text("Copied to the clipboard.")
    assert page.evaluate("navigator.clipboard.readText()") == box.input_value()
    box.focus()
    page.keyboard.press("Escape")
    expect(box).to_be_hidden()
    expect(keep.get_by_role("button", name="Cite")).to_be_focused()
    keep.get_by_role("button", name="Check that it replays").click()
    expect(keep.locator(".em-outcome")).to_contain_text("It replays.")
    assert len(asked.subject("spain")["turns"]) == 1


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_panel_is_accessible(asked, theme):
    keep = asked.page.get_by_role("region", name="Keep")
    asked.theme(theme)
    asked.execute('m.session.ask("Is this left?").result()')
    expect(keep.get_by_role("combobox", name="Answer").locator("option")).to_have_count(2)
    keep.get_by_role("button", name="Check that it replays").click()
    expect(keep.locator(".em-outcome")).to_contain_text("It replays.")
    keep.get_by_role("button", name="Cite").click()
    expect(keep.get_by_label("What to write about this answer")).to_be_focused()
    for width in WIDTH, NARROW:
        asked.size(width)
        assert axe(asked.page, ".em-keep") == []
        panel = asked.page.locator(".em-keep")
        assert panel.evaluate("each => each.scrollWidth <= each.clientWidth + 1")
        asked.visitor.shots.take(f"keep-{theme}-{width}", panel)
