"""What two sets share that ought to be apart.

Found are: the same picture file, the same item of a catalog on the same ground, the same pixels
under another name, and footprints that overlap. A picture that was resized, turned or compressed
again has other pixels and is not found; a footprint finds that, too.
"""

from __future__ import annotations

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
    """What is compared, gathered example by example."""

    pictures: dict[str, list[ExampleInfo]] = field(default_factory=dict)
    pixels: dict[str, list[str]] = field(default_factory=dict)
    places: dict[bytes, tuple[BaseGeometry, list[str]]] = field(default_factory=dict)
    _hashes: dict[object, tuple[str, ...]] = field(default_factory=dict)

    def add(self, info: ExampleInfo) -> None:
        """What is known without opening it."""
        for picture in info.pictures:
            self.pictures.setdefault(picture, []).append(info)
        if info.place is not None:
            key = info.place.normalize().wkb
            self.places.setdefault(key, (info.place, []))[1].append(info.id)

    def needs(self, info: ExampleInfo) -> bool:
        """Whether its pixels are still to be seen: questions about the same have the same."""
        return not info.pictures or _shown(info) not in self._hashes

    def see(self, info: ExampleInfo, views: Iterable[View]) -> None:
        """Its pixels; nothing has to be opened for what was seen."""
        if self.needs(info):
            # Black where there is no data, anywhere: a picture of one colour proves nothing.
            told = [view for view in views if view.image.min() != view.image.max()]
            self._hashes[_shown(info)] = tuple(view.hash for view in told)
        for each in self._hashes[_shown(info)]:
            self.pixels.setdefault(each, []).append(info.id)


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
    told: set[tuple[str, str]] = set()

    def add(kind: Kind, what: str, pairs: Iterable[tuple[str, str]]) -> None:
        fresh = [pair for pair in pairs if pair not in told]
        if fresh:
            told.update(fresh)
            sides = (dict.fromkeys(one for one, _ in fresh), dict.fromkeys(o for _, o in fresh))
            found.append(Leak(kind=kind, what=what, first=tuple(sides[0]), second=tuple(sides[1])))

    shared = [name for name in first.pictures if name in second.pictures]
    for name in sorted(shared, key=lambda name: not _is_file(name)):
        pairs = (
            (one.id, other.id)
            for one in first.pictures[name]
            for other in second.pictures[name]
            if _is_file(name) or not _apart(one, other)
        )
        add("file" if _is_file(name) else "item", name, pairs)
    for digest in first.pixels:
        if digest in second.pixels:
            pairs = ((a, b) for a in first.pixels[digest] for b in second.pixels[digest])
            add("pixels", digest[:12], pairs)
    one, other = list(first.places.values()), list(second.places.values())
    for i, j in overlapping([place for place, _ in one], [place for place, _ in other]):
        middle = one[i][0].intersection(other[j][0]).centroid
        pairs = ((a, b) for a in one[i][1] for b in other[j][1])
        add("footprint", f"around {middle.x:.4f}, {middle.y:.4f}", pairs)
    return found


def _shown(info: ExampleInfo) -> object:
    """What examples of one picture share; a scene alone is no picture, its part is."""
    return info.pictures, info.place.wkb if info.place is not None else None


def _apart(one: ExampleInfo, other: ExampleInfo) -> bool:
    """Two chips of one scene that don't touch the same ground."""
    if one.place is None or other.place is None:
        return False
    return not any(overlapping([one.place], [other.place]))


def _is_file(name: str) -> bool:
    return Path(name).is_absolute()


def _some(ids: tuple[str, ...]) -> str:
    more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
    return ", ".join(ids[:3]) + more
