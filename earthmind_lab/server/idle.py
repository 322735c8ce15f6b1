"""When a server that nobody asks should end."""

from __future__ import annotations

import time
from collections.abc import Callable

_BEAT_SECONDS = 1.0


class Idle:
    """Counts the time in which nothing is asked; who is connected and silent doesn't count.

    Args:
        seconds: After so much of it the server ends; None = never.
        beat: Called each second with whether something goes on; False = nobody can find this
            server any more.
        clock: Seconds.
    """

    def __init__(
        self,
        seconds: float | None = None,
        *,
        beat: Callable[[bool], bool] = lambda _: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds, self._beat, self._clock = seconds, beat, clock
        self._last = self._beaten = clock()

    def over(self, *, active: bool) -> bool:
        """Whether to end now; asked several times a second.

        Args:
            active: Whether something goes on.
        """
        now = self._clock()
        if active:
            self._last = now
        if now - self._beaten >= _BEAT_SECONDS:
            self._beaten = now
            # What went on since the last beat counts for this one, too.
            if not self._beat(now - self._last < _BEAT_SECONDS):
                return not active
        return self._seconds is not None and now - self._last >= self._seconds
