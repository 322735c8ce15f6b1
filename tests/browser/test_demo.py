"""The demo in a real browser: two visitors who never meet, hostile text, Stop, the real model."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser.conftest import free_port
from tests.browser.demo_app import ENDLESS, HOSTILE, LABEL
from tests.stand_in_engine import NOTICE

PICTURES = ".em-seen img"


@pytest.fixture(scope="module")
def stand_in(serve, python):
    return serve([python, "-m", "tests.browser.demo_app", str(free_port())])


def talk(visitor):
    return visitor.page.get_by_role("log")


def state(visitor):
    return visitor.page.get_by_label("State", exact=True)


def ready(visitor, pictures=2):
    expect(visitor.page.locator(PICTURES)).to_have_count(pictures)
    expect(state(visitor)).to_have_value("Ready.")


def ask(visitor, question):
    visitor.page.get_by_label("Question", exact=True).fill(question)
    visitor.page.get_by_role("button", name="Ask", exact=True).click()


def go(visitor, title):
    visitor.page.get_by_label("A place").click()
    visitor.page.get_by_role("option", name=title).click()


def seen(visitor):
    return visitor.page.locator(PICTURES).evaluate_all("all => all.map(each => each.src)")


def png(colour, side=64):
    file = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), colour, np.uint8)).save(file, "PNG")
    return file.getvalue()


def give(visitor, content, name="mine.png"):
    with visitor.page.expect_response(
        lambda r: "/upload" in r.url and r.request.method == "POST"
    ) as got:
        visitor.page.locator("input[type=file]").set_input_files(
            {"name": name, "mimeType": "image/png", "buffer": content}
        )
    return got.value.json()[0]


def page_hash(visitor):
    """How the visitor's page names itself to the server."""
    bodies = [r.post_data for r in visitor.requests if "queue/join" in r.url and r.post_data]
    return json.loads(bodies[-1])["session_hash"]


def test_two_visitors_never_see_each_other(stand_in, visit):
    ann, bob = visit(stand_in.url), visit(stand_in.url)
    for each in (ann, bob):
        ready(each)
    assert seen(ann) == seen(bob)  # the same place, nothing asked yet
    go(bob, "Strip fields")
    expect(bob.page.get_by_label("What can be learned here")).to_have_value(
        "Long fields in low autumn light, a road with farms, no water: asking for water must "
        "give none."
    )
    ready(bob)
    before = {id(each): seen(each) for each in (ann, bob)}
    assert not set(before[id(ann)]) & set(before[id(bob)])

    ask(ann, "Segment the water.")
    ask(bob, "Segment the trees.")
    expect(talk(ann)).to_contain_text("Sure, the water.")
    expect(talk(bob)).to_contain_text("Sure, the trees.")
    for each, mine, others in ((ann, "water", "trees"), (bob, "trees", "water")):
        expect(each.page.locator(".em-seen figcaption i")).to_have_count(1)
        expect(each.page.locator(".em-file")).to_have_count(1)
        text = each.page.locator("body").inner_text()
        assert mine in text
        assert f"the {others}." not in talk(each).inner_text()
        # A mask changed both pictures, and neither is the other visitor's.
        assert len({*seen(each), *before[id(ann)], *before[id(bob)]}) == 6
    assert not set(seen(ann)) & set(seen(bob))
    ann.shot("demo-ann")
    bob.shot("demo-bob")


def test_nobody_reaches_what_belongs_to_another(stand_in, visit):
    ann, bob = visit(stand_in.url), visit(stand_in.url)
    for each in (ann, bob):
        ready(each)
    path = give(ann, png((200, 30, 30)))
    ready(ann, pictures=1)
    give(bob, png((30, 30, 200)))
    ready(bob, pictures=1)
    assert seen(ann) != seen(bob)
    assert all(url.startswith("data:") for each in (ann, bob) for url in seen(each))

    name, api = page_hash(ann), f"{stand_in.url}/gradio_api"
    assert name != page_hash(bob)
    stranger = bob.context.request
    for route in (
        f"file={path}", f"file/{path}", f"heartbeat/{name}", f"queue/data?session_hash={name}",
        f"stream/{name}/0/0/playlist.m3u8", "run-history/records", "proxy=http://127.0.0.1",
    ):  # fmt: skip
        assert stranger.get(f"{api}/{route}").status == 404, route
    body = json.loads([r.post_data for r in ann.requests if "queue/join" in r.url][-1])
    assert stranger.post(f"{api}/queue/join", data=body).status == 404
    assert stranger.post(f"{api}/cancel", data=body).status == 404
    # Not for lack of a session: the page's own browser is heard.
    assert ann.context.request.post(f"{api}/queue/join", data=body).status == 200


