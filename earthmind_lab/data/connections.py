"""urllib3's connections with four things added.

The address that they reach is judged before anything is sent, `Budget.cancel` hangs them up, and
looking up a name and headers that drip in byte by byte end in time.
"""

from __future__ import annotations

import http.client
import io
import math
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Thread
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError

from earthmind_lab.data.access import Access
from earthmind_lab.data.budget import waiting

LOOK_S = 0.05
"""So often a wait for a connection looks whether the user has stopped it."""


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


def _in_time(connect: Callable[[], socket.socket], seconds: float | None) -> socket.socket:
    """A connection made by a thread that can be left behind: no look-up of a name has a limit.

    Args:
        connect: Looks up the name and tries its addresses, each with its own limit.
        seconds: For all of it; None = however long it takes.

    Raises:
        Cancelled: The budget of this thread's request was cancelled.
        ConnectTimeoutError: It takes longer.
        WebError: The time of that budget is over.
    """
    made: Future[socket.socket] = Future()

    def run() -> None:
        try:
            connection = connect()
        except BaseException as error:  # noqa: BLE001  for the thread that waits
            if made.set_running_or_notify_cancel():
                made.set_exception(error)
        else:
            if made.set_running_or_notify_cancel():
                made.set_result(connection)
            else:
                connection.close()

    Thread(target=run, name="connect", daemon=True).start()
    due = time.monotonic() + (math.inf if seconds is None else seconds)
    try:
        while not wait([made], LOOK_S).done and time.monotonic() < due:
            if waiting.budget is not None:
                waiting.budget.check()
    except BaseException:
        if not made.cancel() and not made.exception():  # it came at the last moment
            made.result().close()
        raise
    if made.cancel():
        raise ConnectTimeoutError(f"no connection after {seconds} seconds")
    return made.result()


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
            made = _in_time(super()._new_conn, self.timeout)
            return check(self.host, self.port, made)

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
