"""500 random sequences of commands end where a simple model ends, before and after a restart."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from earthmind_lab.errors import EarthMindError, EngineBusy, PromptError
from earthmind_lab.session import Session
from earthmind_lab.session.commands import KINDS
from earthmind_lab.settings import Settings
from tests.session_model import ELSEWHERE, PICTURE, Model, seen
from tests.session_world import BOX, DATES, SlowEngine, made_up

SEQUENCES, BLOCKS = 500, 5
WAIT = 20


def random_box(rng):
    west, south = rng.randrange(-100, 100), rng.randrange(-60, 60)
    return (float(west), float(south), west + 0.125, south + 0.25)


def step(rng, session, model):
    """One command to both; what one refuses, the other refuses."""
    names = list(model.subjects)
    kind = rng.choices(
        [
            "draw", "picture", "files", "edit", "restore", "rename", "delete", "select", "mark",
            "unmark", "look", "compare", "ask", "slow", "again", "branch", "cut", "keep",
            "discard", "take", "cancel", "undo",
        ],
        [3, 2, 2, 3, 2, 1, 2, 3, 3, 4, 6, 5, 4, 3, 3, 4, 5, 3, 3, 2, 2, 6],
    )[0]  # fmt: skip
    if kind == "undo":
        session.undo()
        model.undo()
    elif kind in ("draw", "picture", "files") or not names:
        create(rng, kind if names else "draw", session, model)
    else:
        change(rng, kind, rng.choice(names), session, model)


def create(rng, kind, session, model):
    if kind == "picture":
        new, box = session.open_picture(PICTURE), None
    elif kind == "files":
        task = session.open_files(__file__)
        new, box = task.subject, BOX
        task.result(WAIT)
    else:
        box = random_box(rng)
        new = session.draw(box)
    assert new not in model.subjects
    model.create(new, "aoi" if kind == "draw" else kind, box)


def change(rng, kind, name, session, model):
    subject = model.subjects[name]
    if kind == "edit" and subject["kind"] == "aoi":
        box = random_box(rng)
        session.edit(name, box)
        model.edit(name, box)
    elif kind in ("delete", "select"):
        getattr(session, kind)(name)
        getattr(model, kind)(name)
    elif kind == "cancel":
        assert session.cancel(name) is (name in model.asking)
        model.cancel(name)
    elif kind == "look" and subject["kind"] == "aoi" and name not in model.asking:
        if subject["pairs"] is None or rng.random() < 0.2:
            session.search(name, dates=DATES).result(WAIT)
            model.search(name)
        rank = rng.randrange(2)
        session.choose(rank, name).result(WAIT)
        model.choose(name, rank)
    elif kind == "compare" and name not in model.asking:
        compare(rng, name, session, model)
    elif kind in ("ask", "slow", "again"):
        ask(rng, kind, name, session, model)
    elif kind == "cut":
        done = [turn[0] for turn in subject["turns"] if turn[1] == "done"]
        if done:
            question, threshold = rng.choice(done), rng.choice([0.3, 0.6, 0.9])
            session.set_threshold(turn_id(session, name, question), threshold, name)
            model.cut(name, question, threshold)
    elif kind == "keep":
        keep(f"Kept {rng.randrange(10**9)}?", name, session, model)
    elif kind == "discard":
        discard(rng, name, session, model)
    elif kind == "take":
        take(rng, name, session, model)
    elif kind == "branch":
        question = rng.choice([None, *(turn[0] for turn in subject["turns"])])
        session.branch(turn_id(session, name, question), name)
        model.branch(name, question)
    else:
        change_area(rng, kind, name, session, model)


def compare(rng, name, session, model):
    """Rank 1 is the earlier date: it is compared with by 0, and with nothing itself."""
    rank, chosen = rng.choice([None, 0, 1]), model.subjects[name]["chosen"]
    if rank is not None and (rank, chosen) != (1, 0):
        with pytest.raises(EarthMindError):
            session.compare(rank, name)
        return
    session.compare(rank, name).result(WAIT)
    model.compare(name, rank)


def keep(question, name, session, model):
    """An answer about pixels that no subject has."""
    answer = replace(ELSEWHERE, record=replace(ELSEWHERE.record, question=question))
    if model.subjects[name]["kind"] == "picture":
        with pytest.raises(EarthMindError):
            session.keep_answer(answer, name)
        return
    session.keep_answer(answer, name)
    model.keep(name, question)


def discard(rng, name, session, model):
    turns = model.subjects[name]["turns"]
    if not turns:
        return
    question = rng.choice(turns)[0]
    if name in model.asking or not question.startswith("Kept"):
        with pytest.raises(EarthMindError):
            session.discard(turn_id(session, name, question), name)
        return
    session.discard(turn_id(session, name, question), name)
    model.discard(name, question)


def change_area(rng, kind, name, session, model):
    subject = model.subjects[name]
    if kind == "restore" and subject["versions"]:
        version = rng.choice(list(subject["versions"]))
        session.restore(name, version)
        model.restore(name, version)
    elif kind == "rename":
        new = f"name {rng.randrange(10**9)}"
        if name in model.asking:
            with pytest.raises(EngineBusy):
                session.rename(name, new)
            return
        session.rename(name, new)
        model.rename(name, new)
    elif kind == "mark" and subject["kind"] != "picture":
        label = f"place {rng.randrange(10**9)}"
        session.mark(subject["box"], label, name)
        model.mark(name, label)
    elif kind == "unmark" and subject["marks"]:
        at = rng.randrange(len(subject["marks"]))
        session.unmark(session.subject(name).regions[at].id, name)
        model.unmark(name, subject["marks"][at])


def take(rng, name, session, model):
    """Taking an answer home changes nothing, and is refused where there is none."""
    subject = model.subjects[name]
    if not subject["turns"]:
        return
    asked, state = rng.choice(subject["turns"])[:2]
    turn = turn_id(session, name, asked)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.geojson"
        if state != "done" or subject["kind"] == "picture":
            with pytest.raises(PromptError):
                session.export(turn, path, name)
        else:
            session.export(turn, path, name)
        assert path.is_file() is (state == "done" and subject["kind"] != "picture")
    if state == "done":
        session.cite(turn, name)
        if name in model.asking:
            with pytest.raises(EngineBusy):
                session.replay(turn, name)
        else:
            # Made-up pixels are in no catalog; the picture is a file.
            same = session.replay(turn, name).result(WAIT).same
            assert same is (subject["kind"] == "picture")


def ask(rng, kind, name, session, model):
    subject = model.subjects[name]
    slow = kind == "slow" or (kind == "again" and rng.random() < 0.3)
    question = f"{'Slow' if slow else 'Quick'} {rng.randrange(10**9)}?"
    old = rng.choice(subject["turns"]) if kind == "again" and subject["turns"] else None
    before = subject["head"] if old is None else old[3]
    two = subject["before"] is not None if old is None else old[5]

    def put():
        if old is None:
            # What is marked lies anywhere on the globe, the chip elsewhere.
            return session.ask(question, name, regions=())
        return session.again(turn_id(session, name, old[0]), question, name)

    # Of two dates the later is of rank 0: with another one chosen they are not the same two.
    others = old is not None and two and subject["chosen"] != 0
    if name in model.asking or not model.ready(name) or others:
        with pytest.raises(EarthMindError):
            put()
        return
    task = put()
    model.ask(name, question, before, 0.5 if old is None else old[4], two, slow=slow)
    if not slow:
        task.result(WAIT)


def turn_id(session, name, question):
    asked = {turn.question: turn.id for turn in session.subject(name).turns}
    return None if question is None else asked[question]


@pytest.mark.parametrize("block", range(BLOCKS))
def test_sequences_end_where_the_model_ends(block, tmp_path, monkeypatch):
    made_up(monkeypatch)
    settings = Settings(home=tmp_path, device=None, catalog="sample")
    kinds = set()
    for number in range(SEQUENCES // BLOCKS):
        seed = block * 1000 + number
        rng, model = random.Random(seed), Model()
        with Session.open(f"s{seed}", engine=SlowEngine(), settings=settings) as session:
            for _ in range(rng.randrange(4, 28)):
                step(rng, session, model)
                kinds |= {each["kind"] for each in model.done}
            assert seen(session) == model.seen(), f"seed {seed}"
        for name in list(model.asking):  # closing stops what runs
            model.cancel(name)
        with Session.open(f"s{seed}", engine=SlowEngine(), settings=settings) as session:
            assert seen(session) == model.seen(), f"seed {seed}, after a restart"
            for _ in range(rng.randrange(len(model.done) + 1)):
                session.undo()
                model.undo()
            assert seen(session) == model.seen(), f"seed {seed}, undone after a restart"
    assert kinds == set(KINDS)


def test_the_model_notices_a_session_that_forgets(tmp_path, monkeypatch):
    made_up(monkeypatch)
    monkeypatch.setattr("earthmind_lab.session.keeper.commands.said", lambda state, *_: state)
    rng, model = random.Random(3), Model()

    def run(session):
        for _ in range(40):
            step(rng, session, model)
        assert seen(session) == model.seen()

    with Session(engine=SlowEngine()) as session, pytest.raises((AssertionError, LookupError)):
        run(session)
