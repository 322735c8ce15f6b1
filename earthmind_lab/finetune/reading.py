"""JSON and JSON Lines of other people: read whole, never trusted in their shape."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from earthmind_lab.errors import AssetUnavailable, LoadError
from earthmind_lab.finetune.source import wrong

T = TypeVar("T")
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
LINES = (".jsonl", ".ndjson")
"""Suffixes of files with one JSON object per line."""


def read_data(path: Path) -> Any:
    """What a file holds; of JSON Lines a list.

    Raises:
        AssetUnavailable: It is missing or can't be read.
        LoadError: It isn't JSON; says the line.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise AssetUnavailable(
            f"{path.name} can't be read.", found=str(error), change="the path of a JSON file"
        ) from error
    except UnicodeDecodeError as error:
        raise LoadError(
            f"{path.name} is no text.", found=str(error), change="JSON in UTF-8"
        ) from error
    if path.suffix.lower() not in LINES:
        return _parsed(text, path.name, 1)
    return [
        _parsed(line, path.name, number)
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip()
    ]


def _parsed(text: str, name: str, line: int) -> Any:
    try:
        return _whole(json.loads(text), text)
    except json.JSONDecodeError as error:
        raise wrong(
            f"{name}, line {line + error.lineno - 1}", "this is no JSON.", found=error.msg,
            change="one JSON value, or one object per line in a file called .jsonl",
        ) from error  # fmt: skip
    except (ValueError, RecursionError) as error:  # numbers or nesting without end
        raise wrong(f"{name}, line {line}", "this JSON can't be read.", found=str(error)) from error


def _whole(data: Any, text: str) -> Any:
    """The same without halves of characters: JSON can spell them, no tokenizer takes them."""
    if not _HALF.search(text):
        return data
    return json.loads(json.dumps(data, ensure_ascii=False).encode("utf-8", "replace"))


def numbered(data: Any, name: str) -> list[tuple[str, Any]]:
    """Entries of a list, each with its place for people.

    Raises:
        LoadError: No list, or an empty one.
    """
    if not isinstance(data, list):
        raise LoadError(f"{name} holds no list of entries.", found=_kind(data), change="[{…}, {…}]")
    if not data:
        raise LoadError(f"{name} is an empty list.", change="a file with entries")
    return [(f"{name}, entry {n} of {len(data)}", entry) for n, entry in enumerate(data, start=1)]


def need(entry: Any, key: str, kind: type[T] | tuple[type[T], ...], where: str) -> T:
    """A field of an entry.

    Raises:
        LoadError: The entry is no object, lacks it or holds something else there.
    """
    if not isinstance(entry, Mapping):
        raise wrong(where, "this is no object.", found=_kind(entry), change=f'{{"{key}": …}}')
    value = entry.get(key)
    # True is an int to Python and to nobody else.
    if not isinstance(value, kind) or isinstance(value, bool):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        names = " or ".join(_NAMES.get(each, each.__name__) for each in kinds)
        found = "nothing" if key not in entry else _kind(value)
        raise wrong(where, f"{key!r} must be {names}.", found=found, change=f"add {key!r}")
    return value


def words(entry: Mapping[str, Any], *keys: str) -> str:
    """The first of some fields that holds text; empty without."""
    values = (entry.get(key) for key in keys)
    return next((value.strip() for value in values if isinstance(value, str)), "")


_NAMES: dict[Any, str] = {
    str: "a text", list: "a list", dict: "an object", int: "a whole number", float: "a number"
}  # fmt: skip


def _kind(value: Any) -> str:
    """What something is, for people.

    >>> _kind([1, 2]), _kind({"a": 1}), _kind(None)
    ('a list of 2', "an object with 'a'", 'null')
    """
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, Mapping):
        keys = ", ".join(repr(key) for key in list(value)[:6])
        return f"an object with {keys}" if keys else "an empty object"
    return "null" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
