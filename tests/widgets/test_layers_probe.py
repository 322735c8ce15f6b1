"""Values behind the pictures: at a place, along a line, under a mouse that never rests."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from pyproj import Geod

from earthmind_lab.errors import AOIError
from earthmind_lab.widgets.basemap import make_map
from earthmind_lab.widgets.pixels import (
    MOST_SAMPLES,
    columns_of,
    parse_points,
    pixel_at,
    profile,
    reading,
    values_at,
)
from earthmind_lab.widgets.probe import ProbePanel
from tests.stand_in_engine import make_chip
from tests.widgets.layer_world import FakeSession, area


def numbered(side=40):
    """A chip whose values say where they are: red = row + column / 1000, VV = -column."""
    chip = make_chip(side)
    rows, columns = np.mgrid[:side, :side].astype(np.float32)
    optical, sar = chip.optical.copy(), chip.sar.copy()
    optical[chip.bands.index("red")] = rows + columns / 1000
    sar[0] = -columns
    return replace(chip, optical=optical, sar=sar)


def centre(chip, row, column):
    """(lon, lat) of a pixel's centre."""
    from pyproj import Transformer

    x, y = chip.grid.affine @ (column + 0.5, row + 0.5)
    return Transformer.from_crs(str(chip.grid.crs), 4326, always_xy=True).transform(x, y)


CHIP = numbered()


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 39), (39, 0), (39, 39), (12, 31)])
def test_a_point_has_the_values_of_its_pixel(row, column):
    point = centre(CHIP, row, column)
    assert pixel_at(CHIP, point) == (row, column)
    values = dict(zip([c["band"] for c in columns_of(CHIP)], values_at(CHIP, point), strict=True))
    assert values["red"] == pytest.approx(row + column / 1000)
    assert values["vv"] == -column
    assert values["nir"] == pytest.approx(0.30)


def test_units_and_sources_of_every_number():
    found = {each["band"]: each for each in columns_of(CHIP)}
    assert found["red"]["unit"] == "surface reflectance"
    assert found["red"]["source"] == "Sentinel-2, 1 Jun 2020"
    assert found["vh"]["unit"] == "dB γ⁰ (terrain-flattened)"
    assert found["vh"]["source"] == "Sentinel-1, 2 Jun 2020"


def test_outside_and_without_data_there_is_no_number():
    west, south, *_ = CHIP.aoi.bounds
    assert reading(CHIP, (west - 1, south))["pixel"] == ""
    assert set(reading(CHIP, (west - 1, south))["values"]) == {"no data"}
    assert pixel_at(CHIP, (0.0, 90.0)) is None
    holed = CHIP.sar.copy()
    holed[:, 5, 7] = np.nan
    valid = CHIP.valid_sar.copy()
    valid[5, 7] = False
    inside = CHIP.inside.copy()
    inside[5, 7] = False
    chip = replace(CHIP, sar=holed, valid_sar=valid, inside=inside)
    found = reading(chip, centre(chip, 5, 7))
    assert found["pixel"] == "row 5, column 7, outside the area"
    assert found["values"][-2:] == ["no data", "no data"]
    assert found["values"][2] == "5.0070"


def test_a_profile_steps_from_pixel_to_pixel():
    ends = centre(CHIP, 20, 3), centre(CHIP, 20, 33)
    found = profile(CHIP, ends)
    vv = [each["band"] for each in found["columns"]].index("vv") + 1
    assert [row[vv] for row in found["rows"]] == [-float(column) for column in range(3, 34)]
    assert found["rows"][0][0] == 0
    (_, _, metres) = Geod(ellps="WGS84").inv(*ends[0], *ends[1])
    assert found["rows"][-1][0] == pytest.approx(metres, rel=1e-4)
    assert found["note"] == ""
    table = list(csv.reader(io.StringIO(found["csv"])))
    assert table[0][:3] == ["distance (m)", "longitude", "latitude"]
    assert table[0][3] == "blue (surface reflectance)"
    assert len(table) == 32
    first = tuple(map(float, table[1][1:3]))
    assert first == pytest.approx(ends[0], abs=1e-6)
    assert float(table[1][2 + vv]) == -3


def test_a_bent_profile_goes_by_its_corner():
    corners = centre(CHIP, 5, 5), centre(CHIP, 5, 15), centre(CHIP, 15, 15)
    found = profile(CHIP, corners)
    red = [each["band"] for each in found["columns"]].index("red") + 1
    assert found["rows"][10][red] == pytest.approx(5.015)
    assert found["rows"][-1][red] == pytest.approx(15.015)


