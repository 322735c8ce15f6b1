"""Catalogs of files, read once, item by item.

    catalog.json ── child/item links ──> items ── sensors.recognise ──> Scene

STAC 1.0 and 1.1 are read as plain JSON: hrefs are resolved against the file that holds them,
files and http(s) only. One broken item never spoils a search; it is logged and counted in
`StaticCatalog.problems`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

from earthmind_lab.aoi import AOI
from earthmind_lab.data.items import inherit, note, resolve_href, scenes_or_problem, shares_area
from earthmind_lab.data.known import READABLE
from earthmind_lab.errors import AssetUnavailable, CatalogUnavailable, EarthMindError
from earthmind_lab.scene import Scene

logger = logging.getLogger(__name__)
MAX_FILES = 100_000
"""A static catalog with more files than this is walked by a loop of links, or needs an API."""
SEARCH = "earthmind:search"
"""The member of an item collection that tells how it was found."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StaticCatalog:
    """A catalog of files, read completely."""

    name: str
    """``sample`` or the absolute path it was read from."""
    scenes: tuple[Scene, ...]
    """Every scene, in order of id."""
    problems: tuple[str, ...] = ()
    """What could not be read, one sentence each."""
    cuts: tuple[str, ...] = ()
    """A frozen search: what of its answer came in part, one sentence each."""
    listed: Literal[True] = True
    """Every scene is known."""

    def search(
        self,
        aoi: AOI | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        modality: str | None = None,
    ) -> list[Scene]:
        """Scenes that meet the AOI and the times.

        Args:
            aoi: Area that the footprint must share with, by more than an edge; None = anywhere.
            start: Earliest time, UTC, inclusive; None = open.
            end: Latest time, UTC, inclusive; None = open. An unknown time must meet the range.
            modality: ``optical``, ``sar``, or the key of one sensor; None = both.
        """
        return [
            scene
            for scene in self.scenes
            if modality in (None, scene.modality, scene.sensor)
            and (start is None or scene.end >= start)
            and (end is None or scene.start <= end)
            and (aoi is None or shares_area(scene.footprint, aoi.geometry))
        ]

    def near(self, aoi: AOI, _start: datetime, _end: datetime, modality: str, /) -> list[Scene]:
        """Every scene of an AOI: a catalog of files is read already."""
        return self.search(aoi, modality=modality)

    def find(self, scene_id: str) -> list[Scene]:
        """Scenes of this id, in any collection."""
        return [scene for scene in self.scenes if scene.id == scene_id]


def read_static(path: Path, *, name: str | None = None) -> StaticCatalog:
    """Read a static catalog, collection, item or item collection with everything under it.

    Args:
        path: Its file.
        name: What records call it; the absolute path by default.

    Raises:
        CatalogUnavailable: The file isn't STAC, or nothing under it can be read.
    """
    path = path.absolute()
    try:
        root = _read_json(path)
    except (OSError, ValueError, RecursionError) as error:
        raise CatalogUnavailable(
            f"The catalog {str(path)!r} can't be read.", found=str(error), change=READABLE
        ) from error
    _check_root(root, path)
    scenes: list[Scene] = []
    problems: list[str] = []
    items = 0
    for item, where, collection in _walk(root, path, problems):
        items += 1
        scenes += scenes_or_problem(inherit(item, collection), where, problems)
    if not scenes and problems:
        raise CatalogUnavailable(
            f"Nothing in the catalog {str(path)!r} can be read.",
            found=f"{len(problems)} problems, first: {problems[0]}",
            change="check that the catalog was copied with all its files",
        )
    scenes.sort(key=lambda scene: (scene.id, scene.sensor, scene.collection or ""))
    logger.debug("%s: %d items, %d scenes, %d problems", path, items, len(scenes), len(problems))
    return StaticCatalog(
        name=name or str(path), scenes=tuple(scenes), problems=tuple(problems), cuts=_cuts(root)
    )


_Node: TypeAlias = tuple[Mapping[str, Any], Path, Mapping[str, Any]]
"""A catalog, collection or item, its file, and the nearest collection above it, else empty."""


def _walk(root: Mapping[str, Any], path: Path, problems: list[str]) -> Iterator[_Node]:
    """Every item under a catalog; a file is read once, whoever links to it."""
    seen = {path.resolve()}
    waiting: list[_Node] = [(root, path, {})]
    while waiting:
        node, where, nearest = waiting.pop()
        if node.get("type") == "Feature" or ("type" not in node and "assets" in node):
            yield node, where, nearest
            continue
        if node.get("type") == "FeatureCollection":
            features = node.get("features")
            listed = features if isinstance(features, list) else []
            waiting += [(each, where, nearest) for each in listed if isinstance(each, Mapping)]
            continue
        if node.get("type") == "Collection":
            nearest = node
        if not isinstance(node.get("links"), list):
            note(problems, f"{where.name} is neither a STAC catalog nor an item.")
        for href in _links(node):
            if len(seen) > MAX_FILES:
                note(problems, f"The catalog has more than {MAX_FILES} files; the rest is left.")
                return
            try:
                resolved = resolve_href(href, where)
                if "://" in resolved:
                    raise AssetUnavailable("Links to the network are not followed.")
                target = Path(resolved)
                if target.resolve() not in seen:
                    seen.add(target.resolve())
                    waiting.append((_read_json(target), target, nearest))
            except (OSError, ValueError, RecursionError, EarthMindError) as error:
                note(problems, f"The link {href[:200]!r} in {where.name} is broken: {error}")


def _cuts(root: Mapping[str, Any]) -> tuple[str, ...]:
    """What a frozen search says of answers that came in part."""
    search = root.get(SEARCH)
    said = search.get("cuts") if isinstance(search, Mapping) else None
    return tuple(map(str, said)) if isinstance(said, list) else ()


def _links(node: Mapping[str, Any]) -> Iterator[str]:
    links = node.get("links")
    for link in links if isinstance(links, list) else ():
        held = isinstance(link, Mapping) and link.get("rel") in ("child", "item", "items")
        if held and isinstance(link.get("href"), str):
            yield link["href"]


def _read_json(path: Path) -> dict[str, Any]:
    data = json.loads(path.read_text(encoding="utf-8-sig"))
    if not isinstance(data, dict):
        raise ValueError(f"{path.name} holds no JSON object")
    return data


def _check_root(root: Mapping[str, Any], path: Path) -> None:
    kind = root.get("type")
    linked = "stac_version" in root and isinstance(root.get("links"), list)
    listed = kind == "FeatureCollection" and isinstance(root.get("features"), list)
    if not (listed or (kind in ("Catalog", "Collection", "Feature", None) and linked)):
        raise CatalogUnavailable(
            f"The file {str(path)!r} is not a STAC catalog.",
            found=f"type {kind!r}, stac_version {root.get('stac_version')!r}",
            change=READABLE,
        )
