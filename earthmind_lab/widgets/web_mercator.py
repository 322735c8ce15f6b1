"""Pictures of a chip as a web map shows them: in EPSG:3857, as data URLs.

A web map stretches a picture linearly between two corners in Web Mercator, so a picture in UTM has
to be reprojected first. That is for the eye only: the model and every number keep the chip's grid.
"""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from affine import Affine
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


CELL_PX = 64
"""Between two points whose place is computed exactly; what lies between is bilinear. Over 64 pixels
of 10 m the earth bends by less than a hundredth of one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """A picture ready for a web map."""

    image: NDArray[np.uint8]
    """(H, W, 3), rows from north to south in equal steps of Web Mercator."""
    known: NDArray[np.bool_]
    """(H, W); False = outside the chip, or no data."""
    bounds: tuple[tuple[float, float], tuple[float, float]]
    """((south, west), (north, east)) in degrees, as Leaflet wants them."""


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


def reproject(
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
        The picture with about one pixel of its own per pixel of the chip, or fewer. Colours are
        bilinear; what is known is decided by the nearest pixel.
    """
    from affine import Affine
    from PIL import Image
    from rasterio.warp import transform_bounds

    rows, columns = image.shape[:2]
    assert grid.crs is not None  # a chip always lies somewhere
    crs = grid.crs.to_wkt()
    box = transform_bounds(crs, "EPSG:3857", *_box(grid.affine, rows, columns))
    width, height, factor = _size(box, rows * columns, max_side)
    there = np.ones((rows, columns), dtype=bool) if known is None else known
    picture = Image.fromarray(image).reduce(factor)
    holes = Image.fromarray(there[::factor, ::factor].astype(np.uint8))
    mesh = _mesh(grid.affine @ Affine.scale(factor), crs, box, (width, height))
    size, kind = (width, height), Image.Transform.MESH
    return Shown(
        image=np.asarray(picture.transform(size, kind, mesh, Image.Resampling.BILINEAR)),
        known=np.asarray(holes.transform(size, kind, mesh, Image.Resampling.NEAREST)) > 0,
        bounds=(_degrees(*box[:2]), _degrees(*box[2:])),
    )


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


def _mesh(
    affine: Affine, crs: str, box: tuple[float, float, float, float], size: tuple[int, int]
) -> list[tuple[tuple[int, int, int, int], tuple[float, ...]]]:
    """For Pillow: rectangles of the result, and where their corners lie in the picture.

    The corners of each go NW, SW, SE, NE.
    """
    from rasterio.warp import transform

    x, y = (
        np.unique(np.append(np.arange(0, side, CELL_PX), side)).astype(np.float64) for side in size
    )
    right, down = np.meshgrid(box[0] + x / size[0] * (box[2] - box[0]),
                              box[3] - y / size[1] * (box[3] - box[1]))  # fmt: skip
    there = transform("EPSG:3857", crs, right.ravel(), down.ravel())
    columns, rows = ~affine @ tuple(np.array(each).reshape(right.shape) for each in there)
    return [
        (
            (int(x[j]), int(y[i]), int(x[j + 1]), int(y[i + 1])),
            tuple(
                float(each[at])
                for at in ((i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1))
                for each in (columns, rows)
            ),
        )
        for i in range(len(y) - 1)
        for j in range(len(x) - 1)
    ]


def shown_url(shown: Shown) -> str:
    """A data URL: JPEG where the picture has no holes, else an SVG of that JPEG and its mask.

    A chip in UTM leans a little against the lines of a web map, so most have holes at the edge.
    JPEG knows none, WebP takes ten times as long to encode, and PNG of a scene is ten times larger.

    >>> picture = np.zeros((2, 2, 3), dtype=np.uint8)
    >>> whole, torn = np.ones((2, 2), dtype=bool), np.eye(2, dtype=bool)
    >>> shown_url(Shown(image=picture, known=whole, bounds=((0, 0), (1, 1))))[:23]
    'data:image/jpeg;base64,'
    >>> shown_url(Shown(image=picture, known=torn, bounds=((0, 0), (1, 1))))[:19]
    'data:image/svg+xml,'
    """
    from PIL import Image

    picture = _url(Image.fromarray(shown.image), "JPEG", quality=QUALITY)
    if shown.known.all():
        return picture
    holes = _url(Image.fromarray(shown.known), "PNG", compress_level=1)
    height, width = shown.known.shape
    part = f"<image width='{width}' height='{height}' preserveAspectRatio='none'"
    return (
        "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' preserveAspectRatio='none' "
        f"width='{width}' height='{height}' viewBox='0 0 {width} {height}'>"
        f"<mask id='known'>{part} href='{holes}'/></mask>"
        f"{part} mask='url(%23known)' href='{picture}'/></svg>"
    )


def _url(image: Image.Image, kind: str, **options: int) -> str:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    text = base64.b64encode(stream.getvalue()).decode("ascii")
    return f"data:image/{kind.lower()};base64,{text}"


def _degrees(x: float, y: float) -> tuple[float, float]:
    """(latitude, longitude) of a point in metres of EPSG:3857."""
    return math.degrees(math.asin(math.tanh(y / EARTH_M))), math.degrees(x / EARTH_M)
