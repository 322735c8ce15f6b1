"""Ranking optical/SAR pairs of an AOI, with reasons.

    score = 100 · V · T · Q

V is the share of the AOI that is valid in SAR and clear in optical, T = exp(-|gap| / tau), Q the
product of the penalties in `data.penalties`. Everything that is unknown is said in a reason: an
unknown time is an interval, unknown cloud counts as half clear, and both rank behind what is
known. A search around a date multiplies A = exp(-|middle of the pair - date| / tau) to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeAlias

from shapely.geometry.base import BaseGeometry

from earthmind_lab.aoi import AOI
from earthmind_lab.data.files import Reader
from earthmind_lab.data.gaps import (
    Gap,
    gap_of,
    gap_reason,
    length,
    middle_gap,
    middle_time,
    possible,
)
from earthmind_lab.data.limits import MODALITIES, Around
from earthmind_lab.data.sides import Side, Terms, overlap_of, sides
from earthmind_lab.scene import Candidates, Rejected, Scene, ScenePair

NOTHING: tuple[str, ...] = ()
Shared: TypeAlias = tuple[float, BaseGeometry | None]
"""Share of the AOI inside all footprints, and that part, lon/lat; None = the whole AOI."""
_Judged: TypeAlias = tuple[Side | None, Side | None, Gap | None, Shared | None]
"""Optical, SAR, their gap, and what they share of the AOI; None there = rejected."""


def rank_pairs(
    optical: Iterable[Scene],
    sar: Iterable[Scene],
    aoi: AOI,
    *,
    max_gap: timedelta = timedelta(days=6),
    max_cloud: float = 20.0,
    purpose: str = "default",
    catalog: str = "",
    reader: Reader | None = None,
) -> list[ScenePair]:
    """Every admissible pair, best first; the order of the scenes given doesn't matter.

    Args:
        optical: Optical scenes of the AOI.
        sar: SAR scenes of the AOI.
        aoi: The area asked about.
        max_gap: Longest gap; compared with the smallest possible one.
        max_cloud: Most cloud and shadow inside the AOI, per cent.
        purpose: ``flood``, ``default`` or ``settlement``: how fast a gap devalues.
        catalog: Where the scenes were found, for the record.
        reader: Opens the cloud masks, within a time limit.

    Raises:
        SearchError: Unknown purpose.
    """
    terms = Terms(aoi=aoi, max_gap=max_gap, max_cloud=max_cloud, purpose=purpose, catalog=catalog)
    return pairs_of({"optical": optical, "sar": sar}, terms, reader)


def rank_scenes(
    scenes: Iterable[Scene],
    aoi: AOI,
    *,
    max_cloud: float = 20.0,
    catalog: str = "",
    reader: Reader | None = None,
) -> list[ScenePair]:
    """One-sensor results, best first: the same score with T = 1.

    Args:
        scenes: Scenes of one modality, optical or SAR.
        aoi: The area asked about.
        max_cloud: Most cloud and shadow inside the AOI, per cent; no limit on SAR.
        catalog: Where the scenes were found, for the record.
        reader: Opens the cloud masks, within a time limit.
    """
    terms = Terms(aoi=aoi, max_cloud=max_cloud, catalog=catalog)
    scenes = list(scenes)
    kinds = [kind for kind in MODALITIES if any(scene.modality == kind for scene in scenes)]
    found = [pairs_of({k: [s for s in scenes if s.modality == k]}, terms, reader) for k in kinds]
    return sorted((pair for pairs in found for pair in pairs), key=pair_rank)


def candidates_of(
    found: Mapping[str, Sequence[Scene]], terms: Terms, reader: Reader | None = None
) -> Candidates:
    """Every candidate of a search: the pairs, best first, and the rejected ones with their reason.

    Args:
        found: Scenes by modality; with one modality, candidates hold that one scene.
        terms: Limits and wishes.
        reader: Opens the cloud masks, within a time limit.
    """
    judged = list(_judged(found, terms, reader))
    rejected = [
        Rejected(
            optical=one.scene if one else None,
            sar=other.scene if other else None,
            reason=_why([side for side in (one, other) if side], gap, terms),
        )
        for one, other, gap, shared in judged
        if shared is None
    ]
    return Candidates(
        pairs=tuple(_ranked(judged, terms)), rejected=tuple(sorted(rejected, key=_place))
    )


def pairs_of(
    found: Mapping[str, Iterable[Scene]], terms: Terms, reader: Reader | None = None
) -> list[ScenePair]:
    """The pairs of `candidates_of` alone.

    Args:
        found: Scenes by modality; with one modality, pairs hold that one scene.
        terms: Limits and wishes.
        reader: Opens the cloud masks, within a time limit.
    """
    return _ranked(_judged(found, terms, reader), terms)


def make_pair(
    optical: Side | None, sar: Side | None, gap: Gap | None, shared: Shared, terms: Terms
) -> ScenePair:
    """Score one pair, or one scene where the other and the gap are None."""
    both = [side for side in (optical, sar) if side is not None]
    overlap, part = shared
    clear, reasons, cloud = overlap, NOTHING, None
    if optical is not None and optical.view is not None:
        (clear, reasons), cloud = optical.view.clear(overlap, part), optical.view.cloud
    if overlap < 0.9995:
        where = "both footprints" if len(both) == 2 else "the footprint"
        reasons += (f"{100 * overlap:.3g} % of the AOI lies inside {where}.",)
    near = after = quality = 1.0
    if gap is not None:
        after = math.exp(-(middle_gap(gap) / terms.tau))
        reasons = (gap_reason(gap), *reasons)
        if possible(gap)[0] > terms.max_gap:
            most = length(terms.max_gap)
            reasons += (f"The gap is beyond max_gap of {most}: a scene is pinned.",)
    if terms.around is not None:
        near, about = _nearness(both, terms.around, terms.tau)
        reasons = (about, *reasons)
    for side in both:
        quality *= side.quality
        reasons += side.reasons
    factors = {"V": clear, "T": after, "Q": quality}
    if terms.around is not None:
        factors["A"] = near
    for side in reversed(both):
        factors |= side.penalties
    return ScenePair(
        optical=optical.scene if optical else None,
        sar=sar.scene if sar else None,
        gap=gap,
        overlap=overlap,
        cloud_in_aoi=cloud,
        score=100 * (clear * after * quality * near),
        factors=factors,
        reasons=reasons + terms.reasons,
        catalog=terms.catalog,
        overrides=terms.overrides,
    )


def pair_rank(pair: ScenePair) -> tuple[Any, ...]:
    """Known cloud first, then known times, then score and |gap|; ids decide ties."""
    gap = pair.gap
    return (
        pair.optical is not None and pair.cloud_in_aoi is None,
        isinstance(gap, tuple) or (gap is None and not pair.scenes[0].time_known),
        # Rounded: a difference in the last bit is a tie.
        -round(pair.score, 9),
        middle_gap(gap),
    )


def _ranked(judged: Iterable[_Judged], terms: Terms) -> list[ScenePair]:
    """Pairs, best first; candidates come in order of their ids, which sorting keeps in ties."""
    pairs = [make_pair(one, two, gap, shared, terms) for one, two, gap, shared in judged if shared]
    return sorted(pairs, key=pair_rank)


def _judged(
    found: Mapping[str, Iterable[Scene]], terms: Terms, reader: Reader | None
) -> Iterator[_Judged]:
    """Every combination of the scenes, by ids, and what it shares if it breaks no limit."""
    lists = {kind: sides(scenes, terms, reader) for kind, scenes in found.items()}
    for one in lists.get("optical", [None]):
        for other in lists.get("sar", [None]):
            gap = gap_of(one.scene, other.scene) if one and other else None
            yield one, other, gap, _shared(one, other, gap, terms)


def _shared(one: Side | None, other: Side | None, gap: Gap | None, terms: Terms) -> Shared | None:
    """What a candidate shares of the AOI; None where it breaks a limit."""
    if (one and one.refusal) or (other and other.refusal):
        return None
    if one and other and gap is not None and not (one.pinned or other.pinned):
        if possible(gap)[0] > terms.max_gap:
            return None
        if one.part is other.part is None:
            return 1.0, None
    shared = overlap_of([side for side in (one, other) if side], terms)
    return shared if shared[0] else None


def _why(both: Sequence[Side], gap: Gap | None, terms: Terms) -> str:
    """The first limit that a rejected candidate breaks: the user's choice, data, cloud, gap."""
    refusals = [side.refusal for side in both if side.refusal]
    if refusals:
        return min(refusals)[1]
    if gap is not None and not any(side.pinned for side in both):
        least = possible(gap)[0]
        if least > terms.max_gap:
            return f"The gap is {length(least)}, beyond max_gap of {length(terms.max_gap)}."
    what = "footprints do" if len(both) == 2 else "footprint does"
    return f"The {what} not meet inside the AOI."


def _place(rejected: Rejected) -> tuple[Any, ...]:
    """Rejected ones by time, then id."""
    return [(scene.start, scene.id, scene.sensor) for scene in rejected.scenes], rejected.reason


def _nearness(both: Sequence[Side], around: Around, tau: timedelta) -> tuple[float, str]:
    """A, and its reason."""
    off = around.off(middle_time([side.scene for side in both]))
    what = "The middle of the pair" if len(both) == 2 else "The scene"
    order = "after" if off > timedelta(0) else "before"
    place = f"lies {length(abs(off))} {order}" if off else "lies within"
    return math.exp(-(abs(off) / tau)), f"{what} {place} {around.text}."
