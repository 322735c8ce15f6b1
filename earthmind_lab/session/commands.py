"""Commands of a session: each maps a state to the next one and leaves what undo puts back.

No threads, no files, no pixels: values only, so that a log can be written and read again.

>>> square = AOI.from_bbox(0, 0, 0.1, 0.1, name="field")
>>> state = add(State(), Subject(name="field", kind="aoi", aoi=square))
>>> [command.kind for command in state.log], state.active
(['draw'], 'field')
>>> undo(state, state.log[-1]).subjects
{}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from earthmind_lab.aoi import AOI
from earthmind_lab.errors import AOIError
from earthmind_lab.recording import plain
from earthmind_lab.session.subject import PairRow, SaidTurn, Subject

Kind: TypeAlias = Literal["draw", "edit", "delete", "select", "open", "search", "choose", "ask"]
KINDS: tuple[Kind, ...] = ("draw", "edit", "delete", "select", "open", "search", "choose", "ask")
LOG_LIMIT = 300
"""Commands that can be undone; a delete keeps its subject in here, so there must be an end."""
_FOUND = ("query", "pairs", "chosen")


@dataclass(frozen=True, kw_only=True)
class Command:
    """One thing that was done, as plain data."""

    id: int
    """Counts up over the life of a session, restarts included."""
    kind: Kind
    subject: str
    args: Mapping[str, Any]
    """What was asked for."""
    before: Mapping[str, Any]
    """What undo puts back, only what the command touched: ``active``; ``at`` (place in the order)
    with ``whole`` (the subject, or None); ``found`` (query, pairs, chosen) with ``fresh`` (turns
    that were not stale); ``turn`` (one to take away)."""

    @property
    def task(self) -> str:
        """Id of the task, the turn and the notes that belong to it."""
        return f"{self.kind}-{self.id}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**vars(self), "args": dict(self.args), "before": dict(self.before)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Command:
        """What `to_dict` gave.

        Raises:
            ValueError: No such kind of command.
        """
        if data["kind"] not in KINDS:
            raise ValueError(f"no command {data['kind']!r}")
        return cls(**data)


@dataclass(frozen=True, kw_only=True)
class State:
    """All that a session is; a new one for each change."""

    subjects: Mapping[str, Subject] = field(default_factory=dict)
    """By name, in the order in which they came."""
    active: str | None = None
    log: tuple[Command, ...] = ()
    """What can be undone, oldest first."""
    next: int = 1
    """Id of the next command."""


# --- commands at once ----------------------------------------------------------------------------


def add(state: State, subject: Subject, kind: Literal["draw", "open"] = "draw") -> State:
    """A new subject, which becomes the active one.

    Args:
        state: Before.
        subject: Its name must be free.
        kind: Drawn, or opened from what is there.

    Raises:
        AOIError: The name is taken, or no name.
    """
    name = subject.name
    if not name.strip() or len(name) > 80:
        raise AOIError(f"{name[:80]!r} is no name.", change="one of 1 to 80 characters")
    if name in state.subjects:
        raise AOIError(
            f"There is {name!r} already.", change=f"another name, or edit({name!r}, ...)"
        )
    before = {"active": state.active, "at": len(state.subjects), "whole": None}
    after = replace(state, subjects={**state.subjects, name: subject}, active=name)
    args = {key: subject.to_dict()[key] for key in ("aoi", "place", "picture")}
    return _logged(after, kind, name, args, before)


def edit(state: State, name: str, aoi: AOI) -> State:
    """Another geometry; search, pair and turns belonged to the old one and go.

    Raises:
        AOIError: The subject is a picture.
    """
    old = state.subjects[name]
    if old.kind != "aoi":
        raise AOIError(f"{name!r} is a picture: it has no area to edit.", change="draw(...)")
    new = Subject(name=name, kind="aoi", aoi=aoi, place=old.place)
    after = replace(state, subjects={**state.subjects, name: new})
    before = {"at": list(state.subjects).index(name), "whole": old.to_dict()}
    return _logged(after, "edit", name, {"aoi": plain(aoi.to_dict())}, before)


def delete(state: State, name: str) -> State:
    """Take a subject away; its neighbour becomes active where it was."""
    names = list(state.subjects)
    at = names.index(name)
    before = {"active": state.active, "at": at, "whole": state.subjects[name].to_dict()}
    names.remove(name)
    active = state.active
    if active == name:
        active = names[max(0, at - 1)] if names else None
    after = replace(state, subjects={n: state.subjects[n] for n in names}, active=active)
    return _logged(after, "delete", name, {}, before)


def select(state: State, name: str) -> State:
    """Make a subject the active one; nothing is logged where it is already."""
    if state.active == name:
        return state
    return _logged(replace(state, active=name), "select", name, {}, {"active": state.active})


# --- commands that take time: what holds at once, and what they bring ----------------------------


def start_search(state: State, name: str, query: Mapping[str, Any]) -> State:
    """A search begins: the pairs before it, and what was chosen of them, make way."""
    old = state.subjects[name]
    new = replace(old, query=dict(query), pairs=None, chosen=None)
    return _looked(state, old, new, "search", dict(query))


def start_choose(state: State, name: str, rank: int) -> State:
    """A pair is to be loaded; turns about another pair become stale.

    The pair that is chosen already is only loaded again: nothing is logged.
    """
    old = state.subjects[name]
    if old.chosen == rank:
        return state
    return _looked(state, old, replace(old, chosen=rank), "choose", {"rank": rank})


def start_ask(state: State, name: str, args: Mapping[str, Any]) -> State:
    """A question was put; its turn comes with `said`."""
    return _logged(state, "ask", name, args, {"turn": f"ask-{state.next}"})


def found(state: State, name: str, rows: tuple[PairRow, ...]) -> State:
    """A search's result."""
    return _with(state, replace(state.subjects[name], pairs=rows))


