"""What a table of pairs says of a scene, as plain data: looked up in its items, never guessed."""

from __future__ import annotations

import math
from typing import Any

from earthmind_lab.aoi import AOI
from earthmind_lab.scene import Scene


def facts_of(scene: Scene, aoi: AOI) -> dict[str, Any]:
    """A scene of a search.

    Args:
        scene: As the catalog gives it.
        aoi: Where the search looked.

    Returns:
        ``id``, ``modality``, ``sensor``, ``observed``; ``platform``, ``orbit`` (``state`` and
        ``relative``), ``level``, ``baseline``; ``cloud`` (% of the whole scene), ``incidence``
        (degrees), each None where nothing says so; ``coverage`` (share of the AOI inside the
        footprint, 0 to 1).
    """
    return {
        "id": scene.id,
        "modality": scene.modality,
        "sensor": scene.sensor,
        "observed": scene.observed,
        "platform": scene.orbit.get("platform"),
        "orbit": {key: scene.orbit.get(key) for key in ("state", "relative")},
        "level": scene.processing.get("level"),
        "baseline": scene.processing.get("baseline"),
        "cloud": scene.cloud_cover,
        "incidence": _incidence(scene) if scene.modality == "sar" else None,
        "coverage": _coverage(scene, aoi),
    }


def _coverage(scene: Scene, aoi: AOI) -> float:
    """An AOI spans a degree at most, so that a share of it is the same in degrees and in metres."""
    if scene.footprint.covers(aoi.geometry):
        return 1.0
    return float(scene.footprint.intersection(aoi.geometry).area / aoi.geometry.area)


def _incidence(scene: Scene) -> float | None:
    """The mean of what its items declare, degrees from the vertical."""
    given = [(item.get("properties") or {}).get("view:incidence_angle") for item in scene.items]
    angles = [
        float(angle)
        for angle in given
        if isinstance(angle, int | float) and not isinstance(angle, bool)
        and math.isfinite(angle) and 0 <= angle <= 90
    ]  # fmt: skip
    return sum(angles) / len(angles) if angles else None
