"""A file that appears complete or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from earthmind_lab.errors import EarthMindError


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A draft beside `path` that takes its place when the block ends without an error.

    Args:
        path: The file; its folder is made if missing.

    Yields:
        The draft. It keeps the ending, from which drivers take the format.

    Raises:
        EarthMindError: It can't be written; what was there before is there still.
    """
    path = Path(path)
    draft = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        draft.replace(path)
    except (OSError, ImportError) as error:
        raise EarthMindError(f"{path} can't be written.", found=str(error)) from error
    finally:
        with suppress(OSError):  # what hindered the draft may hinder this
            draft.unlink(missing_ok=True)
