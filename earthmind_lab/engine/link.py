"""The line to a server: where it is, what is said over it, and what to make of its silence."""

from __future__ import annotations

import asyncio
import json
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import httpx

from earthmind_lab.engine import wire
from earthmind_lab.engine.remote_ask import RemoteAsk
from earthmind_lab.errors import EngineError, EngineUnavailable
from earthmind_lab.exchange import Done, Event, Failed, Object, Queued, Token

SILENCE_SECONDS = 30.0
"""A stream that says nothing for so long is lost: the server sends a sign of life every 5 s."""
MAX_ERROR = 1 << 20
EVENTS = (Queued, Token, Object, Done, Failed)
T = TypeVar("T")


class Lost(Exception):
    """No answer came, or it broke off; to be tried again.

    Args:
        found: What happened.
        loading: Whether the server said that its model is still loading.
    """

    def __init__(self, found: str, *, loading: bool = False) -> None:
        self.found, self.loading = found, loading
        super().__init__(found)


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a server is."""

    url: str
    """``http://host:port`` or ``https://…``; with a socket it only fills the Host header."""
    socket: str | None = None
    """Path of a unix socket."""

    @classmethod
    def parse(cls, text: str) -> Address:
        """The address in ``http://gpu-box:8000``, ``https://…`` or ``unix:///run/lab.sock``.

        The ``/v1`` that clients of OpenAI's protocol need at its end may be there.

        Raises:
            EngineUnavailable: It is none of these.

        >>> Address.parse("unix:///run/lab.sock").socket
        '/run/lab.sock'
        """
        try:
            parts = urlsplit(text)
            _ = parts.port  # raises where it is none
        except ValueError:
            parts = urlsplit("")
        if parts.scheme == "unix" and parts.path and not parts.netloc:
            return cls(url="http://localhost", socket=unquote(parts.path))
        if parts.scheme in ("http", "https") and parts.hostname and not parts.username:
            path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
            return cls(url=f"{parts.scheme}://{parts.netloc}{path}")
        raise EngineUnavailable(
            f"{text[:200]!r} is no address of a server.",
            change="http://host:port, https://host or unix:///path/of/socket; the token goes into "
            "token= or EARTHMIND_TOKEN",
        )


class Way(ABC):
    """A way to a model elsewhere, and what to make of its silence; used on one event loop.

    Args:
        url: Where it leads, in words for a message.
        retry_seconds: Pauses before something is tried again.
        loading_seconds: How long to wait for a server that is still loading its model.
    """

    first_tries: int | None = 1
    """How often the very first request is tried: who can't start a server hears at once that there
    is none. None = as often as an ask."""

    def __init__(self, url: str, *, retry_seconds: Sequence[float], loading_seconds: float) -> None:
        self.url = url
        self.weights: str | None = None
        """Hash of the weights that must answer; None = any."""
        self._retry_seconds, self._loading_seconds = tuple(retry_seconds), loading_seconds

    @abstractmethod
    def events(self, ask: RemoteAsk, body: bytes) -> AsyncGenerator[Event, None]:
        """Ask: every event that comes back.

        Args:
            ask: What is asked.
            body: The same as a message.

        Raises:
            Lost: The connection broke before the last event.
            EarthMindError: It was refused.
        """

    @abstractmethod
    async def fetch(self, name: str, kind: type[Any] | None, **request: Any) -> Any:
        """One short request.

        Args:
            name: What is wanted: ``capabilities``, ``stats``, ``seen_gsd``, ``pictures``.
            kind: The message in the reply; None = JSON.
            request: For httpx.

        Raises:
            Lost: No reply came.
            EarthMindError: It was refused.
        """

    @abstractmethod
    async def close(self) -> None:
        """Hang up."""

    async def trying(self, attempt: Callable[[], Awaitable[T]], tries: int | None = None) -> T:
        """Try, and after each pause again where the connection was lost.

        Args:
            attempt: What to do.
            tries: How often at most; default: as often as there are pauses, and once more.

        Raises:
            EngineUnavailable: The last try was lost, too.
        """
        left = list(self._retry_seconds if tries is None else self._retry_seconds[: tries - 1])
        patience = time.monotonic() + self._loading_seconds
        while True:
            try:
                return await attempt()
            except Lost as lost:
                waiting = lost.loading and time.monotonic() < patience
                if not left and not waiting:
                    raise self.unreachable(lost.found) from lost
                await asyncio.sleep(1.0 if waiting else left.pop(0))
                await self.revive()

    async def revive(self) -> None:  # noqa: B027  most ways have nobody to bring back
        """Bring a lost server back, before it is tried again.

        Raises:
            EarthMindError: Why it can't be.
        """

    def unreachable(self, found: str) -> EngineUnavailable:
        """What to say when the last try was lost, too."""
        return EngineUnavailable(
            f"The server at {self.url} can't be reached.",
            found=found,
            change="start it there (earthmind serve), or check address and network",
        )

    def nonsense(self, found: str) -> EngineError:
        """What to say of a server that says something else than expected."""
        return EngineUnavailable(
            f"What answers at {self.url} is no earthmind server, or one of another version.",
            found=found[:300],
            change="the address that earthmind serve prints, the same version on both sides",
        )

    def check_weights(self, theirs: str) -> None:
        """Refuse answers of other weights than the first ones.

        Raises:
            EngineUnavailable: They are others.
        """
        if self.weights not in (None, theirs):
            raise EngineUnavailable(
                f"The server at {self.url} has another model now.",
                found=f"weights {theirs[:12]}, not {self.weights[:12] if self.weights else ''}",
                change="load_engine() once more, after closing this one",
            )


