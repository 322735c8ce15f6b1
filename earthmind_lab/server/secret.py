"""The file that tells a server's token to its user, for as long as the server lives.

Whoever has written one keeps it locked. A server that is killed leaves its file; the next one to
start finds no lock on it and removes it.
"""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from earthmind_lab.errors import EarthMindError
from earthmind_lab.settings import Settings

try:
    import fcntl

    LOCKS = True
except ImportError:  # Windows: what is left stays
    LOCKS = False

PATIENCE_SECONDS = 2.0
"""How long another server may take to remove what lies in the way."""


def secret_path(settings: Settings, address: str) -> Path:
    """Where the token of the server at an address lies; machines that share a home don't meet."""
    name = "".join(char if char.isalnum() or char in ".-" else "_" for char in address)[-60:]
    digest = hashlib.sha256(address.encode(errors="surrogateescape")).hexdigest()[:8]
    # The digest tells apart what is left of a_b.sock and a/b.sock.
    return settings.home / "serve" / socket.gethostname() / f"{name}-{digest}.token"


@contextmanager
def secret_file(path: Path, text: str) -> Iterator[None]:
    """A file that only this user can read, removed in the end; so are those of dead servers.

    Args:
        path: Of `secret_path`.
        text: The token.

    Raises:
        EarthMindError: It can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in path.parent.glob("*.token"):
            _remove_left(left)
        if not LOCKS:
            path.unlink(missing_ok=True)
        descriptor = _made(path, text)
    except OSError as error:
        raise EarthMindError(
            f"The token can't be written to {path}.",
            found=str(error),
            change="EARTHMIND_TOKEN with a token of your own, or EARTHMIND_HOME",
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _made(path: Path, text: str) -> int:
    """The file, open and locked."""
    until = time.monotonic() + PATIENCE_SECONDS
    while (descriptor := _tried(path, text)) is None:
        if time.monotonic() > until:
            raise FileExistsError("another server holds it")
        time.sleep(0.05)
    return descriptor


def _tried(path: Path, text: str) -> int | None:
    """A new file with our lock on it; None where another one lies there, or somebody was faster.

    The address is ours, so what lies there is a dead server's, or just being removed.
    """
    _remove_left(path)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return None
    try:
        _lock(descriptor)
        if os.path.samestat(os.fstat(descriptor), path.lstat()):
            os.write(descriptor, f"{text}\n".encode())
            return descriptor
    except (BlockingIOError, FileNotFoundError):  # taken for left behind before it was locked
        pass
    except BaseException:
        path.unlink(missing_ok=True)
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _lock(descriptor: int) -> None:
    """Lock a file that nobody has locked; no effect where there are no locks."""
    if LOCKS:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # a file system without them: nobody removes it, either
            pass


def _remove_left(path: Path) -> None:
    """Remove a file that no server has locked; whatever can't be done is left."""
    if not LOCKS:
        return
    with suppress(OSError):  # locked, for one
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever has the lock removes the file, nobody else: the name still means it.
            if os.path.samestat(os.fstat(descriptor), path.lstat()):
                path.unlink()
        finally:
            os.close(descriptor)
