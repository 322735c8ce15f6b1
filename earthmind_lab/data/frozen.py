"""Searches frozen to one file, and replayed from it without a network.

    freeze_search("search.json", search_pairs(aoi, dates, catalog="earth-search"), aoi)
    search_pairs(aoi, dates, catalog="search.json")

The file is a STAC ItemCollection: the items of what was found with absolute, unsigned hrefs, how
it was found in ``earthmind:search``, and in each item what its cloud mask showed of that AOI in
``earthmind:masks``. So the replay ranks as the search did; another AOI asks the masks themselves.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Container, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

from earthmind_lab.aoi import AOI, AOILike
from earthmind_lab.data.budget import Budget
from earthmind_lab.data.clouds import read_mask
from earthmind_lab.data.files import REMOTE, Reader
from earthmind_lab.data.frozen_masks import MASKS, about, packed
from earthmind_lab.data.items import resolve_href, scenes_of
from earthmind_lab.data.links import unsigned
from earthmind_lab.data.recognise import bands_of
from earthmind_lab.data.static import SEARCH
from earthmind_lab.errors import AccessDenied, AssetUnavailable, LoadError, SearchError
from earthmind_lab.scene import Scene, ScenePair

LANES = 16
"""Cloud masks fetched at a time."""
LOST = "The cloud mask can't be read"
"""How a pair says so."""
_SceneKey: TypeAlias = tuple[str | None, str, str]
"""Collection, id and sensor."""


def freeze_search(
    path: str | Path,
    found: Iterable[ScenePair | Scene],
    aoi: AOILike,
    *,
    terms: Mapping[str, Any] | None = None,
    deadline: float = 120.0,
) -> Path:
    """Write what a search found, so that the file is a catalog that gives it again.

    Args:
        path: File to write; replaced where it exists.
        found: Pairs of `search_pairs`, or scenes of `search_scenes`.
        aoi: Where was searched; clouds are frozen for this area.
        terms: How was searched (dates, sensors, max_gap, …), to be written down.
        deadline: Seconds for reading the cloud masks.

    Returns:
        The path.

    Raises:
        AOIError: The area can't be used.
        LoadError: A cloud mask that the search read can't be read now.
        SearchError: Nothing was found, or there is no such folder.
        OSError: The file can't be written.
    """
    area, each = AOI.from_any(aoi), list(found)
    pairs = [one for one in each if isinstance(one, ScenePair)]
    scenes = [s for one in each for s in (one.scenes if isinstance(one, ScenePair) else (one,))]
    scenes += [single for scene in scenes for single in _singles(scene)]
    if not scenes:
        raise SearchError("There is nothing to freeze.", change="a search that finds something")
    target = Path(path).expanduser()
    if not target.parent.is_dir():
        raise SearchError(
            f"There is no folder to write {target.name!r} into.", change="an existing folder"
        )
    masks = _masks(scenes, _looked(pairs), area, Reader(budget=Budget(deadline)))
    data = {
        "type": "FeatureCollection",
        SEARCH: {
            "aoi": area.to_dict(),
            "catalog": list(dict.fromkeys(pair.catalog for pair in pairs)),
            "terms": dict(terms or {}),
            "pairs": [pair.to_dict() for pair in pairs],
            "cuts": _cuts(pairs),
        },
        "features": _items(scenes, masks),
    }
    half = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        half.write_text(json.dumps(_plain(data), allow_nan=False), encoding="ascii")
        half.replace(target)
    finally:
        half.unlink(missing_ok=True)
    return target


def _masks(
    scenes: Iterable[Scene], looked: Container[str], aoi: AOI, reader: Reader
) -> dict[_SceneKey, dict[str, Any]]:
    """By scene: what its mask shows of the AOI, or why the search couldn't read it.

    What was `looked` at (ids) must be readable now too, or the replay would rank otherwise.
    """

    def row(scene: Scene) -> dict[str, Any] | None:
        try:
            mask = read_mask(scene, aoi, reader)
        except (LoadError, AccessDenied) as error:
            if scene.id in looked:
                raise
            return {**about(scene, aoi), "lost": str(error)}
        return None if mask is None else packed(scene, aoi, mask)

    optical = {_scene_key(scene): scene for scene in scenes if scene.modality == "optical"}
    lanes = ThreadPoolExecutor(LANES)
    try:
        rows = list(lanes.map(row, optical.values()))
    except BaseException:
        reader.budget.cancel()
        raise
    finally:
        lanes.shutdown(cancel_futures=True)
    return {key: each for key, each in zip(optical, rows, strict=True) if each}


def _singles(scene: Scene) -> list[Scene]:
    """The scenes that the items of a scene are by themselves: a replay looks at them too."""
    items = scene.items if len(scene.items) > 1 else ()
    return [each for item in items for each in scenes_of(_item(item, scene), Path("/item.json"))]


def _looked(pairs: Iterable[ScenePair]) -> set[str]:
    """Ids of the optical scenes whose masks the search didn't fail to read."""
    return {
        pair.optical.id
        for pair in pairs
        if pair.optical is not None and not any(LOST in reason for reason in pair.reasons)
    }


