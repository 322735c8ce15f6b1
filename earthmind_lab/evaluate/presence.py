"""Is there water, are there trees: yes or no, against every truth that decides it.

table = evaluate_presence(load_engine("nano"))
print(table.markdown())
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from earthmind_lab.evaluate.asking import ForPlace, Shown
from earthmind_lab.evaluate.ground import PRESENT
from earthmind_lab.evaluate.legends import CLASSES
from earthmind_lab.evaluate.metrics import (
    accuracy,
    balanced_accuracy,
    interval,
    majority,
    mean_of,
    without_own_place,
)
from earthmind_lab.evaluate.report import (
    TWINS,
    TWINS_MEAN,
    Part,
    Table,
    count_scenes,
    group_rows,
    shown_away,
)
from earthmind_lab.evaluate.rules import index_rule, vv_rule
from earthmind_lab.evaluate.run import Asked, Choices, Task, questions, run


@dataclass(frozen=True, kw_only=True)
class Presence(Asked):
    """Whether one class is there, as asked and as it is."""

    share: float | None
    """True share of the ground; None = the truth has no pixels."""
    said: bool | None
    """None = neither yes nor no, which is wrong."""
    blind: bool | None
    """What the engine says without a picture."""
    vv: bool | None
    """By the backscatter threshold; None = it doesn't apply."""
    index: bool | None
    """By a spectral index on the picture asked about."""

    @property
    def right(self) -> bool:
        """Whether the answer is right."""
        return self.said == self.there


def evaluate_presence(
    engine: ForPlace,
    catalog: str | Path = "sample",
    labels: str | None = None,
    **chosen: Unpack[Choices],
) -> Table:
    """Ask for every class on every scene of a catalog whether it is there.

    Args:
        engine: The model; or a function from a place's name to the model that never saw it, to
            leave one place out (`folds`).
        catalog: ``sample``, or the path of a static catalog.
        labels: Id of its collection of labels; None = every item with a legend.
        chosen: Sensors, places, control and the like: `run.Choices`.

    Raises:
        SearchError: The catalog or its labels can't be read, or nothing could be asked.
        EarthMindError: The engine can't answer.
    """
    task = Task(name="presence", rows_of=_rows, parts_of=_parts)
    return run(task, engine, catalog, labels, **chosen)


def _rows(shown: Shown) -> list[Presence]:
    chip = shown.looked.chip
    return [
        Presence(
            **vars(asked),
            share=truth.share(CLASSES.index(asked.label)),
            said=shown.said(asked.label),
            blind=shown.blind(asked.label),
            vv=_rule(shown, vv_rule(chip, asked.label), "optical"),
            index=_rule(shown, index_rule(chip, asked.label), "sar"),
        )
        for truth, asked in questions(shown)
    ]


def _rule(shown: Shown, mask: Any, not_for: str) -> bool | None:
    if mask is None or shown.sensors == not_for:
        return None
    return bool(mask[shown.looked.chip.inside].mean() >= PRESENT)


def _parts(rows: Sequence[Presence]) -> list[Part]:
    """One line per scene, then per group of scenes and sensors one per class, then the twins."""
    parts = [Part(title="Per scene", lines=_per_scene([row for row in rows if not row.twin]))]
    for title, group in group_rows([row for row in rows if not row.twin]):
        parts.append(Part(title=f"Presence, {title}", lines=_per_class(group)))
    twins = [row for row in rows if row.twin]
    if twins:
        parts.append(Part(title=TWINS, lines=_twins(twins)))
        parts.append(Part(title=TWINS_MEAN, lines=_per_class(twins)))
    return parts


def _per_scene(rows: Sequence[Presence]) -> list[dict[str, Any]]:
    keys = list(dict.fromkeys((r.scene, r.place, r.training, r.sensors, r.truth) for r in rows))
    lines = []
    for key in keys:
        mine = [r for r in rows if (r.scene, r.place, r.training, r.sensors, r.truth) == key]
        # By pictures of other places a class may be asked for several times.
        wrong = Counter(
            f"{r.label} ({'there' if r.there else 'not there'})" for r in mine if not r.right
        )
        lines.append(
            {
                **dict(
                    zip(("scene", "place", "in training", "sensors", "truth"), key, strict=True)
                ),
                "there": ", ".join(dict.fromkeys(r.label for r in mine if r.there)) or "none",
                "right": f"{len(mine) - wrong.total()}/{len(mine)}",
                "wrong about": ", ".join(
                    f"{n} x {what}" if n > 1 else what for what, n in wrong.items()
                ),
            }
        )
    return lines


