"""Locks of files, and the gate before those of shared servers.

The kernel gives a lock back however its holder ends. Whoever only wants to know whether a lock is
held has to take it for a moment, which looks like a holder to everybody else. So all who try such a
lock go through one gate, one after the other.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from earthmind_lab.errors import EngineUnavailable

try:
    import fcntl
except ImportError:  # Windows, which has no such locks
    fcntl = None  # type: ignore[assignment]

GATE_SECONDS = 10.0
"""How long to wait at the gate, in which nobody stays for more than some milliseconds."""


@contextlib.contextmanager
def gate(folder: Path) -> Iterator[None]:
    """Be the only one in the gate of a folder.

    Raises:
        EngineUnavailable: It can't be opened, or did not come free.
    """
    path, until = folder / "gate", time.monotonic() + GATE_SECONDS
    while (held := try_lock(path, create=True)) is None:
        if time.monotonic() > until:
            raise unusable(path, f"locked for {GATE_SECONDS:g} s: a stopped process may have it")
        time.sleep(0.001)
    try:
        yield
    finally:
        let_go(held)


def try_lock(path: Path, *, create: bool = False) -> int | None:
    """The lock of a file, as an open file; None while another has it.

    Args:
        path: Of the file; a link is refused.
        create: Make it where it isn't there.

    Raises:
        EngineUnavailable: It can't be opened or locked.
    """
    if fcntl is None:
        raise EngineUnavailable(
            "A shared server needs the file locks of a Unix system.",
            change="shared=False, or earthmind serve and its address",
        )
    try:
        lock = os.open(path, os.O_RDWR | os.O_NOFOLLOW | (os.O_CREAT if create else 0), 0o600)
    except OSError as error:
        raise unusable(path, str(error)) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    except OSError as error:  # a file system without locks
        os.close(lock)
        raise unusable(path, str(error)) from error
    return lock


def let_go(lock: int) -> None:
    """Unlock and close; closing alone leaves it locked where a fork has taken it along."""
    try:
        fcntl.flock(lock, fcntl.LOCK_UN)
    finally:
        os.close(lock)


def unusable(path: Path, found: str) -> EngineUnavailable:
    """What to say of a file or folder of shared servers that is of no use."""
    return EngineUnavailable(
        f"A shared server can't be kept under {path}.",
        found=found,
        change="a folder of your own there (chmod -R go= FOLDER), or another EARTHMIND_HOME",
    )
