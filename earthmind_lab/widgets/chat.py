"""ChatPanel: the talk about the active subject, in any notebook cell.

    panel = ChatPanel(session)
    panel

Turns are synced state, there again when a view opens later; the answer that is being written goes
out in batches of text with its offset, so that a view that missed one asks for the whole.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import traitlets

from earthmind_lab.as_python import as_python
from earthmind_lab.session.subject import Note, SaidTurn, Subject
from earthmind_lab.session.two_dates import dates_of
from earthmind_lab.widgets.base import SessionWidget
from earthmind_lab.widgets.protocol import FromBrowser, Snapshot, clean, tokens
from earthmind_lab.widgets.suggesting import suggestions_for
from earthmind_lab.widgets.talk_rows import TalkRows, mark_rows
from earthmind_lab.widgets.words import two_dates_words

if TYPE_CHECKING:
    from earthmind_lab.session import Session
    from earthmind_lab.session.commands import Command

TAKEN_BACK = "The question was taken back."
_LABELS = {
    "draw": "drawing {0}", "edit": "the edit of {0}", "delete": "deleting {0}",
    "select": "going to {0}", "open": "opening {0}", "search": "the search on {0}",
    "choose": "the choice of a pair on {0}", "compare": "the comparison of dates on {0}",
    "ask": "the question {1}",
    "restore": "going back to an earlier {0}", "rename": "the new name {0}",
    "mark": "marking a region of {0}", "unmark": "taking away a region of {0}",
    "branch": "going to another branch of {0}",
    "threshold": "another threshold for the masks of {0}",
    "keep": "keeping the answer to {1}", "discard": "removing an answer about {0}",
}  # fmt: skip


@dataclass
class _Live:
    """An answer that is being written."""

    ask: str
    question: str
    began: float
    """`time.monotonic` when it was first heard of."""
    text: str = ""
    sent: int = 0
    """Unicode characters that the browser has."""
    status: str = ""


class ChatPanel(SessionWidget):
    """Questions and answers about the active subject of a session.

    Args:
        session: Whose talk it shows; questions asked from Python appear too.
        on_show: Called with a turn whose features the user wants to see, on the panel's thread.
        suggestions: Questions to offer; None = those that fit what is loaded.
        alone: Nothing beside it tells why a search or a load failed, so it does.

    Raises:
        EarthMindError: The browser side was never built.
    """

    turns: traitlets.List[Any] = traitlets.List().tag(sync=True)
    """`talk_rows.talk_row` of each turn of the active subject's talk, oldest first."""
    about = traitlets.Dict().tag(sync=True)
    """``name``, ``kind``, ``busy``, ``ready`` (may be asked), ``hint`` (why not, what to do),
    ``dates`` (which two a question is about, empty for one),
    ``key`` (by which drafts are kept: a new name leaves it),
    ``shows`` (whether "show" leads anywhere), ``earlier`` (id of a turn to go back to where a talk
    has just begun anew, else empty)."""
    marks: traitlets.List[Any] = traitlets.List().tag(sync=True)
    """`talk_rows.mark_rows`: the regions that go into the next question."""
    suggestions: traitlets.List[Any] = traitlets.List().tag(sync=True)
    panel = traitlets.Unicode().tag(sync=True)
    """Names this panel in the page: a view of it that opens again has what was typed."""
    undo_label = traitlets.Unicode().tag(sync=True)
    """What Undo would take back; empty = nothing."""

    def __init__(
        self, session: Session, *, on_show: Callable[[SaidTurn], None] | None = None,
        suggestions: Sequence[str] | None = None, alone: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(session, "chat")
        self.on_show = on_show
        self._alone = alone
        self.panel = uuid.uuid4().hex
        self._offered = suggestions
        self.fault = clean("\n".join(getattr(session, "messages", ())))
        self._lives: dict[str, _Live] = {}
        self._shown: str | None = None
        self._dirty = True
        self._rows = TalkRows()
        self._active: str | None = session.active
        """Whose talk is shown."""
        self._faults: dict[str, str] = {}
        self._keys: dict[str, str] = {}
        """What stays of a subject that gets another name, in the subjects' order."""
        self._begin()

    # --- what happens ----------------------------------------------------------------------------

    def _note(self, note: Note) -> None:
        if note.kind == "token":
            live = self._live(note)
            if live is not None:
                live.text += clean(note.text)
                live.status = ""
        elif note.kind == "progress":
            self._progress(note)
        elif note.kind == "error":
            self._failed(note)
        else:
            self._dirty = True
        self._soon()

    def _failed(self, note: Note) -> None:
        """What went wrong with a subject that isn't shown is said when it is."""
        if note.subject is None or (self._alone and note.subject == self._active):
            self._fail(note.message)
        elif self._alone:
            self._faults[note.subject] = clean(note.message)

    def _progress(self, note: Note) -> None:
        live = self._live(note)
        if live is not None:
            live.status = clean(note.text)
            if live.ask == self._shown:
                self.send({"kind": "status", "ask": live.ask, "text": live.status})
        elif note.subject == self.session.active:
            self._say(note.text)

    def _message(self, message: FromBrowser) -> str | None:
        kind = message["kind"]
        if kind == "hello":
            self.send(self._snapshot())
            return None
        if kind == "stop":
            return "" if self.session.cancel() else "Nothing runs here."
        if kind == "undo":
            command = self.session.undo()
            self._dirty = True
            return "Nothing to undo." if command is None else f"Undone: {_label(command)}."
        if kind == "copy":
            code = as_python(self.session.subject(), message["turn"])
            self.send({"kind": "code", "turn": message["turn"], "text": clean(code)})
            return None
        if kind == "show":
            return self._show_turn(message["turn"])
        done = self._talk(message)
        if done:
            self._dirty = True
            return ""
        return f"A chat has nothing to {kind}."

    def _talk(self, message: FromBrowser) -> bool:
        """Commands that are the session's own; whether it was one."""
        kind = message["kind"]
        if kind == "ask":
            self.session.ask(message["text"])
        elif kind == "again":
            self.session.again(message["turn"], message["text"], without=message["without"])
        elif kind == "branch":
            self.session.branch(message["turn"])
        elif kind == "unmark":
            self.session.unmark(message["region"])
        else:
            return False
        return True

    def _show_turn(self, ident: str) -> str:
        turn = self.session.subject().turn(ident)
        if turn is None:
            return "That answer is no longer there."
        if self.on_show is None:
            return "There is no map beside this panel."
        self.on_show(turn)
        return ""

    # --- what the browser sees -------------------------------------------------------------------

    def _flush(self) -> None:
        subjects = self.session.subjects if self._dirty else None
        active = self.session.active
        self._write(active)
        if subjects is None:
            return
        self._dirty = False
        subject = subjects.get(active) if active is not None else None
        self._turn_to(active, subjects)
        self.turns = self._rows.of(subject)
        self.marks = mark_rows(subject)
        self.suggestions = self._suggest(subject)
        key = "" if active is None else self._keys.get(active, "")
        self.about = {**_about(subject), "shows": self.on_show is not None, "key": key}
        log = self.session.log
        self.undo_label = clean(_label(log[-1])) if log else ""
        self._settle(subjects)
        self._follow(active)

    def _turn_to(self, active: str | None, subjects: Any) -> None:
        """Each subject has a fault of its own; that of one that is gone goes with it."""
        self._know(list(subjects))
        if active != self._active:
            if self._active is not None and self.fault:
                self._faults[self._active] = self.fault
            self.fault = "" if active is None else self._faults.pop(active, "")
            self._active = active
        self._faults = {name: said for name, said in self._faults.items() if name in subjects}

    def _know(self, names: list[str]) -> None:
        """Give each subject a key; one that has taken another's place is the same, renamed."""
        was = list(self._keys)
        apart = [(a, b) for a, b in zip(was, names, strict=False) if a != b]
        if len(was) == len(names) and len(apart) == 1:
            ((old, new),) = apart
            self._keys[new] = self._keys.pop(old)
            if old in self._faults:
                self._faults[new] = self._faults.pop(old)
            if self._active == old:
                self._active = new
        self._keys = {name: self._keys.get(name) or uuid.uuid4().hex for name in names}

    def _suggest(self, subject: Subject | None) -> list[str]:
        offered = self._offered
        found = suggestions_for(self.session, subject) if offered is None else offered
        return [clean(each) for each in found]

    def _write(self, active: str | None) -> None:
        """Text that the browser lacks."""
        live = self._lives.get(active) if active is not None else None
        if live is None or live.ask != self._shown or len(live.text) == live.sent:
            return
        self.send(tokens(live.ask, live.text[live.sent :], live.sent))
        live.sent = len(live.text)

    def _settle(self, subjects: Any) -> None:
        """Forget what has ended, hear of what has begun."""
        for name, live in list(self._lives.items()):
            subject = subjects.get(name)
            command = self._asked(subject)
            if command is not None and command.task == live.ask:
                continue
            del self._lives[name]
            if live.ask == self._shown:
                self._shown = None
                self._end(live, subject)
        for name, subject in subjects.items():
            command = self._asked(subject)
            if command is not None and name not in self._lives:
                self._lives[name] = _begun(command)

    def _end(self, live: _Live, subject: Subject | None) -> None:
        """Its turn has been synced before: nothing flickers."""
        turn = subject.turn(live.ask) if subject else None
        state, message = (turn.state, turn.message) if turn else ("stopped", TAKEN_BACK)
        self.send({"kind": "ended", "ask": live.ask, "state": state, "message": clean(message)})

    def _follow(self, active: str | None) -> None:
        """Show the answer that is being written about the active subject, and no other."""
        live = self._lives.get(active) if active is not None else None
        ask = None if live is None else live.ask
        if ask == self._shown:
            return
        self._shown = ask
        if live is None or live.text:
            self.send(self._snapshot())
        else:
            self.send({"kind": "started", "ask": live.ask, "question": live.question})
            if live.status:
                self.send({"kind": "status", "ask": live.ask, "text": live.status})

    def _snapshot(self) -> Snapshot:
        live = next((live for live in self._lives.values() if live.ask == self._shown), None)
        if live is None:
            return {
                "kind": "snapshot", "ask": None, "question": "", "text": "", "status": "",
                "seconds": 0.0,
            }  # fmt: skip
        live.sent = len(live.text)
        return {
            "kind": "snapshot", "ask": live.ask, "question": live.question, "text": live.text,
            "status": live.status, "seconds": round(time.monotonic() - live.began, 2),
        }  # fmt: skip

    def _live(self, note: Note) -> _Live | None:
        """The answer that a note belongs to; its first note may come before any other word."""
        name = note.subject
        if name is None:
            return None
        live = self._lives.get(name)
        if live is None or live.ask != note.ask:
            command = self._asked(self.session.subjects.get(name))
            if command is None or command.task != note.ask:
                return None
            self._dirty = True
            self._flush()  # the one before it has ended, and may not have been said so yet
            live = self._lives.get(name)
        return live

    def _asked(self, subject: Subject | None) -> Command | None:
        """The question that runs for a subject."""
        if subject is None or subject.busy != "ask":
            return None
        found = (c for c in reversed(self.session.log) if c.subject == subject.name)
        return next((command for command in found if command.kind == "ask"), None)


def _begun(command: Command) -> _Live:
    question = clean(command.args.get("question", ""))
    return _Live(ask=command.task, question=question, began=time.monotonic())


def _label(command: Command) -> str:
    question = str(command.args.get("question", ""))
    short = question if len(question) <= 40 else question[:39] + "…"
    return _LABELS.get(command.kind, command.kind).format(f"“{command.subject}”", f"“{short}”")


def _about(subject: Subject | None) -> dict[str, Any]:
    """What the panel says of its subject, and what to do before anything can be asked."""
    if subject is None:
        hint = "Choose a place or draw an area first; questions are about what it shows."
        return {"name": "", "kind": "", "busy": "", "ready": False, "hint": hint, "earlier": "",
                "dates": ""}  # fmt: skip
    dates = dates_of(subject)
    said = "" if dates is None else f"Questions are about two dates: {two_dates_words(dates)}."
    hint = ""
    if subject.kind == "aoi" and subject.chosen is None:
        hint = (
            "Search for pairs of this area, then choose one: its pixels are what the model sees."
            if subject.pairs is None
            else "Choose a pair: its pixels are what the model sees."
        )
    return {
        "name": clean(subject.name), "kind": subject.kind, "busy": subject.busy or "",
        "ready": not hint, "hint": hint,
        "dates": said,
        "earlier": clean(subject.turns[-1].id) if subject.turns and not subject.talk else "",
    }  # fmt: skip
