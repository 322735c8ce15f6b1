"""Leave one place out: folds in which no ground and no item of the held-out place is trained on.

>>> from shapely.geometry import box
>>> spots = [
...     Spot(id="may", footprint=box(0, 0, 1, 1)), Spot(id="june", footprint=box(0.5, 0, 1.5, 1)),
...     Spot(id="far", footprint=box(5, 5, 6, 6)),
... ]
>>> [(fold.place, fold.held_out, fold.training) for fold in leave_one_place_out(spots)]
[('far', ('far',), ('may', 'june')), ('may', ('may', 'june'), ('far',))]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

KM_PER_DEGREE = 111.2
"""Of latitude."""
APART_KM = 1.0
"""Footprints nearer than this are one place: neighbours share fields, weather and orbit."""


@dataclass(frozen=True, kw_only=True)
class Spot:
    """What is to be trained on or scored, as far as folds care."""

    id: str
    """Unique."""
    footprint: BaseGeometry | None = None
    """Outline in lon/lat; None = unknown, then only shared items tell."""
    items: tuple[str, ...] = ()
    """Ids or paths of the pictures behind it; two that share one are one place."""
    name: str = ""
    """What the place is called; spots of one name are one place. Empty = unnamed."""


@dataclass(frozen=True, kw_only=True)
class Fold:
    """One place held out, all others to train on."""

    place: str
    held_out: tuple[str, ...]
    """Ids of its spots."""
    training: tuple[str, ...]
    """Ids of all others."""


def places_of(spots: Sequence[Spot], *, apart_km: float = APART_KM) -> list[str]:
    """The place of each spot, in their order: the name, else the first id, of its group.

    Args:
        spots: With unique ids.
        apart_km: Least distance between two places in kilometres.

    Raises:
        ValueError: Two spots have one id.
    """
    if len({spot.id for spot in spots}) < len(spots):
        raise ValueError("two spots have one id")
    parent = list(range(len(spots)))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    for one in range(len(spots)):
        for other in range(one):
            if _together(spots[one], spots[other], apart_km):
                low, high = sorted((root(one), root(other)))
                parent[high] = low
    names = []
    for i in range(len(spots)):
        group = [spot for j, spot in enumerate(spots) if root(j) == root(i)]
        names.append(next((spot.name for spot in group if spot.name), group[0].id))
    return names


def leave_one_place_out(spots: Sequence[Spot], *, apart_km: float = APART_KM) -> list[Fold]:
    """One fold for each place, by name.

    Args:
        spots: With unique ids.
        apart_km: Least distance between two places in kilometres.

    Raises:
        ValueError: Two spots have one id, or there is only one place: nothing to train on.
    """
    names = places_of(spots, apart_km=apart_km)
    places = sorted(set(names))
    if len(places) < 2:
        raise ValueError(f"{len(places)} place: leaving it out leaves nothing to train on")
    ids = [spot.id for spot in spots]
    return [
        Fold(
            place=place,
            held_out=tuple(i for i, n in zip(ids, names, strict=True) if n == place),
            training=tuple(i for i, n in zip(ids, names, strict=True) if n != place),
        )
        for place in places
    ]


def _together(one: Spot, other: Spot, apart_km: float) -> bool:
    if (one.name and one.name == other.name) or set(one.items) & set(other.items):
        return True
    if one.footprint is None or other.footprint is None:
        return False
    return distance_km(one.footprint, other.footprint) < apart_km


def distance_km(one: BaseGeometry, other: BaseGeometry) -> float:
    """Distance between two outlines in lon/lat, good to a per cent within some hundred km.

    Degrees of longitude are scaled by the latitude farthest from the equator, so that the
    distance is rather too short than too long, and no neighbours are torn apart.
    """
    south = max(abs(bound) for shape in (one, other) for bound in shape.bounds[1::2])
    scale = math.cos(math.radians(min(south, 89.9)))

    def shrunk(geometry: BaseGeometry, turn: float = 0.0) -> BaseGeometry:
        return shapely.transform(
            geometry, lambda xy: (xy + np.array([turn, 0.0])) * np.array([scale, 1.0])
        )

    # One may lie at 179.9, the other at -179.9 degrees.
    near = min(shrunk(one).distance(shrunk(other, turn)) for turn in (-360.0, 0.0, 360.0))
    return float(near) * KM_PER_DEGREE
