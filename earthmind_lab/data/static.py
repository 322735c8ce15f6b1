"""Catalogs of files, read once, item by item.

    catalog.json ── child/item links ──> items ── sensors.recognise ──> Scene

STAC 1.0 and 1.1 are read as plain JSON: hrefs are resolved against the file that holds them,
files and http(s) only. A catalog on disk follows no link to the network, one on the network none
to a file. One broken item never spoils a search; it is logged and counted in
`StaticCatalog.problems`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

from earthmind_lab.aoi import AOI
from earthmind_lab.data.budget import WebError
from earthmind_lab.data.files import Reader
from earthmind_lab.data.items import inherit, note, resolve_href, scenes_or_problem, shares_area
from earthmind_lab.data.known import READABLE
from earthmind_lab.errors import AssetUnavailable, Cancelled, CatalogUnavailable, EarthMindError
from earthmind_lab.scene import Scene

logger = logging.getLogger(__name__)
MAX_FILES = 100_000
"""A static catalog with more files than this is walked by a loop of links, or needs an API."""
LANES = 16
"""Files of a catalog on the network fetched at a time."""
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


def read_static(
    path: Path | str, *, name: str | None = None, reader: Reader | None = None
) -> StaticCatalog:
    """Read a static catalog, collection, item or item collection with everything under it.

    Args:
        path: Its file, or its http(s) address as text.
        name: What records call it; the absolute path or the address by default.
        reader: Time limit and allowed hosts of a catalog on the network.

    Raises:
        Cancelled: The reader's budget was cancelled.
        CatalogUnavailable: The file isn't STAC, nothing under it can be read, or not in time.
    """
    path = path if isinstance(path, str) else path.absolute()
    read = _from_web(path, reader or Reader()) if isinstance(path, str) else _from_disk
    try:
        (root,) = read([path])
        if isinstance(root, Exception):
            raise root
    except (*_BROKEN, EarthMindError) as error:
        if isinstance(error, Cancelled):
            raise
        raise CatalogUnavailable(
            f"The catalog {str(path)!r} can't be read.", found=str(error), change=READABLE
        ) from error
    _check_root(root, path)
    scenes: list[Scene] = []
    problems: list[str] = []
    items = 0
    for item, where, collection in _walk(root, path, read, problems):
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


def static_items(path: Path, problems: list[str]) -> list[tuple[Mapping[str, Any], Path]]:
    """Every item under a catalog on disk with its file, those that are no scenes among them.

    Args:
        path: Of a catalog, collection, item or item collection.
        problems: Takes a sentence for each file that can't be read.

    Raises:
        CatalogUnavailable: The file isn't STAC, or can't be read.
    """
    path = path.absolute()
    (root,) = _from_disk([path])
    if isinstance(root, Exception):
        raise CatalogUnavailable(
            f"The catalog {str(path)!r} can't be read.", found=str(root), change=READABLE
        ) from root
    _check_root(root, path)
    found = _walk(root, path, _from_disk, problems)
    return [(inherit(item, collection), Path(where)) for item, where, collection in found]


_Place: TypeAlias = "Path | str"
"""A file, or an address."""
_Node: TypeAlias = tuple[Mapping[str, Any], _Place, Mapping[str, Any]]
"""A catalog, collection or item, its place, and the nearest collection above it, else empty."""
_Read: TypeAlias = Callable[[Sequence[_Place]], "list[dict[str, Any] | Exception]"]
"""Gets JSON objects, or what went wrong with each."""
_BROKEN = (OSError, ValueError, RecursionError, WebError)


def _walk(
    root: Mapping[str, Any], path: _Place, read: _Read, problems: list[str]
) -> Iterator[_Node]:
    """Every item under a catalog; a file is read once, whoever links to it."""
    seen = {_identity(path)}
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
            note(problems, f"{_name(where)} is neither a STAC catalog nor an item.")
        targets: dict[_Place, str] = {}
        for href in _links(node):
            try:
                target = _target(href, where)
                if _identity(target) not in seen:
                    seen.add(_identity(target))
                    targets[target] = href
            except (*_BROKEN, EarthMindError) as error:
                note(problems, _broken_link(href, where, error))
            if len(seen) > MAX_FILES:
                note(problems, f"The catalog has more than {MAX_FILES} files; the rest is left.")
                return
        for (target, href), found in zip(targets.items(), read(list(targets)), strict=True):
            if isinstance(found, Exception):
                note(problems, _broken_link(href, where, found))
            else:
                waiting.append((found, target, nearest))


def _target(href: str, where: _Place) -> _Place:
    resolved = resolve_href(href, where)
    if isinstance(where, str):
        return resolved
    if "://" in resolved:
        raise AssetUnavailable("Links to the network are not followed.")
    return Path(resolved)


def _identity(where: _Place) -> _Place:
    return where if isinstance(where, str) else where.resolve()


def _name(where: _Place) -> str:
    return str(where).rpartition("/")[2][:200]


def _broken_link(href: str, where: _Place, error: Exception) -> str:
    return f"The link {href[:200]!r} in {_name(where)} is broken: {error}"


def _from_disk(places: Sequence[_Place]) -> list[dict[str, Any] | Exception]:
    found: list[dict[str, Any] | Exception] = []
    for place in places:
        try:
            found.append(_object(Path(place).read_text(encoding="utf-8-sig"), place))
        except _BROKEN as error:
            found.append(error)
    return found


def _from_web(root: str, reader: Reader) -> _Read:
    """Reads addresses, several at a time, under the rules that hold for scenes."""
    web = reader.files.web.naming(root)

    def one(place: _Place) -> dict[str, Any] | Exception:
        try:
            body = web.get(str(place), budget=reader.budget).body
            return _object(body.decode("utf-8-sig"), place)
        except _BROKEN as error:
            if isinstance(error, WebError) and error.kind == "late":
                raise CatalogUnavailable(
                    f"The catalog {root!r} could not be read in time.",
                    found=str(error),
                    change="a longer deadline, or a STAC API",
                ) from error
            return error

    def all_of(places: Sequence[_Place]) -> list[dict[str, Any] | Exception]:
        lanes = ThreadPoolExecutor(max(1, min(LANES, len(places))))
        try:
            return list(lanes.map(one, places))
        finally:
            lanes.shutdown(cancel_futures=True)

    return all_of


def _object(text: str, place: _Place) -> dict[str, Any]:
    data = json.loads(text)
    if not isinstance(data, dict):
        raise ValueError(f"{_name(place)} holds no JSON object")
    return data


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


def _check_root(root: Mapping[str, Any], path: _Place) -> None:
    kind = root.get("type")
    linked = "stac_version" in root and isinstance(root.get("links"), list)
    listed = kind == "FeatureCollection" and isinstance(root.get("features"), list)
    if not (listed or (kind in ("Catalog", "Collection", "Feature", None) and linked)):
        raise CatalogUnavailable(
            f"The file {str(path)!r} is not a STAC catalog.",
            found=f"type {kind!r}, stac_version {root.get('stac_version')!r}",
            change=READABLE,
        )