def test_a_long_profile_says_that_it_leaves_pixels_out():
    far = (centre(CHIP, 20, 20), (1.5, 38.1))
    found = profile(CHIP, far)
    assert len(found["rows"]) == MOST_SAMPLES
    assert "not every pixel" in found["note"]
    assert found["rows"][-1][1] is None


def test_a_line_beside_the_chip_is_refused():
    with pytest.raises(AOIError, match="No part of the line lies on pixels"):
        profile(CHIP, ((1.0, 38.0), (1.1, 38.0)))
    with pytest.raises(AOIError, match="two points or more"):
        profile(CHIP, (centre(CHIP, 1, 1),))


@pytest.mark.parametrize(("text", "points"), [
    ("-0.77,38.1", ((-0.77, 38.1),)),
    (" −0.77 , 38.1 ", ((-0.77, 38.1),)),
    ("[[-0.77, 38.1], [1e-3, 38]]", ((-0.77, 38.1), (0.001, 38.0))),
    ("-0.77 38.1 -0.75 38.11", ((-0.77, 38.1), (-0.75, 38.11))),
])  # fmt: skip
def test_points_are_read_as_people_write_them(text, points):
    assert parse_points(text) == points


@pytest.mark.parametrize("text", ["", "here", "1", "1,2,3", "38.1 N, 0.77 W", "1,2 <script>",
                                  "200, 38", "0, 91", "1,2;" * 101])  # fmt: skip
def test_what_is_no_place_is_refused(text):
    with pytest.raises(AOIError):
        parse_points(text)


# --- the panel -----------------------------------------------------------------------------------


@pytest.fixture
def probe(browser):
    session, m = FakeSession(), make_map()
    panel = ProbePanel(session, m)
    browser.follow(panel)
    session.show(area(), CHIP)
    browser.wait(lambda: panel.columns)
    yield SimpleNamespace(
        session=session, map=m, panel=panel, browser=browser,
        tell=lambda **message: browser.tell(panel, message),
    )  # fmt: skip
    panel.close()


def mouse(probe, kind, point):
    """An event as ipyleaflet's browser side sends it."""
    lon, lat = point
    probe.map._handle_leaflet_event(
        probe.map, {"event": "interaction", "type": kind, "coordinates": [lat, lon]}, []
    )


def follow(probe, mode):
    probe.tell(kind="probe", mode=mode)
    probe.browser.wait(lambda: probe.panel.mode == mode)


def test_the_mouse_is_followed_only_when_asked_for(probe):
    mouse(probe, "mousemove", centre(CHIP, 3, 4))
    mouse(probe, "click", centre(CHIP, 3, 4))
    assert probe.panel._mouse is None
    follow(probe, "values")
    mouse(probe, "mousemove", centre(CHIP, 3, 4))
    probe.browser.wait(lambda: probe.panel.here)
    assert probe.panel.here["pixel"] == "row 3, column 4"
    assert probe.panel.pinned == {}
    mouse(probe, "mouseout", centre(CHIP, 3, 4))
    probe.browser.wait(lambda: not probe.panel.here)
    mouse(probe, "mousemove", centre(CHIP, 3, 5))
    probe.browser.wait(lambda: probe.panel.here)
    follow(probe, "")
    probe.browser.wait(lambda: not probe.panel.here)


def test_two_dates_are_read_beside_each_other(probe):
    point = centre(CHIP, 3, 4)
    follow(probe, "values")
    mouse(probe, "click", point)
    probe.browser.wait(lambda: probe.panel.pinned)
    assert "earlier" not in probe.panel.pinned
    assert {each["earlier"] for each in probe.panel.columns} == {""}
    # The earlier date has its bands in another order, and one of them not at all.
    bands = CHIP.bands[:0:-1]
    early = replace(CHIP, optical=CHIP.optical[:0:-1] / 2, bands=bands, sar=CHIP.sar - 1)
    probe.session.show(area(), CHIP, early)
    probe.browser.wait(lambda: "earlier" in probe.panel.pinned)
    columns, read = probe.panel.columns, probe.panel.pinned
    then = dict(zip([each["band"] for each in columns], read["earlier"], strict=True))
    assert (then["red"], then["vv"]) == ("1.5020", "−5.0")
    assert then[CHIP.bands[0]] == "not read"
    assert read["values"] == reading(CHIP, point)["values"]
    assert {each["band"] for each in columns if not each["earlier"]} == {CHIP.bands[0]}
    assert columns[-1]["earlier"] == columns[-1]["source"]  # made up, of one day
    probe.session.show(area(), CHIP)
    probe.browser.wait(lambda: "earlier" not in probe.panel.pinned)


