"""The client's half of an ask: what its owner holds while a server answers."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace

from earthmind_lab.errors import Cancelled
from earthmind_lab.exchange import Done, Event, Failed, Object, Options, Prompt, Reply, Token


class RemoteAsk:
    """An ask under way on a server; the `Handle` of a `RemoteEngine`."""

    def __init__(self, prompt: Prompt, options: Options) -> None:
        self.id = uuid.uuid4().hex
        self.prompt, self.options = prompt, options
        self.due = None if options.deadline is None else time.monotonic() + options.deadline
        self.task: Future[None] | None = None
        self._events: list[Event] = []
        self._changed = threading.Condition()
        self.tries = 0
        self._handed, self._passed = [0, 0], [0, 0]  # characters, objects: so far, this time

    def events(self) -> Iterator[Event]:
        """All events from the first on; ends after the one `Done` or `Failed`."""
        for index in itertools.count():
            with self._changed:
                self._changed.wait_for(lambda index=index: len(self._events) > index)  # type: ignore[misc]
                event = self._events[index]
            yield event
            if isinstance(event, Done | Failed):
                return

    def result(self, timeout: float | None = None) -> Reply:
        """Wait for the reply.

        Args:
            timeout: Seconds to wait; None = as long as it takes.

        Raises:
            TimeoutError: Not ready yet; the ask goes on.
            EarthMindError: Why the ask failed.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self.ended, timeout):
                raise TimeoutError(f"The reply was not ready within {timeout} s; the ask goes on.")
            last = self._events[-1]
        if isinstance(last, Done):
            return last.reply
        assert isinstance(last, Failed)
        raise last.error

    def cancel(self) -> None:
        """Stop: ends at once here, and on the server as soon as the closed stream is seen."""
        self.fail(Cancelled("The ask was stopped."))
        # Not known yet: then the task finds that the ask has ended.
        if self.task is not None:
            self.task.cancel()

    @property
    def ended(self) -> bool:
        """Whether the last event is out."""
        return bool(self._events) and isinstance(self._events[-1], Done | Failed)

    @property
    def left(self) -> float | None:
        """Seconds until its deadline."""
        return None if self.due is None else self.due - time.monotonic()

    def begin(self) -> None:
        """The server answers from the beginning on, for the first time or again."""
        self.tries += 1
        self._passed = [0, 0]

    def take(self, event: Event) -> None:
        """Publish an event of the server, without what was handed out before."""
        if isinstance(event, Token):
            fresh = event.text[max(0, self._handed[0] - self._passed[0]) :]
            self._passed[0] += len(event.text)
            self._handed[0] = max(self._handed[0], self._passed[0])
            event = replace(event, text=fresh)
            if not fresh:
                return
        elif isinstance(event, Object):
            self._passed[1] += 1
            if self._passed[1] <= self._handed[1]:
                return
            self._handed[1] = self._passed[1]
        self.emit(replace(event, ask=self.id))

    def emit(self, event: Event) -> None:
        """Publish an event; nothing follows the last one."""
        with self._changed:
            if not self.ended:
                self._events.append(event)
                self._changed.notify_all()

    def fail(self, error: Exception) -> None:
        """End it without a reply."""
        self.emit(Failed(ask=self.id, error=error))
