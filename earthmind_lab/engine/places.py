"""Room for answers: how many at a time, how much memory, and what batch leaves to the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from earthmind_lab.engine.asks import Ask

KEPT_FREE = 8
"""One part in so many of the places and of the memory is kept from batch; one place at least."""


class Places:
    """The asks under way, and who may join them.

    Args:
        under_way: Whoever began first comes first.
        most: How many there may be now.
        capacity: Bytes of device memory for all of them.
    """

    def __init__(self, under_way: Iterable[Ask], *, most: int, capacity: int) -> None:
        self._most, self._capacity = most, capacity
        self._under_way: deque[Ask] = deque()
        self._bytes = self._batch = self._batch_bytes = 0
        for ask in under_way:
            self._begin(ask)

    def open_to(self, ask: Ask) -> bool:
        """Whether batch has not all its share; a single one may have all there is."""
        if ask.priority >= 0 or not self._batch:
            return True
        kept = -(-self._capacity // KEPT_FREE)
        return (
            self._batch < self._most - max(1, self._most // KEPT_FREE)
            and self._batch_bytes + ask.needs <= self._capacity - kept
        )

    def fits(self, ask: Ask) -> bool:
        """Whether there is a place and memory."""
        free = self._capacity - self._bytes
        return len(self._under_way) < self._most and ask.needs <= free

    def _begin(self, ask: Ask) -> None:
        self._under_way.append(ask)
        self._bytes += ask.needs
        if ask.priority < 0:
            self._batch += 1
            self._batch_bytes += ask.needs
