"""Swipe: a line over the map with one sensor on its left and the other on its right."""

from __future__ import annotations

from typing import Any

import anywidget
import traitlets

from earthmind_lab.widgets.base import static


class Swipe(anywidget.AnyWidget):
    """Lives in an `ipyleaflet.WidgetControl`; clips two panes of that map in the browser.

    `ipyleaflet.SplitMapControl` is not used: as soon as a layer joins or leaves the map it holds
    layers that are no longer there, stops clipping and cannot be removed.
    """

    _esm = traitlets.Unicode().tag(sync=True)
    on = traitlets.Bool(default_value=False).tag(sync=True)
    left_pane = traitlets.Unicode().tag(sync=True)
    right_pane = traitlets.Unicode().tag(sync=True)
    position = traitlets.Float(0.5, min=0.0, max=1.0).tag(sync=True)
    """Share of the map's width, 0 = left edge."""

    def __init__(self, **traits: Any) -> None:
        super().__init__(_esm=static("swipe.js"), **traits)
