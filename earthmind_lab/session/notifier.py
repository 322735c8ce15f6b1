"""Telling listeners what happened, in order, on one thread that holds no lock of anybody's.

>>> notifier, heard = Notifier(), []
>>> stop = notifier.watch(lambda note: heard.append(note.kind))
>>> notifier.tell(Note(kind="progress", text="loading"))
>>> notifier.close()
>>> heard
['progress']
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
from collections.abc import Callable
from typing import TypeAlias

from earthmind_lab.session.subject import Note

Listener: TypeAlias = Callable[[Note], None]

logger = logging.getLogger(__name__)
CLOSE_SECONDS = 5.0
"""How long `close` waits for the last notes to be heard."""


class Notifier:
    """A queue of notes with those who listen. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[int, Listener] = {}
        self._numbers = itertools.count()
        self._notes: queue.SimpleQueue[Note | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def watch(self, listener: Listener) -> Callable[[], None]:
        """Hear every note from now on.

        Args:
            listener: Called on the notifier's thread; what it raises is logged and breaks nothing.

        Returns:
            Stops it; may be called twice.
        """
        with self._lock:
            number = next(self._numbers)
            self._listeners[number] = listener
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="earthmind-notes", daemon=True
                )
                self._thread.start()

        def stop() -> None:
            with self._lock:
                self._listeners.pop(number, None)

        return stop

    def tell(self, note: Note) -> None:
        """Put a note in the queue; returns at once. Lost where nobody listens."""
        with self._lock:
            if self._listeners:
                self._notes.put(note)

    def close(self) -> None:
        """Deliver what is queued, then end."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is None:
            return
        self._notes.put(None)
        if thread is not threading.current_thread():  # a listener may close the session
            thread.join(CLOSE_SECONDS)

    def _work(self) -> None:
        while (note := self._notes.get()) is not None:
            with self._lock:
                listeners = tuple(self._listeners.values())
            for listener in listeners:
                try:
                    listener(note)
                except Exception:  # a face's defect is no reason to lose the session
                    logger.exception("A listener failed on %s", note.kind)
