"""Answers that went wrong by themselves: the model goes round in a circle, or says nothing.

The rule for a circle: the last tokens repeat with a period of at most 32 tokens, three times over
and for at least 48 tokens. Naming many objects is no illness ("[SEG], [SEG], [SEG]" for a harbour
full of ships), so a circle that holds the mark must go on for 256 tokens. Nothing is taken out of
what the model said; it is only stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from earthmind_lab.engine.base import StopRule
from earthmind_lab.exchange import Ended

LONGEST_PERIOD = 32
"""Tokens of the longest circle that is looked for; about two sentences."""
TURNS = 3
"""How often a circle must have been gone round."""
SHORTEST = 48
"""Tokens that a circle must have filled: a dotted line or a short table is none."""
SHORTEST_MARKED = 256
"""The same where every round marks an object: 128 of them, each with a comma."""


class Circle:
    """Watches one answer for a circle, token by token.

    Args:
        decode: Text of token ids, control tokens included.
        stop: Knows the mark.

    >>> watch = Circle(lambda ids: "".join(map(chr, ids)), StopRule())
    >>> sum(not watch.closed(token) for token in b"no, " * 99)
    47
    >>> watch = Circle(lambda ids: "".join(map(chr, ids)), StopRule())
    >>> sum(not watch.closed(token) for token in b"[SEG], " * 99)
    255
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: StopRule) -> None:
        self._decode, self._mark = decode, stop.mark
        self._last: list[int] = []  # the newest first
        self._filled = [0] * (LONGEST_PERIOD + 1)  # tokens in a row equal to the one p before

    def closed(self, token: int) -> bool:
        """Whether this further token closes a circle."""
        for period, before in enumerate(self._last, start=1):
            self._filled[period] = self._filled[period] + 1 if before == token else 0
        self._last = [token, *self._last[: LONGEST_PERIOD - 1]]
        return any(
            filled + period >= max(TURNS * period, SHORTEST) and self._enough(period)
            for period, filled in enumerate(self._filled)
        )

    def _enough(self, period: int) -> bool:
        """Whether it is long enough even for one that marks objects."""
        if self._filled[period] + period >= SHORTEST_MARKED:
            return True
        # Two rounds: a mark of several tokens may be cut by where the round begins.
        around = self._last[:period][::-1] * 2
        return self._mark not in self._decode(around)


def ended(*, stopped: bool, circle: bool, text: str, marks: int) -> Ended:
    """Why an answer ended.

    Args:
        stopped: The model ended it.
        circle: It was stopped because it went round in one.
        text: What a user sees of it.
        marks: Objects it marked.
    """
    if not text.strip() and not marks:
        return "empty"
    if circle:
        return "repetition"
    return "stop" if stopped else "length"
