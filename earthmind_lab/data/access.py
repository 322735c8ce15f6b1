"""Which addresses may be asked: hrefs come from catalogs, and catalogs are written by strangers.

By default every public host, and nothing in a private network: an href must not be able to reach
a router, a cloud's metadata service or a notebook server. With ``EARTHMIND_HOSTS`` exactly the
hosts named there, private ones among them. The host of a catalog that the user opens by its
address is always allowed to answer.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from earthmind_lab.settings import Settings

_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""Where networks without IPv4 put all of its addresses, private ones among them (RFC 6052)."""


class Refused(Exception):
    """An address that must not be asked; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """The rule for addresses.

    >>> Access().check("https://example.com/a.tif")
    >>> Access(hosts=("*.example.com",)).check("https://169.254.169.254/latest")
    Traceback (most recent call last):
    ...
    earthmind_lab.data.access.Refused: the host 169.254.169.254 is not in EARTHMIND_HOSTS
    """

    hosts: tuple[str, ...] = ()
    """The only hosts allowed, as ``host``, ``*.host`` or ``host:port``; empty = public ones."""
    named: tuple[str, ...] = ()
    """Hosts that the user named by opening a catalog there, as ``host:port``."""

    @classmethod
    def from_settings(cls, *named: str) -> Access:
        """What the environment allows, and the hosts of these addresses."""
        return cls(hosts=Settings.from_env().hosts, named=tuple(map(place_of, named)))

    def check(self, url: str) -> None:
        """Refuse an address by its text.

        Raises:
            Refused: No http(s), no host, a password in it, or a host that isn't allowed.
        """
        try:
            parts = urlsplit(url)
            place = place_of(url)
        except ValueError as error:
            raise Refused(f"it is no address ({error})") from error
        if parts.scheme not in _PORTS or not parts.hostname:
            raise Refused("only http and https are read")
        if parts.username is not None or parts.password is not None:
            raise Refused("an address must not carry a user or password")
        if place in self.named:
            return
        if self.hosts:
            if not self._listed(place):
                raise Refused(f"the host {parts.hostname} is not in EARTHMIND_HOSTS")
        elif not _public(parts.hostname):
            raise Refused(f"the host {parts.hostname} is in a private network")

    def check_peer(self, place: str, address: str) -> None:
        """Refuse a connection by where it leads: a public name can point at a private address.

        Args:
            place: ``host:port`` that was asked for.
            address: IP address of the other side.

        Raises:
            Refused: A private address that nobody allowed.
        """
        if place not in self.named and not self._listed(place) and not _public(address):
            raise Refused(f"{place} leads into a private network ({address})")

    def _listed(self, place: str) -> bool:
        host = place.rpartition(":")[0]
        return any(fnmatch.fnmatchcase(place if _ported(rule) else host, rule.lower())
                   for rule in self.hosts)  # fmt: skip


def _ported(rule: str) -> bool:
    return rule.rpartition(":")[2].isdecimal() and rule.count(":") == 1


def place_of(url: str) -> str:
    """``host:port`` of an address, lower case."""
    parts = urlsplit(url)
    port = parts.port or _PORTS.get(parts.scheme, 0)
    return f"{(parts.hostname or '').lower().rstrip('.')}:{port}"


def under(url: str, hosts: Iterable[str]) -> bool:
    """Whether an address is https and of one of these hosts or below it: a key may go there.

    >>> [under(f"https://{host}/x", ["nasa.gov"]) for host in ("a.nasa.gov", "anasa.gov")]
    [True, False]
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    return parts.scheme == "https" and any(
        host == name or host.endswith(f".{name}") for name in hosts
    )


def _public(host: str) -> bool:
    """Whether a host may be on the internet; names are judged again when they are resolved."""
    host = host.lower().rstrip(".").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # "localhost", a bare name, and digits that some resolvers read as an address.
        odd = all(re.fullmatch(r"0x[0-9a-f]*|\d*", label) for label in host.split("."))
        return "." in host and not odd and not host.endswith((".localhost", ".local", ".internal"))
    if address in _NAT64:
        address = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    mapped = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
    return address.is_global and not address.is_multicast and (mapped is None or mapped.is_global)
