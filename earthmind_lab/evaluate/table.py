"""How good an engine is on scenes it has never seen, beside rules that need no model.

`python -m earthmind_lab.evaluate` prints it. One row per scene, sensors and class:

    said        the engine's answer to "Is there ...? Answer yes or no."
    constant    the one answer that is right most often for this class in this very table
    IoU         of the mask of "Segment the ...", where the truth decides; 0 when it refused
    all ones    IoU of a mask that covers everything: what a constant answer is worth
    VV          IoU of VV < -17 dB (water only)
    index       IoU of one spectral index on the picture that was asked about. The truth of water,
                snow and vegetation comes from indices too, so on clear pictures this row is an
                upper bound by construction, not a rival; under cloud it is one.

Every claim that is drawn from it gives the mean over scenes with a 95 % bootstrap interval over
scenes; with so few the interval is wide, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.baselines import water_baselines
from earthmind_lab.chip import Chip
from earthmind_lab.engine.base import Engine
from earthmind_lab.evaluate.scenes import CASES, Known, load_case
from earthmind_lab.evaluate.truth import CLASSES, indices
from earthmind_lab.exchange import Options, Prompt, View
from earthmind_lab.render import render

NAMES = ("water", "trees", "crops", "built-up areas", "bare ground", "snow")
"""What each class is called in a question."""
PRESENT, ABSENT = 0.03, 0.004
"""Share of the ground from which a class counts as there; under the second, and with less than
the first undecided, it counts as not there. In between nothing is asked."""
SENSORS = ("optical", "sar", "both")
SNOW_NDSI, SNOW_GREEN, DENSE_NDVI, BARREN_NDVI = 0.42, 0.2, 0.4, 0.2
"""Of the index column; usual values, not tuned."""

ViewChange = Callable[[tuple[View, ...]], tuple[View, ...]]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One class on one scene by one choice of sensors."""

    scene: str
    split: str
    sensors: str
    label: str
    share: float
    """True share of the known ground."""
    said: bool | None
    """None = neither yes nor no."""
    iou: float | None
    """None where the class isn't there."""
    all_ones: float | None
    vv: float | None
    index: float | None

    @property
    def there(self) -> bool:
        """Whether the class is there."""
        return self.share >= PRESENT

    @property
    def right(self) -> bool:
        """Whether the yes or no is right."""
        return self.said is not None and self.said == self.there


def held_out(splits: Sequence[str] = ("stop", "test")) -> list[Known]:
    """The scenes that training never saw."""
    return [load_case(case) for case in CASES if case.split in splits]


def rows(
    engine: Engine,
    scenes: Iterable[Known],
    *,
    sensors: Sequence[str] = SENSORS,
    change: ViewChange | None = None,
) -> list[Row]:
    """Ask everything that the truth decides.

    Args:
        engine: The model in question.
        scenes: From `held_out`.
        sensors: Which views to show: ``optical``, ``sar``, ``both``.
        change: Applied to the views before asking, to see what the answers rest on.
    """
    found = []
    for known in scenes:
        views = render(known.chip, preferred=engine.capabilities.composites)
        for choice in sensors:
            shown = tuple(v for v in views if choice in ("both", v.modality))
            if len({v.modality for v in shown}) < (2 if choice == "both" else 1):
                continue
            shown = change(shown) if change else shown
            found += [_row(engine, known, shown, choice, i) for i in _decided(known)]
    return found


def iou(mask: NDArray[np.bool_], yes: NDArray[np.bool_], known: NDArray[np.bool_]) -> float:
    """Intersection over union where the truth decides."""
    union = ((mask | yes) & known).sum()
    return float((mask & yes & known).sum() / union) if union else 0.0


def summary(found: Sequence[Row], *, seed: int = 0) -> list[dict[str, object]]:
    """Mean over scenes per sensors and class, with a bootstrap interval over scenes."""
    rng = np.random.default_rng(seed)
    lines: list[dict[str, object]] = []
    for sensors in SENSORS:
        for label in CLASSES:
            group = [r for r in found if r.sensors == sensors and r.label == label]
            if not group:
                continue
            there = [r for r in group if r.iou is not None]
            lines.append(
                {
                    "sensors": sensors,
                    "class": label,
                    "scenes": len(group),
                    "yes/no right": np.mean([r.right for r in group]),
                    "best constant": max(np.mean([r.there for r in group]),
                                         np.mean([not r.there for r in group])),
                    "IoU": _interval([r.iou for r in there], rng),
                    "all ones": _interval([r.all_ones for r in there], rng),
                    "VV": _interval([r.vv for r in there], rng),
                    "index": _interval([r.index for r in there], rng),
                }
            )  # fmt: skip
    return lines


