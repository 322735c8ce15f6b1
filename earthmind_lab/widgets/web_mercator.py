"""Pictures of a chip as a web map shows them: in EPSG:3857, as data URLs.

A web map stretches a picture linearly between two corners in Web Mercator, and a chip in UTM leans
and bends a little against its lines. The pixels go to the browser as they are, cut into pieces that
are small enough to lie straight; the browser turns and stretches each into its place.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from affine import Affine
from numpy.typing import NDArray

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from PIL import Image

EARTH_M = 6_378_137.0
"""Radius of the sphere of EPSG:3857."""
WORLD_M = math.pi * EARTH_M
"""Half a side of the square world of EPSG:3857, metres."""
MAX_LATITUDE = 85.0511287798066
"""The latitude at which that square ends."""
MAX_SIDE_PX = 2048
"""Larger pictures are shown at less resolution: the browser needs no more."""
QUALITY = 85
"""Of JPEG."""
AWAY_PX = 0.1
"""How far a pixel may lie from its place, in pixels of the chip: pieces are as small as that needs.
At 38 degrees, 500 pixels of 10 m are one piece, 2048 are sixteen."""
MOST_PIECES = 8
"""In a row. 2048 pixels of 30 m at 60 degrees would need nine, and lie to 0.13 of one."""
_POINTS = 5
"""Along a side of a piece, whose place is computed exactly."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """A part of a picture that lies straight on the map."""

    image: NDArray[np.uint8]
    """(H, W, 3)."""
    known: NDArray[np.bool_]
    """(H, W); False = no data."""
    affine: Affine
    """From its columns and rows to those of the whole picture on the map."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """A picture ready for a web map."""

    pieces: tuple[Piece, ...]
    """In the order of painting; each reaches one pixel below the next, so that no seam shows."""
    size: tuple[int, int]
    """Width and height in pixels; rows from north to south in equal steps of Web Mercator."""
    bounds: tuple[tuple[float, float], tuple[float, float]]
    """((south, west), (north, east)) in degrees, as Leaflet wants them."""


_Span: TypeAlias = tuple[slice, slice]
"""Rows and columns of a piece."""


def to_web_mercator(
    longitude: NDArray[np.float64], latitude: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Metres of EPSG:3857; latitudes beyond the square world are moved to its edge.

    >>> x, y = to_web_mercator(np.array([180.0]), np.array([90.0]))
    >>> bool(np.allclose([x[0], y[0]], WORLD_M))
    True
    """
    inside = np.radians(np.clip(latitude, -MAX_LATITUDE, MAX_LATITUDE))
    return EARTH_M * np.radians(longitude), EARTH_M * np.arctanh(np.sin(inside))


def lay_out(
    image: NDArray[np.uint8],
    grid: GeoBox,
    *,
    known: NDArray[np.bool_] | None = None,
    max_side: int = MAX_SIDE_PX,
) -> Shown:
    """A picture on a chip's grid, laid out for a web map.

    Args:
        image: (H, W, 3) on `grid`.
        grid: CRS and affine of the picture.
        known: (H, W) False where the picture has no data; None = data everywhere.
        max_side: The longer side of the result at most, pixels.

    Returns:
        The same pixels, or the means of some where there are too many, and where each piece lies:
        to `AWAY_PX`, as far as `MOST_PIECES` are enough.
    """
    from PIL import Image
    from rasterio.warp import transform_bounds

    rows, columns = image.shape[:2]
    assert grid.crs is not None  # a chip always lies somewhere
    crs = grid.crs.to_wkt()
    box = transform_bounds(crs, "EPSG:3857", *_box(grid.affine, rows, columns))
    width, height, factor = _size(box, rows * columns, max_side)
    there = np.ones((rows, columns), dtype=bool) if known is None else known
    if factor > 1:
        image, there = np.asarray(Image.fromarray(image).reduce(factor)), there[::factor, ::factor]
    to_map = Affine.scale(width / (box[2] - box[0]), -height / (box[3] - box[1]))
    to_map @= Affine.translation(-box[0], -box[3])
    affine = grid.affine @ Affine.scale(factor)
    spans = _cut(image, 1)
    places, away = _places(spans, affine, crs, to_map)
    if away > AWAY_PX:  # a piece of half the side lies four times as near
        spans = _cut(image, min(MOST_PIECES, math.ceil(math.sqrt(away / AWAY_PX))))
        places, _ = _places(spans, affine, crs, to_map)
    pieces = tuple(
        Piece(image=image[span], known=there[span], affine=place)
        for span, place in zip(spans, places, strict=True)
    )
    return Shown(
        pieces=pieces, size=(width, height), bounds=(_degrees(*box[:2]), _degrees(*box[2:]))
    )


