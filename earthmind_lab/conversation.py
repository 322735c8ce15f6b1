"""Asking: a chip or a picture, an engine, and the turns so far.

    PendingAnswer = Conversation.submit(question)     returns at once
    Answer        = Conversation.ask(question)        waits, shows progress, stops on interrupt
    Answer        = ask(chip, question)               one question
    Answer        = ask_change(before, after)         one question about two dates

The reply comes from the engine; mapping, evidence and the record are made on a thread of the
ask, so that nobody who waits for events is held up by them.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from earthmind_lab.answer import Answer, Claim, Mapped, map_reply
from earthmind_lab.changing import (
    Change,
    Changes,
    FurtherAsk,
    change_claims,
    date_views,
    map_dates,
    sensor_of,
    views_apart,
)
from earthmind_lab.chip import Chip
from earthmind_lab.errors import EngineBusy, PromptError
from earthmind_lab.evidence import check
from earthmind_lab.exchange import Modality, Options, Prompt, Region, Reply, Turn, View
from earthmind_lab.pending import PendingAnswer, asked_once, show_progress
from earthmind_lab.recording import file_sha256, make_record
from earthmind_lab.render import picture_view, render

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from earthmind_lab.engine.base import Engine

Askable: TypeAlias = "Chip | View | str | Path"
"""A chip, a view, or the path of a plain picture."""
RegionLike: TypeAlias = "Region | BaseGeometry"
"""A region on the views' grid, or a polygon in lon/lat."""

__all__ = ["Askable", "Conversation", "PendingAnswer", "RegionLike", "ask", "ask_change"]

DEFAULT = Options()


