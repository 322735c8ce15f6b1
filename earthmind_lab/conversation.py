"""Asking: a chip or a picture, an engine, and the turns so far.

    PendingAnswer = Conversation.submit(question)     returns at once
    Answer        = Conversation.ask(question)        waits, shows progress, stops on interrupt
    Answer        = ask(chip, question)               one question

The reply comes from the engine; mapping, evidence and the record are made on a thread of the
ask, so that nobody who waits for events is held up by them.
"""

from __future__ import annotations

import math
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from earthmind_lab.answer import Answer, Mapped, map_reply
from earthmind_lab.chip import Chip
from earthmind_lab.errors import Cancelled, EngineBusy, PromptError
from earthmind_lab.evidence import check
from earthmind_lab.exchange import Event, Options, Prompt, Region, Reply, Token, Turn, View
from earthmind_lab.masks import FollowUp
from earthmind_lab.progress import bar, looked_at
from earthmind_lab.recording import file_sha256, make_record
from earthmind_lab.render import picture_view, render

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from earthmind_lab.engine.base import Engine, Handle

Askable: TypeAlias = "Chip | View | str | Path"
"""A chip, a view, or the path of a plain picture."""
RegionLike: TypeAlias = "Region | BaseGeometry"
"""A region on the views' grid, or a polygon in lon/lat."""

DEFAULT = Options()


class PendingAnswer:
    """An ask under way. Made by `Conversation.submit`."""

    def __init__(
        self, engine: Engine, prompt: Prompt, options: Options,
        finish: Callable[[Reply, FollowUp], Answer],
    ) -> None:  # fmt: skip
        self._engine, self._prompt, self._options = engine, prompt, options
        self._finish = finish
        self._handle = engine.submit(prompt, options)
        self._follow_up: Handle | None = None
        self._stop = threading.Event()
        self._future: Future[Answer] = Future()
        threading.Thread(target=self._work, name="earthmind-answer", daemon=True).start()

    def events(self) -> Iterator[Event]:
        """Events of the engine for the question itself; ends with Done or Failed."""
        return self._handle.events()

    def result(self, timeout: float | None = None) -> Answer:
        """Wait for the answer.

        Args:
            timeout: Seconds to wait; None = as long as it takes.

        Raises:
            TimeoutError: Not ready yet; the ask goes on.
            EarthMindError: Why the ask failed.
        """
        return self._future.result(timeout)

    def cancel(self) -> None:
        """Stop before the next token, evidence follow-ups included; no effect once ended."""
        self._stop.set()
        self._handle.cancel()
        if self._follow_up is not None:
            self._follow_up.cancel()

    @property
    def done(self) -> bool:
        """Whether `result` returns or raises at once."""
        return self._future.done()

    def _work(self) -> None:
        try:
            answer = self._finish(self._handle.result(), self._ask_further)
        except BaseException as error:  # noqa: BLE001  every failure belongs to who waits
            self._future.set_exception(error)
        else:
            self._future.set_result(answer)

    def _ask_further(self, question: str) -> Reply:
        """An evidence follow-up: same engine, same views, its own reply and usage."""
        if self._stop.is_set():
            raise Cancelled("The ask was stopped.")
        prompt = Prompt(text=question, views=self._prompt.views)
        options = replace(self._options, temperature=0.0)
        self._follow_up = self._engine.submit(prompt, options)
        if self._stop.is_set():  # cancel() ran between the check and the assignment
            self._follow_up.cancel()
        return self._follow_up.result()