def _per_class(rows: Sequence[Presence]) -> list[dict[str, Any]]:
    lines = []
    for sensors, truth in dict.fromkeys((r.sensors, r.truth) for r in rows):
        group = [r for r in rows if (r.sensors, r.truth) == (sensors, truth)]
        labels = [label for label in CLASSES if any(r.label == label for r in group)]
        lines += [
            {"sensors": sensors, "truth": truth, "class": label}
            | _scores([r for r in group if r.label == label])
            for label in labels
        ]
        if len(labels) > 1:
            pooled = {"sensors": sensors, "truth": truth, "class": "mean of classes"}
            lines.append(pooled | _pooled(group, labels))
    return lines


def _scores(rows: Sequence[Presence]) -> dict[str, Any]:
    there, places = [r.there for r in rows], [r.place for r in rows]
    right = accuracy([r.said for r in rows], there)
    rivals = {
        "majority": majority(there),
        "blind right": accuracy([r.blind for r in rows], there),
        "other places' answer right": accuracy(without_own_place(there, places), there),
    }
    return {
        "scenes": count_scenes(rows),
        "there": count_scenes([r for r in rows if r.there]),
        "right": right,
        **rivals,
        "beats them": beats(right, rivals.values()),
        "balanced": interval([r.right for r in rows], places, sides=there),
        "always yes": balanced_accuracy([True] * len(rows), there),
        "blind": balanced_accuracy([r.blind for r in rows], there),
        "VV": _balanced_rule(rows, "vv"),
        "index": _balanced_rule(rows, "index"),
    }


def balanced(rows: Sequence[Presence]) -> float | None:
    """Balanced accuracy of the answers; None where a class is always or never there."""
    return balanced_accuracy([r.said for r in rows], [r.there for r in rows])


def beats(score: float | None, rivals: Iterable[float | None]) -> bool | None:
    """Whether a score is better than every rival's; None where a rival makes no mistake.

    >>> beats(0.9, [0.5, None, 0.8]), beats(0.8, [0.8]), beats(1.0, [1.0]) is None
    (True, False, True)
    """
    held = [rival for rival in rivals if rival is not None]
    if score is None or not held or max(held) >= 1.0:
        return None
    return score > max(held)


def _pooled(rows: Sequence[Presence], labels: Sequence[str]) -> dict[str, Any]:
    """Mean over classes, so that a class with many scenes doesn't speak for the others."""
    by_class = [_scores([r for r in rows if r.label == label]) for label in labels]
    names = ("right", "majority", "blind right", "other places' answer right")
    means = {name: mean_of([scores[name] for scores in by_class]) for name in names}
    return {
        "scenes": count_scenes(rows),
        "there": sum(count_scenes([r for r in rows if r.there and r.label == label])
                     for label in labels),
        **means,
        "beats them": beats(means["right"], [means[name] for name in names[1:]]),
        "balanced": interval(
            [r.right for r in rows], [r.place for r in rows],
            sides=[r.there for r in rows], groups=[r.label for r in rows],
        ),
        "always yes": mean_of([scores["always yes"] for scores in by_class]),
        "blind": mean_of([scores["blind"] for scores in by_class]),
    }  # fmt: skip


def _balanced_rule(rows: Sequence[Presence], name: str) -> float | None:
    held = [r for r in rows if getattr(r, name) is not None]
    if len(held) < len(rows):
        return None
    return balanced_accuracy([getattr(r, name) for r in held], [r.there for r in held])


def _twins(rows: Sequence[Presence]) -> list[dict[str, Any]]:
    return [
        {
            "scene": r.scene, **shown_away(r), "sensors": r.sensors, "truth": r.truth,
            "class": r.label, "there": "yes" if r.there else "no", "said": said_word(r.said),
            "right": r.right, "VV": said_word(r.vv), "index": said_word(r.index),
            "blind": said_word(r.blind),
        }
        for r in rows
    ]  # fmt: skip


def said_word(said: bool | None) -> str:
    """An answer as a word; empty = none."""
    return "" if said is None else "yes" if said else "no"
