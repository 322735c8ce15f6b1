"""From stored numbers to physical ones, by what was declared.

`reflectance` decides for optical rasters, `backscatter` for SAR, each once and with the reason
kept. Nothing is read off the pixels; what nobody declares is refused, with what to declare.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.data.budget import Check, in_steps

ROWS = 64


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """How stored numbers become physical ones: value x scale + offset."""

    scale: float = 1.0
    offset: float = 0.0
    nodata: tuple[float, ...] = ()
    """Stored values without data; NaN always is."""
    reason: str = ""
    """What decided it."""


FILL = (-9999.0, -32768.0, -99999.0, float(np.finfo(np.float32).min))
"""Numbers that everybody writes where there are no data, often without declaring it, and that no
reflectance and no backscatter can be in any unit."""


def physical(stored: NDArray[Any], scaling: Scaling) -> NDArray[np.float32]:
    """Stored numbers as physical ones, nodata as NaN; nodata is decided before the offset."""
    missing = ~np.isfinite(stored) if stored.dtype.kind == "f" else np.zeros(stored.shape, bool)
    for value in (*scaling.nodata, *(FILL if stored.dtype.kind in "if" else ())):
        missing |= stored == value
    # In double precision: DN x 0.0001 - 0.1 must be the nearest float32, not a rounded sum.
    values = stored.astype(np.float64) * scaling.scale + scaling.offset
    values[missing] = np.nan
    return values.astype(np.float32)


def row_by_row(
    convert: Callable[[NDArray[Any]], NDArray[np.float32]],
    values: NDArray[Any],
    check: Check,
    into: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Convert pixel by pixel, some rows at a time: what is between never leaves the cache.

    Args:
        convert: Gives each pixel what it gives it alone.
        values: (rows, columns).
        check: Asked before every step.
        into: Takes the result, same shape; None = a new array.
    """
    result = np.empty(values.shape, dtype=np.float32) if into is None else into
    for rows in in_steps(len(values), ROWS, check):
        result[rows] = convert(values[rows])
    return result


def number(value: Any, default: float) -> float:
    """A declared number, or the default where there is none."""
    try:
        return default if value is None else float(value)
    except (TypeError, ValueError):
        return default


def numbers(values: Sequence[Any]) -> tuple[float, ...]:
    """Those of some declared values that are numbers, each once."""
    found = (number(value, math.nan) for value in values)
    return tuple(dict.fromkeys(value for value in found if not math.isnan(value)))
