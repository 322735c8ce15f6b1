"""FilePanel: GeoTIFFs and pictures of the user's own, dropped into the page; pictures with masks.

`FilePanel(session)` as the last line of a cell shows it. Its Open is `session.open_files`, or
`open_picture`. What the files don't declare is asked for by a form, never guessed.
"""

from __future__ import annotations

import shutil
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import traitlets

from earthmind_lab.data.own_files import area_of_files, sensors_in
from earthmind_lab.errors import (
    Cancelled,
    EarthMindError,
    GridMismatch,
    LoadError,
    PromptError,
)
from earthmind_lab.render import picture_view
from earthmind_lab.session.kept_files import confined_name
from earthmind_lab.session.subject import Note
from earthmind_lab.widgets.base import SessionWidget
from earthmind_lab.widgets.declared import declared_of
from earthmind_lab.widgets.pictures import Pictures
from earthmind_lab.widgets.protocol import FromBrowser, clean
from earthmind_lab.widgets.uploads import PIECE, Upload, Uploads

if TYPE_CHECKING:
    from earthmind_lab.aoi import AOI
    from earthmind_lab.session import Session
    from earthmind_lab.session.tasks import Task

PICTURES = (".png", ".jpg", ".jpeg")
FORMATS = (".tif", ".tiff", ".jp2", *PICTURES)
MOST_BYTES = 500_000_000
"""More than one chip of four bands and two polarisations, uncompressed."""
MOST_FILES = 2


@dataclass(kw_only=True)
class _File:
    """One that is here and not yet open."""

    name: str
    path: Path
    size: int
    role: str
    """One of `protocol.ROLES`; empty = not said yet."""

    @property
    def sensors(self) -> tuple[str, ...]:
        """The arguments of `open_files` that it is."""
        return ("optical", "sar") if self.role == "both" else (self.role,)


