"""Commands about answers and their objects: cut masks elsewhere, select one, keep an answer."""

from __future__ import annotations

from dataclasses import dataclass, replace

from earthmind_lab.answer import Answer
from earthmind_lab.aoi import AOI
from earthmind_lab.errors import AOIError, EngineBusy, PromptError
from earthmind_lab.recording import pixel_hash
from earthmind_lab.session import commands, talk_commands
from earthmind_lab.session.base import SessionBase
from earthmind_lab.session.shelf import turn_of
from earthmind_lab.session.subject import Note, SaidTurn, Subject
from earthmind_lab.session.tasks import LABELS


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
        options = {**old.options, "mask_threshold": probability}
        asked = {
            "question": old.question, "parent": old.parent, "regions": old.regions,
            "options": options, "against": old.against, "stale": old.stale, "before": old.before,
        }  # fmt: skip
        new = turn_of(turn, asked, cut)
        with self._keeper.lock:
            now = self.subject(subject.name).turn(turn)  # another search may have made it stale
            new = new if now is None else replace(new, stale=now.stale)
            self._keeper.commit(talk_commands.said_anew(self._keeper.state, subject.name, new))
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
                if turn.id.startswith(talk_commands.KEPT) and _as_kept(answer, turn):
                    self._answers.keep(turn.id, answer)  # a restart had lost its probabilities
                    return turn.id
            asked = {"question": answer.record.question, "stale": not self._same(answer, subject)}
            turn = turn_of(f"{talk_commands.KEPT}{self._keeper.state.next}", asked, answer)
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

    def _same(self, answer: Answer, subject: Subject) -> bool:
        """Whether an answer is about the pixels of a subject that are loaded."""
        chip = self._shelf.chip(subject)
        return chip is not None and pixel_hash(chip) == answer.record.chip.get("pixel_hash")

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


def _as_kept(answer: Answer, turn: SaidTurn) -> bool:
    record, threshold = turn.record or {}, turn.options.get("mask_threshold")
    return threshold is None and (turn.question, record.get("answer_hash")) == (
        answer.record.question, answer.record.answer_hash,
    )  # fmt: skip
