"""A small STAC API on loopback: landing page, collections, POST /search with pages, faults."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from shapely.geometry import shape

JSON = "application/geo+json"
CONFORMS = [
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/collections",
    "https://api.stacspec.org/v1.0.0/item-search",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core",
]


@dataclass
class StacServer:
    """Items, and the searches that were made."""

    items: Sequence[Mapping[str, Any]]
    page: int = 100
    fault: Callable[[int], int] = lambda _number: 200
    """Number of the search request to the status it gets."""
    url: str = ""
    next_url: str = ""
    """Where next pages are said to be; empty = here."""
    hostile: Sequence[Any] = ()
    """Whatever else every search gives, items or not."""
    stall: float = 0.0
    """Seconds before a landing page; over when the server ends."""
    closing: threading.Event = field(default_factory=threading.Event)
    empty: int = 0
    """Pages without an item before each further page."""
    retry_after: str = ""
    """Header of a fault's answer."""
    searches: list[dict[str, Any]] = field(default_factory=list)

    @property
    def place(self) -> str:
        """``host:port``."""
        return self.url.removeprefix("http://")

    def found(self, query: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Items of a search, all pages."""
        area = shape(query["intersects"]) if query.get("intersects") else None
        start, _, end = str(query.get("datetime") or "../..").partition("/")
        return [
            item
            for item in self.items
            if (not query.get("collections") or item.get("collection") in query["collections"])
            and (not query.get("ids") or item.get("id") in query["ids"])
            and (area is None or shape(item["geometry"]).intersects(area))
            and (start == ".." or _times(item)[1] >= start)
            and (end == ".." or _times(item)[0] <= end)
        ]


def _times(item: Mapping[str, Any]) -> tuple[str, str]:
    """First and last moment: an item of a mosaic has no `datetime` but two ends."""
    properties = item["properties"]
    moment = properties.get("datetime")
    return (
        moment or properties["start_datetime"],
        moment or properties["end_datetime"],
    )


@contextmanager
def serve_stac(items: Sequence[Mapping[str, Any]], **options: Any) -> Iterator[StacServer]:
    """Start an API on a free port; it is gone afterwards."""
    state = StacServer(items=items, **options)
    server = _Quiet(("127.0.0.1", 0), _handler(state))
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, *_args: object) -> None:
        """Clients leave before a late answer."""


def _handler(state: StacServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # headers and body go out as two packets

        def log_message(self, *_args: object) -> None:
            pass

        def do_GET(self) -> None:
            if self.path.partition("?")[0] == "/":
                state.closing.wait(state.stall)
                links = [
                    {"rel": "self", "href": state.url},
                    {"rel": "root", "href": state.url},
                    {"rel": "data", "href": f"{state.url}/collections", "type": "application/json"},
                    {
                        "rel": "search",
                        "href": f"{state.url}/search",
                        "method": "POST",
                        "type": JSON,
                    },
                    {"rel": "search", "href": f"{state.url}/search", "method": "GET", "type": JSON},
                ]
                return self._json({
                    "type": "Catalog", "id": "tiny", "description": "", "stac_version": "1.0.0",
                    "conformsTo": CONFORMS, "links": links,
                })  # fmt: skip
            if self.path.startswith("/collections"):
                names = sorted({str(i["collection"]) for i in state.items if i.get("collection")})
                extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]},
                          "temporal": {"interval": [[None, None]]}}  # fmt: skip
                rows = [
                    {"type": "Collection", "id": name, "stac_version": "1.0.0", "license": "other",
                     "description": "", "links": [], "extent": extent}
                    for name in names
                ]  # fmt: skip
                if self.path == "/collections":
                    return self._json({"collections": rows, "links": []})
                for row in rows:
                    if self.path == f"/collections/{row['id']}":
                        return self._json(row)
            return self._json({"code": "NotFound"}, 404)

        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.searches.append(query)
            status = state.fault(len(state.searches))
            if status != 200:
                return self._json({"code": "Fault", "description": "<b>on demand</b>"}, status)
            found = [*state.found(query), *state.hostile]
            start, _, empty = str(query.get("token", "0 0")).partition(" ")
            start, empty = int(start), int(empty)
            end = start if empty else start + min(state.page, int(query.get("limit", 10)))
            links = []
            if end < len(found):
                href = f"{state.next_url or state.url}/search"
                body = {**query, "token": f"{end} {empty - 1 if empty else state.empty}"}
                links.append({"rel": "next", "href": href, "method": "POST", "body": body})
            page = {"type": "FeatureCollection", "features": found[start:end], "links": links}
            return self._json(page)

        def _json(self, data: object, status: int = 200) -> None:
            body = json.dumps(data).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if status != 200 and state.retry_after:
                self.send_header("Retry-After", state.retry_after)
            self.end_headers()
            self.wfile.write(body)

    return Handler
