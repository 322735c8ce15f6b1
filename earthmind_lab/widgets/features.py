"""TurnLayer: the objects of one answer as features on the map."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import Any

import ipyleaflet
import ipywidgets

from earthmind_lab.figures import TINTS
from earthmind_lab.session.subject import SaidTurn
from earthmind_lab.widgets.legend import feature_words

MAX_QUESTION = 60
"""Characters of a question beside its switch."""


class TurnLayer:
    """A layer of features, with a switch; hovering or clicking says what an object is.

    Args:
        turn: What was said, with its features in EPSG:4326.
        number: Place of the turn in the talk: each has a colour of its own.
        say: Gets the words about the object under the mouse, as plain text.
    """

    def __init__(self, turn: SaidTurn, number: int, say: Callable[[str], None]) -> None:
        self._say, self._record = say, turn.record
        features = [_clean(feature) for feature in turn.features["features"]]
        red, green, blue = TINTS[number % len(TINTS)]
        colour = f"#{red:02x}{green:02x}{blue:02x}"
        # No popup: ipyleaflet throws when a layer goes whose popup is closed.
        self.layer = ipyleaflet.GeoJSON(
            data={"type": "FeatureCollection", "features": features},
            style={"color": colour, "weight": 2, "fillOpacity": 0.25,
                   "dashArray": "6" if turn.stale else ""},
            hover_style={"weight": 4},
            name=f"answer {number + 1}",
        )  # fmt: skip
        self.layer.on_hover(self._on_mouse)
        self.layer.on_click(self._on_mouse)
        self.visible = ipywidgets.Checkbox(
            value=True, description=f"Answer {number + 1}", indent=False,
            layout=ipywidgets.Layout(width="110px"),
        )  # fmt: skip
        self.visible.observe(lambda change: self._show(bool(change["new"])), "value")
        asked = turn.question if len(turn.question) <= MAX_QUESTION else turn.question[:57] + "..."
        title = ipywidgets.HTML(f'<span style="color:{colour}">■</span> {escape(asked)}')
        self.row = ipywidgets.HBox([self.visible, title])

    @property
    def bounds(self) -> tuple[float, float, float, float] | None:
        """(west, south, east, north) of all features in degrees; None where none has a place."""
        from shapely import total_bounds
        from shapely.geometry import shape

        shapes = [shape(f["geometry"]) for f in self.layer.data["features"] if f["geometry"]]
        if not shapes:
            return None
        west, south, east, north = (float(edge) for edge in total_bounds(shapes))
        return west, south, east, north

    def _words(self, properties: Mapping[str, Any]) -> str:
        return feature_words(properties, self._record)

    def _show(self, visible: bool) -> None:
        self.layer.visible = visible

    def _on_mouse(self, *, properties: Mapping[str, Any] | None = None, **_: Any) -> None:
        self._say(self._words(properties or {}))


def _clean(feature: Mapping[str, Any]) -> dict[str, Any]:
    """A feature without anything that Leaflet would read as style."""
    properties = {k: v for k, v in (feature.get("properties") or {}).items() if k != "style"}
    return {"type": "Feature", "geometry": feature.get("geometry"), "properties": properties}
