"""What must agree in a chip: grid, arrays, names, masks, radiometry and scenes.

`Chip` asks these when it is made, so nothing behind it has to.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.errors import GridMismatch, RadiometryUnknown

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from earthmind_lab.chip import Chip

_ROWS = 32


def check_grid(grid: GeoBox) -> None:
    """A grid has a place, rows from west to east and columns from north to south.

    Raises:
        GridMismatch: It hasn't.
    """
    if grid.crs is None:
        raise GridMismatch("The grid of a chip needs a CRS.", found="none")
    a = grid.affine
    numbers = (a.a, a.b, a.c, a.d, a.e, a.f)
    upright = not a.b and not a.d and a.a > 0 > a.e
    if not (upright and all(math.isfinite(number) for number in numbers)):
        raise GridMismatch("The grid of a chip is north-up and not rotated.", found=str(numbers))


def check_stack(
    name: str,
    stack: NDArray[np.float32] | None,
    names: tuple[str, ...],
    valid: NDArray[np.bool_] | None,
    shape: tuple[int, ...],
) -> None:
    """A sensor's pixels, their names and their mask say the same; or there is none of them.

    Raises:
        GridMismatch: They don't.
    """
    if stack is None:
        if names or valid is not None:
            raise GridMismatch(
                f"The chip has no {name} pixels, but says something about them.",
                found=f"names {names}, mask {valid is not None}",
            )
        return
    if stack.shape != (len(names), *shape) or not names:
        raise GridMismatch(
            f"The {name} array does not lie on the chip's grid.",
            found=f"array {stack.shape}, grid {shape} with {len(names)} bands",
        )
    if len(set(names)) < len(names):
        raise GridMismatch(f"Names in {name} repeat.", found=", ".join(names))
    if stack.dtype != np.float32:
        raise GridMismatch(f"The {name} array is not float32.", found=str(stack.dtype))
    if valid is None:
        raise GridMismatch(
            "Nothing says which pixels of the chip have data.", change=f"valid_{name}"
        )
    check_mask(f"valid_{name}", valid, shape)
    _check_numbers(name, stack, valid)


def _check_numbers(name: str, stack: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
    # Every reading from the disk asks this, so by rows that fit a processor's cache: whole arrays
    # take two and a half times as long.
    agree = True
    for top in range(0, len(valid), _ROWS):
        rows = slice(top, top + _ROWS)
        finite = np.isfinite(stack[:, rows])
        if not finite.all() and np.isinf(stack[:, rows]).any():
            raise GridMismatch(f"The {name} array holds infinite numbers.", change="NaN for nodata")
        agree = agree and np.array_equal(valid[rows], finite.all(axis=0))
    if not agree:
        raise GridMismatch(
            f"valid_{name} contradicts the pixels.",
            change="True exactly where every band is a number",
        )


def check_mask(name: str, mask: NDArray[np.bool_], shape: tuple[int, ...]) -> None:
    """A mask lies on the grid.

    Raises:
        GridMismatch: It doesn't.
    """
    if mask.shape != shape:
        raise GridMismatch(
            f"{name} does not lie on the chip's grid.", found=f"{mask.shape}, grid {shape}"
        )
    if mask.dtype != np.bool_:
        raise GridMismatch(f"{name} is not bool.", found=str(mask.dtype))


def check_radiometry(chip: Chip) -> None:
    """What is said about a sensor's numbers is there exactly where the numbers are.

    Raises:
        RadiometryUnknown: Something is said of nothing, or nothing of something.
    """
    meaning = chip.radiometry
    sensors = (
        ("optical", chip.optical, ("level", "offset_applied"), chip.pair.optical),
        ("sar", chip.sar, ("quantity", "geometry"), chip.pair.sar),
    )
    for name, stack, fields, scene in sensors:
        there = stack is not None
        if there is not (scene is not None):
            raise RadiometryUnknown(
                f"The pair and the pixels of the chip differ over {name}.",
                found=f"pixels {there}, scene {scene is not None}",
            )
        odd = [key for key in fields if (getattr(meaning, key) is not None) is not there]
        if odd:
            raise RadiometryUnknown(
                f"The radiometry does not fit the {name} pixels of the chip.",
                found=", ".join(f"{key}={getattr(meaning, key)!r}" for key in odd),
                change=f"Radiometry with {' and '.join(fields)}" if there else "None",
            )
    _check_floors(chip)


def _check_floors(chip: Chip) -> None:
    floors = chip.radiometry.noise_floor_db
    if set(floors) != set(chip.polarisations):
        raise RadiometryUnknown(
            "Every polarisation of a chip has a noise floor.",
            found=f"floors of {sorted(floors)}, polarisations {sorted(chip.polarisations)}",
        )
    for name in chip.polarisations:
        if (chip.band(name) < floors[name]).any():
            raise RadiometryUnknown(
                f"Pixels of {name} lie below the noise floor of the chip.",
                found=f"{float(np.nanmin(chip.band(name))):g} dB, floor {floors[name]:g} dB",
            )
