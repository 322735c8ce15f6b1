"""The engine behind a wire: prompts go out, replies come back; no torch on this side.

One thread with an event loop talks to the server for all asks of an engine; callers hold handles,
from any thread. An answer whose connection breaks is asked for again, and what was already handed
out is not handed out twice: greedy and seeded answers are the same each time.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import threading
import time
import uuid
import weakref
from collections.abc import Coroutine, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import httpx
import numpy as np
from numpy.typing import NDArray

from earthmind_lab.engine import wire
from earthmind_lab.engine.base import Capabilities, Stats
from earthmind_lab.engine.remote_ask import RemoteAsk
from earthmind_lab.errors import Cancelled, EarthMindError, EngineError, EngineUnavailable
from earthmind_lab.exchange import (
    Done,
    Event,
    Failed,
    Object,
    Options,
    Prompt,
    Queued,
    Reply,
    Token,
    View,
)

RETRY_SECONDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0)
"""Pauses before an ask is tried again; a server that restarts needs some of them."""
LOADING_SECONDS = 600.0
"""How long a server may say that its model is still loading."""
SILENCE_SECONDS = 30.0
"""A stream that says nothing for so long is lost: the server sends a sign of life every 5 s."""
MAX_ERROR = 1 << 20

_EVENTS = (Queued, Token, Object, Done, Failed)
_LIVE: weakref.WeakSet[RemoteEngine] = weakref.WeakSet()
T = TypeVar("T")


class _Lost(Exception):
    """No answer came, or it broke off; to be tried again."""

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
            return cls(url=f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}")
        raise EngineUnavailable(
            f"{text[:200]!r} is no address of a server.",
            change="http://host:port, https://host or unix:///path/of/socket; the token goes into "
            "token= or EARTHMIND_TOKEN",
        )


class RemoteEngine:
    """A model on a server, as an `Engine`.

    Args:
        url: ``http://host:port``, ``https://…`` or ``unix:///path/of/socket``.
        token: What the server asks for; None where it asks for none.
        retry_seconds: Pauses before an ask is tried again; their number is that of further tries.
        loading_seconds: How long to wait for a server that is still loading its model.
        seat: Who asks, where the options of an ask don't say; by default this engine.

    Raises:
        EngineUnavailable: Nobody answers there, it is no such server, or the token is wrong.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        retry_seconds: Sequence[float] = RETRY_SECONDS,
        loading_seconds: float = LOADING_SECONDS,
        seat: str | None = None,
    ) -> None:
        self.url, self._address = url, Address.parse(url)
        self._retry_seconds, self._loading_seconds = tuple(retry_seconds), loading_seconds
        self._seat = uuid.uuid4().hex if seat is None else seat
        self._closed = False
        self._asks: weakref.WeakSet[RemoteAsk] = weakref.WeakSet()
        self._gsd: dict[tuple[Any, ...], float | None] = {}
        self._http = _client(self._address, token)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=f"earthmind-{url}", daemon=True
        )
        self._thread.start()
        _LIVE.add(self)
        try:
            self._capabilities: Capabilities = self._call("capabilities", Capabilities, tries=1)
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        """Name of the model."""
        return self._capabilities.name

    @property
    def revision(self) -> str:
        """First 12 hex digits of its weight hash."""
        return self._capabilities.revision

    @property
    def capabilities(self) -> Capabilities:
        """What the model is and what fits into it; asked for once."""
        return self._capabilities

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def __repr__(self) -> str:
        state = "closed" if self._closed else self.url
        return f"<Engine {self.name} {self.revision} at {state}>"

    def submit(self, prompt: Prompt, options: Options | None = None) -> RemoteAsk:
        """Send an ask and return at once; that the server refuses it comes as its last event.

        Raises:
            EngineUnavailable: This engine is closed.
            PromptError: The prompt can't be sent.
        """
        self._check_open()
        options = options or Options()
        ask = RemoteAsk(prompt, replace(options, seat=options.seat or self._seat))
        body = wire.pack(wire.Ask(prompt=prompt, options=ask.options))
        self._asks.add(ask)
        ask.task = asyncio.run_coroutine_threadsafe(self._answer(ask, body), self._loop)
        if ask.ended:  # cancelled by its owner, or by close, before the task was known
            ask.task.cancel()
        return ask

    def generate(self, prompt: Prompt, options: Options | None = None) -> Reply:
        """Ask and wait; an interrupt of the caller cancels the ask.

        Raises:
            EarthMindError: Why the ask failed.
        """
        ask = self.submit(prompt, options)
        try:
            return ask.result()
        except BaseException:  # KeyboardInterrupt above all; no effect when the ask failed
            ask.cancel()
            raise

    def seen_gsd(self, view: View) -> float | None:
        """Metres per pixel that the model really sees of a view; None for a plain picture.

        The server is asked once for each size and kind of view.
        """
        if view.gsd is None:
            return None
        key = (*view.shape, view.gsd, view.modality)
        if key not in self._gsd:
            height, width, gsd, modality = key
            asked = {"height": height, "width": width, "gsd": gsd, "modality": modality}
            said = self._call("seen_gsd", None, params=asked)
            metres = said.get("metres") if isinstance(said, dict) else said
            if not isinstance(metres, int | float | None):
                raise self._nonsense(f"{metres!r} metres")
            self._gsd[key] = metres
        return self._gsd[key]

    def pictures(self, views: Sequence[View]) -> tuple[tuple[NDArray[np.uint8], ...], ...]:
        """What the model's vision encoder is given of each view: its pixels as the model sees them.

        Args:
            views: As they would be asked about together.

        Returns:
            uint8 pictures (H, W, 3) of each view, in the order in which they are read.
        """
        body = wire.pack(wire.Views(views=tuple(views)))
        found: wire.Pictures = self._call("pictures", wire.Pictures, method="POST", content=body)
        return found.pictures

    def stats(self) -> Stats:
        """What the server's engine is doing, for everybody, and what it keeps."""
        found: Stats = self._call("stats", Stats)
        return found

    def close(self) -> None:
        """Cancel the asks of this engine and hang up; the server goes on. May be called twice."""
        self._closed = True
        for ask in list(self._asks):
            ask.cancel()
        if self._loop.is_closed() or threading.current_thread() is self._thread:
            return
        with suppress(RuntimeError):  # closed by another thread meanwhile
            asyncio.run_coroutine_threadsafe(self._hang_up(), self._loop)
            self._thread.join(10)
            self._loop.close()

    async def _hang_up(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._http.aclose()
        await self._loop.shutdown_asyncgens()
        self._loop.stop()

    def _check_open(self) -> None:
        if self._closed:
            raise EngineUnavailable(
                f"The connection to {self.url} is closed.", change="load_engine() once more"
            )

    # --- an ask ----------------------------------------------------------------------------------

    async def _answer(self, ask: RemoteAsk, body: bytes) -> None:
        """Until the last event is out; on the loop's thread."""
        try:
            async with asyncio.timeout(ask.left):
                await self._again_and_again(lambda: self._stream(ask, body), self._retry_seconds)
        except asyncio.CancelledError:
            ask.fail(Cancelled("The ask was stopped."))
            raise
        except TimeoutError:
            ask.fail(
                EngineError(
                    f"No answer within the deadline of {ask.options.deadline:g} s.",
                    change="a longer deadline, or fewer new tokens",
                )
            )
        except EarthMindError as error:
            ask.fail(error)
        except Exception as error:  # noqa: BLE001  whoever waits must not wait for ever
            wrapped = self._nonsense(f"{type(error).__name__}: {error}")
            wrapped.__cause__ = error
            ask.fail(wrapped)

    async def _again_and_again(self, attempt: Any, pauses: Sequence[float]) -> Any:
        """Try, and after each pause again where the connection was lost.

        Raises:
            EngineUnavailable: The last try was lost, too.
        """
        left, patience = list(pauses), time.monotonic() + self._loading_seconds
        while True:
            try:
                return await attempt()
            except _Lost as lost:
                waiting = lost.loading and time.monotonic() < patience
                if not left and not waiting:
                    raise self._unavailable(lost) from lost
                await asyncio.sleep(1.0 if waiting else left.pop(0))

    async def _stream(self, ask: RemoteAsk, body: bytes) -> None:
        """One try of an ask.

        Raises:
            _Lost: The stream ended before the answer did.
            EarthMindError: The server refused it.
        """
        ask.begin()
        if ask.left is not None and ask.tries > 1:
            options = replace(ask.options, deadline=max(ask.left, 0.001))
            body = wire.pack(wire.Ask(prompt=ask.prompt, options=options))
        frames = wire.Frames()
        try:
            async with self._http.stream("POST", "v1/earthmind/ask", content=body) as response:
                await self._check(response)
                async with aclosing(response.aiter_raw()) as chunks:  # type: ignore[type-var]
                    async for chunk in chunks:
                        for data in filter(None, frames.feed(chunk)):
                            event: Any = wire.unpack(data, *_EVENTS)
                            self._take(ask, event)
                            if ask.ended:
                                return
        except httpx.TransportError as error:
            raise _Lost(_why(error)) from error
        raise _Lost("the answer broke off")

    def _take(self, ask: RemoteAsk, event: Event) -> None:
        if isinstance(event, Failed) and isinstance(event.error, EngineUnavailable):
            raise _Lost(str(event.error))  # it is being stopped; who comes after it may answer
        ask.take(event)

    # --- everything else -------------------------------------------------------------------------

    def _call(
        self, name: str, kind: type[Any] | None, *, tries: int | None = None, **request: Any
    ) -> Any:
        """One short request; waits for it.

        Args:
            name: Last part of the path.
            kind: The message in the reply; None = JSON.
            tries: How often at most; default: as often as an ask.
            request: For httpx.
        """
        self._check_open()
        pauses = self._retry_seconds if tries is None else self._retry_seconds[: tries - 1]
        return self._wait(self._again_and_again(lambda: self._fetch(name, kind, **request), pauses))

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def _fetch(self, name: str, kind: type[Any] | None, **request: Any) -> Any:
        method = request.pop("method", "GET")
        try:
            async with self._http.stream(method, f"v1/earthmind/{name}", **request) as response:
                await self._check(response)
                data = await _read(response, wire.MAX_FRAME)
        except httpx.TransportError as error:
            raise _Lost(_why(error)) from error
        if kind is not None:
            return wire.unpack(data, kind)
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise self._nonsense("no JSON") from error

    async def _check(self, response: httpx.Response) -> None:
        """Raise what a reply says that is no answer."""
        if response.status_code == httpx.codes.OK:
            mine = getattr(self, "_capabilities", None)
            theirs = response.headers.get(wire.WEIGHTS)
            if theirs is None:
                raise self._nonsense("a reply that is not earthmind's")
            if mine is not None and theirs != mine.weight_hash:
                raise EngineUnavailable(
                    f"The server at {self.url} has another model now.",
                    found=f"weights {theirs[:12]}, not {mine.revision}",
                    change="load_engine() once more, after closing this one",
                )
            return
        data, found = await _read(response, MAX_ERROR), f"HTTP {response.status_code}"
        try:
            said = json.loads(data)["error"]
            error = wire.error_from_dict(said["earthmind"])
        except (ValueError, KeyError, TypeError, RecursionError):
            if response.status_code in (502, 503, 504):
                raise _Lost(found) from None  # a proxy before a server that is away
            raise self._nonsense(found) from None
        if response.status_code == 503:
            raise _Lost(str(error), loading=said.get("code") == "loading")
        raise error

    def _unavailable(self, lost: _Lost) -> EngineUnavailable:
        return EngineUnavailable(
            f"The server at {self.url} can't be reached.",
            found=lost.found,
            change="start it there (earthmind serve), or check address, port and network",
        )

    def _nonsense(self, found: str) -> EngineError:
        return EngineUnavailable(
            f"What answers at {self.url} is no earthmind server, or one of another version.",
            found=found[:300],
            change="the address that earthmind serve prints, the same version on both sides",
        )


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


def _close_all() -> None:
    """Hang up before the interpreter takes the thread's world away."""
    for engine in list(_LIVE):
        engine.close()


atexit.register(_close_all)
