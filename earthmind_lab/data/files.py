"""Opening the files of scenes: local ones, and remote ones in ranges, under one rule.

    with Reader().open(ref) as raster: raster.read(window)

`Files` stays: connections, signed links and the headers of files that were opened. A `Reader`
is one search or one load with its time limit. Every failure names the asset.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from earthmind_lab.data.access import Access
from earthmind_lab.data.assets import AssetRef
from earthmind_lab.data.budget import Budget, Check, WebError
from earthmind_lab.data.items import local_path
from earthmind_lab.data.links import Links
from earthmind_lab.data.raster import Raster
from earthmind_lab.data.remote import NAME, Opener, RemoteFile
from earthmind_lab.data.web import Web
from earthmind_lab.errors import AccessDenied, AssetUnavailable, Cancelled, LoadError
from earthmind_lab.grid import placeless
from earthmind_lab.settings import Settings

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

REMOTE = ("http", "https", "s3")
"""Schemes that are read over the network."""
DRIVERS = {".jp2": "JP2OpenJPEG", ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
"""GDAL's name of the format by the end of a file's name; GeoTIFF has too many to list."""
HEADERS = 16
"""Headers fetched at a time."""
KEPT = 64
"""Remote files whose headers stay in memory."""
MOST = 512 * 2**20
"""Bytes that all remote files together keep in memory."""


class Files:
    """What outlives a load: connections, signatures, and files that were opened lately.

    Args:
        access: The rule for addresses; by default what the settings allow.
        links: Signs hrefs.
    """

    def __init__(self, access: Access | None = None, links: Links | None = None) -> None:
        self.web = Web(access or Access.from_settings())
        self.links = links or Links()
        self._remote: OrderedDict[str, RemoteFile] = OrderedDict()
        self._lock = threading.Lock()

    def remote(self, href: str, budget: Budget) -> RemoteFile:
        """A file of a server, started.

        Raises:
            AccessDenied: A key is missing.
            Cancelled: The budget was cancelled.
            WebError: It can't be read.
        """
        with self._lock:
            known = self._remote.get(href)
            if known is not None:
                self._remote.move_to_end(href)
                self._trim()
                return known
        file = RemoteFile(href=href, links=self.links, web=self.web)
        file.start(budget)
        with self._lock:
            self._remote[href] = file
            while len(self._remote) > KEPT:
                self._remote.popitem(last=False)
            self._trim()
        return file

    def _trim(self) -> None:
        """Drop the pixels of the files used longest ago, where there are too many in memory."""
        held = sum(file.held for file in self._remote.values())
        for file in self._remote.values():
            if held <= MOST:
                break
            held -= file.held
            file.trim()

    def forget(self, href: str) -> None:
        """Drop what is known of a remote file, which may have changed."""
        with self._lock:
            self._remote.pop(href, None)


@lru_cache(maxsize=8)
def _files(hosts: tuple[str, ...]) -> Files:
    return Files(Access(hosts=hosts))


@dataclass(frozen=True, kw_only=True, eq=False)
class Reader:
    """One search or load: the files it may open and the time it may take."""

    files: Files = field(default_factory=lambda: _files(Settings.from_env().hosts))
    """The process's own by default, under what the settings allow."""
    budget: Budget = field(default_factory=Budget)

    def start(self, refs: Iterable[AssetRef]) -> None:
        """Fetch the headers of remote files together, which else come one after the other.

        The first failure stops the others.

        Raises:
            AccessDenied: A key is missing or refused.
            AssetUnavailable: One of the files can't be had.
            Cancelled: The budget was cancelled.
        """
        remote = {ref.href: ref for ref in refs if urlsplit(ref.href).scheme in REMOTE}
        if not remote:
            return
        lanes = ThreadPoolExecutor(min(HEADERS, len(remote)))
        try:
            for started in as_completed(lanes.submit(self._start, ref) for ref in remote.values()):
                started.result()
        except BaseException:
            self.budget.cancel()
            raise
        finally:
            lanes.shutdown(cancel_futures=True)

    def check(self) -> None:
        """Between the steps of a load that no file is to blame for: go on, or stop.

        Raises:
            Cancelled: The budget was cancelled.
            LoadError: The time is over.
        """
        try:
            self.budget.check()
        except WebError as error:
            raise LoadError(
                "The chip could not be loaded in time.",
                found=str(error),
                change="a longer deadline, or a smaller AOI",
            ) from error

    def _start(self, ref: AssetRef) -> None:
        try:
            self.files.remote(ref.href, self.budget)
        except WebError as error:
            raise _failed(ref, error) from error

    @contextmanager
    def open(self, ref: AssetRef, overview: int | None = None) -> Iterator[Raster]:
        """An asset's band; every failure to open or read it names the asset.

        Args:
            ref: The asset.
            overview: Number of one of the file's overviews, which says nothing but pixels, place
                and nodata; None = the file itself.

        Raises:
            AccessDenied: A key is missing or refused.
            AssetUnavailable: Missing, empty, truncated, not a raster, of an unknown scheme, not
                to be had in time, or with other bands than the item lists.
            Cancelled: The budget was cancelled.
        """
        from rasterio._err import CPLE_BaseError
        from rasterio.errors import RasterioError

        path, opener = local_file(ref), None
        try:
            self.budget.check()
            if path is None:
                opener = Opener(self.files.remote(ref.href, self.budget), self.budget)
            with _open_raster(path, opener, ref, overview, self.budget.check) as source:
                _check_count(source, ref)
                version, fetch = (opener.file.version, opener.read) if opener else (None, None)
                yield Raster(source, ref.index, version, fetch, self.budget.check)
            if opener is not None and opener.failure is not None:
                raise opener.failure
        except (RasterioError, CPLE_BaseError, OSError, WebError) as error:
            cause = (opener.failure if opener else None) or error
            if isinstance(cause, Cancelled | AccessDenied):
                raise cause from error
            self.files.forget(ref.href)
            raise _failed(ref, cause) from error

    def read(self, ref: AssetRef, most: int) -> tuple[bytes, str]:
        """A whole small file that is no raster, under the same rules.

        Args:
            ref: The asset.
            most: Bytes that it may have.

        Returns:
            Its bytes and their SHA-256.

        Raises:
            AccessDenied: A key is missing or refused.
            AssetUnavailable: Missing, empty, larger, or not to be had in time.
            Cancelled: The budget was cancelled.
        """
        path = local_file(ref)
        try:
            if path is not None:
                with path.open("rb") as file:
                    body = file.read(most + 1)
            else:
                remote = self.files.remote(ref.href, self.budget)
                (body,) = remote.read([(0, most + 1)], self.budget)
        except (OSError, WebError) as error:
            self.files.forget(ref.href)
            raise _failed(ref, error) from error
        if len(body) > most:
            raise _failed(ref, WebError("failed", f"more than {most >> 20} MiB"))
        return body, hashlib.sha256(body).hexdigest()


