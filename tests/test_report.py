"""A report holds all that it shows, asks for nothing, and takes no text for markup."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from earthmind_lab.conversation import Conversation
from earthmind_lab.errors import EarthMindError
from earthmind_lab.figures import draw_masks
from earthmind_lab.render import default_composites, render
from earthmind_lab.report import MOST_OBJECTS, write_report
from earthmind_lab.session import Session
from tests.session_world import BOX, CHIP, DATES, SlowEngine, made_up
from tests.stand_in_engine import StandInEngine, make_chip, square
from tests.test_changing import EARLY, LATE, chips, dated

WAIT, WATER = 20, "Segment the water."
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&"


class Page(HTMLParser):
    """Tags, addresses and text of a page."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.addresses, self.handlers, self.text = [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href", "action", "data", "srcset")]
        self.handlers += [k for k, _ in attrs if k.startswith("on")]

    def handle_data(self, data):
        self.text.append(data)

    @property
    def words(self):
        return " ".join("".join(self.text).split())


@pytest.fixture
def answer():
    engine = StandInEngine({"water": square((16, 16), (0, 8, 0, 8))})
    return Conversation(CHIP, engine).ask(WATER)


def test_all_is_in_the_file_and_nothing_is_asked_for(answer, tmp_path):
    path = write_report(tmp_path / "deep" / "r.html", [answer], chips=[CHIP], title="Water")
    page = Page(path)
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & set(page.tags)
    assert page.addresses
    assert all(each.startswith("data:image/") for each in page.addresses)
    assert page.handlers == []
    assert "default-src &#x27;none&#x27;" in path.read_text(encoding="utf-8")
    assert page.tags.count("img") == len(default_composites(CHIP)) + 1  # and the masks
    for said in ("Water", WATER, answer.text, answer.notice, answer.record.answer_hash, "Natural"):
        assert said in page.words
    for claim in answer.evidence:
        assert " ".join(claim.sentence().split()) in page.words
    assert [each.name for each in (tmp_path / "deep").iterdir()] == ["r.html"]


def test_text_of_others_stays_text(answer, tmp_path):
    record = replace(answer.record, question=HOSTILE, aoi={**answer.record.aoi, "name": HOSTILE})
    marked = tuple(replace(each, label=HOSTILE) for each in answer.detections)
    bad = replace(answer, text=HOSTILE, notice=HOSTILE, record=record, detections=marked)
    page = Page(write_report(tmp_path / "r.html", [bad], chips=[CHIP]))
    assert "script" not in page.tags
    assert page.handlers == []
    assert page.words.count(HOSTILE) >= 5


def test_turns_give_the_page_of_their_answers(tmp_path, monkeypatch):
    made_up(monkeypatch)
    with Session(engine=SlowEngine()) as session:
        session.draw(BOX)
        with pytest.raises(EarthMindError, match=r"Nothing was answered about .area 1. yet"):
            session.report(tmp_path / "none.html")
        session.search(dates=DATES).result(WAIT)
        session.choose(0).result(WAIT)
        answers = [session.ask(q).result(WAIT) for q in (WATER, "Is it dry?")]
        session.ask("Slow?").cancel()
        by_turns = session.report(tmp_path / "turns.html")
        by_answers = write_report(tmp_path / "a.html", answers, chips=[CHIP], title="area 1")
        assert by_turns.read_bytes() == by_answers.read_bytes()
        assert not (tmp_path / "none.html").exists()


def test_without_pixels_it_says_so(answer, tmp_path):
    page = Page(write_report(tmp_path / "r.html", [answer]))
    assert "img" not in page.tags
    assert "no pictures" in page.words
    assert page.tags.count("tr") > 2


def test_many_objects_are_counted(answer, tmp_path):
    many = replace(answer, detections=answer.detections * (MOST_OBJECTS + 5))
    page = Page(write_report(tmp_path / "r.html", [many], chips=[CHIP]))
    assert f"{MOST_OBJECTS + 5} objects; the 5 smallest are left out" in page.words


