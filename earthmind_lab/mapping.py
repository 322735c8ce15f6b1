"""Replies on the Earth: masks in pixels become features in lon/lat.

`map_reply` clips the masks of a reply to the AOI. One `Detection` is one connected component of a
mask (8 neighbours), so that features can be counted; components smaller than 3 x 3 pixels of what
the model really saw are left out of the features and counted in `Mapped.unresolved`. Their pixels
stay in the mask, so areas and shares measured on the whole mask (`evidence`) keep them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.exchange import Found, Reply, View

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from shapely.geometry.base import BaseGeometry

    from earthmind_lab.chip import Chip

RESOLVABLE_PX = 9
"""3 x 3 pixels of the seen GSD: below, an object is mostly mixed pixels."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Detection:
    """One object on the Earth."""

    label: str
    """What the model called it."""
    score: float
    """The model's own estimate of its mask's quality, 0 to 1."""
    geometry: BaseGeometry
    """MultiPolygon in lon/lat (EPSG:4326): outline of the mask's pixels."""
    area_m2: float
    """Mapped area: the pixels of this object, geodesic, square metres."""
    source: str
    """Sensor family whose picture drew it: ``optical`` or ``sar``."""
    observed: str | None
    """When that sensor saw it, ISO 8601 UTC, or start/end where the source lacks the time."""
    probability: float = math.nan
    """Mean over its pixels of the model's own probability, 0 to 1; uncalibrated."""
    mark: int = 0
    """Which of `Reply.objects` it is a part of."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Mapped:
    """A reply on the Earth."""

    detections: tuple[Detection, ...] = ()
    """Objects large enough to be resolved, in the order of the reply, larger first."""
    unresolved: Mapping[str, int] = field(default_factory=dict)
    """Per label, the number of objects too small to be resolved."""


def mask_of(found: Found) -> NDArray[np.bool_] | None:
    """The mask of an object: logits above 0; None where it was named without a mask."""
    return None if found.mask_logits is None else np.asarray(found.mask_logits > 0)


def observable(chip: Chip) -> NDArray[np.bool_]:
    """(y, x) True inside the AOI where at least one sensor has data.

    Nothing is mapped and no share is counted elsewhere: no claim without a pixel.
    """
    seen = np.zeros_like(chip.inside)
    for valid in (chip.valid_optical, chip.valid_sar):
        if valid is not None:
            seen |= valid
    return np.asarray(chip.inside & seen)


def components(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Connected components of 8 neighbours: (H, W) numbers from 1, and how many."""
    from scipy import ndimage

    labels, count = ndimage.label(mask, structure=np.ones((3, 3), dtype=int))
    return labels, int(count)


def resolvable_pixels(gsd: float, seen_gsd: float) -> int:
    """Smallest object in pixels of the grid that the model could resolve."""
    return max(1, round(RESOLVABLE_PX * (seen_gsd / gsd) ** 2))


def map_reply(reply: Reply, chip: Chip, views: Sequence[View], *, seen_gsd: float) -> Mapped:
    """Put the objects of a reply on the Earth.

    Args:
        reply: Objects with masks on the chip's grid.
        chip: Where the views came from.
        views: The pictures of the prompt, in its order.
        seen_gsd: Metres per pixel that the model really saw.
    """
    allowed = observable(chip)
    least = resolvable_pixels(chip.gsd, seen_gsd)
    detections: list[Detection] = []
    unresolved: dict[str, int] = {}
    for mark, found in enumerate(reply.objects):
        mask, probability = mask_of(found), reply.probability(found)
        if mask is None or probability is None:
            continue
        modality = views[found.view].modality if found.view < len(views) else ""
        parts, small = _split(mask & allowed, probability, chip.grid, least)
        if small:
            unresolved[found.label] = unresolved.get(found.label, 0) + small
        detections += [
            Detection(
                label=found.label, score=float(found.score), geometry=geometry, area_m2=area,
                source=modality, observed=_observed(chip, modality), probability=sure, mark=mark,
            )
            for geometry, area, sure in parts
        ]  # fmt: skip
    return Mapped(detections=tuple(detections), unresolved=unresolved)


def _split(
    mask: NDArray[np.bool_], probability: NDArray[np.float32], grid: GeoBox, least: int
) -> tuple[list[tuple[BaseGeometry, float, float]], int]:
    """Components as (outline, area, mean probability), larger first; how many are too small."""
    from scipy import ndimage

    from earthmind_lab.grid import mask_to_polygons, pixel_areas

    labels, count = components(mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    weights = np.broadcast_to(_by_row(pixel_areas(grid)), mask.shape)
    areas = np.bincount(labels.ravel(), weights=weights.ravel(), minlength=count + 1)[1:]
    sums = np.bincount(labels.ravel(), weights=probability.ravel(), minlength=count + 1)[1:]
    windows = ndimage.find_objects(labels)
    kept = [number for number in np.argsort(-sizes, kind="stable") if sizes[number] >= least]
    parts = []
    for number in kept:
        rows, columns = windows[number]
        part = labels[rows, columns] == number + 1
        outlines = mask_to_polygons(part, _window(grid, rows, columns))
        sure = float(sums[number] / sizes[number])
        parts.append((_as_multi(outlines), float(areas[number]), sure))
    return parts, count - len(kept)


def _window(grid: GeoBox, rows: slice, columns: slice) -> GeoBox:
    """A cut of a grid; `grid[rows, columns]` warns with affine 3."""
    from affine import Affine
    from odc.geo.geobox import GeoBox

    a, b, c, d, e, f = tuple(grid.affine)[:6]
    x, y = columns.start, rows.start
    corner = Affine(a, b, a * x + b * y + c, d, e, d * x + e * y + f)
    return GeoBox((rows.stop - y, columns.stop - x), corner, grid.crs)


def _by_row(areas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Areas that broadcast over (y, x), also where a grid gives one per row."""
    return areas[:, None] if areas.ndim == 1 else areas


def _as_multi(outlines: Sequence[BaseGeometry]) -> BaseGeometry:
    """One type for every detection: file formats want one type per layer."""
    from shapely import MultiPolygon, get_parts

    return MultiPolygon([polygon for outline in outlines for polygon in get_parts(outline)])


def _observed(chip: Chip, modality: str) -> str | None:
    scene = {"optical": chip.pair.optical, "sar": chip.pair.sar}.get(modality)
    return None if scene is None else scene.observed
