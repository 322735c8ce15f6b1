"""Where shared servers live: folders and files that belong to one user, and who is alive in them.

A lock says that a server lives. Whoever starts one takes it first and hands it down, so it is held
without a gap from before the server's first instruction until its last, and the kernel gives it
back however the server ends: nothing that a killed server leaves behind needs tidying up. All who
try the lock go through one gate (`gate`), so nobody takes somebody who only looks for a server, and
no old folder is removed from under a server that is just being started.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earthmind_lab.engine.gate import gate, let_go, try_lock, unusable
from earthmind_lab.errors import EngineUnavailable
from earthmind_lab.settings import Settings

LONGEST_SOCKET = 100
"""Bytes of a socket's path; the kernel takes 107, and 103 on macOS."""
LONGEST_HOST = 24
"""Characters of this machine's name in that path."""
KEPT_SECONDS = 86_400.0
"""How long the folder of a server that has ended is kept: its log says why it did."""


@dataclass(frozen=True)
class Place:
    """The folder of one shared server, which may live or not."""

    folder: Path

    @property
    def socket(self) -> Path:
        """What it listens on."""
        return self.folder / "socket"

    @property
    def log(self) -> Path:
        """What it writes; that of the one before it is kept as ``log.old``."""
        return self.folder / "log"

    def prepare(self) -> None:
        """Make the folder.

        Raises:
            EngineUnavailable: It, or the one above it, is not this user's alone.
        """
        _own(self.folder.parent)
        _own(self.folder)
        if len(os.fsencode(self.socket)) > LONGEST_SOCKET:
            raise EngineUnavailable(
                "The path of a shared server's socket is too long for this system.",
                found=f"{self.socket}",
                change="EARTHMIND_HOME with a shorter path, or XDG_RUNTIME_DIR",
            )

    def take(self) -> int | None:
        """The lock, as an open file; None while a server has it, or whoever starts one.

        Raises:
            EngineUnavailable: It can't be opened, or someone stands in the gate for ever.
        """
        with gate(self.folder.parent):
            _own(self.folder)  # here nobody removes it any more
            return try_lock(self._lock, create=True)

    @property
    def alive(self) -> bool:
        """Whether a server lives, or is being started.

        Raises:
            EngineUnavailable: As `take`.
        """
        if not self._lock.exists():
            return False
        with gate(self.folder.parent):
            return self._held()

    def remove(self, unused_seconds: float) -> None:
        """Remove the folder, unless a server lives in it, or did so a short time ago.

        Args:
            unused_seconds: How long nothing in it must have changed.
        """
        with contextlib.suppress(OSError, EngineUnavailable), gate(self.folder.parent):
            within = [self.folder, *self.folder.iterdir()]
            last = max(each.lstat().st_mtime for each in within)
            if time.time() - last > unused_seconds and not self._held():
                shutil.rmtree(self.folder)

    @property
    def _lock(self) -> Path:
        return self.folder / "lock"

    def _held(self) -> bool:
        """Whether somebody has the lock; inside the gate."""
        if not self._lock.exists():
            return False
        lock = try_lock(self._lock)
        if lock is not None:
            let_go(lock)
        return lock is None

    def secret(self) -> str:
        """The token.

        Raises:
            EngineUnavailable: It has gone, or others may have read or written it.
        """
        try:
            return self._read("token").strip()
        except FileNotFoundError as error:
            raise unusable(self.folder / "token", "no such file") from error
        except UnicodeDecodeError as error:
            raise unusable(self.folder / "token", "no text") from error

    def make_secret(self) -> None:
        """A token for this and all later servers of the place, if there is none yet."""
        token = self.folder / "token"
        if not token.exists() or not token.stat().st_size:
            self._write("token", secrets.token_urlsafe(24))

    def note(self, name: str, data: dict[str, Any]) -> None:
        """Write ``name.json``, whole or not at all."""
        self._write(f"{name}.json", json.dumps(data))

    def noted(self, name: str) -> dict[str, Any] | None:
        """What ``name.json`` holds; None where it is not there."""
        try:
            data = json.loads(self._read(f"{name}.json"))
        except (FileNotFoundError, ValueError):
            return None
        return data if isinstance(data, dict) else None

    def forget(self, *names: str) -> None:
        """Remove ``name.json``."""
        for name in names:
            (self.folder / f"{name}.json").unlink(missing_ok=True)

    def beat(self, *, active: bool) -> bool:
        """The server says that it lives, and when it last had something to do.

        Returns:
            Whether it can still be found; not where its files were removed.
        """
        note = self.folder / "server.json"
        try:
            if active:
                os.utime(note)
            return note.exists()
        except OSError:
            return False

    @property
    def idle_seconds(self) -> float:
        """Since its server last had something to do."""
        try:
            return max(0.0, time.time() - (self.folder / "server.json").stat().st_mtime)
        except OSError:
            return 0.0

    def last_lines(self, most: int = 8) -> str:
        """The end of the log."""
        try:
            text = self.log.read_bytes()[-8192:].decode(errors="replace")
        except OSError:
            return ""
        return "\n".join([line for line in text.splitlines() if line.strip()][-most:])

    def _write(self, name: str, text: str) -> None:
        """A file that only this user can read, and nobody sees half-written."""
        path = self.folder / f".{name}.{secrets.token_hex(4)}"
        try:
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123  a descriptor
                file.write(text)
            path.replace(self.folder / name)
        except OSError:  # a full disk
            path.unlink(missing_ok=True)
            raise

    def _read(self, name: str) -> str:
        path = self.folder / name
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise
        except OSError as error:  # a link, above all
            raise unusable(path, str(error)) from error
        with open(descriptor, encoding="utf-8") as file:  # noqa: PTH123  a descriptor
            found = _strangers(os.fstat(descriptor), stat.S_ISREG)
            if found:
                raise unusable(path, found)
            return file.read()


