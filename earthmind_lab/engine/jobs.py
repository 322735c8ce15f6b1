"""Work for the thread that owns a model, from other threads: done between two steps."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from earthmind_lab.errors import EngineBusy, EngineError, EngineUnavailable

LIMIT_SECONDS = 120.0
"""How long to wait until it is begun, and how long until it is done. The longest thing that a
model does in one piece is an ask's pictures."""


class Jobs:
    """What waits to be done; any thread may call, `work` is the owner's.

    Args:
        wake: Tells the owner that there is something.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._waiting: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._ended: EngineError | None = None
        self._lock = threading.Lock()

    @property
    def waiting(self) -> bool:
        """Whether there is something to do."""
        return bool(self._waiting)

    def call(self, job: Callable[[], Any], limit: float = LIMIT_SECONDS) -> Any:
        """Have something done, and wait for what comes of it.

        Args:
            job: Without arguments.
            limit: Seconds; see `LIMIT_SECONDS`.

        Raises:
            EngineBusy: It was not begun, or not done, within the limit.
            Exception: What the job raises.
        """
        future: Future[Any] = Future()
        with self._lock:
            if self._ended is not None:
                raise self._ended
            self._waiting.append((job, future))
        self._wake()
        for _ in range(2):
            try:
                return future.result(limit)
            except TimeoutError:
                if future.done() and not future.cancelled():  # the job's own
                    raise
                if future.cancel():
                    break
            except BaseException:  # KeyboardInterrupt above all; no effect where it is begun
                future.cancel()
                raise
        raise EngineBusy(
            "The engine had no time for that.",
            found=f"nothing came of it within {limit:g} s",
            change="once more, when fewer asks are under way",
        )

    def work(self) -> None:
        """Do all that waits."""
        while self._waiting:
            with self._lock:
                if not self._waiting:  # ended meanwhile
                    return
                job, future = self._waiting.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = job()
            except Exception as error:  # noqa: BLE001  whoever called gets it
                future.set_exception(error)
            except BaseException as error:  # somebody wants this thread to end, not the caller's
                future.set_exception(
                    EngineUnavailable(
                        "The worker died while it was at that.",
                        found=type(error).__name__,
                        change="once more: it is replaced",
                    )
                )
                raise
            else:
                future.set_result(result)

    def end(self, error: EngineError) -> None:
        """Nobody works here any more: whoever waits is told, and whoever comes."""
        with self._lock:
            self._ended = error
            left = list(self._waiting)
            self._waiting.clear()
        for _, future in left:
            if future.set_running_or_notify_cancel():
                future.set_exception(error)
