"""From a file of labelled areas and a catalog to what a model is trained, stopped and tested on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

from earthmind_lab.aoi import AOI
from earthmind_lab.chip import Chip, LoadPlan
from earthmind_lab.data.load import load_chip, plan_chip
from earthmind_lab.data.search import search_pairs
from earthmind_lab.errors import EarthMindError, LoadError
from earthmind_lab.finetune.asks import KINDS, Kind, Wording
from earthmind_lab.finetune.examples import Chosen
from earthmind_lab.finetune.ground import KM_PER_DEGREE
from earthmind_lab.finetune.labelled import labelled_chips
from earthmind_lab.finetune.labels import COMPLETE, UNKNOWN, Area, PolygonLabels, read_areas
from earthmind_lab.finetune.source import Source
from earthmind_lab.finetune.splits import SHARES, separate_places, split_by_place
from earthmind_lab.progress import bar


@dataclass(frozen=True, kw_only=True, eq=False)
class AreaSets:
    """Labelled areas as training data."""

    source: Source
    """All examples."""
    sets: Mapping[str, Chosen]
    """The same by side: ``train``, ``validation``, ``test``."""
    skipped: tuple[str, ...]
    """Areas that have no pair of scenes, each with the reason."""
    remark: str = ""
    """What the sides lack."""

    def __getitem__(self, side: str) -> Chosen:
        return self.sets[side]

    def lines(self) -> list[str]:
        """For people."""
        sides = ", ".join(f"{len(chosen)} {side}" for side, chosen in self.sets.items())
        told = [self.source.said, f"Examples: {sides}", *([self.remark] if self.remark else [])]
        return [*told, *(f"Skipped: {s}" for s in self.skipped)]

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        return "<br>".join(map(escape, self.lines()))


def labelled_areas(  # noqa: PLR0913  a door: options by name
    areas: str | Path | Sequence[Area],
    dates: Any = None,
    *,
    column: str = "class",
    complete: bool = False,
    extra: Sequence[str] = (),
    side_km: float = 2.5,
    shares: Mapping[str, float] | None = None,
    block_km: float = 5.0,
    composites: Sequence[str] = (),
    kinds: Sequence[Kind] = KINDS,
    wording: Wording = "words",
    licence: str = "",
    attribution: str = "",
    seed: int = 0,
    **search: Any,
) -> AreaSets:
    """Twelve labelled areas are enough to begin with.

    Around each area a chip of the best pair of scenes is loaded; areas that lie in a chip already
    get none of their own. An area of the class ``complete`` is a chip itself: whoever drew it says
    that within it everything of these classes is drawn. The examples are split by place, so that
    no ground is on two sides.

    Args:
        areas: GeoJSON or GeoPackage, or what `read_areas` gave.
        dates: As `search_pairs` takes them.
        column: Of the file: the class of each area.
        complete: Whether everything of these classes was drawn within the chips. Otherwise ground
            outside the polygons is unknown, and only what the polygons decide is asked.
        extra: Further classes that are nowhere; only with `complete`, or areas of that class.
        side_km: Side of a chip; a larger area gets a chip of its own size. 2.5 km at 10 m are 250
            pixels, which earthmind-nano sees at once.
        shares: Of the sides, by name; None = `SHARES`, but without a side for validation where
            there are only two separate places, and of one place all to train.
        block_km: As `split_by_place` takes it.
        composites: What the model is shown (`Capabilities.composites`).
        kinds: Of questions, as in `labelled_chips`.
        wording: Of shares there.
        licence: Of the labels.
        attribution: Of the labels.
        seed: Of phrasings and of the split.
        search: Passed to `search_pairs`: ``catalog``, ``sensors``, ``max_gap``, ``max_cloud``, …

    Raises:
        EarthMindError: No area has a pair of scenes, or they lie on fewer separate places than
            `shares` has sides; one of its kinds where the areas can't be read.
    """
    held = read_areas(areas, column) if isinstance(areas, str | Path) else list(areas)
    if extra and not (complete or any(area.name == COMPLETE for area in held)):
        raise LoadError(
            "Classes that nobody drew are unknown where the drawing isn't complete.",
            found=f"extra={tuple(extra)}",
            change="complete=True, squares of the class 'complete', or without them",
        )  # fmt: skip
    chips, skipped = [], []
    named = [area for area in held if area.name != UNKNOWN]
    with bar(len(named), unit="area", desc="searching", delay=1.0) as progress:
        for aoi, members in _around(named, side_km):
            try:
                pair = search_pairs(aoi, dates, **search)[0]
                chips.append(partial(_load, plan_chip(pair, aoi)))
            except EarthMindError as error:
                skipped += [f"{area.id} ({area.name}): {error}" for area in members]
            progress.update(len(members))
    if not chips:
        raise LoadError(
            "No area has scenes to learn from.", found=skipped[0] if skipped else "no areas",
            change="other dates=, max_cloud=, max_gap= or catalog=",
        )  # fmt: skip
    source = labelled_chips(
        chips, PolygonLabels(held, complete, tuple(extra)), composites=composites, kinds=kinds,
        shares=wording, licence=licence, attribution=attribution, seed=seed,
    )  # fmt: skip
    remark = ""
    if shares is None:
        places = separate_places(source, block_km=block_km)
        shares, remark = _FEW.get(places, (SHARES, ""))
    sets = split_by_place(source, shares, block_km=block_km, seed=seed)
    return AreaSets(source=source, sets=sets, skipped=tuple(skipped), remark=remark)


_FEW: dict[int, tuple[Mapping[str, float], str]] = {
    1: ({"train": 1.0}, "All areas lie on one place: nothing is left to test on."),
    2: (
        {"train": 0.8, "test": 0.2},
        "The areas lie on two places: one trains, one tests, none stops early.",
    ),
}
"""Sides of so few separate places, and what to say of them."""


def _load(plan: LoadPlan) -> Chip:
    return load_chip(plan.pair, plan.aoi, plan=plan)


def _around(areas: Sequence[Area], side_km: float) -> list[tuple[AOI, list[Area]]]:
    """A box around each area, and which areas lie in it."""
    found: list[tuple[BaseGeometry, str, list[Area]]] = [
        (area.geometry.envelope, area.id, [area]) for area in areas if area.name == COMPLETE
    ]
    for area in areas:
        if area.name == COMPLETE:
            continue
        held = next((members for ground, _, members in found if ground.covers(area.geometry)), None)
        if held is not None:
            held.append(area)
        else:
            found.append((_box(area.geometry, side_km), area.id, [area]))
    return [(AOI(geometry=ground, name=name), members) for ground, name, members in found]


def _box(geometry: BaseGeometry, side_km: float) -> BaseGeometry:
    """A square of some side around an area, or a margin around a larger one."""
    west, south, east, north = geometry.bounds
    x, y = (west + east) / 2, (south + north) / 2
    tall = side_km / KM_PER_DEGREE
    wide = tall / math.cos(math.radians(min(abs(y), 89.0)))
    wide, tall = max(wide, (east - west) * 1.1) / 2, max(tall, (north - south) * 1.1) / 2
    return box(x - wide, y - tall, x + wide, y + tall)
