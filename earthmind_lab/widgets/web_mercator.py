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
    from odc.geo.geobox import GeoBox

EARTH_M = 6_378_137.0
"""Radius of the sphere of EPSG:3857."""
WORLD_M = math.pi * EARTH_M
"""Half a side of the square world of EPSG:3857, metres."""
MAX_LATITUDE = 85.0511287798066
"""The latitude at which that square ends."""
MAX_SIDE_PX = 2048
"""Larger pictures are shown at less resolution: the browser needs no more."""
QUALITY = 85
"""Of JPEG and WebP."""


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
        The picture with one pixel of its own per pixel of the chip, or fewer. Colours are
        bilinear; what is known is decided by the nearest pixel, so no black creeps into an edge.
    """
    from affine import Affine
    from rasterio.enums import Resampling
    from rasterio.warp import reproject as warp
    from rasterio.warp import transform_bounds

    rows, columns = image.shape[:2]
    assert grid.crs is not None  # a chip always lies somewhere
    source, crs = grid.affine, grid.crs.to_wkt()
    x0, y0, x1, y1 = transform_bounds(crs, "EPSG:3857", *_box(source, rows, columns))
    width, height, shrink = _size(x1 - x0, y1 - y0, rows * columns, max_side)
    target = Affine((x1 - x0) / width, 0, x0, 0, (y0 - y1) / height, y1)
    common = {"src_transform": source, "src_crs": crs, "dst_transform": target,
              "dst_crs": "EPSG:3857"}  # fmt: skip
    there = np.ones((rows, columns), dtype=np.uint8) if known is None else known.astype(np.uint8)
    mask = np.zeros((height, width), dtype=np.uint8)
    warp(there, mask, resampling=Resampling.nearest, **common)
    bands = np.zeros((3, height, width), dtype=np.uint8)
    kernel = Resampling.average if shrink else Resampling.bilinear
    warp(np.ascontiguousarray(image.transpose(2, 0, 1)), bands, resampling=kernel, **common)
    return Shown(
        image=np.ascontiguousarray(bands.transpose(1, 2, 0)),
        known=mask.astype(bool),
        bounds=(_degrees(x0, y0), _degrees(x1, y1)),
    )


def _box(affine: Any, rows: int, columns: int) -> tuple[float, float, float, float]:
    """(left, bottom, right, top) of a grid in its own CRS."""
    x, y = zip(*(affine @ (c, r) for c in (0, columns) for r in (0, rows)), strict=True)
    return min(x), min(y), max(x), max(y)


def _size(width_m: float, height_m: float, pixels: int, max_side: int) -> tuple[int, int, bool]:
    """(width, height) with about as many pixels as before; True = fewer, for `max_side`."""
    step = math.sqrt(width_m * height_m / pixels)
    limit = max(width_m, height_m) / max_side
    width, height = (max(1, round(side / max(step, limit))) for side in (width_m, height_m))
    return width, height, limit > step


def jpeg_url(image: NDArray[np.uint8]) -> str:
    """A picture without holes as a data URL: small and quick to encode.

    >>> jpeg_url(np.zeros((2, 2, 3), dtype=np.uint8))[:23]
    'data:image/jpeg;base64,'
    """
    return _url(image, "JPEG", quality=QUALITY)


def webp_url(image: NDArray[np.uint8], known: NDArray[np.bool_]) -> str:
    """A picture with holes as a data URL. JPEG knows no holes; PNG of a scene is ten times larger.

    >>> webp_url(np.zeros((2, 2, 3), dtype=np.uint8), np.eye(2, dtype=bool))[:23]
    'data:image/webp;base64,'
    """
    alpha = (known * 255).astype(np.uint8)
    return _url(np.dstack([image, alpha]), "WEBP", quality=QUALITY, method=0)


def shown_url(shown: Shown) -> str:
    """A data URL: JPEG where the picture has no holes, else WebP with alpha.

    A chip in UTM leans a little against the lines of a web map, so most have holes at the edge.
    """
    if shown.known.all():
        return jpeg_url(shown.image)
    return webp_url(shown.image, shown.known)


def _url(image: NDArray[np.uint8], kind: str, **options: int) -> str:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options)
    text = base64.b64encode(stream.getvalue()).decode("ascii")
    return f"data:image/{kind.lower()};base64,{text}"


def _degrees(x: float, y: float) -> tuple[float, float]:
    """(latitude, longitude) of a point in metres of EPSG:3857."""
    return math.degrees(math.asin(math.tanh(y / EARTH_M))), math.degrees(x / EARTH_M)
