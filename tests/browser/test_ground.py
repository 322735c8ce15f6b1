"""Two tabs, a lost connection, a killed kernel, dark and narrow pages; and that the ground of the
browser tests itself holds.

One page for all tests: each begins with a new map over an empty session.
"""

from __future__ import annotations

import json
import re

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser.axe import axe
from tests.browser.conftest import ROOT
from tests.browser.lab_kernel import ENDLESS
from tests.browser.lab_server import Lab
from tests.browser.lab_side import HEIGHT, WIDTH
from tests.browser.main_way import LIVE, PICTURES, READY, SHAPES, WATCH, WATER
from tests.browser.shots import Shots

CUT = (
    r"ERR_(INTERNET_DISCONNECTED|CONNECTION_|SOCKET_NOT_CONNECTED|EMPTY_RESPONSE|NETWORK_CHANGED)"
    r"|WebSocket"
)
"""What a browser says of a connection that a test has cut."""
NARROW = 480
CELLS = "window.jupyterapp.shell.currentWidget.content.widgets.length"
FOCUSED = "document.activeElement.textContent"


@pytest.fixture(scope="module")
def lab(serve, relay, tmp_path_factory):
    return Lab(serve, tmp_path_factory.mktemp("lab"), kernel="7.3.0", relay=relay)


def answered(notebook, count=1):
    """Wait for that many answers."""
    expect(notebook.talk.locator(".em-done")).to_have_count(count)


# --- two tabs, a lost connection, a killed kernel ------------------------------------------------


def test_two_tabs_at_once_show_the_same(notebook):
    notebook.execute(READY)
    other = notebook.second_tab()
    notebook.pace(0.1)
    for tab in notebook, other:
        expect(tab.pairs).to_contain_text("✓ chosen")
        expect(tab.page.locator(PICTURES)).to_have_count(2)
        tab.page.evaluate(WATCH)
    # A question in either is written in both, and its answer stays in both.
    for number, tab in enumerate((notebook, other), 1):
        tab.ask(WATER)
        for each in notebook, other:
            answered(each, number)
    texts = [each.talk.inner_text() for each in (notebook, other)]
    assert texts[0] == texts[1]
    for tab in notebook, other:
        first, *later = tab.page.evaluate("window.written")
        assert any(text.startswith(first) for text in later)
    # So is an area that is drawn.
    before = notebook.page.locator(SHAPES).count()
    other.rectangle(0.1, 0.1, 0.2, 0.2)
    for tab in notebook, other:
        expect(tab.page.get_by_role("button", name="area 1", exact=True)).to_be_visible()
        expect(tab.page.locator(SHAPES)).not_to_have_count(before)
    other.visitor.shot("second-tab")
    other.page.close()


def test_a_panel_that_was_out_of_sight_is_as_it_was(notebook):
    notebook.execute(READY)
    notebook.windowing("full")
    notebook.pace(0.2)
    notebook.ask(WATER)
    expect(notebook.talk.locator(LIVE)).to_have_text(re.compile(r"\w"))
    notebook.chat.get_by_label("Question", exact=True).fill("Are there clouds?")
    notebook.show(0)
    expect(notebook.chat).to_have_count(0)  # not hidden: gone, to be made again
    notebook.until(lambda s: s["subjects"]["spain"]["busy"] is None)
    notebook.show(notebook.lab.fresh_cell)
    answered(notebook)
    expect(notebook.chat.get_by_label("Question", exact=True)).to_have_value("Are there clouds?")
    expect(notebook.page.locator(PICTURES)).to_have_count(2)
    expect(notebook.pairs).to_contain_text("✓ chosen")


