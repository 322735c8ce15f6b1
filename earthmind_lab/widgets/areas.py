"""AreaPicker: areas and regions on any ipyleaflet map, drawn and changed with the mouse.

What is drawn on the map is a projection of the session: each change, from whatever face, is a
session command, and afterwards the map's shapes are replaced by what the session holds. A shape
carries the name of its area, so an edit in the browser comes back as an edit of that area.

The map's tools know one outline with its holes. An area of several parts and the regions of the
active area are shown beside them, where the mouse can't change them: the panel can.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, get_args

import ipyleaflet
import ipywidgets

from earthmind_lab.aoi import AOI, MAX_SIDE_DEG
from earthmind_lab.errors import AOIError, EarthMindError
from earthmind_lab.session import Session
from earthmind_lab.session.subject import MarkedRegion, Note, Subject
from earthmind_lab.widgets.area_panel import AreaPanel, Mode
from earthmind_lab.widgets.area_rows import editable
from earthmind_lab.widgets.basemap import fly_to, make_map
from earthmind_lab.widgets.later import Later

AREA = "area"
"""Property of a drawn shape that holds the name of its area."""
REGION = "region"
"""Property of a marked region's shape that holds its id."""
OUTLINES = "outlines"
"""Name of the layer with what the mouse can't change."""
ACTIVE = {"color": "#d7301f", "weight": 3, "fillOpacity": 0.05}
RESTING = {"color": "#2b6cb0", "weight": 2, "fillOpacity": 0.05}
MARKED = {"color": "#b8860b", "weight": 3, "dashArray": "6 5", "fillOpacity": 0.15}
"""Regions are dashed as well: colour alone is not seen by everybody."""


