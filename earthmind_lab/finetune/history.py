"""What is known of a training that goes on: losses, scores, answers, time left. Plain data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from earthmind_lab.finetune.watching import Told
from earthmind_lab.progress import duration

PACE_STEPS = 50
"""Steps whose pace tells how long the rest will take."""
MOST_POINTS = 400
"""Of a line in a picture; more steps are averaged to as many."""


class History:
    """Gathers what watchers are told.

    Args:
        earlier: Lines of the log from before; those of steps that are made again go.

    Attributes:
        step: The last one that was made.
        steps: Of the whole training; 0 = not known yet.
        rows: A line of the log per step.
        validations: Step and mean loss of each.
        scores: Per step at which examples were asked, their scores by task and kind: mean, count.
        first: What was answered first.
        told: What was answered last, after the step `told_at`.
        over: Whether no step is made any more.
    """

    def __init__(self, earlier: Sequence[dict[str, Any]] = ()) -> None:
        self.step = self.steps = self.told_at = self.told_first = 0
        self.rows: list[dict[str, Any]] = []
        self.validations: list[tuple[int, float]] = []
        self.scores: dict[int, dict[str, tuple[float, int]]] = {}
        self.first: dict[str, Told] = {}
        self.told: tuple[Told, ...] = ()
        self.learned = self.over = False
        self._began = 0
        for row in earlier:
            self.add(row)

    def begin(self, step: int, steps: int) -> None:
        """The first step of this process follows `step`."""
        self.step, self.steps = step, steps
        self.rows = [row for row in self.rows if row["step"] <= step]
        self.validations = [each for each in self.validations if each[0] <= step]
        self._began = len(self.rows)

    def add(self, row: dict[str, Any]) -> None:
        """A line of the log."""
        if "loss" in row:
            self.rows.append(row)
            self.step = row["step"]
        elif "validation" in row:
            self.validations.append((row["step"], row["validation"]))

    def answer(self, step: int, told: Sequence[Told], *, learned: bool) -> None:
        """Answers of the model after a step."""
        self.told, self.told_at, self.learned = tuple(told), step, learned
        if not self.first:
            self.first, self.told_first = {each.id: each for each in told}, step
        by: dict[str, list[float]] = defaultdict(list)
        for each in told:
            if each.score is not None:
                by[f"{each.task}, {each.kind}"].append(each.score)
        self.scores[step] = {key: (float(np.mean(v)), len(v)) for key, v in by.items()}

    @property
    def pace(self) -> float | None:
        """Seconds per step, validations between them included; None = not known yet."""
        own = self.rows[self._began :][-PACE_STEPS:]
        if len(own) < 2:
            return None
        took: float = own[-1]["time"] - own[0]["time"]
        return took / (len(own) - 1)

    def progress(self) -> str:
        """Where it stands, in words.

        >>> history = History()
        >>> history.begin(0, 40)
        >>> for step in range(1, 11):
        ...     history.add({"step": step, "epoch": step / 20, "loss": 1.0, "time": 3.0 * step})
        >>> history.progress()
        'Step 10 of 40, epoch 0.5, 3 s per step, about 90 s left'
        """
        if not self.steps:
            return ""
        parts = [f"Step {self.step} of {self.steps}"]
        if self.rows:
            parts.append(f"epoch {self.rows[-1]['epoch']:.3g}")
        if self.pace is not None:
            parts.append(f"{self.pace:.3g} s per step")
            if self.step < self.steps and not self.over:
                parts.append(f"about {duration(self.pace * (self.steps - self.step))} left")
        return ", ".join(parts)

    def lines(self) -> dict[str, tuple[list[float], list[float]]]:
        """Step and value of each loss, ``loss`` being their weighted sum, and of ``rate``."""
        found: dict[str, tuple[list[float], list[float]]] = {}
        for row in self.rows:
            values = {"loss": row["loss"], **row.get("losses", {}), "rate": row.get("rate")}
            for name, value in values.items():
                if value is not None:
                    steps, own = found.setdefault(name, ([], []))
                    steps.append(row["step"])
                    own.append(value)
        return {name: (thinned(steps), thinned(own)) for name, (steps, own) in found.items()}


def thinned(values: Sequence[float], most: int = MOST_POINTS) -> list[float]:
    """As many means of neighbours as a picture can show.

    >>> thinned([1, 3, 5, 7], most=2)
    [2.0, 6.0]
    """
    if len(values) <= most:
        return [float(value) for value in values]
    return [float(np.mean(part)) for part in np.array_split(np.asarray(values, float), most)]
