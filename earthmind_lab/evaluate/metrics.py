"""Scores, and how sure they are: plain functions of what was said and what is true.

Nothing in here knows pictures or engines, so each is tested against a count by hand.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

LEAST_UNITS = 8
"""No interval below: resampling fewer places pretends to know a spread that was never seen."""
DRAWS = 2000
"""Bootstrap samples; the ends of an interval then shake by less than what is printed."""
T = TypeVar("T")
Bool = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Pixels, or answers, of a yes/no decision."""

    tp: int
    fp: int
    fn: int
    tn: int

    @classmethod
    def of(cls, said: Bool, true: Bool, where: Bool) -> Counts:
        """Count a mask against truth.

        Args:
            said: (H, W) what was marked.
            true: (H, W) what is so.
            where: (H, W) True where the truth decides.
        """
        said, other = said & where, ~said & where
        return cls(
            tp=int((said & true).sum()), fp=int((said & ~true).sum()),
            fn=int((other & true).sum()), tn=int((other & ~true).sum()),
        )  # fmt: skip

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            tp=self.tp + other.tp, fp=self.fp + other.fp, fn=self.fn + other.fn,
            tn=self.tn + other.tn,
        )  # fmt: skip

    @property
    def total(self) -> int:
        """Everything that was decided."""
        return self.tp + self.fp + self.fn + self.tn

    @property
    def iou(self) -> float | None:
        """Intersection over union; None where neither holds anything.

        >>> Counts(tp=2, fp=1, fn=1, tn=0).iou, Counts(tp=0, fp=0, fn=0, tn=9).iou
        (0.5, None)
        """
        union = self.tp + self.fp + self.fn
        return self.tp / union if union else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall (Dice); None where neither holds anything.

        >>> round(Counts(tp=2, fp=1, fn=1, tn=0).f1, 4)
        0.6667
        """
        both = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / both if both else None

    @property
    def share_error(self) -> float | None:
        """Marked share minus true share of what was decided; None where nothing was.

        >>> Counts(tp=2, fp=2, fn=0, tn=6).share_error
        0.2
        """
        return (self.fp - self.fn) / self.total if self.total else None


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A score with its 95 % interval over places."""

    value: float
    low: float | None
    """None where there are fewer than `LEAST_UNITS` places, or none of the draws had a score."""
    high: float | None
    units: int
    """Places that it rests on."""

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.2f} (n={self.units}, no interval)"
        return f"{self.value:.2f} [{self.low:.2f}–{self.high:.2f}] n={self.units}"

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain data for JSON."""
        ends = {"low": self.low, "high": self.high}
        rounded = {name: None if end is None else round(end, 4) for name, end in ends.items()}
        return {"value": round(self.value, 4), **rounded, "units": self.units}


def balanced_accuracy(said: Sequence[bool | None], there: Sequence[bool]) -> float | None:
    """Mean of the share of right answers where the thing is there, and where it isn't.

    Args:
        said: Answers; None = neither yes nor no, which is wrong either way.
        there: What is so.

    Returns:
        0.5 for any constant answer; None where one of the two sides is missing.

    >>> balanced_accuracy([True, True, False], [True, False, False])
    0.75
    """
    sides = [[s == t for s, t in zip(said, there, strict=True) if t == side] for side in (0, 1)]
    if not all(sides):
        return None
    return float(np.mean([np.mean(side) for side in sides]))


def accuracy(said: Sequence[T | None], true: Sequence[T]) -> float | None:
    """Share of right answers; None without a question."""
    right = [s is not None and s == t for s, t in zip(said, true, strict=True)]
    return float(np.mean(right)) if right else None


def majority(true: Sequence[Hashable]) -> float | None:
    """What the best constant answer scores, chosen with the truth in hand: generous to it.

    >>> majority(["crops", "crops", "trees"]) == 2 / 3
    True
    """
    if not true:
        return None
    return max(list(true).count(each) for each in set(true)) / len(true)


def without_own_place(true: Sequence[T], places: Sequence[str]) -> list[T | None]:
    """What a model of answers would say that is given the question only.

    The commonest true answer of all other places; None where there are none, or a tie.

    >>> without_own_place([True, True, False], ["a", "b", "c"])
    [None, None, True]
    """
    found: list[T | None] = []
    for place in places:
        others = [t for t, p in zip(true, places, strict=True) if p != place]
        ranked = sorted({(others.count(each), repr(each)): each for each in others}.items())
        tied = len(ranked) > 1 and ranked[-1][0][0] == ranked[-2][0][0]
        found.append(ranked[-1][1] if ranked and not tied else None)
    return found


def interval(
    values: Sequence[float | bool | None],
    units: Sequence[str],
    *,
    sides: Sequence[bool] | None = None,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> Interval | None:
    """A mean and its bootstrap interval, drawing places, not scenes.

    Several scenes of one place are no independent witnesses, so they are drawn together.

    Args:
        values: One per row; None is left out.
        units: The place of each row.
        sides: What is so of each row; then the mean of the two sides' means (with answers that
            are right or wrong: `balanced_accuracy`).
        groups: Of each row, such as its class; then the mean over groups, each counted the same.
            A group that lacks a side is left out.
        seed: Of the draws.

    Returns:
        None where the rows decide nothing.

    >>> str(interval([1.0, 0.0], ["here", "there"]))
    '0.50 (n=2, no interval)'
    """
    held = [i for i, value in enumerate(values) if value is not None]
    names = sorted({units[i] for i in held})
    at = {name: number for number, name in enumerate(names)}
    sums: dict[tuple[Hashable, bool], NDArray[np.float64]] = {}
    for i in held:
        kind = (groups[i] if groups else 0, bool(sides[i]) if sides else True)
        found = sums.setdefault(kind, np.zeros((2, len(names))))
        found[:, at[units[i]]] += (float(values[i] or 0.0), 1.0)
    wanted = (False, True) if sides else (True,)
    whole = [
        np.stack([sums[group, side] for side in wanted])
        for group in dict.fromkeys(group for group, _ in sums)
        if all((group, side) in sums for side in wanted)
    ]
    if not whole:
        return None
    value = float(_scores(whole, np.ones((1, len(names))))[0])
    low = high = None
    if len(names) >= LEAST_UNITS:
        rng = np.random.default_rng(seed)
        times = rng.multinomial(len(names), [1 / len(names)] * len(names), size=DRAWS)
        scores = _scores(whole, times.astype(float))
        if (decided := scores[np.isfinite(scores)]).size:
            low, high = (float(end) for end in np.percentile(decided, (2.5, 97.5)))
    return Interval(value=value, low=low, high=high, units=len(names))


def _scores(whole: Sequence[NDArray[np.float64]], times: NDArray[np.float64]) -> Any:
    """One score per draw, from how often each place was drawn; NaN where it decides nothing.

    Args:
        whole: Of each group (sides, 2, places): sums of values, and their numbers.
        times: (draws, places).
    """
    found = []
    for sums in whole:
        total, count = (times @ sums[:, part].T for part in (0, 1))  # (draws, sides)
        found.append((total / np.where(count > 0, count, np.nan)).mean(axis=1))
    scores = np.stack(found)
    held = np.isfinite(scores)
    return np.where(held, scores, 0).sum(axis=0) / np.where(held.any(0), held.sum(0), np.nan)


def mean_of(values: Sequence[float | None]) -> float | None:
    """Mean of those that there are."""
    held = [value for value in values if value is not None]
    return float(np.mean(held)) if held else None
