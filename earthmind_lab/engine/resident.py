"""The in-process engine: anybody queues, one worker thread owns the model.

This file knows no torch; `Backend` hides it. What the engine adds to a backend, part by part:

    asks        an ask with its events: the handle that callers hold
    order       who goes next: priority, turns between seats
    service     what each seat has had, by which they take turns
    line        who waits, who is under way, and whether there is room
    jobs        work for the worker that is no ask
    tunings     adapters: loaded and dropped between two steps, chosen by each ask
    turns       continuous batching: asks join and leave at any step, none harms another
    answering   one answer: text, objects, cost
    degenerate  answers that go round in a circle or say nothing
    layers      where a long pass of the model is heard
    worker      the thread, and its successor should it die
"""

from __future__ import annotations

import atexit
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.engine.asks import Ask, too_large
from earthmind_lab.engine.base import Backend, Stats
from earthmind_lab.engine.common import CommonEngine
from earthmind_lab.engine.line import Line
from earthmind_lab.engine.tunings import Tunings
from earthmind_lab.engine.turns import Turns
from earthmind_lab.engine.worker import Worker
from earthmind_lab.errors import EarthMindError, EngineError, ModelNotFound, PromptError
from earthmind_lab.exchange import Options, Prompt, Tuning, View

FLUSH_SECONDS = 0.04
"""Text goes out in batches this far apart: smooth to the eye, cheap for the channel."""
QUEUE_LIMIT = 64
"""Asks that may wait."""
PLACES = {"cpu": 16}
"""Answers under way at a time, per kind of device."""
PLACES_ELSEWHERE = 32
CLOSE_SECONDS = 30.0
"""How long `close` waits for the worker to reach the next token."""

_LIVE: weakref.WeakSet[ResidentEngine] = weakref.WeakSet()


class ResidentEngine(CommonEngine):
    """A model that stays loaded and answers many asks at a time.

    Args:
        backend: The model; used by the worker thread only, but for what `Backend` exempts.
        places: Answers under way at a time; default by device. Memory may allow fewer.
        queue_limit: Asks that may wait before `EngineBusy`; a seat that has none waiting finds
            as many places again.
        flush_seconds: Text goes out in batches this far apart.
        clock: Seconds, for deadlines and what an ask cost.
    """

    def __init__(
        self,
        backend: Backend[Any, Any],
        *,
        places: int | None = None,
        queue_limit: int = QUEUE_LIMIT,
        flush_seconds: float = FLUSH_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backend, self._clock = backend, clock
        self._capabilities = mine = backend.capabilities
        if places is None:
            places = PLACES.get(mine.device.partition(":")[0], PLACES_ELSEWHERE)
        self._line = Line(mine.name, limit=queue_limit, places=places, capacity=backend.capacity())
        self._turns = Turns(backend, self._line, clock=clock, flush_seconds=flush_seconds)
        self._worker = Worker(backend, self._turns, self._line)
        self._tunings = Tunings(backend, self._line)
        _LIVE.add(self)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._line.closed

    def __repr__(self) -> str:
        mine = self._capabilities
        state = "closed" if self.closed else mine.device
        return f"<Engine {mine.name} {mine.revision} {mine.dtype} on {state}>"

    def submit(self, prompt: Prompt, options: Options | None = None) -> Ask:
        """Queue an ask and return at once; what can't be answered at all fails at once.

        Raises:
            EngineUnavailable: The engine is closed.
            EngineBusy: The queue is full.
        """
        options = self._chosen(options or Options())
        needs, tuning, refusal = 0, None, None
        if not self.closed:
            try:
                options, tuning = self._tunings.resolved(options)
                needs, refusal = self._looked_at(prompt, options)
            except ModelNotFound as error:
                refusal = error
        ask = Ask(prompt, options, submitted=self._clock(), needs=needs, tuning=tuning)
        if refusal is None:
            self._line.add(ask)
        else:
            self._line.refuse(ask, refusal)
        return ask

    @property
    def adapters(self) -> Mapping[str, Tuning]:
        """The adapters that asks may choose, by name."""
        return self._tunings.held

    def load_adapter(self, path: str | Path, name: str | None = None) -> str:
        """Load an adapter that was trained on this model; answers under way go on.

        Args:
            path: Folder of the adapter, or of the run that it was trained in.
            name: What `Options.adapter` will call it; default: the name of the run's folder.

        Returns:
            Its name.

        Raises:
            EngineError: It belongs to another model or another architecture, can't be read or
                used, or another adapter has the name. The engine is as it was.
            OutOfDeviceMemory: There is no room for it beside the asks.
        """
        return self._tunings.load(Path(path), name)

    def drop_adapter(self, name: str) -> None:
        """Free an adapter.

        Raises:
            ModelNotFound: There is none of this name.
            EngineBusy: Answers with it are under way, or wait.
        """
        self._tunings.drop(name)
        if self._default == name:
            self._default = None

    def seen_gsd(self, view: View) -> float | None:
        """Metres per pixel that the model really sees of a view; None for a plain picture."""
        return self._backend.seen_gsd(view)

    def pictures(self, views: Sequence[View]) -> tuple[tuple[NDArray[np.uint8], ...], ...]:
        """What the model's vision encoder is given of each view: its pixels as the model sees them.

        Args:
            views: As they would be asked about together.

        Returns:
            uint8 pictures (H, W, 3) of each view, in the order in which they are read.
        """
        return self._backend.pictures(views)

    def stats(self) -> Stats:
        """What it is doing and what it keeps; any thread."""
        running, waiting, counts = self._line.sizes()
        return Stats(
            running=running,
            waiting=waiting,
            done=counts.done,
            failed=counts.failed,
            cancelled=counts.cancelled,
            tokens_prefilled=self._turns.tokens_prefilled,
            tokens_new=self._turns.tokens_new,
            kept={} if self.closed else dict(self._backend.kept()),
            adapters=tuple(self.adapters.values()),
        )

    def close(self) -> None:
        """Cancel every ask, stop the worker and free the device; may be called twice."""
        self._line.close()
        self._worker.join(CLOSE_SECONDS)

    def _looked_at(self, prompt: Prompt, options: Options) -> tuple[int, Exception | None]:
        """Bytes that an ask takes at most, and why it is refused, if it is."""
        try:
            self._capabilities.check(prompt)
            _check_seed(options.seed)
            needs = self._backend.needs(prompt, options)
        except EarthMindError as error:
            return 0, error
        except Exception as error:  # noqa: BLE001  the handle tells, as with any other failure
            failure = EngineError(
                f"The model {self.name!r} failed on this ask.",
                found=f"{type(error).__name__}: {error}",
            )
            failure.__cause__ = error
            return 0, failure
        capacity = self._backend.capacity()
        return needs, None if needs <= capacity else too_large(needs, capacity)


def _check_seed(seed: int) -> None:
    """Refuse what no generator takes, sampling or not.

    Raises:
        PromptError: Outside of the whole numbers of 64 bits, with or without a sign.
    """
    if not -(2**63) <= seed < 2**64:
        raise PromptError(
            "The seed is too large.", found=str(seed), change="a seed from -(2**63) to 2**64 - 1"
        )


def _close_all(engines: Callable[[], list[ResidentEngine]] = lambda: list(_LIVE)) -> None:
    """A thread inside torch while the interpreter shuts down can crash it: stop them first."""
    for engine in engines():
        engine.close()


atexit.register(_close_all)
