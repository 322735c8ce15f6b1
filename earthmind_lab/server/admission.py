"""Who is let in: asks under way by seat and by token, and the memory of their pictures.

An ask takes its place before anything of it is decoded, and leaves it once, however it ends.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from earthmind_lab.errors import Cancelled, EngineBusy, PromptError
from earthmind_lab.server.limits import Limits

PIXEL_BYTES = 3
"""Of a decoded picture: three channels of 8 bits."""
DECODING_BYTES = 15
"""What each pixel of a picture takes more while it is decoded: measured, as Pillow copies it."""


class Admission:
    """The places of one server; any thread.

    Args:
        limits: How many places there are, and how much memory.

    >>> admission = Admission(Limits(asks_per_seat=1))
    >>> place = admission.enter("token")
    >>> place.sit("ann")
    >>> place.hold(12)
    >>> admission.asks, admission.held
    (1, 12)
    >>> place.leave()
    >>> admission.asks, admission.held
    (0, 0)
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._seats: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self._held = 0
        self._lock = threading.Lock()

    @property
    def asks(self) -> int:
        """Under way: being decoded, queued or answered."""
        with self._lock:
            return self._tokens.total()

    @property
    def held(self) -> int:
        """Bytes of their pictures."""
        with self._lock:
            return self._held

    def enter(self, token: str) -> Place:
        """A place for one more ask.

        Args:
            token: Whose holder asks, by the name that the guard gives it.

        Raises:
            EngineBusy: All seats of the token together have too many under way.
        """
        with self._lock:
            most = self._limits.asks_per_token
            _count(self._tokens, token, most, "All seats of this token together have")
        return Place(self, token)

    def sit(self, place: Place, seat: str) -> None:
        """See `Place.sit`."""
        with self._lock:
            _check_there(place)
            _count(self._seats, seat, self._limits.asks_per_seat, "This seat has")
            place.seat = seat

    def hold(self, place: Place, nbytes: int) -> None:
        """See `Place.hold`."""
        most = self._limits.decoded_bytes
        with self._lock:
            _check_there(place)
            if place.held + nbytes > most:
                raise PromptError(
                    "The pictures are larger than all that this server may hold.",
                    found=f"{place.held + nbytes} bytes decoded, at most {most} are taken",
                    change="fewer or smaller pictures",
                )
            if self._held + nbytes > most:
                raise EngineBusy(
                    "The server holds as many pictures as it may.",
                    found=f"{self._held} of {most} bytes, {nbytes} more were asked for",
                    change="ask again when others have their answers",
                )
            self._held += nbytes
            place.held += nbytes

    def free(self, place: Place, nbytes: int) -> None:
        """Count less again; nothing where the place was left, and all of it given back."""
        with self._lock:
            if not place.left:
                self._held -= nbytes
                place.held -= nbytes

    def leave(self, place: Place) -> None:
        """See `Place.leave`."""
        with self._lock:
            if place.left:
                return
            place.left = True
            self._held -= place.held
            _discount(self._tokens, place.token)
            if place.seat is not None:
                _discount(self._seats, place.seat)


class Place:
    """One ask's place, from before its pictures are decoded until it has ended.

    Attributes:
        token: Whose holder asks.
        seat: Which of them; None = not told yet.
        held: Bytes of its pictures.
        left: Whether it has been given back.
    """

    def __init__(self, admission: Admission, token: str) -> None:
        self._admission, self.token = admission, token
        self.seat: str | None = None
        self.held, self.left = 0, False

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def sit(self, seat: str) -> None:
        """Say who asks; once.

        Raises:
            EngineBusy: The seat has too many asks under way.
            Cancelled: The place was left meanwhile.
        """
        self._admission.sit(self, seat)

    def hold(self, nbytes: int) -> None:
        """Count what the ask's pictures will take; before they are decoded.

        Args:
            nbytes: Bytes of them.

        Raises:
            PromptError: They would not fit even alone.
            EngineBusy: They don't fit beside those of the others.
            Cancelled: The place was left meanwhile.
        """
        self._admission.hold(self, nbytes)

    @contextmanager
    def holding(self, nbytes: int) -> Iterator[None]:
        """The same for what is needed for a while only.

        Raises:
            PromptError: As `hold`; so are the others.
        """
        self.hold(nbytes)
        try:
            yield
        finally:
            self._admission.free(self, nbytes)

    def leave(self) -> None:
        """Give all of it back; no effect the second time."""
        self._admission.leave(self)


def _check_there(place: Place) -> None:
    """A thread may still be looking at pictures when whoever asked has hung up."""
    if place.left:
        raise Cancelled("The ask has been given up.")


def _count(counter: Counter[str], key: str, most: int, who: str) -> None:
    if counter[key] >= most:
        raise EngineBusy(
            f"{who} too many asks under way.",
            found=f"{counter[key]} asks",
            change="wait for one of them, or cancel some",
        )
    counter[key] += 1


def _discount(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
