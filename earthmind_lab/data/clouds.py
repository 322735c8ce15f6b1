"""Cloud inside an AOI, from a scene's own mask: ``scl``, else ``cloud``.

The mask is sampled in its own pixel space, coarsely where the AOI is large: shares need no more.
SCL 3, 8, 9, 10 are cloud or shadow, 0 and 1 unobserved, snow is clear and counted apart.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from earthmind_lab.aoi import AOI
from earthmind_lab.errors import AssetUnavailable
from earthmind_lab.scene import Scene
from earthmind_lab.sensors import bands_of

MASK_SIDE = 512
"""A mask is read with at most this many samples per side; shares need no more."""
SCL_CLOUD, SCL_UNOBSERVED, SCL_SNOW = (3, 8, 9, 10), (0, 1), 11


@dataclass(frozen=True, kw_only=True)
class Clear:
    """Shares of an AOI as a scene's mask shows them."""

    clear: float
    """Observed and free of cloud and shadow, share of the AOI, 0 to 1; snow is clear."""
    cloud: float
    """Cloud, cirrus or shadow, share of the AOI, 0 to 1."""
    observed: float
    """Seen by the sensor, share of the AOI, 0 to 1 (= clear + cloud)."""
    snow: float = 0.0
    """Snow or ice, share of the AOI, 0 to 1; part of `clear`."""

    @property
    def cloud_percent(self) -> float | None:
        """Cloud and shadow in per cent of what was observed; None when nothing was."""
        return 100 * self.cloud / self.observed if self.observed else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Mask:
    """A scene's classification sampled over an AOI, in the pixel space of its raster."""

    inside: NDArray[np.bool_]
    """(y, x) sample lies inside the AOI."""
    observed: NDArray[np.bool_]
    """(y, x) the sensor saw it."""
    cloud: NDArray[np.bool_]
    """(y, x) cloud, cirrus or shadow."""
    snow: NDArray[np.bool_]
    """(y, x) snow or ice."""
    rasterise: Callable[[BaseGeometry], NDArray[np.bool_]]
    """A lon/lat geometry as (y, x) on the same samples."""
    title: str = ""
    """How the catalog calls it; says when it was made by someone else than the data's source."""

    def shares(self, within: BaseGeometry | None = None) -> Clear:
        """Shares of the AOI; outside `within` (lon/lat) nothing counts as observed."""
        total = int(self.inside.sum())
        seen = self.inside & self.observed
        if within is not None:
            seen &= self.rasterise(within)
        cloud = int((seen & self.cloud).sum())
        observed = int(seen.sum())
        return Clear(
            clear=(observed - cloud) / total,
            cloud=cloud / total,
            observed=observed / total,
            snow=int((seen & self.snow & ~self.cloud).sum()) / total,
        )


def clear_share(scene: Scene, aoi: AOI) -> Clear | None:
    """Cloud inside the AOI from the scene's own mask (``scl``, else ``cloud``).

    Args:
        scene: Optical scene.
        aoi: Where to look.

    Returns:
        The shares, or None when the scene has no mask.

    Raises:
        AssetUnavailable: There is a mask and it can't be read.
    """
    mask = read_mask(scene, aoi)
    return None if mask is None else mask.shares()


def read_mask(scene: Scene, aoi: AOI) -> Mask | None:
    """Sample the scene's ``scl`` (else ``cloud``) asset over the AOI.

    Raises:
        AssetUnavailable: The raster is missing, broken or not on a map.
    """
    kind = "scl" if "scl" in scene.assets else "cloud" if "cloud" in scene.assets else None
    if kind is None:
        return None
    values, inside, valid, rasterise = _sample(scene.assets[kind], aoi)
    if kind == "scl":
        known = valid & (values <= SCL_SNOW) & ~np.isin(values, SCL_UNOBSERVED)
        cloud, snow = np.isin(values, SCL_CLOUD), values == SCL_SNOW
    else:
        unobserved, cloud = _read_cloud(scene, values, valid)
        known, snow = valid & ~unobserved, np.zeros_like(valid)
    return Mask(
        inside=inside,
        observed=known,
        cloud=cloud,
        snow=snow,
        rasterise=rasterise,
        title=str(_asset(scene, kind).get("title") or kind),
    )


