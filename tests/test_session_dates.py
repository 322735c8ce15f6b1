"""Two dates of a subject: which can be compared, what is asked about, undo, restarts, old files."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from earthmind_lab.as_python import as_python
from earthmind_lab.errors import EarthMindError, PromptError, SearchError
from earthmind_lab.replay import replay
from earthmind_lab.session import Session
from earthmind_lab.session.subject import PairRow, Subject
from earthmind_lab.session.two_dates import check_earlier, dates_of, earlier_ranks, later_ranks
from earthmind_lab.settings import Settings
from tests.session_world import BOX, DATES, SlowEngine, made_up
from tests.stand_in_engine import StandInEngine

WAIT = 30
WATER, DRY = "Segment the water.", "Is it dry?"


@pytest.fixture
def small(monkeypatch):
    """A session whose pair 1 is of the later date, and chosen."""
    made_up(monkeypatch)
    with Session(engine=SlowEngine()) as session:
        session.draw(BOX)
        session.search(dates=DATES).result(WAIT)
        session.choose(0).result(WAIT)
        yield session


def row(**observed):
    """A pair with the time of each sensor's scene."""
    scenes = tuple(
        {"id": f"{kind}-{when}", "modality": kind, "observed": when}
        for kind, when in observed.items()
    )
    ids = {kind: f"{kind}-{when}" for kind, when in observed.items()}
    return PairRow(pair={"optical": None, "sar": None, **ids}, cost={}, scenes=scenes)


def subject(*rows, chosen=0):
    return Subject(name="a", kind="aoi", pairs=rows, chosen=chosen)


# --- which pairs can be compared -----------------------------------------------------------------


JUNE, AUGUST, DAY = "2020-06-07T01:08:00Z", "2020-08-13T06:00:00Z", "2020-06-07T00:00:00Z"
WHOLE_DAY = f"{DAY}/2020-06-07T23:59:59Z"


@pytest.mark.parametrize(
    ("later", "earlier", "sensor"),
    [
        ({"sar": AUGUST}, {"sar": JUNE}, "sar"),
        ({"sar": AUGUST, "optical": AUGUST}, {"sar": JUNE, "optical": JUNE}, "sar"),
        # One SAR scene serves both pairs: what differs is optical.
        ({"sar": JUNE, "optical": AUGUST}, {"sar": JUNE, "optical": DAY}, "optical"),
        ({"optical": AUGUST}, {"sar": JUNE, "optical": WHOLE_DAY}, "optical"),
    ],
)
def test_the_first_sensor_that_saw_two_dates_compares(later, earlier, sensor):
    found = subject(row(**later), row(**earlier))
    assert (earlier_ranks(found), later_ranks(found)) == ((1,), ())
    check_earlier(found, 1)
    dates = dates_of(replace(found, before=1))
    assert dates["sensor"] == sensor
    assert dates["observed"] == [earlier[sensor], later[sensor]]
    assert (dates["ids"], dates["after"]) == ([*found.pairs[1].ids], [*found.pairs[0].ids])
    assert dates == json.loads(json.dumps(dates))


@pytest.mark.parametrize(
    ("chosen", "other", "said"),
    [
        ({"sar": JUNE}, {"sar": AUGUST}, r"Try: choose pair 2, then compare it with pair 1"),
        ({"sar": JUNE}, {"sar": JUNE}, r"sar 2020-06-07.* and .*Try: find pairs over days that"),
        # The day is known and the hour isn't: nothing tells which comes first.
        ({"sar": JUNE}, {"sar": WHOLE_DAY}, "no earlier date"),
        ({"sar": JUNE}, {"sar": "unknown"}, "no earlier date"),
        ({"sar": AUGUST}, {"optical": JUNE}, r"no sensor in common.*of one sensor alone"),
    ],
)
def test_what_is_no_earlier_date_is_refused_with_the_way_out(chosen, other, said):
    found = subject(row(**chosen), row(**other))
    with pytest.raises(PromptError, match=said):
        check_earlier(found, 1)
    assert earlier_ranks(found) == ()


def test_a_rank_or_a_choice_that_is_not_there():
    found = subject(row(sar=AUGUST), row(sar=JUNE))
    with pytest.raises(PromptError, match=r"no earlier date.*another pair"):
        check_earlier(found, 0)
    with pytest.raises(SearchError, match="rank 2"):
        check_earlier(found, 2)
    with pytest.raises(SearchError, match=r"No pair .* is chosen.*the later date"):
        check_earlier(replace(found, chosen=None), 1)
    with pytest.raises(SearchError, match="not searched"):
        check_earlier(Subject(name="a", kind="aoi"), 0)
    assert dates_of(found) is None
    # A file may say what no command does.
    assert dates_of(replace(found, chosen=1, before=0)) is None
    naive = subject(row(sar=AUGUST.removesuffix("Z")), row(sar=JUNE))
    assert earlier_ranks(naive) == (1,)


