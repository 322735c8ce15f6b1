"""Keys and values of what the language model has read, kept for the next question."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.engine.cache import ByteCache
from earthmind_lab.engine.device import is_memory
from earthmind_lab.engine.slots import Layers, Row, Slots


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """Something that was read."""

    content: NDArray[np.int64]
    """(L,) what each position is made from; see `Composed.content`."""
    pictures: int
    """Positions of the one pass over its pictures, which it begins with."""
    layers: Layers
    scope: str
    """By whom; see `Readings`."""

    @property
    def nbytes(self) -> int:
        """Bytes held on the device."""
        return sum(layer.nbytes for layer in self.layers)


class Readings:
    """What was read, in the cache under the kind ``read``.

    Args:
        cache: Where they are kept.
        slots: Where they come from.
        scope: Only what was read under the same one is found again: "" = by the model as it was
            loaded, else the hash of the adapter that reads otherwise.
    """

    def __init__(self, cache: ByteCache, slots: Slots, scope: str = "") -> None:
        self._cache, self._slots, self.scope = cache, slots, scope

    def drop(self) -> None:
        """Forget everything of this scope."""
        for key, reading in self._cache.items("read"):
            if reading.scope == self.scope:
                self._cache.drop("read", key)

    def find(
        self, content: NDArray[np.int64], pictures: int, *, follow_up: bool
    ) -> tuple[Reading | None, int]:
        """The reading that a prompt goes on from, and how many positions of it.

        A first question takes over its pictures from a pass over just these, or nothing: that of
        more frames differs in the last bits. A follow-up takes over what it can.

        Args:
            content: (L,) of the whole prompt.
            pictures: Positions before it belong to the pictures; they are taken over all or none.
            follow_up: Whether the prompt has a history.
        """
        most = len(content) - 1 if follow_up else pictures
        best, length = None, 0
        for key, reading in self._cache.items("read"):
            if reading.scope == self.scope and (follow_up or reading.pictures == pictures):
                common = min(_common(reading.content, content), most)
                if common > length:
                    best, length = key, common
        if length < pictures:
            best, length = None, 0
        if best is None and not pictures:
            return None, 0  # nothing was looked for
        return self._cache.get("read", best), length

    def keep(self, row: Row, content: NDArray[np.int64], pictures: int) -> None:
        """Keep what a row has read, unless a longer reading that starts with it is kept.

        Args:
            row: Of the answer.
            content: (K,) of what is kept of it.
            pictures: Positions of the pass over the pictures from which it goes on.
        """
        for key, other in self._cache.items("read"):
            if (other.scope, other.pictures) != (self.scope, pictures):
                continue
            shared = _common(other.content, content)
            if shared == len(content):
                return
            if shared == len(other.content):
                self._cache.drop("read", key)
        try:
            layers = self._slots.copy(row, len(content))
        except (MemoryError, RuntimeError) as error:  # no room: nobody has to hear of that
            if not is_memory(error):
                raise
            return
        reading = Reading(content=content, pictures=pictures, layers=layers, scope=self.scope)
        key = hashlib.sha256(f"{self.scope}|{pictures}|".encode() + content.tobytes()).hexdigest()
        self._cache.put("read", key, reading, nbytes=reading.nbytes)


def _common(first: NDArray[np.int64], second: NDArray[np.int64]) -> int:
    """Length of the common start."""
    shorter = min(len(first), len(second))
    differs = np.flatnonzero(first[:shorter] != second[:shorter])
    return int(differs[0]) if len(differs) else shorter
