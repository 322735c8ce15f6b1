"""The model's eye: the very squares that its vision encoder is given of a chip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.chip import Chip
from earthmind_lab.errors import EarthMindError
from earthmind_lab.exchange import View
from earthmind_lab.quicklook import data_url
from earthmind_lab.render import render
from earthmind_lab.widgets.legend import composite_title, picture_title, stretch_words
from earthmind_lab.widgets.protocol import clean

if TYPE_CHECKING:
    from earthmind_lab.engine.base import Engine

MOST_SQUARES = 40
"""Sent to a browser, of all views together."""
_SAME = 8.0
"""Mean difference (of 255) within which a square shows the whole view."""


def squares_of(
    chip: Chip, engine: Engine, views: Sequence[View] | None = None
) -> list[dict[str, Any]]:
    """The views that a question about a chip hands over, each with its squares.

    Args:
        chip: What is asked about.
        engine: Who would be asked.
        views: Of it and an earlier date; None = of the chip alone.

    Returns:
        Per view ``title``, ``words`` (bands and stretch), ``seen`` (metres per pixel that the model
        really sees), ``squares``: ``url``, ``size``, ``place``.

    Raises:
        EarthMindError: The engine doesn't show what it sees.
    """
    pictures = getattr(engine, "pictures", None)
    if pictures is None:
        raise EarthMindError(
            f"{engine.name} doesn't show what its vision encoder is given.",
            change="the embedded model, or a server of this package",
        )
    if views is None:
        views = render(chip, preferred=engine.capabilities.composites)
    left, rows = MOST_SQUARES, []
    for view, squares in zip(views, pictures(views), strict=True):
        places = _places(view, squares)
        seen = engine.seen_gsd(view)
        rows.append(
            {
                "title": clean(f"{picture_title(view, chip)}: {composite_title(view.name)}"),
                "words": clean(stretch_words(view, chip.radiometry.level)),
                "seen": "" if seen is None else f"seen at {seen:.3g} m per pixel",
                "squares": [
                    {
                        "url": data_url(square),
                        "size": f"{square.shape[1]} × {square.shape[0]} px",
                        "place": place,
                    }
                    for square, place in zip(squares[:left], places, strict=False)
                ],
            }
        )
        left = max(0, left - len(squares))
    return rows


def _places(view: View, squares: tuple[NDArray[np.uint8], ...]) -> list[str]:
    """Where each square lies in its view; engines cut row by row, the whole view last."""
    if len(squares) == 1:
        return ["the whole view"]
    whole = _shows_all(squares[-1], view.image)
    count = len(squares) - whole
    columns, rows = _grid(count, view.shape)
    cut = [f"row {n // columns + 1} of {rows}, column {n % columns + 1} of {columns}"
           for n in range(count)]  # fmt: skip
    return [*cut, "the whole view, smaller"] if whole else cut


def _shows_all(square: NDArray[np.uint8], image: NDArray[np.uint8]) -> bool:
    from PIL import Image

    small = Image.fromarray(image).resize((square.shape[1], square.shape[0]))
    difference = np.abs(np.asarray(small, dtype=np.int16) - square)
    return bool(difference.mean() < _SAME)


def _grid(count: int, shape: tuple[int, int]) -> tuple[int, int]:
    """Columns and rows of so many squares: the pair nearest to the view's own sides."""
    wanted = shape[1] / shape[0]
    pairs = [(n, count // n) for n in range(1, count + 1) if count % n == 0]
    return min(pairs, key=lambda pair: abs(np.log(pair[0] / pair[1] / wanted)))
