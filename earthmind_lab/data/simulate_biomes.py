"""Landscapes of simulated scenes: which strokes make a coast, a town, a mountain range.

Feature sizes are drawn in metres, so that a scene at another GSD shows the same kind of land.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from earthmind_lab.data.simulate_layout import CLIMATES, Ground, fields, hills, road, wild
from earthmind_lab.data.simulate_materials import NAMES
from earthmind_lab.data.simulate_noise import mosaic
from earthmind_lab.data.simulate_things import farms, town, villages
from earthmind_lab.data.simulate_water import coast, flood, lakes, ponds, river, wetland
from earthmind_lab.errors import LoadError


def plain(ground: Ground) -> None:
    """River plain: fields, a river, villages; sometimes flooded."""
    flooded = ground.rng.uniform(0.1, 0.5) if ground.chance(0.35) else 0.0
    fields(ground, flooded=flooded)
    _places(ground, 0.03, 0.15)
    if flooded:
        flood(ground, ground.noise(300, 2500, slope=2.2) > ground.rng.uniform(0.3, 1.5))
    if ground.chance(0.3):
        wetland(ground, ground.noise(300, 2000, slope=2.2) > ground.rng.uniform(0.8, 1.6))
    river(ground)
    _roads_and_farms(ground)


def farmland(ground: Ground) -> None:
    """Fields with woods, villages and a pond here and there."""
    wild(ground, trees=ground.rng.uniform(0.1, 0.6))
    shape = ground.noise(1000, 8000)
    fields(ground, shape > ground.rng.uniform(-2.5, 0.3))
    if ground.chance(0.4):
        lakes(ground, ground.rng.uniform(0.005, 0.05), low=100, high=700)
    _places(ground, 0.02, 0.15)
    _roads_and_farms(ground)


def _places(ground: Ground, low: float, high: float) -> None:
    """A ragged town over a share of `low` to `high`, or villages, or neither."""
    kind = ground.rng.random()
    if kind < 0.25:
        town(ground, ground.rng.uniform(low, high), dense=ground.rng.uniform(0, 0.5))
    elif kind < 0.65:
        villages(ground, int(ground.rng.integers(1, 7)))


def _roads_and_farms(ground: Ground) -> None:
    if ground.chance(0.25):
        road(ground, low=25, high=160, name=ground.pick(ground.climate.water))  # a canal
    for _ in range(int(ground.rng.integers(0, 3))):
        road(ground)
    farms(ground, int(ground.rng.integers(0, 14)))


def forest(ground: Ground) -> None:
    """Closed woods with clearings, tracks, sometimes a lake, a river or a bog."""
    if ground.chance(0.4):
        hills(ground, ground.rng.uniform(0.1, 0.5))
    wild(ground, trees=ground.rng.uniform(0.5, 0.97), bare=0.02)
    if ground.chance(0.5):
        number, _ = mosaic(ground.rng, *ground.grid, length=ground.pixels(250, 900),
                           width=ground.pixels(200, 700), kinds=24)  # fmt: skip
        ground.paint(number == 0, ground.pick(ground.climate.grass))
        ground.paint(number == 1, ground.pick(ground.climate.trees))
    if ground.chance(0.3):
        fields(ground, ground.noise(600, 2500) > 0.9)
    if ground.chance(0.35):
        lakes(ground, ground.rng.uniform(0.02, 0.2), low=300)
    if ground.chance(0.3):  # a bog, or a wood that stands in water
        wet = ground.noise(300, 2500, slope=2.2) > ground.rng.uniform(0.7, 1.6)
        wetland(ground, wet, *(("flooded wood",) if ground.chance(0.6) else ()))
    if ground.chance(0.4):
        river(ground, high=150)
    if ground.chance(0.5):
        road(ground, name=ground.pick(("road", "track")))


def lakeland(ground: Ground) -> None:
    """Lakes and bogs between woods and meadows."""
    wild(ground, trees=ground.rng.uniform(0.2, 0.8), bare=0.03)
    if ground.chance(0.3):
        fields(ground, ground.noise(600, 2500) > 0.4)
    lakes(ground, ground.rng.uniform(0.08, 0.5), low=800, high=8000)
    _roads_and_farms(ground)


def fishponds(ground: Ground) -> None:
    """Ponds with dams between fields."""
    fields(ground)
    ponds(ground)
    if ground.chance(0.6):
        river(ground, low=40)
    _roads_and_farms(ground)


def shore(ground: Ground) -> None:
    """Coast before woods, fields or a town."""
    if ground.chance(0.5):
        wild(ground, trees=ground.rng.uniform(0, 0.6), bare=ground.rng.uniform(0, 0.5))
    else:
        farmland(ground)
    if ground.chance(0.4):
        town(ground, ground.rng.uniform(0.05, 0.3), dense=ground.rng.uniform(0, 1))
    if ground.chance(0.3):
        lakes(ground, 0.03, low=150, high=700)
    coast(ground)


def city(ground: Ground) -> None:
    """Town and suburbs, parks, a river, railways."""
    farmland(ground)
    dense = ground.rng.uniform(0, 1)
    town(ground, ground.rng.uniform(0.3, 0.85), dense=min(dense, 0.5))
    if dense > 0.3:
        town(ground, ground.rng.uniform(0.15, 0.5), dense=1.0)
    if ground.chance(0.4):
        lakes(ground, 0.02, low=150, high=600)
    if ground.chance(0.5):
        river(ground, high=250)
    for _ in range(int(ground.rng.integers(1, 4))):
        road(ground, low=12, high=45, name="street")


def arid(ground: Ground) -> None:
    """Desert or steppe, dry valleys, sometimes an oasis or salt."""
    if ground.chance(0.5):
        hills(ground, ground.rng.uniform(0.1, 0.6))
    wild(ground, trees=ground.rng.uniform(0, 0.12), bare=ground.rng.uniform(0.3, 1.0))
    for _ in range(int(ground.rng.integers(0, 3))):
        river(ground, name=ground.pick(("sand", "bright rock", "scrub", "dry grass", "track")))
    if ground.chance(0.3):
        fields(ground, ground.noise(600, 2000) > 1.0)
    if ground.chance(0.3):
        lakes(ground, 0.03, high=900)
    if ground.chance(0.3):
        town(ground, 0.06, dense=0.4)
    if ground.chance(0.5):
        road(ground, name=ground.pick(("track", "road")))


def mountain(ground: Ground) -> None:
    """Ridges with woods below, rock above and mostly a snow line."""
    height = hills(ground, ground.rng.uniform(0.5, 1.6))
    level = height + 0.15 * ground.noise(100, 500, slope=1.5)
    wild(ground, trees=0.3, bare=0.0)
    for limit, names in (
        (ground.rng.uniform(-1.2, 1.2), None),
        (ground.rng.uniform(0.0, 1.5), ("alpine grass", "dry grass", "scrub")),
        (ground.rng.uniform(0.6, 1.8), ("rock", "rock", "bright rock", "lava")),
    ):
        where = level < limit if names is None else level > limit
        ground.paint(where, ground.pick(names or ground.climate.trees))
    if ground.chance(0.8):
        # Snow lies longer on one side of the ridges.
        shade = 0.5 * np.gradient(height, axis=0) * ground.size / 20
        line = ground.rng.uniform(-1.2, 1.6)
        snow = level + np.clip(shade, -0.6, 0.6).astype(np.float32) > line
        ground.paint(snow, ground.pick(("fresh snow", "old snow", "old snow", "wet snow")))
    if ground.chance(0.4):
        ground.paint(height < np.quantile(height[::4, ::4], ground.rng.uniform(0.01, 0.08)),
                     "dark lake")  # fmt: skip
    if ground.chance(0.3):
        fields(ground, height < -1.3)


def winter(ground: Ground) -> None:
    """Snow on open ground; woods, streets and some water stay dark."""
    farmland(ground) if ground.chance(0.6) else forest(ground)
    kinds = np.array([NAMES.index(n) for n in ("conifer", "autumn wood", "broadleaf", "suburb")])
    names = np.array(ground.materials)
    objects = ground.objects.astype(np.intp)
    wood = np.isin(names, kinds).take(objects)
    town_like = np.array(["roof" in NAMES[k] or NAMES[k] == "street" for k in names])
    thin = 0.25 * ground.noise(100, 600, slope=1.5) + ground.noise(600, 3000)
    lying = ~wood & ~town_like.take(objects) & (thin > ground.rng.uniform(-2.5, 0.5))
    ground.paint(lying, ground.pick(("fresh snow", "old snow", "old snow")))
    ground.paint(lying & (ground.noise(200, 900) > 0.7), ground.pick(("fresh snow", "old snow")))
    if ground.chance(0.5):
        river(ground, high=250, name="dark lake")


def steppe(ground: Ground) -> None:
    """Open grass, heath or scrub to the horizon, a few trees, tracks and herders' places."""
    if ground.chance(0.4):
        hills(ground, ground.rng.uniform(0.1, 0.5))
    wild(ground, trees=ground.rng.uniform(0, 0.25), bare=ground.rng.uniform(0, 0.25))
    for _ in range(int(ground.rng.integers(1, 4))):
        ground.paint(ground.noise(400, 4000) > 0.6, ground.pick(ground.climate.grass))
    if ground.chance(0.3):
        fields(ground, ground.noise(600, 2500) > 1.0)
    if ground.chance(0.4):
        river(ground, high=120)
    if ground.chance(0.4):
        villages(ground, int(ground.rng.integers(1, 4)))
    for _ in range(int(ground.rng.integers(0, 3))):
        road(ground, name=ground.pick(("road", "track")))
    farms(ground, int(ground.rng.integers(0, 8)))


