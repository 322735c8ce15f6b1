"""Swipe: two pictures of a map side by side at a line, or in turn at one place."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import anywidget
import traitlets

from earthmind_lab.widgets.base import static

How: TypeAlias = Literal["", "swipe", "blink"]
"""Not at all, left and right of a line, or one after the other."""


class Swipe(anywidget.AnyWidget):
    """Lives in an `ipyleaflet.WidgetControl`; clips or hides two panes of that map in the browser.

    `ipyleaflet.SplitMapControl` is not used: as soon as a layer joins or leaves the map it holds
    layers that are no longer there, stops clipping and cannot be removed.
    """

    _esm = traitlets.Unicode().tag(sync=True)
    _css = traitlets.Unicode().tag(sync=True)
    how = traitlets.Enum(("", "swipe", "blink"), default_value="").tag(sync=True)
    """As in `How`; the browser ends it, too."""
    left_pane = traitlets.Unicode().tag(sync=True)
    right_pane = traitlets.Unicode().tag(sync=True)
    hidden_panes: traitlets.List[str] = traitlets.List(traitlets.Unicode()).tag(sync=True)
    """Pictures that would lie over the two; out of sight meanwhile."""
    left_title = traitlets.Unicode("left").tag(sync=True)
    """What the left pane shows, for people."""
    right_title = traitlets.Unicode("right").tag(sync=True)
    position = traitlets.Float(0.5, min=0.0, max=1.0).tag(sync=True)
    """Share of the map's width, 0 = left edge."""

    def __init__(self, **traits: Any) -> None:
        super().__init__(_esm=static("swipe.js"), _css=static("swipe.css"), **traits)
