"""By which names a server may be asked, and which one it prints."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace

import httpx
import pytest

from earthmind_lab import cli
from earthmind_lab.errors import EarthMindError
from earthmind_lab.server import names, run
from earthmind_lab.server.app import create_app
from earthmind_lab.server.names import address_of, own_names
from tests.server.scripted import Scripted

LAB = "lab.example.org"


def answers(host, *, given=(LAB,), listens="127.0.0.1", origin=None):
    """The status of a request under a name."""
    app = create_app(Scripted(), token=None, host=listens, names=given)

    async def ask():
        headers = {"host": host, **({"origin": origin} if origin else {})}
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return (await client.get("/v1/models", headers=headers)).status_code

    return asyncio.run(ask())


@pytest.mark.parametrize("host", [LAB, LAB.upper(), f"{LAB}:443", "localhost", "127.0.0.1:8000"])
def test_a_further_name_is_answered(host):
    assert answers(host) == 200 == answers(host, listens="0.0.0.0")
    assert answers(LAB, given=()) == 403 == answers(LAB, given=(), listens="0.0.0.0")


@pytest.mark.parametrize(
    "host",
    [f"evil.{LAB}", f"{LAB}.evil.example", f"{LAB}.", "example.org", f"{LAB}@evil.example", ""],
)
def test_a_name_is_whole_or_another(host):
    """A page that binds its own name to this address must not get in by a part of ours."""
    assert answers(host) == 403


def test_pages_of_the_name_itself_may_ask():
    assert answers(LAB, origin=f"https://{LAB}") == 200
    assert answers(LAB, origin="https://evil.example") == 403


def test_every_address_of_the_machine_is_no_name_for_all():
    mine = socket.gethostname()
    assert answers(mine, listens="0.0.0.0") == 200 == answers("10.1.2.3", listens="0.0.0.0")
    assert answers("evil.example", listens="0.0.0.0") == 403
    assert answers(mine) == 403 or mine == "localhost"  # it does not lead to loopback


@pytest.mark.parametrize(
    "name", ["*", "", "*.example.org", "https://lab.example.org", "lab:8000", "a..b", "-a", "a b",
             "a/b", "[::1]", "lab.example.org.", "x" * 300],
)  # fmt: skip
def test_what_is_no_name_is_refused(name, capsys):
    with pytest.raises(EarthMindError, match="no name of a machine"):
        own_names("127.0.0.1", [name])
    assert cli.main(["serve", "--port", "0", f"--name={name}"]) == cli.ERROR
    assert "--name lab.example.org" in capsys.readouterr().err


def test_the_command_hands_names_on(monkeypatch):
    found = []
    monkeypatch.setattr(
        run, "create_app", lambda *_, **given: found.append(given["names"]) or 1 / 0
    )
    for words in ([], ["--name", LAB, "--name", "lab"]):
        with pytest.raises(ZeroDivisionError):
            cli.main(["serve", "--port", "0", *words])
    assert found == [[], [LAB, "lab"]]


@pytest.mark.parametrize("host", ["0.0.0.0", "", "0"])
def test_the_address_that_is_printed_can_be_asked(host, monkeypatch):
    # Loopback stands for the network, which no test reaches.
    monkeypatch.setitem(names._ELSEWHERE, socket.AF_INET, "127.0.0.2")
    with run._listen(host, 0, None) as listening:
        address = address_of(listening, host)
        name, _, port = address.removeprefix("http://").rpartition(":")
        assert name == "127.0.0.1"
        socket.create_connection((name, int(port)), timeout=5).close()


def test_the_address_is_the_one_that_leads_outside(monkeypatch):
    class Probe:
        def __init__(self, *_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def connect(self, address):
            assert address == ("192.0.2.1", 9)

        def getsockname(self):
            return ("10.1.2.3", 4321)

    with run._listen("0.0.0.0", 0, None) as listening:
        monkeypatch.setattr(names.socket, "socket", Probe)
        port = listening.getsockname()[1]
        assert address_of(listening, "0.0.0.0") == f"http://10.1.2.3:{port}"


@pytest.mark.parametrize(
    ("host", "printed"),
    [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"),
     ("localhost", "localhost")],
)  # fmt: skip
def test_without_a_network_it_is_loopback(host, printed, monkeypatch):
    def no_network(*_):
        raise OSError("unreachable")

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = {"localhost": "127.0.0.1"}.get(host, host)
    listening = SimpleNamespace(family=family, getsockname=lambda: (bound, 8000))
    monkeypatch.setattr(socket.socket, "connect", no_network)
    assert address_of(listening, host) == f"http://{printed}:8000"