@contextmanager
def _open_raster(
    path: Path | None, opener: Opener | None, ref: AssetRef, overview: int | None, check: Check
) -> Iterator[DatasetReader]:
    driver = _driver(ref.href)
    with _opened(path, opener, check, driver=driver) as source:
        _check_alone(source, ref)
        if overview is None:
            yield source
            return
    # Only now: opening an overview makes GDAL look where they are.
    with _opened(path, opener, check, driver=driver, overview_level=overview) as source:
        yield source


def _opened(
    path: Path | None, opener: Opener | None, check: Check, **options: Any
) -> DatasetReader:
    import rasterio

    with placeless():
        check()  # it may have waited for other threads
        if opener is None:
            return rasterio.open(path, **options)
        # No look for sidecar files: there is nothing beside a file of ours.
        with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
            return rasterio.open(NAME, opener=opener, **options)


def _check_alone(source: DatasetReader, ref: AssetRef) -> None:
    """Refuse a header that says where the overviews are: GDAL opens that with any driver.

    Past our rule for addresses, and for remote files too. No other tag makes it open anything.
    """
    named = source.tags(ns="OVERVIEWS")
    if named:
        raise AssetUnavailable(
            f"{_sentence(ref.name)} names another file to open.",
            found=f"overviews in {next(iter(named.values()))[:200]!r}",
            change="a file that holds its overviews itself, such as a COG",
        )


def local_file(ref: AssetRef) -> Path | None:
    """The local file behind an href; None where it is read over the network.

    Raises:
        AssetUnavailable: The file is missing or empty, or the scheme can't be read.
    """
    parts = urlsplit(ref.href)
    if parts.scheme in REMOTE:
        return None
    if parts.scheme not in ("", "file"):
        raise AssetUnavailable(
            f"{_sentence(ref.name)} lies where it can't be read from.",
            found=ref.href,
            change="an href that is a local file or starts with https:// or s3://",
        )
    path = local_path(ref.href) if parts.scheme == "file" else Path(ref.href)
    if not path.is_file():
        raise AssetUnavailable(
            f"{_sentence(ref.name)} is missing.", found=f"no file {path}", change="another scene"
        )
    if path.stat().st_size == 0:
        raise AssetUnavailable(f"{_sentence(ref.name)} is an empty file.", found=str(path))
    return path


def _check_count(source: DatasetReader, ref: AssetRef) -> None:
    if ref.listed is not None and source.count != ref.listed:
        raise AssetUnavailable(
            f"{_sentence(ref.name)} holds other bands than it lists.",
            found=f"{source.count} bands in {ref.href}, {ref.listed} listed",
            change="one entry per band of the file in bands (STAC 1.1) or eo:bands, or one file "
            "per band",
        )


def _failed(ref: AssetRef, cause: BaseException) -> AssetUnavailable | AccessDenied:
    """What went wrong with a file, as an error of our tree."""
    name, href = _sentence(ref.name), ref.href.partition("?")[0]
    found = str(cause) if str(cause).startswith(href) else f"{href}: {_reason(cause)}"
    if not isinstance(cause, WebError):
        return AssetUnavailable(
            f"{name} can't be read: missing, truncated or no raster.",
            found=found,
            change="fetch the file again, or choose another scene",
        )
    if cause.kind == "denied":
        return AccessDenied(
            f"{name} may not be read without an account.",
            found=found,
            change="earthmind doctor --catalogs lists the catalogs and the keys they need",
        )
    asked, change = {
        "refused": ("must not be opened", "EARTHMIND_HOSTS with the hosts you trust"),
        "missing": ("is missing on the server", "another scene, or search again"),
        "changed": ("changed while it was read", "load again"),
        "late": ("could not be read in time", "a longer deadline, or a smaller AOI"),
        "failed": ("could not be fetched", "try again later, or choose another scene"),
    }[cause.kind]
    return AssetUnavailable(f"{name} {asked}.", found=found, change=change)


def _reason(cause: BaseException) -> str:
    """What rasterio says, or GDAL under it: "see previous exception" helps nobody."""
    return str(cause.__cause__ if isinstance(cause.__cause__, Exception) else cause)


def _driver(href: str) -> str:
    """The one format to open it as: others, such as VRT, can name further things to open."""
    return DRIVERS.get(PurePosixPath(urlsplit(href).path).suffix.lower(), "GTiff")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
