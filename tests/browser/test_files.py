"""Own files in JupyterLab: dropped and chosen, declared, asked about, there after a restart."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from earthmind_lab.widgets.basemap import TILE_HOST
from tests import own_rasters
from tests.browser.axe import axe
from tests.browser.lab_server import Lab
from tests.browser.lab_side import WIDTH, shown
from tests.browser.main_way import PICTURES, SHAPES

FILES = ".em-files"
DROP = """(given) => {
  const data = new DataTransfer();
  for (const [name, text] of given) {
    const bytes = Uint8Array.from(atob(text), (each) => each.charCodeAt(0));
    data.items.add(new File([bytes], name));
  }
  document.querySelector('.em-files').dispatchEvent(
    new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}));
}"""
NARROW = 480
HOSTILE = "<img src=x onerror=alert(1)>.tif"
SUBJECTS = (
    "{name: [s.kind, s.busy, m.session.chip(name) is not None]"
    " for name, s in m.session.subjects.items()}"
)
KEPT = "files"


@pytest.fixture(scope="module")
def lab(serve, tmp_path_factory):
    return Lab(serve, tmp_path_factory.mktemp("files"), kernel="7.3.0")


@pytest.fixture
def panel(opened):
    return opened.page.get_by_role("region", name="Own files")


def drop(notebook, *paths, names=()):
    """Let files fall on the panel."""
    given = [
        (names[n] if names else path.name, base64.b64encode(path.read_bytes()).decode())
        for n, path in enumerate(paths)
    ]
    notebook.page.evaluate(DROP, given)


def test_two_files_are_declared_and_asked_about(opened, panel, tmp_path):
    notebook, page = opened, opened.page
    notebook.fresh(kept=KEPT)
    optical, sar = own_rasters.optical(tmp_path / "s2.tif"), own_rasters.sar(tmp_path / "s1.tif")
    drop(notebook, optical, sar)
    expect(panel.get_by_label("What s2.tif is")).to_have_value("optical")
    expect(panel.get_by_label("What s1.tif is")).to_have_value("sar")
    panel.get_by_role("button", name="Open", exact=True).click()
    expect(panel.locator(".em-why")).to_contain_text("no declared scale")
    assert notebook.value(SUBJECTS) == {}
    # What is asked for has the focus, and goes on by keyboard.
    expect(panel.get_by_label("Optical scale")).to_be_visible()
    panel.get_by_label("Optical scale").fill("0.0001")
    page.keyboard.press("Tab")
    expect(panel.get_by_label("Optical offset")).to_be_focused()
    page.keyboard.type("-0.1")
    page.keyboard.press("Enter")
    expect(panel.locator(".em-why")).to_contain_text("not declared: “SAR quantity”, “SAR scale”")
    expect(panel.get_by_label("SAR quantity")).to_be_focused()
    for theme, width in (("light", WIDTH), ("dark", WIDTH), ("light", NARROW)):
        notebook.theme(theme)
        notebook.size(width)
        panel.scroll_into_view_if_needed()
        notebook.visitor.shots.take(f"files-form-{theme}-{width}", panel)
        assert axe(page, FILES) == []
        overflow = panel.evaluate("each => each.scrollWidth - each.clientWidth")
        assert overflow <= 0
    notebook.size()
    panel.get_by_label("SAR quantity").select_option("sigma0")
    panel.get_by_label("SAR scale").select_option("dB")
    panel.get_by_role("button", name="Open", exact=True).press("Enter")
    notebook.until(lambda s: s == {"s2": ["files", None, True]}, SUBJECTS)
    expect(panel.get_by_role("status").last).to_contain_text("s2 is open: ask about it.")
    expect(panel.get_by_role("list", name="Files to open")).to_be_hidden()

    # On the map, flown to, and ready to be asked.
    expect(page.locator(PICTURES)).to_have_count(2)
    shown(page.locator(PICTURES))
    south, north = notebook.value("[m.session.subject().aoi.bounds[n] for n in (1, 3)]")
    assert south < notebook.value("m.map.center[0]") < north
    notebook.ask("Segment the water.")
    notebook.until(lambda s: [t["state"] for t in s["subjects"]["s2"]["turns"]] == ["done"])
    notebook.shot("files-open")
    kept = notebook.value("m.session.subject().files['arguments']['optical']")
    assert "/sessions/files.files/" in kept and kept.endswith("/s2.tif")
    optical.unlink()

    # A new kernel: the copy is loaded again.
    notebook.restart()
    notebook.connected()
    notebook.execute("m = None")
    notebook.fresh(kept=KEPT)
    layers = page.get_by_role("region", name="Layers", exact=True)
    layers.get_by_role("button", name="Show the pictures").click()
    notebook.until(lambda s: s == {"s2": ["files", None, True]}, SUBJECTS)
    expect(page.locator(PICTURES)).to_have_count(2)
    notebook.visitor.check()


def test_what_is_refused_says_why_and_a_picture_is_shown_with_its_masks(opened, panel, tmp_path):
    notebook, page = opened, opened.page
    notebook.fresh()
    words = tmp_path / "words.tif"
    words.write_text("no raster")
    alert = panel.get_by_role("alert")
    drop(notebook, words)
    expect(alert).to_contain_text("words.tif can't be read")
    drop(notebook, words, names=["a.vrt"])
    expect(alert).to_contain_text("in no format that is taken here")
    drop(notebook, own_rasters.optical(tmp_path / "s2.tif"), names=[HOSTILE])
    expect(panel.get_by_label(f"What {HOSTILE} is")).to_have_value("optical")
    expect(panel).to_contain_text(HOSTILE)
    panel.get_by_role("button", name=f"Put away {HOSTILE}").press("Enter")
    expect(panel.get_by_role("list", name="Files to open")).to_be_hidden()

    image = np.full((96, 128, 3), 120, np.uint8)
    image[:48, :64] = (20, 40, 90)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    panel.get_by_label("Files", exact=False).first.set_input_files(
        {"name": "yard.png", "mimeType": "image/png", "buffer": stream.getvalue()}
    )
    expect(panel.get_by_label("What yard.png is")).to_have_value("picture")
    panel.get_by_role("button", name="Open", exact=True).click()
    figure = panel.locator("figure img")
    expect(figure).to_be_visible()
    expect(panel).to_contain_text("yard: 128 × 96 px, no place on the map")
    plain = figure.get_attribute("src")
    notebook.execute(
        "import numpy as np\n"
        "from tests.stand_in_engine import StandInEngine\n"
        "mask = np.zeros((96, 128), bool); mask[:48, :64] = True\n"
        "m.session.engine = StandInEngine({'water': mask})"
    )
    notebook.ask("Segment the water.")
    expect(figure).not_to_have_attribute("src", plain)
    expect(panel).to_contain_text("water: 3,072 px (25.0 %)")
    shown(panel.locator("figure img"))
    for theme in ("light", "dark"):
        notebook.theme(theme)
        notebook.visitor.shots.take(f"files-picture-{theme}", panel)
        assert axe(page, FILES) == []
    panel.get_by_label("Masks of").select_option("")
    expect(figure).to_have_attribute("src", plain)
    notebook.visitor.check()


def test_tiles_come_only_while_they_are_switched_on(opened):
    notebook, page = opened, opened.page
    notebook.fresh()
    layers = page.get_by_role("region", name="Layers", exact=True)
    notebook.unfold(layers)
    box = layers.get_by_label("Background tiles")
    expect(box).not_to_be_checked()
    expect(layers).to_contain_text("the map asks nobody")
    notebook.execute("m.map.zoom = 5")
    page.wait_for_timeout(500)
    notebook.visitor.check()
    asked = []
    tile = io.BytesIO()
    Image.new("RGB", (256, 256), (200, 220, 240)).save(tile, "PNG")

    def answer(route):
        asked.append(route.request.url)
        route.fulfill(body=tile.getvalue(), content_type="image/png")

    network = re.compile("^https:")
    page.route(network, answer)
    box.press("Space")
    expect(layers).to_contain_text(f"this page asks {TILE_HOST} for the tiles")
    tiles = page.locator(".leaflet-earthmind-tiles-pane img.leaflet-tile-loaded")
    expect(tiles.first).to_be_visible()
    notebook.shot("files-tiles")
    wanted = rf"https://{TILE_HOST}/"
    assert asked and all(each.startswith(wanted) and each.endswith(".png") for each in asked)
    assert all(len(each.removeprefix(wanted).split("/")) == 3 for each in asked)
    assert set(notebook.visitor.outside) == set(asked)
    expect(page.locator(".leaflet-control-attribution")).to_contain_text("OpenStreetMap")
    assert axe(page, ".em-layers") == []
    box.press("Space")
    expect(tiles).to_have_count(0)
    expect(page.locator(".leaflet-control-attribution")).not_to_contain_text("OpenStreetMap")
    page.wait_for_timeout(300)
    notebook.visitor.outside.clear()
    notebook.execute("m.map.zoom = 7")
    page.wait_for_timeout(500)
    page.unroute(network)
    notebook.visitor.check()
    # Not remembered: a new map asks nobody.
    notebook.fresh()
    expect(layers.get_by_label("Background tiles")).not_to_be_checked()


def test_an_answer_from_python_is_a_turn_that_can_be_removed(opened):
    notebook, page = opened, opened.page
    notebook.fresh()
    notebook.execute(
        "import numpy as np\n"
        "from earthmind_lab.conversation import ask\n"
        "from tests.stand_in_engine import StandInEngine, make_chip, square\n"
        "water = square((40, 40), (0, 20, 0, 20))\n"
        "chip = make_chip(40, water=water)\n"
        "m.add(ask(chip, 'Segment the water.', engine=StandInEngine({'water': water})))"
    )
    expect(page.locator(SHAPES).first).to_be_visible()
    expect(notebook.talk).to_contain_text("Segment the water.")
    layers = page.get_by_role("region", name="Layers", exact=True)
    layers.get_by_role("button", name="Remove", exact=False).press("Enter")
    expect(notebook.talk.locator(".em-turn")).to_have_count(0)
    assert notebook.value("[c.kind for c in m.session.log]") == ["draw", "keep", "discard"]
    notebook.chat.get_by_role("button", name="Undo").click()
    expect(notebook.talk).to_contain_text("Segment the water.")
    assert notebook.value("[c.kind for c in m.session.log]") == ["draw", "keep"]
    notebook.visitor.check()
