"""Numbers of a chip at a point and along a line: reflectance per band, dB per polarisation.

Each is the value of the pixel that holds the point; nothing is interpolated.

>>> parse_points("-0.77, 38.10; -0.75, 38.11")
((-0.77, 38.1), (-0.75, 38.11))
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from earthmind_lab.chip import Chip
from earthmind_lab.errors import AOIError
from earthmind_lab.widgets.legend import scene_of, unit_of
from earthmind_lab.widgets.protocol import clean
from earthmind_lab.widgets.words import day, sensor_words

if TYPE_CHECKING:
    from pyproj import Transformer

Point: TypeAlias = tuple[float, float]
"""(longitude, latitude) in degrees."""
MOST_SAMPLES = 400
"""Of a profile: more than a chart has pixels for."""
MOST_POINTS = 100
_NUMBER = re.compile(r"[-+−]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_BETWEEN = re.compile(r"[\s,;()\[\]]*")


def columns_of(chip: Chip, earlier: Chip | None = None) -> list[dict[str, str]]:
    """The numbers that a chip holds at every point, optical first.

    Args:
        chip: Whose.
        earlier: That of an earlier date on its grid.

    Returns:
        ``band``, ``unit``, ``modality``, ``source`` (sensor and day), ``earlier`` (the source at
        the earlier date; empty where that has no such band).
    """
    then = {} if earlier is None else {_name(each): each["source"] for each in columns_of(earlier)}
    return [
        {"band": name, "unit": clean(unit_of(modality, chip)), "modality": modality,
         "source": clean(_source(chip, modality)), "earlier": then.get((modality, name), "")}
        for modality, names in (("optical", chip.bands), ("sar", chip.polarisations))
        for name in names
    ]  # fmt: skip


def values_at(chip: Chip, point: Point) -> list[float | None]:
    """The numbers of the pixel that holds a point, in the order of `columns_of`.

    Returns:
        None where there is no data; all None outside the chip.
    """
    at = pixel_at(chip, point)
    stacks = (chip.optical, chip.sar)
    if at is None:
        return [None] * sum(len(stack) for stack in stacks if stack is not None)
    return [
        float(value) if math.isfinite(value) else None
        for stack in stacks
        if stack is not None
        for value in stack[:, at[0], at[1]]
    ]


def pixel_at(chip: Chip, point: Point) -> tuple[int, int] | None:
    """(row, column) of the pixel that holds a point; None outside the chip."""
    x, y = _to_grid(chip).transform(*point)
    if not (math.isfinite(x) and math.isfinite(y)):
        return None
    column, row = (math.floor(each) for each in ~chip.grid.affine @ (x, y))
    height, width = chip.grid.shape
    return (row, column) if 0 <= row < height and 0 <= column < width else None


def reading(chip: Chip, point: Point) -> dict[str, Any]:
    """What a chip holds at a point, in words.

    Returns:
        ``place``, ``pixel`` ("" outside the chip), ``values`` (one per `columns_of`).
    """
    at = pixel_at(chip, point)
    values = zip(columns_of(chip), values_at(chip, point), strict=True)
    return {
        "place": place_words(point),
        "pixel": "" if at is None else f"row {at[0]}, column {at[1]}{_where(chip, at)}",
        "values": [value_words(value, about["modality"]) for about, value in values],
    }


def earlier_words(chip: Chip, earlier: Chip, point: Point) -> list[str]:
    """What an earlier date holds at a point, in words, one per `columns_of` the later chip.

    Args:
        chip: The later one.
        earlier: On the same grid.
        point: Where.
    """
    names, values = map(_name, columns_of(earlier)), values_at(earlier, point)
    held = dict(zip(names, values, strict=True))
    wanted = map(_name, columns_of(chip))
    return [value_words(held[n], n[0]) if n in held else "not read" for n in wanted]


def _name(column: Mapping[str, str]) -> tuple[str, str]:
    return column["modality"], column["band"]


def _where(chip: Chip, at: tuple[int, int]) -> str:
    return "" if chip.inside[at] else ", outside the area"


def profile(chip: Chip, points: Sequence[Point]) -> dict[str, Any]:
    """The numbers along a line, one sample per pixel's length.

    Args:
        chip: Whose.
        points: At least two corners of the line.

    Returns:
        ``title``, ``columns`` (as `columns_of`), ``rows`` (metres from the beginning, then a number
        or None per column), ``csv`` (the same with longitudes and latitudes), ``note``.

    Raises:
        AOIError: Fewer than two points, or no part of the line lies on the chip.
    """
    if len(points) < 2:
        raise AOIError("A line has two points or more.", found=str(len(points)))
    samples, step = _along(chip, points)
    columns = columns_of(chip)
    rows = [[metres, *values_at(chip, point)] for metres, point in samples]
    if all(value is None for row in rows for value in row[1:]):
        raise AOIError(
            "No part of the line lies on pixels that are shown.",
            found=" to ".join(place_words(point) for point in (points[0], points[-1])),
            change="a line across the pictures on the map",
        )
    wide = step > 1.01 * chip.gsd
    return {
        "title": f"{rows[-1][0]:.0f} m, {len(rows)} samples every {step:.3g} m",
        "columns": columns,
        "rows": [[_rounded(value) for value in row] for row in rows],
        "csv": _csv(columns, samples, rows),
        "note": "A long line: not every pixel on it has a sample." if wide else "",
    }


def _along(chip: Chip, points: Sequence[Point]) -> tuple[list[tuple[float, Point]], float]:
    """Samples with their metres from the beginning, straight on the grid; and their distance."""
    to_grid = _to_grid(chip)
    corners = np.array([to_grid.transform(*point) for point in points])
    corners = np.array([~chip.grid.affine @ tuple(corner) for corner in corners])  # in pixels
    lengths = np.hypot(*np.diff(corners, axis=0).T)
    whole = float(lengths.sum())
    count = min(MOST_SAMPLES, max(2, math.ceil(whole) + 1))
    at = np.linspace(0, whole, count)
    ends = np.concatenate([[0.0], np.cumsum(lengths)])
    columns, rows = (np.interp(at, ends, corners[:, axis]) for axis in (0, 1))
    x, y = chip.grid.affine @ (columns, rows)
    longitudes, latitudes = to_grid.transform(x, y, direction="INVERSE")
    metres = np.concatenate([[0.0], np.cumsum(_lengths(longitudes, latitudes))])
    placed = zip(longitudes.tolist(), latitudes.tolist(), strict=True)
    return list(zip(metres.tolist(), placed, strict=True)), float(metres[-1]) / (count - 1)


def _lengths(longitudes: Any, latitudes: Any) -> Any:
    """Geodesic metres from each point to the next."""
    from pyproj import Geod

    return Geod(ellps="WGS84").inv(
        longitudes[:-1], latitudes[:-1], longitudes[1:], latitudes[1:]
    )[2]  # fmt: skip


def parse_points(text: str) -> tuple[Point, ...]:
    """Points from text: longitude and latitude in degrees, again and again.

    Raises:
        AOIError: Something else, or a place that isn't on the Earth.
    """
    numbers = [float(each.replace("−", "-")) for each in _NUMBER.findall(text)]
    left = _BETWEEN.fullmatch(_NUMBER.sub("", text))
    if not numbers or len(numbers) % 2 or left is None or len(numbers) > 2 * MOST_POINTS:
        raise AOIError(
            "That is no list of points.",
            found=text.strip()[:60] or "nothing",
            change="longitude, latitude in degrees, such as -0.77, 38.10",
        )
    points = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    for longitude, latitude in points:
        if not (-180 <= longitude <= 180 and -90 <= latitude <= 90):
            raise AOIError(
                "There is no such place on the Earth.",
                found=f"longitude {longitude:g}, latitude {latitude:g}",
                change="longitude from -180 to 180, then latitude from -90 to 90",
            )
    return points


def place_words(point: Point) -> str:
    """Coordinates for people.

    >>> place_words((-0.754321, 38.1))
    '38.10000° N, 0.75432° W'
    """
    longitude, latitude = point
    north, east = "N" if latitude >= 0 else "S", "E" if longitude >= 0 else "W"
    return f"{abs(latitude):.5f}° {north}, {abs(longitude):.5f}° {east}"


def value_words(value: float | None, modality: str) -> str:
    """A number as it stands in a table.

    >>> value_words(0.08123, "optical"), value_words(-17.26, "sar"), value_words(None, "sar")
    ('0.0812', '−17.3', 'no data')
    """
    if value is None:
        return "no data"
    return (f"{value:.1f}" if modality == "sar" else f"{value:.4f}").replace("-", "−")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def _csv(
    columns: Sequence[dict[str, str]],
    samples: Sequence[tuple[float, Point]],
    rows: Sequence[Sequence[float | None]],
) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = [f"{each['band']} ({each['unit']})" for each in columns]
    writer.writerow(["distance (m)", "longitude", "latitude", *heads])
    for (metres, (longitude, latitude)), row in zip(samples, rows, strict=True):
        values = ["" if value is None else f"{value:.5g}" for value in row[1:]]
        writer.writerow([f"{metres:.2f}", f"{longitude:.7f}", f"{latitude:.7f}", *values])
    return text.getvalue()


def _source(chip: Chip, modality: str) -> str:
    scene = scene_of(chip, modality)
    if scene is None:
        return ""
    return f"{sensor_words(scene.sensor)}, {day(scene.observed or '') or 'day unknown'}"


def _to_grid(chip: Chip) -> Transformer:
    assert chip.grid.crs is not None  # a chip always lies somewhere
    return _transformer(chip.grid.crs.to_wkt())


@lru_cache(maxsize=8)
def _transformer(wkt: str) -> Transformer:
    from pyproj import Transformer

    return Transformer.from_crs("EPSG:4326", wkt, always_xy=True)
