"""What stands before every route: who asks, from where, and how much of a body is taken.

Pure ASGI, so that a refused request costs nothing: the token is looked at before the first byte of
a body is read, and where none is asked for nothing is read.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from earthmind_lab.errors import EngineBusy, EngineUnavailable, PromptError
from earthmind_lab.server.faults import Refusal
from earthmind_lab.server.limits import Limits
from earthmind_lab.server.serving import Serving

OPEN = ("/health",)
"""Answered without a token."""
SEAT = "earthmind-seat"
"""Header by which holders of one token tell their seats apart."""
_MAX_SEAT = 64


class Guard:
    """ASGI middleware: token, Host and Origin, size and time of bodies.

    Args:
        app: What it stands before.
        token: What every request must bring; None = nothing.
        names: Names in addresses that are this server's, beside loopback and plain IP addresses.
        serving: Told of whoever is let in; its limits hold for bodies.
    """

    def __init__(
        self, app: ASGIApp, *, token: str | None, names: Iterable[str], serving: Serving
    ) -> None:
        self._app, self._serving, self._limits = app, serving, serving.limits
        self._token = token.encode() if token is not None else None
        self._names = {name.lower() for name in (*names, "localhost")}
        self._held = 0  # bytes of all bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        body, send = b"", _plainly(send)
        try:
            self._check(scope)
            if scope["path"] in OPEN:  # to anybody, whose body nobody reads
                await self._app(scope, receive, send)
                return
            with self._serving.visit():
                body = await self._read(scope, receive)
                await self._app(scope, _again(body, receive), send)
        except Refusal as refusal:
            await refusal.response()(scope, receive, send)
        except _HungUp:
            pass
        finally:
            self._held -= len(body)

    def _check(self, scope: Scope) -> None:
        """Refuse whoever has no business here.

        Raises:
            Refusal: 401 or 403.
        """
        headers = Headers(scope=scope)
        host = _name(headers.get("host", ""))
        if not (host in self._names or _is_address(host)):
            # A page may bind its own name to this address; it can't bind an IP address.
            raise _foreign("This server has another name.", host)
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != headers.get("host"):
            raise _foreign("Pages of other sites may not ask.", origin)
        scope.setdefault("state", {})["domain"] = "open"
        if self._token is None or scope["path"] in OPEN:
            return
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not hmac.compare_digest(
            given.strip().encode("latin-1", "replace"), self._token
        ):
            error = EngineUnavailable(
                "The server does not know this token.",
                found="another one" if given else "no token",
                change="token= or EARTHMIND_TOKEN with what earthmind serve was started with; "
                "over HTTP the header 'Authorization: Bearer TOKEN'",
            )
            raise Refusal(401, error, code="invalid_token")
        scope["state"]["domain"] = hashlib.sha256(self._token).hexdigest()[:12]

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body, as far as it may be; it counts as held.

        Raises:
            Refusal: It is too large or too slow, or the server is being stopped.
            _HungUp: The client has gone.
        """
        limits = self._limits
        told = Headers(scope=scope).get("content-length", "")
        if told.isdigit() and (len(told) > 15 or int(told) > limits.body_bytes):
            raise _too_large(limits)
        body = bytearray()
        try:
            async with asyncio.timeout(limits.body_seconds):
                while await self._part(receive, body):
                    pass
        except BaseException as error:
            self._held -= len(body)
            if isinstance(error, TimeoutError):
                raise _too_slow(len(body), limits) from None
            if isinstance(error, asyncio.CancelledError) and self._serving.closing:
                raise self._serving.unavailable() from None  # whoever comes after may answer
            raise
        return bytes(body)

    async def _part(self, receive: Receive, body: bytearray) -> bool:
        """One more part of a body; whether there is another."""
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _HungUp
        part = message.get("body", b"")
        if len(body) + len(part) > self._limits.body_bytes:
            raise _too_large(self._limits)
        if self._held + len(part) > self._limits.bodies_bytes:
            error = EngineBusy("The server reads too many questions at once.", change="ask again")
            raise Refusal(429, error, code="busy")
        body += part
        self._held += len(part)
        return bool(message.get("more_body", False))


class _HungUp(Exception):
    """The client has gone before it had asked."""


def seat_of(scope: Scope, named: str | None) -> str:
    """Who asks: the token, and within it the name that its holder gave.

    Seats of one token trust each other as far as their token goes: they share turns, never asks,
    histories or replies. Nobody can take the seat of another token.

    Args:
        scope: Of a request that has passed the guard.
        named: What the request says; else the header, else where it comes from.
    """
    client = (scope.get("client") or ("local",))[0]
    named = named or Headers(scope=scope).get(SEAT) or client
    return f"{token_of(scope)}/{_short(named)}"


def token_of(scope: Scope) -> str:
    """A name for the token of a request that has passed the guard; tells nothing of it."""
    domain: str = scope["state"]["domain"]
    return domain


def _short(name: str) -> str:
    """A name of any length in few characters; another for each."""
    if len(name) <= _MAX_SEAT:
        return name
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
    return f"{name[: _MAX_SEAT - 33]}~{digest[:32]}"


def _plainly(send: Send) -> Send:
    """The same `send`; what it sends is data to browsers, and nobody keeps it."""
    more = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *more]
        await send(message)

    return sending


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read, then what comes after it."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return left.pop() if left else await receive()

    return again


def _name(host: str) -> str:
    """The name in a Host header, without port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _foreign(asked: str, found: str) -> Refusal:
    error = PromptError(asked, found=found[:100], change="the address that earthmind serve prints")
    return Refusal(403, error, code="foreign")


def _too_slow(came: int, limits: Limits) -> Refusal:
    error = PromptError(
        "The question came too slowly.",
        found=f"{came} bytes in {limits.body_seconds:g} s",
        change="a faster connection, or smaller pictures",
    )
    return Refusal(408, error, code="slow")


def _too_large(limits: Limits) -> Refusal:
    error = PromptError(
        "The question is too large.",
        found=f"more than {limits.body_bytes / 1e6:.0f} MB",
        change="fewer or smaller pictures",
    )
    return Refusal(413, error, code="too_large")
