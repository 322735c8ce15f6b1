"""What two sets share that ought to be apart.

Found are: the same picture file, the same item of a catalog on the same ground, the same pixels
under another name, and footprints that overlap. A picture that was resized, turned or compressed
again has other pixels and is not found; a footprint finds that, too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from shapely.geometry.base import BaseGeometry

from earthmind_lab.errors import EarthMindError
from earthmind_lab.exchange import View
from earthmind_lab.finetune.examples import ExampleInfo, Examples
from earthmind_lab.finetune.ground import overlapping
from earthmind_lab.progress import bar

Kind = Literal["file", "item", "pixels", "footprint"]


@dataclass(frozen=True, kw_only=True)
class Leak:
    """One thing that both sets have."""

    kind: Kind
    what: str
    """The file, the item, the first digits of the pixels' hash, or the middle of the overlap."""
    first: tuple[str, ...]
    """Ids of the examples of the first set that have it."""
    second: tuple[str, ...]
    """Those of the second."""

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Every example of the first with every one of the second."""
        return [(one, other) for one in self.first for other in self.second]

    def __str__(self) -> str:
        """One line."""
        sides = (_some(self.first), _some(self.second))
        return f"same {self.kind} {self.what}: {sides[0]} and {sides[1]}"


@dataclass
class Fingerprints:
    """What is compared, gathered example by example.

    Twenty questions about one picture are compared as one: by what they show.
    """

    ids: dict[object, list[str]] = field(default_factory=dict)
    """Of the examples that show the same."""
    places: dict[object, BaseGeometry] = field(default_factory=dict)
    pictures: dict[str, list[object]] = field(default_factory=dict)
    pixels: dict[str, list[object]] = field(default_factory=dict)
    _seen: set[object] = field(default_factory=set)

    def add(self, info: ExampleInfo) -> None:
        """What is known without opening it."""
        key = _shown(info)
        if key not in self.ids:
            for picture in info.pictures:
                self.pictures.setdefault(picture, []).append(key)
            if info.place is not None:
                self.places[key] = info.place
        self.ids.setdefault(key, []).append(info.id)

    def needs(self, info: ExampleInfo) -> bool:
        """Whether its pixels are still to be seen."""
        return _shown(info) not in self._seen

    def see(self, info: ExampleInfo, views: Iterable[View]) -> None:
        """Its pixels; nothing has to be opened for what was seen."""
        key = _shown(info)
        if key in self._seen:
            return
        self._seen.add(key)
        for view in views:
            # Black where there is no data, anywhere: a picture of one colour proves nothing.
            if view.image.min() != view.image.max():
                self.pixels.setdefault(view.hash, []).append(key)


def find_leaks(first: Examples, second: Examples, *, pixels: bool = True) -> list[Leak]:
    """What two sets share.

    Args:
        first: Such as what is trained on.
        second: Such as what tests.
        pixels: Compare pixels, too: opens each picture once.

    Returns:
        By kind: files, items, pixels, footprints. Pixels and footprints of pairs that share a file
        or an item are not told again.
    """
    return leaks_between(gathered(first, pixels=pixels), gathered(second, pixels=pixels))


def shared(train: Examples, held: Examples) -> set[str]:
    """Ids of held-out examples whose file, scene or ground is trained on; opens no picture."""
    leaks = find_leaks(train, held, pixels=False)
    return {name for leak in leaks for name in leak.second}


def gathered(examples: Examples, *, pixels: bool) -> Fingerprints:
    """Fingerprints of a source; examples that can't be opened have no pixels."""
    found = Fingerprints()
    with bar(len(examples), unit="example", desc="comparing", delay=1.0) as progress:
        for index in range(len(examples)):
            info = examples.info(index)
            found.add(info)
            if pixels:
                try:
                    views = examples[index].prompt.views if found.needs(info) else ()
                    found.see(info, views)
                except EarthMindError:
                    pass  # the check of that set tells why
            progress.update()
    return found


def leaks_between(first: Fingerprints, second: Fingerprints) -> list[Leak]:
    """What two gathered sets share; see `find_leaks`."""
    found: list[Leak] = []
    told: set[tuple[object, object]] = set()

    def add(kind: Kind, what: str, pairs: Iterable[tuple[object, object]]) -> None:
        fresh = [pair for pair in pairs if pair not in told]
        if fresh:
            told.update(fresh)
            one = _ids(first, (pair[0] for pair in fresh))
            other = _ids(second, (pair[1] for pair in fresh))
            found.append(Leak(kind=kind, what=what, first=one, second=other))

    shared = [name for name in first.pictures if name in second.pictures]
    for name in sorted(shared, key=lambda name: not _is_file(name)):
        pairs = itertools.product(first.pictures[name], second.pictures[name])
        if _is_file(name):
            add("file", name, pairs)
        else:
            here, there = first.places, second.places
            add("item", name, (p for p in pairs if not _apart(here.get(p[0]), there.get(p[1]))))
    for digest in first.pixels:
        if digest in second.pixels:
            pairs = itertools.product(first.pixels[digest], second.pixels[digest])
            add("pixels", digest[:12], pairs)
    keys, others = list(first.places), list(second.places)
    places, theirs = list(first.places.values()), list(second.places.values())
    for i, j in overlapping(places, theirs):
        middle = places[i].intersection(theirs[j]).centroid
        add("footprint", f"around {middle.x:.4f}, {middle.y:.4f}", [(keys[i], others[j])])
    return found


def _ids(prints: Fingerprints, keys: Iterable[object]) -> tuple[str, ...]:
    return tuple(name for key in dict.fromkeys(keys) for name in prints.ids[key])


def _shown(info: ExampleInfo) -> object:
    """What examples of one picture share; a scene alone is no picture, its part is."""
    if not info.pictures:
        return info.id
    return info.pictures, info.place.wkb if info.place is not None else None


def _apart(one: BaseGeometry | None, other: BaseGeometry | None) -> bool:
    """Two chips of one scene that don't touch the same ground."""
    return one is not None and other is not None and not any(overlapping([one], [other]))


def _is_file(name: str) -> bool:
    return Path(name).is_absolute()


def _some(ids: tuple[str, ...]) -> str:
    more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
    return ", ".join(ids[:3]) + more