def test_of_hundreds_of_movements_the_newest_is_answered(probe, monkeypatch):
    from earthmind_lab.widgets import probe as module

    follow(probe, "values")
    read = []
    monkeypatch.setattr(module, "reading", lambda chip, at: read.append(at) or reading(chip, at))
    points = [centre(CHIP, at % 40, at // 40) for at in range(1000)]
    for point in points:
        mouse(probe, "mousemove", point)
    last = pixel_at(CHIP, points[-1])
    probe.browser.wait(lambda: probe.panel.here.get("pixel") == "row {}, column {}".format(*last))
    assert len(read) < 100
    assert read[-1] == pytest.approx(points[-1])


def test_a_click_pins_and_is_marked(probe):
    follow(probe, "values")
    mouse(probe, "click", centre(CHIP, 8, 9))
    probe.browser.wait(lambda: probe.panel.pinned)
    assert probe.panel.pinned["pixel"] == "row 8, column 9"
    mouse(probe, "mousemove", centre(CHIP, 1, 1))
    probe.browser.wait(lambda: probe.panel.here.get("pixel") == "row 1, column 1")
    assert probe.panel.pinned["pixel"] == "row 8, column 9"
    probe.browser.wait(lambda: probe.panel.marks in probe.map.layers)
    (mark,) = probe.panel.marks.data["features"]
    assert mark["geometry"]["coordinates"] == pytest.approx(centre(CHIP, 8, 9))
    probe.tell(kind="clear")
    probe.browser.wait(lambda: not probe.panel.pinned)
    probe.browser.wait(lambda: not probe.panel.marks.data["features"])


def test_a_line_by_clicks_has_a_profile_from_its_second_corner_on(probe):
    follow(probe, "line")
    mouse(probe, "click", centre(CHIP, 20, 3))
    probe.browser.wait(lambda: len(probe.panel.line) == 1)
    assert probe.panel.profile == {}
    mouse(probe, "click", centre(CHIP, 20, 13))
    probe.browser.wait(lambda: probe.panel.profile)
    assert len(probe.panel.profile["rows"]) == 11
    mouse(probe, "click", centre(CHIP, 30, 13))
    probe.browser.wait(lambda: len(probe.panel.profile["rows"]) == 21)
    follow(probe, "")
    assert probe.panel.profile  # the line stays
    follow(probe, "line")  # a new line
    probe.browser.wait(lambda: not probe.panel.profile)


def test_the_keyboard_reads_and_draws_as_well(probe):
    lon, lat = centre(CHIP, 8, 9)
    probe.tell(kind="locate", text=f"{lon}, {lat}")
    probe.browser.wait(lambda: probe.panel.pinned)
    assert probe.panel.pinned["pixel"] == "row 8, column 9"
    assert probe.browser.said("Values at 38.")
    ends = centre(CHIP, 20, 3), centre(CHIP, 20, 13)
    probe.tell(kind="along", text="; ".join(f"{x}, {y}" for x, y in ends))
    probe.browser.wait(lambda: probe.panel.profile)
    assert len(probe.panel.profile["rows"]) == 11
    probe.tell(kind="along", text="1, 38; 1.1, 38")
    probe.browser.wait(lambda: "No part of the line" in probe.panel.fault)
    assert len(probe.panel.profile["rows"]) == 11  # a refusal changes nothing
    probe.tell(kind="locate", text="nowhere")
    probe.browser.wait(lambda: "no list of points" in probe.panel.fault)


def test_another_chip_is_read_at_the_same_place(probe):
    probe.tell(kind="locate", text="{}, {}".format(*centre(CHIP, 8, 9)))
    probe.browser.wait(lambda: probe.panel.pinned)
    probe.session.show(area(), numbered(20))
    probe.browser.wait(lambda: probe.panel.pinned["values"][0] != "")
    probe.session.show(area(), None)
    probe.browser.wait(lambda: not probe.panel.columns)
    assert probe.panel.pinned == {}
    probe.tell(kind="along", text="1, 38; 1.1, 38")
    probe.browser.wait(lambda: "open files; after a restart, load" in probe.panel.fault)


def test_a_closed_panel_follows_nothing_and_leaves_no_mark(probe):
    follow(probe, "values")
    mouse(probe, "click", centre(CHIP, 8, 9))
    probe.browser.wait(lambda: probe.panel.marks in probe.map.layers)
    probe.panel.close()
    assert probe.panel.marks not in probe.map.layers
    mouse(probe, "click", centre(CHIP, 1, 1))
    assert probe.panel._pin == pytest.approx(centre(CHIP, 8, 9))
