"""One sensor's picture on a map, with its switches and its legend."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import Any

import ipyleaflet

from earthmind_lab.chip import Chip
from earthmind_lab.exchange import Modality
from earthmind_lab.render import PREFERRED, fillable, render
from earthmind_lab.widgets.basemap import OPTICAL_PANE, SAR_PANE
from earthmind_lab.widgets.legend import attribution_of, picture_title, ramps, stretch_words
from earthmind_lab.widgets.web_mercator import Shown, lay_out, shown_url

PANE: dict[Modality, str] = {"optical": OPTICAL_PANE, "sar": SAR_PANE}
WORD: dict[Modality, str] = {"optical": "Optical", "sar": "SAR"}


@dataclass(kw_only=True, eq=False)
class Raster:
    """One sensor's picture and its switches."""

    modality: Modality
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
    def _shown_opacity(self) -> float:
        """The layer's own `visible` means nothing to a layer that is new."""
        return self.opacity if self.visible else 0.0

    def clear(self) -> None:
        """Show nothing."""
        self.layer, self.shown, self.title, self.words, self.ramps = None, None, "", "", []

    def draw(self, chip: Chip | None) -> None:
        """Show a chip; a picture that is there already is not made again.

        Raises:
            EarthMindError: It can't be rendered; then nothing is shown.
        """
        self.names = [] if chip is None else composites_of(chip, self.modality)
        if chip is None or not self.names:
            self.clear()
            return
        name = self.wanted if self.wanted in self.names else self.names[0]
        if self.shown is not None and self.shown[0] is chip and self.shown[1] == name:
            return
        self.clear()
        (view,) = render(chip, [name])
        known = chip.valid_sar if self.modality == "sar" else chip.valid_optical
        # A new layer each time: Leaflet reads the attribution of a layer only when it comes.
        self.layer = image(
            lay_out(view.image, chip.grid, known=known),
            name=WORD[self.modality],
            pane=PANE[self.modality],
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
