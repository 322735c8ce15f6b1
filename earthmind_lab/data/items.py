"""One STAC item of any version as scenes; everything but id, time, outline and files is optional.

Hrefs are resolved against the file that holds them; files and http(s) only.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import numpy as np
import shapely
from shapely.errors import ShapelyError
from shapely.geometry import box, shape
from shapely.geometry.base import BaseGeometry

from earthmind_lab.bands import MASKS
from earthmind_lab.data.recognise import item_field, recognise
from earthmind_lab.errors import AssetUnavailable, CatalogUnavailable, EarthMindError
from earthmind_lab.scene import Scene
from earthmind_lab.sensors import SENSORS

logger = logging.getLogger(__name__)
_ODD = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    ShapelyError,
)
"""What a field of an unexpected type or value can raise anywhere in an item."""
_FARTHEST = 540.0
"""Degrees from 0 that an outline may reach."""


def scenes_of(item: Mapping[str, Any], where: Path | str) -> list[Scene]:
    """The scenes in one STAC item: none for labels, one as a rule.

    Args:
        item: STAC item of any version, as plain data.
        where: The file or the address it came from; relative hrefs start at its folder.

    Raises:
        CatalogUnavailable: It lacks an id, a time, an outline or a usable file.
    """
    scenes = []
    for sensor, keys in recognise(item).items():
        found, start, end = _times(item)
        assets = _hrefs(item, keys, where)
        scenes.append(
            Scene(
                id=_id(item),
                sensor=sensor,
                modality=SENSORS[sensor].modality,
                datetime=found,
                start=start,
                end=end,
                footprint=footprint(item),
                assets=assets,
                cloud_cover=_number(item_field(item, "eo:cloud_cover"), 0, 100),
                orbit=_given(item, _ORBIT),
                processing=_processing(item),
                collection=str(item["collection"]) if item.get("collection") else None,
                items=(item,),
            )
        )
    return scenes


def scenes_or_problem(
    item: Mapping[str, Any], where: Path | str, problems: list[str]
) -> list[Scene]:
    """`scenes_of`, where a broken item never spoils a search: it is logged and noted.

    Args:
        item: As `scenes_of`.
        where: As `scenes_of`.
        problems: Takes a sentence for an item that can't be read.
    """
    try:
        return scenes_of(item, where)
    except (EarthMindError, *_ODD) as error:
        name = str(where).rpartition("/")[2]
        note(problems, f"Item {str(item.get('id'))[:200]!r} in {name} is left out: {error}")
        return []


def note(problems: list[str], sentence: str) -> None:
    """Log a problem and keep it."""
    logger.warning("%s", sentence)
    problems.append(sentence)


def inherit(item: Mapping[str, Any], collection: Mapping[str, Any]) -> Mapping[str, Any]:
    """An item with the licence and the providers of its collection, where it names none.

    STAC lets a collection speak for its items in these two.

    Args:
        item: STAC item as plain data; not changed.
        collection: The nearest collection above it, or empty; one that the item doesn't name
            as its own says nothing about it.
    """
    properties = item.get("properties")
    named = item.get("collection")
    if not isinstance(properties, Mapping) or named not in (None, collection.get("id")):
        return item
    fields = ("license", "providers")
    more = {name: collection[name] for name in fields if collection.get(name)}
    more = {name: value for name, value in more.items() if not properties.get(name)}
    return {**item, "properties": {**properties, **more}} if more else item


def resolve_href(href: str, where: Path | str) -> str:
    """An absolute path, or an http(s) or s3 address.

    Args:
        href: As the file gives it.
        where: The file that gives it, or its address: a catalog on the network can't name files
            of this machine.

    Raises:
        AssetUnavailable: Neither a file nor http(s) or s3; such names could make GDAL open
            anything.

    >>> resolve_href("../b/red.tif", Path("/cat/a/item.json"))
    '/cat/b/red.tif'
    """
    refused = AssetUnavailable(
        f"The href {href[:80]!r} is neither a file nor http(s) or s3.",
        change="download the files and let the item point at them",
    )
    scheme = href.partition(":")[0].lower() if "://" in href or href.startswith("file:/") else ""
    if scheme in ("http", "https", "s3"):
        return _address(href, refused)
    if scheme not in ("", "file") or href.lstrip().startswith("<") or "\0" in href:
        raise refused
    if isinstance(where, str):
        if scheme or re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:", href) or href.startswith("/vsi"):
            raise refused
        return _address(href, refused, where)
    path = local_path(href) if scheme else Path(href)
    # normpath by hand: a symbolic link in the folder's own path must stay as it is.
    parts: list[str] = list(where.absolute().parent.parts) if not path.is_absolute() else []
    for part in path.parts:
        if part == "..":
            parts = parts[:-1] if len(parts) > 1 else parts
        else:
            parts.append(part)
    resolved = str(Path(*parts))
    if resolved.startswith("/vsi"):  # GDAL's virtual file systems, network ones among them
        raise refused
    return resolved


def _address(href: str, refused: AssetUnavailable, where: str = "") -> str:
    """An address that can be taken apart; some can't: ``http://[``."""
    try:
        address = urljoin(where, href) if where else href
        urlsplit(address)
    except ValueError as error:
        raise refused from error
    return address


def shares_area(one: BaseGeometry, other: BaseGeometry) -> bool:
    """Whether two outlines share more than a point or an edge."""
    return bool(one.intersects(other) and one.intersection(other).area > 0)


