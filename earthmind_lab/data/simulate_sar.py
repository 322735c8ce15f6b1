"""The radar over simulated ground: backscatter, look direction, layover and shadow, speckle.

The radar looks right of its path: east when ascending, west when descending. Range runs along the
rows; the orbit's tilt of about 12° is left out. What stands up by h is shifted toward the radar by
h / tan(incidence) and adds to what lies there; ground that no ray reaches gives nothing. The
picture is put back on the map with the relief, as terrain correction does, but not with buildings
and trees, which no elevation model holds: their layover stays in the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.data.simulate_layout import Ground
from earthmind_lab.data.simulate_materials import CLASSES
from earthmind_lab.data.simulate_noise import F32, blur, uniform
from earthmind_lab.data.simulate_optical import Textures
from earthmind_lab.data.simulate_things import gusts

POLARISATIONS = ("vv", "vh")
DECIBEL = np.float32(np.log(10) / 10)
MIDDLE = np.radians(38.0)
"""Incidence for which the materials' backscatter is meant."""
QUANTITIES = ("sigma0", "gamma0_rtc")


@dataclass(frozen=True, kw_only=True)
class Pass:
    """How the radar looked."""

    orbit: str
    """``ascending`` (looks east) or ``descending`` (looks west)."""
    incidence: float
    """Degrees from the vertical, at level ground."""
    quantity: str
    """``sigma0``, or ``gamma0_rtc``: freed of what slopes do to the illuminated area."""
    looks: float
    """Equivalent number of looks: mean² / variance of the speckle."""
    correlated: bool
    """Whether neighbours share speckle, as in products with pixels finer than the resolution."""

    @property
    def look_azimuth(self) -> float:
        """Degrees from north that the radar looks toward."""
        return 90.0 if self.orbit == "ascending" else 270.0


def draw_pass(rng: np.random.Generator) -> Pass:
    """Sentinel-1's interferometric wide swath: incidence 30 to 45°, mostly 6 looks."""
    correlated = bool(rng.random() < 0.85)
    # Every real scene has about 1.3 dB inside 3 x 3 and 1.9 dB inside 9 x 9 pixels of one class:
    # one look, blurred. The blur keeps 0.168 of the variance.
    looks = (1 + int(rng.random() < 0.25)) / 0.168 if correlated else float(rng.integers(4, 9))
    return Pass(
        orbit="ascending" if rng.random() < 0.5 else "descending",
        incidence=float(rng.uniform(30, 45)),
        quantity=QUANTITIES[int(rng.random() < 0.5)],
        looks=looks,
        correlated=correlated,
    )


@dataclass(frozen=True, kw_only=True)
class Day:
    """Randomness of one acquisition; `lasting` is shared by both dates of a ground."""

    lasting: np.random.Generator
    """Backscatter of the classes and of every object."""
    weather: np.random.Generator
    """Wind, and the noise floor."""
    speckle: np.random.Generator
    """Speckle alone."""
    season: np.random.Generator | None = None
    """Wetter or drier classes at a second date; None at the first."""


def backscatter(day: Day, ground: Ground, textures: Textures, how: Pass) -> tuple[F32, float]:
    """VV and VH.

    Args:
        day: Randomness.
        ground: What is there.
        textures: Of the ground.
        how: Look direction, incidence, speckle.

    Returns:
        (2, y, x) in dB, and the rise of VV by wind on open water in dB.
    """
    objects = ground.objects.astype(np.intp)
    wind = _wind(day.weather)
    level = _levels(day, ground, how, wind)
    shape = ground.column("bounce").take(objects)
    shape *= 0.7 * textures.block + 0.5 * textures.grain
    open_water = ground.column("wind").take(objects)
    if wind[0] > 0 and open_water.any():
        shape += open_water * gusts(day.weather, ground.size, ground.gsd)
    power = np.empty((2, *objects.shape), np.float32)
    for band in range(2):
        np.exp(DECIBEL * (level[band].take(objects) + shape), out=power[band])
    power = _geometry(power, ground, objects, textures.block, how)
    floor = np.float32(10 ** (day.weather.uniform(-34, -28) / 10))
    for band in range(2):
        # Sentinel-1 IW resolves about 20 m: narrow water shines with the banks beside it.
        resolved = blur(power[band], 0.2)
        resolved += floor
        resolved *= _speckle(day.speckle, ground.size, how)
        np.log(resolved, out=resolved)
        power[band] = resolved / DECIBEL
    return power, float(wind[0])


