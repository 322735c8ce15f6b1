"""The main way through the map notebook, the same in every application: from a place to an answer,
to a stop, to undo.
"""

from __future__ import annotations

import re

from playwright.sync_api import expect

from earthmind_lab.data.samples import place
from tests.browser.lab_kernel import ENDLESS
from tests.browser.lab_side import Notebook, shown

WATER = "Segment the water."
READY = """
m.session.open_place("spain")
if m.session.subject().chosen is None:
    m.session.search().result()
    m.session.choose(0).result()
"""
"""A place with its pair loaded, from Python."""
PICTURES = ".leaflet-earthmind-optical-pane img, .leaflet-earthmind-sar-pane img"
SHAPES = ".leaflet-overlay-pane path"
"""Outlines on the map: areas, and objects of answers."""
SCREENS = ((1366, 768), (1920, 1080))
"""Of laptops and of desks, in px: where map and chat stand together."""
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


def from_place_to_undo(notebook: Notebook) -> None:
    """All of it on a map over an empty session, whose model speaks at a pace."""
    lab, page = notebook.lab, notebook.page
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
    expect(page.get_by_label("Swipe between Sentinel-2, 18 Sep 2019 and Sentinel-1")).to_have_count(
        1
    )
    notebook.map.scroll_into_view_if_needed()  # the switch may lie far below
    notebook.drag((0.5, 0.5), (0.25, 0.5))
    page.wait_for_function(
        "[...document.querySelectorAll('.leaflet-sbs-range')].some((each) => each.value < 0.4)"
    )
    # Moves of a widget may be on their way beside what a cell asks.
    notebook.until(lambda position: position < 0.4, "m.layers.swipe.position")
    assert all(pane.evaluate("each => each.style.clip").startswith("rect(") for pane in panes)
    swipe.click()
    expect(page.get_by_label("Swipe between Sentinel-2, 18 Sep 2019 and Sentinel-1")).to_have_count(
        0
    )
    assert not any(pane.evaluate("each => each.style.clip") for pane in panes)

    # A question: the text grows, then its objects are on the map.
    before = page.locator(SHAPES).count()
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
    notebook.shot(f"{lab.name}-answer")
    for size in SCREENS:
        notebook.size(*size)
        notebook.in_sight()
    notebook.size()

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
