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
from typing import Any, Literal, TypeAlias, get_args

from earthmind_lab.aoi import AOI
from earthmind_lab.errors import AOIError
from earthmind_lab.recording import plain
from earthmind_lab.session.subject import MarkedRegion, PairRow, SaidTurn, Subject

Kind: TypeAlias = Literal[
    "draw", "edit", "restore", "rename", "delete", "select", "open", "mark", "unmark", "search",
    "choose", "compare", "ask", "branch", "threshold", "keep", "discard",
]  # fmt: skip
KINDS: tuple[Kind, ...] = get_args(Kind)
HARMLESS: frozenset[Kind] = frozenset(
    {"select", "mark", "unmark", "branch", "threshold", "keep", "discard"}
)
"""Taking these back needs no task stopped: none is about what they changed."""
LOG_LIMIT = 300
"""Commands that can be undone; a delete keeps its subject in here, so there must be an end."""
_FOUND = ("query", "pairs", "chosen", "before")


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
    with ``whole`` (the subject, or None); ``version`` (the one to take out again) with ``drop``
    (whether the present one was made by the command); ``name``; ``regions``; ``found`` (query,
    pairs, chosen, before) with ``fresh`` (turns that were not stale); ``compared`` (rank of the
    earlier pair, or None); ``turn`` (one to take away); ``head``; ``said`` (a turn as it was);
    ``kept`` (a turn to bring back) with ``place`` among the turns and ``after``, the ids of those
    that went on from it."""

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
    _check_name(state, name)
    before = {"active": state.active, "at": len(state.subjects), "whole": None}
    after = replace(state, subjects={**state.subjects, name: subject}, active=name)
    args = {key: subject.to_dict()[key] for key in ("aoi", "place", "picture", "files")}
    return logged(after, kind, name, args, before)


def edit(state: State, name: str, aoi: AOI) -> State:
    """Another geometry, as a version of its own; search, pair and talk stay with the old one.

    Raises:
        AOIError: The subject is a picture or files.
    """
    old = state.subjects[name]
    if old.kind != "aoi":
        raise AOIError(f"{old} has no area to edit.", change="draw(...)")
    before = {"version": old.version, "drop": True}
    after = with_subject(state, old.edited(aoi))
    return logged(after, "edit", name, {"aoi": plain(aoi.to_dict())}, before)


def restore(state: State, name: str, version: int) -> State:
    """An earlier geometry with its search, pair and talk; the present one becomes a version.

    Raises:
        AOIError: There is no such version, or it is the present one.
    """
    old = state.subjects[name]
    held = [each.version for each in old.versions]
    if version not in held:
        raise AOIError(
            f"{name!r} has no other version {version!r}.",
            found=f"version {old.version}" + (f", before it {held}" if held else " alone"),
        )
    before = {"version": old.version, "drop": False}
    after = with_subject(state, old.at_version(version))
    return logged(after, "restore", name, {"version": version}, before)


def rename(state: State, name: str, new: str) -> State:
    """Another name, for its versions too.

    Raises:
        AOIError: The name is taken, or no name.
    """
    if new == name:
        return state
    _check_name(state, new)
    return logged(_renamed(state, name, new), "rename", new, {"name": new}, {"name": name})


def mark(state: State, name: str, region: MarkedRegion) -> State:
    """A region that the next questions are about.

    Raises:
        AOIError: The subject is a picture.
    """
    old = state.subjects[name]
    if old.aoi is None:
        raise AOIError(f"{old} has no place on the ground.")
    args = {"region": dict(vars(region))}
    return _logged_regions(state, old, "mark", (*old.regions, region), args)


def unmark(state: State, name: str, ident: str | None) -> State:
    """Take a region away; None = all of them.

    Raises:
        AOIError: There is no such region.
    """
    old = state.subjects[name]
    if ident is not None and ident not in [region.id for region in old.regions]:
        found = ", ".join(region.id for region in old.regions) or "none"
        raise AOIError(f"{name!r} has no region {ident!r}.", found=found)
    if not old.regions:
        return state
    kept = tuple(r for r in old.regions if ident is not None and r.id != ident)
    return _logged_regions(state, old, "unmark", kept, {"region": ident})


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
    return logged(after, "delete", name, {}, before)


def select(state: State, name: str) -> State:
    """Make a subject the active one; nothing is logged where it is already."""
    if state.active == name:
        return state
    return logged(replace(state, active=name), "select", name, {}, {"active": state.active})


# --- commands that take time: what holds at once, and what they bring ----------------------------


def start_search(state: State, name: str, query: Mapping[str, Any]) -> State:
    """A search begins: the pairs before it, and what was chosen of them, make way."""
    old = state.subjects[name]
    new = replace(old, query=dict(query), pairs=None, chosen=None, before=None)
    return _looked(state, old, new, "search", dict(query))


def start_choose(state: State, name: str, rank: int) -> State:
    """A pair is to be loaded; turns about another pair become stale.

    The pair that is chosen already is only loaded again: nothing is logged.
    """
    old = state.subjects[name]
    if old.chosen == rank:
        return state
    return _looked(state, old, replace(old, chosen=rank, before=None), "choose", {"rank": rank})


def start_compare(state: State, name: str, rank: int | None) -> State:
    """The chosen pair is to be compared with an earlier one; None = with none any more.

    The pair that it is compared with already is only loaded again: nothing is logged.
    """
    old = state.subjects[name]
    if old.before == rank:
        return state
    after = with_subject(state, replace(old, before=rank))
    return logged(after, "compare", name, {"rank": rank}, {"compared": old.before})


def start_ask(state: State, name: str, args: Mapping[str, Any]) -> State:
    """A question was put, which goes on from ``parent``; its turn comes with `said`."""
    old = state.subjects[name]
    before = {"turn": f"ask-{state.next}", "head": old.head}
    after = with_subject(state, replace(old, head=args["parent"]))
    return logged(after, "ask", name, args, before)


def found(state: State, name: str, rows: tuple[PairRow, ...]) -> State:
    """A search's result."""
    return with_subject(state, replace(state.subjects[name], pairs=rows))


