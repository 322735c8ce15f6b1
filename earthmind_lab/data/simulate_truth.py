"""What is known of a simulated scene without looking: counts, shares, places of things."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from earthmind_lab.data.simulate_layout import Bool, Ground
from earthmind_lab.data.simulate_materials import CLASSES
from earthmind_lab.data.simulate_things import count_towns
from earthmind_lab.errors import LoadError

KINDS = ("town", "building", "ship")
"""What is counted."""


@dataclass(frozen=True, kw_only=True)
class Thing:
    """A town, a single building or a ship."""

    number: int
    """Its number in `Truth.things`."""
    kind: str
    """One of KINDS."""
    row: float
    """Middle of its pixels."""
    column: float
    """Middle of its pixels."""
    box: tuple[int, int, int, int]
    """x0, y0, x1, y1 in pixels; x1 and y1 lie outside."""
    pixels: int
    """How many show it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """The ground of a scene, exactly. Nothing in here knows of clouds."""

    classes: NDArray[np.uint8]
    """(y, x) index into CLASSES. A ship's pixels are water: it floats on it."""
    things: NDArray[np.int16]
    """(y, x) number of the `Thing` that a pixel shows, 0 = none. The pixels of a town are its
    blocks, streets and gardens."""
    listed: tuple[Thing, ...] = ()
    """Every thing, by number."""

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """How many of each of KINDS there are.

        Towns: settled ground of at least 3 ha, parts less than about 60 m apart are one. Buildings:
        those that stand alone, outside towns. Ships: all.
        """
        kinds = [thing.kind for thing in self.listed]
        return MappingProxyType({kind: kinds.count(kind) for kind in KINDS})

    @cached_property
    def shares(self) -> Mapping[str, float]:
        """Share of the scene per class, 0 to 1."""
        numbers = np.bincount(self.classes.ravel(), minlength=len(CLASSES)) / self.classes.size
        return MappingProxyType(dict(zip(CLASSES, numbers.tolist(), strict=True)))

    def mask(self, name: str) -> Bool:
        """Pixels (y, x) of a class, or of all things of a kind.

        Raises:
            LoadError: There is neither a class nor a kind of that name.
        """
        if name in CLASSES:
            return np.asarray(self.classes == CLASSES.index(name))
        if name not in KINDS:
            raise LoadError(f"Nothing simulated is {name!r}.", change=", ".join((*CLASSES, *KINDS)))
        numbers = [thing.number for thing in self.listed if thing.kind == name]
        return np.isin(self.things, numbers)

    def parts(self, name: str, *, least: int = 1) -> NDArray[np.int32]:
        """Connected patches of a class (y, x): 0 elsewhere, numbers from 1 from north to south.

        Args:
            name: One of CLASSES.
            least: Pixels below which a patch does not count.
        """
        labels, _ = ndimage.label(self.mask(name))
        large = np.bincount(labels.ravel()) >= least
        large[0] = False
        return np.asarray((np.cumsum(large) * large).astype(np.int32)[labels])


def truth_of(ground: Ground, size: int) -> Truth:
    """The truth of a painted ground.

    Args:
        ground: What was painted.
        size: Pixels on each side of the scene, enlarged where that is more than the ground's.
    """
    objects = ground.objects.astype(np.intp)
    classes = ground.kinds().take(objects)
    numbers = np.zeros(len(ground.materials), np.int16)
    kinds = dict(enumerate(ground.single.values(), start=1))
    for number, single in enumerate(ground.single, start=1):
        numbers[single] = number
    things = numbers.take(objects)
    towns, count = count_towns(ground.shows_town(), ground.gsd)
    kinds |= {len(ground.single) + k: "town" for k in range(1, count + 1)}
    # A ship or a building that stands alone is no part of a town.
    towns = np.where(things > 0, 0, towns)
    things = np.where(towns > 0, towns + len(ground.single), things).astype(np.int16)
    if size != ground.size:
        nearest = np.floor((np.arange(size) + 0.5) * ground.size / size).astype(int)
        classes, things = (plane[nearest[:, None], nearest[None, :]] for plane in (classes, things))
    return _listed(classes, things, kinds)


def _listed(
    classes: NDArray[np.uint8], things: NDArray[np.int16], kinds: Mapping[int, str]
) -> Truth:
    """Leave out what nothing is seen of, and number the rest from 1: towns, buildings, ships."""
    pixels = np.bincount(things.ravel(), minlength=max(kinds, default=0) + 1)
    seen = [number for number in kinds if pixels[number]]
    seen.sort(key=lambda number: (KINDS.index(kinds[number]), number))
    renumbered = np.zeros(len(pixels), np.int16)
    renumbered[seen] = np.arange(1, len(seen) + 1)
    things = renumbered.take(things)
    where = np.flatnonzero(things)
    numbers, (rows, columns) = things.ravel()[where], np.unravel_index(where, things.shape)
    middle = [np.bincount(numbers, line, len(seen) + 1) for line in (rows, columns)]
    listed = []
    for number, place in enumerate(ndimage.find_objects(things), start=1):
        tall, wide = place
        count = int(pixels[seen[number - 1]])
        listed.append(
            Thing(
                number=number,
                kind=kinds[seen[number - 1]],
                row=float(middle[0][number] / count),
                column=float(middle[1][number] / count),
                box=(wide.start, tall.start, wide.stop, tall.stop),
                pixels=count,
            )
        )
    return Truth(classes=classes, things=things, listed=tuple(listed))
