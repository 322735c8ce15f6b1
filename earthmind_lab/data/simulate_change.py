"""Two dates of one simulated ground, with one named change and its exact mask.

    >>> dates = simulate_pair_of_dates(3, change="flood", size=96)
    >>> dates.before.simulated, bool(dates.mask.any())
    (True, True)

The ground is painted once; the change is one more stroke at the second date. Everything that lasts
is the same at both dates: the brightness of every field and roof, textures, orbit, level of
processing. Everything of the day is drawn anew: sun, air, clouds, wind, moisture, noise, speckle.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from earthmind_lab.data.simulate import (
    SENSOR_GSD,
    SimulatedScene,
    native_size,
    observe,
    stream,
)
from earthmind_lab.data.simulate_biomes import paint_ground
from earthmind_lab.data.simulate_layout import Bool, Ground
from earthmind_lab.data.simulate_materials import NAMES
from earthmind_lab.data.simulate_noise import mosaic
from earthmind_lab.data.simulate_things import FINEST_SHIPS, HALLS, buildings, ships
from earthmind_lab.data.simulate_water import flood
from earthmind_lab.errors import LoadError

TRIES = 40
"""Grounds of one seed that are drawn until one bears the change: of 60 seeds of 128 px each, the
worst took 3."""
LEAST_SHARE = 0.003
"""Share of the scene that a change covers at least, save for ships and buildings."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SimulatedDates:
    """One ground at two dates."""

    before: SimulatedScene
    """The first date."""
    after: SimulatedScene
    """The second."""
    change: str
    """A key of CHANGES."""
    mask: Bool
    """(y, x) True where the ground shows something else at the second date. Clouds, wind, and the
    moisture of the day are no change."""
    simulated: bool = True
    """Always true: these pixels are no observation."""


def _flood(ground: Ground) -> None:
    """Water rises over low land, first beside the water that is there."""
    wet = ground.shows("water")
    low = ground.noise(400, 2500, slope=2.2)
    if wet.any():
        metres = ndimage.distance_transform_edt(~wet) * ground.gsd
        low = low + 1.5 - metres / ground.rng.uniform(150, 700)
    share = ground.rng.uniform(0.05, 0.35)
    dry = ground.shows("crops", "bare", "rangeland", "trees")
    if dry.any():
        flood(ground, dry & (low > np.quantile(low[dry], 1 - share)))


def _clearing(ground: Ground) -> None:
    """Straight-edged patches of wood are cut."""
    number, _ = mosaic(ground.rng, *ground.grid, length=ground.pixels(200, 800),
                       width=ground.pixels(150, 500), kinds=12)  # fmt: skip
    patch = (number < ground.rng.integers(1, 4)) & ground.shows("trees")
    ground.paint(patch, ground.pick(("soil", "red soil", "track", "dry grass")))


def _buildings(ground: Ground) -> None:
    """Halls and houses stand where fields, grass or bare ground were."""
    wanted, built = int(ground.rng.integers(1, 9)), np.zeros(ground.objects.shape, bool)
    for _ in range(20 * wanted):
        count = ndimage.label(built)[1]
        if count >= wanted:
            break
        built |= buildings(ground, 1, low=40, high=160, names=HALLS, gap=40)


def _harvest(ground: Ground) -> None:
    """Some of the standing crops become stubble or ploughed soil."""
    green = ("crop", "lush crop", "young crop", "ripe crop")
    numbers = {NAMES.index(name) for name in green}
    before = ground.objects.copy()
    standing = [k for k, material in enumerate(ground.materials) if material in numbers]
    chosen = [k for k in standing if ground.rng.random() < 0.5] or standing[:1]
    dark = [k for k in chosen if ground.rng.random() < 0.5]
    ground.paint(np.isin(ground.objects, chosen), "stubble")
    ground.paint(np.isin(before, dark), "ploughed")


def _snow(ground: Ground) -> None:
    """Snow falls on open ground; woods, towns and water stay as they are."""
    open_land = ground.shows("crops", "bare", "rangeland") & ~ground.shows_town()
    lying = ground.noise(600, 3000) + 0.25 * ground.noise(100, 600) > ground.rng.uniform(-3, -0.5)
    ground.paint(open_land & lying, "fresh snow")


