"""Random fields for simulated ground: smooth noise, curves, mosaics.

Everything is drawn coarse and enlarged by matrix products, because a thousand scenes a minute are
worth more to a small model than detail below the sensors' resolution.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.sparse import csr_array

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
FAST = (
    32,
    36,
    40,
    48,
    54,
    60,
    64,
    72,
    80,
    90,
    96,
    108,
    120,
    128,
    144,
    160,
    180,
    192,
    216,
    240,
    256,
)
"""Even sides without large prime factors."""
SPAN = 1.25
"""A field's period in units of the scene: above 1, so that opposite edges do not match."""


@lru_cache(maxsize=256)
def enlarger(coarse: int, fine: int) -> csr_array:
    """Weights (fine, coarse) of a periodic cubic B-spline over the first 1 / SPAN of a period."""
    position = (np.arange(fine) + 0.5) * coarse / (SPAN * fine) - 0.5
    base = np.floor(position).astype(int)
    t = position - base
    taps = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    return _rows(taps, [(base + k - 1) % coarse for k in range(4)], 6, (fine, coarse))


@lru_cache(maxsize=64)
def _between(coarse: int, fine: int) -> csr_array:
    """Weights (fine, coarse) of linear interpolation."""
    position = np.clip((np.arange(fine) + 0.5) * coarse / fine - 0.5, 0, coarse - 1)
    base = np.minimum(position.astype(int), coarse - 2)
    return _rows((1 - position + base, position - base), [base, base + 1], 1, (fine, coarse))


def _rows(
    taps: Sequence[NDArray[np.float64]], columns: Sequence[NDArray[np.intp]], divisor: float,
    shape: tuple[int, int],
) -> csr_array:  # fmt: skip
    """Few weights per row: four multiplications per pixel in place of hundreds."""
    weights = np.stack(taps, axis=1).astype(np.float32) / np.float32(divisor)
    starts = np.arange(shape[0] + 1) * len(taps)
    return csr_array((weights.ravel(), np.stack(columns, axis=1).ravel(), starts), shape=shape)


def _both_ways(weights: csr_array, field: F32) -> F32:
    """Weights @ field @ weights.T, in rows that lie one after the other in memory."""
    wide = weights @ np.ascontiguousarray(field.T)
    return np.asarray(weights @ np.ascontiguousarray(wide.T), np.float32)


def enlarge(field: F32, size: int) -> F32:
    """A field (n, n) as (size, size), smooth."""
    return _both_ways(enlarger(field.shape[0], size), field)


def enlarge_linear(field: F32, size: int) -> F32:
    """A field (..., n, n) as (..., size, size) by linear interpolation, as pictures are."""
    weights = _between(field.shape[-1], size)
    if field.ndim == 2:
        return _both_ways(weights, field)
    return np.stack([_both_ways(weights, plane) for plane in field])


def standard(field: F32) -> F32:
    """The field, changed in place, with mean 0 and standard deviation 1."""
    field -= field.mean()
    flat = field.ravel()
    field *= np.float32(1 / (np.sqrt(np.dot(flat, flat) / flat.size) + 1e-6))
    return field


