"""What EarthMind is trained on: the published losses as plain functions of tensors.

None of them needs a model. Each says where it comes from and what the published code does; where
that code goes astray the right form is the default and the published one has a name. Weights are
not applied inside: `LossWeights` holds them and sums up. Everything is computed in float32.

Sources: EarthMind (arXiv 2506.01667, first version) and its training code of June 2025; the newer
training code kept only the answer and mask losses. The mask losses come from PointRend (arXiv
1912.08193) by way of Mask2Former (arXiv 2112.01527) and Sa2VA (arXiv 2501.04001).

Shapes: B batch, N objects, P points, L prompt length, T visual tokens of a tile, D width, H W
pixels, h w cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from earthmind_lab.errors import EngineError
from earthmind_lab.model.attention import FLOOR

IGNORED = -100
"""Label of a token that is read, not learned."""
POINTS = 12544
"""Points per mask, 112 x 112."""
OVERSAMPLE = 3
"""Candidates per point."""
UNCERTAIN_SHARE = 0.75
"""Share of the points that is taken where the model is least sure."""
OBJECTS = 5
"""Objects per sample."""
COUNT_GUARD = 1e-4
"""Added to a count that is divided by: no object then gives 0, not NaN."""


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """How much each loss counts; 0 leaves it out.

    Example:
        >>> weights = LossWeights.june()
        >>> float(weights.total({"text": torch.tensor(1.0), "mask": torch.tensor(0.25)}))
        1.5
    """

    text: float = 1.0
    """`text_loss`."""
    mask: float = 2.0
    """Cross-entropy part of `mask_losses`."""
    dice: float = 0.5
    """Dice part of `mask_losses`."""
    alignment: float = 0.0
    """`alignment_loss`; pairs only."""
    attention: float = 0.0
    """`attention_loss`; a single view with masks only."""

    @classmethod
    def june(cls) -> LossWeights:
        """Those of the June 2025 code (a pair keeps the tokens of both sensors)."""
        return cls(alignment=1.0, attention=0.1)

    @classmethod
    def newer(cls) -> LossWeights:
        """Those of the code from October 2025 on (a pair is fused): answer and masks only."""
        return cls()

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Weighted sum of the losses a sample has.

        Args:
            losses: Scalars by the names of the fields; a sample without masks has none of theirs.

        Raises:
            EngineError: A name that isn't a field, or nothing to sum.
        """
        known = {field.name for field in fields(self)}
        if not losses or not known.issuperset(losses):
            raise EngineError(
                "These losses cannot be summed.",
                found=", ".join(sorted(losses)) or "none",
                change=f"names out of {', '.join(sorted(known))}",
            )
        # A loss of weight 0 may be anything, even NaN: it's left out, not multiplied.
        used = {name: loss for name, loss in losses.items() if getattr(self, name)}
        parts = [getattr(self, name) * loss for name, loss in used.items()]
        return torch.stack(parts).sum() if parts else next(iter(losses.values())) * 0


# --- answer --------------------------------------------------------------------------------------


