"""Chips with labels: what is asked follows from what is known, and from nothing else."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from odc.geo.geobox import GeoBox

from earthmind_lab.data.load import load_chip
from earthmind_lab.data.samples import place, places
from earthmind_lab.data.search import search_pairs
from earthmind_lab.errors import AssetUnavailable, EarthMindError, GridMismatch, LoadError
from earthmind_lab.evaluate.legends import CLASSES as LEGEND_NAMES
from earthmind_lab.evaluate.scenes import CASES, load_case
from earthmind_lab.evaluate.truth import PixelTruth
from earthmind_lab.exchange import Options
from earthmind_lab.finetune.areas import labelled_areas
from earthmind_lab.finetune.asks import KINDS, asks_of, region_of, told_share
from earthmind_lab.finetune.checking import check_examples
from earthmind_lab.finetune.footprints import footprint_of_grid
from earthmind_lab.finetune.labelled import labelled_chips
from earthmind_lab.finetune.labels import Labels, PolygonLabels, RasterLabels, read_areas
from earthmind_lab.finetune.leaks import find_leaks
from earthmind_lab.finetune.packing import Packed
from earthmind_lab.grid import LONLAT
from earthmind_lab.mapping import observable
from earthmind_lab.render import render
from tests.tiny_catalog import AOI, DATES, write_catalog

SPARSE = {f"{kind} {name}" for name in ("water", "crops") for kind in ("presence", "region")} | {
    f"verify {name} {word}" for name in ("water", "crops") for word in ("yes", "no")
}
"""What can be asked where a class may hide in unknown ground."""
LEGEND = {1: "water", 2: "crops", 3: "snow"}


@pytest.fixture(scope="module")
def chip(tmp_path_factory):
    catalog = write_catalog(tmp_path_factory.mktemp("catalog") / "catalog")
    return load_chip(search_pairs(AOI, DATES, catalog=str(catalog))[0], AOI)


def classes(chip, water=0.3):
    """Water in the west, crops in the rest, an unlabelled row."""
    codes = np.full(chip.inside.shape, 2, np.uint8)
    codes[:, : round(codes.shape[1] * water)] = 1
    codes[0] = 0
    return codes


def everything(source):
    return {source.info(i).id.split(": ")[1]: source[i] for i in range(len(source))}


def test_examples_of_a_chip_are_packed(chip):
    """By what they say of themselves: two chips of the same scenes are two places."""
    lattice = chip.grid.affine
    moved = Affine(lattice.a, lattice.b, lattice.c, lattice.d, lattice.e, lattice.f + 5000)
    north = replace(chip, grid=GeoBox(chip.grid.shape, moved, chip.grid.crs))
    source = labelled_chips([chip, north], RasterLabels(classes(chip), LEGEND))
    rows = Packed(source, 6).rows
    assert len(source) == 30 and [len(row) for row in rows] == [5] * 6
    for row in rows:
        assert len({source.info(index).id.split(": ")[0] for index in row}) == 1


def test_a_mask_is_asked_for_where_half_of_the_ground_is_known(chip):
    """If that is wanted; what isn't known is told beside the mask."""
    codes = classes(chip)
    codes[:, codes.shape[1] // 2 :] = 0
    labels = RasterLabels(codes, LEGEND)
    assert "segment water" not in everything(labelled_chips([chip], labels))
    found = everything(labelled_chips([chip], labels, drawn=0.4))["segment water"]
    seen = (codes > 0) & observable(chip)
    assert np.array_equal(found.known, seen[None]) and not found.known.all()
    assert np.array_equal(found.masks, ((codes == 1) & seen)[None])
    whole = everything(labelled_chips([chip], RasterLabels(classes(chip), LEGEND)))
    assert whole["segment snow"].known is whole["presence water"].known is None


def test_what_a_raster_decides(chip):
    labels = RasterLabels(classes(chip), LEGEND)
    assert isinstance(labels, Labels)
    source = labelled_chips([chip], labels, licence="CC0-1.0")
    found = everything(source)
    assert set(found) == {
        "presence water", "share water", "segment water", "region water", "presence crops",
        "share crops", "segment crops", "region crops", "presence snow", "segment snow", "dominant",
        "verify water yes", "verify water no", "verify crops yes", "verify crops no",
    }  # fmt: skip
    assert found["presence water"].reply.startswith("Yes")
    assert found["presence snow"].reply.startswith("No")
    assert found["segment snow"].reply == "There is no snow here."
    assert found["segment snow"].masks is None
    assert found["dominant"].reply == "Mostly crops."
    assert found["share water"].reply == "About a third."
    assert found["region crops"].reply == "Region 1 is crops."
    assert "crops" in found["verify crops yes"].prompt.text
    assert "crops" not in found["verify crops no"].prompt.text
    assert (
        found["verify crops no"].info.task == "region" and found["verify crops no"].prompt.regions
    )
    water = found["segment water"]
    truth = (classes(chip) == 1) & observable(chip)
    assert np.array_equal(water.masks, truth[None])
    assert water.reply == "Sure, the water: [SEG]." and water.info.task == "segment"
    region = found["region crops"].prompt.regions[0].mask
    assert np.array_equal(region, (classes(chip) == 2) & observable(chip))
    about = water.info
    assert about.pictures == ("opt", "sar") and about.attribution == "us"
    assert about.licence == "CC0-1.0; CC-BY-4.0"
    assert about.place.covers(chip.aoi.geometry)


def test_pictures_are_those_of_the_engine(chip):
    source = labelled_chips([chip], RasterLabels(classes(chip), LEGEND), composites=("vv", "nir"))
    want = render(chip, preferred=("vv", "nir"))
    got = source[0].prompt.views
    assert [view.name for view in got] == ["vv", "nir"]
    assert [view.hash for view in got] == [view.hash for view in want]
    assert got[0].gsd == chip.gsd


def test_every_example_passes_the_check_and_trains(chip):
    from earthmind_lab.model.processing import EarthMindProcessor
    from earthmind_lab.model.samples import Sample, training_batch

    processor = EarthMindProcessor.from_pretrained("nano")
    source = labelled_chips(
        [chip], RasterLabels(classes(chip), LEGEND), composites=processor.config.composites,
        shares="per cent",
    )  # fmt: skip
    report = check_examples(source, processor)
    assert report.ok, report
    assert report.tally.placed == len(source)
    several = [source[i] for i in range(len(source))]
    samples = [Sample(prompt=e.prompt, reply=e.reply, masks=e.masks) for e in several]
    batch = training_batch(processor, samples, Options())
    assert batch["masks"].shape[0] == 2


def test_nodata_and_the_unlabelled_are_in_no_answer(chip):
    codes = classes(chip)
    codes[:, codes.shape[1] // 2 :] = 99  # not in the legend
    found = everything(labelled_chips([chip], RasterLabels(codes, LEGEND)))
    # Water may hide in the unknown half: it is there, but nobody knows how much or where else.
    assert set(found) == SPARSE
    assert not found["region crops"].prompt.regions[0].mask[:, codes.shape[1] // 2 :].any()


def test_a_sensor_that_sees_nothing_is_no_ground(chip):
    seen = np.zeros_like(chip.inside)
    seen[:, :20] = True
    dark = replace(
        chip, optical=None, bands=(), valid_optical=None, valid_sar=seen & chip.valid_sar,
        sar=np.where(seen, chip.sar, np.nan).astype(np.float32),
        pair=replace(chip.pair, optical=None, gap=None),
        radiometry=replace(chip.radiometry, level=None, offset_applied=None),
    )  # fmt: skip
    codes = np.full(chip.inside.shape, 2, np.uint8)
    codes[:, :10] = 1
    found = everything(labelled_chips([dark], RasterLabels(codes, LEGEND)))
    assert found["share water"].reply == "About half."
    assert not found["segment crops"].masks[0][:, 20:].any()


def test_phrasings_repeat_and_change_with_the_seed(chip):
    labels = RasterLabels(classes(chip), LEGEND)

    def texts(seed):
        return [
            e.prompt.text for e in everything(labelled_chips([chip], labels, seed=seed)).values()
        ]

    assert texts(0) == texts(0)
    assert len({tuple(texts(seed)) for seed in range(5)}) > 1


def test_chips_are_loaded_when_it_is_their_turn(chip):
    calls = []

    def load():
        calls.append(1)
        return chip

    source = labelled_chips([load, load], RasterLabels(classes(chip), LEGEND), kinds=("segment",))
    assert len(calls) == 2 and len(source) == 6
    assert len({source.info(i).id for i in range(6)}) == 6
    assert len([source[i] for i in range(6)]) == 6
    assert len(calls) == 2  # both are still held


# --- where labels come from --------------------------------------------------------------------


def write_raster(path, codes, affine, crs="EPSG:32630", nodata=None):
    with rasterio.open(
        path, "w", driver="GTiff", dtype=codes.dtype.name, count=1, height=codes.shape[0],
        width=codes.shape[1], crs=crs, transform=affine, nodata=nodata,
    ) as file:  # fmt: skip
        file.write(codes, 1)
    return path


def test_a_raster_of_another_grid(chip, tmp_path):
    codes = classes(chip)
    same = write_raster(tmp_path / "same.tif", codes, chip.grid.affine)
    fine = write_raster(
        tmp_path / "fine.tif", codes.repeat(4, axis=0).repeat(4, axis=1),
        chip.grid.affine @ Affine.scale(0.25),
    )  # fmt: skip
    noisy = codes.repeat(4, axis=0).repeat(4, axis=1)
    for row, column in ((1, 1), (1, 2), (2, 1), (2, 2)):
        noisy[row::4, column::4] = 3  # four of sixteen: the nearest is one, the most frequent none
    noise = write_raster(tmp_path / "noise.tif", noisy, chip.grid.affine @ Affine.scale(0.25))
    want = RasterLabels(codes, LEGEND).truth(chip)
    for path in (same, fine, noise):
        got = RasterLabels(path, LEGEND).truth(chip)
        assert np.array_equal(got.yes, want.yes) and np.array_equal(got.no, want.no), path


def test_nodata_of_a_raster_and_ground_beyond_it_are_unknown(chip, tmp_path):
    codes = classes(chip)
    half = codes[:, : codes.shape[1] // 2].copy()
    half[5:9] = 2
    path = write_raster(tmp_path / "half.tif", half, chip.grid.affine, nodata=2)
    truth = RasterLabels(path, {0: "nothing", **LEGEND}).truth(chip)
    known = truth.known.any(axis=0)
    assert not known[:, codes.shape[1] // 2 :].any()
    assert not known[5:9].any() and not truth.yes[2].any()
    assert truth.yes[1].sum() == (half == 1).sum()  # and code 0 is a class here, not a hole
    assert truth.yes[0].sum() == (half == 0).sum()


def test_rasters_that_cannot_be_used(chip, tmp_path):
    codes = classes(chip)
    with pytest.raises(GridMismatch, match="grid of the chip"):
        RasterLabels(codes[1:], LEGEND).truth(chip)
    with pytest.raises(AssetUnavailable, match="no raster"):
        RasterLabels(tmp_path / "gone.tif", LEGEND).truth(chip)
    (tmp_path / "text.tif").write_text("no")
    with pytest.raises(AssetUnavailable, match="can't be read"):
        RasterLabels(tmp_path / "text.tif", LEGEND).truth(chip)
    away = write_raster(tmp_path / "away.tif", codes, Affine(10, 0, 0, 0, -10, 0), crs=None)
    with pytest.raises(GridMismatch, match="no place"):
        RasterLabels(away, LEGEND).truth(chip)
    with pytest.raises(LoadError, match="legend"):
        RasterLabels(codes, {})
    else_where = write_raster(tmp_path / "e.tif", codes, Affine(10, 0, 1e5, 0, -10, 1e6))
    with pytest.raises(LoadError, match="decide nothing"):
        labelled_chips([chip], RasterLabels(else_where, LEGEND))


def feature(name, *corners, **more):
    west, south, east, north = corners
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {
        "type": "Feature",
        "properties": {"class": name, **more},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }


def collection(path, *features):
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(features)}))
    return path


def part(chip, west, east):
    """A strip of a chip from one share of its width to another."""
    box = footprint_of_grid(chip.grid).bounds
    wide = box[2] - box[0]
    return box[0] + west * wide, box[1] - 0.001, box[0] + east * wide, box[3] + 0.001


def test_polygons_say_what_is_there_and_not_what_is_absent(chip, tmp_path):
    path = collection(
        tmp_path / "a.geojson", feature("water", *part(chip, -0.1, 0.3)),
        feature("crops", *part(chip, 0.75, 1.1)),
    )  # fmt: skip
    areas = read_areas(path)
    found = everything(labelled_chips([chip], PolygonLabels(areas)))
    assert set(found) == SPARSE
    whole = everything(labelled_chips([chip], PolygonLabels(areas, complete=True, extra=("snow",))))
    assert {"segment water", "share water", "presence snow", "segment snow"} <= set(whole)
    assert whole["presence snow"].reply.startswith("No")
    truth = PolygonLabels(areas, complete=True).truth(chip)
    assert np.array_equal(whole["segment water"].masks[0], truth.yes[0] & observable(chip))
    assert "dominant" not in whole  # water leads crops, but most of the ground is neither


def test_polygons_that_contradict_each_other_are_unknown_there(chip, tmp_path):
    path = collection(
        tmp_path / "a.geojson", feature("water", *part(chip, -0.1, 0.6)),
        feature("crops", *part(chip, 0.4, 1.1)),
    )  # fmt: skip
    truth = PolygonLabels(read_areas(path), complete=True).truth(chip)
    both = ~truth.known.any(axis=0)
    share = both.mean()
    assert 0.15 < share < 0.25
    assert not (truth.yes & both).any() and not (truth.no & both).any()


def test_files_of_areas(tmp_path, chip):
    import geopandas

    path = collection(tmp_path / "a.geojson", feature("water", *part(chip, 0, 1)))
    frame = geopandas.read_file(path).to_crs(32630)
    frame.to_file(tmp_path / "a.gpkg")
    (area,) = read_areas(tmp_path / "a.gpkg")
    assert (area.id, area.name) == ("a-1", "water")
    assert area.geometry.equals_exact(read_areas(path)[0].geometry, 1e-6)
    point = {**feature("x", 0, 0, 1, 1), "geometry": {"type": "Point", "coordinates": [0, 0]}}
    bow = feature("x", 0, 0, 1, 1)
    bow["geometry"]["coordinates"] = [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]
    assert read_areas(collection(tmp_path / "bow.geojson", bow))[0].geometry.is_valid
    for features, message in (
        ([feature("a", 0, 0, 1, 1), feature(None, 0, 0, 1, 1)], "area 2 of 2: it has no class"),
        ([feature(" ", 0, 0, 1, 1)], "no class"),
        ([point], "no area"),
    ):
        with pytest.raises(LoadError, match=message):
            read_areas(collection(tmp_path / "b.geojson", *features))
    with pytest.raises(LoadError, match=r"no column 'kind'.*class"):
        read_areas(path, "kind")
    with pytest.raises(AssetUnavailable, match="no file of areas"):
        read_areas("http://127.0.0.1/areas.geojson")
    (tmp_path / "c.geojson").write_text("{")
    with pytest.raises(AssetUnavailable, match="can't be read"):
        read_areas(tmp_path / "c.geojson")
    assert LONLAT == "EPSG:4326"


def test_the_truth_of_the_embedded_scenes_fits():
    """What scores nano can teach it, too, through the same door."""
    known = load_case(next(case for case in CASES if case.name == "finland_lake"))

    class Own:
        names = LEGEND_NAMES

        def truth(self, chip):
            return known.truth

    found = everything(labelled_chips([known.chip], Own()))
    assert found["presence water"].reply.startswith("Yes")
    assert found["presence snow"].reply.startswith("No")


# --- what a truth decides ----------------------------------------------------------------------

TRUTHS = arrays.arrays(np.int8, (3, 6, 8), elements=st.integers(0, 2))


@given(TRUTHS, arrays.arrays(np.bool_, (6, 8)), st.integers(0, 3))
def test_no_answer_is_wrong_whatever_the_unknown_is(codes, ground, filled):
    """Fill what is unknown with yes or no: every answer must still hold."""
    truth = PixelTruth(yes=codes == 1, no=codes == 2)
    names = ("water", "trees", "snow")
    rng = np.random.default_rng(filled)
    full = truth.yes | (~truth.known & rng.integers(0, 2, codes.shape).astype(bool))
    if filled in (0, 1):
        full = truth.yes | (~truth.known & bool(filled))
    share = (full & ground).sum(axis=(1, 2)) / max(1, ground.sum())
    for ask in asks_of(truth, ground, names, "k"):
        name = ask.id.split(" ")[-1]
        if ask.kind == "verify":
            region = region_of(truth, ground, ask.index)
            asked = next(each for each in names if each in ask.question)
            inside = full[names.index(asked)][region]
            assert inside.all() if ask.reply == "Yes." else not inside.any()
            continue
        if ask.kind == "presence":
            index = names.index(name)
            assert share[index] >= 0.03 if ask.reply.startswith("Yes") else share[index] < 0.035
        elif ask.kind == "dominant":
            best = next(i for i, each in enumerate(names) if each in ask.reply)
            assert share[best] == share.max() or (full & ground).sum(axis=0).max() > 1
        elif ask.index is not None:
            assert (truth.yes[ask.index] & ground).any()


def test_a_rival_that_may_be_as_large_leaves_the_main_cover_open():
    west = np.zeros((4, 4), bool)
    west[:, :2] = True
    ground = np.ones((4, 4), bool)

    def asked(no_trees):
        truth = PixelTruth(yes=np.stack([west, west & False]), no=np.stack([~west, no_trees]))
        return {ask.id for ask in asks_of(truth, ground, ("water", "trees"), "k")}

    assert "dominant" not in asked(west)  # all of the east may be trees
    east = ~west
    east[:, 3] = False
    assert "dominant" in asked(west | east)  # a quarter of the ground may be


def test_questions_agree_with_their_subject():
    truth = PixelTruth(yes=np.ones((2, 4, 4), bool), no=np.zeros((2, 4, 4), bool))
    ground = np.ones((4, 4), bool)
    texts = {
        f"{ask.question} {ask.reply}"
        for seed in range(30)
        for ask in asks_of(truth, ground, ("trees", "snow"), "k", seed=seed)
    }
    assert any("Are there trees here?" in text for text in texts)
    assert not [
        text for text in texts if re.search(r"is (there |the )(any |no )?trees", text, re.I)
    ]
    assert not [
        text for text in texts if re.search(r"are (there |the )(any |no )?snow", text, re.I)
    ]


def test_no_ground_no_question():
    truth = PixelTruth(yes=np.ones((1, 4, 4), bool), no=np.zeros((1, 4, 4), bool))
    assert not list(asks_of(truth, np.zeros((4, 4), bool), ("water",), "k"))


def test_kinds_are_chosen():
    truth = PixelTruth(yes=np.ones((1, 4, 4), bool), no=np.zeros((1, 4, 4), bool))
    ground = np.ones((4, 4), bool)
    for kind in KINDS[:-1]:
        assert {ask.kind for ask in asks_of(truth, ground, ("water",), "k", kinds=(kind,))} == {
            kind
        }


@pytest.mark.parametrize(
    ("share", "words", "per_cent"),
    [(0.01, "Less than a tenth.", "About 1 %."), (0.1, "About a tenth.", "About 10 %."),
     (0.48, "About half.", "About 50 %."), (0.7, "About two thirds.", "About 70 %."),
     (0.94, "Nearly all of it.", "About 95 %."), (1.0, "All of it.", "About 100 %."),
     (0.001, "Less than a tenth.", "About 1 %.")],
)  # fmt: skip
def test_shares(share, words, per_cent):
    assert (told_share(share, "words"), told_share(share, "per cent")) == (words, per_cent)


# --- twelve labelled areas ---------------------------------------------------------------------


def test_twelve_labelled_areas_become_three_sets(tmp_path):
    features = []
    for each in places()[:12]:
        west, south, east, north = each.bbox
        x, y = (west + east) / 2, (south + north) / 2
        name = ("water", "crops", "trees")[len(features) % 3]
        features.append(feature(name, x - 0.004, y - 0.003, x + 0.004, y + 0.003))
    path = collection(tmp_path / "areas.geojson", *features)
    found = labelled_areas(
        path, "2017-01-01/2023-12-31", catalog="sample", max_gap="30 days", max_cloud=100,
        side_km=1.0, shares={"train": 8, "validation": 2, "test": 2},
    )  # fmt: skip
    assert list(found.sets) == ["train", "validation", "test"]
    chips = {side: {tuple(chosen.info(i).place.bounds) for i in range(len(chosen))}
             for side, chosen in found.sets.items()}  # fmt: skip
    # Two of the places have no SAR scene; each of the others has a chip, on one side.
    assert [text.split(" ")[0] for text in found.skipped] == ["areas-11", "areas-12"]
    assert all(chips.values()) and sum(map(len, chips.values())) == 10
    assert len(set().union(*chips.values())) == 10
    sides = list(found.sets.values())
    assert not find_leaks(sides[0], sides[1]) and not find_leaks(sides[0], sides[2])
    assert all(side[0].prompt.views for side in sides)
    assert "10 of 10 labelled chips, water, crops, trees" in repr(found)


def test_other_labels_are_other_content(chip):
    def content(water):
        source = labelled_chips([chip], RasterLabels(classes(chip, water), LEGEND))
        return {source.info(i).id: source.info(i).content for i in range(len(source))}

    first, again, other = content(0.3), content(0.3), content(0.32)
    assert first == again and all(first.values())
    assert not any(first[name] == other[name] for name in set(first) & set(other))


def test_ground_that_nobody_could_tell_is_unknown(chip, tmp_path):
    west, east = part(chip, -0.1, 0.6), part(chip, 0.4, 1.1)
    path = collection(tmp_path / "a.geojson", feature("water", *west), feature("unknown", *east))
    labels = PolygonLabels(read_areas(path), complete=True)
    assert labels.names == ("water",)
    truth = labels.truth(chip)
    wide = chip.inside.shape[1]
    assert truth.yes[0, :, : wide * 3 // 10].all() and not truth.no[0].any()
    assert not truth.known[0, :, wide // 2 :].any()
    only = collection(tmp_path / "b.geojson", feature("unknown", *east))
    with pytest.raises(LoadError, match="no area with a class"):
        read_areas(only)


def test_within_a_complete_square_what_is_not_drawn_is_absent(chip, tmp_path):
    square, water = part(chip, -0.1, 0.6), part(chip, -0.1, 0.3)
    path = collection(
        tmp_path / "a.geojson", feature("complete", *square), feature("water", *water)
    )
    labels = PolygonLabels(read_areas(path))
    assert labels.names == ("water",)
    truth, wide = labels.truth(chip), chip.inside.shape[1]
    assert truth.yes[0, :, : wide // 5].all()
    assert truth.no[0, :, wide * 2 // 5 : wide // 2].all()
    assert not truth.known[0, :, wide * 7 // 10 :].any()
    only = collection(tmp_path / "b.geojson", feature("complete", *square))
    with pytest.raises(LoadError, match="no area with a class"):
        read_areas(only)


def test_a_complete_square_is_a_chip_itself(tmp_path):
    west, south, east, north = place("chile").bbox
    x, y = (west + east) / 2, (south + north) / 2
    path = collection(
        tmp_path / "a.geojson", feature("water", x + 0.001, y + 0.001, x + 0.003, y + 0.003),
        feature("complete", x, y, x + 0.005, y + 0.005),
        feature("complete", x - 0.006, y, x - 0.001, y + 0.005),
    )  # fmt: skip
    found = labelled_areas(
        path, place("chile").dates, catalog="sample", side_km=2.0, shares={"train": 1}
    ).source
    assert found.said.startswith("2 of 2 labelled chips, water")
    replies = {found.info(i).id: found[i].reply[:3] for i in range(len(found))}
    assert replies["a-2 1: presence water"] == "Yes" and replies["a-3 2: presence water"] == "No."
    assert max(found[0].prompt.views[0].shape) < 100  # half a kilometre


def test_areas_in_one_chip_share_it(tmp_path):
    west, south, east, north = place("chile").bbox
    x, y = (west + east) / 2, (south + north) / 2
    path = collection(
        tmp_path / "a.geojson", feature("water", x, y, x + 0.002, y + 0.002),
        feature("crops", x - 0.002, y - 0.002, x, y),
    )  # fmt: skip
    found = labelled_areas(
        path, place("chile").dates, catalog="sample", side_km=1.0, shares={"train": 1}
    )
    assert "1 of 1 labelled chips" in found.source.said
    assert {found["train"].info(i).task for i in range(len(found["train"]))} == {
        "question", "region"
    }  # fmt: skip


def test_areas_without_scenes_are_told_with_the_reason(tmp_path):
    path = collection(tmp_path / "a.geojson", feature("water", 0, 0, 0.01, 0.01))
    with pytest.raises(LoadError, match=r"No area has scenes.*a-1 \(water\)"):
        labelled_areas(path, "2019-09-15/2019-09-20", catalog="sample")
    with pytest.raises(EarthMindError, match="complete=True"):
        labelled_areas(path, "2019-09-15/2019-09-20", extra=("snow",))
