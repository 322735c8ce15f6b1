"""STAC APIs: the known ones by name, any other by address.

pystac-client speaks the protocol (conformance, GET or POST, pages); every request it makes goes
through our own client, so that pages, too, are retried, limited in time and never fetched from
an address that a catalog made up.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from earthmind_lab.aoi import AOI
from earthmind_lab.data.budget import WebError
from earthmind_lab.data.files import Reader
from earthmind_lab.data.items import scenes_or_problem, shares_area
from earthmind_lab.data.known import KNOWN, Known
from earthmind_lab.data.limits import MODALITIES
from earthmind_lab.data.links import unsigned
from earthmind_lab.data.web import Web
from earthmind_lab.errors import AccessDenied, CatalogUnavailable
from earthmind_lab.scene import Scene
from earthmind_lab.sensors import SENSORS

if TYPE_CHECKING:
    from pystac_client import Client

logger = logging.getLogger(__name__)
PAGE = 100
"""Items per page; some APIs refuse more."""
MAX_ITEMS = 5000
"""A search that finds more is cut, and says so."""
EMPTY_PAGES = 10
"""Pages without an item in a row; an API that filters its pages late has some, a broken one never
ends."""
NEAR_DAYS = 90
"""How far outside the dates an empty search looks for the nearest miss."""


@dataclass(eq=False, kw_only=True)
class ApiCatalog:
    """A STAC API."""

    name: str
    """A name of `KNOWN`, or the address."""
    url: str
    known: Known | None = None
    reader: Reader | None = None
    """Its time limit holds for all searches together; None = each has its own."""
    broken: list[str] = field(default_factory=list)
    """Items that could not be read, one sentence each."""
    cuts: list[str] = field(default_factory=list)
    """Answers that came in part, one sentence each."""

    @classmethod
    def open(cls, text: str, reader: Reader | None = None) -> ApiCatalog:
        """By name or address; asks nothing yet."""
        for known in KNOWN:
            if text in (known.name, known.url, known.url + "/"):
                return cls(name=known.name, url=known.url, known=known, reader=reader)
        return cls(name=unsigned(text), url=text, reader=reader)

    def within(self, reader: Reader) -> ApiCatalog:
        """The same catalog within a time limit, and nothing of what earlier searches met."""
        return replace(self, reader=reader, broken=[], cuts=[])

    @property
    def listed(self) -> bool:
        """False: it finds scenes of an AOI, it doesn't list what it has."""
        return False

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be read, one sentence each."""
        return (*self.broken, *self.cuts)

    def search(
        self,
        aoi: AOI | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        modality: str | None = None,
    ) -> list[Scene]:
        """Scenes that meet the AOI and the times.

        Args:
            aoi: Area that the footprint must share with; None finds nothing: no API lists all
                of its scenes.
            start: Earliest time, UTC, inclusive; None = open.
            end: Latest time, UTC, inclusive; None = open.
            modality: ``optical`` or ``sar`` asks for these collections only, the key of a sensor
                for those that hold its product.

        Raises:
            AccessDenied: The API wants an account.
            Cancelled: The reader's budget was cancelled.
            CatalogUnavailable: It can't be reached in time, or is no STAC API.
        """
        if self.reader is None:
            return replace(self, reader=Reader()).search(aoi, start, end, modality)
        collections = self._collections(modality)
        if aoi is None or collections == ():
            return []
        query: dict[str, Any] = {"intersects": aoi.geometry.__geo_interface__}
        if start is not None or end is not None:
            query["datetime"] = (start, end)
        if collections:
            query["collections"] = list(collections)
        return [
            scene
            for scene in self._scenes(query)
            if modality in (None, scene.modality, scene.sensor)
            and (start is None or scene.end >= start)
            and (end is None or scene.start <= end)
            and shares_area(scene.footprint, aoi.geometry)
        ]

    def near(self, aoi: AOI, start: datetime, end: datetime, modality: str) -> list[Scene]:
        """Scenes of an AOI around some dates: what an empty search looks at."""
        margin = timedelta(days=NEAR_DAYS)
        latest = min(end + margin, max(end, datetime.now(UTC)))
        return self.search(aoi, start - margin, latest, modality)

    def find(self, scene_id: str) -> list[Scene]:
        """Scenes of this id, in any collection.

        Raises:
            CatalogUnavailable: As `search`.
        """
        if self.reader is None:
            return replace(self, reader=Reader()).find(scene_id)
        return self._scenes({"ids": [scene_id]})

    def _scenes(self, query: Mapping[str, Any]) -> list[Scene]:
        scenes: list[Scene] = []
        seen: set[tuple[str, str]] = set()
        for item in self._items(query):
            key = (str(item.get("collection")), str(item.get("id")))
            if key not in seen:  # pages overlap where scenes arrive meanwhile
                seen.add(key)
                scenes += scenes_or_problem(item, self.url, self.broken)
        return sorted(scenes, key=lambda scene: (scene.id, scene.sensor, scene.collection or ""))

    def _items(self, query: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """Items of all pages; pages after a failure are lost, and that is said."""
        count = 0
        try:
            found = self._client.search(limit=PAGE, max_items=MAX_ITEMS + 1, **query)
            for item in found.items_as_dicts():
                if count == MAX_ITEMS:
                    self._cut(f"More than {MAX_ITEMS} items: the rest is left out.")
                    return
                if isinstance(item, Mapping):
                    count += 1
                    yield item
        except Exception as error:
            failure = self._failure(error)
            if not count or isinstance(failure, AccessDenied):
                raise failure from error
            self._cut(f"Only the first {count} items could be read: {failure.found}.")

    @cached_property
    def _client(self) -> Client:
        from pystac_client import Client

        reader = self.reader or Reader()
        web = reader.files.web.naming(self.url)
        try:
            return Client.open(self.url, stac_io=_io(web, reader))
        except Exception as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> AccessDenied | CatalogUnavailable:
        """An error of our tree for whatever went wrong on the way."""
        from earthmind_lab.errors import EarthMindError

        if isinstance(error, AccessDenied | CatalogUnavailable):
            return error
        if isinstance(error, EarthMindError):
            raise error
        kind = error.kind if isinstance(error, WebError) else None
        found = f"{type(error).__name__}: {error}" if kind is None else str(error)
        if kind == "denied":
            names = " and ".join(self.known.settings if self.known else ())
            return AccessDenied(
                f"The catalog {self.name!r} wants an account.", found=found,
                change=f"set {names}, or name another catalog" if names else "another catalog",
            )  # fmt: skip
        change = {"refused": "EARTHMIND_HOSTS with its host", "late": "a longer deadline"}
        return CatalogUnavailable(
            f"The catalog {self.name!r} can't be searched.",
            found=found[:500],
            change=change.get(str(kind), "try again later, or name another catalog"),
        )

    def _collections(self, modality: str | None) -> tuple[str, ...] | None:
        """To ask for: () = it has none of this kind, None = whatever it has."""
        known = self.known
        if known is not None and modality in MODALITIES:
            return known.optical if modality == "optical" else known.sar
        if known is not None and modality is None:
            return (*known.optical, *known.sar)
        wanted = {
            name
            for sensor in SENSORS.values()
            if modality in (None, sensor.modality, sensor.key)
            for name in sensor.collections
        }
        offered = self._offered if known is None else {*known.optical, *known.sar, *known.more}
        found = tuple(sorted(name for name in offered if name.lower() in wanted))
        return found or (None if known is None else ())

    @cached_property
    def _offered(self) -> set[str]:
        try:
            return {str(each.id) for each in self._client.get_collections()}
        except Exception as error:
            raise self._failure(error) from error

    def _cut(self, sentence: str) -> None:
        logger.warning("%s: %s", self.name, sentence)
        self.cuts.append(sentence)


def _io(web: Web, reader: Reader) -> Any:
    """pystac-client's reader of addresses, through our client."""
    from pystac import Link
    from pystac_client.stac_api_io import StacApiIO

    class Pages(StacApiIO):
        def request(
            self,
            href: str,
            method: str | None = None,
            headers: dict[str, str] | None = None,
            parameters: dict[str, Any] | None = None,
        ) -> str:
            """One request of pystac-client: parameters are a POST's body or a GET's query."""
            headers = {"Accept": "application/geo+json, application/json", **(headers or {})}
            if method == "POST":
                headers["Content-Type"] = "application/json"
                body = json.dumps(parameters or {}).encode()
                answer = web.request("POST", href, budget=reader.budget, headers=headers, body=body)
            else:
                plain = {
                    k: v if isinstance(v, str) else json.dumps(v)
                    for k, v in self._to_get(parameters or {}).items()
                }
                query = f"{'&' if '?' in href else '?'}{urlencode(plain)}" if plain else ""
                answer = web.get(href + query, budget=reader.budget, headers=headers)
            return answer.body.decode("utf-8", errors="replace")

        def get_pages(
            self, url: str, method: str | None = None, parameters: dict[str, Any] | None = None
        ) -> Iterator[dict[str, Any]]:
            """Every page; pystac-client's own ends at one without items, whatever comes next."""
            empty = 0
            page = self.read_json(url, method=method, parameters=parameters)
            while True:
                if page.get("features") or page.get("collections"):
                    empty = 0
                    yield page
                else:
                    empty += 1
                links = [link for link in page.get("links", ()) if link["rel"] == "next"]
                if not links:
                    return
                if empty > EMPTY_PAGES:
                    raise WebError("failed", f"{empty} pages in a row are empty and name a next")
                page = self.read_json(Link.from_dict(links[0]), parameters=parameters)

        def json_loads(self, txt: str, *_args: Any, **_kwargs: Any) -> dict[str, Any]:
            """Python's own reader: stricter ones lose a whole page over one NaN of one item."""
            data: dict[str, Any] = json.loads(txt)
            return data

        @staticmethod
        def _to_get(parameters: Mapping[str, Any]) -> dict[str, Any]:
            return {k: ",".join(map(str, v)) if isinstance(v, list | tuple) else v
                    for k, v in parameters.items()}  # fmt: skip

    return Pages()
