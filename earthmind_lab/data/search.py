"""Searching a catalog for scenes and pairs of an AOI; nothing found is an error that helps.

    pairs = search_pairs((-0.775, 38.09, -0.745, 38.12), "2019-09-15/2019-09-20")

An empty search says the nearest miss and the values that would admit it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from earthmind_lab.aoi import AOI, AOILike
from earthmind_lab.data.catalogs import CatalogLike, Sources
from earthmind_lab.data.files import Reader
from earthmind_lab.data.limits import (
    MODALITIES,
    DatesLike,
    Limits,
    limits_of,
    parse_dates,
    parse_gap,
    parse_sensors,
)
from earthmind_lab.data.misses import explain, no_scenes, outside_all
from earthmind_lab.data.pairing import rank_pairs, rank_scenes, tau_days
from earthmind_lab.data.web import Budget
from earthmind_lab.errors import SearchError
from earthmind_lab.scene import Scene, ScenePair

__all__ = [
    "MODALITIES",
    "CatalogLike",
    "DatesLike",
    "parse_dates",
    "parse_gap",
    "parse_sensors",
    "search_pairs",
    "search_scenes",
]


def search_pairs(
    aoi: AOILike,
    dates: DatesLike,
    *,
    catalog: CatalogLike = None,
    sensors: str | Iterable[str] = MODALITIES,
    max_gap: str | timedelta = "6 days",
    max_cloud: float = 20.0,
    purpose: str = "default",
    deadline: float = 120.0,
) -> list[ScenePair]:
    """Optical/SAR pairs of an AOI, best first; never an empty list.

    Args:
        aoi: Area of interest, in any form `AOI.from_any` takes.
        dates: ``"A/B"``, one day, or a pair of days: inclusive UTC days that hold both scenes.
        catalog: ``sample``, a path of a static catalog, the address of a STAC API or the name of
            a known one (`earthmind_lab.data.apis.KNOWN`), an open catalog, ``{"optical": …,
            "sar": …}``, or a list to try in order; by default what the settings say.
        sensors: ``optical``, ``sar`` or both; with one, pairs hold that one scene. Keys of
            `SENSORS` in place of a modality take scenes of these alone:
            ``"landsat-c2-l2,sentinel-1-rtc"``.
        max_gap: Longest gap such as ``"6 days"`` or ``"36 hours"``; 6 days is half a Sentinel-1
            cycle, so that either neighbour of an optical scene can be reached.
        max_cloud: Most cloud and shadow inside the AOI, per cent.
        purpose: ``flood``, ``default`` or ``settlement``: how fast a gap devalues a pair.
        deadline: Seconds for all of it: catalogs and cloud masks.

    Raises:
        AOIError: The area can't be used.
        NoScenesFound: No scenes of the AOI and dates.
        NoPairFound: Scenes, but no pair within `max_gap` and `max_cloud`.
        CatalogUnavailable: The catalog can't be read.
        SearchError: Dates, sensors, gap, cloud or purpose make no sense.
    """
    area = AOI.from_any(aoi)
    limits = limits_of(dates, sensors, max_gap, max_cloud)
    tau_days(purpose)
    reader = Reader(budget=Budget(deadline))
    failure: SearchError | None = None
    for source in _in_order(catalog):
        try:
            return _search(area, limits, Sources.open(source, reader), purpose, reader)
        except SearchError as error:
            failure = failure or error
    raise failure or SearchError("No catalog was named.", change="catalog='sample'")


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
    reader = Reader(budget=Budget(deadline))
    failure: SearchError | None = None
    for source in _in_order(catalog):
        try:
            sources = Sources.open(source, reader)
            found = [s for kind in limits.modalities for s in sources.search(kind, area, limits)]
            if found:
                return sorted(found, key=lambda scene: (scene.start, scene.id, scene.sensor))
            kinds = limits.modalities
            here = {kind: sources.near(kind, area, limits) for kind in kinds}
            nearest = [scene for kind in kinds for scene in here[kind]]
            if not nearest:
                raise outside_all(area, limits, sources)
            raise no_scenes(limits, sources, nearest)
        except SearchError as error:
            failure = failure or error
    raise failure or SearchError("No catalog was named.", change="catalog='sample'")


def _search(
    aoi: AOI, limits: Limits, sources: Sources, purpose: str, reader: Reader
) -> list[ScenePair]:
    found = {kind: sources.search(kind, aoi, limits) for kind in limits.modalities}
    if len(limits.modalities) == 2:
        pairs = rank_pairs(
            found["optical"],
            found["sar"],
            aoi,
            max_gap=limits.max_gap,
            max_cloud=limits.max_cloud,
            purpose=purpose,
            catalog=sources.name,
            reader=reader,
        )
    else:
        scenes = found[limits.modalities[0]]
        pairs = rank_scenes(
            scenes, aoi, max_cloud=limits.max_cloud, catalog=sources.name, reader=reader
        )
    if pairs:
        return [replace(pair, reasons=(*pair.reasons, *sources.partial)) for pair in pairs]
    raise explain(aoi, limits, sources, found)


def _in_order(catalog: CatalogLike) -> list[Any]:
    listed = isinstance(catalog, Sequence) and not isinstance(catalog, str)
    return list(catalog) if listed and isinstance(catalog, Sequence) else [catalog]
