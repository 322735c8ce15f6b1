"""Digests over the parts of plain data, so that damage is found where it is, be it one bit.

    made = seal(data)                   # the data with their digests
    broken_parts(made)                  # [] or the paths that differ, such as ["inputs[1].licence"]
    find_break(text, line)              # the same for a text that is no JSON any more

A part is what at most three steps lead to: ``question``, ``chip.grid``, ``inputs[1].licence``. Its
digest is the SHA-256 of its canonical text: sorted keys, no space, ASCII with escapes, numbers as
Python's `repr` has them, which is the shortest that reads back as the same double, everywhere.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

KEY = "digests"
"""Where sealed data hold their digests."""
STEPS = 3
"""How far down parts have digests of their own."""
_PART_HEX = 16
"""Digits of a part's digest: it locates. The one over all, which decides, has all 64."""
_MEMBER = re.compile(r'\s*"((?:[^"\\]|\\.)*)": ?(.*)', flags=re.DOTALL)
_WORD = re.compile(r"(\w{3,})")
_INPUT = re.compile(r"\binputs\[(\d+)\]\.(\w+)")
_NAMED = 3


def canonical(value: Any) -> str:
    r"""The one text of plain data.

    >>> canonical({"b": 1.0, "a": ["ü", None]})
    '{"a":["\\u00fc",null],"b":1.0}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 over the canonical text of plain data."""
    return hashlib.sha256(canonical(value).encode("ascii")).hexdigest()


def seal(data: Mapping[str, Any]) -> dict[str, Any]:
    """Plain data with their digests under `KEY`; of earlier digests nothing is kept.

    Args:
        data: As `json.loads` gives it.
    """
    bare = {name: value for name, value in data.items() if name != KEY}
    parts = {path: digest(value)[:_PART_HEX] for path, value in _parts(bare)}
    return {**bare, KEY: {"all": digest(bare), "parts": parts}}


def broken_parts(data: Mapping[str, Any]) -> list[str]:
    """Paths of the parts that are not as they were sealed, or of the digests that are not.

    Args:
        data: With digests.

    Raises:
        RecursionError, ValueError: Nested beyond reason, or a number that is none.
    """
    made, kept = seal(data)[KEY], data.get(KEY)
    if not isinstance(kept, Mapping) or not isinstance(kept.get("parts"), Mapping):
        return [KEY]
    unlike = _unlike(made["parts"], kept["parts"])
    if made["all"] == kept.get("all"):
        return [f"{KEY} of {path}" for path in unlike]
    return unlike or [f"{KEY} of all"]


def find_break(text: str, line: int) -> list[str]:
    """Paths of the parts that can't be read, or differ, in a text that is no JSON any more.

    The layout helps where the grammar is broken: with an indent of two, each part begins on a
    line of its own.

    Args:
        text: Sealed data as ``json.dumps(..., indent=2, sort_keys=True)`` wrote it, then damaged.
        line: Where the parser gave up, from 1; tells where no digest does.
    """
    lines = text.split("\n")
    top = dict(_members(lines[1:], "", 2))
    found: dict[str, str | None] = {}
    wanted: Mapping[str, Any] = {}
    if KEY in top:
        try:
            wanted = dict(_read(top.pop(KEY))["parts"])
        except (ValueError, TypeError, LookupError, RecursionError):
            return [KEY]
    for path, piece in top.items():
        found |= dict(_pieces(path, piece, wanted))
    broken = [path for path in wanted if found.get(path) != wanted[path]]
    return broken or _last(lines[1:line], wanted)


def part_words(paths: Sequence[str]) -> str:
    """Parts for people, the first three by name.

    >>> part_words(["inputs[1].licence", "evidence[0]"])
    'the licence of input 2, evidence[0]'
    """
    words = [_INPUT.sub(_of_input, path) for path in paths[:_NAMED]]
    more = [f"and {len(paths) - _NAMED} more"] if len(paths) > _NAMED else []
    return ", ".join([*words, *more])


def _of_input(found: re.Match[str]) -> str:
    return f"the {found[2].replace('_', ' ')} of input {int(found[1]) + 1}"


def _parts(value: Any, path: str = "", steps: int = STEPS) -> Iterator[tuple[str, Any]]:
    """Every part with its path, in the order of the data."""
    if not steps or not isinstance(value, Mapping | list | tuple) or not value:
        yield path, value
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield from _parts(part, f"{path}.{name}" if path else str(name), steps - 1)
    else:
        for number, part in enumerate(value):
            yield from _parts(part, f"{path}[{number}]", steps - 1)


def _unlike(made: Mapping[str, Any], kept: Mapping[str, Any]) -> list[str]:
    return [path for path in {**kept, **made} if made.get(path) != kept.get(path)]


def _pieces(
    path: str, piece: Sequence[str], wanted: Mapping[str, Any]
) -> Iterator[tuple[str, str | None]]:
    """Path and digest of each part in some lines; None where it can't be read."""
    if any(each.startswith((f"{path}.", f"{path}[")) for each in wanted):
        for inner, lines in _members(piece[1:], path, _indent(piece[0]) + 2):
            yield from _pieces(inner, lines, wanted)
        return
    try:
        yield path, digest(_read(piece))[:_PART_HEX]
    except (ValueError, RecursionError):
        yield path, None


def _members(lines: Sequence[str], path: str, indent: int) -> Iterator[tuple[str, Sequence[str]]]:
    """Path and lines of each member of an object or a list whose members have this indent."""
    starts = [
        number for number, line in enumerate(lines)
        if _indent(line) == indent and not line[indent:].startswith(("]", "}"))
    ]  # fmt: skip
    for number, (start, end) in enumerate(pairwise([*starts, len(lines)])):
        # At the top every member has a name, be its quotes or its colon damaged.
        named = _MEMBER.match(lines[start]) or (None if path else _WORD.search(lines[start]))
        step = f"[{number}]" if named is None else f".{named[1]}" if path else named[1]
        yield path + step, lines[start:end]


def _last(
    lines: Sequence[str], wanted: Mapping[str, Any], path: str = "", steps: int = 0
) -> list[str]:
    """The path of the last part that begins in some lines, if any; a bracket begins none."""
    inner = [
        (each, piece) for each, piece in _members(lines, path, 2 * steps + 2)
        if not each.endswith("]") or any(other.startswith(each) for other in wanted)
    ]  # fmt: skip
    if not inner or steps == STEPS:
        return [path] if path else []
    last, piece = inner[-1]
    return _last(piece[1:], wanted, last, steps + 1)


def _read(piece: Sequence[str]) -> Any:
    """The value of a member.

    Raises:
        ValueError: It is no JSON.
    """
    indent, lines = _indent(piece[0]), list(piece)
    while _indent(lines[-1]) < indent and lines[-1].strip(" ,") in ("]", "}", ""):
        del lines[-1]  # what it lies in ends here
    text = "\n".join(lines).removesuffix(",")
    named = _MEMBER.match(text)
    return json.loads(text if named is None else named[2])


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))
