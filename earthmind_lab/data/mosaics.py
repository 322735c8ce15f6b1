"""Mosaics: items of one pass over an AOI that no single one of them covers become one scene.

A satellite is in one place at a time: items of one satellite within minutes are one pass, unless
their datatake or orbit says otherwise. Only what was processed alike is joined: same collection,
level, baseline and bands. The items keep an order that decides pixels: the first gives the chip's
lattice, the next ones fill what the ones before left empty, so that a pixel's value doesn't
depend on how the AOI is cut later.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

from earthmind_lab.aoi import AOI
from earthmind_lab.data.recognise import bands_of, item_field
from earthmind_lab.errors import SearchError
from earthmind_lab.grid import metric_crs
from earthmind_lab.scene import Scene

PASS = timedelta(minutes=5)
"""An AOI is passed over in seconds; the next orbit comes an hour and a half later."""
SAME_GROUND = 0.9
"""Two outlines that share this much of their union are two versions of one item."""
SLIVER = 1e-6
"""Share of the AOI below which an item adds nothing but rounding."""
_LEVELS = ("level", "baseline", "product_type", "measurement_type", "measurement_convention")


def with_mosaics(scenes: Sequence[Scene], aoi: AOI) -> list[Scene]:
    """The scenes, and a mosaic of each pass that covers more of the AOI than any item of it.

    Args:
        scenes: Scenes of one item each, of any modality, in any order.
        aoi: Where they are wanted.
    """
    mosaics = [_mosaic(items, aoi) for items in _passes(scenes)]
    return [*scenes, *(mosaic for mosaic in mosaics if mosaic is not None)]


def join(scenes: Sequence[Scene], weights: Sequence[float] | None = None) -> Scene:
    """One scene of several items of a pass, in the order given.

    Args:
        scenes: Of one item each; orbit, processing and bands are those of the first.
        weights: What each gives to the AOI, for the mean of their cloud; equal by default.

    Returns:
        A scene whose time is the middle of the pass: it is known to within half its length.

    Raises:
        SearchError: They aren't items of one pass, processed alike.
    """
    if len({_alike(scene) for scene in scenes}) != 1 or not _together(scenes):
        names = ", ".join(scene.id for scene in scenes)
        raise SearchError("Only items of one pass, processed alike, make a scene.", found=names)
    first = scenes[0]
    start, end = min(s.start for s in scenes), max(s.end for s in scenes)
    middle = start + (end - start) / 2
    return replace(
        first,
        id="+".join(scene.id for scene in scenes),
        datetime=middle,
        start=middle,
        end=middle,
        footprint=shapely.union_all([scene.footprint for scene in scenes]),
        cloud_cover=_cloud(scenes, weights or [1.0] * len(scenes)),
        items=tuple(item for scene in scenes for item in _placed(scene)),
    )


def _passes(scenes: Iterable[Scene]) -> Iterator[list[Scene]]:
    """Groups of scenes that were taken in one pass and processed alike."""
    groups: dict[Any, list[Scene]] = defaultdict(list)
    for scene in scenes:
        # Without a time, or anything that names the satellite or its orbit, the pass is unknown.
        if scene.time_known and len(scene.items) == 1 and any(map(scene.orbit.get, _NAMED)):
            groups[_alike(scene)].append(scene)
    for group in groups.values():
        group.sort(key=lambda scene: (scene.start, scene.id))
        start = group[0].start
        current: list[Scene] = []
        for scene in group:
            if scene.start - start > PASS:
                yield current
                start, current = scene.start, []
            current.append(scene)
        yield current


_NAMED = ("platform", "datatake", "absolute", "relative")


def _alike(scene: Scene) -> tuple[Any, ...]:
    """What must be equal in all items of a pass."""
    item = scene.items[0] if scene.items else {}
    orbit = (*_NAMED, "state")
    return (
        scene.sensor,
        scene.collection,
        *(str(scene.orbit.get(name, "")).lower() for name in orbit),
        *(str(scene.processing.get(name, "")) for name in _LEVELS),
        str(item_field(item, "sar:instrument_mode")),
        str(item_field(item, "earthsearch:boa_offset_applied")),
        tuple(sorted(scene.assets)),
    )


def _together(scenes: Sequence[Scene]) -> bool:
    times = [scene.start for scene in scenes]
    return all(scene.time_known for scene in scenes) and max(times) - min(times) <= PASS


def _mosaic(scenes: Sequence[Scene], aoi: AOI) -> Scene | None:
    """The items of a pass that an AOI needs as one scene; None where one of them will do."""
    if len(scenes) < 2:
        return None
    parts = {scene: scene.footprint.intersection(aoi.geometry) for scene in _versions(scenes)}
    least = SLIVER * aoi.geometry.area
    zones: dict[str, list[Scene]] = defaultdict(list)
    for scene in parts:
        zones[zone_of(scene)].append(scene)

    def held(zone: str) -> float:
        return float(shapely.union_all([parts[scene] for scene in zones[zone]]).area)

    # Pixels of the zone that holds most of the AOI are not resampled.
    first, *others = sorted(zones, key=lambda zone: (-held(zone), zone))
    rest = [scene for zone in others for scene in zones[zone]]
    chosen, gains, covered = _cover(zones[first], parts, shapely.Polygon(), least)
    more, further, covered = _cover(rest, parts, covered, least)
    if covered.area <= max(part.area for part in parts.values()) + least:
        return None
    return join([*chosen, *more], [*gains, *further])


def _cover(
    scenes: Iterable[Scene],
    parts: Mapping[Scene, BaseGeometry],
    covered: BaseGeometry,
    least: float,
) -> tuple[list[Scene], list[float], BaseGeometry]:
    """Items by what they add, most first: (items, added areas, all that is covered)."""
    chosen, gains, left = [], [], sorted(scenes, key=lambda scene: scene.id)
    while left:
        added = [float(parts[scene].difference(covered).area) for scene in left]
        best = max(range(len(left)), key=added.__getitem__)
        if added[best] <= least:
            break
        scene = left.pop(best)
        covered = covered.union(parts[scene])
        chosen.append(scene)
        gains.append(added[best])
    return chosen, gains, covered


def _versions(scenes: Sequence[Scene]) -> list[Scene]:
    """The newest version of each item: a pass that was processed twice is no mosaic of itself."""
    newest = sorted(scenes, key=lambda scene: (_processed(scene), scene.id), reverse=True)
    kept: list[Scene] = []
    for scene in newest:
        if not any(_same_ground(scene, other) for other in kept):
            kept.append(scene)
    return kept


def _processed(scene: Scene) -> str:
    names = ("s2:generation_time", "processing:datetime", "updated", "created")
    return str(item_field(scene.items[0], *names) or "")


def _same_ground(one: Scene, other: Scene) -> bool:
    """Whether two items are versions of one: nearly the same outline, in no other cell.

    One cell may well hold two items of a pass: where a strip of data was cut, each has a part.
    """
    cells = _cell(one), _cell(other)
    if all(cells) and cells[0] != cells[1]:
        return False
    union = one.footprint.union(other.footprint).area
    return bool(one.footprint.intersection(other.footprint).area >= SAME_GROUND * union)


def _cell(scene: Scene) -> str:
    """Cell of Sentinel-2's tiling, such as ``36MXE``; empty where the item names none."""
    found = item_field(scene.items[0], "grid:code", "s2:mgrs_tile")
    match = re.search(r"(\d{1,2}[C-X][A-Z]{2})$", str(found or ""))
    return match[1].zfill(5) if match else ""


