"""Names and addresses of a server: those it may be asked by, and the one that is printed."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from earthmind_lab.errors import EarthMindError

LOOPBACK = ("127.0.0.1", "::1", "localhost")
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?", re.IGNORECASE)
_ELSEWHERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"""Addresses kept for documentation: nobody's."""


def own_names(host: str, names: Sequence[str] = ()) -> list[str]:
    """Names under which a server that listens on `host` may be asked, beside those of loopback.

    Only whole names: a page of another site may lead its own name to this machine.

    Args:
        host: Where it listens.
        names: What else it is called.

    Raises:
        EarthMindError: One is no name of a machine.
    """
    for name in names:
        if not _NAME.fullmatch(name) or ".." in name:
            raise EarthMindError(
                f"{name[:100]!r} is no name of a machine.",
                change="a name as it stands in addresses, without http:// and port: "
                "--name lab.example.org",
            )
    # The machine's own name does not lead to loopback.
    return [*names] if host in LOOPBACK else [host, socket.gethostname(), *names]


def address_of(listening: socket.socket, host: str) -> str:
    """What clients are told.

    Args:
        listening: Bound.
        host: As it was asked for.
    """
    name = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        return f"unix://{Path(name).resolve()}"
    if ipaddress.ip_address(name[0].partition("%")[0]).is_unspecified:
        host = _outward(listening.family)
    return f"http://[{host}]:{name[1]}" if ":" in host else f"http://{host}:{name[1]}"


def _outward(family: socket.AddressFamily) -> str:
    """This machine's address as other machines see it; without a network that of loopback."""
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        # Sends nothing: it only chooses from which address it would be sent.
        probe.connect((_ELSEWHERE[family], 9))
        found: str = probe.getsockname()[0]
        return found
    return "::1" if family == socket.AF_INET6 else "127.0.0.1"
