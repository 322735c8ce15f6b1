"""The card of a run: what the model could do before and after, on what it learned, and how.

`card.md`, `card.json` and `card.html` in the folder of the run. Scores come from answers that both
models really gave. What a model said, and every name, is shown as text and never as markup.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earthmind_lab.errors import EarthMindError
from earthmind_lab.evaluate.metrics import balanced_accuracy, interval
from earthmind_lab.finetune.scoring import kinds, right_by

CARD_FILES = ("card.md", "card.json", "card.html")
WORST = 5
"""Examples of a set that are told one by one."""
LEAST_DROP = 0.05
"""Fall of an example's score, or rise of its loss, that is worth telling."""
VALIDATION = "validation"


@dataclass(frozen=True, eq=False)
class Card:
    """What is known of a run.

    In a notebook it shows itself with the pictures of what got worse.
    """

    data: Mapping[str, Any]
    """As in ``card.json``."""

    def __repr__(self) -> str:
        return self.markdown()

    def lines(self) -> list[str]:
        """The scores in short, for a terminal."""
        from earthmind_lab.finetune.telling import short

        return short(self.data)

    def markdown(self) -> str:
        """For a README."""
        from earthmind_lab.finetune.telling import markdown

        return markdown(self.data)

    def _repr_html_(self) -> str:
        from earthmind_lab.finetune.telling import html

        return html(self.data)

    def save(self, folder: str | Path) -> None:
        """Write `CARD_FILES`; each is there as a whole or not at all.

        Raises:
            EarthMindError: The folder can't be written.
        """
        page = f"<!doctype html><meta charset='utf-8'><title>card</title>{self._repr_html_()}"
        text = json.dumps(self.data, ensure_ascii=True, allow_nan=False, indent=1) + "\n"
        try:
            for name, content in zip(CARD_FILES, (self.markdown(), text, page), strict=True):
                path = Path(folder) / name
                draft = path.with_name(name + ".part")
                draft.write_text(content, encoding="utf-8", errors="replace")
                draft.replace(path)
        except OSError as error:
            raise EarthMindError(
                f"The card can't be written to {folder}.",
                found=str(error),
                change="some space or rights; the same command then writes the card alone",
            ) from error

    @classmethod
    def load(cls, folder: str | Path) -> Card:
        """The card of a run.

        Raises:
            EarthMindError: There is none, or it can't be read.
        """
        path = Path(folder) / "card.json"
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            held = set(data)
        except (OSError, ValueError, TypeError) as error:
            raise _no_card(folder, f"{type(error).__name__}: {error}"[:200]) from error
        if lacking := {"sets", "adapter", "data", "recipe"} - held:
            raise _no_card(folder, f"no {', '.join(sorted(lacking))} in {path.name}")
        return cls(data)


def _no_card(folder: str | Path, found: str) -> EarthMindError:
    return EarthMindError(
        f"{folder} has no card.",
        found=found,
        change="the folder of a training that has ended; the same command that trained goes on to "
        "the card",
    )


def table(rows: Sequence[Mapping[str, Any]], baseline: Mapping[str, str]) -> list[dict[str, Any]]:
    """Scores before and after, per task and kind of answer.

    Args:
        rows: Of `compared`.
        baseline: Commonest answer of the training data, per task and kind.
    """
    found = []
    for task, kind in kinds(rows):
        own = [row for row in rows if (row["task"], row["kind"]) == (task, kind)]
        both = [row for row in own if row["before"]["score"] is not None
                and row["after"]["score"] is not None]  # fmt: skip
        units = [row["unit"] for row in both]
        scores = {when: [row[when]["score"] for row in both] for when in ("before", "after")}
        drops = [a - b for a, b in zip(scores["after"], scores["before"], strict=True)]
        base = [right_by(baseline, row) for row in both]
        held = [value for value in base if value is not None]
        entry = {
            "task": task, "kind": kind, "measure": MEASURES[kind], "examples": len(own),
            "asked": len(both), "units": len(set(units)),
            "before": _interval(scores["before"], units),
            "after": _interval(scores["after"], units),
            "change": _interval(drops, units),
            "baseline": sum(held) / len(held) if held else None,
            "loss": _losses(own),
            "lost": sum(
                row["before"]["loss"] is not None and row["after"]["loss"] is None for row in own
            ),
        }  # fmt: skip
        if kind == "yes/no":
            entry["balanced"] = {
                when: _balanced(both, scores[when]) for when in ("before", "after")
            }
        found.append(entry)
    return found


MEASURES = {
    "yes/no": "accuracy",
    "mask": "IoU",
    "nothing": "marks nothing",
    "short": "exact match",
    "text": "none",
}
"""What the score of each kind of answer is."""


def compared(
    about: Sequence[Mapping[str, Any]],
    before: Sequence[Mapping[str, Any]],
    after: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Each example with what both models made of it.

    What could be answered before and can't any more is wrong, not left out.
    """
    found = []
    for each, one, other in zip(about, before, after, strict=True):
        fell = one["score"] is not None and other["score"] is None
        found.append(
            {**each, "before": dict(one), "after": {**other, **({"score": 0.0} if fell else {})}}
        )
    return found


def worst(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The examples that got worse most: by score, then by loss."""

    def fall(row: Mapping[str, Any]) -> tuple[float, float]:
        pair = [(row["before"][key], row["after"][key]) for key in ("score", "loss")]
        drops = [0.0 if None in each else each[0] - each[1] for each in pair]
        return drops[0], -drops[1]

    ranked = sorted(rows, key=lambda row: (*(-each for each in fall(row)), row["id"]))
    told = [row for row in ranked if fall(row)[0] >= LEAST_DROP]
    told += [row for row in ranked if row not in told and row["kind"] == "text"
             and fall(row)[1] >= LEAST_DROP]  # fmt: skip
    return told[:WORST]


def worse(entries: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of a table whose score fell, or whose loss rose where there is no score."""
    return [
        row for row in entries
        if row["lost"]
        or (row["change"] is not None and row["change"]["value"] < 0)
        or (row["change"] is None and row["loss"] and row["loss"]["after"] > row["loss"]["before"])
    ]  # fmt: skip


def _interval(values: Sequence[float], units: Sequence[str]) -> dict[str, Any] | None:
    found = interval(values, units)
    return None if found is None else found.to_dict()


def _balanced(rows: Sequence[Mapping[str, Any]], scores: Sequence[float]) -> float | None:
    there = [bool(row["side"]) for row in rows]
    said = [side if score else not side for side, score in zip(there, scores, strict=True)]
    return balanced_accuracy(said, there)


def _losses(rows: Sequence[Mapping[str, Any]]) -> dict[str, float] | None:
    pairs = [(row["before"]["loss"], row["after"]["loss"]) for row in rows]
    held = [pair for pair in pairs if None not in pair]
    if not held:
        return None
    return {
        when: sum(pair[side] for pair in held) / len(held)
        for side, when in enumerate(("before", "after"))
    }
