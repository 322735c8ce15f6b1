"""Pictures, answers and objects on the map, through its panel: mouse, keyboard, both themes.

One page for all tests: each begins with a new map over an empty session.
"""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.axe import axe
from tests.browser.lab_server import Lab
from tests.browser.lab_side import WIDTH, shown
from tests.browser.main_way import PICTURES, READY, SHAPES, WATER

NARROW = 480
LAYERS = ".em-layers"
ANSWERED = f"{READY}\nm.session.ask({WATER!r}).result()\n"
NUMBER = re.compile(r"^−?\d+\.\d$")
COUNTED = """
from earthmind_lab.widgets import probe
heard, read = [], []
m.map.on_interaction(lambda **event: heard.append(event.get("coordinates")))
probe.reading = lambda chip, at, own=probe.reading: read.append(at) or own(chip, at)
"""
"""What the map says and what the panel answers."""
OPTICAL, SAR = (f".leaflet-earthmind-{name}-pane" for name in ("optical", "sar"))


@pytest.fixture(scope="module")
def lab(serve, tmp_path_factory):
    return Lab(serve, tmp_path_factory.mktemp("lab"), kernel="7.3.0")


def middle_of(notebook):
    """(x, y) of the map's middle on the page, with the map in sight."""
    notebook.map.scroll_into_view_if_needed()
    box = notebook.map.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


@pytest.fixture
def panel(notebook):
    """The panel of layers beside the map."""
    return notebook.page.get_by_role("region", name="Layers", exact=True)


def test_pictures_by_name_with_their_legend(notebook, panel):
    notebook.execute(READY)
    page = notebook.page
    expect(page.locator(PICTURES)).to_have_count(2)
    shown(page.locator(PICTURES))
    legend = panel.get_by_role("group", name="Legend of SAR")
    expect(legend).to_contain_text("R VV−250")
    expect(legend).to_contain_text("dB σ⁰")
    before = page.locator(f"{SAR} img").get_attribute("src")
    panel.get_by_label("Composite of SAR").select_option(label="VH")
    expect(legend).to_contain_text("VH−32−7dB σ⁰")
    expect(page.locator(f"{SAR} img")).not_to_have_attribute("src", before)
    panel.get_by_label("Opacity of SAR").fill("0.4")
    expect(page.locator(f"{SAR} img")).to_have_css("opacity", "0.4")
    panel.get_by_label("SAR", exact=True).uncheck()
    expect(page.locator(f"{SAR} img")).to_have_css("opacity", "0")
    # A picture that comes while its sensor is switched off stays out of sight, too.
    panel.get_by_label("Composite of SAR").select_option(label="VV")
    expect(legend).to_contain_text("VV−250dB σ⁰")
    expect(page.locator(f"{SAR} img")).to_have_css("opacity", "0")
    panel.get_by_label("SAR", exact=True).check()
    expect(page.locator(f"{SAR} img")).to_have_css("opacity", "0.4")


def test_blink_by_keyboard_until_escape(notebook, panel):
    notebook.execute(READY)
    page = notebook.page
    blink = panel.get_by_role("button", name="Blink")
    expect(blink).to_be_enabled()
    blink.press("Enter")
    badge = page.get_by_role("group", name="Blink")
    for title in ("Sentinel-2, 18 Sep 2019", "Sentinel-1, 17 Sep 2019", "Sentinel-2, 18 Sep 2019"):
        expect(badge).to_contain_text(title)
    notebook.shot("layers-blink")
    expect(blink).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Escape")
    expect(badge).to_have_count(0)
    expect(blink).to_have_attribute("aria-pressed", "false")
    for pane in OPTICAL, SAR:
        expect(page.locator(f"{pane} img")).to_be_visible()
    # Who wants no motion changes the pictures by hand.
    page.emulate_media(reduced_motion="reduce")
    blink.press("Enter")
    expect(badge).to_contain_text("Sentinel-2")
    page.wait_for_timeout(2500)  # more than two blinks
    expect(badge).to_contain_text("Sentinel-2")
    badge.get_by_role("button", name="Other picture").click()
    expect(badge).to_contain_text("Sentinel-1")
    expect(page.locator(f"{OPTICAL} img")).not_to_be_visible()
    assert axe(page, ".earthmind-blink") == []
    badge.get_by_role("button", name="Stop blinking").click()
    expect(badge).to_have_count(0)
    page.emulate_media(reduced_motion="no-preference")


