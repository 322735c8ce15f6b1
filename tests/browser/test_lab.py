"""The map notebook in JupyterLab, in a real browser, with both ways of ipykernel.

One server, one kernel and one notebook per version; the tests go on from each other's state, as a
person would: first the main way through, then a busy kernel, a second view, a restart.
"""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import expect

from tests.browser.lab_kernel import ENDLESS
from tests.browser.lab_server import Lab
from tests.browser.lab_side import Notebook
from tests.browser.main_way import LIVE, PICTURES, READY, WATER, from_place_to_undo

KERNELS = ("7.3.0", "7.4.0")
FIRST = 1
"""Place of the cell that makes the map."""
CELLS = ("from tests.browser.lab_kernel import stay_busy\nended = stay_busy()", "m.chat")


@pytest.fixture(scope="module", params=KERNELS)
def lab(request, serve, tmp_path_factory):
    folder = tmp_path_factory.mktemp(f"lab-{request.param}")
    return Lab(serve, folder, kernel=request.param, cells=CELLS)


@pytest.fixture
def notebook(lab, visit):
    """The notebook in a new browser; its kernel lives from test to test."""
    return Notebook.open(lab, visit)


def start(notebook, pace=0.15):
    """Run the cell that makes the map; the model speaks at a pace."""
    notebook.run(FIRST)
    expect(notebook.map).to_be_visible()
    notebook.pace(pace)


def test_from_place_to_answer_to_stop_to_undo(lab, notebook):
    start(notebook)
    from_place_to_undo(notebook)
    assert [each["name"] for each in lab.saved()["subjects"]] == ["spain", "area 1"]


def test_nothing_is_lost_while_a_cell_runs(lab, notebook):
    start(notebook, pace=0.0)
    notebook.execute(READY)
    busy, _ = lab.own_cells
    expect(notebook.chat).to_contain_text("spain")
    notebook.start(busy)
    notebook.busy()
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
