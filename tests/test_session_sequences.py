"""500 random sequences of commands end where a simple model ends, before and after a restart."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest

from earthmind_lab.errors import EarthMindError
from earthmind_lab.session import Session
from earthmind_lab.settings import Settings
from tests.session_world import DATES, SlowEngine, made_up

SEQUENCES, BLOCKS = 500, 10
WAIT = 20
PICTURE = np.zeros((8, 8, 3), np.uint8)


class Model:
    """What a session should do, in dicts: no threads, no files, no shared code.

    A subject is ``{"box", "kind", "pairs", "chosen", "turns"}``; a turn is ``[question, state,
    stale]``. Undo puts back a copy of the one subject that a command touched.
    """

    def __init__(self):
        self.subjects, self.active, self.done, self.asking = {}, None, [], {}

    def _remember(self, kind, name, *, active=False):
        self.done.append(
            {
                "kind": kind, "name": name, "at": list(self.subjects).index(name)
                if name in self.subjects else None,
                "was": copy.deepcopy(self.subjects.get(name)),
                "active": [self.active] if active else [],
            }
        )  # fmt: skip

    def create(self, name, kind, box):
        self._remember("open" if kind == "picture" else "draw", name, active=True)
        self.subjects[name] = {
            "box": box, "kind": kind, "pairs": None, "chosen": None, "turns": [],
        }  # fmt: skip
        self.active = name

    def edit(self, name, box):
        self.cancel(name)
        self._remember("edit", name)
        self.subjects[name] = {
            "box": box, "kind": "aoi", "pairs": None, "chosen": None, "turns": [],
        }  # fmt: skip

    def delete(self, name):
        self.cancel(name)
        self._remember("delete", name, active=True)
        at = list(self.subjects).index(name)
        del self.subjects[name]
        if self.active == name:
            left = list(self.subjects)
            self.active = left[max(0, at - 1)] if left else None

    def select(self, name):
        if name != self.active:
            self._remember("select", name, active=True)
            self.active = name

    def search(self, name):
        self._remember("search", name)
        self._stale(name)
        self.subjects[name].update(pairs=2, chosen=None)

    def choose(self, name, rank):
        if self.subjects[name]["chosen"] != rank:
            self._remember("choose", name)
            self._stale(name)
            self.subjects[name]["chosen"] = rank

    def ask(self, name, question, *, slow):
        self._remember("ask", name)
        if slow:
            self.asking[name] = question
        else:
            self.subjects[name]["turns"].append([question, "done", False])

    def cancel(self, name):
        if name in self.asking:
            self.subjects[name]["turns"].append([self.asking.pop(name), "stopped", False])

    def undo(self):
        if not self.done:
            return
        last = self.done.pop()
        name = last["name"]
        if last["kind"] != "select":
            self.asking.pop(name, None)
            others = [(n, s) for n, s in self.subjects.items() if n != name]
            if last["was"] is not None:
                others.insert(last["at"], (name, last["was"]))
            self.subjects = dict(others)
        for active in last["active"]:
            self.active = active

    def _stale(self, name):
        for turn in self.subjects[name]["turns"]:
            turn[2] = True

    def ready(self, name):
        subject = self.subjects[name]
        return subject["kind"] == "picture" or subject["chosen"] is not None

    def seen(self):
        shown = {name: {**s, "busy": name in self.asking} for name, s in self.subjects.items()}
        return list(shown.items()), self.active, [each["kind"] for each in self.done]


def seen(session):
    """The same of a session."""
    shown = {}
    for name, subject in session.subjects.items():
        assert subject.name == name
        if subject.pairs is not None:
            assert subject.query["dates"] == DATES
        shown[name] = {
            "box": None if subject.aoi is None else tuple(round(e, 6) for e in subject.aoi.bounds),
            "kind": subject.kind,
            "pairs": None if subject.pairs is None else len(subject.pairs),
            "chosen": subject.chosen,
            "turns": [[t.question, t.state, t.stale] for t in subject.turns],
            "busy": subject.busy == "ask",
        }
    return list(shown.items()), session.active, [command.kind for command in session.log]


def random_box(rng):
    west, south = rng.randrange(-100, 100), rng.randrange(-60, 60)
    return (float(west), float(south), west + 0.125, south + 0.25)


def step(rng, session, model):
    """One command to both; what one refuses, the other refuses."""
    names = list(model.subjects)
    kind = rng.choices(
        ["draw", "picture", "edit", "delete", "select", "look", "ask", "slow", "cancel", "undo"],
        [3, 2, 3, 2, 3, 6, 4, 3, 2, 5],
    )[0]
    if kind == "undo":
        session.undo()
        model.undo()
    elif kind in ("draw", "picture") or not names:
        box = None if kind == "picture" else random_box(rng)
        new = session.open_picture(PICTURE) if kind == "picture" else session.draw(box)
        assert new not in names
        model.create(new, "picture" if kind == "picture" else "aoi", box)
    else:
        change(rng, kind, rng.choice(names), session, model)


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
    elif kind in ("ask", "slow"):
        question = f"{'Slow' if kind == 'slow' else 'Quick'} {rng.randrange(1000)}?"
        if name in model.asking or not model.ready(name):
            with pytest.raises(EarthMindError):
                session.ask(question, name)
            return
        task = session.ask(question, name)
        model.ask(name, question, slow=kind == "slow")
        if kind == "ask":
            task.result(WAIT)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_sequences_end_where_the_model_ends(block, tmp_path, monkeypatch):
    made_up(monkeypatch)
    settings = Settings(home=tmp_path, device=None, catalog="sample")
    kinds = set()
    for number in range(SEQUENCES // BLOCKS):
        seed = block * 1000 + number
        rng, model = random.Random(seed), Model()
        with Session.open(f"s{seed}", engine=SlowEngine(), settings=settings) as session:
            for _ in range(rng.randrange(4, 16)):
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
    assert kinds == {"draw", "open", "edit", "delete", "select", "search", "choose", "ask"}


def test_the_model_notices_a_session_that_forgets(tmp_path, monkeypatch):
    made_up(monkeypatch)
    monkeypatch.setattr("earthmind_lab.session.keeper.commands.said", lambda state, *_: state)
    rng, model = random.Random(3), Model()
    with Session(engine=SlowEngine()) as session:
        for _ in range(40):
            step(rng, session, model)
        assert seen(session) != model.seen()
