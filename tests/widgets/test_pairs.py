"""PairTable against a real session on the embedded catalog, and on catalogs behind a server."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from earthmind_lab.data.budget import Budget, Progress
from earthmind_lab.data.known import KNOWN
from earthmind_lab.errors import Cancelled, SearchError
from earthmind_lab.session import Session
from earthmind_lab.session.scene_facts import facts_of
from earthmind_lab.session.subject import PairRow
from earthmind_lab.widgets.pair_offers import offers
from earthmind_lab.widgets.pair_rows import pair_row, progress_row, scene_row, terms_of
from earthmind_lab.widgets.pairs import PairTable
from tests.range_server import serve
from tests.sample_items import SAMPLES, sample_items
from tests.session_world import BOX
from tests.stac_server import serve_stac
from tests.stand_in_engine import StandInEngine, make_scene

# rasterio hides this one from its callers with warnings.catch_warnings, which threads undo for each
# other: here one thread loads a chip while another reads quick-looks.
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
SEARCH = {
    "kind": "search", "dates": None, "around": None, "max_gap": None, "max_cloud": None,
    "purpose": None, "sensors": None, "catalog": None,
}  # fmt: skip


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
    assert table.about["terms"]["dates"] == "2019-09-15/2019-09-20"
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
    browser.wait(lambda: "Try: fill in From and to" in table.fault)


def test_a_new_area_is_offered_the_days_of_the_search_before(browser, table, session):
    session.open_place("spain")
    session.search(max_cloud=90).result(60)
    dates = session.subject().query["dates"]
    session.draw((-0.775, 38.09, -0.745, 38.12))
    browser.wait(lambda: table.about["name"] == "area 1")
    assert table.about["terms"] == {**terms_of(None), "dates": dates, "catalog": "sample"}
    browser.tell(table, {**SEARCH, "dates": dates})
    browser.wait(lambda: table.pairs)
    assert session.subject().query["dates"] == dates


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
        **dict.fromkeys(("orbit", "incidence", "level", "baseline", "cloud", "coverage"), "—"),
    }  # fmt: skip
    assert shown["sort"]["cloud"] is shown["sort"]["gap"] is shown["sort"]["cost"] is None
    assert shown["factors"][1]["meaning"] == "penalty"
    assert shown["reasons"] == ["<b>why</b>"]


# --- columns -------------------------------------------------------------------------------------


def test_what_the_catalog_says_of_a_scene_is_in_its_row(browser, table, session):
    session.open_place("punjab")
    session.search(max_cloud=100).result(60)
    browser.wait(lambda: table.pairs)
    optical, sar = table.pairs[0]["scenes"]
    found = session.candidates().pairs[0]
    assert optical["level"] == found.optical.processing["level"]
    assert optical["coverage"] == "100 %"
    assert sar["orbit"] == f"{found.sar.orbit['state']}, track {found.sar.orbit['relative']}"
    assert optical["incidence"] == "—"
    row = table.pairs[0]
    clear = session.subject().pairs[0].pair["factors"]["V"]
    assert row["clear"] == f"{100 * clear:.0f} %"
    assert row["sort"]["clear"] == -clear


def test_the_incidence_of_the_items_is_a_number_of_degrees_or_nothing():
    def angle(*given):
        items = tuple({"properties": {"view:incidence_angle": each}} for each in given)
        return facts_of(make_scene("sar", items=items), make_aoi())["incidence"]

    assert angle(38.25, 38.75) == 38.5
    assert scene_row(facts_of(make_scene("sar"), make_aoi()))["incidence"] == "—"
    for bad in ("38", True, float("nan"), -1, 91, None):
        assert angle(bad) is None


def make_aoi():
    from earthmind_lab.aoi import AOI

    return AOI.from_bbox(*BOX)


def test_a_scene_covers_a_share_of_the_area():
    from shapely.geometry import box

    west, south, east, north = BOX
    half = box(west, south, (west + east) / 2, north)
    facts = facts_of(make_scene("optical", footprint=half), make_aoi())
    assert facts["coverage"] == pytest.approx(0.5)


# --- the user's own choices ----------------------------------------------------------------------


def test_a_pin_is_a_search_that_is_the_users_and_can_be_undone(browser, table, session):
    session.open_place("punjab")
    session.search(max_cloud=100).result(60)
    browser.wait(lambda: table.pairs)
    before = session.subject().pairs
    out = session.candidates().rejected[0].sar.id
    browser.tell(table, {"kind": "pick", "scene": out, "how": "pin"})
    browser.wait(lambda: table.about["choices"] and not table.about["busy"] and table.pairs)
    assert table.about["choices"] == [{"id": out, "how": "pin", "words": "Pinned by you"}]
    assert {row["scenes"][1]["id"] for row in table.pairs} == {out}
    assert session.candidates().pairs[0].overrides == {"pin": (out,)}
    assert session.log[-1].args["pin"] == [out]
    session.undo()
    browser.wait(lambda: not table.about["choices"])
    assert session.subject().pairs == before


def test_excluding_a_pinned_scene_and_taking_it_back(session):
    session.open_place("punjab")
    session.search(max_cloud=100).result(60)
    scene = session.candidates().pairs[0].sar.id
    session.pick(scene, "pin").result(60)
    with pytest.raises(SearchError):
        session.pick(scene, "exclude").result(60)  # there is no other of these days
    assert session.missed().query["exclude"] == [scene]
    session.pick(scene, "free").result(60)
    assert session.missed() is None
    assert not {"pin", "exclude"} & set(session.subject().query)


def test_choices_stay_with_looser_limits_and_go_with_other_days(browser, table, session):
    session.open_place("punjab")
    session.search(max_cloud=100).result(60)
    scene = session.candidates().pairs[0].sar.id
    session.pick(scene, "pin").result(60)
    browser.wait(lambda: table.about["terms"]["dates"] and not table.about["busy"])
    dates = table.about["terms"]["dates"]
    again = {**SEARCH, "dates": dates, "catalog": "sample", "max_cloud": 90.0}
    browser.tell(table, again)
    browser.wait(lambda: table.about["terms"]["max_cloud"] == "90" and not table.about["busy"])
    assert session.subject().query["pin"] == [scene]
    browser.tell(table, {**again, "dates": f"2020-05-01/{dates.partition('/')[2]}"})
    browser.wait(lambda: "2020-05-01" in table.about["terms"]["dates"] and not table.about["busy"])
    assert "pin" not in session.subject().query


def test_nothing_to_pick_from(session):
    session.open_place("spain")
    with pytest.raises(SearchError, match="not searched"):
        session.pick("S2A", "pin")


# --- nothing found, and what was looked at -------------------------------------------------------


def test_a_search_without_a_pair_keeps_its_candidates_until_the_next(browser, table, session):
    session.open_place("spain")
    session.search().result(60)
    before = session.subject()
    with pytest.raises(SearchError) as error:
        session.search(max_gap="0 hours", dates="2019-09-15/2019-09-20", max_cloud=0).result(60)
    missed = session.missed()
    assert missed.message == str(error.value)
    assert missed.candidates.pairs == ()
    assert all(each.reason for each in missed.candidates.rejected)
    assert session.candidates().pairs  # those of the search before, which still stand
    assert session.subject() == before
    # The form shows what was asked in vain: that is what one changes.
    browser.wait(lambda: table.about["terms"]["max_cloud"] == "0" and table.pairs)
    session.search().result(60)
    assert session.missed() is None
    assert session.candidates().pairs


def test_scenes_of_one_sensor_alone_are_candidates_too(session):
    session.open_place("spain")
    with pytest.raises(SearchError) as error:
        session.search(dates="2019-09-18").result(60)
    assert error.value.rejected
    sides = {(each.optical is None, each.sar is None) for each in error.value.rejected}
    assert len(sides) == 1
    assert "to pair it with" in error.value.rejected[0].reason


def test_an_error_of_another_area_waits_until_that_is_looked_at(browser, table, session):
    first = session.draw((-0.775, 38.09, -0.745, 38.12))
    second = session.draw(BOX)
    task = session.search(first, dates="2001-01-01/2001-01-02")
    with pytest.raises(SearchError):
        task.result(60)
    browser.wait(lambda: table.about["name"] == second and not table.about["busy"])
    assert table.fault == ""
    session.select(first)
    browser.wait(lambda: "Try:" in table.fault)
    session.select(second)
    browser.wait(lambda: table.fault == "")
    session.select(first)
    browser.wait(lambda: "Try:" in table.fault)
    session.search(first, dates="2019-09-15/2019-09-20").result(60)
    browser.wait(lambda: table.fault == "")


# --- progress, a catalog that stalls, quick-looks ------------------------------------------------


def test_a_catalog_that_stalls_is_said_and_stop_ends_it(browser, table, session, monkeypatch):
    monkeypatch.setattr("earthmind_lab.widgets.pairs.EVERY_S", 0.05)
    monkeypatch.setattr("earthmind_lab.widgets.pair_rows.PATIENCE_S", 0.3)
    session.draw((-0.775, 38.09, -0.745, 38.12))
    with serve_stac([], stall=60.0) as server:
        monkeypatch.setenv("EARTHMIND_HOSTS", server.place)
        search = {**SEARCH, "dates": "2019-09-15/2019-09-20", "catalog": server.url}
        browser.tell(table, search)
        browser.wait(
            lambda: any("has not answered" in m["stall"] for m in browser.kind("progress"))
        )
        said = browser.kind("progress")[-1]
        assert said["text"].startswith("searching the catalog")
        assert said["text"].endswith("of 120 s")
        budget = session._shelf._budgets["area 1"]
        browser.tell(table, {"kind": "cancel"})
        browser.wait(lambda: not table.about["busy"])
        with pytest.raises(Cancelled):
            budget.check()
    assert session.progress() is None
    assert table.fault == ""


def test_masks_are_counted(monkeypatch, session):
    seen = []
    monkeypatch.setattr(Budget, "step", lambda _, *what: seen.append(what))
    session.open_place("jiangsu")
    session.search(max_cloud=100).result(60)
    assert ("reading cloud masks", 1, 2) in seen
    assert seen[0] == ("searching the catalog",)


def test_progress_in_words():
    def said(**changes):
        plain = {"what": "", "done": 0, "total": 0, "seconds": 3.4, "limit": 120.0, "silent": 0.0}
        return progress_row(Progress(**{**plain, **changes}))

    assert said() == {"text": "working, 3 s of 120 s", "stall": ""}
    assert said(silent=4.9)["stall"] == ""
    # Said again every five seconds, not every second.
    assert said(silent=12.0) == said(silent=14.9)
    assert "server of the files" in said(what="reading bands", silent=12.0)["stall"]


def test_a_server_is_silent_from_the_question_until_it_says_something():
    now = [0.0]
    budget = Budget(60, clock=lambda: now[0])
    now[0] = 30.0
    assert budget.progress.silent == 0
    with budget.watching():
        now[0] = 37.0
        assert budget.progress.silent == 7
        budget.heard()
        assert budget.progress.silent == 0
        now[0] = 40.0
        assert budget.part(5).progress.silent == 3
    assert budget.progress.silent == 0


def test_a_question_that_is_asked_again_has_been_silent_since_the_first():
    now = [0.0]
    budget = Budget(60, clock=lambda: now[0])
    for _ in range(2):
        with budget.watching():
            now[0] += 5.0
    assert budget.progress.silent == 10


def test_quick_looks_of_embedded_scenes_come_by_themselves(browser, table, session):
    session.open_place("chile")
    session.search().result(60)
    browser.wait(lambda: len(table.looks) == 2)
    assert (table.about["looks"], table.about["network"]) == ("on", False)
    assert all(url.startswith("data:image/jpeg;base64,") for url in table.looks.values())
    assert set(table.looks) == {scene["id"] for scene in table.pairs[0]["scenes"]}
    browser.tell(table, {"kind": "looks", "on": False})
    browser.wait(lambda: table.about["looks"] == "off" and not table.looks)


def test_quick_looks_over_a_network_wait_until_they_are_asked_for(
    browser, table, session, monkeypatch
):
    session.draw((-0.775, 38.09, -0.745, 38.12))
    with serve(SAMPLES) as files, serve_stac(sample_items(files.url)) as api:
        monkeypatch.setenv("EARTHMIND_HOSTS", f"{files.place},{api.place}")
        session.search(dates="2019-09-15/2019-09-20", catalog=api.url).result(60)
        browser.wait(lambda: table.about["looks"] == "off")
        assert table.about["network"] is True
        assert table.looks == {}
        browser.tell(table, {"kind": "looks", "on": True})
        browser.wait(lambda: len(table.looks) == 2 and all(table.looks.values()))


def test_a_quick_look_is_read_once(session, monkeypatch):
    from earthmind_lab.data import preview

    session.open_place("chile")
    session.search().result(60)
    scene = session.candidates().pairs[0].sar.id
    first = session.quicklook(scene)
    assert max(first.image.shape[:2]) <= preview.SIDE_PX + 1
    monkeypatch.setattr(preview, "preview", None)
    assert session.quicklook(scene) is first
    with pytest.raises(SearchError, match="no scene"):
        session.quicklook("S2X")


def test_a_closed_panel_reads_no_more(table, session):
    gate, came = threading.Event(), threading.Event()

    def slow(*_, budget, **__):
        came.set()
        gate.wait(20)
        budget.check()

    session.quicklook = slow
    table._quick.want("anything", ("a", "b"))
    assert came.wait(20)
    table.close()
    gate.set()
    assert table._quick.found == {}


# --- what the form offers ------------------------------------------------------------------------


def test_catalogs_say_what_they_need():
    states = {each["name"]: each["state"] for each in offers({})["catalogs"]}
    assert states["sample"] == "embedded, needs no network"
    assert set(states) == {"sample", *(known.name for known in KNOWN)}
    for known in KNOWN:
        assert ("a key" in states[known.name]) == bool(known.settings)
        given = offers(dict.fromkeys(known.settings, "x"))["catalogs"]
        assert "a key" not in next(each["state"] for each in given if each["name"] == known.name)


def test_a_catalog_that_is_no_name_is_searched_again_as_it_was(browser, table, session):
    session.draw((-0.775, 38.09, -0.745, 38.12))
    both = {"optical": "sample", "sar": "sample"}
    session.search(dates="2019-09-15/2019-09-20", catalog=both).result(60)
    browser.wait(lambda: table.about["terms"]["catalog"] == "=")
    browser.tell(table, {**SEARCH, "dates": "2019-09-14/2019-09-20", "catalog": "="})
    browser.wait(lambda: "09-14" in table.about["terms"]["dates"] and not table.about["busy"])
    assert session.subject().query["catalog"] == both


def test_all_terms_of_the_form_reach_the_search(browser, table, session):
    session.draw((-0.775, 38.09, -0.745, 38.12))
    terms = {
        "dates": "2019-09-15/2019-09-20", "around": "2019-09-18", "max_gap": "3 days",
        "max_cloud": 0.0, "purpose": "flood", "sensors": "optical", "catalog": "sample",
    }  # fmt: skip
    browser.tell(table, {"kind": "search", **terms})
    browser.wait(lambda: table.about["terms"]["purpose"] == "flood" or table.fault)
    asked = session.missed().query if session.missed() else session.subject().query
    assert {key: asked[key] for key in ("dates", "around", "purpose", "sensors", "catalog")} == {
        **{key: terms[key] for key in ("dates", "around", "purpose", "catalog")},
        "sensors": ["optical"],
    }
    assert asked["max_cloud"] == 0
