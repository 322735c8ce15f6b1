"""What covers the ground: masks per class, and the main cover, against every truth with pixels.

table = evaluate_landcover(load_engine("nano"))
print(table.markdown())
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.evaluate.asking import ForPlace, Shown, known_classes
from earthmind_lab.evaluate.ground import Truth
from earthmind_lab.evaluate.legends import CLASSES
from earthmind_lab.evaluate.metrics import (
    Counts,
    accuracy,
    interval,
    majority,
    mean_of,
    without_own_place,
)
from earthmind_lab.evaluate.presence import beats
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

NONE = "nothing"
"""Where the engine marks no class."""
_EVERY_CLASS = ("label map", "hand-drawn")
"""Truths that tell many classes apart, so that one may be taken for another."""


@dataclass(frozen=True, kw_only=True)
class Cover(Asked):
    """The mask of one class, as marked and as it is."""

    pixels: Counts
    """Where the truth decides."""
    inside: Counts
    """Of these, the pixels away from any border between classes."""
    edge: Counts
    """And those within one pixel of one."""
    hidden: Counts | None
    """Of `pixels`, those under cloud or shadow; None = the scene is no twin, or has no mask."""
    ones: Counts
    """A mask of everything."""
    vv: Counts | None
    index: Counts | None
    confused: Mapping[str, int]
    """Pixels of this class by the class that the engine marked there."""

    @property
    def iou(self) -> float | None:
        """None where the class isn't there: then only `Counts.share_error` says something."""
        return (self.pixels.iou or 0.0) if self.there else None


@dataclass(frozen=True, kw_only=True)
class Main:
    """The main cover of one scene by one choice of sensors."""

    scene: str
    place: str
    training: str
    sensors: str
    truth: str
    away: str
    true: str
    said: str | None
    blind: str | None


def evaluate_landcover(
    engine: ForPlace,
    catalog: str | Path = "sample",
    labels: str | None = None,
    **chosen: Unpack[Choices],
) -> Table:
    """Ask for a mask of every class, and for the main cover, on every scene of a catalog.

    Args:
        engine: As `presence.evaluate_presence`, like all others.
        catalog: ``sample``, or the path of a static catalog.
        labels: Id of its collection of labels; None = every item with a legend.
        chosen: Sensors, places, control and the like: `run.Choices`.

    Raises:
        SearchError: The catalog or its labels can't be read, or nothing could be asked.
        EarthMindError: The engine can't answer.
    """
    task = Task(name="landcover", rows_of=_rows, parts_of=_parts)
    return run(task, engine, catalog, labels, **chosen)


def _rows(shown: Shown) -> list[Cover | Main]:
    asked = (each for each in questions(shown) if each[0].yes is not None)
    return [*(_cover(shown, *each) for each in asked), *_mains(shown)]


def _cover(shown: Shown, truth: Truth, asked: Asked) -> Cover:
    label, looked = asked.label, shown.looked
    assert truth.yes is not None
    assert truth.edge is not None
    yes, known = truth.yes[CLASSES.index(label)], truth.known(CLASSES.index(label))
    mask, edge = shown.mask(label), truth.edge
    vv, index = vv_rule(looked.chip, label), index_rule(looked.chip, label)
    vv = None if shown.sensors == "optical" else vv
    index = None if shown.sensors == "sar" else index
    confused: Mapping[str, int] = {}
    if asked.there and truth.kind in _EVERY_CLASS:
        confused = _confused(yes, {c: shown.mask(c) for c in known_classes(shown.engine)})
    hidden = looked.cloud if asked.twin else None
    return Cover(
        **vars(asked),
        pixels=Counts.of(mask, yes, known),
        inside=Counts.of(mask, yes, known & ~edge),
        edge=Counts.of(mask, yes, known & edge),
        hidden=None if hidden is None else Counts.of(mask, yes, known & hidden),
        ones=Counts.of(np.ones_like(yes), yes, known),
        vv=None if vv is None else Counts.of(vv, yes, known),
        index=None if index is None else Counts.of(index, yes, known),
        confused=confused,
    )


def _confused(yes: NDArray[np.bool_], masks: Mapping[str, NDArray[np.bool_]]) -> dict[str, int]:
    """Pixels by the marked class; one that several masks hold counts for the smallest of them.

    The smallest, as a mask of everything says least about a pixel.
    """
    found: dict[str, int] = {}
    left = yes.copy()
    for name, mask in sorted(masks.items(), key=lambda item: (int(item[1].sum()), item[0])):
        if count := int((left & mask).sum()):
            found[name] = count
        left &= ~mask
    if count := int(left.sum()):
        found[NONE] = count
    return found


def _mains(shown: Shown) -> list[Main]:
    looked = shown.looked
    wanted = {t.kind: CLASSES[t.dominant] for t in looked.truths if t.dominant is not None}
    return [
        Main(
            scene=looked.site.name, place=looked.site.place, training=looked.site.training,
            sensors=shown.sensors, truth=kind, away=shown.away, true=true,
            said=shown.dominant(), blind=shown.blind_dominant(),
        )
        for kind, true in wanted.items()
        if true in known_classes(shown.engine)
    ]  # fmt: skip