def said(state: State, name: str, turn: SaidTurn) -> State:
    """An ask's end: after what was kept meanwhile; who went to another branch stays there."""
    subject = state.subjects[name]
    turn = replace(turn, parent=subject.past_kept(turn.parent))
    head = turn.id if subject.head == turn.parent else subject.head
    return with_subject(state, replace(subject, turns=(*subject.turns, turn), head=head))


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
        before=kept.get("before"),  # a log of schema 2 has none
    )
    return with_subject(state, subject.with_stale(frozenset(before["fresh"]), stale=False))


def _restore_compared(state: State, name: str, before: Mapping[str, Any]) -> State:
    return with_subject(state, replace(state.subjects[name], before=before["compared"]))


def _restore_turn(state: State, name: str, before: Mapping[str, Any]) -> State:
    subject = state.subjects[name]
    turn = subject.turn(before["turn"])  # not there yet while it is asked
    return state if turn is None else with_subject(state, subject.without(turn))


def _restore_head(state: State, name: str, before: Mapping[str, Any]) -> State:
    return with_subject(state, replace(state.subjects[name], head=before["head"]))


def _restore_said(state: State, name: str, before: Mapping[str, Any]) -> State:
    return with_subject(state, state.subjects[name].with_turn(SaidTurn.from_dict(before["said"])))


def _restore_kept(state: State, name: str, before: Mapping[str, Any]) -> State:
    turn = SaidTurn.from_dict(before["kept"])
    kept = state.subjects[name].with_kept(turn, before["place"], before["after"])
    return with_subject(state, kept)


def _restore_version(state: State, name: str, before: Mapping[str, Any]) -> State:
    subject = state.subjects[name]
    return with_subject(state, subject.at_version(before["version"], drop=before["drop"]))


def _restore_regions(state: State, name: str, before: Mapping[str, Any]) -> State:
    regions = tuple(MarkedRegion(**region) for region in before["regions"])
    return with_subject(state, replace(state.subjects[name], regions=regions))


def _restore_name(state: State, name: str, before: Mapping[str, Any]) -> State:
    return _renamed(state, name, before["name"])


def _restore_active(state: State, _: str, before: Mapping[str, Any]) -> State:
    return replace(state, active=before["active"])


_RESTORE: dict[str, Callable[[State, str, Mapping[str, Any]], State]] = {
    "whole": _restore_whole,
    "version": _restore_version,
    "name": _restore_name,
    "regions": _restore_regions,
    "found": _restore_found,
    "compared": _restore_compared,
    "turn": _restore_turn,
    "kept": _restore_kept,
    "head": _restore_head,
    "said": _restore_said,
    "active": _restore_active,
}

# --- parts ---------------------------------------------------------------------------------------


def _check_name(state: State, name: str) -> None:
    if not name.strip() or len(name) > 80:
        raise AOIError(f"{name[:80]!r} is no name.", change="one of 1 to 80 characters")
    if name in state.subjects:
        raise AOIError(
            f"There is {name!r} already.", change=f"another name, or edit({name!r}, ...)"
        )


def _renamed(state: State, name: str, new: str) -> State:
    subjects = {
        new if key == name else key: subject.called(new) if key == name else subject
        for key, subject in state.subjects.items()
    }
    return replace(state, subjects=subjects, active=new if state.active == name else state.active)


def _logged_regions(
    state: State, old: Subject, kind: Literal["mark", "unmark"],
    regions: tuple[MarkedRegion, ...], args: Mapping[str, Any],
) -> State:  # fmt: skip
    before = {"regions": [dict(vars(region)) for region in old.regions]}
    return logged(with_subject(state, replace(old, regions=regions)), kind, old.name, args, before)


def _looked(
    state: State, old: Subject, new: Subject, kind: Literal["search", "choose"],
    args: Mapping[str, Any],
) -> State:  # fmt: skip
    fresh = frozenset(turn.id for turn in old.turns if not turn.stale)
    data = old.to_dict()
    before = {"found": {key: data[key] for key in _FOUND}, "fresh": sorted(fresh)}
    after = with_subject(state, new.with_stale(fresh, stale=True))
    return logged(after, kind, new.name, args, before)


def with_subject(state: State, subject: Subject) -> State:
    """The same with a subject in place of the one of its name."""
    return replace(state, subjects={**state.subjects, subject.name: subject})


def logged(
    state: State, kind: Kind, name: str, args: Mapping[str, Any], before: Mapping[str, Any]
) -> State:
    """The same with a command as the newest of the log; its fields are those of `Command`."""
    command = Command(id=state.next, kind=kind, subject=name, args=args, before=before)
    return replace(state, log=(*state.log, command)[-LOG_LIMIT:], next=state.next + 1)