def said(state: State, name: str, turn: SaidTurn) -> State:
    """An ask's end, whatever it was."""
    subject = state.subjects[name]
    return _with(state, replace(subject, turns=(*subject.turns, turn)))


# --- undo ----------------------------------------------------------------------------------------


def undo(state: State, command: Command) -> State:
    """The state without a command of the log, which nothing after it on its subject built on."""
    before = command.before
    log = tuple(each for each in state.log if each.id != command.id)
    state = replace(state, log=log)
    for key, restore in _RESTORE.items():
        if key in before:
            state = restore(state, command.subject, before)
    return state


def _restore_whole(state: State, name: str, before: Mapping[str, Any]) -> State:
    others = [(n, subject) for n, subject in state.subjects.items() if n != name]
    if before["whole"] is not None:
        others.insert(int(before["at"]), (name, Subject.from_dict(before["whole"])))
    return replace(state, subjects=dict(others))


def _restore_found(state: State, name: str, before: Mapping[str, Any]) -> State:
    kept = before["found"]
    pairs = kept["pairs"]
    subject = replace(
        state.subjects[name],
        query=kept["query"],
        pairs=None if pairs is None else tuple(PairRow.from_dict(row) for row in pairs),
        chosen=kept["chosen"],
    )
    return _with(state, subject.with_stale(frozenset(before["fresh"]), stale=False))


def _restore_turn(state: State, name: str, before: Mapping[str, Any]) -> State:
    subject = state.subjects[name]
    turns = tuple(turn for turn in subject.turns if turn.id != before["turn"])
    return _with(state, replace(subject, turns=turns))


def _restore_active(state: State, _: str, before: Mapping[str, Any]) -> State:
    return replace(state, active=before["active"])


_RESTORE: dict[str, Callable[[State, str, Mapping[str, Any]], State]] = {
    "whole": _restore_whole,
    "found": _restore_found,
    "turn": _restore_turn,
    "active": _restore_active,
}


def _looked(
    state: State, old: Subject, new: Subject, kind: Literal["search", "choose"],
    args: Mapping[str, Any],
) -> State:  # fmt: skip
    fresh = frozenset(turn.id for turn in old.turns if not turn.stale)
    data = old.to_dict()
    before = {"found": {key: data[key] for key in _FOUND}, "fresh": sorted(fresh)}
    return _logged(_with(state, new.with_stale(fresh, stale=True)), kind, new.name, args, before)


def _with(state: State, subject: Subject) -> State:
    return replace(state, subjects={**state.subjects, subject.name: subject})


def _logged(
    state: State, kind: Kind, name: str, args: Mapping[str, Any], before: Mapping[str, Any]
) -> State:
    command = Command(id=state.next, kind=kind, subject=name, args=args, before=before)
    return replace(state, log=(*state.log, command)[-LOG_LIMIT:], next=state.next + 1)
