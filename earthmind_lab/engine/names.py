"""What `load_engine` is given: addresses without their scheme, and files that may have changed."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from earthmind_lab.errors import ModelNotFound

State: TypeAlias = tuple[tuple[Path, int, int], ...]
"""(path, bytes, time of the last change) of files."""
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):\d{1,5}(?=/|$)")


def state_of(files: Sequence[Path]) -> State:
    """Files as they are now.

    Raises:
        OSError: One can't be looked at.
    """
    found = ((file, file.stat()) for file in files)
    return tuple((file, about.st_size, about.st_mtime_ns) for file, about in found)


def text_files(folder: Path) -> list[Path]:
    """Configuration and tokenizer of a model: with others, equal weights are another model."""
    ends = (".json", ".txt", ".jinja")
    return sorted(each for each in folder.iterdir() if each.suffix in ends and each.is_file())


def check_address(name: str | Path) -> None:
    """See that a name is no address whose scheme was forgotten.

    Raises:
        ModelNotFound: It is one, and no folder is called so.

    >>> check_address("nano")
    """
    address = _ADDRESS.match(str(name))
    if address is not None and not os.path.exists(name):  # noqa: PTH110  also of names that no path can have
        raise ModelNotFound(
            f"There is no model {str(name)[:200]!r}.",
            found="an address without its http://, it seems",
            change=f"load_engine('http://{address[0]}')",
        )
