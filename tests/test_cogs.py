"""Rasters of answers and chips: the right pixels, tiled and described for other tools."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from shapely.geometry import box

from earthmind_lab.aoi import AOI
from earthmind_lab.cogs import OUTSIDE, mask_bands, write_cog
from earthmind_lab.conversation import ask
from earthmind_lab.errors import EarthMindError
from earthmind_lab.exchange import View
from earthmind_lab.export import save_chip
from earthmind_lab.grid import inside_mask, pixel_areas
from tests.stand_in_engine import NOTICE, StandInEngine, make_chip, square

LAKES = square((40, 40), (0, 10, 0, 20), (20, 30, 10, 20))
WOOD = square((40, 40), (5, 25, 15, 35))
CHIP = make_chip(water=LAKES)


def answer_of(chip: Any = CHIP) -> Any:
    engine = StandInEngine(
        {"water": LAKES, "wood": WOOD}, {"What is here?": "Water and wood."},
        marks={"What is here?": ("water", "wood")},
    )  # fmt: skip
    return ask(chip, "What is here?", engine=engine)


def test_each_pixel_has_its_class_and_its_object() -> None:
    answer = answer_of()
    bands, labels = mask_bands(answer)
    assert labels == ("water", "wood")
    for number, item in enumerate(answer.detections, start=1):
        here = bands[1] == number
        assert set(np.unique(bands[0][here])) == {labels.index(item.label) + 1}
        drawn = LAKES if item.label == "water" else WOOD
        assert (drawn[here]).all()
    assert ((bands[0] > 0) == (LAKES | WOOD)).all()
    # Where two overlap, the smaller lies on top.
    assert (bands[0][LAKES & WOOD] == 1).all()
    assert ((bands[1] == 0) == (bands[0] == 0)).all()


def test_the_area_of_its_pixels_is_the_mapped_area() -> None:
    answer = answer_of()
    bands, _ = mask_bands(answer)
    areas = np.broadcast_to(pixel_areas(answer.grid), bands[0].shape)
    lakes = [n for n, item in enumerate(answer.detections, start=1) if item.label == "water"]
    counted = sum(float(areas[bands[1] == number].sum()) for number in lakes)
    assert counted == pytest.approx(answer.areas["water"], rel=1e-9)


def test_outside_the_aoi_there_is_no_value(tmp_path: Path) -> None:
    west, south, east, north = CHIP.aoi.bounds
    half = AOI(geometry=box(west, south, (west + east) / 2, north))
    inside = inside_mask(CHIP.grid, half.geometry)
    assert 0 < inside.sum() < inside.size
    path = answer_of(replace(CHIP, aoi=half, inside=inside)).save(tmp_path / "mask.tif")
    with rasterio.open(path) as source:
        assert source.nodata == OUTSIDE
        assert ((source.read(1) == OUTSIDE) == ~inside).all()
        assert ((source.dataset_mask() > 0) == inside).all()


def test_a_mask_is_a_cog_that_says_what_it_is(tmp_path: Path) -> None:
    answer = answer_of()
    with rasterio.open(answer.save(tmp_path / "deep" / "mask.tif")) as source:
        assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert (source.crs.to_epsg(), source.transform) == (32630, CHIP.grid.affine)
        assert source.descriptions == ("class", "object")
        assert (source.read() == mask_bands(answer)[0]).all()
        tags = source.tags()
    assert (tags["class_1"], tags["class_2"]) == ("water", "wood")
    assert tags["notice"] == NOTICE
    assert tags["answer_hash"] == answer.record.answer_hash
    assert tags["attribution"] == "contains optical data; contains sar data"
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["mask.tif"]


def test_no_object_is_a_mask_of_nothing(tmp_path: Path) -> None:
    answer = ask(CHIP, "Segment the snow.", engine=StandInEngine())
    with rasterio.open(answer.save(tmp_path / "mask.tif")) as source:
        assert not source.read().any()


def test_chips_are_cogs_of_physical_numbers(tmp_path: Path) -> None:
    holes = CHIP.sar.copy()
    holes[:, :3] = np.nan
    chip = replace(CHIP, sar=holes, valid_sar=np.isfinite(holes).all(axis=0))
    files = save_chip(chip, tmp_path)
    for name, array, unit, names in (
        ("optical.tif", chip.optical, "reflectance", chip.bands),
        ("sar.tif", chip.sar, "gamma0_rtc dB", chip.polarisations),
    ):
        with rasterio.open(files[name]) as source:
            assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert source.units == (unit,) * len(names)
            assert (source.tags()["unit"], source.tags()["scale"]) == (unit, "1")
            assert (source.descriptions, np.isnan(source.nodata)) == (names, True)
            np.testing.assert_array_equal(source.read(), array)


def test_large_ones_have_overviews_and_tiles(tmp_path: Path) -> None:
    from affine import Affine
    from odc.geo.geobox import GeoBox

    grid = GeoBox((700, 900), Affine(10, 0, 500_000, 0, -10, 5_000_000), "EPSG:32630")
    values = np.zeros((1, 700, 900), np.uint16)
    values[:, :, 450:] = 7
    write_cog(tmp_path / "a.tif", values, grid, names=("a",), unit="1", nodata=9, overviews="mode")
    with rasterio.open(tmp_path / "a.tif") as source:
        assert source.overviews(1) and source.block_shapes == [(256, 256)]
        small = source.read(1, out_shape=(175, 225))
    assert set(np.unique(small)) == {0, 7}


def test_what_can_t_be_written_is_said(tmp_path: Path) -> None:
    view = View(image=np.zeros((40, 40, 3), np.uint8), name="picture", modality="optical")
    picture = ask(view, "Segment the water.", engine=StandInEngine({"water": LAKES}))
    with pytest.raises(EarthMindError, match="no place"):
        picture.save(tmp_path / "mask.tif")
    with pytest.raises(EarthMindError, match="no place"):
        mask_bands(picture)
    (tmp_path / "folder.tif").mkdir()
    with pytest.raises(EarthMindError, match="can't be written"):
        answer_of().save(tmp_path / "folder.tif")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder.tif"]