def _levels(day: Day, ground: Ground, how: Pass, wind: F32) -> F32:
    """VV and VH in dB per object, (2, objects)."""
    kind = ground.kinds()
    many = len(CLASSES)
    scene = day.lasting.normal(0, 0.6, (1, many)) + day.lasting.normal(0, 0.35, (2, many))
    if day.season is not None:
        scene = scene + day.season.normal(0, 0.4, (1, many))
    drawn = day.lasting.normal(0, 1, (len(kind), 3)).T
    own = 0.8 * drawn[:1] + 0.3 * drawn[1:]
    water = ground.column("wind")
    own = own * (1 - 0.6 * water)
    # Rough ground follows the cosine; water, a mirror, darkens faster away from the vertical.
    theta = np.radians(how.incidence)
    fall = 10 * np.log10(np.cos(theta) / np.cos(MIDDLE))
    angle = fall - 0.25 * water * (how.incidence - 38)
    if how.quantity != "sigma0":
        angle = angle - 10 * np.log10(np.cos(theta))
    level = ground.column("backscatter").T + scene[:, kind] + own + angle + water * wind[:, None]
    return np.asarray(level, np.float32)


def _geometry(
    power: F32, ground: Ground, objects: NDArray[np.intp], block: F32, how: Pass
) -> F32:  # fmt: skip
    """Power (2, y, x) as it comes back on the map: double bounce, layover, shadow, slopes."""
    toward_east = how.orbit == "ascending"
    heights = ground.heights().take(objects)
    relief = None if ground.relief is None else ground.relief * np.float32(ground.gsd)
    built = (ground.column("block") > 0.1).take(objects)
    walled = bool(built.any())
    if walled:
        # Houses stand in the lighter half of the blocks' texture; crowns close.
        heights *= ~built | (block > -0.2)
    if not toward_east:
        power, heights, built = power[..., ::-1], heights[:, ::-1], built[:, ::-1]
        relief = None if relief is None else relief[:, ::-1]
    if walled:
        walls = np.diff(heights, axis=1, prepend=heights[:, :1]) * built
        power += _double_bounce(walls, ground.direction)
    seen = _project(power, heights, relief, ground.gsd, how)
    return seen if toward_east else np.ascontiguousarray(seen[..., ::-1])


def _double_bounce(walls: F32, streets: float) -> F32:
    """Power (2, y, x) that comes back from the foot of walls that face the radar.

    Walls along the path answer most, those that stand obliquely hardly.
    """
    off = abs((streets + np.pi / 4) % (np.pi / 2) - np.pi / 4)
    mirror = 0.25 + 1.5 * np.exp(-((off / np.radians(12)) ** 2))
    vv = np.maximum(walls, 0) * np.float32(0.08 * mirror)
    return np.stack([vv, vv * np.float32(0.08)])


