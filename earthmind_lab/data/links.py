"""From an unsigned href to one that opens: who signs for which storage, and for how long.

Scenes, records and caches keep unsigned hrefs; a link is signed when it is read, kept until
shortly before it expires and signed again when a server says that it has.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import os
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from earthmind_lab.data.access import under
from earthmind_lab.data.budget import Budget, WebError
from earthmind_lab.data.web import Web
from earthmind_lab.errors import AccessDenied

EARLY = dt.timedelta(minutes=2)
"""A link is signed again so long before it expires."""
WAIT_S = 0.1
"""So often does who waits for another's signature look at its own time."""
AZURE = ".blob.core.windows.net"
PLANETARY_COMPUTER = "https://planetarycomputer.microsoft.com/api/sas/v1/token"
KEYS = frozenset(
    "sig signature x-amz-signature x-amz-credential x-amz-security-token awsaccesskeyid "
    "x-goog-signature x-goog-credential googleaccessid key-pair-id token access_token key apikey "
    "api_key subscription-key".split()
)
"""Names in a query that make it a secret."""
EARTHDATA_HOSTS = ("asf.alaska.edu", "earthdatacloud.nasa.gov", "earthdata.nasa.gov")
"""Take the token of NASA Earthdata, and send requests on to each other."""
OPEN = dt.timedelta(hours=1)
"""A container that needs no token isn't asked about again for so long."""


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """A bucket of an S3 storage that catalogs name as ``s3://``."""

    endpoint: str
    """``https://…`` that holds the bucket, with ``{bucket}`` where its name goes."""
    region: str = ""
    keys: tuple[str, str] | None = None
    """Environment variables of the key and its secret; None = open."""
    requester_pays: bool = False


_AWS = "https://{bucket}.s3.{region}.amazonaws.com"
_AWS_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_CDSE_KEYS = ("CDSE_S3_ACCESS_KEY", "CDSE_S3_SECRET_KEY")
BUCKETS: Mapping[str, Bucket] = {
    "sentinel-cogs": Bucket(endpoint=_AWS, region="us-west-2"),
    "e84-earth-search-sentinel-data": Bucket(endpoint=_AWS, region="us-west-2"),
    "deafrica-sentinel-2": Bucket(endpoint=_AWS, region="af-south-1"),
    "deafrica-sentinel-2-l2a-c1": Bucket(endpoint=_AWS, region="af-south-1"),
    "deafrica-sentinel-1": Bucket(endpoint=_AWS, region="af-south-1"),
    "deafrica-landsat": Bucket(endpoint=_AWS, region="af-south-1"),
    "sentinel-s1-l1c": Bucket(
        endpoint=_AWS, region="eu-central-1", keys=_AWS_KEYS, requester_pays=True
    ),
    "sentinel-s2-l1c": Bucket(
        endpoint=_AWS, region="eu-central-1", keys=_AWS_KEYS, requester_pays=True
    ),
    "usgs-landsat": Bucket(endpoint=_AWS, region="us-west-2", keys=_AWS_KEYS, requester_pays=True),
    "naip-analytic": Bucket(endpoint=_AWS, region="us-west-2", keys=_AWS_KEYS, requester_pays=True),
    "eodata": Bucket(
        endpoint="https://eodata.dataspace.copernicus.eu/{bucket}", region="default",
        keys=_CDSE_KEYS,
    ),
}  # fmt: skip
"""Buckets of the known catalogs."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """An address that opens now."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    """To send along."""
    trusted: tuple[str, ...] = ()
    """Hosts that get them after a redirect, too."""


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@dataclass(eq=False)
class Links:
    """Signs hrefs and keeps the signatures; safe for several threads."""

    env: Mapping[str, str] = field(default_factory=lambda: os.environ)
    """Where keys are looked up."""
    now: Callable[[], dt.datetime] = _now
    """The clock, UTC."""
    _tokens: dict[str, tuple[str, dt.datetime]] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def sign(self, href: str, web: Web, budget: Budget) -> Link:
        """A link that opens an href now.

        Args:
            href: http(s) or s3.
            web: Client, to ask for signatures.
            budget: Time it may take.

        Raises:
            AccessDenied: A key is missing; the message names its variable.
            Cancelled: The budget was cancelled.
            WebError: The signature can't be had, or nobody knows the bucket.
        """
        parts = urlsplit(href)
        if parts.scheme == "s3":
            return self._s3(parts.netloc, parts.path.lstrip("/"), href)
        host = parts.hostname or ""
        if host.endswith(AZURE) and "sig=" not in parts.query:
            token = self._azure(_container(href), web, budget)
            return Link(url=f"{href}{'&' if parts.query else '?'}{token}" if token else href)
        if under(href, EARTHDATA_HOSTS):
            bearer = self.env.get("EARTHDATA_TOKEN")
            if not bearer:
                raise _lacking("NASA Earthdata", href, ("EARTHDATA_TOKEN",))
            key = {"Authorization": f"Bearer {bearer}"}
            return Link(url=href, headers=key, trusted=EARTHDATA_HOSTS)
        return Link(url=href)

    def forget(self, href: str) -> bool:
        """Drop the signature of an href; False where it had none that could be renewed."""
        return self._tokens.pop(_container(href), None) is not None

    def _azure(self, container: str, web: Web, budget: Budget) -> str:
        """The Planetary Computer's token for an Azure container; empty = it needs none."""
        # One asks for all; but whoever asks may have far more time than those who wait.
        while not self._lock.acquire(timeout=WAIT_S):
            budget.check()
        try:
            token, until = self._tokens.get(container, ("", self.now()))
            if until - EARLY > self.now():
                return token
            answer = _token(container, web, budget) or ("", self.now() + OPEN)
            self._tokens[container] = answer
            return answer[0]
        finally:
            self._lock.release()

    def _s3(self, bucket: str, key: str, href: str) -> Link:
        known = BUCKETS.get(bucket)
        if known is None:
            raise WebError("refused", f"the bucket of {href[:200]} is not known")
        endpoint = known.endpoint.format(bucket=bucket, region=known.region)
        if known.keys is None:
            return Link(url=f"{endpoint}/{quote(key)}")
        pair = [self.env.get(name) for name in known.keys]
        if not all(pair):
            raise _lacking(f"the bucket {bucket}", href, known.keys, known.requester_pays)
        session = self.env.get("AWS_SESSION_TOKEN") if known.keys == _AWS_KEYS else None
        signed = presign(
            f"{endpoint}/{key}",
            region=known.region,
            key=str(pair[0]),
            secret=str(pair[1]),
            session=session,
            requester_pays=known.requester_pays,
            now=self.now(),
        )
        return Link(url=signed)


