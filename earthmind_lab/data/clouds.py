"""Cloud inside an AOI, from the mask that comes with a scene.

The mask is sampled in its own pixel space, coarsely where the AOI is large: shares need no more.
What its values mean is said by the item (``classification:bitfields``), else by the table of
sensors (`QualityMask`), else, for an asset ``cloud``, by its classes or its numbers. Shadow and
the rim of a cloud count as cloud; snow is clear and counted apart. Of a scene of several
items, what one mask leaves unobserved is taken from the next.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from earthmind_lab.aoi import AOI
from earthmind_lab.bands import QUALITY_MASKS, QualityMask
from earthmind_lab.data.agreement import check_agreement
from earthmind_lab.data.assets import AssetRef, assets_of
from earthmind_lab.data.files import Reader
from earthmind_lab.data.raster import Raster
from earthmind_lab.data.resample import whole_raster
from earthmind_lab.errors import AssetUnavailable
from earthmind_lab.grid import placeless
from earthmind_lab.scene import Scene
from earthmind_lab.sensors import SENSORS

if TYPE_CHECKING:
    from affine import Affine
    from rasterio.crs import CRS

MASK_SIDE = 512
"""A mask is read with at most this many samples per side; shares need no more."""
WHOLE_SIDE = 2048
"""A whole cloud raster is thinned to this side before its greatest value is taken."""
MASK_BITS = 32
"""Masks of more bits than this are none."""
MASK_MAX = 3
"""Whole numbers beyond this are per cent, not a few classes."""


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
    place: tuple[Affine, CRS]
    """From (column, row) of the samples to the map."""
    title: str = ""
    """How the catalog calls it; says when it was made by someone else than the data's source."""

    def filled(self, other: Mask) -> Mask:
        """This mask, with another's nearest samples where it observed nothing."""
        from rasterio.warp import Resampling, reproject

        def moved(values: NDArray[np.bool_]) -> NDArray[np.bool_]:
            target = np.zeros(self.inside.shape, np.uint8)
            places = dict(zip(("src_transform", "src_crs"), other.place, strict=True))
            places |= dict(zip(("dst_transform", "dst_crs"), self.place, strict=True))
            with placeless():
                reproject(values.astype(np.uint8), target, resampling=Resampling.nearest, **places)
            return target > 0

        empty = ~self.observed
        return replace(
            self,
            observed=self.observed | moved(other.observed),
            cloud=np.where(empty, moved(other.cloud), self.cloud),
            snow=np.where(empty, moved(other.snow), self.snow),
        )

    def shares(self, within: BaseGeometry | None = None) -> Clear:
        """Shares of the AOI; outside `within` (lon/lat) nothing counts as observed."""
        total = int(np.count_nonzero(self.inside))
        seen = self.inside & self.observed
        if within is not None:
            seen &= self.rasterise(within)
        cloud = int(np.count_nonzero(seen & self.cloud))
        observed = int(np.count_nonzero(seen))
        return Clear(
            clear=(observed - cloud) / total,
            cloud=cloud / total,
            observed=observed / total,
            snow=int(np.count_nonzero(seen & self.snow & ~self.cloud)) / total,
        )


def clear_share(scene: Scene, aoi: AOI, reader: Reader | None = None) -> Clear | None:
    """Cloud inside the AOI from the scene's own mask.

    Args:
        scene: Optical scene.
        aoi: Where to look.
        reader: Opens the mask, within a time limit.

    Returns:
        The shares, or None when the scene has no mask.

    Raises:
        AssetUnavailable: There is a mask and it can't be read.
    """
    mask = read_mask(scene, aoi, reader)
    return None if mask is None else mask.shares()


def read_mask(scene: Scene, aoi: AOI, reader: Reader | None = None) -> Mask | None:
    """Sample the scene's mask over the AOI: its sensor's own, else ``scl``, else ``cloud``.

    Raises:
        AssetUnavailable: The raster is missing, broken or not on a map.
    """
    from earthmind_lab.data.frozen_masks import frozen_mask  # which makes masks too

    held = frozen_mask(scene, aoi)
    if held is not None:
        return held
    sensor = SENSORS.get(scene.sensor)
    rules = (sensor.mask if sensor else None, *QUALITY_MASKS)
    rule = next((mask for mask in rules if mask and mask.band in scene.assets), None)
    if rule is None and "cloud" not in scene.assets:
        return None
    refs = assets_of(scene, rule.band if rule else "cloud")
    first, *others = (_read_one(ref, rule, aoi, reader or Reader()) for ref in refs)
    for other in others:
        first = first.filled(other)
    return first


