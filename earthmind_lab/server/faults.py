"""Errors as replies: one shape for every route, that of OpenAI's API with ours inside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from earthmind_lab.engine.wire import error_to_dict
from earthmind_lab.errors import (
    EarthMindError,
    EngineBusy,
    EngineError,
    EngineUnavailable,
    OutOfDeviceMemory,
    PromptError,
)

RETRY_AFTER = 1
"""Seconds after which a busy or loading server may be asked again."""
_STATUS: tuple[tuple[type[EarthMindError], int, str], ...] = (
    (PromptError, 400, "bad_prompt"),
    (EngineBusy, 429, "busy"),
    (OutOfDeviceMemory, 507, "out_of_memory"),
    (EngineUnavailable, 503, "unavailable"),
)
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class Refusal(Exception):
    """A request is refused.

    Args:
        status: Of HTTP.
        error: Why.
        code: A word for programs.
        param: The part of the request that is at fault.
    """

    def __init__(
        self, status: int, error: EarthMindError, *, code: str, param: str | None = None
    ) -> None:
        self.status, self.error, self.code, self.param = status, error, code, param
        super().__init__(str(error))

    @classmethod
    def of(cls, error: Exception, *, late: bool = False) -> Refusal:
        """The refusal for an error of an engine.

        Args:
            error: What the engine said.
            late: Whether the ask's time was over.
        """
        if isinstance(error, cls):
            return error
        for kind, status, code in _STATUS:
            if isinstance(error, kind):
                return cls(status, error, code=code)
        if not isinstance(error, EarthMindError):
            # Nothing of its text: it may tell of paths, and of what others asked.
            error = EngineError("The engine failed on this ask.", found=type(error).__name__)
        return cls(504, error, code="late") if late else cls(500, error, code="failed")

    def to_dict(self) -> dict[str, Any]:
        """Plain data, the body of the reply."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {
            "error": {
                "message": str(self.error),
                "type": _TYPES.get(self.status, kind),
                "param": self.param,
                "code": self.code,
                "earthmind": error_to_dict(self.error),
            }
        }

    def response(self) -> Response:
        """The reply."""
        headers = {401: {"www-authenticate": "Bearer"}}.get(self.status, {})
        if self.status in (429, 503):
            headers = {"retry-after": str(RETRY_AFTER)}
        return json_response(self.to_dict(), self.status, headers)


class OurError(BaseModel):
    """The error in this package's own words."""

    model_config = ConfigDict(extra="forbid")
    kind: str = Field(description="Class in earthmind_lab.errors.")
    asked: str
    found: str | None
    change: str | None


class ErrorBody(BaseModel):
    """What was refused and why."""

    model_config = ConfigDict(extra="forbid")
    message: str = Field(description="What was asked, what was found and what to change.")
    type: str
    param: str | None
    code: str
    earthmind: OurError


class Failure(BaseModel):
    """Every reply that is no success."""

    model_config = ConfigDict(extra="forbid")
    error: ErrorBody


_WHY = {
    400: "The request can't be answered by this server or model; the message says what to change",
    401: "No token, or a wrong one",
    403: "Asked by a page of another site, or under a name that is not this server's",
    404: "No such address or model",
    405: "No such method here",
    408: "The body came too slowly",
    413: "The body is too large",
    422: "The request has not the form that is described here",
    429: "The queue is full, or this seat has too many asks under way; see Retry-After",
    500: "The model failed on this ask",
    503: "The model is loading, or the server is being stopped; see Retry-After",
    504: "No answer within the time that an ask may take",
    507: "The prompt does not fit on the device",
}
ALWAYS = (401, 403, 408, 413, 503)
"""What the guard may say to any request."""
ASKING = (400, 422, 429, 500, 504, 507)
"""What may become of an ask."""


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The failures of a route, for its description."""
    return {
        status: {"model": Failure, "description": _WHY[status]}
        for status in sorted({*ALWAYS, *statuses})
    }


def json_response(
    data: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Data as JSON; escaped, so that half a character in a text can't break the reply."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return Response(text, status, headers, media_type="application/json")


def install(app: FastAPI, unsupported: frozenset[str]) -> None:
    """Make every error of an app a `Refusal`.

    Args:
        app: The app.
        unsupported: Parameters that other servers have and this one refuses.
    """

    def refused(_: Request, error: Exception) -> Response:
        return Refusal.of(error).response()

    def malformed(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return _malformed(error, unsupported).response()

    def elsewhere(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        response = _elsewhere(error).response()
        response.headers.update(error.headers or {})
        return response

    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(EarthMindError, refused)
    app.add_exception_handler(RequestValidationError, malformed)
    app.add_exception_handler(HTTPException, elsewhere)
    app.add_exception_handler(Exception, refused)


def _malformed(error: RequestValidationError, unsupported: frozenset[str]) -> Refusal:
    """The first thing that is wrong; never the value itself, which may be megabytes."""
    first = error.errors()[0] if error.errors() else {"loc": (), "msg": "not readable"}
    where = [str(part) for part in first["loc"]]
    where = where[1:] if where[:1] in (["body"], ["query"]) else where
    param = ".".join(where)[:200] or None
    if where and where[0] in unsupported:
        asked = f"This server does not support the parameter {where[0]!r} with this value."
        change = "leave it out, or give the one value that changes nothing"
        return Refusal(
            400, PromptError(asked, change=change), code="unsupported_parameter", param=param
        )
    found = f"{first['msg']}"[:300]
    asked = f"The request has not the right form{f' at {param!r}' if param else ''}."
    change = "what /openapi.json describes"
    return Refusal(
        422, PromptError(asked, found=found, change=change), code="malformed", param=param
    )


def _elsewhere(error: HTTPException) -> Refusal:
    asked = _WHY.get(error.status_code, "The request can't be answered")
    change = "what /openapi.json describes"
    kind = PromptError if error.status_code < 500 else EngineError
    return Refusal(error.status_code, kind(f"{asked}.", change=change), code="not_served")