class Link(Way):
    """What goes to and fro between a client and one server.

    Args:
        url: As `Address.parse` takes it.
        token: What the server asks for.
        retry_seconds: As `Way` takes them.
        loading_seconds: The same.
    """

    def __init__(
        self, url: str, token: str | None, *, retry_seconds: Sequence[float], loading_seconds: float
    ) -> None:
        super().__init__(url, retry_seconds=retry_seconds, loading_seconds=loading_seconds)
        self._http = _client(Address.parse(url), token)

    def authorize(self, token: str) -> None:
        """Go on with another token."""
        self._http.headers["authorization"] = f"Bearer {token}"

    async def close(self) -> None:
        """Hang up."""
        await self._http.aclose()

    async def events(self, ask: RemoteAsk, body: bytes) -> AsyncGenerator[Event, None]:  # noqa: ARG002
        """Ask: every event that the server sends."""
        frames = wire.Frames()
        try:
            async with self._http.stream("POST", "v1/earthmind/ask", content=body) as response:
                await self._check(response)
                async with aclosing(response.aiter_raw()) as chunks:  # type: ignore[type-var]
                    async for chunk in chunks:
                        for data in filter(None, frames.feed(chunk)):
                            event: Any = wire.unpack(data, *EVENTS)
                            yield event
        except httpx.TransportError as error:
            raise Lost(_why(error)) from error

    async def fetch(self, name: str, kind: type[Any] | None, **request: Any) -> Any:
        """One short request; `name` is the last part of the path."""
        method = request.pop("method", "GET")
        try:
            async with self._http.stream(method, f"v1/earthmind/{name}", **request) as response:
                await self._check(response)
                data = await _read(response, wire.MAX_FRAME)
        except httpx.TransportError as error:
            raise Lost(_why(error)) from error
        if kind is not None:
            return wire.unpack(data, kind)
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise self.nonsense("no JSON") from error

    async def _check(self, response: httpx.Response) -> None:
        """Raise what a reply says that is no answer."""
        if response.status_code != httpx.codes.OK:
            await self._refused(response)
        theirs = response.headers.get(wire.WEIGHTS)
        if theirs is None:
            raise self.nonsense("a reply that is not earthmind's")
        self.check_weights(theirs)

    async def _refused(self, response: httpx.Response) -> None:
        """Raise why."""
        data, found = await _read(response, MAX_ERROR), f"HTTP {response.status_code}"
        try:
            said = json.loads(data)["error"]
            error = wire.error_from_dict(said["earthmind"])
        except (ValueError, KeyError, TypeError, RecursionError):
            if response.status_code in (502, 503, 504):
                raise Lost(found) from None  # a proxy before a server that is away
            raise self.nonsense(found) from None
        if response.status_code == 503:
            raise Lost(str(error), loading=said.get("code") == "loading")
        raise error


def _client(address: Address, token: str | None) -> httpx.AsyncClient:
    """A client that talks to this address only: no proxy, no redirect, nothing from .netrc."""
    headers = {b"accept-encoding": b"identity", b"user-agent": b"earthmind_lab"}
    if token and not token.isprintable():
        raise EngineUnavailable(
            "The token holds characters that no header takes.", change="the token alone, one line"
        )
    bearer = {b"authorization": f"Bearer {token}".encode()} if token else {}
    return httpx.AsyncClient(
        base_url=f"{address.url}/",
        headers={**headers, **bearer},
        timeout=httpx.Timeout(SILENCE_SECONDS, connect=10.0, write=60.0, pool=None),
        transport=httpx.AsyncHTTPTransport(
            uds=address.socket,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=8),
        ),
        trust_env=False,
    )


async def _read(response: httpx.Response, limit: int) -> bytes:
    """The whole body.

    Raises:
        EngineError: It is longer than the limit.
    """
    held = bytearray()
    async for chunk in response.aiter_raw():
        held += chunk
        if len(held) > limit:
            raise EngineError("The server's reply is too long.", found=f"over {limit} bytes")
    return bytes(held)


def _why(error: httpx.TransportError) -> str:
    return f"{type(error).__name__}{f': {error}' if str(error) else ''}"
