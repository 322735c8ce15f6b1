"""Commands about the talk: ask, ask again, go to another branch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from earthmind_lab.chip import Chip
from earthmind_lab.conversation import Conversation, RegionLike
from earthmind_lab.errors import PromptError
from earthmind_lab.exchange import Options, Region, Token, Turn, View
from earthmind_lab.recording import plain
from earthmind_lab.session import commands, talk_commands
from earthmind_lab.session.base import SessionBase
from earthmind_lab.session.commands import State
from earthmind_lab.session.keeper import Change
from earthmind_lab.session.shelf import turn_of
from earthmind_lab.session.subject import Note, Subject
from earthmind_lab.session.tasks import Task
from earthmind_lab.session.two_dates import check_same, dates_of, ids_of

DEFAULT = Options()
Sensor: TypeAlias = Literal["sar", "optical"]


class TalkCommands(SessionBase):
    """Questions about the chosen pair, or the picture; whatever comes of one is a turn."""

    def ask(
        self,
        question: str,
        name: str | None = None,
        *,
        regions: Sequence[RegionLike] | None = None,
        options: Options = DEFAULT,
    ) -> Task:
        """Ask about the chosen pair, or the picture; whatever comes of it is a turn.

        While that is compared with an earlier one (`compare`), the question is about both dates.

        Args:
            question: What to ask.
            name: The subject; None = the active one.
            regions: Places to ask about: polygons in lon/lat, or masks on the views' grid; None =
                those that are marked.
            options: How to answer.

        Returns:
            A task; its result is the `Answer`.

        Raises:
            PromptError: An empty question, or no pair is chosen.
            EngineBusy: The subject is busy.
        """
        with self._keeper.lock:
            subject = self.subject(name)
            if regions is None:
                regions = [_shape(region.geometry) for region in subject.regions]
            return self._ask(
                subject, question, regions, options, parent=subject.head, before=dates_of(subject)
            )

    def again(
        self,
        turn: str,
        question: str | None = None,
        name: str | None = None,
        *,
        without: Sensor | None = None,
    ) -> Task:
        """Ask a question of the talk once more, in place of it: a branch of its own.

        One about two dates is about the same two, one about one date is about the chosen pair.

        Args:
            turn: Id of the turn.
            question: Other words for it; None = the same.
            name: The subject; None = the active one.
            without: A sensor to take away, so that one sees what depends on it.

        Returns:
            A task; its result is the `Answer`.

        Raises:
            PromptError: No such turn, an empty question, its regions were masks, or one of its
                two dates isn't at hand.
            EngineBusy: The subject is busy.
        """
        with self._keeper.lock:
            subject = self.subject(name)
            old = subject.turn(turn)
            if old is None:
                raise PromptError(f"There is no turn {turn!r} about {subject.name!r}.")
            shapes = [region for region in old.regions if region is not None]
            if len(shapes) < len(old.regions):
                raise PromptError(
                    "Its regions were given as masks, which aren't kept.",
                    change="ask(question, regions=...) with them",
                )
            if old.before is not None:
                check_same(subject, old.before)
            options = replace(DEFAULT, **old.options)
            # Compared with an answer that had both sensors.
            both = turn if options.sensor_off is None else old.against
            if without is not None:
                options = replace(options, sensor_off=without)
            return self._ask(
                subject, old.question if question is None else question,
                [_shape(shape) for shape in shapes], options, parent=old.parent,
                against=both if without is not None else None, before=old.before,
            )  # fmt: skip

    def branch(self, turn: str | None, name: str | None = None) -> None:
        """Go to the branch of a turn: what is asked next goes on from its end.

        Args:
            turn: Its id; None = begin anew, with the earlier talk kept.
            name: The subject; None = the active one.

        Raises:
            PromptError: No such turn.
        """
        with self._keeper.lock:
            subject = self.subject(name)
            self._keeper.commit(talk_commands.branch(self._keeper.state, subject.name, turn))

    def _ask(
        self, subject: Subject, question: str, regions: Sequence[RegionLike], options: Options, *,
        parent: str | None, against: str | None = None, before: Mapping[str, Any] | None = None,
    ) -> Task:  # fmt: skip
        """With the lock held."""
        if not question.strip():
            raise PromptError("The question is empty.", change="ask something")
        if subject.kind == "aoi" and subject.row is None:
            raise PromptError(
                f"No pair of {subject.name!r} is chosen, so there are no pixels to ask about.",
                change="search, then choose a pair" if subject.pairs is None else "choose one",
            )
        args = {
            "question": question, "regions": [_kept(region) for region in regions],
            "options": _changed(options), "parent": parent, "against": against, "before": before,
        }  # fmt: skip

        def begin(state: State) -> State:
            return commands.start_ask(state, subject.name, args)

        def work(task: Task, now: Subject) -> tuple[Any, Change]:
            answer = self._answer(task, now, question, regions, options, before)
            turn = turn_of(task.id, args, answer)
            self._answers.keep(task.id, answer)
            return answer, lambda state: commands.said(state, now.name, turn)

        return self._keeper.start("ask", subject.name, begin, work)

    def _answer(
        self, task: Task, subject: Subject, question: str, regions: Sequence[RegionLike],
        options: Options, before: Mapping[str, Any] | None,
    ) -> Any:  # fmt: skip
        """Ask and wait, on the task's thread."""
        about = self._about(task, subject)
        early = None if before is None else self._early(task, subject, before)
        if self.engine is None:
            self._progress(task, "loading the model")
            from earthmind_lab.engine.loading import load_engine

            self.engine = load_engine("nano")
        task.check()
        history = [
            Turn(question=turn.question, reply=turn.raw)
            for turn in subject.talk
            # Other pixels than those that are asked about are no history of them.
            if turn.state == "done" and not turn.stale and turn.before == before
        ]
        talk = Conversation(
            about, self.engine, before=early, sensor=None if before is None else before["sensor"],
            turns=history, seat=self._seat,
        )  # fmt: skip
        pending = talk.submit(question, regions=regions, options=options)
        task.on_stop(pending.cancel)
        self._progress(task, "reading the question")
        for event in pending.events():
            task.tell(event)
            if isinstance(event, Token):
                note = Note(kind="token", subject=subject.name, ask=task.id, text=event.text)
                self._keeper.tell(task, note)
        self._progress(task, "checking the answer")
        return pending.result()

    def _about(self, task: Task, subject: Subject) -> Chip | View | Path:
        """The pixels of a subject; loaded again after a restart."""
        if subject.picture is not None:
            return self._pictures.find(subject.picture)
        if self._shelf.chip(subject) is None:
            self._progress(task, "loading the pixels")
            chip = self._shelf.load(subject, task)
            self._keeper.tell(task, Note(kind="changed", subject=subject.name, what="chip"))
            return chip
        return self._shelf.load(subject, task)

    def _early(self, task: Task, subject: Subject, dates: Mapping[str, Any]) -> Chip:
        """The pixels of the earlier of two dates; loaded again after a restart."""
        ids = ids_of(dates["ids"])
        held = self._shelf.earlier(subject, ids)
        if held is not None:
            return held
        self._progress(task, "loading the pixels of the earlier date")
        chip = self._shelf.load_earlier(subject, ids, task)
        self._keeper.tell(task, Note(kind="changed", subject=subject.name, what="chip"))
        return chip


def _changed(options: Options) -> dict[str, Any]:
    """What differs from the defaults: how it was asked, not by whom."""
    unlike = {k: v for k, v in asdict(options).items() if v != getattr(DEFAULT, k)}
    return {k: v for k, v in unlike.items() if k != "seat"}


def _kept(region: RegionLike) -> Mapping[str, Any] | None:
    """A region as a turn keeps it."""
    from shapely.geometry import mapping

    if isinstance(region, Region):
        return None
    kept: Mapping[str, Any] = plain(mapping(region))
    return kept


def _shape(geometry: Mapping[str, Any]) -> RegionLike:
    from shapely.geometry import shape

    return shape(geometry)
