"""urllib3's connections with four things added.

The address that they reach is judged before anything is sent, `Budget.cancel` hangs them up, and
look-ups of names that nobody answers and headers that drip in byte by byte end in time.
"""

from __future__ import annotations

import http.client
import io
import math
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError

from earthmind_lab.data.access import Access
from earthmind_lab.data.budget import waiting

LISTEN_S = 0.1
"""How often who waits for a connection asks whether to go on."""


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


def in_time(connect: Callable[[], socket.socket], seconds: float) -> socket.socket:
    """A connection, or an error in time.

    The system looks names up for as long as it likes and can't be stopped, and each of the
    addresses that it finds is given the whole patience.

    Args:
        connect: Makes it, in a thread that is left behind when it takes too long.
        seconds: It may take.

    Raises:
        Cancelled: The budget of this thread's request was cancelled.
        ConnectTimeoutError: It takes longer.
        WebError: The budget's time is over.
    """
    made: Future[socket.socket] = Future()

    def run() -> None:
        try:
            made.set_result(connect())
        except BaseException as error:  # noqa: BLE001 - raised by who waits
            made.set_exception(error)

    threading.Thread(target=run, daemon=True, name="earthmind-connect").start()
    due = time.monotonic() + seconds
    try:
        while not wait([made], LISTEN_S).done and time.monotonic() < due:
            if waiting.budget is not None:
                waiting.budget.check()
    except BaseException:
        made.add_done_callback(_hang_up)
        raise
    if made.done():
        return made.result()
    made.add_done_callback(_hang_up)
    raise ConnectTimeoutError(f"no connection within {seconds:g} seconds")


def _seconds(timeout: Any) -> float:
    """A connection's patience; the pool of a client of ours always has one."""
    return float(timeout) if isinstance(timeout, int | float) else math.inf


def _hang_up(made: Future[socket.socket]) -> None:
    """A connection that nobody waits for any more."""
    if made.exception() is None:
        made.result().close()


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
            made = in_time(super()._new_conn, _seconds(self.timeout))
            return check(self.host, self.port, made)

        def getresponse(self) -> Any:
            watch(self.sock)
            return super().getresponse()

    class Secure(HTTPSConnection):
        response_class = _Headed

        def _new_conn(self) -> socket.socket:
            made = in_time(super()._new_conn, _seconds(self.timeout))
            return check(self.host, self.port, made)

        def getresponse(self) -> Any:
            watch(self.sock)
            return super().getresponse()

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}
