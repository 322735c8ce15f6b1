"""A task: work under way for one subject, that a face can wait for, follow or stop."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import Any

from earthmind_lab.errors import Cancelled, EarthMindError
from earthmind_lab.exchange import Done, Event, Failed, Token
from earthmind_lab.session.subject import Busy

LABELS: dict[Busy, str] = {
    "search": "search", "load": "load", "ask": "answer", "replay": "replay",
}  # fmt: skip
"""What one waits for, in messages."""


class Task:
    """Work under way for one subject; what each command of a session that takes time gives."""

    def __init__(
        self, ident: str, kind: Busy, subject: str, cancel: Callable[[Task], bool]
    ) -> None:
        self.id, self.kind, self.subject = ident, kind, subject
        self._cancel = cancel
        self._future: Future[Any] = Future()
        self._events: list[Event] = []
        self._changed = threading.Condition()
        self._stops: list[Callable[[], None]] = []
        self.stopped = False

    def __repr__(self) -> str:
        state = "done" if self.done else "running"
        return f"<Task {self.id} {self.kind} of {self.subject!r}: {state}>"

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the result: pairs of a search, chip of a load, answer of an ask, or `Replay`.

        Args:
            timeout: Seconds to wait; None = as long as it takes.

        Raises:
            TimeoutError: Not ready yet; the task goes on.
            EarthMindError: Why there is no result; `Cancelled` where it was stopped.
        """
        try:
            return self._future.result(timeout)
        except NotYet:
            if self.done:
                raise  # the work itself timed out
            raise TimeoutError(f"No result within {timeout} s; the {self.kind} goes on.") from None

    def cancel(self) -> bool:
        """Stop it; it is over when this returns. False where it was over already."""
        return self._cancel(self)

    @property
    def done(self) -> bool:
        """Whether `result` returns or raises at once."""
        return self._future.done()

    def events(self) -> Iterator[Event]:
        """The engine's events of an ask, from the first on; ends with Done or Failed.

        A search or a load has none but the end.
        """
        for index in itertools.count():
            with self._changed:
                self._changed.wait_for(lambda i=index: len(self._events) > i or self.done)  # type: ignore[misc]
                if len(self._events) <= index:
                    return
                event = self._events[index]
            yield event
            if isinstance(event, Done | Failed):
                return

    @property
    def text(self) -> str:
        """What the model wrote so far."""
        with self._changed:
            return "".join(event.text for event in self._events if isinstance(event, Token))

    # --- for the session -------------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        """One more event."""
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()

    def on_stop(self, stop: Callable[[], None]) -> None:
        """Call `stop` when the task is stopped; at once where it was.

        Raises:
            Cancelled: It was stopped already.
        """
        with self._changed:
            if not self.stopped:
                self._stops.append(stop)
                return
        stop()
        raise Cancelled("The task was stopped.")

    def stop(self) -> None:
        """Tell the work to stop, without waiting for it."""
        with self._changed:
            self.stopped = True
            stops, self._stops = self._stops, []
        for stop in stops:
            stop()

    def check(self) -> None:
        """Give up here where it was stopped.

        Raises:
            Cancelled: It was.
        """
        if self.stopped:
            raise Cancelled("The task was stopped.")

    def end(self, result: Any = None, error: BaseException | None = None) -> None:
        """Wake who waits. Once only."""
        with self._changed:
            if error is None:
                self._future.set_result(result)
            else:
                if not (self._events and isinstance(self._events[-1], Done | Failed)):
                    shown = error if isinstance(error, Exception) else Cancelled(str(error))
                    self._events.append(Failed(ask=self.id, error=shown))
                self._future.set_exception(error)
            self._changed.notify_all()


def said_of(error: BaseException) -> str:
    """An error for people; one of ours says what to do, any other is a defect and says so."""
    if isinstance(error, EarthMindError):
        return str(error)
    return (
        f"Something went wrong inside earthmind_lab. Found: {type(error).__name__}: {error}. "
        "Try: once more; report it where it stays."
    )
