"""Session: the one object behind every face. What a click can do, Python does in one call.

    session = Session.open()                     # kept in a file, there again after a restart
    session.open_place("spain")                  # or session.draw((w, s, e, n))
    session.search().result()                    # ranked pairs
    session.choose(0).result()                   # loads the chip
    session.ask("Segment the water.").result()   # the answer; also a turn of the subject
    session.compare(1).result()                  # with an earlier pair: questions are about both
    session.undo()                               # takes the last command back

Commands may come from any thread and return at once; what takes time is a `Task` on a thread of
its own, at most one per subject. The state is one immutable value behind one lock; the result of
a task that was stopped, or whose subject went away meanwhile, is dropped.
"""

from __future__ import annotations

import threading
import weakref
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from earthmind_lab.errors import EarthMindError
from earthmind_lab.session.areas import AreaCommands
from earthmind_lab.session.files import FileCommands
from earthmind_lab.session.keeping import KeepCommands
from earthmind_lab.session.objects import ObjectCommands
from earthmind_lab.session.pairs import PairCommands
from earthmind_lab.session.talks import TalkCommands
from earthmind_lab.settings import Settings

if TYPE_CHECKING:
    from earthmind_lab.engine.base import Engine

_OPEN: weakref.WeakValueDictionary[Path, Session] = weakref.WeakValueDictionary()
_OPENING = threading.Lock()


class Session(AreaCommands, FileCommands, PairCommands, TalkCommands, ObjectCommands, KeepCommands):
    """Named subjects with their searches, chips and talks, and a log with undo.

    Args:
        engine: Who answers; default: the embedded model, loaded with the first question.
        path: The file that keeps it; None = memory only.
        settings: Where the catalog's default comes from; by default the environment.

    Raises:
        EarthMindError: Another process has the file open, or it can't be used.
    """

    @classmethod
    def open(
        cls,
        name: str = "default",
        *,
        engine: Engine | None = None,
        settings: Settings | None = None,
    ) -> Session:
        """The session of this name, with everything that is there.

        In the process that has it open already this is the same session: a cell may run twice.

        Args:
            name: Of the file in the settings' folder ``sessions``.
            engine: Who answers; default: the embedded model.
            settings: Where the folder is; by default the environment.

        Raises:
            EarthMindError: Another process has it open, or the name is no file name.
        """
        if not name.strip() or name.startswith(".") or {"/", "\\", "\0"} & set(name):
            raise EarthMindError(f"{name!r} is no name for a session.", change="a plain word")
        settings = settings or Settings.from_env()
        path = (settings.home / "sessions" / f"{name}.json").absolute()
        with _OPENING:
            held = _OPEN.get(path)
            if held is not None and not held.closed:
                held.engine = engine or held.engine
                return held
            session = cls(engine=engine, path=path, settings=settings)
            _OPEN[path] = session
            return session

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()
