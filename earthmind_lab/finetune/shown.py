"""An example as the model will see it: its squares, its text, and the masks laid over."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.exchange import Options, View
from earthmind_lab.figures import draw_masks
from earthmind_lab.finetune.examples import Example
from earthmind_lab.quicklook import data_url

if TYPE_CHECKING:
    from earthmind_lab.model.processing import EarthMindProcessor

SIDE_PX = 192
"""Longest side of a picture in a report; its squares are larger or smaller."""
MOST = 16
"""Squares of an example that are shown."""
_FILLED = re.compile(r"(<IMG_CONTEXT>)(?:<IMG_CONTEXT>)+")


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One example, ready for a page."""

    id: str
    task: str
    squares: tuple[tuple[str, str], ...]
    """Caption and picture (a data URL) of each square that the vision tower reads."""
    drawn: tuple[tuple[str, str], ...]
    """The same for masks and regions over their pictures."""
    prompt: str
    """The text as the model reads it, repeated placeholders as one with their number."""
    reply: str

    def html(self) -> str:
        """A block of a page; all text is escaped."""
        pictures = "".join(
            f"<figure style='display:inline-block;margin:4px'><img alt='' src='{url}'>"
            f"<figcaption>{escape(caption)}</figcaption></figure>"
            for caption, url in (*self.squares, *self.drawn)
        )
        head = f"<h4>{escape(self.id)} ({escape(self.task)})</h4>"
        text = "".join(
            f"<pre style='white-space:pre-wrap'>{escape(part)}</pre>"
            for part in (self.prompt, self.reply)
        )
        return f"<section>{head}{pictures}{text}</section>"


def shown_as(
    example: Example, processor: EarthMindProcessor, options: Options, masks: Options | None
) -> Shown:
    """An example through a model's own processor.

    Args:
        example: Opened.
        processor: Of the model.
        options: As in training.
        masks: The same to draw masks; None = they don't fit their picture.

    Raises:
        PromptError: The views can't be arranged.
    """
    prompt = example.prompt
    arranged = processor.arrange(prompt, options)
    single = arranged.single_tile
    cut = [processor.tiles(view.image, single=single) for view in prompt.views]
    text = processor.prompt_text(prompt, [len(each) for each in cut], options)
    squares = [
        (f"{_name(prompt.views[i])}, square {n} of {len(cut[i])}", small(square))
        for i in (arranged.kept if prompt.views else ())
        for n, square in enumerate(cut[i], start=1)
    ]
    drawn = []
    if masks is not None and example.masks is not None and len(example.masks):
        views = (*prompt.views, *prompt.follow)
        frames = example.masks[:, None] if example.masks.ndim == 3 else example.masks
        for frame, index in enumerate(arranged.mask_views):
            image = draw_masks(views[index].image, list(frames[:, frame]))
            drawn.append((f"masks on {_name(views[index])}", small(image)))
    if prompt.regions:
        image = draw_masks(prompt.views[0].image, [region.mask for region in prompt.regions])
        drawn.append(("regions", small(image)))
    return Shown(
        id=example.info.id, task=example.info.task, squares=tuple(squares[:MOST]),
        drawn=tuple(drawn[:MOST]), prompt=shortened(text), reply=example.reply,
    )  # fmt: skip


def shortened(text: str) -> str:
    """Text with runs of placeholders counted.

    >>> shortened("<img>" + "<IMG_CONTEXT>" * 3 + "</img>")
    '<img><IMG_CONTEXT>×3</img>'
    """
    one = len("<IMG_CONTEXT>")
    return _FILLED.sub(lambda found: f"{found[1]}×{len(found[0]) // one}", text)


def _name(view: View) -> str:
    return view.name if view.name != "picture" else view.modality


def small(image: NDArray[np.uint8], side: int = SIDE_PX) -> str:
    """A picture (H, W, 3) as a data URL, at most so many pixels wide and high."""
    from PIL import Image

    picture = Image.fromarray(image)
    picture.thumbnail((side, side))
    return data_url(np.asarray(picture))