class FilePanel(SessionWidget):
    """Files to open, what has to be said of them, and the active subject where it is a picture.

    Args:
        session: Where they become subjects.

    Raises:
        EarthMindError: The browser side was never built.
    """

    files: traitlets.List[Any] = traitlets.List().tag(sync=True)
    """Files that wait to be opened: ``upload``, ``name``, ``size``, ``role``."""
    form = traitlets.Dict().tag(sync=True)
    """What is to be declared: ``asks`` (arguments of `open_chip`), ``message`` (why)."""
    about = traitlets.Dict().tag(sync=True)
    """``formats``, ``most`` (bytes of a file), ``piece`` (of a message), ``inside`` (the active
    area, empty where there is none), ``loading`` (whose pixels are read, empty where none are)."""
    picture = traitlets.Dict().tag(sync=True)
    """`pictures.Pictures.row` of the active subject; empty where it is no picture."""

    def __init__(self, session: Session) -> None:
        super().__init__(session, "files")
        self._uploads = Uploads(FORMATS, MOST_BYTES)
        weakref.finalize(self, self._uploads.close)
        self._files: dict[str, _File] = {}
        self._asks: list[str] = []
        self._why = ""
        self._task: Task | None = None
        self._pictures = Pictures(session)
        self._begin()

    def close(self) -> None:
        """Stop listening, forget files that were not opened. Twice does no harm."""
        super().close()
        if hasattr(self, "_uploads"):
            self._uploads.close()

    # --- what a user does ------------------------------------------------------------------------

    def _note(self, note: Note) -> None:
        if note.kind == "changed":
            self._soon()
            self._follow()

    def _message(self, message: FromBrowser) -> str | None:
        given = {key: value for key, value in message.items() if key != "kind"}
        act = getattr(self, f"_on_{message['kind']}", None)
        if act is None:
            return f"A panel of files has nothing to {message['kind']}."
        said: str | None = act(**given)
        return said

    def _on_hello(self) -> str:
        return ""

    def _on_upload(self, upload: str, name: str, size: int) -> str:
        try:
            self._check_room()
            self._uploads.begin(upload, clean(name), size)
        except Exception:
            self.send({"kind": "settled", "upload": upload})
            raise
        self.send({"kind": "received", "upload": upload, "size": 0})
        return ""

    def _on_piece(self, upload: str, at: int) -> str | None:
        piece = self._binary[0] if self._binary else b""
        try:
            self._check_room()  # two pages may send at once
            file = self._uploads.add(upload, at, piece)
            self.send({"kind": "received", "upload": upload, "size": file.received})
            if not file.done:
                return None
            self._files[upload] = _taken(file)
        except Exception:
            self._uploads.drop(upload)
            self.send({"kind": "settled", "upload": upload})
            raise
        self._uploads.drop(upload)
        self.send({"kind": "settled", "upload": upload})
        return f"{file.name} is here."

    def _on_drop(self, upload: str) -> str:
        held = self._files.pop(upload, None)
        if held is not None:
            self._delete(held)
        dropped = self._uploads.drop(upload)
        self.send({"kind": "settled", "upload": upload})
        if not self._files:
            self._asks, self._why = [], ""
        return "The file was put away." if held or dropped else ""

    def _on_role(self, upload: str, role: str) -> str:
        self._file(upload).role = role
        return ""

    def _on_cancel(self) -> str:
        if self._task is None or not self._task.cancel():
            return "Nothing is being loaded."
        return "Stopped."

    def _on_mask(self, turn: str | None) -> str:
        self._pictures.wanted = turn
        return ""

    def _on_open(self, *, inside: bool, **texts: str) -> str:
        if self._task is not None:
            raise PromptError("Files are being loaded.", change="wait for them, or cancel")
        files = list(self._files.values())
        if not files:
            raise PromptError("There is no file to open.", change="choose or drop one")
        for file in files:
            if not file.role:
                raise PromptError(f"Say what {file.name} is.", change="optical, SAR, or both")
        if any(file.role == "picture" for file in files):
            return self._open_picture(files)
        try:
            return self._open_files(files, declared_of(texts), self._inside() if inside else None)
        except LoadError as error:
            self._ask_for(error)
            return ""

    def _open_picture(self, files: list[_File]) -> str:
        if len(files) > 1:
            raise PromptError("A picture is opened alone.", change="put the other file away")
        name = self._free(Path(files[0].name).stem)
        self.session.open_picture(picture_view(files[0].path).image, name)
        self._opened()
        return f"{name} is open: ask about it."

    def _open_files(self, files: list[_File], said: dict[str, Any], aoi: AOI | None) -> str:
        # Only what can be opened is kept in the session's folder.
        area_of_files(*_sources(files), aoi=aoi, **said)
        for file in files:
            file.path = self.session.keep_file(file.path, file.name)
        name = self._free(Path(files[0].name).stem)
        self._task = self.session.open_files(*_sources(files), name, aoi=aoi, **said)
        return "Loading the pixels…"

    # --- parts -----------------------------------------------------------------------------------

    def _check_room(self) -> None:
        if len(self._files) >= MOST_FILES:
            raise PromptError("There are two files already.", change="open them, or put one away")

    def _delete(self, file: _File) -> None:
        """Free its space, unless the session keeps it by now."""
        if self._uploads.holds(file.path):
            shutil.rmtree(file.path.parent, ignore_errors=True)

    def _file(self, upload: str) -> _File:
        if upload not in self._files:
            raise PromptError("This file is not here any more.", change="choose it once more")
        return self._files[upload]

    def _inside(self) -> AOI | None:
        return self.session.subject().aoi

    def _free(self, stem: str) -> str:
        """A name for a subject: as the file is called there, where nobody has it."""
        stem = stem[:60].strip() or "files"
        held, number, name = self.session.subjects, 1, stem
        while name in held:
            number += 1
            name = f"{stem} {number}"
        return name

    def _ask_for(self, error: LoadError) -> None:
        """Ask for what settles an error, beside what was asked for before."""
        if not error.asks:
            raise error
        self._asks += [each for each in error.asks if each not in self._asks]
        self._why = str(error)
        self._say("More must be said of these files.")

    def _follow(self) -> None:
        """What came of the load that began here."""
        task = self._task
        if task is None:
            return
        subject = self.session.subjects.get(task.subject)
        if subject is not None and subject.busy is not None:
            return
        self._task = None
        try:
            task.result()
        except LoadError as error:
            self._ask_for(error)
        except Cancelled:  # the files are open; their pixels come with the first question
            self._opened()
        else:
            self._opened()
            self._say(f"{task.subject} is open: ask about it.")

    def _opened(self) -> None:
        for file in self._files.values():
            self._delete(file)
        self._files, self._asks, self._why = {}, [], ""

    # --- what is shown ---------------------------------------------------------------------------

    def _flush(self) -> None:
        subjects, active = self.session.subjects, self.session.active
        now = subjects.get(active or "")
        with self.hold_sync():
            self.files = [
                {"upload": key, "name": clean(file.name), "size": file.size, "role": file.role}
                for key, file in self._files.items()
            ]
            self.form = {"asks": list(self._asks), "message": clean(self._why)}
            self.about = {
                "formats": list(FORMATS), "most": MOST_BYTES, "piece": PIECE,
                "inside": clean(now.name) if now is not None and now.kind == "aoi" else "",
                "loading": "" if self._task is None else clean(self._task.subject),
            }  # fmt: skip
            self.picture = self._pictures.row(now)
            if self.files or self.picture:
                self.unfolded = True


def _sources(files: list[_File]) -> tuple[Path | None, Path | None]:
    """Which file is the optical one, and which the SAR one.

    Raises:
        PromptError: Two are the same.
    """
    found: dict[str, Path] = {}
    for file in files:
        for sensor in file.sensors:
            if sensor in found:
                words = "the SAR file" if sensor == "sar" else "the optical file"
                raise PromptError(f"Both are said to be {words}.", change="one for each sensor")
            found[sensor] = file.path
    return found.get("optical"), found.get("sar")


def _taken(file: Upload) -> _File:
    """A whole upload, under a name that people know it by, beside the others.

    Raises:
        EarthMindError: It is no raster that can be read, or has no place.
    """
    place = file.path.with_suffix("") / confined_name(file.name)
    try:
        place.parent.mkdir()
        file.path.rename(place)
    except OSError as error:
        raise EarthMindError(f"{file.name[:80]!r} can't be kept.", found=str(error)) from error
    try:
        role = _role(place)
    except EarthMindError:
        shutil.rmtree(place.parent, ignore_errors=True)
        raise
    return _File(name=file.name, path=place, size=file.size, role=role)


def _role(path: Path) -> str:
    """What a file is by the names of its bands, or by having no place; empty = it doesn't say."""
    try:
        sensors = sensors_in(path)
    except GridMismatch:
        if path.suffix.lower() not in PICTURES:
            raise
        picture_view(path)
        return "picture"
    return "both" if len(sensors) == 2 else "".join(sensors)
