"""The optical sensor over simulated ground: spectra, sun, relief, atmosphere, clouds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from earthmind_lab.data.simulate_layout import Ground
from earthmind_lab.data.simulate_materials import CLASSES
from earthmind_lab.data.simulate_noise import F32, blur, grain, noise, white
from earthmind_lab.data.simulate_things import building_texture

BANDS = ("blue", "green", "red", "nir", "swir16")
# Estimated by eye from band medians of L1C/L2A pairs of one date, not fitted:
# top of atmosphere = path + transmittance x surface.
PATH = np.array([0.067, 0.038, 0.022, 0.009, 0.003], np.float32)
TRANSMITTANCE = np.array([0.82, 0.88, 0.91, 0.93, 0.96], np.float32)
# Bands move together when plants are greener: NIR up, red and SWIR down.
GREENING = np.array([-0.5, -0.2, -0.8, 0.45, -0.3], np.float32)
CLOUD = np.array([1.0, 0.97, 0.98, 1.03, 0.78], np.float32)
NOISE = np.float32(0.0013)
"""Standard deviation of reflectance over dark water inside 3 x 3 pixels of real scenes."""
LONGEST_SHADOW = 8
"""Pixels; buildings that throw longer ones are hardly seen from above."""


@dataclass(frozen=True, kw_only=True)
class Sun:
    """Where the light comes from."""

    azimuth: float
    """Degrees from north, clockwise."""
    elevation: float
    """Degrees above the horizon."""

    @property
    def toward(self) -> tuple[float, float]:
        """Rows and columns of a step of length 1 toward the sun; north is up."""
        angle = np.radians(self.azimuth)
        return -float(np.cos(angle)), float(np.sin(angle))

    @property
    def reach(self) -> float:
        """Length of a shadow per height."""
        return float(1 / np.tan(np.radians(self.elevation)))


def draw_sun(rng: np.random.Generator) -> Sun:
    """The sun at half past ten: in the south-east, or, south of the equator, in the north-east."""
    azimuth = rng.uniform(110, 168)
    if rng.random() < 0.3:
        azimuth = 180 - azimuth
    return Sun(azimuth=float(azimuth), elevation=float(rng.uniform(22, 68)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Textures:
    """Fields (y, x) of standard deviation about 1, shared by both sensors and both dates."""

    grain: F32
    smooth: F32
    green: F32
    block: F32
    rows: F32


def draw_textures(rng: np.random.Generator, ground: Ground) -> Textures:
    """The textures of a ground."""
    size = ground.size
    period = max(ground.pixels(20, 60, rng), 2.2)
    return Textures(
        grain=grain(rng, size),
        smooth=noise(rng, size, min(400 / ground.gsd, size), slope=1.8),
        green=noise(rng, size, min(150 / ground.gsd, size), slope=1.6),
        block=building_texture(ground, rng),
        rows=np.sin(ground.grid[1] * np.float32(2 * np.pi / period)),
    )


def surface(
    own: np.random.Generator, season: np.random.Generator | None, ground: Ground,
    textures: Textures, sun: Sun,
) -> F32:  # fmt: skip
    """Surface reflectance, blurred by the point spread.

    Args:
        own: What is lasting: brightness of the scene, of its classes and of every object.
        season: What differs at a second date; None at the first.
        ground: What is there.
        textures: Of the ground.
        sun: Lights slopes, and throws shadows of towers.

    Returns:
        (5, y, x), bands as in `BANDS`.
    """
    objects = ground.objects.astype(np.intp)
    kind = ground.kinds()
    # Per scene and class 0.12 in all, most of it brightness; per object its own spread.
    scene = own.normal(0, 0.10, (1, len(CLASSES))) + own.normal(0, 0.06, (5, len(CLASSES)))
    if season is not None:
        scene = scene + season.normal(0, 0.04, scene.shape)
    # One row per object: objects that a second date adds leave the others as they were.
    drawn = own.normal(0, 1, (len(kind), 6)).T
    change = scene[:, kind] + drawn[:1] * ground.column("spread") + 0.04 * drawn[1:]
    spectra = ground.column("reflectance").T * np.exp(change)
    spectra = np.minimum(spectra, 0.95).astype(np.float32)
    light = _light(ground, objects, textures)
    if ground.relief is not None:
        light *= _shading(sun, ground.relief, ground.column("wind").take(objects) > 0)
    light *= _tower_shadow(sun, ground)
    np.maximum(light, np.float32(0.25), out=light)
    greener = ground.column("green").take(objects)
    greener *= textures.green
    reflectance = np.empty((5, *objects.shape), np.float32)
    for band in range(5):
        plain = greener * GREENING[band]
        plain += 1
        np.maximum(plain, np.float32(0.2), out=plain)
        plain *= light
        plain *= spectra[band].take(objects)
        reflectance[band] = blur(plain, 0.11 if band < 4 else 0.24)  # SWIR is a 20 m band
    return reflectance


def _light(ground: Ground, objects: np.ndarray, textures: Textures) -> F32:
    """Brightness texture (y, x), mean 1."""
    light = np.ones(objects.shape, np.float32)
    for name in ("grain", "smooth", "block", "rows"):
        depth = ground.column(name)
        if depth.any():
            light += depth.take(objects) * getattr(textures, name)
    return light


def _shading(sun: Sun, relief: F32, water: np.ndarray) -> F32:
    """Light on slopes (y, x), 1 on level ground."""
    down, across = np.gradient(relief)
    row, column = sun.toward
    # A slope that falls toward the sun faces it; the sky lights the others, too.
    facing = np.float32(row) * down + np.float32(column) * across
    light: F32 = np.asarray(1 - np.float32(0.75 * min(sun.reach, 1.6)) * facing, np.float32)
    np.clip(light, 0.3, 1.6, out=light)
    light[water] = 1
    return light


def _tower_shadow(sun: Sun, ground: Ground) -> F32 | np.float32:
    """Share of the light (y, x) that towers leave to what lies behind them."""
    heights = ground.heights()
    high = heights * (heights > 20) * (ground.column("block") > 0)
    steps = min(int(high.max(initial=0) * sun.reach / ground.gsd + 0.5), LONGEST_SHADOW)
    if not steps:
        return np.float32(1)
    roofs, (row, column) = high.take(ground.objects.astype(np.intp)), sun.toward
    shaded = np.zeros(roofs.shape, bool)
    for step in range(1, steps + 1):
        moved = np.roll(roofs, (round(-row * step), round(-column * step)), (0, 1))
        shaded |= moved - roofs > step * ground.gsd / sun.reach
    return np.where(shaded, np.float32(0.45), np.float32(1))


def draw_air(lasting: np.random.Generator, rng: np.random.Generator) -> tuple[str, tuple[F32, F32]]:
    """Level ("TOA" or "SR"), and the air's path reflectance and transmittance (5,).

    Surface reflectance in two scenes of five. `lasting` decides that, `rng` the haze of the day.
    """
    corrected, thick = lasting.random() < 0.4, rng.uniform(0.75, 1.35)
    haze = rng.exponential(0.009) * np.array([1.0, 0.9, 0.8, 0.6, 0.3])
    if corrected:
        return "SR", (np.zeros(5, np.float32), np.ones(5, np.float32))
    path = (PATH * thick + haze).astype(np.float32)
    return "TOA", (path, (1 - (1 - TRANSMITTANCE) * np.float32(thick)).astype(np.float32))


def draw_clouds(
    rng: np.random.Generator, size: int, gsd: float, sun: Sun, *, cloudy: bool | None
) -> tuple[F32, F32]:
    """Opacity and shadow (y, x), 0 to 1; `cloudy` None leaves it to the draw (3 in 10)."""
    drawn = rng.random() < 0.3
    if not (drawn if cloudy is None else cloudy):
        return np.zeros((size, size), np.float32), np.zeros((size, size), np.float32)
    wavelength = min(rng.uniform(800, 8000) / gsd, 1.2 * size)
    shape = noise(rng, size, wavelength, slope=rng.uniform(1.6, 2.2))
    share = rng.beta(1.1, 0.9) * 0.93 + 0.05
    limit = np.quantile(shape[::4, ::4], 1 - share)
    soft = rng.uniform(0.15, 1.2)
    thick = rng.uniform(0.75, 1.0) if rng.random() < 0.8 else rng.uniform(0.2, 0.6)
    cloud = np.clip((shape - limit) / soft, 0, 1) * np.float32(thick)
    away = rng.uniform(300, 3000) * sun.reach / gsd
    moved = tuple(round(-away * step) for step in sun.toward)
    strength = np.float32(rng.uniform(0.3, 0.65))
    shadow = strength * np.roll(cloud, moved, (0, 1)) * (1 - cloud)
    return cloud.astype(np.float32), shadow.astype(np.float32)


def seen(ground: F32, air: tuple[F32, F32], cloud: F32, shadow: F32) -> F32:
    """Reflectance (5, y, x) as the sensor gives it, of surface reflectance, which is used up."""
    path, through = air
    covered = bool(cloud.any())
    if covered:
        bright = cloud * (0.45 + 0.4 * cloud)  # thick clouds are brighter
        lit, clear = 1 - shadow, 1 - cloud
    for band in range(5):
        pixels = ground[band]
        if covered:
            pixels *= lit
        pixels *= through[band]
        pixels += path[band]
        if covered:
            pixels *= clear
            pixels += CLOUD[band] * bright
    return ground


def add_sensor_noise(rng: np.random.Generator, optical: F32) -> None:
    """Add the noise of the sensor to reflectance (5, y, x) in place, and bound it."""
    size = optical.shape[-1]
    drawn = white(rng, size + 32)
    drawn *= NOISE
    for band, pixels in enumerate(optical):
        # Far enough apart that no band sees its neighbour's noise.
        pixels += drawn[8 * band : 8 * band + size, 32 - 8 * band : 32 - 8 * band + size]
    np.clip(optical, 0.0005, 1.2, out=optical)
