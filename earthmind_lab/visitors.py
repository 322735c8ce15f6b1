"""Who is who on a web page that many open at once: one session each, and nobody reaches another's.

A page names itself with every request (its *hash*, made by the page's own script); a cookie that
scripts can't read names the browser. The first browser that uses a hash owns it; to any other
the hash does not exist. Files are never served at all: the page gets its pictures inside its own
messages.

>>> visitors = Visitors(dict)
>>> visitors.owns("page", "ann"), visitors.owns("page", "bob")
(True, False)
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie
from typing import Any, Generic, TypeAlias, TypeVar
from urllib.parse import parse_qs

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_VISITORS = 64
"""A page beyond this ends the one that was silent longest: chips fill memory."""
MAX_BODY = 1_000_000
"""Bytes of a message from the page; questions are short and pictures come as uploads."""
COOKIE = "earthmind_visitor"
_PREFIX = "/gradio_api/"
# What the page itself uses. All else that Gradio offers (files, proxies, streams, direct calls)
# would hand something to whoever knows an address.
_OPEN = re.compile(r"(queue/(join|data)|heartbeat/\w+|upload|upload_progress|cancel|reset"
                   r"|info|app_id|startup-events|theme\.css)/?")  # fmt: skip
_HEARTBEAT = re.compile(r"heartbeat/(\w+)")

T = TypeVar("T")


class Visitors(Generic[T]):
    """A session per page.

    Args:
        make: Makes the session of a new page; ``close()`` ends it, where it has one.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._owners: OrderedDict[str, str] = OrderedDict()
        self._sessions: OrderedDict[str, T] = OrderedDict()

    def owns(self, page: str, browser: str) -> bool:
        """Whether this browser may speak for the page; a page without owner becomes its own."""
        with self._lock:
            owner = self._owners.setdefault(page, browser)
            self._owners.move_to_end(page)
            while len(self._owners) > 100 * MAX_VISITORS:
                self._owners.popitem(last=False)
            return secrets.compare_digest(owner.encode(), browser.encode())

    def session(self, page: str) -> T:
        """The page's session; made on first use."""
        gone = []
        with self._lock:
            if page not in self._sessions:
                self._sessions[page] = self._make()
            self._sessions.move_to_end(page)
            while len(self._sessions) > MAX_VISITORS:
                gone.append(self._sessions.popitem(last=False)[1])
            found = self._sessions[page]
        for session in gone:
            _close(session)
        return found

    def leave(self, page: str) -> None:
        """The page was closed: its session ends. Its owner stays, so that nobody takes it over."""
        with self._lock:
            session = self._sessions.pop(page, None)
        _close(session)

    def close(self) -> None:
        """End every session."""
        for page in list(self._sessions):
            self.leave(page)

    def __len__(self) -> int:
        return len(self._sessions)


class Guard:
    """ASGI middleware: a page's messages only to the browser that owns it, and never a file.

    Args:
        app: What it stands before.
        visitors: Who owns what.
    """

    def __init__(self, app: App, visitors: Visitors[Any]) -> None:
        self._app, self._visitors = app, visitors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        browser = _browser(scope)
        path = scope["path"].removeprefix(scope.get("root_path") or "")
        if not path.startswith(_PREFIX):
            # Only with the page: a second cookie from what it loads would disown the first.
            new = not browser and path in ("", "/")
            await self._app(scope, receive, _introducing(send) if new else send)
            return
        call = path.removeprefix(_PREFIX)
        pages = _named(scope, call)
        if scope["method"] == "POST" and not call.startswith("upload"):
            body, receive = await _read(receive)
            pages += _named_in(body)
        if not _OPEN.fullmatch(call) or not all(self._visitors.owns(p, browser) for p in pages):
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await self._app(scope, receive, send)


def _browser(scope: Scope) -> str:
    """The cookie's value; empty where the browser has none."""
    jar = SimpleCookie()
    for name, value in scope["headers"]:
        if name == b"cookie":
            with suppress(CookieError):
                jar.load(value.decode("latin-1"))
    return jar[COOKIE].value if COOKIE in jar else ""


def _introducing(send: Send) -> Send:
    """The same `send`, with a new cookie."""
    cookie = f"{COOKIE}={secrets.token_urlsafe(24)}; Path=/; HttpOnly; SameSite=Lax"

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), (b"set-cookie", cookie.encode())]
        await send(message)

    return sending


def _named(scope: Scope, call: str) -> list[str]:
    """Pages named in the address."""
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    beat = _HEARTBEAT.match(call)
    return [*query.get("session_hash", ()), *(beat.groups() if beat else ())]


def _named_in(body: bytes) -> list[str]:
    """The page named in a message; one that can't be read names none, and Gradio refuses it."""
    try:
        page = json.loads(body).get("session_hash")
    except (ValueError, AttributeError):
        return []
    return [page] if isinstance(page, str) else []


async def _read(receive: Receive) -> tuple[bytes, Receive]:
    """The whole body, and a `receive` that gives it again; empty where it is too large."""
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False) and size <= MAX_BODY
        parts.append(message.get("body", b""))
    body = b"".join(parts) if size <= MAX_BODY else b""
    left = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return left.pop() if left else await receive()

    return body, again


def _close(session: object) -> None:
    close = getattr(session, "close", None)
    if close is not None:
        close()
