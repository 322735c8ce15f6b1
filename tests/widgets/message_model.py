"""What sessions and panels should do with a browser's messages, and the surroundings they need."""

from __future__ import annotations

import time

from earthmind_lab.errors import NoPairFound
from earthmind_lab.scene import Rejected
from tests.session_model import Model
from tests.session_world import SIDE, SlowEngine, found, make_scene

SLOW, EMPTY = "settlement", "flood"
"""Purposes of a search that lasts until it is stopped, and of one that finds nothing."""
NONSENSE = (
    None, 7, "ask", [], {}, {"kind": None}, {"kind": "no such"}, {"kind": ["ask"]},
    {"kind": "ask"}, {"kind": "ask", "text": None}, {"kind": "ask", "text": "  "},
    {"kind": "choose", "rank": -1}, {"kind": "choose", "rank": True}, {"kind": "choose", "rank": 9},
    {"kind": "select", "name": "nobody"}, {"kind": "delete", "name": "nobody"},
    {"kind": "rename", "name": "nobody", "new": "somebody"}, {"kind": "unmark", "region": "none"},
    {"kind": "restore", "name": "area 1", "version": 99}, {"kind": "cut", "turn": "none"},
    {"kind": "cut", "turn": "ask-1", "probability": 7.0}, {"kind": "branch", "turn": "none"},
    {"kind": "box", "west": 1, "south": 1, "east": 1, "north": 1, "replace": False},
    {"kind": "paste", "text": "no place", "replace": True}, {"kind": "place", "place": "nowhere"},
    {"kind": "piece", "upload": "none", "at": 0}, {"kind": "drop", "upload": "none"},
    {"kind": "take", "upload": "none", "features": []},
    {"kind": "again", "turn": "none", "text": "Quick?", "without": None},
    {"kind": "object", "turn": "none", "number": 0}, {"kind": "view", "replace": False},
    {"kind": "search", "dates": "soon"}, {"kind": "copy", "turn": "none"},
)  # fmt: skip
QUIET = (
    {"kind": "hello"}, {"kind": "looks", "on": True}, {"kind": "compare", "how": "blink"},
    {"kind": "fit"}, {"kind": "remove", "turn": "ask-1"}, {"kind": "squares"},
    {"kind": "raster", "sensor": "sar", "visible": False, "opacity": 2.5, "composite": "vv"},
    {"kind": "object", "turn": None, "number": 0}, {"kind": "probe", "mode": "values"},
    {"kind": "switch", "turn": "ask-1", "visible": True, "probability": True, "weights": True},
)  # fmt: skip
"""Sent to any panel, these change nothing that undo or a restart knows."""


class Engine(SlowEngine):
    """Marks water with each answer about a chip."""

    def _reply(self, prompt):
        shape = prompt.views[0].shape
        return self._made("Sure, the water.", ("water",) if shape == SIDE else (), shape)


def search(_, *, purpose=None, budget, **__):
    while purpose == SLOW:
        budget.check()
        time.sleep(0.001)
    if purpose == EMPTY:
        far = Rejected(optical=None, sar=make_scene("sar"), reason="Too far away in time.")
        raise NoPairFound("Nothing.", rejected=(far,))
    return found()


class Wanted(Model):
    """The same with searches that last, and what panels should show."""

    def __init__(self):
        super().__init__()
        self.looking = {}
        self.in_memory = set()
        """Questions that this kernel has heard the answer of."""

    def look(self, name):
        self.search(name)
        self.subjects[name]["pairs"] = None
        self.looking[name] = self.done[-1]

    def cancel(self, name):
        super().cancel(name)
        if name in self.looking:
            last = self.looking.pop(name)
            self.done = [each for each in self.done if each is not last]
            stale = {turn[0]: turn[2] for turn in last["was"]["turns"]}
            subject = self.subjects[name]
            subject.update({key: last["was"][key] for key in ("pairs", "chosen", "before")})
            for turn in subject["turns"]:
                turn[2] = stale.get(turn[0], turn[2])  # one may have been kept meanwhile

    def undo(self):
        if self.done and self.looking.get(self.done[-1]["name"]) is self.done[-1]:
            self.cancel(self.done[-1]["name"])
        else:
            super().undo()

    def busy(self, name):
        return "ask" if name in self.asking else "search" if name in self.looking else ""

    def restart(self):
        for name in [*self.asking, *self.looking]:
            self.cancel(name)
        self.in_memory = set()

    def talk(self, subject):
        turns, path, at = {turn[0]: turn for turn in subject["turns"]}, [], subject["head"]
        while at is not None:
            path.append(turns[at])
            at = turns[at][3]
        return path[::-1]

    def panels(self):
        """What `Side.panels` should be."""
        name = self.active or ""
        subject = self.subjects.get(self.active, self.new("", None))
        talk, busy = self.talk(subject), self.busy(self.active)
        aoi, placed = subject["kind"] == "aoi", subject["kind"] != "picture"
        areas = [
            (each, s["kind"], s["version"], sorted([*s["versions"], s["version"]]))
            for each, s in self.subjects.items()
        ]
        answers = [(turn[0], turn[4]) for turn in talk[::-1] if turn[1] == "done" and placed]
        return {
            "areas": (areas, name, subject["marks"]),
            "pairs": (name, subject["kind"], busy, subject["pairs"] or 0, subject["chosen"],
                      subject["before"]),
            "timeline": (name, busy, subject["chosen"]) if aoi else ("", "", None),
            "chat": (name, busy, [turn[:3] for turn in talk], subject["marks"], bool(self.done)),
            "writes": self.asking[name][0] if busy == "ask" else None,
            "layers": (name, busy, answers),
        }  # fmt: skip
