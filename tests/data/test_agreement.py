"""Header and item as two witnesses: what differs is refused, what is only rounded is not."""

from __future__ import annotations

from typing import Any

import pytest
from affine import Affine

from earthmind_lab.data.agreement import check_agreement
from earthmind_lab.data.assets import assets_of
from earthmind_lab.data.catalogs import open_catalog
from earthmind_lab.data.files import Reader
from earthmind_lab.errors import GridMismatch
from tests.data.mutation_world import World, make_world


def agreed(world: World, band: str) -> None:
    """Check one file of a world."""
    kind = "sar" if band in ("vv", "vh") else "optical"
    scenes = open_catalog(str(world.write())).search(modality=kind)
    ref = assets_of(scenes[0], band)[0]
    with Reader().open(ref) as source:
        check_agreement(source, ref)


@pytest.mark.parametrize("scene", open_catalog("sample").search(), ids=lambda scene: scene.id)
def test_every_embedded_scene_agrees_with_its_item(scene):
    for band in scene.assets:
        for ref in assets_of(scene, band):
            with Reader().open(ref) as source:
                check_agreement(source, ref)


@pytest.mark.parametrize(
    "fields",
    [
        {"proj:shape": None, "proj:transform": None},
        {"proj:shape": "160 x 200", "proj:transform": "10 0 717729"},
        {"proj:shape": [160], "proj:transform": [10, 0, 717729]},
        {"proj:shape": [True, False], "proj:transform": [float("nan")] * 6},
        {"proj:epsg": True, "proj:code": "UTM 18S"},
        {"proj:code": "EPSG:32718"},
        {"data_type": "other"},
        {"raster:bands": [{"spatial_resolution": "ten"}]},
    ],
)
def test_fields_that_say_nothing_contradict_nothing(fields: dict[str, Any], tmp_path):
    world = make_world(tmp_path)
    asset = world.asset("red")
    asset.update(fields)
    asset["raster:bands"][0].update(scale=1e-4, offset=-0.1)
    agreed(world, "red")


def test_a_transform_rounded_to_the_centimetre_is_the_same_place(tmp_path):
    world = make_world(tmp_path)
    world.asset("red")["proj:transform"] = [
        round(v, 2) for v in world.asset("red")["proj:transform"]
    ]
    agreed(world, "red")


def test_an_outline_around_more_than_the_raster_is_no_contradiction(tmp_path):
    """Items of a whole pass name a larger outline than each of their rasters."""
    world = make_world(tmp_path)
    world.forget_place("sar")
    ring = [[-73, -39.5], [-72, -39.5], [-72, -38], [-73, -38], [-73, -39.5]]
    world.items["sar"]["geometry"]["coordinates"] = [ring]
    agreed(world, "vv")


CORNERS = [
    (179.98158, -16.07923),
    (180.00025, -16.07897),
    (180.00047, -16.09342),
    (179.98179, -16.09368),
]
OUTLINES = {
    "goes on beyond 180": [CORNERS],
    "jumps to -180": [[((x + 180) % 360 - 180, y) for x, y in CORNERS]],
    "is cut at 180": [
        [CORNERS[0], (180, -16.07897), (180, -16.09342), CORNERS[3]],
        [(-180, -16.07897), (-179.99975, -16.07897), (-179.99953, -16.09342), (-180, -16.09342)],
    ],
}


@pytest.mark.parametrize("how", OUTLINES)
def test_a_raster_on_the_antimeridian_agrees_with_its_outline(how, tmp_path):
    """UTM zone 60 reaches over 180 degrees, and catalogs write such an outline in three ways."""
    world = make_world(tmp_path)
    world.forget_place("sar")
    for band in ("vv", "vh"):
        world.headers[band].update(
            crs="EPSG:32760", transform=Affine(10, 0, 819_000, 0, -10, 8_220_000)
        )
    rings = [[[*ring, ring[0]]] for ring in OUTLINES[how]]
    world.items["sar"]["geometry"] = {"type": "MultiPolygon", "coordinates": rings}
    agreed(world, "vv")
    world.headers["vv"]["crs"] = "EPSG:32701"
    with pytest.raises(GridMismatch, match="place"):
        agreed(world, "vv")


@pytest.mark.parametrize(("crs", "south", "north"), [(3413, 84, 90), (3031, -90, -84)])
def test_a_raster_around_a_pole_agrees_with_its_outline(crs, south, north, tmp_path):
    world = make_world(tmp_path)
    world.forget_place("sar")
    place = Affine(5_000, 0, -400_000, 0, -5_000, 400_000)
    for band in ("vv", "vh"):
        world.headers[band].update(crs=f"EPSG:{crs}", transform=place)
    outline = {"type": "Polygon", "coordinates": [[
        [-180, south], [180, south], [180, north], [-180, north], [-180, south],
    ]]}  # fmt: skip
    world.items["sar"].update(geometry=outline, bbox=[-180, south, 180, north])
    agreed(world, "vv")
    world.headers["vv"]["transform"] = place @ Affine.translation(0, 800)
    with pytest.raises(GridMismatch, match="place"):
        agreed(world, "vv")


def test_square_metres_are_slim_degrees_in_the_north(tmp_path):
    world = make_world(tmp_path)
    world.forget_place("sar")
    world.headers["vv"].update(crs="EPSG:4326", transform=Affine(9e-5, 0, 20, 0, -9e-5, 70))
    ring = [[20, 69], [21, 69], [21, 70], [20, 70], [20, 69]]
    world.items["sar"]["geometry"]["coordinates"] = [ring]
    world.asset("vv")["raster:bands"][0]["spatial_resolution"] = 10
    agreed(world, "vv")
    world.asset("vv")["raster:bands"][0]["spatial_resolution"] = 20
    with pytest.raises(GridMismatch, match="pixel size"):
        agreed(world, "vv")
