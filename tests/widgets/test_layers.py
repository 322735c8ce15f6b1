"""ChipLayer: pictures, objects, legend and owners of the active area."""

from __future__ import annotations

import threading
from dataclasses import replace

import ipyleaflet
import numpy as np
import pytest

from earthmind_lab.aoi import AOI
from earthmind_lab.errors import PromptError
from earthmind_lab.session import Session
from earthmind_lab.session.subject import Subject
from earthmind_lab.widgets.basemap import (
    LAND_PANE,
    PANES,
    SAR_PANE,
    TILE_HOST,
    TILES,
    make_map,
)
from earthmind_lab.widgets.layers import ChipLayer
from earthmind_lab.widgets.legend import attribution_of, feature_words
from earthmind_lab.widgets.raster import composites_of
from tests.stand_in_engine import StandInEngine, make_chip, square
from tests.widgets.layer_world import (
    HOSTILE,
    FakeSession,
    area,
    names,
    row,
    settled,
    shows,
    touch,
    turn,
)


def test_nothing_to_show(shown):
    assert shown.layer.settle(10)
    settled(shown)
    assert names(shown.map) == ["land"]
    assert [each["composites"] for each in shown.panel.rasters] == [[], []]
    assert shown.panel.answers == shown.panel.origin == []
    about = shown.panel.about
    assert not about["comparable"]
    assert not about["waits"]
    assert about["attribution"] == ""


def test_both_pictures_in_panes_of_their_own(shown):
    shows(shown, area(), make_chip())
    assert names(shown.map) == ["land", "Optical", "SAR"]
    optical, sar = shown.map.layers[1:]
    assert optical.pane != sar.pane
    assert {optical.pane, sar.pane} <= set(PANES)
    assert set(PANES) <= set(shown.map.panes)
    assert optical.bounds == sar.bounds
    (south, west), (north, east) = optical.bounds
    assert (west, south, east, north) == pytest.approx(make_chip().aoi.bounds, abs=2e-4)
    assert sar.attribution == "contains sar data. Licence: CC-BY-4.0."
    assert "contains optical data; contains sar data" in shown.panel.about["attribution"]


def test_the_legend_has_units_and_stretch_of_every_channel(shown):
    shows(shown, area(), make_chip())
    sar, optical = row(shown, "sar"), row(shown, "optical")
    assert sar["title"] == "Sentinel-1, 2 Jun 2020"
    assert [(each["name"], each["low"], each["high"]) for each in sar["ramps"]] == [
        ("R VV", "−25", "0"), ("G VH", "−32", "−7"), ("B VV−VH", "0", "15"),
    ]  # fmt: skip
    assert {each["unit"] for each in sar["ramps"]} == {"dB γ⁰ (terrain-flattened)"}
    assert sar["ramps"][1]["stops"] == ["#000000", "#00ff00"]
    assert optical["ramps"][0]["name"] == "R red"
    assert {each["unit"] for each in optical["ramps"]} == {"surface reflectance"}
    assert "VV −25…0 dB, G VH −32…−7 dB" in sar["words"]
    shown.tell(kind="raster", sensor="sar", visible=True, opacity=1, composite="vh")
    shown.browser.wait(lambda: len(row(shown, "sar")["ramps"]) == 1)
    (ramp,) = row(shown, "sar")["ramps"]
    assert (ramp["name"], ramp["stops"]) == ("VH", ["#000000", "#ffffff"])


def test_another_composite_is_drawn_and_kept(shown):
    shows(shown, area(), make_chip())
    before = shown.map.layers[2]
    listed = [each["name"] for each in row(shown, "sar")["composites"]]
    assert listed == ["vv_vh_ratio", "vv", "vh"]
    shown.tell(kind="raster", sensor="sar", visible=True, opacity=1, composite="vv")
    shown.browser.wait(lambda: row(shown, "sar")["composite"] == "vv")
    assert shown.layer.settle(10)
    assert shown.map.layers[2] is not before
    assert names(shown.map) == ["land", "Optical", "SAR"]
    shows(shown, area())
    assert names(shown.map) == ["land"]
    assert row(shown, "sar")["composites"] == []
    shows(shown, area(), make_chip())
    assert row(shown, "sar")["composite"] == "vv"
    shown.layer.set_raster("sar", visible=True, opacity=1, composite="no such")
    assert shown.layer.settle(10)
    assert shown.layer.rasters["sar"].wanted == "vv"


def test_the_same_chip_is_not_encoded_again(shown):
    chip = make_chip()
    shows(shown, area(), chip)
    before = shown.map.layers
    shows(shown, area(busy="ask"), chip)
    assert shown.map.layers == before


def test_opacity_and_visibility_go_to_the_layer(shown):
    shows(shown, area(), make_chip())
    shown.tell(kind="raster", sensor="sar", visible=False, opacity=0.4, composite=None)
    shown.browser.wait(lambda: not row(shown, "sar")["visible"])
    raster = shown.layer.rasters["sar"]
    assert raster.layer.opacity == 0
    before = raster.layer
    shown.layer.set_raster("sar", visible=False, opacity=0.4, composite="vh")
    assert shown.layer.settle(10)
    assert raster.layer is not before  # a new picture keeps the switches
    assert raster.layer.opacity == 0
    shown.layer.set_raster("sar", visible=True, opacity=0.4)
    assert raster.layer.opacity == 0.4
    shown.layer.set_raster("sar", visible=True, opacity=7)
    assert raster.layer.opacity == 1


