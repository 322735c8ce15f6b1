"""Towns, single buildings and ships of a simulated scene: what can be counted.

A single building or ship is one object of the ground, so what is seen of it is known to the pixel.
Towns are counted afterwards, from what later strokes leave of them (`count_towns`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from earthmind_lab.data.simulate_layout import Bool, Ground
from earthmind_lab.data.simulate_noise import F32, axes, blocks, mosaic, noise, rotated

TOWN = ("grey roof", "tile roof", "white roof", "yard", "grey roof", "suburb", "blue roof", "yard")
SUBURB = ("suburb", "suburb", "village", "tile roof", "yard", "suburb", "village", "grey roof")
ROOFS = ("village", "grey roof", "tile roof", "white roof")
HALLS = ("white roof", "white roof", "grey roof", "blue roof")
SHIPS = ("ship", "ship", "red ship", "white ship")
CELL = 60.0
"""Metres; settled ground in touching cells of this side belongs to one town."""
LEAST_TOWN = 3e4
"""Square metres of settled ground below which a place is no town."""
FINEST_SHIPS = 20.0
"""Metres per pixel beyond which ships cannot be told from speckle and are not drawn."""


def town(ground: Ground, share: float, *, dense: float = 0.5) -> None:
    """Blocks of buildings between streets over about `share` of the scene.

    Args:
        ground: What to paint on.
        share: Share of the scene, 0 to 1.
        dense: 0 for gardens, 1 for factories and closed blocks.
    """
    shape = ground.noise(500, 3000) + 0.25 * ground.noise(80, 300, slope=1.5)
    settle(ground, shape > np.quantile(shape[::4, ::4], 1 - share), dense=dense)


def villages(ground: Ground, count: int) -> None:
    """Up to `count` round places with open land between them."""
    y, x = axes(ground.size)
    where, placed = np.zeros(ground.objects.shape, bool), list[tuple[float, float, float]]()
    ragged = 1 + np.float32(0.35) * ground.noise(150, 500)
    for _ in range(count):
        radius = ground.pixels(130, 450)
        row, column = ground.rng.uniform(0, ground.size, 2)
        gap = 300 / ground.gsd
        if all(np.hypot(row - r, column - c) > 1.6 * (radius + q) + gap for r, c, q in placed):
            placed.append((row, column, radius))
            where |= np.hypot(y - row, x - column) * ragged < radius
    settle(ground, where, dense=ground.rng.uniform(0, 0.5))


def settle(ground: Ground, where: Bool, *, dense: float) -> None:
    """Blocks of buildings between streets on `where` (y, x), without what is too small for a town.

    Args:
        ground: What to paint on.
        where: Where to build.
        dense: 0 for gardens, 1 for factories and closed blocks.
    """
    where = count_towns(where, ground.gsd)[0] > 0
    u, v = rotated(ground.size, ground.direction + ground.rng.uniform(-0.5, 0.5))
    if dense < 0.6:
        u = u + np.float32(ground.pixels(15, 80)) * ground.noise(500, 2000, slope=3.5)
    width = max(ground.pixels(35, 90 + 130 * dense), 2.5)
    number, edge = mosaic(ground.rng, u, v, length=width * ground.rng.uniform(1.2, 2.5),
                          width=width, kinds=32)  # fmt: skip
    palette = TOWN if dense > 0.5 else SUBURB
    names = [ground.pick(palette) for _ in range(32)]
    for k in range(32):
        if ground.rng.random() < 0.12:
            names[k] = ground.pick(ground.climate.grass + ground.climate.trees + ("soil",))
    first = ground.add(*names, "street")
    ground.settled.append((first, first + 33))
    # Some towns have a quarter or two of towers.
    towers = ground.rng.uniform(0, 0.3) if dense > 0.4 and ground.chance(0.4) else 0.0
    for k, name in enumerate(names):
        if "roof" in name:
            high = ground.rng.random() < towers
            ground.tall[first + k] = ground.rng.uniform(*((25, 80) if high else (5, 15)))
    shown = np.where(edge < min(0.8, width / 6), first + 32, number + first)
    ground.objects = np.where(where, shown.astype(np.int16), ground.objects)


def count_towns(where: Bool, gsd: float) -> tuple[NDArray[np.int32], int]:
    """Number the towns of settled ground.

    Settled pixels in touching cells of `CELL` are one town; less than `LEAST_TOWN` is none.

    Args:
        where: Settled pixels (y, x).
        gsd: Metres per pixel.

    Returns:
        The town's number per pixel (y, x), 0 elsewhere, and how many towns there are.
    """
    if not where.any():
        return np.zeros(where.shape, np.int32), 0
    side = max(round(CELL / gsd), 1)
    rows, columns = (-(-n // side) for n in where.shape)
    cells = np.zeros((rows * side, columns * side), bool)
    cells[: where.shape[0], : where.shape[1]] = where
    built = cells.reshape(rows, side, columns, side).any(axis=(1, 3))
    labels, _ = ndimage.label(built, np.ones((3, 3)))
    wide = labels.repeat(side, 0).repeat(side, 1)[: where.shape[0], : where.shape[1]]
    area = np.bincount((wide * where).ravel(), minlength=int(labels.max()) + 1) * gsd**2
    area[0] = 0
    large = area >= LEAST_TOWN
    renumbered = (np.cumsum(large) * large).astype(np.int32)
    return renumbered[wide] * where, int(large.sum())


def farms(ground: Ground, count: int) -> None:
    """Up to `count` separate buildings or farms on open land."""
    buildings(ground, count, low=25, high=120, names=ROOFS)


def buildings(
    ground: Ground, count: int, *, low: float, high: float, names: tuple[str, ...],
    gap: float = 60.0,
) -> Bool:  # fmt: skip
    """Up to `count` rectangles of `low` to `high` metres on land that nobody built on.

    Args:
        ground: What to paint on.
        count: How many are tried.
        low: Least side in metres.
        high: Greatest side in metres.
        names: Materials of the roofs.
        gap: Metres between two of them, and to towns and water.

    Returns:
        Where they stand (y, x).
    """
    taken = ground.shows("built", "water", "flooded vegetation") | ground.shows_town()
    done = np.zeros_like(taken)
    margin = max(round(gap / ground.gsd), 1)
    for _ in range(count):
        tall, wide = (max(round(ground.pixels(low, high)), 1) for _ in range(2))
        row, column = (int(n) for n in ground.rng.uniform(0, ground.size, 2))
        name = ground.pick(names)
        here = np.s_[max(row - tall // 2, 0) : row - tall // 2 + tall,
                     max(column - wide // 2, 0) : column - wide // 2 + wide]  # fmt: skip
        around = tuple(slice(max(s.start - margin, 0), s.stop + margin) for s in here)
        if taken[around].any() or not taken[here].size:
            continue
        number = ground.add(name)
        ground.objects[here], taken[here], done[here] = number, True, True
        ground.single[number] = "building"
    return done


def ships(ground: Ground, rng: np.random.Generator, *, least: int = 0) -> Bool:
    """Ships on open water, apart from each other; none on two waters of five.

    Args:
        ground: What to paint on.
        rng: Their own randomness: ships change nothing else.
        least: How many there should be, where there is room.

    Returns:
        Where they are (y, x).
    """
    ground.sea = ground.objects.copy()
    done = np.zeros(ground.objects.shape, bool)
    water = ground.shows("water")
    if ground.gsd > FINEST_SHIPS or not (least or rng.random() < 0.6):
        return done
    clear = ndimage.uniform_filter(water.astype(np.float32), 2 * round(60 / ground.gsd) + 1)
    open_water = np.flatnonzero(clear > 0.999)
    if len(open_water) * ground.gsd**2 < 1e5:
        return done
    count = max(least, int(rng.geometric(0.3)))
    placed: list[tuple[float, float, float]] = []
    for _ in range(4 * count):
        row, column = np.unravel_index(open_water[rng.integers(len(open_water))], water.shape)
        length = float(np.exp(rng.uniform(np.log(35), np.log(330)))) / ground.gsd
        beam, heading = max(length / rng.uniform(5, 8), 1.3), rng.uniform(0, np.pi)
        name, half = SHIPS[int(rng.integers(len(SHIPS)))], int(length) + 2
        apart = all(
            np.hypot(row - r, column - c) > 0.6 * (length + q) + 80 / ground.gsd
            for r, c, q in placed
        )
        top, left = max(row - half, 0), max(column - half, 0)
        here = np.s_[top : min(row + half, ground.size), left : min(column + half, ground.size)]
        y, x = np.ogrid[here]
        along = np.cos(heading) * (x - column) + np.sin(heading) * (y - row)
        across = np.cos(heading) * (y - row) - np.sin(heading) * (x - column)
        hull = (np.abs(along) <= length / 2) & (np.abs(across) <= beam / 2)
        if apart and len(placed) < count and water[here][hull].all():
            number = ground.add(name)
            ground.objects[here][hull] = number
            done[here][hull] = True
            ground.single[number] = "ship"
            placed.append((row, column, length))
    return done


def building_texture(ground: Ground, rng: np.random.Generator) -> F32:
    """Texture (y, x) of building-sized squares along the streets."""
    return blocks(rng, *ground.grid, max(rng.uniform(15, 40) / ground.gsd, 1.0))


def gusts(rng: np.random.Generator, size: int, gsd: float) -> F32:
    """Cat's paws (y, x) on open water, standard deviation 1."""
    return noise(rng, size, min(1500 / gsd, size), slope=2.0)