# --- asking --------------------------------------------------------------------------------------


def test_questions_are_about_both_dates_until_that_ends(small):
    small.ask(DRY).result(WAIT)
    assert small.earlier() is None
    chip = small.compare(1).result(WAIT)
    assert small.earlier() is chip
    small.ask(WATER).result(WAIT)
    small.ask(DRY).result(WAIT)
    small.compare(None).result(WAIT)
    assert (small.subject().before, small.earlier()) == (None, None)
    small.ask(DRY).result(WAIT)
    # Evidence asks about one date alone.
    said = [prompt for prompt in small.engine.prompts if len(prompt.views) == 2]
    kinds = [sorted(view.modality for view in prompt.views) for prompt in said]
    assert kinds == [["optical", "sar"], ["sar", "sar"], ["sar", "sar"], ["optical", "sar"]]
    # History is of the same pixels alone.
    assert [[turn.question for turn in prompt.history] for prompt in said] == [
        [], [], [WATER], [DRY],
    ]  # fmt: skip
    before = [turn.before and turn.before["ids"][1] for turn in small.subject().talk]
    assert before == [None, "sar-2", "sar-2", None]


def test_again_is_about_the_dates_of_the_turn(small):
    small.compare(1).result(WAIT)
    small.ask(DRY).result(WAIT)
    two = small.subject().head
    small.compare(None).result(WAIT)
    small.ask(DRY).result(WAIT)
    one = small.subject().head
    small.again(two).result(WAIT)
    assert small.subject().talk[-1].before == small.subject().turn(two).before
    small.compare(1).result(WAIT)
    small.again(one).result(WAIT)
    assert small.subject().talk[-1].before is None
    small.choose(1).result(WAIT)
    assert small.subject().before is None
    with pytest.raises(PromptError, match="another pair is chosen now"):
        small.again(two)
    small.choose(0).result(WAIT)
    small.again(two).result(WAIT)
    kept = small.subject().pairs
    gone = replace(small.subject(), pairs=kept[:1])
    small._keeper.commit(replace(small._keeper.state, subjects={gone.name: gone}))
    with pytest.raises(PromptError, match="no longer among the pairs"):
        small.again(two)


def test_masks_of_two_dates_are_refused_and_features_are_not(small, tmp_path):
    small.compare(1).result(WAIT)
    small.ask(WATER).result(WAIT)
    turn = small.subject().head
    files = [
        lambda: small.export(turn, tmp_path / "mask.tif"),
        lambda: small.export(turn, tmp_path / "sure.tif", probability=True),
        lambda: small.save_stac(turn, tmp_path / "item"),
        lambda: small.sample_points(turn, tmp_path / "points.gpkg", 40),
        lambda: small.answer(turn).save(tmp_path / "saved.tif"),
    ]
    for make in files:
        with pytest.raises(PromptError, match=r"on which date.*each date alone"):
            make()
    small._answers._held.clear()  # as after a restart
    for make in files[:4]:
        with pytest.raises(PromptError, match=r"on which date.*each date alone"):
            make()
    assert list(tmp_path.iterdir()) == []
    (feature,) = json.loads(small.export(turn, tmp_path / "water.geojson").read_text())["features"]
    assert feature["properties"]["observed"]


def test_undo_and_what_drops_the_comparison(small):
    def now():
        return small.subject().chosen, small.subject().before

    small.compare(1).result(WAIT)
    small.compare(1).result(WAIT)  # only loads
    assert [command.kind for command in small.log] == ["draw", "search", "choose", "compare"]
    small.choose(0).result(WAIT)
    assert now() == (0, 1)
    small.choose(1).result(WAIT)
    assert now() == (1, None)
    small.undo()
    assert now() == (0, 1)
    small.search(dates=DATES).result(WAIT)
    assert now() == (None, None)
    small.undo()
    assert now() == (0, 1)
    small.compare(None).result(WAIT)
    small.undo()
    assert now() == (0, 1)
    small.undo()
    assert now() == (0, None)


def test_two_dates_that_cannot_be_compared_leave_no_trace(small, monkeypatch):
    from earthmind_lab import session as package

    def refuses(*_):
        raise PromptError("The sar pixels of the two dates are not of one kind.")

    monkeypatch.setattr(f"{package.__name__}.pairs.sensor_of", refuses)
    heard = []
    small.watch(heard.append)
    with pytest.raises(PromptError, match="not of one kind"):
        small.compare(1).result(WAIT)
    assert small.subject().before is None
    assert small.log[-1].kind == "choose"
    small.choose(1).result(WAIT)
    with pytest.raises(PromptError, match="choose pair 1"):
        small.compare(0)
    small._keeper.notifier.close()
    assert "not of one kind" in next(note.message for note in heard if note.kind == "error")


