"""Files that came to a session from elsewhere, such as a browser: copies beside its file.

They lie in ``NAME.files`` beside ``NAME.json``, each in a folder named by its content. One that no
subject and no command of the session mentions any more goes when the session is next opened.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import weakref
from pathlib import Path, PurePosixPath

from earthmind_lab.errors import EarthMindError
from earthmind_lab.recording import file_sha256
from earthmind_lab.session.commands import State

MOST_BYTES = 4_000_000_000
"""Of all that a session keeps."""
_FOLDER = re.compile("[0-9a-f]{20}")


class KeptFiles:
    """The folder of a session's files.

    Args:
        path: The session's file; None = memory only: the folder goes with the session.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._folder = None if path is None else path.with_suffix(".files")

    def keep(self, source: Path, name: str) -> Path:
        """Take a file in; the same content under the same name is kept once.

        Args:
            source: Where it is now; it is moved.
            name: As people call it; what no file name may hold becomes ``_``.

        Raises:
            EarthMindError: The folder is full, or can't be written.
        """
        try:
            folder = self._made()
            place = folder / file_sha256(source)[:20] / safe_name(name)
            if not place.is_file():
                self._check_room(folder, source)
                place.parent.mkdir(exist_ok=True)
                shutil.move(source, place)
        except OSError as error:
            raise EarthMindError(f"{name[:80]!r} can't be kept.", found=str(error)) from error
        return place

    def prune(self, state: State) -> None:
        """Delete what a session mentions no more; nothing where a damaged one lies beside it."""
        folder, path = self._folder, self._path
        if folder is None or path is None or not folder.is_dir():
            return
        if any(path.parent.glob(f"{path.stem}.damaged-*.json")):
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


def safe_name(name: str) -> str:
    """A file name without folders, of letters, digits, ``.``, ``-`` and ``_``.

    >>> safe_name("../../my <b>scene</b>.TIF"), safe_name("...")
    ('b_.TIF', 'file')
    """
    last = PurePosixPath(name.replace("\\", "/")).name
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", last).strip("._")
    ending = PurePosixPath(plain).suffix[:8]
    return f"{plain.removesuffix(ending)[:60]}{ending}" or "file"
