"""Frozen dataclasses from plain data and back, strictly: an unknown key or a wrong type is refused.

Only what recipes need: numbers, text, yes/no, choices, lists, mappings and sections in sections.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import types
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from earthmind_lab.errors import EarthMindError

T = TypeVar("T")


def read(kind: type[T], data: Any, where: str) -> T:
    """A dataclass of what a file says.

    Args:
        kind: The dataclass; keys that are not there take its defaults.
        data: What YAML or JSON made of a file.
        where: Name for messages: ``recipe``, ``recipe: lora``.

    Raises:
        EarthMindError: Not a mapping, an unknown key, a missing one, or a value of another type.
    """
    if not isinstance(data, Mapping):
        raise EarthMindError(f"{where} must be keys with values.", found=repr(data)[:80])
    hints = get_type_hints(kind)
    names = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in data:
        if key not in names:
            raise unknown(key, names, where)
    lacking = [name for name, field in names.items() if name not in data and _needed(field)]
    if lacking:
        raise EarthMindError(f"{where} lacks {', '.join(lacking)}.")
    values = {key: read_value(hints[key], value, f"{where}: {key}") for key, value in data.items()}
    return kind(**values)


def unknown(key: Any, known: Mapping[str, Any] | Sequence[str], where: str) -> EarthMindError:
    """The error of a key that nobody reads, with the nearest one that somebody does."""
    near = get_close_matches(str(key), list(known), n=1, cutoff=0.4)
    return EarthMindError(
        f"{where} has no key {str(key)!r}.",
        change=near[0] if near else f"one of {', '.join(known)}",
    )


def plain(value: Any) -> Any:
    """What YAML and JSON can hold of a value; the other way of `read`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return value


def _needed(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def read_value(kind: Any, value: Any, where: str) -> Any:
    """A value as its annotation wants it.

    Args:
        kind: The annotation.
        value: What YAML or JSON made of it.
        where: As in `read`.

    Raises:
        EarthMindError: It is of another type.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        (only,) = (each for each in inner if each is not type(None))
        return read_value(only, value, where)
    if origin is Literal:
        if value not in inner or isinstance(value, bool):
            raise _wrong(value, where, f"one of {', '.join(map(str, inner))}")
        return value
    if origin is tuple:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise _wrong(value, where, "a list")
        if inner[-1] is not Ellipsis and len(value) != len(inner):
            raise _wrong(value, where, f"{len(inner)} values")
        return tuple(read_value(inner[0], each, f"{where}[{n}]") for n, each in enumerate(value))
    if origin is not None:  # a mapping, whose keys are checked by who reads it
        if not isinstance(value, Mapping):
            raise _wrong(value, where, "keys with values")
        return {
            str(key): read_value(inner[1], each, f"{where}: {key}") for key, each in value.items()
        }
    if dataclasses.is_dataclass(kind):
        return read(kind, value, where)  # type: ignore[arg-type]
    return _scalar(kind, value, where)


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is float:
        # YAML 1.1 takes 4e-5 for text: it wants a dot in it.
        if not isinstance(value, bool) and isinstance(value, (int, float, str)):
            try:
                return float(value)
            except ValueError:
                pass
        raise _wrong(value, where, "a number")
    if kind is str and isinstance(value, dt.date):
        return value.isoformat()  # YAML takes a day for more than its words
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    words = {int: "a whole number", bool: "true or false", str: "text"}
    raise _wrong(value, where, words[kind])


def _wrong(value: Any, where: str, change: str) -> EarthMindError:
    return EarthMindError(
        f"{where} can't be {str(value)[:80]!r}.", found=type(value).__name__, change=change
    )
