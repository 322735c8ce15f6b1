"""AreaPicker: sample places, drawing, pasting and the list of areas, on any ipyleaflet map.

What is drawn on the map is a projection of the session: each change, from whatever face, is a
session command, and afterwards the map's shapes are replaced by what the session holds. A shape
carries the name of its area, so an edit in the browser comes back as an edit of that area.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from html import escape
from typing import Any

import ipyleaflet
import ipywidgets

from earthmind_lab.aoi import AOI
from earthmind_lab.data.samples import place, places
from earthmind_lab.errors import AOIError, EarthMindError
from earthmind_lab.session import Session
from earthmind_lab.session.subject import Note, Subject
from earthmind_lab.widgets.basemap import fly_to, make_map
from earthmind_lab.widgets.later import Later

AREA = "area"
"""Property of a drawn shape that holds the name of its area."""
ACTIVE = {"color": "#d7301f", "weight": 3, "fillOpacity": 0.05}
RESTING = {"color": "#2b6cb0", "weight": 2, "fillOpacity": 0.05}
_WIDE = ipywidgets.Layout(width="auto")


class AreaPicker:
    """Places, drawing tools and the list of areas of a session.

    Args:
        session: Whose areas they are; every action is one of its commands.
        map: Any ipyleaflet or leafmap map; its own draw tools make room while the picker is
            there. None = a map of its own, which makes no request.
    """

    def __init__(self, session: Session, map: ipyleaflet.Map | None = None) -> None:  # noqa: A002
        self.session = session
        self.map = make_map() if map is None else map
        self._own_map = map is None
        self._at: str | None = None
        self._drawn: str | None = None
        self._names: tuple[str, ...] = ()
        self._later = Later(self._draw, name="area picker")
        self._build()
        self.tools = _draw_control()
        # leafmap brings a draw control; two of them would each keep what one mouse draws.
        self._others = [c for c in self.map.controls if isinstance(c, _DRAW_CONTROLS)]
        kept = [c for c in self.map.controls if c not in self._others]
        self.map.controls = (*kept, self.tools)
        self.tools.on_draw(self._on_draw)
        # The browser sends its own list of shapes too: it has no names, so ours goes back.
        self.tools.observe(lambda _: self._later.ask(), "data")
        self._unwatch = session.watch(self._on_note)
        self._later.ask()

    def _build(self) -> None:
        entries = [("Choose a place ...", None), *((each.title, each.name) for each in places())]
        self.place = ipywidgets.Dropdown(options=entries, value=None, layout=_WIDE)
        self.place.observe(lambda change: self._go(change["new"]), "value")
        self.go = ipywidgets.Button(description="Go there", tooltip="Fly to the place again")
        self.go.on_click(lambda _: self._go(self.place.value))
        self.why = ipywidgets.HTML()
        self.pasted = ipywidgets.Text(
            placeholder="west,south,east,north or GeoJSON", layout=_WIDE, continuous_update=True
        )
        self.add = ipywidgets.Button(description="Add area")
        self.add.on_click(lambda _: self.paste(self.pasted.value))
        self.replace = ipywidgets.Button(
            description="Replace active", tooltip="Give the active area this outline"
        )
        self.replace.on_click(lambda _: self.paste(self.pasted.value, replace=True))
        self.areas = ipywidgets.VBox(layout=ipywidgets.Layout(max_height="220px", overflow="auto"))
        # HTML with escaped text: a Label would typeset $...$, links and all.
        self.message = ipywidgets.HTML()
        # Where to go stands above a map, what is there below it.
        self.top = ipywidgets.VBox([ipywidgets.HBox([self.place, self.go]), self.why, self.message])
        rows = [self.areas, self.pasted, ipywidgets.HBox([self.add, self.replace])]
        self.rest = ipywidgets.VBox(rows)
        self.panel = ipywidgets.VBox([self.top, self.rest])

    # --- what a user does; any thread ------------------------------------------------------------

    def paste(self, text: str, *, replace: bool = False) -> None:
        """Add an area, or give the active one another outline.

        Args:
            text: ``west,south,east,north`` in degrees, GeoJSON, or a vector file's path.
            replace: Edit the active area.
        """

        def command() -> None:
            if not text.strip():
                raise AOIError("There is nothing to add.", change="W,S,E,N in degrees, or GeoJSON")
            aoi = AOI.from_any(text)
            if replace:
                self.session.edit(self.session.subject().name, aoi)
            else:
                self.session.draw(aoi)
            self.pasted.value = ""

        self._do(command)

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
        self.tools.close()
        self.panel.close()

    def _repr_mimebundle_(self, **options: Any) -> Any:
        shown = ipywidgets.VBox([self.map, self.panel]) if self._own_map else self.panel
        return shown._repr_mimebundle_(**options)

    def _go(self, name: str | None) -> None:
        if name is None:
            return
        self.why.value = f"<small>{escape(place(name).why)}</small>"

        def command() -> None:
            self._at = None  # fly even when it is the active one already
            self.session.open_place(name)

        self._do(command)

    def _on_draw(self, _: Any, action: str, geo_json: Any) -> None:
        # Leaflet.draw gives one feature, Geoman a list of them.
        for feature in geo_json if isinstance(geo_json, list) else [geo_json]:
            self._do(partial(self._drawn_as, action, feature))

    def _drawn_as(self, action: str, feature: Mapping[str, Any]) -> None:
        """A shape that was drawn, changed or removed with the mouse."""
        name = (feature.get("properties") or {}).get(AREA)
        if action == "created":
            self._drawn = self.session.draw(_geometry_of(feature))
        elif name is None:
            raise AOIError("This shape is no area yet.", change="the same again")
        elif action == "deleted":
            self.session.delete(name)
        elif action == "edited":
            self.session.edit(name, _geometry_of(feature))

    def _do(self, command: Callable[[], None]) -> None:
        """Run one command; what is wrong with it is said in words."""
        try:
            command()
        except EarthMindError as error:
            self.message.value = _error(str(error))
        else:
            self.message.value = ""
        self._later.ask()

    # --- what is shown; only on the thread of `Later` --------------------------------------------

    def _on_note(self, note: Note) -> None:
        if note.kind == "changed":
            self._later.ask()

    def _draw(self) -> None:
        subjects, active = self.session.subjects, self.session.active
        shapes = [_shape(s, active=s.name == active) for s in subjects.values() if s.aoi]
        if self.tools.data != shapes:
            self.tools.data = shapes
        self._list(tuple(subjects), active)
        if active != self._at:
            aoi = subjects[active].aoi if active is not None and active in subjects else None
            if aoi is not None and active != self._drawn:
                fly_to(self.map, aoi.bounds)
            self._at, self._drawn = active, None

    def _list(self, names: tuple[str, ...], active: str | None) -> None:
        """One row per subject: a button that selects it and one that deletes it."""
        if names != self._names:
            old, self._names = self.areas.children, names
            self.areas.children = [self._row(name) for name in names]
            for row in old:
                for part in (*row.children, row):
                    part.close()
        for name, row in zip(names, self.areas.children, strict=True):
            row.children[0].button_style = "info" if name == active else ""

    def _row(self, name: str) -> ipywidgets.HBox:
        select = ipywidgets.Button(description=name, layout=ipywidgets.Layout(flex="1 1 auto"))
        delete = ipywidgets.Button(
            icon="trash", tooltip="Delete (undo brings it back)",
            layout=ipywidgets.Layout(width="38px"),
        )  # fmt: skip
        select.on_click(lambda _: self._select(name))
        delete.on_click(lambda _: self._do(lambda: self.session.delete(name)))
        return ipywidgets.HBox([select, delete])

    def _select(self, name: str) -> None:
        def command() -> None:
            self._at = None
            self.session.select(name)

        self._do(command)


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


def _error(text: str) -> str:
    return f'<span style="color:#b00020" role="alert">{escape(text)}</span>'
