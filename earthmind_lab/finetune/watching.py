"""Who watches a training: what watchers are told, and how one of them ends it. Knows no torch."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@contextmanager
def on_interrupt(ask: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C asks for the end while this lasts; a second one stops at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def stop(*_: Any) -> None:
        ask()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@dataclass(frozen=True, kw_only=True, eq=False)
class Told:
    """What the model in training answered to one example."""

    id: str
    task: str
    kind: str
    """As `scoring.kind_of` says."""
    question: str
    wanted: str
    """The answer that was wanted, with its marks."""
    said: str
    """What the model said, with its marks."""
    score: float | None
    """0 to 1; None of kind ``text``, and where it could not be asked."""
    failed: str = ""
    """Why it could not be asked."""
    pictures: tuple[tuple[str, NDArray[np.uint8]], ...] = ()
    """Caption and picture (H, W, 3): what was seen, and where there are masks, those wanted and
    those given."""


class Watcher:
    """Is told of a training as it goes on, on its thread; does nothing with it.

    A watcher that fails ends the training: it must keep its own troubles to itself.
    """

    wants_answers = True
    """Whether a few examples are asked while it trains (``evaluation.samples`` of the recipe)."""
    shows_progress = False
    """Whether it takes the place of the progress bar."""
    stop = False
    """Set it, from any thread, and the training ends after the step under way, with a
    checkpoint."""

    def began(self, step: int, steps: int) -> None:
        """The first step is about to be made.

        Args:
            step: The last one that was made already, of a training that goes on.
            steps: Of the whole training.
        """

    def row(self, row: dict[str, Any]) -> None:
        """A line of the log: of a step, or of a validation."""

    def answered(self, step: int, told: Sequence[Told], *, learned: bool) -> None:
        """What the model answers after a step.

        Args:
            step: 0 = before the first one.
            told: An answer per example, always of the same ones.
            learned: Whether these are examples that it learns from, for want of others.
        """

    def says(self, text: str) -> None:
        """What is done beside steps."""

    def ended(self, how: str) -> None:
        """It is over.

        Args:
            how: ``done``, ``early`` or ``stopped``, or what went wrong.
        """


class Follow(Watcher):
    """A watcher that hands the lines of the log to a function.

    Args:
        follow: Gets each of them.
    """

    wants_answers = False

    def __init__(self, follow: Callable[[dict[str, Any]], None]) -> None:
        self.row = follow  # type: ignore[assignment, method-assign]
