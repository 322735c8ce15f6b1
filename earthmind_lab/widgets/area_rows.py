"""Areas, versions, regions and features of files as rows of words for the browser.

>>> from earthmind_lab.aoi import AOI
>>> area_words(AOI.from_bbox(-0.775, 38.09, -0.745, 38.12))
'8.76 km², 272 × 341 px at 10 m'
>>> limit_words(AOI.from_bbox(-0.775, 38.09, -0.745, 38.12), "nano", 352)
''
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthmind_lab.aoi import AOI
from earthmind_lab.errors import AOIError
from earthmind_lab.vector_features import names_for
from earthmind_lab.widgets.protocol import clean

if TYPE_CHECKING:
    from earthmind_lab.engine.base import Engine
    from earthmind_lab.session.subject import MarkedRegion, Subject
    from earthmind_lab.vector_features import VectorFeature

GSD = 10.0
"""Metres: Sentinel-1's and -2's own pixels, in which areas are measured before a scene is known."""


def area_row(subject: Subject, model: str, most_px: int | None) -> dict[str, Any]:
    """A subject for the panel.

    Args:
        subject: As the session keeps it.
        model: Name of who will answer.
        most_px: Longest side that it sees; None = any.

    Returns:
        ``name``, ``kind``, ``about`` (size in words), ``hint`` (what will go wrong, empty where
        nothing will), ``note`` (what the mouse can't do), ``version``, ``versions`` (rows).
    """
    aoi = subject.aoi
    held = sorted((*subject.versions, subject), key=lambda each: each.version)
    return {
        "name": clean(subject.name),
        "kind": subject.kind,
        "about": "plain picture" if aoi is None else _files(subject) + area_words(aoi),
        "hint": "" if aoi is None else limit_words(aoi, model, most_px),
        "note": "" if aoi is None or editable(aoi) else "Several parts: paste to change it.",
        "version": subject.version,
        "versions": [
            {
                "version": each.version,
                "about": area_words(each.aoi) if each.aoi else "",
                "has": held_words(each),
            }
            for each in held
        ],
    }


def _files(subject: Subject) -> str:
    return "" if subject.files is None else "own files, "


def region_row(region: MarkedRegion) -> dict[str, Any]:
    """A marked region: ``id``, ``label``, ``about``."""
    area = AOI.from_geojson(region.geometry).area_km2
    return {"id": clean(region.id), "label": clean(region.label), "about": km2_words(area)}


def feature_rows(
    features: Sequence[VectorFeature], filename: str, model: str, most_px: int | None
) -> list[dict[str, Any]]:
    """Features of a file to choose from: ``name``, ``about``, ``hint``, ``refused``."""
    rows = []
    for feature, name in zip(features, names_for(features, filename), strict=True):
        row = {"name": clean(name), "about": "", "hint": "", "refused": ""}
        try:
            aoi = AOI(geometry=feature.geometry, name=name)
        except AOIError as error:
            row["refused"] = clean(error)
        else:
            row |= {"about": area_words(aoi), "hint": limit_words(aoi, model, most_px)}
        rows.append(row)
    return rows


def area_words(aoi: AOI) -> str:
    """How large it is, on the ground and in pixels."""
    rows, columns = _shape(aoi)
    return f"{km2_words(aoi.area_km2)}, {columns} × {rows} px at {GSD:g} m"


def km2_words(area: float) -> str:
    """Square kilometres with three digits that mean something.

    >>> km2_words(8.7612), km2_words(0.00123), km2_words(4123.4)
    ('8.76 km²', '0.00123 km²', '4120 km²')
    """
    digits = 2 - math.floor(math.log10(area)) if area > 0 else 0
    return f"{round(area, digits):.{max(0, digits)}f} km²"


def limit_words(aoi: AOI, model: str, most_px: int | None) -> str:
    """What an area is too large for, before anything of it is read; empty where it fits."""
    from earthmind_lab.data.plan import MAX_SIDE_PX

    longest = max(_shape(aoi))
    if longest > MAX_SIDE_PX:
        return (
            f"Too large to load: a chip has at most {MAX_SIDE_PX} px "
            f"({MAX_SIDE_PX * GSD / 1000:.1f} km) on a side."
        )
    if most_px is not None and longest > most_px:
        return (
            f"Larger than {model} sees ({most_px * GSD / 1000:.1f} km on a side): it would load, "
            "but questions about it are refused."
        )
    return ""


def held_words(subject: Subject) -> str:
    """What a version has besides its outline."""
    said = []
    if subject.chosen is not None:
        said.append("pair chosen")
    elif subject.pairs is not None:
        said.append(_counted(len(subject.pairs), "pair") + " found")
    if subject.turns:
        said.append(_counted(len(subject.turns), "turn"))
    return ", ".join(said) or "outline only"


def editable(aoi: AOI) -> bool:
    """Whether the map's tools can edit it: they know one outline, with holes that stay."""
    return bool(aoi.geometry.geom_type == "Polygon")


def sees(engine: Engine | None) -> tuple[str, int | None]:
    """Who answers, and the longest side that it sees in pixels; loads no weights.

    Args:
        engine: None = the embedded model, which is not there before the first question.
    """
    if engine is not None:
        return engine.capabilities.name, engine.capabilities.max_side_px
    return _embedded()


@lru_cache(maxsize=1)
def _embedded() -> tuple[str, int | None]:
    """What the embedded model's own file says."""
    from earthmind_lab.model.published import EMBEDDED, local_folder

    path = Path(local_folder(EMBEDDED)) / "config.json"
    said = json.loads(path.read_text(encoding="utf-8"))
    tiles = math.isqrt(said["max_dynamic_patch"]) * said["image_size"]
    return said["display_name"], said.get("max_side_px") or tiles


@lru_cache(maxsize=512)  # outlines never change, and every note of a session asks for all of them
def _shape(aoi: AOI) -> tuple[int, int]:
    rows, columns = aoi.grid(GSD).shape
    return int(rows), int(columns)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
