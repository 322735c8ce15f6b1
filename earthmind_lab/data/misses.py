"""What an empty search says: the nearest miss, and the values that would admit it."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from pyproj import Geod
from shapely import transform
from shapely.geometry.base import BaseGeometry
from shapely.ops import nearest_points

from earthmind_lab.aoi import AOI
from earthmind_lab.data.apis import NEAR_DAYS
from earthmind_lab.data.catalogs import Sources
from earthmind_lab.data.choices import Choice
from earthmind_lab.data.files import Reader
from earthmind_lab.data.gaps import least_gap, length
from earthmind_lab.data.items import shares_area
from earthmind_lab.data.limits import Limits
from earthmind_lab.data.looks import Look, look
from earthmind_lab.data.sides import Terms, overlap_of, side_of
from earthmind_lab.errors import NoPairFound, NoScenesFound, SearchError
from earthmind_lab.scene import Scene

_MISSES = 200
"""Near misses whose cloud masks are read before the nearest is named."""


def explain(
    terms: Terms, limits: Limits, sources: Sources, found: Mapping[str, list[Scene]], reader: Reader
) -> SearchError:
    """The nearest miss of an empty search, and the values that would admit it."""
    aoi = terms.aoi
    near = {kind: sources.near(kind, aoi, limits) for kind in limits.modalities}
    if not all(near.values()):
        return outside_all(aoi, limits, sources, near)
    here = {kind: _chosen(scenes, terms.choice) for kind, scenes in near.items()}
    for kind, scenes in here.items():
        if not scenes:
            ids = ", ".join(terms.choice.exclude)
            return NoPairFound(
                f"Every {'SAR' if kind == 'sar' else kind} scene of {aoi.name!r} was excluded.",
                found=f"exclude={ids}",
                change="fewer of them",
            )
    limits = _lifted(limits, terms.choice, here)
    miss = _nearest_miss(aoi, limits, here, reader)
    asked = f"No {limits.asked} of {aoi.name!r} in the catalog {sources.name!r}"
    missing = [kind for kind in limits.modalities if not found[kind]]
    error = NoScenesFound if missing or len(limits.modalities) == 1 else NoPairFound
    if miss is None:
        return error(
            f"{asked}: no two footprints meet inside the AOI, or no pixel of it was observed"
            f"{sources.unread}.",
            change="a smaller or shifted AOI, or sensors='optical' or 'sar'",
        )
    if not missing:
        what = "pair of " if error is NoPairFound else ""
        asked = f"No {what}{limits.asked} of {aoi.name!r} within max_gap and max_cloud"
    return error(f"{asked}.", found="; ".join(miss.found) + sources.unread, change=miss.change)


def _chosen(scenes: list[Scene], choice: Choice) -> list[Scene]:
    """The scenes that the user's choice leaves: pinned ones alone, where there are some."""
    kept = [scene for scene in scenes if not choice.excludes(scene)]
    return [scene for scene in kept if choice.pins(scene)] or kept


def _lifted(limits: Limits, choice: Choice, here: Mapping[str, list[Scene]]) -> Limits:
    """The limits that still hold where scenes are pinned."""
    if not choice.pin:
        return limits
    pinned = any(choice.pins(scene) for scene in here.get("optical", ()))
    cloud = 100.0 if pinned else limits.max_cloud
    return replace(limits, max_gap=timedelta(days=36500), max_cloud=cloud)


@dataclass(frozen=True, kw_only=True)
class _Miss:
    """One candidate that fails, how far it is off, and what would admit it."""

    off: tuple[float, ...]
    """(limits broken, days outside + days of gap too long + cloud too much / 10): least first."""
    found: tuple[str, ...]
    change: str


