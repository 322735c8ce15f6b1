"""One HTTP client for catalogs and files: allowed addresses only, retries, one deadline for all.

    answer = Web(access).get(url, budget=Budget(60), span=(0, 65535))

Every request is checked before it is made, every redirect and every connection again. What a
later try may cure (429, 5xx, a reset, a stall, a body cut short) is tried again with growing
pauses, or after the pause that the server asks for, as long as the budget lasts.
"""

from __future__ import annotations

import email.utils
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urljoin, urlsplit

import urllib3

from earthmind_lab.data.access import Access, Refused, place_of, under
from earthmind_lab.data.budget import Budget, Kind, WebError
from earthmind_lab.data.connections import checked_pools

TRIES = 6
"""Attempts per request, with pauses of 0.25, 0.5, 1, 2 and 4 seconds."""
PAUSE_S = 0.25
STALL_S = 10.0
"""A server that sends nothing for so long has stalled; the request is made again."""
REDIRECTS = 5
CHUNK = 65536
MAX_BODY = 256 * 2**20
"""No answer of a catalog and no part of a file is larger."""
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_KINDS: Mapping[int, Kind] = {401: "denied", 403: "denied", 404: "missing", 410: "missing",
                              412: "changed"}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Response:
    """What a server sent."""

    status: int
    headers: Mapping[str, str]
    """Names as `urllib3` gives them: looked up without regard to case."""
    body: bytes

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            WebError: It is none.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise WebError("failed", f"the answer is no JSON ({str(error)[:200]})") from error


class _Again(Exception):
    """A failure that a later try may cure."""

    def __init__(self, text: str, pause: float | None = None) -> None:
        super().__init__(text)
        self.pause = pause


class Web:
    """A client that only asks addresses that its rule allows; safe for several threads.

    Args:
        access: The rule.
        seed: Of the pauses' spread, which keeps many clients from coming back at once.
    """

    def __init__(self, access: Access, *, seed: int | None = None) -> None:
        self.access = access
        self._random = random.Random(seed)  # noqa: S311 - spreads pauses, guards nothing
        self._pools = urllib3.PoolManager(
            num_pools=16, maxsize=64, headers={"User-Agent": "earthmind-lab"}
        )
        self._pools.pool_classes_by_scheme = checked_pools(access)

    def naming(self, url: str) -> Web:
        """A client under the same rule that may also ask the host of an address of the user's."""
        return Web(replace(self.access, named=(*self.access.named, *_places(url))))

    def get(
        self,
        url: str,
        *,
        budget: Budget,
        span: tuple[int, int] | None = None,
        headers: Mapping[str, str] | None = None,
        trusted: Sequence[str] = (),
    ) -> Response:
        """Fetch an address, or a range of its bytes.

        Args:
            url: http(s).
            budget: Time it may take.
            span: (first, last) byte, both inclusive; None = all.
            headers: Sent to this host only, never after a redirect to another.
            trusted: Hosts that may have them nevertheless, and all below them.

        Raises:
            Cancelled: The budget was cancelled.
            WebError: It came to nothing.
        """
        more = {"Range": f"bytes={span[0]}-{span[1]}"} if span else {}
        headers = {**(headers or {}), **more}
        return self.request("GET", url, budget=budget, headers=headers, trusted=trusted)

    def request(
        self,
        method: str,
        url: str,
        *,
        budget: Budget,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        trusted: Sequence[str] = (),
    ) -> Response:
        """Make a request that may be repeated: GET, or the POST of a search.

        Raises:
            Cancelled: The budget was cancelled.
            WebError: It came to nothing.
        """
        last = ""
        for attempt in range(TRIES):
            budget.check()
            try:
                return self._follow(method, url, budget, dict(headers or {}), body, trusted)
            except _Again as again:
                last = str(again)
                pause = again.pause
                if pause is None:
                    pause = PAUSE_S * 2**attempt * self._random.uniform(0.75, 1.25)
                if attempt + 1 < TRIES:
                    try:
                        budget.sleep(pause)
                    except WebError as error:
                        raise WebError("late", f"{error}; last: {last}") from error
        raise WebError("failed", f"{last}, {TRIES} times")

    def _follow(
        self,
        method: str,
        url: str,
        budget: Budget,
        headers: dict[str, str],
        body: bytes | None,
        trusted: Sequence[str],
    ) -> Response:
        for _ in range(REDIRECTS + 1):
            response = self._once(method, url, budget, headers, body)
            where = response.headers.get("Location")
            if response.status not in (301, 302, 303, 307, 308) or not where:
                return response
            target = urljoin(url, where)
            if urlsplit(target)[:2] != urlsplit(url)[:2] and not under(target, trusted):
                # Keys are for the host they were meant for.
                headers = {k: v for k, v in headers.items() if k in ("Range", "If-Match")}
            if response.status == 303:
                method, body = "GET", None
            url = target
        raise WebError("failed", f"more than {REDIRECTS} redirects")

    def _once(
        self, method: str, url: str, budget: Budget, headers: dict[str, str], body: bytes | None
    ) -> Response:
        """One request, read to its end within the budget."""
        try:
            self.access.check(url)
            with budget.watching():
                raw = self._pools.request(
                    method,
                    url,
                    body=body,
                    # Set here too: given headers take the place of the pool's.
                    headers={"User-Agent": "earthmind-lab", **headers},
                    redirect=False,
                    retries=False,
                    preload_content=False,
                    timeout=urllib3.Timeout(connect=_patience(budget), read=_patience(budget)),
                )
                budget.heard()
                try:
                    content = _read(raw, budget)
                except BaseException:
                    raw.close()
                    raise
            raw.release_conn()
        except Refused as error:
            raise WebError("refused", f"{_short(url)}: {error}") from error
        except (urllib3.exceptions.LocationValueError, UnicodeError) as error:
            # Their text repeats the whole address, with the signature in its query.
            raise WebError("refused", f"{_short(url)}: it is no address") from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            budget.check()
            raise _Again(_why(error)) from error
        if raw.status in _AGAIN:
            raise _Again(f"status {raw.status}", _retry_after(raw.headers.get("Retry-After")))
        if raw.status >= 400:
            kind = _KINDS.get(raw.status, "failed")
            raise WebError(kind, f"status {raw.status} from {_host(url)}")
        return Response(status=raw.status, headers=raw.headers, body=content)


