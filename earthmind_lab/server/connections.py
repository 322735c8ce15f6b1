"""Connections that take a place and say nothing, or don't read what they are told, are closed."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class Connection(H11Protocol):
    """uvicorn's connection, with a limit for the head of a request.

    uvicorn waits for ever for who has connected and says nothing, or says it drop by drop; the
    token is asked for only afterwards, so anybody could take all places. The app's
    `Limits.head_seconds` is the limit; bodies have their own. As long may a client not read what is
    ready for it. It is cut off, not asked to take the rest first: that could last for ever.
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._seconds: float = self.config.app.state.serving.limits.head_seconds  # type: ignore[union-attr]
        self._late: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """A head may be complete now."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next head."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing."""
        super().connection_lost(exc)
        self._stop_watching()
        self._unstall()

    def pause_writing(self) -> None:
        """The client doesn't read."""
        super().pause_writing()
        self._unstall()
        self._stalled = self.loop.call_later(self._seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        self._unstall()

    def _watch(self) -> None:
        """Let the time run exactly while no request is under way."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_watching()
        elif self._late is None and not self.transport.is_closing():
            self._late = self.loop.call_later(self._seconds, self.transport.abort)

    def _unstall(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _stop_watching(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
