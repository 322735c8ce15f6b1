"""The published REFER index is a pickle. It is read here without being unpickled.

A pickle is a small program, and Python's reader runs it: what it names is imported and called. This
one walks through the program with `pickletools`, which runs nothing, and builds lists, dicts,
tuples, texts and numbers itself. Every other instruction is refused, before anything is looked up.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from earthmind_lab.errors import AssetUnavailable, LoadError

MOST_BYTES = 512 << 20
_VALUES = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING "
    "UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8".split()
)
"""Instructions that carry a value of their own."""
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
}
_PUT = frozenset({"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"})
_GET = frozenset({"GET", "BINGET", "LONG_BINGET"})
_SKIPPED = frozenset({"PROTO", "FRAME", "STOP"})
_MARK = object()


def read_plain_pickle(path: Path) -> Any:
    """Lists, dicts, tuples, texts and numbers of a pickle, whatever its protocol.

    Raises:
        AssetUnavailable: It is missing or can't be read.
        LoadError: It holds anything else, or is damaged or too large.
    """
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise LoadError(f"The index {path.name!r} is too large.", found=f"{size} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise AssetUnavailable(
            f"The index {path.name!r} can't be read.", found=str(error)
        ) from error
    try:
        return _Plain(path.name).run(data)
    except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as error:
        raise LoadError(
            f"The index {path.name!r} is damaged.", found=f"{type(error).__name__}: {error}",
            change="the file as published, or its content as JSON",
        ) from error  # fmt: skip


class _Plain:
    """A stack, a memory, and the few instructions that only move data between them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._stack: list[Any] = []
        self._memory: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        for instruction, argument, _ in pickletools.genops(data):
            self._step(instruction.name, argument)
        result = self._pop()
        if self._stack:
            raise ValueError("something is left over")
        return result

    def _pop(self) -> Any:
        if (item := self._stack.pop()) is _MARK:
            raise ValueError("a list without its end")
        return item

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _VALUES:
            half = isinstance(argument, str) and not argument.isascii()
            # A half of a character is no text; see `reading`.
            stack.append(argument.encode("utf-8", "replace").decode() if half else argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _PUT:
            place = len(self._memory) if name == "MEMOIZE" else int(argument)
            self._memory[place] = stack[-1]
        elif name in _GET:
            stack.append(self._memory[int(argument)])
        elif name not in _SKIPPED:
            self._build(name)

    def _build(self, name: str) -> None:
        stack = self._stack
        if name in ("APPEND", "SETITEM"):
            items = [self._pop() for _ in range(1 if name == "APPEND" else 2)]
            self._add(name, items[::-1])
        elif name in ("APPENDS", "SETITEMS"):
            self._add(name, self._since_mark())
        elif name in ("LIST", "TUPLE", "DICT"):
            items = self._since_mark()
            stack.append(_MADE[name](items))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            items = [self._pop() for _ in range(count)]
            stack.append(tuple(reversed(items)))
        else:
            raise LoadError(
                f"The index {self._name!r} holds more than lists, dicts, texts and numbers; "
                "nothing of it was run.",
                found=f"the pickle instruction {name}",
                change="don't trust the file; take the published one, or its content as JSON",
            )

    def _add(self, name: str, items: list[Any]) -> None:
        target = self._stack[-1]
        if name.startswith("APPEND") and type(target) is list:
            target.extend(items)
        elif name.startswith("SETITEM") and type(target) is dict:
            target.update(_pairs(items))
        else:
            raise TypeError(f"{name} on {type(target).__name__}")

    def _since_mark(self) -> list[Any]:
        items: list[Any] = []
        while (item := self._stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(items[::2], items[1::2], strict=True))


_MADE: dict[str, Callable[[list[Any]], Any]] = {"LIST": list, "TUPLE": tuple, "DICT": _pairs}
