"""urllib3's connections with three things added.

The address that they reach is judged before anything is sent, `Budget.cancel` hangs them up, and
headers that drip in byte by byte end in time.
"""

from __future__ import annotations

import http.client
import io
import math
import socket
import time
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from earthmind_lab.data.access import Access
from earthmind_lab.data.budget import waiting


class _Timely(io.RawIOBase):
    """Bytes of a socket until an instant: its own limit starts anew with every byte."""

    def __init__(self, raw: io.RawIOBase, due: float) -> None:
        super().__init__()
        self._raw = raw
        self.due: float | None = due

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        if self.due is not None and time.monotonic() > self.due:
            raise TimeoutError
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Headed(http.client.HTTPResponse):
    """An answer whose headers, too, must all come within the patience for one read."""

    def __init__(self, sock: socket.socket, *args: Any, **more: Any) -> None:
        super().__init__(sock, *args, **more)
        self._patience = sock.gettimeout()

    def begin(self) -> None:
        due = time.monotonic() + (self._patience or math.inf)
        raw = _Timely(self.fp.detach(), due)
        self.fp = io.BufferedReader(raw)
        super().begin()
        raw.due = None  # the body is watched by its reader


def checked_pools(access: Access) -> dict[str, Any]:
    """Connection classes that look at the address they reached before anything is sent."""

    def check(host: str, port: int | None, made: socket.socket) -> socket.socket:
        try:
            access.check_peer(f"{host.lower().rstrip('.')}:{port}", made.getpeername()[0])
        except BaseException:
            made.close()
            raise
        return made

    def watch(connection: socket.socket | None) -> None:
        if waiting.budget is not None and connection is not None:
            waiting.budget.watch(connection)

    class Plain(HTTPConnection):
        response_class = _Headed

        def _new_conn(self) -> socket.socket:
            return check(self.host, self.port, super()._new_conn())

        def getresponse(self) -> Any:
            watch(self.sock)
            return super().getresponse()

    class Secure(Plain, HTTPSConnection):
        """The same over TLS: what `Plain` calls above itself is `HTTPSConnection` here."""

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}
