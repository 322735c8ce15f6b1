"""Environment variables, credentials and folders, read in one place and nowhere else.

| variable | meaning |
|---|---|
| ``EARTHMIND_HOME`` | folder for caches, records and sessions; default ``~/.cache/earthmind_lab`` |
| ``EARTHMIND_DEVICE`` | torch device of local engines; default: cuda when there is one, else cpu |
| ``EARTHMIND_CATALOG`` | catalog used when none is named; default ``sample`` |
| ``EARTHMIND_HOSTS`` | the only hosts to fetch from, ``*.org,10.0.0.7:80``; default: all public |
| ``EARTHMIND_CACHE_BYTES`` | most bytes of kept chips, and of own arrays; default ``10GB`` |
| ``EARTHMIND_TOKEN`` | token of engine servers, asked or asking; default: none is known |
| ``EARTHMIND_IDLE`` | seconds after which a shared server that nobody asks ends; default 3600 |

Of other programs: ``XDG_RUNTIME_DIR`` (sockets of shared servers go there, where it is private) and
``CUDA_VISIBLE_DEVICES`` (a server for other GPUs is another server).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from earthmind_lab.errors import EarthMindError

_CACHE_BYTES = 10_000_000_000
_IDLE_SECONDS = 3600.0
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the environment says."""

    home: Path
    """Folder for everything that is kept between runs; created on first write."""
    device: str | None
    """torch device of local engines; None = choose."""
    catalog: str
    """Catalog used when none is named."""
    hosts: tuple[str, ...] = ()
    """The only hosts that scenes may be fetched from; empty = every public one."""
    cache_bytes: int = _CACHE_BYTES
    """Most bytes of chips kept under `home`, and as many of own arrays; 0 = keep no chip, and an
    array for an hour."""
    token: str | None = field(default=None, repr=False)
    """What engine servers ask for; None = none is known."""
    idle_seconds: float = _IDLE_SECONDS
    """After which a shared server that nobody asks ends."""
    runtime: Path | None = None
    """Folder of this user for sockets, gone when the user logs out; None = there is none."""
    gpus: str | None = None
    """The GPUs that this process may see; None = all."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Read the environment.

        Args:
            env: Variables to read; the process's own by default.

        Raises:
            EarthMindError: ``EARTHMIND_HOME`` names a user who does not exist, or
                ``EARTHMIND_CACHE_BYTES`` is no size, or ``EARTHMIND_IDLE`` no time.

        >>> Settings.from_env({"EARTHMIND_HOME": "/data/lab"}).catalog
        'sample'
        """
        env = os.environ if env is None else env
        return cls(
            home=_home(env.get("EARTHMIND_HOME") or "~/.cache/earthmind_lab"),
            device=env.get("EARTHMIND_DEVICE") or None,
            catalog=env.get("EARTHMIND_CATALOG") or "sample",
            hosts=tuple(filter(None, re.split(r"[\s,]+", env.get("EARTHMIND_HOSTS", "")))),
            cache_bytes=_bytes(env.get("EARTHMIND_CACHE_BYTES", "")),
            token=env.get("EARTHMIND_TOKEN") or None,
            idle_seconds=_idle(env.get("EARTHMIND_IDLE", "")),
            runtime=Path(env["XDG_RUNTIME_DIR"]) if env.get("XDG_RUNTIME_DIR") else None,
            gpus=env.get("CUDA_VISIBLE_DEVICES"),
        )


def _home(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # no such user, or a user without a home
        raise EarthMindError(
            f"The folder for caches {text!r} has no place on this machine.",
            found=str(error),
            change="EARTHMIND_HOME with an absolute path",
        ) from error


def _bytes(text: str) -> int:
    if not text.strip():
        return _CACHE_BYTES
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?)\s*([KMGT]?B)?", text.strip().upper())
    if found is None:
        raise EarthMindError(
            f"The limit of kept chips {text!r} is no size.",
            change="EARTHMIND_CACHE_BYTES=10GB, or 0 to keep none",
        )
    return int(float(found[1]) * _UNITS[found[2] or ""])


def _idle(text: str) -> float:
    if not text.strip():
        return _IDLE_SECONDS
    if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text.strip()) or float(text) <= 0:
        raise EarthMindError(
            f"After {text!r} a shared server can't end.", change="EARTHMIND_IDLE=3600, in seconds"
        )
    return float(text)
