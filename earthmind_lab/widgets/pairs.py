"""PairTable: the ranked pairs of the active subject, what each costs, and the choice.

`PairTable(session)` as the last line of a cell shows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import traitlets

from earthmind_lab.session.subject import Note, Subject
from earthmind_lab.widgets.base import SessionWidget
from earthmind_lab.widgets.protocol import FromBrowser, clean
from earthmind_lab.widgets.rows import pair_row

if TYPE_CHECKING:
    from earthmind_lab.session import Session


class PairTable(SessionWidget):
    """Pairs of the active subject of a session, best first.

    Args:
        session: Whose pairs it shows; a search from Python appears too.

    Raises:
        EarthMindError: The browser side was never built.
    """

    pairs: traitlets.List[Any] = traitlets.List().tag(sync=True)
    """`rows.pair_row` of each."""
    chosen = traitlets.Int(allow_none=True, default_value=None).tag(sync=True)
    """Rank of the pair that is (to be) loaded."""
    about = traitlets.Dict().tag(sync=True)
    """``name``, ``kind``, ``busy``, ``loaded``, ``hint``, and what the search asked:
    ``dates``, ``place`` (it has dates of its own)."""

    def __init__(self, session: Session) -> None:
        super().__init__(session, "pairs")
        self._doing = ""
        self._begin()

    def _note(self, note: Note) -> None:
        if note.kind == "error":
            if note.subject in (None, self.session.active):
                self._fail(note.message)
        elif note.kind == "progress":
            active = self.session.subjects.get(note.subject or "")
            # What a question does is the chat's to say.
            if active is not None and note.subject == self.session.active and active.busy != "ask":
                self._doing = note.text
                self._say(note.text)
        elif note.kind == "changed":
            if note.what == "busy":
                self._doing = ""
            self._soon()

    def _message(self, message: FromBrowser) -> str | None:
        kind = message["kind"]
        if kind == "hello":
            return self._doing
        if kind == "search":
            self.session.search(
                dates=message["dates"] or None,
                max_gap=message["max_gap"] or None,
                max_cloud=message["max_cloud"],
            )
            return "Searching…"
        if kind == "choose":
            self.session.choose(message["rank"])
            return "Loading…"
        if kind in ("cancel", "stop"):
            return "Stopped." if self.session.cancel() else "Nothing runs here."
        if kind == "undo":
            return "Nothing to undo." if self.session.undo() is None else "Undone."
        return f"A table of pairs has nothing to {kind}."

    def _flush(self) -> None:
        active = self.session.active
        subject = self.session.subjects.get(active) if active is not None else None
        rows = () if subject is None or subject.pairs is None else subject.pairs
        self.chosen = None if subject is None else subject.chosen
        self.pairs = [pair_row(row, rank) for rank, row in enumerate(rows)]
        self.about = self._about(subject)

    def _about(self, subject: Subject | None) -> dict[str, Any]:
        if subject is None:
            return {
                "name": "", "kind": "", "busy": "", "loaded": False, "dates": "", "place": False,
                "hint": "Choose a place or draw an area first.",
            }  # fmt: skip
        return {
            "name": clean(subject.name),
            "kind": subject.kind,
            "busy": subject.busy or "",
            "loaded": subject.chosen is not None and self.session.chip(subject.name) is not None,
            "dates": clean((subject.query or {}).get("dates") or ""),
            "place": subject.place is not None,
            "hint": _hint(subject),
        }


def _hint(subject: Subject) -> str:
    """What to do next where there is no table."""
    if subject.kind == "picture":
        return "A plain picture needs no pair: ask about it."
    if subject.pairs is None and subject.place is not None:
        return "Find the pairs of this place; it comes with its own dates."
    if subject.pairs is None:
        return "Give the days that both scenes must lie in, then find pairs."
    return "" if subject.pairs else "No pair was found: other days, or looser limits."
