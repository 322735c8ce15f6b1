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

from shapely.errors import ShapelyError
from shapely.geometry.base import BaseGeometry

from earthmind_lab.aoi import AOI
from earthmind_lab.data.items import inherit, local_path, resolve_href, scenes_of
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
_SHOWN = 200
"""So much of a name is repeated in a message."""
READABLE = "'sample', or the path of a static catalog.json"


class Catalog(Protocol):
    """What a search needs of a catalog."""

    @property
    def name(self) -> str:
        """What opens it again from anywhere: ``sample`` or an absolute path; for records."""

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be read, one sentence each."""

    def search(
        self, aoi: AOI | None = None, start: datetime | None = None, end: datetime | None = None
    ) -> list[Scene]:
        """Scenes that meet the AOI and the times; None leaves that side open."""


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
        self, aoi: AOI | None = None, start: datetime | None = None, end: datetime | None = None
    ) -> list[Scene]:
        """Scenes that meet the AOI and the times.

        Args:
            aoi: Area that the footprint must share with, by more than an edge; None = anywhere.
            start: Earliest time, UTC, inclusive; None = open.
            end: Latest time, UTC, inclusive; None = open. An unknown time must meet the range.
        """
        return [
            scene
            for scene in self.scenes
            if (start is None or scene.end >= start)
            and (end is None or scene.start <= end)
            and (aoi is None or shares_area(scene.footprint, aoi.geometry))
        ]


def open_catalog(catalog: str | Path | None = None) -> Catalog:
    """Open a catalog by name or path.

    Args:
        catalog: ``sample`` (the embedded one), or the path of a static ``catalog.json`` or its
            folder; by default what the settings say.

    Raises:
        CatalogUnavailable: It is missing, broken, not STAC, or of a kind not read yet.
    """
    asked = Settings.from_env().catalog if catalog is None else catalog
    text = str(asked).strip()
    if text == "sample":
        from earthmind_lab.data.samples import catalog_path

        return read_static(Path(catalog_path()), name="sample")
    if "://" in text and not text.startswith("file://"):
        raise CatalogUnavailable(
            f"The catalog {text!r} is an address, and STAC APIs are not read by this version.",
            change=READABLE,
        )
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
        try:
            scenes += scenes_of(inherit(item, collection), where)
        except (EarthMindError, *_ODD) as error:
            _note(problems, f"Item {item.get('id')!r} in {where.name} is left out: {error}")
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
            _note(problems, f"{where.name} is neither a STAC catalog nor an item.")
        for href in _links(node):
            if len(seen) > MAX_FILES:
                _note(problems, f"The catalog has more than {MAX_FILES} files; the rest is left.")
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
                _note(problems, f"The link {href[:200]!r} in {where.name} is broken: {error}")


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


def _note(problems: list[str], sentence: str) -> None:
    logger.warning("%s", sentence)
    problems.append(sentence)


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The catalog of each modality; usually one and the same."""

    by_modality: Mapping[str, Catalog]
    """``optical`` and ``sar``, or one of them."""

    @classmethod
    def open(cls, source: Any) -> Sources:
        """One catalog for both modalities, or a mapping with one for each.

        Raises:
            CatalogUnavailable: A catalog can't be read.
            SearchError: The mapping has other keys than ``optical`` and ``sar``.
        """
        if not isinstance(source, Mapping):
            opened = _open(source)
            return cls(by_modality=dict.fromkeys(MODALITIES, opened))
        if not source or set(source) - set(MODALITIES):
            raise SearchError(
                "A catalog per sensor has the keys optical and sar.", found=", ".join(source)
            )
        return cls(by_modality={kind: _open(each) for kind, each in source.items()})

    @property
    def name(self) -> str:
        """How the catalogs were asked for."""
        return ", ".join(dict.fromkeys(catalog.name for catalog in self.by_modality.values()))

    @property
    def unread(self) -> str:
        """What could not be read, for the end of a message."""
        lost = dict.fromkeys(p for c in self.by_modality.values() for p in c.problems)
        return f"; {len(lost)} entries could not be read, first: {next(iter(lost))}" if lost else ""

    def search(
        self, modality: str, aoi: AOI | None = None, limits: Limits | None = None
    ) -> list[Scene]:
        """Scenes of one modality that meet the AOI and the dates; None leaves a side open."""
        catalog = self.by_modality.get(modality)
        if catalog is None:
            return []
        start, end = (limits.start, limits.end) if limits else (None, None)
        return [s for s in catalog.search(aoi, start, end) if s.modality == modality]


def _open(source: Any) -> Catalog:
    if source is None or isinstance(source, str | Path):
        return open_catalog(source)
    opened: Catalog = source
    return opened
