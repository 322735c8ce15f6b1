"""Outlines as other tools write them: COCO polygons and run lengths, and mask pictures.

A pixel belongs to a polygon when its centre lies inside; COCO's own tool differs from that by up to
a pixel along the outline.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.finetune.source import wrong
from earthmind_lab.render import MAX_PICTURE_PX

_FAR = 1e7
"""Pixels: coordinates beyond are slips, and GDAL would work on them for long."""
_CHANGE = "polygons [[x0, y0, x1, y1, x2, y2, …], …], or {'size': [H, W], 'counts': …}"


def mask_of(segmentation: Any, size: tuple[int, int], where: str) -> NDArray[np.bool_]:
    """A mask of what COCO calls a segmentation.

    Args:
        segmentation: Polygons, run lengths (also packed as text), or a list of run lengths; what
            several of them mark is marked.
        size: (H, W) of the picture.
        where: For people.

    Returns:
        (H, W), which may be empty.

    Raises:
        LoadError: Neither, or run lengths of another size.
    """
    if size[0] * size[1] > MAX_PICTURE_PX:
        raise wrong(where, "the mask is too large.", found=f"{size[1]} x {size[0]} px")
    if isinstance(segmentation, Mapping):
        return _from_runs(segmentation, size, where)
    if not isinstance(segmentation, list):
        raise wrong(where, "this is no outline.", found=repr(segmentation), change=_CHANGE)
    if segmentation and all(isinstance(part, Mapping) for part in segmentation):
        parts = [_from_runs(part, size, where) for part in segmentation]
        return np.asarray(np.logical_or.reduce(parts), dtype=bool)
    if segmentation and all(isinstance(part, int | float) for part in segmentation):
        segmentation = [segmentation]  # one polygon that nobody put into a list
    return _from_polygons([_ring(part, where) for part in segmentation], size)


def _ring(part: Any, where: str) -> list[tuple[float, float]]:
    if not isinstance(part, list) or len(part) < 6 or len(part) % 2:
        raise wrong(where, "a polygon needs three points or more.", found=repr(part),
                    change=_CHANGE)  # fmt: skip
    if not all(isinstance(v, int | float) and math.isfinite(v) and abs(v) < _FAR for v in part):
        raise wrong(where, "a polygon is made of numbers in pixels.", found=repr(part))
    points = list(zip(map(float, part[::2]), map(float, part[1::2]), strict=True))
    return [*points, points[0]]


def _from_polygons(
    rings: Sequence[list[tuple[float, float]]], size: tuple[int, int]
) -> NDArray[np.bool_]:
    from affine import Affine
    from rasterio.features import geometry_mask

    from earthmind_lab.grid import placeless

    if not rings or 0 in size:
        return np.zeros(size, dtype=bool)
    parts = [{"type": "Polygon", "coordinates": [ring]} for ring in rings]
    with placeless():
        outside = geometry_mask(parts, out_shape=size, transform=Affine.identity())
    return np.asarray(~outside, dtype=bool)


def _from_runs(runs: Mapping[str, Any], size: tuple[int, int], where: str) -> NDArray[np.bool_]:
    """Run lengths count pixels down the columns, first those outside."""
    told = runs.get("size")
    if told != list(size) and told != size:
        raise wrong(
            where, "the mask isn't of the size of its picture.",
            found=f"mask {told}, picture {list(size)} (H, W)",
            change="the picture it was drawn on",
        )  # fmt: skip
    packed = runs.get("counts")
    counts = _unpacked(packed, where) if isinstance(packed, str | bytes) else packed
    if not isinstance(counts, list) or not all(type(n) is int and n >= 0 for n in counts):
        raise wrong(where, "run lengths are whole numbers.", found=repr(packed), change=_CHANGE)
    if sum(counts) != size[0] * size[1]:
        raise wrong(
            where, "the run lengths don't fill the picture.",
            found=f"{sum(counts)} of {size[0] * size[1]} pixels",
        )  # fmt: skip
    inside = np.arange(len(counts)) % 2 == 1
    return np.ascontiguousarray(np.repeat(inside, counts).reshape(size[::-1]).T)


def _unpacked(packed: str | bytes, where: str) -> list[int]:
    """COCO's packed counts.

    Six bits per character from ``0`` on, five of them of the number, lowest first; the sixth says
    that more follow. From the third on, numbers are differences to the one before the last.
    """
    codes = packed if isinstance(packed, bytes) else packed.encode("ascii", "replace")
    counts: list[int] = []
    value = shift = 0
    for code in codes:
        bits = code - 48
        if not 0 <= bits < 64 or shift > 30:
            raise wrong(where, "these packed run lengths are damaged.", found=repr(packed))
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise wrong(where, "these packed run lengths end too early.", found=repr(packed))
    return counts