@pytest.mark.parametrize("how", ["swipe", "blink"])
def test_comparing_needs_both_sensors(shown, how):
    shows(shown, area(), make_chip(sar=False))
    assert names(shown.map) == ["land", "Optical"]
    assert not shown.panel.about["comparable"]
    shown.layer.compare(how)
    assert shown.layer.swipe.how == ""
    shows(shown, area(), make_chip())
    shown.tell(kind="compare", how=how)
    shown.browser.wait(lambda: shown.panel.about["how"] == how)
    swipe = shown.layer.swipe
    panes = {raster.layer.pane for raster in shown.layer.sides}
    assert {swipe.left_pane, swipe.right_pane} == panes
    titles = ("Sentinel-2, 1 Jun 2020", "Sentinel-1, 2 Jun 2020")
    assert (swipe.left_title, swipe.right_title) == titles
    swipe.how = ""  # as the browser does on Escape
    shown.browser.wait(lambda: shown.panel.about["how"] == "")
    swipe.how = how
    shows(shown, area())
    assert swipe.how == ""


def test_an_error_of_one_picture_leaves_the_other_and_goes_with_its_cause(shown, monkeypatch):
    from earthmind_lab.widgets import raster as layers

    def fails(chip, names):
        if names[0].startswith("vv"):
            raise PromptError("No such picture.")
        return render(chip, names)

    render = layers.render
    monkeypatch.setattr(layers, "render", fails)
    shows(shown, area(), make_chip())
    assert names(shown.map) == ["land", "Optical"]
    assert "No such picture." in shown.panel.about["message"]
    assert row(shown, "sar")["ramps"] == []
    monkeypatch.setattr(layers, "render", render)
    shows(shown, area(), make_chip())
    assert names(shown.map) == ["land", "Optical", "SAR"]
    assert shown.panel.about["message"] == ""


def test_a_turn_that_is_undone_leaves_the_map(shown):
    shows(shown, area(turn(1), turn(2)))
    kept = shown.map.layers[1]
    gone = shown.map.layers[2]
    shows(shown, area(turn(1)))
    assert names(shown.map) == ["land", "answer 1"]
    assert shown.map.layers[1] is kept
    assert gone.comm is None  # its widget has ended
    assert [each["id"] for each in shown.panel.answers] == ["ask-1"]


def test_a_turn_about_another_pair_is_drawn_dashed(shown):
    shows(shown, area(turn(1)))
    assert shown.map.layers[1].data["features"][0]["properties"]["style"]["dashArray"] == ""
    shown.layer.set_turn("ask-1", visible=False)
    shows(shown, area(turn(1, stale=True)))
    assert shown.map.layers[1].data["features"] == []  # the switch stays
    shown.layer.set_turn("ask-1", visible=True)
    assert shown.map.layers[1].data["features"][0]["properties"]["style"]["dashArray"] == "6"
    assert shown.panel.answers[0]["stale"]


def test_a_cut_that_moves_nothing_is_told_all_the_same(shown):
    for threshold in (0.6, 0.5):
        shows(shown, area(turn(options={"mask_threshold": threshold})))
        assert [each["threshold"] for each in shown.panel.answers] == [threshold]


def test_a_picture_has_no_place_on_the_map(shown):
    shows(shown, Subject(name="p", kind="picture"), make_chip())
    assert names(shown.map) == ["land"]


def test_tiles_are_asked_for_only_while_they_are_on(shown):
    shows(shown, area(turn(1)))
    assert names(shown.map) == ["land", "answer 1"]
    assert not any(isinstance(each, ipyleaflet.TileLayer) for each in shown.map.layers)
    assert (shown.panel.about["tiles"], shown.panel.about["asks"][:4]) == (False, "Off:")
    shown.tell(kind="tiles", on=True)
    shown.browser.wait(lambda: names(shown.map) == ["land", TILES, "answer 1"])
    (tiles,) = [each for each in shown.map.layers if each.name == TILES]
    assert tiles.url == f"https://{TILE_HOST}/{{z}}/{{x}}/{{y}}.png"
    assert "OpenStreetMap</a> contributors" in tiles.attribution
    assert PANES[LAND_PANE]["zIndex"] < PANES[tiles.pane]["zIndex"] < PANES[SAR_PANE]["zIndex"]
    shown.browser.wait(lambda: shown.panel.about["tiles"])
    assert TILE_HOST in shown.panel.about["asks"]
    shows(shown, area(turn(1), chosen=1))
    assert TILES in names(shown.map)
    for _ in range(2):
        shown.tell(kind="tiles", on=False)
        shown.browser.wait(lambda: names(shown.map) == ["land", "answer 1"])
    assert tiles.comm is None


