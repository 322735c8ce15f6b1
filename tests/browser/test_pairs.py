"""Searching, the timeline, the user's own choices and a catalog that stalls, in JupyterLab.

Each test has a map of its own, over a session in memory; all is done by keyboard where a person
could.
"""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.lab_side import OWN_ERRORS, Lab, Notebook
from tests.stac_server import serve_stac

FRESH = """
from earthmind_lab.session import Session
from earthmind_lab.widgets import EarthMap
m = EarthMap(Session())
m
"""
PUNJAB = 'm.session.open_place("punjab")'
SEARCHED = f"{PUNJAB}\nm.session.search(max_cloud=100).result()"
DARK = "window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})"
BOX = "(-0.775, 38.09, -0.745, 38.12)"


@pytest.fixture(scope="module")
def lab(serve, tmp_path_factory):
    return Lab(serve, tmp_path_factory.mktemp("lab-pairs"), kernel="7.3.0", cells=(FRESH,))


@pytest.fixture
def notebook(lab, visit):
    """The notebook in a browser of its own, with a new map."""
    notebook = Notebook(lab, visit(lab.url, allowed=OWN_ERRORS, width=1500, height=1400))
    notebook.run(lab.own_cells[0])
    expect(notebook.map).to_be_visible()
    return notebook


@pytest.fixture
def pairs(notebook):
    return notebook.page.get_by_role("region", name="Pairs")


@pytest.fixture
def timeline(notebook):
    timeline = notebook.page.get_by_role("region", name="Timeline")
    notebook.unfold(timeline)
    return timeline


def asked(notebook):
    """What the search asked."""
    return notebook.value("dict(m.session.subject().query or {})")


def test_other_sensors_and_dates_by_keyboard(notebook, pairs, timeline):
    page = notebook.page
    notebook.execute(PUNJAB)
    expect(pairs).to_contain_text("Pairs of punjab")
    pairs.get_by_label("Sensors", exact=True).focus()
    page.keyboard.type("SAR")
    expect(pairs.get_by_label("Sensors", exact=True)).to_have_value("sar")
    page.keyboard.press("Tab")
    expect(pairs.get_by_label("Cloud at most, %")).to_be_focused()
    page.keyboard.type("100")
    page.keyboard.press("Enter")
    expect(pairs.locator("caption")).to_contain_text("best first")
    assert asked(notebook)["sensors"] == ["sar"]
    expect(pairs.locator("tbody")).not_to_contain_text("Sentinel-2")
    expect(pairs.locator(".em-look").first).to_be_visible()

    # Both sensors, and a day in words; what was asked stays in the form.
    pairs.get_by_label("Sensors", exact=True).focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    expect(pairs.get_by_label("Sensors", exact=True)).to_have_value("optical,sar")
    pairs.get_by_text("Catalog, purpose, a day to be near").click()
    dates = pairs.get_by_label("Dates in words")
    whole = dates.input_value()
    dates.fill("2020-06-04/2020-06-07")
    expect(pairs.get_by_label("From")).to_have_value("2020-06-04")
    dates.press("Enter")
    expect(pairs.locator("tbody")).to_contain_text("Sentinel-2")
    assert asked(notebook)["dates"] == "2020-06-04/2020-06-07" != whole
    assert asked(notebook)["max_cloud"] == 100
    states = pairs.get_by_label("Catalog").locator("option").all_inner_texts()
    assert "Microsoft Planetary Computer" in states
    pairs.get_by_label("Catalog").select_option("copernicus")
    expect(pairs).to_contain_text("needs network and a key: CDSE_S3_ACCESS_KEY")

    # Sorted by another column, without a word to the kernel.
    pairs.get_by_role("button", name="Gap").press("Enter")
    expect(pairs.locator("caption")).to_contain_text("best gap first")
    why = pairs.get_by_role("button", name="Factors and reasons of pair 1")
    why.press("Enter")
    expect(pairs.locator(".em-more").first).to_contain_text("valid and clear")
    expect(why).to_be_focused()
    expect(timeline).to_contain_text("1 pair")


