"""Where on the Earth an example lies, as far as its source says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.errors import ShapelyError
from shapely.geometry import Polygon, box, shape
from shapely.geometry.base import BaseGeometry

from earthmind_lab.finetune.source import wrong
from earthmind_lab.grid import LONLAT, SEGMENT_PX, move_points

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox


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


def footprint_of_grid(grid: GeoBox) -> BaseGeometry:
    """The ground of all pixels of a grid, in lon/lat."""
    rows, columns = (int(side) for side in grid.shape)
    corners = [(0, 0), (columns, 0), (columns, rows), (0, rows)]
    # In pixels: its sides bend in lon/lat.
    outline = Polygon(corners).segmentize(SEGMENT_PX)

    def move(points: NDArray[np.float64]) -> NDArray[np.float64]:
        a, b, c, d, e, f = grid.affine[:6]
        x, y = points @ [a, b] + c, points @ [d, e] + f
        return np.stack(move_points(x, y, str(grid.crs), LONLAT), axis=-1)

    return shapely.transform(outline, move)
