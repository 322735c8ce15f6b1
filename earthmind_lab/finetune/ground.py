"""Which examples are about the same ground."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

SLIVER = 1e-3
"""Share of the smaller of two footprints: what overlaps less is the rounding of a shared border."""
KM_PER_DEGREE = 111.32


def overlapping(
    first: Sequence[BaseGeometry], second: Sequence[BaseGeometry]
) -> Iterator[tuple[int, int]]:
    """Pairs of indices whose footprints overlap, each pair once.

    Args:
        first: Footprints in lon/lat.
        second: Others, or the same.
    """
    if not first or not second:
        return
    one, other = np.array(first, dtype=object), np.array(second, dtype=object)
    left, right = shapely.STRtree(other).query(one, predicate="intersects")
    for i, j in zip(left.tolist(), right.tolist(), strict=True):
        smaller = min(first[i].area, second[j].area)
        # A point or a line has no area to share: touching is all it can do.
        if smaller == 0 or first[i].intersection(second[j]).area > SLIVER * smaller:
            yield i, j


def block_of(bounds: Sequence[float], block_km: float) -> tuple[int, int]:
    """Row and column of the block that holds the middle of some bounds.

    Args:
        bounds: West, south, east, north in degrees.
        block_km: Side of a block.

    >>> block_of((0.01, 0.01, 0.02, 0.02), 5.0)
    (0, 0)
    """
    west, south, east, north = bounds
    row = math.floor((south + north) / 2 * KM_PER_DEGREE / block_km)
    # One width per row of blocks, so that they stay about square everywhere.
    middle = math.radians(min(89.9, abs(row + 0.5) * block_km / KM_PER_DEGREE))
    wide = KM_PER_DEGREE * math.cos(middle)
    return row, math.floor((west + east) / 2 * wide / block_km)


class Ties:
    """Sets of things that belong together."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def tie(self, one: int, other: int) -> None:
        """Put two, and all that is tied to them, together."""
        self._parent[self._top(one)] = self._top(other)

    def groups(self) -> list[list[int]]:
        """All of them, each with its members in order."""
        found: dict[int, list[int]] = {}
        for index in range(len(self._parent)):
            found.setdefault(self._top(index), []).append(index)
        return list(found.values())

    def _top(self, index: int) -> int:
        while self._parent[index] != index:
            self._parent[index] = self._parent[self._parent[index]]
            index = self._parent[index]
        return index


def hull(bounds: Iterable[Sequence[float]]) -> tuple[float, float, float, float]:
    """The bounds of several."""
    edges = np.array(list(bounds), dtype=float)
    west, south = edges[:, :2].min(axis=0)
    east, north = edges[:, 2:].max(axis=0)
    return float(west), float(south), float(east), float(north)
