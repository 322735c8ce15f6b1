"""How the visual tokens of several views meet before the language model reads them.

`concatenate` keeps every token and lets attention do the rest. `weighted` makes one token per
place out of both sensors, by how well each fits the question and how clear-cut it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from earthmind_lab.errors import PromptError
from earthmind_lab.exchange import Modality

RELEVANCE_TEMPERATURE = 0.2
QUALITY_TEMPERATURE = 0.1
TEXT_SHARE = 0.7
OFF: tuple[Modality | None, ...] = (None, "optical", "sar")
"""How batches of tensors number the sensor that is switched off."""


def concatenate(tokens: Sequence[Tensor], blocks: Sequence[tuple[int, int]]) -> Tensor:
    """Visual tokens in the order of the prompt's blocks.

    Args:
        tokens: Per view (tiles, T, D).
        blocks: (view, tile) of each block.

    Returns:
        (blocks * T, D).

    Example:
        >>> sar, optical = torch.zeros(1, 2, 1), torch.ones(1, 2, 1)
        >>> concatenate([optical, sar], [(1, 0), (0, 0)]).flatten().tolist()
        [0.0, 0.0, 1.0, 1.0]
    """
    return torch.cat([tokens[view][tile] for view, tile in blocks])


def weighted(
    optical: Tensor,
    sar: Tensor,
    text: Tensor,
    *,
    composites: int = 1,
    off: Modality | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """One token per place: a convex sum of both sensors, without learned parameters.

    Computed in float32 whatever comes in: the quality term divides by a narrow range and is not
    reproducible in bf16.

    Args:
        optical: (tiles, T, D) projected tokens. For a SAR picture of one tile, more are averaged,
            as published.
        sar: (tiles, T, D) projected tokens.
        text: (M, D) embeddings of everything after the last picture block of the prompt.
        composites: Optical pictures that `optical` holds, one after the other. Where SAR has
            several tiles they are averaged tile by tile; the published code stops there, or, when
            the counts happen to agree, pairs pictures with tiles.
        off: A sensor whose weights are zero: what the other one alone would have said, through
            the same prompt. A grey picture instead would not be neutral.

    Returns:
        Fused tokens (tiles, T, D) in the dtype of `sar`; weights of optical and of SAR, each
        (tiles, T) float32, summing to 1.

    Raises:
        PromptError: The tile counts differ and SAR has more than one tile.
    """
    dtype = sar.dtype
    optical, sar, text = optical.float(), sar.float(), text.float()
    optical = on_tiles_of_sar(optical, len(sar), composites)
    if off is not None:
        by_optical = torch.full(sar.shape[:2], float(off == "sar"), device=sar.device)
        return (optical if off == "sar" else sar).to(dtype), by_optical, 1 - by_optical
    by_text = torch.sigmoid(relevance(optical, text) - relevance(sar, text))
    by_quality = torch.sigmoid(quality(optical) - quality(sar))
    weight = TEXT_SHARE * by_text + (1 - TEXT_SHARE) * by_quality  # (tiles, T)
    fused = weight[..., None] * optical + (1 - weight[..., None]) * sar
    return fused.to(dtype), weight, 1 - weight


def on_tiles_of_sar(optical: Tensor, tiles: int, composites: int) -> Tensor:
    """Optical tokens (tiles of SAR, T, D) from those of all composites."""
    if tiles == 1:
        return optical.mean(dim=0, keepdim=True)
    if len(optical) != composites * tiles:
        raise PromptError(
            "Optical and SAR pictures of different size cannot be fused.",
            found=f"{len(optical) // composites} optical and {tiles} SAR tiles",
            change="put both on one grid, or fusion='concatenate'",
        )
    return optical.reshape(composites, tiles, *optical.shape[1:]).mean(dim=0)


def _unit(tokens: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(tokens, dim=-1, keepdim=True)
    return tokens / (length + 1e-6)


def relevance(tokens: Tensor, text: Tensor) -> Tensor:
    """(tiles, T): the best cosine to any text token, over a temperature."""
    cosine = _unit(tokens) @ _unit(text).T  # (tiles, T, M)
    return cosine.amax(dim=-1) / RELEVANCE_TEMPERATURE


def quality(tokens: Tensor) -> Tensor:
    """(tiles, T): 1 where a token resembles few others, 0 where it resembles most.

    Lowest and highest entropy are taken over all tiles of the sensor together.
    """
    unit = _unit(tokens)
    share = torch.softmax(unit @ unit.transpose(1, 2) / QUALITY_TEMPERATURE, dim=-1)
    entropy = -(share * torch.log(share + 1e-10)).sum(dim=-1)  # (tiles, T)
    low, high = entropy.min(), entropy.max()
    return 1 - (entropy - low) / (high - low + 1e-6)
