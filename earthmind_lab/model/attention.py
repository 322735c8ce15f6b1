"""What the two EarthMind papers call attention, beside the language model's own.

First paper (arXiv 2506.01667, version 1), spatial attention prompting: in the code it's a training
loss that pulls the attention of [SEG] onto the object. `attention_to_views` and `attention_target`
make the two sides of `losses.attention_loss`.

Second paper (version 2 of it), hierarchical cross-modal attention between the sensors:
`HierarchicalCrossModalAttention`. Its code isn't public; the published one has `fusion.weighted`.

Shapes: N objects, L prompt length, T visual tokens of a tile, M text tokens, D width, H W pixels.
"""

from __future__ import annotations

from math import isqrt
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from earthmind_lab.errors import EngineError, PromptError

FLOOR = 1e-6
"""Added to the sum a target is divided by, and to attention before its logarithm."""

Placement = Literal["tiles", "published"]

# --- spatial attention prompting -----------------------------------------------------------------


def attention_to_views(
    attention: Tensor, input_ids: Tensor, *, seg_token_id: int, image_token_id: int
) -> Tensor:
    """How much each [SEG] of one sample looks at each visual token.

    The shares aren't rescaled: the rest of each row goes to text. Tokens that a marked region
    repeats are visual tokens too, so a sample with regions has no `attention_target`.

    Args:
        attention: (heads, L, L) of the last layer, rows looking at columns; only the ``eager``
            attention kernel returns it.
        input_ids: (L,) of prompt and answer.
        seg_token_id: Of [SEG].
        image_token_id: Of the placeholders.

    Returns:
        (N, tokens) float32, averaged over heads.
    """
    rows, columns = input_ids == seg_token_id, input_ids == image_token_id
    return attention[:, rows][:, :, columns].float().mean(dim=0)


