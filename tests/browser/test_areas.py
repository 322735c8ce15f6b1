"""Areas in JupyterLab: mouse, keyboard, files, versions, and a kernel that starts again.

One server, one kernel, one page; the tests go on from each other's state, as a person would.
"""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, expect

from earthmind_lab.data.samples import place
from tests.browser.axe import axe
from tests.browser.lab_server import Lab

KERNEL = "7.3.0"
KEPT = "areas"
"""The session of all tests."""
AREAS = (
    "{name: {'bounds': s.aoi.bounds, 'version': s.version, 'versions': len(s.versions),"
    " 'regions': [r.label for r in s.regions]} for name, s in m.session.subjects.items()}"
)
LAYER = "m.areas.outlines.data['features']"
DROP = """([name, text]) => {
  const data = new DataTransfer();
  data.items.add(new File([text], name));
  document.querySelector('.em-areas').dispatchEvent(
    new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}));
}"""
HANDLES = ".leaflet-marker-icon.leaflet-editing-icon:not([style*='opacity: 0.6'])"
"""Corners; those in the middle of a side, where a new corner is made, are half transparent."""
WEBSOCKET_LIMIT = 10 * 2**20
"""Jupyter closes its connection on a message that is longer."""


@pytest.fixture(scope="module")
def lab(serve, tmp_path_factory):
    return Lab(serve, tmp_path_factory.mktemp("areas"), kernel=KERNEL)


@pytest.fixture
def notebook(opened):
    """The map over the session of all tests, in one page."""
    opened.fresh(kept=KEPT)
    expect(panel(opened)).to_be_visible()
    yield opened
    opened.visitor.check()


def panel(notebook) -> Locator:
    return notebook.page.get_by_role("region", name="Areas")


def areas(notebook):
    return notebook.value(AREAS)


def until(notebook, holds):
    return notebook.until(holds, AREAS)


def press(notebook, name):
    panel(notebook).get_by_role("button", name=name, exact=True).click()


def unfold(notebook):
    summary = panel(notebook).locator("summary")
    if panel(notebook).locator("details[open]").count() == 0:
        summary.click()


def place_mark(name, west):
    corners = ((west, 45), (west + 0.02, 45), (west + 0.02, 45.02), (west, 45.02), (west, 45))
    points = " ".join(f"{x},{y},3" for x, y in corners)
    return (
        f"<Placemark><name>{name}</name><Polygon><outerBoundaryIs><LinearRing><coordinates>"
        f"{points}</coordinates></LinearRing></outerBoundaryIs></Polygon></Placemark>"
    )


def kml(*names):
    marks = "".join(place_mark(name, 15 + at) for at, name in enumerate(names))
    return f'<kml xmlns="http://www.opengis.net/kml/2.2"><Document>{marks}</Document></kml>'


def handles(notebook, shares):
    """Centres of the corners that can be dragged within a part of the map: left, top, right,
    bottom as shares of its size."""
    box = notebook.map.bounding_box()
    left, top, right, bottom = shares
    centres = notebook.page.locator(HANDLES).evaluate_all(
        "all => all.map((each) => each.getBoundingClientRect())"
        ".map((box) => [box.x + box.width / 2, box.y + box.height / 2])"
    )
    return [
        (x, y) for x, y in centres
        if left < (x - box["x"]) / box["width"] < right
        and top < (y - box["y"]) / box["height"] < bottom
    ]  # fmt: skip


def move(notebook, at, right, down):
    """Drag what is at a place of the page, by pixels."""
    mouse, (x, y) = notebook.page.mouse, at
    mouse.move(x, y)
    mouse.down()
    mouse.move(x + right, y + down, steps=6)
    mouse.up()