def test_what_cannot_be_written_leaves_nothing(answer, tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(EarthMindError, match="can't be written"):
        write_report(tmp_path / "taken", [answer], chips=[CHIP])
    with pytest.raises(EarthMindError, match="needs an answer"):
        write_report(tmp_path / "r.html", [])
    assert [each.name for each in tmp_path.iterdir()] == ["taken"]


@pytest.fixture
def drawn(monkeypatch):
    """What `draw_masks` was given: picture and masks."""
    calls = []

    def spy(image, masks):
        calls.append((image, masks))
        return draw_masks(image, masks)

    monkeypatch.setattr("earthmind_lab.report.draw_masks", spy)
    return calls


class Both(StandInEngine):
    """Marks water on each picture, by its brightness."""

    def _reply(self, prompt):
        parts = []
        for number, view in enumerate(prompt.views):
            self.masks, self._view = {"water": view.image[..., 0] < 90}, number
            parts.append(super()._reply(prompt))
        return replace(parts[0], objects=tuple(o for part in parts for o in part.objects))


def test_each_date_has_its_objects_on_its_own_picture(tmp_path, drawn):
    before, after = chips()
    answer = Conversation(after, Both(), before=before).ask(WATER)
    page = Page(write_report(tmp_path / "two.html", [answer], chips=[after, before]))
    for (image, (mask,)), chip, water in zip(drawn, (before, after), (EARLY, LATE), strict=True):
        assert np.array_equal(image, render(chip, ["vv_vh_ratio"])[0].image)
        assert np.array_equal(mask, water)
    sensor = "Sentinel-1 RTC, vv vh ratio, on"
    for day in ("1 June 2020", "20 June 2020"):
        assert f"Marked: water, on {sensor} {day}" in page.words
        assert page.words.count(f"{sensor} {day}") == 2  # seen, and marked
    # The model saw no optical picture of either date.
    assert page.tags.count("img") == 4
    assert "true colour" not in page.words
    for scene in ("sar-1", "sar-20", "optical-1", "optical-20"):
        assert f"{scene}, on" in page.words

    page = Page(write_report(tmp_path / "one.html", [answer], chips=[after]))
    assert page.tags.count("img") == 2
    assert "No picture of Sentinel-1 RTC on 1 June 2020 at 00:00 UTC: its pixels" in page.words


def test_nothing_is_drawn_over_other_pixels(tmp_path, drawn):
    one, other = (dated(make_chip(40, water=LATE), day) for day in (1, 20))
    other = replace(other, optical=other.optical * 0.5)
    answers = [Conversation(chip, Both()).ask(WATER) for chip in (one, other)]
    page = Page(write_report(tmp_path / "r.html", answers, chips=[other]))
    told, own = page.words.split(f"2. {WATER}")
    assert "No picture of Sentinel-2 L2A on 1 June 2020" in told
    assert "Sentinel-1 RTC on 1 June 2020 at 00:00 UTC: its pixels" in told
    assert "Marked" not in told.partition(f"1. {WATER}")[2]
    assert "2 objects" in told
    assert "No picture" not in own
    assert {image.tobytes() for image, _ in drawn} <= {
        view.image.tobytes() for view in render(other)
    }
    for scene in ("sar-1", "sar-20", "optical-1", "optical-20"):
        assert page.words.count(f"{scene}, on") == 1


def test_of_several_composites_the_natural_one_carries_the_marks(tmp_path, drawn):
    engine = Both()
    wanted = ("false_colour", "true_colour", "nir")
    engine.capabilities = replace(engine.capabilities, composites=wanted)
    chip = make_chip(40, water=LATE, sar=False)
    answer = Conversation(chip, engine).ask(WATER)
    page = Page(write_report(tmp_path / "r.html", [answer], chips=[chip]))
    assert page.tags.count("img") == len(wanted) + 1
    ((image, _),) = drawn
    assert np.array_equal(image, render(chip, ["true_colour"])[0].image)


def test_a_session_gives_the_pixels_of_every_turn_that_are_loaded(tmp_path, monkeypatch):
    made_up(monkeypatch)
    at = {"sar-1": dated(CHIP, 2), "sar-2": dated(replace(CHIP, sar=CHIP.sar + 1), 1)}
    loads = lambda pair, *_, **__: replace(at[pair.sar.id], pair=pair)  # noqa: E731
    monkeypatch.setattr("earthmind_lab.data.load.load_chip", loads)
    with Session(engine=Both()) as session:
        session.draw(BOX)
        session.search(dates=DATES).result(WAIT)
        session.choose(1).result(WAIT)
        session.ask(WATER).result(WAIT)
        session.choose(0).result(WAIT)  # that turn is of another pair now
        session.compare(1).result(WAIT)
        session.ask(WATER).result(WAIT)
        session.compare(None).result(WAIT)
        assert [turn.stale for turn in session.subject().talk] == [True, False]
        assert len(session._shelf.chips(session.subject())) == 3
        page = Page(session.report(tmp_path / "r.html"))
    assert "No picture" not in page.words
    first, second = page.words.split(f"2. {WATER}")
    assert "Marked: water, on Sentinel-1 RTC, vv vh ratio, on 1 June 2020" in first
    for day in (1, 2):
        assert f"Marked: water, on Sentinel-1 RTC, vv vh ratio, on {day} June 2020" in second
