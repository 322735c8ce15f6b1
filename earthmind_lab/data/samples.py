"""The embedded catalog: where it is, and the places in it that are worth asking about.

>>> [place.name for place in places()][:2]
['spain', 'chile']
>>> catalog_path().name
'catalog.json'
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from earthmind_lab.errors import AssetUnavailable, SearchError

_FOLDER = Path(__file__).resolve().parent.parent / "samples"


@dataclass(frozen=True, kw_only=True)
class Place:
    """A place of the embedded catalog, with a search that finds its scenes."""

    name: str
    """Short id: ``spain``."""
    title: str
    """What and where it is."""
    bbox: tuple[float, float, float, float]
    """(west, south, east, north) in degrees, inside the footprints of all its scenes and at
    most 3.3 km on a side."""
    sensors: tuple[str, ...]
    """``optical``, ``sar``: what is there."""
    dates: str
    """``A/B``: inclusive UTC days that hold its scenes."""
    why: str
    """What can be learned here, and what is unknown."""
    max_gap: str | None = None
    """What to pass as `max_gap` where the default gives no pair; None = the default works."""


@cache
def places() -> tuple[Place, ...]:
    """Every place of the embedded catalog, the best known first.

    Raises:
        AssetUnavailable: The list is missing from the installation or damaged.
    """
    path = _FOLDER / "places.json"
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return tuple(
            Place(**row | {"bbox": tuple(row["bbox"]), "sensors": tuple(row["sensors"])})
            for row in rows
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise AssetUnavailable(
            "The list of sample places can't be read.",
            found=f"{type(error).__name__}: {error}",
            change="install earthmind_lab again",
        ) from error


def place(name: str) -> Place:
    """The place of this name.

    Raises:
        SearchError: There is none.

    >>> place("spain").dates
    '2019-09-15/2019-09-20'
    """
    for each in places():
        if each.name == name:
            return each
    raise SearchError(
        f"There is no sample place {name!r}.",
        found=", ".join(each.name for each in places()),
        change="one of these names",
    )


def catalog_path() -> Path:
    """The embedded catalog's ``catalog.json``."""
    return _FOLDER / "catalog.json"
