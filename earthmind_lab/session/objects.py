"""Commands about the objects of an answer: cut its masks elsewhere, select one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from earthmind_lab.answer import Answer
from earthmind_lab.errors import PromptError
from earthmind_lab.session import commands
from earthmind_lab.session.base import SessionBase
from earthmind_lab.session.shelf import turn_of
from earthmind_lab.session.subject import Note


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
            self._keeper.commit(commands.said_anew(self._keeper.state, subject.name, new))
            self._answers.keep(turn, cut)

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
