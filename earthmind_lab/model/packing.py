"""Questions about the same pictures in one row: the pictures are read once.

A packed row is the picture block that its questions share (block 0), then one block per question
with its answer. Each question sees block 0 and itself, at the positions that it would have alone
behind the pictures, so that no number changes but by rounding. What is learned of a batch doesn't
depend on which of its questions share a row.

Where the sensors are fused by weights that depend on the question, its pictures are other tokens
for each question: such a prompt always has a row of its own.

Shapes: R rows, L columns; B samples, in the order of rows and of their blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from earthmind_lab.errors import EngineError

if TYPE_CHECKING:
    from earthmind_lab.model.batch import Row

PADDING = -1
"""Block of columns that nobody reads."""
PICTURES = 0
"""Block of the pictures, which every question of the row sees."""


@dataclass(frozen=True, kw_only=True)
class Packing:
    """How many questions may share a row."""

    most: int = 1
    """Questions of a row; 1 = each has its own."""
    longest: int | None = None
    """Tokens of a row: what would be longer begins another one."""


def share_rows(rows: Sequence[Row], packing: Packing) -> list[list[Row]]:
    """Which questions share a row; their order stays.

    Only questions that follow each other do, and only behind equal ids and equal pictures.

    Args:
        rows: In the order of the samples.
        packing: How many.
    """
    packs: list[list[Row]] = []
    length = 0
    for row in rows:
        last = packs[-1] if packs else None
        longer = length + row.own_tokens
        fits = packing.longest is None or longer <= packing.longest
        if (
            last is not None and len(last) < packing.most and fits
            and row.prefix is not None and row.prefix == last[0].prefix
        ):  # fmt: skip
            last.append(row)
            length = longer
        else:
            packs.append([row])
            length = row.question_start + row.own_tokens
    return packs


def blocks_of(packs: Sequence[Sequence[Row]], length: int) -> tuple[Tensor, Tensor]:
    """``blocks`` and ``position_ids``, each (R, L) int64, of rows that are padded on the left."""
    blocks = torch.full((len(packs), length), PADDING)
    positions = torch.zeros((len(packs), length), dtype=torch.long)
    for index, pack in enumerate(packs):
        start = pack[0].question_start
        at = length - start - sum(row.own_tokens for row in pack)
        blocks[index, at : at + start] = PICTURES
        positions[index, at : at + start] = torch.arange(start)
        at += start
        for number, row in enumerate(pack, start=1):
            blocks[index, at : at + row.own_tokens] = number
            positions[index, at : at + row.own_tokens] = start + torch.arange(row.own_tokens)
            at += row.own_tokens
    return blocks, positions


def mask_of(blocks: Tensor, kernel: str, dtype: torch.dtype) -> Tensor:
    """What each column of packed rows sees, for the language model.

    Args:
        blocks: (R, L).
        kernel: Name of its attention, as transformers calls it.
        dtype: Of the hidden states.

    Returns:
        (R, 1, L, L): bool for ``sdpa``, additive for ``eager``.

    Raises:
        EngineError: Another kernel, which takes no mask of this form.

    Example:
        >>> mask_of(torch.tensor([[-1, 0, 1, 2]]), "sdpa", torch.float32)[0, 0].int().tolist()
        [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 1, 0, 1]]
    """
    length = blocks.shape[1]
    ones = torch.ones(length, length, dtype=torch.bool, device=blocks.device)
    seen = (blocks[:, None] == PICTURES) | (blocks[:, None] == blocks[:, :, None])
    # Padding sees itself: a column that sees nothing has no softmax.
    seen = (seen & (blocks[:, None] != PADDING) & ones.tril()) | ones.triu().tril()
    seen = seen[:, None]
    if kernel == "sdpa":
        return seen
    if kernel == "eager":
        least = torch.finfo(dtype).min
        return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, least)
    raise EngineError(
        "Packed questions need an attention that takes a mask.",
        found=f"attn_implementation {kernel!r}",
        change="sdpa or eager, or packing=1",
    )


def spans(attention_mask: Tensor, blocks: Tensor | None) -> Iterator[tuple[int, Tensor]]:
    """Of each sample of a batch its row, and the columns (L,) bool that it is told by."""
    if blocks is None:
        yield from enumerate(attention_mask.bool())
        return
    for index, row in enumerate(blocks):
        for number in range(1, int(row.max()) + 1):
            yield index, (row == PICTURES) | (row == number)


def lengths(attention_mask: Tensor, blocks: Tensor | None) -> list[int]:
    """Tokens of each sample of a batch as if it had a row of its own."""
    return [int(read.sum()) for _, read in spans(attention_mask, blocks)]
