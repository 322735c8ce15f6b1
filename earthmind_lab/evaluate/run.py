"""The one walk of every task: scenes, by choices of sensors, by truths, by the classes they decide.

A task says what it asks of a class and how its rows become tables; everything else is here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypedDict

from earthmind_lab.engine.base import Engine
from earthmind_lab.errors import EarthMindError, NoScenesFound
from earthmind_lab.evaluate.asking import SENSORS, ForPlace, Shown, known_classes, show
from earthmind_lab.evaluate.controls import check_control
from earthmind_lab.evaluate.ground import Truth
from earthmind_lab.evaluate.legends import CLASSES
from earthmind_lab.evaluate.report import Part, Table
from earthmind_lab.evaluate.walk import MAX_GAP, Note, Site, walk


class Choices(TypedDict, total=False):
    """What may be chosen of a task, beyond engine and catalog."""

    sensors: Sequence[str]
    """Of ``optical``, ``sar``, ``both``; by default each."""
    places: Collection[str] | None
    """Names of the places to look at; None = all."""
    control: str | None
    """``blank``, ``other``, ``shuffled`` (then the engine must be the shuffled one:
    `controls.shuffled_engine`), ``no-sar`` or ``no-optical``."""
    notes: Mapping[str, Note] | None
    """What is known beyond the items; None = as `walk.walk`."""
    max_gap: timedelta
    """Longest gap of a pair."""
    deadline: float
    """Seconds for each load."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One class on one scene by one choice of sensors, against one truth."""

    scene: str
    place: str
    training: str
    """`walk.Training`."""
    sensors: str
    truth: str
    """Kind of the truth: `ground`."""
    label: str
    there: bool
    twin: bool
    """Clouds hide the ground that the truth is about."""
    away: str
    """The site whose pictures were shown in place of its own; empty = none."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What makes one task of the walk."""

    name: str
    rows_of: Callable[[Shown], Iterable[Any]]
    """Puts its questions to one engine about one site."""
    parts_of: Callable[[Sequence[Any]], Iterable[Part]]
    """Makes tables of all rows."""


def questions(shown: Shown) -> Iterator[tuple[Truth, Asked]]:
    """Every class that the model knows, the sensors show and a truth decides."""
    site, asked = shown.looked.site, known_classes(shown.engine)
    for truth in shown.looked.truths:
        for label, there in zip(CLASSES, truth.there, strict=True):
            # Clouds are seen by optical sensors only.
            unseen = label == "clouds" and shown.sensors not in ("optical", "both")
            if there is None or unseen or label not in asked:
                continue
            yield truth, Asked(
                scene=site.name, place=site.place, training=site.training, sensors=shown.sensors,
                truth=truth.kind, label=label, there=there, away=shown.away,
                twin=shown.looked.twin and truth.kind != "cloud mask",
            )  # fmt: skip


def run(
    task: Task,
    engine: ForPlace,
    catalog: str | Path,
    labels: str | None,
    *,
    sensors: Sequence[str] = SENSORS,
    places: Collection[str] | None = None,
    control: str | None = None,
    notes: Mapping[str, Note] | None = None,
    max_gap: timedelta = MAX_GAP,
    deadline: float = 120.0,
) -> Table:
    """Ask everything that a task asks on every scene of a catalog.

    Args:
        task: What to ask.
        engine: The model; or a function from a place's name to the model that never saw it, to
            leave one place out (`folds`).
        catalog: ``sample``, or the path of a static catalog.
        labels: Id of its collection of labels; None = every item with a legend.
        sensors: As the rest: `Choices`.
        places: See there.
        control: See there.
        notes: See there.
        max_gap: See there.
        deadline: See there.

    Raises:
        SearchError: The catalog or its labels can't be read, or nothing could be asked.
        EarthMindError: The engine can't answer.
    """
    taken = check_control(control)
    sites = _for_engine(engine, walk(catalog, labels, places=places, notes=notes, max_gap=max_gap))
    model, skipped = _namesake(engine, sites), list[str]()
    walked = show(engine, sites, sensors=sensors, control=taken, skipped=skipped, deadline=deadline)
    rows = tuple(row for shown in walked for row in task.rows_of(shown))
    if not rows:
        raise NoScenesFound(
            "Nothing could be asked: no truth decides a class that the model knows and is shown.",
            found=f"{len(sites)} scenes",
            change="other sensors, another control, or a catalog with labels",
        )
    return Table(
        task=task.name,
        model=model.name,
        revision=model.revision,
        catalog=str(catalog),
        control=control,
        asked=known_classes(model),
        skipped=tuple(skipped),
        rows=rows,
        parts=tuple(task.parts_of(rows)),
    )


def _for_engine(engine: ForPlace, sites: Sequence[Site]) -> list[Site]:
    """Sites as an engine sees them: what a place's own engine is asked was never trained on."""
    if not callable(engine):
        return list(sites)
    return [replace(site, training="no") for site in sites]


def _namesake(engine: ForPlace, sites: Sequence[Site]) -> Engine:
    """The engine that names a table: the one, or that of the first place."""
    if not callable(engine):
        return engine
    if not sites:
        raise EarthMindError("There is no place to take an engine for.")
    return engine(sites[0].place)
