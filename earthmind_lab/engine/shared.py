"""The shared engine: one server for all of a user's kernels that want the same model.

    load_engine("EarthMind-4B", shared=True)    starts it, or joins the one that is there

The model stays loaded when a kernel restarts, and so does what it has seen. The server ends by
itself after an hour without an ask, or by ``earthmind serve --stop``. One that is killed is
replaced by the next ask, or in the middle of one: asks are values, so the new server is asked the
same, and what was handed out before is not handed out again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from earthmind_lab import __version__
from earthmind_lab.engine.link import Link, Lost
from earthmind_lab.engine.names import state_of, text_files
from earthmind_lab.engine.remote import LOADING_SECONDS, RemoteEngine
from earthmind_lab.engine.runtime import Place, places, runtime_folder
from earthmind_lab.engine.starting import join
from earthmind_lab.errors import EngineError, EngineUnavailable, ModelNotFound
from earthmind_lab.model.files import check_folder, is_foreign, weight_files
from earthmind_lab.model.published import local_folder, row_of
from earthmind_lab.settings import Settings

STOP_SECONDS = 15.0
"""How long a server may take to end before it is killed."""
_ENGINES: dict[Path, SharedEngine] = {}
_LOADING: dict[Path, threading.Lock] = {}
_GUARD = threading.Lock()


class SharedEngine(RemoteEngine):
    """A model in the shared server of a place, as an `Engine`.

    Args:
        place: Where the server is, or will be.
        job: What it serves.

    Raises:
        EarthMindError: Why it did not start.
    """

    def __init__(self, place: Place, job: Mapping[str, Any]) -> None:
        url = f"unix://{quote(str(place.socket))}"
        super().__init__(url, way=_Joined(url, place, job, lambda: self.closed))


class _Joined(Link):
    """The line to a shared server, which is started where there is none.

    Args:
        url: Of its socket.
        place: Where it is, or will be.
        job: What it serves.
        closed: Whether it is no longer wanted.
    """

    first_tries = None

    def __init__(
        self, url: str, place: Place, job: Mapping[str, Any], closed: Callable[[], bool]
    ) -> None:
        self._place, self._job, self._closed = place, job, closed
        self._reviving = asyncio.Lock()
        # One more try: a server that is lost twice in a row is not lost by accident.
        super().__init__(
            url, join(place, job), retry_seconds=(0.0,), loading_seconds=LOADING_SECONDS
        )

    async def _refused(self, response: httpx.Response) -> None:
        """Raise why; a token that is no longer the place's is read once more by `revive`."""
        if response.status_code == httpx.codes.UNAUTHORIZED:
            raise Lost("the server has another token")
        await super()._refused(response)

    async def revive(self) -> None:
        """See that there is a server again."""
        async with self._reviving:  # all asks were lost, and one start is enough
            start = partial(join, self._place, self._job, again=True, stopped=self._closed)
            self.authorize(await _aside(start))

    def unreachable(self, found: str) -> EngineUnavailable:
        """What to say when the last try was lost, too."""
        return EngineUnavailable(
            f"The server at {self.url} can't be reached.",
            found=found,
            change="ask again; the log beside the socket says why it ended",
        )


def shared_engine(
    name: str | Path, *, revision: str | None, options: Mapping[str, Any]
) -> SharedEngine:
    """The engine of a model in the shared server; one object per process and server.

    Args:
        name: As `load_engine` takes it, but no address.
        revision: As `load_engine` takes it.
        options: What else `load_engine` takes; None = not given.

    Raises:
        EngineError: The name is an address.
        ModelNotFound: No such model, or another revision.
        EngineUnavailable: No folder for this user alone, or the server did not start.
    """
    if "://" in str(name):
        raise EngineError(
            f"{name} is a server already.", change="shared=False, which is the default"
        )
    settings, row = Settings.from_env(), row_of(str(name))
    folder = local_folder(name, revision if row else None)
    model = {"model": row.alias if row else str(folder), "revision": revision if row else None}
    chosen = {key: str(value) for key, value in options.items() if value is not None}
    chosen |= {} if "device" in chosen or not settings.device else {"device": settings.device}
    place = runtime_folder(settings) / _key(folder, {**model, **chosen, "gpus": settings.gpus})
    with _GUARD:
        lock = _LOADING.setdefault(place, threading.Lock())
    with lock:
        engine = _ENGINES.get(place)
        if engine is None or engine.closed:
            job = {
                **model,
                "options": {**options, "device": chosen.get("device")},
                "idle_seconds": settings.idle_seconds,
                "home": str(settings.home.absolute()),
            }
            engine = _ENGINES[place] = SharedEngine(Place(place), job)
    if row is None and not engine.capabilities.weight_hash.startswith((revision or "").lower()):
        raise ModelNotFound(
            f"The revision {revision!r} of {str(folder)!r} is not in this folder.",
            found=engine.revision,
            change="revision=None, or the folder of that revision",
        )
    return engine


