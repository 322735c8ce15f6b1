"""The guard of conftest.py holds: loopback answers, nothing else does."""

from __future__ import annotations

import socket

import pytest


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("2001:db8::1", 80)])
def test_outside_is_blocked(address):
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as client, pytest.raises(RuntimeError, match="in a test"):
        client.connect(address)


def test_look_up_is_blocked():
    with pytest.raises(RuntimeError, match="look-up"):
        socket.getaddrinfo("example.org", 443)


def test_loopback_answers():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname(), timeout=5) as client,
    ):
        accepted, _ = server.accept()
        with accepted:
            accepted.sendall(b"ok")
        assert client.recv(2) == b"ok"
