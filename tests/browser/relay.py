"""A wire between browser and server that a test can cut: what a lost connection is to both.

Chromium's own offline switch refuses requests, but may leave an open web socket as it is.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from urllib.parse import urlsplit, urlunsplit

CHUNK = 2**16


class Relay:
    """Passes on what goes to and comes from a server on this machine, while it is whole.

    Args:
        url: Of the server; `url` of the relay leads to the same place through it.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._server = (parts.hostname, parts.port)
        self._door = socket.create_server(("127.0.0.1", 0))
        self._whole = True
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        port = self._door.getsockname()[1]
        self.url = urlunsplit(parts._replace(netloc=f"127.0.0.1:{port}"))
        threading.Thread(target=self._listen, daemon=True).start()

    def cut(self) -> None:
        """End every connection and refuse new ones."""
        with self._lock:
            self._whole = False
            for end in self._open:
                _shut(end)

    def mend(self) -> None:
        """Let new connections through."""
        with self._lock:
            self._whole = True

    def stop(self) -> None:
        """End it for good."""
        self.cut()
        _shut(self._door)
        self._door.close()

    def _listen(self) -> None:
        while True:
            try:
                browser, _ = self._door.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(browser,), daemon=True).start()

    def _serve(self, browser: socket.socket) -> None:
        with (
            browser,
            contextlib.suppress(OSError),
            socket.create_connection(self._server) as server,
        ):
            other = {browser: server, server: browser}
            with self._lock:
                if not self._whole:
                    return
                self._open |= {browser, server}
            try:
                while True:
                    for end in select.select(list(other), [], [])[0]:
                        data = end.recv(CHUNK)
                        if not data:
                            return
                        other[end].sendall(data)
            finally:
                with self._lock:
                    self._open -= {browser, server}


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
