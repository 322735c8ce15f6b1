"""What every part of a session stands on: its keeper, its shelf, and looking at what is there."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from earthmind_lab.chip import Chip
from earthmind_lab.errors import AOIError
from earthmind_lab.session.answers import Answers
from earthmind_lab.session.commands import Command
from earthmind_lab.session.keeper import Keeper
from earthmind_lab.session.kept_files import KeptFiles
from earthmind_lab.session.pictures import Pictures
from earthmind_lab.session.shelf import Shelf
from earthmind_lab.session.subject import Note, Subject
from earthmind_lab.session.tasks import Task
from earthmind_lab.settings import Settings

if TYPE_CHECKING:
    from earthmind_lab.engine.base import Engine


class SessionBase:
    """State, pixels and who answers; the parts add the commands.

    Args:
        engine: Who answers; default: the embedded model, loaded with the first question.
        path: The file that keeps it; None = memory only.
        settings: Where the catalog's default comes from; by default the environment.

    Raises:
        EarthMindError: Another process has the file open, or it can't be used.
    """

    def __init__(
        self,
        *,
        engine: Engine | None = None,
        path: Path | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.engine = engine
        """Who answers; None until the first question where none was given."""
        self._settings = settings or Settings.from_env()
        self._keeper, self._pictures, self._kept_files = (
            Keeper(path),
            Pictures(path),
            KeptFiles(path),
        )
        self._shelf, self._answers = Shelf(self._kept_files.sha256), Answers()
        self._seat = uuid.uuid4().hex
        self._kept_files.prune(self._keeper.state)

    @property
    def messages(self) -> tuple[str, ...]:
        """What the user should hear about the opening: a damaged file, tasks cut off."""
        return self._keeper.messages

    @property
    def closed(self) -> bool:
        """Whether `close` was called: then every command is refused."""
        return self._keeper.closed

    @property
    def subjects(self) -> Mapping[str, Subject]:
        """By name, in the order in which they came; a snapshot."""
        with self._keeper.lock:
            return MappingProxyType(
                {name: self._seen(subject) for name, subject in self._keeper.state.subjects.items()}
            )

    @property
    def active(self) -> str | None:
        """The subject that commands without a name are about."""
        return self._keeper.state.active

    @property
    def log(self) -> tuple[Command, ...]:
        """What was done, oldest first; what was undone, or came to nothing, is not in it."""
        return self._keeper.state.log

    def subject(self, name: str | None = None) -> Subject:
        """One subject as it is now.

        Args:
            name: None = the active one.

        Raises:
            AOIError: There is none.
        """
        with self._keeper.lock:
            name = self._keeper.state.active if name is None else name
            if name is None:
                raise AOIError(
                    "There is no area yet.",
                    change="draw one, open_place('spain'), open_files('s2.tif') or "
                    "open_picture('picture.png')",
                )
            if name not in self._keeper.state.subjects:
                held = ", ".join(map(repr, self._keeper.state.subjects)) or "nothing"
                raise AOIError(f"There is no {name!r} in this session.", found=held)
            return self._seen(self._keeper.state.subjects[name])

    def chip(self, name: str | None = None) -> Chip | None:
        """The loaded chip of the chosen pair, or of files; None until a task loaded it."""
        return self._shelf.chip(self.subject(name))

    def undo(self) -> Command | None:
        """Take the last command back; where its task still runs, that is stopped.

        Returns:
            The command that is undone; None where there is none.
        """
        return self._keeper.undo()

    def cancel(self, name: str | None = None) -> bool:
        """Stop what runs for a subject; it is over when this returns.

        Args:
            name: None = the active one.

        Returns:
            Whether something ran.
        """
        with self._keeper.lock:
            subject = self._keeper.state.active if name is None else name
            return subject is not None and self._keeper.stop(subject)

    def watch(self, listener: Callable[[Note], None]) -> Callable[[], None]:
        """Hear what happens, from now on, on a thread of the session's own.

        Args:
            listener: What it raises is logged and breaks nothing.

        Returns:
            Stops it.
        """
        return self._keeper.notifier.watch(listener)

    def close(self) -> None:
        """Stop what runs, save, and let others have the file. Twice does no harm."""
        self._keeper.close()

    # --- for the parts ---------------------------------------------------------------------------

    def _free(self, stem: str, *, bare: bool = False) -> str:
        """A name that nobody has: the stem itself where allowed, else with the next number."""
        held = self._keeper.state.subjects
        if bare and stem not in held:
            return stem
        number = 2 if bare else 1
        while f"{stem} {number}" in held:
            number += 1
        return f"{stem} {number}"

    def _seen(self, subject: Subject) -> Subject:
        busy = self._keeper.busy(subject.name)
        return subject if busy is None else replace(subject, busy=busy)

    def _progress(self, task: Task, text: str) -> None:
        note = Note(kind="progress", subject=task.subject, ask=task.id, text=text)
        self._keeper.tell(task, note)
