"""Catalogs as lists of scenes: a static STAC catalog is read once, item by item.

    catalog.json ── child/item links ──> items ── sensors.recognise ──> Scene

STAC 1.0 and 1.1 are read as plain JSON: hrefs are resolved against the file that holds them,
files and http(s) only. One broken item never spoils a search; it is logged and counted in
`Catalog.problems`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from shapely.geometry.base import BaseGeometry

from earthmind_lab.aoi import AOI
from earthmind_lab.data.apis import KNOWN, ApiCatalog
from earthmind_lab.data.files import Reader
from earthmind_lab.data.items import (
    inherit,
    local_path,
    note,
    resolve_href,
    scenes_or_problem,
)
from earthmind_lab.data.limits import MODALITIES, Limits
from earthmind_lab.errors import (
    AssetUnavailable,
    CatalogUnavailable,
    EarthMindError,
    SearchError,
)
from earthmind_lab.scene import Scene
from earthmind_lab.settings import Settings

CatalogLike: TypeAlias = "str | Path | Mapping[str, Any] | Sequence[Any] | Catalog | None"

logger = logging.getLogger(__name__)
MAX_FILES = 100_000
"""A static catalog with more files than this is walked by a loop of links, or needs an API."""
_SHOWN = 200
"""So much of a name is repeated in a message."""
READABLE = (
    "'sample', the path of a static catalog.json, the https:// address of a STAC API, or one of "
    + ", ".join(known.name for known in KNOWN)
)


class Catalog(Protocol):
    """What a search needs of a catalog."""

    @property
    def name(self) -> str:
        """What opens it again from anywhere: ``sample`` or an absolute path; for records."""

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be read, one sentence each."""

    def search(
        self,
        aoi: AOI | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        modality: str | None = None,
    ) -> list[Scene]:
        """Scenes that meet the AOI, the times and the modality; None leaves that side open.

        In place of a modality, the key of one sensor does.
        """

    def near(self, aoi: AOI, start: datetime, end: datetime, modality: str, /) -> list[Scene]:
        """Scenes of an AOI around some dates: what an empty search looks at."""

    def find(self, scene_id: str) -> list[Scene]:
        """Scenes of this id, in any collection."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StaticCatalog:
    """A catalog of files, read completely."""

    name: str
    """``sample`` or the absolute path it was read from."""
    scenes: tuple[Scene, ...]
    """Every scene, in order of id."""
    problems: tuple[str, ...] = ()
    """What could not be read, one sentence each."""

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


def open_catalog(catalog: str | Path | None = None, reader: Reader | None = None) -> Catalog:
    """Open a catalog by name or path.

    Args:
        catalog: ``sample`` (the embedded one), or the path of a static ``catalog.json`` or its
            folder, the address of a STAC API, or the name of one in `KNOWN`; by default what the
            settings say.
        reader: Time limit of what an API is asked.

    Raises:
        CatalogUnavailable: It is missing, broken, not STAC, or of a kind not read yet.
    """
    asked = Settings.from_env().catalog if catalog is None else catalog
    text = str(asked).strip()
    if text == "sample":
        from earthmind_lab.data.samples import catalog_path

        return read_static(Path(catalog_path()), name="sample")
    if text.startswith(("http://", "https://")) or text in {known.name for known in KNOWN}:
        return ApiCatalog.open(text, reader)
    try:
        path = local_path(text) if text.startswith("file://") else Path(text).expanduser()
        if path.is_dir():
            path = path / "catalog.json"
        found = bool(text) and path.is_file()
    except (RuntimeError, OSError, ValueError, AssetUnavailable) as error:
        # A home of nobody, a name longer than any file's, a file on another machine.
        raise _no_catalog(text, str(error)) from error
    if not found:
        raise _no_catalog(text)
    return read_static(path)


def _no_catalog(text: str, found: str | None = None) -> CatalogUnavailable:
    short = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return CatalogUnavailable(
        f"There is no catalog {short!r}: no file of that name.",
        found=found[:_SHOWN] if found else None,
        change=READABLE,
    )


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
    return StaticCatalog(name=name or str(path), scenes=tuple(scenes), problems=tuple(problems))


def shares_area(one: BaseGeometry, other: BaseGeometry) -> bool:
    """Whether two outlines share more than a point or an edge."""
    return bool(one.intersects(other) and one.intersection(other).area > 0)


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


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The catalog of each modality; usually one and the same."""

    by_modality: Mapping[str, Catalog]
    """``optical`` and ``sar``, or one of them."""

    @classmethod
    def open(cls, source: Any, reader: Reader | None = None) -> Sources:
        """One catalog for both modalities, or a mapping with one for each.

        Raises:
            CatalogUnavailable: A catalog can't be read.
            SearchError: The mapping has other keys than ``optical`` and ``sar``.
        """
        if not isinstance(source, Mapping):
            opened = _open(source, reader)
            return cls(by_modality=dict.fromkeys(MODALITIES, opened))
        if not source or set(source) - set(MODALITIES):
            raise SearchError(
                "A catalog per sensor has the keys optical and sar.", found=", ".join(source)
            )
        return cls(by_modality={kind: _open(each, reader) for kind, each in source.items()})

    @property
    def name(self) -> str:
        """How the catalogs were asked for."""
        return ", ".join(dict.fromkeys(catalog.name for catalog in self.by_modality.values()))

    @property
    def listed(self) -> bool:
        """Whether every scene of them is known; no API lists all that it has."""
        return not any(isinstance(each, ApiCatalog) for each in self.by_modality.values())

    @property
    def unread(self) -> str:
        """What could not be read, for the end of a message."""
        lost = dict.fromkeys(p for c in self.by_modality.values() for p in c.problems)
        return f"; {len(lost)} entries could not be read, first: {next(iter(lost))}" if lost else ""

    @property
    def partial(self) -> tuple[str, ...]:
        """Answers of APIs that came in part, one sentence each."""
        apis = {each for each in self.by_modality.values() if isinstance(each, ApiCatalog)}
        return tuple(f"{api.name}: {cut}" for api in apis for cut in api.cuts)

    def search(
        self, modality: str, aoi: AOI | None = None, limits: Limits | None = None
    ) -> list[Scene]:
        """Scenes of one modality that meet the AOI and the dates; None leaves a side open."""
        catalog = self.by_modality.get(modality)
        if catalog is None:
            return []
        if limits is None:
            return catalog.search(aoi, modality=modality)
        kinds = limits.kinds(modality)
        return [s for k in kinds for s in catalog.search(aoi, limits.start, limits.end, k)]

    def near(self, modality: str, aoi: AOI, limits: Limits) -> list[Scene]:
        """Scenes of one modality in the AOI, around the dates as far as the catalog looks."""
        catalog = self.by_modality.get(modality)
        if catalog is None:
            return []
        kinds = limits.kinds(modality)
        return [s for k in kinds for s in catalog.near(aoi, limits.start, limits.end, k)]


def _open(source: Any, reader: Reader | None) -> Catalog:
    if source is None or isinstance(source, str | Path):
        return open_catalog(source, reader)
    opened: Catalog = source
    return opened
