"""An ask, from the moment it is submitted until its last event is out.

What its owner holds is the `Handle` part: events, result, cancel, from any thread. The rest
belongs to the line it waits in and to the worker that answers it.
"""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections.abc import Iterator, Sequence

from earthmind_lab.errors import Cancelled, EngineError, OutOfDeviceMemory
from earthmind_lab.exchange import (
    Done,
    Event,
    Failed,
    Options,
    Prompt,
    Queued,
    Reply,
    Token,
    Tuning,
)

STRIKES = 6
"""Worker deaths at the same place of an ask, one after the other, that are its own doing. Fewer
may be bad luck: a worker killed from outside every 15 ms met up to 4 in 20 kills."""
DEATHS = 32
"""Worker deaths over one ask, wherever, after which it is given up."""


class Ask:
    """An ask under way; the `Handle` of a `ResidentEngine`.

    Args:
        prompt: What is asked.
        options: How to answer.
        submitted: When, on the engine's clock.
        needs: Bytes of device memory it takes at most.
        tuning: The adapter that `options` names by its hash.
    """

    def __init__(
        self,
        prompt: Prompt,
        options: Options,
        *,
        submitted: float | None = None,
        needs: int = 0,
        tuning: Tuning | None = None,
    ) -> None:
        self.id = uuid.uuid4().hex
        self.prompt, self.options, self.needs, self.tuning = prompt, options, needs, tuning
        self.submitted = time.monotonic() if submitted is None else submitted
        self.due = None if options.deadline is None else self.submitted + options.deadline
        self.arrival = 0
        """Its number in the line; kept when it goes back."""
        self.paid = self.expected = 0
        """What it has cost its seat since it was let in, and what is expected; see `service`."""
        self.deaths = 0
        """How often a worker died over it."""
        self.strikes = 0
        """How often in a row at `place`; such an ask shares no step."""
        self.place: tuple[str, int] | None = None
        self.stop_asked = False
        self._events: list[Event] = []
        # Entered as the bare lock: `Condition.__enter__` is Python code, in which a thread that
        # is being killed could end between taking the lock and owning up to it.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._running = False
        self._position: int | None = None

    # --- for its owner ---------------------------------------------------------------------------

    def events(self) -> Iterator[Event]:
        """All events from the first on; ends after the one `Done` or `Failed`."""
        for index in itertools.count():
            with self._lock:
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
        with self._lock:
            if not self._changed.wait_for(lambda: self.ended, timeout):
                raise TimeoutError(f"The reply was not ready within {timeout} s; the ask goes on.")
            last = self._events[-1]
        if isinstance(last, Done):
            return last.reply
        assert isinstance(last, Failed)
        raise last.error

    def cancel(self) -> None:
        """Stop: at once while queued, else before the next token or layer; no effect once ended."""
        with self._lock:
            self.stop_asked = True
            if not self._running:
                self._emit([Failed(ask=self.id, error=cancelled())])

    @property
    def ended(self) -> bool:
        """Whether the last event is out."""
        return bool(self._events) and isinstance(self._events[-1], Done | Failed)

    # --- for the line and the worker -------------------------------------------------------------

    @property
    def seat(self) -> str:
        """Who asks."""
        return self.options.seat

    @property
    def priority(self) -> int:
        """Higher goes first; negative = batch."""
        return self.options.priority

    @property
    def said(self) -> str:
        """The text that was handed out, by whatever attempt."""
        return "".join(event.text for event in self._events if isinstance(event, Token))

    def start(self) -> bool:
        """Take it out of the line; False when it ended while waiting."""
        with self._lock:
            self._running = not self.ended
            return self._running

    def park(self) -> bool:
        """Let it wait again; False when it ended, or ends now because its owner stopped it."""
        with self._lock:
            self._running = False
            if self.stop_asked:
                self._emit([Failed(ask=self.id, error=cancelled())])
            self._changed.notify_all()  # a worker that died may have left it unsaid
            return not self.ended

    def tell(self, position: int) -> None:
        """Publish its place in the line, where that has changed."""
        with self._lock:
            if position != self._position:
                self._position = position
                self._emit([Queued(ask=self.id, position=position)])

    def emit(self, *events: Event) -> None:
        """Publish events, all at once; nothing follows the last one."""
        with self._lock:
            self._emit(events)

    def _emit(self, events: Sequence[Event]) -> None:
        if not self.ended:
            self._events.extend(events)
            self._changed.notify_all()

    def fail(self, error: Exception) -> None:
        """End it without a reply."""
        self.emit(Failed(ask=self.id, error=error))

    @property
    def failed(self) -> bool:
        """Whether it ended without a reply."""
        return self.ended and isinstance(self._events[-1], Failed)

    @property
    def cancelled(self) -> bool:
        """Whether it ended because its owner stopped it."""
        last = self._events[-1] if self._events else None
        return isinstance(last, Failed) and isinstance(last.error, Cancelled)

    def overdue(self, now: float) -> bool:
        """Whether its deadline has passed."""
        return self.due is not None and now >= self.due

    def unwanted(self, now: float) -> EngineError | None:
        """Why to stop here: its owner or the clock says so; None = go on."""
        if self.stop_asked:
            return cancelled()
        return late(self.options) if self.overdue(now) else None

    def check(self, now: float) -> None:
        """Stop here when its owner or the clock says so.

        Raises:
            Cancelled: Stopped by the user.
            EngineError: The deadline has passed.
        """
        if (error := self.unwanted(now)) is not None:
            raise error

    def blame(self, place: tuple[str, int]) -> bool:
        """The worker died over it, at this stage and token.

        Returns:
            Whether it must be taken for the reason.
        """
        self.deaths += 1
        self.strikes = self.strikes + 1 if place == self.place else 1
        self.place = place
        return self.strikes >= STRIKES or self.deaths >= DEATHS


def cancelled() -> Cancelled:
    """What a stopped ask ends with."""
    return Cancelled("The ask was stopped.")


def too_large(needs: int, capacity: int) -> OutOfDeviceMemory:
    """What an ask ends with that no backend has refused, but that needs more than there is."""
    return OutOfDeviceMemory(
        "The ask does not fit into the device's memory, even alone.",
        found=f"{needs >> 20} MiB needed, {capacity >> 20} MiB for all asks",
        change="fewer or smaller views, fewer new tokens, or load_engine(dtype='bfloat16')",
    )


def late(options: Options) -> EngineError:
    """What an ask beyond its deadline ends with."""
    return EngineError(
        f"No answer within the deadline of {options.deadline:g} s.",
        change="a longer deadline, or fewer new tokens",
    )
