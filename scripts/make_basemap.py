"""Make `earthmind_lab/widgets/land.png`, the basemap that needs no network.

    .venv/bin/python scripts/make_basemap.py [land-50m.json]

Source: Natural Earth (public domain) in the npm package world-atlas 2.0.2 (TopoJSON, ISC),
fetched with `npm pack` from the registry that npm is set to. The result is one picture of the
whole world in Web Mercator (EPSG:3857), two colours. It says where one is; it is no map to measure
in.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from PIL import Image
from rasterio.features import rasterize

from earthmind_lab.widgets.web_mercator import WORLD_M, to_web_mercator

PACKAGE = "world-atlas@2.0.2"
SIDE = 4096
"""Pixels of a side: 9.8 km each at the equator."""
SEA, LAND = (214, 228, 236), (243, 239, 228)
TARGET = Path(__file__).resolve().parent.parent / "earthmind_lab" / "widgets" / "land.png"


def fetch() -> dict[str, Any]:
    """The TopoJSON of the land at 1 : 50 million."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True)  # noqa: S607
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
            member = archive.extractfile("package/land-50m.json")
            assert member is not None
            return dict(json.load(member))


def arcs_of(topology: dict[str, Any]) -> list[NDArray[np.float64]]:
    """Every arc as (points, 2) lon/lat: TopoJSON keeps differences of whole numbers."""
    scale, shift = (np.array(topology["transform"][key]) for key in ("scale", "translate"))
    return [np.cumsum(np.array(arc), axis=0) * scale + shift for arc in topology["arcs"]]


def polygons_of(topology: dict[str, Any]) -> list[dict[str, Any]]:
    """The land as GeoJSON polygons in metres of EPSG:3857."""
    arcs = arcs_of(topology)

    def ring(numbers: list[int], turn: int) -> list[tuple[float, float]]:
        # ~n is arc n backwards; the first point of an arc repeats the last of the one before.
        parts = [arcs[n] if n >= 0 else arcs[~n][::-1] for n in numbers]
        points = np.concatenate([parts[0], *(part[1:] for part in parts[1:])])
        longitude, latitude = np.unwrap(points[:, 0], period=360), points[:, 1]
        if abs(longitude[-1] - longitude[0]) > 180:  # Antarctica goes round: close it at the pole
            longitude = np.append(longitude, [longitude[-1], longitude[0]])
            latitude = np.append(latitude, [-90, -90])
        x, y = to_web_mercator(longitude + 360 * turn, latitude)
        return list(zip(x.tolist(), y.tolist(), strict=True))

    polygons: list[list[list[int]]] = []
    for geometry in topology["objects"]["land"]["geometries"]:
        several = geometry["type"] == "MultiPolygon"
        polygons += geometry["arcs"] if several else [geometry["arcs"]]
    # Rings run across 180 degrees without a cut: each is drawn on both sides of the world too.
    return [
        {"type": "Polygon", "coordinates": [ring(numbers, turn) for numbers in rings]}
        for rings in polygons
        for turn in (-1, 0, 1)
    ]


def main() -> None:
    """Draw and write it."""
    given = sys.argv[1:]
    topology = json.loads(Path(given[0]).read_text("utf-8")) if given else fetch()
    pixel = 2 * WORLD_M / SIDE
    land = rasterize(
        polygons_of(topology),
        out_shape=(SIDE, SIDE),
        transform=Affine(pixel, 0, -WORLD_M, 0, -pixel, WORLD_M),
        dtype="uint8",
    )
    picture = Image.fromarray(land.astype(np.uint8)).convert("P")
    picture.putpalette([*SEA, *LAND])
    picture.save(TARGET, optimize=True, bits=1)
    print(f"{TARGET.name}: {SIDE} x {SIDE} px, {TARGET.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
