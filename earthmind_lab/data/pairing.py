"""Ranking optical/SAR pairs of an AOI, with reasons.

    score = 100 · V · T · Q

V is the share of the AOI that is valid in SAR and clear in optical, T = exp(-|gap| / tau), Q the
product of the penalties in `PENALTIES`. Everything that is unknown is said in a reason: an unknown
time is an interval, unknown cloud counts as half clear, and both rank behind what is known.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import shapely
from pyproj import Geod
from shapely.geometry.base import BaseGeometry

from earthmind_lab.aoi import AOI
from earthmind_lab.data.clouds import Clear, Mask, clear_share, read_mask
from earthmind_lab.data.files import REMOTE, Reader
from earthmind_lab.errors import AccessDenied, LoadError, SearchError
from earthmind_lab.scene import Scene, ScenePair
from earthmind_lab.sensors import SENSORS

__all__ = [
    "PENALTIES",
    "TAU_DAYS",
    "Clear",
    "Look",
    "clear_share",
    "gap_of",
    "least_gap",
    "length",
    "look",
    "look_all",
    "make_pair",
    "rank_pairs",
    "rank_scenes",
    "tau_days",
]

TAU_DAYS: Mapping[str, float] = {"flood": 1.0, "default": 5.0, "settlement": 20.0}
"""How fast a gap devalues a pair, by purpose, in days."""
PENALTIES: Mapping[str, tuple[float, str]] = {
    "uncorrected_sar": (0.8, "The SAR scene is not terrain-corrected: relief shifts it."),
    "single_polarisation": (0.9, "The SAR scene has a single polarisation."),
    "low_sun": (0.9, "The sun stood under 20° in the optical scene: long shadows."),
}
"""Factor of Q and its reason."""
MASK_LANES = 16
"""Cloud masks fetched at a time."""
UNKNOWN_CLEAR = 0.5
"""Clear share where nothing tells the cloud."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """What one optical scene offers inside the AOI."""

    scene: Scene
    mask: Mask | None
    """None when the scene has no mask or it can't be read."""
    cloud: float | None
    """Cloud and shadow in per cent: from the mask, else of the whole scene; None = unknown."""
    reasons: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """The mask shows no data anywhere inside the AOI."""
        return self.mask is not None and self.cloud is None


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
    tau_days(purpose)
    sar = list(sar)
    pairs = []
    for view in look_all(optical, aoi, reader):
        if view.empty or (view.cloud is not None and view.cloud > max_cloud):
            continue
        for radar in sar:
            if least_gap(view.scene, radar) <= max_gap:
                pair = make_pair(view, radar, aoi, purpose=purpose, catalog=catalog)
                pairs += [pair] if pair.overlap > 0 else []
    return sorted(pairs, key=_rank)


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
    pairs = []
    scenes = list(scenes)
    views = {
        v.scene: v for v in look_all((s for s in scenes if s.modality == "optical"), aoi, reader)
    }
    for scene in scenes:
        view = views.get(scene)
        if view and (view.empty or (view.cloud is not None and view.cloud > max_cloud)):
            continue
        pair = make_pair(view, None if view else scene, aoi, purpose="default", catalog=catalog)
        pairs += [pair] if pair.overlap > 0 else []
    return sorted(pairs, key=_rank)


def look_all(scenes: Iterable[Scene], aoi: AOI, reader: Reader | None = None) -> list[Look]:
    """`look` at each scene, several at a time where masks come over the network."""
    scenes, reader = list(scenes), reader or Reader()
    remote = any(href.startswith(REMOTE) for scene in scenes for href in scene.assets.values())
    if not remote:
        return [look(scene, aoi, reader) for scene in scenes]
    lanes = ThreadPoolExecutor(MASK_LANES)
    try:
        return list(lanes.map(lambda scene: look(scene, aoi, reader), scenes))
    except BaseException:
        reader.budget.cancel()
        raise
    finally:
        lanes.shutdown(cancel_futures=True)


