"""Answers in memory, with what a turn can't hold: probabilities, weights of the sensors."""

from __future__ import annotations

import threading
from collections import OrderedDict

from earthmind_lab.answer import Answer
from earthmind_lab.session.shelf import chip_bytes

ANSWER_BYTES = 1_000_000_000
"""Answers beyond this are dropped, the longest unused first; asking again brings them back. The
pixels that they keep in memory (`Answer.chips`) count, once for all answers about them."""


class Answers:
    """The latest answers of a session by the id of their turn. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: OrderedDict[str, Answer] = OrderedDict()

    def keep(self, turn: str, answer: Answer) -> None:
        """Keep one, in place of an earlier one of the same turn.

        Args:
            turn: Id of the turn.
            answer: What was answered.
        """
        with self._lock:
            self._held[turn] = answer
            self._held.move_to_end(turn)
            while len(self._held) > 1 and self._size() > ANSWER_BYTES:
                self._held.popitem(last=False)

    def find(self, turn: str) -> Answer | None:
        """The answer of a turn; None = no longer, or not yet, in memory."""
        with self._lock:
            if turn in self._held:
                self._held.move_to_end(turn)
            return self._held.get(turn)

    def _size(self) -> int:
        chips = {id(chip): chip for answer in self._held.values() for chip in answer.chips}
        return sum(map(_size, self._held.values())) + sum(map(chip_bytes, chips.values()))


def _size(answer: Answer) -> int:
    masks = [found.mask_logits for found in answer.reply.objects]
    weights = answer.reply.sensor_weights
    arrays = [*masks, weights]
    return sum(array.nbytes for array in arrays if array is not None)
