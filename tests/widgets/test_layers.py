"""ChipLayer: pictures, objects, legend and owners of the active area."""

from __future__ import annotations

import dataclasses
import threading
from dataclasses import replace
from types import SimpleNamespace

import ipyleaflet
import numpy as np
import pytest

from earthmind_lab.session import Session
from earthmind_lab.session.subject import Note, SaidTurn, Subject
from earthmind_lab.widgets.basemap import PANES, make_map
from earthmind_lab.widgets.layers import ChipLayer, composites_of
from earthmind_lab.widgets.legend import attribution_of, feature_words
from tests.stand_in_engine import StandInEngine, make_chip, square

HOSTILE = "<img src=x onerror=alert(1)></script>"


class FakeSession:
    """The part of a session that a layer reads, set by hand."""

    def __init__(self):
        self.active, self.subjects, self.chips, self.chosen = None, {}, {}, []
        self.listeners = []

    def subject(self, name=None):
        from earthmind_lab.errors import AOIError

        if (name or self.active) not in self.subjects:
            raise AOIError("There is no area yet.")
        return self.subjects[name or self.active]

    def chip(self, name=None):
        return self.chips.get(name or self.active)

    def choose(self, rank, name=None):
        self.chosen.append(rank)

    def watch(self, listener):
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def show(self, subject, chip=None):
        self.active = subject.name
        self.subjects[subject.name], self.chips[subject.name] = subject, chip
        for listener in self.listeners:
            listener(Note(kind="changed", subject=subject.name, what="turns"))


def turn(number=1, west=-0.77, label="water", **changes):
    ring = [[west, 38.1], [west + 0.01, 38.1], [west + 0.01, 38.11], [west, 38.11], [west, 38.1]]
    about = {"label": label, "score": 0.9, "area_m2": 301_000.0, "source": "sar",
             "observed": "2019-09-17T00:00:00Z", "style": {"color": "url(x)"}}  # fmt: skip
    shape = {"type": "Polygon", "coordinates": [ring]}
    features = [{"type": "Feature", "geometry": shape, "properties": about}]
    fields = {
        "id": f"ask-{number}", "question": "Segment the water.", "state": "done", "text": "Sure.",
        "features": {"type": "FeatureCollection", "features": features},
        "record": {"inputs": [{"modality": "sar", "sensor": "sentinel-1-rtc"}]},
    }  # fmt: skip
    return SaidTurn(**{**fields, **changes})


def area(*turns, **changes):
    led = [None, *(each.id for each in turns)]
    turns = tuple(replace(each, parent=led[n]) for n, each in enumerate(turns))
    return Subject(name="a", kind="aoi", turns=turns, head=led[-1], **changes)


@pytest.fixture
def shown():
    """A layer on a map that has something of its own."""
    session, m = FakeSession(), make_map()
    layer = ChipLayer(session, m)
    yield SimpleNamespace(session=session, map=m, layer=layer)
    layer.close()


def names(m):
    return [each.name for each in m.layers]


def text_of(chips):
    return chips.layer.legend.value


def test_nothing_to_show(shown):
    assert shown.layer.settle(10)
    assert names(shown.map) == ["land"]
    assert shown.layer.swipe_button.disabled
    assert shown.layer.fit.disabled
    assert shown.layer.load.layout.display == "none"


def test_both_pictures_in_panes_of_their_own(shown):
    shown.session.show(area(), make_chip())
    assert shown.layer.settle(10)
    assert names(shown.map) == ["land", "Optical", "SAR"]
    optical, sar = shown.map.layers[1:]
    assert optical.pane != sar.pane
    assert {optical.pane, sar.pane} <= set(PANES)
    assert set(PANES) <= set(shown.map.panes)
    assert optical.bounds == sar.bounds
    (south, west), (north, east) = optical.bounds
    assert (west, south, east, north) == pytest.approx(make_chip().aoi.bounds, abs=2e-4)
    assert "VV −25…0 dB, G VH −32…−7 dB, B VV−VH 0…15 dB" in text_of(shown)
    assert "R red 0…0.3 reflectance" in text_of(shown)
    assert sar.attribution == "contains sar data. Licence: CC-BY-4.0."
    assert "contains optical data; contains sar data" in shown.layer.source.value


def test_another_composite_is_drawn_and_kept(shown):
    chip = make_chip()
    shown.session.show(area(), chip)
    assert shown.layer.settle(10)
    before = shown.map.layers[2]
    raster = shown.layer.rasters["sar"]
    assert list(raster.composite.options) == ["vv_vh_ratio", "vv", "vh"]
    raster.composite.value = "vv"
    assert shown.layer.settle(10)
    assert shown.map.layers[2] is not before
    assert names(shown.map) == ["land", "Optical", "SAR"]
    assert "Sentinel" in text_of(shown) or "SAR" in text_of(shown)
    assert "VV −25…0 dB</div>" in text_of(shown)
    shown.session.show(area(), None)
    assert shown.layer.settle(10)
    assert names(shown.map) == ["land"]
    assert list(raster.composite.options) == []
    shown.session.show(area(), make_chip())
    assert shown.layer.settle(10)
    assert raster.composite.value == "vv"
    assert "VV −25…0 dB</div>" in text_of(shown)


def test_the_same_chip_is_not_encoded_again(shown):
    chip = make_chip()
    shown.session.show(area(), chip)
    assert shown.layer.settle(10)
    before = shown.map.layers
    shown.session.show(area(busy="ask"), chip)
    assert shown.layer.settle(10)
    assert shown.map.layers == before


