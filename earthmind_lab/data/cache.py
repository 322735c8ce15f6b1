"""Chips on disk: a chip that was loaded once needs neither network nor files again.

chips/<key>/        one chip, as `chip_files` writes it; the key is what it depends on, `cache_key`
chips/plans/<key>   grid, reads and bytes of a plan, so that finding a chip opens no file
chips/.draft-…      what is being written, or was when its process was killed

Any number of processes may use one folder, without locks: an entry is written as a draft and
renamed, so it is there whole or not at all; of two that write the same, the first wins and the
other is dropped; an entry is renamed away before it is deleted, and a reader that comes too late
reads from the source. Nothing is forced to the disk (fsync): after a loss of power an entry may
hold anything, as on a failing disk, and the checksums that every reading checks say so. A damaged
entry is removed and loaded again. What goes wrong here is a line in the log, never a failed load.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from earthmind_lab.aoi import AOI
from earthmind_lab.chip import Chip, LoadPlan
from earthmind_lab.data.budget import Check, WebError, unlimited
from earthmind_lab.data.chip_files import (
    Folder,
    Writer,
    read_chip,
    read_pair,
    unsealed,
    write_chip,
    write_sealed,
)
from earthmind_lab.errors import AssetUnavailable
from earthmind_lab.grid import grid_data, grid_of
from earthmind_lab.scene import ScenePair
from earthmind_lab.settings import Settings

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

logger = logging.getLogger(__name__)
PLANS, DRAFT = "plans", ".draft-"
PLANS_KEPT = 10_000
"""A plan is a few hundred bytes: they are counted, not weighed."""
DRAFT_SECONDS = 3600.0
"""No chip takes longer to write; an older draft has lost its writer."""
_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One kept chip."""

    key: str
    """What it depends on, as SHA-256."""
    bytes: int
    """Of all its files."""
    used: float
    """When it was written or last read, in seconds since 1970."""


