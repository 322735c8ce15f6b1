"""Question-conditioned weights: what may be averaged, what is switched off, what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from earthmind_lab.errors import PromptError
from earthmind_lab.model.fusion import weighted


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


SAR, TEXT = draw(3, 4, 8, seed=1), draw(5, 8, seed=2)
FIRST, SECOND = draw(3, 4, 8, seed=3), draw(3, 4, 8, seed=4)


def test_composites_of_several_tiles_are_averaged_tile_by_tile() -> None:
    both = weighted(torch.cat([FIRST, SECOND]), SAR, TEXT, composites=2)
    mean = weighted((FIRST + SECOND) / 2, SAR, TEXT)
    for found, wanted in zip(both, mean, strict=True):
        torch.testing.assert_close(found, wanted)


def test_composites_whose_count_happens_to_be_that_of_the_tiles_are_not_paired_with_them() -> None:
    """Three pictures of one tile each beside a SAR picture of three tiles."""
    with pytest.raises(PromptError, match="1 optical and 3 SAR tiles"):
        weighted(FIRST, SAR, TEXT, composites=3)


def test_one_sar_tile_takes_the_mean_of_all_optical_tiles_as_published() -> None:
    found = weighted(torch.cat([FIRST, SECOND[:2]]), SAR[:1], TEXT)
    mean = torch.cat([FIRST, SECOND[:2]]).mean(dim=0, keepdim=True)
    for one, other in zip(found, weighted(mean, SAR[:1], TEXT), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("off", "left"), [("optical", SAR), ("sar", FIRST)])
def test_a_sensor_switched_off_leaves_the_other_untouched(off: str, left: Tensor) -> None:
    fused, by_optical, by_sar = weighted(FIRST, SAR, TEXT, off=off)  # type: ignore[arg-type]
    assert torch.equal(fused, left)
    assert (by_optical == float(off == "sar")).all()
    assert torch.equal(by_sar, 1 - by_optical)


def test_half_precision_is_fused_in_float32() -> None:
    exact = weighted(FIRST.bfloat16().float(), SAR.bfloat16().float(), TEXT.bfloat16().float())
    half = weighted(FIRST.bfloat16(), SAR.bfloat16(), TEXT.bfloat16())
    assert half[0].dtype == torch.bfloat16
    assert torch.equal(half[1], exact[1])
    assert half[1].dtype == torch.float32


def test_a_grey_picture_is_not_neutral() -> None:
    """Why switching off exists: a constant picture still takes a good part of the weight."""
    grey = torch.ones(1, 16, 8) + 1e-3 * draw(1, 16, 8, seed=5)
    _, by_optical, _ = weighted(grey, draw(1, 16, 8, seed=6), TEXT)
    assert by_optical.mean() > 0.2
