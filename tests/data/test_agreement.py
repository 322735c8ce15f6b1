"""Header and item as two witnesses: what differs is refused, what is only rounded is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rasterio
from affine import Affine

from earthmind_lab.data.agreement import check_agreement
from earthmind_lab.data.assets import assets_of
from earthmind_lab.data.catalogs import open_catalog
from earthmind_lab.data.files import Reader
from earthmind_lab.data.items import scenes_of
from earthmind_lab.data.recognise import bands_of
from earthmind_lab.errors import GridMismatch, RadiometryUnknown
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


PLACE = Affine(30, 0, 500000, 0, -30, 4400000)
HLS_CRS = """PROJCS["UTM Zone {zone}, Northern Hemisphere",
    GEOGCS["Unknown datum based upon the WGS 84 ellipsoid",
        DATUM["Not_specified_based_on_WGS_84_spheroid",
            SPHEROID["WGS 84",6378137,298.257223563]],
        PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],
    PROJECTION["Transverse_Mercator"],PARAMETER["latitude_of_origin",0],
    PARAMETER["central_meridian",{meridian}],PARAMETER["scale_factor",0.9996],
    PARAMETER["false_easting",500000],PARAMETER["false_northing",0],UNIT["metre",1]]"""


@pytest.mark.parametrize(("zone", "same"), [(13, True), (14, False)])
def test_a_crs_in_the_words_of_hls_is_that_of_its_code(tmp_path, zone, same):
    """Headers of HLS name no code and no datum."""
    asset = {"proj:epsg": 32613, "raster:bands": [{"data_type": "int16", "scale": 1e-4}]}
    words = {"crs": HLS_CRS.format(zone=zone, meridian=6 * zone - 183), "description": "Red"}
    check = header_check(tmp_path, "B04", asset, **words)
    if same:
        check()
    else:
        with pytest.raises(GridMismatch, match="CRS"):
            check()


@pytest.mark.parametrize(
    ("declared", "found", "same"),
    [
        ("int16", "uint16", True),
        ("uint16", "int16", True),
        ("float32", "float64", True),
        ("uint8", "uint16", False),
        ("float32", "uint16", False),
        ("uint16", "float32", False),
    ],
)
def test_counts_are_no_measures_and_bytes_no_words(tmp_path, declared, found, same):
    check = header_check(
        tmp_path, "B04", {"raster:bands": [{"data_type": declared}]}, dtype=found, crs="EPSG:32613"
    )
    if same:
        check()
    else:
        with pytest.raises(RadiometryUnknown, match="other numbers"):
            check()


@pytest.mark.parametrize(
    ("collection", "key", "other", "same"),
    [("hls2-l30", "B05", "B04", True), ("sentinel-2-l2a", "B8A", "B08", False)],
)
def test_nir_names_the_near_infrared_of_a_sensor_with_one(tmp_path, collection, key, other, same):
    """Of HLS from Landsat, band 5 is all there is; of Sentinel-2, 8 and 8A are two."""
    others = {other: {"href": "other.tif"}}
    check = header_check(tmp_path, key, {}, others, collection, description="NIR", crs="EPSG:32613")
    if same:
        check()
    else:
        with pytest.raises(RadiometryUnknown, match="another band"):
            check()


@pytest.mark.parametrize(
    ("place", "asset"),
    [
        (Affine(10, 10, 500000, 10, 10, 4400000), {}),
        (Affine(10, 10, 500000, 10, 10, 4400000), {"proj:transform": [30, 0, 0, 0, -30, 0]}),
        (Affine(1e9, 0, 5e12, 0, -1e9, 4e12), {}),
    ],
)
def test_a_raster_that_lies_nowhere_is_refused(tmp_path, place, asset):
    check = header_check(tmp_path, "B04", asset, crs="EPSG:32613", place=place)
    with pytest.raises(GridMismatch):
        check()


def header_check(
    folder: Path,
    key: str,
    asset: dict[str, Any],
    others: dict[str, Any] | None = None,
    collection: str | None = None,
    *,
    crs: str,
    place: Affine = PLACE,
    dtype: str = "int16",
    description: str = "",
) -> Callable[[], None]:
    """Compares the header of one written file with the asset of an item."""
    path = folder / "band.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=4, height=3, count=1, dtype=dtype, crs=crs, transform=place
    ) as file:
        file.set_band_description(1, description)
    assets = {key: {"href": str(path), **asset}, **(others or {})}
    item = {
        "id": "a", "bbox": [-105.1, 39.7, -104.9, 39.8], "collection": collection,
        "properties": {"datetime": "2024-01-01T00:00:00Z"}, "assets": assets,
    }  # fmt: skip
    scene = scenes_of(item, folder / "item.json")[0]
    band = next(name for name, each in bands_of(item).items() if each == key)
    ref = assets_of(scene, band)[0]

    def check() -> None:
        with Reader().open(ref) as source:
            check_agreement(source, ref)

    return check
