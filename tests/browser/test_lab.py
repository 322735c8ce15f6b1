"""The map notebook in JupyterLab, in a real browser, with both ways of ipykernel.

One server, one kernel and one notebook per version; the tests go on from each other's state, as a
person would: first the main way through, then a busy kernel, a second view, a restart.
"""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import expect

from earthmind_lab.data.samples import place
from tests.browser.lab_kernel import ENDLESS
from tests.browser.lab_side import OWN_ERRORS, Lab, Notebook, shown

KERNELS = ("7.3.0", "7.4.0")
FIRST = 1
"""Place of the cell that makes the map."""
WATER = "Segment the water."
CELLS = ("from tests.browser.lab_kernel import stay_busy\nended = stay_busy()", "m.chat")
READY = """
m.session.open_place("spain")
if m.session.subject().chosen is None:
    m.session.search().result()
    m.session.choose(0).result()
"""
PICTURES = ".leaflet-earthmind-optical-pane img, .leaflet-earthmind-sar-pane img"
SHAPES = ".leaflet-overlay-pane path"
LIVE = ".em-current .em-text"
WATCH = """() => {
  const written = (window.written = []);
  new MutationObserver(() => {
    const text = document.querySelector('.em-current .em-text')?.textContent ?? '';
    if (/\\w/.test(text) && written.at(-1) !== text) written.push(text);
  }).observe(document.body, {subtree: true, childList: true, characterData: true});
}"""
"""Keeps each text that an answer shows while it is written: a busy machine shows them too briefly
for a look from outside."""


@pytest.fixture(scope="module", params=KERNELS)
def lab(request, serve, tmp_path_factory):
    folder = tmp_path_factory.mktemp(f"lab-{request.param}")
    return Lab(serve, folder, kernel=request.param, cells=CELLS)


@pytest.fixture
def notebook(lab, visit):
    """The notebook in a new browser; its kernel lives from test to test."""
    return Notebook(lab, visit(lab.url, allowed=OWN_ERRORS, width=1400, height=900))


def start(notebook, pace=0.15):
    """Run the cell that makes the map; the model speaks at a pace."""
    notebook.run(FIRST)
    expect(notebook.map).to_be_visible()
    notebook.execute(f"from tests.browser.lab_kernel import pace; pace(m.session, {pace})")


def shapes(notebook):
    """Outlines on the map: areas, and objects of answers."""
    return notebook.page.locator(SHAPES).count()


def test_from_place_to_answer_to_stop_to_undo(lab, notebook):
    page = notebook.page
    start(notebook)
    assert notebook.value("__import__('ipykernel').__version__") == lab.kernel
    assert notebook.state()["subjects"] == {}

    # A place: the map goes there and draws its area.
    page.get_by_label("Sample place").select_option(place("spain").title)
    page.get_by_role("button", name="Open place").click()
    spain = notebook.until(lambda s: "spain" in s["subjects"])["subjects"]["spain"]
    expect(page.locator(SHAPES)).to_have_count(1)
    west, south, east, north = spain["bounds"]
    lat, lon = notebook.value("list(m.map.center)")
    assert west < lon < east and south < lat < north

    # A rectangle drawn with the mouse: exactly one new area, where it was drawn.
    notebook.rectangle(0.30, 0.30, 0.45, 0.45)
    drawn = notebook.until(lambda s: "area 1" in s["subjects"])
    assert list(drawn["subjects"]) == ["spain", "area 1"]
    assert drawn["active"] == "area 1"
    assert drawn["log"] == ["open", "draw"]
    expect(page.locator(SHAPES)).to_have_count(2)
    left, bottom, right, top = drawn["subjects"]["area 1"]["bounds"]
    assert left < right < lon and lat < top and bottom < top

    # Back to the place: search, choose, both pictures.
    page.get_by_role("button", name="spain", exact=True).click()
    notebook.until(lambda s: s["active"] == "spain")
    notebook.pairs.get_by_role("button", name="Find pairs").click()
    notebook.pairs.get_by_role("button", name="Choose pair 1").click()
    expect(notebook.pairs).to_contain_text("✓ chosen")
    expect(page.locator(PICTURES)).to_have_count(2)
    shown(page.locator(PICTURES))
    assert notebook.subject("spain")["chosen"] == 0
    assert "Optical" in notebook.value("[layer.name for layer in m.map.layers]")

    # Swipe: each sensor on its side of the line, and the whole map again afterwards.
    panes = [page.locator(f".leaflet-earthmind-{name}-pane") for name in ("optical", "sar")]
    swipe = page.get_by_role("button", name="Swipe")
    swipe.click()
    expect(page.get_by_label("Swipe between optical and SAR")).to_have_count(1)
    notebook.drag((0.5, 0.5), (0.25, 0.5))
    notebook.page.wait_for_function(
        "[...document.querySelectorAll('.leaflet-sbs-range')].some((each) => each.value < 0.4)"
    )
    # Moves of a widget may be on their way beside what a cell asks.
    notebook.until(lambda position: position < 0.4, "m.layers.swipe.position")
    assert all(pane.evaluate("each => each.style.clip").startswith("rect(") for pane in panes)
    swipe.click()
    expect(page.get_by_label("Swipe between optical and SAR")).to_have_count(0)
    assert not any(pane.evaluate("each => each.style.clip") for pane in panes)

    # A question: the text grows, then its objects are on the map.
    before = shapes(notebook)
    page.evaluate(WATCH)
    notebook.ask(WATER)
    expect(notebook.talk.locator(".em-done")).to_contain_text("mapped area")
    early, *later = page.evaluate("window.written")
    assert later
    assert all(text.startswith(early) for text in later)
    page.wait_for_function(f"document.querySelectorAll('{SHAPES}').length > {before}")
    (turn,) = notebook.subject("spain")["turns"]
    assert turn["state"] == "done"
    assert turn["text"].startswith(later[-1].strip())
    assert {each["label"] for each in turn["features"]} == {"water"}
    assert all(each["source"] and each["observed"] for each in turn["features"])
    assert notebook.value("[each.name for each in m.map.layers][-1]") == "answer 1"
    notebook.visitor.shot(f"lab-answer-{lab.kernel}")

    # Stop a second one after its first word.
    notebook.ask(ENDLESS)
    expect(notebook.talk.locator(LIVE)).to_have_text(re.compile(r"\w"))
    notebook.chat.get_by_role("button", name="Stop").click()
    expect(notebook.talk.locator(".em-stopped")).to_contain_text("Stopped")
    first, second = notebook.until(lambda s: len(s["subjects"]["spain"]["turns"]) == 2)[
        "subjects"]["spain"]["turns"]  # fmt: skip
    assert (first["state"], second["state"]) == ("done", "stopped")
    assert second["text"].strip()
    assert notebook.subject("spain")["busy"] is None

    # Undo: first the stopped question, then the answer with its layer.
    undo = notebook.chat.get_by_role("button", name="Undo")
    undo.click()
    expect(notebook.talk.locator(".em-turn")).to_have_count(1)
    undo.click()
    expect(notebook.talk.locator(".em-turn")).to_have_count(0)
    expect(page.locator(SHAPES)).to_have_count(before)
    left_over = notebook.state()
    assert left_over["log"] == ["open", "draw", "select", "search", "choose"]
    assert left_over["subjects"]["spain"]["turns"] == []
    assert list(left_over["subjects"]) == ["spain", "area 1"]
    assert [each["name"] for each in lab.saved()["subjects"]] == ["spain", "area 1"]


