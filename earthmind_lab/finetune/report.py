"""What a check of training data found, for people, notebooks and programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from earthmind_lab.export import whole_folder
from earthmind_lab.finetune.examples import ExampleInfo
from earthmind_lab.finetune.ground import hull
from earthmind_lab.finetune.leaks import Leak
from earthmind_lab.finetune.shown import Shown

CHECK_FILES = ("check.html", "check.json")
"""What `DataReport.save` writes."""
TOLD = 10
"""Findings of a kind that are told one by one; JSON has all."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What keeps one example from being trained on."""

    id: str
    index: int
    kind: str
    """``broken``, ``too long``, ``arrangement``, ``marks``, ``mask size``, ``empty mask`` or
    ``no answer``."""
    text: str


@dataclass
class Tally:
    """What is counted over all examples."""

    count: int = 0
    tasks: Counter[str] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)
    tokens: list[int] = field(default_factory=list)
    """Per example, with its answer."""
    picture_tokens: list[int] = field(default_factory=list)
    reply_tokens: list[int] = field(default_factory=list)
    bounds: list[tuple[float, float, float, float]] = field(default_factory=list)
    """Of the examples that have a place."""
    placed: int = 0

    def told(self, info: ExampleInfo) -> None:
        """One example, before it is opened."""
        self.count += 1
        self.tasks[info.task] += 1
        self.licences[info.licence or "not said"] += 1
        if info.place is not None and not info.place.is_empty:
            self.placed += 1
            self.bounds = [hull([*self.bounds, info.place.bounds])]

    def counted(self, total: int, pictures: int, reply: int) -> None:
        """The tokens of one."""
        self.tokens.append(total)
        self.picture_tokens.append(pictures)
        self.reply_tokens.append(reply)

    def warnings(self) -> list[str]:
        """What is worth knowing of the whole."""
        silent = self.licences["not said"]
        found = []
        if silent:
            found.append(f"{silent} of {self.count} examples say no licence")
        if 0 < self.placed < self.count:
            found.append(f"{self.count - self.placed} of {self.count} examples have no place")
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class DataReport:
    """What a check found."""

    said: str
    """What was checked."""
    against: str | None
    """What it was compared with."""
    tally: Tally
    limit: int | None
    """Longest example in tokens; None = no model was given."""
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]
    yes_no: dict[str, int]
    leaks: tuple[Leak, ...]
    shown: tuple[Shown, ...]

    @property
    def ok(self) -> bool:
        """Whether it can be trained on as it is: no problem and no leak, whatever the warnings."""
        return not self.problems and not self.leaks

    @property
    def refused(self) -> tuple[str, ...]:
        """Ids of the examples that can't be trained on, in their order."""
        return tuple(dict.fromkeys(problem.id for problem in self.problems))

    def lines(self) -> list[str]:
        """For people."""
        tally = self.tally
        tasks = ", ".join(f"{count} {task}" for task, count in tally.tasks.most_common())
        licences = ", ".join(f"{name} ({n})" for name, n in tally.licences.most_common(5))
        found = [self.said, f"{tally.count} examples: {tasks}", f"Licences: {licences}"]
        found += [f"Compared with {self.against}"] if self.against else []
        for name, values in (
            ("Tokens per example", tally.tokens), ("of its pictures", tally.picture_tokens),
            ("of its answer", tally.reply_tokens),
        ):  # fmt: skip
            if values:
                least, middle, most = summary(values)
                found.append(f"{name}: {least} to {most}, half of them up to {middle}")
        if self.limit is not None:
            found.append(f"The model reads {self.limit}. {histogram(tally.tokens)}")
        if tally.bounds:
            west, south, east, north = tally.bounds[0]
            inside = f"{west:.3f},{south:.3f},{east:.3f},{north:.3f}"
            found.append(f"Places: {tally.placed} examples have one, within {inside}")
        if any(self.yes_no.values()):
            found.append(f"Yes/no answers: {self.yes_no['yes']} yes, {self.yes_no['no']} no")
        found += [f"Warning: {text}" for text in self.warnings]
        return [*found, *self._refusals(), *self._leaked(), self._verdict]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: everything but the pictures."""
        tally = self.tally
        numbers = {
            "tokens": tally.tokens, "picture_tokens": tally.picture_tokens,
            "reply_tokens": tally.reply_tokens,
        }  # fmt: skip
        return {
            "ok": self.ok, "data": self.said, "against": self.against, "examples": tally.count,
            "tasks": dict(tally.tasks), "licences": dict(tally.licences),
            **{name: _numbers(values) for name, values in numbers.items()},
            "limit": self.limit, "yes_no": self.yes_no, "placed": tally.placed,
            "bounds": list(tally.bounds[0]) if tally.bounds else None,
            "problems": [vars(problem) for problem in self.problems],
            "warnings": list(self.warnings),
            "leaks": [
                {"kind": leak.kind, "what": leak.what, "first": list(leak.first),
                 "second": list(leak.second)}
                for leak in self.leaks
            ],
        }  # fmt: skip

    def save(self, folder: str | Path) -> dict[str, Path]:
        """Write `CHECK_FILES`: the page with its pictures inside, and the numbers.

        Raises:
            EarthMindError: The folder can't be written.
        """
        page = f"<!doctype html><meta charset='utf-8'><title>check</title>{self._repr_html_()}"
        with whole_folder(folder, CHECK_FILES) as draft:
            (draft / "check.html").write_text(page, encoding="utf-8", errors="replace")
            text = json.dumps(self.to_dict(), ensure_ascii=True, allow_nan=False, indent=1)
            (draft / "check.json").write_text(text + "\n", encoding="utf-8")
        return {name: Path(folder) / name for name in CHECK_FILES}

    def _repr_html_(self) -> str:
        told = "".join(f"<li>{escape(line)}</li>" for line in self.lines())
        return f"<ul>{told}</ul>" + "".join(each.html() for each in self.shown)

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _refusals(self) -> list[str]:
        found = []
        for kind, count in Counter(problem.kind for problem in self.problems).items():
            own = [problem for problem in self.problems if problem.kind == kind][:TOLD]
            found += [f"Refused, {kind}: {problem.id}: {problem.text}" for problem in own]
            if count > len(own):
                found.append(f"Refused, {kind}: {count - len(own)} more")
        return found

    def _leaked(self) -> list[str]:
        found = [f"Leak, {leak}" for leak in self.leaks[:TOLD]]
        more = len(self.leaks) - len(found)
        return [*found, f"Leak: {more} more"] if more else found

    @property
    def _verdict(self) -> str:
        if self.ok:
            return "Nothing speaks against training on it."
        parts = [f"{len(self.refused)} examples are refused"] if self.problems else []
        parts += [f"it shares {len(self.leaks)} things with the other set"] if self.leaks else []
        return f"Not as it is: {', '.join(parts)}."


def summary(values: Sequence[int]) -> tuple[int, int, int]:
    """Least, median and greatest; the median is one of them.

    >>> summary([5, 1, 9, 7])
    (1, 5, 9)
    """
    ordered = sorted(values)
    return ordered[0], ordered[(len(ordered) - 1) // 2], ordered[-1]


def histogram(values: Sequence[int]) -> str:
    """How many have up to 64, 128, 256, … in words.

    >>> histogram([3, 100, 70, 5000])
    'Up to 64: 1; to 128: 2; to 8192: 1.'
    """
    bins = Counter(max(64, 1 << (value - 1).bit_length()) for value in values)
    parts = [f"to {edge}: {bins[edge]}" for edge in sorted(bins)]
    return f"Up {'; '.join(parts)}." if parts else "None was counted."


def _numbers(values: Sequence[int]) -> dict[str, int] | None:
    if not values:
        return None
    least, middle, most = summary(values)
    return {"least": least, "median": middle, "most": most}
