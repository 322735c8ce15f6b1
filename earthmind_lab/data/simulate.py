"""Simulated optical/SAR scenes with exact truth, to train a small model from nothing.

    >>> scene = simulate_scene(7, size=64)
    >>> scene.optical.shape, scene.sar.shape, scene.classes.dtype.name, scene.simulated
    ((5, 64, 64), (2, 64, 64), 'uint8', True)

Both sensors see one ground: `simulate_biomes` paints it, `simulate_materials` says what each
material looks like. The optical sensor adds relief shading, a point spread, the atmosphere, clouds
and their shadows; the SAR adds slopes, wind on water, speckle and a noise floor. Each step has its
own random stream, so that clouds, for instance, change nothing but the optical bands.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.data.simulate_biomes import paint_ground
from earthmind_lab.data.simulate_layout import Ground, building_texture
from earthmind_lab.data.simulate_materials import CLASSES, MATERIALS, NAMES
from earthmind_lab.data.simulate_noise import F32, enlarge_linear, grain, noise

__all__ = ["BANDS", "CLASSES", "POLARISATIONS", "SimulatedScene", "simulate_scene"]

BANDS = ("blue", "green", "red", "nir", "swir16")
POLARISATIONS = ("vv", "vh")
SENSOR_GSD = 10.0
"""Below this the picture is enlarged, as a rendered chip is: no sensor sees finer."""

# Estimated by eye from band medians of L1C/L2A pairs of one date, not fitted:
# top of atmosphere = path + transmittance x surface.
PATH = np.array([0.075, 0.042, 0.022, 0.009, 0.003], np.float32)
TRANSMITTANCE = np.array([0.82, 0.88, 0.91, 0.93, 0.96], np.float32)
# Bands move together when plants are greener: NIR up, red and SWIR down.
GREENING = np.array([-0.5, -0.2, -0.8, 0.45, -0.3], np.float32)
CLOUD = np.array([1.0, 0.97, 0.98, 1.03, 0.78], np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class SimulatedScene:
    """A simulated optical/SAR pair on one grid, with truth."""

    optical: F32
    """Reflectance (band, y, x) float32; bands as in `bands`."""
    sar: F32
    """Backscatter (polarisation, y, x) float32 in dB; VV, VH."""
    classes: NDArray[np.uint8]
    """Truth (y, x) uint8: index into CLASSES; knows nothing of clouds."""
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
    bands: tuple[str, ...] = BANDS
    """Names of the optical bands."""
    simulated: bool = True
    """Always true: these pixels are no observation."""


def simulate_scene(
    seed: int, *, size: int = 352, gsd: float = 10.0, cloudy: bool | None = None
) -> SimulatedScene:
    """Draw the scene of a seed.

    Args:
        seed: Same seed, size and gsd, same scene, in every process; not negative.
        size: Pixels on each side; 352 keeps a multiple of 32 near the 350 px of real windows.
        gsd: Metres per pixel; below 10 the scene is drawn at 10 m and enlarged.
        cloudy: Whether clouds cover a part of the optical bands; None draws it (3 in 10).

    Returns:
        Both sensors and the truth.
    """
    streams = [np.random.default_rng(part) for part in np.random.SeedSequence(seed).spawn(4)]
    native = size if gsd >= SENSOR_GSD else max(32, round(size * gsd / SENSOR_GSD))
    ground, biome = paint_ground(streams[0], native, max(gsd, SENSOR_GSD))
    textures = _textures(streams[0], ground)
    classes = _kinds(ground)[ground.objects]
    surface = _surface(streams[1], ground, textures)
    air = _atmosphere(streams[1])
    cover = streams[2].random() < 0.3
    cloud, shadow = _clouds(streams[2], native, ground.gsd, cover if cloudy is None else cloudy)
    optical = _optical(surface, air, cloud, shadow)
    sar = _sar(streams[3], ground, textures, classes)
    if native != size:
        optical, sar = enlarge_linear(optical, size), enlarge_linear(sar, size)
        cloud, shadow = enlarge_linear(cloud, size), enlarge_linear(shadow, size)
        nearest = np.floor((np.arange(size) + 0.5) * native / size).astype(int)
        classes = classes[nearest[:, None], nearest[None, :]]
    return SimulatedScene(
        optical=optical, sar=sar, classes=classes, cloud=cloud, shadow=shadow, gsd=gsd, seed=seed,
        biome=biome, level="TOA" if air[0].any() else "SR")  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class _Textures:
    """Fields (y, x) of standard deviation about 1, shared by both sensors."""

    grain: F32
    smooth: F32
    green: F32
    block: F32
    rows: F32


def _textures(rng: np.random.Generator, ground: Ground) -> _Textures:
    size = ground.size
    period = max(ground.pixels(20, 60), 2.2)
    return _Textures(
        grain=grain(rng, size),
        smooth=noise(rng, size, min(400 / ground.gsd, size), slope=1.8),
        green=noise(rng, size, min(150 / ground.gsd, size), slope=1.6),
        block=building_texture(ground),
        rows=np.sin(ground.grid[1] * np.float32(2 * np.pi / period)),
    )


def _column(ground: Ground, name: str) -> F32:
    """A number of `Material` per object."""
    values = np.array([getattr(MATERIALS[key], name) for key in NAMES], np.float32)
    return np.asarray(values[ground.materials])


def _kinds(ground: Ground) -> NDArray[np.uint8]:
    """Index into CLASSES per object."""
    kinds = np.array([CLASSES.index(MATERIALS[name].kind) for name in NAMES], np.uint8)
    return np.asarray(kinds[ground.materials])


def _surface(rng: np.random.Generator, ground: Ground, textures: _Textures) -> F32:
    """Surface reflectance (5, y, x), blurred by the point spread."""
    objects = ground.objects
    spectra = _column(ground, "reflectance").T  # (5, objects)
    kind = _kinds(ground)
    # Per scene and class 0.12 in all, most of it brightness; per object its own spread.
    scene = rng.normal(0, 0.10, (1, len(CLASSES))) + rng.normal(0, 0.06, (5, len(CLASSES)))
    own = rng.normal(0, 1, (1, spectra.shape[1])) * _column(ground, "spread")
    own = own + rng.normal(0, 0.04, spectra.shape)
    spectra = (spectra * np.exp(scene[:, kind] + own)).astype(np.float32)
    spectra = np.minimum(spectra, 0.95)
    light = 1 + _column(ground, "grain")[objects] * textures.grain
    for name in ("smooth", "block", "rows"):
        light += _column(ground, name)[objects] * getattr(textures, name)
    green = _column(ground, "green")[objects] * textures.green
    if ground.relief is not None:
        light *= _shading(rng, ground.relief, kind[objects] == 0)
    light = np.maximum(light, 0.25)
    surface = np.empty((5, *objects.shape), np.float32)
    for band in range(5):
        plain = spectra[band][objects] * light * np.maximum(1 + GREENING[band] * green, 0.2)
        surface[band] = _blur(plain, 0.11 if band < 4 else 0.24)  # SWIR is a 20 m band
    return surface


def _shading(rng: np.random.Generator, relief: F32, water: NDArray[np.bool_]) -> F32:
    """Light on slopes (y, x), 1 on level ground."""
    down, across = np.gradient(relief)
    angle = rng.uniform(0, 2 * np.pi)
    toward = np.cos(angle) * down + np.sin(angle) * across
    light = np.clip(1 + rng.uniform(0.5, 1.0) * toward, 0.3, 1.6)
    return np.where(water, 1, light).astype(np.float32)


def _blur(field: F32, side: float) -> F32:
    """Three-tap blur (y, x) with weight `side` on each neighbour."""
    middle = np.float32(1 - 2 * side)
    wide = np.pad(field, 1, mode="edge")
    rows = np.float32(side) * (wide[:-2] + wide[2:]) + middle * wide[1:-1]
    return np.asarray(
        np.float32(side) * (rows[:, :-2] + rows[:, 2:]) + middle * rows[:, 1:-1], np.float32
    )


def _atmosphere(rng: np.random.Generator) -> tuple[F32, F32]:
    """Path reflectance and transmittance (5,); nothing for surface reflectance."""
    draw, thick = rng.random(), rng.uniform(0.75, 1.35)
    haze = rng.exponential(0.012) * np.array([1.0, 0.9, 0.8, 0.6, 0.3])
    if draw < 0.4:
        # Corrected scenes keep a little of their haze.
        return np.zeros(5, np.float32), np.ones(5, np.float32)
    path = (PATH * thick + haze).astype(np.float32)
    return path, (1 - (1 - TRANSMITTANCE) * np.float32(thick)).astype(np.float32)


def _clouds(rng: np.random.Generator, size: int, gsd: float, cloudy: bool) -> tuple[F32, F32]:
    """Opacity and shadow (y, x)."""
    if not cloudy:
        return np.zeros((size, size), np.float32), np.zeros((size, size), np.float32)
    wavelength = min(rng.uniform(800, 8000) / gsd, 1.2 * size)
    shape = noise(rng, size, wavelength, slope=rng.uniform(1.6, 2.2))
    share = rng.beta(1.1, 0.9) * 0.93 + 0.05
    limit = np.quantile(shape[::4, ::4], 1 - share)
    soft = rng.uniform(0.15, 1.2)
    thick = rng.uniform(0.75, 1.0) if rng.random() < 0.8 else rng.uniform(0.2, 0.6)
    cloud = np.clip((shape - limit) / soft, 0, 1) * np.float32(thick)
    down, across = (round(rng.normal(0, 250) / gsd) for _ in range(2))
    strength = np.float32(rng.uniform(0.3, 0.65))
    shadow = strength * np.roll(cloud, (down, across), (0, 1)) * (1 - cloud)
    return cloud.astype(np.float32), shadow.astype(np.float32)


def _optical(surface: F32, air: tuple[F32, F32], cloud: F32, shadow: F32) -> F32:
    """Reflectance (5, y, x) as the sensor gives it."""
    path, through = air
    optical = np.empty_like(surface)
    covered = bool(cloud.any())
    if covered:
        bright = 0.45 + 0.4 * cloud  # thick clouds are brighter
        lit = 1 - shadow
    for band in range(5):
        seen = surface[band] * lit if covered else surface[band]
        seen = path[band] + through[band] * seen
        if covered:
            seen = seen + cloud * (CLOUD[band] * bright - seen)
        optical[band] = seen
    return np.clip(optical, 0.0005, 1.2, out=optical)


def _sar(
    rng: np.random.Generator, ground: Ground, textures: _Textures, classes: NDArray[np.uint8]
) -> F32:
    """Backscatter (2, y, x) in dB."""
    size, objects = ground.size, ground.objects
    level = _column(ground, "backscatter").T  # (2, objects)
    kind = _kinds(ground)
    scene = rng.normal(0, 0.6, (1, len(CLASSES))) + rng.normal(0, 0.35, (2, len(CLASSES)))
    own = rng.normal(0, 0.8, (1, level.shape[1])) + rng.normal(0, 0.3, level.shape)
    own[:, kind == 0] *= 0.4
    wind = _wind(rng)
    shift = scene[:, kind] + own + np.where(kind == 0, wind[:, None], 0)
    level = np.asarray(level + shift, np.float32)
    shape = _column(ground, "bounce")[objects] * (0.7 * textures.block + 0.5 * textures.grain)
    water = classes == 0
    if wind[0] > 0:
        gusts = noise(rng, size, min(1500 / ground.gsd, size), slope=2.0)
        shape += np.where(water, np.float32(1.0) * gusts, 0)
    if ground.relief is not None:
        down, across = np.gradient(ground.relief)
        tilt = across if rng.random() < 0.5 else -across
        shape += np.where(water, 0, np.clip(9 * tilt + 2 * np.abs(down), -6, 8))
    looks, spread = float(np.exp(rng.uniform(np.log(2), np.log(20)))), rng.random() < 0.5
    floor = 10 ** (rng.uniform(-34, -28) / 10)
    sar = np.empty((2, *objects.shape), np.float32)
    for band in range(2):
        decibel = level[band][objects] + shape
        # Sentinel-1 IW resolves about 20 m: narrow water shines with the banks beside it.
        power = _blur(np.exp(np.float32(np.log(10) / 10) * decibel), 0.2) + np.float32(floor)
        sar[band] = 10 * np.log10(power * _speckle(rng, size, looks, spread))
    return sar


def _wind(rng: np.random.Generator) -> F32:
    """Rise of VV and VH on water in dB; calm in two scenes of three."""
    strong = rng.uniform(1, 7) if rng.random() < 0.35 else 0.0
    return np.array([strong, 0.65 * strong], np.float32)


def _speckle(rng: np.random.Generator, size: int, looks: float, spread: bool) -> F32:
    """Gamma speckle (y, x) of mean 1, neighbours correlated where `spread`."""
    # The blur (0.22, 0.56, 0.22) in both directions keeps 0.168 of the variance.
    shape = max(looks * 0.168, 0.6) if spread else looks
    drawn = rng.standard_gamma(shape, (size, size), np.float32) / np.float32(shape)
    return np.maximum(_blur(drawn, 0.22) if spread else drawn, np.float32(1e-3))