class Conversation:
    """Questions about one chip or picture, each knowing the turns before it.

    Args:
        subject: A chip, a view, or the path of a plain picture.
        engine: Who answers; default: the embedded model.
        turns: Earlier turns to go on from.
        evidence: Whether claims may cost follow-up questions.
        seat: Whose turn a question takes at an engine that others ask, too; default: a seat of
            its own.

    Raises:
        PromptError: The picture can't be read, or the chip is larger than the model sees.
    """

    def __init__(
        self,
        subject: Askable,
        engine: Engine | None = None,
        *,
        turns: Sequence[Turn] = (),
        evidence: bool = True,
        seat: str = "",
    ) -> None:
        self.chip, self.views, self._picture = _seen(subject)
        self.engine: Engine = _default_engine() if engine is None else engine
        if self.chip is not None:
            _check_size(self.chip, self.engine)
            self.views = render(self.chip, preferred=self.engine.capabilities.composites)
        self._turns = list(turns)
        self._evidence = evidence
        self._seat = seat or uuid.uuid4().hex
        self._pending: PendingAnswer | None = None

    @property
    def turns(self) -> tuple[Turn, ...]:
        """What was asked and replied so far, oldest first."""
        return tuple(self._turns)

    def submit(
        self, question: str, *, regions: Sequence[RegionLike] = (), options: Options = DEFAULT
    ) -> PendingAnswer:
        """Ask and return at once.

        Args:
            question: What to ask.
            regions: Places to ask about: polygons in lon/lat, or masks on the views' grid.
            options: How to answer.

        Raises:
            PromptError: An empty question, or a region off the chip.
            EngineBusy: The answer before is still being made; its turn belongs to the prompt.
        """
        if self._pending is not None and not self._pending.done:
            raise EngineBusy(
                "This conversation is still waiting for an answer.",
                change="pending.result() or pending.cancel() first, or another Conversation",
            )
        Reply(text="").at(options.mask_threshold)  # refuses what is no probability
        marked = tuple(self._region(region, i) for i, region in enumerate(regions, start=1))
        prompt = Prompt(text=question, views=self.views, regions=marked, history=self.turns)
        options = options if options.seat else replace(options, seat=self._seat)
        finish = partial(self._answer, prompt, options)
        self._pending = PendingAnswer(self.engine, prompt, options, finish)
        return self._pending

    def ask(
        self, question: str, *, regions: Sequence[RegionLike] = (), options: Options = DEFAULT
    ) -> Answer:
        """Ask and wait; shows progress, and an interrupt cancels the ask.

        Args:
            question: What to ask.
            regions: Places to ask about: polygons in lon/lat, or masks on the views' grid.
            options: How to answer.

        Raises:
            EarthMindError: Why there is no answer.
        """
        pending = self.submit(question, regions=regions, options=options)
        try:
            _show_progress(pending, options)
            return pending.result()
        except BaseException:  # KeyboardInterrupt above all; no effect where the ask failed
            pending.cancel()
            raise

    def _region(self, region: RegionLike, number: int) -> Region:
        if isinstance(region, Region):
            return region
        if self.chip is None:
            raise PromptError(
                "A polygon in lon/lat has no place on a plain picture.",
                change="Region(mask=...) in pixels",
            )
        from earthmind_lab.grid import polygons_to_mask

        mask = polygons_to_mask(region, self.chip.grid)
        if not mask.any():
            raise PromptError(
                f"Region {number} covers no pixel centre of the chip.",
                change="draw it larger, or inside the chip",
            )
        return Region(mask=mask, label=f"region{number}")

    def _answer(
        self, prompt: Prompt, options: Options, reply: Reply, follow_up: FollowUp
    ) -> Answer:
        """From the reply to the answer, which is a turn then."""
        answer = self._made(prompt, options, reply, _asked_once(follow_up))
        self._turns.append(Turn(question=prompt.text, reply=reply.raw or reply.text))
        return answer

    def _made(self, prompt: Prompt, options: Options, drawn: Reply, follow_up: FollowUp) -> Answer:
        """Cut the masks, map, check, record.

        Args:
            prompt: What was asked.
            options: How; the threshold of the masks is among them.
            drawn: What the engine gave.
            follow_up: Asks it further.
        """
        threshold = options.mask_threshold
        reply = drawn.at(threshold)

        def further(question: str) -> Reply:
            return follow_up(question).at(threshold)

        def cut(other: float) -> Answer:
            return self._made(prompt, replace(options, mask_threshold=other), drawn, follow_up)

        about = self.engine.capabilities
        seen = _seen_gsd(self.views, self.engine)
        mapped = Mapped()
        if self.chip is not None and seen is not None:
            mapped = map_reply(reply, self.chip, self.views, seen_gsd=seen)
        claims = check(
            reply, prompt.text, views=self.views, chip=self.chip, seen_gsd=seen,
            regions=prompt.regions, mapped=mapped, follow_up=further if self._evidence else None,
        )  # fmt: skip
        record = make_record(
            prompt=prompt, options=options, reply=reply, mapped=mapped, claims=claims,
            capabilities=about, chip=self.chip, picture=self._picture,
        )  # fmt: skip
        return Answer(
            text=reply.text, notice=about.notice, detections=mapped.detections, evidence=claims,
            seen_gsd_m=seen, reply=reply, grid=self.chip.grid if self.chip else None, record=record,
            cut=cut,
        )  # fmt: skip


