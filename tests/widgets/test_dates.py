"""Two dates in the panels: pairs, layers and chat say which, and show both in one stretch."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest

from earthmind_lab.session import Session
from earthmind_lab.widgets.chat import ChatPanel
from earthmind_lab.widgets.layers import ChipLayer
from earthmind_lab.widgets.pairs import PairTable
from earthmind_lab.widgets.raster import PANE
from earthmind_lab.widgets.suggesting import suggest
from earthmind_lab.widgets.talk_rows import talk_row
from earthmind_lab.widgets.words import dates_words
from tests.stand_in_engine import StandInEngine, make_chip, make_scene, square
from tests.widgets.layer_world import area, names, row, settled, shows, turn

WAIT = 60
LATE = make_chip(40, water=square((40, 40), (0, 40, 0, 20)))


def dated(day, chip=LATE, sensors=("optical", "sar")):
    """The chip as of another day of May 2020, with other water in it."""
    when = datetime(2020, 5, day, 10, tzinfo=UTC)
    scenes = {
        kind: make_scene(kind, id=f"{kind}-{day}", datetime=when, start=when, end=when)
        for kind in sensors
    }
    return replace(chip, pair=replace(chip.pair, **scenes))


EARLY = dated(7, make_chip(40, water=square((40, 40), (0, 40, 0, 10))))


# --- pairs ---------------------------------------------------------------------------------------


@pytest.fixture
def punjab(browser):
    """Two dates of radar in a session, June of rank 0 and September of rank 1, and its panels."""
    with Session(engine=StandInEngine(texts={"What has changed?": "More crops."})) as session:
        session.open_place("punjab")
        session.search(sensors="sar").result(WAIT)
        table, chat = PairTable(session), ChatPanel(session)
        for panel in (table, chat):
            browser.follow(panel)
        yield SimpleNamespace(
            session=session, table=table, chat=chat, wait=browser.wait, said=browser.said,
            tell=lambda **message: browser.tell(table, message),
        )  # fmt: skip
        for panel in (table, chat):
            panel.close()


def test_a_pair_is_compared_with_an_earlier_one_and_every_panel_says_so(punjab):
    table, chat = punjab.table, punjab.chat
    assert table.about["compared"] == ""
    punjab.tell(kind="choose", rank=0)
    punjab.wait(lambda: table.about["loaded"])
    assert table.about["compared"] == "To compare two dates, choose the later one first."
    punjab.tell(kind="dates", rank=1)
    punjab.wait(lambda: "choose pair 2, then compare it with pair 1" in table.fault)
    punjab.tell(kind="choose", rank=1)
    punjab.wait(lambda: table.chosen == 1 and not table.about["busy"])
    assert table.about["compared"] == table.fault == ""
    punjab.tell(kind="dates", rank=0)
    punjab.wait(lambda: table.before == 0 and not table.about["busy"])
    said = table.about["compared"]
    assert said.startswith("Compared: 7 Jun 2020 → 3 Sep 2020, by SAR.")
    assert "track 107, then 173" in said
    two = "Questions are about two dates: 7 Jun 2020 → 3 Sep 2020, by SAR."
    punjab.wait(lambda: chat.about["dates"] == two)
    assert chat.suggestions[0] == "What has changed?"
    assert "comparison of dates" in chat.undo_label
    punjab.session.ask("What has changed?").result(WAIT)
    punjab.wait(lambda: chat.turns)
    assert (chat.turns[0]["how"], chat.turns[0]["without"]) == (
        "7 Jun 2020 → 3 Sep 2020, by SAR", [],
    )  # fmt: skip
    assert "What has changed?" not in chat.suggestions
    punjab.tell(kind="dates", rank=None)
    punjab.wait(lambda: punjab.said("About one date again."))
    punjab.wait(lambda: chat.about["dates"] == "" and "What has changed?" not in chat.suggestions)
    punjab.wait(lambda: table.before is None)


def test_one_date_alone_says_what_to_search(punjab):
    punjab.session.search(sensors="sar", dates="2020-09-01/2020-09-05").result(WAIT)
    punjab.tell(kind="choose", rank=0)
    hint = (
        "To compare two dates, find pairs over days that hold both dates, or of one sensor alone."
    )
    punjab.wait(lambda: punjab.table.about["compared"] == hint)


def test_words():
    day = ["2020-06-07T01:08:00Z", "2020-06-07T13:12:00Z"]
    assert dates_words(day) == "7 Jun 2020 01:08 UTC → 7 Jun 2020 13:12 UTC"
    found = suggest(("water", "trees", "clouds"), sensors={"sar"}, dates=True)
    assert found == (
        "What has changed?", "Has anything changed?",
        "Is there more water in the second picture?",
    )  # fmt: skip
    dates = {"observed": day, "sensor": "optical", "ids": ["a", None], "after": ["b", None]}
    asked = turn(before=dates, options={"max_new_tokens": 9})
    assert talk_row(area(asked), asked)["how"].endswith("13:12 UTC, by optical, max new tokens 9")


# --- layers --------------------------------------------------------------------------------------


def pixels(shown, which):
    """What a raster shows, decoded from its layer."""
    import base64
    import io

    from PIL import Image

    url = shown.layer.rasters[which].layer.url
    jpeg = url.rpartition("image/jpeg;base64,")[2].partition("'")[0]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(jpeg))).convert("L"))


def test_both_dates_are_on_the_map_in_one_stretch(shown):
    shows(shown, area(), LATE, EARLY)
    assert names(shown.map) == ["land", "Optical", "SAR", "Optical, earlier", "SAR, earlier"]
    rows = {each["sensor"]: each for each in shown.panel.rasters}
    assert list(rows) == ["optical", "sar", "optical_before", "sar_before"]
    assert (rows["sar"]["title"], rows["sar_before"]["title"]) == (
        "Sentinel-1, 2 Jun 2020", "Sentinel-1, 7 May 2020",
    )  # fmt: skip
    assert rows["sar"]["words"] == rows["sar_before"]["words"]
    late, early = pixels(shown, "sar"), pixels(shown, "sar_before")
    dry, water = np.s_[5:-5, -12:-4], np.s_[5:-5, 13:17]
    assert np.abs(late[dry].astype(int) - early[dry]).mean() < 3
    assert late[water].mean() < early[water].mean() - 20
    assert [block["title"] for block in shown.panel.origin] == [
        "Sentinel-2 (optical)", "Sentinel-1 (SAR)", "Sentinel-2 (optical), earlier date",
        "Sentinel-1 (SAR), earlier date", "Common grid",
    ]  # fmt: skip
    # Whichever row says so, both dates get the composite.
    shown.tell(kind="raster", sensor="sar_before", visible=True, opacity=0.5, composite="vh")
    shown.browser.wait(lambda: row(shown, "sar")["composite"] == "vh")
    assert shown.layer.settle(10)
    settled(shown)
    assert row(shown, "sar_before")["composite"] == "vh"
    assert shown.layer.rasters["sar_before"].layer.opacity == 0.5
    shows(shown, area(), LATE)
    assert names(shown.map) == ["land", "Optical", "SAR"]
    assert len(shown.panel.rasters) == 2


def test_what_is_switched_on_is_swiped(shown):
    swipe = shown.layer.swipe

    def sides(*panes):
        assert shown.layer.settle(10)
        settled(shown)
        assert (swipe.left_pane, swipe.right_pane) == tuple(PANE[each] for each in panes)
        assert set(swipe.hidden_panes) == set(PANE.values()) - {PANE[each] for each in panes}
        return swipe.left_title, swipe.right_title

    def switch(which, visible):
        shown.tell(kind="raster", sensor=which, visible=visible, opacity=1, composite=None)

    shows(shown, area(), LATE, EARLY)
    titles = sides("sar_before", "sar")
    assert titles == ("Sentinel-1, 7 May 2020", "Sentinel-1, 2 Jun 2020")
    assert tuple(shown.panel.about["sides"]) == titles
    shown.tell(kind="compare", how="swipe")
    shown.browser.wait(lambda: shown.panel.about["how"] == "swipe")
    switch("sar", False)
    assert sides("optical_before", "optical")[0] == "Sentinel-2, 7 May 2020"
    switch("optical_before", False)
    assert sides("optical", "sar") == ("Sentinel-2, 1 Jun 2020", "Sentinel-1, 2 Jun 2020")
    assert swipe.how == "swipe"
    switch("optical_before", True)
    switch("sar", True)
    sides("sar_before", "sar")
    # One sensor alone has two dates to compare, too.
    alone = make_chip(40, sar=False)
    shows(shown, area(), alone, dated(7, alone, ("optical",)))
    sides("optical_before", "optical")
    assert shown.panel.about["comparable"]
    # What the chosen pair lacks has nothing to be like, and is no fault.
    shows(shown, area(), alone, EARLY)
    assert names(shown.map) == ["land", "Optical", "Optical, earlier"]
    assert shown.panel.about["message"] == ""


def test_an_earlier_date_without_the_bands_is_said(shown):
    floors = {"vv": EARLY.radiometry.noise_floor_db["vv"]}
    radiometry = replace(EARLY.radiometry, noise_floor_db=floors)
    early = replace(EARLY, sar=EARLY.sar[:1], polarisations=("vv",), radiometry=radiometry)
    shows(shown, area(), LATE, early)
    assert "no sar picture of the same bands" in shown.panel.about["message"]
    assert row(shown, "sar_before")["composites"] == []
    shown.tell(kind="raster", sensor="sar", visible=True, opacity=1, composite="vv")
    shown.browser.wait(lambda: row(shown, "sar_before")["composite"] == "vv")
    assert shown.panel.about["message"] == ""


def test_pictures_that_a_restart_lost_are_loaded_for_both_dates(shown):
    shows(shown, area(chosen=1, before=0), LATE)
    assert shown.panel.about["waits"]
    shown.tell(kind="reload")
    shown.browser.wait(lambda: shown.session.compared == [0])
    shows(shown, area(chosen=1, before=0), LATE, EARLY)
    assert not shown.panel.about["waits"]


@pytest.fixture
def real(punjab, browser):
    """The two dates on a map, with an answer about them."""
    from earthmind_lab.widgets.basemap import make_map

    session = punjab.session
    session.choose(1).result(WAIT)
    session.compare(0).result(WAIT)
    layer = ChipLayer(session, make_map())
    browser.follow(layer.panel)
    yield layer
    layer.close()


def test_an_object_is_titled_by_its_own_date(real, browser):
    session = real.session
    rows, columns = session.chip().grid.shape
    question = "Where is the water?"
    session.engine = StandInEngine(
        {"water": square((rows, columns), (10, 60, 10, 60))}, {question: "The water."},
        marks={question: ("water",)}, view=0,
    )  # fmt: skip
    session.ask(question).result(WAIT)
    assert real.settle(WAIT)
    (shown,) = real.turns.values()
    assert shown.words(0).endswith("from Sentinel-1, 7 Jun 2020, the earlier date")
    browser.wait(lambda: real.panel.answers)
    # Added up over both dates, probabilities would tell nothing.
    found = real.panel.answers[0]
    assert (found["overlays"], found["areas"]) == ([], [])
    assert found["area"].endswith(" (either date)")
    assert found["dates"] == "Dotted: 7 Jun 2020, the earlier date."
    assert found["objects"][0]["words"] == shown.words(0)


@pytest.mark.parametrize("chosen", [None, 0, 1])
def test_objects_of_the_earlier_date_are_dotted(shown, chosen):
    both = turn(1)
    early, late = both.features["features"] * 2
    days = {"before": "2020-06-07T01:08:00Z", "after": "2020-09-03T13:12:00Z"}
    early, late = (
        {**feature, "properties": {**feature["properties"], "observed": observed}}
        for feature, observed in zip((early, late), days.values(), strict=True)
    )
    inputs = [
        {"modality": "sar", "sensor": "sentinel-1-rtc", "date": date, "observed": observed}
        for date, observed in days.items()
    ]
    features = {**both.features, "features": [early, late]}
    shows(shown, area(replace(both, features=features, record={"inputs": inputs})))
    (layer,) = shown.layer.turns.values()
    layer.mark(chosen)
    drawn = [each["properties"]["style"] for each in layer.layer.data["features"]]
    assert [each["dashArray"] for each in drawn] == ["1 6", ""]
    assert [each["weight"] for each in drawn] == [5 if n == chosen else 2 for n in (0, 1)]
    assert layer.words(0).endswith("7 Jun 2020, the earlier date")
    assert layer.words(1).endswith("3 Sep 2020, the later date")
    # With the later date alone, nothing is dotted and nothing is said.
    shows(
        shown,
        area(replace(both, features={**features, "features": [late]}, record={"inputs": inputs})),
    )
    assert shown.panel.answers[0]["dates"] == ""


def test_the_models_eye_sees_both_dates(real, browser):
    class Seeing(StandInEngine):
        def pictures(self, views):
            return tuple((view.image,) for view in views)

    real.session.engine = Seeing()
    assert real.settle(WAIT)
    browser.tell(real.panel, {"kind": "squares"})
    browser.wait(lambda: real.panel.squares)
    titles = [view["title"].partition(":")[0] for view in real.panel.squares]
    assert titles == ["Sentinel-1, 7 Jun 2020", "Sentinel-1, 3 Sep 2020"]