def test_an_object_from_the_list_and_from_the_map(notebook, panel):
    notebook.execute(ANSWERED)
    page = notebook.page
    answer = panel.get_by_role("group", name="Answer 1")
    first = answer.locator(".em-object").first
    expect(first).to_contain_text("mapped, score")
    expect(first).to_contain_text("probability")
    expect(first).to_contain_text("from Sentinel-")
    notebook.execute("m.map.center = [0, 0]")
    first.press("Enter")
    expect(first).to_have_attribute("aria-pressed", "true")
    notebook.until(lambda center: abs(center[0] - 38.1) < 0.1, "list(m.map.center)")
    chosen = page.locator(f"{SHAPES}[stroke-width='5']")
    expect(chosen).to_have_count(1)
    expect(first).to_be_focused()
    selected = "(lambda s: s and [s.turn, s.number])(m.session.selected)"
    assert notebook.value(selected)[1] == 0
    first.press("Enter")
    expect(chosen).to_have_count(0)
    # A click on the map selects in the list.
    notebook.map.scroll_into_view_if_needed()
    objects = page.locator(f"{SHAPES}[stroke='#00aeff']")
    where = objects.first.evaluate("""(path) => {
      const box = path.getBoundingClientRect();
      for (let y = box.top + 2; y < box.bottom; y += 2)
        for (let x = box.left + 2; x < box.right; x += 2)
          if (document.elementFromPoint(x, y) === path) return [x, y];
      return null;
    }""")
    page.mouse.click(*where)
    expect(panel.locator(".em-object[aria-pressed='true']")).to_have_count(1)
    assert notebook.value(selected) is not None
    expect(page.locator(".leaflet-control").get_by_text("mapped, score")).to_be_visible()


def test_probability_and_threshold(notebook, panel):
    notebook.execute(ANSWERED)
    answer = panel.get_by_role("group", name="Answer 1")
    answer.get_by_label("Probability", exact=True).check()
    pane = notebook.page.locator(".leaflet-earthmind-answer-pane img")
    expect(pane).to_have_count(1)
    shown(pane)
    expect(answer.locator(".em-overlays .em-ramp")).to_be_visible()
    expect(answer.get_by_label("Sensor weights")).to_have_count(0)  # the embedded model has none
    features = "m.session.subject().talk[-1].features['features']"
    area = f"sum(each['properties']['area_m2'] for each in {features})"
    before = notebook.value(area)
    slider = answer.get_by_label("Masks from probability")
    slider.fill("0.8")
    expect(answer.locator(".em-value")).to_contain_text("0.80,")
    notebook.until(lambda now: now < before, area)
    assert notebook.value("[c.kind for c in m.session.log].count('threshold')") == 1
    notebook.shot("layers-probability")
    notebook.chat.get_by_role("button", name="Undo").click()
    notebook.until(lambda now: now == before, area)
    expect(answer.locator(".em-value")).to_contain_text("0.50,")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_panel_is_readable_and_complete(notebook, panel, theme):
    notebook.execute(ANSWERED)
    notebook.theme(theme)
    page = notebook.page
    panel.get_by_label("Probability", exact=True).check()
    panel.locator(".em-object").first.click()
    panel.get_by_text("Where the pixels come from").click()
    expect(panel).to_contain_text("sha256")
    expect(panel).to_contain_text("EPSG:32630")
    panel.get_by_text("The model’s eye").click()
    panel.get_by_role("button", name="Show what the model sees").click()
    pictures = panel.get_by_role("img")
    expect(pictures.first).to_be_visible()
    shown(pictures)
    for width in WIDTH, NARROW:
        notebook.size(width)
        notebook.shot(f"layers-{theme}-{width}")
        assert axe(page, LAYERS) == []
        assert page.locator(LAYERS).evaluate("each => each.scrollWidth <= each.clientWidth + 1")


