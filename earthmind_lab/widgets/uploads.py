"""Files that come from a browser in pieces; knows no widget library.

Jupyter's websocket closes on a message of more than 10 MiB, and a kernel may be busy with a cell
for minutes. So a file comes in pieces, the next one when the one before was taken. They are written
to a folder that only this user can read, under a name of ours with an ending from a closed list:
what the file was called never reaches a path.

>>> uploads = Uploads((".kml",), most=100)
>>> uploads.begin("a", "../../my fields.KML", 5)
>>> uploads.add("a", 0, b"<km").received
3
>>> whole = uploads.add("a", 3, b"l>")
>>> whole.done, whole.path.name, whole.path.read_bytes(), whole.name
(True, 'upload-1.kml', b'<kml>', 'my fields.KML')
>>> uploads.close()
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from earthmind_lab.errors import EarthMindError

PIECE = 2**19
"""Bytes of one message: well below Jupyter's limit, and short enough that a slow link stays
responsive."""
MOST_PIECE = 2**20
_MOST_FILES = 4
"""At once; the oldest gives way, so that closed tabs leave nothing behind."""


@dataclass(frozen=True, kw_only=True)
class Upload:
    """One file, whole or so far."""

    name: str
    """As the browser calls it, without folders: for people."""
    path: Path
    """Where it is."""
    size: int
    """Bytes that it will have."""
    received: int = 0
    """Bytes that are there."""

    @property
    def done(self) -> bool:
        """Whether all of it is there."""
        return self.received == self.size


class Uploads:
    """Files on their way, and those that came and were not yet dropped.

    Args:
        formats: Endings that are taken, in small letters with their dot.
        most: Bytes of a file at most.
    """

    def __init__(self, formats: Sequence[str], most: int) -> None:
        self.formats, self.most = tuple(formats), most
        self._files: dict[str, Upload] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._count = 0

    def begin(self, ident: str, name: str, size: int) -> None:
        """A file will come.

        Args:
            ident: Of the browser's choice.
            name: As it is called there.
            size: Bytes.

        Raises:
            EarthMindError: It is of no known format, empty, or too large, or can't be written.
        """
        name = PurePosixPath(name.replace("\\", "/")).name
        ending = PurePosixPath(name).suffix.lower()
        if ending not in self.formats:
            raise EarthMindError(
                f"{name[:80]!r} is in no format that is taken here.",
                found=ending[:20] or "no ending", change=", ".join(self.formats),
            )  # fmt: skip
        if not 0 < size <= self.most:
            raise EarthMindError(
                f"{name[:80]!r} can't be taken." if size == 0 else f"{name[:80]!r} is too large.",
                found=f"{size} bytes", change=f"a file of 1 byte to {self.most / 1e6:.0f} MB",
            )  # fmt: skip
        self.drop(ident)
        while len(self._files) >= _MOST_FILES:
            self.drop(next(iter(self._files)))
        try:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="earthmind-")
            self._count += 1
            path = Path(self._folder.name) / f"upload-{self._count}{ending}"
            path.touch(mode=0o600)
        except OSError as error:
            raise _unwritten(name, error) from error
        self._files[ident] = Upload(name=name, path=path, size=size)

    def add(self, ident: str, at: int, piece: bytes | memoryview) -> Upload:
        """The next piece of a file.

        Args:
            ident: As in `begin`.
            at: How many bytes come before it.
            piece: At most `MOST_PIECE` bytes.

        Raises:
            EarthMindError: No such file is awaited, or the piece does not fit or can't be written;
                the file is dropped.
        """
        held = self._files.get(ident)
        if held is None:
            raise EarthMindError("A piece came of a file that is not awaited.", change="once more")
        size = memoryview(piece).nbytes
        if at != held.received or not 0 < size <= MOST_PIECE or at + size > held.size:
            self.drop(ident)
            raise EarthMindError(
                f"{held.name[:80]!r} came in pieces that don't fit.",
                found=f"{size} bytes at {at} of {held.size}, awaited at {held.received}",
                change="upload it once more",
            )
        try:
            with held.path.open("ab") as file:
                file.write(piece)
        except OSError as error:
            self.drop(ident)
            raise _unwritten(held.name, error) from error
        self._files[ident] = replace(held, received=at + size)
        return self._files[ident]

    def drop(self, ident: str) -> bool:
        """Forget a file, wherever it stands; whether there was one."""
        held = self._files.pop(ident, None)
        if held is not None:
            held.path.unlink(missing_ok=True)
        return held is not None

    def holds(self, path: Path) -> bool:
        """Whether a file lies in the folder that goes with `close`."""
        return self._folder is not None and path.is_relative_to(self._folder.name)

    def close(self) -> None:
        """Forget all of them."""
        self._files.clear()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def _unwritten(name: str, error: OSError) -> EarthMindError:
    return EarthMindError(
        f"{name[:80]!r} can't be taken: where the kernel runs it can't be written.",
        found=str(error), change=f"free some space in {tempfile.gettempdir()}; then once more",
    )  # fmt: skip
