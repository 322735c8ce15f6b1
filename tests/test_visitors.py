"""Sessions of visitors: one each, and nobody reaches another's."""

from __future__ import annotations

import asyncio
import json

import pytest

from earthmind_lab import visitors as module
from earthmind_lab.visitors import COOKIE, MAX_BODY, Guard, Visitors


class Held:
    def __init__(self):
        self.closed = 0

    def close(self):
        self.closed += 1


@pytest.fixture
def visitors():
    return Visitors(Held)


def call(guard, method, path, *, cookie=None, body=b"", query="", chunks=1):
    """Status, headers and body of one request."""
    headers = [(b"cookie", f"other=1; {COOKIE}={cookie}".encode())] if cookie else []
    scope = {
        "type": "http", "method": method, "path": path, "query_string": query.encode(),
        "headers": headers,
    }  # fmt: skip
    step = max(1, -(-len(body) // chunks))
    parts = [body[i : i + step] for i in range(0, len(body), step)] or [b""]
    messages = [
        {"type": "http.request", "body": part, "more_body": part is not parts[-1]} for part in parts
    ]
    sent = []

    async def receive():
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    asyncio.run(guard(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


@pytest.fixture
def guard(visitors):
    async def echo(scope, receive, send):
        body, more = b"", True
        while scope["method"] == "POST" and more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    return Guard(echo, visitors)


def test_each_page_has_its_own_session(visitors):
    first, second = visitors.session("a"), visitors.session("b")
    assert first is not second
    assert visitors.session("a") is first
    visitors.leave("a")
    assert (first.closed, second.closed) == (1, 0)
    assert visitors.session("a") is not first
    visitors.close()
    assert second.closed == 1 and len(visitors) == 0


def test_the_longest_silent_makes_room(visitors, monkeypatch):
    monkeypatch.setattr(module, "MAX_VISITORS", 2)
    first, second = visitors.session("a"), visitors.session("b")
    visitors.session("a")
    visitors.session("c")
    assert (first.closed, second.closed, len(visitors)) == (0, 1, 2)


def test_the_first_page_view_gives_a_cookie_that_scripts_cannot_read(guard):
    status, headers, _ = call(guard, "GET", "/")
    cookie = headers[b"set-cookie"].decode()
    assert status == 200
    assert cookie.startswith(f"{COOKIE}=") and "HttpOnly" in cookie and "SameSite=Lax" in cookie
    assert b"set-cookie" not in call(guard, "GET", "/", cookie="ann")[1]
    assert b"set-cookie" not in call(guard, "GET", "/assets/index.js")[1]


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/hostname", "/gradio_api/file/etc/hostname",
        "/gradio_api/proxy=http://127.0.0.1", "/gradio_api/stream/x", "/gradio_api/run/ask",
        "/gradio_api/call/ask", "/gradio_api/", "/gradio_api/queue/data/../../file=x",
    ],
)  # fmt: skip
def test_nothing_but_the_pages_own_calls(guard, path):
    assert call(guard, "GET", path, cookie="ann")[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "query", "named"),
    [
        ("GET", "/gradio_api/queue/data", "session_hash=page1", False),
        ("GET", "/gradio_api/heartbeat/page1", "", False),
        ("POST", "/gradio_api/queue/join", "", True),
        ("POST", "/gradio_api/cancel", "", True),
        ("POST", "/gradio_api/reset", "", True),
        # Both ways at once: the owner's own page does not cover for another's.
        ("POST", "/gradio_api/queue/join", "session_hash=page2", True),
    ],
)
def test_a_page_belongs_to_the_browser_that_opened_it(guard, method, path, query, named):
    body = json.dumps({"session_hash": "page1", "data": []}).encode() if named else b""
    asked = {"body": body, "query": query}
    assert call(guard, method, path, cookie="ann", **asked)[0] == 200
    assert call(guard, method, path, cookie="bob", **asked)[0] == 404
    assert call(guard, method, path, **asked)[0] == 404
    assert call(guard, method, path, cookie="ann", **asked)[0] == 200


def test_a_closed_page_is_not_taken_over(guard, visitors):
    beat = "/gradio_api/heartbeat/page1"
    assert call(guard, "GET", beat, cookie="ann")[0] == 200
    visitors.session("page1")
    visitors.leave("page1")
    assert call(guard, "GET", beat, cookie="bob")[0] == 404


@pytest.mark.parametrize("chunks", [1, 3])
def test_what_was_read_is_handed_on(guard, chunks):
    body = json.dumps({"session_hash": "page1", "data": ["x" * 100]}).encode()
    path = "/gradio_api/queue/join"
    assert call(guard, "POST", path, cookie="ann", body=body, chunks=chunks)[2] == body


def test_a_message_that_is_too_large_is_not_handed_on(guard):
    body = b"x" * (MAX_BODY + 1)
    assert call(guard, "POST", "/gradio_api/queue/join", cookie="a", body=body, chunks=4)[2] == b""


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"session_hash": 7}', b"\xff"])
def test_a_message_that_names_nobody_passes_to_gradio(guard, body):
    assert call(guard, "POST", "/gradio_api/queue/join", cookie="ann", body=body)[0] == 200
