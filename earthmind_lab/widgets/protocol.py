"""What the kernel and the browser say to each other: plain messages, checked on both sides.

`widgets/src/protocol.ts` is the other side. Both read the files of ``tests/golden/protocol``, one
message each. Nothing in here needs a widget library.

    kernel -> browser   started, tokens, status, ended, snapshot, code (chat); progress (pairs);
                        received, settled (areas); file, part, refused, citation (keep)
    browser -> kernel   hello, ask, stop, undo, show, again, branch, copy (chat); search, choose,
                        dates, pick, looks, cancel (pairs, timeline); select, delete, rename,
                        restore, place, box, square, view, paste, mode, unmark, upload, piece,
                        drop, layer, take (areas; unmark of the chat, too); raster, compare,
                        switch, object, cut, fit, remove, tiles, reload, squares (layers); probe,
                        locate, along, clear (values); role, open, mask (own files; upload, piece,
                        drop of the areas, too); keep, more, leave, cite, verify, cancel (keep)

>>> from_browser({"kind": "ask", "text": "Segment the water."})
{'kind': 'ask', 'text': 'Segment the water.'}
>>> from_browser({"kind": "choose", "rank": "first"})
Traceback (most recent call last):
    ...
earthmind_lab.widgets.protocol.BadMessage: 'rank' of a 'choose' message is not a whole number
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias, TypedDict

State: TypeAlias = Literal["done", "stopped", "failed"]
STATES: tuple[State, ...] = ("done", "stopped", "failed")

ROLES = ("optical", "sar", "both", "picture")
"""What a file of the user's own is."""
DECLARED = (
    "bands", "optical_scale", "optical_offset", "optical_level", "sar_quantity", "sar_scale",
    "nodata", "datetime", "gsd",
)  # fmt: skip
"""What can be said of such files; see `data.own_files.open_chip`."""
LONGEST_TEXT = 20_000
"""Characters of one text from the browser: many times what a model reads."""


class BadMessage(ValueError):
    """A message that neither side sends; it is ignored and said, never raised at a user."""


class Started(TypedDict):
    """An ask has begun."""

    kind: Literal["started"]
    ask: str
    question: str


# `from` is a keyword of Python.
Tokens = TypedDict(
    "Tokens", {"kind": Literal["tokens"], "ask": str, "text": str, "from": int}, total=True
)
"""More text; `from` counts the Unicode characters before it, so that a view sees what it missed."""


class Status(TypedDict):
    """What goes on, for people; `ask` is None where it concerns no ask."""

    kind: Literal["status"]
    ask: str | None
    text: str


class Ended(TypedDict):
    """The ask is over; its turn has been synced before."""

    kind: Literal["ended"]
    ask: str
    state: State
    message: str


class Snapshot(TypedDict):
    """All that a view needs which opens in the middle; `ask` is None when nothing runs."""

    kind: Literal["snapshot"]
    ask: str | None
    question: str
    text: str
    status: str
    seconds: float


class Code(TypedDict):
    """A turn as Python, for who asked for it."""

    kind: Literal["code"]
    turn: str
    text: str


# areas


class Received(TypedDict):
    """Of an upload, this many bytes are here: the next piece may come."""

    kind: Literal["received"]
    upload: str
    size: int


class Settled(TypedDict):
    """An upload is over: read, refused or dropped; what came of it is in the traits."""

    kind: Literal["settled"]
    upload: str


# pairs


class Progress(TypedDict):
    """How far a search or a load is; `stall` is empty where every server answers."""

    kind: Literal["progress"]
    text: str
    stall: str


# keep


class File(TypedDict):
    """A file is there: the browser may ask for its pieces."""

    kind: Literal["file"]
    file: str
    name: str
    media: str
    size: int


class Part(TypedDict):
    """Bytes of a file, the message's only buffer, after `at` others."""

    kind: Literal["part"]
    file: str
    at: int


class Refused(TypedDict):
    """There will be no file, or no more of it; why is in the fault."""

    kind: Literal["refused"]
    file: str


class Cited(TypedDict):
    """What to write about an answer."""

    kind: Literal["citation"]
    turn: str
    text: str


FromKernel: TypeAlias = (
    Started | Tokens | Status | Ended | Snapshot | Code | Received | Settled | Progress
    | File | Part | Refused | Cited
)  # fmt: skip
FromBrowser: TypeAlias = dict[str, Any]
"""Checked by `from_browser`: ``kind`` and exactly the fields of `BROWSER`."""