def look(scene: Scene, aoi: AOI, reader: Reader | None = None) -> Look:
    """Read what an optical scene's mask says about the AOI, or fall back to its percentage."""
    mask, reasons = None, []
    try:
        mask = read_mask(scene, aoi, reader)
    except (LoadError, AccessDenied) as error:
        reasons.append(f"The cloud mask can't be read: {error}")
    if mask is not None:
        return Look(scene=scene, mask=mask, cloud=mask.shares().cloud_percent)
    if scene.cloud_cover is None:
        reasons.append(
            "Nothing tells the cloud: counted as half clear, ranked behind pairs whose cloud is"
            " known."
        )
    else:
        reasons.append(
            f"No cloud mask inside the AOI: the whole scene's {scene.cloud_cover:.3g} % takes its"
            " place."
        )
    return Look(scene=scene, mask=None, cloud=scene.cloud_cover, reasons=tuple(reasons))


def make_pair(
    view: Look | None, sar: Scene | None, aoi: AOI, *, purpose: str, catalog: str
) -> ScenePair:
    """Score one pair, or one scene where the other is None."""
    optical = view.scene if view else None
    scenes = [scene for scene in (optical, sar) if scene is not None]
    overlap, shared = _overlap([scene.footprint for scene in scenes], aoi)
    clear, seen = _clear(view, overlap, shared)
    gap = gap_of(optical, sar) if optical and sar else None
    time = 1.0 if gap is None else math.exp(-_middle(gap) / timedelta(days=tau_days(purpose)))
    penalties = {name: PENALTIES[name][0] for name in _penalties(optical, sar)}
    quality = math.prod(penalties.values(), start=1.0)
    reasons = [*_time_reasons(scenes, gap), *seen]
    if overlap < 0.9995:
        both = "both footprints" if len(scenes) == 2 else "the footprint"
        reasons.append(f"{100 * overlap:.3g} % of the AOI lies inside {both}.")
    reasons += [PENALTIES[name][1] for name in penalties]
    reasons += _shift_reasons(scenes)
    return ScenePair(
        optical=optical,
        sar=sar,
        gap=gap,
        overlap=overlap,
        cloud_in_aoi=view.cloud if view else None,
        score=100 * clear * time * quality,
        factors={"V": clear, "T": time, "Q": quality, **penalties},
        reasons=tuple(reasons),
        catalog=catalog,
    )


def gap_of(optical: Scene, sar: Scene) -> timedelta | tuple[timedelta, timedelta]:
    """SAR minus optical; (least, greatest), signed, when a time is unknown."""
    least, greatest = sar.start - optical.end, sar.end - optical.start
    return least if optical.time_known and sar.time_known else (least, greatest)


def least_gap(optical: Scene, sar: Scene) -> timedelta:
    """The smallest possible |gap|."""
    return _absolute(gap_of(optical, sar))[0]


def tau_days(purpose: str) -> float:
    """The time constant of a purpose, in days.

    Raises:
        SearchError: Unknown purpose.
    """
    if purpose not in TAU_DAYS:
        raise SearchError(f"Unknown purpose {purpose!r}.", change=", ".join(sorted(TAU_DAYS)))
    return TAU_DAYS[purpose]


def _overlap(footprints: list[BaseGeometry], aoi: AOI) -> tuple[float, BaseGeometry | None]:
    """(share of the AOI inside all footprints, that part or None for the whole AOI)."""
    if all(footprint.covers(aoi.geometry) for footprint in footprints):
        return 1.0, None
    shared = aoi.geometry
    for footprint in footprints:
        # Shared corners and edges come along as points and lines.
        parts = shapely.get_parts(shared.intersection(footprint))
        shared = shapely.union_all([part for part in parts if part.area > 0])
    return min(1.0, _area_m2(shared) / _area_m2(aoi.geometry)), shared


