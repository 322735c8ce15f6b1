"""Whether the weights of a folder are those of the model, said in one sentence."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from earthmind_lab.errors import EngineError


@contextmanager
def quiet() -> Iterator[None]:
    """Without the library's table of keys: `check_complete` says what is wrong in a sentence."""
    logger = logging.getLogger("transformers.modeling_utils")

    def keep(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


def check_complete(info: dict[str, Any]) -> None:
    """The library only warns of missing weights and goes on with random ones."""
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        found = sorted(_named(entry) for entry in info.get(kind) or ())
        if found:
            raise EngineError(
                "The weights do not fit the configuration.",
                found=f"{len(found)} {kind.replace('_', ' ')}, first {found[0]}",
                change="copy config.json and weights of one checkpoint once more",
            )


def _named(entry: Any) -> str:
    """A key, or a key with the sizes found and wanted."""
    if isinstance(entry, str):
        return entry
    name, found, wanted = entry
    return f"{name} {tuple(found)} instead of {tuple(wanted)}"
