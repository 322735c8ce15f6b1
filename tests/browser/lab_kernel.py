"""What the browser tests use inside the kernel: new maps, an engine with a pace, state as data."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from earthmind_lab.exchange import Token

ENDLESS = "Describe the scene."
"""After its first word, the answer to this waits to be stopped."""


BUSY_SECONDS = 120.0
"""After which a busy cell gives up."""


class Paced:
    """An engine whose words come at a pace at which a test sees them come.

    What it says and marks is all the engine's.

    Args:
        engine: Who answers.
        seconds: Between two tokens.
    """

    def __init__(self, engine: Any, seconds: float) -> None:
        self._engine, self._seconds = engine, seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def submit(self, prompt: Any, options: Any = None) -> Any:
        handle = self._engine.submit(prompt, options)
        return _Handle(handle, self._seconds, endless=prompt.text == ENDLESS)


class _Handle:
    def __init__(self, handle: Any, seconds: float, *, endless: bool) -> None:
        self.id, self._handle, self._seconds, self._endless = handle.id, handle, seconds, endless
        self._stopped, self._told = threading.Event(), threading.Event()

    def events(self) -> Iterator[Any]:
        try:
            for event in self._handle.events():
                yield event
                if isinstance(event, Token):
                    self._stopped.wait(None if self._endless else self._seconds)
        finally:
            self._told.set()

    def result(self, timeout: float | None = None) -> Any:
        reply = self._handle.result(timeout)
        if self._endless:
            from earthmind_lab.errors import Cancelled

            self._stopped.wait()
            raise Cancelled("The ask was stopped.")
        return reply

    def cancel(self) -> None:
        self._stopped.set()
        self._handle.cancel()


def fresh(*, m: Any = None, kept: str | None = None, **_: Any) -> Any:
    """A map over a new session.

    Args:
        m: The map before it, which ends with its session and its widgets: the page stays as light
            as a new one.
        kept: Name of the session, where a file keeps it.
    """
    from IPython.display import clear_output

    from earthmind_lab.session import Session
    from earthmind_lab.widgets import EarthMap

    if m is not None:
        clear_output()  # the page lets go of the old widgets before they end
        m.close()
        m.session.close()
        for widget in widgets() - _LIBRARIES:
            widget.close()
    elif not _LIBRARIES:
        import leafmap  # noqa: F401  makes some of its own

        _LIBRARIES.update(widgets())
    return EarthMap(Session() if kept is None else Session.open(kept))


_LIBRARIES: set[Any] = set()
"""Widgets that belong to no map."""


def widgets() -> set[Any]:
    """All that are open."""
    from ipywidgets.widgets.widget import _instances

    return set(_instances.values())


def pace(session: Any, seconds: float) -> None:
    """Give a session the embedded model at a pace."""
    from earthmind_lab.engine.loading import load_engine

    session.engine = Paced(load_engine("nano"), seconds)


def state(session: Any) -> dict[str, Any]:
    """A session as plain data."""
    return {
        "active": session.active,
        "subjects": {name: _subject(each) for name, each in session.subjects.items()},
        "log": [command.kind for command in session.log],
        "messages": list(session.messages),
    }


def _subject(subject: Any) -> dict[str, Any]:
    return {
        "bounds": None if subject.aoi is None else subject.aoi.bounds,
        "place": subject.place,
        "pairs": None if subject.pairs is None else len(subject.pairs),
        "chosen": subject.chosen,
        "busy": subject.busy,
        "turns": [
            {
                "question": turn.question, "state": turn.state, "text": turn.text,
                "features": [
                    {k: f["properties"].get(k) for k in ("label", "source", "observed")}
                    for f in turn.features.get("features", ())
                ],
            }
            for turn in subject.turns
        ],
    }  # fmt: skip


def stay_busy() -> float:
    """A cell that runs until the test calls `let_go`; when it ended."""
    deadline = time.monotonic() + BUSY_SECONDS
    while not _gate().exists():
        if time.monotonic() > deadline:
            raise TimeoutError("The test never let the cell go.")
        time.sleep(0.05)
    _gate().unlink()
    return time.time()


def _gate() -> Path:
    return Path(os.environ["EARTHMIND_HOME"]) / "let-go"