def _places(url: str) -> tuple[str, ...]:
    try:
        return (place_of(url),)
    except ValueError:  # refused when it is asked
        return ()


def _read(raw: urllib3.BaseHTTPResponse, budget: Budget) -> bytes:
    """The whole body; a server that sends a byte now and then doesn't outlast the budget."""
    parts, size = [], 0
    while True:
        budget.check()
        part = raw.read1(CHUNK)
        if not part:
            break
        budget.heard()
        parts.append(part)
        size += len(part)
        if size > MAX_BODY:
            raise WebError("failed", f"more than {MAX_BODY >> 20} MiB")
    budget.check()  # what `cancel` hung up looks like an end
    stated = raw.headers.get("Content-Length", "")
    plain = raw.status < 300 and stated.isdecimal() and not raw.headers.get("Content-Encoding")
    if plain and size != int(stated):
        raise _Again(f"a body of {size} bytes instead of {stated}")
    return b"".join(parts)


def _patience(budget: Budget) -> float:
    """Seconds to wait for a server; never 0, which urllib3 takes for a mistake."""
    return max(0.01, min(STALL_S, budget.left))


def _retry_after(text: str | None) -> float | None:
    """Seconds in a Retry-After header: a number or a date."""
    if not text:
        return None
    if text.strip().isdecimal():
        return float(text)
    when = email.utils.parsedate_tz(text)
    return max(0.0, email.utils.mktime_tz(when) - time.time()) if when else None


def _why(error: BaseException) -> str:
    """In words that a user knows."""
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return "no address for this name (is there a network?)"
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        cause = error.__cause__
        return (
            f"no connection ({cause.strerror})" if isinstance(cause, OSError) else "no connection"
        )
    if isinstance(error, urllib3.exceptions.TimeoutError):
        return "no answer" if isinstance(error, urllib3.exceptions.ConnectTimeoutError) else (
            "the server stalled"
        )  # fmt: skip
    return f"{type(error).__name__}: {str(error)[:200]}"


def _short(url: str) -> str:
    """An address for a message: without its query, user and password, which may be keys."""
    scheme, slashes, rest = url.partition("?")[0].partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{slashes}{host.rpartition('@')[2]}{slash}{path}"[:200]


def _host(url: str) -> str:
    return urlsplit(url).hostname or "?"
