"""A cache limited in bytes that drops what was used longest ago; knows nothing of tensors."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Any


class ByteCache:
    """Values under keys (kind, key), with one byte limit for all kinds.

    Not safe for use by several threads: its owner is the worker of one engine.

    Args:
        limit: Bytes to hold at most; 0 keeps nothing.

    >>> cache = ByteCache(limit=10)
    >>> cache.put("sam", "a", 1, nbytes=6); cache.put("sam", "b", 2, nbytes=6)
    >>> cache.get("sam", "a"), cache.get("sam", "b"), cache.nbytes
    (None, 2, 6)
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.nbytes = 0
        self._entries: OrderedDict[tuple[str, Hashable], tuple[Any, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, kind: str, key: Hashable) -> Any | None:
        """The value, now the most recently used; None when absent."""
        entry = self._entries.get((kind, key))
        if entry is None:
            return None
        self._entries.move_to_end((kind, key))
        return entry[0]

    def put(self, kind: str, key: Hashable, value: Any, *, nbytes: int) -> None:
        """Keep a value and drop old ones until all fit; one over the limit is not kept."""
        self.drop(kind, key)
        if nbytes > self.limit:
            return
        while self._entries and self.nbytes + nbytes > self.limit:
            _, (_, freed) = self._entries.popitem(last=False)
            self.nbytes -= freed
        self._entries[(kind, key)] = (value, nbytes)
        self.nbytes += nbytes

    def drop(self, kind: str, key: Hashable) -> None:
        """Forget a value; nothing happens when it is absent."""
        entry = self._entries.pop((kind, key), None)
        if entry is not None:
            self.nbytes -= entry[1]

    def items(self, kind: str) -> Iterator[tuple[Hashable, Any]]:
        """Keys and values of one kind, oldest first; the order of use stays as it is."""
        for (its_kind, key), (value, _) in list(self._entries.items()):
            if its_kind == kind:
                yield key, value

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.nbytes = 0
