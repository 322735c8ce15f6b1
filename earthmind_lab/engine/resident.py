"""The in-process engine: one worker thread owns the model, everybody else only queues.

This file knows no torch; `Backend` hides it. What the engine adds to a backend: the queue with
priorities, events, cancelling, deadlines, the text (detokenising, stop rule, names of objects),
the count of what an ask cost, and that one failing ask leaves the next one unharmed.
"""

from __future__ import annotations

import atexit
import heapq
import itertools
import threading
import time
import traceback
import uuid
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.engine.base import Backend, Capabilities, State
from earthmind_lab.engine.transcript import NO_LABEL, Name, Transcript, names
from earthmind_lab.errors import (
    Cancelled,
    EarthMindError,
    EngineBusy,
    EngineError,
    EngineUnavailable,
)
from earthmind_lab.exchange import (
    Done,
    Event,
    Failed,
    Found,
    Object,
    Options,
    Prompt,
    Queued,
    Reply,
    Token,
    Usage,
    View,
)

FLUSH_SECONDS = 0.04
"""Text goes out in batches this far apart: smooth to the eye, cheap for the channel."""
QUEUE_LIMIT = 64
"""Asks that may wait."""
CLOSE_SECONDS = 30.0
"""How long `close` waits for the worker to reach the next token."""

_LIVE: weakref.WeakSet[ResidentEngine] = weakref.WeakSet()


class Ask:
    """An ask under way; the `Handle` of a `ResidentEngine`."""

    def __init__(self, prompt: Prompt, options: Options, *, due: float | None) -> None:
        self.id = uuid.uuid4().hex
        self.prompt, self.options, self.due = prompt, options, due
        self.submitted = time.monotonic()
        self.stop_asked = False
        self._events: list[Event] = []
        self._changed = threading.Condition()
        self._running = False

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
        """Stop: at once while queued, else before the next token; no effect once ended."""
        with self._changed:
            self.stop_asked = True
            if not self._running:
                self.fail(_cancelled())

    @property
    def ended(self) -> bool:
        """Whether the last event is out."""
        return bool(self._events) and isinstance(self._events[-1], Done | Failed)

    def start(self) -> bool:
        """Take it out of the queue; False when it ended while waiting."""
        with self._changed:
            self._running = not self.ended
            return self._running

    def emit(self, event: Event) -> None:
        """Publish an event; nothing follows the last one."""
        with self._changed:
            if not self.ended:
                self._events.append(event)
                self._changed.notify_all()

    def fail(self, error: Exception) -> None:
        """End it without a reply."""
        self.emit(Failed(ask=self.id, error=error))

    def overdue(self, now: float) -> bool:
        """Whether its deadline has passed."""
        return self.due is not None and now >= self.due

    def check(self) -> None:
        """Stop here when the user or the clock says so.

        Raises:
            Cancelled: Stopped by the user.
            EngineError: The deadline has passed.
        """
        if self.stop_asked:
            raise _cancelled()
        if self.overdue(time.monotonic()):
            raise _late(self.options)


