"""Keep panel: what was found about the active subject as files for the user's own disk.

`KeepPanel(session)` as the last line of a cell shows it.
"""

from __future__ import annotations

import queue
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import traitlets

from earthmind_lab.answer import format_area
from earthmind_lab.errors import Cancelled, EarthMindError, PromptError
from earthmind_lab.replay import Replay
from earthmind_lab.session.subject import Note, SaidTurn, Subject
from earthmind_lab.session.tasks import said_of
from earthmind_lab.widgets.base import SessionWidget
from earthmind_lab.widgets.downloads import Downloads, made_apart, safe_name
from earthmind_lab.widgets.protocol import FromBrowser, clean
from earthmind_lab.widgets.rows import mapped_area

if TYPE_CHECKING:
    from earthmind_lab.session import Session, Task

NOTHING = "Ask something first: what was answered can then be taken home."
NO_PLACE = "A plain picture has no place on the Earth, so it gives no features and no rasters."
FORGOTTEN = "The masks of this answer are no longer in memory. Ask again for rasters and points."
TWO_DATES = (
    "This answer is about two dates, and masks would not tell them apart. "
    "Ask about each date alone for rasters and points."
)
UNMARKED = "This answer marks nothing, so it has no probabilities."
SAME = "The same answer, from the catalog to the last pixel."


@dataclass(frozen=True, kw_only=True)
class _Wish:
    """A file that somebody wants."""

    turn: str
    subject: str
    points: int


class _Kind(NamedTuple):
    ending: str
    """After the subject's name; {} = number of the answer in its talk."""
    media: str
    make: Callable[[Session, _Wish, Path], object]


def _export(session: Session, wish: _Wish, path: Path) -> object:
    return session.export(wish.turn, path, wish.subject)


def _probability(session: Session, wish: _Wish, path: Path) -> object:
    return session.export(wish.turn, path, wish.subject, probability=True)


def _stac(session: Session, wish: _Wish, path: Path) -> object:
    """The item's folder as one file."""
    item = session.save_stac(wish.turn, path.with_suffix("") / path.stem, wish.subject)
    return shutil.make_archive(
        str(path.with_suffix("")), "zip", item.parents[1], base_dir=item.parent.name
    )


def _points(session: Session, wish: _Wish, path: Path) -> object:
    return session.sample_points(wish.turn, path, wish.points, name=wish.subject)


KINDS: Mapping[str, _Kind] = {
    "geojson": _Kind("-answer-{}.geojson", "application/geo+json", _export),
    "gpkg": _Kind("-answer-{}.gpkg", "application/geopackage+sqlite3", _export),
    "parquet": _Kind("-answer-{}.parquet", "application/vnd.apache.parquet", _export),
    "mask": _Kind("-answer-{}-mask.tif", "image/tiff", _export),
    "probability": _Kind("-answer-{}-probability.tif", "image/tiff", _probability),
    "stac": _Kind("-answer-{}-stac.zip", "application/zip", _stac),
    "record": _Kind(
        "-answer-{}-record.json", "application/json",
        lambda session, wish, path: session.save_record(wish.turn, path, wish.subject),
    ),
    "points": _Kind("-answer-{}-points.gpkg", "application/geopackage+sqlite3", _points),
    "report": _Kind(
        "-report.html", "text/html",
        lambda session, wish, path: session.report(path, wish.subject),
    ),
    "notebook": _Kind(
        "-talk.ipynb", "application/x-ipynb+json",
        lambda session, wish, path: session.notebook(path, wish.subject),
    ),
}  # fmt: skip
"""By the ``what`` of a message."""
_ON_EARTH = ("geojson", "gpkg", "parquet", "mask", "probability", "stac", "points")
_OF_MASKS = ("mask", "probability", "stac", "points")


@dataclass(frozen=True, kw_only=True)
class _Made:
    """A file is there, or why it isn't; from its thread to the panel's."""

    ident: str
    what: str
    path: Path
    error: BaseException | None


