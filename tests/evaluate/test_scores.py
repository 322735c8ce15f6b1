"""Engines whose scores are known: right, constant, inverted, and what controls make of them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from shapely.geometry import mapping, shape

from earthmind_lab.errors import (
    CatalogUnavailable,
    EarthMindError,
    NoScenesFound,
    PromptError,
    SearchError,
)
from earthmind_lab.evaluate.asking import SAR_OFF, yes_or_no
from earthmind_lab.evaluate.controls import (
    CONTROLS,
    OTHER_PLACES,
    other_places,
    shuffled_engine,
    swapped,
)
from earthmind_lab.evaluate.ground import look
from earthmind_lab.evaluate.landcover import Cover, Main, evaluate_landcover
from earthmind_lab.evaluate.metrics import LEAST_UNITS
from earthmind_lab.evaluate.presence import balanced, evaluate_presence
from earthmind_lab.evaluate.walk import Note, walk
from tests.seeing_engine import Always, Mumbles, Sees
from tests.world_catalog import SIDE, World, lake, outline

WET = (True, False, True, True, False, False, True, False, True, False)
"""Of ten places."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Ten places; the first wet one was photographed again under clouds."""
    made = World(tmp_path_factory.mktemp("world"))
    for number, wet in enumerate(WET):
        row, column = (2 + 20 * (sum(WET[:number]) % 3), 2 + 16 * (sum(WET[:number]) // 3))
        # No two lakes share a pixel.
        ground = lake((row, row + 20), (column, column + 15)) if wet else None
        made.add(number, ground, cloud=lake((0, SIDE), (0, 45)) if number == 0 else None)
    return made.path


@pytest.fixture(autouse=True)
def kept(tmp_path_factory, monkeypatch):
    """Chips are loaded once for all tests in here."""
    monkeypatch.setenv("EARTHMIND_HOME", str(tmp_path_factory.getbasetemp() / "scores"))
    monkeypatch.setenv("EARTHMIND_CACHE_BYTES", "100MB")


@pytest.fixture(scope="module")
def covers(world):
    """What the engine that sees marks."""
    return evaluate_landcover(Sees(), world)


def water(table, sensors="both", truth="label map"):
    """Rows about water."""
    return [r for r in table.rows if (r.label, r.sensors, r.truth) == ("water", sensors, truth)]


def masks(table, **which):
    return [r for r in table.rows if isinstance(r, Cover) and r.there
            and all(getattr(r, name) == value for name, value in which.items())]  # fmt: skip


# --- presence ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "score"), [(Sees(), 1.0), (Always(), 0.5), (Sees(inverted=True), 0.0)]
)
def test_presence_of_known_answers(world, engine, score):
    table = evaluate_presence(engine, world)
    for sensors in ("optical", "sar", "both"):
        rows = [r for r in water(table, sensors) if not r.scene.startswith("hid")]
        assert len(rows) == len(WET) and sum(r.there for r in rows) == sum(WET)
        assert balanced(rows) == score
    (line,) = [x for x in table.part("Presence") if x["class"] == "water"
               and x["sensors"] == "sar" and x["truth"] == "label map"]  # fmt: skip
    assert line["balanced"].value == pytest.approx(score, abs=0.1)
    assert line["always yes"] == 0.5 and line["VV"] == 1.0 and line["majority"] >= 0.5
    assert line["balanced"].units == len(WET) >= LEAST_UNITS
    assert line["balanced"].low <= line["balanced"].value <= line["balanced"].high


@pytest.mark.parametrize("control", ["blank", "other"])
def test_without_the_right_picture_the_pixels_tell_nothing(world, control):
    table = evaluate_presence(Sees(), world, control=control)
    for sensors in ("optical", "sar", "both"):
        assert balanced(water(table, sensors)) <= 0.5
    taken = evaluate_landcover(Sees(), world, control=control)
    for row in masks(taken, label="water"):
        assert row.iou <= row.ones.iou + 0.05
    assert balanced(water(evaluate_presence(Sees(), world))) == 1.0


def test_several_other_places_stand_in_for_each_scene(world):
    table = evaluate_presence(Sees(), world, control="other", sensors=["both"])
    places = {r.scene: r.place for r in table.rows}
    for scene, place in places.items():
        away = [r.away for r in water(table) if r.scene == scene]
        assert len(away) == len(set(away)) == OTHER_PLACES
        assert not {places[name] for name in away} & {place}
        assert "hid0" not in away  # which would show clouds, not its ground
    (line,) = [x for x in table.part("Presence") if x["class"] == "water"
               and x["truth"] == "label map"]  # fmt: skip
    assert (line["scenes"], line["there"]) == (len(WET), sum(WET))
    assert line["balanced"].value <= 0.5 and line["majority"] == 0.5
    # As told: nothing is chosen by what is there, and a place is drawn once.
    drawn = other_places(0, ["a", "b", "b", "c", "d"], fit={1, 2, 3})
    assert sorted(["a", "b", "b", "c", "d"][i] for i in drawn) == ["b", "c"]
    assert drawn == other_places(0, ["a", "b", "b", "c", "d"], fit={1, 2, 3})
    assert len(other_places(0, ["a", "b", "c"], fit=set())) == 2


def test_the_blind_answer_is_asked_for_once_and_without_a_picture(world):
    engine = Sees()
    table = evaluate_presence(engine, world, sensors=["optical"])
    assert sum(not prompt.views for prompt in engine.prompts) == len(table.asked)
    assert {r.blind for r in table.rows} == {False}
    # And no question is put twice to the same pictures.
    asked = [(p.text, *(v.hash for v in p.views)) for p in engine.prompts]
    assert len(asked) == len(set(asked))


def test_only_what_the_model_knows_is_asked(world):
    engine = Sees()
    engine.capabilities = replace(engine.capabilities, classes=("water",))
    table = evaluate_presence(engine, world)
    assert table.asked == ("water",)
    assert {r.label for r in table.rows} == {"water"}
    assert "not asked: trees, crops" in table.markdown()


def test_a_model_that_sees_less_is_shown_less(world):
    engine = Sees()
    engine.capabilities = replace(engine.capabilities, max_side_px=40)
    evaluate_presence(engine, world, sensors=["both"])
    sides = {side for prompt in engine.prompts for view in prompt.views for side in view.shape}
    assert min(sides) >= 35 and max(sides) <= 40


def test_neither_yes_nor_no_is_wrong(world):
    table = evaluate_presence(Mumbles(), world, sensors=["both"])
    assert {r.said for r in table.rows} == {None}
    assert not any(r.right for r in table.rows)
    assert balanced(water(table)) == 0.0
    assert yes_or_no("Yesterday.") is None


# --- masks and main cover ------------------------------------------------------------------------


def test_masks_of_known_answers(world, covers):
    right = covers
    assert masks(right, label="water", truth="label map")
    for row in masks(right, truth="label map", sensors="optical"):
        if not row.scene.startswith("hid"):
            assert row.iou == row.pixels.f1 == 1.0 and row.pixels.share_error == 0
            assert set(row.confused) == {row.label}
    for row in masks(evaluate_landcover(Always(), world), truth="label map"):
        assert row.pixels == row.ones
    wrong = evaluate_landcover(Sees(inverted=True), world, sensors=["optical"])
    for row in masks(wrong, truth="label map"):
        if not row.scene.startswith("hid"):
            assert row.iou == 0.0


def test_edges_are_apart_and_lose_nothing(covers):
    for row in masks(covers, truth="label map"):
        assert row.inside + row.edge == row.pixels
        assert 0 < row.edge.total < row.inside.total or row.label == "crops"


def test_main_cover(world, covers):
    rows = covers.rows
    clear = [r for r in rows if isinstance(r, Main) and not r.scene.startswith("hid")]
    assert {(r.true, r.said) for r in clear} == {("crops", "crops")}
    table = evaluate_landcover(Sees(inverted=True), world, sensors=["sar"])
    (line,) = table.part("Main cover")
    assert (line["right"].value, line["majority"]) == (0.0, 1.0)


# --- cloudy twins --------------------------------------------------------------------------------


def test_sar_sees_through_the_clouds_of_a_twin(world, covers):
    table = covers
    hidden = [r for r in table.rows if isinstance(r, Cover) and r.twin and r.label == "water"]
    assert {r.truth for r in hidden} == {"clear twin", "label map"}  # not the mask of the clouds
    rows = {r.sensors: r for r in hidden if r.truth == "clear twin"}
    assert set(rows) == {"optical", "sar", "both", SAR_OFF}
    assert {r.scene for r in rows.values()} == {"hid0"}
    assert rows["both"].iou > 0.95
    assert rows["both"].iou > rows["both"].index.iou + 0.2  # of the cloudy picture
    assert rows[SAR_OFF].iou < 0.5
    assert "Cloudy twins" in table.markdown()
    off = evaluate_landcover(Sees(), world, control="no-sar", sensors=["both"])
    (row,) = masks(off, label="water", truth="clear twin")
    assert row.pixels == rows[SAR_OFF].pixels


def test_a_twin_may_be_named_and_doubted_where_the_ground_has_changed(tmp_path):
    world = World(tmp_path)
    pond, flood, cloud = (lake((0, SIDE), span) for span in ((4, 20), (40, 60), (0, 30)))
    world.optical("clear", 0, pond, "2020-01-01T10:00:00Z")
    named = {"earthmind:clear_twin": "clear"}
    world.optical("cloudy", 0, pond | flood, "2020-06-01T10:00:00Z", cloud, **named)
    world.optical("haze", 0, pond, "2020-06-06T10:00:00Z", lake((0, 3), (0, 30)), **named)
    sites = {site.name: site for site in walk(world.path)}
    assert sites["cloudy"].clear.id == "clear"  # five months before: not as found
    looked = look(sites["cloudy"])
    told = next(t for t in looked.truths if t.kind == "clear twin")
    assert looked.twin and told.yes[0][:, :30].any() and told.no[0][:, 20:30].any()
    assert not told.known(0)[:, 45:55].any()  # between the clouds the picture shows water there
    assert told.there[0] is True
    # Hardly a cloud: the picture speaks for itself.
    looked = look(sites["haze"])
    assert not looked.twin and {t.kind for t in looked.truths} == {"spectral index", "cloud mask"}


def test_ground_under_the_clouds_is_scored_apart(covers):
    rows = [r for r in covers.rows if isinstance(r, Cover) and r.label == "water"]
    for row in rows:
        assert (row.hidden is not None) == row.twin
        if row.hidden is not None:
            assert 0 < row.hidden.total < row.pixels.total
    line = next(
        x
        for x in covers.part("Means over the cloudy twins")
        if (x["sensors"], x["truth"], x["class"]) == ("both", "clear twin", "water")
    )
    assert line["IoU under cloud"] > 0.95


def test_a_twin_is_told_of_in_its_own_part(world):
    table = evaluate_presence(Sees(), world)
    means = {x["sensors"]: x for x in table.part("Means over the cloudy twins")
             if (x["class"], x["truth"]) == ("water", "clear twin")}  # fmt: skip
    assert {name: x["right"] for name, x in means.items()} == {
        "optical": 0.0, "sar": 1.0, "both": 1.0, SAR_OFF: 0.0,
    }  # fmt: skip
    assert {x["scene"] for x in table.part("Cloudy twins")} == {"hid0"}
    twins = [r for r in table.rows if r.twin]
    assert {r.truth for r in twins} == {"clear twin", "label map"}
    assert {r.scene for r in twins} == {"hid0"}
    assert not any(x["truth"] == "clear twin" for x in table.part("Presence"))
    assert not any(x["scene"] == "hid0" for x in table.part("Per scene"))


# --- one place left out --------------------------------------------------------------------------


def test_an_engine_per_place(world):
    asked: dict[str, Sees] = {}

    def engine(place):
        return asked.setdefault(place, Sees())

    table = evaluate_presence(engine, world, sensors=["both"])
    assert len(asked) == len(WET)
    assert {r.training for r in table.rows} == {"no"}
    assert balanced(water(table)) == 1.0
    for place, one in asked.items():
        shown = {v.hash for p in one.prompts for v in p.views}
        others = {v.hash for q, two in asked.items() if q != place
                  for p in two.prompts for v in p.views}  # fmt: skip
        assert shown and not shown & others


# --- the catalog ---------------------------------------------------------------------------------


def test_a_catalog_without_notes_is_walked_by_place_and_date(world):
    sites = {site.name: site for site in walk(world)}
    assert len(sites) == len(WET) + 1
    assert {site.training for site in sites.values()} == {"unknown"}
    assert sites["opt3"].pair.sar.id == "sar3"
    assert sites["hid0"].clear.id == "opt0" and sites["opt0"].clear is None
    assert [each.id for each in sites["opt3"].labels] == ["map3"]
    assert {site.name for site in walk(world, places=["opt3"])} == {"opt3"}
    with pytest.raises(NoScenesFound, match="no place 'mars'"):
        walk(world, places=["mars"])
    short = {site.name: site for site in walk(world, max_gap=timedelta(days=2))}
    assert short["opt3"].pair.sar is None
    assert short["sar3"].pair.optical is None  # stands alone, with the map's word
    noted = walk(world, notes={"opt1": Note(name="one", training="yes", doubted=("crops",))})
    one = next(site for site in noted if site.name == "one")
    assert one.training == "yes" and {s.training for s in noted} == {"yes", "no"}
    (told,) = [t for t in look(one).truths if t.kind == "label map"]
    assert "crops" not in str(told.there) and told.there[2] is None


def test_labels_may_be_named(world):
    assert walk(world, "maps")[0].labels
    with pytest.raises(SearchError, match="collections maps, s1, s2"):
        walk(world, "nowhere")
    with pytest.raises(SearchError, match="holds no labels"):
        walk(world, "s2")


def test_drawings_and_lists_are_told_apart(tmp_path):
    world = World(tmp_path)
    wet = lake((20, 40), (10, 40))
    world.add(0, wet, labels=False)
    world.add(1, None, labels=False)
    ring = outline(0)
    west, south = ring[0]
    east, north = ring[2]
    half = [[west, south], [(west + east) / 2, south], [(west + east) / 2, north], [west, north]]
    drawn = {"type": "Polygon", "coordinates": [[*half, half[0]]]}
    feature = {"type": "Feature", "properties": {"class": "water"}, "geometry": drawn}
    (tmp_path / "drawn.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": [feature]})
    )
    asset = {"href": "./drawn.geojson", "type": "application/geo+json", "roles": ["data"]}
    said = {"earthmind:truth": "hand-drawn", "earthmind:classes": ["water"],
            "earthmind:drawn_on": "opt0", "datetime": "2020-06-01T00:00:00Z"}  # fmt: skip
    world.put("drawn0", 0, "labels", said, {"data": asset})
    names = {"datetime": "2018-01-01T00:00:00Z", "earthmind:labels": ["Pastures"]}
    world.put("list1", 1, "labels", names, {})
    sites = {site.name: site for site in walk(world.path)}
    (truth,) = [t for t in look(sites["opt0"]).truths if t.kind == "hand-drawn"]
    assert truth.there == (True, *[None] * 8)
    assert truth.share(0) == pytest.approx(0.5, abs=0.03)
    (listed,) = [t for t in look(sites["opt1"]).truths if t.kind == "label list"]
    assert listed.there[2] is True and listed.there[0] is False and listed.yes is None
    assert shape(mapping(shape(drawn))).area > 0
    table = evaluate_presence(Sees(), world.path)
    assert {r.truth for r in table.rows} == {"hand-drawn", "label list", "spectral index"}