def test_pictures_of_own_files_are_shown_and_wait_after_a_restart(shown):
    own = {"arguments": {"optical": "/a.tif"}, "hashes": {}}
    subject = replace(area(), kind="files", files=own, aoi=AOI.from_bbox(0, 0, 0.1, 0.1))
    shows(shown, subject)
    assert shown.panel.about["waits"]
    shows(shown, subject, make_chip())
    assert not shown.panel.about["waits"]
    assert len(names(shown.map)) == 3


def test_after_a_restart_the_pictures_wait_for_a_click(shown):
    shows(shown, area(turn(1), chosen=2))
    assert shown.panel.about["waits"]
    shown.tell(kind="reload")
    shown.browser.wait(lambda: shown.session.loaded == ["a"])
    shows(shown, area(turn(1), chosen=2, busy="load"))
    assert not shown.panel.about["waits"]
    (answer,) = shown.panel.answers
    assert "ask again" in answer["reason"]
    assert answer["overlays"] == answer["areas"] == []


def test_hostile_text_stays_text(shown):
    chip = make_chip()
    inputs = [{**part, "attribution": HOSTILE, "licence": HOSTILE}
              for part in chip.provenance["inputs"]]  # fmt: skip
    scene = replace(chip.pair.sar, sensor=HOSTILE)
    pair = replace(chip.pair, sar=scene)
    chip = replace(chip, pair=pair, provenance={"inputs": inputs})
    record = {"inputs": [{"modality": "sar", "sensor": HOSTILE}]}
    said = turn(label=HOSTILE, question=HOSTILE, record=record)
    said.features["features"][0]["properties"].update(source=HOSTILE, observed=HOSTILE)
    shows(shown, area(said), chip)
    touch(shown.map.layers[-1], "click")
    html = [shown.layer.about.value, *(each.attribution for each in shown.map.layers[1:3])]
    assert sum("&lt;img" in part for part in html) == 3
    for part in html:
        assert "<img" not in part
        assert "</script" not in part
    assert shown.panel.answers[0]["question"] == HOSTILE  # text for the browser, as it is


def test_layers_of_others_stay_and_everything_of_ours_goes():
    session, m = FakeSession(), ipyleaflet.Map(layers=())
    layer = ChipLayer(session, m)
    session.show(area(turn(1)), make_chip())
    assert layer.settle(10)
    mine = ipyleaflet.GeoJSON(data={"type": "FeatureCollection", "features": []}, name="mine")
    m.add(mine)
    session.show(area(turn(1), turn(2)), make_chip())
    assert layer.settle(10)
    assert set(names(m)) == {"mine", "Optical", "SAR", "answer 1", "answer 2"}
    controls = len(m.controls)
    layer.close()
    assert names(m) == ["mine"]
    assert len(m.controls) == controls - 2
    assert not session.listeners


def test_notes_from_many_threads_end_in_the_last_state(shown):
    chip = make_chip()

    def act(count):
        for number in range(10):
            shown.session.show(area(*(turn(n) for n in range(number % count))), chip)

    threads = [threading.Thread(target=act, args=(n,)) for n in (2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    shown.session.show(area(turn(7)), chip)
    assert shown.layer.settle(20)
    assert names(shown.map) == ["land", "Optical", "SAR", "answer 1"]


@pytest.mark.parametrize("bands", [("blue", "green", "red", "nir"), ("nir08",), ()])
def test_every_composite_on_offer_can_be_rendered(bands):
    from earthmind_lab.render import render

    chip = make_chip()
    stack = np.zeros((len(bands), *chip.grid.shape), dtype=np.float32) if bands else None
    if bands:
        chip = replace(chip, bands=bands, optical=stack)
    else:
        chip = replace(
            chip,
            bands=(),
            optical=None,
            valid_optical=None,
            pair=replace(chip.pair, optical=None),
            radiometry=replace(chip.radiometry, level=None, offset_applied=None),
        )
    for modality in ("optical", "sar"):
        for name in composites_of(chip, modality):
            (view,) = render(chip, [name])
            assert view.modality == modality
    assert bool(composites_of(chip, "optical")) == bool(bands)


def test_words_without_a_record():
    assert feature_words({}) == "object, from an unnamed scene, day unknown"
    assert attribution_of(replace(make_chip(), provenance={})) == ""


def test_with_a_real_session_from_place_to_undo():
    engine = StandInEngine(masks={"water": lambda shape: square(shape, (10, 60, 10, 80))})
    with Session(engine=engine) as session:
        m = make_map()
        layer = ChipLayer(session, m)
        session.open_place("spain")
        session.search().result(60)
        session.choose(0).result(60)
        assert layer.settle(20)
        assert names(m) == ["land", "Optical", "SAR"]
        session.ask("Segment the water.").result(60)
        assert layer.settle(20)
        assert names(m) == ["land", "Optical", "SAR", "answer 1"]
        (turn,) = session.subject().turns
        days = {each["properties"]["observed"][:10] for each in turn.features["features"]}
        assert days <= {"2019-09-17", "2019-09-18"}
        session.undo()
        assert layer.settle(20)
        assert names(m) == ["land", "Optical", "SAR"]
        session.undo()
        assert layer.settle(20)
        assert names(m) == ["land"]
        layer.close()