def test_drawn_edited_with_the_mouse_and_taken_from_the_view(notebook):
    page = notebook.page
    expect(panel(notebook)).to_contain_text("Open a sample place, draw on the map")
    # The world is too much for an area, and that is said where one looks.
    unfold(notebook)
    press(notebook, "Use the map's view")
    expect(panel(notebook).get_by_role("alert")).to_contain_text("zoom in")
    panel(notebook).get_by_label("Sample place").select_option(place("spain").title)
    press(notebook, "Open place")
    until(notebook, lambda s: list(s) == ["spain"])
    expect(panel(notebook).get_by_role("alert")).to_be_hidden()
    page.wait_for_timeout(500)  # the flight

    center = notebook.value("list(m.map.center)")
    notebook.rectangle(0.30, 0.30, 0.45, 0.45)
    drawn = until(notebook, lambda s: "area 1" in s)["area 1"]["bounds"]
    expect(panel(notebook).get_by_role("button", name="area 1", exact=True)).to_have_attribute(
        "aria-current", "true"
    )
    assert notebook.value("list(m.map.center)") == center

    # An edit with the mouse: the lower right corner of what was drawn moves away.
    page.locator("a.leaflet-draw-edit-edit").click()
    expect(page.locator(HANDLES).first).to_be_visible()
    corner = max(handles(notebook, (0.28, 0.28, 0.47, 0.47)), key=sum)
    move(notebook, corner, 40, 20)
    page.locator(".leaflet-draw-actions a", has_text="Save").click()
    edited = until(notebook, lambda s: s["area 1"]["version"] == 2)["area 1"]["bounds"]
    assert edited[2] > drawn[2]
    assert edited[1] < drawn[1]
    assert edited[0] == pytest.approx(drawn[0], abs=1e-6)

    press(notebook, "Use the map's view")
    view = until(notebook, lambda s: "area 2" in s)["area 2"]["bounds"]
    (south, west), (north, east) = notebook.value("m.map.bounds")
    assert view == pytest.approx([west, south, east, north], abs=2e-6)
    expect(panel(notebook)).to_contain_text("Larger than earthmind-nano sees (3.5 km on a side)")
    for theme in ("light", "dark"):
        notebook.theme(theme)
        notebook.shot(f"areas-{theme}")
        assert axe(page, ".em-areas") == []


def test_a_box_by_keyboard_alone(notebook):
    page, keyboard = notebook.page, notebook.page.keyboard
    before = areas(notebook)
    panel(notebook).get_by_label("Sample place").focus()
    summary = panel(notebook).locator("summary")
    for _ in range(60):
        keyboard.press("Tab")
        if summary.evaluate("each => each === document.activeElement"):
            break
    keyboard.press("Enter")
    west = panel(notebook).get_by_label("West", exact=False)
    for _ in range(5):
        keyboard.press("Tab")
        if west.evaluate("each => each === document.activeElement"):
            break
    for value in ("-0.775", "38.09", "-0.745", "38.12"):
        keyboard.type(value)
        keyboard.press("Tab")
    expect(panel(notebook).get_by_role("button", name="Add box")).to_be_focused()
    keyboard.press("Enter")
    now = until(notebook, lambda s: len(s) > len(before))
    (name,) = set(now) - set(before)
    assert now[name]["bounds"] == pytest.approx([-0.775, 38.09, -0.745, 38.12])
    # The focus stays where it was, and a name is changed without a mouse too.
    expect(panel(notebook).get_by_role("button", name="Add box")).to_be_focused()
    rename = panel(notebook).get_by_role("button", name=f"Rename {name}")
    rename.focus()
    keyboard.press("Enter")
    expect(panel(notebook).get_by_role("textbox", name="New name")).to_be_focused()
    keyboard.type("Orihuela <b>fields</b>")
    keyboard.press("Enter")
    until(notebook, lambda s: "Orihuela <b>fields</b>" in s and name not in s)
    expect(
        panel(notebook).get_by_role("button", name="Rename Orihuela <b>fields</b>")
    ).to_be_focused()
    assert page.locator(".jp-mod-editMode").count() == 0


