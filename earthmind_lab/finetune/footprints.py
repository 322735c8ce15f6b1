"""Where on the Earth an example lies, as far as its source says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from shapely.errors import ShapelyError
from shapely.geometry import box, shape
from shapely.geometry.base import BaseGeometry

from earthmind_lab.finetune.source import wrong


def footprint_of(value: Any, where: str) -> BaseGeometry | None:
    """A footprint in lon/lat.

    Args:
        value: GeoJSON geometry, or [west, south, east, north]; None = not said.
        where: For people.

    Raises:
        LoadError: Neither, or not on the Earth.
    """
    if value is None:
        return None
    try:
        if isinstance(value, Mapping):
            found = shape(value)
        else:
            west, south, east, north = (float(edge) for edge in value)
            found = box(west, south, east, north)
    except (
        ShapelyError, LookupError, TypeError, ValueError, AttributeError, RecursionError
    ) as error:  # fmt: skip
        raise wrong(
            where, "the footprint is no area.", found=repr(value),
            change="a GeoJSON polygon, or [west, south, east, north] in degrees",
        ) from error  # fmt: skip
    west, south, east, north = found.bounds if not found.is_empty else (math.nan,) * 4
    if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):
        raise wrong(where, "the footprint lies nowhere on the Earth.", found=repr(value),
                    change="longitude before latitude, in degrees")  # fmt: skip
    return found if found.is_valid else found.buffer(0)
