"""Simulated optical/SAR scenes with exact truth, to train a small model from nothing.

    >>> scene = simulate_scene(7, size=64)
    >>> scene.optical.shape, scene.sar.shape, scene.classes.dtype.name, scene.simulated
    ((5, 64, 64), (2, 64, 64), 'uint8', True)
    >>> dict(scene.truth.counts)
    {'town': 0, 'building': 0, 'ship': 0}

Both sensors see one ground: `simulate_biomes` paints it, `simulate_materials` says what each
material looks like, `simulate_optical` and `simulate_sar` how each sensor sees it. Every step has
its own random stream, so that clouds, for instance, change nothing but the optical bands. Two dates
of one ground: `simulate_change`. A scene as a `Chip`: `simulate_chips`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.data.simulate_biomes import paint_ground
from earthmind_lab.data.simulate_layout import Ground
from earthmind_lab.data.simulate_materials import CLASSES
from earthmind_lab.data.simulate_noise import F32, enlarge_linear
from earthmind_lab.data.simulate_optical import (
    BANDS,
    Sun,
    add_sensor_noise,
    draw_air,
    draw_clouds,
    draw_sun,
    draw_textures,
    seen,
    surface,
)
from earthmind_lab.data.simulate_sar import POLARISATIONS, Day, Pass, backscatter, draw_pass
from earthmind_lab.data.simulate_things import ships
from earthmind_lab.data.simulate_truth import Truth, truth_of
from earthmind_lab.errors import LoadError

__all__ = [
    "BANDS", "CLASSES", "POLARISATIONS", "SimulatedScene", "simulate_clouds", "simulate_scene",
]  # fmt: skip

VERSION = 2
"""Goes up when seeds draw other scenes than before; folders of `simulate_store` are of one."""
SENSOR_GSD = 10.0
"""Below this the picture is enlarged, as a rendered chip is: no sensor sees finer."""
LEAST_SIDE, MOST_SIDE = 16, 4096
STEPS = (
    "ground", "ships", "texture", "surface", "level", "sun", "air", "cloud", "noise", "pass",
    "scatter", "weather", "speckle", "change",
)  # fmt: skip
"""Each has its own random stream."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SimulatedScene:
    """A simulated optical/SAR pair on one grid, with truth."""

    optical: F32
    """Reflectance (band, y, x) float32; bands as in `bands`."""
    sar: F32
    """Backscatter (polarisation, y, x) float32 in dB; VV, VH."""
    truth: Truth
    """Classes and things of the ground; knows nothing of clouds."""
    cloud: F32
    """Cloud opacity (y, x) float32, 0 to 1, in the optical bands."""
    shadow: F32
    """Cloud shadow (y, x) float32, 0 to 1, in the optical bands."""
    gsd: float
    """Metres per pixel."""
    seed: int
    """Seed the scene was drawn from."""
    biome: str
    """Landscape, a key of `simulate_biomes.BIOMES`."""
    level: str
    """"TOA" (with atmosphere) or "SR" (surface reflectance)."""
    sun: Sun
    """Where the light came from."""
    radar: Pass
    """Orbit, look direction, incidence, quantity and looks."""
    wind: float
    """Rise of VV on open water in dB; 0 = calm."""
    bands: tuple[str, ...] = BANDS
    """Names of the optical bands."""
    simulated: bool = True
    """Always true: these pixels are no observation."""

    @property
    def classes(self) -> NDArray[np.uint8]:
        """Truth (y, x) uint8: index into CLASSES."""
        return self.truth.classes


def simulate_scene(
    seed: int,
    *,
    size: int = 352,
    gsd: float = 10.0,
    cloudy: bool | None = None,
    biome: str | None = None,
) -> SimulatedScene:
    """Draw the scene of a seed.

    Args:
        seed: Same arguments, same scene, in every process; not negative.
        size: Pixels on each side; 352 keeps a multiple of 32 near the 350 px of real windows.
        gsd: Metres per pixel; below 10 the scene is drawn at 10 m and enlarged.
        cloudy: Whether clouds cover a part of the optical bands; None draws it (3 in 10).
        biome: Landscape, a key of `simulate_biomes.BIOMES`; None draws it.

    Returns:
        Both sensors and the truth.

    Raises:
        LoadError: An argument out of range, or no such landscape.
    """
    native = native_size(seed, size, gsd)
    ground, drawn = paint_ground(stream(seed, "ground"), native, max(gsd, SENSOR_GSD), biome)
    ships(ground, stream(seed, "ships"))
    return observe(ground, drawn, seed, size=size, gsd=gsd, cloudy=cloudy)


