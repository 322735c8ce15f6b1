"""Whoever says nothing, or says it drop by drop, loses the connection; a slow answer doesn't."""

from __future__ import annotations

import http.client
import json
import socket
import time
from contextlib import closing, suppress
from dataclasses import replace

import pytest

from earthmind_lab.engine import wire
from earthmind_lab.exchange import Options, Prompt
from earthmind_lab.server.serving import Limits
from tests.engine.test_remote import wait_for
from tests.server.scripted import Scripted, reply_of
from tests.server.served import TOKEN, served

HEAD = f"GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {TOKEN}\r\n"
SECONDS, PATIENCE = 2.0, 30.0


@pytest.fixture
def server():
    with served(Scripted(), limits=Limits(head_seconds=SECONDS)) as found:
        yield found


def connected(server):
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE)


def asked(route):
    if "chat" in route:
        messages = [{"role": "user", "content": "Where?"}]
        body = json.dumps({"model": "scripted", "stream": True, "messages": messages})
        return "application/json", body.encode()
    return wire.CONTENT_TYPE, wire.pack(wire.Ask(prompt=Prompt(text="Where?"), options=Options()))


def ended(connection):
    """Everything that came until the server hung up."""
    held = b""
    with suppress(ConnectionResetError):
        while data := connection.recv(65536):
            held += data
    return held


def test_silence_ends(server):
    with connected(server) as connection:
        assert ended(connection) == b""


def test_drops_end(server):
    with connected(server) as connection:
        until = time.monotonic() + PATIENCE
        with suppress(ConnectionError):
            for letter in (HEAD * 50).encode():
                connection.sendall(bytes([letter]))
                time.sleep(SECONDS / 40)
                assert time.monotonic() < until, "it is still listened to"
        assert ended(connection) == b""


def test_silence_after_an_answer_ends(server):
    with connected(server) as connection:
        connection.sendall(f"{HEAD}\r\n".encode())
        assert b"200 OK" in ended(connection)


def test_several_requests_have_their_time_each(server):
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=PATIENCE)
    with closing(connection):
        connection.connect()
        first = connection.sock
        for _ in range(6):
            connection.request("GET", "/v1/models", headers={"authorization": f"Bearer {TOKEN}"})
            assert connection.getresponse().read()
            time.sleep(SECONDS / 4)
        assert connection.sock is first


def test_a_slow_answer_is_not_late():
    def slow(prompt, options):
        time.sleep(2 * SECONDS)
        return reply_of(prompt, options)

    with served(Scripted(slow), limits=Limits(head_seconds=SECONDS)) as server:
        body = {"model": "scripted", "messages": [{"role": "user", "content": "Where?"}]}
        with server.client() as client:
            assert client.post("/v1/chat/completions", json=body).status_code == 200


def asks_on(connection):
    """Ask and ask, and never read, until the connection is gone."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        connection.sendall(f"{HEAD}\r\n".encode() * 200)
        time.sleep(SECONDS / 50)


def test_whoever_does_not_read_is_cut_off(server):
    for listening in (each for one in server.server.servers for each in one.sockets):
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # soon full
    with connected(server) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with pytest.raises(ConnectionError):
            asks_on(connection)


@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/earthmind/ask"])
def test_an_answer_that_nobody_reads_is_ended(route):
    """There is one watch over that, for all that is written: the connection's."""
    long = "water " * 200_000
    engine = Scripted(lambda prompt, options: replace(reply_of(prompt, options), text=long))
    with served(engine, limits=Limits(head_seconds=SECONDS)) as server:
        for listening in (each for one in server.server.servers for each in one.sockets):
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        with connected(server) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            kind, body = asked(route)
            head = HEAD.replace("GET /v1/models", f"POST {route}")
            head += f"content-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            wait_for(lambda: engine.asked, PATIENCE)
            wait_for(lambda: not server.serving.busy, PATIENCE)
            with suppress(ConnectionError):
                assert b"[DONE]" not in ended(connection)
