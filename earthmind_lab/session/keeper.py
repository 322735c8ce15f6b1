"""Keeper: the one lock around a session's state, its file, its notes and its running tasks.

It knows no pixels and no engine: commands hand it the next state, tasks hand it their work.
Every method may be called from any thread and returns at once; work runs on a thread of its own.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias

from earthmind_lab.errors import Cancelled, EarthMindError, EngineBusy
from earthmind_lab.session import commands
from earthmind_lab.session.commands import Command, State
from earthmind_lab.session.file import SessionFile
from earthmind_lab.session.notifier import Notifier
from earthmind_lab.session.subject import Busy, Note, SaidTurn, Subject
from earthmind_lab.session.tasks import LABELS, Task, said_of

Change: TypeAlias = Callable[[State], State]
Work: TypeAlias = Callable[[Task, Subject], tuple[Any, Change]]
"""On the task's thread, with the subject as it was at the start: the result, and its effect."""

CLOSE_SECONDS = 5.0
"""How long `close` waits for each worker: a read under way can't be stopped, only left."""


class Keeper:
    """State, file, notes and tasks of one session.

    Args:
        path: The file that keeps the state; None = memory only.

    Raises:
        EarthMindError: Another process has the file open, or it can't be used.
    """

    def __init__(self, path: Path | None) -> None:
        self.lock = threading.RLock()
        """Hold it to look and act in one step."""
        self.state, self.messages, self.closed = State(), (), False
        self.notifier = Notifier()
        self._running: dict[str, tuple[Task, Command | None]] = {}
        self._threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        self._without_command = 0
        self._file = None if path is None else SessionFile(path)
        if self._file is not None:
            # Also where nobody calls close(): another session may then have the file.
            weakref.finalize(self, self._file.close)
            self.state, self.messages = self._restored(self._file)

    state: State
    """What holds now; immutable, so that anybody may read it without the lock."""
    messages: tuple[str, ...]
    """What the user should hear about the opening."""

    def busy(self, name: str) -> Busy | None:
        """What runs for a subject."""
        running = self._running.get(name)
        return None if running is None else running[0].kind

    def commit(self, state: State) -> None:
        """Take the next state: tell what differs, write the file.

        Raises:
            EarthMindError: The session is closed.
            ValueError: A talk in it would not be read again.
        """
        with self.lock:
            self.check_open()
            for name, subject in state.subjects.items():
                if subject is not self.state.subjects.get(name):
                    subject.check_talk()
            old, self.state = self.state, state
            if state is not old:
                for note in _differences(old, state):
                    self.notifier.tell(note)
                self._save()

    def check_open(self) -> None:
        """Refuse commands after the end.

        Raises:
            EarthMindError: The session is closed.
        """
        if self.closed:
            raise EarthMindError("The session is closed.", change="Session.open()")

    # --- tasks -----------------------------------------------------------------------------------

    def start(self, kind: Busy, name: str, begin: Change, work: Work) -> Task:
        """Begin a task; its command is in the log from the first moment.

        Args:
            kind: What it does.
            name: The subject, which must be there.
            begin: The state from the first moment; the same state = a task without a command.
            work: What takes time.

        Raises:
            EngineBusy: A task of this subject still runs.
            EarthMindError: The session is closed, or `begin` refuses.
        """
        with self.lock:
            self.check_open()
            if name in self._running:
                first = self._running[name][0]
                raise EngineBusy(
                    f"{name!r} is still waiting for its {LABELS[first.kind]} ({first.id}).",
                    change="wait for it, or stop it",
                )
            state = begin(self.state)
            command = None if state is self.state else state.log[-1]
            self._without_command += command is None
            ident = f"again-{self._without_command}" if command is None else command.task
            task = Task(ident, kind, name, self._cancel)
            self._running[name] = (task, command)
            self.commit(state)
            self.notifier.tell(Note(kind="changed", subject=name, what="busy"))
            thread = threading.Thread(
                target=self._work, args=(task, state.subjects[name], work),
                name=f"earthmind-{task.id}", daemon=True,
            )  # fmt: skip
            self._threads.add(thread)
            thread.start()
            return task

    def stop(self, name: str, why: str = "Stopped before the answer was complete.") -> bool:
        """Stop what runs for a subject; False where nothing does.

        It is over when this returns: what its worker still brings is dropped.
        """
        with self.lock:
            if name not in self._running:
                return False
            task, _ = self._running[name]
            self._fail(task, Cancelled(why, change="start it again"), f"{why} Try: ask again.")
        task.stop()
        return True

    def undo(self) -> Command | None:
        """Take the last command back; where its task still runs, that is stopped."""
        with self.lock:
            self.check_open()
            if not self.state.log:
                return None
            command = self.state.log[-1]
            task, running = self._running.get(command.subject, (None, None))
            if task is not None and running is command:
                error = Cancelled("It was undone.")
                self._settle(task, lambda state: commands.undo(state, command), error=error)
                task.stop()
                return command
            if command.kind not in commands.HARMLESS:
                self.stop(command.subject, "What it was about was undone.")
            self.commit(commands.undo(self.state, command))
            return command

    def tell(self, task: Task, note: Note) -> None:
        """A note of a task, unless it has ended."""
        with self.lock:
            if self._runs(task):
                self.notifier.tell(note)

    def close(self) -> None:
        """Stop what runs, save, and let others have the file. Twice does no harm."""
        with self.lock:
            if self.closed:
                return
            for name in list(self._running):
                self.stop(name, "The session was closed before the answer was complete.")
            self._save()
            self.closed = True
            threads = [each for each in self._threads if each is not threading.current_thread()]
            if self._file is not None:
                self._file.close()
        for thread in threads:
            thread.join(CLOSE_SECONDS)
        self.notifier.close()

    def _runs(self, task: Task) -> bool:
        return self._running.get(task.subject, (None,))[0] is task

    def _cancel(self, task: Task) -> bool:
        with self.lock:
            return self._runs(task) and self.stop(task.subject)

    def _work(self, task: Task, subject: Subject, work: Work) -> None:
        """On the task's own thread."""
        try:
            result, change = work(task, subject)
        except BaseException as error:  # noqa: BLE001  every failure belongs to who waits
            self._fail(task, error)
        else:
            self._settle(task, change, result=result)

    def _settle(
        self, task: Task, change: Change, *, result: Any = None, error: BaseException | None = None
    ) -> None:
        """End a task with its effect; no effect where it had ended already."""
        with self.lock:
            if not self._runs(task):
                return
            del self._running[task.subject]
            old = self.state
            self.commit(change(old))
            if self.state is old:
                self._save()  # it runs no more
            if task.kind == "load" and error is None:
                self.notifier.tell(Note(kind="changed", subject=task.subject, what="chip"))
            self.notifier.tell(Note(kind="changed", subject=task.subject, what="busy"))
            task.end(result, error)

    def _fail(self, task: Task, error: BaseException, message: str | None = None) -> None:
        """End a task without result: an ask leaves a turn, anything else leaves no trace."""
        with self.lock:
            if not self._runs(task):
                return
            command = self._running[task.subject][1]
            stopped = isinstance(error, Cancelled)

            def change(state: State) -> State:
                if command is None:
                    return state
                if task.kind != "ask":
                    return commands.undo(state, command)
                ending: Ending = "stopped" if stopped else "failed"
                turn = _ended(command, ending, message or said_of(error), task.text)
                return commands.said(state, task.subject, turn)

            if task.kind != "ask" and not stopped:
                note = Note(kind="error", subject=task.subject, message=said_of(error))
                self.notifier.tell(note)
            self._settle(task, change, error=error)

    # --- file ------------------------------------------------------------------------------------

    def _save(self) -> None:
        if self._file is None or self.closed:
            return
        running = [command.id for _, command in self._running.values() if command is not None]
        try:
            self._file.write(self.state, running)
        except OSError as error:  # all of it is still in memory, and the next change tries again
            message = f"The session can't be saved. Found: {error}. Try: free some space."
            self.notifier.tell(Note(kind="error", message=message))

    def _restored(self, file: SessionFile) -> tuple[State, tuple[str, ...]]:
        """What the file holds; tasks that ran when the process ended are settled."""
        state, running, messages = file.read()
        told = list(messages)
        for command in [each for each in state.log if each.id in running]:
            if command.kind == "ask":
                why = "The program ended before the answer did. Try: ask again."
                turn = _ended(command, "stopped", why, "")
                state = commands.said(state, command.subject, turn)
                told.append(f"{turn.question!r} on {command.subject!r}: {turn.message}")
            else:
                state = commands.undo(state, command)
                what = "load" if command.kind in ("choose", "compare") else command.kind
                told.append(
                    f"The {what} of {command.subject!r} was cut off when the program ended. "
                    "Try: start it again."
                )
        return state, tuple(told)


