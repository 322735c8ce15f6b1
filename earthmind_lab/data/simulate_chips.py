"""Simulated scenes as chips, to ask about, teach with and draw like any other chip.

    >>> chip = simulated_chip(7, size=64)
    >>> chip.provenance["simulated"], chip.pair.catalog, chip.aoi.name
    (True, 'simulated', 'simulated scene 7')

A simulated chip lies in the empty South Pacific, every seed in a cell of its own, so that nothing
simulated covers a real place and splits by geography tell seeds apart. Its attribution says that it
is simulated wherever attributions are shown; it has no time unless one is given.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from shapely import Polygon

from earthmind_lab.aoi import AOI
from earthmind_lab.chip import Chip, Radiometry
from earthmind_lab.data.simulate import SimulatedScene, simulate_scene
from earthmind_lab.grid import move_points
from earthmind_lab.scene import ANY_TIME, Scene, ScenePair

ATTRIBUTION = "Simulated by earthmind_lab: no observation of the Earth"
FLOOR = -60.0
"""dB; least backscatter of a simulated chip."""
SENSORS = {
    "TOA": "sentinel-2-l1c", "SR": "sentinel-2-l2a",
    "sigma0": "sentinel-1-sigma0", "gamma0_rtc": "sentinel-1-rtc",
}  # fmt: skip
"""Whose bands and numbers are imitated, by level and by quantity."""
# UTM zones of the southern hemisphere between 174° and 90° W, 36 to 55° S: open sea.
ZONES, WEST, EAST, NORTH, SOUTH = range(2, 16), 300_000, 690_000, 6_000_000, 3_900_000
CELL = 5_000
"""Metres on each side of a seed's cell, or more where a scene is larger."""


def simulated_chip(
    seed: int,
    *,
    size: int = 352,
    gsd: float = 10.0,
    cloudy: bool | None = None,
    biome: str | None = None,
) -> Chip:
    """The chip of a seed; its truth is `simulate_scene` of the same arguments.

    Args:
        seed: As `simulate_scene`, like the other arguments.
        size: Pixels on each side.
        gsd: Metres per pixel.
        cloudy: Whether clouds cover a part of the optical bands; None draws it.
        biome: Landscape; None draws it.

    Raises:
        LoadError: An argument out of range, or no such landscape.
    """
    return chip_of(simulate_scene(seed, size=size, gsd=gsd, cloudy=cloudy, biome=biome))


def chip_of(scene: SimulatedScene, *, datetime: dt.datetime | None = None) -> Chip:
    """A chip of a simulated scene, for instance of one of two dates.

    Args:
        scene: Its pixels are not copied.
        datetime: A time to show, aware; None = unknown, which is the truth.
    """
    grid = _grid(scene)
    name = f"simulated scene {scene.seed}"
    aoi = AOI(geometry=_outline(grid), name=name)
    sar = np.maximum(scene.sar, np.float32(FLOOR))
    polarisations, everywhere = ("vv", "vh"), np.ones(scene.classes.shape, bool)
    pair = ScenePair(
        optical=_scene(scene, "optical", aoi, datetime),
        sar=_scene(scene, "sar", aoi, datetime),
        gap=None if datetime is None else dt.timedelta(0),
        overlap=1.0,
        cloud_in_aoi=round(100 * float((scene.cloud > 0.4).mean()), 2),
        score=100.0,
        factors={"V": 1.0, "T": 1.0, "Q": 1.0},
        reasons=("The scenes are simulated: nothing was searched, and there is no rank.",),
        catalog="simulated",
    )
    return Chip(
        grid=grid,
        optical=scene.optical,
        sar=sar,
        bands=scene.bands,
        polarisations=polarisations,
        valid_optical=everywhere,
        valid_sar=everywhere,
        inside=everywhere,
        radiometry=_radiometry(scene),
        pair=pair,
        aoi=aoi,
        provenance=_provenance(scene),
    )


def _grid(scene: SimulatedScene) -> GeoBox:
    """A cell of the sea per seed; seeds that share one are as many apart as there are cells."""
    side = len(scene.classes)
    cell = CELL * int(np.ceil(1.1 * side * scene.gsd / CELL))
    columns, rows = max((EAST - WEST) // cell, 1), max((NORTH - SOUTH) // cell, 1)
    rest, zone = divmod(scene.seed, len(ZONES))
    row, column = divmod(rest, columns)
    left, top = WEST + column * cell, NORTH - (row % rows) * cell
    affine = Affine(scene.gsd, 0.0, float(left), 0.0, -scene.gsd, float(top))
    return GeoBox((side, side), affine, f"EPSG:{32700 + ZONES[zone]}")


def _outline(grid: GeoBox) -> Polygon:
    """The edge of a grid in lon/lat."""
    box = grid.extent.boundingbox
    x = np.array([box.left, box.right, box.right, box.left])
    y = np.array([box.bottom, box.bottom, box.top, box.top])
    return Polygon(np.column_stack(move_points(x, y, str(grid.crs), "EPSG:4326")))


def _scene(
    scene: SimulatedScene, modality: str, aoi: AOI, datetime: dt.datetime | None
) -> Scene:  # fmt: skip
    start, end = ANY_TIME if datetime is None else (datetime, datetime)
    optical = modality == "optical"
    return Scene(
        id=f"simulated_{scene.seed}_{modality}",
        sensor=SENSORS[scene.level if optical else scene.radar.quantity],
        modality=modality,
        datetime=datetime,
        start=start,
        end=end,
        footprint=aoi.geometry,
        assets={},
        orbit={} if optical else {"state": scene.radar.orbit},
        processing={"simulated": True},
        collection="simulated",
    )


def _radiometry(scene: SimulatedScene) -> Radiometry:
    return Radiometry(
        level=scene.level,  # type: ignore[arg-type]  # one of two, drawn
        offset_applied=0.0,
        quantity=scene.radar.quantity,  # type: ignore[arg-type]
        geometry="terrain_corrected",
        noise_removed=False,
        noise_floor_db={"vv": FLOOR, "vh": FLOOR},
        incidence=f"{scene.radar.incidence:.1f} degrees",
        residual_shift_px=0.0,
        residual_shift_note="simulated: both sensors see one ground",
    )


def _provenance(scene: SimulatedScene) -> dict[str, Any]:
    return {
        "simulated": True,
        "simulator": {
            "seed": scene.seed, "size": len(scene.classes), "gsd": scene.gsd, "biome": scene.biome,
            "sun": vars(scene.sun), "radar": vars(scene.radar), "wind_db": scene.wind,
        },
        "attribution": (ATTRIBUTION,),
        "licences": (),
    }  # fmt: skip
