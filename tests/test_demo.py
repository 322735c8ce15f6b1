"""The demo without a browser: handlers called directly, the page built, the server's errors."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from earthmind_lab import demo, demo_visit
from earthmind_lab.data.samples import places
from earthmind_lab.demo_picture import seen, talk
from earthmind_lab.demo_visit import READY, Visit
from earthmind_lab.errors import EarthMindError
from earthmind_lab.session import Session
from tests.stand_in_engine import NOTICE, StandInEngine, make_chip, square
from tests.test_imports import loaded_by

BAD = "<img src=x onerror=alert(1)>"
TOP = {"water": lambda shape: square(shape, (0, shape[0] // 2, 0, shape[1]))}


@pytest.fixture
def visit():
    visit = Visit(Session(engine=StandInEngine(TOP, {"Bad?": BAD})))
    yield visit
    visit.close()


def last(steps):
    """The page after all steps, as it adds up."""
    shown = {}
    for step in steps:
        for name, new in step.items():
            shown[name] = {**shown.get(name, {}), **new}
    return {name: new.get("value") for name, new in shown.items()}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def pictures(html):
    return re.findall(r'src="(data:image/jpeg;base64,[^"]+)"', html)


def test_import_loads_no_gradio():
    assert "gradio" not in loaded_by("import earthmind_lab")
    assert "gradio" not in loaded_by("import earthmind_lab.demo")


def test_a_page_begins_at_the_first_place(visit):
    steps = list(demo_visit.start(visit))
    assert [step["status"]["value"] for step in steps] == [
        "Searching the catalog …", "Loading the pixels …", READY,
    ]  # fmt: skip
    shown = last(steps)
    assert shown["place"] == "spain" and shown["why"] == places()[0].why
    assert len(pictures(shown["seen"])) == 2
    choice = steps[-1]["pairs"]["choices"][0]
    assert choice == ("1. optical 2019-09-18 and SAR 2019-09-17, gap -48 to 0 h, score 82", 0)
    assert "0 … 0.3" in shown["seen"] and "(dB)" in shown["seen"]
    assert "Contains modified Copernicus Sentinel data 2019" in shown["seen"]


@pytest.mark.parametrize("place", [each.name for each in places()])
def test_every_place_opens(visit, place):
    shown = last(demo_visit.choose_place(visit, place))
    assert shown["status"] == READY
    assert 1 <= len(pictures(shown["seen"])) <= 2


def test_another_pair_of_the_place(visit):
    last(demo_visit.choose_place(visit, "spain"))
    count = len(visit.session.subject().pairs)
    shown = last(demo_visit.choose_pair(visit, count - 1))
    assert shown["pairs"] == count - 1 and shown["status"] == READY
    error = last(demo_visit.told(visit, demo_visit.choose_pair(visit, count)))["status"]
    assert "There is no pair of rank" in error


def test_an_answer_streams_then_shows_masks_evidence_and_file(visit, monkeypatch):
    monkeypatch.setattr(demo_visit, "TICK", -1)  # every token is shown
    before = last(demo_visit.start(visit))
    steps = list(demo_visit.ask(visit, "Segment the water."))
    assert steps[0]["question"] == {"value": ""}
    assert any("Sure," in step["talk"]["value"] for step in steps[:-1])
    shown = last(steps)
    assert shown["notice"] == NOTICE and NOTICE not in shown["talk"]
    assert not set(pictures(shown["seen"])) & set(pictures(before["seen"]))
    assert "▣ water:" in shown["evidence"] and "mapped in 1 object, from " in shown["evidence"]
    data = re.search(r'href="data:application/geo\+json;base64,([^"]+)"', shown["file"])[1]
    features = json.loads(base64.b64decode(data))
    assert [each["properties"]["label"] for each in features["features"]] == ["water"]
    # Another place has none of it; back again it is still there.
    away = last(demo_visit.choose_place(visit, "denmark"))
    assert away["file"] == "" and away["evidence"] == "" and "Sure" not in away["talk"]
    again = last(demo_visit.choose_place(visit, "spain"))
    assert again["seen"] == shown["seen"] and again["talk"] == shown["talk"]


def test_what_the_model_says_is_escaped(visit):
    last(demo_visit.start(visit))
    shown = last(demo_visit.ask(visit, "Bad?"))
    assert "<img" not in shown["talk"] and "&lt;img src=x" in shown["talk"]
    assert "<img" not in talk([("asked", BAD), ("note", BAD)])


def test_a_label_and_a_credit_are_escaped():
    from earthmind_lab.render import render

    views, mask = render(make_chip())[:1], np.ones((40, 40), dtype=bool)
    html = seen(views, [(BAD, mask)], credit=BAD)
    assert html.count("<img") == 1 and html.count("&lt;img src=x") == 2


def test_stop_ends_an_answer_and_says_so():
    gate = threading.Event()
    visit = Visit(Session(engine=StandInEngine(TOP, gate=gate)))
    last(demo_visit.start(visit))
    asking = demo_visit.told(visit, demo_visit.ask(visit, "Segment the water."))
    next(asking)
    stopped = last(demo_visit.stop(visit))
    assert stopped["status"] == "Stopped." and "stopped:" in stopped["talk"]
    assert "Stopped before the answer was complete" in last(asking)["status"]
    assert last(demo_visit.stop(visit)) == {"status": "Nothing is running."}
    visit.close()


def test_leaving_while_the_model_works_ends_the_answer():
    gate = threading.Event()
    visit = Visit(Session(engine=StandInEngine(TOP, gate=gate)))
    last(demo_visit.start(visit))
    asking = demo_visit.told(visit, demo_visit.ask(visit, "Segment the water."))
    next(asking)
    visit.close()
    assert "closed" in last(asking)["status"]


def test_a_page_that_was_away_says_so(visit):
    shown = last(demo_visit.told(visit, demo_visit.ask(visit, "Segment the water.")))
    assert "put away" in shown["status"] and "choose a place" in shown["status"]


def test_a_defect_is_told_without_what_it_holds(visit, caplog):
    def broken():
        yield {"status": {"value": "…"}}
        raise RuntimeError("/secret/path")

    shown = last(demo_visit.told(visit, broken()))
    assert "went wrong" in shown["status"] and "secret" not in shown["status"]
    assert "secret" in caplog.text


def test_a_picture_of_ones_own(visit, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.full((30, 50, 3), 90, np.uint8)).save(path)
    shown = last(demo_visit.upload(visit, str(path)))
    assert len(pictures(shown["seen"])) == 1 and shown["place"] is None
    assert shown["file"] == ""
    answered = last(demo_visit.ask(visit, "What is this?"))
    assert "can&#x27;t tell" in answered["talk"] and answered["file"] == ""
    record = visit.session.subject().turns[-1].record
    assert str(tmp_path) not in json.dumps(record)


def test_what_is_no_picture_is_refused(visit, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"no picture")
    shown = last(demo_visit.told(visit, demo_visit.upload(visit, str(path))))
    assert "no picture that can be read" in shown["status"]
    assert visit.session.active is None


def test_a_picture_too_large_for_the_page_is_refused(visit, tmp_path, monkeypatch):
    monkeypatch.setattr(demo_visit, "MAX_PIXELS", 100)
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(path)
    shown = last(demo_visit.told(visit, demo_visit.upload(visit, str(path))))
    assert "20 x 20 px" in shown["status"] and visit.session.active is None


@pytest.mark.parametrize("handler", ["choose_place", "choose_pair", "upload"])
def test_nothing_chosen_changes_nothing(visit, handler):
    # Gradio empties the page where a handler yields nothing.
    assert last(getattr(demo_visit, handler)(visit, None)) == {"status": READY}


def test_the_page_is_closed_to_the_outside():
    # A process of its own: Gradio leaves its event loop open.
    script = """