class KeepPanel(SessionWidget):
    """Files, references and replay of the answers about the active subject.

    Args:
        session: Whose answers.

    Raises:
        EarthMindError: The browser side was never built.
    """

    answers: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    """Per answer of the talk: ``turn``, ``title``, ``off`` (kind of file to why it can't be
    had)."""
    about = traitlets.Dict().tag(sync=True)
    """``name``, ``busy``, ``hint``."""
    checked = traitlets.Dict().tag(sync=True)
    """The last replay: ``turn``, ``state`` (``running``, ``same``, ``differs``, ``stopped`` or
    ``failed``), ``words``; empty before one."""

    def __init__(self, session: Session) -> None:
        super().__init__(session, "keep")
        self._downloads = Downloads()
        self._task: Task | None = None
        self._begin()

    def close(self) -> None:
        """As every panel; files that were not fetched are dropped."""
        super().close()
        if hasattr(self, "_downloads"):
            self._downloads.close()

    # --- on the panel's thread -------------------------------------------------------------------

    def _take(self, item: object) -> None:
        if isinstance(item, _Made):
            self._guard(self._offer, item)
        else:
            super()._take(item)

    def _note(self, note: Note) -> None:
        if note.kind == "changed":
            self._soon()

    def _message(self, message: FromBrowser) -> str | None:
        kind = message["kind"]
        act = getattr(self, f"_on_{kind}", None)
        if act is None:
            return f"A keep panel has nothing to {kind}."
        said: str | None = act(message)
        return said

    def _on_hello(self, _: FromBrowser) -> str:
        return ""

    def _on_keep(self, message: FromBrowser) -> str:
        """Have a file made on a thread of its own: a report takes its time."""
        ident, what = message["file"], message["what"]
        try:
            subject, number = self._find(message["turn"])
        except PromptError:
            self.send({"kind": "refused", "file": ident})
            raise
        wish = _Wish(turn=message["turn"], subject=subject.name, points=message["points"])
        name = safe_name(subject.name, KINDS[what].ending.format(number))
        path = self._downloads.folder(ident) / name
        threading.Thread(
            target=_make, args=(self.session, wish, ident, what, path, self._inbox),
            name="earthmind-file", daemon=True,
        ).start()  # fmt: skip
        return f"Making {name}…"

    def _offer(self, made: _Made) -> None:
        """Tell the browser, which then asks for pieces."""
        if not self._downloads.awaits(made.ident, made.path.parent):
            return
        error = made.error
        if error is None:
            try:
                download = self._downloads.offer(made.ident, made.path)
            except (EarthMindError, OSError) as refused:
                error = refused
        if error is not None:
            self._downloads.drop(made.ident)
            self.send({"kind": "refused", "file": made.ident})
            self._fail(said_of(error))
            return
        self.send(
            {"kind": "file", "file": made.ident, "name": made.path.name, "size": download.size,
             "media": KINDS[made.what].media}
        )  # fmt: skip

    def _on_more(self, message: FromBrowser) -> None:
        ident, at = message["file"], message["at"]
        try:
            piece = self._downloads.piece(ident, at)
        except (EarthMindError, OSError):
            self.send({"kind": "refused", "file": ident})
            raise
        self.send({"kind": "part", "file": ident, "at": at}, buffers=[piece])

    def _on_leave(self, message: FromBrowser) -> str:
        self._downloads.drop(message["file"])
        return ""

    def _on_cite(self, message: FromBrowser) -> None:
        subject, _ = self._find(message["turn"])
        text = str(self.session.cite(message["turn"], subject.name))
        self.send({"kind": "citation", "turn": message["turn"], "text": clean(text)})

    def _on_verify(self, message: FromBrowser) -> str:
        subject, _ = self._find(message["turn"])
        self._task = self.session.replay(message["turn"], subject.name)
        self.checked = {"turn": message["turn"], "state": "running", "words": []}
        return ""

    def _on_cancel(self, _: FromBrowser) -> str:
        stopped = self._task is not None and self._task.cancel()
        return "Stopped." if stopped else "Nothing is being checked."

    def _find(self, turn: str) -> tuple[Subject, int]:
        """Whose answer it is, and the how many-th of its talk.

        Raises:
            PromptError: The active subject has no such answer.
        """
        subject = self.session.subject()
        ids = [each.id for each in _answered(subject)]
        if turn not in ids:
            raise PromptError(
                f"There is no such answer about {subject.name!r} any more.", change="choose another"
            )
        return subject, ids.index(turn) + 1

    def _flush(self) -> None:
        active = self.session.active
        subject = self.session.subjects.get(active) if active is not None else None
        said = [] if subject is None else _answered(subject)
        with self.hold_sync():
            self._settle()
            self.answers = [self._row(number, turn) for number, turn in enumerate(said, start=1)]
            self.about = {
                "name": clean(subject.name) if subject else "",
                "busy": (subject.busy or "") if subject else "",
                "hint": "" if said else NOTHING,
            }

    def _settle(self) -> None:
        """What came of the replay."""
        if self._task is None or not self._task.done:
            return
        task, self._task = self._task, None
        try:
            found: Replay = task.result(0)
        except Cancelled:
            state, words = "stopped", ["Stopped before it was known."]
        except Exception as error:  # noqa: BLE001  whatever broke is the result
            state, words = "failed", [said_of(error)]
        else:
            state = "same" if found.same else "differs"
            words = [SAME] * found.same + list(found.differences)
        self.checked = {**self.checked, "state": state, "words": [clean(each) for each in words]}

    def _row(self, number: int, turn: SaidTurn) -> dict[str, Any]:
        features = turn.features.get("features", ())
        dates = " on either date" if turn.before else ""
        mapped = f" ({format_area(mapped_area(features))} mapped{dates})" if features else ""
        return {
            "turn": turn.id,
            "title": clean(f"{number}. {turn.question}{mapped}"),
            "off": self._off(turn),
        }

    def _off(self, turn: SaidTurn) -> dict[str, str]:
        """Which files can't be had of an answer, and why."""
        if turn.record is None or turn.record.get("aoi") is None:
            return dict.fromkeys(_ON_EARTH, NO_PLACE)
        if turn.before is not None:
            return dict.fromkeys(_OF_MASKS, TWO_DATES)
        if self.session.answer(turn.id) is None:
            return dict.fromkeys(_OF_MASKS, FORGOTTEN)
        return {} if turn.features.get("features") else {"probability": UNMARKED}


def _answered(subject: Subject) -> list[SaidTurn]:
    """The answers of the branch that one reads, oldest first."""
    return [turn for turn in subject.talk if turn.state == "done" and turn.record is not None]


def _make(
    session: Session, wish: _Wish, ident: str, what: str, path: Path,
    inbox: queue.SimpleQueue[Any],
) -> None:  # fmt: skip
    """On a thread of its own; holds no panel."""
    error: BaseException | None = None
    try:
        with made_apart(path) as draft:
            KINDS[what].make(session, wish, draft)
    except BaseException as caught:  # noqa: BLE001  said by the panel
        error = caught
    inbox.put(_Made(ident=ident, what=what, path=path, error=error))
