"""`python -m tests.benchmarks.bench_search`: ranking a long search against parsing its items.

season      200 optical and 200 SAR items of two years, the limits that a search has by default
dense       the same items within six days: every one of the 40,000 pairs is admitted
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from earthmind_lab.aoi import AOI
from earthmind_lab.data.items import scenes_of
from earthmind_lab.data.mosaics import with_mosaics
from earthmind_lab.data.pairing import rank_pairs
from earthmind_lab.data.recognise import bands_of
from earthmind_lab.scene import Scene
from tests.benchmarks.bench import ratio

COUNT = 200
"""Items of each sensor."""
AREA = AOI.from_bbox(10.0, 44.96, 10.04, 45.0)
WHERE = "https://stac.example.com/v1"
SCENES = (
    ("sentinel-2", ("B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B11 B12").split(), 3.65),
    ("sentinel-1", ("vv vh").split(), 3.5),
)
"""Constellation, assets, days between two passes."""
ROUNDS = 15


def item(name: str, index: int, keys: list[str], when: datetime) -> dict[str, Any]:
    """An item as large as those of public catalogs: about 12 kB of optical, 4 kB of SAR."""
    ring = [[9, 44], [11, 44], [11, 46], [9, 46], [9, 44]]
    about = {f"s2:some_percentage_{number}": number / 7 for number in range(20)}
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": f"{name}_{index:04d}",
        "geometry": {"type": "Polygon", "coordinates": [ring]}, "bbox": [9, 44, 11, 46],
        "properties": {
            "datetime": when.isoformat(), "constellation": name, "platform": f"{name}a",
            "eo:cloud_cover": index % 20, "sat:relative_orbit": 22, **about,
        },
        "assets": {
            key: {
                "href": f"https://data.example.com/{name}/{index}/{key}.tif",
                "title": f"Band {key}",
                "type": "image/tiff; application=geotiff; profile=cloud-optimized",
                "roles": ["data"], "proj:bbox": [399960, 4990200, 509760, 5100000],
                "proj:shape": [10980, 10980], "proj:transform": [10, 0, 399960, 0, -10, 5100000],
                "eo:bands": [{"name": key, "center_wavelength": 0.49, "full_width_half_max": 0.1}],
                "raster:bands": [{"data_type": "uint16", "nodata": 0, "spatial_resolution": 10}],
            }
            for key in keys
        },
        "links": [
            {"rel": rel, "href": f"{WHERE}/collections/{name}", "type": "application/json"}
            for rel in ("collection", "parent", "root", "self", "license", "preview")
        ],
    }  # fmt: skip


def answers(squeeze: float) -> list[str]:
    """What an API sends, one text per sensor; `squeeze` shortens the time between passes."""
    texts = []
    for name, keys, days in SCENES:
        times = (
            datetime(2024, 1, 1, 10, tzinfo=UTC) + timedelta(days=squeeze * days * index)
            for index in range(COUNT)
        )
        features = [item(name, index, keys, when) for index, when in enumerate(times)]
        texts.append(json.dumps({"type": "FeatureCollection", "features": features}))
    return texts


def parsed(texts: list[str]) -> list[list[Scene]]:
    """The scenes of each answer."""
    return [
        [scene for each in json.loads(text)["features"] for scene in scenes_of(each, WHERE)]
        for text in texts
    ]


def both(squeeze: float) -> tuple[Callable[[], object], Callable[[], object], int]:
    """Ranking and parsing of the same search, and how many pairs it has."""
    texts = answers(squeeze)
    optical, sar = parsed(texts)
    assert len(optical) == len(sar) == COUNT and bands_of(optical[0].items[0])

    def rank() -> list[Any]:
        return rank_pairs(with_mosaics(optical, AREA), with_mosaics(sar, AREA), AREA)

    return rank, lambda: parsed(texts), len(rank())


def main() -> None:
    """Run both."""
    for name, squeeze in (("season", 1.0), ("dense", 6 / (COUNT * 3.65))):
        rank, parse, pairs = both(squeeze)
        ratio(f"{name}: ranking {pairs} pairs / parsing their items", rank, parse, rounds=ROUNDS)


if __name__ == "__main__":
    main()
