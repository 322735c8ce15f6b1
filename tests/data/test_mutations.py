"""One witness changed at a time: a contradiction is refused, repaired or said, never loaded over.

Three witnesses speak about a raster: its pixels, its header and its STAC item. Each case changes
one of them so that another contradicts it. `SILENT` lists changes that no witness contradicts,
with the reason; they are run too, so that the list stays true.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from rasterio.control import GroundControlPoint
from scipy.ndimage import binary_erosion

from earthmind_lab.aoi import AOI
from earthmind_lab.chip import Chip
from earthmind_lab.data.load import load_chip
from earthmind_lab.data.search import search_pairs
from earthmind_lab.errors import (
    AssetUnavailable,
    EarthMindError,
    GridMismatch,
    LoadError,
    NoPairFound,
    NoScenesFound,
    NotTerrainCorrected,
    RadiometryUnknown,
)
from tests.data.mutation_world import AREA, COLUMNS, DATES, ROWS, World, make_world, shifted


@dataclass(frozen=True)
class Refused:
    """An error of ours that says what is wrong."""

    error: type[EarthMindError]
    says: str


class Repaired:
    """The chip holds no wrong value: pixels equal the unspoilt ones, or are no data."""


Outcome = Refused | Repaired
CASES: dict[str, tuple[Callable[[World], object], Outcome]] = {}
SILENT: dict[str, tuple[Callable[[World], object], str]] = {}


def case(outcome: Outcome) -> Callable[[Callable[[World], object]], Callable[[World], object]]:
    """A change and what must come of it."""

    def keep(change: Callable[[World], object]) -> Callable[[World], object]:
        CASES[change.__name__] = (change, outcome)
        return change

    return keep


def silent(reason: str) -> Callable[[Callable[[World], object]], Callable[[World], object]]:
    """A change that nothing contradicts, and why."""

    def keep(change: Callable[[World], object]) -> Callable[[World], object]:
        SILENT[change.__name__] = (change, reason)
        return change

    return keep


def bands_of(world: World, kind: str) -> list[str]:
    return list(world.items[kind]["assets"])


def place_all(world: World, kind: str, **header: Any) -> None:
    """Another header for every file of an item."""
    for band in bands_of(world, kind):
        world.headers[band].update(header)


def move_all(world: World, kind: str, columns: float, rows: float) -> None:
    for band in bands_of(world, kind):
        header = world.headers[band]
        step = header["transform"].a / 10
        header["transform"] = shifted(header["transform"], columns / step, rows / step)


# --- headers -------------------------------------------------------------------------------------


@case(Refused(GridMismatch, "CRS .* EPSG:32718 in the item, EPSG:32719"))
def header_in_the_next_zone(world: World) -> None:
    place_all(world, "sar", crs="EPSG:32719")


@case(Refused(GridMismatch, "place .* differ|place of"))
def header_in_the_next_zone_where_only_the_outline_tells(world: World) -> None:
    world.forget_place("sar")
    place_all(world, "sar", crs="EPSG:32719")


@case(Refused(GridMismatch, "CRS"))
def header_on_the_other_hemisphere(world: World) -> None:
    place_all(world, "optical", crs="EPSG:32618")


@case(Refused(GridMismatch, "place"))
def header_on_the_other_hemisphere_where_only_the_outline_tells(world: World) -> None:
    world.forget_place("optical")
    place_all(world, "optical", crs="EPSG:32618")


@case(Refused(GridMismatch, "no place|no CRS"))
def header_without_a_crs(world: World) -> None:
    place_all(world, "optical", crs=None)


@case(Refused(NotTerrainCorrected, "radar geometry"))
def sar_header_without_a_crs(world: World) -> None:
    place_all(world, "sar", crs=None)


@case(Refused(NotTerrainCorrected, "ground control points"))
def sar_header_with_control_points_only(world: World) -> None:
    points = [
        GroundControlPoint(row=r, col=c, x=-72.49 + c * 1e-4, y=-38.82 - r * 1e-4, z=100.0)
        for r in (0, ROWS) for c in (0, COLUMNS)
    ]  # fmt: skip
    for band in bands_of(world, "sar"):
        del world.headers[band]["transform"]
    place_all(world, "sar", crs="EPSG:4326", gcps=points)


@case(Refused(GridMismatch, "transform"))
def header_a_kilometre_off(world: World) -> None:
    move_all(world, "sar", 100, 0)


@case(Refused(GridMismatch, "transform"))
def header_half_a_pixel_off(world: World) -> None:
    move_all(world, "sar", 0.5, 0.5)


@case(Refused(GridMismatch, "place"))
def header_off_by_a_third_where_only_the_outline_tells(world: World) -> None:
    world.forget_place("sar")
    move_all(world, "sar", COLUMNS / 3, 0)


@case(Refused(GridMismatch, "transform"))
def header_with_pixels_of_twice_the_size(world: World) -> None:
    for band in bands_of(world, "sar"):
        world.headers[band]["transform"] = world.headers[band]["transform"] @ Affine.scale(2)


@case(Refused(GridMismatch, "pixel size"))
def header_with_finer_pixels_than_the_bands_declare(world: World) -> None:
    for band in bands_of(world, "sar"):
        del world.asset(band)["proj:transform"]
        world.headers[band]["transform"] = world.headers[band]["transform"] @ Affine.scale(0.5)


@case(Refused(GridMismatch, "transform"))
def header_upside_down(world: World) -> None:
    for band in bands_of(world, "optical"):
        a = world.headers[band]["transform"]
        rows = world.pixels[band].shape[0]
        world.headers[band]["transform"] = Affine(a.a, 0, a.c, 0, -a.e, a.f + rows * a.e)


@case(Refused(GridMismatch, "transform"))
def header_turned_by_a_right_angle(world: World) -> None:
    for band in bands_of(world, "sar"):
        a = world.headers[band]["transform"]
        world.headers[band]["transform"] = Affine(0, a.a, a.c, a.e, 0, a.f)


@case(Refused(GridMismatch, "CRS"))
def header_in_degrees_with_a_transform_in_metres(world: World) -> None:
    place_all(world, "sar", crs="EPSG:4326")


@case(Refused(GridMismatch, "place"))
def header_of_another_scene(world: World) -> None:
    world.forget_place("sar")
    place_all(world, "sar", crs="EPSG:32632", transform=Affine(10, 0, 549_990, 0, -10, 6_343_050))


@case(Repaired())
def header_calls_a_reflectance_nodata(world: World) -> None:
    values = world.pixels["red"]
    world.headers["red"]["nodata"] = float(np.bincount(values.ravel()).argmax())


@case(Refused(RadiometryUnknown, "other numbers"))
def header_and_pixels_as_floating_point(world: World) -> None:
    world.pixels["red"] = world.pixels["red"].astype(np.float32)


@case(Refused(RadiometryUnknown, "another band"))
def header_names_another_band(world: World) -> None:
    world.headers["red"]["description"] = "B08"


@case(Refused(RadiometryUnknown, "another band"))
def header_names_another_polarisation(world: World) -> None:
    world.headers["vv"]["description"] = "VH"


@case(Refused(RadiometryUnknown, "scale"))
def header_with_a_scale_of_its_own(world: World) -> None:
    import rasterio

    def rescale() -> None:
        with rasterio.open(world.path("red"), "r+") as target:
            target.scales, target.offsets = (0.001,), (0.0,)

    world.after.append(rescale)


# --- pixels --------------------------------------------------------------------------------------


@case(Refused(GridMismatch, f"shape .* {ROWS} x {COLUMNS} in the item, {COLUMNS} x {ROWS}"))
def pixels_transposed(world: World) -> None:
    world.pixels["vv"] = np.ascontiguousarray(world.pixels["vv"].T)


@case(Refused(GridMismatch, "shape"))
def pixels_cut_off(world: World) -> None:
    world.pixels["red"] = world.pixels["red"][:-20]


@case(Refused(RadiometryUnknown, "subtracted from its numbers already"))
def offset_subtracted_twice(world: World) -> None:
    for band in bands_of(world, "optical"):
        values = world.pixels[band].astype(np.int32)
        world.pixels[band] = np.where(values, np.clip(values - 1000, 1, None), 0).astype(np.uint16)


@case(Refused(RadiometryUnknown, "still carry an offset"))
def offset_never_subtracted(world: World) -> None:
    for band in bands_of(world, "optical"):
        world.asset(band)["raster:bands"][0]["offset"] = 0


@case(Refused(LoadError, "no data"))
def reflectance_stored_as_whole_numbers(world: World) -> None:
    for band in bands_of(world, "optical"):
        world.pixels[band] = (world.pixels[band] * 1e-4).astype(np.uint16)


@case(Refused(RadiometryUnknown, "can't be backscatter in power"))
def decibels_read_as_power(world: World) -> None:
    for band in bands_of(world, "sar"):
        world.pixels[band] = (10 * np.log10(world.pixels[band])).astype(np.float32)


@case(Refused(RadiometryUnknown, "can't be backscatter in dB"))
def power_read_as_decibels(world: World) -> None:
    world.properties("sar")["card4l:measurement_convention"] = "dB"
    for band in bands_of(world, "sar"):
        world.asset(band)["raster:bands"][0]["unit"] = "dB"


@case(Refused(RadiometryUnknown, "can't be backscatter in power"))
def counts_read_as_power(world: World) -> None:
    for band in bands_of(world, "sar"):
        world.pixels[band] = np.sqrt(world.pixels[band]) * np.float32(500)


@case(Refused(RadiometryUnknown, "other numbers|counts"))
def power_as_whole_numbers(world: World) -> None:
    for band in bands_of(world, "sar"):
        world.pixels[band] = (world.pixels[band] * 1e4).astype(np.uint16)
        world.headers[band]["nodata"] = None


@case(Repaired())
def sar_fill_that_nobody_declares(world: World) -> None:
    for band in bands_of(world, "sar"):
        world.pixels[band][:60, :70] = -9999
        world.headers[band]["nodata"] = None
        del world.asset(band)["raster:bands"][0]["nodata"]


@case(Refused(RadiometryUnknown, "can't all be reflectance"))
def optical_fill_that_nobody_declares(world: World) -> None:
    for band in bands_of(world, "optical"):
        rows, columns = world.pixels[band].shape
        world.pixels[band][: rows // 2, : columns // 2] = 65535


@case(Refused(RadiometryUnknown, "have changed places"))
def polarisations_swapped_in_the_pixels(world: World) -> None:
    world.pixels["vv"], world.pixels["vh"] = world.pixels["vh"], world.pixels["vv"]


@case(Refused(RadiometryUnknown, "hold the same pixels"))
def one_band_written_twice(world: World) -> None:
    world.pixels["nir"] = world.pixels["red"].copy()


@case(Refused(LoadError, "no data"))
def empty_sar(world: World) -> None:
    for band in bands_of(world, "sar"):
        world.pixels[band] = np.full_like(world.pixels[band], np.nan)


@case(Refused(AssetUnavailable, "can't be read"))
def truncated_file(world: World) -> None:
    def cut() -> None:
        body = world.path("nir").read_bytes()
        world.path("nir").write_bytes(body[: len(body) // 2])

    world.after.append(cut)


@case(Refused(AssetUnavailable, "empty file"))
def empty_file(world: World) -> None:
    world.after.append(lambda: world.path("vh").write_bytes(b""))


@case(Refused(AssetUnavailable, "can't be read"))
def error_page_in_the_place_of_a_file(world: World) -> None:
    world.after.append(lambda: world.path("red").write_text("<html>Service unavailable</html>"))


@case(Refused(AssetUnavailable, "missing"))
def missing_file(world: World) -> None:
    world.after.append(lambda: world.path("blue").unlink())


# --- items ---------------------------------------------------------------------------------------


@case(Refused(GridMismatch, "shape"))
def item_with_its_shape_transposed(world: World) -> None:
    for band in bands_of(world, "sar"):
        world.asset(band)["proj:shape"] = world.asset(band)["proj:shape"][::-1]


@case(Refused(GridMismatch, "transform"))
def item_with_a_stale_transform(world: World) -> None:
    for band in bands_of(world, "sar"):
        world.asset(band)["proj:transform"][2] += 60


@case(Refused(GridMismatch, "transform"))
def item_with_a_transform_in_gdal_s_order(world: World) -> None:
    for band in bands_of(world, "optical"):
        a, b, c, d, e, f = world.asset(band)["proj:transform"]
        world.asset(band)["proj:transform"] = [c, a, b, f, d, e]


@case(Refused(GridMismatch, "CRS"))
def item_in_the_wrong_zone(world: World) -> None:
    world.properties("optical")["proj:epsg"] = 32717


@case(Refused(GridMismatch, "CRS"))
def item_with_an_epsg_code_that_is_none(world: World) -> None:
    world.properties("sar")["proj:epsg"] = 99999


@case(Refused(NoScenesFound, "outside"))
def item_with_longitude_and_latitude_swapped(world: World) -> None:
    ring = world.items["sar"]["geometry"]["coordinates"][0]
    world.items["sar"]["geometry"]["coordinates"] = [[[y, x] for x, y in ring]]


@case(Refused(GridMismatch, "place"))
def item_outlined_around_more_than_its_raster(world: World) -> None:
    """The outline was drawn a third further west; the search still finds it."""
    for item in world.items.values():
        ring = item["geometry"]["coordinates"][0]
        item["geometry"]["coordinates"] = [[[x - 0.008, y] for x, y in ring]]


@case(Refused(RadiometryUnknown, "another band"))
def item_with_two_hrefs_swapped(world: World) -> None:
    world.asset("red")["href"], world.asset("nir")["href"] = "./nir.tif", "./red.tif"


@case(Refused(RadiometryUnknown, "changed places"))
def item_with_polarisations_swapped_and_files_that_do_not_say(world: World) -> None:
    for band in bands_of(world, "sar"):
        world.headers[band]["description"] = None
    world.asset("vv")["href"], world.asset("vh")["href"] = "./vh.tif", "./vv.tif"


@case(Refused(RadiometryUnknown, "hold the same pixels"))
def item_with_one_href_for_two_bands(world: World) -> None:
    world.headers["nir"]["description"] = world.headers["red"]["description"] = None
    world.asset("nir")["href"] = "./red.tif"


@case(Refused(RadiometryUnknown, "can't be reflectance|can't all be reflectance"))
def item_with_a_scale_of_one(world: World) -> None:
    for band in bands_of(world, "optical"):
        world.asset(band)["raster:bands"][0].update(scale=1, offset=0)


@case(Refused(RadiometryUnknown, "other numbers"))
def item_with_another_data_type(world: World) -> None:
    world.asset("vv")["raster:bands"][0]["data_type"] = "uint16"


@case(Refused(GridMismatch, "pixel size"))
def item_with_another_pixel_size(world: World) -> None:
    world.asset("red")["raster:bands"][0]["spatial_resolution"] = 60


@case(Refused(AssetUnavailable, "other bands than it lists"))
def item_that_lists_two_bands_of_a_file_with_one(world: World) -> None:
    for band in bands_of(world, "sar"):
        world.asset(band)["bands"] = [{"name": "vv"}, {"name": "vh"}]


@case(Repaired())
def item_without_nodata(world: World) -> None:
    for band in bands_of(world, "optical"):
        rows, columns = world.pixels[band].shape
        world.pixels[band][: rows // 3, : columns // 3] = 0
        world.headers[band]["nodata"] = None
        del world.asset(band)["raster:bands"][0]["nodata"]


@case(Refused(NoScenesFound, "can't be read"))
def item_without_a_time(world: World) -> None:
    world.properties("sar")["datetime"] = None


@case(Refused(NoScenesFound, "ends before"))
def item_that_ends_before_it_starts(world: World) -> None:
    world.properties("sar").update(
        datetime=None, start_datetime="2020-04-12T00:00:00Z", end_datetime="2020-04-11T00:00:00Z"
    )


@case(Refused(RadiometryUnknown, "no declared meaning"))
def item_without_a_word_about_its_backscatter(world: World) -> None:
    properties = world.properties("sar")
    for name in [name for name in properties if name.startswith("card4l")]:
        del properties[name]
    world.items["sar"]["collection"] = "mine"
    for band in bands_of(world, "sar"):
        del world.asset(band)["raster:bands"][0]["unit"]


# --- what nobody can notice ----------------------------------------------------------------------


@silent("The item is the only witness of the time.")
def time_a_day_off(world: World) -> None:
    world.properties("sar")["datetime"] = "2020-04-12T23:43:09Z"


@silent("sigma0 and gamma0 differ by the incidence angle, which no other witness knows.")
def sigma_called_gamma(world: World) -> None:
    world.properties("sar")["card4l:measurement_type"] = "sigma0"


@silent("Amplitude called power halves every decibel; bright dry land looks the same.")
def amplitude_read_as_power(world: World) -> None:
    for band in bands_of(world, "sar"):
        world.pixels[band] = np.sqrt(world.pixels[band])


@silent("A gain of ten per cent is within what seasons and sensors differ by.")
def gain_ten_per_cent_off(world: World) -> None:
    for band in bands_of(world, "optical"):
        world.asset(band)["raster:bands"][0]["scale"] = 1.1e-4


@silent("Green and red of one shape, in files that don't name them, are both plausible.")
def visible_bands_swapped(world: World) -> None:
    world.headers["red"]["description"] = world.headers["green"]["description"] = None
    world.pixels["red"], world.pixels["green"] = world.pixels["green"], world.pixels["red"]


@silent("Item and header agree on the wrong place: only another picture of it could tell.")
def everything_moved_together(world: World) -> None:
    move_all(world, "sar", 1, 0)
    for band in bands_of(world, "sar"):
        world.asset(band)["proj:transform"] = list(world.headers[band]["transform"])[:6]


# --- running them --------------------------------------------------------------------------------


def load(world: World) -> Chip:
    catalog = str(world.write())
    pair = search_pairs(AREA, DATES, catalog=catalog, max_gap="8 days")[0]
    return load_chip(pair, AREA, bands=("blue", "green", "red", "nir", "swir16"))


@pytest.fixture(scope="module")
def unspoilt(tmp_path_factory) -> Chip:
    return load(make_world(tmp_path_factory.mktemp("unspoilt")))


def test_the_suite_is_large_enough():
    assert len(CASES) >= 40
    assert all(reason.endswith(".") for _, reason in SILENT.values())


def test_the_unspoilt_pair_loads(unspoilt):
    assert unspoilt.valid_optical.all() and unspoilt.valid_sar.all()


@pytest.mark.parametrize("name", CASES)
def test_a_contradiction_is_refused_or_repaired(name, unspoilt, tmp_path):
    change, outcome = CASES[name]
    world = make_world(tmp_path)
    change(world)
    if isinstance(outcome, Refused):
        with pytest.raises(outcome.error, match=f"(?s){outcome.says}"):
            load(world)
        return
    chip = load(world)
    for ours, theirs in ((chip.optical, unspoilt.optical), (chip.sar, unspoilt.sar)):
        assert np.isfinite(ours).mean() > 0.2
        # Beside a hole the kernel has fewer pixels to take: not wrong, but not the same.
        far = binary_erosion(np.isfinite(ours), np.ones((1, 7, 7)))
        assert far.any() and np.array_equal(ours[far], theirs[far])
    assert np.isnan(chip.optical).any() or np.isnan(chip.sar).any()


@pytest.mark.parametrize("name", SILENT)
def test_what_nothing_contradicts_loads_without_a_word(name, unspoilt, tmp_path):
    """Were one of these noticed after all, it would belong to the cases above."""
    change, _ = SILENT[name]
    world = make_world(tmp_path)
    change(world)
    assert load(world).optical.shape == unspoilt.optical.shape


def test_an_outline_over_the_antimeridian_stays_where_it_is(tmp_path):
    """Drawn as it stands, 179.9 to -179.9 degrees reaches around the globe the wrong way."""
    world = make_world(tmp_path)
    ring = [[179.95, -16.1], [-179.95, -16.1], [-179.95, -16.0], [179.95, -16.0], [179.95, -16.1]]
    for item in world.items.values():
        item["geometry"] = {"type": "Polygon", "coordinates": [ring]}
    catalog = str(world.write())
    for east in (0.0, -72.48):
        with pytest.raises((NoScenesFound, NoPairFound)):
            search_pairs(AOI.from_bbox(east, -16.08, east + 0.01, -16.05), DATES, catalog=catalog)
    found = search_pairs(AOI.from_bbox(179.96, -16.08, 179.97, -16.05), DATES, catalog=catalog)
    assert found[0].overlap == 1
    with pytest.raises(GridMismatch, match=r"CRS|place"):
        load_chip(found[0], AOI.from_bbox(179.96, -16.08, 179.97, -16.05))


def test_the_cloud_of_a_mask_outranks_the_percentage_of_the_item(tmp_path):
    world = make_world(tmp_path)
    rows, columns = world.pixels["red"].shape
    world.pixels["scl"] = np.full((rows, columns), 9, np.uint8)
    world.headers["scl"] = {**world.headers["red"], "nodata": None, "description": "SCL"}
    world.items["optical"]["assets"]["scl"] = {"href": "./scl.tif", "roles": ["data"],
                                               "raster:bands": [{}]}  # fmt: skip
    world.properties("optical")["eo:cloud_cover"] = 0.0
    with pytest.raises(NoPairFound, match="cloud is 100"):
        search_pairs(AREA, DATES, catalog=str(world.write()), max_gap="8 days")


def test_a_mask_of_another_zone_is_not_believed(tmp_path):
    world = make_world(tmp_path)
    rows, columns = world.pixels["red"].shape
    world.pixels["scl"] = np.full((rows, columns), 9, np.uint8)
    world.headers["scl"] = {
        **world.headers["red"], "nodata": None, "description": None, "crs": "EPSG:32719",
    }  # fmt: skip
    world.items["optical"]["assets"]["scl"] = {"href": "./scl.tif", "roles": ["data"],
                                               "raster:bands": [{}]}  # fmt: skip
    pair = search_pairs(AREA, DATES, catalog=str(world.write()), max_gap="8 days")[0]
    assert any("mask can't be read" in reason for reason in pair.reasons)
    assert json.loads(json.dumps(pair.to_dict()))["cloud_in_aoi"] == 0


def test_nothing_is_written_beside_a_refused_load(tmp_path):
    world = make_world(tmp_path)
    offset_never_subtracted(world)
    world.write()
    before = sorted(p.name for p in Path(tmp_path).iterdir())
    with pytest.raises(RadiometryUnknown):
        load(world)
    assert sorted(p.name for p in Path(tmp_path).iterdir()) == before
