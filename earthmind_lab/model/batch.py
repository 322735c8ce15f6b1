"""Several prompts as one batch of tensors, for `generate` and for training.

A picture is cut into squares, all squares of all prompts go through the vision tower together, and
`slots` says which visual token fills which placeholder. So regions, frames and pairs need no code
of their own in the model: they are rows of one table.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import astuple, dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earthmind_lab.errors import PromptError
from earthmind_lab.exchange import Options, Prompt, View
from earthmind_lab.model.arrangement import FUSED
from earthmind_lab.model.attention import Placement
from earthmind_lab.model.fusion import OFF
from earthmind_lab.model.packing import Packing, blocks_of, share_rows
from earthmind_lab.model.processing import EarthMindProcessor, PromptLayout
from earthmind_lab.model.text import IMAGE_END, IMAGE_START


@dataclass(frozen=True)
class PairRow:
    """A pair that is fused by weight: one row of the tensor ``pairs`` of the model."""

    prompt: int
    """Row of the batch."""
    sar_first: int
    """Index of the first SAR square."""
    sar_tiles: int
    """SAR squares."""
    optical_first: int
    """Index of the first optical square; the squares of several composites follow each other."""
    optical_tiles: int
    """Optical squares of all composites."""
    composites: int
    """Optical views."""
    text_start: int
    """First column of the text that weighs the sensors."""
    text_stop: int
    """Column after its last one."""
    off: int
    """Index into `fusion.OFF`: the sensor whose weights are zero."""


def collate(
    processor: EarthMindProcessor,
    prompts: Sequence[Prompt],
    options: Options | None = None,
    *,
    replies: Sequence[str] | None = None,
) -> dict[str, Tensor]:
    """Prompts as inputs of the model.

    Args:
        processor: Of the model.
        prompts: Any mixture of forms.
        options: Fusion and sensor choice; the same for all.
        replies: Training: the answer to each prompt, with its control tokens.

    Returns:
        ``input_ids`` and ``attention_mask`` (B, L), padded on the left; with pictures
        ``pixel_values`` (N, 3, S, S) and ``slots`` (n,); with weighted pairs ``pairs`` (G, 9), see
        `PairRow`; with replies ``labels`` (B, L), -100 outside the replies.

    Raises:
        PromptError: No prompts, or not one reply for each.
    """
    batch, _ = assemble(processor, prompts, options or Options(), replies)
    return batch


@dataclass(frozen=True, kw_only=True)
class TrainingForm:
    """Where the published code trains on a sample in another form than it answers questions.

    The default trains in the form that questions are asked in.

    Example:
        >>> TrainingForm.june().two_blocks, TrainingForm.newer().weigh_by_answer
        (True, True)
    """

    two_blocks: bool = False
    """The tokens of a concatenated pair lie in two picture blocks instead of one. The border falls
    between the sensors for pictures of one tile only: tokens follow each other tile by tile."""
    weigh_by_answer: bool = False
    """The text that weighs the sensors of a weighted pair runs on through the answer, which can't
    be known when the question is asked."""
    gate: bool = False
    """`losses.training_gate` on the tokens of a pair, which answering never applies."""
    placement: Placement = "tiles"
    """Of `attention.attention_target`."""

    @classmethod
    def june(cls) -> TrainingForm:
        """That of the June 2025 code."""
        return cls(two_blocks=True, gate=True, placement="published")

    @classmethod
    def newer(cls) -> TrainingForm:
        """That of the code from October 2025 on."""
        return cls(weigh_by_answer=True)


class Encoded(Protocol):
    """Pictures that were encoded before: what a training reads instead of their pixels."""

    key: str
    """What `squares` gives: ``pixel_values``, ``vision_features`` or ``visual_tokens``, as
    `EarthMindTraining` takes them."""

    def squares(self, view: View, *, single: bool) -> Tensor:
        """One row per square of a picture; `single` as in `EarthMindProcessor.tiles`."""
        ...

    def levels(self, view: View) -> tuple[Tensor, Tensor, Tensor] | None:
        """`MaskTower.pyramid` of a picture; None = not known."""
        ...


def assemble(
    processor: EarthMindProcessor,
    prompts: Sequence[Prompt],
    options: Options,
    replies: Sequence[str] | None,
    form: TrainingForm | None = None,
    encoded: Encoded | None = None,
    packing: Packing | None = None,
) -> tuple[dict[str, Tensor], list[Row]]:
    """`collate`, and where each prompt's squares lie in the batch.

    Where questions share a row (see `packing`), ``blocks`` and ``position_ids`` say how.
    """
    form, packing = form or TrainingForm(), packing or Packing()
    if not prompts or (replies is not None and len(replies) != len(prompts)):
        raise PromptError(
            "A batch needs prompts, and in training one reply for each.",
            found=f"{len(prompts)} prompts, {'no' if replies is None else len(replies)} replies",
        )
    answers = [processor.encode_reply(reply) for reply in replies or [""] * len(prompts)]
    rows = [
        Row(processor, prompt, options, form, answer)
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    if packing.most > 1:
        _name_prefixes(rows)
    packs = share_rows(rows, packing)
    length = max(pack[0].question_start + sum(r.own_tokens for r in pack) for pack in packs)
    shape = (len(packs), length)
    ids = torch.full(shape, _pad(processor), dtype=torch.long)
    seen = torch.zeros(shape, dtype=torch.long)
    labels = torch.full(shape, -100, dtype=torch.long)
    pairs: list[PairRow] = []
    pixels, first = _squares(rows, processor, encoded)
    for index, pack in enumerate(packs):
        told = pack[0].ids[: pack[0].question_start]
        learned = [-100] * len(told)
        for row in pack:
            told = [*told, *row.ids[row.question_start :], *row.answer]
            learned += [-100] * (row.own_tokens - len(row.answer)) + row.answer
        start = length - len(told)
        ids[index, start:] = torch.tensor(told)
        seen[index, start:] = 1
        labels[index, start:] = torch.tensor(learned)
        asked = length if form.weigh_by_answer else length - len(pack[-1].answer)
        pairs += pack[0].pairs(index, start, asked)
    batch = {"input_ids": ids, "attention_mask": seen}
    if len(packs) < len(rows):
        batch["blocks"], batch["position_ids"] = blocks_of(packs, length)
    if first:
        batch["pixel_values" if encoded is None else encoded.key] = torch.cat(pixels)
        batch["slots"] = torch.from_numpy(_slots(packs, first, processor.config.tokens_per_tile))
    if pairs:
        batch["pairs"] = torch.tensor([astuple(pair) for pair in pairs])
    return batch | ({} if replies is None else {"labels": labels}), rows


class Row:
    """One prompt on its way into the batch."""

    def __init__(
        self,
        processor: EarthMindProcessor,
        prompt: Prompt,
        options: Options,
        form: TrainingForm,
        answer: list[int],
    ) -> None:
        self.prompt, self.answer, self.off = prompt, answer, OFF.index(options.sensor_off)
        self._single = processor.arrange(prompt, options).single_tile
        counts = [processor.tile_count(view.shape, single=self._single) for view in prompt.views]
        self.layout: PromptLayout = processor.layout(prompt, counts, options)
        self.ids: list[int] = self.layout.input_ids[0].tolist()
        self.question_start = self.layout.question_start
        self.fused = [tile for view, tile in self.layout.blocks if view == FUSED]
        read = {view for view, _ in self.layout.blocks}
        # A fused prompt reads SAR before optical, each sensor's squares without a gap.
        order = sorted(range(len(prompt.views)), key=lambda i: prompt.views[i].modality != "sar")
        self.kept = [index for index in order if self.fused or index in read]
        self.at: dict[int, int] = {}
        self.squares = 0
        for index in self.kept:
            self.at[index] = self.squares
            self.squares += counts[index]
        self.first = 0
        self.prefix: Hashable | None = None
        """What it shares with those of equal prefix; None = nothing."""
        if form.two_blocks and self.layout.form == "pair" and not self.fused:
            self._split(processor)

    @property
    def own_tokens(self) -> int:
        """Of question and answer, without the pictures before them."""
        return len(self.ids) - self.question_start + len(self.answer)

    def pixels(self, processor: EarthMindProcessor, encoded: Encoded | None) -> list[Tensor]:
        """Its squares, view by view."""
        views = [self.prompt.views[index] for index in self.kept]
        if encoded is not None:
            return [encoded.squares(view, single=self._single) for view in views]
        arrays = [processor.pixel_values(view, single=self._single) for view in views]
        return [torch.from_numpy(array) for array in arrays]

    def name_prefix(self, hash_of: Callable[[View], str]) -> None:
        """Set `prefix`; text alone has none, and fused tokens serve one question only."""
        if self.fused or not self.question_start:
            return
        order = [(self.kept.index(view), tile) for view, tile in self.layout.blocks]
        hashes = [hash_of(self.prompt.views[index]) for index in self.kept]
        self.prefix = (tuple(self.ids[: self.question_start]), tuple(order), tuple(hashes))

    def aligned(self) -> tuple[int, int, int] | None:
        """First SAR square, first optical square and tiles of a pair that is cut alike.

        None without a pair, and where several views of a sensor leave open which ones match.
        """
        if len(self.kept) != 2 or self.layout.form != "pair":
            return None
        tiles = self.at[self.kept[1]]  # SAR comes first
        if self.squares != 2 * tiles:
            return None
        return self.first, self.first + tiles, tiles

    def _split(self, processor: EarthMindProcessor) -> None:
        """Two picture blocks of the same tokens instead of one."""
        half = len(self.layout.blocks) * processor.config.tokens_per_tile // 2
        at = self.ids.index(processor.image_token_id) + half
        ids = processor.tokenizer.added_tokens_encoder
        self.ids[at:at] = [ids[IMAGE_END], ids[IMAGE_START]]
        self.question_start += 2

    def pairs(self, index: int, start: int, stop: int) -> list[PairRow]:
        """The pair to fuse, if this is one; `self.first` must be set."""
        if not self.fused:
            return []
        optical = [i for i in self.kept if self.prompt.views[i].modality == "optical"]
        tiles = len(self.fused)
        return [
            PairRow(
                prompt=index,
                sar_first=self.first,
                sar_tiles=tiles,
                optical_first=self.first + self.at[optical[0]],
                optical_tiles=self.squares - self.at[optical[0]],
                composites=len(optical),
                text_start=start + self.question_start,
                text_stop=stop,
                off=self.off,
            )
        ]

    def rows(self, fused_first: int, each: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of the table of visual tokens, in the order of the placeholders.

        Returns:
            Those of the pictures, and those that its regions repeat.
        """
        blocks = [np.zeros(0, np.int64)]
        for view, tile in self.layout.blocks:
            first = fused_first + tile if view == FUSED else self.first + self.at[view] + tile
            blocks.append(first * each + np.arange(each, dtype=np.int64))
        regions = [np.zeros(0, np.int64)]
        if self.layout.region_block is not None:
            marked = blocks[1 + self.layout.region_block]
            regions += [marked[cells] for cells in self.layout.region_cells]
        return np.concatenate(blocks), np.concatenate(regions)