def test_values_under_the_mouse_at_a_place_and_along_a_line(notebook):
    notebook.execute(READY)
    page = notebook.page
    values = page.get_by_role("region", name="Values", exact=True)
    notebook.unfold(values)
    row = values.get_by_role("row").filter(has_text="VV")
    expect(values.locator(".em-group").last).to_have_text(re.compile(r"^Sentinel-1.*, dB σ⁰$"))
    follow = values.get_by_role("button", name="Read under the mouse")
    follow.press("Enter")
    expect(follow).to_have_attribute("aria-pressed", "true")
    middle = middle_of(notebook)
    page.mouse.move(*middle, steps=3)
    expect(row.get_by_role("cell").nth(0)).to_have_text(NUMBER)
    page.mouse.click(*middle)
    expect(row.get_by_role("cell").nth(1)).to_have_text(NUMBER)
    # The same by the keyboard alone, and the number is the chip's own.
    lon, lat = -0.76, 38.105
    values.get_by_label("Place: longitude, latitude").fill(f"{lon}, {lat}")
    page.keyboard.press("Enter")
    expect(values).to_contain_text("38.10500° N, 0.76000° W")
    notebook.execute("from earthmind_lab.widgets.pixels import reading")
    own = notebook.value(f"reading(m.session.chip(), ({lon}, {lat}))")
    vv = [each["band"] for each in notebook.value("m.probe.columns")].index("vv")
    expect(row.get_by_role("cell").nth(1)).to_have_text(own["values"][vv])
    # A line by the mouse.
    values.get_by_role("button", name="Draw a line").press("Enter")
    middle = middle_of(notebook)
    for x in (-60, 60):
        page.mouse.click(middle[0] + x, middle[1])
        page.wait_for_timeout(400)  # two clicks, not a double one
    expect(values.locator("svg.em-chart")).to_have_count(2)
    expect(page.locator(f"{SHAPES}[stroke='#d81b60']")).not_to_have_count(0)
    values.get_by_role("button", name="Copy as CSV").click()
    expect(values.get_by_role("status")).to_contain_text("opied")
    values.get_by_text("The numbers").click()
    for theme in ("light", "dark"):
        notebook.theme(theme)
        for width in WIDTH, NARROW:
            notebook.size(width)
            notebook.shot(f"values-{theme}-{width}")
            assert axe(page, ".em-probe") == []


def test_after_a_busy_cell_only_the_newest_place_is_answered(notebook):
    notebook.execute(READY)
    page = notebook.page
    values = page.get_by_role("region", name="Values", exact=True)
    notebook.unfold(values)
    values.get_by_role("button", name="Read under the mouse").click()
    notebook.until(lambda mode: mode == "values", "m.probe.mode")
    notebook.execute(COUNTED)
    page.evaluate("""() => void window.jupyterapp.shell.currentWidget.sessionContext.session.kernel
      .requestExecute({code: 'import time; time.sleep(4)', store_history: false})""")
    notebook.busy()
    x, y = middle_of(notebook)
    page.mouse.move(x - 40, y)
    page.mouse.move(x + 40, y, steps=200)
    expect(values.locator(".em-values tbody tr").first).to_contain_text("row")
    # In the end the place that was heard of last, and most of those before it never.
    last = (
        "[len(heard) > 150 and [round(each, 9) for each in heard[-1][::-1]],"
        " [round(each, 9) for each in read[-1]] if read else None]"
    )
    notebook.until(lambda ends: ends[0] == ends[1], last)
    heard, read = notebook.value("[len(heard), len(read)]")
    assert read < heard / 2, (heard, read)


TWO = """
m.session.open_place("punjab")
m.session.search(sensors="sar").result()
"""
DATES = ("Sentinel-1, 7 Jun 2020", "Sentinel-1, 3 Sep 2020")
BEFORE = ".leaflet-earthmind-sar-before-pane"


def enter(button):
    """Press it by the keyboard, once it takes that."""
    expect(button).to_be_enabled()  # aria-disabled counts
    button.press("Enter")