def markdown(found: Sequence[Row]) -> str:
    """The table, and means below it.

    The means come for the untouched scenes alone, and for all that training never drew from.
    """
    names = "scene split sensors class true-share said constant IoU all-ones VV index".split()
    lines = [_line(names), "|---" * len(names) + "|"]
    for r in found:
        said = "?" if r.said is None else "yes" if r.said else "no"
        cells: list[object] = [r.scene, r.split, r.sensors, r.label, r.share]
        cells += [said if r.right else f"{said} (wrong)", _constant(found, r)]
        lines.append(_line([*cells, r.iou, r.all_ones, r.vv, r.index]))
    groups = {"Test scenes alone": [r for r in found if r.split == "test"]}
    groups["All held-out scenes; those marked stop decided when training ended"] = list(found)
    for title, group in groups.items():
        table = summary(group)
        if table:
            lines += ["", f"{title}:", "", _line(table[0]), "|---" * len(table[0]) + "|"]
            lines += [_line(line.values()) for line in table]
    return "\n".join(lines)


def _constant(found: Sequence[Row], row: Row) -> str:
    """The best constant answer of a class, as generous to it as can be: chosen on this table."""
    same = [r.there for r in found if r.label == row.label and r.sensors == row.sensors]
    always = sum(same) * 2 >= len(same)
    return ("yes" if always else "no") + ("" if always == row.there else " (wrong)")


def _line(cells: Iterable[object]) -> str:
    return "| " + " | ".join(_number(cell) for cell in cells) + " |"


def _decided(known: Known) -> list[int]:
    """Classes that are there or not, beyond doubt."""
    found = []
    for i in range(len(CLASSES)):
        yes, no = known.truth.yes[i].mean(), known.truth.no[i].mean()
        if yes >= PRESENT or (no > 1 - PRESENT and yes < ABSENT):
            found.append(i)
    return found


def _row(engine: Engine, known: Known, views: tuple[View, ...], sensors: str, i: int) -> Row:
    question = f"Is there {NAMES[i]} here? Answer yes or no."
    answer = engine.generate(Prompt(text=question, views=views), Options()).text.strip().lower()
    said = True if answer.startswith("yes") else False if answer.startswith("no") else None
    yes, sure = known.truth.yes[i], known.truth.known[i]
    there = bool(yes.mean() >= PRESENT)
    scores: list[float | None] = [None] * 4
    if there:
        reply = engine.generate(Prompt(text=f"Segment the {NAMES[i]}.", views=views), Options())
        mask = np.zeros_like(yes)
        for found in reply.objects:
            if found.mask_logits is not None:
                mask |= found.mask_logits > 0
        vv, index = _rules(known.chip, i)
        rules = (None if sensors == "optical" else vv, None if sensors == "sar" else index)
        scores = [iou(mask, yes, sure), iou(np.ones_like(yes), yes, sure)]
        scores += [None if rule is None else iou(rule, yes, sure) for rule in rules]
    return Row(
        scene=known.case.name,
        split=known.case.split,
        sensors=sensors,
        label=CLASSES[i],
        share=float(yes.sum() / max(sure.sum(), 1)) if there else float(yes.mean()),
        said=said,
        iou=scores[0],
        all_ones=scores[1],
        vv=scores[2],
        index=scores[3],
    )


def _rules(chip: Chip, i: int) -> tuple[NDArray[np.bool_] | None, NDArray[np.bool_] | None]:
    """The VV threshold (water only) and one index per class, on the picture asked about."""
    if CLASSES[i] == "water":
        rules = water_baselines(chip)
        return tuple(rules[n].mask if n in rules else None for n in ("vv", "ndwi"))  # type: ignore[return-value]
    if chip.optical is None:
        return None, None
    found = indices({name: chip.band(name) for name in chip.bands})
    if CLASSES[i] == "snow":
        snow = (found.get("mndwi", found["ndwi"]) > SNOW_NDSI) & (chip.band("green") > SNOW_GREEN)
        return None, snow
    dense = found["ndvi"] > DENSE_NDVI
    return None, dense if CLASSES[i] in ("trees", "crops") else found["ndvi"] < BARREN_NDVI


def _interval(values: Sequence[float | None], rng: np.random.Generator) -> str:
    sample = np.array([v for v in values if v is not None])
    if not len(sample):
        return ""
    draws = rng.choice(sample, (2000, len(sample))).mean(axis=1)
    low, high = np.percentile(draws, (2.5, 97.5))
    return f"{sample.mean():.2f} [{low:.2f}-{high:.2f}] n={len(sample)}"


def _number(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if isinstance(value, float) else str(value)
