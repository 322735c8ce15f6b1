"""PairTable against a real session on the embedded catalog."""

from __future__ import annotations

import numpy as np
import pytest

from earthmind_lab.session import Session
from earthmind_lab.session.subject import PairRow
from earthmind_lab.widgets.pairs import PairTable
from earthmind_lab.widgets.rows import pair_row
from tests.stand_in_engine import StandInEngine

SEARCH = {"kind": "search", "dates": None, "max_gap": None, "max_cloud": None}


@pytest.fixture
def session():
    with Session(engine=StandInEngine()) as made:
        yield made


@pytest.fixture
def table(session, browser):
    table = PairTable(session)
    browser.follow(table)
    yield table
    table.close()


def test_search_choose_and_the_chip_is_there(browser, table, session):
    assert "Choose a place" in table.about["hint"]
    session.open_place("spain")
    browser.wait(lambda: table.about["name"] == "spain")
    assert table.about["place"] is True
    browser.tell(table, SEARCH)
    browser.wait(lambda: table.pairs and not table.about["busy"])
    best = table.pairs[0]
    assert best["rank"] == 0
    assert [scene["sensor"] for scene in best["scenes"]] == ["Sentinel-2", "Sentinel-1"]
    assert "Sep 2019" in best["scenes"][0]["observed"]
    assert "px, reads up to" in best["cost"]
    assert best["reasons"]
    assert [factor["name"] for factor in best["factors"]][:3] == ["V", "T", "Q"]
    assert table.about["dates"] == "2019-09-15/2019-09-20"
    assert session.chip() is None
    browser.tell(table, {"kind": "choose", "rank": 0})
    browser.wait(lambda: table.about["loaded"])
    assert table.chosen == 0
    assert session.chip() is not None


def test_what_python_did_is_shown(browser, table, session):
    session.open_place("spain")
    session.search().result(60)
    browser.wait(lambda: table.pairs)
    session.undo()
    browser.wait(lambda: not table.pairs)


def test_a_search_without_days_says_what_to_give(browser, table, session):
    session.draw((-0.775, 38.09, -0.745, 38.12))
    browser.tell(table, SEARCH)
    browser.wait(lambda: "No dates" in table.fault)


def test_nothing_found_says_what_to_change(browser, table, session):
    session.draw((-0.775, 38.09, -0.745, 38.12))
    browser.tell(table, {**SEARCH, "dates": "2001-01-01/2001-01-02"})
    browser.wait(lambda: "Try:" in table.fault)
    browser.wait(lambda: table.about["busy"] == "")
    assert table.pairs == []


def test_a_rank_that_is_not_there(browser, table, session):
    session.open_place("spain")
    session.search().result(60)
    browser.tell(table, {"kind": "choose", "rank": 99})
    browser.wait(lambda: table.fault)
    browser.tell(table, {"kind": "cancel"})
    browser.wait(lambda: browser.said("Nothing runs here"))
    assert table.fault == ""


def test_a_picture_needs_no_pair(browser, table, session):
    session.open_picture(np.zeros((32, 32, 3), dtype=np.uint8))
    browser.wait(lambda: "needs no pair" in table.about["hint"])


@pytest.mark.parametrize("bad", [None, {}, {"kind": "choose"}, {"kind": "choose", "rank": -1}])
def test_garbage_from_the_browser_is_said(browser, table, bad):
    browser.tell(table, bad)
    browser.wait(lambda: browser.said("makes no sense"))


def test_a_row_with_everything_unknown():
    row = PairRow(
        pair={
            "optical": None, "sar": "s", "gap_hours": None, "overlap": 1.0, "cloud_in_aoi": None,
            "score": 3.14159, "factors": {"V": 0.5, "relief": 0.7}, "reasons": ["<b>why</b>"],
        },
        cost={"error": "Not terrain corrected."},
        scenes=({"id": "s", "modality": "sar", "sensor": "sar", "observed": "soon"},),
    )  # fmt: skip
    shown = pair_row(row, 4)
    assert (shown["gap"], shown["cloud"]) == ("one sensor", "unknown")
    assert (shown["cost"], shown["refused"]) == ("can't be loaded", "Not terrain corrected.")
    assert shown["scenes"][0] == {
        "id": "s", "modality": "sar", "sensor": "the SAR scene", "observed": "time unknown",
    }  # fmt: skip
    assert shown["factors"][1]["meaning"] == "penalty"
    assert shown["reasons"] == ["<b>why</b>"]
