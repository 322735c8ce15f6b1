"""Files behind http(s), read in ranges: what GDAL asks for, through our own client.

    with open_remote(href, links, budget) as file: rasterio.open(NAME, opener=file.opener)

GDAL sees one file with a name of ours and nothing beside it, so no sidecar, no virtual format
and no redirect of its own can lead anywhere. Bytes come in aligned blocks, several ranges at a
time; a link that expires meanwhile is signed again, a file that changes meanwhile is refused.
"""

from __future__ import annotations

import io
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from earthmind_lab.data.budget import Budget, WebError
from earthmind_lab.data.links import Links
from earthmind_lab.data.web import Response, Web

BLOCK = 32768
"""Bytes of a block: a range request costs more than reading past what was asked for."""
FIRST = 2 * BLOCK
"""Bytes of the first request: the headers of nearly every cloud-optimised file."""
GAP = 4 * BLOCK
"""Two ranges closer than this are fetched as one."""
KEPT = 2048
"""Blocks of one file that are kept in memory (64 MiB)."""
WHOLE = 64 * 2**20
"""A server that ignores ranges may send a file of so many bytes whole."""
LANES = 8
"""Ranges of one file under way at a time."""
NAME = "earthmind.tif"


@dataclass(eq=False)
class RemoteFile:
    """One file of a server: its size, its version and the blocks read so far."""

    href: str
    """Unsigned."""
    links: Links
    web: Web
    size: int = 0
    version: str | None = None
    """ETag that all parts must share; None = the server gives none."""
    fetched: int = 0
    """Bytes that came over the wire."""
    _blocks: OrderedDict[int, memoryview] = field(default_factory=OrderedDict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def held(self) -> int:
        """Bytes of blocks in memory, about."""
        return len(self._blocks) * BLOCK

    def trim(self) -> None:
        """Keep the header only."""
        with self._lock:
            for block in [block for block in self._blocks if block * BLOCK >= FIRST]:
                del self._blocks[block]

    def start(self, budget: Budget) -> None:
        """Read the first blocks, and with them the size and the version.

        Raises:
            Cancelled: The budget was cancelled.
            WebError: It can't be read in ranges, or not at all.
        """
        response = self._fetch(0, FIRST - 1, budget)
        if response.status == 206:
            total = re.fullmatch(r"bytes 0-\d+/(\d+)", response.headers.get("Content-Range", ""))
            if total is None:
                raise WebError("failed", "the server doesn't say the size of the file")
            self.size = int(total[1])
        else:
            self.size = len(response.body)
            if self.size > WHOLE:
                raise WebError("failed", "the server doesn't serve ranges of a large file")
        tag = response.headers.get("ETag", "")
        self.version = tag if tag and not tag.startswith("W/") else None
        if response.status == 206 and len(response.body) != min(FIRST, self.size):
            raise WebError("failed", f"{len(response.body)} bytes instead of {FIRST}")
        self._keep(0, response.body)

    def read(self, ranges: Iterable[tuple[int, int]], budget: Budget) -> list[bytes]:
        """Parts of the file.

        Args:
            ranges: (first byte, count) of each; beyond the end there is nothing.
            budget: Time it may take.

        Raises:
            Cancelled: The budget was cancelled.
            WebError: A part can't be had, or the file has changed.
        """
        spans = [(start, min(start + count, self.size)) for start, count in ranges]
        found = self._held(spans)
        missing = sorted({b for start, end in spans for b in _blocks(start, end)} - set(found))
        runs = list(_runs(missing))
        if len(runs) > 1:
            with ThreadPoolExecutor(min(LANES, len(runs))) as lanes:
                parts = list(lanes.map(lambda run: self._run(run, budget), runs))
        else:
            parts = [self._run(run, budget) for run in runs]
        for (first, _), body in zip(runs, parts, strict=True):
            found |= self._keep(first, body)
        return [_cut(found, start, end) for start, end in spans]

    def _run(self, run: tuple[int, int], budget: Budget) -> bytes:
        """The blocks from first to last as they lie in the file."""
        start, end = run[0] * BLOCK, min((run[1] + 1) * BLOCK, self.size)
        response = self._fetch(start, end - 1, budget)
        if response.status == 200 and len(response.body) == self.size:
            return response.body[start:end]
        told = response.headers.get("Content-Range", "")
        if response.status != 206 or not told.startswith(f"bytes {start}-{end - 1}/"):
            raise WebError("failed", f"other bytes than asked for ({told or response.status})")
        if len(response.body) != end - start:
            raise WebError("failed", f"{len(response.body)} bytes instead of {end - start}")
        tag = response.headers.get("ETag")
        if self.version and tag and tag != self.version:
            raise WebError("changed", "the file changed while it was read")
        return response.body

    def _fetch(self, first: int, last: int, budget: Budget) -> Response:
        """A range through a signed link; one that has expired is signed again, once."""
        match = {"If-Match": self.version} if self.version else {}
        for again in (True, False):
            link = self.links.sign(self.href, self.web, budget)
            try:
                response = self.web.get(
                    link.url,
                    budget=budget,
                    span=(first, last),
                    headers={**link.headers, **match},
                    trusted=link.trusted,
                )
            except WebError as error:
                if error.kind != "denied" or not again or not self.links.forget(self.href):
                    raise
                continue
            self.fetched += len(response.body)
            return response
        raise AssertionError("unreachable")

    def _held(self, spans: Sequence[tuple[int, int]]) -> dict[int, memoryview]:
        with self._lock:
            wanted = {b for start, end in spans for b in _blocks(start, end)}
            held = {block: self._blocks[block] for block in wanted if block in self._blocks}
            for block in held:
                self._blocks.move_to_end(block)
            return held

    def _keep(self, first: int, body: bytes) -> dict[int, memoryview]:
        count = -(-len(body) // BLOCK)
        view = memoryview(body)  # a copy of each block would cost as much as the transfer
        new = {first + i: view[i * BLOCK : (i + 1) * BLOCK] for i in range(count)}
        with self._lock:
            self._blocks.update(new)
            while len(self._blocks) > KEPT:
                self._blocks.popitem(last=False)
        return new


class Opener:
    """The file system that GDAL sees: one file with a name of ours.

    GDAL turns every error into one of its own; the first one is kept here, for the caller.

    Args:
        file: Started.
        budget: Time that all reads together may take.
    """

    def __init__(self, file: RemoteFile, budget: Budget) -> None:
        self.file, self.budget = file, budget
        self.failure: BaseException | None = None

    def open(self, path: str, mode: str = "r", **_options: object) -> RangeReader:
        """The file; there is no other."""
        if not self.isfile(path) or mode not in ("r", "rb"):
            raise FileNotFoundError(path)
        return RangeReader(self)

    def read(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Parts of the file; nothing after a failure."""
        try:
            if self.failure is None:
                return self.file.read(ranges, self.budget)
        except BaseException as error:  # noqa: BLE001 - raised again when GDAL has returned
            self.failure = error
        return [b"" for _ in ranges]

    def isfile(self, path: str) -> bool:
        """Whether it is the file."""
        return path.rpartition("/")[2] == NAME

    def isdir(self, _path: str) -> bool:
        """There are no folders."""
        return False

    def ls(self, _path: str) -> list[str]:
        """What lies beside it: nothing."""
        return []

    def mtime(self, _path: str) -> int:
        """Unknown."""
        return 0

    def rm(self, path: str) -> None:
        """Nothing is removed."""
        raise PermissionError(path)

    def size(self, _path: str) -> int:
        """Of the file, in bytes."""
        return self.file.size


class RangeReader(io.RawIOBase):
    """A position in the file of an opener."""

    def __init__(self, opener: Opener) -> None:
        super().__init__()
        self._opener, self._at = opener, 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Bytes from the start."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move; beyond the end is allowed and reads nothing."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._opener.file.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes."""
        count = max(0, self._opener.file.size - self._at) if size < 0 else size
        (part,) = self._opener.read([(self._at, count)])
        self._at += len(part)
        return part

    def get_byte_ranges(self, offsets: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
        """Several parts at once; rasterio looks for a method of this name."""
        return self._opener.read(list(zip(offsets, sizes, strict=True)))


def _blocks(start: int, end: int) -> range:
    return range(start // BLOCK, -(-end // BLOCK)) if end > start else range(0)


def _runs(blocks: Sequence[int]) -> Iterable[tuple[int, int]]:
    """(first, last) block of what is fetched as one."""
    first = last = None
    for block in blocks:
        if first is None or last is None:
            first = last = block
        elif (block - last - 1) * BLOCK < GAP:
            last = block
        else:
            yield first, last
            first = last = block
    if first is not None and last is not None:
        yield first, last


def _cut(blocks: dict[int, memoryview], start: int, end: int) -> bytes:
    parts = ((block * BLOCK, blocks[block]) for block in _blocks(start, end))
    return b"".join(part[max(0, start - at) : end - at] for at, part in parts)