def test_two_dates_from_the_table_to_the_answer_and_back(notebook, panel):
    """By the keyboard: compare, ask, swipe, blink; then undone."""
    notebook.execute(TWO)
    page, chat = notebook.page, notebook.chat
    pairs = notebook.pairs
    compare = pairs.get_by_role("button", name="Compare with this")
    expect(pairs.get_by_role("button", name="Choose pair 2")).to_be_enabled()
    expect(compare).to_have_count(0)  # nothing is chosen yet
    pairs.get_by_role("button", name="Choose pair 1").press("Enter")
    notebook.unfold(pairs)  # a table whose pair is loaded has folded
    expect(pairs).to_contain_text("To compare two dates, choose the later one first.")
    enter(pairs.get_by_role("button", name="Compare with this: pair 2"))
    expect(pairs.get_by_role("alert")).to_contain_text("choose pair 2, then compare it with pair 1")
    pairs.get_by_role("button", name="Choose pair 2").press("Enter")
    expect(pairs.locator("tr.em-pair").nth(1)).to_contain_text("✓ chosen")

    # Compared: the button keeps the focus, and the state is said.
    enter(compare)
    before = pairs.get_by_role("button", name="Before: pair 1", exact=True)
    expect(before).to_have_attribute("aria-pressed", "true")
    expect(before).to_be_focused()
    said = pairs.locator(".em-compared")
    expect(said).to_contain_text("Compared: 7 Jun 2020 → 3 Sep 2020, by SAR.")
    expect(said).to_contain_text("track 107, then 173")
    expect(chat).to_contain_text("Questions are about two dates: 7 Jun 2020 → 3 Sep 2020, by SAR.")
    found = "[m.session.subject().chosen, m.session.subject().before]"
    assert notebook.until(lambda both: both[1] is not None, found) == [1, 0]
    expect(page.locator(f"{SAR} img")).to_have_count(1)
    shown(page.locator(f"{SAR} img, {BEFORE} img"))
    urls = [page.locator(f"{each} img").get_attribute("src") for each in (SAR, BEFORE)]
    assert urls[0] != urls[1]

    # One stretch: the composite of one date is that of the other.
    panel.get_by_label("Composite of SAR, earlier").select_option(label="VH")
    for legend in ("Legend of SAR: ", "Legend of SAR, earlier: "):
        expect(panel.get_by_role("group", name=legend)).to_contain_text("VH−32−7")

    # The answer keeps its dates; what the suggestion asks is about both.
    chat.get_by_role("button", name="Is there more water in the second picture?").press("Enter")
    turn = chat.locator(".em-turn.em-done")
    expect(turn).to_contain_text("7 Jun 2020 → 3 Sep 2020, by SAR")
    expect(turn).to_contain_text("relative orbit 107 before and 173 after")
    asked = "[t.before['observed'] for t in m.session.subject().talk]"
    assert notebook.value(asked) == [["2020-06-07T01:08:00Z", "2020-09-03T13:12:12Z"]]
    notebook.ask("Segment the crops.")
    answer = panel.get_by_role("group", name="Answer 1")
    dates = {f"from {DATES[0]}, the earlier date", f"from {DATES[1]}, the later date"}
    expect(answer.locator(".em-object").first).to_contain_text("crops")
    words = answer.locator(".em-object").all_text_contents()
    assert all(any(each.endswith(date) for date in dates) for each in words), words
    observed = (
        "{f['properties']['observed'] for t in m.session.subject().talk"
        " for f in t.features['features']}"
    )
    drawn = {each[:10] for each in notebook.value(f"sorted({observed})")}
    assert drawn <= {"2020-06-07", "2020-09-03"} and drawn
    dotted = page.locator(f"{SHAPES}[stroke-dasharray='1 6']")
    if "2020-06-07" in drawn:
        expect(dotted).not_to_have_count(0)
        expect(answer).to_contain_text("Dotted: 7 Jun 2020, the earlier date.")
    notebook.shot("dates-answer")

    # The numbers of both dates stand beside each other.
    values = page.get_by_role("region", name="Values", exact=True)
    notebook.unfold(values)
    lon, lat = notebook.value("[*m.session.subject().aoi.geometry.centroid.coords[0]]")
    values.get_by_label("Place: longitude, latitude").fill(f"{lon}, {lat}")
    page.keyboard.press("Enter")
    numbers = values.get_by_role("row", name="VV").get_by_role("cell")
    expect(numbers).to_have_count(4)
    for pinned in (2, 3):
        expect(numbers.nth(pinned)).to_have_text(NUMBER)
    expect(values.locator(".em-group")).to_contain_text(" → ".join(DATES))
    for width in WIDTH, NARROW:
        notebook.size(width)
        notebook.shot(f"dates-values-{width}")
        assert axe(page, ".em-probe") == []
    notebook.size(WIDTH)

    # Swiped: each side says its date, by eye and by ear.
    swipe = panel.get_by_role("button", name="Swipe")
    swipe.press("Enter")
    sides = page.locator(".earthmind-side")
    expect(sides).to_have_text(list(DATES))
    expect(panel).to_contain_text(f"Left: {DATES[0]}. Right: {DATES[1]}.")
    line = page.get_by_role("slider", name=f"Swipe between {DATES[0]} and {DATES[1]}")
    line.press("End")  # where no control of the map lies over its handle
    expect(page.locator(SAR)).to_have_css("clip", re.compile("rect"))
    notebook.until(lambda position: position == 1, "m.layers.swipe.position")
    box = line.bounding_box()
    height = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] - 21, height)  # the middle of its handle
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, height, steps=8)
    page.mouse.up()
    notebook.until(lambda position: abs(position - 0.5) < 0.05, "m.layers.swipe.position")
    notebook.shot("dates-swipe")
    assert axe(page, LAYERS) == []
    assert axe(page, ".em-pairs") == []
    panel.get_by_role("button", name="Blink").press("Enter")
    badge = page.get_by_role("group", name="Blink")
    for title in (*DATES, DATES[0]):
        expect(badge).to_contain_text(title)
    page.keyboard.press("Escape")
    expect(page.locator(f"{BEFORE} img")).to_be_visible()

    # Back to one date, by the same button; undone, it is two again.
    enter(before)
    expect(compare).to_have_attribute("aria-pressed", "false")
    expect(page.locator(f"{BEFORE} img")).to_have_count(0)
    expect(chat).not_to_contain_text("Questions are about two dates")
    chat.get_by_role("button", name="Undo").press("Enter")
    expect(page.locator(f"{BEFORE} img")).to_have_count(1)
    assert notebook.value(found) == [1, 0]


