"""Arrays of the user's own on disk, as `own_arrays` writes them: as many bytes as chips may have.

Beyond that the longest unused go. One that was used within the last hour stays: a load may be
reading it. An array exists nowhere else, so a record of an answer about it replays only as long
as it is kept, or when the array is given again.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from earthmind_lab.errors import AssetUnavailable
from earthmind_lab.settings import Settings

FOLDER, DRAFT = "arrays", ".part"
IN_USE_S = 3600.0
"""No load takes longer, and no array takes longer to write."""
_NAME = re.compile(r"(optical|sar)_array_[0-9a-f]{32}\.tif")


@dataclass(frozen=True, kw_only=True)
class KeptArrays:
    """The kept arrays of one folder."""

    folder: Path
    """Made by the first array."""
    limit: int
    """Most bytes, apart from what is in use."""
    clock: Callable[[], float] = time.time
    """Seconds since 1970."""

    @classmethod
    def from_settings(cls) -> KeptArrays:
        """The folder and the limit that the environment names."""
        settings = Settings.from_env()
        return cls(folder=settings.home / FOLDER, limit=settings.cache_bytes)

    def path(self, modality: str, digest: str) -> Path:
        """Where an array is kept, or will be.

        Args:
            modality: ``optical`` or ``sar``.
            digest: SHA-256 of what it holds, in hexadecimal digits.
        """
        return self.folder / f"{modality}_array_{digest[:32]}.tif"

    def entries(self) -> list[tuple[Path, int, float]]:
        """(file, bytes, when it was written or last used) of every array, longest unused first."""
        return [each for each in self._files() if _NAME.fullmatch(each[0].name)]

    def sweep(self) -> None:
        """Let the longest unused beyond the limit go, and what killed processes have left."""
        entries = self.entries()
        total = sum(size for _, size, _ in entries)
        before = self.clock() - IN_USE_S
        for path, size, used in entries:
            if total <= self.limit or used > before:
                break
            _remove(path)
            total -= size
        for path, _, used in self._files():
            if path.suffix == DRAFT and used < before:
                _remove(path)

    def clear(self) -> int:
        """Remove every array.

        Returns:
            How many are gone.
        """
        return sum(_remove(path) for path, _, _ in self.entries())

    def _files(self) -> list[tuple[Path, int, float]]:
        found = []
        with suppress(OSError):  # nothing was kept yet, or nothing can be
            for path in self.folder.iterdir():
                with suppress(OSError):  # gone meanwhile
                    status = path.stat()
                    found.append((path, status.st_size, status.st_mtime))
        return sorted(found, key=lambda each: (each[2], each[0].name))


def use_array(path: str | Path) -> None:
    """Say that a file is used, if it is a kept array; any other file isn't looked at.

    Raises:
        AssetUnavailable: The array is no longer kept.
    """
    path = Path(path)
    if path.parent.name != FOLDER or not _NAME.fullmatch(path.name):
        return
    if not path.is_file():
        raise AssetUnavailable(
            "The array that this chip was made of is no longer kept.",
            found=f"no file {path}",
            change="open_chip with the array itself, and a larger EARTHMIND_CACHE_BYTES to keep it",
        )
    with suppress(OSError):  # a folder that may only be read
        os.utime(path)


def _remove(path: Path) -> bool:
    """Whether this call removed it."""
    try:
        path.unlink()
    except OSError:
        return False
    return True
