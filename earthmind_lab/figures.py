"""Figures: pictures of a chip side by side, with masks, captions and the source of the data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.errors import PromptError
from earthmind_lab.exchange import View

if TYPE_CHECKING:
    from PIL.Image import Image

TINTS = ((0, 174, 255), (255, 140, 0), (190, 80, 255), (60, 220, 90), (255, 60, 120))
"""Colours of masks in figures, in turn."""


def save_figure(
    path: str | Path,
    views: Sequence[View],
    masks: Sequence[NDArray[np.bool_]] = (),
    captions: Sequence[str] = (),
    *,
    title: str = "",
    attribution: str = "",
) -> Path:
    """Views side by side, and the masks over the optical one, as PNG.

    Args:
        path: File to write; it appears complete or not at all.
        views: Pictures on one grid.
        masks: (H, W) bool on that grid; drawn as outline and tint in a panel of their own.
        captions: Text under each panel; by default the view's name and day, and ``mask``.
        title: Line above the panels.
        attribution: Line below, for the source of the data.

    Raises:
        PromptError: No view, or a mask on another grid.
    """
    from PIL import Image

    if not views:
        raise PromptError("A figure needs at least one view.")
    panels = [view.image for view in views]
    lines = [caption(view) for view in views]
    if masks:
        base = next((v for v in views if v.name == "true_colour"), None)
        base = base or next((v for v in views if v.modality == "optical"), views[0])
        panels.append(draw_masks(base.image, masks))
        lines.append("mask" if len(masks) == 1 else f"{len(masks)} masks")
    lines[: len(captions)] = list(captions)[: len(lines)]
    sheet = _sheet([Image.fromarray(panel) for panel in panels], lines, title, attribution)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".part")
    sheet.save(draft, format="PNG")
    return draft.replace(path)


def caption(view: View) -> str:
    """Name of a view over its UTC day, or over first and last day of an interval."""
    days = dict.fromkeys(part[:10] for part in (view.time or "").split("/"))
    return f"{view.name}\n{' to '.join(days)}".strip()


def draw_masks(image: NDArray[np.uint8], masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.uint8]:
    """Masks over a picture: a light tint inside, a full-colour outline.

    Args:
        image: (H, W, 3) uint8.
        masks: Each (H, W) bool.

    Raises:
        PromptError: A mask of another shape.
    """
    drawn = image.astype(np.float32)
    for number, mask in enumerate(masks):
        if mask.shape != image.shape[:2]:
            raise PromptError(
                "A mask does not lie on the grid of its picture.",
                found=f"mask {mask.shape}, picture {image.shape[:2]}",
            )
        tint = np.asarray(TINTS[number % len(TINTS)], dtype=np.float32)
        drawn[mask] = 0.65 * drawn[mask] + 0.35 * tint
        drawn[_outline(mask)] = tint
    return np.rint(drawn).astype(np.uint8)


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of a mask with a neighbour outside it; the picture's border is no outline."""
    padded = np.pad(mask, 1, mode="edge")
    core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~core


def _sheet(panels: list[Image], lines: list[str], title: str, attribution: str) -> Image:
    """Panels in a row on white, each enlarged by a whole factor, text above and below."""
    from PIL import Image as Pictures
    from PIL import ImageDraw

    factor = max(1, round(384 / max(max(panel.size) for panel in panels)))
    panels = [p.resize((p.width * factor, p.height * factor), Pictures.Resampling.NEAREST)
              for p in panels]  # fmt: skip
    gap, line = 12, 18
    width = sum(panel.width + gap for panel in panels) + gap
    texts = _wrap(attribution, max(20, width // 7))
    top = gap + (line if title else 0)
    below = top + max(panel.height for panel in panels)
    sheet = Pictures.new("RGB", (width, below + line * (3 + len(texts))), "white")
    draw = ImageDraw.Draw(sheet)
    # Pillow's own font has no superscripts.
    draw.text((gap, gap // 2), title.replace("²", "2"), fill="black")
    left = gap
    for panel, text in zip(panels, lines, strict=True):
        sheet.paste(panel, (left, top))
        most = max(1, panel.width // 6)
        short = "\n".join(part[:most] for part in text.splitlines())
        draw.text((left, below + 3), short, fill="black")
        left += panel.width + gap
    for number, text in enumerate(texts):
        draw.text((gap, below + line * (number + 2) + 6), text, fill=(90, 90, 90))
    return sheet


def _wrap(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width)