def _area_m2(geometry: BaseGeometry) -> float:
    # Geodesic areas are signed: parts and holes must turn the right way round.
    turned = shapely.orient_polygons(geometry)
    area, _ = Geod(ellps="WGS84").geometry_area_perimeter(turned)
    return abs(float(area))


def _clear(
    view: Look | None, overlap: float, shared: BaseGeometry | None
) -> tuple[float, tuple[str, ...]]:
    """V, and the reasons for it."""
    if view is None:
        return overlap, ()
    if view.mask is not None:
        shares = view.mask.shares(shared)
        title = view.mask.title
        reasons = [f"{100 * shares.clear:.3g} % of the AOI is clear, by the scene's mask: {title}."]
        if shares.snow >= 0.05:
            reasons.append(f"Snow or ice covers {100 * shares.snow:.3g} % of the AOI.")
        return shares.clear, tuple(reasons)
    share = UNKNOWN_CLEAR if view.cloud is None else 1 - view.cloud / 100
    return overlap * share, view.reasons


def _penalties(optical: Scene | None, sar: Scene | None) -> list[str]:
    names = []
    if sar is not None:
        if sar.sensor in SENSORS and SENSORS[sar.sensor].geometry == "ellipsoid":
            names.append("uncorrected_sar")
        if len(set(sar.assets) & {"vv", "vh", "hh", "hv"}) < 2:
            names.append("single_polarisation")
    sun = optical.processing.get("sun_elevation") if optical else None
    if sun is not None and sun < 20:
        names.append("low_sun")
    return names


def _time_reasons(
    scenes: list[Scene], gap: timedelta | tuple[timedelta, timedelta] | None
) -> list[str]:
    reasons = []
    if gap is not None:
        least, greatest = (length(part) for part in _absolute(gap))
        if isinstance(gap, tuple):
            reasons.append(f"The gap is unknown: between {least} and {greatest}.")
        else:
            order = "after" if gap >= timedelta(0) else "before"
            reasons.append(f"SAR was taken {least} {order} the optical scene.")
    for scene in scenes:
        if not scene.time_known:
            name = "SAR" if scene.modality == "sar" else "optical"
            reasons.append(f"The time of the {name} scene is unknown: {scene.observed}.")
    return reasons


def _shift_reasons(scenes: list[Scene]) -> list[str]:
    found = [(scene, scene.processing.get("geolocation_error_px")) for scene in scenes]
    return [
        f"The catalog declares a geolocation error of {error:g} px for {scene.id}."
        for scene, error in found
        if error
    ]


def length(gap: timedelta) -> str:
    """A length of time in a sentence: minutes, hours or days."""
    hours = gap / timedelta(hours=1)
    if hours < 1:
        return f"{gap / timedelta(minutes=1):.0f} minutes"
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.1f} days"


def _absolute(gap: timedelta | tuple[timedelta, timedelta]) -> tuple[timedelta, timedelta]:
    """Smallest and greatest possible |gap|."""
    if not isinstance(gap, tuple):
        return abs(gap), abs(gap)
    straddles = gap[0] <= timedelta(0) <= gap[1]
    ends = sorted(abs(part) for part in gap)
    return timedelta(0) if straddles else ends[0], ends[1]


def _middle(gap: timedelta | tuple[timedelta, timedelta]) -> timedelta:
    return sum(_absolute(gap), timedelta(0)) / 2


def _rank(pair: ScenePair) -> tuple[Any, ...]:
    """Known cloud first, then known times, then score, |gap| and ids."""
    return (
        pair.optical is not None and pair.cloud_in_aoi is None,
        not all(scene.time_known for scene in pair.scenes),
        # Rounded: a difference in the last bit is a tie.
        -round(pair.score, 9),
        timedelta(0) if pair.gap is None else _middle(pair.gap),
        *(scene.id for scene in pair.scenes),
        *(scene.sensor for scene in pair.scenes),
    )
