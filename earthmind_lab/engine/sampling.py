"""The next token of some answers, each likeliest or drawn with the ask's own seed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from earthmind_lab.engine.base import Step

COLDEST = 1e-6
"""Temperatures below are greedy: float32 could not hold logits divided by them."""


def chosen(
    logits: Tensor, temperatures: Sequence[float], generators: Sequence[torch.Generator]
) -> tuple[list[Step], list[torch.Generator]]:
    """Choose a token for each answer; should one fail, nothing was drawn for any.

    Args:
        logits: (B, V) float32.
        temperatures: Of each answer.
        generators: Of each; they stay as they are.

    Returns:
        The tokens, and what each answer draws from next.
    """
    ids: list[int] = logits.argmax(dim=-1).tolist()
    after = list(generators)
    for number, (temperature, generator) in enumerate(zip(temperatures, generators, strict=True)):
        if temperature >= COLDEST:
            # Drawn on the CPU: the same seed gives the same draws on every device.
            after[number] = generator.clone_state()
            odds = torch.softmax(logits[number].cpu() / temperature, dim=-1)
            ids[number] = int(torch.multinomial(odds, 1, generator=after[number]))
    logprobs = torch.log_softmax(logits, dim=-1)
    picked = logprobs.gather(1, torch.tensor(ids, device=logits.device)[:, None])
    values = picked[:, 0].tolist()
    return [Step(token_id=i, logprob=p) for i, p in zip(ids, values, strict=True)], after
