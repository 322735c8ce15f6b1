"""ProbePanel: the numbers behind the pictures, under the mouse, at a place, along a line.

`ProbePanel(session, m)` as the last line of a cell shows it beside the map `m`.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import ipyleaflet
import traitlets

from earthmind_lab.chip import Chip
from earthmind_lab.errors import EarthMindError
from earthmind_lab.session.subject import Note
from earthmind_lab.widgets.base import SessionWidget
from earthmind_lab.widgets.pixels import (
    MOST_POINTS,
    Point,
    columns_of,
    earlier_words,
    parse_points,
    place_words,
    profile,
    reading,
)
from earthmind_lab.widgets.protocol import FromBrowser, clean
from earthmind_lab.widgets.words import NO_PIXELS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from earthmind_lab.session import Session

Mode: TypeAlias = Literal["", "values", "line"]
"""What the mouse on the map is for: nothing, reading values, drawing a line."""
MARKS = "values"
"""Name of the layer with the pinned point and the line."""
_MOUSE = "mouse"
"""`Note.what` of a note of this panel's own: the mouse has moved."""
_COLOUR = "#d81b60"


class ProbePanel(SessionWidget):
    """Values of the active area's chip.

    Args:
        session: Whose chip is read.
        map: Where the mouse is followed; any ipyleaflet or leafmap map.

    Raises:
        EarthMindError: The browser side was never built.
    """

    mode = traitlets.Enum(("", "values", "line"), default_value="").tag(sync=True)
    """As in `Mode`."""
    columns: traitlets.List[Any] = traitlets.List().tag(sync=True)
    """`pixels.columns_of` the chip; empty = there are no pixels."""
    here = traitlets.Dict().tag(sync=True)
    """`pixels.reading` under the mouse; empty = the mouse isn't on the map, or isn't followed.

    Where two dates are compared, ``earlier`` holds `pixels.earlier_words`.
    """
    pinned = traitlets.Dict().tag(sync=True)
    """The same of the point that was clicked or typed; empty = none."""
    line: traitlets.List[Any] = traitlets.List().tag(sync=True)
    """Corners of the line in words."""
    profile = traitlets.Dict().tag(sync=True)
    """`pixels.profile` along the line; empty = none."""

    def __init__(self, session: Session, map: ipyleaflet.Map) -> None:  # noqa: A002
        super().__init__(session, "probe")
        self.map = map
        self._lock = threading.Lock()
        self._woken = False
        self._mouse: Point | None = None
        self._pin: Point | None = None
        self._corners: tuple[Point, ...] = ()
        self._drawn: tuple[Chip | None, tuple[Point, ...]] = (None, ())
        self.marks = ipyleaflet.GeoJSON(
            data=_marks(None, ()), name=MARKS,
            style={"color": _COLOUR, "weight": 3, "fillOpacity": 0.6},
            point_style={"radius": 6, "weight": 2, "color": _COLOUR},
        )  # fmt: skip
        map.on_interaction(self._on_map)
        self._begin()

    def close(self) -> None:
        """Follow the mouse no more; the marks go."""
        if getattr(self, "_thread", None) is not None:
            self.map.on_interaction(self._on_map, remove=True)
            self.map.layers = tuple(each for each in self.map.layers if each is not self.marks)
        super().close()

    # --- the mouse; the kernel's thread, only keeps what is newest -------------------------------

    def _on_map(self, **event: Any) -> None:
        """The map says every movement: after a busy cell there are hundreds, one is answered."""
        mode, kind = self.mode, event.get("type")
        if mode == "" or kind not in ("mousemove", "mouseout", "click"):
            return
        at = None if kind == "mouseout" else _point(event)
        with self._lock:
            self._mouse = at
            if kind == "click" and at is not None:
                if mode == "values":
                    self._pin = at
                elif len(self._corners) < MOST_POINTS:
                    self._corners = (*self._corners, at)
            wake, self._woken = not self._woken, True
        if wake:
            self._inbox.put(Note(kind="changed", what=_MOUSE))

    # --- on the panel's thread -------------------------------------------------------------------

    def _note(self, note: Note) -> None:
        if note.what == _MOUSE:
            with self._lock:
                self._woken = False
        if note.kind == "changed":
            self._soon()

    def _message(self, message: FromBrowser) -> str | None:
        kind = message["kind"]
        if kind == "hello":
            return ""
        if kind == "probe":
            self._follow(message["mode"])
            return ""
        if kind == "locate":
            (point, *more) = parse_points(message["text"])
            if more:
                return "One point, please: longitude, latitude."
            with self._lock:
                self._pin = point
            return f"Values at {place_words(point)}."
        if kind == "along":
            points = parse_points(message["text"])
            profile(self._shown(), points)  # refuses what has no profile
            with self._lock:
                self._corners = points
            return "The profile is drawn."
        if kind == "clear":
            with self._lock:
                self._pin, self._corners = None, ()
            return ""
        return f"A panel of values has nothing to {kind}."

    def _follow(self, mode: Mode) -> None:
        with self._lock:
            if mode == "line":
                self._corners = ()
            self._mouse = None
        self.mode = mode

    def _shown(self) -> Chip:
        chip = self._chip()
        if chip is None:
            raise EarthMindError("There are no pixels to read.", change=NO_PIXELS)
        return chip

    def _chip(self) -> Chip | None:
        try:
            subject = self.session.subject()
            return self.session.chip(subject.name) if subject.kind != "picture" else None
        except EarthMindError:
            return None

    def _earlier(self) -> Chip | None:
        try:
            return self.session.earlier()
        except EarthMindError:
            return None

    def _flush(self) -> None:
        chip = self._chip()
        earlier = None if chip is None else self._earlier()
        with self._lock:
            mouse, pin, corners = self._mouse, self._pin, self._corners
        self.columns = [] if chip is None else columns_of(chip, earlier)
        self.here = _reading(chip, earlier, mouse)
        self.pinned = _reading(chip, earlier, pin)
        self.line = [place_words(point) for point in corners]
        if self._drawn != (chip, corners):
            self._drawn = (chip, corners)
            self.profile = self._profile(chip, corners)
        self._mark(pin, corners)

    def _profile(self, chip: Chip | None, corners: tuple[Point, ...]) -> dict[str, Any]:
        if chip is None or len(corners) < 2:
            return {}
        try:
            return profile(chip, corners)
        except EarthMindError as error:
            self.fault = clean(error)
            return {}

    def _mark(self, pin: Point | None, corners: tuple[Point, ...]) -> None:
        marks = _marks(pin, corners)
        if marks["features"] and self.marks not in self.map.layers:
            self.map.add(self.marks)
        if self._shape != (pin, corners):
            self._shape = (pin, corners)
            self.marks.data = marks

    _shape: tuple[Point | None, tuple[Point, ...]] = (None, ())


def _reading(chip: Chip | None, earlier: Chip | None, point: Point | None) -> dict[str, Any]:
    if chip is None or point is None:
        return {}
    then = {} if earlier is None else {"earlier": earlier_words(chip, earlier, point)}
    return {**reading(chip, point), **then}


def _point(event: Mapping[str, Any]) -> Point | None:
    """The place of a map's event; longitudes beyond a turn of the Earth are taken back."""
    try:
        latitude, longitude = map(float, event["coordinates"])
    except (KeyError, TypeError, ValueError):
        return None
    return (longitude + 180) % 360 - 180, latitude


def _marks(pin: Point | None, corners: tuple[Point, ...]) -> dict[str, Any]:
    shapes: list[dict[str, Any]] = []
    if pin is not None:
        shapes.append({"type": "Point", "coordinates": list(pin)})
    if len(corners) == 1:
        shapes.append({"type": "Point", "coordinates": list(corners[0])})
    if len(corners) > 1:
        shapes.append({"type": "LineString", "coordinates": [list(each) for each in corners]})
    features = [{"type": "Feature", "geometry": each, "properties": {}} for each in shapes]
    return {"type": "FeatureCollection", "features": features}