def test_nothing_is_lost_while_a_cell_runs(lab, notebook):
    start(notebook, pace=0.0)
    notebook.execute(READY)
    busy, _ = lab.own_cells
    expect(notebook.chat).to_contain_text("spain")
    notebook.start(busy)
    expect(notebook.page.locator(".jp-Notebook-ExecutionIndicator")).to_have_attribute(
        "data-status", "busy"
    )
    notebook.show(FIRST)
    notebook.ask(WATER)
    done = notebook.talk.locator(".em-done")
    if lab.kernel == "7.3.0":  # answers beside the cell; 7.4 may keep the click until it ends
        expect(done).to_contain_text("mapped area")
    asked = time.time()
    lab.let_go()
    expect(done).to_contain_text("mapped area")
    assert notebook.value("ended") > asked
    (turn,) = notebook.subject("spain")["turns"]
    assert (turn["question"], turn["state"]) == (WATER, "done")


def test_a_second_view_and_a_new_tab_show_the_same_talk(lab, notebook):
    start(notebook, pace=0.05)
    _, again = lab.own_cells
    notebook.run(again)
    expect(notebook.chat).to_have_count(2)
    for talk in notebook.talk.all():
        expect(talk).to_contain_text("Sure, the water.")
    # A question in one is in the other, while it is written and afterwards.
    second = notebook.chat.nth(1)
    second.get_by_label("Question", exact=True).fill("What is the main cover?")
    second.get_by_role("button", name="Send").click()
    for talk in notebook.talk.all():
        expect(talk.locator(".em-done")).to_have_count(2)
        expect(talk).to_contain_text("What is the main cover?")
    assert len(notebook.subject("spain")["turns"]) == 2


def test_a_restarted_kernel_knows_everything(lab, notebook):
    start(notebook)
    notebook.ask(ENDLESS)
    expect(notebook.talk.locator(LIVE)).to_have_text(re.compile(r"\w"))
    before = notebook.state()
    notebook.restart()
    expect(notebook.chat).to_contain_text("lost its kernel")
    start(notebook)
    expect(notebook.talk.locator(".em-done")).to_have_count(2)
    expect(notebook.talk.locator(".em-stopped")).to_have_count(1)
    after = notebook.state()
    assert list(after["subjects"]) == list(before["subjects"])
    for name, subject in before["subjects"].items():
        now = after["subjects"][name]
        assert {k: v for k, v in now.items() if k not in ("turns", "busy")} == {
            k: v for k, v in subject.items() if k not in ("turns", "busy")
        }
        assert now["turns"][: len(subject["turns"])] == subject["turns"]
    *_, cut = after["subjects"]["spain"]["turns"]
    assert (cut["question"], cut["state"]) == (ENDLESS, "stopped")
    assert after["active"] == "spain"
    # The pictures come back on request, and the next question works.
    notebook.page.get_by_role("button", name="Show the pictures").click()
    expect(notebook.page.locator(PICTURES)).to_have_count(2)
    notebook.ask(WATER)
    expect(notebook.talk.locator(".em-done")).to_have_count(3)
