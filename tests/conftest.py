"""No test reaches the network: loopback alone answers, and nothing of the user's is read."""

from __future__ import annotations

import ipaddress
import os
import socket
from typing import Any

import pytest

# Before anything imports them: these libraries read their switches at import.
os.environ.update(
    {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
        "GRADIO_ANALYTICS_ENABLED": "False",
        "RAY_USAGE_STATS_ENABLED": "0",
        # GDAL opens its own sockets, past Python's: a proxy that nobody runs stops them.
        "GDAL_HTTP_PROXY": "127.0.0.1:9",
        "no_proxy": "127.0.0.1,localhost,::1",
        "GDAL_HTTP_MAX_RETRY": "0",
        # Two cores, many small tensors: more threads cost more than they give.
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }
)
for _name in ("EARTHMIND_CATALOG", "EARTHMIND_DEVICE"):
    os.environ.pop(_name, None)


class NetworkBlocked(RuntimeError):
    """A test tried to leave this machine; not an OSError, so that no retry swallows it."""


def is_local(host: object) -> bool:
    """Whether an address or name stays on this machine."""
    if host in (None, "", b"", "localhost", b"localhost"):
        return True
    text = host.decode() if isinstance(host, bytes) else str(host)
    try:
        return ipaddress.ip_address(text.split("%")[0]).is_loopback
    except ValueError:
        return False


def _guard_connect(original: Any) -> Any:
    def connect(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not is_local(address[0]):
            raise NetworkBlocked(f"connection to {address} in a test")
        return original(self, address)

    return connect


def _guard_lookup(original: Any) -> Any:
    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_local(host):
            raise NetworkBlocked(f"look-up of {host} in a test")
        return original(host, *args, **kwargs)

    return getaddrinfo


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Any:
    """Let sockets reach loopback only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", _guard_connect(socket.socket.connect))
        patch.setattr(socket.socket, "connect_ex", _guard_connect(socket.socket.connect_ex))
        patch.setattr(socket, "getaddrinfo", _guard_lookup(socket.getaddrinfo))
        yield


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep records of a test away from the user's, and no chip from one test to another."""
    monkeypatch.setenv("EARTHMIND_HOME", str(tmp_path_factory.getbasetemp() / "home"))
    monkeypatch.setenv("EARTHMIND_CACHE_BYTES", "0")
