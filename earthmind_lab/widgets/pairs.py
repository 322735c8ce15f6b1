"""PairTable: the ranked pairs of the active subject, what each costs, the choice, the user's own.

`PairTable(session)` as the last line of a cell shows it.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import traitlets

from earthmind_lab.errors import SearchError
from earthmind_lab.session.subject import Note, Subject
from earthmind_lab.widgets.base import SessionWidget
from earthmind_lab.widgets.pair_actions import act
from earthmind_lab.widgets.pair_offers import offers
from earthmind_lab.widgets.pair_rows import (
    AS_BEFORE,
    choice_rows,
    compared_words,
    pair_row,
    progress_row,
    terms_of,
)
from earthmind_lab.widgets.protocol import FromBrowser, clean
from earthmind_lab.widgets.quicklooks import QuickLooks

if TYPE_CHECKING:
    from earthmind_lab.session import Session

EVERY_S = 1.0
"""How often it says how far a search or a load is."""
LOOKED_AT = 30
"""Pairs, the best ones, whose scenes are shown as pictures."""
_HERE = ("dates", "around", "catalog")
"""Terms that decide which scenes there are: with others, pinned ids would be unknown."""


class PairTable(SessionWidget):
    """Pairs of the active subject of a session, best first.

    Args:
        session: Whose pairs it shows; a search from Python appears too.

    Raises:
        EarthMindError: The browser side was never built.
    """

    pairs: traitlets.List[Any] = traitlets.List().tag(sync=True)
    """`pair_rows.pair_row` of each."""
    chosen = traitlets.Int(allow_none=True, default_value=None).tag(sync=True)
    """Rank of the pair that is (to be) loaded."""
    before = traitlets.Int(allow_none=True, default_value=None).tag(sync=True)
    """Rank of the earlier pair that it is compared with."""
    about = traitlets.Dict().tag(sync=True)
    """``name``, ``kind``, ``busy``, ``loaded``, ``hint``, ``place`` (it has dates of its own);
    ``compared`` (which two dates are, or how to); what the last search asked: ``terms``,
    ``choices``; ``looks``: whether the quick-looks are ``on``, ``off``, or there are ``none``, and
    ``network``: whether they are read over it."""
    offers = traitlets.Dict().tag(sync=True)
    """`pair_offers.offers`."""
    looks = traitlets.Dict().tag(sync=True)
    """Quick-looks by id of their scene, as data URLs; empty = it can't be shown."""

    def __init__(self, session: Session) -> None:
        super().__init__(session, "pairs")
        self._doing = ""
        self._faults: dict[str, str] = {}
        self._shows: bool | None = None
        self._looked: tuple[str, dict[str, Any]] = "", {}
        self._rows: tuple[object, list[dict[str, Any]]] = (None, [])
        self._quick = _quick_looks(self)
        self.offers = offers()
        self._begin()

    def close(self) -> None:
        """As every panel; the quick-looks end too."""
        if hasattr(self, "_quick"):
            self._quick.close()
        super().close()

    def _note(self, note: Note) -> None:
        active = self.session.active
        if note.kind == "error":
            self._keep_fault(note.subject or active, note.message)
        elif note.kind == "progress":
            subject = self.session.subjects.get(note.subject or "")
            # What a question does is the chat's to say.
            if subject and note.subject == active and subject.busy in ("search", "load"):
                self._doing = note.text
                self._say(note.text)
        elif note.kind == "changed" and note.what == "busy":
            self._doing = ""
            subject = self.session.subjects.get(note.subject or "")
            if subject is not None and subject.busy is not None:
                self._faults.pop(subject.name, None)  # it is tried again
        self._soon()

    def _fail(self, text: str) -> None:
        """A command of this panel was refused: that is the active subject's."""
        self._keep_fault(self.session.active, text)
        super()._fail(text)

    def _keep_fault(self, name: str | None, text: str) -> None:
        """An error waits until its subject is looked at."""
        held = self.session.subjects
        self._faults = {each: said for each, said in self._faults.items() if each in held}
        self._faults[name or ""] = clean(text)

    def _message(self, message: FromBrowser) -> str | None:
        kind = message["kind"]
        if kind == "hello":
            return self._doing
        for name in (self.session.active or "", ""):
            self._faults.pop(name, None)
        if kind == "search":
            return self._search(message)
        if kind == "looks":
            self._shows = message["on"]
            return ""
        said = act(self.session, message)
        return f"A table of pairs has nothing to {kind}." if said is None else said

    def _search(self, message: FromBrowser) -> str:
        subject = self.session.subject()
        before = self._query(subject) or {}
        asked: dict[str, Any] = {k: v or None for k, v in message.items() if k != "kind"}
        asked["max_cloud"] = message["max_cloud"]  # 0 is one
        same = all((message[key] or "") == terms_of(before)[key] for key in _HERE)
        if asked["catalog"] == AS_BEFORE:
            asked["catalog"] = before.get("catalog")
        if same:
            asked |= {key: before.get(key) for key in ("pin", "exclude")}
        if subject.kind == "aoi" and not (subject.place or asked["dates"] or asked["around"]):
            raise SearchError(
                f"There are no days to search for {subject.name!r}.",
                change="fill in From and to: both scenes must lie in them",
            )
        self.session.search(**asked)
        return "Searching…"

    def _query(self, subject: Subject) -> Mapping[str, Any] | None:
        """What was asked last, be it in vain."""
        missed = self.session.missed(subject.name)
        return missed.query if missed else subject.query

    def _terms(self, subject: Subject) -> dict[str, str]:
        """What the form says; a new area's has the days and the catalog of the search before."""
        query = self._query(subject)
        if query is None and subject.place is None:
            searches = (each for each in reversed(self.session.log) if each.kind == "search")
            last = next(searches, None)
            query = None if last is None else {k: last.args.get(k) for k in ("dates", "catalog")}
        return terms_of(query)

    def _flush(self) -> None:
        active = self.session.active
        subject = self.session.subjects.get(active) if active is not None else None
        with self.hold_sync():  # pairs and what is said of them reach the browser together
            self.chosen = None if subject is None else subject.chosen
            self.before = None if subject is None else subject.before
            self.pairs = self._words(subject)
            self.about = self._about(subject)
            self.looks = self._quick.found
            self.fault = self._faults.get(active or "") or self._faults.get("", "")
            # Once there are pixels, which pair they are is all one needs to know of it.
            self.unfolded = bool(self.fault) or not self.about["loaded"]
        self._tell_progress(subject)

    def _words(self, subject: Subject | None) -> list[dict[str, Any]]:
        """Rows of the pairs; the same list as long as the pairs are the same."""
        pairs = None if subject is None else subject.pairs
        if self._rows[0] is not pairs:
            self._rows = pairs, [pair_row(row, rank) for rank, row in enumerate(pairs or ())]
        return self._rows[1]

    def _tell_progress(self, subject: Subject | None) -> None:
        progress = None if subject is None else self.session.progress(subject.name)
        if progress is not None:
            self.send({"kind": "progress", **progress_row(progress)})
            self._soon(EVERY_S)

    def _about(self, subject: Subject | None) -> dict[str, Any]:
        if subject is None:
            self._quick.want("", ())
            return {
                "name": "", "kind": "", "busy": "", "loaded": False, "place": False,
                "hint": "Choose a place or draw an area first.", "terms": terms_of(None),
                "choices": [], "looks": "none", "network": False, "compared": "",
            }  # fmt: skip
        query = self._query(subject)
        return {
            "name": clean(subject.name),
            "kind": subject.kind,
            "busy": subject.busy or "",
            "loaded": subject.chosen is not None and self.session.chip(subject.name) is not None,
            "place": subject.place is not None,
            "hint": _hint(subject),
            "compared": compared_words(subject),
            "terms": self._terms(subject),
            "choices": choice_rows(query),
            **self._look(subject),
        }

    def _look(self, subject: Subject) -> dict[str, Any]:
        """Have the quick-looks read, where they are wanted."""
        from earthmind_lab.data.preview import is_remote

        name, said = self._looked
        if subject.busy == "search" and name == subject.name:
            return said  # the pairs before it stay in sight, too
        found = self.session.candidates(subject.name)
        pairs = found.pairs[:LOOKED_AT] if found else ()
        scenes = {scene.id: scene for pair in pairs for scene in pair.scenes}
        network = any(map(is_remote, scenes.values()))
        shows = not network if self._shows is None else self._shows
        self._quick.want(subject.name, tuple(scenes) if shows else ())
        state = ("on" if shows else "off") if scenes else "none"
        self._looked = subject.name, {"looks": state, "network": network}
        return self._looked[1]


def _quick_looks(panel: PairTable) -> QuickLooks:
    """Pictures for a panel that they don't keep alive."""
    inbox = panel._inbox  # noqa: SLF001  its own
    made = QuickLooks(panel.session, lambda: inbox.put(Note(kind="changed", what="looks")))
    weakref.finalize(panel, made.close)
    return made


def _hint(subject: Subject) -> str:
    """What to do next where there is no table."""
    if subject.kind != "aoi":
        if subject.kind == "picture":
            return "A plain picture needs no pair: ask about it."
        return "Files of your own need no pair: ask about them."
    if subject.pairs is None and subject.place is not None:
        return "Find the pairs of this place; it comes with its own dates."
    if subject.pairs is None:
        return "Give the days that both scenes must lie in, then find pairs."
    return "" if subject.pairs else "No pair was found: other days, or looser limits."
