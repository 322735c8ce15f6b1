"""Random messages of browsers end where a simple model ends, in the session and in every panel.

EARTHMIND_MESSAGES sets how many sequences.
"""

from __future__ import annotations

import os
import threading

import pytest

from earthmind_lab.session import Session
from earthmind_lab.session.commands import KINDS
from earthmind_lab.settings import Settings
from earthmind_lab.widgets.base import SessionWidget
from tests.session_world import made_up
from tests.widgets import message_world
from tests.widgets.message_model import Engine, search
from tests.widgets.message_world import Run

SEQUENCES = int(os.environ.get("EARTHMIND_MESSAGES", "200"))
BLOCKS = 2


@pytest.fixture
def world(monkeypatch, tmp_path):
    """`world(name)`: opens a session; panels can be waited for and draw at once."""
    made_up(monkeypatch)
    monkeypatch.setattr("earthmind_lab.data.search.search_candidates", search)
    monkeypatch.setattr(SessionWidget._soon, "__defaults__", (0.0,))

    def take(panel, item, own=SessionWidget._take):
        item.set() if isinstance(item, threading.Event) else own(panel, item)

    monkeypatch.setattr(SessionWidget, "_take", take)
    settings = Settings(home=tmp_path, device=None, catalog="sample")
    return lambda name: Session.open(name, engine=Engine(), settings=settings)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_messages_end_where_the_model_ends(block, world):
    kinds = set()
    for number in range(SEQUENCES // BLOCKS):
        seed = block * 100_000 + number
        run = Run(seed, lambda name=f"s{seed}": world(name))
        run.go()
        kinds |= run.kinds
        run.check(f"seed {seed}")
        run.do_restart()
        run.check(f"seed {seed}, after a restart")
        for _ in range(run.rng.randrange(len(run.model.done) + 1)):
            run.side.tell(run.side.chat, {"kind": "undo"})
            run.model.undo()
        run.check(f"seed {seed}, undone after a restart")
        run.end()
    assert kinds == set(KINDS)


@pytest.mark.parametrize(
    "part", ["chat.TalkRows.of", "areas.AreaPanel._flush", "pairs.PairTable._words"]
)
def test_the_model_notices_a_panel_that_forgets(part, world, monkeypatch):
    monkeypatch.setattr(f"earthmind_lab.widgets.{part}", lambda *_: [])
    monkeypatch.setattr(message_world, "WAIT", 2.0)
    run = Run(7, lambda: world("forgets"))
    for kind in ("box", "search", "choose", "ask"):
        run.do(kind)
    with pytest.raises(AssertionError):
        run.check("")
    run.end()
