"""How long a search or a load may take, its stop button, and what it is at: one for all threads."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from earthmind_lab.errors import Cancelled

Kind = Literal["refused", "denied", "missing", "changed", "late", "failed"]
Check: TypeAlias = Callable[[], None]
"""Asked between the parts of what may take long; raises where it must stop, as `Budget.check`."""


class WebError(Exception):
    """A request that came to nothing; callers turn it into an error of our tree.

    Args:
        kind: ``refused`` (by our rule), ``denied`` (401, 403), ``missing`` (404, 410),
            ``changed`` (412), ``late`` (deadline), ``failed`` (anything else).
        text: What happened.
    """

    def __init__(self, kind: Kind, text: str) -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a search or a load is."""

    what: str
    """What is being done, such as ``reading cloud masks``."""
    done: int
    total: int
    """What `done` counts to; 0 = nothing is counted."""
    seconds: float
    """Since it began."""
    limit: float
    """Seconds that it may take."""
    silent: float
    """Seconds for which every server asked has said nothing; 0 where none is waited for."""


@dataclass
class Doing:
    """What goes on under a budget: its threads write it down, whoever watches reads it."""

    what: str = ""
    done: int = 0
    total: int = 0
    heard: float = 0.0
    """By the clock: when a server last said something, or was first asked."""
    answered: bool = True
    """Whether the last question got an answer; one that is asked again has not."""
    asking: set[int] = field(default_factory=set)
    """Threads that wait for a server."""


@dataclass
class Budget:
    """Time that a whole search or load may take; shared by its threads, and its stop button."""

    seconds: float = 120.0
    """From now on."""
    clock: Callable[[], float] = time.monotonic
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)
    _open: dict[int, socket.socket] = field(default_factory=dict, repr=False)
    """Connections that threads wait for, by thread."""
    _doing: Doing = field(default_factory=Doing, repr=False)
    _end: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._end = self.clock() + self.seconds

    @property
    def left(self) -> float:
        """Seconds that are left, never below 0."""
        return max(0.0, self._end - self.clock())

    def part(self, seconds: float) -> Budget:
        """A share of the time from now on, under the same stop button."""
        return Budget(seconds, self.clock, self._stop, self._open, self._doing)

    def step(self, what: str, done: int = 0, total: int = 0) -> None:
        """Say what is being done now, for whoever watches."""
        self._doing.what, self._doing.done, self._doing.total = what, done, total

    def heard(self) -> None:
        """Something came from a server."""
        self._doing.heard, self._doing.answered = self.clock(), True

    @property
    def progress(self) -> Progress:
        """How far it is now; any thread may look."""
        doing, now = self._doing, self.clock()
        waits = bool(doing.asking) or not doing.answered
        return Progress(
            what=doing.what,
            done=doing.done,
            total=doing.total,
            seconds=self.seconds - self.left,
            limit=self.seconds,
            silent=max(0.0, now - doing.heard) if waits else 0.0,
        )

    def cancel(self) -> None:
        """Stop everything that shares this budget, and what waits for a silent server too."""
        self._stop.set()
        for waited in list(self._open.values()):
            with suppress(OSError):  # it has ended meanwhile
                socket.socket.shutdown(waited, socket.SHUT_RDWR)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """What this thread connects to in here is hung up by `cancel`."""
        waiting.budget, doing = self, self._doing
        if doing.answered and not doing.asking:
            doing.heard, doing.answered = self.clock(), False
        doing.asking.add(threading.get_ident())
        try:
            yield
        finally:
            waiting.budget = None
            doing.asking.discard(threading.get_ident())
            self._open.pop(threading.get_ident(), None)

    def watch(self, connection: socket.socket) -> None:
        """A request of this thread went out; `cancel` may have come first.

        Raises:
            Cancelled: It has.
        """
        self._open[threading.get_ident()] = connection
        if self._stop.is_set():
            raise Cancelled("The load was stopped.")

    def check(self) -> None:
        """Go on, or stop.

        Raises:
            Cancelled: `cancel` was called.
            WebError: The time is over.
        """
        if self._stop.is_set():
            raise Cancelled("The load was stopped.")
        if not self.left:
            raise WebError("late", f"not ended after {round(self.seconds, 1):g} seconds")

    def sleep(self, seconds: float) -> None:
        """Wait, unless that is longer than what is left.

        Raises:
            Cancelled: `cancel` was called meanwhile.
            WebError: The time would be over.
        """
        if seconds >= self.left:
            raise WebError("late", f"not ended after {round(self.seconds, 1):g} seconds")
        if self._stop.wait(seconds):
            raise Cancelled("The load was stopped.")


def unlimited() -> None:
    """The check of what nobody waits for."""


def in_steps(count: int, size: int, check: Check) -> Iterator[slice]:
    """Rows, some at a time: a computation of any size ends soon after its time is over.

    Args:
        count: Rows in all.
        size: Rows of a step.
        check: Asked before each step.

    >>> list(in_steps(5, 2, unlimited))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    for start in range(0, count, size):
        check()
        yield slice(start, min(start + size, count))


class Waiting(threading.local):
    """The budget of this thread's request: urllib3 hands nothing down to its connections."""

    budget: Budget | None = None


waiting = Waiting()
"""Of each thread."""
