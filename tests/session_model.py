"""What a session should hold after each command, without threads, files or code of its own."""

from __future__ import annotations

import copy

import numpy as np

from earthmind_lab.conversation import ask as ask_once
from tests.session_world import DATES, SIDE
from tests.stand_in_engine import StandInEngine, make_chip, square

PICTURE = np.zeros((8, 8, 3), np.uint8)
ELSEWHERE = ask_once(
    make_chip(16, water=square(SIDE, (8, 16, 8, 16))), "Segment the water.",
    engine=StandInEngine({"water": square(SIDE, (8, 16, 8, 16))}),
)  # fmt: skip
"""About pixels that no subject has."""


class Model:
    """What a session should do, in dicts: no threads, no files, no shared code.

    A subject is what `new` makes; a turn is ``[question, state, stale, question before it,
    threshold, whether it is about two dates]``, and no question is asked twice. Undo puts back a
    copy of the one subject that a command touched, or the one field where a question may have ended
    meanwhile.
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

    @staticmethod
    def new(kind, box):
        return {
            "box": box, "kind": kind, "pairs": None, "chosen": None, "before": None,
            "turns": [], "head": None, "marks": [], "version": 1, "versions": {},
        }  # fmt: skip

    def compare(self, name, rank):
        if self.subjects[name]["before"] != rank:
            self._remember("compare", name)
            self.subjects[name]["before"] = rank

    def create(self, name, kind, box):
        self._remember("draw" if kind == "aoi" else "open", name, active=True)
        self.subjects[name] = self.new(kind, box)
        self.active = name

    def edit(self, name, box):
        self.cancel(name)
        self._remember("edit", name)
        old = self.subjects[name]
        versions = self._all_versions(old)
        self.subjects[name] = {
            **self.new("aoi", box), "marks": list(old["marks"]), "version": max(versions) + 1,
            "versions": versions,
        }  # fmt: skip

    def restore(self, name, version):
        self.cancel(name)
        self._remember("restore", name)
        versions = self._all_versions(self.subjects[name])
        taken = versions.pop(version)
        self.subjects[name] = {**taken, "versions": versions}

    @staticmethod
    def _all_versions(subject):
        return {**subject["versions"], subject["version"]: {**subject, "versions": {}}}

    def rename(self, name, new):
        self.done.append({"kind": "rename", "name": new, "old": name, "active": []})
        self._rename(name, new)

    def _rename(self, name, new):
        self.subjects = {new if n == name else n: s for n, s in self.subjects.items()}
        self.active = new if self.active == name else self.active

    def mark(self, name, label):
        self._remember("mark", name)
        self.subjects[name]["marks"].append(label)

    def unmark(self, name, label):
        self._remember("unmark", name)
        self.subjects[name]["marks"].remove(label)

    def cut(self, name, question, threshold):
        last = self.done[-1] if self.done else {}
        if (last.get("kind"), last.get("name"), last.get("of")) != ("threshold", name, question):
            self._remember("threshold", name)
            self.done[-1]["of"] = question
        (turn,) = [turn for turn in self.subjects[name]["turns"] if turn[0] == question]
        turn[4] = threshold

    def keep(self, name, question):
        """An answer about other pixels than any that are loaded."""
        self._remember("keep", name)
        subject = self.subjects[name]
        subject["turns"].append([question, "done", True, subject["head"], 0.5, False])
        subject["head"] = question

    def discard(self, name, question):
        self._remember("discard", name)
        subject = self.subjects[name]
        (gone,) = [turn for turn in subject["turns"] if turn[0] == question]
        self._take_out(subject, gone)

    @staticmethod
    def _take_out(subject, gone):
        """What goes on from it goes on from the one before."""
        question, before = gone[0], gone[3]
        subject["turns"].remove(gone)
        for turn in subject["turns"]:
            turn[3] = before if turn[3] == question else turn[3]
        subject["head"] = before if subject["head"] == question else subject["head"]

    def branch(self, name, question):
        while after := [t[0] for t in self.subjects[name]["turns"] if t[3] == question]:
            if question is None:
                break
            question = after[-1]
        if question != self.subjects[name]["head"]:
            self._remember("branch", name)
            self.subjects[name]["head"] = question

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
        self.subjects[name].update(pairs=2, chosen=None, before=None)

    def choose(self, name, rank):
        if self.subjects[name]["chosen"] != rank:
            self._remember("choose", name)
            self._stale(name)
            self.subjects[name].update(chosen=rank, before=None)

    def ask(self, name, question, before, threshold, two, *, slow):
        self._remember("ask", name)
        self.subjects[name]["head"] = before
        if slow:
            self.asking[name] = question, before, threshold, two
        else:
            self._said(name, question, before, threshold, two, "done")

    def cancel(self, name):
        if name in self.asking:
            self._said(name, *self.asking.pop(name), "stopped")

    def _said(self, name, question, before, threshold, two, state):
        subject = self.subjects[name]
        before = self._past_kept(subject, before)
        subject["turns"].append([question, state, False, before, threshold, two])
        if subject["head"] == before:
            subject["head"] = question

    @staticmethod
    def _past_kept(subject, question):
        """The head, where nothing but kept answers leads from a question to it."""
        before, at = {turn[0]: turn[3] for turn in subject["turns"]}, subject["head"]
        while at != question and str(at).startswith("Kept"):
            at = before[at]
        return subject["head"] if at == question else question

    def undo(self):
        if not self.done:
            return
        last = self.done.pop()
        name = last["name"]
        fields = {"branch": "head", "mark": "marks", "unmark": "marks", "compare": "before"}
        field = fields.get(last["kind"])
        if field is not None:
            self.subjects[name][field] = last["was"][field]
        elif last["kind"] == "keep":
            subject = self.subjects[name]
            self._take_out(subject, subject["turns"][len(last["was"]["turns"])])
        elif last["kind"] == "threshold":
            was = {turn[0]: turn[4] for turn in last["was"]["turns"]}
            for turn in self.subjects[name]["turns"]:
                turn[4] = was[turn[0]] if turn[0] == last["of"] else turn[4]
        elif last["kind"] == "rename":
            self._rename(name, last["old"])
        elif last["kind"] != "select":
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
        return subject["kind"] != "aoi" or subject["chosen"] is not None

    def seen(self):
        shown = {
            name: {**s, "versions": sorted(s["versions"].items()), "busy": name in self.asking}
            for name, s in self.subjects.items()
        }
        return list(shown.items()), self.active, [each["kind"] for each in self.done]


def seen(session):
    """The same of a session."""
    shown = {}
    for name, subject in session.subjects.items():
        assert subject.name == name
        versions = [(each.version, {**of(each), "versions": {}}) for each in subject.versions]
        shown[name] = {**of(subject), "versions": versions, "busy": subject.busy == "ask"}
    return list(shown.items()), session.active, [command.kind for command in session.log]


def of(subject):
    if subject.pairs is not None:
        assert subject.query["dates"] == DATES
    if subject.aoi is not None:
        assert subject.aoi.name == subject.name
    asked = {None: None} | {turn.id: turn.question for turn in subject.turns}
    return {
        "box": None if subject.aoi is None else tuple(round(e, 6) for e in subject.aoi.bounds),
        "kind": subject.kind,
        "pairs": None if subject.pairs is None else len(subject.pairs),
        "chosen": subject.chosen,
        "before": subject.before,
        "turns": [
            [
                t.question,
                t.state,
                t.stale,
                asked[t.parent],
                t.options.get("mask_threshold", 0.5),
                t.before is not None,
            ]
            for t in subject.turns
        ],
        "head": asked[subject.head],
        "marks": [region.label for region in subject.regions],
        "version": subject.version,
    }
