"""Objects of answers on the map: what they say, selecting one from either side."""

from __future__ import annotations

import pytest

from earthmind_lab.session import Selected
from tests.widgets.layer_world import WORDS, area, names, shows, touch, turn


def test_objects_say_what_they_are_and_where_from(shown):
    shows(shown, area(turn(1), turn(2, west=-0.75), turn(3, features={"features": []})))
    assert names(shown.map) == ["land", "answer 1", "answer 2"]
    first, second = shown.map.layers[1:]
    colours = [each.data["features"][0]["properties"]["style"]["color"] for each in (first, second)]
    assert colours[0] != colours[1]
    assert shown.layer.about.layout.display == "none"
    assert "url(x)" not in str(first.data)  # the style of a feature is ours
    touch(first, "mouseover")
    assert WORDS in shown.layer.about.value
    assert shown.layer.about.layout.display is None
    newest, oldest = shown.panel.answers
    assert (newest["title"], oldest["title"]) == ("Answer 2", "Answer 1")
    assert [newest["colour"], oldest["colour"]] == colours[::-1]
    assert oldest["objects"] == [{"words": WORDS, "selected": False}]
    assert oldest["area"] == "30.1 ha"
    shown.tell(kind="fit")
    shown.browser.wait(lambda: shown.map.center == pytest.approx([38.105, -0.755], abs=1e-3))
    shown.tell(kind="switch", turn="ask-1", visible=False, probability=False, weights=False)
    shown.browser.wait(lambda: not shown.panel.answers[1]["visible"])
    assert first.data["features"] == []
    shown.layer.fit_features()
    assert shown.map.center == pytest.approx([38.105, -0.745], abs=1e-3)


def test_a_click_selects_and_the_map_stays(shown):
    shows(shown, area(turn(1)))
    shown.map.center = [1, 2]
    touch(shown.map.layers[1], "click")
    assert shown.session.selected == Selected(turn="ask-1", number=0)
    assert shown.layer.settle(10)
    assert shown.map.center == [1, 2]
    style = shown.map.layers[1].data["features"][0]["properties"]["style"]
    assert style["weight"] == 5
    shown.browser.wait(lambda: shown.panel.answers[0]["objects"][0]["selected"])
    shown.session.select_object(None)
    assert shown.layer.settle(10)
    assert shown.map.layers[1].data["features"][0]["properties"]["style"]["weight"] == 2


def test_an_object_selected_elsewhere_is_flown_to(shown):
    shows(shown, area(turn(1), turn(2, west=-0.75)))
    shown.layer.set_turn("ask-2", visible=False)
    shown.tell(kind="object", turn="ask-2", number=0)
    shown.browser.wait(lambda: shown.panel.answers[0]["objects"][0]["selected"])
    assert shown.map.center == pytest.approx([38.105, -0.745], abs=1e-3)
    assert shown.layer.turns["ask-2"].visible
    assert WORDS in shown.layer.about.value
    # Once: what is drawn afterwards moves nothing.
    shown.map.center = [1, 2]
    assert shown.layer.settle(10)
    assert shown.map.center == [1, 2]


def test_of_very_many_objects_the_first_are_listed(shown):
    many = turn(1)
    many.features["features"] *= 203
    shows(shown, area(many))
    (answer,) = shown.panel.answers
    assert (len(answer["objects"]), answer["more"]) == (200, 3)
    assert len(shown.map.layers[1].data["features"]) == 203


def test_what_an_older_page_touches_selects_nothing(shown):
    shows(shown, area(turn(1)))
    for number in (7, -1, "0", None, True):
        shown.map.layers[1]._handle_mouse_events(
            None, {"event": "click", "feature": {}, "properties": {"number": number}}, None
        )
    assert shown.session.selected is None