def _nearest_miss(
    aoi: AOI, limits: Limits, here: Mapping[str, list[Scene]], reader: Reader
) -> _Miss | None:
    """The candidate that breaks the fewest limits by the least, over all dates of the AOI.

    Cloud is read from masks, which is slow: only for the candidates nearest in time.
    """
    if len(limits.modalities) == 2:
        candidates: Iterable[tuple[Scene, ...]] = (
            (optical, sar) for optical in here["optical"] for sar in here["sar"]
        )
    else:
        candidates = ((scene,) for scene in here[limits.modalities[0]])
    near = heapq.nsmallest(_MISSES, candidates, key=lambda c: (_time_off(c, limits), _ids(c)))
    looks: dict[int, Look] = {}
    terms = Terms(aoi=aoi)
    misses = []
    for scenes in near:
        optical = next((scene for scene in scenes if scene.modality == "optical"), None)
        if optical is not None and id(optical) not in looks:
            looks[id(optical)] = look(optical, aoi, reader)
        view = looks.get(id(optical))
        sides = [side_of(scene, None, terms) for scene in scenes]
        if overlap_of(sides, terms)[0] and not (view and view.empty):
            misses.append((_miss(scenes, view, limits), _ids(scenes)))
    return min(misses, key=lambda each: (each[0].off, each[1]))[0] if misses else None


def _ids(scenes: tuple[Scene, ...]) -> tuple[str, ...]:
    return tuple(scene.id for scene in scenes)


def _days_off(scene: Scene, limits: Limits) -> int:
    """Whole UTC days by which a scene lies outside the dates."""
    early = (limits.first - scene.end.date()).days
    late = (scene.start.date() - limits.last).days
    return max(0, early, late)


def _time_off(scenes: tuple[Scene, ...], limits: Limits) -> tuple[float, float]:
    outside = sum(_days_off(scene, limits) for scene in scenes)
    gap = least_gap(*scenes) - limits.max_gap if len(scenes) == 2 else timedelta(0)
    long = max(0.0, gap / timedelta(days=1))
    return (outside > 0) + (long > 0), outside + long


def _miss(scenes: tuple[Scene, ...], view: Look | None, limits: Limits) -> _Miss:
    broken, days = _time_off(scenes, limits)
    found, change = [], []
    outside = [scene for scene in scenes if _days_off(scene, limits)]
    for scene in outside:
        off = _days_off(scene, limits)
        found.append(
            f"nearest {_kind(scene)} scene is {scene.id} of {_when(scene)},"
            f" {off} day{'s' * (off != 1)} outside the dates"
        )
    if outside:
        first = min(limits.first, *(scene.end.date() for scene in scenes))
        last = max(limits.last, *(scene.start.date() for scene in scenes))
        change.append(f"dates='{first}/{last}'")
    if len(scenes) == 2 and (gap := least_gap(*scenes)) > limits.max_gap:
        found.append(f"smallest gap is {length(gap)} ({scenes[0].id} and {scenes[1].id})")
        change.append(f"max_gap='{_admits(gap)}'")
    cloud = view.cloud if view else None
    excess = 0.0 if cloud is None else max(0.0, cloud - limits.max_cloud)
    if excess and view and cloud is not None:
        where = "inside the AOI" if view.mask else "in the whole scene"
        found.append(f"cloud is {cloud:.3g} % {where} ({view.scene.id})")
        change.append(f"max_cloud={min(100, math.ceil(cloud))}")
    return _Miss(
        off=(broken + (excess > 0), days + excess / 10),
        found=tuple(found),
        change=", ".join(change),
    )


def no_scenes(limits: Limits, sources: Sources, here: list[Scene]) -> SearchError:
    """None of the scenes of the AOI, `here`, meets the dates."""
    scene = min(here, key=lambda each: (_days_off(each, limits), each.id))
    miss = _miss((scene,), None, limits)
    asked = f"No {limits.asked} in the catalog {sources.name!r}."
    return NoScenesFound(asked, found="; ".join(miss.found) + sources.unread, change=miss.change)


