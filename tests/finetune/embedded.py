"""Labelled areas from the embedded catalog: drawn water, and the largest pieces of its maps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from shapely.geometry import mapping

from earthmind_lab.evaluate.scenes import CASES, load_case
from earthmind_lab.evaluate.truth import CLASSES
from earthmind_lab.finetune.asks import region_of
from earthmind_lab.finetune.embedded import NAMES
from earthmind_lab.grid import mask_to_polygons
from earthmind_lab.mapping import observable

DRAWN = ("finland_lake", "jiangsu")
MAPPED = ("tanzania", "chile", "ireland_wexford", "denmark")


def areas(path: Path, mapped: Sequence[str] = MAPPED, drawn: Sequence[str] = DRAWN) -> Path:
    """A GeoJSON file of areas with a class each."""
    features = []
    for name in drawn:
        text = (files("earthmind_lab.evaluate") / "drawn" / f"{name}.geojson").read_text()
        features += json.loads(text)["features"]
    for case in (case for case in CASES if case.name in mapped):
        known = load_case(case)
        for index, label in enumerate(CLASSES):
            piece = region_of(known.truth, observable(known.chip), index)
            for polygon in mask_to_polygons(piece, known.chip.grid)[:1]:
                about = {"class": NAMES.get(label, label)}
                features.append(
                    {"type": "Feature", "properties": about, "geometry": mapping(polygon)}
                )
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path
