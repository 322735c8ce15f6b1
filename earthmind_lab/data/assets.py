"""From a band of a scene to the asset that holds it, with what the asset declares."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from earthmind_lab.data.items import resolve_href
from earthmind_lab.data.recognise import band_place, bands_of
from earthmind_lab.errors import LoadError
from earthmind_lab.scene import Scene


@dataclass(frozen=True, kw_only=True)
class AssetRef:
    """One asset of one item, found for a band of a scene."""

    item: Mapping[str, Any]
    """The STAC item as plain data; empty when the scene carries none."""
    key: str
    """Key of the asset in the item."""
    asset: Mapping[str, Any]
    """The asset as plain data; empty when the item doesn't hold it."""
    href: str
    """Unsigned href."""
    index: int = 1
    """Of the band in the file, from 1."""
    listed: int | None = 1
    """Bands that the asset lists, and so the file must have; None = as many as it has."""
    band: str
    """Band or polarisation that is wanted from it."""
    fields: Mapping[str, Any]
    """Declared ``scale``, ``offset``, ``nodata``, ``unit``, ``data_type`` and ``description`` of
    that band; a description of the whole asset is not one of the band."""

    @property
    def name(self) -> str:
        """For messages: asset and item."""
        return f"the asset {self.key!r} of item {self.item.get('id', '?')!r}"

    @property
    def properties(self) -> Mapping[str, Any]:
        """Properties of the item."""
        properties = self.item.get("properties")
        return properties if isinstance(properties, Mapping) else {}


def assets_of(scene: Scene, band: str) -> tuple[AssetRef, ...]:
    """The assets that hold a band of a scene, one per item that has it, best first.

    Args:
        scene: One acquisition, of one or more items.
        band: Key of `Scene.assets`.

    Raises:
        LoadError: The scene has no such band.
    """
    if band not in scene.assets:
        raise LoadError(
            f"The scene {scene.id!r} has no band {band!r}.", found=", ".join(sorted(scene.assets))
        )
    href = str(scene.assets[band])
    first: list[AssetRef] = []
    more: list[AssetRef] = []
    for item in scene.items:
        key = bands_of(item).get(band)
        asset = item["assets"][key] if key else {}
        stated = str(asset.get("href", ""))
        if key and (len(scene.items) == 1 or (not first and _same_href(stated, href))):
            first.append(_ref(item, key, asset, href, band))
        elif key and _absolute(stated):
            more.append(_ref(item, key, asset, stated, band))
    if not first:
        item = scene.items[0] if len(scene.items) == 1 else {}
        return (_ref(item, band, {}, href, band),)
    return (*first, *more)


def beside(ref: AssetRef, key: str, href: str) -> AssetRef:
    """Another asset of the same item, its href resolved like that of the first.

    Raises:
        AssetUnavailable: An href of a kind that is never opened.
    """
    asset = ref.item["assets"][key]
    where = _item_place(ref)
    resolved = resolve_href(href, where if "://" in where else Path(where))
    return replace(ref, key=key, asset=asset, href=resolved, index=1, listed=1, fields={})


def _item_place(ref: AssetRef) -> str:
    """An address in the folder of an item: told from where the relative href of its asset led."""
    stated = str(ref.asset.get("href", ""))
    if not stated or _absolute(stated):
        return ref.href
    steps = [part for part in stated.partition("?")[0].split("/") if part not in ("", ".")]
    ups = steps.count("..")
    tail, path = "/".join(steps[ups:]), ref.href.partition("?")[0]
    return path.removesuffix(tail) + "_/" * ups + "item.json" if path.endswith(tail) else ref.href


def _entries(asset: Mapping[str, Any], field: str) -> list[Mapping[str, Any]]:
    entries = asset.get(field)
    if not isinstance(entries, list):
        return []
    return [entry if isinstance(entry, Mapping) else {} for entry in entries]


def _ref(
    item: Mapping[str, Any], key: str, asset: Mapping[str, Any], href: str, band: str
) -> AssetRef:
    index, listed = band_place(item, asset, band)
    return AssetRef(
        item=item,
        key=key,
        asset=asset,
        href=href,
        index=index,
        listed=listed,
        band=band,
        fields=_band_fields(asset, index),
    )


def _band_fields(asset: Mapping[str, Any], index: int) -> dict[str, Any]:
    """Declared numbers of a band: STAC 1.1 lifts what all bands share up to the asset."""
    lists = [_entries(asset, field) for field in ("bands", "raster:bands")]
    holders = [entries[index - 1] for entries in lists if len(entries) >= index]
    fields: dict[str, Any] = {}
    for name in ("scale", "offset", "nodata", "unit", "data_type"):
        for holder in (*holders, asset):
            value = holder.get(f"raster:{name}", holder.get(name))
            if value is not None:
                fields.setdefault(name, value)
    described = [holder["description"] for holder in holders if holder.get("description")]
    return fields | ({"description": described[0]} if described else {})


def _same_href(stated: str, href: str) -> bool:
    """Whether a stated href, possibly relative to its item, is this one."""
    if not stated:
        return False
    if stated == href:
        return True
    return not _absolute(stated) and href.endswith("/" + re.sub(r"^(\.{1,2}/)+", "", stated))


def _absolute(href: str) -> bool:
    return href.startswith("/") or re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:", href) is not None
