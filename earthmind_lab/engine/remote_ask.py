"""The client's half of an ask: what its owner holds while a server answers."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import replace

from earthmind_lab.engine.asks import Ask, cancelled
from earthmind_lab.exchange import Event, Object, Options, Prompt, Token


class RemoteAsk(Ask):
    """An ask under way on a server; the `Handle` of a `RemoteEngine`."""

    def __init__(self, prompt: Prompt, options: Options) -> None:
        super().__init__(prompt, options)
        self.task: Future[None] | None = None
        self.tries = 0
        self._handed, self._passed = [0, 0], [0, 0]  # characters, objects: so far, this time

    def cancel(self) -> None:
        """Stop: ends at once here, and on the server as soon as the closed stream is seen."""
        self.fail(cancelled())
        # Not known yet: then the task finds that the ask has ended.
        if self.task is not None:
            self.task.cancel()

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
