"""Does a raster lie where its item says? Header and item are two witnesses of one place.

A catalog item is written once and its raster may be replaced, reprojected or mixed up later;
a stale or invented transform puts SAR in the wrong place without a word. Where the two
contradict each other, nobody can tell which is right, so the load is refused with both.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from shapely.geometry import Polygon

from earthmind_lab.data.assets import AssetRef
from earthmind_lab.data.items import footprint
from earthmind_lab.data.raster import Raster
from earthmind_lab.data.recognise import band_named, bands_of
from earthmind_lab.errors import GridMismatch, RadiometryUnknown

if TYPE_CHECKING:
    from affine import Affine
    from shapely.geometry.base import BaseGeometry

OFF_PX = 0.1
"""A declared transform may differ from the header's by so much of a pixel: rounding, not place."""
APART = 1.5
"""A declared pixel size and the header's differ at most by this factor."""
SHARED = 0.9
"""So much of the smaller one of an item's outline and its raster lies inside the other. Outlines
are simplified, or drawn around a whole pass, but not a tenth beside the ground."""
EDGE_POINTS = 21
"""Points per side of a raster's outline in lon/lat."""


def check_agreement(source: Raster, ref: AssetRef) -> None:
    """Compare a raster's header with what its item declares about it.

    Args:
        source: An open raster with a CRS.
        ref: The asset, for its fields and its item's outline.

    Raises:
        GridMismatch: Shape, CRS, transform, pixel size or place contradict the item.
        RadiometryUnknown: Data type or band name contradict the item.
    """
    if source.transform.is_degenerate:
        raise GridMismatch(
            f"The raster of {ref.name} has no place on the map.",
            found=f"all its pixels lie on one line in {ref.href.partition('?')[0]}",
            change="another scene",
        )
    for field, stated, found in _contradictions(source, ref):
        raise GridMismatch(
            f"The {field} of {ref.name} is not what its item says.",
            found=f"{stated} in the item, {found} in {ref.href.partition('?')[0]}",
            change="another scene, or the catalog once more: item or file is out of date",
        )
    _check_numbers(source, ref)


def _contradictions(source: Raster, ref: AssetRef) -> Iterator[tuple[str, str, str]]:
    """(what, as declared, as found) for every contradiction of place."""
    stated = _shape(ref)
    if stated is not None and stated != (source.height, source.width):
        yield "shape", _size(stated), _size((source.height, source.width))
    code = _code(ref)
    if code is not None and not _same_crs(code, source):
        yield "CRS", code, _crs_name(source)
    affine = _transform(ref)
    if affine is not None and _apart(affine, source) > OFF_PX:
        yield "transform", str(list(affine)[:6]), str(list(source.transform)[:6])
    gsd = _gsd(ref)
    if gsd is not None:
        least, most = sorted(_metres(source))
        if not least / APART < gsd < most * APART:
            yield "pixel size", f"{gsd:g} m", f"{least:.4g} x {most:.4g} m"
    if ref.item.get("geometry") or ref.item.get("bbox"):
        outline = footprint(ref.item)
        share = _share(outline, source)
        if share < SHARED:
            yield "place", _box(outline.bounds), f"{100 * share:.0f} % of it"


def _check_numbers(source: Raster, ref: AssetRef) -> None:
    kind = ref.fields.get("data_type")
    if isinstance(kind, str) and not _alike(kind, source.dtype):
        raise RadiometryUnknown(
            f"The raster of {ref.name} holds other numbers than its item declares.",
            found=f"{kind} in the item, {source.dtype} in the file",
            change="another scene, or the catalog once more: item or file is out of date",
        )
    scale, own = ref.fields.get("scale"), source.scaling
    both = isinstance(scale, int | float) and own != (1.0, 0.0)
    if both and not math.isclose(float(scale or 0), own[0], rel_tol=1e-6):
        raise RadiometryUnknown(
            f"The raster of {ref.name} has another scale than its item declares.",
            found=f"{scale:g} in the item, {own[0]:g} in the file",
            change="another scene, or an item with the scale of the file",
        )
    named = band_named(source.description, ref.item) if source.description else None
    if named is not None and named != ref.band and not _one_nir({named, ref.band}, ref):
        raise RadiometryUnknown(
            f"The raster of {ref.name} holds another band than its item declares.",
            found=f"{ref.band} in the item, {source.description!r} ({named}) in the file",
            change="another scene, or an item that lists the file's bands",
        )


def _alike(name: str, found: np.dtype[Any]) -> bool:
    """Whether a data type may be the declared one: the header's decides how numbers are read.

    Catalogs mix up signed and unsigned ones, and single and double precision; what they don't
    take for each other are counts and measures, or 8 and 16 bits. "other" may be anything.
    """
    try:
        stated = np.dtype(name)
    except TypeError:
        return True
    floats = {stated.kind, found.kind} == {"f"}
    whole = stated.kind in "iu" and found.kind in "iu" and stated.itemsize == found.itemsize
    return floats or whole or stated == found


def _one_nir(bands: set[str], ref: AssetRef) -> bool:
    """Whether both are the near infrared of a sensor with only one: "NIR" says no more."""
    return bands == {"nir", "nir08"} and not bands <= set(bands_of(ref.item))


def _shape(ref: AssetRef) -> tuple[int, int] | None:
    """Of the asset only, as the transform: an item's own are those of its finest raster."""
    stated = ref.asset.get("proj:shape")
    if not isinstance(stated, Sequence) or len(stated) != 2:
        return None
    rows, columns = stated
    whole = all(isinstance(side, int) and not isinstance(side, bool) for side in stated)
    return (rows, columns) if whole else None


