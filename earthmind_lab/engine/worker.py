"""The thread that owns a model, and the one that looks after it.

The worker alone calls the backend. Should it die (an exception that no ask answers for: the
interpreter wants the thread to end, a bug in here), a new one takes over and every ask under way
starts anew; whoever waits for a reply notices nothing but the time it takes.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from earthmind_lab.engine.base import Backend
from earthmind_lab.engine.line import Line
from earthmind_lab.engine.turns import Turns
from earthmind_lab.errors import EngineError

logger = logging.getLogger(__name__)

FRUITLESS = 50
"""Workers in a row that died without a token written, before all asks are given up."""


class Worker:
    """Answers the asks of a line until the line is closed.

    Args:
        backend: The model; freed at the end.
        turns: What a worker does.
        line: Who waits.
    """

    def __init__(self, backend: Backend[Any, Any], turns: Turns, line: Line) -> None:
        self._backend, self._turns, self._line = backend, turns, line
        self._name = f"earthmind-{backend.capabilities.name}"
        self._freed = self._died = False
        self._worker: threading.Thread | None = None
        self._keeper = threading.Thread(target=self._keep, name=f"{self._name}-keeper", daemon=True)
        self._keeper.start()

    @property
    def ident(self) -> int | None:
        """Of the thread that owns the model now."""
        return None if self._worker is None else self._worker.ident

    def join(self, seconds: float) -> None:
        """Wait until the model is freed; no effect on the worker's own threads."""
        if threading.current_thread() not in (self._worker, self._keeper):
            self._keeper.join(seconds)

    def _keep(self) -> None:
        """One worker after the other. A thread of its own: what kills a worker can't kill it."""
        fruitless = 0
        while not self._freed:
            written = self._turns.tokens_new
            self._worker = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._worker.start()
            self._worker.join()
            self._died = True  # whoever comes next begins anew, unless there is nobody
            fruitless = 0 if self._turns.tokens_new > written else fruitless + 1
            if fruitless >= FRUITLESS:
                self._line.fail_all(
                    EngineError(
                        f"The model {self._backend.capabilities.name!r} can't be kept alive.",
                        found=f"{fruitless} workers died without writing a token",
                        change="the log says of what; load_engine() once more",
                    )
                )

    def _work(self) -> None:
        try:
            if self._died:
                self._turns.start_anew()
            while self._line.wait(busy=self._turns.busy):
                self._turns.turn()
            self._turns.give_up()
            self._freed = True  # before: if this fails, once more would fail as well
            self._backend.close()
        except BaseException:
            if self._freed:
                raise
            logger.warning("The worker %s died and is replaced.", self._name, exc_info=True)
