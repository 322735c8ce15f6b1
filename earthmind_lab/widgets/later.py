"""Drawing again later, on one thread per face: callers of any thread only say that it is due.

Notes of a session come from worker threads, clicks from the kernel's main thread or a subshell. A
face that drew in each of them would hold locks in two orders or show an older state last. So a note
only sets a flag; one thread reads the state as it is then and draws it. Many notes, one drawing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

_log = logging.getLogger(__name__)


class Later:
    """Runs `work` soon after `ask`, on its own thread, never twice at a time.

    Args:
        work: Brings the face to the state as it is now; called without arguments.
        name: Of the thread, for a debugger.

    >>> seen = []
    >>> later = Later(lambda: seen.append("drawn"), name="example")
    >>> later.ask(); later.settle(5)
    True
    >>> seen
    ['drawn']
    >>> later.close()
    """

    def __init__(self, work: Callable[[], None], *, name: str) -> None:
        self._work = work
        self._changed = threading.Condition()
        self._asked = 0
        self._done = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def ask(self) -> None:
        """Say that a drawing is due; returns at once."""
        with self._changed:
            self._asked += 1
            self._changed.notify_all()

    def settle(self, timeout: float | None = None) -> bool:
        """Wait until everything asked for before this call has been drawn.

        Returns:
            False when `timeout` seconds were not enough, or it was closed before.
        """
        with self._changed:
            asked = self._asked
            self._changed.wait_for(lambda: self._done >= asked or self._closed, timeout)
            return self._done >= asked

    def close(self) -> None:
        """End the thread; what is being drawn is finished first."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=10)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._asked > self._done or self._closed)
                if self._closed:
                    return
                asked = self._asked
            try:
                self._work()
            except Exception:  # noqa: BLE001 - a drawing that fails must not end all later ones
                _log.warning("drawing failed", exc_info=True)
            with self._changed:
                self._done = asked
                self._changed.notify_all()
