"""Wet brush strokes of a simulated scene: rivers, lakes, ponds, coasts, floods, wetlands."""

import numpy as np

from earthmind_lab.data.simulate_layout import Bool, Ground
from earthmind_lab.data.simulate_noise import distance_to_curve, mosaic


def river(ground: Ground, *, low: float = 15, high: float = 400, name: str | None = None) -> None:
    """A river between `low` and `high` metres wide, with banks, bars or trees along it."""
    wavelength = ground.pixels(500, 3000)
    distance, _ = distance_to_curve(
        ground.rng, ground.size, wander=wavelength * ground.rng.uniform(0.02, 0.2),
        wavelength=wavelength)  # fmt: skip
    half = max(ground.pixels(low, high) / 2, 0.7)
    if ground.chance(0.6):
        half_map = half * (1 + 0.35 * ground.noise(200, 1200))
    else:
        half_map = np.full_like(distance, half)
    if ground.chance(0.5):
        bank = half_map * ground.rng.uniform(1.2, 2.2) + 1
        kinds = (ground.climate.trees, ground.climate.grass, ground.climate.bare)
        ground.paint(distance < bank, ground.pick(kinds[int(ground.rng.integers(3))]))
    ground.paint(distance < half_map, name or ground.pick(ground.climate.water))


def lakes(ground: Ground, share: float, *, low: float = 150, high: float = 2500) -> None:
    """Lakes or ponds with ragged shores over about `share` of the scene."""
    shape = ground.noise(low, high, slope=2.2)
    limit = float(np.quantile(shape[::4, ::4], 1 - share))
    if ground.chance(0.35):
        margin = shape > limit - ground.rng.uniform(0.05, 0.5)
        if ground.chance(0.6):
            wetland(ground, margin)
        else:
            ground.paint(shape > limit - 0.12, ground.pick(ground.climate.bare))
    ground.paint(shape > limit, ground.pick(ground.climate.water))


def ponds(ground: Ground) -> None:
    """Straight-sided ponds with dams in a part of the scene (fish, salt, reservoirs)."""
    number, edge = mosaic(ground.rng, *ground.grid, length=ground.pixels(150, 500),
                          width=ground.pixels(60, 250), kinds=12)  # fmt: skip
    where = ground.noise(800, 4000) > ground.rng.uniform(-0.6, 0.8)
    ground.paint(where, ground.pick(("soil", "meadow", "reed")))
    names = [ground.pick(("pond", "pond", "green lake", "turbid", "reed")) for _ in range(12)]
    first = ground.add(*names)
    wet = where & (edge > 0.9)
    ground.objects = np.where(wet, (number + first).astype(np.int16), ground.objects)


def coast(ground: Ground) -> None:
    """Sea with an irregular shore, beach, shallows and islands."""
    wavelength = ground.pixels(800, 4000)
    _, side = distance_to_curve(
        ground.rng, ground.size, wander=wavelength * ground.rng.uniform(0.03, 0.2),
        wavelength=wavelength, off=0.3)  # fmt: skip
    ragged = np.float32(ground.pixels(10, 150)) * ground.noise(200, 1200, slope=2.0)
    side = side + ragged
    if ground.chance(0.4):  # islands and bays
        side = side + np.float32(ground.pixels(100, 600)) * ground.noise(500, 2500, slope=2.6)
    beach = ground.pixels(8, 80) if ground.chance(0.6) else 0.0
    if beach:
        ground.paint(side < beach, ground.pick(("sand", "rock", "track", "bright rock")))
    murky = ground.chance(0.3)
    ground.paint(side < 0, "turbid" if murky else "sea")
    if ground.chance(0.6):
        near = ground.pixels(40, 400)
        ground.paint((side < 0) & (side > -near), "green lake" if murky else "shallow")
    if ground.chance(0.35):  # mangroves or salt marsh in sheltered stretches
        belt = np.abs(side) < ground.pixels(60, 600)
        sheltered = ground.noise(600, 3000) > ground.rng.uniform(-0.3, 1.0)
        tropical = "rainforest" in ground.climate.trees
        wetland(ground, belt & sheltered, "mangrove" if tropical else "marsh")


def flood(ground: Ground, where: Bool) -> None:
    """Put `where` (y, x) under water: fields and grass vanish or stand in it, woods stand in it.

    What is built stays dry land: towns are defended, and their roofs show.
    """
    trees, open_land = ground.shows("trees"), ground.shows("crops", "bare", "rangeland", "snow")
    deep = where & open_land
    standing = deep & (ground.noise(100, 800) > ground.rng.uniform(0.6, 1.8))
    ground.paint(deep, ground.pick(("flood", "flood", "turbid")))
    ground.paint(standing, "flooded crop")
    ground.paint(where & trees, "flooded wood")


def wetland(ground: Ground, where: Bool, *names: str) -> None:
    """Reed, marsh or what is named on `where` (y, x), with open water between."""
    ground.paint(where, ground.pick(names or ("reed", "marsh", "marsh")))
    pools = where & (ground.noise(60, 500, slope=1.6) > ground.rng.uniform(0.9, 2.0))
    ground.paint(pools, ground.pick(("pond", "dark lake", "dark lake")))