def test_hostile_text_stays_text(stand_in, visit):
    ann = visit(stand_in.url)
    ready(ann)
    ask(ann, "Say something bad.")
    expect(talk(ann)).to_contain_text("onerror")
    ready(ann)
    assert HOSTILE.split(" [a]")[0] in talk(ann).inner_text()
    assert "**not bold**" in talk(ann).inner_text()
    assert ann.page.locator("[onerror], a[href^=javascript], img[src*=example]").count() == 0
    # A question and a label too.
    ask(ann, f"Segment the {LABEL}.")
    expect(ann.page.locator(".em-seen figcaption")).to_contain_text(LABEL)
    ready(ann)
    assert ann.page.locator("[onerror]").count() == 0
    assert ann.page.evaluate("window.hit") is None
    expect(ann.page.get_by_label("About the model")).to_have_value(NOTICE)
    ann.shot("demo-hostile")


def test_what_is_no_picture_is_refused_in_words(stand_in, visit):
    ann = visit(stand_in.url)
    ready(ann)
    give(ann, b"<svg onload='window.hit=1'>", name="fake.png")
    expect(state(ann)).to_have_value(
        "The file 'fake.png' is no picture that can be read. Try: PNG, JPEG, WebP, BMP, GIF "
        "or 8-bit TIFF; rasters in reflectance or backscatter need declared units (open_chip, "
        "or --optical and --sar) and are not plain pictures."
    )
    expect(ann.page.locator(PICTURES)).to_have_count(2)  # what was there stays
    assert ann.page.evaluate("window.hit") is None
    give(ann, png((90, 90, 90)))
    ready(ann, pictures=1)
    ask(ann, "What is this?")
    expect(talk(ann)).to_contain_text("I can't tell.")
    expect(ann.page.locator(".em-file")).to_have_count(0)


def test_stop_ends_the_answer_and_another_can_be_asked(stand_in, visit):
    ann = visit(stand_in.url)
    ready(ann)
    ask(ann, ENDLESS)
    expect(talk(ann)).to_contain_text("1 2 3 4 5")  # it streams
    expect(talk(ann)).to_contain_text("38 39 40")  # and stays at its end
    ann.page.wait_for_function(  # px above and below what is seen; a frame may come late
        """log => {
            const box = log.closest('.html-container');
            const above = box.scrollTop;
            return above > 100 && 100 > box.scrollHeight - box.clientHeight - above;
        }""",
        arg=talk(ann).element_handle(),
    )
    ann.page.get_by_role("button", name="Stop", exact=True).click()
    expect(talk(ann)).to_contain_text("stopped:")
    expect(talk(ann).locator(".em-note")).to_be_in_viewport()
    ask(ann, "Segment the water.")
    expect(talk(ann)).to_contain_text("Sure, the water.")
    ready(ann)


def test_a_closed_tab_ends_its_session(stand_in, visit):
    ann = visit(stand_in.url)
    ready(ann)
    ask(ann, ENDLESS)
    expect(talk(ann)).to_contain_text("1 2 3")
    ann.page.close()
    stand_in.wait_for("A visitor left")


def test_the_real_model(serve, python, visit, tmp_path):
    server = serve([python, "-m", "earthmind_lab.demo", "--port", str(free_port())])
    ann = visit(server.url)
    ready(ann)
    ann.shot("demo-start")
    ask(ann, "Segment the water.")
    expect(ann.page.locator(".em-file")).to_have_count(1, timeout=120_000)
    ready(ann)
    assert "mapped in" in ann.page.get_by_label("Evidence: what the pixels say").input_value()
    with ann.page.expect_download() as got:
        ann.page.locator(".em-file").click()
    saved = json.loads(got.value.path().read_text(encoding="utf-8"))
    assert got.value.suggested_filename == "spain.geojson"
    assert {each["properties"]["label"] for each in saved["features"]} == {"water"}
    assert "earthmind-nano" in ann.page.get_by_label("About the model").input_value()
    ann.page.locator(".em-seen input").fill("80")
    assert "80%" in ann.page.locator(".em-seen").get_attribute("style")
    ann.shot("demo-answer")
