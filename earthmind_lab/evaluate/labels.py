"""Labels of a catalog: maps of classes, lists of classes, and what somebody drew.

An item is one of three kinds, which are never mixed, as they are not worth the same:

    label map    a raster with a legend, made by others: agreement with it is no accuracy
    label list   names of classes without pixels (``earthmind:labels``, or CORINE's names)
    hand-drawn   a raster or polygons that somebody drew on this very picture
                 (``earthmind:truth`` is ``hand-drawn``): truth
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from earthmind_lab.errors import AssetUnavailable, CatalogUnavailable, SearchError
from earthmind_lab.evaluate.legends import CLASSES, CODES, class_of, legend_of

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

Kind: TypeAlias = Literal["label map", "label list", "hand-drawn"]
DRAWN = "hand-drawn"
UNKNOWN, NOTHING = -1, -2
"""In place of a class: not known; and known to be none of what the labels tell apart."""
_LISTS = ("earthmind:labels", "earthmind:corine_2018_labels")


@dataclass(frozen=True, kw_only=True, eq=False)
class Labels:
    """The labels of one item."""

    id: str
    kind: Kind
    footprint: BaseGeometry
    """Outline in lon/lat."""
    collection: str = ""
    href: str | None = None
    """Raster or GeoJSON; None for a list."""
    legend: Mapping[int, str | None] = field(default_factory=dict)
    """Code of the raster to class."""
    names: tuple[str, ...] = ()
    """Of a list: the labels as the source writes them. Of drawings: the classes that were drawn."""
    scene: str = ""
    """Of drawings: the picture that they were drawn on; empty = any on this ground."""


def read_labels(
    items: Sequence[tuple[Mapping[str, Any], Path]], collection: str | None = None
) -> list[Labels]:
    """The labels among the items of a catalog.

    Args:
        items: With the file that each came from.
        collection: Take only items of this collection; None = every item that holds labels.

    Raises:
        SearchError: The collection was named and holds no labels that can be read.
    """
    found, refused = [], []
    for item, where in items:
        if collection is not None and item.get("collection") != collection:
            continue
        try:
            labels = labels_of(item, where)
        except (AssetUnavailable, CatalogUnavailable, KeyError, TypeError, ValueError) as error:
            refused.append(f"{item.get('id')}: {error}")
            continue
        if labels is not None:
            found.append(labels)
    if collection is not None and not found:
        held = sorted({str(item.get("collection")) for item, _ in items})
        raise SearchError(
            f"The collection {collection!r} holds no labels.",
            found="; ".join(refused[:1]) or f"collections {', '.join(held)}",
            change="the id of a collection whose rasters declare classification:classes",
        )
    return sorted(found, key=lambda labels: labels.id)


def labels_of(item: Mapping[str, Any], where: Path) -> Labels | None:
    """The labels of an item; None where it holds none.

    Args:
        item: STAC item as plain data.
        where: Its file.

    Raises:
        CatalogUnavailable: It has no outline.
        AssetUnavailable: Its href is of a refused kind.
        ValueError: Its legend can't be read.
    """
    from earthmind_lab.data.items import footprint, resolve_href
    from earthmind_lab.data.recognise import recognise

    if recognise(item):
        return None  # a scene: what it says of itself, such as its cloud mask, is no label
    properties = item.get("properties") or {}
    drawn = properties.get("earthmind:truth") == DRAWN
    common: dict[str, Any] = {"id": str(item.get("id")), "collection": item.get("collection") or ""}
    for asset in (item.get("assets") or {}).values():
        legend = legend_of(asset) or CODES.get(str(properties.get("earthmind:legend")))
        outlines = drawn and "geo+json" in str(asset.get("type"))
        if legend is None and not outlines:
            continue
        return Labels(
            **common, kind="hand-drawn" if drawn else "label map", footprint=footprint(item),
            href=resolve_href(str(asset["href"]), where), legend=legend or {},
            names=tuple(properties.get("earthmind:classes") or ()) if outlines else (),
            scene=str(properties.get("earthmind:drawn_on") or ""),
        )  # fmt: skip
    names = next((properties[key] for key in _LISTS if properties.get(key)), None)
    if not names:
        return None
    return Labels(
        **common, kind="label list", footprint=footprint(item), legend={},
        names=tuple(map(str, names)),
    )  # fmt: skip


def raster_of(labels: Labels, grid: GeoBox) -> NDArray[np.int16]:
    """(H, W) index of the class of each pixel in `CLASSES`, or `UNKNOWN`, or `NOTHING`.

    Args:
        labels: A map or drawings.
        grid: Of the chip; codes are taken from the nearest pixel.

    Raises:
        AssetUnavailable: The file can't be read.
    """
    if labels.href is None:
        raise AssetUnavailable(f"{labels.id} is a list of labels, without pixels.")
    try:
        if not labels.legend:
            return _drawn(labels, grid)
        codes = _codes(labels.href, grid)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AssetUnavailable(
            f"The labels {labels.id!r} can't be read.", found=str(error), change="copy them again"
        ) from error
    found = np.full(codes.shape, UNKNOWN, np.int16)
    for code, name in labels.legend.items():
        if name is not None:
            found[codes == code] = NOTHING if name == "" else CLASSES.index(name)
    return found


def _codes(href: str, grid: GeoBox) -> NDArray[np.int32]:
    import rasterio
    from rasterio.errors import RasterioError
    from rasterio.warp import Resampling, reproject

    target = np.full(tuple(int(side) for side in grid.shape), _OUTSIDE, np.int32)
    try:
        with rasterio.open(href) as source:
            if source.crs is None:
                raise ValueError("the raster has no place on the map")
            reproject(
                source.read(1).astype(np.int32), target, src_transform=source.transform,
                src_crs=source.crs, dst_transform=grid.affine, dst_crs=str(grid.crs),
                dst_nodata=_OUTSIDE, resampling=Resampling.nearest,
            )  # fmt: skip
    except RasterioError as error:
        raise OSError(str(error)) from error
    return target


_OUTSIDE = -32768
"""Beyond the edge of a label raster; no legend has this code."""


def _drawn(labels: Labels, grid: GeoBox) -> NDArray[np.int16]:
    """Polygons as classes; between them is none of the classes that were drawn."""
    from earthmind_lab.grid import inside_mask

    data = json.loads(Path(str(labels.href)).read_text(encoding="utf-8"))
    found = np.full(tuple(int(side) for side in grid.shape), UNKNOWN, np.int16)
    found[inside_mask(grid, labels.footprint)] = NOTHING
    for feature in data["features"]:
        name = class_of(str(feature["properties"]["class"]))
        index = UNKNOWN if name is None else CLASSES.index(name)
        found[inside_mask(grid, shape(feature["geometry"]))] = index
    return found
