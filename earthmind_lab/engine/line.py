"""The line of asks: who waits, who is under way, and whether there is room for the next.

Room: `places` answers at a time, and the memory that the asks under way may take, together, is at
most the backend's; batch (priority below 0) has a part of either, see `places`. The first in order
that does not fit waits, and nobody slips past it: else a large ask would wait for ever. Where batch
has its part already, batch alone waits.

Every method may be called by any thread.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from earthmind_lab.engine.asks import Ask, late, too_large
from earthmind_lab.engine.jobs import Jobs
from earthmind_lab.engine.order import order
from earthmind_lab.engine.places import Places
from earthmind_lab.engine.service import Service
from earthmind_lab.errors import EngineBusy, EngineError, EngineUnavailable
from earthmind_lab.exchange import Done, Event


@dataclass(kw_only=True)
class Counts:
    """How the asks ended so far."""

    done: int = 0
    failed: int = 0
    cancelled: int = 0


class Line:
    """The asks that wait and those under way.

    Args:
        name: Of the engine, for messages.
        limit: Asks that may wait; a seat that has none waiting finds as many places again, so
            that nobody's pile shuts the others out.
        places: Answers that may be under way at a time.
        capacity: Bytes of device memory for all of them.
    """

    def __init__(self, name: str, *, limit: int, places: int, capacity: int) -> None:
        self._name, self._limit, self._places, self._capacity = name, limit, places, capacity
        self._most = places  # fewer after the device was full; see `crowded`
        self._waiting: dict[str, Ask] = {}
        self._under_way: dict[str, Ask] = {}
        self._ticks = itertools.count(1)
        self._service = Service()
        self._served: dict[str, int] = {}  # when each seat that is here was served last
        self._held = ""  # the ask whose turn it is until it runs: it was sent back
        self._passed = 0  # asks let in since one of a lower priority waits
        self.jobs = Jobs(self._wake)
        self.counts = Counts()
        self.closed = False
        self._lost: EngineError | None = None
        self._lock = threading.Lock()  # entered as the bare lock: see `Ask`
        self._changed = threading.Condition(self._lock)

    # --- coming and going ------------------------------------------------------------------------

    def add(self, ask: Ask) -> None:
        """Queue an ask.

        Raises:
            EngineUnavailable: The line is closed, or the engine was given up.
            EngineBusy: It is full.
        """
        with self._lock:
            self._check_open()
            if ask.needs > self._capacity:  # an adapter took its place meanwhile
                ask.fail(too_large(ask.needs, self._capacity))
                self._count(ask)
                return
            self._drop_ended()
            new = all(other.seat != ask.seat for other in self._waiting.values())
            if len(self._waiting) >= (2 * self._limit if new else self._limit):
                raise EngineBusy(
                    f"The queue of {self._name!r} is full.",
                    found=f"{len(self._waiting)} asks waiting",
                    change="wait for one of them, or cancel some",
                )
            ask.arrival = next(self._ticks)
            others = [one for one in self._waiting.values() if one.priority == ask.priority]
            self._service.come(ask, {one.seat for one in others})
            self._waiting[ask.id] = ask
            self._announce()
            self._changed.notify_all()

    def refuse(self, ask: Ask, error: Exception) -> None:
        """End an ask that need not wait: it can't be answered."""
        with self._lock:
            ask.fail(error)
            self._count(ask)

    def take(self) -> Ask | None:
        """The next ask, now under way; None while there is none, or no room for it."""
        with self._lock:
            room, batch_waits = self._room(), False
            for ask, passed in self._in_order():
                batch_waits = batch_waits or not room.open_to(ask)
                if batch_waits and ask.priority < 0:
                    continue
                if not room.fits(ask):
                    return None
                self._under_way[ask.id] = ask  # before it leaves the other: see `take_back`
                del self._waiting[ask.id]
                if not ask.start():
                    self._left(ask)
                    self._announce()  # those behind it stand one place further on
                    continue
                self._service.begin(ask)
                self._passed, self._served[ask.seat] = passed, next(self._ticks)
                self._announce()
                return ask
            return None

    def charge(self, costs: Iterable[tuple[Ask, int]]) -> None:
        """What was read and written for asks under way, see `service`.

        It decides who is let in next, and is told to those who wait when that happens.
        """
        with self._lock:
            for ask, cost in costs:
                if ask.id in self._under_way:
                    self._service.charge(ask, cost)

    def left(self, ask: Ask, *last: Event) -> None:
        """An ask under way ends, with its last events."""
        with self._lock:
            ask.emit(*last)
            for event in last:
                if isinstance(event, Done):
                    self._service.ended(event.reply.usage.tokens_new)
            self._left(ask)
            self._most = min(self._places, self._most + 1)
            self._announce()

    def put_back(self, ask: Ask) -> None:
        """An ask under way waits again, and it is its turn until it has got in for good.

        Else one that only fits where few or none are under way would wait for as long as others
        come. One ask at a time is held so; the others stand where they stood.
        """
        with self._lock:
            self._put_back(ask)
            if self._held not in self._waiting:
                self._held = ask.id
            self._announce()

    def take_back(self) -> None:
        """All that is under way waits again: whoever answered them is gone."""
        with self._lock:
            for ask in list(self._under_way.values()):
                self._put_back(ask)
            # It may have ended an ask without coming to forget the seat, whose counter would stay
            # where it was: the least of all, from which newcomers start.
            waiting = self._waiting.values()
            self._service.only({(ask.priority, ask.seat) for ask in waiting})
            seats = {ask.seat for ask in waiting}
            self._served = {seat: at for seat, at in self._served.items() if seat in seats}
            self._announce()

    def fail_all(self, error: EngineError, *, for_good: bool = False) -> None:
        """End every ask: the model can't be kept alive.

        Args:
            error: What they end with.
            for_good: Refuse more of them, too.
        """
        with self._lock:
            self._lost = error if for_good else None
            if for_good:
                self.jobs.end(error)
            for ask in [*self._waiting.values(), *self._under_way.values()]:
                ask.fail(error)
            for ask in list(self._under_way.values()):
                self._left(ask)
            self._drop_ended()

    def crowded(self, running: int) -> None:
        """The device was full: let in no more than now run; with each that ends, one more."""
        with self._lock:
            self._most = max(1, running)

    def resize(self, nbytes: int) -> bool:
        """So many bytes more (less, if negative) are there for asks.

        Returns:
            False where nothing was changed: those under way, or one that waits, need them.
        """
        with self._lock:
            taken = sum(ask.needs for ask in self._under_way.values())
            largest = max((ask.needs for ask in self._waiting.values()), default=0)
            if nbytes < 0 and self._capacity + nbytes < max(taken, largest):
                return False
            self._capacity += nbytes
            self._announce()
            self._changed.notify_all()
            return True

    def using(self, adapter: str) -> int:
        """How many of the asks under way and waiting want an adapter, by its hash."""
        with self._lock:
            asks = [*self._waiting.values(), *self._under_way.values()]
            return sum(ask.options.adapter == adapter and not ask.ended for ask in asks)

    def check_open(self) -> None:
        """See that somebody works here.

        Raises:
            EngineUnavailable: The line is closed, or the engine was given up.
        """
        with self._lock:
            self._check_open()

    def expire(self, now: float) -> None:
        """Fail the waiting asks whose deadline has passed: they need not wait for their turn."""
        with self._lock:
            for ask in self._waiting.values():
                if ask.overdue(now):
                    ask.fail(late(ask.options))
            self._drop_ended()

    # --- the worker and the owner ----------------------------------------------------------------

    def wait(self, *, busy: bool) -> bool:
        """Until there is something to do.

        Args:
            busy: Answers are being written, so there is.

        Returns:
            False when the line is closed.
        """
        with self._lock:
            if not busy:
                self._changed.wait_for(lambda: self._waiting or self.jobs.waiting or self.closed)
            return not self.closed

    def pause(self, seconds: float | None) -> None:
        """Until that time has passed or the line is closed; None = until it is closed."""
        with self._lock:
            self._changed.wait_for(lambda: self.closed, seconds)

    def close(self) -> None:
        """Cancel all asks and take no more."""
        with self._lock:
            self.closed = True
            asks = [*self._waiting.values(), *self._under_way.values()]
            self._changed.notify_all()
        for ask in asks:
            ask.cancel()
        self.jobs.end(self._closed_error())

    def sizes(self) -> tuple[int, int, Counts]:
        """Asks under way, asks waiting, and how the others ended."""
        with self._lock:
            self._drop_ended()
            counts = self.counts
            now = Counts(done=counts.done, failed=counts.failed, cancelled=counts.cancelled)
            return len(self._under_way), len(self._waiting), now

    def _wake(self) -> None:
        with self._lock:
            self._changed.notify_all()

    # --- inside, with the lock held --------------------------------------------------------------

    def _check_open(self) -> None:
        if self.closed:
            raise self._closed_error()
        if self._lost is not None:
            lost = self._lost
            raise EngineUnavailable(lost.asked, found=lost.found, change=lost.change)

    def _closed_error(self) -> EngineUnavailable:
        return EngineUnavailable(
            f"The engine {self._name!r} is closed.", change="load_engine() once more"
        )

    def _in_order(self) -> Iterator[tuple[Ask, int]]:
        held = self._waiting.get(self._held)
        if held is not None:
            yield held, self._passed
        yield from order(
            [ask for ask in self._waiting.values() if ask is not held],
            service=lambda priority: self._service.of(priority, self._under_way.values()),
            expected=self._service.expected,
            served=self._served,
            passed=self._passed,
        )

    def _room(self) -> Places:
        return Places(
            self._under_way.values(),
            most=self._most,
            places=self._places,
            capacity=self._capacity,
        )

    def _announce(self) -> None:
        """Tell every waiting ask how many answers must end before its own begins."""
        waiting = [ask for ask, _ in self._in_order()]
        for ask, position in self._room().positions(waiting):
            ask.tell(position)

    def _put_back(self, ask: Ask) -> None:
        if ask.park():
            self._waiting[ask.id] = ask
            self._under_way.pop(ask.id, None)
            # As if its seat had not been served, whichever of its asks are put back first.
            self._service.refund(ask)
            self._served[ask.seat] = min(ask.arrival, self._served.get(ask.seat, ask.arrival))
        else:
            self._left(ask)
        self._changed.notify_all()

    def _left(self, ask: Ask) -> None:
        if self._under_way.pop(ask.id, None) is not None:
            self._count(ask)
        self._forget(ask)

    def _drop_ended(self) -> None:
        """Forget those that ended while waiting; the others stand further on."""
        gone = [ask for ask in self._waiting.values() if ask.ended]
        for ask in gone:
            del self._waiting[ask.id]
            if ask.id not in self._under_way:
                self._count(ask)
            self._forget(ask)
        if gone:
            self._announce()

    def _forget(self, ask: Ask) -> None:
        """Seats come and go; one with nothing here is a newcomer the next time."""
        here = itertools.chain(self._waiting.values(), self._under_way.values())
        priorities = {other.priority for other in here if other.seat == ask.seat}
        if ask.priority not in priorities:
            self._service.leave(ask.priority, ask.seat)
        if not priorities:
            self._served.pop(ask.seat, None)

    def _count(self, ask: Ask) -> None:
        if ask.cancelled:
            self.counts.cancelled += 1
        elif ask.failed:
            self.counts.failed += 1
        elif ask.ended:
            self.counts.done += 1
