"""An engine looks at what it is asked beside the loop, in the order in which it is asked."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest

from earthmind_lab.engine import ResidentEngine
from earthmind_lab.exchange import Options, Prompt
from earthmind_lab.server.limits import Limits
from earthmind_lab.server.submitting import Submitter
from tests.engine.stand_in import StandIn
from tests.engine.test_remote import wait_for
from tests.server.scripted import Scripted
from tests.server.served import TOKEN, served
from tests.server.test_admission import (
    ROUTES,
    asking,
    chat_body,
    given_back,
    post,
    raw_body,
)

BODIES = [(ROUTES[0], chat_body(stream=True)), (ROUTES[1], raw_body())]


class Slow(Scripted):
    """Takes a long look at each ask."""

    def __init__(self, **more):
        super().__init__(**more)
        self.inside, self.go, self.threads = threading.Event(), threading.Event(), []
        self.handles = []

    def submit(self, prompt, options=None):
        self.threads.append(threading.current_thread())
        self.inside.set()
        assert self.go.wait(20)
        self.handles.append(super().submit(prompt, options))
        return self.handles[-1]


@pytest.mark.parametrize("route", ROUTES)
def test_the_loop_goes_on_while_an_engine_looks(route):
    engine = Slow()
    with served(engine) as server, server.client() as client, asking(server, route) as found:
        assert engine.inside.wait(10)
        assert client.get("/v1/models").status_code == 200
        assert not found and server.thread not in engine.threads
        assert server.serving.admission.asks == 1 and server.serving.busy
        engine.go.set()
    assert found[0].status_code == 200
    given_back(server)


def test_asks_come_in_the_order_in_which_they_were_made():
    engine = Slow()

    async def asks():
        submitter = Submitter()
        made = [
            asyncio.create_task(submitter.submit(engine, Prompt(text=f"{i}"), Options()))
            for i in range(20)
        ]
        await asyncio.sleep(0)
        engine.go.set()
        return await asyncio.gather(*made)

    handles = asyncio.run(asks())
    assert [prompt.text for prompt, _ in engine.asked] == [str(i) for i in range(20)]
    assert [each.prompt.text for each in handles] == [str(i) for i in range(20)]
    assert len({*engine.threads}) == 1


@pytest.mark.parametrize(("route", "body"), BODIES)
def test_a_client_that_leaves_while_the_engine_looks_has_its_ask_cancelled(route, body):
    """The reply has not begun: it is a socket that closes."""
    engine = Slow(pause=0.05)
    with served(engine) as server:
        thread = threading.Thread(target=leaving, args=(server, route, body, engine.inside))
        thread.start()
        thread.join(20)
        engine.go.set()
        wait_for(lambda: engine.ended == ["Cancelled"])
        given_back(server)


def leaving(server, route, body, when):
    port = int(server.url.rpartition(":")[2])
    kind = "application/json" if "chat" in route else "application/vnd.earthmind"
    head = (
        f"POST {route} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n"
        f"content-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(head.encode() + body)
        assert when.wait(10)


@pytest.mark.parametrize("route", ROUTES)
def test_a_server_that_stops_while_the_engine_looks_leaves_nothing_behind(route):
    engine = Slow(pause=0.05)
    with served(engine) as server, asking(server, route) as found:
        assert engine.inside.wait(10)
        server.server.should_exit = True
        wait_for(lambda: server.serving._ended)
        engine.go.set()
        server.thread.join(20)
        given_back(server)
    assert found[0].status_code == 503
    (ask,) = engine.handles
    assert ask.stopped.is_set()


def test_whoever_is_cancelled_has_asked_nothing():
    engine = Slow()

    async def asks():
        submitter = Submitter()
        first, second = (
            asyncio.create_task(submitter.submit(engine, Prompt(text=text), Options()))
            for text in ("first", "second")
        )
        await asyncio.to_thread(engine.inside.wait, 10)
        for each in (first, second):
            each.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        with pytest.raises(asyncio.CancelledError):
            await second
        engine.go.set()
        await submitter.submit(engine, Prompt(text="third"), Options())

    asyncio.run(asks())
    # The first one was being looked at, and was stopped; the second never came there.
    assert [prompt.text for prompt, _ in engine.asked] == ["first", "third"]
    assert [ask.stopped.is_set() for ask in engine.handles] == [True, False]


def test_the_next_one_is_asked_after_a_crash():
    engine = Scripted()
    engine.closed = True
    with served(engine) as server, server.client() as client:
        assert post(client, ROUTES[0]).status_code == 503
        engine.closed = False
        assert post(client, ROUTES[0]).status_code == 200
        given_back(server)


def test_what_is_late_by_the_engines_clock_is_late(monkeypatch):
    """Which begins to run before the server has its handle."""
    engine = ResidentEngine(StandIn(reply=lambda p: "x" * 9999, on_step=lambda s: time.sleep(0.01)))
    submit = engine.submit

    def slow(*given):
        handle = submit(*given)
        time.sleep(0.2)
        return handle

    monkeypatch.setattr(engine, "submit", slow)
    body = {"model": engine.name, "messages": [{"role": "user", "content": "x"}],
            "max_tokens": 4096}  # fmt: skip
    with served(engine, limits=Limits(ask_seconds=0.4)) as server, server.client() as client:
        response = client.post("/v1/chat/completions", json=body)
    engine.close()
    assert (response.status_code, response.json()["error"]["code"]) == (504, "late")
