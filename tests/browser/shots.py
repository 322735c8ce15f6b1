"""Screenshots for looking at: one folder, and a sheet that shows all of them at a glance."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Locator, Page

SHEET = "sheet.png"
COLUMNS = 4
WIDTH, HEIGHT = 420, 420
"""Of a picture on the sheet, at most, in px."""
GAP, LABEL = 12, 18
AROUND = 220
"""Of the applications' own bars above and below a notebook, in px, at most."""


GROW = """(part, whole) => {
  const steps = part.closest('.em-steps');
  if (steps === null) return;
  const scrolls = steps.scrollHeight > steps.clientHeight;
  steps.closest('.em-grid-work').style.height =
    whole && scrolls ? `${steps.scrollHeight}px` : '';
}"""
"""The column of steps scrolls, unless the page is narrow."""


@contextmanager
def whole(page: Page, part: Locator) -> Iterator[None]:
    """A part that would have to be scrolled is all in sight meanwhile: page and column grow."""
    part.evaluate(GROW, True)
    was, box = page.viewport_size, part.bounding_box()
    assert was is not None and box is not None
    page.set_viewport_size({**was, "height": max(was["height"], int(box["height"]) + AROUND)})
    part.scroll_into_view_if_needed()
    yield
    part.evaluate(GROW, False)
    page.set_viewport_size(was)


class Shots:
    """Pictures by name.

    Args:
        folder: Where they go; made when the first is taken.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def take(self, name: str, what: Page | Locator, **options: Any) -> Path:
        """A picture of a page, or of a part of it.

        Args:
            name: Of the file, without its ending.
            what: The page, or the part.
            options: Of Playwright's `screenshot`.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.png"
        what.screenshot(path=path, animations="disabled", **options)
        return path

    def sheet(self) -> Path | None:
        """One picture of all that lie in the folder, by name; None where there are none.

        Processes that share a folder each make it when they end: the last one has them all.
        """
        paths = sorted(p for p in self.folder.glob("*.png") if not p.name.startswith(SHEET[:5]))
        if not paths:
            return None
        rows = -(-len(paths) // COLUMNS)
        cell = (WIDTH + GAP, HEIGHT + LABEL + GAP)
        sheet = Image.new("RGB", (COLUMNS * cell[0] + GAP, rows * cell[1] + GAP), "#d8dbe0")
        draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
        for number, path in enumerate(paths):
            row, column = divmod(number, COLUMNS)
            x, y = GAP + column * cell[0], GAP + row * cell[1]
            draw.text((x, y), path.stem, fill="black", font=font)
            with Image.open(path) as shot:
                small = shot.convert("RGB")
            small.thumbnail((WIDTH, HEIGHT))
            sheet.paste(small, (x, y + LABEL))
        draft = self.folder / f"{SHEET}.{os.getpid()}"
        sheet.save(draft, "PNG")
        return draft.replace(self.folder / SHEET)
