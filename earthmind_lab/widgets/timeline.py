"""Timeline: every scene that the active subject's search looked at, when it was, what became of it.

`Timeline(session)` as the last line of a cell shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import traitlets

from earthmind_lab.scene import Candidates, Scene
from earthmind_lab.session.subject import Note, PairRow, Subject
from earthmind_lab.widgets.base import SessionWidget
from earthmind_lab.widgets.pair_actions import act
from earthmind_lab.widgets.pair_rows import share_words
from earthmind_lab.widgets.protocol import FromBrowser, clean
from earthmind_lab.widgets.words import moment, sensor_words, times

if TYPE_CHECKING:
    from earthmind_lab.session import Session

LANES = ("optical", "sar")
_NO_AREA = "Nothing is searched for files and pictures: only areas have a timeline of scenes."
_FORGOTTEN = "Only pairs are kept over a restart; search again to see what was rejected, and why."


class Timeline(SessionWidget):
    """The candidates of a search on two lanes, optical and SAR, over its days.

    Args:
        session: Whose search it shows.

    Raises:
        EarthMindError: The browser side was never built.
    """

    shown = traitlets.Dict().tag(sync=True)
    """`candidate_rows`; sent once per search."""
    chosen = traitlets.Int(allow_none=True, default_value=None).tag(sync=True)
    """Rank of the pair that is (to be) loaded."""
    about = traitlets.Dict().tag(sync=True)
    """``name``, ``busy``, ``hint``, ``missed`` (why the last search found no pair)."""

    def __init__(self, session: Session) -> None:
        super().__init__(session, "timeline")
        self._source: tuple[object, ...] = ()
        self._name: str | None = None
        self._begin()

    def _note(self, note: Note) -> None:
        if note.kind in ("changed", "error"):  # an error may leave candidates behind
            self._soon()

    def _message(self, message: FromBrowser) -> str | None:
        if message["kind"] == "hello":
            return ""
        said = act(self.session, message)
        return f"A timeline has nothing to {message['kind']}." if said is None else said

    def _flush(self) -> None:
        active = self.session.active
        subject = self.session.subjects.get(active) if active is not None else None
        with self.hold_sync():  # candidates and what is said of them reach the browser together
            if subject is None or subject.kind != "aoi":
                self._source, self._name, self.shown, self.chosen = (), None, {}, None
                hint = "" if subject is None else _NO_AREA
                self.about = {"name": "", "busy": "", "hint": hint, "missed": ""}
            else:
                self._show(subject)

    def _show(self, subject: Subject) -> None:
        missed = self.session.missed(subject.name)
        found = missed.candidates if missed else self.session.candidates(subject.name)
        rows = subject.pairs or ()
        source = (found, subject.pairs)
        waits = subject.busy == "search" and subject.name == self._name
        # What was looked at before stays in sight until there is something new.
        if source != self._source and not waits:
            self._source, self._name = source, subject.name
            query = missed.query if missed else subject.query or {}
            self.shown = candidate_rows(query, found, rows)
        self.chosen = None if missed else subject.chosen
        self.about = {
            "name": clean(subject.name),
            "busy": subject.busy or "",
            "hint": _FORGOTTEN if found is None and rows else "",
            "missed": clean(missed.message) if missed else "",
        }


def candidate_rows(
    query: Mapping[str, Any], found: Candidates | None, rows: Iterable[PairRow] = ()
) -> dict[str, Any]:
    """Candidates as compact plain data: scenes once each, everything else by their number.

    Args:
        query: What was asked, for its days.
        found: What the search looked at; None = not in memory.
        rows: The pairs, which are all that is left then.

    Returns:
        ``first`` and ``last`` day; ``scenes``, each ``[id, lane, start, end, cloud, words]``
        (lane 0 optical, 1 SAR; UTC in ms or None; cloud in % or None); ``pairs`` by rank, each
        ``[optical, sar]``; ``rejected``, each ``[optical, sar, reason]``: numbers of scenes, None
        for none, and of a reason; ``reasons``, sentences.
    """
    first, _, last = str(query.get("dates") or "").partition("/")
    book = _Book()
    if found is None:
        pairs = [
            book.both(_inside(scene, row.pair.get("cloud_in_aoi")) for scene in row.scenes)
            for row in rows
        ]
        rejected: list[list[int | None]] = []
    else:
        pairs = [
            book.both(_facts(scene, pair.cloud_in_aoi) for scene in pair.scenes)
            for pair in found.pairs
        ]
        rejected = [
            [*book.both(map(_facts, each.scenes)), book.reason(each.reason)]
            for each in found.rejected
        ]
    return {
        "first": first, "last": last or first, "scenes": book.scenes, "pairs": pairs,
        "rejected": rejected, "reasons": list(book.reasons),
    }  # fmt: skip


class _Book:
    """Scenes and reasons, each with a number."""

    def __init__(self) -> None:
        self.scenes: list[list[Any]] = []
        self.reasons: dict[str, int] = {}
        self._numbers: dict[tuple[str, str], int] = {}

    def both(self, scenes: Iterable[Mapping[str, Any]]) -> list[int | None]:
        """Numbers of the optical and the SAR scene of a candidate; None for one that isn't."""
        numbers: list[int | None] = [None, None]
        for scene in scenes:
            numbers[LANES.index(scene["modality"])] = self._number(scene)
        return numbers

    def reason(self, text: str) -> int:
        return self.reasons.setdefault(clean(text), len(self.reasons))

    def _number(self, scene: Mapping[str, Any]) -> int:
        # The same id may be in one catalog as two products.
        key = (str(scene["id"]), str(scene.get("sensor", "")))
        if key not in self._numbers:
            self._numbers[key] = len(self.scenes)
            self.scenes.append(_scene_row(scene))
        return self._numbers[key]


def _facts(scene: Scene, inside: float | None = None) -> Mapping[str, Any]:
    facts = {
        "id": scene.id, "modality": scene.modality, "sensor": scene.sensor,
        "observed": scene.observed, "cloud": scene.cloud_cover,
    }  # fmt: skip
    return _inside(facts, inside)


def _inside(scene: Mapping[str, Any], cloud: float | None) -> Mapping[str, Any]:
    """The same with the cloud inside the AOI in place of the whole scene's, where it is known."""
    return scene if cloud is None else {**scene, "cloud": cloud}


def _scene_row(scene: Mapping[str, Any]) -> list[Any]:
    observed = str(scene.get("observed", ""))
    when = [round(each.timestamp() * 1000) for each in times(observed)]
    first, last = (when[0], when[-1]) if when else (None, None)
    optical, cloud = scene["modality"] == "optical", scene.get("cloud")
    words = [sensor_words(str(scene.get("sensor", ""))), moment(observed)]
    if optical:
        known = f"cloud {share_words(cloud / 100)}" if cloud is not None else "cloud unknown"
        words.append(known)
    return [
        clean(scene["id"]), LANES.index(scene["modality"]), first, last,
        None if cloud is None or not optical else round(float(cloud), 1), clean(", ".join(words)),
    ]  # fmt: skip
