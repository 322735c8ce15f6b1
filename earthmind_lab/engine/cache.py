"""A cache limited in bytes that drops what was used longest ago; knows nothing of tensors."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from earthmind_lab.engine.base import Kept


class ByteCache:
    """Values under keys (kind, key), with one byte limit for all kinds.

    Not safe for use by several threads, but for `kept`: its owner is the worker of one engine.

    Args:
        limit: Bytes to hold at most; 0 keeps nothing. May be changed, by any thread: from the
            next call on no more is held.

    >>> cache = ByteCache(limit=10)
    >>> cache.put("sam", "a", 1, nbytes=6); cache.put("sam", "b", 2, nbytes=6)
    >>> cache.get("sam", "a"), cache.get("sam", "b"), cache.nbytes
    (None, 2, 6)
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.nbytes = 0
        self._entries: OrderedDict[tuple[str, Hashable], tuple[Any, int]] = OrderedDict()
        self._kept: dict[str, Kept] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, kind: str, key: Hashable) -> Any | None:
        """The value, now the most recently used; None when absent. Counted as hit or miss."""
        self._shrink(self.limit)
        entry = self._entries.get((kind, key))
        if entry is None:
            self._count(kind, misses=1)
            return None
        self._count(kind, hits=1)
        self._entries.move_to_end((kind, key))
        return entry[0]

    def put(self, kind: str, key: Hashable, value: Any, *, nbytes: int) -> None:
        """Keep a value and drop old ones until all fit; one over the limit is not kept."""
        self.drop(kind, key)
        limit = self.limit
        self._shrink(limit if nbytes > limit else limit - nbytes)
        if nbytes > limit:
            return
        self._entries[(kind, key)] = (value, nbytes)
        self._resize(kind, 1, nbytes)

    def drop(self, kind: str, key: Hashable) -> None:
        """Forget a value; nothing happens when it is absent."""
        entry = self._entries.pop((kind, key), None)
        if entry is not None:
            self._resize(kind, -1, -entry[1])

    def items(self, kind: str) -> Iterator[tuple[Hashable, Any]]:
        """Keys and values of one kind, oldest first; the order of use stays as it is."""
        self._shrink(self.limit)
        for (its_kind, key), (value, _) in list(self._entries.items()):
            if its_kind == kind:
                yield key, value

    def clear(self) -> None:
        """Forget everything but the counts of hits and misses."""
        self._entries.clear()
        self.nbytes = 0
        self._kept = {kind: replace(kept, entries=0, nbytes=0) for kind, kept in self._kept.items()}

    def recount(self) -> None:
        """Count what is held once more: a call that never returned may have left it uncounted."""
        sizes: dict[str, list[int]] = {kind: [] for kind in self._kept}
        for (kind, _), (_, nbytes) in self._entries.items():
            sizes.setdefault(kind, []).append(nbytes)
        self.nbytes = sum(map(sum, sizes.values()))
        self._kept = {
            kind: replace(self._kept.get(kind, Kept()), entries=len(each), nbytes=sum(each))
            for kind, each in sizes.items()
        }

    def kept(self) -> Mapping[str, Kept]:
        """By kind what is held, and how often it was found; may be called by any thread."""
        return dict(self._kept)

    def _shrink(self, limit: int) -> None:
        """Drop what was used longest ago until no more than so many bytes are held."""
        while self._entries and self.nbytes > limit:
            (kind, _), (_, freed) = self._entries.popitem(last=False)
            self._resize(kind, -1, -freed)

    def _resize(self, kind: str, entries: int, nbytes: int) -> None:
        self.nbytes += nbytes
        self._count(kind, entries=entries, nbytes=nbytes)

    def _count(self, kind: str, **more: int) -> None:
        """A new record each time, so that other threads never see half of one."""
        old = self._kept.get(kind, Kept())
        changed = {name: getattr(old, name) + number for name, number in more.items()}
        self._kept[kind] = replace(old, **changed)