def _project(power: F32, heights: F32, relief: F32 | None, gsd: float, how: Pass) -> F32:
    """Power (2, y, x) sent to slant range and put back on the map; the radar stands at the left.

    Args:
        power: Of every cell of the map, as if level; changed in place.
        heights: Metres of buildings and crowns above the ground (y, x).
        relief: Metres of the ground (y, x); None where level.
        gsd: Metres per pixel.
        how: Incidence and quantity.
    """
    tangent = float(np.tan(np.radians(how.incidence)))
    shift = np.float32(1 / tangent / gsd)
    column = np.arange(power.shape[-1], dtype=np.float32)[None, :]
    top = heights if relief is None else heights + relief
    lifted = top * shift
    # A ray over something nearer hides what it passes above, in part where that is under a pixel.
    ray = top * np.float32(tangent / gsd) + column
    hidden = np.maximum.accumulate(ray, axis=1)
    hidden -= ray
    power *= 1 - np.minimum(hidden, np.float32(0.97), out=hidden)
    if relief is None:
        return _lay_over(power, lifted)
    slope = np.gradient(relief, np.float32(gsd), axis=1)
    facing = 1 + np.float32(tangent) * slope
    np.maximum(facing, np.float32(0.05), out=facing)
    power *= facing
    source, ground = column - lifted, column - relief * shift
    offset = np.float32(max(np.ceil(-min(source.min(), ground.min())), 0))
    width = int(max(source.max(), ground.max()) + offset) + 3
    rows = np.arange(len(relief))[:, None] * width
    place, back = _taps(source + offset, rows), _taps(ground + offset, rows)
    count = len(relief) * width
    found = np.stack([_gather(_scatter(band, place, count), back) for band in power])
    if how.quantity != "sigma0":
        found /= np.maximum(_gather(_scatter(facing, back, count), back), np.float32(0.1))
    return found


def _lay_over(power: F32, lifted: F32) -> F32:
    """Move power (2, y, x) in place to the left by so many pixels (y, x): roofs and crowns."""
    raised = everything = np.flatnonzero(lifted > 0.125)
    if not len(raised):
        return power
    width, moved = power.shape[-1], lifted.ravel()[raised]
    whole = moved.astype(np.intp)
    share = moved - whole
    # What would leave the scene at the left does.
    raised, share, whole = (a[raised % width > whole] for a in (raised, share, whole))
    target, found = raised - whole, power.reshape(2, -1)
    for band in found:
        values = band[raised]
        further = values * share
        band[everything] = 0
        band += np.bincount(target, values - further, band.size)
        band += np.bincount(target - 1, further, band.size)
    return found.reshape(power.shape)


Taps = tuple[NDArray[np.intp], F32]


def _taps(position: F32, rows: NDArray[np.intp]) -> Taps:
    """Number of the bin to the left, and the share of the one to its right."""
    left = np.floor(position)
    return rows + left.astype(np.intp), position - left


def _scatter(values: F32, taps: Taps, count: int) -> NDArray[np.float64]:
    """Sum values (y, x) into bins, each shared by the two bins beside it."""
    left, share = taps
    right = values * share
    bins = np.bincount(left.ravel(), (values - right).ravel(), count).astype(np.float64)
    bins[1:] += np.bincount(left.ravel(), right.ravel(), count)[:-1]
    return bins


def _gather(bins: NDArray[np.float64], taps: Taps) -> F32:
    """Values of bins (y, x) at the places they are asked for."""
    left, share = taps
    fine = bins.astype(np.float32)
    found = fine.take(left)
    found += share * (fine.take(left + 1) - found)
    return found


def _wind(rng: np.random.Generator) -> F32:
    """Rise of VV and VH on water in dB; calm in two scenes of three."""
    strong = rng.uniform(1, 7) if rng.random() < 0.35 else 0.0
    return np.array([strong, 0.65 * strong], np.float32)


def _speckle(rng: np.random.Generator, size: int, how: Pass) -> F32:
    """Speckle (y, x) of mean 1: the mean of so many looks, each of them exponential."""
    looks = round(how.looks * 0.168) if how.correlated else round(how.looks)
    # The logarithm of a product of uniform numbers is a sum of exponential ones.
    product = uniform(rng, size)
    for _ in range(looks - 1):
        product *= uniform(rng, size)
    drawn = np.log(product, out=product)
    drawn *= np.float32(-1 / looks)
    return np.maximum(blur(drawn, 0.22) if how.correlated else drawn, np.float32(1e-3))