def uniform(rng: np.random.Generator, size: int) -> F32:
    """Uniform numbers (size, size) above 0, at most 1, in steps of 1/65536.

    Four from every draw of the generator: finer ones cost five times more and look the same.
    """
    raw = rng.bit_generator.random_raw(-(-size * size // 4)).view(np.uint16)[: size * size]
    drawn = raw.astype(np.float32).reshape(size, size)
    drawn += np.float32(1)
    drawn *= np.float32(1 / 65536)
    return drawn


def white(rng: np.random.Generator, size: int) -> F32:
    """Uniform noise (size, size), mean 0, standard deviation 1.

    Whatever is made of it is a sum of many pixels, hence normal; normal numbers cost far more.
    """
    drawn = uniform(rng, size)
    drawn -= np.float32(0.5)
    drawn *= np.float32(np.sqrt(12))
    return drawn


def noise(rng: np.random.Generator, size: int, wavelength: float, *, slope: float = 1.9) -> F32:
    """Random field (size, size), mean 0, standard deviation 1.

    Args:
        rng: Source of randomness.
        size: Pixels on each side.
        wavelength: Size in pixels of the largest structures.
        slope: Fall of the amplitude with frequency: 1.5 rough, 3 smooth; 1.9 looks like land.
    """
    # Rough fields carry detail far below their wavelength, smooth ones hardly any.
    coarse = _fast(size / wavelength * (36 if slope < 3 else 10), max(32, size // 2))
    spectrum = _amplitudes(coarse, round(coarse * wavelength / (SPAN * size), 3), slope)
    drawn = white(rng, coarse)
    field = fft.irfft2(fft.rfft2(drawn) * spectrum, s=(coarse, coarse))
    return standard(enlarge(field, size))


def _fast(wanted: float, most: int) -> int:
    """About so many points, even, at least 32, and quick to transform."""
    return next((side for side in FAST if side >= min(wanted, 0.8 * most)), most + most % 2)


@lru_cache(maxsize=256)
def _amplitudes(coarse: int, wavelength: float, slope: float) -> F32:
    down = fft.fftfreq(coarse).astype(np.float32)[:, None]
    across = fft.rfftfreq(coarse).astype(np.float32)[None, :]
    squared = down**2 + across**2
    amplitude = (squared + (0.7 / wavelength) ** 2) ** (-slope / 2)
    amplitude[0, 0] = 0
    return np.asarray(amplitude, np.float32)


def grain(rng: np.random.Generator, size: int) -> F32:
    """Texture of two to three pixels (size, size), standard deviation 1."""
    drawn = white(rng, size + 2)
    drawn *= np.float32(1 / 4.56)
    rows = drawn[1:-1] * np.float32(1.6)
    rows += drawn[:-2]
    rows += drawn[2:]
    field = rows[:, 1:-1] * np.float32(1.6)
    field += rows[:, :-2]
    field += rows[:, 2:]
    return field


def blur(field: F32, side: float) -> F32:
    """Three-tap blur (y, x) with weight `side` on each neighbour; edges repeat."""
    weight, middle = np.float32(side), np.float32(1 - 2 * side)
    rows, part = field * middle, field * weight
    rows[1:] += part[:-1]
    rows[:-1] += part[1:]
    rows[0] += part[0]
    rows[-1] += part[-1]
    both, part = rows * middle, rows * weight
    both[:, 1:] += part[:, :-1]
    both[:, :-1] += part[:, 1:]
    both[:, 0] += part[:, 0]
    both[:, -1] += part[:, -1]
    return both


def axes(size: int) -> tuple[F32, F32]:
    """Row and column numbers, (size, 1) and (1, size)."""
    ticks = np.arange(size, dtype=np.float32)
    return ticks[:, None], ticks[None, :]


def rotated(size: int, angle: float) -> tuple[F32, F32]:
    """Coordinates (size, size) in pixels along and across a direction, about the middle."""
    y, x = axes(size)
    y, x = y - size / 2, x - size / 2
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * x + sin * y, cos * y - sin * x


def distance_to_curve(
    rng: np.random.Generator, size: int, *, wander: float, wavelength: float, off: float = 0.35
) -> tuple[F32, F32]:
    """Distance in pixels (size, size) to one curve across the scene, and the signed side.

    Args:
        rng: Source of randomness.
        size: Pixels on each side.
        wander: Standard deviation of the bends in pixels; 0 is a straight line.
        wavelength: Length of the bends in pixels.
        off: Largest distance from the middle as a share of the size.
    """
    _, side = rotated(size, rng.uniform(0, np.pi))
    side = side - np.float32(rng.uniform(-off, off) * size)
    if wander > 0:
        side = side + np.float32(wander) * noise(rng, size, wavelength, slope=3.5)
        down, across = np.gradient(side)
        # The zero line of a field has the width of the field's slope; dividing evens it out.
        down *= down
        across *= across
        down += across
        steepness = np.sqrt(np.maximum(down, np.float32(0.0625)))
        return np.abs(side) / steepness, side
    return np.abs(side), side


def mosaic(
    rng: np.random.Generator, u: F32, v: F32, *, length: float, width: float, kinds: int
) -> tuple[I32, F32]:
    """Rectangles in the coordinates (u, v): a number per rectangle and the distance to its edge.

    Args:
        rng: Source of randomness.
        u: First coordinate (y, x) in pixels.
        v: Second coordinate (y, x) in pixels.
        length: Mean side along u in pixels.
        width: Mean side along v in pixels.
        kinds: Numbers run from 0 to kinds - 1.
    """
    column, across = _cuts(rng, u, length)
    # Every column is shifted along, so that the cross edges do not line up.
    shift = rng.uniform(0, 40 * width, 256).astype(np.float32)
    row, along = _cuts(rng, v + shift.take(column & 255), width)
    number = rng.integers(0, kinds, 4096, np.int32).take((column * 61 + row * 7) & 4095)
    return number, np.minimum(across, along)


def _cuts(rng: np.random.Generator, u: F32, spacing: float) -> tuple[NDArray[np.intp], F32]:
    """Cut a line at random places: interval number and distance to the nearer cut."""
    start = float(u.min())
    steps = (2 * (u - np.float32(start))).astype(np.intp)  # half pixels
    reach = int(steps.max()) + 2
    sides = rng.uniform(0.45, 1.55, int(reach / 2 / spacing * 1.6) + 8) * spacing
    edges = np.cumsum(np.concatenate([[-rng.uniform(0, spacing)], sides]))
    ticks = np.arange(reach) / 2
    index = np.searchsorted(edges, ticks, side="right")
    index = np.clip(index, 1, len(edges) - 1)
    near = np.minimum(ticks - edges[index - 1], edges[index] - ticks)
    return index.take(steps), near.astype(np.float32).take(steps)


def blocks(rng: np.random.Generator, u: F32, v: F32, side: float) -> F32:
    """Texture of squares of `side` pixels in the coordinates (u, v), mostly low, some high."""
    values = rng.gamma(1.2, 1 / 1.1, (64, 64)).astype(np.float32)
    values -= np.float32(1.09)
    scale = np.float32(1 / side)
    i = np.floor(u * scale).astype(np.intp) & 63
    j = np.floor(v * scale).astype(np.intp) & 63
    return np.asarray(values.ravel().take(i * 64 + j), np.float32)
