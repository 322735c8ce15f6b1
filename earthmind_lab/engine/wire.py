"""Prompts, replies, events and errors as bytes and back, without loss: numpy only, no torch.

A message is one safetensors blob. Its array ``json`` holds UTF-8 JSON with the version, the name
of the type and the fields; every array of the message lies beside it under its number, raw. The
fields' own annotations say how each is written and what is accepted, so that a new field needs no
code here. A stream of events is messages with their length before them (`frame`, `Frames`).

>>> unpack(pack(Token(ask="a", text="water")), Token).text
'water'
"""

from __future__ import annotations

import json
import operator
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Final, Literal, TypeVar, Union

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from earthmind_lab import errors
from earthmind_lab.engine.base import Capabilities, Stats
from earthmind_lab.errors import EarthMindError, EngineError, PromptError
from earthmind_lab.exchange import (
    Done,
    Failed,
    Found,
    Object,
    Options,
    Prompt,
    Queued,
    Reply,
    Token,
    View,
)

VERSION: Final = 1
"""Of the format; stands in every message. Another one is refused, never guessed."""
CONTENT_TYPE: Final = "application/vnd.earthmind"
WEIGHTS: Final = "earthmind-weights"
"""Header of every reply: hash of the weights that answer."""
MAX_TEXT: Final = 8 << 20
"""Bytes of JSON in a message; its parsed form takes a multiple of that."""
MAX_FRAME: Final = 1 << 30
"""Bytes of one message in a stream: a reply with its masks."""
_TEXT, _LENGTH = "json", 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Ask:
    """What a client sends."""

    prompt: Prompt
    options: Options