@dataclass(frozen=True, kw_only=True)
class ChipCache:
    """The kept chips of one folder."""

    folder: Path
    """Made by the first chip."""
    limit: int
    """Most bytes; beyond it the longest unused go. 0 = nothing is kept and nothing is found."""

    @classmethod
    def from_settings(cls) -> ChipCache:
        """The cache that the environment names."""
        settings = Settings.from_env()
        return cls(folder=settings.home / "chips", limit=settings.cache_bytes)

    def get(self, key: str | None, plan: LoadPlan) -> Chip | None:
        """A kept chip, with the pair and the AOI of a plan; None where there is none.

        Args:
            key: `chip_key` of the plan.
            plan: What is asked for.
        """
        if key is None or not self.limit:
            return None
        path = self.folder / key
        try:
            chip = read_chip(Folder(path), plan.pair, plan.aoi)
        except (AssetUnavailable, OSError) as error:
            if path.exists():
                logger.warning("The kept chip %s is read again from its scenes: %s", key, error)
                self._remove(path)
            return None
        with suppress(OSError):  # a folder that may only be read
            os.utime(path)
        return chip

    def put(self, key: str | None, chip: Chip, check: Check = unlimited) -> None:
        """Keep a chip, if it can be kept; then let the longest unused go.

        Args:
            key: `chip_key` of the plan it was loaded by.
            chip: The chip.
            check: Asked before each of its files. A chip that is there is never lost to the
                time that keeping it takes: then it isn't kept.

        Raises:
            Cancelled: `check` says so.
        """
        arrays = (value for value in vars(chip).values() if isinstance(value, np.ndarray))
        if key is None or sum(array.nbytes for array in arrays) > self.limit:
            return

        def write(draft: Path) -> None:
            write_chip(chip, _writer(draft, check))
            try:
                draft.rename(self.folder / key)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # another was first
                    raise

        self._drafted(write)
        self._sweep()

    def get_plan(self, key: str | None) -> tuple[GeoBox, int, int] | None:
        """Grid, number of reads and bytes of a plan that was made before.

        Args:
            key: `Keys.plan` of what is asked for.
        """
        if key is None or not self.limit:
            return None
        path = self.folder / PLANS / key
        try:
            data = unsealed(path.read_bytes(), "the plan")
            return grid_of(data["grid"]), int(data["reads"]), int(data["bytes"])
        except OSError:
            return None
        except (ValueError, LookupError, TypeError, RuntimeError) as error:  # the last: pyproj's
            logger.warning("The kept plan %s is made again: %s", key, error)
            with suppress(OSError):
                path.unlink()
            return None

    def put_plan(self, key: str | None, grid: GeoBox, reads: int, size: int) -> None:
        """Keep a plan.

        Args:
            key: `Keys.plan` of what was asked for.
            grid: Of the chip.
            reads: Assets that a load reads.
            size: Bytes that a load reads.
        """
        if key is None or not self.limit:
            return

        def write(draft: Path) -> None:
            about = {"grid": grid_data(grid), "reads": reads, "bytes": size}
            write_sealed(about, key, _writer(draft))
            (self.folder / PLANS).mkdir(exist_ok=True)
            (draft / key).replace(self.folder / PLANS / key)

        self._drafted(write, logging.DEBUG)  # the chip that follows says it, once a load

    def entries(self) -> list[Entry]:
        """Every kept chip, the longest unused first."""
        found = []
        for path in self._listed():
            if _KEY.fullmatch(path.name):
                with suppress(OSError), os.scandir(path) as files:  # gone meanwhile
                    size = sum(file.stat().st_size for file in files)
                    found.append(Entry(key=path.name, bytes=size, used=path.stat().st_mtime))
        return sorted(found, key=lambda entry: (entry.used, entry.key))

    @property
    def size(self) -> int:
        """Bytes of all kept chips."""
        return sum(entry.bytes for entry in self.entries())

    def chips(self, wanted: Callable[[ScenePair, AOI], bool]) -> Iterator[Chip]:
        """Kept chips of the wanted scenes and areas, the last used first, as they were written."""
        for entry in reversed(self.entries() if self.limit else []):
            source = Folder(self.folder / entry.key)
            with suppress(AssetUnavailable, OSError):
                if wanted(*read_pair(source)):
                    yield read_chip(source)

    def clear(self) -> int:
        """Remove every chip and plan.

        Returns:
            How many chips are gone.
        """
        before = self.entries()
        for entry in before:
            self._remove(self.folder / entry.key)
        if (self.folder / PLANS).exists():
            self._remove(self.folder / PLANS)
        self._sweep()
        return len(before) - len(self.entries())

    def verify(self) -> list[str]:
        """Read every kept chip; the keys of damaged ones, which are removed."""
        damaged = []
        for entry in self.entries():
            path = self.folder / entry.key
            try:
                read_chip(Folder(path))
            except (AssetUnavailable, OSError):
                if path.exists():
                    self._remove(path)
                    damaged.append(entry.key)
        return damaged

    def _listed(self) -> list[Path]:
        try:
            return list(self.folder.iterdir())
        except OSError:  # nothing was kept yet, or nothing can be
            return []

    def _drafted(self, fill: Callable[[Path], None], level: int = logging.WARNING) -> None:
        """Call with a new folder, which is gone afterwards; a failure is a line in the log."""
        draft = self.folder / f"{DRAFT}{os.getpid()}-{uuid.uuid4().hex}-{socket.gethostname()}"
        try:
            draft.mkdir(parents=True)
            fill(draft)
        except (OSError, TypeError, ValueError, WebError) as error:
            logger.log(level, "Nothing is kept in %s: %s", self.folder, error)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _remove(self, path: Path) -> None:
        """Out of sight first: nobody finds half of it."""

        def hide(draft: Path) -> None:
            with suppress(FileNotFoundError):  # another was first
                path.rename(draft / path.name)

        self._drafted(hide)

    def _sweep(self) -> None:
        """What is beyond the limit, and what killed processes have left."""
        entries = self.entries()
        total = sum(entry.bytes for entry in entries)
        for entry in entries:
            if total <= self.limit:
                break
            self._remove(self.folder / entry.key)
            total -= entry.bytes
        for path in self._listed():
            if path.name.startswith(DRAFT) and _abandoned(path):
                shutil.rmtree(path, ignore_errors=True)
        self._sweep_plans()

    def _sweep_plans(self) -> None:
        with suppress(OSError):
            plans = list((self.folder / PLANS).iterdir())
            if len(plans) > PLANS_KEPT:
                plans.sort(key=lambda path: path.stat().st_mtime)
                for path in plans[: -PLANS_KEPT // 2]:
                    path.unlink(missing_ok=True)


def _writer(folder: Path, check: Check = unlimited) -> Writer:
    def new(name: str) -> BinaryIO:
        check()
        return (folder / name).open("xb")

    return new


def _abandoned(draft: Path) -> bool:
    """Whether the writer of a draft is gone: dead on this machine, or silent for too long."""
    try:
        pid, _, host = draft.name.removeprefix(DRAFT).split("-", 2)
        if time.time() - draft.stat().st_mtime > DRAFT_SECONDS:
            return True
        if host == socket.gethostname():
            os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError):  # of another user, or gone meanwhile
        return False
    return False
