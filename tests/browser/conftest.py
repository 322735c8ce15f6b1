"""The ground for browser tests: Debian's Chromium, servers in processes of their own, and pages
that fail when anything leaves the machine.

    server = serve(command)             a process; server.url, server.wait_for("a line")
    visitor = visit(url)                a browser of its own: visitor.page, visitor.requests
    visitor = stay(url)                 the same, for all tests of a file
    notebook                            a map of its own in the page that the file's tests share

Screenshots (`visitor.shot("name")`, `notebook.shot("name")`) and a sheet of all of them go to the
folder in EARTHMIND_SHOTS, by default to the run's temporary one.
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
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect, sync_playwright

from tests import apt
from tests.browser.relay import Relay
from tests.browser.shots import Shots
from tests.conftest import is_local

if TYPE_CHECKING:
    from tests.browser.lab_server import Lab
    from tests.browser.lab_side import Notebook

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
    """One person's browser, seen through one of its pages."""

    context: BrowserContext
    page: Page
    shots: Shots
    allowed: Sequence[str] = ()
    """Patterns of console errors that are not ours (a host application's)."""
    requests: list[Request] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    """Requests that would leave the machine."""
    errors: list[str] = field(default_factory=list)
    """Errors of the pages' own code, and what they wrote to the console as an error."""

    def tab(self, url: str) -> Visitor:
        """The same person at another page of the same browser."""
        visitor = replace(self, page=self.context.new_page())
        visitor.listen()
        visitor.page.goto(url)
        return visitor

    def shot(self, name: str) -> Path:
        """A picture of the whole page."""
        return self.shots.take(name, self.page, full_page=True)

    def forgive(self, *patterns: str) -> None:
        """Forget the console errors so far that a test has provoked."""
        self.errors[:] = [e for e in self.errors if not any(re.search(p, e) for p in patterns)]

    def check(self) -> None:
        """Fail on anything that left the machine or went wrong since the last check."""
        outside, errors = list(self.outside), list(self.errors)
        self.outside.clear()
        self.errors.clear()
        assert not outside, f"left the machine: {outside}"
        errors = [e for e in errors if not any(re.search(known, e) for known in self.allowed)]
        assert not errors, f"errors in the browser: {errors}"

    def listen(self) -> None:
        """Hear what the page asks for and complains about."""

        def asked(request: Request) -> None:
            self.requests.append(request)
            address = urlsplit(request.url)
            if address.scheme not in INSIDE and not is_local(address.hostname):
                self.outside.append(request.url)

        def said(message: Any) -> None:
            if message.type == "error":
                self.errors.append(f"{message.text} ({message.location.get('url', '')})")

        self.page.on("request", asked)
        # Web sockets are no requests.
        self.page.on("websocket", lambda ws: None if is_local(urlsplit(ws.url).hostname)
                     else self.outside.append(ws.url))  # fmt: skip
        self.page.on("console", said)
        self.page.on("pageerror", lambda error: self.errors.append(error.stack or str(error)))


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


@pytest.fixture(scope="session")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shots]:
    """Where pictures go; the sheet of all is made when the process has run its tests."""
    folder = os.environ.get("EARTHMIND_SHOTS") or tmp_path_factory.getbasetemp() / "shots"
    shots = Shots(Path(folder))
    yield shots
    shots.sheet()


@contextmanager
def visits(browser: Browser, shots: Shots) -> Iterator[Callable[..., Visitor]]:
    """Browsers that are closed, and checked, in the end."""
    came: list[Visitor] = []

    def visit(
        url: str, *, allowed: Sequence[str] = (), width: int = 1360, height: int = 1000
    ) -> Visitor:
        context = browser.new_context(
            viewport={"width": width, "height": height}, accept_downloads=True
        )
        context.set_default_timeout(1000 * PAGE_SECONDS)
        visitor = Visitor(context=context, page=context.new_page(), shots=shots, allowed=allowed)
        visitor.listen()
        came.append(visitor)
        visitor.page.goto(url)
        return visitor

    yield visit
    for visitor in came:
        visitor.context.close()
    for visitor in came:
        visitor.check()


@pytest.fixture
def visit(browser: Browser, shots: Shots) -> Iterator[Callable[..., Visitor]]:
    """`visit(url)`: a person with a browser of their own; checked when the test ends.

    ``allowed=`` takes patterns of console errors that belong to a host application.
    """
    with visits(browser, shots) as visit:
        yield visit


@pytest.fixture(scope="module")
def stay(browser: Browser, shots: Shots) -> Iterator[Callable[..., Visitor]]:
    """`visit`, for a page that all tests of a module use."""
    with visits(browser, shots) as visit:
        yield visit


@pytest.fixture(scope="module")
def opened(lab: Lab, stay: Callable[..., Visitor]) -> Notebook:
    """The notebook of the module's `lab`, in one browser for all of its tests."""
    from tests.browser.lab_side import Notebook

    return Notebook.open(lab, stay)


@pytest.fixture
def notebook(opened: Notebook) -> Iterator[Notebook]:
    """A new map with an empty session of its own, in the page that is open."""
    opened.fresh()
    yield opened
    opened.visitor.check()


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


@pytest.fixture(scope="module")
def relay() -> Iterator[Callable[[str], Relay]]:
    """`relay(url)`: a wire to a server that can be cut."""
    laid: list[Relay] = []

    def relay(url: str) -> Relay:
        laid.append(Relay(url))
        return laid[-1]

    yield relay
    for each in laid:
        each.stop()


@pytest.fixture(scope="session")
def python() -> str:
    return sys.executable