def _read_one(ref: AssetRef, known: QualityMask | None, aoi: AOI, reader: Reader) -> Mask:
    """The mask of one item; `known` = how the table says that it reads."""
    rule = _declared_bits(ref, known) or known or _declared_classes(ref)
    values, inside, valid, rasterise, least, place = _sample(ref, aoi, rule is None, reader)
    if rule is None:
        cloud = np.asarray(values != 0 if least is None else values >= least, bool)
        observed, snow = valid, np.zeros_like(valid)
    else:
        cloud, snow, unobserved = (
            _among(values, each, rule) for each in (rule.cloud, rule.snow, rule.unobserved)
        )
        observed = valid & ~unobserved
        observed &= True if rule.most is None else values <= rule.most
    return Mask(
        inside=inside,
        observed=observed,
        cloud=cloud,
        snow=snow,
        rasterise=rasterise,
        place=place,
        title=str(ref.asset.get("title") or ref.band),
    )


def _sample(
    ref: AssetRef, aoi: AOI, judge: bool, reader: Reader
) -> tuple[Any, Any, Any, Callable[[BaseGeometry], Any], float | None, tuple[Affine, CRS]]:
    """Nearest samples of a raster over the AOI: values, inside, valid (y, x), rasteriser.

    Where asked to `judge`, also the least value that is cloud; None = every one but 0. And the
    place of the samples on the map.
    """
    from rasterio.features import geometry_mask
    from rasterio.transform import Affine
    from rasterio.windows import Window

    try:
        with reader.open(ref) as source:
            if source.crs is not None:
                check_agreement(source, ref)
            least = _least_cloud(ref, source) if judge else None
            to_pixels, crs, to_map = _to_pixels(source), source.crs, source.transform
            west, north, east, south = to_pixels(aoi.geometry).bounds
            left, top = math.floor(west), math.floor(north)
            width, height = math.ceil(east) - left, math.ceil(south) - top
            step = max(1, math.ceil(max(width, height) / MASK_SIDE))
            shape = (-(-height // step), -(-width // step))
            rows, row_span = _clip(top, shape[0], step, source.height)
            columns, column_span = _clip(left, shape[1], step, source.width)
            values: NDArray[Any] = np.zeros(shape, source.dtype)
            valid = np.zeros(shape, bool)
            if row_span and column_span:
                window = Window(column_span[0], row_span[0], column_span[1], row_span[1])
                size = (rows.stop - rows.start, columns.stop - columns.start)
                values[rows, columns] = source.read(window=window, out_shape=size)
                read = source.read_mask(window=window, out_shape=size)
                valid[rows, columns] = read > 0
    except (ValueError, OverflowError) as error:
        raise AssetUnavailable(f"{ref.href.rsplit('/', 1)[-1]}: {error}") from error
    if values.dtype.kind == "f":
        valid &= np.isfinite(values)
    place = Affine(step, 0, left, 0, step, top)

    def rasterise(geometry: BaseGeometry, touched: bool = False) -> NDArray[np.bool_]:
        pixels = to_pixels(geometry)
        if pixels.is_empty:
            return np.zeros(shape, bool)
        with placeless():
            inside: NDArray[np.bool_] = geometry_mask(
                [pixels], shape, place, invert=True, all_touched=touched
            )
        return inside

    inside = rasterise(aoi.geometry)
    # An AOI smaller than a pixel holds no pixel centre; then every touched one counts.
    inside = inside if inside.any() else rasterise(aoi.geometry, True)
    return values, inside, valid, rasterise, least, (to_map @ place, crs)


def _to_pixels(source: Any) -> Callable[[BaseGeometry], BaseGeometry]:
    if source.crs is None or source.transform.is_identity:
        raise ValueError("the raster has no place on the map")
    return pixels_of(source.transform, source.crs)


def pixels_of(transform: Affine, crs: CRS) -> Callable[[BaseGeometry], BaseGeometry]:
    """What brings lon/lat geometries into the pixel space of a raster.

    Args:
        transform: From (column, row) to the map.
        crs: Of the map.

    Raises:
        ValueError: A transform without an inverse.
    """
    from pyproj import Transformer

    if transform.is_degenerate:
        raise ValueError("the raster has no place on the map: all its pixels lie on one line")
    transformer = Transformer.from_crs(4326, crs.to_wkt(), always_xy=True)
    inverse = ~transform

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


def _among(
    values: NDArray[Any], wanted: tuple[int, ...], rule: QualityMask
) -> NDArray[np.bool_]:  # fmt: skip
    """Where a value is one of some classes, or has one of some bits."""
    if rule.bits:
        flags = sum(1 << bit for bit in set(wanted))
        return np.asarray(np.nan_to_num(values).astype(np.int64) & flags, bool)
    return np.isin(values, np.asarray(wanted, int))


def _declared(ref: AssetRef, field: str) -> list[Mapping[str, Any]]:
    """What a mask asset, or one of its bands, declares in a field; empty where it declares none."""
    bands = ref.asset.get("bands") or ref.asset.get("raster:bands")
    holders = [ref.asset, *(bands if isinstance(bands, list) else ())]
    declared = (h.get(field) for h in holders if isinstance(h, Mapping))
    entries = next(filter(None, declared), None)
    return [e for e in entries if isinstance(e, Mapping)] if isinstance(entries, list) else []


def _declared_classes(ref: AssetRef) -> QualityMask | None:
    """``classification:classes``: what a value means."""
    classes = [c for c in _declared(ref, "classification:classes") if _whole(c.get("value"))]
    return _rule({c["value"]: _name(c) for c in classes}, ref.band, bits=False)


def _declared_bits(ref: AssetRef, known: QualityMask | None) -> QualityMask | None:
    """``classification:bitfields``: what a bit means; longer fields grade what bits say."""
    fields = _declared(ref, "classification:bitfields")
    bits = [f for f in fields if f.get("length") == 1 and f.get("offset") in range(MASK_BITS)]
    rule = _rule({f["offset"]: _name(f) for f in bits}, ref.band, bits=True)
    if rule is None or not rule.cloud:
        return None
    return replace(rule, most=known.most if known else None)


def _rule(names: Mapping[int, str], band: str, *, bits: bool) -> QualityMask | None:
    """What classes or bits of these names mean."""
    if not names:
        return None

    def called(pattern: re.Pattern[str]) -> tuple[int, ...]:
        return tuple(v for v, name in names.items() if pattern.search(name))

    free = called(_FREE)
    cloud = tuple(value for value in called(_CLOUDY) if value not in free)
    snow = tuple(value for value in called(_SNOWY) if value not in free)
    return QualityMask(band=band, cloud=cloud, snow=snow, unobserved=called(_LOST), bits=bits)


_LOST = re.compile(r"no ?data|fill|unobserved|invalid")
_CLOUDY = re.compile(r"cloud|shadow|cirrus")
_SNOWY = re.compile(r"\b(snow|ice)\b")
_FREE = re.compile(r"^(clear|no\b|not\b|non\b)|free")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31


def _name(declared: Mapping[str, Any]) -> str:
    name = declared.get("name") or declared.get("title") or declared.get("description") or ""
    return re.sub(r"[-_\s]+", " ", str(name).lower())


def _least_cloud(ref: AssetRef, source: Raster) -> float | None:
    """The least value that is cloud in a raster of probabilities; None = a mask of 0 and others.

    Taken from what is declared, the data type and the whole raster, never from the part inside
    an AOI: a cloudless corner of a probability is still a probability.
    """
    fields = ("unit", "description")
    said = [ref.key, ref.asset.get("title"), ref.asset.get("description")]
    said += [ref.fields.get(field) for field in fields]
    said += [source.unit, source.description]
    text = " ".join(str(part).lower() for part in said if part)
    whole = whole_raster(source, WHOLE_SIDE)
    seen = whole[source.read_mask(out_shape=whole.shape) > 0]
    seen = seen[np.isfinite(seen)]
    most = float(seen.max()) if seen.size else 0.0
    if whole.dtype.kind == "f" and most <= 1:
        return 0.5
    likely = re.search(r"probab|%|\bper ?cent", text) is not None
    return 50.0 if likely or most > MASK_MAX else None
