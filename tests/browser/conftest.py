"""The ground for browser tests: Debian's Chromium, servers in processes of their own, and pages
that fail when anything leaves the machine.

    server = serve(command)             a process; server.url, server.wait_for("a line")
    visitor = visit(url)                a browser of its own: visitor.page, visitor.requests

Screenshots (`visitor.shot("name")`) go to the folder in EARTHMIND_SHOTS, by default to the test's
temporary one.
"""

from __future__ import annotations

import os
import queue
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect, sync_playwright

from tests import apt
from tests.conftest import is_local

ROOT = Path(__file__).parents[2]
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()
INSTALL = "apt-get install --yes --no-install-recommends chromium fonts-dejavu-core"
START_SECONDS = 120.0
"""For a server to say where it listens, on a busy machine."""
PAGE_SECONDS = 60.0
"""For a page to show what is waited for; beside other work two cores are slow."""
INSIDE = ("data", "blob", "about", "chrome", "devtools", "chrome-extension")
"""Schemes that never leave the browser."""


class Server:
    """A process that serves until it is ended by its pid.

    Args:
        command: What to run in the repository's root.
        ready: A line of its output that says it listens; its first group is the address.
        env: Further environment variables.
    """

    def __init__(self, command: Sequence[str], ready: str, env: Mapping[str, str]) -> None:
        self.lines: list[str] = []
        self._new: queue.Queue[str | None] = queue.Queue()
        self._process = subprocess.Popen(
            list(command), cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": "1", **env}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        threading.Thread(target=self._read, daemon=True).start()
        self.url = self.wait_for(ready, START_SECONDS).group(1).rstrip("/")

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_for(self, pattern: str, timeout: float = 30.0) -> re.Match[str]:
        """The first line from now on that matches; fails with all it said when none comes."""
        while True:
            try:
                line = self._new.get(timeout=timeout)
            except queue.Empty:
                line = None
            if line is None:
                said = "\n".join(self.lines)
                pytest.fail(f"The server never said {pattern!r}. It said:\n{said}")
            found = re.search(pattern, line)
            if found:
                return found

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                self.lines.append(line.rstrip())
                self._new.put(line)
        self._new.put(None)


@dataclass
class Visitor:
    """One person's browser, with one page."""

    context: BrowserContext
    page: Page
    shots: Path
    requests: list[Request] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    """Requests that would leave the machine."""
    errors: list[str] = field(default_factory=list)
    """Errors of the page's own code, and what it wrote to the console as an error."""

    def shot(self, name: str) -> Path:
        """A picture of the whole page."""
        path = self.shots / f"{name}.png"
        self.page.screenshot(path=path, full_page=True)
        return path

    def check(self, allowed: Sequence[str] = ()) -> None:
        """Fail on anything that left the machine or went wrong.

        Args:
            allowed: Patterns of console errors that are not ours (a host application's).
        """
        assert not self.outside, f"left the machine: {self.outside}"
        errors = [e for e in self.errors if not any(re.search(known, e) for known in allowed)]
        assert not errors, f"errors in the browser: {errors}"

    def _listen(self) -> None:
        def asked(request: Request) -> None:
            self.requests.append(request)
            address = urlsplit(request.url)
            if address.scheme not in INSIDE and not is_local(address.hostname):
                self.outside.append(request.url)

        def said(message: Any) -> None:
            if message.type == "error":
                self.errors.append(f"{message.text} ({message.location.get('url', '')})")

        self.context.on("request", asked)
        # Web sockets are no requests to the context.
        self.page.on("websocket", lambda ws: None if is_local(urlsplit(ws.url).hostname)
                     else self.outside.append(ws.url))  # fmt: skip
        self.page.on("console", said)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def chromium() -> str:
    """Debian's Chromium; installed where it lacks and the user is root."""
    found = shutil.which("chromium")
    if found is None and hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get"):
        with apt.alone():
            found = shutil.which("chromium") or _install()
    if found is None:
        pytest.fail(f"Chromium is missing. Run as root: {INSTALL}")
    return found


def _install() -> str | None:
    for command in ("apt-get update", INSTALL):
        run = subprocess.run(command.split(), capture_output=True, text=True, check=False)
        if run.returncode:
            pytest.fail(f"{command}\n{run.stdout}{run.stderr}")
    return shutil.which("chromium")


# Per module: while Playwright runs, its event loop is the thread's, and no other test may use
# asyncio.
@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    expect.set_options(timeout=1000 * PAGE_SECONDS)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def visit(
    browser: Browser, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Visitor]]:
    """`visit(url)`: a person with a browser of their own; checked when the test ends.

    ``allowed=`` takes patterns of console errors that belong to a host application.
    """
    shots = Path(os.environ.get("EARTHMIND_SHOTS") or tmp_path)
    shots.mkdir(parents=True, exist_ok=True)
    came: list[tuple[Visitor, Sequence[str]]] = []

    def visit(
        url: str, *, allowed: Sequence[str] = (), width: int = 1360, height: int = 1000
    ) -> Visitor:
        context = browser.new_context(
            viewport={"width": width, "height": height}, accept_downloads=True
        )
        context.set_default_timeout(1000 * PAGE_SECONDS)
        visitor = Visitor(context=context, page=context.new_page(), shots=shots)
        visitor._listen()
        came.append((visitor, allowed))
        visitor.page.goto(url)
        return visitor

    yield visit
    for visitor, _ in came:
        visitor.context.close()
    for visitor, allowed in came:
        visitor.check(allowed)


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[..., Server]]:
    """`serve(command)`: a server that ends with the module's tests."""
    running: list[Server] = []

    def serve(
        command: Sequence[str], *, ready: str = r"(http://127\.0\.0\.1:\d+\S*)",
        env: Mapping[str, str] | None = None,
    ) -> Server:  # fmt: skip
        server = Server(command, ready, env or {})
        running.append(server)
        return server

    yield serve
    for server in running:
        server.stop()


@pytest.fixture(scope="session")
def python() -> str:
    return sys.executable
