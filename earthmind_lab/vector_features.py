"""A feature of a vector file as a value, and what every format's reader needs for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthmind_lab.errors import AOIError

if TYPE_CHECKING:
    from pyproj import CRS
    from shapely.geometry.base import BaseGeometry

MAX_BYTES = 32 * 2**20
"""Of a file, and of what a zipped one unpacks to: many times a careful drawing of a country."""
MAX_FEATURES = 1000
"""More would be no list to choose from."""
MAX_NAME = 80
"""Characters of a name."""
_NAMED = ("name", "title")
"""Attributes that name a feature, in any case, the better one first."""


@dataclass(frozen=True, kw_only=True, eq=False)
class VectorFeature:
    """One feature of a file; whether it makes an AOI is not decided here."""

    name: str | None
    """From its attributes; None where they name nothing."""
    geometry: BaseGeometry
    """Lon/lat (EPSG:4326), degrees, two dimensions."""


def crs_of(organization: object, code: object, definition: object) -> CRS:
    """The CRS of an authority's code, else of its WKT.

    Raises:
        AOIError: It is none, or not known.
    """
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        if str(organization).upper() == "EPSG":
            return CRS.from_epsg(int(str(code)))
        if str(definition).strip() in ("", "undefined"):
            raise no_crs()
        return CRS.from_wkt(str(definition))
    except (CRSError, ValueError) as error:
        raise AOIError("The CRS of the file is not known.", found=short(str(error))) from error


def no_crs() -> AOIError:
    """What to say of coordinates without a CRS."""
    return AOIError("The file says no CRS, so its coordinates mean nothing.", change="add one")


def lonlat(geometry: BaseGeometry, crs: CRS | None) -> BaseGeometry:
    """In lon/lat and two dimensions; a mixed collection is reduced to its polygons."""
    import numpy as np
    import shapely

    flat = shapely.force_2d(geometry)
    if flat.geom_type == "GeometryCollection":
        flat = one_of([each for each in flat.geoms if not each.is_empty] or [flat])
    if crs is None or crs.to_epsg() == 4326:
        return flat
    if not (crs.is_geographic or crs.is_projected):
        raise no_crs()
    from pyproj import Transformer

    turn = Transformer.from_crs(crs, 4326, always_xy=True)
    return shapely.transform(flat, lambda at: np.column_stack(turn.transform(at[:, 0], at[:, 1])))


def one_of(parts: list[BaseGeometry]) -> BaseGeometry:
    """One geometry of several: its polygons where it has any, else the first."""
    from shapely import union_all

    polygons = [each for each in parts if each.geom_type in ("Polygon", "MultiPolygon")]
    if len(polygons) < 2:
        return polygons[0] if polygons else parts[0]
    if not all(each.is_valid for each in polygons):  # a union would raise; which one, a user sees
        return next(each for each in polygons if not each.is_valid)
    return union_all(polygons)


def name_in(about: Mapping[Any, Any]) -> str | None:
    """The name that attributes give."""
    lower = {str(key).lower(): value for key, value in about.items()}
    return next((found for key in _NAMED if (found := name_of(lower.get(key)))), None)


def name_of(value: object) -> str | None:
    """One line of at most `MAX_NAME` characters; None where nothing is left."""
    if value is None or value != value or isinstance(value, Mapping | list | bytes):  # noqa: PLR0124  NaN
        return None
    line = "".join(c if c.isprintable() else " " for c in str(value))
    return " ".join(line.split())[:MAX_NAME].strip() or None


def names_for(features: Sequence[VectorFeature], filename: str) -> tuple[str, ...]:
    """How to call the features of a file: as they say themselves, else by the file and a number.

    >>> names_for([], "a.kml")
    ()
    """
    stem = Path(filename).stem[:60] or "area"
    if len(features) == 1:
        return (features[0].name or stem,)
    return tuple(f.name or f"{stem} {number}" for number, f in enumerate(features, 1))


def short(text: str) -> str:
    """A text that a message can hold."""
    return text if len(text) <= MAX_NAME else f"{text[: MAX_NAME - 3]}..."