def _transform(ref: AssetRef) -> Affine | None:
    from affine import Affine

    stated = ref.asset.get("proj:transform")
    if not isinstance(stated, Sequence) or isinstance(stated, str) or len(stated) not in (6, 9):
        return None
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in stated):
        return None
    return Affine(*stated[:6])


def _code(ref: AssetRef) -> str | None:
    holders = (ref.asset, ref.properties)
    stated: Any = next(
        (h[name] for h in holders for name in ("proj:code", "proj:epsg") if h.get(name)), None
    )
    if isinstance(stated, int) and not isinstance(stated, bool):
        return f"EPSG:{stated}"
    return stated if re.fullmatch(r"[A-Za-z]+:\d+", str(stated)) else None


def _gsd(ref: AssetRef) -> float | None:
    """Declared pixel size in metres; SAR products give their resolution under the same name."""
    bands = ref.asset.get("raster:bands")
    band = bands[ref.index - 1] if isinstance(bands, list) and len(bands) >= ref.index else {}
    stated = band.get("spatial_resolution") if isinstance(band, Mapping) else None
    stated = ref.asset.get("raster:spatial_resolution", stated)
    fine = isinstance(stated, int | float) and not isinstance(stated, bool) and stated > 0
    return float(stated) if fine else None


def _same_crs(code: str, source: Raster) -> bool:
    """Whether a declared CRS is the header's, or puts the raster's corners where that does.

    Headers spell a CRS in their own words: those of HLS say "UTM Zone 13, Northern Hemisphere",
    of an unknown datum on the ellipsoid of WGS 84.
    """
    from pyproj import CRS, Transformer
    from pyproj.exceptions import CRSError

    own = _crs(source)
    try:
        stated = CRS.from_user_input(code)
        if stated.equals(own, ignore_axis_order=True):
            return True
        corners = [source.transform @ corner for corner in _corners(source)]
        moved = Transformer.from_crs(own, stated, always_xy=True).itransform(corners)
        inverse = ~source.transform
        return all(
            math.dist(inverse @ there, inverse @ here) <= OFF_PX
            for here, there in zip(corners, moved, strict=True)
        )
    except CRSError:
        return False


def _crs(source: Raster) -> Any:
    assert source.crs is not None
    return _parsed(source.crs.to_wkt())


@lru_cache(maxsize=32)
def _parsed(wkt: str) -> Any:
    """Parsing takes longer than all that is asked of it, and the bands of a scene share one."""
    from pyproj import CRS

    return CRS.from_wkt(wkt)


def _crs_name(source: Raster) -> str:
    code = _crs(source).to_epsg()
    return f"EPSG:{code}" if code else str(_crs(source).name)


def _apart(affine: Affine, source: Raster) -> float:
    """Greatest distance of a corner under the two transforms, in the header's pixels."""
    inverse = ~source.transform
    return max(math.dist(inverse @ (affine @ corner), corner) for corner in _corners(source))


def _corners(source: Raster) -> list[tuple[int, int]]:
    return [(x, y) for x in (0, source.width) for y in (0, source.height)]


def _metres(source: Raster) -> tuple[float, float]:
    """Sides of a pixel; in degrees, they are unlike far from the equator."""
    from earthmind_lab.grid import metres_at

    a = source.transform
    x, y = a @ (source.width / 2, source.height / 2)
    across, down = math.hypot(a.a, a.d), math.hypot(a.b, a.e)
    return metres_at(_crs(source).to_wkt(), x, y, across, down)


def _share(outline: BaseGeometry, source: Raster) -> float:
    """Share of an outline in lon/lat that lies inside a raster, or of the raster inside it.

    None of it where the raster's edge lies nowhere on the Earth.
    """
    from shapely import make_valid
    from shapely.affinity import translate

    west = outline.bounds[0]
    held = make_valid(_footprint(source, around=west))
    if not held.area:
        return 0.0
    inside = outline.intersection(held).area
    # An outline that was cut at the antimeridian has a part on the other side.
    inside += sum(outline.intersection(translate(held, turn)).area for turn in (-360, 360))
    return float(inside / min(outline.area, held.area))


def _footprint(source: Raster, *, around: float) -> Polygon:
    """A raster's edge in lon/lat, unbroken; longitudes go on beyond 180 degrees."""
    from pyproj import Transformer

    steps = np.linspace(0, 1, EDGE_POINTS)
    across, down = steps * source.width, steps * source.height
    columns = np.r_[across, np.full_like(down, source.width), across[::-1], np.zeros_like(down)]
    rows = np.r_[np.zeros_like(across), down, np.full_like(across, source.height), down[::-1]]
    a = source.transform
    x, y = a.a * columns + a.b * rows + a.c, a.d * columns + a.e * rows + a.f
    lon, lat = Transformer.from_crs(_crs(source), 4326, always_xy=True).transform(x, y)
    if not np.isfinite([lon, lat]).all():
        return Polygon()
    # Within half a turn of the outline's western edge.
    first = lon[0] + 360 * round((around - lon[0]) / 360)
    lon = first + np.unwrap(np.radians(lon - lon[0])) * 180 / np.pi
    if abs(lon[-1] - lon[0]) > 180:  # around a pole, which is an edge of lon/lat
        lon = np.r_[lon, lon[-1], lon[0]]
        lat = np.r_[lat, [math.copysign(90, lat.mean())] * 2]
    return Polygon(np.column_stack([lon, lat]))


def _size(sides: tuple[int, int]) -> str:
    return f"{sides[0]} x {sides[1]}"


def _box(bounds: Sequence[float]) -> str:
    return ",".join(f"{edge:.4f}" for edge in bounds)