class AreaPicker:
    """Drawing tools for the areas and regions of a session, with their panel.

    Args:
        session: Whose areas they are; every action is one of its commands.
        map: Any ipyleaflet or leafmap map; its own draw tools make room while the picker is
            there. None = a map of its own, which makes no request.

    Raises:
        EarthMindError: The browser side was never built.
    """

    def __init__(self, session: Session, map: ipyleaflet.Map | None = None) -> None:  # noqa: A002
        self.session = session
        self.map = make_map() if map is None else map
        self._own_map = map is None
        self._mode: Mode = "area"
        self._at: str | None = None
        """The active subject to which the map went last."""
        self._going = threading.Lock()
        """Held while a command decides whether the map goes to what it makes active."""
        self._later = Later(self._draw, name="area picker")
        self.tools = _draw_control()
        self.outlines = ipyleaflet.GeoJSON(data=_collection([]), name=OUTLINES)
        self.map.layers = (*self.map.layers, self.outlines)
        # leafmap brings a draw control; two of them would each keep what one mouse draws.
        self._others = [c for c in self.map.controls if isinstance(c, _DRAW_CONTROLS)]
        kept = [c for c in self.map.controls if c not in self._others]
        self.map.controls = (*kept, self.tools)
        self.tools.on_draw(self._on_draw)
        # The browser sends its own list of shapes too: it has no names, so ours goes back.
        self.tools.observe(lambda _: self._later.ask(), "data")
        self.panel = AreaPanel(session, self)
        self._unwatch = session.watch(self._on_note)
        self._later.ask()

    # --- what a user does; any thread ------------------------------------------------------------

    @property
    def mode(self) -> Mode:
        """What a shape drawn on the map becomes: an area, or a region of the active one."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        if mode not in get_args(Mode):
            raise AOIError(f"There is no mode {mode!r}.", change=" or ".join(get_args(Mode)))
        self._mode = mode
        self.panel.refresh()

    def select(self, name: str) -> None:
        """Make a subject the active one, and fly there even where it is already.

        Raises:
            AOIError: There is none of this name.
        """
        with self._going:
            self.session.select(name)
            self._at = None
        self._later.ask()

    def open_place(self, name: str) -> str:
        """The AOI of a sample place; the map flies there.

        Raises:
            SearchError: There is no such place.
        """
        with self._going:
            found = self.session.open_place(name)
            self._at = None
        self._later.ask()
        return found

    def take_view(self, *, replace: bool = False) -> str:
        """An area of what the map shows now.

        Args:
            replace: Give it to the active area instead of making a new one.

        Returns:
            The area's name.

        Raises:
            AOIError: The map is not on a screen yet, or shows too much.
        """
        if not self.map.bounds:
            raise AOIError("The map is not on a screen yet.", change="show it, then ask again")
        (south, west), (north, east) = self.map.bounds
        if max(east - west, north - south) >= MAX_SIDE_DEG:
            raise AOIError(
                "The map shows too much for an AOI.",
                found=f"{east - west:.3g}° x {north - south:.3g}°",
                change=f"zoom in until it is less than {MAX_SIDE_DEG:g}° wide and high",
            )
        turns = 360.0 * round((west + east) / 720)
        view = AOI.from_bbox(*(round(v, 6) for v in (west - turns, south, east - turns, north)))
        return self._stay(lambda: self._outlined(view) if replace else self.session.draw(view))

    def settle(self, timeout: float | None = None) -> bool:
        """Wait until the map shows the session as it is now; False = `timeout` came first."""
        # A note of the session may still be on its way: ask ourselves.
        self._later.ask()
        return self._later.settle(timeout)

    def close(self) -> None:
        """Leave the map as it was, without our tools."""
        self._unwatch()
        self._later.close()
        kept = [c for c in self.map.controls if c is not self.tools]
        self.map.controls = (*kept, *self._others)
        self.map.layers = tuple(each for each in self.map.layers if each is not self.outlines)
        self.tools.close()
        self.outlines.close()
        self.panel.close()

    def _repr_mimebundle_(self, **options: Any) -> Any:
        shown = ipywidgets.VBox([self.map, self.panel]) if self._own_map else self.panel
        return shown._repr_mimebundle_(**options)

    def _on_draw(self, _: Any, action: str, geo_json: Any) -> None:
        # Leaflet.draw gives one feature, Geoman a list of them.
        for feature in geo_json if isinstance(geo_json, list) else [geo_json]:
            self._do(partial(self._drawn_as, action, feature))

    def _drawn_as(self, action: str, feature: Mapping[str, Any]) -> None:
        """A shape that was drawn, changed or removed with the mouse."""
        name = (feature.get("properties") or {}).get(AREA)
        if action == "created" and self._mode == "region":
            self.session.mark(_geometry_of(feature))
        elif action == "created":
            self._stay(lambda: self.session.draw(_geometry_of(feature)))
        elif name is None:
            raise AOIError("This shape is no area yet.", change="the same again")
        elif action == "deleted":
            self.session.delete(name)
        elif action == "edited":
            self.session.edit(name, _geometry_of(feature))

    def _outlined(self, aoi: AOI) -> str:
        name = self.session.subject().name
        self.session.edit(name, aoi)
        return name

    def _stay(self, command: Callable[[], str]) -> str:
        """Make a subject active to which the map need not go: the user is looking at it."""
        with self._going:
            self._at = command()
            return self._at

    def _do(self, command: Callable[[], None]) -> None:
        """Run one command of the map; what is wrong with it is said in the panel."""
        try:
            command()
        except EarthMindError as error:
            self.panel.tell(str(error))
        else:
            self.panel.tell("")
        self._later.ask()

    # --- what is shown; only on the thread of `Later` --------------------------------------------

    def _on_note(self, note: Note) -> None:
        if note.kind == "changed":
            self._later.ask()

    def _draw(self) -> None:
        with self._going:
            subjects, active = self.session.subjects, self.session.active
            now = subjects[active] if active is not None and active in subjects else None
            go = active != self._at
            self._at = active
        areas = [_shape(s, active=s.name == active) for s in subjects.values() if s.aoi]
        fixed = [s.name for s in subjects.values() if s.aoi and (s.files or not editable(s.aoi))]
        shapes = [shape for shape in areas if shape["properties"][AREA] not in fixed]
        if self.tools.data != shapes:
            self.tools.data = shapes
        rest = [shape for shape in areas if shape["properties"][AREA] in fixed]
        marked = [_region(each) for each in now.regions] if now is not None else []
        if self.outlines.data != (drawn := _collection([*rest, *marked])):
            self.outlines.data = drawn
        if go and now is not None and now.aoi is not None:
            fly_to(self.map, now.aoi.bounds)


_DRAW_CONTROLS = (ipyleaflet.DrawControl, ipyleaflet.GeomanDrawControl)


def _draw_control() -> ipyleaflet.DrawControl:
    """Rectangle, polygon, edit, remove.

    Leaflet.draw and not Geoman: it says an edit once, when it is saved, with the shape's own
    properties; Geoman says each drag, as a list of all shapes or of one.
    """
    style = {"shapeOptions": dict(RESTING)}
    return ipyleaflet.DrawControl(
        rectangle=style, polygon=style, polyline={}, circle={}, circlemarker={}, marker={},
        position="topleft",
    )  # fmt: skip


def _shape(subject: Subject, *, active: bool) -> dict[str, Any]:
    """An area as the draw control keeps it: plain lists, so that it compares with what returns."""
    from shapely.geometry import mapping

    assert subject.aoi is not None
    geometry = json.loads(json.dumps(mapping(subject.aoi.geometry)))
    style = dict(ACTIVE if active else RESTING)
    properties = {AREA: subject.name, "style": style}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _region(region: MarkedRegion) -> dict[str, Any]:
    properties = {REGION: region.id, "label": region.label, "style": dict(MARKED)}
    geometry = json.loads(json.dumps(region.geometry))
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _collection(features: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": features}


def _geometry_of(feature: Mapping[str, Any]) -> dict[str, Any]:
    """The geometry of a drawn shape, on this copy of the world.

    A map can be dragged past 180 degrees into the next copy, where longitudes go on counting.

    Raises:
        AOIError: It holds no readable coordinates.
    """
    from shapely.affinity import translate
    from shapely.errors import ShapelyError
    from shapely.geometry import mapping, shape

    try:
        drawn = shape(feature.get("geometry") or {})
        west, _, east, _ = drawn.bounds
        turns = round((west + east) / 2 / 360)
        moved = translate(drawn, xoff=-360.0 * turns) if turns else drawn
    except (ShapelyError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise AOIError("The drawn shape can't be read.", change="draw it again") from error
    return dict(mapping(moved))
