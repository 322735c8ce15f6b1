"""The app on a port or a socket, until it is stopped: ``earthmind serve``."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI

from earthmind_lab.engine.base import Engine
from earthmind_lab.errors import EarthMindError, EngineError
from earthmind_lab.server.app import create_app
from earthmind_lab.server.connections import Connection
from earthmind_lab.server.idle import Idle
from earthmind_lab.server.limits import Limits
from earthmind_lab.server.names import LOOPBACK, address_of
from earthmind_lab.server.secret import secret_file, secret_path
from earthmind_lab.server.serving import Serving
from earthmind_lab.settings import Settings

if TYPE_CHECKING:
    from earthmind_lab.engine.resident import ResidentEngine

HOST, PORT, NANO = "127.0.0.1", 8000, "nano"
GRACE_SECONDS = 5.0
"""How long answers may go on after Ctrl-C."""
MOST_CONNECTIONS = 512
CTRL_C = "Ctrl-C ends it"


class Server(uvicorn.Server):
    """uvicorn with our way of ending: answers get a grace, and nobody is killed by a signal.

    Args:
        app: Made by `create_app`.
        grace_seconds: How long answers may go on after the end was asked for.
        started: Called when connections are taken.
        idle: When to end for want of asks; default: never.
    """

    def __init__(
        self, app: FastAPI, *, grace_seconds: float = GRACE_SECONDS,
        started: Callable[[], None] = lambda: None, idle: Idle | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            uvicorn.Config(
                app, http=Connection, ws="none", loop="asyncio", lifespan="off", log_config=None,
                log_level="warning", access_log=False, server_header=False, proxy_headers=False,
                limit_concurrency=MOST_CONNECTIONS, timeout_keep_alive=30,
                timeout_graceful_shutdown=2,
            )
        )  # fmt: skip
        self._serving: Serving = app.state.serving
        self._grace_seconds, self._on_start = grace_seconds, started
        self._idle = idle or Idle()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take connections."""
        await super().startup(sockets)
        self._on_start()

    async def on_tick(self, counter: int) -> bool:
        """Several times a second: whether to end."""
        serving = self._serving
        active = serving.visited() or serving.busy or serving.state == "loading"
        if self._idle.over(active=active):
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let answers end, then end them; a second Ctrl-C doesn't wait."""
        self._serving.closing = True
        until = time.monotonic() + self._grace_seconds
        while self._serving.busy and time.monotonic() < until and not self.force_exit:
            await asyncio.sleep(0.05)
        self._serving.end()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM end `serve`, not the process: what comes after it is still done."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        ours = (signal.SIGINT, signal.SIGTERM)
        before = {each: signal.signal(each, self.handle_exit) for each in ours}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)


def serve(  # noqa: PLR0913  a door: options by name
    *, model: str | Callable[[], Engine] = NANO, host: str = HOST, port: int = PORT,
    names: Sequence[str] = (), token: str | None = None, uds: str | Path | None = None,
    open_to_all: bool = False, adapters: Sequence[str | Path] = (),
    limits: Limits | None = None, idle_seconds: float | None = None, ends: str = CTRL_C,
    beat: Callable[[bool], bool] = lambda _: True, stop: Callable[[], None] = lambda: None,
) -> None:  # fmt: skip
    """Load a model, serve it, and print where; returns after Ctrl-C, or when idle.

    Args:
        model: Name or folder of the model, as `load_engine` takes it; or what gives the engine, in
            a thread, while the server says that it loads.
        host: Address to listen on; another than loopback lets other machines in, who then need
            the token. There is no encryption: put a proxy with TLS, or a tunnel, before it.
        port: Port to listen on; 0 = any free one.
        names: Further names under which it may be asked, without port: that of a proxy before it.
        token: What clients must bring; default ``EARTHMIND_TOKEN``, else a new one, which only
            this user can read from the file that is printed.
        uds: Path of a unix socket to listen on instead, for this user only.
        open_to_all: Ask for no token; only on loopback or a socket.
        adapters: Folders of adapters to load on the model of a name or folder; clients choose them
            but can load none.
        limits: What requests and seats may take.
        idle_seconds: End after so long without a request; None = never.
        ends: What ends it, in the words that are printed.
        beat: As `Idle` takes it.
        stop: Ends a load that is still running.

    Raises:
        EarthMindError: No model, the port or socket is taken, or `open_to_all` on a network.
    """
    settings = Settings.from_env()
    if open_to_all and not (uds or host in LOOPBACK):
        raise EarthMindError(
            f"Without a token the server would answer everybody who reaches {host}.",
            change="--token or EARTHMIND_TOKEN, or --host 127.0.0.1",
        )
    # Blanks around a header's value are no part of it.
    given = None if open_to_all else (token or settings.token or "").strip()
    made = None if open_to_all or given else secrets.token_urlsafe(24)
    app = create_app(None, token=given or made, host=host, names=names, limits=limits)
    listening = _listen(host, port, uds)
    bound = _identity(Path(uds)) if uds else None
    address = address_of(listening, host)
    note = secret_path(settings, address)
    where = "no token asked for" if open_to_all else "token in EARTHMIND_TOKEN or as given"
    where = f"token in {note}" if made else where
    load = partial(_load_here, model, adapters) if isinstance(model, str) else model
    loader = _Loader(load, app.state.serving)
    try:
        loader.told = f"EarthMind serves {{}} at {address} ({where}; {ends})"
        idle = Idle(idle_seconds, beat=beat)
        server = Server(app, started=lambda: loader.start(server), idle=idle)
        with secret_file(note, made) if made else nullcontext():
            asyncio.run(server.serve(sockets=[listening]))
    except KeyboardInterrupt:
        pass  # Ctrl-C before uvicorn listens to it ends in the same way
    finally:
        listening.close()
        stop()
        loader.close()
        if uds:
            with suppress(OSError):
                # Freeing the model takes a while, and the next server may be there already.
                if _identity(Path(uds)) == bound:
                    Path(uds).unlink()
    if loader.error is not None:
        raise loader.error