def outside_all(
    aoi: AOI, limits: Limits, sources: Sources, near: Mapping[str, list[Scene]]
) -> SearchError:
    """A modality has no scene `near` the AOI at all: name the nearest place that has."""
    if not sources.listed:
        lacking = [kind for kind in limits.modalities if not near[kind]]
        asked = sources.only(lacking)
        return NoScenesFound(
            f"The catalog {asked.name!r} has no {_kinds(limits, lacking)} scenes of the AOI "
            f"{aoi.name!r}{'' if asked.listed else f' in {NEAR_DAYS} days around the dates'}"
            f"{asked.unread}.",
            change="other dates, another AOI, or another catalog",
        )
    everywhere = {
        kind: [scene for scene in sources.search(kind) if limits.takes(scene)]
        for kind in limits.modalities
    }
    for kind in limits.modalities:
        if not everywhere[kind]:
            return NoScenesFound(
                f"The catalog {sources.only([kind]).name!r} holds no {limits.name(kind)} scene"
                f"{sources.unread}.",
                change=_without(kind, limits) or "another catalog",
            )
    empty = [
        kind
        for kind in limits.modalities
        if not any(shares_area(s.footprint, aoi.geometry) for s in everywhere[kind])
    ]
    count = sum(len(everywhere[kind]) for kind in empty)
    place, scenes = _nearest_place(aoi, limits, everywhere)
    found = change = None
    if place is not None:
        west, south, east, north = place.bounds
        distance = _distance_km(place, aoi.geometry)
        days = " and ".join(dict.fromkeys(map(_when, scenes)))
        found = (
            f"nearest place with {_kinds(limits, limits.modalities)}: {' + '.join(_ids(scenes))}"
            f" of {days}, {distance:.{0 if distance >= 10 else 1}f} km away"
        )
        change = f"an AOI inside {west:.4f},{south:.4f},{east:.4f},{north:.4f}"
    alone = _without(empty[0], limits) if len(empty) == 1 else None
    turned = transform(aoi.geometry, lambda places: places[:, ::-1])
    if any(shares_area(scene.footprint, turned) for kind in empty for scene in everywhere[kind]):
        alone = "longitude before latitude (there are scenes where the two change places)"
    change = " or ".join(part for part in (alone, change) if part)
    return NoScenesFound(
        f"The AOI {aoi.name!r} lies outside all {count} {_kinds(limits, empty)} footprints of the"
        f" catalog {sources.only(empty).name!r}.",
        found=(found or "no place with both sensors") + sources.unread,
        change=change or "another catalog",
    )


def _nearest_place(
    aoi: AOI, limits: Limits, everywhere: Mapping[str, list[Scene]]
) -> tuple[BaseGeometry | None, tuple[Scene, ...]]:
    """The nearest ground with a scene of every modality asked for, and these scenes."""

    def away(geometry: BaseGeometry) -> float:
        return float(geometry.distance(aoi.geometry))

    near = {
        kind: sorted(scenes, key=lambda s: (away(s.footprint), _days_off(s, limits), s.id))[:50]
        for kind, scenes in everywhere.items()
    }
    options: list[tuple[BaseGeometry, tuple[Scene, ...]]]
    if len(limits.modalities) == 1:
        options = [(scene.footprint, (scene,)) for scene in near[limits.modalities[0]]]
    else:
        options = [
            (optical.footprint.intersection(sar.footprint), (optical, sar))
            for optical in near["optical"]
            for sar in near["sar"]
            if shares_area(optical.footprint, sar.footprint)
        ]
    if not options:
        return None, ()
    return min(options, key=lambda o: (away(o[0]), _time_off(o[1], limits), _ids(o[1])))


def _distance_km(one: BaseGeometry, other: BaseGeometry) -> float:
    here, there = nearest_points(one, other)
    _, _, metres = Geod(ellps="WGS84").inv(here.x, here.y, there.x, there.y)
    return float(metres) / 1000


def _without(kind: str, limits: Limits) -> str | None:
    rest = [other for other in limits.modalities if other != kind]
    return f"sensors='{rest[0]}'" if rest else None


def _kind(scene: Scene) -> str:
    return "SAR" if scene.modality == "sar" else scene.modality


def _kinds(limits: Limits, modalities: Iterable[str]) -> str:
    return " and ".join(limits.name(kind) for kind in modalities)


def _when(scene: Scene) -> str:
    first, last = scene.start.date(), scene.end.date()
    return f"{first}" if first == last else f"{first}/{last}"


def _admits(gap: timedelta) -> str:
    """The next whole number of hours or days that reaches a gap."""
    hours = math.ceil(gap / timedelta(hours=1))
    if hours < 48:
        return f"{hours} hour{'s' * (hours != 1)}"
    return f"{math.ceil(gap / timedelta(days=1))} days"
