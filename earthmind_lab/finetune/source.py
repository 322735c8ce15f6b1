"""Rows of somebody's file as examples: told at once, opened when it is their turn."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.errors import EarthMindError, LoadError
from earthmind_lab.exchange import Prompt
from earthmind_lab.finetune.examples import Example, ExampleInfo

T = TypeVar("T")


class Opened(NamedTuple):
    """What is opened of a row; see `Example`."""

    prompt: Prompt
    reply: str
    masks: NDArray[np.bool_] | None = None
    known: NDArray[np.bool_] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """One example that isn't open yet."""

    info: ExampleInfo
    where: str
    """For people: ``train.json, entry 3 of 40``."""
    open: Callable[[], Opened]
    """Reads its pictures."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """Examples of one file or folder."""

    form: str
    """What it was taken for, such as ``llava``."""
    said: str
    """The same in a sentence, with how much there is."""
    rows: Sequence[Row]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        row = self.rows[index]
        try:
            opened = row.open()
        except EarthMindError as error:
            raise _placed(error, row.where) from error
        except OSError as error:  # a disk that fails, a file that went meanwhile
            raise wrong(row.where, "its pictures can't be read.", found=str(error)) from error
        return Example(info=row.info, **opened._asdict())

    def info(self, index: int) -> ExampleInfo:
        """Without opening a picture."""
        return self.rows[index].info

    def __repr__(self) -> str:
        return f"Source({self.said})"


def wrong(
    where: str, asked: str, *, found: str | None = None, change: str | None = None
) -> LoadError:
    """An error that starts with the place of what is wrong."""
    return LoadError(f"{where}: {asked}", found=_short(found), change=change)


def hashed(*parts: object) -> str:
    """Short hash of plain data, for `ExampleInfo.content`.

    >>> hashed("Is there water?", ["Yes."]) == hashed("Is there water?", ["Yes."])
    True
    """
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def broken(where: str, name: str, error: EarthMindError) -> Row:
    """A row that says what is wrong with it when it is opened; the others go on."""
    info = ExampleInfo(id=name, task="question")
    return Row(info=info, where=where, open=_Raises(error))


@dataclass(frozen=True)
class _Raises:
    """Raises the same error each time."""

    error: EarthMindError

    def __call__(self) -> Opened:
        raise self.error


def unique(rows: Sequence[Row]) -> list[Row]:
    """Rows whose ids are unique: a further one of the same name gets ``@2``, ``@3`` and so on."""
    taken = {row.info.id for row in rows}
    seen: dict[str, int] = {}
    found = []
    for row in rows:
        name = row.info.id
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            while f"{name}@{seen[name]}" in taken:
                seen[name] += 1
            row = replace(row, info=replace(row.info, id=f"{name}@{seen[name]}"))
            taken.add(row.info.id)
        found.append(row)
    return found


class Recent(Generic[T]):
    """The few things opened last, as far as they stay under a limit in bytes.

    Examples that follow each other often share a picture; decoding it anew each time costs more
    than anything else here.
    """

    def __init__(self, limit: int = 128 << 20) -> None:
        self._limit, self._held = limit, OrderedDict[Hashable, tuple[T, int]]()

    def get(self, key: Hashable, make: Callable[[], tuple[T, int]]) -> T:
        """What is held under a key, else what `make` gives with its bytes."""
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key][0]
        value, size = make()
        if size <= self._limit:
            self._held[key] = value, size
        while sum(each for _, each in self._held.values()) > self._limit:
            self._held.popitem(last=False)
        return value


def _placed(error: EarthMindError, where: str) -> LoadError:
    """The same error with its place in front, once."""
    asked = error.asked if error.asked.startswith(where) else f"{where}: {error.asked}"
    return LoadError(asked, found=error.found, change=error.change)


def _short(found: str | None) -> str | None:
    return found if found is None or len(found) <= 200 else f"{found[:197]}..."