def _name_prefixes(rows: Sequence[Row]) -> None:
    """`Row.prefix` of all rows; questions of one scene often hold the same views."""
    known: dict[int, str] = {}

    def hash_of(view: View) -> str:
        if id(view) not in known:
            known[id(view)] = view.hash
        return known[id(view)]

    for row in rows:
        row.name_prefix(hash_of)


def _squares(
    rows: Sequence[Row], processor: EarthMindProcessor, encoded: Encoded | None
) -> tuple[list[Tensor], int]:
    """Squares of all rows and their number; those of one prefix are there once."""
    pixels: list[Tensor] = []
    known: dict[Hashable, int] = {}
    count = 0
    for row in rows:
        row.first = count
        if row.prefix is not None:
            row.first = known.setdefault(row.prefix, count)
        if row.first == count:
            pixels += row.pixels(processor, encoded)
            count += row.squares
    return pixels, count


def _slots(packs: Sequence[Sequence[Row]], squares: int, each: int) -> NDArray[np.int64]:
    """(n,) of the whole batch; fused tokens lie behind those of all squares."""
    parts, fused_first = [], squares
    for pack in packs:
        found = [row.rows(fused_first, each) for row in pack]
        parts += [found[0][0], *(regions for _, regions in found)]
        fused_first += len(pack[0].fused)
    return np.concatenate(parts)


def _pad(processor: EarthMindProcessor) -> int:
    """Any id does where nothing is read; the tokenizer's own is the least surprising."""
    pad = processor.tokenizer.pad_token_id
    return int(pad if pad is not None else processor.eos_token_id or 0)
