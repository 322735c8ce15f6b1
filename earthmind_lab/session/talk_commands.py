"""Changes of the talk that hold at once: branches, masks cut anew, answers from elsewhere."""

from __future__ import annotations

from dataclasses import replace

from earthmind_lab.errors import PromptError
from earthmind_lab.session.commands import State, logged, with_subject
from earthmind_lab.session.subject import SaidTurn


def branch(state: State, name: str, ident: str | None) -> State:
    """Go to the branch of a turn, at its end; None = begin anew.

    Raises:
        PromptError: There is no such turn.
    """
    old = state.subjects[name]
    if ident is not None and old.turn(ident) is None:
        raise PromptError(f"There is no turn {ident!r} about {name!r}.")
    head = None if ident is None else old.leaf(ident)
    if head == old.head:
        return state
    after = with_subject(state, replace(old, head=head))
    return logged(after, "branch", name, {"turn": ident}, {"head": old.head})


def said_anew(state: State, name: str, turn: SaidTurn) -> State:
    """A turn whose masks were cut elsewhere; several times in a row are one command, for a slider.

    Raises:
        PromptError: It is no longer there.
    """
    old = state.subjects[name]
    if (was := old.turn(turn.id)) is None:
        raise PromptError(f"There is no turn {turn.id!r} about {name!r}.")
    after, args = with_subject(state, old.with_turn(turn)), {"turn": turn.id}
    last = state.log[-1] if state.log else None
    if last is not None and (last.kind, last.subject, last.args) == ("threshold", name, args):
        return after
    return logged(after, "threshold", name, args, {"said": was.to_dict()})


def keep(state: State, name: str, turn: SaidTurn) -> State:
    """An answer that came from elsewhere, as the newest turn of the talk; `Command.task` its id."""
    old = state.subjects[name]
    before, args = {"turn": turn.id}, {"question": turn.question}
    after = replace(old, turns=(*old.turns, replace(turn, parent=old.head)), head=turn.id)
    return logged(with_subject(state, after), "keep", name, args, before)


def discard(state: State, name: str, ident: str) -> State:
    """Take a kept answer out of the talk; what goes on from it goes on from the one before.

    Raises:
        PromptError: There is no such turn, or it was asked here: undo that.
    """
    old = state.subjects[name]
    turn = old.turn(ident)
    if turn is None or not turn.kept:
        raise PromptError(f"There is no kept answer {ident!r} about {name!r}.")
    before = {
        "kept": turn.to_dict(), "place": old.turns.index(turn), "head": old.head,
        "after": [each.id for each in old.turns if each.parent == ident],
    }  # fmt: skip
    return logged(with_subject(state, old.without(turn)), "discard", name, {"turn": ident}, before)
