"""What one scene brings to a pair: its part of the AOI, its mask, its penalties, its refusal.

Found once per scene, so that a pair of a long search costs little more than its gap.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any

import shapely
from pyproj import Geod
from shapely.geometry.base import BaseGeometry

from earthmind_lab.aoi import AOI
from earthmind_lab.data.choices import Choice
from earthmind_lab.data.files import Reader
from earthmind_lab.data.gaps import TAU_DAYS, tau_days, time_reasons
from earthmind_lab.data.limits import Around
from earthmind_lab.data.looks import Look, look_all
from earthmind_lab.data.penalties import penalties_of, penalty_reasons, shift_reasons
from earthmind_lab.scene import Scene

_EARTH = Geod(ellps="WGS84")


@dataclass(frozen=True, kw_only=True, eq=False)
class Terms:
    """What every pair of a search is measured by."""

    aoi: AOI
    max_gap: timedelta = timedelta(days=6)
    """Longest gap; compared with the smallest possible one."""
    max_cloud: float = 20.0
    """Most cloud and shadow inside the AOI, per cent."""
    purpose: str = "default"
    """``flood``, ``default`` or ``settlement``: how fast a gap devalues."""
    around: Around | None = None
    """The date that pairs should be near."""
    choice: Choice = field(default_factory=Choice)
    """Scenes that the user pinned or excluded."""
    catalog: str = ""
    """Where the scenes were found, for the record."""

    def __post_init__(self) -> None:
        tau_days(self.purpose)

    @cached_property
    def tau(self) -> timedelta:
        """The time constant of the purpose."""
        return timedelta(days=TAU_DAYS[self.purpose])

    @cached_property
    def area_m2(self) -> float:
        """Geodesic area of the AOI."""
        return _area_m2(self.aoi.geometry)

    @cached_property
    def overrides(self) -> Mapping[str, tuple[str, ...]]:
        """What the user decided, for records."""
        return self.choice.overrides

    @cached_property
    def terms(self) -> dict[str, Any]:
        """What weighs the pairs, for records; in the form of `Limits.terms`."""
        ids = {name: sorted(named) for name, named in self.overrides.items()}
        return {"purpose": self.purpose, **ids}

    @cached_property
    def reasons(self) -> tuple[str, ...]:
        """Sentences that hold for every pair."""
        ids = ", ".join(self.choice.exclude)
        return (f"Excluded by the user: {ids}.",) if ids else ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """What one scene brings to any pair that holds it."""

    scene: Scene
    view: Look | None
    """Of an optical scene."""
    part: BaseGeometry | None
    """The AOI inside the footprint, lon/lat; None = all of it."""
    share: float
    """That part as a share of the AOI, 0 to 1."""
    penalties: Mapping[str, float]
    quality: float
    """Their product."""
    reasons: tuple[str, ...]
    """Sentences about the scene: its time, its penalties, its pin."""
    pinned: bool
    refusal: tuple[int, str] | None = None
    """Place of the limit in the order of limits, and a sentence: why no pair may hold it."""


def sides(scenes: Iterable[Scene], terms: Terms, reader: Reader | None = None) -> list[Side]:
    """What each scene brings, in order of their ids; the masks of optical ones are read."""
    # The same id may be in two collections, and in one as two products.
    scenes = sorted(scenes, key=lambda each: (each.id, each.sensor, each.collection or ""))
    choice = terms.choice
    pinned = {scene.modality for scene in scenes if choice.pins(scene)}
    kept = [
        scene
        for scene in scenes
        if scene.modality == "optical" and not choice.excludes(scene)
        and (choice.pins(scene) or "optical" not in pinned)
    ]  # fmt: skip
    views = {view.scene: view for view in look_all(kept, terms.aoi, reader)}
    return [side_of(scene, views.get(scene), terms, pinned) for scene in scenes]


def side_of(scene: Scene, view: Look | None, terms: Terms, pinned: Iterable[str] = ()) -> Side:
    """What one scene brings.

    Args:
        scene: Optical or SAR.
        view: Of an optical scene.
        terms: Limits and wishes.
        pinned: Modalities of which scenes are pinned, so that others are out of question.
    """
    part, share = _part(scene.footprint, terms)
    mine, cloudy = terms.choice.pins(scene), _cloudy(view, terms)
    penalties = penalties_of(scene)
    reasons = (*time_reasons(scene), *penalty_reasons(penalties), *shift_reasons(scene))
    if mine:
        beyond = f", although {cloudy}" if cloudy else ""
        reasons += (f"Pinned by the user: {scene.id}{beyond}.",)
    refusal = None
    if terms.choice.excludes(scene):
        refusal = 0, f"Excluded by the user: {scene.id}."
    elif scene.modality in pinned and not mine:
        refusal = 1, f"Not among the scenes that the user pinned: {scene.id}."
    elif view is not None and view.empty:
        refusal = 2, f"No pixel of the AOI was observed in {scene.id}."
    elif cloudy and not mine:
        refusal = 3, f"In {scene.id}, {cloudy}."
    return Side(
        scene=scene,
        view=view,
        part=part,
        share=share,
        penalties=penalties,
        quality=math.prod(penalties.values(), start=1.0),
        reasons=reasons,
        pinned=mine,
        refusal=refusal,
    )


def _cloudy(view: Look | None, terms: Terms) -> str:
    """What is too much cloud, for a sentence; empty where it isn't."""
    if view is None or view.cloud is None or view.cloud <= terms.max_cloud:
        return ""
    where = "inside the AOI" if view.mask else "in the whole scene"
    return f"cloud is {view.cloud:.3g} % {where}, beyond max_cloud of {terms.max_cloud:g}"


def overlap_of(both: Sequence[Side], terms: Terms) -> tuple[float, BaseGeometry | None]:
    """(share of the AOI inside all footprints, that part or None for the whole AOI)."""
    cut = [side for side in both if side.part is not None]
    if not cut:
        return 1.0, None
    if len(cut) == 1:
        return cut[0].share, cut[0].part
    shared = _areal(shapely.intersection(cut[0].part, cut[1].part))
    return min(1.0, _area_m2(shared) / terms.area_m2), shared


def _part(footprint: BaseGeometry, terms: Terms) -> tuple[BaseGeometry | None, float]:
    """(the AOI inside a footprint or None for all of it, its share of the AOI)."""
    if footprint.covers(terms.aoi.geometry):
        return None, 1.0
    part = _areal(shapely.intersection(terms.aoi.geometry, footprint))
    return part, min(1.0, _area_m2(part) / terms.area_m2)


def _areal(geometry: BaseGeometry) -> BaseGeometry:
    """The polygons of an intersection: shared corners and edges come as points and lines."""
    if geometry.geom_type == "Polygon":
        return geometry
    return shapely.union_all([part for part in shapely.get_parts(geometry) if part.area > 0])


def _area_m2(geometry: BaseGeometry) -> float:
    # Geodesic areas are signed: parts and holes must turn the right way round.
    area, _ = _EARTH.geometry_area_perimeter(shapely.orient_polygons(geometry))
    return abs(float(area))
