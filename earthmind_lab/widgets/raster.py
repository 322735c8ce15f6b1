"""One sensor's picture on a map, with its switches and its legend."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal, TypeAlias

import ipyleaflet

from earthmind_lab.chip import Chip
from earthmind_lab.errors import PromptError
from earthmind_lab.exchange import Modality
from earthmind_lab.render import PREFERRED, fillable, render
from earthmind_lab.widgets.basemap import (
    OPTICAL_BEFORE_PANE,
    OPTICAL_PANE,
    SAR_BEFORE_PANE,
    SAR_PANE,
)
from earthmind_lab.widgets.legend import attribution_of, picture_title, ramps, stretch_words
from earthmind_lab.widgets.web_mercator import Shown, lay_out, shown_url

Which: TypeAlias = Literal["optical", "sar", "optical_before", "sar_before"]
"""The chosen pair's pictures, and those of the earlier pair that it is compared with."""
LATER: tuple[Which, ...] = ("optical", "sar")
EARLIER: tuple[Which, ...] = ("optical_before", "sar_before")
PANE: dict[Which, str] = {
    "optical": OPTICAL_PANE, "sar": SAR_PANE,
    "optical_before": OPTICAL_BEFORE_PANE, "sar_before": SAR_BEFORE_PANE,
}  # fmt: skip
WORD: dict[Which, str] = {
    "optical": "Optical", "sar": "SAR",
    "optical_before": "Optical, earlier", "sar_before": "SAR, earlier",
}  # fmt: skip


@dataclass(kw_only=True, eq=False)
class Raster:
    """One sensor's picture of one date and its switches."""

    which: Which
    visible: bool = True
    opacity: float = 1.0
    wanted: str | None = None
    """The composite that the user chose; kept from chip to chip."""
    names: list[str] = field(default_factory=list)
    """Composites that the chip has the bands for."""
    layer: ipyleaflet.ImageOverlay | None = None
    shown: tuple[Chip, str] | None = None
    """What `layer` shows: a chip in a composite."""
    title: str = ""
    """Sensor and day."""
    words: str = ""
    """The colours' values in a line."""
    ramps: list[dict[str, Any]] = field(default_factory=list)
    """`legend.ramps` of what is shown."""

    def switch(self, *, visible: bool, opacity: float) -> None:
        """Show it or not, and how far what is below shines through."""
        self.visible, self.opacity = visible, min(1.0, max(0.0, opacity))
        if self.layer is not None:
            self.layer.opacity = self._shown_opacity

    @property
    def modality(self) -> Modality:
        """Whose picture it is."""
        return "sar" if self.which.startswith("sar") else "optical"

    @property
    def _shown_opacity(self) -> float:
        """The layer's own `visible` means nothing to a layer that is new."""
        return self.opacity if self.visible else 0.0

    def clear(self) -> None:
        """Show nothing."""
        self.layer, self.shown, self.title, self.words, self.ramps = None, None, "", "", []

    def draw(self, chip: Chip | None, *, like: Raster | None = None) -> None:
        """Show a chip; a picture that is there already is not made again.

        Args:
            chip: What to show.
            like: The later date's: the composite, and so the stretch, is that one's alone.

        Raises:
            EarthMindError: It can't be rendered; then nothing is shown.
        """
        names = [] if chip is None else composites_of(chip, self.modality)
        wanted = self.wanted
        if like is not None and names:
            wanted = like.shown[1] if like.shown else None
            if wanted is not None and wanted not in names:
                self.names = []
                self.clear()
                raise PromptError(
                    f"The earlier date makes no {self.modality} picture of the same bands.",
                    found=", ".join(names),
                    change="another composite, which both dates have",
                )
            names = [name for name in like.names if name in names]
        self.names = names
        if chip is None or not names:
            self.clear()
            return
        name = wanted if wanted in names else names[0]
        if self.shown is not None and self.shown[0] is chip and self.shown[1] == name:
            return
        self.clear()
        (view,) = render(chip, [name])
        known = chip.valid_sar if self.modality == "sar" else chip.valid_optical
        # A new layer each time: Leaflet reads the attribution of a layer only when it comes.
        self.layer = image(
            lay_out(view.image, chip.grid, known=known),
            name=WORD[self.which],
            pane=PANE[self.which],
            attribution=escape(attribution_of(chip, self.modality)),
            opacity=self._shown_opacity,
        )
        self.shown, self.title = (chip, name), picture_title(view, chip)
        self.words = stretch_words(view, chip.radiometry.level)
        self.ramps = ramps(view, chip)


def image(shown: Shown, **options: Any) -> ipyleaflet.ImageOverlay:
    """A picture as a layer."""
    bounds = [list(corner) for corner in shown.bounds]
    return ipyleaflet.ImageOverlay(url=shown_url(shown), bounds=bounds, **options)


def composites_of(chip: Chip, modality: Modality) -> list[str]:
    """Names of the composites that a chip has the bands for, the preferred ones first.

    True colour leads for optical: on a map, people look for what they know.
    """
    first = ("true_colour", *PREFERRED)
    names = fillable(chip, modality)
    return sorted(names, key=lambda n: first.index(n) if n in first else len(first))
