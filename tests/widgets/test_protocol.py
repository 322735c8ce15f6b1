"""The protocol against the golden messages, which the browser side reads too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from earthmind_lab.widgets.protocol import (
    BROWSER,
    KERNEL,
    LONGEST_TEXT,
    BadMessage,
    clean,
    from_browser,
    from_kernel,
    tokens,
)

FOLDER = Path(__file__).parents[1] / "golden" / "protocol"
GOLDEN = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.json")}
SINGLE = [name for name, golden in GOLDEN.items() if "message" in golden]
READ = {"kernel": from_kernel, "browser": from_browser}


@pytest.mark.parametrize("name", SINGLE)
def test_golden_message(name):
    golden = GOLDEN[name]
    read = READ[golden["from"]]
    if golden["valid"]:
        assert read(golden["message"]) == golden["message"]
        assert read({**golden["message"], "more": 1}) == golden["message"]
    else:
        with pytest.raises(BadMessage):
            read(golden["message"])


def test_every_kind_has_a_golden_message():
    good = [golden for golden in GOLDEN.values() if golden.get("valid")]
    for side, known in (("kernel", KERNEL), ("browser", BROWSER)):
        kinds = {golden["message"]["kind"] for golden in good if golden["from"] == side}
        assert kinds == set(known)


def test_offsets_count_characters():
    golden = GOLDEN["stream_characters.json"]
    whole = golden["text"]
    for message in golden["messages"]:
        start = message["from"]
        assert tokens("a", whole[start : start + len(message["text"])], start) == message


@pytest.mark.parametrize("bad", [None, 3, "ask", [], {"kind": None}, {"kind": ["ask"]}])
def test_what_is_no_message(bad):
    with pytest.raises(BadMessage):
        from_browser(bad)


def test_a_text_without_end_is_refused():
    assert from_browser({"kind": "ask", "text": "x" * LONGEST_TEXT})
    with pytest.raises(BadMessage, match="at most"):
        from_browser({"kind": "ask", "text": "x" * (LONGEST_TEXT + 1)})


def test_numbers_are_numbers():
    texts = ("dates", "around", "max_gap", "purpose", "sensors", "catalog")
    search = {"kind": "search", **dict.fromkeys(texts)}
    for bad in (float("nan"), float("inf"), "20", True):
        with pytest.raises(BadMessage):
            from_browser({**search, "max_cloud": bad})


def test_clean_text_is_utf8():
    assert clean("\ud800 water 🌊").encode() == "? water 🌊".encode()


def test_needs_no_widget_library():
    code = (
        "import sys, earthmind_lab.widgets.protocol, earthmind_lab.widgets.rows;"
        "print({'anywidget', 'ipywidgets', 'ipyleaflet', 'torch'} & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.stdout.strip() == "set()", run.stderr