def _cut(image: NDArray[np.uint8], parts: int) -> list[_Span]:
    """A picture in parts x parts, each one pixel longer than its share."""
    rows, columns = (
        [
            slice(int(low), min(int(high) + 1, side))
            for low, high in pairwise(np.linspace(0, side, parts + 1))
        ]
        for side in image.shape[:2]
    )
    return [(down, right) for down in rows for right in columns]


def _places(
    spans: Sequence[_Span], affine: Affine, crs: str, to_map: Affine
) -> tuple[list[Affine], float]:
    """Where pieces lie on the map's picture, straightened, and how far from their place at most."""
    from rasterio.warp import transform

    columns, rows = np.concatenate([_lattice(span) for span in spans], axis=1)
    metres: Any = np.array(transform(crs, "EPSG:3857", *(affine @ (columns, rows))))
    x, y = to_map @ tuple(metres)
    places, away = [], 0.0
    for number, (down, right) in enumerate(spans):
        part = slice(number * _POINTS**2, (number + 1) * _POINTS**2)
        own = np.stack([columns[part] - right.start, rows[part] - down.start], axis=1)
        own = np.hstack([own, np.ones((len(own), 1))])
        there = np.stack([x[part], y[part]], axis=1)
        fit = np.linalg.lstsq(own, there, rcond=None)[0]
        away = max(away, float(np.hypot(*(own @ fit - there).T).max()))
        places.append(Affine(*(float(each) for each in fit.T.ravel())))
    return places, away


def _lattice(span: _Span) -> NDArray[np.float64]:
    """(2, points) columns and rows, evenly over a piece from edge to edge."""
    down, right = (np.linspace(each.start, each.stop, _POINTS) for each in span)
    return np.stack([each.ravel() for each in np.meshgrid(right, down)])


def _box(affine: Any, rows: int, columns: int) -> tuple[float, float, float, float]:
    """(left, bottom, right, top) of a grid in its own CRS."""
    x, y = zip(*(affine @ (c, r) for c in (0, columns) for r in (0, rows)), strict=True)
    return min(x), min(y), max(x), max(y)


def _size(
    box: tuple[float, float, float, float], pixels: int, max_side: int
) -> tuple[int, int, int]:
    """(width, height) with about as many pixels as before, and how many of them become one."""
    wide, high = box[2] - box[0], box[3] - box[1]
    step = math.sqrt(wide * high / pixels)
    limit = max(wide, high) / max_side
    width, height = (max(1, round(side / max(step, limit))) for side in (wide, high))
    return width, height, max(1, math.floor(limit / step))


def shown_url(shown: Shown) -> str:
    """A data URL: an SVG of the pieces as JPEG, each in its place, with a mask where it has holes.

    JPEG knows no holes, WebP takes ten times as long to encode, and PNG of a scene is ten times
    larger.

    >>> picture = np.zeros((2, 2, 3), dtype=np.uint8)
    >>> piece = Piece(image=picture, known=np.eye(2, dtype=bool), affine=Affine.identity())
    >>> shown_url(Shown(pieces=(piece,), size=(2, 2), bounds=((0, 0), (1, 1))))[:24]
    'data:image/svg+xml,<svg '
    """
    width, height = shown.size
    parts = "".join(_part(piece, number) for number, piece in enumerate(shown.pieces))
    return (
        "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' preserveAspectRatio='none' "
        f"width='{width}' height='{height}' viewBox='0 0 {width} {height}'>{parts}</svg>"
    )


def _part(piece: Piece, number: int) -> str:
    from PIL import Image

    height, width = piece.known.shape
    a, b, c, d, e, f = (f"{each:.9g}" for each in piece.affine[:6])
    image = f"<image width='{width}' height='{height}' preserveAspectRatio='none'"
    picture = f"href='{_url(Image.fromarray(piece.image), 'JPEG', quality=QUALITY)}'"
    mask, masked = "", ""
    if not piece.known.all():
        holes = _url(Image.fromarray(piece.known), "PNG", compress_level=1)
        mask = f"<mask id='known{number}'>{image} href='{holes}'/></mask>"
        masked = f"mask='url(%23known{number})' "
    return f"<g transform='matrix({a},{d},{b},{e},{c},{f})'>{mask}{image} {masked}{picture}/></g>"


def _url(image: Image.Image, kind: str, **options: int) -> str:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    text = base64.b64encode(stream.getvalue()).decode("ascii")
    return f"data:image/{kind.lower()};base64,{text}"


def _degrees(x: float, y: float) -> tuple[float, float]:
    """(latitude, longitude) of a point in metres of EPSG:3857."""
    return math.degrees(math.asin(math.tanh(y / EARTH_M))), math.degrees(x / EARTH_M)
