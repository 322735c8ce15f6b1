"""Every error that earthmind_lab raises on purpose.

    EarthMindError
    ├── AOIError                  the drawn area cannot be used
    ├── SearchError
    │   ├── NoScenesFound         nothing in the catalog meets area, dates and sensors
    │   ├── NoPairFound           scenes exist, but no optical/SAR pair within the limits
    │   ├── CatalogUnavailable    the catalog cannot be read
    │   └── AccessDenied          a key or an account is missing
    ├── LoadError
    │   ├── AssetUnavailable      a file of a scene is missing, truncated or unreadable
    │   ├── GridMismatch          two rasters do not lie on one grid
    │   ├── RadiometryUnknown     the numbers in a raster have no declared meaning
    │   └── NotTerrainCorrected   a SAR raster is known not to be in map geometry
    ├── PromptError               what was asked cannot be put to this model
    └── EngineError
        ├── ModelNotFound         no model under this name, folder or address
        ├── UnsafeCheckpoint      weights in a format that can run code
        ├── EngineUnavailable     the engine is closed or cannot be reached
        ├── EngineBusy            the queue is full
        ├── OutOfDeviceMemory     the prompt does not fit on the device
        └── Cancelled             stopped by the user

A message says what was asked, what was found and what to change:

    >>> str(AOIError("The AOI is empty.", found="POLYGON EMPTY", change="draw it again"))
    'The AOI is empty. Found: POLYGON EMPTY. Try: draw it again.'

Callers catch the branch they can handle:

    >>> try:
    ...     raise NoPairFound("No pair.", change="max_gap='8 days'")
    ... except SearchError as error:
    ...     print(error.change)
    max_gap='8 days'
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self


class EarthMindError(Exception):
    """Base of the tree; catching it catches everything raised on purpose.

    Args:
        asked: What was asked and why it cannot be had; a full sentence.
        found: What was found instead.
        change: What the user can do next.
    """

    def __init__(self, asked: str, *, found: str | None = None, change: str | None = None) -> None:
        self.asked, self.found, self.change = asked, found, change
        parts = [asked.strip()]
        if found:
            parts.append(f"Found: {found.strip().rstrip('.')}.")
        if change:
            parts.append(f"Try: {change.strip().rstrip('.')}.")
        super().__init__(" ".join(parts))


class AOIError(EarthMindError):
    """The drawn area cannot be used."""


class SearchError(EarthMindError):
    """A search gave nothing to work with."""

    rejected: Sequence[Any] = ()
    """`scene.Rejected` of each candidate that `data.search.search_candidates` looked at."""


class NoScenesFound(SearchError):
    """Nothing in the catalog meets area, dates and sensors."""


class NoPairFound(SearchError):
    """Scenes exist, but no optical/SAR pair within the limits."""


class CatalogUnavailable(SearchError):
    """The catalog cannot be read."""


class AccessDenied(SearchError):
    """A key or an account is missing."""


class LoadError(EarthMindError):
    """Pixels cannot be loaded."""

    asks: Sequence[str] = ()
    """Arguments of `data.own_files.open_chip` that settle it; empty where none does."""

    def asking(self, *arguments: str) -> Self:
        """The same with `asks`."""
        self.asks = arguments
        return self


class AssetUnavailable(LoadError):
    """A file of a scene is missing, truncated or unreadable."""


class GridMismatch(LoadError):
    """Two rasters do not lie on one grid."""


class RadiometryUnknown(LoadError):
    """The numbers in a raster have no declared meaning."""


class NotTerrainCorrected(LoadError):
    """A SAR raster is known not to be in map geometry."""


class PromptError(EarthMindError):
    """What was asked cannot be put to this model."""


class EngineError(EarthMindError):
    """The engine cannot answer."""


class ModelNotFound(EngineError):
    """No model under this name, folder or address."""


class UnsafeCheckpoint(EngineError):
    """Weights in a format that can run code."""


class EngineUnavailable(EngineError):
    """The engine is closed or cannot be reached."""


class EngineBusy(EngineError):
    """The queue is full."""


class OutOfDeviceMemory(EngineError):
    """The prompt does not fit on the device."""


class Cancelled(EngineError):
    """Stopped by the user."""
