"""A report holds all that it shows, asks for nothing, and takes no text for markup."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from earthmind_lab.conversation import Conversation
from earthmind_lab.errors import EarthMindError
from earthmind_lab.render import default_composites
from earthmind_lab.report import MOST_OBJECTS, write_report
from earthmind_lab.session import Session
from tests.session_world import BOX, CHIP, DATES, SlowEngine, made_up
from tests.stand_in_engine import StandInEngine, square

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
    path = write_report(tmp_path / "deep" / "r.html", [answer], chip=CHIP, title="Water")
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
    page = Page(write_report(tmp_path / "r.html", [bad], chip=CHIP))
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
        by_answers = write_report(tmp_path / "a.html", answers, chip=CHIP, title="area 1")
        assert by_turns.read_bytes() == by_answers.read_bytes()
        assert not (tmp_path / "none.html").exists()


def test_without_pixels_it_says_so(answer, tmp_path):
    page = Page(write_report(tmp_path / "r.html", [answer]))
    assert "img" not in page.tags
    assert "no pictures" in page.words
    assert page.tags.count("tr") > 2


def test_many_objects_are_counted(answer, tmp_path):
    many = replace(answer, detections=answer.detections * (MOST_OBJECTS + 5))
    page = Page(write_report(tmp_path / "r.html", [many], chip=CHIP))
    assert f"{MOST_OBJECTS + 5} objects; the 5 smallest are left out" in page.words


def test_what_cannot_be_written_leaves_nothing(answer, tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(EarthMindError, match="can't be written"):
        write_report(tmp_path / "taken", [answer], chip=CHIP)
    with pytest.raises(EarthMindError, match="needs an answer"):
        write_report(tmp_path / "r.html", [])
    assert [each.name for each in tmp_path.iterdir()] == ["taken"]


def test_objects_of_two_dates_are_told_apart(tmp_path, monkeypatch):
    made_up(monkeypatch)
    with Session(engine=SlowEngine()) as session:
        session.draw(BOX)
        session.search(dates=DATES).result(WAIT)
        session.choose(0).result(WAIT)
        session.compare(1).result(WAIT)
        session.ask(WATER).result(WAIT)
        days = {f["properties"]["observed"] for f in session.subject().talk[0].features["features"]}
        page = Page(session.report(tmp_path / "two.html"))
    assert days == {"2020-06-02T10:00:00Z"}
    assert "Marked: water on 2 June 2020 at 10:00 UTC, over" in page.words
