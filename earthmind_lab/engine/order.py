"""Whose turn it is: the order in which waiting asks are let in.

The higher priority goes first; then the seat with the fewest answers under way; then the seat
served longest ago; then the ask that arrived first. A seat that has not been served yet counts from
when its first ask arrived, so that newcomers overtake nobody who waits already. Of the asks let in
while a lower priority waits, every eighth is of that lower one: batch goes slowly, but it goes.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping

from earthmind_lab.engine.asks import Ask

PATIENCE = 7
"""Asks that may be let in before one of a lower priority that waits."""


def order(
    waiting: Iterable[Ask], *, running: Mapping[str, int], served: Mapping[str, int], passed: int
) -> Iterator[tuple[Ask, int]]:
    """The waiting asks as they will be let in if no more come and none under way ends.

    Args:
        waiting: In any order; `Ask.arrival` tells who came first.
        running: Answers under way by seat.
        served: When each seat was served last, on the clock of `Ask.arrival`.
        passed: Asks let in since one of a lower priority waits.

    Yields:
        Each ask with what `passed` is once it has been let in.
    """
    running, served = Counter(running), dict(served)
    later = itertools.count(1 << 62)
    levels = _levels(waiting, running, served)
    while levels:
        level = top = max(levels)
        if passed >= PATIENCE and len(levels) > 1:
            # Of the lower priorities the one whose ask has waited longest.
            level = min(set(levels) - {top}, key=lambda one: levels[one].oldest)
        passed = passed + 1 if level == top and len(levels) > 1 else 0
        ask = levels[level].pop(running, served)
        running[ask.seat] += 1
        served[ask.seat] = next(later)
        if not levels[level].seats:
            del levels[level]
        yield ask, passed


class _Level:
    """The waiting asks of one priority, by seat."""

    def __init__(self) -> None:
        self.seats: dict[str, deque[Ask]] = {}
        self._heap: list[tuple[int, int, str]] = []

    @property
    def oldest(self) -> int:
        """When the ask arrived that has waited longest."""
        return min(asks[0].arrival for asks in self.seats.values())

    def key(self, seat: str, running: Counter[str], served: dict[str, int]) -> tuple[int, int, str]:
        """What orders the seats."""
        return running[seat], served.get(seat, self.seats[seat][0].arrival), seat

    def sort(self, running: Counter[str], served: dict[str, int]) -> None:
        """All seats are here."""
        self._heap = [self.key(seat, running, served) for seat in self.seats]
        heapq.heapify(self._heap)

    def pop(self, running: Counter[str], served: dict[str, int]) -> Ask:
        """The next ask of the seat whose turn it is."""
        while True:
            key = heapq.heappop(self._heap)
            seat = key[2]
            now = self.key(seat, running, served)
            if now == key:
                break
            heapq.heappush(self._heap, now)  # it was served since; keys only ever grow
        asks = self.seats[seat]
        ask = asks.popleft()
        if asks:
            heapq.heappush(self._heap, self.key(seat, running, served))
        else:
            del self.seats[seat]
        return ask


def _levels(
    asks: Iterable[Ask], running: Counter[str], served: dict[str, int]
) -> dict[int, _Level]:
    levels: dict[int, _Level] = {}
    for ask in sorted(asks, key=lambda ask: ask.arrival):
        level = levels.setdefault(ask.priority, _Level())
        level.seats.setdefault(ask.seat, deque()).append(ask)
    for level in levels.values():
        level.sort(running, served)
    return levels
