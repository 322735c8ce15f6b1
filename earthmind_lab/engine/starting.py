"""Find the shared server of a place, or start it: however many try at once, one server comes of it.

The one who gets the place's lock starts a server, which keeps the lock; everybody else sees it held
and waits with the starter until the server is ready. Where the lock comes free meanwhile, that
server has died: whoever gets it then starts another one, once.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import logging
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import earthmind_lab
from earthmind_lab.engine import wire
from earthmind_lab.engine.runtime import Place, remove_old
from earthmind_lab.errors import EarthMindError, EngineUnavailable
from earthmind_lab.progress import bar

LOG = logging.getLogger(__name__)
START_SECONDS = 600.0
"""How long a model may take to load."""
HEALTH_SECONDS = 5.0
LOSSES = 2
"""Servers that may die before they are ready, one after the other."""
_ROOT = Path(earthmind_lab.__file__).resolve().parents[1]
# The server is nobody's child: no notebook has to wait for it, none takes it along.
_DETACHED = (
    "import os\nif os.fork():\n    os._exit(0)\n"
    "from earthmind_lab.server.shared import main\nmain()"
)
_SAID = re.compile(r"\S+ \S+ (INFO|WARNING|ERROR) (.*)")


def join(
    place: Place,
    job: Mapping[str, Any],
    *,
    again: bool = False,
    stopped: Callable[[], bool] = lambda: False,
    limit: float = START_SECONDS,
) -> str:
    """Wait for the server of a place, started where there is none.

    Args:
        place: Where.
        job: What it is to serve, plain data: `model`, `options`, `idle_seconds`.
        again: There was one before, so a fresh start is said aloud.
        stopped: Whether nobody waits any more.
        limit: Seconds to wait.

    Returns:
        Its token.

    Raises:
        EarthMindError: Why it could not start, as the server said it.
        EngineUnavailable: It died, or was not ready in time; tells the last lines of its log.
    """
    place.prepare()
    try:
        return _join(place, job, again=again, stopped=stopped, limit=limit)
    except (OSError, subprocess.SubprocessError) as error:  # a full disk, no more processes, …
        raise _unready(place, f"{type(error).__name__}: {error}") from error


def _join(
    place: Place, job: Mapping[str, Any], *, again: bool, stopped: Callable[[], bool], limit: float
) -> str:
    """The same; also raises what the system says."""
    until, waited, losses = time.monotonic() + limit, False, 0
    with _Waiting(place, str(job["model"])) as waiting:
        while True:
            lock = place.take()
            if lock is not None:
                try:
                    if waited:
                        losses += 1
                        _check_lost(place, losses)
                    _start(place, job, lock, loud=again or losses > 0)
                finally:
                    os.close(lock)
            elif health(place) == "ready":
                return place.secret()
            waited = True
            if time.monotonic() > until:
                raise _unready(place, f"not ready within {limit:g} s")
            if stopped():
                raise EngineUnavailable("This engine is closed.", change="load_engine() once more")
            waiting.look()
            time.sleep(0.05)


def health(place: Place) -> str | None:
    """What the server says of itself: loading, ready or closing; None where nobody answers."""
    asking = http.client.HTTPConnection("localhost", timeout=HEALTH_SECONDS)
    try:
        asking.sock = socket.socket(socket.AF_UNIX)
        asking.sock.settimeout(HEALTH_SECONDS)
        asking.sock.connect(str(place.socket))
        asking.request("GET", "/health", headers={"Connection": "close"})
        said = json.loads(asking.getresponse().read(1024))
        return str(said["status"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return None
    finally:
        asking.close()


def check_libraries() -> None:
    """See that a server can run here.

    Raises:
        EngineUnavailable: What is not installed.
    """
    needed = ("fastapi", "uvicorn", "prometheus_client")
    lacking = [each for each in needed if not importlib.util.find_spec(each)]
    if lacking:
        raise EngineUnavailable(
            "A server needs libraries that are not installed.",
            found=f"no {', '.join(lacking)}",
            change="pip install 'earthmind_lab[serve]'",
        )


def _start(place: Place, job: Mapping[str, Any], lock: int, *, loud: bool) -> None:
    """Start a server that keeps the lock."""
    check_libraries()
    level = logging.WARNING if loud else logging.INFO
    how = "has ended; it is started again" if loud else "is started"
    name = Path(job["model"]).name
    LOG.log(level, "The shared server of %s %s (log: %s)", name, how, place.log)
    remove_old(place.folder.parent)
    place.forget("server", "failed")
    place.make_secret()
    place.note("job", dict(job))
    if place.log.exists():
        place.log.replace(place.log.with_name("log.old"))
    # Its working folder is where this very package is imported from, and never the notebook's.
    log = os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
    try:
        starter = subprocess.Popen(  # noqa: S603  our own interpreter and words
            [sys.executable, "-c", _DETACHED, str(place.folder), str(lock)],
            cwd=_ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(lock,),
            start_new_session=True, umask=0o077,
        )  # fmt: skip
    finally:
        os.close(log)
    starter.wait(60)


def _check_lost(place: Place, losses: int) -> None:
    """A server died before it was ready; the lock is ours.

    Raises:
        EarthMindError: It said why, or it is not the first one.
    """
    failed = place.noted("failed")
    if failed is not None:
        try:
            error: EarthMindError = wire.error_from_dict(failed)
        except ValueError:
            error = _unready(place, "it ended")
        error.add_note(f"The last lines of {place.log}:\n{place.last_lines()}")
        raise error
    if losses >= LOSSES:
        raise _unready(place, "it ended")


def _unready(place: Place, why: str) -> EngineUnavailable:
    return EngineUnavailable(
        "The shared server did not start.",
        found=f"{why}; the last lines of {place.log}: {place.last_lines() or 'none'}",
        change="shared=False, or earthmind serve --stop and once more",
    )


class _Waiting:
    """Shows a wait: a bar with seconds, and what the engine says in the server about its loading.

    Args:
        place: Of the server.
        name: What is waited for.
    """

    def __init__(self, place: Place, name: str) -> None:
        self._place, self._read, self._inode = place, 0, -1
        self._began = time.monotonic()
        self._bar = bar(None, unit=" s", desc=f"starting {Path(name).name}", delay=1.0)

    def __enter__(self) -> _Waiting:
        return self

    def __exit__(self, *_: object) -> None:
        if self._inode >= 0:
            self._tell()  # what came in between
        self._bar.close()

    def look(self) -> None:
        """Show what is new."""
        self._bar.update(round(time.monotonic() - self._began) - self._bar.n)
        self._tell()

    def _tell(self) -> None:
        try:
            with self._place.log.open("rb") as file:
                about = os.fstat(file.fileno())
                if about.st_ino != self._inode:
                    self._inode, self._read = about.st_ino, 0
                file.seek(self._read)
                new = file.read(1 << 16)
        except OSError:
            return
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            if said := _SAID.fullmatch(line):
                LOG.log(logging.getLevelNamesMapping()[said[1]], "%s", said[2])
