"""Quick-looks of a search's scenes, read one after the other beside everything else."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from earthmind_lab.errors import Cancelled, EarthMindError
from earthmind_lab.quicklook import data_url

if TYPE_CHECKING:
    from earthmind_lab.data.budget import Budget
    from earthmind_lab.session import Session

_log = logging.getLogger(__name__)
SECONDS = 60.0
"""For all of one search together."""
EACH = 4
"""So many come to the screen at a time."""
QUALITY = 80


class QuickLooks:
    """Small pictures by id of their scene; the newest wish replaces the one before.

    Args:
        session: Whose scenes they are.
        tell: Called on a thread of its own when some have come.
    """

    def __init__(self, session: Session, tell: Callable[[], None]) -> None:
        self._session, self._tell = session, tell
        self._lock = threading.Lock()
        self._wish: tuple[str, tuple[str, ...]] = ("", ())
        self._budget: Budget | None = None
        self.found: dict[str, str] = {}
        """JPEGs as data URLs; empty where a scene can't be shown. Replaced, never changed."""

    def want(self, subject: str, scenes: Sequence[str]) -> None:
        """Have these read; none stops what is being read."""
        from earthmind_lab.data.budget import Budget

        wish = (subject, tuple(scenes))
        with self._lock:
            if wish == self._wish:
                return
            self._stop()
            self._wish, self.found = wish, {}
            if not scenes:
                return
            self._budget = budget = Budget(SECONDS)
        thread = threading.Thread(
            target=self._read, args=(wish, budget), name="earthmind-quicklooks", daemon=True
        )
        thread.start()

    def close(self) -> None:
        """Stop reading."""
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        if self._budget is not None:
            self._budget.cancel()
            self._budget = None

    def _read(self, wish: tuple[str, tuple[str, ...]], budget: Budget) -> None:
        name, scenes = wish
        for number, scene in enumerate(scenes, start=1):
            try:
                view = self._session.quicklook(scene, name, budget=budget)
                shown = data_url(view.image, QUALITY)
            except Cancelled:
                return
            except EarthMindError:  # its row says all else; a picture is no reason to stop
                shown = ""
            except Exception:  # noqa: BLE001  the others are still to be had
                _log.warning("no quick-look of %s", scene, exc_info=True)
                shown = ""
            with self._lock:
                if self._wish != wish:
                    return
                self.found = {**self.found, scene: shown}
            if number % EACH == 0 or number == len(scenes):
                self._tell()