def zone_of(scene: Scene) -> str:
    """The CRS of an item's files as it declares it, else the UTM zone that its outline is in.

    >>> from shapely.geometry import box
    >>> import datetime as dt
    >>> now = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    >>> zone_of(Scene(id="a", sensor="optical", modality="optical", datetime=now, start=now,
    ...               end=now, footprint=box(9, 45, 10, 46), assets={}))
    'EPSG:32632'
    """
    item = scene.items[0] if scene.items else {}
    code = item_field(item, "proj:code", "proj:epsg")
    if code is not None:
        text = str(code)
        return text.upper() if ":" in text else f"EPSG:{text}"
    centre = scene.footprint.centroid
    return metric_crs(centre.x, centre.y)


def _cloud(scenes: Sequence[Scene], weights: Sequence[float]) -> float | None:
    """Cloud of the whole in per cent, by what each item gives; None where one doesn't tell."""
    known = [scene.cloud_cover for scene in scenes if scene.cloud_cover is not None]
    if len(known) < len(scenes):
        return None
    return sum(c * w for c, w in zip(known, weights, strict=True)) / sum(weights)


def _placed(scene: Scene) -> Iterator[Mapping[str, Any]]:
    """The items of a scene, their bands under the hrefs that the scene resolved.

    A further item's hrefs can't be told from the first's, so each item must carry its own; bands
    whose href was refused are left out.
    """
    for item in scene.items:
        assets = dict(item.get("assets") or {})
        for band, key in bands_of(item).items():
            href = scene.assets.get(band)
            if href is None:
                assets.pop(key, None)
            elif key in assets:
                assets[key] = {**assets[key], "href": href}
        yield {**item, "assets": assets}
