"""The talk in the map's chat: asked again, branches, without a sensor, regions, as Python.

One page for all tests: each begins with a new map over an empty session.
"""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.axe import axe
from tests.browser.lab_kernel import ENDLESS
from tests.browser.lab_server import Lab
from tests.browser.lab_side import WIDTH
from tests.browser.main_way import LIVE, READY, WATER

COVER = "What is the main cover?"
NARROW = 480
HOSTILE = "<img src=x onerror=alert(1)>"
REGION = """
west, south, east, north = m.session.subject().aoi.bounds
m.session.mark((west, south, (west + east) / 2, (south + north) / 2), {0!r})
"""


@pytest.fixture(scope="module")
def lab(serve, tmp_path_factory):
    return Lab(serve, tmp_path_factory.mktemp("lab"), kernel="7.3.0")


@pytest.fixture
def asked(notebook):
    """A map on which one question is answered."""
    notebook.execute(READY)
    expect(notebook.chat.get_by_role("button", name="Send")).to_be_enabled()  # it has heard of it
    notebook.ask(WATER)
    expect(notebook.talk.locator(".em-done")).to_have_count(1)
    return notebook


def tool(notebook, name):
    return notebook.talk.get_by_role("button", name=name, exact=True)


def test_a_question_is_edited_asked_again_and_its_branches_gone_through(asked):
    """By keyboard alone."""
    page = asked.page
    tool(asked, "Edit").focus()
    page.keyboard.press("Enter")
    box = asked.talk.get_by_label("Edit the question")
    expect(box).to_be_focused()
    expect(box).to_have_value(WATER)
    box.fill("Is this left?")
    page.keyboard.press("Escape")
    expect(box).to_have_count(0)
    expect(tool(asked, "Edit")).to_be_focused()
    # JupyterLab's own keys stay asleep: the notebook is as it was.
    page.keyboard.press("Enter")
    box.fill(COVER)
    page.keyboard.press("Enter")
    turn = asked.talk.locator(".em-done")
    expect(turn.locator(".em-question")).to_have_text(COVER)
    expect(turn.get_by_role("img", name="Version 2 of 2")).to_have_text("2/2")
    tool(asked, "Earlier version").focus()
    page.keyboard.press("Enter")
    expect(turn.locator(".em-question")).to_have_text(WATER)
    expect(tool(asked, "Later version")).to_be_focused()
    page.keyboard.press("Enter")
    expect(turn.locator(".em-question")).to_have_text(COVER)
    asked.shot("talk-branches")

    asked.chat.get_by_role("button", name="New talk").click()
    expect(asked.talk.locator(".em-turn")).to_have_count(0)
    asked.chat.get_by_role("button", name="Back to the earlier talk").click()
    expect(turn.locator(".em-question")).to_have_text(COVER)
    assert len(asked.subject("spain")["turns"]) == 2


def test_without_sar_the_two_answers_stand_side_by_side(asked):
    asked.in_sight()
    tool(asked, "Without SAR").click()
    compared = asked.talk.get_by_role("region", name="With and without SAR")
    expect(compared).to_contain_text("IoU")
    expect(compared.get_by_role("row")).to_have_count(2)
    expect(compared.get_by_role("table")).to_be_in_viewport()  # long evidence leaves it in sight
    expect(asked.talk.locator(".em-asked")).to_have_text("without SAR")
    assert tool(asked, "Without SAR").count() == 0
    asked.shot("talk-without-sar")


def test_regions_go_into_the_question_and_the_turn_says_so(asked):
    asked.execute(REGION.format(HOSTILE))
    chip = asked.chat.get_by_role("group", name="Regions in the question").get_by_role("button")
    expect(chip).to_have_text(f"region1 · {HOSTILE} ×")
    asked.chat.get_by_role("button", name="What is region1?").click()
    expect(asked.talk.locator(".em-done")).to_have_count(2)
    expect(asked.talk.locator(".em-asked")).to_have_text(f"about region1 “{HOSTILE}”")
    # The log stands at the new question, long as the answers are.
    asked.page.wait_for_function("""() => {
      const log = document.querySelector('.em-log');
      const [top, last] = [log, log.lastElementChild].map((e) => e.getBoundingClientRect().top);
      return Math.abs(last - top) < 2;
    }""")
    asked.shot("talk-regions")
    chip.focus()
    asked.page.keyboard.press("Enter")
    expect(chip).to_have_count(0)
    expect(asked.chat.get_by_label("Question", exact=True)).to_be_focused()
    assert asked.page.locator(".em-chat img").count() == 0


def test_an_answer_is_copied_as_python(asked):
    asked.visitor.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tool(asked, "Copy as Python").click()
    code = asked.talk.get_by_label("This answer as Python")
    expect(code).to_be_focused()
    expect(code).to_have_value(re.compile(r"^import earthmind_lab as em\n"))
    expect(asked.chat.get_by_role("status")).to_have_text("Copied to the clipboard.")
    assert asked.page.evaluate("navigator.clipboard.readText()") == code.input_value()
    asked.shot("talk-python")
    asked.page.keyboard.press("Escape")
    expect(code).to_have_count(0)
    expect(tool(asked, "Copy as Python")).to_be_focused()


def test_what_is_typed_stays_with_its_area(asked):
    box = asked.chat.get_by_label("Question", exact=True)
    box.fill("half a quest")
    tool(asked, "Edit").click()
    asked.talk.get_by_label("Edit the question").fill("Is there snow?")
    asked.execute('m.session.open_place("jiangsu")')
    expect(asked.chat.get_by_role("heading", name="jiangsu")).to_be_visible()
    expect(box).to_have_value("")
    asked.execute('m.session.select("spain")')
    expect(box).to_have_value("half a quest")
    expect(asked.talk.get_by_label("Edit the question")).to_have_value("Is there snow?")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_talk_is_accessible(asked, theme):
    asked.theme(theme)
    asked.execute(REGION.format("the field"))
    tool(asked, "Without SAR").click()
    expect(asked.talk.locator(".em-compared")).to_have_count(1)
    tool(asked, "Edit").click()
    tool(asked, "Copy as Python").click()
    expect(asked.talk.get_by_label("This answer as Python")).to_be_focused()
    for width in WIDTH, NARROW:
        asked.size(width)
        assert axe(asked.page, ".em-chat") == []
        panel = asked.page.locator(".em-chat")
        assert panel.evaluate("each => each.scrollWidth <= each.clientWidth + 1")
        asked.shot(f"talk-{theme}-{width}")
    asked.ask(ENDLESS)
    expect(asked.talk.locator(LIVE)).to_have_text(re.compile(r"\w"))
    expect(tool(asked, "Ask again")).to_have_count(0)  # that turn is being edited
    assert axe(asked.page, ".em-chat") == []
    asked.chat.get_by_role("button", name="Stop").click()
    expect(asked.talk.locator(".em-stopped")).to_have_count(1)