def unsigned(href: str) -> str:
    """An href without keys: no user, no password, no query that holds a signature or a token.

    >>> unsigned("https://me:secret@host/a.tif?v=2")
    'https://host/a.tif?v=2'
    >>> unsigned("https://host/a.tif?se=2026-11-24&sig=abc")
    'https://host/a.tif'
    """
    if "://" not in href:
        return href
    try:
        parts = urlsplit(href)
    except ValueError:  # no address: nothing in it is worth keeping
        return href.partition("://")[0] + "://"
    names = {name.partition("=")[0].lower() for name in parts.query.split("&")}
    query = "" if names & KEYS else parts.query
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, ""))


def _container(href: str) -> str:
    """``account/container`` of an Azure address."""
    parts = urlsplit(href)
    account = (parts.hostname or "").removesuffix(AZURE)
    return f"{account}/{parts.path.lstrip('/').partition('/')[0]}"


def _token(container: str, web: Web, budget: Budget) -> tuple[str, dt.datetime] | None:
    try:
        answer = web.get(f"{PLANETARY_COMPUTER}/{container}", budget=budget).json()
    except WebError as error:
        if error.kind == "missing":
            return None  # a container of someone else, or one that is open
        raise
    token, until = _field(answer, "token"), _field(answer, "msft:expiry")
    try:
        when = dt.datetime.fromisoformat(until)
    except ValueError as error:
        raise WebError("failed", f"a token of {container} without an expiry") from error
    return token, when if when.tzinfo else when.replace(tzinfo=dt.UTC)


def _field(answer: Any, name: str) -> str:
    value = answer.get(name) if isinstance(answer, Mapping) else None
    if not isinstance(value, str) or re.search(r"[\s#]", value):
        raise WebError("failed", f"the token service gave no {name}")
    return value


def presign(
    url: str,
    *,
    region: str,
    key: str,
    secret: str,
    now: dt.datetime,
    session: str | None = None,
    requester_pays: bool = False,
    seconds: int = 3600,
) -> str:
    """An S3 address that opens for a while, signed on this machine.

    AWS Signature Version 4, query string form:
    https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html

    Args:
        url: ``https://`` address of the object, its path not yet quoted, without a query.
        region: Of the bucket.
        key: Access key id.
        secret: Secret access key; stays here.
        now: Start of the signature, UTC.
        session: Token of temporary keys.
        requester_pays: Whether the owner of the key agrees to pay for the transfer.
        seconds: How long it opens.
    """
    parts = urlsplit(url)
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    query = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{key}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(seconds),
        "X-Amz-SignedHeaders": "host",
    }
    query |= {"X-Amz-Security-Token": session} if session else {}
    query |= {"x-amz-request-payer": "requester"} if requester_pays else {}
    canonical = urlencode(sorted(query.items()), quote_via=quote, safe="-_.~")
    path = quote(parts.path, safe="/-_.~")
    lines = ["GET", path, canonical, f"host:{parts.netloc}", "", "host", "UNSIGNED-PAYLOAD"]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    signing = f"AWS4{secret}".encode()
    for part in (*scope.split("/"), "\n".join(["AWS4-HMAC-SHA256", stamp, scope, digest])):
        signing = hmac.digest(signing, part.encode(), "sha256")
    return f"{parts.scheme}://{parts.netloc}{path}?{canonical}&X-Amz-Signature={signing.hex()}"


def _lacking(place: str, href: str, names: tuple[str, ...], pays: bool = False) -> AccessDenied:
    who = "is requester-pays: it needs an account" if pays else "needs a key"
    return AccessDenied(
        f"Reading from {place} {who}.",
        found=f"{' and '.join(names)} not set, for {href[:200]}",
        change=f"set {' and '.join(names)}",
    )
