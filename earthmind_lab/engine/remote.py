"""The engine behind a wire: prompts go out, replies come back; no torch on this side.

One thread with an event loop talks to the server for all asks of an engine; callers hold handles,
from any thread. An answer whose connection breaks is asked for again, and what was already handed
out is not handed out twice: greedy and seeded answers are the same each time.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import threading
import uuid
import weakref
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.engine import wire
from earthmind_lab.engine.asks import cancelled, late
from earthmind_lab.engine.base import Capabilities, Stats
from earthmind_lab.engine.common import CommonEngine
from earthmind_lab.engine.link import Link, Lost, Way
from earthmind_lab.engine.remote_ask import RemoteAsk
from earthmind_lab.errors import EarthMindError, EngineUnavailable
from earthmind_lab.exchange import Event, Failed, Options, Prompt, Tuning, View

RETRY_SECONDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0)
"""Pauses before an ask is tried again; a server that restarts needs some of them."""
LOADING_SECONDS = 600.0
"""How long a server may say that its model is still loading."""
CLOSE_SECONDS = 10.0

_LIVE: weakref.WeakSet[RemoteEngine] = weakref.WeakSet()


class RemoteEngine(CommonEngine):
    """A model on a server, as an `Engine`.

    Args:
        url: ``http://host:port``, ``https://…`` or ``unix:///path/of/socket``.
        token: What the server asks for; None where it asks for none.
        retry_seconds: Pauses before an ask is tried again; their number is that of further tries.
        loading_seconds: How long to wait for a server that is still loading its model.
        seat: Who asks, where the options of an ask don't say; by default this engine.
        way: Another way there than HTTP; `url` is then only its name.

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
        way: Way | None = None,
    ) -> None:
        self.url = url
        self._link = way or Link(
            url, token, retry_seconds=retry_seconds, loading_seconds=loading_seconds
        )
        self._seat = uuid.uuid4().hex if seat is None else seat
        self._closed, self._lock = False, threading.Lock()
        self._asks: weakref.WeakSet[RemoteAsk] = weakref.WeakSet()
        self._gsd: dict[tuple[Any, ...], float | None] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._talk, name=f"earthmind-{url}", daemon=True)
        self._thread.start()
        _LIVE.add(self)
        try:
            tries = self._link.first_tries
            self._capabilities = self._call("capabilities", Capabilities, tries=tries)
            self._link.weights = self._capabilities.weight_hash
        except BaseException:
            self.close()
            raise

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
        options = self._chosen(options or Options())
        ask = RemoteAsk(prompt, replace(options, seat=options.seat or self._seat))
        body = wire.pack(wire.Ask(prompt=prompt, options=ask.options))
        ask.task = self._start(lambda: self._answer(ask, body), ask)
        return ask

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
                raise self._link.nonsense(f"{metres!r} metres")
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

    @property
    def adapters(self) -> Mapping[str, Tuning]:
        """The adapters that asks may choose, by name; the server is asked each time."""
        return {tuning.name: tuning for tuning in self.stats().adapters}

    def close(self) -> None:
        """Cancel the asks of this engine and hang up; the server goes on. May be called twice."""
        with self._lock:
            first, self._closed = not self._closed, True
            asks = list(self._asks)
        for ask in asks:
            ask.cancel()
        if first:
            asyncio.run_coroutine_threadsafe(self._hang_up(), self._loop)
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_SECONDS)

    def _talk(self) -> None:
        """The thread: the loop, until `_hang_up` stops it."""
        self._loop.run_forever()
        self._loop.close()

    async def _hang_up(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._link.close()
        await self._loop.shutdown_asyncgens()
        self._loop.stop()

    def _start(self, work: Any, ask: RemoteAsk | None = None) -> concurrent.futures.Future[Any]:
        """Set work going on the loop.

        Raises:
            EngineUnavailable: This engine is closed.
        """
        with self._lock:  # so that nothing is left on a loop that has stopped
            if self._closed:
                raise self._hung_up()
            if ask is not None:
                self._asks.add(ask)
            return asyncio.run_coroutine_threadsafe(work(), self._loop)

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
        link = self._link
        future = self._start(lambda: link.trying(lambda: link.fetch(name, kind, **request), tries))
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise self._hung_up() from None
        except BaseException:  # KeyboardInterrupt above all
            future.cancel()
            raise

    async def _answer(self, ask: RemoteAsk, body: bytes) -> None:
        """Until the last event is out; on the loop's thread."""
        try:
            async with asyncio.timeout(ask.left):
                await self._link.trying(lambda: self._once(ask, body))
        except asyncio.CancelledError:
            ask.fail(cancelled())
            raise
        except TimeoutError:
            ask.fail(late(ask.options))
        except EarthMindError as error:
            ask.fail(error)
        except Exception as error:  # noqa: BLE001  whoever waits must not wait for ever
            wrapped = self._link.nonsense(f"{type(error).__name__}: {error}")
            wrapped.__cause__ = error
            ask.fail(wrapped)

    async def _once(self, ask: RemoteAsk, body: bytes) -> None:
        """One try of an ask.

        Raises:
            Lost: The stream ended before the answer did.
            EarthMindError: The server refused it.
        """
        ask.begin()
        if ask.left is not None and ask.tries > 1:
            options = replace(ask.options, deadline=max(ask.left, 0.001))
            body = wire.pack(wire.Ask(prompt=ask.prompt, options=options))
        async with aclosing(self._link.events(ask, body)) as events:
            async for event in events:
                _take(ask, event)
                if ask.ended:
                    return
        raise Lost("the answer broke off")

    def _hung_up(self) -> EngineUnavailable:
        return EngineUnavailable(
            f"The connection to {self.url} is closed.", change="load_engine() once more"
        )


def _take(ask: RemoteAsk, event: Event) -> None:
    """Hand an event on, unless it says that the server is being stopped."""
    if isinstance(event, Failed) and isinstance(event.error, EngineUnavailable):
        raise Lost(str(event.error))  # who comes after it may answer
    ask.take(event)


def _close_all() -> None:
    """Hang up before the interpreter takes the thread's world away."""
    for engine in list(_LIVE):
        engine.close()


atexit.register(_close_all)