class Conversation:
    """Questions about one chip or picture, or two dates, each knowing the turns before it.

    Args:
        subject: A chip, a view, or the path of a plain picture.
        engine: Who answers; default: the embedded model.
        before: A chip of an earlier date on the same grid: then the questions are about what
            changed until `subject`, by one sensor.
        sensor: Whose pictures of the two dates the model sees; default: SAR where both have it.
        turns: Earlier turns to go on from.
        evidence: Whether claims may cost follow-up questions.
        seat: Whose turn a question takes at an engine that others ask, too; default: a seat of
            its own.

    Raises:
        PromptError: The picture can't be read, the chip is larger than the model sees, or the two
            dates can't be compared.
    """

    def __init__(
        self,
        subject: Askable,
        engine: Engine | None = None,
        *,
        before: Chip | None = None,
        sensor: Modality | None = None,
        turns: Sequence[Turn] = (),
        evidence: bool = True,
        seat: str = "",
    ) -> None:
        self.chip, self.views, self._picture = _seen(subject)
        self.engine: Engine = _default_engine() if engine is None else engine
        if self.chip is not None:
            _check_size(self.chip, self.engine)
            self.views = render(self.chip, preferred=self.engine.capabilities.composites)
        self.before, self.sensor = before, sensor
        if before is not None:
            self.views = self._two_dates(before)
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
            show_progress(pending, options)
            return pending.result()
        except BaseException:  # KeyboardInterrupt above all; no effect where the ask failed
            pending.cancel()
            raise

    def change(self, label: str, *, threshold: float = DEFAULT.mask_threshold) -> Change | None:
        """What changed of one label between the two dates, by a mask of each; asks the engine.

        Args:
            label: Such as ``"water"``.
            threshold: Probability above which a pixel belongs to a mask.

        Returns:
            Areas and masks of what came and went; None where the model drew no mask.

        Raises:
            PromptError: The conversation is about one date.
            EarthMindError: Why there is no mask.
        """

        def further(question: str, views: tuple[View, ...]) -> Reply:
            options = Options(seat=self._seat)
            return self.engine.submit(Prompt(text=question, views=views), options).result()

        return self._changes(further, threshold).of(label)

    def _two_dates(self, before: Chip) -> tuple[View, View]:
        if self.chip is None:
            raise PromptError(
                "Two dates are compared by chips, not by plain pictures.",
                change="Conversation(after, before=before) with chips from load_series()",
            )
        self.sensor = sensor_of(before, self.chip, self.sensor)
        wanted = self.engine.capabilities.composites
        return date_views(before, self.chip, self.sensor, wanted)

    def _changes(self, further: FurtherAsk, threshold: float) -> Changes:
        if self.chip is None or self.before is None or self.sensor is None:
            raise PromptError(
                "This conversation is about one date.",
                change="Conversation(after, before=before)",
            )

        def cut(question: str, views: tuple[View, ...]) -> Reply:
            return further(question, views).at(threshold)

        return Changes(
            self.before, self.chip, self.sensor,
            preferred=self.engine.capabilities.composites,
            seen_gsd=_seen_gsd(self.views, self.engine), further=cut,
        )  # fmt: skip

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
        self, prompt: Prompt, options: Options, reply: Reply, follow_up: FurtherAsk
    ) -> Answer:
        """From the reply to the answer, which is a turn then."""
        answer = self._made(prompt, options, reply, asked_once(follow_up))
        self._turns.append(Turn(question=prompt.text, reply=reply.raw or reply.text))
        return answer

    def _made(
        self, prompt: Prompt, options: Options, drawn: Reply, follow_up: FurtherAsk
    ) -> Answer:
        """Cut the masks, map, check, record.

        Args:
            prompt: What was asked.
            options: How; the threshold of the masks is among them.
            drawn: What the engine gave.
            follow_up: Asks it further.
        """
        reply = drawn.at(options.mask_threshold)

        def cut(other: float) -> Answer:
            return self._made(prompt, replace(options, mask_threshold=other), drawn, follow_up)

        about = self.engine.capabilities
        seen = _seen_gsd(self.views, self.engine)
        mapped = self._mapped(reply, seen)
        claims = self._claims(prompt, options, reply, mapped, follow_up)
        record = make_record(
            prompt=prompt, options=options, reply=reply, mapped=mapped, claims=claims,
            capabilities=about, chip=self.chip, picture=self._picture, before=self.before,
        )  # fmt: skip
        return Answer(
            text=reply.text, notice=about.notice, detections=mapped.detections, evidence=claims,
            seen_gsd_m=seen, reply=reply, grid=self.chip.grid if self.chip else None, record=record,
            cut=cut, chips=tuple(chip for chip in (self.before, self.chip) if chip is not None),
        )  # fmt: skip

    def _mapped(self, reply: Reply, seen: float | None) -> Mapped:
        """The reply on the Earth."""
        if self.chip is None or seen is None:
            return Mapped()
        if self.before is not None:
            return map_dates(reply, (self.before, self.chip), self.views, seen_gsd=seen)
        return map_reply(reply, self.chip, self.views, seen_gsd=seen)

    def _claims(
        self, prompt: Prompt, options: Options, reply: Reply, mapped: Mapped, follow_up: FurtherAsk
    ) -> tuple[Claim, ...]:
        """The evidence."""
        threshold = options.mask_threshold
        if self.before is not None:
            assert self.chip is not None
            assert self.sensor is not None
            changes = self._changes(follow_up, threshold) if self._evidence else None
            apart = views_apart(self.before, self.chip, self.sensor)
            return (*change_claims(reply.text, prompt.text, changes), *apart)

        def further(question: str) -> Reply:
            return follow_up(question, prompt.views).at(threshold)

        return check(
            reply, prompt.text, views=self.views, chip=self.chip,
            seen_gsd=_seen_gsd(self.views, self.engine), regions=prompt.regions, mapped=mapped,
            follow_up=further if self._evidence else None,
        )  # fmt: skip


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


def ask_change(
    before: Chip,
    after: Chip,
    question: str = "What has changed?",
    *,
    engine: Engine | None = None,
    sensor: Modality | None = None,
    options: Options = DEFAULT,
) -> Answer:
    """Ask one question about two dates and wait for the answer.

    Args:
        before: A chip of the earlier date.
        after: A chip of the later date on the same grid, as `load_series` gives.
        question: What to ask.
        engine: Who answers; default: the embedded model.
        sensor: Whose pictures the model sees; default: SAR where both dates have it.
        options: How to answer.

    Returns:
        The answer. Covers that it or the question names are measured in its evidence, by masks of
        both dates: mapped area before and after, gained and lost.

    Raises:
        PromptError: The two dates can't be compared.
        EarthMindError: Why there is no answer.
    """
    talk = Conversation(after, engine, before=before, sensor=sensor)
    return talk.ask(question, options=options)


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