# --- restarts and old files ----------------------------------------------------------------------


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path, device=None, catalog="sample")


def test_both_dates_are_there_after_a_restart(settings, monkeypatch):
    made_up(monkeypatch)
    with Session.open("kept", engine=SlowEngine(), settings=settings) as session:
        session.draw(BOX)
        session.search(dates=DATES).result(WAIT)
        session.choose(0).result(WAIT)
        session.compare(1).result(WAIT)
        session.ask(WATER).result(WAIT)
        held = session.subject()
    with Session.open("kept", engine=SlowEngine(), settings=settings) as session:
        assert session.subject().to_dict() == held.to_dict()
        assert session.earlier() is None
        session.ask(DRY).result(WAIT)  # loads both again
        assert session.earlier() is not None
        assert [turn.question for turn in session.engine.prompts[0].history] == [WATER]
        session.set_threshold(session.subject().head, 0.8)
        assert session.subject().talk[-1].before == held.talk[-1].before
        while session.undo() is not None:
            pass
    path = settings.home / "sessions" / "kept.json"
    data = json.loads(path.read_text())
    data["subjects"] = [{**held.to_dict(), "before": 7}]
    path.write_text(json.dumps(data))
    with Session.open("kept", engine=SlowEngine(), settings=settings) as session:
        assert "damaged" in session.messages[0]


def test_a_comparison_that_is_cut_off_is_taken_back(settings, monkeypatch):
    made_up(monkeypatch)
    with Session.open("kept", engine=SlowEngine(), settings=settings) as session:
        session.draw(BOX)
        session.search(dates=DATES).result(WAIT)
        session.choose(0).result(WAIT)
        session.compare(1).result(WAIT)
    path = settings.home / "sessions" / "kept.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "running": [data["log"][-1]["id"]]}))
    with Session.open("kept", engine=SlowEngine(), settings=settings) as session:
        assert session.subject().before is None
        assert "The load of 'area 1' was cut off" in session.messages[0]


def test_a_file_of_the_second_schema_is_read_and_can_be_undone(settings, monkeypatch):
    """Written by the version before two dates: two pairs chosen in turn, each asked about, an edit
    that was taken back, a question under way."""
    made_up(monkeypatch)
    file = Path(__file__).parent / "golden" / "session_schema_2.json"
    assert json.loads(file.read_text())["schema"] == 2
    (settings.home / "sessions").mkdir(parents=True)
    shutil.copy(file, settings.home / "sessions" / "old.json")
    with Session.open("old", engine=SlowEngine(), settings=settings) as session:
        assert len(session.messages) == 1
        assert "'Slow?' on 'field'" in session.messages[0]
        assert {turn.before for turn in session.subject("field").turns} == {None}
        assert session.subject("field").before is None
        undone = []
        while (command := session.undo()) is not None:
            undone.append(command.kind)
        assert undone == [
            "ask", "restore", "edit", "ask", "choose", "ask", "choose", "search", "draw",
        ]  # fmt: skip
        assert session.subjects == {}


# --- real pixels ---------------------------------------------------------------------------------


def test_four_dates_of_lazio_as_python_and_as_a_record():
    with Session(engine=StandInEngine(texts={"What has changed?": "Fewer crops."})) as session:
        session.open_place("lazio")
        session.search(max_cloud=100).result(WAIT)
        days = [row.ids[0].rsplit("_")[-1] for row in session.subject().pairs]
        session.choose(days.index("2018-10-23")).result(WAIT)
        assert len(earlier_ranks(session.subject())) == 3
        early = session.compare(days.index("2018-07-20")).result(WAIT)
        assert early.grid == session.chip().grid
        answer = session.ask("What has changed?").result(WAIT)
        assert "fewer crops" in answer.evidence[0].text
        (turn,) = session.subject().talk
        code = as_python(session.subject(), turn.id)
        code = code.replace("em.load_engine('stand-in')", "engine")
        names = {"engine": session.engine}
        exec(code, names)  # our own code
        assert names["answer"].record.answer_hash == answer.record.answer_hash
        assert names["before"].pair.optical.id == "S2_L1C_lazio_2018-07-20"
        assert replay(answer.record, engine=session.engine).same


def test_radar_of_two_orbits_is_said_with_the_answer():
    with Session(engine=StandInEngine()) as session:
        session.open_place("punjab")
        session.search(sensors="sar").result(WAIT)
        session.choose(1).result(WAIT)
        session.compare(0).result(WAIT)
        answer = session.ask("Is there more water in the second picture?").result(WAIT)
        assert any("relative orbit 107 before and 173 after" in c.text for c in answer.evidence)
        with pytest.raises(EarthMindError, match="no pair to choose"):
            session.compare(0, session.open_picture(Path("docs/map.jpg")))
