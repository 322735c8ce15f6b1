"""Commands about files of the user's own: open them, load them again, keep a copy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthmind_lab.aoi import AOILike
from earthmind_lab.errors import LoadError
from earthmind_lab.session import commands
from earthmind_lab.session.base import SessionBase
from earthmind_lab.session.commands import Command, State
from earthmind_lab.session.keeper import Change
from earthmind_lab.session.own_files import SENSORS, files_of, paths_of
from earthmind_lab.session.subject import Subject
from earthmind_lab.session.tasks import Task

if TYPE_CHECKING:
    from earthmind_lab.data.own_scenes import Source


class FileCommands(SessionBase):
    """Subjects that need no catalog."""

    def open_files(
        self, optical: Source | None = None, sar: Source | None = None, name: str | None = None, *,
        aoi: AOILike | None = None, gsd: float | None = None, **said: Any,
    ) -> Task:  # fmt: skip
        """Files of your own as a subject; what they don't say must be said.

        The headers are read at once; the pixels by a task. Where that fails the subject goes.

        Args:
            optical: A file, or {band: file}.
            sar: The same for SAR; it may be the same file.
            name: How to call it; default: as the first file.
            aoi: The area; None = where the files overlap.
            gsd: Pixel size in metres; None = the files' own.
            said: The other arguments of `open_chip`: ``bands``, ``optical_scale``, ...

        Returns:
            A task; its result is the `Chip`, its ``subject`` the name.

        Raises:
            AOIError: The name is taken, or the area can't be used.
            LoadError: As `open_chip`; `LoadError.asks` names what must be said.
        """
        from earthmind_lab.data.own_files import area_of_files

        optical, sar = paths_of(optical), paths_of(sar)
        area = area_of_files(optical=optical, sar=sar, aoi=aoi, gsd=gsd, **said)
        given = {"optical": optical, "sar": sar, "gsd": gsd, **said}
        files = files_of(given, self._kept_files.sha256)
        with self._keeper.lock:
            name = self._free(_stem(files["arguments"]), bare=True) if name is None else name
            subject = Subject(name=name, kind="files", aoi=replace(area, name=name), files=files)
            self._keeper.commit(commands.add(self._keeper.state, subject, "open"))
            return self._load(name, self._keeper.state.log[-1])

    def load(self, name: str | None = None) -> Task:
        """Load the pixels of a subject again, such as after a restart; no command.

        Args:
            name: The subject; None = the active one.

        Returns:
            A task; its result is the `Chip`.

        Raises:
            LoadError: A picture, or no pair is chosen.
            EngineBusy: The subject is busy.
        """
        with self._keeper.lock:
            subject = self.subject(name)
            if subject.files is None and subject.row is None:
                raise LoadError(f"{subject} has no pixels to load.", change="choose a pair first")
            return self._load(subject.name)

    def _load(self, name: str, opened: Command | None = None) -> Task:
        """Load, with the lock held; files that can't be are closed again.

        Args:
            name: The subject.
            opened: The command that opened it just now.
        """

        def work(task: Task, now: Subject) -> tuple[Any, Change]:
            self._progress(task, "loading the pixels")
            try:
                return self._shelf.load(now, task), lambda state: state
            except LoadError:
                if opened is not None:
                    with self._keeper.lock:
                        self._keeper.commit(_without(self._keeper.state, opened))
                raise

        return self._keeper.start("load", name, lambda state: state, work)

    def keep_file(self, path: str | Path, name: str) -> Path:
        """Move a file into the session's own folder, from where `open_files` opens it.

        It stays as long as a subject or a command that can be undone mentions it.

        Args:
            path: Where it is now.
            name: As people call it.

        Returns:
            Where it is from now on.

        Raises:
            EarthMindError: The folder is full, or can't be written.
        """
        self._keeper.check_open()
        # Without the lock: gigabytes may be copied, while others look, ask and stop.
        return self._kept_files.keep(Path(path), name)


def _without(state: State, opened: Command) -> State:
    """The state without files that were just opened.

    The same where more was done about them, or what was active before has gone elsewhere.

    Args:
        state: As it is now.
        opened: The command that opened them.
    """
    name, was = opened.subject, opened.before["active"]
    later = [each for each in state.log if each.id > opened.id]
    moved = any(
        each.kind in ("rename", "delete") and was in (each.subject, each.before.get("name"))
        for each in later
    )
    if opened not in state.log or moved or any(each.subject == name for each in later):
        return state
    closed = commands.undo(state, opened)
    # Nothing leads back to them: neither what is active, nor undoing what came after.
    log = tuple(
        replace(each, before={**each.before, "active": was})
        if each.before.get("active") == name else each
        for each in closed.log
        if (each.kind, each.subject, each.before.get("active")) != ("select", was, name)
    )  # fmt: skip
    return replace(closed, active=was if state.active == name else state.active, log=log)


def _stem(arguments: dict[str, Any]) -> str:
    """A name for the files: that of the first one."""
    source = next(arguments[sensor] for sensor in SENSORS if sensor in arguments)
    first = next(iter(source.values())) if isinstance(source, dict) else source
    return Path(str(first)).stem[:60] or "files"
