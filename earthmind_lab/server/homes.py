"""Which replica a conversation belongs to: where what the model saw of its chip is kept."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from earthmind_lab.exchange import Prompt

MOST = 4096
"""Conversations that are remembered; of those not heard of for longest, the home is forgotten."""


def conversation(prompt: Prompt, seat: str) -> str:
    """What asks have in common that profit from one replica: their pictures.

    Without pictures nothing but the seat's earlier turns is kept, so it is the seat.

    >>> conversation(Prompt(text="And how large is it?"), "ann")
    'seat ann'
    """
    if not prompt.views:
        return f"seat {seat}"
    return hashlib.sha256("".join(view.hash for view in prompt.views).encode()).hexdigest()


def homes_of(app: str) -> Homes:
    """The homes of one app of Ray Serve, the same for all that ask in this process.

    Serve copies its router's module; what the router and the engine share must lie in another.
    """
    with _GUARD:
        return _HOMES.setdefault(app, Homes())


@dataclass
class _Home:
    replica: str
    last: str | None = None
    """Where the last ask of the conversation went."""


class Homes:
    """Homes of conversations, spread evenly over the replicas.

    A home stays while its replica lives: a new replica gets new conversations, until it has as
    many as the others. May be used by several threads.

    Args:
        most: Conversations that are remembered.

    Attributes:
        alive: Replicas that take questions.
        visits: Asks by where they went: ``first`` of a conversation, ``home`` = to the replica of
            the one before it, ``away`` = to another.

    >>> homes = Homes()
    >>> homes.rank("a", ["r1", "r2"]), homes.rank("b", ["r1", "r2"])
    (['r1', 'r2'], ['r2', 'r1'])
    """

    def __init__(self, most: int = MOST) -> None:
        self.alive = 0
        self.visits: Counter[str] = Counter({"first": 0, "home": 0, "away": 0})
        self._most = most
        self._homes: OrderedDict[str, _Home] = OrderedDict()
        self._lock = threading.Lock()

    def rank(self, key: str, replicas: Sequence[str]) -> list[str]:
        """Replicas in the order in which an ask should try them.

        Args:
            key: Of the conversation.
            replicas: Those that live; at least one.
        """
        with self._lock:
            held = Counter(home.replica for home in self._homes.values())
            ranked = sorted(replicas, key=lambda each: (held[each], each))
            home = self._homes.get(key)
            if home is None:
                self._homes[key] = home = _Home(ranked[0])
            elif home.replica not in replicas:
                home.replica = ranked[0]
            self._homes.move_to_end(key)
            while len(self._homes) > self._most:
                self._homes.popitem(last=False)
            ranked.remove(home.replica)
            return [home.replica, *ranked]

    def came(self, key: str, replica: str) -> None:
        """A replica has begun to answer an ask of a conversation."""
        with self._lock:
            home = self._homes.setdefault(key, _Home(replica))
            where = "first" if home.last is None else "home" if home.last == replica else "away"
            self.visits[where] += 1
            home.last = replica


_HOMES: dict[str, Homes] = {}
_GUARD = threading.Lock()