import json
from earthmind_lab import demo
from earthmind_lab.visitors import Visitors
page, options = demo.build(Visitors(dict)), demo.launch_options(Visitors(dict))
kept = {name: options[name] for name in ("share", "show_error", "pwa", "mcp_server")}
calls = {each.api_name: each.api_visibility for each in page.fns.values()}
print(json.dumps([kept, calls, options["theme"]._stylesheets, page.analytics_enabled]))
"""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    kept, calls, stylesheets, analytics = json.loads(run.stdout.splitlines()[-1])
    assert not any(kept.values()) and not analytics and not stylesheets
    assert "public" not in calls.values(), calls


def test_a_taken_port_is_told():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        run = subprocess.run(
            [sys.executable, "-m", "earthmind_lab.demo", "--port", port],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        with pytest.raises(EarthMindError, match="another --port"):  # before any model is loaded
            demo.serve(port=int(port), model="no/such/model")
    assert run.returncode == 2 and run.stdout == ""
    assert re.search(rf"port {port}\..*another --port", run.stderr)
    assert "Traceback" not in run.stderr


def test_ctrl_c_ends_it_and_leaves_nothing(tmp_path):
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    # A shell starts what it puts into the background deaf to Ctrl-C, and its children with it.
    script = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from earthmind_lab import demo
sys.exit(demo.main())
"""
    command = [sys.executable, "-c", script, "--port", str(free_port())]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=env, **pipes) as server:
        assert "http://127.0.0.1:" in server.stdout.readline()
        assert list(tmp_path.glob("earthmind-demo-*"))
        server.send_signal(signal.SIGINT)
        try:
            _, errors = server.communicate(timeout=60)
        finally:
            server.kill()  # no effect on one that has ended
    assert server.returncode == 0 and "Traceback" not in errors
    assert not list(tmp_path.glob("earthmind-demo-*"))


def test_ctrl_c_between_the_address_and_the_wait_ends_it_too(tmp_path):
    """Who stops the page as soon as it reads the address comes before Gradio waits."""
    # A process of its own: Gradio leaves its event loop open.
    script = """
import sys
from gradio import Blocks
from earthmind_lab import demo
def interrupted(page):
    raise KeyboardInterrupt
Blocks.block_thread = interrupted
sys.exit(demo.main(["--port", sys.argv[1]]))
"""
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", script, str(free_port())], env=env,
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0 and "http://127.0.0.1:" in run.stdout
    assert "Traceback" not in run.stderr and not list(tmp_path.glob("earthmind-demo-*"))


def test_no_gradio_is_told(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setattr("earthmind_lab.engine.loading.load_engine", lambda name: StandInEngine())
    assert demo.main(["--port", "0"]) == 2
    assert "earthmind_lab[demo]" in capsys.readouterr().err
