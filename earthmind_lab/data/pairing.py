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
    time_reasons,
)
from earthmind_lab.data.looks import Look
from earthmind_lab.data.penalties import penalty_reasons, shift_reasons
from earthmind_lab.data.sides import Side, Terms, overlap_of, sides
from earthmind_lab.scene import Candidates, Rejected, Scene, ScenePair

Shared: TypeAlias = tuple[float, BaseGeometry | None]
"""Share of the AOI inside all footprints, and that part, lon/lat; None = the whole AOI."""
_Judged: TypeAlias = tuple[Side | None, Side | None, Shared, str | None]
"""Optical, SAR, what they share, and the sentence that rejects them."""


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
    terms = Terms(
        aoi=aoi, max_gap=max_gap, max_cloud=max_cloud, purpose=purpose, catalog=catalog
    )  # fmt: skip
    return _ranked(_judge_pairs(optical, sar, terms, reader), terms)


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
    return _ranked(_judge_scenes(scenes, terms, reader), terms)


def candidates_of(
    found: Mapping[str, Sequence[Scene]], terms: Terms, reader: Reader | None = None
) -> Candidates:
    """Every candidate of a search: the pairs, best first, and the rejected ones with their reason.

    Args:
        found: Scenes by modality; with one modality, candidates hold that one scene.
        terms: Limits and wishes.
        reader: Opens the cloud masks, within a time limit.
    """
    if len(found) == 2:
        judged = list(_judge_pairs(found["optical"], found["sar"], terms, reader))
    else:
        judged = list(_judge_scenes(next(iter(found.values()), ()), terms, reader))
    rejected = [
        Rejected(
            optical=one.scene if one else None,
            sar=other.scene if other else None,
            reason=broken,
        )
        for one, other, _, broken in judged
        if broken is not None
    ]
    return Candidates(
        pairs=tuple(_ranked(judged, terms)), rejected=tuple(sorted(rejected, key=_place))
    )


def make_pair(optical: Side | None, sar: Side | None, shared: Shared, terms: Terms) -> ScenePair:
    """Score one pair, or one scene where the other is None."""
    both = [side for side in (optical, sar) if side is not None]
    overlap, part = shared
    clear, seen = (overlap, ()) if optical is None else _view(optical).clear(overlap, part)
    gap = gap_of(optical.scene, sar.scene) if optical and sar else None
    time = 1.0 if gap is None else math.exp(-(middle_gap(gap) / terms.tau))
    penalties = {name: value for side in reversed(both) for name, value in side.penalties.items()}
    quality = math.prod(penalties.values(), start=1.0)
    factors = {"V": clear, "T": time, "Q": quality}
    reasons = [] if gap is None else [gap_reason(gap)]
    near, about = _nearness(both, terms)
    if about:
        factors["A"] = near
        reasons.append(about)
    for side in both:
        reasons += time_reasons(side.scene)
    reasons += seen
    if overlap < 0.9995:
        where = "both footprints" if len(both) == 2 else "the footprint"
        reasons.append(f"{100 * overlap:.3g} % of the AOI lies inside {where}.")
    reasons += penalty_reasons(penalties)
    for side in both:
        reasons += shift_reasons(side.scene)
    return ScenePair(
        optical=optical.scene if optical else None,
        sar=sar.scene if sar else None,
        gap=gap,
        overlap=overlap,
        cloud_in_aoi=_view(optical).cloud if optical else None,
        score=100 * clear * time * quality * near,
        factors={**factors, **penalties},
        reasons=(*reasons, *_choices(both, gap, terms)),
        catalog=terms.catalog,
        overrides=terms.choice.overrides,
    )


def pair_rank(pair: ScenePair) -> tuple[Any, ...]:
    """Known cloud first, then known times, then score, |gap| and ids."""
    scenes = pair.scenes
    return (
        pair.optical is not None and pair.cloud_in_aoi is None,
        not all(scene.datetime for scene in scenes),
        # Rounded: a difference in the last bit is a tie.
        -round(pair.score, 9),
        middle_gap(pair.gap),
        [(scene.id, scene.sensor) for scene in scenes],
    )


def _ranked(judged: Iterable[_Judged], terms: Terms) -> list[ScenePair]:
    pairs = [make_pair(one, two, shared, terms) for one, two, shared, lost in judged if not lost]
    return sorted(pairs, key=pair_rank)


def _judge_pairs(
    optical: Iterable[Scene], sar: Iterable[Scene], terms: Terms, reader: Reader | None
) -> Iterator[_Judged]:
    """Every combination of the scenes, with the first limit that it breaks."""
    radars = sides(sar, terms)
    for one in sides(optical, terms, reader):
        for other in radars:
            lost = _broken(one, other, terms)
            shared = (0.0, None) if lost else overlap_of((one, other), terms.aoi)
            if not lost and not shared[0]:
                lost = "The footprints do not meet inside the AOI."
            yield one, other, shared, lost


def _judge_scenes(
    scenes: Iterable[Scene], terms: Terms, reader: Reader | None
) -> Iterator[_Judged]:
    """Every scene alone, with the first limit that it breaks."""
    for side in sides(scenes, terms, reader):
        lost = side.refusal[1] if side.refusal else None
        if lost is None and not side.share:
            lost = f"The footprint of {side.scene.id} does not meet the AOI."
        one, other = (side, None) if side.scene.modality == "optical" else (None, side)
        yield one, other, (side.share, side.part), lost


def _broken(one: Side, other: Side, terms: Terms) -> str | None:
    """The first limit that a pair breaks: the user's choice, data, cloud, then the gap."""
    if one.refusal or other.refusal:
        return min(refusal for refusal in (one.refusal, other.refusal) if refusal)[1]
    if not (one.pinned or other.pinned):
        least = possible(gap_of(one.scene, other.scene))[0]
        if least > terms.max_gap:
            return f"The gap is {length(least)}, beyond max_gap of {length(terms.max_gap)}."
    return None


def _place(rejected: Rejected) -> tuple[Any, ...]:
    """Rejected ones by time, then id."""
    return [(scene.start, scene.id, scene.sensor) for scene in rejected.scenes], rejected.reason


def _view(side: Side) -> Look:
    assert side.view is not None, "an optical scene was not looked at"
    return side.view


def _nearness(both: Sequence[Side], terms: Terms) -> tuple[float, str]:
    """A and its reason; 1 and none where no date was named."""
    if terms.around is None:
        return 1.0, ""
    off = terms.around.off(middle_time([side.scene for side in both]))
    what = "The middle of the pair" if len(both) == 2 else "The scene"
    order = "after" if off > timedelta(0) else "before"
    place = f"lies {length(abs(off))} {order}" if off else "lies within"
    return math.exp(-(abs(off) / terms.tau)), f"{what} {place} {terms.around.text}."


def _choices(both: Sequence[Side], gap: Gap | None, terms: Terms) -> Iterator[str]:
    """What the user's choice did to a pair."""
    long = gap is not None and possible(gap)[0] > terms.max_gap
    for side in both:
        if side.pinned:
            broken = [side.beyond] if side.beyond else []
            broken += [f"the gap is beyond max_gap of {length(terms.max_gap)}"] if long else []
            limits = f"; {' and '.join(broken)}" if broken else ""
            yield f"Pinned by the user: {side.scene.id}{limits}."
    yield from terms.choice.reasons