@dataclass(frozen=True, kw_only=True, eq=False)
class Views:
    """Views that are asked about together."""

    views: tuple[View, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pictures:
    """What a vision encoder is given of each view."""

    pictures: tuple[tuple[NDArray[np.uint8], ...], ...]


_ASKED = (Ask, Prompt, Options, Views)
"""What clients send: a fault in one of these is theirs."""
_KINDS = (
    *_ASKED, Pictures, Queued, Token, Object, Done, Failed, Reply, Found, Capabilities, Stats,
)  # fmt: skip
T = TypeVar("T")


def pack(message: Any) -> bytes:
    """One message as bytes.

    Args:
        message: A `Prompt`, `Options`, `Ask`, `Views`, `Pictures`, `Capabilities`, `Stats`,
            `Reply`, `Found` or an event.

    Raises:
        PromptError: A field of what a client sends does not hold what its type says.
        EngineError: The same in what an engine sends.
    """
    kind = type(message)
    try:
        return _write_message(kind, message)
    except (ValueError, TypeError, AttributeError) as error:
        raise _refusal((kind,), "can't be sent", error) from error


def unpack(data: bytes, *kinds: type[T]) -> T:
    """The message in some bytes.

    Args:
        data: What `pack` made, or anything at all.
        kinds: What is expected.

    Raises:
        PromptError: It is no such message, and clients send those; or the prompt in it is bad.
        EngineError: It is no such message, and engines send those.
    """
    try:
        return _read_message(data, kinds)
    except EarthMindError:
        raise
    except (SafetensorError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as bad:
        raise _refusal(kinds, "can't be read", bad) from bad


def frame(data: bytes) -> bytes:
    """A message in a stream: its length in four bytes, big end first, then itself.

    A frame of no bytes says only that the sender still lives.
    """
    return len(data).to_bytes(_LENGTH, "big") + data


class Frames:
    """Cuts a stream into messages.

    Args:
        limit: Most bytes of one message.

    >>> frames = Frames()
    >>> list(frames.feed(frame(b"ab")[:5])), list(frames.feed(b"b"))
    ([], [b'ab'])
    """

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._limit = limit
        self._held = bytearray()

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Every message that is complete by now.

        Raises:
            EngineError: A message is announced that is too long.
        """
        self._held += chunk
        while len(self._held) >= _LENGTH:
            size = int.from_bytes(self._held[:_LENGTH], "big")
            if size > self._limit:
                raise EngineError(
                    "The engine's stream can't be read.",
                    found=f"a message of {size} bytes, at most {self._limit} are taken",
                    change="whether the address is that of an earthmind server",
                )
            if len(self._held) < _LENGTH + size:
                return
            data = bytes(memoryview(self._held)[_LENGTH : _LENGTH + size])
            del self._held[: _LENGTH + size]
            yield data


def error_to_dict(error: Exception) -> dict[str, Any]:
    """An error of our tree as plain data; of any other only its type is told."""
    if not isinstance(error, EarthMindError):
        found = type(error).__name__
        error = EngineError("The engine failed on this ask.", found=found)
    known = (kind.__name__ for kind in type(error).__mro__ if _error_kind(kind.__name__) is kind)
    words = {"asked": error.asked, "found": error.found, "change": error.change}
    return {"kind": next(known), **words}


def error_from_dict(data: Any) -> EarthMindError:
    """The error in plain data; one of a kind that is not known here is an `EngineError`.

    Raises:
        ValueError: The data do not describe an error.
    """
    words = data.values() if isinstance(data, dict) else ()
    if set(data) != {"kind", "asked", "found", "change"} or not isinstance(data["asked"], str):
        raise ValueError("no error")
    if not all(isinstance(word, str | None) for word in words):
        raise ValueError("no error")
    kind = _error_kind(data["kind"]) or EngineError
    return kind(data["asked"], found=data["found"], change=data["change"])


def _error_kind(name: str | None) -> type[EarthMindError] | None:
    kind = getattr(errors, name or "", None)
    return kind if isinstance(kind, type) and issubclass(kind, EarthMindError) else None


# --- reading and writing by annotation ------------------------------------------------------------


class _Unfit(ValueError):
    """A value does not fit its annotation."""


def _refusal(kinds: tuple[type, ...], what: str, why: Exception) -> EarthMindError:
    named = " or ".join(kind.__name__ for kind in kinds)
    found = f"{why}" if isinstance(why, _Unfit) else f"{type(why).__name__}: {why}"
    if any(kind in _ASKED for kind in kinds):
        return PromptError(f"The message ({named}) {what}.", found=found[:300])
    return EngineError(
        f"The engine's message ({named}) {what}.", found=found[:300],
        change="the same version of earthmind_lab on both sides",
    )  # fmt: skip


def _write_message(kind: type, message: Any) -> bytes:
    arrays: dict[str, NDArray[Any]] = {}
    value = _write(kind, message, arrays)
    text = json.dumps({"earthmind": VERSION, "kind": kind.__name__, "value": value})
    if kind not in _KINDS or len(text) > MAX_TEXT:
        raise _Unfit(f"{kind.__name__} with {len(text)} bytes of text")
    return save({_TEXT: np.frombuffer(text.encode(), np.uint8), **arrays})


def _read_message(data: bytes, kinds: tuple[type[T], ...]) -> T:
    arrays = load(data)
    text = arrays.pop(_TEXT, None)
    if text is None or text.dtype != np.uint8 or text.size > MAX_TEXT:
        raise _Unfit("no text, or too much of it")
    message = json.loads(text.tobytes())
    if not isinstance(message, dict) or message.get("earthmind") != VERSION:
        said = message.get("earthmind") if isinstance(message, dict) else None
        raise _Unfit(f"format {str(said)[:20]!r}, this one reads {VERSION}")
    if set(message) != {"earthmind", "kind", "value"}:
        raise _Unfit(f"parts {', '.join(sorted(message))[:100]}")
    kind = next((kind for kind in kinds if kind.__name__ == message["kind"]), None)
    if kind is None:
        raise _Unfit(f"a {str(message['kind'])[:40]!r}")
    found = _read(kind, message["value"], arrays, kind.__name__)
    if arrays:
        raise _Unfit(f"{len(arrays)} arrays that nothing names")
    return typing.cast(T, found)


@cache
def _annotations(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _write(hint: Any, value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    """A value as JSON; its arrays go beside it and leave their number."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return None if value is None else _write(_some(inner), value, arrays)
    if is_dataclass(hint):
        return {
            name: _write(each, getattr(value, name), arrays)
            for name, each in _annotations(typing.cast(type, hint)).items()
        }
    if origin is np.ndarray:
        return _put(np.asarray(value), np.dtype(_dtype(hint)), arrays)
    if origin is tuple:
        return [_write(each, part, arrays) for each, part in _each(inner, value)]
    if origin is not None and _is_table(origin):
        return {_plain(str, key): _write(inner[1], part, arrays) for key, part in value.items()}
    return error_to_dict(value) if hint is Exception else _plain(hint, value)


def _read(hint: Any, value: Any, arrays: dict[str, NDArray[Any]], where: str) -> Any:
    """A value from JSON; each array is taken once."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return None if value is None else _read(_some(inner), value, arrays, where)
    if is_dataclass(hint):
        return _read_fields(typing.cast(type, hint), value, arrays, where)
    if origin is np.ndarray:
        return _take(value, np.dtype(_dtype(hint)), arrays, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise _Unfit(f"{where} is no list")
        return tuple(_read(each, part, arrays, where) for each, part in _each(inner, value))
    if origin is not None and _is_table(origin):
        if not isinstance(value, dict):
            raise _Unfit(f"{where} is no table")
        return {key: _read(inner[1], part, arrays, where) for key, part in value.items()}
    return error_from_dict(value) if hint is Exception else _plain(hint, value, where)


def _read_fields(
    kind: type, value: Any, arrays: dict[str, NDArray[Any]], where: str
) -> Any:  # fmt: skip
    """A dataclass; fields with a default may lack, unknown ones may not be there."""
    if not isinstance(value, dict):
        raise _Unfit(f"{where} is no table")
    hints = _annotations(kind)
    unknown = set(value) - set(hints)
    needed = {
        each.name for each in fields(kind)
        if each.default is MISSING and each.default_factory is MISSING
    }  # fmt: skip
    if unknown or needed - set(value):
        wrong = f"unknown {sorted(unknown)}" if unknown else f"no {sorted(needed - set(value))}"
        raise _Unfit(f"{where}: {wrong}")
    read = {
        name: _read(hints[name], part, arrays, f"{where}.{name}") for name, part in value.items()
    }
    return kind(**read)


def _plain(hint: Any, value: Any, where: str = "a field") -> Any:
    """A text, number or truth value; numpy's own become Python's."""
    if typing.get_origin(hint) is Literal:
        fits = isinstance(value, str) and value in typing.get_args(hint)
    elif hint is str:
        fits = isinstance(value, str)
    elif hint is int and not isinstance(value, bool | np.bool_ | float | str):
        return operator.index(value)
    elif hint is float and isinstance(value, int | float | np.number) and value is not True:
        return float(value)
    else:
        fits = False
    if not fits:
        raise _Unfit(f"{where} is {str(value)[:40]!r}")
    return value


def _put(value: NDArray[Any], dtype: np.dtype[Any], arrays: dict[str, NDArray[Any]]) -> int:
    if (value.dtype.kind, value.dtype.itemsize) != (dtype.kind, dtype.itemsize):
        raise _Unfit(f"an array of {value.dtype}, not {dtype}")
    arrays[str(len(arrays))] = np.asarray(value, dtype, order="C")
    return len(arrays) - 1


def _take(
    number: Any, dtype: np.dtype[Any], arrays: dict[str, NDArray[Any]], where: str
) -> NDArray[Any]:
    found = arrays.pop(str(number), None) if isinstance(number, int) else None
    if found is None or found.dtype != dtype:
        raise _Unfit(f"{where} is {'no array' if found is None else f'of {found.dtype}'}")
    if dtype == np.bool_ and (found.view(np.uint8) > 1).any():
        raise _Unfit(f"{where} holds neither true nor false")  # numpy itself doesn't look
    # Of their own: what they came in is larger, and torch wants to be able to write.
    return found.copy()


def _some(inner: tuple[Any, ...]) -> Any:
    """What an optional annotation is when it is something."""
    (hint,) = (each for each in inner if each is not type(None))
    return hint


def _each(inner: tuple[Any, ...], value: Any) -> Iterator[tuple[Any, Any]]:
    """The parts of a tuple with their annotations."""
    parts = tuple(value)
    if len(inner) == 2 and inner[1] is Ellipsis:
        return ((inner[0], part) for part in parts)
    if len(parts) != len(inner):
        raise _Unfit(f"{len(parts)} parts, not {len(inner)}")
    return zip(inner, parts, strict=True)


def _dtype(hint: Any) -> Any:
    """The scalar type of an array's annotation."""
    return typing.get_args(typing.get_args(hint)[1])[0]


def _is_table(origin: Any) -> bool:
    """Whether an annotation means a table."""
    return isinstance(origin, type) and issubclass(origin, Mapping)
