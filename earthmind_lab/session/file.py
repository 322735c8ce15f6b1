"""The file of a session: one JSON, complete or not written, held by one process at a time.

A file that can't be read is set aside under another name and said, never lost.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from earthmind_lab.errors import EarthMindError
from earthmind_lab.session.commands import Command, State
from earthmind_lab.session.subject import Subject

SCHEMA = 3
"""Version of the file; a reader refuses later ones and leaves them alone. 2 knew one date only."""


class SessionFile:
    """Where a session is kept.

    Args:
        path: The JSON file; made on the first write.

    Raises:
        EarthMindError: Another process has it open, or the folder can't be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._hold = _hold(path)

    def read(self) -> tuple[State, frozenset[int], tuple[str, ...]]:
        """What is there.

        Returns:
            The state, the ids of commands that ran when it was written, and what the user
            should hear.

        Raises:
            EarthMindError: Written by a later version, or it can't be opened.
        """
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return State(), frozenset(), ()
        except OSError as error:
            raise _unusable(self.path, error) from error
        try:
            data = json.loads(text)
            if int(data["schema"]) > SCHEMA:
                raise _later(self.path, data["schema"])
            return *_state_of(data), ()
        # A file may be damaged in any way; every one of them leads to the same end.
        except EarthMindError as error:
            if isinstance(error, _Later):
                raise
            return State(), frozenset(), (self._set_aside(error),)
        except (
            ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError,
        ) as error:  # fmt: skip
            return State(), frozenset(), (self._set_aside(error),)

    def write(self, state: State, running: Collection[int]) -> None:
        """Put the state in the file; it is the old one or the new one at every moment.

        Args:
            state: What to keep.
            running: Ids of commands whose task has not ended.

        Raises:
            OSError: It can't be written; the file before is untouched.
        """
        data = {
            "schema": SCHEMA,
            "active": state.active,
            "next": state.next,
            "running": sorted(running),
            "subjects": [subject.to_dict() for subject in state.subjects.values()],
            "log": [command.to_dict() for command in state.log],
        }
        draft = self.path.with_name(f".{self.path.name}.part")
        try:
            # A process that is killed leaves the draft behind; no fsync: a power cut may cost
            # the last change, and the disk must not decide how fast a click is.
            draft.write_text(json.dumps(data), encoding="utf-8")
            draft.replace(self.path)
        except OSError:
            with suppress(OSError):  # what hindered the draft may hinder this
                draft.unlink(missing_ok=True)
            raise

    def close(self) -> None:
        """Let another process have it."""
        self._hold.close()

    def _set_aside(self, error: Exception) -> str:
        """Rename the damaged file and say so."""
        stem = self.path.stem
        number = 1
        while (aside := self.path.with_name(f"{stem}.damaged-{number}.json")).exists():
            number += 1
        try:
            self.path.rename(aside)
        except OSError as problem:
            raise _unusable(self.path, problem) from problem
        return (
            f"The session {stem!r} is damaged and starts empty. "
            f"Found: {type(error).__name__}: {str(error)[:200]}. "
            f"The damaged file is kept as {aside.name}."
        )


class _Later(EarthMindError):
    """The file is of a later version; nothing is wrong with it."""


def _state_of(data: Mapping[str, Any]) -> tuple[State, frozenset[int]]:
    if int(data["schema"]) == 1:
        data = _from_first(data)
    subjects = [Subject.from_dict(each) for each in data["subjects"]]
    state = State(
        subjects={subject.name: subject for subject in subjects},
        active=data["active"],
        log=tuple(Command.from_dict(each) for each in data["log"]),
        next=int(data["next"]),
    )
    if len(state.subjects) != len(subjects):
        raise ValueError("two subjects of one name")
    if state.active is not None and state.active not in state.subjects:
        raise ValueError(f"the active subject {state.active!r} is not there")
    return state, frozenset(int(each) for each in data["running"])


def _from_first(data: Mapping[str, Any]) -> dict[str, Any]:
    """A file of schema 1, which knew no branches, regions and versions, as one of schema 2."""
    before: dict[str, str | None] = {}  # by turn, the one that it goes on from

    def subject(old: Mapping[str, Any]) -> dict[str, Any]:
        ids = [turn["id"] for turn in old["turns"]]
        led = dict(zip(ids, [None, *ids], strict=False))
        before.update(led)
        turns = [{**turn, "parent": led[turn["id"]]} for turn in old["turns"]]
        head = ids[-1] if ids else None
        return {**old, "turns": turns, "head": head, "regions": [], "version": 1, "versions": []}

    subjects = [subject(each) for each in data["subjects"]]
    heads = {each["name"]: each["head"] for each in subjects}
    wholes = [(old, old["before"].get("whole")) for old in data["log"]]
    log = [
        {**old, "before": {**old["before"], "whole": subject(whole)}} if whole else old
        for old, whole in wholes
    ]
    for at, old in enumerate(log):
        if old["kind"] == "ask":
            # One that ran when the file was written has no turn yet.
            head = before.get(old["before"]["turn"], heads.get(old["subject"]))
            args = {**old["args"], "parent": head, "regions": [], "against": None}
            log[at] = {**old, "args": args, "before": {**old["before"], "head": head}}
    return {**data, "subjects": subjects, "log": log}


def _hold(path: Path) -> IO[str]:
    """An open lock file that names this process; the system frees it when the process dies."""
    lock = path.with_name(f".{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = lock.open("a+", encoding="utf-8")
    except OSError as error:
        raise _unusable(path, error) from error
    if not _lock(stream):
        stream.seek(0)
        holder = stream.read().strip() or "unknown"
        stream.close()
        raise EarthMindError(
            f"The session {path.stem!r} is open in another process.",
            found=f"pid {holder}",
            change="close that notebook or program, or Session.open('another name')",
        )
    stream.truncate(0)
    stream.write(str(os.getpid()))
    stream.flush()
    return stream


def _lock(stream: IO[str]) -> bool:
    """Whether the file is ours now; freed when the stream closes."""
    try:
        import fcntl
    except ImportError:  # Windows: two notebooks on one session overwrite each other there
        return True
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a network drive without locks
        return True
    return True


def _later(path: Path, schema: object) -> _Later:
    return _Later(
        f"The session {path.stem!r} was written by a later version of earthmind_lab.",
        found=f"schema {schema}, this version reads {SCHEMA}",
        change="the later version, or Session.open('another name')",
    )


def _unusable(path: Path, error: OSError) -> EarthMindError:
    return EarthMindError(
        f"The session file {path} can't be used.",
        found=str(error),
        change="EARTHMIND_HOME with a folder that can be written",
    )