def _scene_key(scene: Scene) -> _SceneKey:
    return scene.collection, scene.id, scene.sensor


def _items(scenes: Iterable[Scene], masks: Mapping[_SceneKey, Any]) -> list[dict[str, Any]]:
    """Every item once, in the order of its first scene; a mask goes with a scene's first item."""
    items: dict[tuple[str, str], dict[str, Any]] = {}
    for scene in scenes:
        keys = [(str(item.get("collection")), str(item.get("id"))) for item in scene.items]
        for key, item in zip(keys, scene.items, strict=True):
            items.setdefault(key, _item(item, scene))
        row = masks.get(_scene_key(scene))
        if keys and row is not None:
            rows = items[keys[0]]["properties"].setdefault(MASKS, [])
            rows += [] if row in rows else [row]
    return list(items.values())


def _item(item: Mapping[str, Any], scene: Scene) -> dict[str, Any]:
    """An item that stands alone: absolute hrefs, no way back, no masks of an earlier freeze."""
    links = item.get("links")
    kept = [
        link
        for link in (links if isinstance(links, list) else ())
        if isinstance(link, Mapping)
        and link.get("rel") not in ("root", "parent")
        and str(link.get("href")).startswith(("http://", "https://"))
    ]
    properties = {name: value for name, value in item["properties"].items() if name != MASKS}
    base = {"stac_version": "1.0.0", "stac_extensions": []}
    whole = {**base, **item, "type": "Feature", "links": kept}
    return {**whole, "properties": properties, "assets": _assets(item, scene)}


def _assets(item: Mapping[str, Any], scene: Scene) -> dict[str, Any]:
    """Its assets with hrefs that open from anywhere, without those of which that can't be told."""
    bands = {key: band for band, key in bands_of(item).items()}
    where = _where(item, scene)
    assets = {}
    for key, asset in item["assets"].items():
        stated = asset.get("href") if isinstance(asset, Mapping) else None
        known = scene.assets.get(bands.get(key, ""), "")
        # Of a scene of several items, a band's href is that of one of them.
        if isinstance(stated, str) and len(scene.items) > 1 and not _ends(known, stated):
            known = ""
        href = _absolute(stated, known, where)
        if href is not None:
            assets[key] = {**asset, "href": href}
    return assets


def _absolute(stated: Any, known: str, where: Path | str | None) -> str | None:
    """The href of an asset as it opens from anywhere; None where that can't be told."""
    if not isinstance(stated, str):
        return None
    if known and not stated.startswith(REMOTE):
        return known
    try:
        return resolve_href(stated, where or "") if where or stated.startswith(REMOTE) else None
    except AssetUnavailable:
        return None


def _where(item: Mapping[str, Any], scene: Scene) -> Path | str | None:
    """A file beside the item's own, told from an href whose end and whole are both known."""
    for asset in item["assets"].values():
        stated = str(asset.get("href") or "") if isinstance(asset, Mapping) else ""
        if not stated or stated.startswith(("/", "..", *REMOTE)):
            continue
        for href in scene.assets.values():
            if _ends(href, stated):
                base = f"{href.removesuffix(stated.removeprefix('./'))}item.json"
                return base if "://" in base else Path(base)
    # On this machine a full path says all; relative hrefs beside it would have matched.
    return Path("/item.json") if any(h.startswith("/") for h in scene.assets.values()) else None


def _ends(href: str, stated: str) -> bool:
    """Whether an absolute href ends as a relative one says, or is the same."""
    return href == stated or href.endswith("/" + re.sub(r"^(\.{1,2}/)+", "", stated))


def _cuts(pairs: Iterable[ScenePair]) -> list[str]:
    """Which answers came in part, as the search said in the reasons of its pairs."""
    return list(
        dict.fromkeys(
            reason
            for pair in pairs
            for reason in pair.reasons
            if reason.startswith(tuple(f"{name}: " for name in pair.catalog.split(", ") if name))
        )
    )


def _plain(value: Any) -> Any:
    """A value as standard JSON, and without keys in its addresses."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, str):
        return unsigned(value) if "://" in value[:10] else value
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # as STAC writes it
    if isinstance(value, timedelta):
        return f"{value / timedelta(hours=1):g} hours"
    return value if value is None or isinstance(value, bool | int | float) else str(value)
