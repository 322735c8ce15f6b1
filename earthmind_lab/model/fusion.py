"""How the visual tokens of several views meet before the language model reads them.

`concatenate` keeps every token and lets attention do the rest. `weighted` makes one token per
place out of both sensors, by how well each fits the question and how clear-cut it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from earthmind_lab.errors import PromptError

RELEVANCE_TEMPERATURE = 0.2
QUALITY_TEMPERATURE = 0.1
TEXT_SHARE = 0.7


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


def weighted(optical: Tensor, sar: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One token per place: a convex sum of both sensors, without learned parameters.

    Computed in float32 whatever comes in: the quality term divides by a narrow range and is not
    reproducible in bf16.

    Args:
        optical: (tiles, T, D) projected tokens; another tile count than `sar`'s is averaged
            over tiles, which only a SAR picture of one tile allows.
        sar: (tiles, T, D) projected tokens.
        text: (M, D) embeddings of everything after the last picture block of the prompt.

    Returns:
        Fused tokens (tiles, T, D) in the dtype of `sar`; weights of optical and of SAR, each
        (tiles, T) float32, summing to 1.

    Raises:
        PromptError: The tile counts differ and SAR has more than one tile.
    """
    dtype = sar.dtype
    optical, sar, text = optical.float(), sar.float(), text.float()
    if optical.shape[0] != sar.shape[0]:
        if sar.shape[0] != 1:
            raise PromptError(
                "Optical and SAR pictures of different size cannot be fused.",
                found=f"{optical.shape[0]} optical and {sar.shape[0]} SAR tiles",
                change="put both on one grid, or fusion='concatenate'",
            )
        optical = optical.mean(dim=0, keepdim=True)
    relevance = [_relevance(tokens, text) for tokens in (optical, sar)]
    quality = [_quality(tokens) for tokens in (optical, sar)]
    by_text = torch.sigmoid(relevance[0] - relevance[1])
    by_quality = torch.sigmoid(quality[0] - quality[1])
    weight = TEXT_SHARE * by_text + (1 - TEXT_SHARE) * by_quality  # (tiles, T)
    fused = weight[..., None] * optical + (1 - weight[..., None]) * sar
    return fused.to(dtype), weight, 1 - weight


def _unit(tokens: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(tokens, dim=-1, keepdim=True)
    return tokens / (length + 1e-6)


def _relevance(tokens: Tensor, text: Tensor) -> Tensor:
    """(tiles, T): the best cosine to any text token, over a temperature."""
    cosine = _unit(tokens) @ _unit(text).T  # (tiles, T, M)
    return cosine.amax(dim=-1) / RELEVANCE_TEMPERATURE


def _quality(tokens: Tensor) -> Tensor:
    """(tiles, T): 1 where a token resembles few others, 0 where it resembles most.

    Lowest and highest entropy are taken over all tiles of the sensor together.
    """
    unit = _unit(tokens)
    share = torch.softmax(unit @ unit.transpose(1, 2) / QUALITY_TEMPERATURE, dim=-1)
    entropy = -(share * torch.log(share + 1e-10)).sum(dim=-1)  # (tiles, T)
    low, high = entropy.min(), entropy.max()
    return 1 - (entropy - low) / (high - low + 1e-6)
