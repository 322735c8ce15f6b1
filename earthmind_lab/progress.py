"""Progress bars where somebody looks: a terminal, or the cell of a notebook that waits."""

from __future__ import annotations

import sys
import threading
from typing import Any

# Not where the first bar is made: there readers may be under way, whose threads set filters of
# warnings, and tqdm's own, against a warning about itself, would be lost.
from tqdm.auto import tqdm


def bar(total: int | None, *, unit: str, desc: str | None = None, delay: float = 0.0) -> tqdm[Any]:
    """A bar that counts to a total and then goes; nothing where nobody looks.

    Args:
        total: What it counts to; None = nobody knows.
        unit: What it counts.
        desc: What is done.
        delay: Seconds before it appears: what ends sooner needs none.
    """
    return tqdm(
        total=total, unit=unit, desc=desc, delay=delay, leave=False, file=sys.stderr,
        disable=not looked_at(),
    )  # fmt: skip


def looked_at() -> bool:
    """Whether a bar would be seen; in a log it is noise.

    Work that a widget started runs on threads of its own, and shows its progress there.
    """
    return sys.stderr.isatty() or cell_waits()


def cell_waits() -> bool:
    """Whether this runs in the cell of a notebook, which waits for it."""
    return _in_notebook() and threading.current_thread() is threading.main_thread()


def ipython() -> Any:
    """IPython's shell that this runs in; None outside."""
    return getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()


def _in_notebook() -> bool:
    shell = ipython()
    return shell is not None and "IPKernelApp" in shell.config


def duration(seconds: float) -> str:
    """A time for people.

    >>> duration(42), duration(600), duration(9000)
    ('42 s', '10 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