def text_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the next token, averaged over the learned tokens of the whole batch.

    The published data sets learn the answer and the ``<|end|>`` after it, nothing of the prompt.

    Args:
        logits: (B, L, vocabulary), of each position for the one after it.
        labels: (B, L) int64, aligned with the *inputs* (shifted in here); `IGNORED` = not learned.

    Returns:
        Scalar; 0 where no token is learned.

    Example:
        >>> sure = torch.tensor([[[9.0, -9.0], [0.0, 0.0]]])  # after token 0: surely 0
        >>> round(float(text_loss(sure, torch.tensor([[0, 0]]))), 4)
        0.0
    """
    wanted = labels[:, 1:]
    learned = wanted != IGNORED
    return token_loss(logits[:, :-1][learned], wanted[learned])


def token_loss(logits: Tensor, ids: Tensor) -> Tensor:
    """`text_loss` of the learned tokens alone, so that no logits of others need to be there.

    Args:
        logits: (M, vocabulary) at the position before each.
        ids: (M,) the tokens.

    Returns:
        Scalar; 0 where M is 0.
    """
    summed = functional.cross_entropy(logits.float(), ids, reduction="sum")
    return summed / max(len(ids), 1)


# --- masks ---------------------------------------------------------------------------------------


def object_indices(
    found: int,
    count: int = OBJECTS,
    *,
    generator: torch.Generator,
    how: Literal["sample", "fill"] = "sample",
) -> Tensor:
    """Which objects of a sample are trained on, so that every sample has equally many.

    Args:
        found: Objects of the sample.
        count: Objects wanted.
        generator: Source of randomness.
        how: ``sample`` draws with replacement, as the published data sets do with the phrases of a
            picture. ``fill`` is what the published model does with masks it is handed: too few are
            repeated in their order, of too many a random part is kept.

    Returns:
        (count,) int64 on the CPU: indices into the objects, for masks and phrases alike.

    Raises:
        EngineError: There is no object.
    """
    if found < 1:
        raise EngineError(
            "A sample without objects cannot be brought to a number of objects.",
            change="leave its mask losses out",
        )
    if how == "sample":
        return torch.randint(found, (count,), generator=generator, device=generator.device).cpu()
    if found > count:
        return torch.randperm(found, generator=generator, device=generator.device)[:count].cpu()
    return torch.arange(count) % found


def sample_at(values: Tensor, points: Tensor) -> Tensor:
    """Bilinear values at points; beyond the outermost pixel centres they fade to 0.

    Args:
        values: (N, H, W).
        points: (N, P, 2) as x, y in 0..1 over the whole picture, edge to edge.

    Returns:
        (N, P) float32.

    Example:
        >>> picture = torch.tensor([[[1.0, 3.0]]])  # pixel centres at x = 0.25 and 0.75
        >>> sample_at(picture, torch.tensor([[[0.25, 0.5], [0.5, 0.5]]])).tolist()
        [[1.0, 2.0]]
    """
    places = (2 * points - 1)[:, :, None].float()  # (N, P, 1, 2)
    found = functional.grid_sample(values[:, None].float(), places, align_corners=False)
    return found[:, 0, :, 0]


@torch.no_grad()
def uncertain_points(
    logits: Tensor,
    count: int = POINTS,
    *,
    generator: torch.Generator,
    oversample: int = OVERSAMPLE,
    uncertain: float = UNCERTAIN_SHARE,
    hidden: Tensor | None = None,
) -> Tensor:
    """Points to compare a mask at: most where its logits are near 0, the rest anywhere.

    Args:
        logits: (N, H, W).
        count: Points per mask, P.
        generator: Source of randomness; points are drawn on its device, so a CPU generator gives
            the same points whatever device the logits are on.
        oversample: Candidates per point that the uncertain ones are chosen from.
        uncertain: Share of uncertain points, 0..1.
        hidden: (N, H, W) above 0 where nothing is compared: no uncertain points while there are
            others. None = nowhere.

    Returns:
        (N, P, 2) as x, y in 0..1; the uncertain ones first.
    """

    def draw(points: int) -> Tensor:
        drawn = torch.rand(
            (logits.shape[0], points, 2), generator=generator, device=generator.device
        )
        return drawn.to(logits.device)

    candidates = draw(count * oversample)
    doubtful = int(uncertain * count)
    unsure = -sample_at(logits, candidates).abs()  # (N, count * oversample)
    if hidden is not None:
        unsure = unsure.masked_fill(sample_at(hidden, candidates) > 0, float("-inf"))
    chosen = unsure.topk(doubtful, dim=1).indices[..., None].expand(-1, -1, 2)
    return torch.cat([candidates.gather(1, chosen), draw(count - doubtful)], dim=1)


def mask_losses(
    logits: Tensor,
    masks: Tensor,
    *,
    generator: torch.Generator,
    points: int = POINTS,
    known: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy and Dice of drawn masks, at sampled points.

    Dice is 1 - (2 Σpt + 1) / (Σp + Σt + 1) over the points of one object (p probability, t truth).

    Args:
        logits: (N, h, w) as the mask decoder gives them.
        masks: (N, H, W) truth, 0 or 1 (any number type); brought to (h, w) by the nearest pixel,
            as published.
        generator: Source of randomness.
        points: Per mask.
        known: (N, H, W) 1 where the truth is known (our own; none is published). Points that touch
            anything else aren't compared, and the other points of a mask stand for them: each mask
            counts as much as before, and one of which nothing is known, nothing. None = everywhere.

    Returns:
        Binary cross-entropy averaged over points and objects, and Dice averaged over objects,
        without their weights; both 0 where N is 0.

    Raises:
        EngineError: Another number of masks than of logits.
    """
    if len(logits) != len(masks):
        # The published code cuts both to the shorter list and then trains on neither.
        raise EngineError(
            "Each drawn mask needs its truth.",
            found=f"{len(logits)} drawn, {len(masks)} true",
            change="one mask per [SEG] of the answer",
        )
    if not len(logits):
        return logits.sum() * 0, logits.sum() * 0
    size = (logits.shape[1], logits.shape[2])
    truth = functional.interpolate(masks[:, None].float(), size, mode="nearest")[:, 0]
    hidden = weight = None
    if known is not None:
        hidden = 1 - functional.interpolate(known[:, None].float(), size, mode="nearest")[:, 0]
    places = uncertain_points(logits, points, generator=generator, hidden=hidden)
    drawn, true = sample_at(logits, places), sample_at(truth, places)  # (N, P)
    share = drawn.sigmoid()
    if hidden is not None:
        seen = (sample_at(hidden, places) <= 0).float()  # (N, P)
        weight = seen * points / seen.sum(dim=1, keepdim=True).clamp(min=1)
        share, true = share * seen, true * seen
    entropy = functional.binary_cross_entropy_with_logits(drawn, true, weight, reduction="sum")
    overlap = 2 * (share * true).sum(dim=1) + 1
    dice = 1 - overlap / (share.sum(dim=1) + true.sum(dim=1) + 1)  # (N,)
    return entropy / (drawn.numel() + COUNT_GUARD), dice.sum() / (len(dice) + COUNT_GUARD)