@pytest.mark.parametrize("how", ["offline", "cut"])
def test_a_lost_connection_is_said_and_nothing_is_lost(notebook, how):
    notebook.execute(READY)
    notebook.pace(0.3)
    notebook.ask(WATER)
    expect(notebook.talk.locator(LIVE)).to_have_text(re.compile(r"\w"))
    getattr(notebook, how)()
    lost = "The connection to the kernel is lost."
    expect(notebook.chat.get_by_role("alert")).to_contain_text(lost)
    folded = notebook.pairs.locator(".em-brief")
    expect(folded).to_contain_text(lost)
    notebook.dismiss()
    notebook.ask("What is the main cover?")
    box = notebook.chat.get_by_label("Question", exact=True)
    expect(box).to_have_value("What is the main cover?")  # kept, as it can't be sent
    notebook.shot(f"connection-{how}")
    notebook.online()
    answered(notebook)
    expect(notebook.chat.get_by_role("alert")).to_have_count(0)
    expect(folded).to_contain_text("Chosen: Sentinel-2")
    box.press("Enter")
    answered(notebook, 2)
    turns = notebook.subject("spain")["turns"]
    assert [turn["question"] for turn in turns] == [WATER, "What is the main cover?"]
    notebook.visitor.forgive(CUT)


def test_a_killed_kernel_is_said_and_everything_comes_back(notebook):
    notebook.fresh(0.1, kept="killed")
    notebook.execute(READY)
    notebook.rectangle(0.1, 0.1, 0.2, 0.2)
    notebook.until(lambda s: "area 1" in s["subjects"])
    notebook.page.get_by_role("button", name="spain", exact=True).click()
    expect(notebook.chat).to_contain_text("spain")
    notebook.ask(WATER)
    answered(notebook)
    notebook.ask(ENDLESS)
    expect(notebook.talk.locator(LIVE)).to_have_text(re.compile(r"\w"))
    before = notebook.state()["subjects"]
    notebook.kill()
    gone = "lost its kernel. Run its cell again"
    expect(notebook.chat.get_by_role("alert")).to_contain_text(gone)
    expect(notebook.pairs.locator(".em-brief")).to_contain_text(gone)
    expect(notebook.chat.get_by_role("button", name="Stop")).to_be_disabled()
    notebook.shot("killed")

    notebook.fresh(kept="killed")
    answered(notebook)
    expect(notebook.talk.locator(".em-stopped")).to_contain_text(ENDLESS)
    expect(notebook.page.get_by_role("button", name="area 1", exact=True)).to_be_visible()
    after = notebook.state()["subjects"]
    assert list(after) == ["spain", "area 1"]
    assert [each["bounds"] for each in after.values()] == [
        each["bounds"] for each in before.values()
    ]
    assert after["spain"]["turns"][0] == before["spain"]["turns"][0]
    notebook.ask(WATER)
    answered(notebook, 2)
    notebook.visitor.forgive(r"^Error: Cannot send\n(?s:.*)/jupyter-leaflet/")  # the old map's


# --- for every eye and hand ----------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_chat_and_pairs_are_accessible(notebook, theme):
    notebook.theme(theme)
    panels = (".em-chat", ".em-pairs")
    assert [axe(notebook.page, each) for each in panels] == [[], []]
    notebook.execute(READY)
    notebook.unfold(notebook.pairs)
    notebook.pairs.get_by_role("button", name="Factors and reasons of pair 1").click()
    notebook.ask(WATER)
    answered(notebook)
    notebook.ask(ENDLESS)  # while it is written
    expect(notebook.talk.locator(LIVE)).to_have_text(re.compile(r"\w"))
    assert [axe(notebook.page, each) for each in panels] == [[], []]
    notebook.chat.get_by_role("button", name="Stop").click()
    expect(notebook.talk.locator(".em-stopped")).to_have_count(1)
    # Everything that an EarthMap shows, with all of it loaded.
    for name in "Timeline", "Values":
        notebook.unfold(notebook.page.get_by_role("region", name=name, exact=True))
    others = (".em-areas", ".em-timeline", ".em-layers", ".em-probe")
    assert [axe(notebook.page, each) for each in others] == [[], [], [], []]
    for width in WIDTH, NARROW:
        notebook.size(width)
        notebook.shot(f"{theme}-{width}")
        assert [axe(notebook.page, each) for each in panels] == [[], []]
        # What a scroll of the table's own brings up, and nothing reaches out of its panel.
        table = notebook.pairs.locator(".em-scroll")
        table.evaluate("each => each.scrollLeft = each.scrollWidth")
        assert axe(notebook.page, ".em-pairs") == []
        table.evaluate("each => each.scrollLeft = 0")
        for panel in panels:
            assert notebook.page.locator(panel).evaluate("each => each.scrollWidth") <= width


