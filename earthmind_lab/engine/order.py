"""Whose turn it is: the order in which waiting asks are let in.

The higher priority goes first. Within a priority it is the turn of the seat that has had the least
service (see `service`), then of the seat served longest ago, and of its asks that of the one that
arrived first. So what is fair is fair to seats: of two that always have an ask waiting neither gets
more of the model than the other, however many asks it has piled up and however long its answers
are. To a single answer nothing is promised: none under way is stopped for another, and a seat has
several under way where the others have had as much. A seat that has not been served yet counts from
when its first ask arrived, so that newcomers overtake nobody who waits and has had no more. Of the
asks let in while a lower priority waits, every eighth is of that lower one: batch goes slowly, but
it goes.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping

from earthmind_lab.engine.asks import Ask

PATIENCE = 7
"""Asks that may be let in before one of a lower priority that waits."""


def order(
    waiting: Iterable[Ask],
    *,
    service: Callable[[int], Counter[str]],
    expected: Callable[[Ask], int],
    served: Mapping[str, int],
    passed: int,
) -> Iterator[tuple[Ask, int]]:
    """The waiting asks as they will be let in if no more come and none under way goes on.

    Args:
        waiting: In any order; `Ask.arrival` tells who came first.
        service: Of a priority, what each seat has had; may be changed.
        expected: What an ask counts once it is let in.
        served: When each seat was served last, on the clock of `Ask.arrival`.
        passed: Asks let in since one of a lower priority waits.

    Yields:
        Each ask with what `passed` is once it has been let in.
    """
    served = dict(served)
    later = itertools.count(1 << 62)
    levels = _levels(waiting, service, served)
    while levels:
        level = top = max(levels)
        if passed >= PATIENCE and len(levels) > 1:
            # Of the lower priorities the one whose ask has waited longest.
            level = min(set(levels) - {top}, key=lambda one: levels[one].oldest)
        passed = passed + 1 if level == top and len(levels) > 1 else 0
        ask = levels[level].pop(served)
        levels[level].had[ask.seat] += expected(ask)
        served[ask.seat] = next(later)
        if not levels[level].seats:
            del levels[level]
        yield ask, passed


class _Level:
    """The waiting asks of one priority, by seat.

    Args:
        had: What each seat has had.
    """

    def __init__(self, had: Counter[str]) -> None:
        self.had = had
        self.seats: dict[str, deque[Ask]] = {}
        self._heap: list[tuple[int, int, str]] = []

    @property
    def oldest(self) -> int:
        """When the ask arrived that has waited longest."""
        return min(asks[0].arrival for asks in self.seats.values())

    def key(self, seat: str, served: dict[str, int]) -> tuple[int, int, str]:
        """What orders the seats."""
        return self.had[seat], served.get(seat, self.seats[seat][0].arrival), seat

    def sort(self, served: dict[str, int]) -> None:
        """All seats are here."""
        self._heap = [self.key(seat, served) for seat in self.seats]
        heapq.heapify(self._heap)

    def pop(self, served: dict[str, int]) -> Ask:
        """The next ask of the seat whose turn it is."""
        while True:
            key = heapq.heappop(self._heap)
            seat = key[2]
            now = self.key(seat, served)
            if now == key:
                break
            heapq.heappush(self._heap, now)  # it was served since; keys only ever grow
        asks = self.seats[seat]
        ask = asks.popleft()
        if asks:
            heapq.heappush(self._heap, self.key(seat, served))
        else:
            del self.seats[seat]
        return ask


def _levels(
    asks: Iterable[Ask], service: Callable[[int], Counter[str]], served: dict[str, int]
) -> dict[int, _Level]:
    levels: dict[int, _Level] = {}
    for ask in sorted(asks, key=lambda ask: ask.arrival):
        level = levels.get(ask.priority)
        if level is None:
            level = levels[ask.priority] = _Level(service(ask.priority))
        level.seats.setdefault(ask.seat, deque()).append(ask)
    for level in levels.values():
        level.sort(served)
    return levels