# --- pairs ---------------------------------------------------------------------------------------


def alignment_loss(sar: Tensor, optical: Tensor) -> Tensor:
    """Mean squared difference of both sensors' tokens at equal places.

    The paper calls it contrastive alignment and the code ``cos_loss``; it has neither negatives
    nor a cosine nor a temperature. The tokens are those *before* `training_gate`. Only pictures on
    one grid, cut alike, have equal places.

    Args:
        sar: (tiles, T, D) after the projector.
        optical: (tiles, T, D) after the projector.

    Returns:
        Scalar.

    Raises:
        EngineError: Different shapes.
    """
    _check_equal(sar, optical)
    return functional.mse_loss(sar.float(), optical.float())


def training_gate(sar: Tensor, optical: Tensor, query: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gate on a pair's tokens in the June 2025 training code.

    One number per place, g = sigmoid(Σ_d (q0_d + q1_d) s_d r_d), multiplies the tokens of both
    sensors there. The paper's two modality queries thus act as their sum only, and both sensors
    always get the same importance. The published inference code doesn't apply the gate, and the
    training code doesn't save its query: it's here to repeat that training, not to answer with.

    Args:
        sar: (tiles, T, D) after the projector.
        optical: (tiles, T, D) after the projector.
        query: (2, D), the checkpoint's ``local_query``.

    Returns:
        Gate (tiles, T, 1) float32, then gated SAR and gated optical tokens (tiles, T, D) in the
        dtype of each sensor.

    Raises:
        EngineError: Different shapes, or a query of another width.
    """
    _check_equal(sar, optical)
    if query.shape != (2, sar.shape[-1]):
        raise EngineError(
            "The query does not fit the tokens.",
            found=f"query {tuple(query.shape)}, tokens {sar.shape[-1]} wide",
            change=f"a query of shape (2, {sar.shape[-1]})",
        )
    product = sar.float() * optical.float()
    gate = torch.sigmoid((product * query.float().sum(dim=0)).sum(dim=-1, keepdim=True))
    return gate, (gate * sar).to(sar.dtype), (gate * optical).to(optical.dtype)


def _check_equal(sar: Tensor, optical: Tensor) -> None:
    if sar.shape != optical.shape:
        raise EngineError(
            "Tokens of a pair must lie on one grid.",
            found=f"SAR {tuple(sar.shape)}, optical {tuple(optical.shape)}",
            change="bring both pictures to one grid and size",
        )


# --- attention of [SEG] --------------------------------------------------------------------------


def attention_loss(attention: Tensor, target: Tensor) -> Tensor:
    """Divergence of [SEG] attention from its target, KL(target || attention).

    The paper's spatial attention prompting; in the code a loss of single-view samples with masks.
    The attention isn't rescaled to sum to 1 over the visual tokens, so the loss also asks [SEG] to
    look at the picture rather than at text.

    Args:
        attention: (N, tokens) from `attention_to_views`.
        target: (N, tokens) from `attention_target`.

    Returns:
        Scalar, the mean over objects; 0 without objects.

    Raises:
        EngineError: Different shapes.
    """
    if attention.shape != target.shape:
        raise EngineError(
            "Attention and its target do not fit together.",
            found=f"{tuple(attention.shape)} and {tuple(target.shape)}",
            change="one mask per [SEG], no marked regions, and the grid the view was cut to",
        )
    log = torch.log(attention.float() + FLOOR)
    summed = functional.kl_div(log, target.float(), reduction="sum")
    return summed / max(len(target), 1)