def test_opacity_and_visibility_go_to_the_layer(shown):
    shown.session.show(area(), make_chip())
    assert shown.layer.settle(10)
    raster = shown.layer.rasters["sar"]
    raster.opacity.value, raster.visible.value = 0.4, False
    assert (raster.layer.opacity, raster.layer.visible) == (0.4, False)
    raster.composite.value = "vh"  # a new picture keeps the switches
    assert shown.layer.settle(10)
    assert (raster.layer.opacity, raster.layer.visible) == (0.4, False)


def test_swipe_needs_both_sensors(shown):
    shown.session.show(area(), make_chip(sar=False))
    assert shown.layer.settle(10)
    assert names(shown.map) == ["land", "Optical"]
    assert shown.layer.swipe_button.disabled
    shown.session.show(area(), make_chip())
    assert shown.layer.settle(10)
    shown.layer.swipe_button.value = True
    assert shown.layer.swipe.on
    panes = {raster.layer.pane for raster in shown.layer.rasters.values()}
    assert {shown.layer.swipe.left_pane, shown.layer.swipe.right_pane} == panes
    shown.session.show(area(), None)
    assert shown.layer.settle(10)
    assert not shown.layer.swipe.on


def test_objects_of_turns_are_layers_with_sensor_and_day(shown):
    shown.session.show(area(turn(1), turn(2, west=-0.75), turn(3, features={"features": []})))
    assert shown.layer.settle(10)
    assert names(shown.map) == ["land", "answer 1", "answer 2"]
    first, second = shown.map.layers[1:]
    assert first.style["color"] != second.style["color"]
    words = "water, 30.1 ha mapped, from Sentinel-1, 17 Sep 2019"
    assert shown.layer.about.layout.display == "none"
    feature = first.data["features"][0]
    assert "url(x)" not in str(first.data)  # the style of a feature is ours
    first._handle_mouse_events(None, {"event": "mouseover", "feature": feature,
                                      "properties": feature["properties"]}, None)  # fmt: skip
    assert words in shown.layer.about.value
    assert shown.layer.about.layout.display is None
    shown.layer.fit.click()
    assert shown.map.center == pytest.approx([38.105, -0.755], abs=1e-3)
    shown.layer.turns.children[0].children[0].value = False
    assert not first.visible
    shown.layer.fit.click()
    assert shown.map.center == pytest.approx([38.105, -0.745], abs=1e-3)


def test_a_turn_that_is_undone_leaves_the_map(shown):
    shown.session.show(area(turn(1), turn(2)))
    assert shown.layer.settle(10)
    kept = shown.map.layers[1]
    shown.session.show(area(turn(1)))
    assert shown.layer.settle(10)
    assert names(shown.map) == ["land", "answer 1"]
    assert shown.map.layers[1] is kept
    assert len(shown.layer.turns.children) == 1


def test_a_picture_has_no_place_on_the_map(shown):
    shown.session.show(Subject(name="p", kind="picture"), make_chip())
    assert shown.layer.settle(10)
    assert names(shown.map) == ["land"]


def test_after_a_restart_the_pictures_wait_for_a_click(shown):
    shown.session.show(area(turn(1), chosen=2))
    assert shown.layer.settle(10)
    assert shown.layer.load.layout.display is None
    shown.layer.load.click()
    assert shown.session.chosen == [2]
    shown.session.show(area(turn(1), chosen=2, busy="load"))
    assert shown.layer.settle(10)
    assert shown.layer.load.layout.display == "none"


def test_hostile_text_stays_text(shown):
    chip = make_chip()
    inputs = [{**part, "attribution": HOSTILE, "licence": HOSTILE}
              for part in chip.provenance["inputs"]]  # fmt: skip
    scene = dataclasses.replace(chip.pair.sar, sensor=HOSTILE)
    pair = dataclasses.replace(chip.pair, sar=scene)
    chip = dataclasses.replace(chip, pair=pair, provenance={"inputs": inputs})
    record = {"inputs": [{"modality": "sar", "sensor": HOSTILE}]}
    said = turn(label=HOSTILE, question=HOSTILE, record=record)
    for properties in (said.features["features"][0]["properties"],):
        properties.update(source=HOSTILE, observed=HOSTILE)
    shown.session.show(area(said), chip)
    assert shown.layer.settle(10)
    layer = shown.map.layers[-1]
    feature = layer.data["features"][0]
    layer._handle_mouse_events(None, {"event": "click", "feature": feature,
                                      "properties": feature["properties"]}, None)  # fmt: skip
    html = [shown.layer.about.value, shown.layer.source.value,
            shown.layer.legend.value, shown.layer.turns.children[0].children[1].value,
            *(each.attribution for each in shown.map.layers[1:3])]  # fmt: skip
    assert sum("&lt;img" in part for part in html) >= 5
    for part in html:
        assert "<img" not in part
        assert "</script" not in part


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
    assert len(m.controls) == controls - 3
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
        chip = dataclasses.replace(chip, bands=bands, optical=stack)
    else:
        chip = dataclasses.replace(
            chip,
            bands=(),
            optical=None,
            valid_optical=None,
            pair=dataclasses.replace(chip.pair, optical=None),
            radiometry=dataclasses.replace(chip.radiometry, level=None, offset_applied=None),
        )
    for modality in ("optical", "sar"):
        for name in composites_of(chip, modality):
            (view,) = render(chip, [name])
            assert view.modality == modality
    assert bool(composites_of(chip, "optical")) == bool(bands)


def test_words_without_a_record():
    assert feature_words({}) == "object, from an unnamed scene, day unknown"
    assert attribution_of(dataclasses.replace(make_chip(), provenance={})) == ""


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
