"""Timeline against a real session: what it is told, once, and what it can have done."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from earthmind_lab.errors import NoPairFound, SearchError
from earthmind_lab.scene import Candidates, Rejected, ScenePair
from earthmind_lab.session import Session
from earthmind_lab.widgets.timeline import Timeline, candidate_rows
from tests.session_world import BOX, DATES, made_up
from tests.stand_in_engine import StandInEngine, make_scene

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def session():
    with Session(engine=StandInEngine()) as made:
        yield made


@pytest.fixture
def timeline(session, browser):
    timeline = Timeline(session)
    browser.follow(timeline)
    yield timeline
    timeline.close()


def test_a_picture_has_no_scenes_to_search_first(session, timeline, browser):
    assert timeline.about["hint"] == ""
    session.open_picture(np.zeros((8, 8, 3), np.uint8))
    browser.wait(lambda: "only areas have a timeline" in timeline.about["hint"])
    session.draw(BOX)
    browser.wait(lambda: timeline.about["name"] and timeline.about["hint"] == "")


def scenes(modality, count):
    first = datetime(2020, 6, 1, 10, tzinfo=UTC)
    return [
        make_scene(
            modality, id=f"{modality}-{number}", datetime=when, start=when, end=when,
            cloud_cover=float(number) if modality == "optical" else None,
        )
        for number, when in enumerate(first + timedelta(days=n) for n in range(count))
    ]  # fmt: skip


def many():
    """500 candidates: 25 optical times 20 SAR scenes, of which ten are pairs."""
    both = [(one, other) for one in scenes("optical", 25) for other in scenes("sar", 20)]
    pairs = [
        ScenePair(
            optical=one, sar=other, gap=timedelta(0), overlap=1.0, cloud_in_aoi=3.0, score=50.0,
            factors={"V": 0.97},
        )
        for one, other in both[:10]
    ]  # fmt: skip
    rejected = [
        Rejected(optical=one, sar=other, reason="The gap is 9 days, beyond max_gap of 6 days.")
        for one, other in both[10:]
    ]
    return Candidates(pairs=tuple(pairs), rejected=tuple(rejected))


def test_what_the_embedded_search_looked_at(browser, timeline, session):
    session.open_place("punjab")
    session.search(max_cloud=100).result(60)
    browser.wait(lambda: timeline.shown.get("pairs"))
    shown, found = timeline.shown, session.candidates()
    assert (shown["first"], shown["last"]) == tuple(session.subject().query["dates"].split("/"))
    assert len(shown["pairs"]) == len(found.pairs)
    told = [
        (tuple(shown["scenes"][n][0] if n is not None else None for n in row[:2]),
         shown["reasons"][row[2]])
        for row in shown["rejected"]
    ]  # fmt: skip
    assert told == [
        ((each.optical and each.optical.id, each.sar and each.sar.id), each.reason)
        for each in found.rejected
    ]
    optical, sar = (shown["scenes"][number] for number in shown["pairs"][0])
    assert (optical[1], sar[1], sar[4]) == (0, 1, None)
    assert optical[2] <= optical[3]
    assert "Sentinel-2" in optical[5]
    assert "cloud" in optical[5]
    browser.tell(timeline, {"kind": "choose", "rank": 0})
    browser.wait(lambda: timeline.chosen == 0)


def test_scenes_can_be_pinned_from_here(browser, timeline, session):
    session.open_place("punjab")
    session.search(max_cloud=100).result(60)
    out = session.candidates().rejected[0].sar.id
    browser.tell(timeline, {"kind": "pick", "scene": out, "how": "pin"})
    browser.wait(lambda: session.subject().query.get("pin") == [out])


def test_a_search_without_a_pair_shows_what_was_rejected_and_why(browser, timeline, session):
    session.open_place("spain")
    session.search().result(60)
    browser.wait(lambda: timeline.shown.get("pairs"))
    with pytest.raises(SearchError):
        session.search(max_gap="0 hours", max_cloud=0).result(60)
    browser.wait(lambda: timeline.shown.get("rejected"))
    assert timeline.shown["pairs"] == []
    assert "Try:" in timeline.about["missed"]
    session.search().result(60)
    browser.wait(lambda: not timeline.about["missed"] and timeline.shown["pairs"])


def test_five_hundred_candidates_are_sent_once_and_compactly(
    browser, timeline, session, monkeypatch
):
    made_up(monkeypatch)
    monkeypatch.setattr("earthmind_lab.data.search.search_candidates", lambda *_, **__: many())
    sent = []
    timeline.observe(lambda change: sent.append(change["new"]), "shown")
    name = session.draw(BOX)
    session.search(dates=DATES).result(60)
    browser.wait(lambda: len(timeline.shown.get("rejected", ())) == 490)
    before = len(sent)
    for rank in (0, 1, 0):
        session.choose(rank).result(60)
    session.rename(name, "renamed")
    session.mark((-0.719, 38.101, -0.715, 38.105), label="field")
    browser.wait(lambda: timeline.about["name"] == "renamed" and timeline.chosen == 0)
    assert len(sent) == before
    shown = timeline.shown
    assert len(shown["scenes"]) == 45
    assert len(shown["reasons"]) == 1
    assert len(json.dumps(sent[before - 1])) < 20_000


def test_after_a_restart_the_pairs_are_left_and_it_is_said(browser, tmp_path):
    with Session(engine=StandInEngine(), path=tmp_path / "s.json") as session:
        session.open_place("punjab")
        session.search(max_cloud=100).result(60)
    with Session(engine=StandInEngine(), path=tmp_path / "s.json") as session:
        timeline = Timeline(session)
        assert len(timeline.shown["pairs"]) == len(session.subject().pairs)
        assert timeline.shown["rejected"] == []
        assert "search again" in timeline.about["hint"]
        timeline.close()


def test_the_error_keeps_its_message_and_brings_the_candidates():
    from earthmind_lab.data.search import search_candidates, search_pairs

    asked = {"dates": "2019-09-15/2019-09-20", "max_gap": "0 hours", "max_cloud": 0}
    aoi = (-0.775, 38.09, -0.745, 38.12)
    with pytest.raises(NoPairFound) as plain:
        search_pairs(aoi, **asked)
    with pytest.raises(NoPairFound) as whole:
        search_candidates(aoi, **asked, catalog=["sample", "sample"])
    with pytest.raises(NoPairFound) as one:
        search_candidates(aoi, **asked)
    assert str(one.value) == str(plain.value)
    assert plain.value.rejected == ()
    assert len(whole.value.rejected) == 2 * len(one.value.rejected) > 0


def test_unknown_times_and_hostile_words_are_plain_data():
    from earthmind_lab.scene import ANY_TIME

    odd = make_scene("sar", id=HOSTILE, datetime=None, start=ANY_TIME[0], end=ANY_TIME[1])
    rejected = Rejected(optical=None, sar=odd, reason=f"{HOSTILE} \ud83c")
    shown = candidate_rows({"dates": "2020-06-01"}, Candidates(pairs=(), rejected=(rejected,)))
    assert shown["scenes"] == [[HOSTILE, 1, None, None, None, "Sentinel-1, time unknown"]]
    assert shown["reasons"] == [f"{HOSTILE} ?"]
    assert (shown["first"], shown["last"]) == ("2020-06-01", "2020-06-01")
    json.dumps(shown, allow_nan=False)


@pytest.mark.parametrize("bad", [{"kind": "pick", "scene": "a"}, {"kind": "show", "turn": "x"}])
def test_what_it_has_no_use_for_is_said(browser, timeline, bad):
    browser.tell(timeline, bad)
    browser.wait(lambda: browser.said("makes no sense") or browser.said("nothing to show"))