def simulate_clouds(seed: int, *, size: int = 352, gsd: float = 10.0) -> tuple[F32, F32]:
    """Opacity and shadow (y, x) of the cloudy scene of a seed, without drawing the scene.

    Args:
        seed: As `simulate_scene`.
        size: Pixels on each side.
        gsd: Metres per pixel.

    Raises:
        LoadError: An argument out of range.
    """
    native = native_size(seed, size, gsd)
    sun = draw_sun(stream(seed, "sun"))
    pair = draw_clouds(stream(seed, "cloud"), native, max(gsd, SENSOR_GSD), sun, cloudy=True)
    return (
        pair if native == size else (enlarge_linear(pair[0], size), enlarge_linear(pair[1], size))
    )


def stream(seed: int, step: str, date: int = 0) -> np.random.Generator:
    """The randomness of one of STEPS, at one of the dates of a ground."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(STEPS.index(step), date)))


def native_size(seed: int, size: int, gsd: float) -> int:
    """Pixels on each side that are drawn, before a scene finer than the sensors is enlarged.

    Raises:
        LoadError: Seed, size or GSD are out of range.
    """
    if seed < 0:
        raise LoadError("A seed is not negative.", found=str(seed))
    if not LEAST_SIDE <= size <= MOST_SIDE:
        raise LoadError(
            "No scene of this size is simulated.",
            found=f"{size} px", change=f"size= from {LEAST_SIDE} to {MOST_SIDE}",
        )  # fmt: skip
    if not (math.isfinite(gsd) and gsd > 0):
        raise LoadError(f"A GSD of {gsd} m makes no scene.", change="a positive number of metres")
    return size if gsd >= SENSOR_GSD else max(32, round(size * gsd / SENSOR_GSD))


def observe(
    ground: Ground, biome: str, seed: int, *, size: int, gsd: float, cloudy: bool | None,
    date: int = 0,
) -> SimulatedScene:  # fmt: skip
    """Both sensors over a ground.

    Args:
        ground: What is there.
        biome: What it was painted as.
        seed: Of everything else.
        size: Pixels on each side.
        gsd: Metres per pixel.
        cloudy: As `simulate_scene`.
        date: 0, or 1 for another day with the same orbit and level of processing: its own sun, air,
            clouds, wind, moisture, noise and speckle.
    """
    sun = draw_sun(stream(seed, "sun", date))
    textures = draw_textures(stream(seed, "texture"), ground)
    season = stream(seed, "surface", date) if date else None
    reflectance = surface(stream(seed, "surface"), season, ground, textures, sun)
    level, air = draw_air(stream(seed, "level"), stream(seed, "air", date))
    cloud, shadow = draw_clouds(
        stream(seed, "cloud", date), ground.size, ground.gsd, sun, cloudy=cloudy
    )
    optical = seen(reflectance, air, cloud, shadow)
    add_sensor_noise(stream(seed, "noise", date), optical)
    day = Day(
        lasting=stream(seed, "scatter"),
        weather=stream(seed, "weather", date),
        speckle=stream(seed, "speckle", date),
        season=stream(seed, "scatter", date) if date else None,
    )
    radar = draw_pass(stream(seed, "pass"))
    sar, wind = backscatter(day, ground, textures, radar)
    if ground.size != size:
        optical, sar, cloud, shadow = (
            enlarge_linear(field, size) for field in (optical, sar, cloud, shadow)
        )
    return SimulatedScene(
        optical=optical, sar=sar, truth=truth_of(ground, size), cloud=cloud, shadow=shadow, gsd=gsd,
        seed=seed, biome=biome, level=level, sun=sun, radar=radar, wind=wind,
    )  # fmt: skip
