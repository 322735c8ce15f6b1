"""What the panels share: one thread that hears the session and the browser and talks to both.

A callback of either side only puts something into a queue, so that no cell and no click ever waits
for a panel. The thread takes it out in order, and is the only one that sends: what the browser
sees is never out of order.
"""

from __future__ import annotations

import queue
import threading
import time
import weakref
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import anywidget
import traitlets

from earthmind_lab.errors import EarthMindError
from earthmind_lab.kernel import remind_kernel
from earthmind_lab.session.subject import Note
from earthmind_lab.widgets.aside import Aside, Ended
from earthmind_lab.widgets.protocol import BadMessage, FromBrowser, clean, from_browser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from earthmind_lab.session import Session

STATIC = Path(__file__).parent / "static"
BATCH_SECONDS = 0.04
"""Tokens and changes of this long go to the browser together: faster than a screen is read, and
few enough messages that a slow link keeps up."""
CLOSE_SECONDS = 2.0


@cache
def static(name: str) -> str:
    """A built file of the browser side.

    Raises:
        EarthMindError: It was never built.
    """
    try:
        return (STATIC / name).read_text(encoding="utf-8")
    except OSError as error:
        raise EarthMindError(
            "The browser side of the panels is not built.",
            found=f"no {name} in {STATIC.name}/ of the package",
            change="make .venv, or python scripts/build_widgets.py",
        ) from error


class SessionWidget(anywidget.AnyWidget):
    """A panel over a session.

    Args:
        session: Whose state it shows; panels of one session always show the same.
        part: Name of its built files.
    """

    _esm = traitlets.Unicode().tag(sync=True)
    _css = traitlets.Unicode().tag(sync=True)
    fault = traitlets.Unicode().tag(sync=True)
    """What went wrong and what to do, until the next command."""
    unfolded = traitlets.Bool(default_value=True).tag(sync=True)
    """Whether more than the heading is in sight; a view whose reader folds it goes its own way
    until this changes."""

    def __init__(self, session: Session, part: str) -> None:
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._aside = Aside(self._inbox)
        self._due: float | None = None
        self._binary: tuple[Any, ...] = ()
        self._thread: threading.Thread | None = None
        super().__init__(_esm=static(f"{part}.js"), _css=static(f"{part}.css"))
        remind_kernel()
        self.session = session
        self.on_msg(_Inbox(self._inbox))
        # Nobody closes a panel whose cell ran again: the session must not keep it for ever.
        self._unwatch: Callable[[], None] = session.watch(self._inbox.put)
        weakref.finalize(self, self._unwatch)

    def _begin(self) -> None:
        """Show what is there, then listen; the last line of every panel's `__init__`."""
        self._flush()
        self._thread = threading.Thread(
            target=_work, args=(weakref.ref(self), self._inbox), name="earthmind-panel", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening; the session goes on. Twice does no harm."""
        if getattr(self, "_thread", None) is not None:
            thread, self._thread = self._thread, None
            self._unwatch()
            self._inbox.put(None)
            if thread is not None and thread is not threading.current_thread():
                thread.join(CLOSE_SECONDS)
        super().close()

    # --- on the panel's thread -------------------------------------------------------------------

    def _take(self, item: object) -> None:
        """One note or one message."""
        if isinstance(item, _Sent):
            self._binary = item.binary
            item = item.content
        if isinstance(item, Ended):
            self._guard(self._ended, item)
        else:
            self._guard(self._note if isinstance(item, Note) else self._answer, item)
        self._binary = ()

    def _guard(self, act: Callable[..., None], *given: object) -> None:
        """Whatever goes wrong is said, and the panel goes on."""
        try:
            act(*given)
        except EarthMindError as error:
            self._fail(str(error))
        except Exception as error:  # noqa: BLE001  a panel that died in silence helps nobody
            self._fail(
                f"Something went wrong in this panel. Found: {type(error).__name__}: {error}. "
                "Try: once more; report it where it stays."
            )

    def _answer(self, content: object) -> None:
        """A message of the browser; each gets a word back, or it takes the kernel for dead."""
        try:
            message = from_browser(content)
        except BadMessage as error:
            self._say(f"The browser sent something that makes no sense: {error}.")
            return
        if message["kind"] != "hello":
            self.fault = ""
        said = self._message(message)
        if said is not None:
            self._say(said)
        self._soon()

    def _ended(self, ended: Ended) -> None:
        """Something that was done beside this thread."""
        if ended.error is not None:
            raise ended.error
        self._say(ended.said)
        self._soon()

    def _say(self, text: str) -> None:
        self.send({"kind": "status", "ask": None, "text": clean(text)})

    def _fail(self, text: str) -> None:
        self.fault = clean(text)
        self._say("")

    def _soon(self, seconds: float = BATCH_SECONDS) -> None:
        """Have `_flush` called within some seconds."""
        due = time.monotonic() + seconds
        self._due = due if self._due is None else min(due, self._due)

    def _tick(self) -> None:
        if self._due is not None and time.monotonic() >= self._due:
            self._due = None
            self._guard(self._flush)

    def _wait(self) -> float | None:
        return None if self._due is None else max(0.0, self._due - time.monotonic())

    # --- what a panel adds -----------------------------------------------------------------------

    def _note(self, note: Note) -> None:
        """Something happened in the session."""
        raise NotImplementedError

    def _message(self, message: FromBrowser) -> str | None:
        """Do what the browser asks; what to say about it, None where it has been answered.

        `_binary` holds the buffers that came with it.
        """
        raise NotImplementedError

    def _flush(self) -> None:
        """Bring the browser up to date."""
        raise NotImplementedError


class _Inbox:
    """The browser's callback: any thread, only enqueues, holds no panel."""

    def __init__(self, inbox: queue.SimpleQueue[Any]) -> None:
        self._inbox = inbox

    def __call__(self, _widget: object, content: object, buffers: Iterable[Any] | None) -> None:
        self._inbox.put(_Sent(content, tuple(buffers or ())))


class _Sent(NamedTuple):
    """A message of the browser; one of null must not read as the end of the queue."""

    content: object
    binary: tuple[Any, ...]


def _work(panel: weakref.ref[SessionWidget], inbox: queue.SimpleQueue[Any]) -> None:
    """The panel's thread: ends with None in the queue, or with the panel."""
    wait: float | None = None
    while True:
        try:
            item = inbox.get(timeout=wait)
        except queue.Empty:
            item = _NOTHING
        if item is None:
            return
        held = panel()
        if held is None:
            return
        if item is not _NOTHING:
            held._take(item)  # noqa: SLF001  the loop of this very class
        held._tick()  # noqa: SLF001
        wait = held._wait()  # noqa: SLF001
        del held


_NOTHING = object()
