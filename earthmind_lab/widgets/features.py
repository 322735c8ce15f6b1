"""TurnLayer: the objects of one answer as features on the map."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, TypeAlias

import ipyleaflet

from earthmind_lab.figures import TINTS
from earthmind_lab.record_parts import BEFORE, date_of
from earthmind_lab.session.subject import SaidTurn
from earthmind_lab.widgets.legend import feature_words
from earthmind_lab.widgets.rows import mapped_area
from earthmind_lab.widgets.words import day

CHOSEN = {"weight": 5, "fillOpacity": 0.5, "dashArray": ""}
"""How the selected object differs from the others of its answer."""
EARLIER = {"dashArray": "1 6", "fillOpacity": 0.1}
"""How objects of the earlier of two dates differ: dotted, the selected one too."""
Bounds: TypeAlias = tuple[float, float, float, float]
"""(west, south, east, north) in degrees."""


class TurnLayer:
    """A layer of features; hovering or clicking says what an object is, clicking selects it.

    Args:
        turn: What was said, with its features in EPSG:4326.
        title: How the layer is called: "answer 1".
        tint: Which of `figures.TINTS` it has, counted in a circle.
        say: Gets the words about the object under the mouse, as plain text.
        choose: Gets the number of the object that was clicked.
        visible: Whether the objects are on the map from the beginning.
    """

    def __init__(
        self,
        turn: SaidTurn,
        title: str,
        tint: int,
        *,
        say: Callable[[str], None],
        choose: Callable[[int], None],
        visible: bool = True,
    ) -> None:
        self.turn, self.title = turn, title
        self.chosen: int | None = None
        """Which of the objects is drawn as selected."""
        self.colour = "#{:02x}{:02x}{:02x}".format(*TINTS[tint % len(TINTS)])
        self._say, self._choose, self._visible = say, choose, visible
        # No popup: ipyleaflet throws when a layer goes whose popup is closed.
        self.layer = ipyleaflet.GeoJSON(data=self._data(), hover_style={"weight": 4}, name=title)
        self.layer.on_hover(self._on_hover)
        self.layer.on_click(self._on_click)

    @property
    def numbers(self) -> range:
        """Of its objects."""
        return range(len(self.turn.features["features"]))

    @property
    def visible(self) -> bool:
        """Whether the objects are on the map."""
        return self._visible

    @visible.setter
    def visible(self, visible: bool) -> None:
        if visible != self._visible:
            self._visible = visible
            self._redraw()

    @property
    def bounds(self) -> Bounds | None:
        """Of all features; None where none has a place."""
        return bounds_of(self.turn.features["features"])

    def bounds_of(self, number: int) -> Bounds | None:
        """Of one of its objects."""
        return bounds_of([self.turn.features["features"][number]])

    def shows(self, turn: SaidTurn) -> bool:
        """Whether this layer shows a turn as it is now."""
        return self.turn.features == turn.features and self.turn.stale == turn.stale

    @cached_property
    def area_m2(self) -> float:
        """Mapped area of all objects, overlaps counted once."""
        return mapped_area(self.turn.features["features"])

    @cached_property
    def dates(self) -> str:
        """What the dots mean; empty where one date was asked about."""
        early = next(filter(self._is_early, self.numbers), None)
        if early is None:
            return ""
        observed = self.turn.features["features"][early]["properties"]["observed"]
        return f"Dotted: {day(observed) or 'day unknown'}, the earlier date."

    def words(self, number: int) -> str:
        """What an object is: name, area, score, probability, source, day."""
        feature = self.turn.features["features"][number]
        return feature_words(feature.get("properties") or {}, self.turn.record)

    def mark(self, number: int | None) -> None:
        """Draw one object as the selected one; None = none."""
        if number != self.chosen:
            self.chosen = number
            self._redraw()

    def close(self) -> None:
        """End the layer's widget."""
        self.layer.close()

    def _redraw(self) -> None:
        self.layer.data = self._data()

    def _data(self) -> dict[str, Any]:
        """What the layer draws: ipyleaflet's own `visible` is forgotten with the next change."""
        shown = self.numbers if self._visible else ()
        return {"type": "FeatureCollection", "features": list(map(self._feature, shown))}

    def _feature(self, number: int) -> dict[str, Any]:
        """A feature with our style and nothing of a style that came with it."""
        feature = self.turn.features["features"][number]
        style = {
            "color": self.colour, "weight": 2, "fillOpacity": 0.25,
            "dashArray": "6" if self.turn.stale else "",
        }  # fmt: skip
        early = self._is_early(number)
        style |= EARLIER if early else {}
        style |= CHOSEN if number == self.chosen else {}
        style["dashArray"] = EARLIER["dashArray"] if early else style["dashArray"]
        properties = {"number": number, "style": style}
        return {"type": "Feature", "geometry": feature.get("geometry"), "properties": properties}

    def _is_early(self, number: int) -> bool:
        feature = self.turn.features["features"][number]
        inputs = (self.turn.record or {}).get("inputs", ())
        return date_of(feature.get("properties") or {}, inputs) == BEFORE

    def _number(self, properties: Mapping[str, Any] | None) -> int | None:
        """What the browser says was touched; it may speak of an older state."""
        number = (properties or {}).get("number")
        known = isinstance(number, int) and not isinstance(number, bool) and number in self.numbers
        return number if known else None

    def _on_hover(self, *, properties: Mapping[str, Any] | None = None, **_: Any) -> None:
        number = self._number(properties)
        if number is not None:
            self._say(self.words(number))

    def _on_click(self, *, properties: Mapping[str, Any] | None = None, **given: Any) -> None:
        self._on_hover(properties=properties, **given)
        number = self._number(properties)
        if number is not None:
            self._choose(number)


def bounds_of(features: list[Mapping[str, Any]]) -> Bounds | None:
    """Of features; None where none has a place."""
    from shapely import total_bounds
    from shapely.geometry import shape

    shapes = [shape(each["geometry"]) for each in features if each.get("geometry")]
    if not shapes:
        return None
    west, south, east, north = (float(edge) for edge in total_bounds(shapes))
    return west, south, east, north