def test_a_broken_scene_is_left_out_and_said(world, tmp_path):
    made = World(tmp_path / "broken")
    made.add(0, lake((20, 40), (10, 40)))
    made.add(1, None)
    (made.folder / "opt1_nir.tif").write_bytes(b"II*\0 no picture")
    table = evaluate_presence(Sees(), made.path, sensors=["both"])
    assert {r.scene for r in table.rows} == {"opt0"}
    (left,) = table.skipped
    assert left.startswith("opt1: ") and left[:20] in table.markdown()
    (made.folder / "opt0_nir.tif").write_bytes(b"II*\0 no picture")
    with pytest.raises(NoScenesFound, match="opt0"):
        evaluate_presence(Sees(), made.path)


def test_labels_that_cannot_be_read_are_said(tmp_path):
    made = World(tmp_path)
    made.add(0, None)
    made.add(1, lake((20, 40), (10, 40)))
    (tmp_path / "map0_data.tif").write_bytes(b"")
    table = evaluate_presence(Sees(), made.path, sensors=["both"])
    assert len(table.skipped) == 1 and "map0" in table.skipped[0]


@pytest.mark.parametrize("catalog", ["https://example.com/stac", "planetary-computer", "nowhere"])
def test_an_api_cannot_be_walked(catalog, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "")
    with pytest.raises(CatalogUnavailable):
        walk(catalog)


