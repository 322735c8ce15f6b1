"""A reply that is written while it is being made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

STALLED_SECONDS = 60.0
"""How long a client may take nothing of what is written to it."""


class Flow(Response):
    """A body of chunks; whoever makes them watches for the client's leaving.

    Args:
        chunks: An async generator; it is closed in any case.
        media_type: Of the body.
        headers: Further ones.
    """

    def __init__(
        self, chunks: AsyncGenerator[bytes, None], *, media_type: str, headers: Mapping[str, str]
    ) -> None:
        super().__init__(None, 200, headers, media_type)
        self._chunks = chunks
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Write it; a client that takes nothing for a while is given up."""
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        async with aclosing(self._chunks) as chunks:
            await send(start)
            async for chunk in chunks:
                try:
                    async with asyncio.timeout(STALLED_SECONDS):
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
                except TimeoutError:
                    return
        await send({"type": "http.response.body", "body": b"", "more_body": False})