def test_versions_and_their_way_back(notebook):
    before = areas(notebook)["area 1"]
    press(notebook, "area 1")
    notebook.until(lambda active: active == "area 1", "m.session.active")
    press(notebook, "Versions (2) of area 1")
    versions = panel(notebook).get_by_role("list", name="Versions of area 1")
    expect(versions).to_contain_text("Version 1")
    versions.get_by_role("button", name="Restore version 1").click()
    after = until(notebook, lambda s: s["area 1"]["version"] == 1)["area 1"]
    assert after["bounds"] != before["bounds"]
    expect(versions.locator("[aria-current=true]")).to_contain_text("Version 1")
    press(notebook, "Undo")
    until(notebook, lambda s: s["area 1"]["version"] == 2)


def test_a_region_drawn_on_the_map(notebook):
    press(notebook, "area 1")
    page = notebook.page
    page.wait_for_timeout(500)  # the flight
    panel(notebook).get_by_label("regions of the active area").check()
    notebook.until(lambda mode: mode == "region", "m.areas.mode")
    notebook.rectangle(0.42, 0.42, 0.55, 0.55)
    until(notebook, lambda s: s["area 1"]["regions"] == ["region 1"])
    expect(panel(notebook)).to_contain_text("Marked regions")
    (shape,) = notebook.value(LAYER)
    assert shape["properties"]["label"] == "region 1"
    dashed = page.locator(".leaflet-overlay-pane path[stroke-dasharray]")
    expect(dashed).to_have_count(1)
    notebook.shot("areas-region")
    panel(notebook).get_by_label("areas", exact=True).check()
    notebook.until(lambda mode: mode == "area", "m.areas.mode")


def test_files_by_button_and_drop(notebook, tmp_path):
    path = tmp_path / "fields.kml"
    path.write_text(kml("north", "middle", "south"))
    unfold(notebook)
    panel(notebook).get_by_label("File").set_input_files(path)
    choice = panel(notebook).get_by_role("group", name="3 areas in fields.kml: choose")
    expect(choice).to_be_visible()
    notebook.shot("areas-choice")
    assert axe(notebook.page, ".em-areas") == []
    expect(choice).to_be_focused()
    choice.get_by_label("middle").uncheck()
    choice.get_by_role("button", name="Add chosen").click()
    found = until(notebook, lambda s: {"north", "south"} <= set(s))
    assert "middle" not in found
    assert found["south"]["bounds"] == pytest.approx([17, 45, 17.02, 45.02])
    expect(choice).to_be_hidden()

    # Dropped, and longer than a message may be.
    text = kml("dropped").replace("<Document>", "<Document>" + " " * (WEBSOCKET_LIMIT + 2**20))
    notebook.page.evaluate(DROP, ["large.kml", text])
    expect(panel(notebook).get_by_role("progressbar", name="Upload")).to_be_visible()
    until(notebook, lambda s: "dropped" in s)
    expect(panel(notebook).get_by_role("progressbar", name="Upload")).to_be_hidden()

    press(notebook, "Delete dropped")
    until(notebook, lambda s: "dropped" not in s)
    press(notebook, "Undo")
    until(notebook, lambda s: "dropped" in s)


def test_a_restarted_kernel_keeps_all(lab, notebook):
    before = areas(notebook)
    assert before["area 1"]["versions"] == 1
    assert before["area 1"]["regions"] == ["region 1"]
    active = notebook.value("m.session.active")
    notebook.restart()
    expect(panel(notebook)).to_contain_text("lost its kernel")
    expect(panel(notebook).get_by_label("Sample place")).to_be_disabled()
    notebook.connected()
    notebook.fresh(kept=KEPT)
    expect(panel(notebook)).to_contain_text("Orihuela <b>fields</b>")
    assert areas(notebook) == before
    assert notebook.value("m.session.active") == active
    names = panel(notebook).locator(".em-name")
    assert [re.sub(r"\s+", " ", name) for name in names.all_inner_texts()] == list(before)