def _asked_once(follow_up: FollowUp) -> FollowUp:
    """The same follow-up, which puts no question twice."""
    known: dict[str, Reply] = {}

    def further(question: str) -> Reply:
        if question not in known:
            known[question] = follow_up(question)
        return known[question]

    return further


def ask(
    subject: Askable,
    question: str,
    *,
    engine: Engine | None = None,
    regions: Sequence[RegionLike] = (),
    options: Options = DEFAULT,
) -> Answer:
    """Ask one question and wait for the answer.

    Args:
        subject: A chip, a view, or the path of a plain picture.
        question: What to ask.
        engine: Who answers; default: the embedded model.
        regions: Places to ask about: polygons in lon/lat, or masks on the views' grid.
        options: How to answer; the defaults answer the same way twice.

    Raises:
        EarthMindError: Why there is no answer.
    """
    talk = Conversation(subject, engine)
    return talk.ask(question, regions=regions, options=options)


def _seen(subject: Askable) -> tuple[Chip | None, tuple[View, ...], dict[str, Any] | None]:
    """Chip, or view and, for a plain picture, where it comes from."""
    if isinstance(subject, Chip):
        return subject, (), None  # which pictures of it depends on who is asked
    if isinstance(subject, View):
        return None, (subject,), {"view": subject.name, "sha256": None}
    if isinstance(subject, str | Path):
        path = Path(subject)
        view = picture_view(path)
        return None, (view,), {"path": str(path.resolve()), "sha256": file_sha256(path)}
    raise PromptError(
        f"A {type(subject).__name__} can't be asked about.",
        change="a chip from load_chip(), or the path of a picture",
    )


def _check_size(chip: Chip, engine: Engine) -> None:
    """Refuse a chip that the engine would have to shrink, before anything is asked.

    Raises:
        PromptError: A side is longer than the engine sees at the chip's GSD.
    """
    most = engine.capabilities.max_side_px
    rows, columns = chip.grid.shape
    if most is None or max(rows, columns) <= most:
        return
    width, height, fits = (side * chip.gsd / 1000 for side in (columns, rows, most))
    # Two pixels to spare: a coarser grid is snapped outwards on both sides.
    coarse = math.ceil(max(rows, columns) * chip.gsd / max(1, most - 2))
    raise PromptError(
        f"The chip is larger than {engine.capabilities.name} sees at {chip.gsd:g} m per pixel.",
        found=f"{columns} x {rows} px ({width:.2f} x {height:.2f} km)",
        change=f"an AOI whose chip has at most {most} x {most} px ({fits:.2f} x {fits:.2f} km), "
        f"several of them, or gsd={coarse} for a coarser look",
    )


def _default_engine() -> Engine:
    from earthmind_lab.engine.loading import load_engine

    return load_engine()


def _seen_gsd(views: Sequence[View], engine: Engine) -> float | None:
    """The coarsest of what the model really sees of the views."""
    found = [gsd for gsd in map(engine.seen_gsd, views) if gsd is not None]
    return max(found) if found else None


def _show_progress(pending: PendingAnswer, options: Options) -> None:
    """Tokens as they come, where somebody looks."""
    if not looked_at():
        return
    with bar(options.max_new_tokens, unit="token") as shown:
        for event in pending.events():
            if isinstance(event, Token):
                shown.update()
                shown.set_postfix_str(event.text.strip()[-40:], refresh=False)