def test_axe_sees_what_is_wrong(notebook):
    notebook.execute(READY)
    notebook.unfold(notebook.pairs)
    notebook.page.evaluate("""() => {
      document.querySelector('.em-pairs th').textContent = '';
      document.querySelector('.em-chat .em-title').style.color = '#bbb';
    }""")
    (header,) = axe(notebook.page, ".em-pairs")
    assert header.startswith("empty-table-header")
    (title,) = axe(notebook.page, ".em-chat")
    assert title.startswith("color-contrast")


def test_the_keyboard_keeps_its_place(notebook):
    notebook.execute('m.session.open_place("spain")')
    page = notebook.page
    notebook.pairs.get_by_role("button", name="Find pairs").focus()
    page.keyboard.press("Enter")
    choose = notebook.pairs.get_by_role("button", name="Choose pair 1")
    expect(choose).to_be_visible()
    expect(notebook.pairs.get_by_role("button", name="Find pairs")).to_be_focused()
    choose.focus()
    page.keyboard.press("Enter")
    expect(notebook.pairs.get_by_text("Chosen: Sentinel-2")).to_be_visible()
    assert page.evaluate(FOCUSED) == "Pairs of spain"
    suggestion = notebook.chat.get_by_role("button", name=WATER)
    expect(suggestion).to_be_visible()
    suggestion.focus()
    page.keyboard.press("Enter")
    answered(notebook)
    expect(notebook.chat.get_by_label("Question", exact=True)).to_be_focused()
    # In the notebook's command mode b adds a cell, and d, d takes one away: not from in here.
    cells = page.evaluate(CELLS)
    places = page.get_by_label("Sample place")
    for part in notebook.talk, notebook.pairs.locator(".em-folder"), places:
        for keys in ("b", "dd"):
            for key in keys:
                part.press(key)
            assert page.evaluate(CELLS) == cells, (part, keys)
    assert page.locator(".jp-mod-editMode").count() == 0


# --- the ground itself ---------------------------------------------------------------------------


def test_a_fresh_map_knows_nothing_of_the_one_before(notebook):
    open_widgets = "len(__import__('tests.browser.lab_kernel', fromlist=['']).widgets())"
    before = notebook.value(open_widgets)
    notebook.execute(READY)
    notebook.theme("dark")
    notebook.size(NARROW)
    notebook.fresh()
    assert notebook.state()["subjects"] == {}
    assert notebook.value(open_widgets) == before
    expect(notebook.map).to_have_count(1)
    expect(notebook.page.locator(SHAPES)).to_have_count(0)
    assert notebook.page.viewport_size == {"width": WIDTH, "height": HEIGHT}
    assert set(notebook.lab.saved_names()) <= {"killed"}  # none of the nameless


def test_the_sheet_shows_every_shot(tmp_path):
    class Grey:
        def __init__(self, size):
            self.size = size

        def screenshot(self, path, **_):
            Image.new("RGB", self.size, "grey").save(path)

    shots = Shots(tmp_path / "shots")
    assert shots.sheet() is None
    for number, size in enumerate([(900, 300), (100, 2000), (30, 30), (500, 500), (1400, 900)]):
        shots.take(f"shot-{number}", Grey(size))
    sheet = shots.sheet()
    assert sheet == shots.sheet()  # a second process makes it again, without the sheet itself
    with Image.open(sheet) as picture:
        colours = {colour: count for count, colour in picture.getcolors(2**16)}
    whole = [(420, 140), (21, 420), (30, 30), (420, 420), (420, 270)]
    assert colours[128, 128, 128] == pytest.approx(sum(w * h for w, h in whole), rel=0.01)


def test_the_package_holds_no_axe():
    package = json.loads((ROOT / "widgets" / "package.json").read_text(encoding="utf-8"))
    assert "axe-core" in package["devDependencies"]
    assert "dependencies" not in package
    for path in (ROOT / "earthmind_lab").rglob("*"):
        if path.suffix in (".js", ".css", ".html", ".json", ".ipynb"):
            assert "axe-core" not in path.read_text(encoding="utf-8"), path
