"""Answers in memory, with what a turn can't hold: probabilities, weights of the sensors."""

from __future__ import annotations

import threading
from collections import OrderedDict

from earthmind_lab.answer import Answer

ANSWER_BYTES = 500_000_000
"""Answers beyond this are dropped, the longest unused first; asking again brings them back."""


class Answers:
    """The latest answers of a session by the id of their turn. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: OrderedDict[str, Answer] = OrderedDict()

    def keep(self, turn: str, answer: Answer) -> None:
        """Keep one, in place of an earlier one of the same turn."""
        with self._lock:
            self._held[turn] = answer
            self._held.move_to_end(turn)
            while len(self._held) > 1 and sum(map(_size, self._held.values())) > ANSWER_BYTES:
                self._held.popitem(last=False)

    def find(self, turn: str) -> Answer | None:
        """The answer of a turn; None = no longer, or not yet, in memory."""
        with self._lock:
            if turn in self._held:
                self._held.move_to_end(turn)
            return self._held.get(turn)


def _size(answer: Answer) -> int:
    masks = [found.mask_logits for found in answer.reply.objects]
    weights = answer.reply.sensor_weights
    arrays = [*masks, weights]
    return sum(array.nbytes for array in arrays if array is not None)