def _parts(found: Sequence[Cover | Main]) -> list[Part]:
    rows = [row for row in found if isinstance(row, Cover)]
    mains = [row for row in found if isinstance(row, Main)]
    plain = [row for row in rows if not row.twin]
    parts = [Part(title="Per scene, classes that are there",
                  lines=[_scene_line(row) for row in plain if row.there])]  # fmt: skip
    for title, group in group_rows(plain):
        parts.append(Part(title=f"Masks, {title}", lines=_per_class(group)))
    for title, main in group_rows(mains):
        parts.append(Part(title=f"Main cover, {title}", lines=_main_lines(main)))
    for title, group in group_rows([row for row in plain if row.confused]):
        parts.append(Part(title=f"Confusion, {title}, per cent of the true class",
                          lines=_confusion(group)))  # fmt: skip
    twins = [row for row in rows if row.twin]
    if any(row.there for row in twins):
        lines = [_scene_line(row) | _under_cloud([row]) for row in twins if row.there]
        parts.append(Part(title=TWINS, lines=lines))
    if twins:
        lines = _per_class(twins, more=_under_cloud)
        parts.append(Part(title=TWINS_MEAN, lines=lines))
    return parts


def _under_cloud(rows: Sequence[Cover]) -> dict[str, Any]:
    """IoU on the ground that clouds hide; scenes without such ground of this class say nothing."""
    held = [r.hidden for r in rows if r.there and r.hidden is not None]
    return {"IoU under cloud": mean_of([each.iou for each in held if each.tp + each.fn])}


def _scene_line(row: Cover) -> dict[str, Any]:
    return {
        "scene": row.scene, **shown_away(row), "in training": row.training,
        "sensors": row.sensors,
        "truth": row.truth, "class": row.label, "share": true_share(row.pixels),
        "IoU": row.iou, "F1": row.pixels.f1 or 0.0, "IoU away from edges": row.inside.iou,
        "IoU at edges": row.edge.iou, "share error": row.pixels.share_error,
        "all ones": row.ones.iou, "VV": None if row.vv is None else row.vv.iou or 0.0,
        "index": None if row.index is None else row.index.iou or 0.0,
    }  # fmt: skip


def true_share(counts: Counts) -> float | None:
    """Share of the decided pixels that are the class."""
    return (counts.tp + counts.fn) / counts.total if counts.total else None


def _per_class(
    rows: Sequence[Cover], more: Callable[[Sequence[Cover]], dict[str, Any]] = lambda _: {}
) -> list[dict[str, Any]]:
    lines = []
    for sensors, truth in dict.fromkeys((r.sensors, r.truth) for r in rows):
        group = [r for r in rows if (r.sensors, r.truth) == (sensors, truth)]
        for label in CLASSES:
            mine = [r for r in group if r.label == label]
            if mine:
                head = {"sensors": sensors, "truth": truth, "class": label}
                lines.append(head | _scores(mine) | more(mine))
    return lines


def _scores(rows: Sequence[Cover]) -> dict[str, Any]:
    there = [r for r in rows if r.there]
    places = [r.place for r in there]

    def over(scores: list[float | None]) -> Any:
        return interval(scores, places)

    return {
        "there": count_scenes(there),
        "not there": count_scenes([r for r in rows if not r.there]),
        "IoU": over([r.iou for r in there]),
        "F1": mean_of([r.pixels.f1 or 0.0 for r in there]),
        "away from edges": mean_of([r.inside.iou for r in there]),
        "at edges": mean_of([r.edge.iou for r in there]),
        "share error": mean_of([abs(r.pixels.share_error or 0.0) for r in rows]),
        "marked where not there": mean_of(
            [r.pixels.fp / r.pixels.total for r in rows if not r.there and r.pixels.total]
        ),
        "all ones": mean_of([r.ones.iou for r in there]),
        "VV": mean_of([r.vv.iou or 0.0 for r in there if r.vv is not None]),
        "index": mean_of([r.index.iou or 0.0 for r in there if r.index is not None]),
    }


def _main_lines(rows: Sequence[Main]) -> list[dict[str, Any]]:
    """Against all truths together: a scene whose truths name two main covers counts for both."""
    lines = []
    for sensors in dict.fromkeys(r.sensors for r in rows):
        mine = [r for r in rows if r.sensors == sensors]
        true, places = [r.true for r in mine], [r.place for r in mine]
        rivals = {
            "majority": majority(true),
            "blind": accuracy([r.blind for r in mine], true),
            "other places' answer": accuracy(without_own_place(true, places), true),
        }
        score = accuracy([r.said for r in mine], true)
        wrong = [f"{r.scene}: {r.said or 'none'} for {r.true}" for r in mine if r.said != r.true]
        right = interval([r.said == r.true for r in mine], places)
        scenes = len({(r.place, r.scene, r.truth) for r in mine})
        lines.append(
            {
                "sensors": sensors, "scenes": scenes, "right": right,
                **rivals, "beats them": beats(score, rivals.values()),
                "wrong": "; ".join(dict.fromkeys(wrong)),
            }
        )  # fmt: skip
    return lines


def _confusion(rows: Sequence[Cover]) -> list[dict[str, Any]]:
    lines = []
    for sensors, truth in dict.fromkeys((r.sensors, r.truth) for r in rows):
        group = [r for r in rows if (r.sensors, r.truth) == (sensors, truth)]
        if truth not in ("label map", "hand-drawn"):
            continue
        for label in dict.fromkeys(r.label for r in group):
            mine = [r.confused for r in group if r.label == label]
            total = sum(sum(each.values()) for each in mine)
            marked = {
                name: 100 * sum(each.get(name, 0) for each in mine) / total
                for name in (*CLASSES, NONE)
                if any(name in r.confused for r in group)
            }
            lines.append({"sensors": sensors, "truth": truth, "true class": label, **marked})
    return lines