_ORBIT = {
    "state": ("sat:orbit_state",),
    "relative": ("sat:relative_orbit",),
    "absolute": ("sat:absolute_orbit",),
    "platform": ("platform",),
    "datatake": ("s2:datatake_id", "s1:datatake_id"),
}
_PROCESSING = {
    "level": ("processing:level",),
    "baseline": ("s2:processing_baseline", "processing:version"),
    "product_type": ("product:type", "s2:product_type", "sar:product_type"),
    "measurement_type": ("card4l:measurement_type", "ceosard:measurement_type"),
    "measurement_convention": ("card4l:measurement_convention", "ceosard:measurement_convention"),
}


def local_path(url: str) -> Path:
    """The path in a ``file:`` address; the one place that takes such an address apart.

    Raises:
        AssetUnavailable: It names another machine.
    """
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise AssetUnavailable(f"The href {url[:80]!r} is a file on another machine.")
    return Path(unquote(parts.path))


def _hrefs(item: Mapping[str, Any], keys: Mapping[str, str], where: Path | str) -> dict[str, str]:
    """Band names to absolute hrefs; hrefs of a refused kind are left out."""
    found: dict[str, str] = {}
    refused: list[str] = []
    for band, key in keys.items():
        try:
            found[band] = resolve_href(item["assets"][key]["href"], where)
        except AssetUnavailable as error:
            refused.append(str(error))
    if not set(found) - set(MASKS):
        raise CatalogUnavailable("None of its files can be opened.", found=refused[0])
    return found


def _id(item: Mapping[str, Any]) -> str:
    if not isinstance(item.get("id"), str) or not item["id"]:
        raise CatalogUnavailable("It has no id.")
    return str(item["id"])


def footprint(item: Mapping[str, Any]) -> BaseGeometry:
    """The outline as polygons in lon/lat; the bbox stands in where the geometry is missing.

    Raises:
        CatalogUnavailable: It has neither, or it holds no area.
    """
    outline, bbox = item.get("geometry"), item.get("bbox")
    with np.errstate(all="ignore"):  # what is no number is refused below
        if isinstance(outline, Mapping):
            geometry = shape(outline)
        elif isinstance(bbox, list) and len(bbox) in (4, 6):
            half = len(bbox) // 2
            east = bbox[half] + (360 if bbox[half] < bbox[0] else 0)  # RFC 7946: over 180 degrees
            geometry = box(bbox[0], bbox[1], east, bbox[half + 1])
        else:
            raise CatalogUnavailable("It has no geometry.")
        geometry = shapely.force_2d(geometry)
    # Not a number fails too; across the antimeridian some catalogs count on beyond 180.
    if not (np.abs(shapely.get_coordinates(geometry)) <= _FARTHEST).all():
        raise CatalogUnavailable("Its geometry lies nowhere on the Earth.")
    geometry = _cut_at_180(geometry)
    if not geometry.is_valid:
        geometry = shapely.make_valid(geometry)
    parts = [part for part in shapely.get_parts(geometry) if part.area > 0]
    if not parts:
        raise CatalogUnavailable("Its geometry has no area.")
    return parts[0] if len(parts) == 1 else shapely.union_all(parts)


def _cut_at_180(geometry: BaseGeometry) -> BaseGeometry:
    """An outline whose longitudes jump at the antimeridian, as a part on either side of it.

    Drawn as it stands, a scene at 179 and -179 degrees would reach around the whole globe.
    """
    west, _, east, _ = geometry.bounds
    if (east <= 180 and east - west <= 180) or east - west >= 360:
        return geometry  # around the globe, it has no side to be cut at
    turned = shapely.transform(geometry, lambda p: np.column_stack([p[:, 0] % 360, p[:, 1]]))
    if turned.bounds[2] - turned.bounds[0] > 180:
        return geometry  # wide in earnest
    turned = shapely.make_valid(turned)
    beyond = shapely.transform(
        turned.intersection(box(180, -90, 360, 90)), lambda p: p - np.array([360.0, 0.0])
    )
    return shapely.union_all([turned.intersection(box(0, -90, 180, 90)), beyond])


def _times(item: Mapping[str, Any]) -> tuple[datetime | None, datetime, datetime]:
    """(instant or None, earliest, latest) in UTC; a bare date is a day, not midnight."""
    properties = item.get("properties")
    properties = properties if isinstance(properties, Mapping) else {}
    when = properties.get("datetime")
    if when is not None:
        start, end = _time(when)
        return (start if start == end else None), start, end
    first, last = properties.get("start_datetime"), properties.get("end_datetime")
    if first is None or last is None:
        raise CatalogUnavailable("It has neither datetime nor start_datetime and end_datetime.")
    start, end = _time(first)[0], _time(last)[1]
    if end < start:
        raise CatalogUnavailable("It ends before it starts.", found=f"{first}/{last}")
    return (start if start == end else None), start, end


def _time(text: object) -> tuple[datetime, datetime]:
    try:
        when = datetime.fromisoformat(str(text).strip())
        when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise CatalogUnavailable("Its time can't be read.", found=repr(text)) from error
    whole_day = len(str(text).strip()) <= 10
    return when, when + timedelta(days=1, microseconds=-1) if whole_day else when


def _number(value: object, least: float, greatest: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if least <= value <= greatest else None


def _given(item: Mapping[str, Any], fields: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    values = {name: item_field(item, *names) for name, names in fields.items()}
    return {name: value for name, value in values.items() if value is not None}


def _processing(item: Mapping[str, Any]) -> dict[str, Any]:
    found = _given(item, _PROCESSING)
    shift = _number(item_field(item, "earthmind:geolocation_error_px"), 0, 1e6)
    sun = _number(item_field(item, "view:sun_elevation"), -90, 90)
    zenith = _number(item_field(item, "s2:mean_solar_zenith"), 0, 180)
    if sun is None and zenith is not None:
        sun = 90 - zenith
    rest = {"geolocation_error_px": shift, "sun_elevation": sun}
    return found | {name: value for name, value in rest.items() if value is not None}