def _key(folder: Path, chosen: Mapping[str, Any]) -> str:
    """Name of a place: equal for what may share a server.

    Raises:
        ModelNotFound: The folder is incomplete, or can't be read.
    """
    try:
        files = weight_files(folder) if is_foreign(folder) else check_folder(folder)
        about = [(str(file), *of) for file, *of in state_of([*files, *text_files(folder)])]
    except OSError as error:
        raise ModelNotFound(f"The folder {folder} can't be read.", found=str(error)) from error
    said = json.dumps([__version__, about, dict(chosen)], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


async def _aside(work: Callable[[], str]) -> str:
    """Wait for work on a thread that holds up neither the loop nor the interpreter's end."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[str] = loop.create_future()

    def settle(found: str | Exception) -> None:
        if result.done():  # nobody waits any more
            return
        if isinstance(found, Exception):
            result.set_exception(found)
        else:
            result.set_result(found)

    def run() -> None:
        found: str | Exception
        try:
            found = work()
        except Exception as error:  # noqa: BLE001  raised where it is waited for
            found = error
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, found)

    threading.Thread(target=run, name="earthmind-start", daemon=True).start()
    return await result


# --- what runs ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Running:
    """A shared server that lives."""

    place: Place
    model: str
    pid: int
    idle_seconds: float
    """Since it last had something to do."""
    memory: int | None
    """Bytes in main memory; None where the system doesn't say."""

    def __str__(self) -> str:
        size = "" if self.memory is None else f", {self.memory / 1e9:.1f} GB"
        return f"{self.model} (process {self.pid}{size}, idle for {self.idle_seconds:.0f} s)"


def running(settings: Settings | None = None) -> list[Running]:
    """The shared servers of this user on this machine.

    Raises:
        EngineUnavailable: Their folder is not this user's alone.
    """
    found = (_look(place) for place in places(settings or Settings.from_env()))
    return [each for each in found if each is not None]


def stop(settings: Settings | None = None, *, seconds: float = STOP_SECONDS) -> list[Running]:
    """End the shared servers of this user; answers under way get their grace.

    Args:
        settings: Where they are; the environment's by default.
        seconds: After which a server that has not ended is killed.

    Returns:
        Those that have ended.

    Raises:
        EngineUnavailable: Their folder is not this user's alone.
        EngineError: One did not end.
    """
    there = running(settings)
    for sign, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 5.0)):
        left = [each for each in there if _signal(each, sign)]
        until = time.monotonic() + patience
        while any(_same(each) for each in left) and time.monotonic() < until:
            time.sleep(0.05)
    stuck = [each for each in there if _same(each)]
    if stuck:
        raise EngineError("A shared server did not end.", found=", ".join(map(str, stuck)))
    return there


def _look(place: Place) -> Running | None:
    """The server of a place; None where none lives, or where it has not said yet who it is."""
    until = time.monotonic() + 2.0
    while place.alive:
        said = place.noted("server")
        if said is not None:
            pid = int(said["pid"])
            return Running(
                place=place, model=str(said["model"]), pid=pid, memory=_memory(pid),
                idle_seconds=place.idle_seconds,
            )  # fmt: skip
        if time.monotonic() > until:
            return None
        time.sleep(0.05)
    return None


def _same(server: Running) -> bool:
    """Whether a server still lives: its lock is held, and by whom it was."""
    said = server.place.noted("server") if server.place.alive else None
    return said is not None and said["pid"] == server.pid


def _signal(server: Running, sign: signal.Signals) -> bool:
    """Send a signal to a server, never to who got its number after it; whether it was there."""
    with contextlib.suppress(ProcessLookupError):
        if not hasattr(os, "pidfd_open"):  # macOS
            if _same(server):
                os.kill(server.pid, sign)
                return True
            return False
        process = os.pidfd_open(server.pid)
        try:  # the process is held: only now it is sure that its number is the server's
            if _same(server):
                signal.pidfd_send_signal(process, sign)
                return True
        finally:
            os.close(process)
    return False


def _memory(pid: int) -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    return None
