"""Random messages of a browser, sent to the panels of a session and told to a simple model.

Among them are doubles, stale ids, messages that make no sense, and kernels that start again.
"""

from __future__ import annotations

import random
import time
from dataclasses import replace

from earthmind_lab.widgets.protocol import BROWSER
from tests.session_model import ELSEWHERE, PICTURE, seen
from tests.session_world import BOX, CHIP, DATES
from tests.widgets.message_model import EMPTY, NONSENSE, QUIET, SLOW, Wanted
from tests.widgets.message_side import WAIT, Side

WEST, SOUTH, EAST, NORTH = CHIP.aoi.bounds


class Run:
    """One sequence: messages to the panels, the same to the model."""

    def __init__(self, seed, open_session):
        self.rng, self.model, self.open = random.Random(seed), Wanted(), open_session
        self.number = 0
        self.ids = ["ask-1", "region-1"]
        """That there were once."""
        self.kinds = set()
        """Of the commands that came of it."""
        self.begin()

    def begin(self):
        self.session = self.open()
        self.side = Side(self.session)

    def end(self):
        self.side.close()
        self.session.close()

    def check(self, what):
        assert seen(self.session) == self.model.seen(), what
        wanted, end = self.model.panels(), time.monotonic() + WAIT
        while (shown := self.side.panels()) != wanted and time.monotonic() < end:
            time.sleep(0.002)
        assert shown == wanted, what

    def go(self):
        """A few messages, or many."""
        way = WAY if self.rng.random() < 0.7 else ()
        for kind in (*way, *self.rng.choices(*STEPS, k=self.rng.randrange(4, 30))):
            self.do(kind)

    def do(self, kind):
        getattr(self, f"do_{kind}")()
        self.side.idle(self.model)
        self.kinds |= {each["kind"] for each in self.model.done}

    def fresh(self, stem):
        self.number += 1
        return f"{stem} {self.number}?"

    @property
    def active(self):
        """(name, the model's subject) that messages without a name are about; else ("", None)."""
        name = self.model.active or ""
        return name, self.model.subjects.get(name)

    def box(self):
        """Around the chip, whatever its size."""
        more = [self.rng.randrange(1, 99) / 1e4 for _ in range(2)]
        corners = (WEST - more[0], SOUTH - 0.001, EAST + 0.001, NORTH + more[1])
        return tuple(round(each, 6) for each in corners)

    def turn(self):
        """An id as a view may send it: of what is there, or of what is no more."""
        ids = [each.id for each in self.session.subject().turns] if self.active[1] else []
        self.ids += [each for each in ids if each not in self.ids]
        return self.rng.choice(ids if ids and self.rng.random() < 0.85 else self.ids)

    def question(self, turn):
        """Of a turn of the active subject; None = it has none of this id."""
        said = self.session.subject().turn(turn) if self.active[1] else None
        return None if said is None else said.question

    # --- areas ---

    def do_box(self):
        box, replace = self.box(), self.rng.random() < 0.3
        name, subject = self.active
        corners = dict(zip(("west", "south", "east", "north"), box, strict=True))
        held = set(self.session.subjects)
        self.side.tell(self.side.picker.panel, {"kind": "box", **corners, "replace": replace})
        if not replace:
            (new,) = set(self.session.subjects) - held
            self.model.create(new, "aoi", box)
        elif subject is not None and subject["kind"] == "aoi":
            self.model.edit(name, box)

    def do_draw(self):
        box, held = self.box(), set(self.session.subjects)
        name, subject = self.active
        self.side.draws("created", geometry(box))
        if self.side.picker.mode == "area":
            (new,) = set(self.session.subjects) - held
            self.model.create(new, "aoi", box)
        elif subject is not None and subject["kind"] != "picture" and subject["box"][2] > WEST:
            numbers = range(1, len(subject["marks"]) + 2)
            label = next(f"region {n}" for n in numbers if f"region {n}" not in subject["marks"])
            self.model.mark(name, label)

    def do_mark(self):
        """As a person does it, with the way back."""
        for mode in ("region", self.rng.choice(["area", "area", "region"])):
            self.side.tell(self.side.picker.panel, {"kind": "mode", "mode": mode})
            if mode == "region":
                self.do_draw()

    def do_edited(self):
        name, box = self.name(), self.box()
        self.side.draws("edited", geometry(box), name)
        if self.model.subjects.get(name, {}).get("kind") == "aoi":
            self.model.edit(name, box)

    def do_picture(self):
        self.model.create(self.session.open_picture(PICTURE), "picture", None)

    def do_files(self):
        task = self.session.open_files(__file__)
        task.result(WAIT)
        self.model.create(task.subject, "files", BOX)

    def do_place(self):
        names = [n for n, each in self.session.subjects.items() if each.place == "spain"]
        self.side.tell(self.side.picker.panel, {"kind": "place", "place": "spain"})
        if names:
            self.model.select(names[0])
        else:
            new = self.session.active
            self.model.create(new, "aoi", self.session.subject(new).aoi.bounds)
            self.model.done[-1]["kind"] = "open"

    def name(self):
        return self.rng.choice([*self.model.subjects, "area 1", "area 2", "nobody"])

    def do_select(self):
        name = self.name()
        message = {"kind": "select", "name": name}
        self.side.tell(self.side.picker.panel, *self.once_or_twice(message))
        if name in self.model.subjects:
            self.model.select(name)

    def do_delete(self):
        name = self.name()
        if self.rng.random() < 0.5:
            self.side.draws("deleted", geometry(self.box()), name)
        else:
            message = {"kind": "delete", "name": name}
            self.side.tell(self.side.picker.panel, *self.once_or_twice(message))
        if name in self.model.subjects:
            self.model.delete(name)

    def do_rename(self):
        name, new = self.name(), self.rng.choice(["taken", f"name {self.rng.randrange(99)}", " "])
        message = {"kind": "rename", "name": name, "new": f" {new} "}
        self.side.tell(self.side.picker.panel, *self.once_or_twice(message))
        held = self.model.subjects
        if name in held and new.strip() and new not in held and not self.model.busy(name):
            self.model.rename(name, new)

    def do_restore(self):
        held = [(n, v) for n, s in self.model.subjects.items() for v in s["versions"]]
        name, version = self.rng.choice([*held, (self.name(), self.rng.randrange(1, 4))])
        message = {"kind": "restore", "name": name, "version": version}
        self.side.tell(self.side.picker.panel, message)
        if version in self.model.subjects.get(name, {}).get("versions", ()):
            self.model.restore(name, version)

    def do_unmark(self):
        regions = self.session.subject().regions if self.active[1] else ()
        self.ids += [each.id for each in regions]
        region = self.rng.choice([*(each.id for each in regions), self.rng.choice(self.ids)])
        label = {each.id: each.label for each in regions}.get(region)
        panel = self.rng.choice([self.side.picker.panel, self.side.chat])
        self.side.tell(panel, *self.once_or_twice({"kind": "unmark", "region": region}))
        if label is not None:
            self.model.unmark(self.active[0], label)

    # --- pairs ---

    def do_search(self):
        name, subject = self.active
        purpose = self.rng.choice([None, None, None, SLOW, EMPTY])
        asked = dict.fromkeys(BROWSER["search"]) | {"dates": DATES, "purpose": purpose}
        self.side.tell(self.side.table, {"kind": "search", **asked})
        if subject is None or subject["kind"] != "aoi" or self.model.busy(name):
            return
        if purpose == SLOW:
            self.model.look(name)
        elif purpose is None:
            self.model.search(name)

    def do_pick(self):
        name, subject = self.active
        query = self.session.subject().query if subject else None
        how = self.rng.choice(["pin", "exclude", "free"])
        panel = self.rng.choice([self.side.table, self.side.timeline])
        missed = self.session.missed() if subject else None
        self.side.tell(panel, {"kind": "pick", "scene": "sar-2", "how": how})
        asked = missed.query if missed else query
        if asked is None or self.model.busy(name) or subject["kind"] != "aoi":
            return
        if asked.get("purpose") == SLOW:
            self.model.look(name)
        elif asked.get("purpose") != EMPTY:
            self.model.search(name)

    def do_choose(self):
        name, subject = self.active
        rank = self.rng.randrange(3)
        panel = self.rng.choice([self.side.table, self.side.timeline])
        self.side.tell(panel, *self.once_or_twice({"kind": "choose", "rank": rank}))
        if subject is not None and rank < (subject["pairs"] or 0) and not self.model.busy(name):
            self.model.choose(name, rank)

    def do_dates(self):
        name, subject = self.active
        rank = self.rng.choice([None, 0, 1, 1, 1, 2])
        self.side.tell(self.side.table, *self.once_or_twice({"kind": "dates", "rank": rank}))
        # Rank 1 is the earlier date: it is compared with by 0, and with nothing itself.
        fits = subject is not None and (rank is None or (rank, subject["chosen"]) == (1, 0))
        if fits and not self.model.busy(name):
            self.model.compare(name, rank)

    def do_reload(self):
        self.side.tell(self.side.layers.panel, {"kind": "reload"})

    # --- talk ---

    def do_ask(self):
        name, subject = self.active
        slow = self.rng.random() < 0.3
        question = self.fresh("Slow" if slow else "Quick")
        twice = slow and self.rng.random() < 0.3
        message = {"kind": "ask", "text": question}
        self.side.tell(self.side.chat, *[message] * (2 if twice else 1))
        if subject is not None and self.model.ready(name) and not self.model.busy(name):
            two = subject["before"] is not None
            self.model.ask(name, question, subject["head"], 0.5, two, slow=slow)
            self.model.in_memory.add(question)

    def do_again(self):
        name, subject = self.active
        turn = self.turn()
        slow = self.rng.random() < 0.2
        question, old = self.fresh("Slow" if slow else "Quick"), self.question(turn)
        message = {"kind": "again", "turn": turn, "text": question, "without": None}
        self.side.tell(self.side.chat, message)
        if old is not None and self.model.ready(name) and not self.model.busy(name):
            (said,) = [each for each in subject["turns"] if each[0] == old]
            two = said[5]
            if two and subject["chosen"] != 0:
                return  # with another pair chosen they are not the same two
            self.model.ask(name, question, said[3], said[4], two, slow=slow)
            self.model.in_memory.add(question)

    def do_keep(self):
        """What `EarthMap.add` does."""
        name, subject = self.active
        if subject is None or subject["kind"] == "picture":
            return
        question = self.fresh("Kept")
        self.session.keep_answer(
            replace(ELSEWHERE, record=replace(ELSEWHERE.record, question=question)), name
        )
        self.model.keep(name, question)
        self.model.in_memory.add(question)

    def do_remove(self):
        name, subject = self.active
        kept = [each[0] for each in subject["turns"]] if subject else []
        question = self.rng.choice(kept) if kept and self.rng.random() < 0.8 else None
        turn = (
            next((t.id for t in self.session.subject().turns if t.question == question), "ask-1")
            if subject
            else "ask-1"
        )
        message = {"kind": "remove", "turn": turn}
        self.side.tell(self.side.layers.panel, *self.once_or_twice(message))
        if question is not None and question.startswith("Kept") and not self.model.busy(name):
            self.model.discard(name, question)

    def do_branch(self):
        turn = self.rng.choice([None, self.turn()])
        question = self.question(turn)
        self.side.tell(self.side.chat, *self.once_or_twice({"kind": "branch", "turn": turn}))
        if self.active[1] is not None and (turn is None or question is not None):
            self.model.branch(self.active[0], question)

    def do_look_at(self):
        kind = self.rng.choice(["show", "copy"])
        self.side.tell(self.side.chat, {"kind": kind, "turn": self.turn()})

    def do_cut(self):
        turn, threshold = self.turn(), self.rng.choice([0.3, 0.6, 0.9])
        question = self.question(turn)
        message = {"kind": "cut", "turn": turn, "probability": threshold}
        self.side.tell(self.side.layers.panel, *self.once_or_twice(message))
        name, subject = self.active
        done = [turn[0] for turn in subject["turns"] if turn[1] == "done"] if subject else []
        if question in done and question in self.model.in_memory:
            self.model.cut(name, question, threshold)

    # --- all ---

    def do_stop(self):
        panel, kind = self.rng.choice(
            [(self.side.chat, "stop"), (self.side.table, "cancel"), (self.side.timeline, "cancel")]
        )
        self.side.tell(panel, *self.once_or_twice({"kind": kind}))
        self.model.cancel(self.active[0])

    def do_undo(self):
        panel = self.rng.choice([self.side.chat, self.side.picker.panel, self.side.table])
        messages = self.once_or_twice({"kind": "undo"})
        self.side.tell(panel, *messages)
        for _ in messages:
            self.model.undo()

    def do_nonsense(self):
        self.side.tell(self.rng.choice(self.side.all), self.rng.choice([*NONSENSE, *QUIET]))

    def do_restart(self):
        self.end()
        self.model.restart()
        self.begin()

    def once_or_twice(self, message):
        """A second click may come before the first was heard."""
        return [message] * self.rng.choice([1, 1, 1, 2])


STEPS = list(zip(*{
    "box": 2, "draw": 4, "mark": 5, "edited": 4, "picture": 1, "files": 1, "place": 1, "select": 4,
    "delete": 2, "rename": 2, "restore": 6, "unmark": 4, "search": 4, "pick": 2, "choose": 6,
    "dates": 3, "reload": 1, "ask": 7, "again": 5, "keep": 4, "remove": 4, "branch": 5,
    "look_at": 1, "cut": 7, "stop": 4, "undo": 6, "nonsense": 6, "restart": 1,
}.items(), strict=True))  # fmt: skip
"""Kinds of messages, and how often each comes."""
WAY = ("box", "search", "choose", "dates", "mark", "ask", "ask", "cut")
"""On which there is something that the others are about."""


def geometry(box):
    west, south, east, north = box
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}
