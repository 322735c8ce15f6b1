"""Losses against plain arithmetic, transformers' own mask losses and the original training code.

The folder of reference runs is that of `tests/model/parity.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from earthmind_lab.errors import EngineError
from earthmind_lab.model import weighted
from earthmind_lab.model.attention import attention_target
from earthmind_lab.model.losses import (
    LossWeights,
    alignment_loss,
    attention_loss,
    mask_losses,
    object_indices,
    sample_at,
    text_loss,
    training_gate,
    uncertain_points,
)
from tests.model import parity_training as training
from tests.model.parity import FOLDER, base, built

RUNS = sorted(path.name.removesuffix(".train.safetensors") for path in FOLDER.glob("*.train.safe*"))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def disc(size: int, radius: float, centre: tuple[float, float] = (0.5, 0.5)) -> Tensor:
    """(size, size) 1 inside a circle; radius and centre (x, y) as shares of the side."""
    at = (torch.arange(size) + 0.5) / size
    away = (at[None] - centre[0]) ** 2 + (at[:, None] - centre[1]) ** 2
    return (away < radius**2).float()


# --- answer --------------------------------------------------------------------------------------


def test_text_loss_is_the_mean_of_the_learned_next_tokens() -> None:
    logits = torch.randn(2, 5, 7, generator=seeded())
    labels = torch.tensor([[-100, -100, 3, 1, -100], [6, -100, -100, 2, 0]])
    learned = [(0, 2), (0, 3), (1, 3), (1, 4)]  # label 6 stands first: nothing comes before it
    surprise = [-logits[b, i - 1].log_softmax(0)[labels[b, i]].item() for b, i in learned]
    assert text_loss(logits, labels).item() == pytest.approx(np.mean(surprise), abs=1e-6)


def test_text_loss_ignores_what_is_not_learned() -> None:
    logits = torch.randn(1, 4, 7, generator=seeded(), requires_grad=True)
    text_loss(logits, torch.tensor([[-100, -100, 2, -100]])).backward()
    assert logits.grad is not None
    assert logits.grad.abs().sum(-1).gt(0).tolist() == [[False, True, False, False]]


def test_text_loss_without_learned_tokens_is_zero_not_nan() -> None:
    logits = torch.randn(1, 3, 5, generator=seeded(), requires_grad=True)
    loss = text_loss(logits, torch.full((1, 3), -100))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None and not logits.grad.any()


def test_text_loss_of_half_precision_is_computed_in_float32() -> None:
    logits = torch.randn(1, 50, 400, generator=seeded()).bfloat16()
    labels = torch.randint(400, (1, 50), generator=seeded(1))
    assert text_loss(logits, labels).dtype == torch.float32
    assert torch.equal(text_loss(logits, labels), text_loss(logits.float(), labels))


# --- objects -------------------------------------------------------------------------------------


def test_objects_are_sampled_with_replacement() -> None:
    drawn = torch.stack([object_indices(3, generator=seeded(seed)) for seed in range(200)])
    assert drawn.shape == (200, 5)
    assert drawn.min() == 0 and drawn.max() == 2
    counts = torch.bincount(drawn.flatten(), minlength=3) / drawn.numel()
    assert (counts - 1 / 3).abs().max() < 0.06
    # Five out of seven repeat one now and then only with replacement.
    many = [object_indices(7, generator=seeded(seed)) for seed in range(50)]
    assert any(len(row.unique()) < 5 for row in many)


def test_filling_repeats_few_in_order_and_keeps_some_of_many() -> None:
    assert object_indices(2, generator=seeded(), how="fill").tolist() == [0, 1, 0, 1, 0]
    assert object_indices(5, generator=seeded(), how="fill").tolist() == [0, 1, 2, 3, 4]
    kept = object_indices(9, generator=seeded(), how="fill")
    assert len(kept.unique()) == 5
    others = [object_indices(9, generator=seeded(seed), how="fill").tolist() for seed in (1, 2)]
    assert kept.tolist() not in others


def test_same_seed_same_objects() -> None:
    first, second = (object_indices(9, generator=seeded(4)) for _ in range(2))
    assert torch.equal(first, second)


def test_no_object_cannot_be_filled() -> None:
    with pytest.raises(EngineError, match="without objects"):
        object_indices(0, generator=seeded())


# --- masks ---------------------------------------------------------------------------------------


def test_pixel_centres_are_read_exactly() -> None:
    values = torch.randn(2, 3, 4, generator=seeded())
    x, y = (torch.arange(4) + 0.5) / 4, (torch.arange(3) + 0.5) / 3
    points = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(1, 12, 2)
    found = sample_at(values, points.expand(2, -1, -1))
    assert torch.allclose(found, values.flatten(1), atol=1e-6)


def test_points_are_drawn_like_mask2former() -> None:
    from transformers import Mask2FormerConfig
    from transformers.models.mask2former.modeling_mask2former import Mask2FormerLoss

    config = Mask2FormerConfig(train_num_points=500, oversample_ratio=3.0)
    published = Mask2FormerLoss(config, weight_dict={})
    logits = torch.randn(3, 16, 16, generator=seeded()) * 4
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        wanted = published.sample_points_using_uncertainty(
            logits[:, None], lambda values: -values.abs(), 500, 3, 0.75
        )
    assert torch.equal(uncertain_points(logits, 500, generator=seeded(7)), wanted)


def test_most_points_lie_where_the_mask_is_unsure() -> None:
    at = (torch.arange(64) + 0.5) / 64
    outward = ((at[None] - 0.5) ** 2 + (at[:, None] - 0.5) ** 2).sqrt()
    points = uncertain_points((0.3 - outward)[None] * 20, 1000, generator=seeded())
    assert points.shape == (1, 1000, 2)
    assert points.min() >= 0 and points.max() <= 1
    away = ((points - 0.5) ** 2).sum(-1).sqrt()[0]
    # The edge is a ring; the best quarter of the 3000 candidates fills it 0.066 to each side.
    at_edge = ((away - 0.3).abs() < 0.07).float()
    assert at_edge[:750].mean() > 0.9
    assert at_edge[750:].mean() < 0.35


def test_mask_losses_at_the_points_equal_plain_arithmetic() -> None:
    logits = torch.randn(4, 20, 24, generator=seeded())
    masks = (torch.rand(4, 40, 48, generator=seeded(1)) > 0.6).to(torch.uint8)
    entropy, dice = mask_losses(logits, masks, generator=seeded(2), points=600)
    truth = masks[:, ::2, ::2].float()  # nearest, exactly half the size
    points = uncertain_points(logits, 600, generator=seeded(2))
    drawn, true = sample_at(logits, points), sample_at(truth, points)
    share = 1 / (1 + torch.exp(-drawn))
    each = -(true * share.log() + (1 - true) * (1 - share).log())
    assert entropy.item() == pytest.approx(each.mean().item(), abs=1e-5)
    overlap = (2 * (share * true).sum(1) + 1) / (share.sum(1) + true.sum(1) + 1)
    assert dice.item() == pytest.approx((1 - overlap).mean().item(), rel=1e-4)


def test_dice_is_that_of_mask2former() -> None:
    from transformers.models.mask2former.modeling_mask2former import dice_loss

    logits = torch.randn(3, 16, 16, generator=seeded())
    masks = (torch.rand(3, 16, 16, generator=seeded(1)) > 0.5).float()
    points = uncertain_points(logits, 300, generator=seeded(2))
    wanted = dice_loss(sample_at(logits, points), sample_at(masks, points), 3)
    _, dice = mask_losses(logits, masks, generator=seeded(2), points=300)
    assert dice.item() == pytest.approx(float(wanted), rel=1e-4)


def test_a_better_mask_loses_less() -> None:
    truth = disc(256, 0.3)[None]
    near, far = disc(64, 0.33)[None], disc(64, 0.3, (0.2, 0.2))[None]
    losses = [
        mask_losses((drawn - 0.5) * 10, truth, generator=seeded())
        for drawn in (disc(64, 0.3)[None], near, far)
    ]
    for kind in range(2):
        values = [loss[kind].item() for loss in losses]
        assert values == sorted(values) and values[0] < values[2] / 4


def test_mask_losses_repeat_and_send_gradients() -> None:
    logits = torch.randn(2, 16, 16, generator=seeded(), requires_grad=True)
    masks = torch.stack([disc(16, 0.3), disc(16, 0.1)])
    first, again, other = (
        mask_losses(logits, masks, generator=seeded(seed), points=100) for seed in (1, 1, 2)
    )
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    (first[0] + first[1]).backward()
    assert logits.grad is not None and logits.grad.isfinite().all()
    assert logits.grad.flatten(1).abs().sum(1).gt(0).all()


def test_nothing_is_learned_where_the_truth_is_unknown() -> None:
    """To the bit: neither what is drawn nor what is said there matters; each mask counts alike."""
    known = torch.zeros(2, 16, 16, dtype=torch.uint8)
    known[0, :, :9], known[1] = 1, 1
    masks = torch.stack([disc(16, 0.3), disc(16, 0.2)])
    logits = torch.randn(2, 16, 16, generator=seeded(), requires_grad=True)
    other, others = logits.detach().clone(), masks.clone()
    other[0, :, 9:] = torch.randn(16, 7, generator=seeded(5)) / 100  # as unsure as can be
    others[0, :, 9:] = 1 - others[0, :, 9:]

    def losses(*tensors: torch.Tensor, known: torch.Tensor | None = known) -> torch.Tensor:
        found = mask_losses(*tensors, generator=seeded(1), points=400, known=known)
        return torch.stack(found)

    found = losses(logits, masks)
    assert torch.equal(found, losses(other, others))
    (pull,) = torch.autograd.grad(found.sum(), logits)
    assert not pull[0, :, 9:].any() and pull[0, :, :8].any() and pull[1, :, 9:].any()
    torch.testing.assert_close(
        losses(logits, masks, known=known * 0 + 1), losses(logits, masks, known=None)
    )
    assert losses(logits, masks, known=known * 0).tolist() == [0.0, 0.0]
    # The half that is known of a mask weighs as much as the whole of another.
    sure = torch.full((2, 16, 16), -20.0)
    for mask in (0, 1):
        wrong = sure.clone()
        wrong[mask] = 20.0
        assert losses(wrong, sure * 0)[0] == pytest.approx(10, rel=0.15)  # borders fade


def test_a_sample_without_masks_has_no_mask_loss() -> None:
    logits = torch.zeros(0, 8, 8, requires_grad=True)
    entropy, dice = mask_losses(logits, torch.zeros(0, 8, 8), generator=seeded())
    (entropy + dice).backward()
    assert entropy.item() == dice.item() == 0


def test_masks_without_their_truth_are_refused() -> None:
    with pytest.raises(EngineError, match=r"2 drawn, 1 true"):
        mask_losses(torch.zeros(2, 8, 8), torch.zeros(1, 8, 8), generator=seeded())


# --- pairs ---------------------------------------------------------------------------------------


def test_gate_is_one_number_per_place_for_both_sensors() -> None:
    sar, optical = (torch.randn(2, 3, 4, generator=seeded(seed)) for seed in (1, 2))
    query = torch.randn(2, 4, generator=seeded(3))
    gate, gated_sar, gated_optical = training_gate(sar, optical, query)
    assert gate.shape == (2, 3, 1)
    summed = sum(
        (query[0, d] + query[1, d]).item() * (sar[1, 2, d] * optical[1, 2, d]).item()
        for d in range(4)
    )
    assert gate[1, 2, 0].item() == pytest.approx(1 / (1 + math.exp(-summed)), abs=1e-6)
    assert torch.equal(gated_sar, gate * sar) and torch.equal(gated_optical, gate * optical)
    # Neither the order of the sensors nor that of the queries matters.
    swapped, *_ = training_gate(optical, sar, query.flip(0))
    assert torch.allclose(swapped, gate)


def test_gate_keeps_half_precision_tokens_and_computes_in_float32() -> None:
    sar, optical = (torch.randn(1, 3, 64, generator=seeded(seed)) for seed in (1, 2))
    query = torch.randn(2, 64, generator=seeded(3))
    half = [tokens.bfloat16() for tokens in (sar, optical)]
    gate, gated, _ = training_gate(half[0], half[1], query)
    wanted, *_ = training_gate(half[0].float(), half[1].float(), query)
    assert gated.dtype == torch.bfloat16 and torch.equal(gate, wanted)


def test_alignment_is_a_mean_square() -> None:
    sar, optical = torch.zeros(1, 2, 2), torch.tensor([[[1.0, 2.0], [0.0, 3.0]]])
    assert alignment_loss(sar, optical).item() == pytest.approx(14 / 4)


def test_sensors_on_different_grids_are_refused() -> None:
    with pytest.raises(EngineError, match="one grid"):
        alignment_loss(torch.zeros(1, 4, 2), torch.zeros(2, 4, 2))
    with pytest.raises(EngineError, match="one grid"):
        training_gate(torch.zeros(1, 4, 2), torch.zeros(2, 4, 2), torch.zeros(2, 2))
    with pytest.raises(EngineError, match="query"):
        training_gate(torch.zeros(1, 4, 2), torch.zeros(1, 4, 2), torch.zeros(2, 3))


# --- attention of [SEG] --------------------------------------------------------------------------


def test_attention_loss_is_a_mean_divergence() -> None:
    attention = torch.tensor([[0.1, 0.2, 0.1], [0.3, 0.3, 0.0]])
    target = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    wanted = [
        0.5 * math.log(0.5 / 0.1) + 0.5 * math.log(0.5 / 0.2),
        math.log(1 / 1e-6),  # nothing where all should be: finite, thanks to the floor
    ]
    found = attention_loss(attention, target).item()
    assert found == pytest.approx(np.mean(wanted), abs=1e-4)


def test_looking_at_the_object_loses_less_than_looking_at_text() -> None:
    target = torch.tensor([[0.5, 0.5, 0.0, 0.0]])
    losses = [attention_loss(share * target, target).item() for share in (1.0, 0.5, 0.1)]
    assert losses == sorted(losses)
    assert losses[0] == pytest.approx(0, abs=1e-5)
    assert losses[2] == pytest.approx(math.log(10), abs=1e-3)


def test_attention_loss_of_an_empty_mask_or_no_object_is_zero() -> None:
    attention = torch.full((1, 4), 0.1, requires_grad=True)
    target = attention_target(torch.zeros(1, 8, 8), side=2)
    loss = attention_loss(attention, target) + attention_loss(attention[:0], target[:0])
    loss.backward()
    assert loss.item() == 0
    assert attention.grad is not None and not attention.grad.any()


def test_attention_and_target_of_different_views_are_refused() -> None:
    with pytest.raises(EngineError, match="do not fit"):
        attention_loss(torch.zeros(1, 4), torch.zeros(1, 16))


# --- weights -------------------------------------------------------------------------------------


def test_published_weights() -> None:
    ones = {name: torch.tensor(1.0) for name in ("text", "mask", "dice", "alignment", "attention")}
    assert LossWeights.june().total(ones).item() == pytest.approx(1 + 2 + 0.5 + 1 + 0.1)
    assert LossWeights.newer().total(ones).item() == pytest.approx(1 + 2 + 0.5)


def test_what_does_not_count_cannot_spoil_the_sum() -> None:
    losses = {"text": torch.tensor(2.0), "attention": torch.tensor(float("nan"))}
    assert LossWeights.newer().total(losses).item() == 2
    only = {"attention": torch.tensor(3.0, requires_grad=True)}
    assert LossWeights.newer().total(only).item() == 0


def test_unknown_losses_are_refused() -> None:
    with pytest.raises(EngineError, match="cos_loss"):
        LossWeights.june().total({"cos_loss": torch.tensor(1.0)})
    with pytest.raises(EngineError, match="none"):
        LossWeights.june().total({})


# --- the original training code ------------------------------------------------------------------


@cache
def reference(stem: str) -> dict[str, Tensor]:
    """Tensors of a training run; a set without its own pictures reads those of its base."""
    tensors = load_file(FOLDER / f"{stem}.train.safetensors")
    first = FOLDER / f"{base(stem)}.train.safetensors"
    older = load_file(first) if first.is_file() else {}
    return {name: t for name, t in older.items() if name.endswith("pixel_values")} | tensors


def runs(holds: Callable[[dict[str, Tensor]], bool]) -> list[str]:
    return [stem for stem in RUNS if holds(reference(stem))]


# test_parity runs every check with the attention kernel of the original; here are the other one
# and wrong implementations. No item where the folder holds no training run.
if RUNS:
    PAIRS = [(stem, training.check_gate) for stem in runs(training.is_june_pair)]
    PAIRS += [(stem, training.check_pair_training) for stem in runs(training.is_june_pair)]
    PAIRS += [(stem, training.check_pair_step) for stem in runs(training.is_june_pair)]
    PAIRS += [(stem, training.check_weighted_training) for stem in runs(training.is_weighted_pair)]
    PAIRS += [(stem, training.check_weighted_step) for stem in runs(training.is_weighted_pair)]
    PAIRS += [(stem, training.check_kl_step) for stem in runs(training.has_kl)]

    @pytest.mark.parametrize(("stem", "check"), PAIRS)
    def test_training_run_with_sdpa(stem: str, check: Callable[..., list[str]]) -> None:
        assert check(reference(stem), *built(stem, "sdpa"))

    @pytest.mark.parametrize("stem", runs(training.is_june_pair))
    def test_a_wrong_gate_or_order_is_noticed(stem: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def ungated(sar: Tensor, optical: Tensor, _: Tensor) -> tuple[None, Tensor, Tensor]:
            return None, sar, optical

        def swapped(sar: Tensor, optical: Tensor, query: Tensor) -> tuple[Tensor, ...]:
            return training_gate(optical, sar, query)

        for wrong in (ungated, swapped):
            monkeypatch.setattr(training, "training_gate", wrong)
            with pytest.raises(AssertionError, match=r"pair\.\w+: off by"):
                training.check_pair_training(reference(stem), *built(stem, "eager"))

    @pytest.mark.parametrize("stem", runs(training.is_weighted_pair))
    def test_swapped_sensors_are_noticed(stem: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(training, "weighted", lambda o, s, text: weighted(s, o, text))
        with pytest.raises(AssertionError, match=r"weight_optical: off by"):
            training.check_weighted_training(reference(stem), *built(stem, "eager"))

    @pytest.mark.parametrize("stem", runs(training.has_kl))
    def test_the_published_raster_is_not_where_the_tokens_are(stem: str) -> None:
        tensors, side = reference(stem), built(stem, "eager")[1].config.grid_side
        tiles = tensors["kl.target"].shape[1] // side**2
        ours = attention_target(tensors["kl.masks"], side=side, grid=(tiles - 1, 1))
        assert ours.shape == tensors["kl.target"].shape
        assert (ours - tensors["kl.target"]).abs().sum() > 0.5

    @pytest.mark.parametrize("stem", runs(training.has_kl))
    def test_without_eager_attention_there_is_no_kl(stem: str) -> None:
        with pytest.raises(AssertionError, match="eager"):
            training.check_kl(reference(stem), *built(stem, "sdpa"))
