"""Searching a catalog for scenes and pairs of an AOI; nothing found is an error that helps.

    pairs = search_pairs((-0.775, 38.09, -0.745, 38.12), "2019-09-15/2019-09-20")

An empty search says the nearest miss and the values that would admit it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

from earthmind_lab.aoi import AOI, AOILike
from earthmind_lab.data.budget import Budget
from earthmind_lab.data.catalogs import CatalogLike, Sources
from earthmind_lab.data.choices import Choice, IdsLike
from earthmind_lab.data.files import Reader
from earthmind_lab.data.gaps import tau_days
from earthmind_lab.data.limits import (
    MODALITIES,
    DatesLike,
    Day,
    Limits,
    limits_of,
    parse_dates,
    parse_gap,
    parse_sensors,
)
from earthmind_lab.data.misses import explain, no_scenes, outside_all
from earthmind_lab.data.mosaics import with_mosaics
from earthmind_lab.data.pairing import candidates_of, pairs_of
from earthmind_lab.data.sides import Terms
from earthmind_lab.errors import SearchError
from earthmind_lab.scene import Candidates, Rejected, Scene, ScenePair
from earthmind_lab.sensors import MODALITY_WORDS

__all__ = [
    "MODALITIES",
    "CatalogLike",
    "DatesLike",
    "parse_dates",
    "parse_gap",
    "parse_sensors",
    "search_candidates",
    "search_pairs",
    "search_scenes",
]


def search_pairs(  # noqa: PLR0913  a door: options by name
    aoi: AOILike,
    dates: DatesLike | None = None,
    *,
    around: Day | None = None,
    catalog: CatalogLike = None,
    sensors: str | Iterable[str] = MODALITIES,
    max_gap: str | timedelta = "6 days",
    max_cloud: float = 20.0,
    purpose: str = "default",
    pin: IdsLike = None,
    exclude: IdsLike = None,
    deadline: float = 120.0,
) -> list[ScenePair]:
    """Optical/SAR pairs of an AOI, best first; never an empty list.

    Args:
        aoi: Area of interest, in any form `AOI.from_any` takes.
        dates: ``"A/B"``, one day, or a pair of days: inclusive UTC days that hold both scenes.
        around: A day or an instant (UTC) that the pair should be near: the score is multiplied by
            A = exp(-|middle of the pair - around| / tau), with tau of the purpose. Without
            `dates`, scenes of 3 (flood), 10 (default) or 60 days (settlement) on both sides.
        catalog: ``sample``, a path of a static catalog, the address of a STAC API or the name of
            a known one (`earthmind_lab.data.known.KNOWN`), an open catalog, ``{"optical": …,
            "sar": …}``, or a list to try in order, each with its share of the `deadline`; by
            default what the settings say.
        sensors: ``optical``, ``sar`` or both; with one, pairs hold that one scene. Keys of
            `SENSORS` in place of a modality take scenes of these alone:
            ``"landsat-c2-l2,sentinel-1-rtc"``.
        max_gap: Longest gap such as ``"6 days"`` or ``"36 hours"``; 6 days is half a Sentinel-1
            cycle, so that either neighbour of an optical scene can be reached.
        max_cloud: Most cloud and shadow inside the AOI, per cent.
        purpose: ``flood``, ``default`` or ``settlement``: how fast a gap devalues a pair.
        pin: Ids of scenes: of their sensor no others come into question, and they do so whatever
            their cloud and gap. Recorded as the user's choice, like `exclude`.
        exclude: Ids of scenes that don't come into question.
        deadline: Seconds for all of it: catalogs and cloud masks.

    Raises:
        AOIError: The area can't be used.
        NoScenesFound: No scenes of the AOI and dates.
        NoPairFound: Scenes, but no pair within `max_gap` and `max_cloud`.
        CatalogUnavailable: The catalog can't be read.
        SearchError: Dates, sensors, gap, cloud or purpose make no sense, or a pinned or excluded
            id is unknown.
    """
    terms, limits = _asked(
        aoi, dates, sensors, max_gap, max_cloud, around=around, purpose=purpose, pin=pin,
        exclude=exclude,
    )  # fmt: skip
    return list(_search(terms, limits, catalog, Budget(deadline)).pairs)


def search_candidates(  # noqa: PLR0913  a door: options by name
    aoi: AOILike,
    dates: DatesLike | None = None,
    *,
    around: Day | None = None,
    catalog: CatalogLike = None,
    sensors: str | Iterable[str] = MODALITIES,
    max_gap: str | timedelta = "6 days",
    max_cloud: float = 20.0,
    purpose: str = "default",
    pin: IdsLike = None,
    exclude: IdsLike = None,
    deadline: float = 120.0,
    budget: Budget | None = None,
) -> Candidates:
    """Every combination of the scenes found: the pairs, and those rejected with their one reason.

    The reason is the first limit that a candidate breaks: the user's choice, no data, cloud, gap,
    footprints.

    Args:
        aoi: As `search_pairs`, like all others.
        dates: First and last UTC day.
        around: A day or instant that the pair should be near.
        catalog: Where to search; of a list, the first with a pair.
        sensors: ``optical``, ``sar`` or both.
        max_gap: Longest gap.
        max_cloud: Most cloud and shadow inside the AOI, per cent.
        purpose: ``flood``, ``default`` or ``settlement``.
        pin: Ids of the scenes that come into question.
        exclude: Ids of scenes that don't.
        deadline: Seconds for all of it.
        budget: Time and stop button, in place of `deadline`.

    Raises:
        SearchError: As `search_pairs`: no pair is an error here, too; it has the `rejected` ones.
        Cancelled: The budget was cancelled.
    """
    terms, limits = _asked(
        aoi, dates, sensors, max_gap, max_cloud, around=around, purpose=purpose, pin=pin,
        exclude=exclude,
    )  # fmt: skip
    return _search(terms, limits, catalog, budget or Budget(deadline), rejected=True)


def search_scenes(
    aoi: AOILike,
    dates: DatesLike,
    *,
    catalog: CatalogLike = None,
    sensors: str | Iterable[str] = MODALITIES,
    deadline: float = 120.0,
) -> list[Scene]:
    """Every scene of an AOI in the dates, ordered by time; cloud is not looked at.

    Args:
        aoi: Area of interest, in any form `AOI.from_any` takes.
        dates: Inclusive UTC days, as in `search_pairs`.
        catalog: As in `search_pairs`; of a list, the first with a scene.
        sensors: As in `search_pairs`.
        deadline: Seconds for all of it.

    Raises:
        NoScenesFound: None; the message names the nearest.
        CatalogUnavailable: The catalog can't be read.
        SearchError: Dates or sensors make no sense.
    """
    area = AOI.from_any(aoi)
    limits = limits_of(dates, sensors, "6 days", 100.0)

    def scenes(sources: Sources, _reader: Reader) -> list[Scene]:
        found = [s for kind in limits.modalities for s in sources.search(kind, area, limits)]
        if found:
            return sorted(found, key=lambda scene: (scene.start, scene.id, scene.sensor))
        kinds = limits.modalities
        here = {kind: sources.near(kind, area, limits) for kind in kinds}
        nearest = [scene for kind in kinds for scene in here[kind]]
        if not nearest:
            raise outside_all(area, limits, sources, here)
        raise no_scenes(limits, sources, nearest)

    return _first(catalog, Budget(deadline), scenes)


def _asked(
    aoi: AOILike,
    dates: DatesLike | None,
    sensors: str | Iterable[str],
    max_gap: str | timedelta,
    max_cloud: float,
    *,
    around: Day | None,
    purpose: str,
    pin: IdsLike,
    exclude: IdsLike,
) -> tuple[Terms, Limits]:
    """What a user asked for, in canonical form."""
    area = AOI.from_any(aoi)
    tau_days(purpose)
    limits = limits_of(dates, sensors, max_gap, max_cloud, around=around, purpose=purpose)
    terms = Terms(
        aoi=area,
        max_gap=limits.max_gap,
        max_cloud=limits.max_cloud,
        purpose=purpose,
        around=limits.around,
        choice=Choice.of(pin, exclude),
    )
    return terms, limits


def _search(
    terms: Terms, limits: Limits, catalog: CatalogLike, budget: Budget, *, rejected: bool = False
) -> Candidates:
    """The candidates of the first catalog with a pair; rejected ones where they are wanted."""

    def candidates(sources: Sources, reader: Reader) -> Candidates:
        named = replace(terms, catalog=sources.name)
        listed = {kind: sources.search(kind, terms.aoi, limits) for kind in limits.modalities}
        found = {kind: _with_mosaics(scenes, terms) for kind, scenes in listed.items()}
        if all(found.values()):
            place = f"from {limits.first} to {limits.last} in the catalog {sources.name!r}"
            terms.choice.check([scene for scenes in found.values() for scene in scenes], place)
        if rejected:
            candidates = candidates_of(found, named, reader)
        else:
            candidates = Candidates(pairs=tuple(pairs_of(found, named, reader)), rejected=())
        if not candidates.pairs:
            reader.budget.step("looking for the nearest miss")
            error = explain(terms, limits, sources, listed, reader)
            if rejected:
                error.rejected = candidates.rejected or _alone(found)
            raise error
        told = limits.terms | terms.terms
        pairs = [
            replace(pair, terms={**told, "rank": rank}, reasons=(*pair.reasons, *sources.partial))
            for rank, pair in enumerate(candidates.pairs, start=1)
        ]
        return replace(candidates, pairs=tuple(pairs))

    return _first(catalog, budget, candidates)


def _alone(found: Mapping[str, Sequence[Scene]]) -> tuple[Rejected, ...]:
    """The scenes of one sensor as candidates where the other has none at all."""
    lacking = " and ".join(MODALITY_WORDS[kind] for kind, scenes in found.items() if not scenes)
    reason = f"There is no {lacking} scene of these days to pair it with."
    return tuple(
        Rejected(
            optical=scene if kind == "optical" else None,
            sar=scene if kind == "sar" else None,
            reason=reason,
        )
        for kind, scenes in found.items()
        for scene in sorted(scenes, key=lambda each: (each.start, each.id))
    )


def _with_mosaics(scenes: list[Scene], terms: Terms) -> list[Scene]:
    """The scenes and the mosaics of those that the user didn't exclude."""
    kept = [scene for scene in scenes if not terms.choice.excludes(scene)]
    return [*(s for s in scenes if terms.choice.excludes(s)), *with_mosaics(kept, terms.aoi)]