class _Loader:
    """Loads the model while the server already says that it does.

    Args:
        load: Gives the engine.
        serving: Who gets it.
    """

    def __init__(self, load: Callable[[], Engine], serving: Serving) -> None:
        self.error: Exception | None = None
        self.told = ""
        self._get, self._serving = load, serving
        self._engine: Engine | None = None
        self._closed = False
        # A daemon: whoever stops the server during a long load doesn't wait for it.
        self._thread: threading.Thread | None = None

    def start(self, server: Server) -> None:
        """Begin; if it fails, the server ends."""
        self._thread = threading.Thread(target=self._load, args=(server,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Free the device."""
        self._closed = True
        if self._thread is not None:
            self._thread.join(GRACE_SECONDS)
        if self._engine is not None:
            self._engine.close()

    def _load(self, server: Server) -> None:
        try:
            engine = self._get()
        except Exception as error:  # noqa: BLE001  raised again by serve
            self.error = None if server.should_exit else error  # then it was told to stop
            server.should_exit = True
            return
        self._engine = engine
        self._serving.ready(engine)
        if not self._closed:
            print(self.told.format(engine.name), flush=True)  # noqa: T201


def _load_here(model: str, adapters: Sequence[str | Path]) -> Engine:
    from earthmind_lab.engine.loading import load_engine

    engine = load_engine(model)
    try:
        for folder in adapters:
            _resident(engine).load_adapter(folder)
    except BaseException:
        engine.close()
        raise
    return engine


def _resident(engine: Engine) -> ResidentEngine:
    """An engine of this process.

    Raises:
        EngineError: It is one behind a wire, over which no adapters are loaded.
    """
    from earthmind_lab.engine.resident import ResidentEngine

    if isinstance(engine, ResidentEngine):
        return engine
    raise EngineError(
        f"No adapters can be loaded on {engine.name} from here.",
        found="it runs in another server",
        change="--adapter where that server is started",
    )


def _listen(host: str, port: int, uds: str | Path | None) -> socket.socket:
    """A bound socket.

    Raises:
        EarthMindError: It is taken, or no such address.
    """
    try:
        if uds is not None:
            return _listen_on_socket(Path(uds))
        _check_port(port)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family)
        # Taken over by each connection: head and body of a reply are two writes, and the second
        # would wait 40 ms for the receipt of the first.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except OSError as error:
        raise EarthMindError(
            f"The model can't be served at {uds or f'{host}:{port}'}.",
            found=str(error),
            change="another --uds" if uds else "another --port, or --host of this machine",
        ) from error


def _check_port(port: int) -> None:
    if not 0 <= port < 65_536:  # Python leaves a socket behind when it finds out itself
        raise OSError("ports go from 0 to 65535")


def _identity(path: Path) -> tuple[int, int, int]:
    """Which file that is; the number alone may be given to the next one."""
    about = path.lstat()
    return about.st_dev, about.st_ino, about.st_mtime_ns


def _listen_on_socket(path: Path) -> socket.socket:
    """A unix socket that only this user can open; one that nobody listens on is replaced."""
    with socket.socket(socket.AF_UNIX) as probe, suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError("there is a file of that name")
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise OSError("another server listens there")
    listening = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        listening.bind(str(path))
    finally:
        os.umask(before)
    listening.listen()
    return listening
