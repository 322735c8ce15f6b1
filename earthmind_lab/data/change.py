"""Pairs of two times that can be compared: the same radar view, the same kind of reflectance.

    found = search_change(aoi, before="2019-08-01/2019-08-31", after="2019-09-15/2019-09-20")

Backscatter depends on where the radar looks from: of two orbits the same field gives two numbers,
and a change would be claimed where nothing changed. So SAR scenes are compared only when they are
of one relative orbit, mode, polarisation and processing, unless the user says what may differ.
Reflectance at the top of the atmosphere is never compared with that of the surface.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from earthmind_lab.aoi import AOI, AOILike
from earthmind_lab.bands import SAR_BANDS
from earthmind_lab.data.assets import assets_of
from earthmind_lab.data.catalogs import CatalogLike
from earthmind_lab.data.limits import MODALITIES, DatesLike, parse_dates
from earthmind_lab.data.pairing import pair_rank
from earthmind_lab.data.recognise import item_field
from earthmind_lab.data.reflectance import optical_level
from earthmind_lab.data.search import search_pairs
from earthmind_lab.errors import NoPairFound, SearchError
from earthmind_lab.scene import ChangePair, Scene, ScenePair

MAY_DIFFER = ("orbit", "mode", "polarisation", "processing")
"""What a user may let differ between two SAR scenes."""
SEASON_DAYS = 45
"""Optical scenes further apart in the year than this show another season."""
KEPT = 50
"""Pairs of one radar view that are compared with those of the other time: the best ones."""


def search_change(
    aoi: AOILike,
    before: DatesLike,
    after: DatesLike,
    *,
    catalog: CatalogLike = None,
    sensors: str | Iterable[str] = MODALITIES,
    max_gap: str | timedelta = "6 days",
    max_cloud: float = 20.0,
    purpose: str = "default",
    may_differ: str | Iterable[str] = (),
    deadline: float = 120.0,
) -> list[ChangePair]:
    """Pairs before and after, best first; never an empty list.

    Args:
        aoi: As `search_pairs`.
        before: First and last UTC day of the earlier pair.
        after: First and last UTC day of the later pair; begins after `before` ends.
        catalog: As `search_pairs`.
        sensors: ``optical``, ``sar`` or both.
        max_gap: Longest gap inside each pair.
        max_cloud: Most cloud and shadow inside the AOI, per cent.
        purpose: ``flood``, ``default`` or ``settlement``.
        may_differ: ``orbit``, ``mode``, ``polarisation``, ``processing``: what the SAR scenes
            need not have in common; said in the reasons as the user's choice.
        deadline: Seconds for all of it.

    Raises:
        NoPairFound: Pairs at both times, and none of them comparable; the message says why.
        SearchError: As `search_pairs`, or the times overlap, or `may_differ` makes no sense.
    """
    allowed = _allowed(may_differ)
    if parse_dates(before)[1] >= parse_dates(after)[0]:
        raise SearchError(
            "The dates before must end before those after begin.",
            found=f"{parse_dates(before)[1]} and {parse_dates(after)[0]}",
            change="before='2019-08-01/2019-08-31', after='2019-09-15/2019-09-20'",
        )
    area, end = AOI.from_any(aoi), time.monotonic() + deadline
    options: dict[str, Any] = {
        "catalog": catalog, "sensors": sensors, "max_gap": max_gap, "max_cloud": max_cloud,
        "purpose": purpose,
    }  # fmt: skip
    early, late = (
        search_pairs(area, dates, deadline=max(0.0, end - time.monotonic()), **options)
        for dates in (before, after)
    )
    found = compare_pairs(early, late, may_differ=allowed)
    if not found:
        raise _incomparable(early, late, allowed)
    return found


def compare_pairs(
    before: Sequence[ScenePair], after: Sequence[ScenePair], *, may_differ: Iterable[str] = ()
) -> list[ChangePair]:
    """Every comparable combination of two lists of pairs, best first.

    Args:
        before: Ranked pairs of the earlier time.
        after: Ranked pairs of the later time.
        may_differ: Names of `MAY_DIFFER`.
    """
    allowed = frozenset(may_differ)
    early, late = (_by_view(pairs, allowed) for pairs in (before, after))
    found = [
        _change(one, other, allowed)
        for view in early
        for one in early[view]
        for other in late.get(view, ())
        if not _differences(one, other, allowed)
    ]
    return sorted(found, key=_rank)


def sar_traits(scene: Scene) -> dict[str, str | None]:
    """What two SAR scenes must have in common, by the names of `MAY_DIFFER`; None = not stated."""
    item = scene.items[0] if scene.items else {}
    relative, state = scene.orbit.get("relative"), scene.orbit.get("state")
    mode = item_field(item, "sar:instrument_mode")
    names = sorted(set(scene.assets) & {band.name for band in SAR_BANDS})
    # Versions of one processor differ by their last number in details only.
    version = re.match(r"\D*\d+", str(scene.processing.get("baseline") or ""))
    kind = [scene.sensor, scene.collection, version and version[0]]
    return {
        "orbit": None if relative is None else " ".join(str(p) for p in (relative, state) if p),
        "mode": None if mode is None else str(mode),
        "polarisation": " and ".join(names) or None,
        "processing": ", ".join(str(part) for part in kind if part),
    }


def _allowed(may_differ: str | Iterable[str]) -> frozenset[str]:
    given = re.split(r"[,+\s]+", may_differ) if isinstance(may_differ, str) else list(may_differ)
    names = {str(name).strip().lower() for name in given if str(name).strip()}
    if names - set(MAY_DIFFER):
        raise SearchError(
            f"may_differ={may_differ!r} is not known.", change=f"some of {', '.join(MAY_DIFFER)}"
        )
    return frozenset(names)


def _by_view(
    pairs: Iterable[ScenePair], allowed: frozenset[str]
) -> Mapping[Hashable, list[ScenePair]]:
    """The best pairs of each radar view, so that only comparable ones are compared."""
    views: dict[Hashable, list[ScenePair]] = defaultdict(list)
    for pair in sorted(pairs, key=pair_rank):
        traits = sar_traits(pair.sar) if pair.sar else {}
        level = _level(pair.optical) if pair.optical else None
        view = (level, *(traits.get(name) for name in MAY_DIFFER if name not in allowed))
        if len(views[view]) < KEPT:
            views[view].append(pair)
    return views


def _differences(before: ScenePair, after: ScenePair, allowed: frozenset[str]) -> dict[str, str]:
    """Why two pairs can't be compared, by name of `MAY_DIFFER` or ``level``; empty = they can."""
    found = {}
    if before.sar and after.sar:
        one, other = sar_traits(before.sar), sar_traits(after.sar)
        for name in (name for name in MAY_DIFFER if name not in allowed):
            if one[name] != other[name]:
                found[name] = f"the {_both(one, other, name)}"
            elif name == "orbit" and one[name] is None:
                found[name] = "the relative orbit of the SAR scenes is not stated"
    if before.optical and after.optical:
        levels = _level(before.optical), _level(after.optical)
        if levels[0] != levels[1]:
            early, late = (level or "of a level not stated" for level in levels)
            found["level"] = f"the reflectance is {early} before and {late} after"
    return found


