"""One of several engines that serve a model together; it knows nothing of what keeps it (Ray)."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import fields
from typing import Any

from earthmind_lab.engine import wire
from earthmind_lab.engine.base import Handle, Kept, Stats
from earthmind_lab.errors import EarthMindError
from earthmind_lab.exchange import Done, Event, Failed
from earthmind_lab.server.binary import sized
from earthmind_lab.server.submitting import Submitter


class Replica:
    """One engine, in a process of its own.

    Args:
        model: Name or folder, as `load_engine` takes it; it must be found on each machine.
    """

    def __init__(self, model: str) -> None:
        from earthmind_lab.engine.loading import load_engine

        self._engine: Any = load_engine(model)
        self._tag, self._submitter = uuid.uuid4().hex, Submitter()

    async def ask(self, body: bytes) -> AsyncGenerator[Any, None]:
        """Answer: first who does, with which weights, then every event as a message."""
        yield self._tag, self._engine.capabilities.weight_hash
        asked = await asyncio.to_thread(wire.unpack, body, wire.Ask)
        try:
            handle = await self._submitter.submit(self._engine, asked.prompt, asked.options)
        except EarthMindError as error:
            yield wire.pack(Failed(ask="", error=error))
            return
        async for event in _events(handle):
            yield wire.pack(event)

    async def capabilities(self) -> bytes:
        """What the model is, as a message."""
        return wire.pack(self._engine.capabilities)

    async def stats(self) -> bytes:
        """What the engine does and keeps, as a message."""
        return wire.pack(self._engine.stats())

    async def seen_gsd(self, params: dict[str, Any]) -> dict[str, Any]:
        """Metres per pixel that the model sees of a view of this size."""
        return {"metres": self._engine.seen_gsd(sized(**params))}

    async def pictures(self, content: bytes) -> bytes:
        """What the vision encoder is given of views, both as messages."""
        views = wire.unpack(content, wire.Views).views
        found = await asyncio.to_thread(self._engine.pictures, views)
        return wire.pack(wire.Pictures(pictures=found))

    def __del__(self) -> None:
        with suppress(AttributeError):  # it has none
            self._engine.close()


async def _events(handle: Handle) -> AsyncGenerator[Event, None]:
    """The events of an ask, which block, on the running loop; leaving cancels it."""
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[Event]()

    def pump() -> None:
        with suppress(RuntimeError):  # the loop has ended
            for event in handle.events():
                loop.call_soon_threadsafe(queue.put_nowait, event)

    threading.Thread(target=pump, daemon=True).start()
    try:
        while True:
            event = await queue.get()
            yield event
            if isinstance(event, Done | Failed):
                return
    finally:
        handle.cancel()  # no effect where it has ended


def summed(parts: Sequence[Stats]) -> Stats:
    """What several engines do, as one.

    >>> summed([Stats(done=1), Stats(done=2, kept={"sam": Kept(hits=3)})]).done
    3
    """
    kinds = sorted({kind for part in parts for kind in part.kept})
    kept = {
        kind: Kept(**_sums(Kept, [part.kept[kind] for part in parts if kind in part.kept]))
        for kind in kinds
    }
    adapters = {each.hash: each for part in parts for each in part.adapters}
    return Stats(kept=kept, adapters=tuple(adapters.values()), **_sums(Stats, parts))


def _sums(kind: type[Any], parts: Sequence[Any]) -> dict[str, int]:
    names = [each.name for each in fields(kind) if each.name not in ("kept", "adapters")]
    return {name: sum(getattr(part, name) for part in parts) for name in names}
