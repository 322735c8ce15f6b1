"""Files on their way to a browser, in pieces that it asks for; knows no widget library.

The way of `uploads`, the other way round: a file is made in a folder that only this user can read,
goes in pieces well below Jupyter's limit of 10 MiB a message, the next one when the one before
has come, and is dropped when the browser has all of it or wants no more.

>>> downloads = Downloads()
>>> path = downloads.folder("a") / safe_name("../../my fields", "-report.html")
>>> _ = path.write_bytes(b"<p>words</p>")
>>> downloads.offer("a", path).size, path.name
(12, 'my-fields-report.html')
>>> downloads.piece("a", 0)
b'<p>words</p>'
>>> downloads.close()
"""

from __future__ import annotations

import re
import shutil
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from earthmind_lab.errors import EarthMindError

PIECE = 2**19
"""Bytes of one message: short enough that a slow link stays responsive."""
MOST = 500_000_000
"""Bytes of a file at most: a browser holds all of it in memory before it saves it."""
_MOST_FILES = 4
"""At once; the oldest gives way, so that closed tabs leave nothing behind."""
_LONGEST = 60
_NO_WORD = re.compile(r"[\W_]+")
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Download:
    """One file that waits to be fetched."""

    path: Path
    size: int
    """Bytes."""


class Downloads:
    """Files that were made for a browser and that it has not yet all of. One thread."""

    def __init__(self) -> None:
        self._root: tempfile.TemporaryDirectory[str] | None = None
        self._folders: dict[str, Path] = {}
        self._files: dict[str, Download] = {}
        self._count = 0

    def folder(self, ident: str) -> Path:
        """A new, empty folder for the file.

        Args:
            ident: Of the browser's choice; it never reaches a path.
        """
        self.drop(ident)
        while len(self._folders) >= _MOST_FILES:
            self.drop(next(iter(self._folders)))
        if self._root is None:
            self._root = tempfile.TemporaryDirectory(
                prefix="earthmind-", ignore_cleanup_errors=True
            )
        self._count += 1
        folder = Path(self._root.name) / f"download-{self._count}"
        folder.mkdir(mode=0o700)
        self._folders[ident] = folder
        return folder

    def awaits(self, ident: str, folder: Path) -> bool:
        """Whether what was made in a folder is still wanted."""
        return self._folders.get(ident) == folder

    def offer(self, ident: str, path: Path) -> Download:
        """The file is there.

        Args:
            ident: As in `folder`.
            path: Inside that folder.

        Raises:
            EarthMindError: It is too large for a browser, and dropped.
        """
        size = path.stat().st_size
        if size > MOST:
            self.drop(ident)
            raise EarthMindError(
                f"{path.name!r} is too large for a browser.", found=f"{size / 1e6:.0f} MB",
                change="the session's own command in a cell, which writes it where the kernel runs",
            )  # fmt: skip
        self._files[ident] = Download(path=path, size=size)
        return self._files[ident]

    def piece(self, ident: str, at: int) -> bytes:
        """At most `PIECE` bytes of a file.

        Args:
            ident: As in `folder`.
            at: How many bytes come before them.

        Raises:
            EarthMindError: No such file is held, or it has no byte there; then it is dropped.
        """
        held = self._files.get(ident)
        if held is None:
            raise EarthMindError("This file is no longer held.", change="ask for it once more")
        if not 0 <= at < held.size:
            self.drop(ident)
            raise EarthMindError(
                f"{held.path.name!r} has no byte {at}.", found=f"{held.size} bytes",
                change="ask for it once more",
            )  # fmt: skip
        with held.path.open("rb") as file:
            file.seek(at)
            return file.read(PIECE)

    def drop(self, ident: str) -> bool:
        """Forget a file, wherever it stands; whether there was one."""
        self._files.pop(ident, None)
        folder = self._folders.pop(ident, None)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        return folder is not None

    def close(self) -> None:
        """Forget all of them."""
        self._files.clear()
        self._folders.clear()
        if self._root is not None:
            self._root.cleanup()
            self._root = None


@contextmanager
def made_apart(path: Path) -> Iterator[Path]:
    """Where to make a file that then goes to `path`, if it is wanted there still. Any thread.

    The folder is the maker's own and goes with it: whoever writes a file makes the folders to it,
    and would bring back one that was dropped meanwhile, for ever and for everyone to read.

    Args:
        path: In a folder of `Downloads.folder`.

    Raises:
        FileNotFoundError: That folder was dropped.
    """
    with tempfile.TemporaryDirectory(prefix="earthmind-") as own:
        made = Path(own) / path.name
        yield made
        made.replace(path)


def safe_name(title: str, ending: str) -> str:
    """A file name that every system takes: letters and digits of a title, then an ending of ours.

    >>> safe_name("Ebro / süd", "-talk.ipynb"), safe_name("CON", ".html"), safe_name("..", ".html")
    ('Ebro-süd-talk.ipynb', 'area-CON.html', 'area.html')
    """
    words = _NO_WORD.sub("-", unicodedata.normalize("NFC", title)).strip("-")
    stem = words[:_LONGEST].strip("-") or "area"
    return f"area-{stem}{ending}" if _DEVICES.fullmatch(stem) else f"{stem}{ending}"
