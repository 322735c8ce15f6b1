"""Work beside a panel's thread: the panel goes on meanwhile, and hears what came of it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple


class Ended(NamedTuple):
    """What came of work, in the panel's own queue."""

    said: str
    error: Exception | None


class Aside:
    """One work at a time; of a kind that waits, the newest alone, as a slider wants it.

    Args:
        inbox: Where an `Ended` goes for each that was done.

    >>> inbox = queue.SimpleQueue()
    >>> aside = Aside(inbox)
    >>> aside.do("sum", lambda: f"It is {1 + 1}.")
    >>> inbox.get(timeout=5).said
    'It is 2.'
    """

    def __init__(self, inbox: queue.SimpleQueue[Any]) -> None:
        self._inbox = inbox
        self._changed = threading.Condition()
        self._waiting: dict[Hashable, Callable[[], str]] = {}
        self._runs = False

    def do(self, kind: Hashable, work: Callable[[], str]) -> None:
        """Have it done soon, in place of what waits of its kind; any thread, returns at once.

        Args:
            kind: Of work.
            work: Gives what to say about it.
        """
        with self._changed:
            self._waiting[kind] = work
            if self._runs:
                return
            self._runs = True
        threading.Thread(target=self._work, name="earthmind-aside", daemon=True).start()

    def settle(self, timeout: float | None = None) -> bool:
        """Wait until nothing is left to do; False = `timeout` seconds were not enough."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._runs, timeout)

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._runs = False
                    self._changed.notify_all()
                    return
                work = self._waiting.pop(next(iter(self._waiting)))
            try:
                ended = Ended(work(), None)
            except Exception as error:  # noqa: BLE001  the panel says it
                ended = Ended("", error)
            self._inbox.put(ended)
