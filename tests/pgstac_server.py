"""A real STAC API for tests: stac-fastapi over pgstac on a PostgreSQL of its own with PostGIS.

Everything listens on loopback, lives in one temporary folder and is ended by its process id.
PostgreSQL doesn't run as root: then it runs as the user that its package made.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests import apt

PACKAGES = ("postgresql", "postgresql-15-postgis-3")
INSTALL = ["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES]
ROOT = os.geteuid() == 0
SECONDS = 60.0
"""For each step; they take one or two."""


class NotStarted(RuntimeError):
    """A part of the API doesn't run; the text ends with its log."""


@contextmanager
def serve_pgstac(
    collections: Sequence[Mapping[str, Any]], items: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """The address of an API that holds these items."""
    binaries = find_postgres()
    folder = Path(tempfile.mkdtemp(prefix="pgstac-"))
    try:
        if ROOT:
            shutil.chown(folder, "postgres", "postgres")
        with _postgres(binaries, folder) as env:
            for name, rows in (("collections", collections), ("items", items)):
                (folder / f"{name}.ndjson").write_text("\n".join(map(json.dumps, rows)))
            # PGHOST and its like name the database; no password in the list of processes.
            pypgstac = [sys.executable, "-m", "pypgstac.pypgstac"]
            _run([*pypgstac, "migrate"], env)
            for name in ("collections", "items"):
                _run([*pypgstac, "load", name, str(folder / f"{name}.ndjson")], env)
            with _api(folder, env) as url:
                yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def find_postgres() -> Path:
    """The folder of initdb and postgres; installs them where root may, else says how."""
    found = _installed()
    if found is None and ROOT:
        with apt.alone():
            found = _installed() or _install()
    if found is None:
        raise NotStarted(f"PostgreSQL with PostGIS is missing. Run: sudo {' '.join(INSTALL)}")
    return found


def _install() -> Path | None:
    quiet = {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}  # start no service
    subprocess.run(["apt-get", "update", "-q"], check=False, capture_output=True, timeout=300)
    _run(INSTALL, {**os.environ, **quiet}, seconds=600)
    return _installed()


def _installed() -> Path | None:
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        postgis = folder.parent / "lib" / "postgis-3.so"
        if (folder / "initdb").is_file() and postgis.is_file():
            return folder
    return None


@contextmanager
def _postgres(binaries: Path, folder: Path) -> Iterator[dict[str, str]]:
    """A database server; gives the variables that name it."""
    password = folder / "password"
    password.write_text(secrets.token_hex())
    if ROOT:
        shutil.chown(password, "postgres")
    data = folder / "data"
    _run(
        [str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "--encoding=UTF8",
         "--locale=C", "--no-sync", "--auth=scram-sha-256", f"--pwfile={password}"],
        user="postgres",
    )  # fmt: skip
    port = _free_port()
    env = {
        **os.environ, "PGUSER": "postgres", "PGPASSWORD": password.read_text(),
        "PGHOST": "127.0.0.1", "PGPORT": str(port), "PGDATABASE": "postgres",
    }  # fmt: skip
    options = {
        "listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": folder,
        "fsync": "off", "shared_buffers": "32MB", "jit": "off",
    }  # fmt: skip
    words = [str(binaries / "postgres"), "-D", str(data)]
    words += [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    ready = [str(binaries / "pg_isready"), "-q"]
    with _process(words, env, folder / "postgres.log", user="postgres") as check:
        _wait(
            lambda: subprocess.run(ready, env=env, check=False, timeout=10).returncode == 0, check
        )
        yield env


@contextmanager
def _api(folder: Path, env: dict[str, str]) -> Iterator[str]:
    port = _free_port()
    words = [sys.executable, "-m", "uvicorn", "--factory", "stac_fastapi.pgstac.app:create_app",
             "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    # From its own folder: a .env beside the tests is not its.
    with _process(words, env, folder / "api.log", cwd=folder) as check:
        _wait(lambda: _answers(f"{url}/collections"), check)
        yield url


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextmanager
def _process(
    words: list[str], env: Mapping[str, str], log: Path, user: str | None = None,
    cwd: Path | None = None,
) -> Iterator[Callable[[], None]]:  # fmt: skip
    """A server that is ended afterwards; gives a check that it still runs."""
    with log.open("wb") as stream:
        process = subprocess.Popen(
            words, env=dict(env), stdout=stream, stderr=stream, cwd=cwd or log.parent,
            user=user if ROOT else None, group=user if ROOT else None,
            extra_groups=[] if ROOT and user else None,
        )  # fmt: skip

    def check() -> None:
        if process.poll() is not None:
            raise NotStarted(f"{words[0]} ended with {process.returncode}: {_tail(log)}")

    try:
        yield check
    except BaseException as error:
        error.add_note(f"{log.name}: {_tail(log)}")
        raise
    finally:
        process.send_signal(signal.SIGINT)  # PostgreSQL: end now, not when the last client has gone
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(15)


def _wait(ready: Callable[[], bool], check: Callable[[], None]) -> None:
    end = time.monotonic() + SECONDS
    while not ready():
        check()
        if time.monotonic() > end:
            raise NotStarted(f"no answer in {SECONDS:g} seconds")
        time.sleep(0.1)


def _run(
    words: list[str], env: Mapping[str, str] | None = None, user: str | None = None,
    seconds: float = SECONDS,
) -> None:  # fmt: skip
    done = subprocess.run(
        words, env=dict(env) if env else None, capture_output=True, text=True, check=False,
        timeout=seconds, cwd="/", user=user if ROOT else None, group=user if ROOT else None,
        extra_groups=[] if ROOT and user else None,
    )  # fmt: skip
    if done.returncode:
        said = f"{done.stdout[-1000:]}{done.stderr[:1000]}…{done.stderr[-1000:]}"
        raise NotStarted(f"{' '.join(words[:4])} ended with {done.returncode}: {said}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-3000:]
