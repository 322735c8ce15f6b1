"""Pictures side by side with their masks, as PNG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from earthmind_lab.errors import PromptError
from earthmind_lab.figures import draw_masks, save_figure
from earthmind_lab.render import picture_view, render
from tests.test_render import SHAPE, make_chip, picture


def test_masks_are_tinted_and_outlined() -> None:
    image = np.full((9, 9, 3), 100, dtype=np.uint8)
    mask = np.zeros((9, 9), dtype=bool)
    mask[2:7, 2:7] = True
    drawn = draw_masks(image, [mask])
    assert np.array_equal(drawn[~mask], image[~mask])
    assert drawn[2, 4].tolist() == [0, 174, 255]
    assert drawn[4, 4].tolist() == [65, 126, 154]
    with pytest.raises(PromptError, match="grid"):
        draw_masks(image, [mask[:5]])


def test_a_figure_shows_every_view_and_the_mask(tmp_path: Path) -> None:
    views = render(make_chip())
    mask = np.zeros(SHAPE, dtype=bool)
    mask[2:5, 3:9] = True
    path = save_figure(
        tmp_path / "new" / "figure.png", views, [mask], ["SAR"], title="Where?", attribution="ESA"
    )
    with Image.open(path) as image:
        sheet = np.asarray(image)
    assert sheet.shape[1] == 4 * 12 * 32 + 5 * 12  # four panels, each enlarged to 384 px
    colours = {tuple(c) for c in sheet[60:70].reshape(-1, 3)}
    assert {(128, 128, 119), (255, 255, 255), (255, 170, 85)} <= colours
    assert (0, 174, 255) in {tuple(c) for c in sheet.reshape(-1, 3)}
    assert [p.name for p in path.parent.iterdir()] == ["figure.png"]


def test_a_figure_needs_a_view(tmp_path: Path) -> None:
    with pytest.raises(PromptError):
        save_figure(tmp_path / "figure.png", [])
    assert not list(tmp_path.iterdir())


def test_a_picture_of_its_own_makes_a_figure(tmp_path: Path) -> None:
    view = picture_view(picture(900, 700))
    with Image.open(save_figure(tmp_path / "f.png", [view], attribution="x " * 400)) as image:
        assert image.width == 924