def tokens(ask: str, text: str, start: int) -> Tokens:
    """A piece of an answer that begins after `start` Unicode characters."""
    return {"kind": "tokens", "ask": ask, "text": text, "from": start}


def clean(text: object) -> str:
    r"""Text that JSON can carry: half a surrogate pair, which UTF-8 can't write, becomes ``?``.

    >>> clean("water \ud83c")
    'water ?'
    """
    return str(text).encode("utf-8", "replace").decode("utf-8")


def _text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_TEXT


def _long_text(value: object) -> bool:
    return isinstance(value, str)


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _or_none(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or check(value)


_Check: TypeAlias = tuple[Callable[[object], bool], str]
_TEXT: _Check = (_text, f"a text of at most {LONGEST_TEXT} characters")
_TEXT_OR_NONE: _Check = (_or_none(_text), "a text or null")
_LONG: _Check = (_long_text, "a text")
_COUNT: _Check = (_count, "a whole number")
_COUNT_OR_NONE: _Check = (_or_none(_count), "a whole number or null")
_NUMBER: _Check = (_number, "a number")
_NUMBER_OR_NONE: _Check = (_or_none(_number), "a number or null")
_SENSOR_OR_NONE: _Check = (lambda value: value in (None, "sar", "optical"), "a sensor or null")
_BOOL: _Check = (lambda value: isinstance(value, bool), "true or false")
_COUNTS: _Check = (
    lambda value: isinstance(value, list) and len(value) <= 1000 and all(map(_count, value)),
    "a list of at most 1000 whole numbers",
)
_MODE: _Check = (lambda value: value in ("area", "region"), "area or region")
_PICK: _Check = (lambda value: value in ("pin", "exclude", "free"), "pin, exclude or free")
_STATE: _Check = (lambda value: value in STATES, "one of " + ", ".join(STATES))
_PICTURES = ("optical", "sar", "optical_before", "sar_before")
_PICTURE: _Check = (lambda value: value in _PICTURES, "one of " + ", ".join(_PICTURES))
_HOW: _Check = (lambda value: value in ("", "swipe", "blink"), "swipe, blink or nothing")
FILES = (
    "geojson", "gpkg", "parquet", "mask", "probability", "stac", "record", "points", "report",
    "notebook",
)  # fmt: skip
"""Kinds of files that a keep panel makes."""
_FILE: _Check = (lambda value: value in FILES, "one of " + ", ".join(FILES))
_ROLE: _Check = (lambda value: value in ("", *ROLES), "one of " + ", ".join(ROLES))
_MOUSE: _Check = (lambda value: value in ("", "values", "line"), "values, line or nothing")

KERNEL: Mapping[str, Mapping[str, _Check]] = {
    "started": {"ask": _TEXT, "question": _LONG},
    "tokens": {"ask": _TEXT, "text": _LONG, "from": _COUNT},
    "status": {"ask": _TEXT_OR_NONE, "text": _LONG},
    "ended": {"ask": _TEXT, "state": _STATE, "message": _LONG},
    "snapshot": {
        "ask": _TEXT_OR_NONE, "question": _LONG, "text": _LONG, "status": _LONG,
        "seconds": _NUMBER,
    },
    # chat: what can be done with a turn
    "code": {"turn": _TEXT, "text": _LONG},
    # areas
    "received": {"upload": _TEXT, "size": _COUNT},
    "settled": {"upload": _TEXT},
    # Pairs
    "progress": {"text": _LONG, "stall": _LONG},
    # keep
    "file": {"file": _TEXT, "name": _TEXT, "media": _TEXT, "size": _COUNT},
    "part": {"file": _TEXT, "at": _COUNT},
    "refused": {"file": _TEXT},
    "citation": {"turn": _TEXT, "text": _LONG},
}  # fmt: skip
"""Fields of each message to the browser."""
BROWSER: Mapping[str, Mapping[str, _Check]] = {
    "hello": {},
    "ask": {"text": _TEXT},
    "stop": {},
    "undo": {},
    "show": {"turn": _TEXT},
    # Pairs and timeline
    "search": {
        "dates": _TEXT_OR_NONE,
        "around": _TEXT_OR_NONE,
        "max_gap": _TEXT_OR_NONE,
        "max_cloud": _NUMBER_OR_NONE,
        "purpose": _TEXT_OR_NONE,
        "sensors": _TEXT_OR_NONE,
        "catalog": _TEXT_OR_NONE,
    },
    "choose": {"rank": _COUNT},
    "dates": {"rank": _COUNT_OR_NONE},
    "pick": {"scene": _TEXT, "how": _PICK},
    "looks": {"on": _BOOL},
    "cancel": {},
    # chat: what can be done with a turn
    "again": {"turn": _TEXT, "text": _TEXT_OR_NONE, "without": _SENSOR_OR_NONE},
    "branch": {"turn": _TEXT_OR_NONE},
    "copy": {"turn": _TEXT},
    # areas
    "select": {"name": _TEXT},
    "delete": {"name": _TEXT},
    "rename": {"name": _TEXT, "new": _TEXT},
    "restore": {"name": _TEXT, "version": _COUNT},
    "place": {"place": _TEXT},
    "box": {
        "west": _NUMBER, "south": _NUMBER, "east": _NUMBER, "north": _NUMBER, "replace": _BOOL,
    },
    "square": {"lat": _NUMBER, "lon": _NUMBER, "km": _NUMBER, "replace": _BOOL},
    "view": {"replace": _BOOL},
    "paste": {"text": _TEXT, "replace": _BOOL},
    "mode": {"mode": _MODE},
    "unmark": {"region": _TEXT},
    "upload": {"upload": _TEXT, "name": _TEXT, "size": _COUNT},
    "piece": {"upload": _TEXT, "at": _COUNT},
    "drop": {"upload": _TEXT},
    "layer": {"upload": _TEXT, "layer": _TEXT},
    "take": {"upload": _TEXT, "features": _COUNTS},
    # layers
    "raster": {
        "sensor": _PICTURE, "visible": _BOOL, "opacity": _NUMBER, "composite": _TEXT_OR_NONE,
    },
    "compare": {"how": _HOW},
    "switch": {"turn": _TEXT, "visible": _BOOL, "probability": _BOOL, "weights": _BOOL},
    "object": {"turn": _TEXT_OR_NONE, "number": _COUNT},
    "cut": {"turn": _TEXT, "probability": _NUMBER},
    "fit": {},
    "remove": {"turn": _TEXT},
    "tiles": {"on": _BOOL},
    "reload": {},
    "squares": {},
    # values
    "probe": {"mode": _MOUSE},
    "locate": {"text": _TEXT},
    "along": {"text": _TEXT},
    "clear": {},
    # keep
    "keep": {"file": _TEXT, "turn": _TEXT, "what": _FILE, "points": _COUNT},
    "more": {"file": _TEXT, "at": _COUNT},
    "leave": {"file": _TEXT},
    "cite": {"turn": _TEXT},
    "verify": {"turn": _TEXT},
    # own files: what is declared of them is text as it was typed; empty = nothing
    "role": {"upload": _TEXT, "role": _ROLE},
    "open": {"inside": _BOOL, **dict.fromkeys(DECLARED, _TEXT)},
    "mask": {"turn": _TEXT_OR_NONE},
}  # fmt: skip
"""Fields of each message to the kernel."""


def from_browser(content: object) -> FromBrowser:
    """A message from the browser with its known fields only.

    Raises:
        BadMessage: It is none, or a field is missing or of another kind.
    """
    return _checked(content, BROWSER)


def from_kernel(content: object) -> dict[str, Any]:
    """A message from the kernel with its known fields only; what the browser does too.

    Raises:
        BadMessage: It is none, or a field is missing or of another kind.
    """
    return _checked(content, KERNEL)


def _checked(content: object, known: Mapping[str, Mapping[str, _Check]]) -> dict[str, Any]:
    if not isinstance(content, Mapping):
        raise BadMessage("not a message with a 'kind'")
    kind = content.get("kind")
    if not isinstance(kind, str) or kind not in known:
        raise BadMessage(f"no message of kind {str(kind)[:40]!r}")
    for name, (holds, what) in known[kind].items():
        if name not in content or not holds(content[name]):
            raise BadMessage(f"{name!r} of a {kind!r} message is not {what}")
    return {"kind": kind, **{name: content[name] for name in known[kind]}}
