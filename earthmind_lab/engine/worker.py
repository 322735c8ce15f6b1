"""The thread that owns a model, and the one that looks after it.

The worker alone calls the backend. Should it die (an exception that no ask answers for: the
interpreter wants the thread to end, a bug in here), a new one takes over and every ask under way
starts anew; whoever waits for a reply notices nothing but the time it takes. Where no successor
comes to work (no thread can be started, the model can't let go of what it held), the engine is
given up: asks fail, more are refused, and the model is freed when the engine is closed.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from earthmind_lab.engine.asks import cancelled
from earthmind_lab.engine.base import Backend
from earthmind_lab.engine.line import Line
from earthmind_lab.engine.turns import Turns
from earthmind_lab.errors import EngineUnavailable

logger = logging.getLogger(__name__)

FRUITLESS = 50
"""Workers in a row that died without a token written, before all asks are given up."""
STILLBORN = 8
"""Workers in a row that did not come to work at all, before the engine is given up."""
PAUSE_SECONDS = 0.02
"""After the first of those; each further pause is twice as long, 2.5 s all together."""


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
        self._freed = self._died = self._works = False
        self._cause = ""  # what the last worker died of
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
        fruitless = stillborn = 0
        while not self._freed:
            written = self._turns.tokens_new
            self._live_once()
            self._died = True  # whoever comes next begins anew, unless there is nobody
            fruitless = 0 if self._turns.tokens_new > written else fruitless + 1
            stillborn = 0 if self._works else stillborn + 1
            if stillborn >= STILLBORN or (stillborn and self._line.closed):
                self._give_up(stillborn)
            elif stillborn:
                self._line.pause(PAUSE_SECONDS * 2 ** (stillborn - 1))
            elif fruitless >= FRUITLESS:
                self._line.fail_all(self._lost(f"{fruitless} workers died without writing a token"))

    def _live_once(self) -> None:
        """One worker, from its start to its end."""
        self._works = False
        worker = threading.Thread(target=self._work, name=self._name, daemon=True)
        try:
            worker.start()
        except Exception as error:  # the system has no thread to give
            self._cause = f"{type(error).__name__}: {error}"
            logger.warning("The worker %s could not be started.", self._name, exc_info=True)
        else:
            self._worker = worker
            worker.join()

    def _work(self) -> None:
        try:
            if self._died:
                self._turns.start_anew()
            self._works = True
            while self._line.wait(busy=self._turns.busy):
                self._turns.turn()
            self._free()
        except BaseException as error:
            if self._freed:
                raise
            self._cause = f"{type(error).__name__}: {error}"
            logger.warning("The worker %s died and is replaced.", self._name, exc_info=True)

    def _free(self) -> None:
        """End what is under way and free the model, once."""
        self._turns.give_up()
        self._freed = True  # before: if this fails, once more would fail as well
        self._backend.close()

    def _give_up(self, stillborn: int) -> None:
        """No worker comes any more: nobody may wait for one, and the keeper frees the model."""
        lost = self._lost(f"{stillborn} workers in a row did not come to work")
        self._line.fail_all(cancelled() if self._line.closed else lost, for_good=True)
        self._line.pause(None)
        try:
            self._free()
        except Exception:  # the model is as ill as it was, and nobody is left to hear of it
            self._freed = True
            logger.exception("The model of %s could not be freed.", self._name)

    def _lost(self, found: str) -> EngineUnavailable:
        return EngineUnavailable(
            f"The model {self._backend.capabilities.name!r} can't be kept alive.",
            found=f"{found}; the last one: {self._cause}",
            change="the log says more; load_engine() once more",
        )
