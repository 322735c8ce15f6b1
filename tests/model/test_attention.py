"""Targets of [SEG] attention, and hierarchical cross-modal attention."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from earthmind_lab.errors import EngineError, PromptError
from earthmind_lab.model import weighted
from earthmind_lab.model.attention import (
    HierarchicalCrossModalAttention,
    attention_target,
    attention_to_views,
    published_grid,
)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- what [SEG] looks at -------------------------------------------------------------------------


def test_rows_are_marks_and_columns_are_pictures() -> None:
    ids = torch.tensor([9, 7, 7, 7, 5, 8, 5, 8])  # 7 placeholder, 8 [SEG]
    attention = drawn(2, 8, 8)
    found = attention_to_views(attention, ids, seg_token_id=8, image_token_id=7)
    assert found.shape == (2, 3)
    assert found[1, 2].item() == pytest.approx(attention[:, 7, 3].mean().item())


def test_attention_is_not_rescaled() -> None:
    ids = torch.tensor([7, 7, 5, 8])
    even = torch.full((1, 4, 4), 0.25)
    found = attention_to_views(even, ids, seg_token_id=8, image_token_id=7)
    assert found.sum().item() == pytest.approx(0.5)


# --- where it should look ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "grid"),
    [
        (64, (8, 8)),
        (256, (16, 16)),
        (512, (16, 32)),  # not (32, 16): the smaller height comes first
        (768, (24, 32)),
        (1792, (32, 56)),
        (3328, (52, 64)),
        (24, (8, 3)),
    ],
)
def test_published_raster(tokens: int, grid: tuple[int, int]) -> None:
    assert published_grid(tokens) == grid


@pytest.mark.parametrize("tokens", [7, 67])
def test_some_counts_have_no_published_raster(tokens: int) -> None:
    with pytest.raises(EngineError, match="no published raster"):
        published_grid(tokens)


def test_one_tile_is_the_same_in_both_placements() -> None:
    masks = (drawn(3, 64, 64) > 2).to(torch.uint8)
    ours, theirs = (
        attention_target(masks, side=16, placement=name) for name in ("tiles", "published")
    )
    assert ours.shape == (3, 256) and torch.equal(ours, theirs)


def test_each_tile_gets_its_part_and_the_thumbnail_the_whole() -> None:
    # 3 columns, 2 rows of tiles of 4 x 4 tokens; one pixel per token and a second in each.
    mask = torch.zeros(1, 16, 24)
    mask[0, 9, 20] = 1  # row 4 of 8, column 10 of 12: tile (1, 2), its token (0, 2)
    target = attention_target(mask, side=4, grid=(3, 2))[0].reshape(7, 4, 4)
    assert target.nonzero().tolist() == [[5, 0, 2], [6, 2, 3]]  # thumbnail: row 9/16, column 20/24
    assert target.sum().item() == pytest.approx(1, abs=1e-5)


def test_tiles_hold_a_mask_as_the_processor_cuts_a_picture() -> None:
    from earthmind_lab.model.pictures import cut

    masks = torch.zeros(1, 96, 144)
    masks[0, 20:70, 40:140] = 1
    picture = (masks[0, :, :, None].expand(-1, -1, 3) * 255).to(torch.uint8).numpy()
    tiles = cut(picture, (3, 2), 48, thumbnail=True)  # no resizing: 3 x 48 by 2 x 48
    target = attention_target(masks, side=4, grid=(3, 2))[0].reshape(7, 4, 4) > 0
    for tile, inside in zip(tiles, target, strict=True):
        cells = torch.from_numpy(tile[..., 0] > 127).reshape(4, 12, 4, 12)
        assert torch.equal(cells.permute(0, 2, 1, 3).flatten(2).any(-1), inside)


def test_one_pixel_is_never_lost() -> None:
    masks = torch.zeros(1, 1000, 1000)
    masks[0, 333, 777] = 1
    for placement in ("tiles", "published"):
        target = attention_target(masks, side=4, grid=(2, 2), placement=placement)
        assert target.sum().item() == pytest.approx(1, abs=1e-5)


def test_without_thumbnail_there_is_no_part_for_it() -> None:
    masks = torch.ones(1, 8, 8)
    for placement in ("tiles", "published"):
        target = attention_target(masks, side=4, grid=(2, 1), thumbnail=False, placement=placement)
        assert target.shape == (1, 32)


def test_published_placement_lays_the_mask_over_all_tokens() -> None:
    masks = (drawn(2, 32, 32) > 1).float()
    target = attention_target(masks, side=4, grid=(3, 1), placement="published")  # 3 + thumbnail
    cells = masks.reshape(2, 8, 4, 8, 4).amax(dim=(2, 4)).flatten(1)  # 64 tokens: 8 x 8
    assert torch.allclose(target, cells / cells.sum(1, keepdim=True), atol=1e-5)


def test_an_empty_mask_has_no_target() -> None:
    assert not attention_target(torch.zeros(2, 8, 8), side=4).any()


# --- hierarchical cross-modal attention ----------------------------------------------------------


def test_weights_are_a_convex_sum() -> None:
    optical, sar, text = drawn(3, 16, 8, seed=1), drawn(3, 16, 8, seed=2), drawn(5, 8, seed=3)
    fused, by_optical, by_sar = HierarchicalCrossModalAttention()(optical, sar, text)
    assert fused.shape == (3, 16, 8) and by_optical.shape == by_sar.shape == (3, 16)
    assert torch.allclose(by_optical + by_sar, torch.ones(3, 16))
    assert by_optical.min() > 0 and by_optical.max() < 1
    wanted = by_optical[..., None] * optical + by_sar[..., None] * sar
    assert torch.allclose(fused, wanted)


def test_same_call_form_as_the_published_fusion() -> None:
    pair = drawn(2, 16, 8, seed=1), drawn(2, 16, 8, seed=2), drawn(5, 8, seed=3)
    shapes = [[(t.shape, t.dtype) for t in fuse(*pair)] for fuse in (weighted, _plain())]
    assert shapes[0] == shapes[1]


def _plain() -> HierarchicalCrossModalAttention:
    return HierarchicalCrossModalAttention().requires_grad_(False)


@pytest.mark.parametrize("relative", [False, True])
def test_one_place_follows_the_formula(relative: bool) -> None:
    optical, sar, text = drawn(2, 4, 8, seed=1), drawn(2, 4, 8, seed=2), drawn(3, 8, seed=3)
    _, by_optical, _ = HierarchicalCrossModalAttention(mixing=0.3, relative=relative)(
        optical, sar, text
    )
    tile, place, root = 1, 2, 8**0.5
    received_optical = sum(
        torch.softmax(optical[tile] @ sar[tile, j] / root, 0)[place].item() for j in range(4)
    )
    received_sar = sum(
        torch.softmax(sar[tile] @ optical[tile, i] / root, 0)[place].item() for i in range(4)
    )
    both = torch.cat([optical[tile], sar[tile]])
    asked = torch.stack([torch.softmax(both @ word / root, 0) for word in text]).mean(0)
    scale = (4, 8) if relative else (1, 1)
    gamma = [
        0.3 * received / 4 * scale[0] + 0.7 * asked[index].item() * scale[1]
        for received, index in ((received_optical, place), (received_sar, 4 + place))
    ]
    wanted = torch.softmax(torch.tensor(gamma), 0)[0].item()
    assert by_optical[tile, place].item() == pytest.approx(wanted, abs=1e-6)


def test_gradient_reaches_lambda_and_the_tokens() -> None:
    fuse = HierarchicalCrossModalAttention()
    optical, sar = (drawn(1, 4, 8, seed=seed).requires_grad_() for seed in (1, 2))
    fused, *_ = fuse(optical, sar, drawn(3, 8, seed=3))
    fused.square().sum().backward()
    for leaf in (fuse.mixing_logit, optical, sar):
        assert leaf.grad is not None and leaf.grad.isfinite().all() and leaf.grad.any()


def test_lambda_can_be_learned() -> None:
    pair = drawn(1, 4, 8, seed=1), drawn(1, 4, 8, seed=2), drawn(3, 8, seed=3)
    with torch.no_grad():
        wanted = HierarchicalCrossModalAttention(mixing=0.9)(*pair)[0]
    fuse = HierarchicalCrossModalAttention(mixing=0.2)
    optimiser = torch.optim.Adam(fuse.parameters(), lr=0.1)
    for _ in range(200):
        optimiser.zero_grad()
        (fuse(*pair)[0] - wanted).square().sum().backward()
        optimiser.step()
    assert fuse.mixing.item() == pytest.approx(0.9, abs=0.02)


def test_swapping_sensors_swaps_weights() -> None:
    optical, sar, text = drawn(2, 9, 8, seed=1), drawn(2, 9, 8, seed=2), drawn(4, 8, seed=3)
    fuse = _plain()
    fused, by_optical, by_sar = fuse(optical, sar, text)
    again, first, second = fuse(sar, optical, text)
    assert torch.allclose(first, by_sar) and torch.allclose(second, by_optical)
    assert torch.allclose(again, fused, atol=1e-6)


@pytest.mark.parametrize("relative", [False, True])
def test_a_question_about_one_sensor_raises_its_weight(relative: bool) -> None:
    optical, sar = drawn(1, 4, 16, seed=1), drawn(1, 4, 16, seed=2)
    fuse = HierarchicalCrossModalAttention(relative=relative).requires_grad_(False)
    neutral = fuse(optical, sar, torch.zeros(1, 16))[1]
    about_optical = fuse(optical, sar, optical[0])[1]
    about_sar = fuse(optical, sar, sar[0])[1]
    assert (about_optical > neutral).all() and (about_sar < neutral).all()


def test_relative_importance_spreads_the_weights() -> None:
    pair = drawn(1, 256, 8, seed=1), drawn(1, 256, 8, seed=2), drawn(4, 8, seed=3)
    stated, spread = (
        HierarchicalCrossModalAttention(relative=relative).requires_grad_(False)(*pair)[1]
        for relative in (False, True)
    )
    assert (stated - 0.5).abs().max() < 0.05 < (spread - 0.5).abs().max()


def test_half_precision_is_weighed_in_float32() -> None:
    pair = [drawn(2, 9, 8, seed=seed).bfloat16() for seed in (1, 2)]
    text = drawn(4, 8, seed=3).bfloat16()
    fuse = _plain()
    fused, by_optical, by_sar = fuse(*pair, text)
    wanted, same, _ = fuse(*(tokens.float() for tokens in pair), text.float())
    assert fused.dtype == torch.bfloat16
    assert by_optical.dtype == by_sar.dtype == torch.float32
    assert torch.equal(by_optical, same) and torch.equal(fused, wanted.bfloat16())
    assert fuse.bfloat16()(*pair, text)[1].dtype == torch.float32


def test_optical_tokens_are_pooled_to_the_sar_grid() -> None:
    sar, text = drawn(1, 4, 8, seed=2), drawn(3, 8, seed=3)
    fine = drawn(1, 16, 8, seed=1)
    cells = fine.reshape(1, 2, 2, 2, 2, 8)  # rows, inside, columns, inside
    coarse = cells.mean(dim=(2, 4)).reshape(1, 4, 8)
    several = torch.cat([coarse - 1, coarse + 1])
    wanted = _plain()(coarse, sar, text)
    for optical in (fine, several):
        for found, same in zip(_plain()(optical, sar, text), wanted, strict=True):
            assert torch.allclose(found, same, atol=1e-6)


def test_what_cannot_be_fused_is_refused() -> None:
    fuse, text = _plain(), drawn(3, 8)
    with pytest.raises(PromptError, match="different size"):
        fuse(drawn(3, 4, 8), drawn(2, 4, 8), text)
    with pytest.raises(PromptError, match="square"):
        fuse(drawn(1, 6, 8), drawn(1, 4, 8), text)
    with pytest.raises(PromptError, match="question"):
        fuse(drawn(1, 4, 8), drawn(1, 4, 8), text[:0])
    with pytest.raises(EngineError, match="between 0 and 1"):
        HierarchicalCrossModalAttention(mixing=1.0)
