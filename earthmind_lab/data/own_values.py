"""Whether the pixels of a chip from own files can be what was declared about them.

Declarations of a caller are one slip of the finger away from another; these are the slips that
leave numbers that no scene has.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.chip import Chip
from earthmind_lab.errors import RadiometryUnknown

HIGH_DB = 15.0
"""Half of no scene is brighter: a median beyond this means counts were taken for backscatter."""
LINEAR = 1.0
"""Backscatter in linear numbers lies between 0 and about this; in dB most of it is negative."""
DARK = 0.002
"""Even water is brighter somewhere: below this, reflectance was scaled once too often."""
NEGATIVE = -0.03
"""A tenth of all values below this means that an offset was subtracted twice. In the embedded
scenes even the second percentile is positive."""
FEW = 16
"""Pixels below which nothing is concluded from their values."""


def check_values(chip: Chip) -> None:
    """Refuse reflectance and backscatter that no scene has.

    Raises:
        RadiometryUnknown: What was declared contradicts the pixels.
    """
    if chip.optical is not None:
        _check_reflectance(chip.optical)
    for number, name in enumerate(chip.polarisations):
        if chip.sar is not None:
            _check_backscatter(chip.sar[number], name, _convention(chip))


def _check_reflectance(stack: NDArray[np.float32]) -> None:
    """Reflectance (band, y, x), all bands together: single ones are dark over water."""
    seen = stack[np.isfinite(stack)]
    if len(seen) < FEW:
        return
    tenth = float(np.percentile(seen, 10))
    if tenth < NEGATIVE:
        raise RadiometryUnknown(
            "The optical numbers can't be reflectance with this offset.",
            found=f"a tenth of them below {tenth:.2g}",
            change="optical_offset=0 if the offset was taken off already, as harmonised "
            "collections do",
        )
    bright = float(np.percentile(np.abs(seen), 98))
    if bright < DARK:
        raise RadiometryUnknown(
            "The optical numbers can't be reflectance with this scale.",
            found=f"98 % of them below {bright:.2g}",
            change="optical_scale=1 if the file holds reflectance already, or the right one",
        )


def _check_backscatter(decibel: NDArray[np.float32], name: str, convention: str) -> None:
    """One polarisation (y, x) in dB."""
    seen = decibel[np.isfinite(decibel)]
    if len(seen) < FEW:
        return
    middle, least = float(np.median(seen)), float(seen.min())
    if middle > HIGH_DB:
        raise RadiometryUnknown(
            f"The numbers of {name} can't be backscatter in {convention}.",
            found=f"a median of {middle:.3g} dB",
            change="sar_scale= that the numbers have, or a calibrated file: counts need a "
            "calibration first",
        )
    if convention == "dB" and least >= 0 and middle <= LINEAR:
        raise RadiometryUnknown(
            f"The numbers of {name} were declared as dB, but look linear.",
            found=f"none below 0, a median of {middle:.3g}",
            change="sar_scale='power' or 'amplitude'",
        )


def _convention(chip: Chip) -> str:
    """What was declared of the SAR numbers."""
    properties = chip.pair.sar.items[0]["properties"] if chip.pair.sar else {}
    return str(properties.get("card4l:measurement_convention", "dB"))