class ResidentEngine:
    """A model that stays loaded and answers one ask after the other.

    Args:
        backend: The model; used by the worker thread only, except for `capabilities`.
        queue_limit: Asks that may wait before `EngineBusy`.
        flush_seconds: Text goes out in batches this far apart.
    """

    def __init__(
        self,
        backend: Backend[Any, Any],
        *,
        queue_limit: int = QUEUE_LIMIT,
        flush_seconds: float = FLUSH_SECONDS,
    ) -> None:
        self._backend = backend
        self._capabilities = backend.capabilities
        self._queue_limit, self._flush_seconds = queue_limit, flush_seconds
        self._waiting: list[tuple[int, int, Ask]] = []  # heap: priority, order of arrival
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._current: Ask | None = None
        self._closed = False
        name = f"earthmind-{self._capabilities.name}"
        self._worker = threading.Thread(target=self._work, name=name, daemon=True)
        self._worker.start()
        _LIVE.add(self)

    @property
    def name(self) -> str:
        """Name of the model."""
        return self._capabilities.name

    @property
    def revision(self) -> str:
        """First 12 hex digits of its weight hash."""
        return self._capabilities.revision

    @property
    def capabilities(self) -> Capabilities:
        """What the model is and what fits into it."""
        return self._capabilities

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def __repr__(self) -> str:
        mine = self._capabilities
        state = "closed" if self._closed else mine.device
        return f"<Engine {mine.name} {mine.revision} {mine.dtype} on {state}>"

    def submit(self, prompt: Prompt, options: Options | None = None) -> Ask:
        """Queue an ask and return at once.

        Raises:
            EngineUnavailable: The engine is closed.
            EngineBusy: The queue is full.
        """
        options = options or Options()
        due = None if options.deadline is None else time.monotonic() + options.deadline
        ask = Ask(prompt, options, due=due)
        with self._changed:
            if self._closed:
                raise EngineUnavailable(
                    f"The engine {self.name!r} is closed.", change="load_engine() once more"
                )
            self._waiting = [entry for entry in self._waiting if not entry[2].ended]
            heapq.heapify(self._waiting)
            if len(self._waiting) >= self._queue_limit:
                raise EngineBusy(
                    f"The queue of {self.name!r} is full.",
                    found=f"{len(self._waiting)} asks waiting",
                    change="wait for one of them, or cancel some",
                )
            entry = (-options.priority, next(self._order), ask)
            before = sum(other < entry for other in self._waiting) + (self._current is not None)
            ask.emit(Queued(ask=ask.id, position=before))
            heapq.heappush(self._waiting, entry)
            self._changed.notify_all()
        return ask

    def generate(self, prompt: Prompt, options: Options | None = None) -> Reply:
        """Ask and wait; an interrupt of the caller cancels the ask.

        Raises:
            EarthMindError: Why the ask failed.
        """
        ask = self.submit(prompt, options)
        try:
            return ask.result()
        except BaseException:  # KeyboardInterrupt above all; no effect when the ask failed
            ask.cancel()
            raise

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

    def close(self) -> None:
        """Cancel every ask, stop the worker and free the device; may be called twice."""
        with self._changed:
            self._closed = True
            asks = [entry[2] for entry in self._waiting]
            if self._current is not None:
                asks.append(self._current)
            self._changed.notify_all()
        for ask in asks:
            ask.cancel()
        if threading.current_thread() is not self._worker:
            self._worker.join(CLOSE_SECONDS)

    def _work(self) -> None:
        """The worker thread: one ask after the other until closed."""
        while (ask := self._next()) is not None:
            try:
                if ask.start():
                    self._answer(ask)
            except EarthMindError as error:
                ask.fail(_without_frames(error))
            except Exception as error:  # noqa: BLE001  a broken ask must not stop the next one
                wrapped = EngineError(
                    f"The model {self.name!r} failed on this ask.",
                    found=f"{type(error).__name__}: {error}",
                )
                wrapped.__cause__ = _without_frames(error)
                ask.fail(wrapped)
            finally:
                with self._changed:
                    self._current = None
                del ask
        self._backend.close()

    def _next(self) -> Ask | None:
        """Wait for an ask; None when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return None
            self._current = heapq.heappop(self._waiting)[2]
            return self._current

    def _answer(self, ask: Ask) -> None:
        """Encode, prefill, decode, segment; publish every event of the ask."""
        seconds = {"queue": time.monotonic() - ask.submitted}
        ask.check()
        self._capabilities.check(ask.prompt)
        with _timed(seconds, "encode"):
            encoded = self._backend.encode(self._seen(ask))
        ask.check()
        with _timed(seconds, "prefill"):
            state = self._backend.prefill(ask.prompt, ask.options, encoded)
        try:
            with _timed(seconds, "decode"):
                transcript, logprobs = self._write(ask, state)
            with _timed(seconds, "segment"):
                objects = self._backend.segment([state])[0]
            usage = Usage(
                views_encoded=encoded.views_encoded,
                sam_encodes=state.sam_encodes,
                tokens_prefilled=state.tokens_prefilled,
                tokens_new=len(transcript.ids),
                seconds=seconds,
            )
            weights = state.sensor_weights
        finally:
            self._backend.release(state)
        last, text = transcript.finish()
        if last:
            ask.emit(Token(ask=ask.id, text=last))
        objects = _named(objects, names(transcript.raw, self._capabilities.stop))
        for found in objects:
            ask.emit(Object(ask=ask.id, found=found))
        reply = Reply(
            text=text,
            raw=transcript.said,
            objects=objects,
            sensor_weights=weights,
            token_ids=tuple(transcript.ids),
            logprobs=tuple(logprobs),
            usage=usage,
        )
        ask.check()
        ask.emit(Done(ask=ask.id, reply=reply))

    def _seen(self, ask: Ask) -> list[View]:
        """The views to encode: under weighted fusion also those of a sensor that weighs nothing."""
        views, options = ask.prompt.views, ask.options
        both = len({view.modality for view in views}) == 2
        weighted = (options.fusion or self._capabilities.fusion) == "weighted" and both
        return [view for view in views if weighted or view.modality != options.sensor_off]

    def _write(self, ask: Ask, state: State) -> tuple[Transcript, list[float]]:
        """Decode token by token; text goes out in batches."""
        transcript = Transcript(self._backend.decode, self._capabilities.stop)
        logprobs: list[float] = []
        flushed = -self._flush_seconds
        for _ in range(ask.options.max_new_tokens):
            ask.check()
            self._expire()
            step = self._backend.step([state])[0]
            logprobs.append(step.logprob)
            ended = transcript.append(step.token_id)
            now = time.monotonic()
            if now - flushed >= self._flush_seconds and (text := transcript.increment()):
                ask.emit(Token(ask=ask.id, text=text))
                flushed = now
            if ended:
                break
        ask.check()
        return transcript, logprobs

    def _expire(self) -> None:
        """Fail waiting asks whose deadline has passed: they need not wait for their turn."""
        now = time.monotonic()
        with self._changed:
            late = [entry[2] for entry in self._waiting if entry[2].overdue(now)]
        for ask in late:
            ask.fail(_late(ask.options))


def _named(objects: tuple[Found, ...], said: tuple[Name, ...]) -> tuple[Found, ...]:
    """Objects with what the text calls them; what it does not name is an ``object``."""
    unnamed = Name(label=NO_LABEL, span=None)
    frames = max(1, len(objects) // len(said)) if said else 1  # a series has each on every frame
    each = [name for name in said for _ in range(frames)]
    pairs = itertools.zip_longest(objects, each[: len(objects)], fillvalue=unnamed)
    return tuple(
        replace(found, label=name.label, text_span=name.span)
        for found, name in pairs
        if isinstance(found, Found) and isinstance(name, Name)
    )


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.monotonic()
    try:
        yield
    finally:
        seconds[name] = time.monotonic() - started


def _cancelled() -> Cancelled:
    return Cancelled("The ask was stopped.")


def _late(options: Options) -> EngineError:
    return EngineError(
        f"No answer within the deadline of {options.deadline:g} s.",
        change="a longer deadline, or fewer new tokens",
    )


def _without_frames(error: Exception) -> Exception:
    """The error without the locals of its frames: they hold the caches of a failed ask."""
    traceback.clear_frames(error.__traceback__)
    return error


def _close_all(engines: Callable[[], list[ResidentEngine]] = lambda: list(_LIVE)) -> None:
    """A thread inside torch while the interpreter shuts down can crash it: stop them first."""
    for engine in engines():
        engine.close()


atexit.register(_close_all)