def _change(before: ScenePair, after: ScenePair, allowed: frozenset[str]) -> ChangePair:
    reasons = []
    if before.sar and after.sar:
        one, other = sar_traits(before.sar), sar_traits(after.sar)
        for name in MAY_DIFFER:
            if one[name] == other[name] and one[name] is not None:
                reasons.append(f"The SAR {name} is the same: {one[name]}.")
            elif name in allowed:
                reasons.append(f"The {_both(one, other, name)}: the user's choice.")
    if before.optical and after.optical:
        level = _level(before.optical)
        reasons.append(
            "Both hold brightness, which is no reflectance: it is compared by eye." if level == "DN"
            else f"The reflectance is {level} at both times." if level else
            "Nothing tells whether the reflectance is of the top of the atmosphere or the surface."
        )  # fmt: skip
        reasons += _season(before.optical, after.optical)
    return ChangePair(
        before=before,
        after=after,
        score=min(before.score, after.score),
        reasons=tuple(reasons),
    )


def _both(one: Mapping[str, str | None], other: Mapping[str, str | None], name: str) -> str:
    early, late = (traits[name] or "not stated" for traits in (one, other))
    return f"SAR {name} is {early} before and {late} after"


def _level(scene: Scene) -> str | None:
    return optical_level(scene, assets_of(scene, min(scene.assets))[0])


def _season(before: Scene, after: Scene) -> list[str]:
    """Whether two optical scenes show the same season, by their days of the year."""
    one, other = (scene.start.timetuple().tm_yday for scene in (before, after))
    apart = abs(one - other)
    apart = min(apart, 365 - apart)
    if apart <= SEASON_DAYS:
        return [f"The optical scenes lie {apart} days apart in the year: the same season."]
    changes = "crops, leaves, snow and shadows change with the season"
    return [f"The optical scenes lie {apart} days apart in the year: {changes}."]


def _rank(change: ChangePair) -> tuple[Any, ...]:
    """As its worse pair ranks, then as its better one; ids decide ties."""
    pairs = (change.before, change.after)
    ids = tuple(scene.id for pair in pairs for scene in pair.scenes)
    return (*sorted(map(pair_rank, pairs), reverse=True), ids)


def _incomparable(
    before: Sequence[ScenePair], after: Sequence[ScenePair], allowed: frozenset[str]
) -> NoPairFound:
    """What differs in the combination that differs least, and what would let it pass."""
    early, late = (_by_view(pairs, allowed) for pairs in (before, after))
    options = (
        _differences(one[0], other[0], allowed) for one in early.values() for other in late.values()
    )
    found = min(options, key=lambda each: ("level" in each, len(each)))
    lifted = [*sorted(allowed), *(name for name in MAY_DIFFER if name in found)]
    lift = f"may_differ='{','.join(lifted)}' where that is meant, or "
    return NoPairFound(
        "No pair before can be compared with one after.",
        found=f"at best {'; '.join(found.values())}",
        change=f"{'' if 'level' in found else lift}other dates",
    )
