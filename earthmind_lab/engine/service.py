"""What each seat has had: the counters by which seats take turns.

The virtual token counter of Sheng et al. 2024, "Fairness in Serving Large Language Models" (OSDI):
a seat's counter grows with the tokens that the model reads and writes for it, and the seat with the
smallest counter is next. A seat that comes to wait goes on from the least of those that wait, where
nobody waits from the one let in last, or from where it was itself if that is more: it can neither
save up turns nor shake off what it has had. Who is only being answered sets no mark: what others
had of the places that it left free, nobody is owed.

With the paper's variant that predicts lengths, an answer counts from its start as much as answers
are usually long, until it has written more or ends. Else a seat that is behind would be let in many
times before the first of its answers has cost it anything.

Seats are compared within a priority only, and so are their counters.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Container, Iterable

from earthmind_lab.engine.asks import Ask

READ = 1
"""What a token counts that was read; not one whose keys and values were kept."""
WRITTEN = 2
"""What a token counts that was written; both as in the paper."""
USUAL = 64.0
"""Tokens of an answer before any was written."""
RECENT = 0.1
"""Weight of the latest answer in how long they usually are."""
REMEMBERED = 1024
"""Seats of one priority that left and have had more than those that are here."""


class Service:
    """The counters of all seats that are here, and of some that left."""

    def __init__(self) -> None:
        self._usual = USUAL
        self._here: dict[int, Counter[str]] = {}  # by priority
        self._left: dict[int, dict[str, int]] = {}
        self._last: dict[int, str] = {}  # who was let in last

    def of(self, priority: int, under_way: Iterable[Ask]) -> Counter[str]:
        """By seat what counts now, with what is still expected of the answers under way."""
        had = self._here[priority].copy()
        for ask in under_way:
            if ask.priority == priority:
                had[ask.seat] += max(0, ask.expected - ask.paid)
        return had

    def expected(self, ask: Ask) -> int:
        """What an answer counts until it has written more or ends."""
        return WRITTEN * round(min(self._usual, ask.options.max_new_tokens))

    def come(self, ask: Ask, waiting: Collection[str]) -> None:
        """An ask begins to wait.

        Args:
            ask: Which.
            waiting: The seats of its priority that have one waiting already.
        """
        priority, seat = ask.priority, ask.seat
        here = self._here.setdefault(priority, Counter())
        if seat in waiting:
            return
        left = self._left.get(priority, {})
        last = self._last.get(priority, "")
        least = min((here[one] for one in waiting), default=here.get(last, left.get(last)))
        if least is None:
            least = min(here.values(), default=0)
        here[seat] = max(here.get(seat, 0), left.pop(seat, 0), least)

    def begin(self, ask: Ask) -> None:
        """An ask is let in."""
        ask.expected = self.expected(ask)
        self._last[ask.priority] = ask.seat

    def charge(self, ask: Ask, cost: int) -> None:
        """So much was read and written for an ask under way."""
        ask.paid += cost
        self._here[ask.priority][ask.seat] += cost

    def refund(self, ask: Ask) -> None:
        """An ask begins anew, through no fault of its seat."""
        self._here[ask.priority][ask.seat] -= ask.paid
        ask.paid = ask.expected = 0

    def ended(self, written: int) -> None:
        """An answer was complete with so many tokens."""
        self._usual += RECENT * (written - self._usual)

    def only(self, here: Container[tuple[int, str]]) -> None:
        """All other seats have left, each of a priority; some may be known to have done so."""
        for priority, seats in list(self._here.items()):
            for seat in [one for one in seats if (priority, one) not in here]:
                self.leave(priority, seat)

    def leave(self, priority: int, seat: str) -> None:
        """Nothing of a seat is here any more.

        It is remembered while it has had more than somebody who is here; where nobody is, nobody
        is owed anything.
        """
        here = self._here.get(priority, Counter())
        if seat not in here:
            return
        had = here.pop(seat)
        if not here:
            del self._here[priority]
            self._left.pop(priority, None)
            self._last.pop(priority, None)
        elif had > (least := min(here.values())):
            left = self._left.setdefault(priority, {})
            left[seat] = had
            if len(left) > REMEMBERED:
                more = sorted(((n, name) for name, n in left.items() if n > least), reverse=True)
                kept = itertools.islice(more, REMEMBERED // 2)
                self._left[priority] = {name: n for n, name in kept}