_Found = TypeVar("_Found")


def _first(
    catalog: CatalogLike, budget: Budget, search: Callable[[Sources, Reader], _Found]
) -> _Found:
    """What the first catalog gives that gives anything; else why each of them gave nothing."""
    failures: list[SearchError] = []
    sources = _in_order(catalog)
    for number, source in enumerate(sources):
        # One that doesn't answer must leave time for those after it.
        reader = Reader(budget=budget.part(budget.left / (len(sources) - number)))
        reader.budget.step("searching the catalog")
        try:
            return search(Sources.open(source, reader), reader)
        except SearchError as error:
            failures.append(error)
    if not failures:
        raise SearchError("No catalog was named.", change="catalog='sample'")
    first, *others = failures
    if not others:
        raise first
    reasons = [first.found or "", *(f"{each.asked} {each.found or ''}".strip() for each in others)]
    found = "; then ".join(reason.rstrip(".") for reason in reasons if reason)
    joined = type(first)(first.asked, found=found, change=first.change)
    joined.rejected = tuple(each for failure in failures for each in failure.rejected)
    raise joined from first


def _in_order(catalog: CatalogLike) -> list[Any]:
    listed = isinstance(catalog, Sequence) and not isinstance(catalog, str)
    return list(catalog) if listed and isinstance(catalog, Sequence) else [catalog]