Ending: TypeAlias = Literal["stopped", "failed"]


def _ended(command: Command, state: Ending, message: str, text: str) -> SaidTurn:
    """The turn of an ask that brought no answer."""
    args = command.args
    return SaidTurn(
        id=command.task,
        question=str(args["question"]),
        state=state,
        text=text,
        message=message,
        raw=text,
        parent=args["parent"],
        regions=tuple(args["regions"]),
        options=args["options"],
        against=args["against"],
        before=args.get("before"),  # schema 2 has none
    )


def _looked(subject: Subject) -> tuple[Any, ...]:
    return subject.query, subject.pairs, subject.chosen, subject.before


def _differences(old: State, new: State) -> list[Note]:
    """Notes that tell what a command changed."""
    notes = []
    if list(old.subjects) != list(new.subjects):
        notes.append(Note(kind="changed", what="subjects"))
    for name, now in new.subjects.items():
        was = old.subjects.get(name)
        if was is None or was is now:
            continue
        changed = {
            "subjects": was.aoi is not now.aoi or was.versions != now.versions,
            "pairs": _looked(was) != _looked(now),
            "chip": (was.row, was.row_before) != (now.row, now.row_before)
            or was.aoi is not now.aoi,
            "turns": (was.turns, was.head) != (now.turns, now.head),
            "regions": was.regions != now.regions,
        }
        notes += [
            Note(kind="changed", subject=name, what=what) for what in changed if changed[what]
        ]
    if old.active != new.active:
        notes.append(Note(kind="changed", subject=new.active, what="active"))
    return notes
