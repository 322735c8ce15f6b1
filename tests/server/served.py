"""A real server on loopback, in a thread of this process, ended by its own flag."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from earthmind_lab.engine.base import Engine
from earthmind_lab.server.app import create_app
from earthmind_lab.server.run import Server, _listen
from earthmind_lab.server.serving import Limits, Serving

TOKEN = "a token of the tests"


@dataclass
class Served:
    url: str
    server: Server
    thread: threading.Thread
    serving: Serving

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()

    def client(self, **more: Any) -> httpx.Client:
        headers = {"authorization": f"Bearer {TOKEN}", **more.pop("headers", {})}
        return httpx.Client(base_url=self.url, headers=headers, timeout=20, trust_env=False, **more)


@contextmanager
def served(
    engine: Engine | None,
    *,
    token: str | None = TOKEN,
    port: int = 0,
    limits: Limits | None = None,
    uds: str | None = None,
    grace: float = 0.2,
) -> Iterator[Served]:
    app = create_app(engine, token=token, limits=limits)
    listening = _listen("127.0.0.1", port, uds)
    started = threading.Event()
    server = Server(app, grace_seconds=grace, started=started.set)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])))
    thread.start()
    assert started.wait(10)
    url = f"unix://{uds}" if uds else f"http://127.0.0.1:{listening.getsockname()[1]}"
    found = Served(url, server, thread, app.state.serving)
    try:
        yield found
    finally:
        found.stop()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
