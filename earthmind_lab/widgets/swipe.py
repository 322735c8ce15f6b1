"""Swipe: a line over the map with one sensor on its left and the other on its right."""

from __future__ import annotations

from pathlib import Path

import anywidget
import traitlets


class Swipe(anywidget.AnyWidget):
    """Lives in an `ipyleaflet.WidgetControl`; clips two panes of that map in the browser.

    `ipyleaflet.SplitMapControl` is not used: as soon as a layer joins or leaves the map it holds
    layers that are no longer there, stops clipping and cannot be removed.
    """

    _esm = Path(__file__).parent / "swipe.js"

    on = traitlets.Bool(default_value=False).tag(sync=True)
    left_pane = traitlets.Unicode().tag(sync=True)
    right_pane = traitlets.Unicode().tag(sync=True)
    position = traitlets.Float(0.5, min=0.0, max=1.0).tag(sync=True)
    """Share of the map's width, 0 = left edge."""
