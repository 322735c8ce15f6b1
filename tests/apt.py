"""apt serves one at a time and turns the others away; the suite's processes wait for each other."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = Path(tempfile.gettempdir()) / f"earthmind-tests-apt-{os.geteuid()}.lock"


@contextmanager
def alone() -> Iterator[None]:
    """Nobody else installs meanwhile; look again first: what lacked may be there by now."""
    with LOCK.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
