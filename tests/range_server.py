"""An HTTP server of files on loopback: ranges, versions, and faults on demand."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FAULTS = ("429", "500", "reset", "stall", "drip", "truncated", "expired", "redirect")


@dataclass
class RangeServer:
    """Files of a folder, and what was asked for them."""

    folder: Path
    fault: Callable[[str, int], str | None] = lambda _path, _number: None
    """(path, number of the request) to one of `FAULTS`, or None to serve it."""
    delay: float = 0.0
    """Seconds before every answer."""
    ranges: bool = True
    """False: a server that sends whole files whatever is asked."""
    stalled: float = 30.0
    """Seconds that a stall lasts."""
    requests: list[str] = field(default_factory=list)
    """Paths with queries in order of arrival."""
    seen: Counter[str] = field(default_factory=Counter)
    """Requests per path."""
    together: int = 0
    """So many requests wait for each other before any is answered, for five seconds at most."""
    url: str = ""
    """``http://127.0.0.1:port``."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    serving: int = 0
    most_at_once: int = 0
    """Greatest number of requests that were open together."""
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def place(self) -> str:
        """``host:port`` for EARTHMIND_HOSTS."""
        return self.url.removeprefix("http://")

    def href(self, path: Path) -> str:
        """The address of a file in the folder."""
        return f"{self.url}/{path.relative_to(self.folder).as_posix()}"


@contextmanager
def serve(folder: Path, **options: object) -> Iterator[RangeServer]:
    """Start a server on a free port; it is gone afterwards."""
    state = RangeServer(folder=folder, **options)  # type: ignore[arg-type]
    server = _Quiet(("127.0.0.1", 0), _handler(state))
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, *_args: object) -> None:
        """Clients leave early: that is what the faults are for."""


def _handler(state: RangeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else a header waits 40 ms for its body's company

        def log_message(self, *_args: object) -> None:
            pass

        def do_GET(self) -> None:
            with state.lock:
                state.serving += 1
                state.most_at_once = max(state.most_at_once, state.serving)
            try:
                self._get()
            finally:
                with state.lock:
                    state.serving -= 1

        def _get(self) -> None:
            path = self.path.partition("?")[0]
            with state.lock:
                state.requests.append(self.path)
                state.seen[path] += 1
                number = len(state.requests)
            if state.delay:
                time.sleep(state.delay)
            until = time.monotonic() + 5
            while state.most_at_once < state.together and time.monotonic() < until:
                time.sleep(0.005)
            fault = state.fault(self.path, number)
            if fault in ("429", "500", "expired", "redirect"):
                return self._status(fault)
            if fault == "reset":
                self.close_connection = True
                self.connection.shutdown(2)
                return None
            if fault == "stall":
                state.closing.wait(state.stalled)
                self.close_connection = True
                return None
            return self._file(path, fault)

        def do_HEAD(self) -> None:
            self.do_GET()

        def _status(self, fault: str) -> None:
            code = {"429": 429, "500": 500, "expired": 403, "redirect": 302}[fault]
            self.send_response(code)
            if fault == "429":
                self.send_header("Retry-After", "0")
            if fault == "redirect":
                self.send_header("Location", "http://127.0.0.1:1/elsewhere.tif")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _file(self, path: str, fault: str | None) -> None:
            file = (state.folder / path.lstrip("/")).resolve()
            if not file.is_file() or state.folder.resolve() not in file.parents:
                return self._empty(404)
            about = file.stat()
            size = about.st_size
            tag = f'"{about.st_mtime_ns:x}-{size:x}"'  # as real servers make them
            if self.headers.get("If-Match", tag) != tag:
                return self._empty(412)
            span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if span and state.ranges:
                first, last = int(span[1]), min(int(span[2]), size - 1)
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
            else:
                first, last = 0, size - 1
                self.send_response(200)
            with file.open("rb") as opened:
                opened.seek(first)
                part = opened.read(last + 1 - first)
            self.send_header("ETag", tag)
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            return self._send(part, fault)

        def _send(self, part: bytes, fault: str | None) -> None:
            if self.command == "HEAD":
                return
            if fault == "truncated":
                self.wfile.write(part[: len(part) // 2])
                self.close_connection = True
            elif fault == "drip":
                for byte in part:
                    if state.closing.wait(0.05):
                        break
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                self.close_connection = True
            else:
                self.wfile.write(part)

        def _empty(self, code: int) -> None:
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()

    return Handler


if __name__ == "__main__":
    # A folder and a delay in seconds: prints the address and serves until it is stopped.
    import sys

    with serve(Path(sys.argv[1]), delay=float(sys.argv[2])) as running:
        sys.stdout.write(f"{running.url}\n")
        sys.stdout.flush()
        threading.Event().wait()
