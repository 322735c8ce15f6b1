"""Room for answers: how many at a time, how much memory, what batch leaves to the others.

And what follows from that for those who wait: how many answers must end before each begins.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from earthmind_lab.engine.asks import Ask

KEPT_FREE = 8
"""One part in so many of the places and of the memory is kept from batch; one place at least."""


class Places:
    """The asks under way, and who may join them.

    Args:
        under_way: Whoever began first comes first.
        most: How many there may be now; with each that ends one more,
        places: up to so many.
        capacity: Bytes of device memory for all of them.
    """

    def __init__(self, under_way: Iterable[Ask], *, most: int, places: int, capacity: int) -> None:
        self._most, self._places, self._capacity = most, places, capacity
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

    def positions(self, waiting: Iterable[Ask]) -> Iterator[tuple[Ask, int]]:
        """Let all in and end them, whoever began first, until nobody waits. For this once only.

        Args:
            waiting: In the order of their turns.

        Yields:
            Each with the number of answers that end before.
        """
        coming, batch = deque(waiting), deque[Ask]()  # batch that has its share stands aside
        ended = 0
        while coming or batch:
            if coming and coming[0].priority < 0 and (batch or not self.open_to(coming[0])):
                batch.append(coming.popleft())
                continue
            line = batch if batch and self.open_to(batch[0]) else coming
            if line and (self.fits(line[0]) or not self._under_way):
                yield line[0], ended
                self._begin(line.popleft())
            else:
                self._end(self._under_way.popleft())
                ended += 1

    def _end(self, ask: Ask) -> None:
        self._most = min(self._places, self._most + 1)
        self._bytes -= ask.needs
        if ask.priority < 0:
            self._batch -= 1
            self._batch_bytes -= ask.needs

    def _begin(self, ask: Ask) -> None:
        self._under_way.append(ask)
        self._bytes += ask.needs
        if ask.priority < 0:
            self._batch += 1
            self._batch_bytes += ask.needs