def _ships(ground: Ground) -> None:
    """The ships are elsewhere, and may be more or fewer."""
    ground.objects = ground.sea.copy()
    ground.single = {k: kind for k, kind in ground.single.items() if kind != "ship"}
    ships(ground, ground.rng, least=int(ground.rng.integers(1, 7)))


def _nothing(ground: Ground) -> None:
    """The ground is the same."""


LAND = ("river plain", "farmland", "town", "steppe", "forest", "lakes", "ponds", "swamp", "arid")
CHANGES: dict[str, tuple[Callable[[Ground], None], tuple[str, ...]]] = {
    "flood": (_flood, ("river plain", "farmland", "lakes", "coast", "steppe", "town")),
    "clearing": (_clearing, ("forest", "lakes", "mountain", "farmland")),
    "new buildings": (_buildings, ("farmland", "river plain", "steppe", "coast", "town", "arid")),
    "harvest": (_harvest, ("farmland", "river plain", "ponds")),
    "snow fall": (_snow, ("farmland", "forest", "mountain", "steppe", "lakes", "town")),
    "ships": (_ships, ("coast", "lakes")),
    "none": (_nothing, (*LAND, "coast", "mountain", "winter")),
}
"""What happens between two dates: a stroke, and the landscapes it is drawn in."""


def simulate_pair_of_dates(
    seed: int,
    change: str = "flood",
    *,
    size: int = 352,
    gsd: float = 10.0,
    cloudy: bool | None = None,
) -> SimulatedDates:
    """Draw one ground at two dates.

    Args:
        seed: Same arguments, same scenes, in every process; not negative.
        change: What happens between the dates, a key of CHANGES; ``none`` for nothing.
        size: Pixels on each side.
        gsd: Metres per pixel; below 10 the scene is drawn at 10 m and enlarged.
        cloudy: Whether clouds cover a part of both dates; None draws it for each.

    Returns:
        Both scenes, and where they differ.

    Raises:
        LoadError: No such change, an argument out of range, or a scene too small or too coarse for
            the change.
    """
    if change not in CHANGES:
        raise LoadError(f"There is no change {change!r}.", change=", ".join(CHANGES))
    native = native_size(seed, size, gsd)
    if change == "ships" and gsd > FINEST_SHIPS:
        raise LoadError(
            "Ships can't be told at this pixel size.",
            found=f"{gsd:g} m", change=f"gsd= at most {FINEST_SHIPS:g}",
        )  # fmt: skip
    rng = stream(seed, "change", 1)
    for attempt in range(TRIES):
        before, after, biome = _grounds(seed, attempt, change, native, max(gsd, SENSOR_GSD), rng)
        mask = before.objects != after.objects
        if change == "none" or mask.mean() > (
            0 if change in ("ships", "new buildings") else LEAST_SHARE
        ):
            break
    else:
        raise LoadError(
            f"No ground of seed {seed} bears the change {change!r}.",
            found=f"{TRIES} of {native} px tried", change="a larger size=, or another seed",
        )  # fmt: skip
    scenes = [
        observe(ground, biome, seed, size=size, gsd=gsd, cloudy=cloudy, date=date)
        for date, ground in enumerate((before, after))
    ]
    if size != native:
        nearest = np.floor((np.arange(size) + 0.5) * native / size).astype(int)
        mask = mask[nearest[:, None], nearest[None, :]]
    return SimulatedDates(before=scenes[0], after=scenes[1], change=change, mask=mask)


def _grounds(
    seed: int, attempt: int, change: str, size: int, gsd: float, rng: np.random.Generator
) -> tuple[Ground, Ground, str]:
    """A ground before and after, and its landscape."""
    stroke, biomes = CHANGES[change]
    biome = biomes[int(rng.integers(len(biomes)))]
    # Date 2 and up are no dates but further grounds of the seed.
    before, _ = paint_ground(stream(seed, "ground", attempt + 2), size, gsd, biome)
    ships(before, rng, least=int(rng.integers(1, 7)) if change == "ships" else 0)
    after = copy(before)
    after.objects, after.materials = before.objects.copy(), list(before.materials)
    after.single, after.settled = dict(before.single), list(before.settled)
    after.tall, after.rng = dict(before.tall), rng
    stroke(after)
    return before, after, biome
