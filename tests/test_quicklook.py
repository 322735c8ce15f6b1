"""A chip in a notebook shows its picture, small and escaped."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from earthmind_lab import quicklook
from earthmind_lab.render import render
from tests.stand_in_engine import make_chip


def pictures(html):
    urls = re.findall(r"src='data:image/jpeg;base64,([^']+)'", html)
    return [Image.open(io.BytesIO(base64.b64decode(url))) for url in urls]


def test_every_default_composite_is_shown_with_its_day():
    chip = make_chip()
    html = chip._repr_html_()
    views = render(chip)
    assert len(views) == len(pictures(html)) == 2
    for view, shown in zip(views, pictures(html), strict=True):
        assert np.abs(np.asarray(shown).astype(int) - view.image).max() <= 8
        assert view.name in html and view.time[:10] in html


@pytest.mark.parametrize("side", [quicklook.SIDE_PX, quicklook.SIDE_PX + 1, 600])
def test_pictures_are_small_whatever_the_chip(side):
    """A thin AOI may lose all its pixels to the thinning: the picture is the same."""
    inside = np.zeros((side, side), dtype=bool)
    inside[1, 1] = True
    water = np.zeros((side, side), dtype=bool)
    water[: side // 2] = True
    for shown in pictures(make_chip(side, inside=inside, water=water)._repr_html_()):
        assert 100 <= max(shown.size) <= quicklook.SIDE_PX
        top, bottom = np.asarray(shown)[10].mean(), np.asarray(shown)[-10].mean()
        assert top < bottom - 20


def test_only_what_is_shown_is_rendered(monkeypatch):
    rendered = []
    monkeypatch.setattr(quicklook, "render", lambda chip, _names: rendered.append(chip) or ())
    make_chip(1100)._repr_html_()
    (chip,) = rendered
    assert chip.grid.shape == (220, 220) and chip.gsd == 50


def test_words_of_a_catalog_are_no_html():
    chip = make_chip()
    scene = replace(chip.pair.optical, id="<script>")
    html = replace(chip, pair=replace(chip.pair, optical=scene))._repr_html_()
    assert "<script>" not in html and "&lt;script&gt;" in html


def test_a_chip_without_a_picture_is_a_table():
    chip = make_chip(sar=False)
    one = replace(chip, optical=chip.optical[:1], bands=("blue",), valid_optical=chip.valid_optical)
    assert "<table>" in one._repr_html_() and "<img" not in one._repr_html_()
