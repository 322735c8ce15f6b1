"""Panels over a session in memory, with an engine that says what it is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from earthmind_lab.session import Session
from tests.stand_in_engine import StandInEngine, StandInHandle
from tests.widgets.browser_side import BrowserSide
from tests.widgets.layer_world import FakeSession

TEXT = "A 🌊 of water <b>here</b>."


class HalfwayHandle(StandInHandle):
    """Says its first two words at once, the others when the gate opens."""

    def events(self) -> Iterator[Any]:
        from earthmind_lab.errors import EarthMindError
        from earthmind_lab.exchange import Done, Failed, Token

        words = [word + " " for word in self._make().text.split()]
        for word in words[:2]:
            yield Token(ask=self.id, text=word)
        try:
            reply = self.result()
        except EarthMindError as error:
            yield Failed(ask=self.id, error=error)
            return
        for word in words[2:]:
            yield Token(ask=self.id, text=word)
        yield Done(ask=self.id, reply=reply)


class HalfwayEngine(StandInEngine):
    """Stops in the middle of every answer until the gate opens."""

    def submit(self, prompt: Any, options: Any = None) -> HalfwayHandle:
        self.prompts.append(prompt)
        return HalfwayHandle(len(self.prompts), lambda: self._reply(prompt), self._gate)


@pytest.fixture
def gate() -> threading.Event:
    return threading.Event()


@pytest.fixture
def talking(gate: threading.Event) -> Iterator[Session]:
    """A session about a picture, whose answers stop halfway."""
    engine = HalfwayEngine(texts={"What is this?": TEXT, "Again?": TEXT}, gate=gate)
    session = Session(engine=engine)
    session.open_picture(np.zeros((48, 48, 3), dtype=np.uint8), name="a picture")
    yield session
    session.close()


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> BrowserSide:
    return BrowserSide(monkeypatch)


@pytest.fixture
def shown(browser: BrowserSide) -> Iterator[SimpleNamespace]:
    """A layer on a map that has something of its own."""
    from earthmind_lab.widgets.basemap import make_map
    from earthmind_lab.widgets.layers import ChipLayer

    session, m = FakeSession(), make_map()
    layer = ChipLayer(session, m)
    browser.follow(layer.panel)
    yield SimpleNamespace(
        session=session, map=m, layer=layer, panel=layer.panel, browser=browser,
        tell=lambda **message: browser.tell(layer.panel, message),
    )  # fmt: skip
    layer.close()
