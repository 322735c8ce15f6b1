"""Training, validation and test sets that lie on different ground."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

from earthmind_lab.errors import EarthMindError
from earthmind_lab.finetune.examples import Chosen, ExampleInfo, Examples
from earthmind_lab.finetune.ground import Ties, block_of, hull, overlapping

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


def split_by_place(
    examples: Examples,
    shares: Mapping[str, float] | None = None,
    *,
    block_km: float = 5.0,
    seed: int = 0,
) -> dict[str, Chosen]:
    """Split by geography: near ground looks alike, so a random split tests on what was trained on.

    The Earth is cut into blocks, and all that lies in a block goes to one side. An example belongs
    to the block of its middle, whole; those whose footprints overlap stay together. Examples
    without a place go by picture: all that share one go to one side. No picture is opened.

    Args:
        examples: Any source.
        shares: Of the examples, by name of the side; None = `SHARES`. Only their ratios count.
            Blocks are not cut, so that the shares are met as nearly as blocks allow; each side
            gets one at least.
        block_km: Side of a block. 5 km keeps most of what neighbours share apart; larger is safer
            and needs more ground.
        seed: Which blocks go where.

    Returns:
        The sides in the order of `shares`; each keeps the order of the source. The same examples
        in another order are split alike.

    Raises:
        EarthMindError: Shares that are none, or fewer separate places than sides.
    """
    wanted = _checked(dict(SHARES if shares is None else shares))
    if not (math.isfinite(block_km) and block_km > 0):
        raise EarthMindError(f"A block of {block_km} km is none.", change="block_km=5")
    units = _units(examples, block_km)
    if len(units) < len(wanted):
        raise EarthMindError(
            f"The examples can't be split into {len(wanted)} sides.",
            found=f"{len(examples)} examples in {len(units)} separate places of {block_km:g} km",
            change="fewer sides, a smaller block_km, or examples of more places",
        )
    sides = _assigned({key: len(members) for key, members in units.items()}, wanted, seed)
    found: dict[str, list[int]] = {side: [] for side in wanted}
    for key, members in units.items():
        found[sides[key]] += members
    return {side: Chosen(examples, tuple(sorted(members))) for side, members in found.items()}


def separate_places(examples: Examples, *, block_km: float = 5.0) -> int:
    """How many sides `split_by_place` could have at most."""
    return len(_units(examples, block_km))


def _units(examples: Examples, block_km: float) -> dict[str, list[int]]:
    """Examples by the block that they can't be parted within."""
    infos = [examples.info(index) for index in range(len(examples))]
    units: dict[str, list[int]] = {}
    for group in _tied(infos):
        units.setdefault(_key([infos[i] for i in group], block_km), []).extend(group)
    return units


def _checked(shares: dict[str, float]) -> dict[str, float]:
    good = shares and all(math.isfinite(s) and s > 0 for s in shares.values())
    if not good:
        raise EarthMindError(
            "Shares of a split are positive numbers.",
            found=str(shares),
            change="{'train': 0.8, 'validation': 0.1, 'test': 0.1}",
        )
    total = sum(shares.values())
    return {side: share / total for side, share in shares.items()}


def _tied(infos: Sequence[ExampleInfo]) -> list[list[int]]:
    """Examples that must not be parted."""
    ties = Ties(len(infos))
    first: dict[str, int] = {}
    # Scenes are large: two chips of one are tied by their ground alone, so only those without a
    # place are tied by picture, to each other and to the placed.
    for placed in (False, True):
        for index, info in enumerate(infos):
            if (info.place is not None) is not placed:
                continue
            for picture in info.pictures:
                if picture in first:
                    ties.tie(index, first[picture])
                elif not placed:
                    first[picture] = index
    same: dict[bytes, int] = {}
    kept: list[int] = []
    for index, info in enumerate(infos):
        if info.place is None:
            continue
        key = info.place.normalize().wkb  # twenty questions about one chip are one footprint
        if key in same:
            ties.tie(index, same[key])
        else:
            same[key] = index
            kept.append(index)
    places = [place for i in kept if (place := infos[i].place) is not None]
    for i, j in overlapping(places, places):
        if i < j:
            ties.tie(kept[i], kept[j])
    return ties.groups()


def _key(group: Sequence[ExampleInfo], block_km: float) -> str:
    """Name of the block of a group; without a place, of the group itself."""
    bounds = [info.place.bounds for info in group if info.place is not None]
    if bounds:
        row, column = block_of(hull(bounds), block_km)
        return f"block {row} {column}"
    return "picture " + min(min(info.pictures, default=info.id) for info in group)


def _assigned(sizes: Mapping[str, int], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Side of each unit: in random order to whichever lacks most."""
    total = sum(sizes.values())
    lacks = {side: share * total for side, share in shares.items()}
    sides: dict[str, str] = {}
    for unit in sorted(sizes, key=lambda key: hashlib.sha256(f"{seed}|{key}".encode()).digest()):
        side = max(lacks, key=lambda each: lacks[each])
        sides[unit] = side
        lacks[side] -= sizes[unit]
    for side in shares:
        if side not in sides.values():  # one large block can eat up several shares
            held = list(sides.values())
            most = max(shares, key=held.count)
            unit = min((key for key in sides if sides[key] == most), key=lambda k: (sizes[k], k))
            sides[unit] = side
    return sides
