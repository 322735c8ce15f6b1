"""What bodies say in JSON: read beside the loop, and no more of it than a question needs.

A parser holds Python's lock, in whatever thread: what it is given has been looked over before.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from email.message import Message
from typing import Any, TypeVar, get_type_hints

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from earthmind_lab.errors import PromptError
from earthmind_lab.server.faults import Refusal
from earthmind_lab.server.limits import Limits

MAX_KEYS = 64
"""Of one table; none that has a meaning has so many."""
_PICTURE = b'"data:image'
_SIGNS = (b'"', b",", b"[", b"{")
MAX_HEAD = 256 << 10
"""Bytes in which a message names its arrays: some thousands."""
_LENGTH = 8
T = TypeVar("T", bound=BaseModel)


class JSONRoute(APIRoute):
    """A route whose endpoint takes the request and one model, the body.

    FastAPI would parse and check the body on the loop, and write an error for each of a million
    keys that it doesn't know, while everybody waits. What it says in ``/openapi.json`` stays.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Called by FastAPI."""
        endpoint = self.endpoint
        (form,) = (
            each for each in get_type_hints(endpoint).values()
            if isinstance(each, type) and issubclass(each, BaseModel)
        )  # fmt: skip

        async def handle(request: Request) -> Response:
            body, kind = await request.body(), request.headers.get("content-type", "")
            limits = request.app.state.serving.limits
            asked = await asyncio.to_thread(read, body, kind, form, limits)
            response: Response = await endpoint(request, asked)
            return response

        return handle


def read(body: bytes, kind: str, form: type[T], limits: Limits) -> T:
    """What a body says.

    Args:
        body: Of a request.
        kind: Its content type.
        form: What it should be.
        limits: How much of it is read.

    Raises:
        Refusal: There is too much beside the pictures.
        RequestValidationError: It has another form; tells the first thing that is wrong.
    """
    if not _is_json(kind):
        raise _unfit("its Content-Type is not application/json")
    check_size(body, limits)
    try:
        data = json.loads(body.decode(), object_pairs_hook=_table)
    except (ValueError, RecursionError) as error:
        raise _unfit(f"no JSON that can be read: {error}") from None
    try:
        return form.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise _unfit(first["msg"], *first["loc"]) from None


def check_size(body: bytes, limits: Limits) -> None:
    """Refuse more JSON than a question needs, its pictures left out; nothing is parsed.

    What is left out lies within one string, or behind the first fault, where no parser comes.

    Raises:
        Refusal: 413.
    """
    start = words = signs = 0
    while start < len(body):
        # No further than what is left: a long search holds Python's lock, too.
        last = start + limits.words_bytes - words + len(_PICTURE)
        found = body.find(_PICTURE, start, last)
        end = found + len(_PICTURE) if found >= 0 else min(len(body), last)
        words += end - start
        signs += _signs(body, start, end)
        if words > limits.words_bytes or signs > limits.signs:
            raise _too_much(limits)
        if found < 0:
            return
        start = body.find(b'"', end)
        if start < 0:  # the string has no end
            return


def check_message(body: bytes, limits: Limits) -> None:
    """The same for a message of `engine.wire`, whose arrays don't count.

    What is no message at all passes: who reads it says what is wrong.

    Raises:
        Refusal: 413.
    """
    length = int.from_bytes(body[:_LENGTH], "little")
    if length > len(body):
        return
    if length > MAX_HEAD:
        raise _too_much(limits)
    start = _LENGTH + length
    try:
        text = json.loads(body[_LENGTH:start])["json"]
        first, last = text["data_offsets"]
        words = body[start + first : start + last]
    except (ValueError, TypeError, KeyError, RecursionError):
        return
    if len(words) > limits.words_bytes or _signs(words, 0, len(words)) > limits.signs:
        raise _too_much(limits)


def _signs(body: bytes, start: int, end: int) -> int:
    return sum(body.count(sign, start, end) for sign in _SIGNS)


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_KEYS:
        raise ValueError(f"a table with {len(pairs)} keys, at most {MAX_KEYS} are read")
    return dict(pairs)


def _is_json(kind: str) -> bool:
    message = Message()
    message["content-type"] = kind
    sub = message.get_content_subtype()
    return message.get_content_maintype() == "application" and (
        sub == "json" or sub.endswith("+json")
    )


def _unfit(found: str, *where: int | str) -> RequestValidationError:
    return RequestValidationError([{"type": "body", "loc": ("body", *where), "msg": found}])


def _too_much(limits: Limits) -> Refusal:
    error = PromptError(
        "The question holds too much beside its pictures.",
        found=f"more than {limits.words_bytes} bytes or {limits.signs} quotes, commas and brackets",
        change="fewer words, or a new conversation",
    )
    return Refusal(413, error, code="too_large")
