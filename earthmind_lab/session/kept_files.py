"""Files that came to a session from elsewhere, such as a browser: copies beside its file.

They lie in ``NAME.files`` beside ``NAME.json``, each in a folder named by its content. One that no
subject and no command of the session mentions any more goes when the session is next opened.
"""

from __future__ import annotations

import glob
import json
import re
import shutil
import tempfile
import threading
import weakref
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from earthmind_lab.errors import EarthMindError
from earthmind_lab.recording import file_sha256
from earthmind_lab.session.commands import State
from earthmind_lab.whole_file import whole_file

MOST_BYTES = 4_000_000_000
"""Of all that a session keeps."""
_FOLDER = re.compile("[0-9a-f]{20}")
_Sign: TypeAlias = tuple[int, int, int]


class KeptFiles:
    """The folder of a session's files.

    Args:
        path: The session's file; None = memory only: the folder goes with the session.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._folder = None if path is None else path.with_suffix(".files")
        self._one = threading.Lock()
        self._known: dict[Path, tuple[_Sign, str]] = {}

    def keep(self, source: Path, name: str) -> Path:
        """Take a file in; the same content under the same name is kept once. Any thread.

        It is hashed and perhaps copied, which takes seconds a gigabyte; files come one at a time,
        so that each finds the room that it was promised.

        Args:
            source: Where it is now; it is moved.
            name: As people call it; what no file name may hold becomes ``_``.

        Raises:
            EarthMindError: The folder is full, or can't be written.
        """
        try:
            with self._one:
                folder, sha256 = self._made(), file_sha256(source)
                place = folder / sha256[:20] / confined_name(name)
                if not place.is_file():
                    self._check_room(folder, source)
                    with whole_file(place) as draft:
                        shutil.move(source, draft)
                self._known[place] = (_sign(place), sha256)
        except OSError as error:
            raise EarthMindError(f"{name[:80]!r} can't be kept.", found=str(error)) from error
        return place

    def sha256(self, path: Path) -> str:
        """SHA-256 of any file; one that was kept here and not touched since is not read again.

        Raises:
            OSError: It can't be read.
        """
        sign, sha256 = self._known.get(path, (None, ""))
        return sha256 if sign == _sign(path) else file_sha256(path)

    def prune(self, state: State) -> None:
        """Delete what a session mentions no more; nothing where a damaged one lies beside it."""
        folder, path = self._folder, self._path
        if folder is None or path is None or not folder.is_dir():
            return
        if any(path.parent.glob(f"{glob.escape(path.stem)}.damaged-*.json")):
            return
        held = [subject.to_dict() for subject in state.subjects.values()]
        held += [command.to_dict() for command in state.log]
        mentioned = set(_FOLDER.findall(json.dumps(held)))
        for each in folder.iterdir():
            if _FOLDER.fullmatch(each.name) and each.name not in mentioned:
                shutil.rmtree(each, ignore_errors=True)

    def _made(self) -> Path:
        if self._folder is None:
            kept = tempfile.TemporaryDirectory(prefix="earthmind-")
            weakref.finalize(self, kept.cleanup)
            self._folder = Path(kept.name)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._folder

    def _check_room(self, folder: Path, source: Path) -> None:
        held = sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())
        if held + source.stat().st_size > MOST_BYTES:
            raise EarthMindError(
                "The session keeps as many files as it may.",
                found=f"{held / 1e9:.1f} GB in {folder}",
                change="open files from where they are, by session.open_files(path)",
            )


def _sign(path: Path) -> _Sign:
    """What a file can hardly change without."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


def confined_name(name: str) -> str:
    """A file name without folders, of letters, digits, ``.``, ``-`` and ``_``.

    >>> confined_name("../../my <b>scene</b>.TIF"), confined_name("...")
    ('b_.TIF', 'file')
    """
    last = PurePosixPath(name.replace("\\", "/")).name
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", last).strip("._")
    ending = PurePosixPath(plain).suffix[:8]
    return f"{plain.removesuffix(ending)[:60]}{ending}" or "file"
