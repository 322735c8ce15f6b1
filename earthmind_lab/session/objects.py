"""Commands about answers and their objects: cut masks elsewhere, select one, keep an answer."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from earthmind_lab.answer import Answer
from earthmind_lab.aoi import AOI
from earthmind_lab.errors import AOIError, EngineBusy, PromptError
from earthmind_lab.exchange import Options
from earthmind_lab.record import Record
from earthmind_lab.record_parts import BEFORE
from earthmind_lab.recording import pixel_hash, plain
from earthmind_lab.session import commands, talk_commands
from earthmind_lab.session.base import SessionBase
from earthmind_lab.session.shelf import turn_of
from earthmind_lab.session.subject import KEPT, Note, SaidTurn, Subject
from earthmind_lab.session.tasks import LABELS
from earthmind_lab.session.two_dates import dates_of_record, ids_of

_SAME = ("question", "answer_hash", "chip", "prompt", "options")
"""Parts of the records of one and the same answer that are equal."""


@dataclass(frozen=True, kw_only=True)
class Selected:
    """One object of a turn; map and text find each other by it."""

    turn: str
    """Id of the turn."""
    number: int
    """Which of its features, from 0."""


class ObjectCommands(SessionBase):
    """What was marked."""

    _selected: Selected | None = None

    def answer(self, turn: str) -> Answer | None:
        """The answer of a turn with its probabilities; None after a restart, until asked again.

        Args:
            turn: Its id.
        """
        return self._answers.find(turn)

    def set_threshold(self, turn: str, probability: float, name: str | None = None) -> None:
        """Cut the masks of a turn at another probability; undo brings the old ones back.

        Objects, areas, evidence and record are measured anew, nothing is asked.

        Args:
            turn: Its id.
            probability: Above which a pixel belongs to an object, 0 to 1, both excluded.
            name: The subject; None = the active one.

        Raises:
            PromptError: No such turn, no such probability, or its answer is not in memory.
        """
        subject = self.subject(name)
        old = subject.turn(turn)
        if old is None:
            raise PromptError(f"There is no turn {turn!r} about {subject.name!r}.")
        answer = self._answers.find(turn)
        if answer is None:
            raise PromptError(
                "The probabilities of this answer are no longer in memory.",
                change="ask the question again",
            )
        cut = answer.at(probability)
        asked = {
            "question": old.question, "regions": old.regions, "against": old.against,
            "options": {**old.options, "mask_threshold": probability}, "before": old.before,
        }  # fmt: skip
        new = turn_of(turn, asked, cut)
        with self._keeper.lock:
            now = self.subject(subject.name).name  # it may be gone
            self._keeper.commit(talk_commands.said_anew(self._keeper.state, now, new))
            self._answers.keep(turn, cut)

    def keep_answer(self, answer: Answer, name: str | None = None) -> str:
        """Make an answer from elsewhere a turn of the talk; undo takes it out again.

        It is no history for the model, unless it is about the very pixels that are loaded. The
        same answer to the same question, of a cell that runs again, is kept once.

        Args:
            answer: One about a place.
            name: The subject; None = the active one where its area meets that of the answer, else
                a new one.

        Returns:
            Id of the turn.

        Raises:
            PromptError: The answer is about a plain picture.
            AOIError: No such subject, or one without a place.
        """
        area = answer.record.aoi
        if answer.grid is None or area is None:
            raise PromptError(
                "An answer about a plain picture has no place on the map.",
                change="answer.masks(), or a chip from load_chip()",
            )
        aoi = AOI.from_geojson(area["geometry"], name=str(area["name"]))
        with self._keeper.lock:
            subject = self._about_place(aoi, name)
            for turn in subject.talk:
                if turn.kept and _as_kept(answer, turn):
                    self._answers.keep(turn.id, answer)  # a restart had lost its probabilities
                    return turn.id
            asked = {**_asked(answer.record), "stale": not self._same(answer.record, subject)}
            turn = turn_of(f"{KEPT}{self._keeper.state.next}", asked, answer)
            self._answers.keep(turn.id, answer)
            self._keeper.commit(talk_commands.keep(self._keeper.state, subject.name, turn))
        return turn.id

    def discard(self, turn: str, name: str | None = None) -> None:
        """Take an answer that was kept out of the talk; undo brings it back.

        Args:
            turn: Its id.
            name: The subject; None = the active one.

        Raises:
            PromptError: No such turn, or it was asked here.
            EngineBusy: Something runs for the subject.
        """
        with self._keeper.lock:
            subject = self.subject(name)
            if subject.busy is not None:
                raise EngineBusy(
                    f"{subject.name!r} is still waiting for its {LABELS[subject.busy]}.",
                    change="wait for it, or stop it; then remove the answer",
                )
            self._keeper.commit(talk_commands.discard(self._keeper.state, subject.name, turn))

    def _same(self, record: Record, subject: Subject) -> bool:
        """Whether an answer is about the pixels of a subject that are loaded, of two dates both."""
        held = [(self._shelf.chip(subject), record.chip)]
        dates = dates_of_record(record)
        if dates is not None:
            early = self._shelf.earlier(subject, ids_of(dates["ids"]))
            held.append((early, record.chip[BEFORE]))
        return all(
            chip is not None and pixel_hash(chip) == about.get("pixel_hash") for chip, about in held
        )

    def _about_place(self, aoi: AOI, name: str | None) -> Subject:
        """The subject that an answer about an area belongs to."""
        if name is not None or self.active is not None:
            subject = self.subject(name)
            if subject.aoi is None and name is not None:
                raise AOIError(f"{subject} has no place for an answer.")
            if name or (subject.aoi and subject.aoi.geometry.intersects(aoi.geometry)):
                return subject
        new = self._free(aoi.name[:70].strip() or "area", bare=True)
        area = Subject(name=new, kind="aoi", aoi=replace(aoi, name=new))
        self._keeper.commit(commands.add(self._keeper.state, area))
        return area

    @property
    def selected(self) -> Selected | None:
        """The object that map and text show as chosen; None = none."""
        return self._selected

    def select_object(self, turn: str | None, number: int = 0) -> None:
        """Show an object as chosen, on the map and in the text; no command, nothing to undo.

        Args:
            turn: Id of its turn; None = none is chosen any more.
            number: Which of the turn's features, from 0.

        Raises:
            PromptError: There is no such object about the active subject.
        """
        if turn is not None:
            said = self.subject().turn(turn)
            count = 0 if said is None else len(said.features.get("features", ()))
            if not 0 <= number < count:
                raise PromptError(
                    f"There is no object {number!r} of the turn {turn!r}.",
                    found=f"{count} objects",
                )
        self._selected = None if turn is None else Selected(turn=turn, number=number)
        self._keeper.notifier.tell(Note(kind="changed", subject=self.active, what="selected"))


def _asked(record: Record) -> dict[str, Any]:
    """How an answer from elsewhere was asked, as `turn_of` takes it.

    A record holds its regions as masks alone.
    """
    default = Options()
    known = {each.name: getattr(default, each.name) for each in fields(Options)}
    options = {k: v for k, v in record.options.items() if k in known and v != known[k]}
    if adapter := record.model.get("adapter"):
        options["adapter"] = adapter["hash"]
    return {
        "question": record.question,
        "regions": (None,) * len(record.prompt.get("regions", ())),
        "options": options,
        "before": dates_of_record(record),
    }


def _as_kept(answer: Answer, turn: SaidTurn) -> bool:
    held, new = turn.record or {}, plain(answer.record.to_dict())
    return all(held.get(part) == new[part] for part in _SAME)