@pytest.mark.parametrize("task", [evaluate_presence, evaluate_landcover])
def test_nothing_to_ask_is_an_error(world, task):
    with pytest.raises(NoScenesFound, match="Nothing could be asked"):
        task(Sees(), world, sensors=["sar"], control="no-sar")


def test_bad_words(world):
    with pytest.raises(PromptError, match="'radar'"):
        evaluate_presence(Sees(), world, sensors=["radar"])
    with pytest.raises(EarthMindError, match="no control 'noise'"):
        evaluate_landcover(Sees(), world, control="noise")
    with pytest.raises(EarthMindError, match="server"), shuffled_engine("http://host:1"):
        pass
    with pytest.raises(EarthMindError, match="no other place"):
        other_places(0, ["a", "a"])
    assert len(CONTROLS) == 5


def test_another_place_lends_its_pixels_and_nothing_else(world):
    from earthmind_lab.render import render

    one, other = (render(look(site).chip) for site in walk(world)[1:3])
    lent = swapped(one, [replace(v, image=v.image[:20, :30]) for v in other])
    for mine, now in zip(one, lent, strict=True):
        assert (now.name, now.time, now.shape) == (mine.name, mine.time, mine.shape)
        assert not np.array_equal(now.image, mine.image)


# --- the report ----------------------------------------------------------------------------------


def test_a_table_is_data_markdown_and_a_file(world, tmp_path):
    table = evaluate_presence(Sees(), world, sensors=["both"])
    data = json.loads(json.dumps(table.to_dict(), allow_nan=False))
    assert data["task"] == "presence" and len(data["rows"]) == len(table.rows)
    assert table.save(tmp_path / "new" / "table.md").read_text() == table.markdown() + "\n"
    assert json.loads(table.save(tmp_path / "table.json").read_text()) == data
    with pytest.raises(EarthMindError, match="can't be written"):
        table.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "table.json"]
    for line in table.markdown().splitlines():
        if line.startswith("|"):
            assert line.endswith("|")
