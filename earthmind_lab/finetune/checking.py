"""Look at every example once before anything is trained on it.

    report = check_examples(train, processor, against=test)
    report              # in a notebook: numbers, findings, and some examples as the model sees them

Each example is opened once. One that is broken is reported and the others go on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from earthmind_lab.engine.base import Capabilities
from earthmind_lab.errors import EarthMindError, PromptError
from earthmind_lab.exchange import Options
from earthmind_lab.finetune.answers import Answers
from earthmind_lab.finetune.examples import Example, Examples
from earthmind_lab.finetune.frames import spread
from earthmind_lab.finetune.leaks import Fingerprints, Leak, gathered, leaks_between
from earthmind_lab.finetune.questions import SEG
from earthmind_lab.finetune.report import DataReport, Problem, Tally
from earthmind_lab.finetune.shown import Shown, shown_as
from earthmind_lab.progress import bar

if TYPE_CHECKING:
    from earthmind_lab.model.processing import EarthMindProcessor


def check_examples(
    examples: Examples,
    processor: EarthMindProcessor | None = None,
    *,
    options: Options | None = None,
    max_tokens: int | None = None,
    against: Examples | None = None,
    shown: int = 6,
) -> DataReport:
    """Count, look and compare; nothing is changed.

    Args:
        examples: What shall be trained on.
        processor: Of the model that shall learn; without one no tokens are counted and nothing
            is shown as it sees it.
        options: As in training: fusion and mask source decide about pictures and masks.
        max_tokens: Longest example in tokens, with its answer; None = what the model can read.
        against: Another set that should be apart, such as the one that tests.
        shown: How many examples to show, spread over the set.

    Returns:
        What was found; `DataReport.ok` says whether it can be trained on as it is.

    Raises:
        EarthMindError: There are no examples at all.
    """
    if not len(examples):
        raise EarthMindError("There are no examples to check.")
    look = _Look(processor, options or Options(), max_tokens)
    wanted = set(spread(len(examples), shown))
    with bar(len(examples), unit="example", desc="checking", delay=1.0) as progress:
        for index in range(len(examples)):
            look.at(examples, index, show=index in wanted)
            progress.update()
    leaks = () if against is None else leaks_between(look.prints, gathered(against, pixels=True))
    return look.report(str(getattr(examples, "said", "examples")), tuple(leaks), against)


class _Look:
    """What is gathered in one pass."""

    def __init__(
        self, processor: EarthMindProcessor | None, options: Options, most: int | None
    ) -> None:
        self._processor, self._options = processor, options
        reads: int | None = None
        if processor is not None:
            reads = int(processor.config.text_config.max_position_embeddings)
        self._most = min((n for n in (most, reads) if n is not None), default=None)
        self._tally = Tally()
        self._answers = Answers()
        self._problems: list[Problem] = []
        self._shown: list[Shown] = []
        self.prints = Fingerprints()

    def at(self, examples: Examples, index: int, *, show: bool) -> None:
        info = examples.info(index)
        self._tally.told(info)
        self.prints.add(info)

        def problem(kind: str, text: str) -> None:
            self._problems.append(Problem(id=info.id, index=index, kind=kind, text=text))

        try:
            example = examples[index]
            self.prints.see(info, example.prompt.views)
        except EarthMindError as error:
            problem("broken", str(error))
            return
        self._answers.add(example)
        _check_reply(example, self._stops, problem)
        try:
            fits = _check_masks(example, self._drawn(example), problem)
            if self._processor is not None:
                _sees(self._processor).check(example.prompt)
                self._count(example, problem)
                if show:
                    drawn = self._options if fits else None
                    self._shown.append(shown_as(example, self._processor, self._options, drawn))
        except PromptError as error:
            problem("arrangement", str(error))

    def report(self, said: str, leaks: tuple[Leak, ...], against: Examples | None) -> DataReport:
        return DataReport(
            said=said,
            against=None if against is None else str(getattr(against, "said", "another set")),
            tally=self._tally,
            limit=self._most,
            problems=tuple(self._problems),
            warnings=(*self._tally.warnings(), *self._answers.warnings()),
            yes_no=self._answers.yes_no,
            leaks=leaks,
            shown=tuple(self._shown),
        )

    @property
    def _stops(self) -> tuple[str, ...]:
        return () if self._processor is None else self._processor.stop_strings

    def _drawn(self, example: Example) -> tuple[int, ...] | None:
        """(H, W), or (F, H, W), of what masks are drawn on; None without pictures."""
        views = (*example.prompt.views, *example.prompt.follow)
        if not views:
            return None
        if self._processor is None:
            return views[0].shape
        chosen = self._processor.arrange(example.prompt, self._options).mask_views
        shape = views[chosen[0]].shape
        return shape if len(chosen) == 1 else (len(chosen), *shape)

    def _count(self, example: Example, problem: Callable[[str, str], None]) -> None:
        processor = self._processor
        assert processor is not None
        single = processor.arrange(example.prompt, self._options).single_tile
        tiles = [processor.tile_count(v.shape, single=single) for v in example.prompt.views]
        layout = processor.layout(example.prompt, tiles, self._options)
        stop = processor.stop_strings[0]
        reply = example.reply if example.reply.endswith(stop) else example.reply + stop
        learned = len(processor.encode_reply(reply))
        total = layout.input_ids.shape[1] + learned
        seen = len(layout.blocks) * processor.config.tokens_per_tile
        self._tally.counted(total, seen, learned)
        if self._most is not None and total > self._most:
            problem(
                "too long",
                f"{total} tokens, {seen} of them pictures; at most {self._most} are read. Nothing "
                "is cut: smaller or fewer pictures, fewer turns, or a shorter answer",
            )


def _sees(processor: EarthMindProcessor) -> Capabilities:
    """What a model sees of a chip without shrinking it; engines refuse more, so training does."""
    config = processor.config
    side = math.isqrt(config.max_dynamic_patch) * config.image_size
    return Capabilities(
        name=getattr(config, "display_name", None) or "the model",
        revision="",
        weight_hash="",
        max_side_px=getattr(config, "max_side_px", None) or side,
    )


def _check_reply(
    example: Example, stops: tuple[str, ...], problem: Callable[[str, str], None]
) -> None:
    text = example.reply
    for stop in stops:
        text = text.removesuffix(stop)
    if not text.strip():
        problem("no answer", "the answer is empty")
    inside = [stop for stop in stops if stop in text]
    if inside:
        problem("marks", f"the answer ends early: {inside[0]} stands inside it")


def _check_masks(
    example: Example, drawn: tuple[int, ...] | None, problem: Callable[[str, str], None]
) -> bool:
    """Whether the masks can be drawn on their picture."""
    marks = example.reply.count(SEG)
    masks = example.masks
    count = 0 if masks is None else len(masks)
    if marks != count:
        problem("marks", f"{marks} {SEG} in the answer, {count} masks")
    if masks is None or not count:
        return True
    if drawn is None or masks.shape[1:] != drawn:
        problem(
            "mask size",
            f"masks of {tuple(masks.shape[1:])}, picture of {drawn}: the picture isn't the one "
            "they were drawn on",
        )
        return False
    empty = [str(n) for n, mask in enumerate(masks, start=1) if not mask.any()]
    if empty:
        problem("empty mask", f"mask {', '.join(empty)} marks no pixel")
    return True