def _sample(href: str, aoi: AOI) -> tuple[Any, Any, Any, Callable[[BaseGeometry], Any]]:
    """Nearest samples of a raster over the AOI: values, inside, valid (y, x), rasteriser."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError
    from rasterio.features import geometry_mask
    from rasterio.transform import Affine
    from rasterio.windows import Window

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # refused just below
            with rasterio.Env(GDAL_HTTP_TIMEOUT=20):
                opened = rasterio.open(href)
        with rasterio.Env(GDAL_HTTP_TIMEOUT=20), opened as source:
            to_pixels = _to_pixels(source)
            west, north, east, south = to_pixels(aoi.geometry).bounds
            left, top = math.floor(west), math.floor(north)
            width, height = math.ceil(east) - left, math.ceil(south) - top
            step = max(1, math.ceil(max(width, height) / MASK_SIDE))
            shape = (-(-height // step), -(-width // step))
            rows, row_span = _clip(top, shape[0], step, source.height)
            columns, column_span = _clip(left, shape[1], step, source.width)
            values: NDArray[Any] = np.zeros(shape, source.dtypes[0])
            valid = np.zeros(shape, bool)
            if row_span and column_span:
                window = Window(column_span[0], row_span[0], column_span[1], row_span[1])
                size = (rows.stop - rows.start, columns.stop - columns.start)
                values[rows, columns] = source.read(1, window=window, out_shape=size)
                read = source.read_masks(1, window=window, out_shape=size)
                valid[rows, columns] = read > 0
    except (RasterioError, OSError, ValueError, OverflowError) as error:
        raise AssetUnavailable(f"{href.rsplit('/', 1)[-1]}: {error}") from error
    place = Affine(step, 0, left, 0, step, top)

    def rasterise(geometry: BaseGeometry, touched: bool = False) -> NDArray[np.bool_]:
        pixels = to_pixels(geometry)
        if pixels.is_empty:
            return np.zeros(shape, bool)
        inside: NDArray[np.bool_] = geometry_mask(
            [pixels], shape, place, invert=True, all_touched=touched
        )
        return inside

    inside = rasterise(aoi.geometry)
    # An AOI smaller than a pixel holds no pixel centre; then every touched one counts.
    return values, inside if inside.any() else rasterise(aoi.geometry, True), valid, rasterise


def _to_pixels(source: Any) -> Callable[[BaseGeometry], BaseGeometry]:
    from pyproj import Transformer

    if source.crs is None or source.transform.is_identity:
        raise ValueError("the raster has no place on the map")
    transformer = Transformer.from_crs(4326, source.crs.to_wkt(), always_xy=True)
    inverse = ~source.transform

    def convert(points: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = transformer.transform(points[:, 0], points[:, 1])
        columns = inverse.a * x + inverse.b * y + inverse.c
        rows = inverse.d * x + inverse.e * y + inverse.f
        # A nanometre of rounding must not add a row of pixels.
        return np.round(np.column_stack([columns, rows]), 6)

    # A straight edge in lon/lat bends in a projection: 0.05° keeps the error under a metre or so.
    return lambda geometry: shapely.transform(shapely.segmentize(geometry, 0.05), convert)


def _clip(first: int, count: int, step: int, size: int) -> tuple[slice, tuple[int, int] | None]:
    """Which samples along one axis lie in a raster of `size` pixels: samples, (offset, length)."""
    low = max(0, -(first // step) if first < 0 else 0)
    high = min(count, -(-(size - first) // step))
    if low >= high:
        return slice(0, 0), None
    start = first + low * step
    return slice(low, high), (start, min(step * (high - low), size - start))


def _read_cloud(
    scene: Scene, values: NDArray[Any], valid: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(unobserved, cloud) of a cloud asset: by its declared classes, as a probability, or 0/1."""
    asset = _asset(scene, "cloud")
    bands = asset.get("bands") or asset.get("raster:bands")
    holders = [asset, *(bands if isinstance(bands, list) else ())]
    declared = (h.get("classification:classes") for h in holders if isinstance(h, Mapping))
    classes = next(filter(None, declared), None)
    if isinstance(classes, list) and classes:
        known = [c for c in classes if isinstance(c, Mapping) and isinstance(c.get("value"), int)]
        names = {c["value"]: _class_name(c) for c in known}
        lost = [value for value, name in names.items() if _LOST.search(name)]
        dark = [v for v, name in names.items() if _CLOUDY.search(name) and not _FREE.search(name)]
        return _among(values, lost), _among(values, dark)
    said = f"{asset.get('title')} {asset.get('description')}".lower()
    share = "probab" in said or (valid.any() and float(values[valid].max()) > 3)
    return np.zeros_like(valid), (values >= 50) if share else (values != 0)


_LOST = re.compile(r"no ?data|fill|unobserved|invalid")
_CLOUDY = re.compile(r"cloud|shadow|cirrus")
_FREE = re.compile(r"^(clear|no\b|not\b|non\b)|free")


def _among(values: NDArray[Any], classes: list[int]) -> NDArray[np.bool_]:
    return np.isin(values, np.asarray(classes, int))


def _class_name(declared: Mapping[str, Any]) -> str:
    name = declared.get("name") or declared.get("title") or declared.get("description") or ""
    return re.sub(r"[-_\s]+", " ", str(name).lower())


def _asset(scene: Scene, band: str) -> Mapping[str, Any]:
    for item in scene.items:
        key = bands_of(item).get(band)
        if key is not None:
            asset: Mapping[str, Any] = item["assets"][key]
            return asset
    return {}
