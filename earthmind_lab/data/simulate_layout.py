"""Brush strokes of a simulated scene: open land, fields, roads, hills.

A `Ground` is painted from back to front. Every paint stroke is an object: a material with its own
brightness (a field, a roof colour, a lake), drawn once; `Ground.objects` says which object each
pixel shows. The class of a pixel is the kind of its object's material, hence exact.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.data.simulate_materials import CLASSES, MATERIALS, NAMES
from earthmind_lab.data.simulate_noise import (
    F32,
    distance_to_curve,
    grain,
    mosaic,
    noise,
    rotated,
    standard,
)

I16 = NDArray[np.int16]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Climate:
    """Materials that occur together."""

    trees: tuple[str, ...]
    grass: tuple[str, ...]
    crops: tuple[str, ...]
    bare: tuple[str, ...]
    water: tuple[str, ...]


CLIMATES = {
    "temperate": Climate(
        trees=("broadleaf", "conifer", "autumn wood"),
        grass=("pasture", "meadow", "scrub"),
        crops=("crop", "lush crop", "young crop", "ripe crop", "ploughed", "dark soil", "stubble"),
        bare=("soil", "rock"),
        water=("dark lake", "green lake", "pond", "turbid"),
    ),
    "tropical": Climate(
        trees=("rainforest", "rainforest", "broadleaf"),
        grass=("meadow", "savanna", "scrub"),
        crops=("crop", "young crop", "paddy", "paddy", "ploughed", "lush crop"),
        bare=("red soil", "soil"),
        water=("turbid", "pond", "green lake"),
    ),
    "dry": Climate(
        trees=("dry wood", "dry wood", "broadleaf"),
        grass=("dry grass", "savanna", "scrub"),
        crops=("young crop", "ripe crop", "ploughed", "stubble", "crop"),
        bare=("soil", "red soil", "rock", "sand", "bright rock"),
        water=("turbid", "pond", "flood"),
    ),
    "boreal": Climate(
        trees=("conifer", "conifer", "broadleaf"),
        grass=("meadow", "heath", "scrub"),
        crops=("crop", "young crop", "ploughed", "dark soil"),
        bare=("rock", "soil"),
        water=("dark lake", "dark lake", "sea"),
    ),
}
_KINDS = np.array([CLASSES.index(material.kind) for material in MATERIALS.values()], np.uint8)


@dataclass(kw_only=True, eq=False)
class Ground:
    """A scene being painted."""

    rng: np.random.Generator
    size: int
    """Pixels on each side."""
    gsd: float
    """Metres per pixel."""
    climate: Climate
    objects: I16 = field(init=False)
    """Object shown by each pixel (y, x)."""
    materials: list[int] = field(default_factory=list)
    """Index into NAMES per object."""
    relief: F32 | None = None
    """Height in pixels (y, x), or None where flat."""
    direction: float = 0.0
    """Direction of rows and streets in radians."""
    grid: tuple[F32, F32] = field(init=False)
    """Coordinates (u, v) of the main mosaic, each (y, x)."""
    single: dict[int, str] = field(default_factory=dict)
    """Objects that are one thing to count: their number to ``building`` or ``ship``."""
    settled: list[tuple[int, int]] = field(default_factory=list)
    """First and last + 1 of the objects that towns are made of, gardens and streets included."""
    sea: I16 = field(init=False)
    """`objects` before there were ships."""
    tall: dict[int, float] = field(default_factory=dict)
    """Metres of the objects that are higher or lower than their material."""

    def __post_init__(self) -> None:
        self.objects = np.zeros((self.size, self.size), np.int16)
        self.direction = float(self.rng.uniform(0, np.pi))
        self.grid = rotated(self.size, self.direction)

    def pixels(self, low: float, high: float, rng: np.random.Generator | None = None) -> float:
        """A random length between `low` and `high` metres, in pixels, short ones likelier."""
        drawn = (rng or self.rng).uniform(np.log(low), np.log(high))
        return float(np.exp(drawn)) / self.gsd

    def pick(self, names: tuple[str, ...]) -> str:
        """One of the names."""
        return names[int(self.rng.integers(len(names)))]

    def add(self, *names: str) -> int:
        """Register one object per name; the number of the first."""
        self.materials.extend(NAMES.index(name) for name in names)
        return len(self.materials) - len(names)

    def paint(self, where: Bool, name: str) -> None:
        """Show a new object of the named material where `where` (y, x) is true."""
        self.objects[where] = self.add(name)

    def column(self, name: str) -> F32:
        """A number of `Material` per object."""
        values = np.array([getattr(MATERIALS[key], name) for key in NAMES], np.float32)
        return np.asarray(values[self.materials])

    def kinds(self) -> NDArray[np.uint8]:
        """Index into CLASSES per object."""
        return np.asarray(_KINDS[self.materials])

    def shows(self, *kinds: str) -> Bool:
        """Pixels (y, x) of the classes named."""
        wanted = np.isin(self.kinds(), [CLASSES.index(kind) for kind in kinds])
        return np.asarray(wanted.take(self.objects.astype(np.intp)))

    def shows_town(self) -> Bool:
        """Pixels (y, x) of towns, their gardens and streets included."""
        town = np.zeros(len(self.materials), bool)
        for first, last in self.settled:
            town[first:last] = True
        return np.asarray(town.take(self.objects.astype(np.intp)))

    def heights(self) -> F32:
        """Metres above the ground per object."""
        metres = self.column("height")
        for number, height in self.tall.items():
            metres[number] = height
        return metres

    def noise(self, low: float, high: float, *, slope: float = 1.9) -> F32:
        """A random field whose largest structures measure between `low` and `high` metres."""
        wavelength = min(self.pixels(low, high), 1.5 * self.size)
        return noise(self.rng, self.size, max(wavelength, 4.0), slope=slope)

    def chance(self, probability: float) -> bool:
        """True with the probability given."""
        return bool(self.rng.random() < probability)


def wild(ground: Ground, *, trees: float, bare: float = 0.0) -> None:
    """Cover everything with grass, scrub, woods and bare ground in natural shapes.

    Args:
        ground: What to paint on.
        trees: Share of trees, 0 to 1.
        bare: Share of bare ground, 0 to 1.
    """
    climate = ground.climate
    ground.paint(np.ones((ground.size, ground.size), bool), ground.pick(climate.grass))
    shape = ground.noise(800, 8000)
    # Natural borders are fuzzy: single pixels of both sides mix along them.
    shape = shape + np.float32(ground.rng.uniform(0, 0.25)) * grain(ground.rng, ground.size)
    ground.paint(ground.noise(500, 5000) > 0.5, ground.pick(climate.grass))
    if bare > 0:
        ground.paint(shape < np.quantile(shape[::4, ::4], bare), ground.pick(climate.bare))
        if bare > 0.3:
            ground.paint(
                shape < np.quantile(shape[::4, ::4], bare / 2.5), ground.pick(climate.bare)
            )
    if trees > 0:
        wood = shape + 0.5 * ground.noise(60, 300, slope=1.5)
        limit = float(np.quantile(wood[::4, ::4], 1 - trees))
        ground.paint(wood > limit, ground.pick(climate.trees))
        if trees > 0.2:
            stand = ground.noise(500, 3000)
            ground.paint((wood > limit) & (stand > 0.4), ground.pick(climate.trees))


def fields(ground: Ground, where: Bool | None = None, *, flooded: float = 0.0) -> None:
    """A mosaic of fields, with hedges, tracks and, where asked for, flooded fields.

    Args:
        ground: What to paint on.
        where: Pixels (y, x) that may become fields; all of them by default.
        flooded: Share of the fields under open water.
    """
    u, v = ground.grid
    if ground.chance(0.6):  # grown, not planned: the boundaries bend
        bend = ground.pixels(20, 150)
        u = u + np.float32(bend) * ground.noise(600, 2500, slope=3.5)
        v = v + np.float32(bend) * ground.noise(600, 2500, slope=3.5)
    length, width = ground.pixels(80, 900), ground.pixels(60, 450)
    kinds = 40
    number, edge = mosaic(ground.rng, u, v, length=length, width=width, kinds=kinds)
    # A few crops dominate a landscape.
    share = ground.rng.dirichlet(np.full(len(ground.climate.crops), 0.7))
    drawn = ground.rng.choice(len(share), kinds, p=share)
    names = [ground.climate.crops[k] for k in drawn]
    for k in range(kinds):
        if ground.rng.random() < 0.06:
            names[k] = ground.pick(ground.climate.grass)
        if ground.rng.random() < flooded:
            names[k] = ground.pick(("flood", "pond", "turbid"))
    first = ground.add(*names)
    shown = (number + first).astype(np.int16)
    ground.objects = shown if where is None else np.where(where, shown, ground.objects)
    allowed = np.ones_like(ground.objects, bool) if where is None else where
    _margins(ground, allowed, edge, min(length, width))


def _margins(ground: Ground, allowed: Bool, edge: F32, side: float) -> None:
    """Tracks, hedges or grass between fields, and copses."""
    if side < 3:
        return
    style = ground.rng.random()
    thin = np.float32(min(ground.rng.uniform(0.3, 1.1), side / 7))
    if style < 0.6:
        patchy = allowed & (edge < thin) & (ground.noise(100, 600, slope=1.5) > ground.rng.normal())
        name = ground.pick(("track",) if style < 0.2 else ground.climate.trees)
        ground.paint(patchy, name if style < 0.45 else ground.pick(ground.climate.grass))
    if ground.chance(0.5):
        copse = ground.noise(150, 900) > ground.rng.uniform(1.2, 2.2)
        ground.paint(copse & allowed, ground.pick(ground.climate.trees))


def road(ground: Ground, *, low: float = 8, high: float = 28, name: str = "road") -> None:
    """A road, canal or track between `low` and `high` metres wide."""
    wavelength = ground.pixels(800, 4000)
    wander = 0.0 if ground.chance(0.4) else wavelength * ground.rng.uniform(0.01, 0.06)
    distance, _ = distance_to_curve(ground.rng, ground.size, wander=wander,
                                    wavelength=wavelength, off=0.45)  # fmt: skip
    ground.paint(distance < max(ground.pixels(low, high) / 2, 0.5), name)


def hills(ground: Ground, steepness: float) -> F32:
    """Ridged heights (y, x), standard deviation 1; sets the relief in pixels."""
    raw = ground.noise(1500, 6000, slope=2.1)
    # Zero lines of further fields become sharp ridges and valleys.
    ridges = 0.6 * np.abs(ground.noise(600, 3000, slope=2.1))
    valleys = 0.35 * np.abs(ground.noise(300, 1200, slope=2.1))
    height = standard(np.asarray(raw - ridges + valleys, np.float32))
    slope = np.hypot(*np.gradient(height[::2, ::2])) / 2
    ground.relief = height * np.float32(0.35 * steepness / max(float(slope.mean()), 1e-4))
    return height