def test_timeline_reason_choice_pin_and_back(notebook, pairs, timeline):
    page = notebook.page
    notebook.execute(SEARCHED)
    expect(timeline).to_contain_text("5 rejected")
    notebook.visitor.shot("pairs-light")

    # One stop for Tab, arrows from scene to scene; the reason is there for eyes and ears.
    stop = timeline.locator("[data-scene][tabindex='0']")
    expect(stop).to_have_count(1)
    stop.focus()
    page.keyboard.press("End")
    reason = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert "Sentinel-2" in reason
    assert "Rejected: The gap is" in reason
    expect(timeline.locator(".em-tip")).to_have_text(reason)
    page.keyboard.press("Enter")
    expect(timeline.locator(".em-detail")).to_contain_text(reason.partition("Rejected: ")[2])
    notebook.visitor.shot("pairs-rejected")

    # Its scene pinned from here: a search that is the user's, and back.
    before = asked(notebook)
    timeline.get_by_role("button", name="Pin ").press("Enter")
    notebook.until(lambda query: "pin" in query, "dict(m.session.subject().query or {})")
    expect(pairs).to_contain_text("Pinned by you")
    notebook.visitor.shot("pairs-pinned")
    notebook.chat.get_by_role("button", name="Undo").press("Enter")
    expect(pairs).not_to_contain_text("Pinned by you")
    assert asked(notebook) == before
    expect(pairs.get_by_role("button", name="Choose pair 1")).to_be_enabled()

    # Excluded in the table: no pair is left, which is said beside what was looked at; taken back.
    pairs.get_by_role("button", name="Exclude ").last.press("Enter")
    expect(pairs.get_by_role("alert")).to_contain_text("Try:")
    out = timeline.get_by_role("button", name="Rejected: Excluded by the user")
    expect(out.first).to_be_visible()
    notebook.visitor.shot("pairs-missed")
    pairs.get_by_role("button", name="Take back: Excluded by you").press("Enter")
    expect(timeline).to_contain_text("1 pair, 5 rejected")

    # The pair chosen on its line; a scene of it says so.
    touch = timeline.locator("line.em-touch").first
    touch.scroll_into_view_if_needed()
    box = touch.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(pairs).to_contain_text("✓ chosen")
    expect(pairs.get_by_text("Chosen: Sentinel-2")).to_be_visible()  # all that is left of the table
    expect(timeline.get_by_role("button", name="pair 1 is chosen")).to_have_count(2)
    assert notebook.subject("punjab")["chosen"] == 0
    page.evaluate(DARK)
    expect(page.locator("body")).to_have_attribute("data-jp-theme-light", "false")
    expect(page.locator("#jupyterlab-splash")).to_have_count(0)
    notebook.visitor.shot("pairs-dark")


def test_a_catalog_that_stalls_is_said_and_stopped(notebook, pairs):
    notebook.execute(f"m.session.draw({BOX})")
    expect(pairs).to_contain_text("Pairs of area 1")
    with serve_stac([], stall=120.0) as server:
        notebook.execute(f"import os; os.environ['EARTHMIND_HOSTS'] = '{server.place}'")
        pairs.get_by_text("Catalog, purpose, a day to be near").click()
        pairs.get_by_label("Catalog").select_option(label="by path…")
        pairs.get_by_label("Path or address").fill(server.url)
        pairs.get_by_label("From").fill("2019-09-15")
        pairs.get_by_label("to", exact=True).fill("2019-09-20")
        pairs.get_by_role("button", name="Find pairs").press("Enter")
        expect(pairs.get_by_role("button", name="Stop")).to_be_focused()
        expect(pairs).to_contain_text("s of 120 s")
        expect(pairs).to_contain_text("The catalog has not answered for 5 s.", timeout=30_000)
        notebook.visitor.shot("pairs-stall")
        pairs.get_by_role("button", name="Stop").press("Enter")
        expect(pairs).to_contain_text("Stopped.")
        expect(pairs.get_by_role("button", name="Find pairs")).to_be_focused()
        expect(pairs).not_to_contain_text("has not answered")

    # What was typed is still there, and another catalog answers.
    pairs.get_by_label("Catalog").select_option("sample")
    pairs.get_by_role("button", name="Find pairs").press("Enter")
    expect(pairs.get_by_role("button", name="Choose pair 1")).to_be_enabled()
    assert asked(notebook)["dates"] == "2019-09-15/2019-09-20"
