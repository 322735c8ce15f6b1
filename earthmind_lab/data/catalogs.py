"""Catalogs as lists of scenes, whatever they are kept in: files, one Parquet file or an API.

    open_catalog("planetary-computer").search(aoi, start, end, "sar")

`Sources` is what one search asks: a catalog for each modality, usually one and the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeAlias
from urllib.parse import urlsplit

from earthmind_lab.aoi import AOI
from earthmind_lab.data.apis import ApiCatalog
from earthmind_lab.data.files import Reader
from earthmind_lab.data.items import local_path
from earthmind_lab.data.known import KNOWN, READABLE
from earthmind_lab.data.limits import MODALITIES, Limits
from earthmind_lab.data.parquet import SUFFIXES, ParquetCatalog
from earthmind_lab.data.static import read_static
from earthmind_lab.errors import AssetUnavailable, CatalogUnavailable, NoScenesFound, SearchError
from earthmind_lab.scene import Scene
from earthmind_lab.settings import Settings

CatalogLike: TypeAlias = "str | Path | Mapping[str, Any] | Sequence[Any] | Catalog | None"

_SHOWN = 200
"""So much of a name is repeated in a message."""


class Catalog(Protocol):
    """What a search needs of a catalog."""

    @property
    def name(self) -> str:
        """What opens it again from anywhere: ``sample`` or an absolute path; for records."""

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be read, one sentence each."""

    @property
    def listed(self) -> bool:
        """Whether a search without an AOI gives every scene; no API lists all that it has."""

    @property
    def cuts(self) -> Sequence[str]:
        """Answers that came in part, one sentence each."""

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


def open_catalog(catalog: str | Path | None = None, reader: Reader | None = None) -> Catalog:
    """Open a catalog by name or path.

    Args:
        catalog: ``sample`` (the embedded one), or the path of a static ``catalog.json`` or its
            folder, of a frozen search or of a stac-geoparquet file, the address of a static
            catalog (it ends in ``.json``) or of a STAC API, or the name of one in `KNOWN`; by
            default what the settings say.
        reader: Time limit of what is asked over the network.

    Raises:
        CatalogUnavailable: It is missing, broken, not STAC, or of a kind not read yet.
    """
    asked = Settings.from_env().catalog if catalog is None else catalog
    text = str(asked).strip()
    if text == "sample":
        from earthmind_lab.data.samples import catalog_path

        return read_static(Path(catalog_path()), name="sample")
    if text.startswith(("http://", "https://")) and urlsplit(text).path.endswith(".json"):
        return read_static(text, reader=reader)
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
    return ParquetCatalog.open(path) if path.suffix in SUFFIXES else read_static(path)


def _no_catalog(text: str, found: str | None = None) -> CatalogUnavailable:
    short = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return CatalogUnavailable(
        f"There is no catalog {short!r}: no such name, file, or folder with a catalog.json.",
        found=found[:_SHOWN] if found else None,
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

    def only(self, modalities: Sequence[str]) -> Sources:
        """The catalogs of some modalities."""
        return Sources(by_modality={kind: self._of(kind) for kind in modalities})

    def _of(self, modality: str) -> Catalog:
        if modality not in self.by_modality:
            raise NoScenesFound(
                f"No catalog was named for {modality} scenes.",
                found=f"{', '.join(self.by_modality)}: {self.name}",
                change=f"a catalog for {modality}, or sensors={'+'.join(self.by_modality)!r}",
            )
        return self.by_modality[modality]

    @property
    def listed(self) -> bool:
        """Whether every scene of them is known."""
        return all(each.listed for each in self.by_modality.values())

    @property
    def unread(self) -> str:
        """What could not be read, for the end of a message."""
        lost = dict.fromkeys(p for c in self.by_modality.values() for p in c.problems)
        first = next(iter(lost), "").rstrip(".")
        return f"; {len(lost)} of its entries can't be read, first: {first}" if lost else ""

    @property
    def partial(self) -> tuple[str, ...]:
        """Answers that came in part, one sentence each."""
        catalogs = dict.fromkeys(self.by_modality.values())
        return tuple(f"{each.name}: {cut}" for each in catalogs for cut in each.cuts)

    def search(
        self, modality: str, aoi: AOI | None = None, limits: Limits | None = None
    ) -> list[Scene]:
        """Scenes of one modality that meet the AOI and the dates; None leaves a side open."""
        catalog = self._of(modality)
        if limits is None:
            return catalog.search(aoi, modality=modality)
        kinds = limits.kinds(modality)
        return [s for k in kinds for s in catalog.search(aoi, limits.start, limits.end, k)]

    def near(self, modality: str, aoi: AOI, limits: Limits) -> list[Scene]:
        """Scenes of one modality in the AOI, around the dates as far as the catalog looks."""
        catalog = self._of(modality)
        kinds = limits.kinds(modality)
        return [s for k in kinds for s in catalog.near(aoi, limits.start, limits.end, k)]


def _open(source: Any, reader: Reader | None) -> Catalog:
    if source is None or isinstance(source, str | Path):
        return open_catalog(source, reader)
    if isinstance(source, ApiCatalog) and reader is not None:
        return source.within(reader)
    if not callable(getattr(source, "search", None)):
        raise SearchError(
            f"{str(source)[:_SHOWN]!r} is no catalog.",
            change=f"{READABLE}; for lists per sensor, a list of {{'optical': …, 'sar': …}}",
        )
    opened: Catalog = source
    return opened
