"""A reply that is written while it is being made."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send


class Flow(Response):
    """A body of chunks; whoever makes them watches for the client's leaving.

    A client that does not read loses its connection (`connections`), and has left.

    Args:
        within: Entered before the first chunk is asked for, and left in any case.
        chunks: An async generator; it is closed in any case.
        media_type: Of the body.
        headers: Further ones.
    """

    def __init__(
        self, within: AbstractAsyncContextManager[object], chunks: AsyncGenerator[bytes, None], *,
        media_type: str, headers: Mapping[str, str],
    ) -> None:  # fmt: skip
        super().__init__(None, 200, headers, media_type)
        self._within, self._chunks = within, chunks
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Write it."""
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        async with self._within, aclosing(self._chunks) as chunks:
            await send(start)
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