def runtime_folder(settings: Settings) -> Path:
    """The folder above all places of this user on this machine; it need not exist.

    Under a home that several machines share, each has its own.
    """
    base = settings.runtime
    if base is not None and base.is_absolute():
        with contextlib.suppress(OSError):
            if _strangers(base.stat(), stat.S_ISDIR) is None:
                return base / "earthmind"
    name = socket.gethostname()
    if len(name) > LONGEST_HOST:  # those of containers, which would leave no room for the rest
        name = hashlib.sha256(name.encode()).hexdigest()[:LONGEST_HOST]
    return settings.home.absolute() / "shared" / name


def places(settings: Settings) -> Iterator[Place]:
    """Every place that was ever used; makes nothing.

    Raises:
        EngineUnavailable: The folder is not this user's alone.
    """
    folder = runtime_folder(settings)
    if not folder.is_symlink() and not folder.exists():
        return
    _check(folder)
    for each in sorted(folder.iterdir()):
        if _strangers(each.lstat(), stat.S_ISDIR) is None:
            yield Place(each)


def remove_old(folder: Path) -> None:
    """Remove places that no server has used for a day; what can't be removed stays.

    Args:
        folder: As `runtime_folder` gives it.
    """
    with contextlib.suppress(OSError):
        for each in list(folder.iterdir()):
            # Nothing but what is named like a place: the home may be one that others use, too.
            if re.fullmatch("[0-9a-f]{16}", each.name) and each.is_dir() and not each.is_symlink():
                Place(each).remove(KEPT_SECONDS)


def _own(folder: Path) -> None:
    """Make a folder for this user alone, or see that it is one."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
    except OSError as error:
        raise unusable(folder, str(error)) from error
    _check(folder)


def _check(folder: Path) -> None:
    """See that a folder is this user's alone.

    Raises:
        EngineUnavailable: It is another's, open to others, or a link.
    """
    found = _strangers(folder.lstat(), stat.S_ISDIR)
    if found:
        raise unusable(folder, found)


def _strangers(about: os.stat_result, kind: Any) -> str | None:
    """What is wrong with a file or folder that must be this user's alone."""
    if not kind(about.st_mode):
        return "a link, or another kind of file"
    if about.st_uid != os.geteuid():
        return f"it belongs to user {about.st_uid}"
    if about.st_mode & 0o077:
        return f"mode {stat.S_IMODE(about.st_mode):04o}: open to other users"
    return None