def published_grid(tokens: int) -> tuple[int, int]:
    """The raster (h, w) the published code takes a number of visual tokens for.

    The pair of factors with the smallest difference, h in 8..63, the smaller h of two. Right for
    one tile only: several tiles and the thumbnail lie one after the other, not on one raster.

    Raises:
        EngineError: No factor lies in 8..63.

    Example:
        >>> published_grid(256), published_grid(3 * 256), published_grid(7 * 256)
        ((16, 16), (24, 32), (32, 56))
    """
    pairs = [(h, tokens // h) for h in range(8, 64) if tokens % h == 0]
    if not pairs:
        raise EngineError(
            f"{tokens} visual tokens have no published raster.",
            found="no factor in 8..63",
            change="placement='tiles'",
        )
    return min(pairs, key=lambda pair: abs(pair[0] - pair[1]))


def attention_target(
    masks: Tensor,
    *,
    side: int,
    grid: tuple[int, int] = (1, 1),
    thumbnail: bool = True,
    placement: Placement = "tiles",
) -> Tensor:
    """Where the attention of each [SEG] should go: on the visual tokens its object lies in.

    Args:
        masks: (N, H, W) truth over the whole picture, 0 or 1; a token counts as inside as soon as
            one of its pixels is. The published code hands over masks of 256 x 256.
        side: Visual tokens along a tile's edge.
        grid: Columns and rows of tiles.
        thumbnail: The whole picture follows as a last tile where there are several.
        placement: ``tiles`` gives each tile the part of the mask under it, and the thumbnail all of
            it. ``published`` lays the mask over `published_grid`, which puts it in the wrong
            places as soon as there are several tiles; to repeat that training only.

    Returns:
        (N, tokens) float32, each row summing to 1; 0 throughout for an empty mask.

    Example:
        >>> east = torch.tensor([[[0, 1]]])
        >>> attention_target(east, side=1, grid=(2, 1)).round(decimals=2).tolist()
        [[0.0, 0.5, 0.5]]
    """
    columns, rows = grid
    several = columns * rows > 1
    if placement == "published":
        tiles = columns * rows + int(thumbnail and several)
        target = _pooled(masks, *published_grid(tiles * side * side)).flatten(1)
    else:
        whole = _pooled(masks, rows * side, columns * side)  # (N, rows * side, columns * side)
        split = whole.reshape(-1, rows, side, columns, side).transpose(2, 3)
        parts = [split.flatten(1)]  # tile by tile, row by row inside
        if thumbnail and several:
            parts.append(_pooled(masks, side, side).flatten(1))
        target = torch.cat(parts, dim=1)
    return target / (target.sum(dim=1, keepdim=True) + FLOOR)


def _pooled(masks: Tensor, height: int, width: int) -> Tensor:
    """(N, height, width) float32: 1 where any pixel of the cell is set."""
    set_ = (masks > 0).float()[:, None]
    return functional.adaptive_max_pool2d(set_, (height, width))[:, 0]


# --- hierarchical cross-modal attention ----------------------------------------------------------


class HierarchicalCrossModalAttention(nn.Module):
    """One token per place out of both sensors, weighted by attention.

    Stated in the paper: optical tokens are pooled to the SAR grid; both sensors attend to each
    other, softmax of scaled dot products (square root of D); the importance alpha of a token is
    the mean attention it receives; beta is its mean attention with the text; gamma = lambda alpha +
    (1 - lambda) beta with a learned lambda; a softmax over the two sensors at each place gives the
    weights of a convex sum, so a pair costs as many tokens as one view.

    Our reading, where the paper leaves it open:

    - The sensors meet tile by tile, without projections of queries and keys.
    - Attention with the text is that of each text token over the tokens of both sensors of a tile
      together, averaged over text. Normalised over text instead, its mean would be the same for
      every token; normalised per sensor, the sensors would not compete.
    - lambda is the sigmoid of the parameter, so that it stays between 0 and 1; it starts at 0.5.
    - Different tile counts are averaged over tiles as in `fusion.weighted`, which only a SAR
      picture of one tile allows.

    As stated, importances are shares of about 1/T, so with 256 tokens the weights hardly leave
    0.5. `relative` (our own) measures them in multiples of an even share.

    Never trained by us, and no published weights have it: put before a checkpoint trained with
    another fusion it gives worse answers. Computed in float32 whatever comes in.

    Args:
        mixing: lambda to start from, inside 0..1.
        relative: Importances in multiples of an even share.

    Attributes:
        mixing_logit: The parameter behind lambda, a scalar.

    Example:
        >>> fuse = HierarchicalCrossModalAttention()
        >>> same = torch.ones(1, 4, 2)
        >>> fused, optical, sar = fuse(same, same, torch.ones(3, 2))
        >>> fused.shape, optical.tolist() == sar.tolist() == [[0.5] * 4]
        (torch.Size([1, 4, 2]), True)
    """

    def __init__(self, *, mixing: float = 0.5, relative: bool = False) -> None:
        super().__init__()
        if not 0 < mixing < 1:
            raise EngineError(
                "The mixing of sensor and text importance lies between 0 and 1.",
                found=f"mixing={mixing}",
                change="mixing=0.5",
            )
        self.mixing_logit = nn.Parameter(torch.logit(torch.tensor(float(mixing))))
        self.relative = relative

    @property
    def mixing(self) -> Tensor:
        """lambda: how much the other sensor counts against the text; a scalar, 0..1."""
        return torch.sigmoid(self.mixing_logit.float())

    def forward(self, optical: Tensor, sar: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Fuse a pair; called like `fusion.weighted`.

        Args:
            optical: (tiles, T, D) projected tokens; pooled where its grid is not the SAR one's.
            sar: (tiles, T, D) projected tokens.
            text: (M, D) embeddings of the question.

        Returns:
            Fused tokens (tiles, T, D) in the dtype of `sar`; weights of optical and of SAR, each
            (tiles, T) float32, summing to 1.

        Raises:
            PromptError: The grids cannot be brought together, or there is no text.
        """
        if not len(text):
            raise PromptError("Fusing by the question needs one.", change="ask something")
        dtype = sar.dtype
        sar, text = sar.float(), text.float()
        optical = _on_grid(optical.float(), sar.shape[0], sar.shape[1])
        gamma = self._importance(optical, sar, text)  # (tiles, T, 2)
        weight = torch.sigmoid(gamma[..., 0] - gamma[..., 1])  # softmax over two
        fused = weight[..., None] * optical + (1 - weight[..., None]) * sar
        return fused.to(dtype), weight, 1 - weight

    def _importance(self, optical: Tensor, sar: Tensor, text: Tensor) -> Tensor:
        """(tiles, T, 2) gamma of the optical and of the SAR token at each place."""
        tokens, width = sar.shape[1:]
        likeness = optical @ sar.transpose(1, 2) / width**0.5  # (tiles, T optical, T SAR)
        received = [likeness.softmax(dim=1).mean(dim=2), likeness.softmax(dim=2).mean(dim=1)]
        alpha = torch.stack(received, dim=-1)  # (tiles, T, 2); sums to 1 per sensor
        both = torch.cat([optical, sar], dim=1)  # (tiles, 2 T, D)
        by_text = (text @ both.transpose(1, 2) / width**0.5).softmax(dim=-1).mean(dim=1)
        beta = by_text.reshape(-1, 2, tokens).transpose(1, 2)  # sums to 1 over both sensors
        if self.relative:
            alpha, beta = alpha * tokens, beta * 2 * tokens
        gamma: Tensor = self.mixing * alpha + (1 - self.mixing) * beta
        return gamma


def _on_grid(optical: Tensor, tiles: int, tokens: int) -> Tensor:
    """Optical tokens (tiles, T, D) averaged to as many tiles and tokens as SAR has."""
    if optical.shape[0] != tiles:
        if tiles != 1:
            raise PromptError(
                "Optical and SAR pictures of different size cannot be fused.",
                found=f"{optical.shape[0]} optical and {tiles} SAR tiles",
                change="put both on one grid, or fusion='concatenate'",
            )
        optical = optical.mean(dim=0, keepdim=True)
    if optical.shape[1] == tokens:
        return optical
    here, there = isqrt(optical.shape[1]), isqrt(tokens)
    if here**2 != optical.shape[1] or there**2 != tokens:
        raise PromptError(
            "Only square token grids can be pooled.",
            found=f"{optical.shape[1]} optical and {tokens} SAR tokens in a tile",
            change="encode both sensors with one vision tower",
        )
    cells = optical.transpose(1, 2).reshape(tiles, -1, here, here)  # (tiles, D, h, w)
    return functional.adaptive_avg_pool2d(cells, (there, there)).flatten(2).transpose(1, 2)