def swamp(ground: Ground) -> None:
    """A delta or a floodplain: reed, marsh and flooded woods between channels."""
    wild(ground, trees=ground.rng.uniform(0.1, 0.7))
    if ground.chance(0.3):
        fields(ground, ground.noise(600, 2500) > 0.6)
    shape = ground.noise(600, 4000, slope=2.2)
    limit = ground.rng.uniform(-0.8, 0.6)
    wetland(ground, shape > limit)
    wood = (shape > limit) & (ground.noise(300, 2500) > ground.rng.uniform(-0.5, 1.0))
    tropical = "rainforest" in ground.climate.trees
    wetland(ground, wood, *(("flooded wood", "mangrove") if tropical else ("flooded wood",)))
    for _ in range(int(ground.rng.integers(1, 4))):
        river(ground, high=200)
    if ground.chance(0.5):
        lakes(ground, ground.rng.uniform(0.02, 0.15), low=200, high=1500)
    if ground.chance(0.3):
        villages(ground, int(ground.rng.integers(1, 4)))


Biome = Callable[[Ground], None]
BIOMES: dict[str, tuple[Biome, float, tuple[str, ...]]] = {
    "coast": (shore, 1.3, ("temperate", "tropical", "dry", "boreal")),
    "river plain": (plain, 1.2, ("temperate", "tropical", "dry")),
    "farmland": (farmland, 1.2, ("temperate", "tropical", "dry", "boreal")),
    "forest": (forest, 1.0, ("temperate", "tropical", "boreal")),
    "mountain": (mountain, 1.1, ("temperate", "dry", "boreal")),
    "town": (city, 1.4, ("temperate", "tropical", "dry")),
    "arid": (arid, 1.1, ("dry",)),
    "lakes": (lakeland, 0.9, ("temperate", "boreal", "tropical")),
    "ponds": (fishponds, 0.5, ("temperate", "tropical", "dry")),
    "winter": (winter, 0.7, ("boreal", "temperate")),
    "steppe": (steppe, 0.8, ("temperate", "tropical", "dry", "boreal")),
    "swamp": (swamp, 0.7, ("tropical", "temperate", "boreal")),
}
"""Landscapes: how to paint one, its weight in the draw, and the climates it occurs in."""
UNGRAZED = ("mountain", "steppe", "swamp")
"""Landscapes whose grass is rangeland: pasture is farmland."""


def paint_ground(
    rng: np.random.Generator, size: int, gsd: float, biome: str | None = None
) -> tuple[Ground, str]:
    """Draw a landscape.

    Args:
        rng: Source of randomness.
        size: Pixels on each side.
        gsd: Metres per pixel.
        biome: A key of `BIOMES`; None draws one.

    Returns:
        The ground, and its biome.

    Raises:
        LoadError: There is no such biome.
    """
    weights = np.array([weight for _, weight, _ in BIOMES.values()])
    drawn = str(rng.choice(list(BIOMES), p=weights / weights.sum()))
    name = biome or drawn
    if name not in BIOMES:
        raise LoadError(f"There is no landscape {name!r}.", change=", ".join(BIOMES))
    paint, _, climates = BIOMES[name]
    climate = CLIMATES[climates[int(rng.integers(len(climates)))]]
    if name in UNGRAZED:
        climate = replace(climate, grass=tuple(n for n in climate.grass if n != "pasture"))
    ground = Ground(rng=rng, size=size, gsd=gsd, climate=climate)
    paint(ground)
    return ground, name