def test_optical_dates_by_the_mouse(notebook, panel):
    """Four dates of a year, the clear ones compared; dark theme, narrow page."""
    notebook.execute('m.session.open_place("lazio"); m.session.search(max_cloud=100).result()')
    page, pairs = notebook.page, notebook.pairs
    rows = pairs.locator("tr.em-pair")
    rows.filter(has_text="23 Oct 2018").get_by_role("button", name="Choose").click()
    notebook.unfold(pairs)
    expect(pairs).to_contain_text("✓ chosen")
    rows.filter(has_text="20 Jul 2018").get_by_role("button", name="Compare with this").click()
    expect(pairs.locator(".em-compared")).to_have_text(
        "Compared: 20 Jul 2018 → 23 Oct 2018, by optical."
    )
    panes = [".leaflet-earthmind-optical-before-pane img", f"{OPTICAL} img"]
    shown(page.locator(", ".join(panes)))
    panel.get_by_label("Opacity of Optical, earlier").fill("0.5")
    expect(page.locator(panes[0])).to_have_css("opacity", "0.5")
    panel.get_by_label("Opacity of Optical, earlier").fill("1")
    panel.get_by_role("button", name="Swipe").click()
    expect(page.locator(".earthmind-side")).to_have_text(
        ["Sentinel-2, 20 Jul 2018", "Sentinel-2, 23 Oct 2018"]
    )
    notebook.theme("dark")
    notebook.shot("dates-optical-dark")
    notebook.size(NARROW)
    notebook.shot("dates-optical-narrow")
    assert axe(page, ".em-pairs") == []
    # Another pair chosen: the comparison is over, and the swipe with it.
    rows.filter(has_text="20 Jul 2018").get_by_role("button", name="Choose").click()
    expect(page.locator(".earthmind-side")).to_have_count(0)
    assert notebook.until(lambda s: s["how"] == "", "{'how': m.layers.swipe.how}")
    assert notebook.value("m.session.subject().before") is None
