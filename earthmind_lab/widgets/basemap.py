"""A map that asks nobody: the land as one picture, panes for rasters, and flying without a server.

>>> make_map().layers[0].name  # the land from Natural Earth; no tile is requested
'land'

`make_map(host="leafmap")` gives the same in a leafmap map. Tiles come only when a user adds them.
"""

from __future__ import annotations

import base64
import math
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from earthmind_lab.widgets.web_mercator import MAX_LATITUDE

if TYPE_CHECKING:
    import ipyleaflet

LAND, TILES = "land", "OpenStreetMap"
TILE_HOST = "tile.openstreetmap.org"
"""Its terms allow a map that people look at, with the attribution, and no fetching ahead."""
TILE_PANE = "earthmind-tiles"
OPTICAL_PANE, SAR_PANE, LAND_PANE = "earthmind-optical", "earthmind-sar", "earthmind-land"
OPTICAL_BEFORE_PANE, SAR_BEFORE_PANE = "earthmind-optical-before", "earthmind-sar-before"
ANSWER_PANE = "earthmind-answer"
PANES: dict[str, dict[str, Any]] = {
    # Leaflet: tiles 200, vectors (drawn areas, features of answers) 400. A picture must not take
    # the mouse away from the map, or nobody could draw on it.
    LAND_PANE: {"zIndex": 250, "pointerEvents": "none"},
    TILE_PANE: {"zIndex": 260, "pointerEvents": "none"},
    OPTICAL_BEFORE_PANE: {"zIndex": 302, "pointerEvents": "none"},
    SAR_BEFORE_PANE: {"zIndex": 304, "pointerEvents": "none"},
    OPTICAL_PANE: {"zIndex": 310, "pointerEvents": "none"},
    SAR_PANE: {"zIndex": 320, "pointerEvents": "none"},
    ANSWER_PANE: {"zIndex": 330, "pointerEvents": "none"},
}
"""One pane per raster: layers in one pane cannot be swiped against each other."""
TILE_PX = 256
"""The world is this many pixels wide at zoom 0."""
CLOSEST = 16
"""A chip pixel of 10 m fills four pixels of the screen or so; closer shows nothing more."""


@cache
def _land_url() -> str:
    data = (Path(__file__).parent / "land.png").read_bytes()
    return f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}"


def land_layer() -> ipyleaflet.ImageOverlay:
    """The land masses of the world, from Natural Earth, without any network."""
    from ipyleaflet import ImageOverlay

    return ImageOverlay(
        url=_land_url(),
        bounds=[[-MAX_LATITUDE, -180.0], [MAX_LATITUDE, 180.0]],
        name=LAND,
        pane=LAND_PANE,
        attribution="Natural Earth",
    )


def tile_layer() -> ipyleaflet.TileLayer:
    """Streets and names of OpenStreetMap, which the browser requests from its server."""
    from ipyleaflet import TileLayer

    return TileLayer(
        url=f"https://{TILE_HOST}/{{z}}/{{x}}/{{y}}.png",
        name=TILES,
        pane=TILE_PANE,
        max_zoom=19,
        attribution='&copy; <a href="https://www.openstreetmap.org/copyright">OpenStreetMap</a> '
        "contributors",
    )


def make_map(
    *,
    host: Literal["ipyleaflet", "leafmap"] = "ipyleaflet",
    center: tuple[float, float] = (20.0, 0.0),
    zoom: float = 2,
    height: str = "560px",
    **options: Any,
) -> ipyleaflet.Map:
    """A map of the world that requests nothing from the network.

    Args:
        host: Class of the map; leafmap brings its own tools and takes seconds to import.
        center: (latitude, longitude) in degrees.
        zoom: Leaflet's zoom level.
        height: CSS height.
        options: Passed on to the map.
    """
    land = land_layer()
    options = {"center": list(center), "zoom": zoom, "scroll_wheel_zoom": True, **options}
    # Panes go in before the map is shown: a map that learns of them later is built anew.
    options = {"layers": (land,), "panes": PANES, **options}
    if host == "leafmap":
        import leafmap

        bare = {"draw_control": False, "toolbar_control": False}
        found: ipyleaflet.Map = leafmap.Map(**{**bare, **options}, height=height)
        land.name = LAND  # leafmap calls the first layer OpenStreetMap, whatever it is
        return found
    import ipyleaflet
    from ipywidgets import Layout

    return ipyleaflet.Map(layout=Layout(height=height), **options)


def ensure_panes(m: ipyleaflet.Map) -> None:
    """Give a map the panes that rasters need; a shown map is drawn anew once, then never again."""
    if missing := {name: about for name, about in PANES.items() if name not in m.panes}:
        m.panes = {**m.panes, **missing}


def fly_to(m: ipyleaflet.Map, bounds: tuple[float, float, float, float]) -> None:
    """Show an area, as large as it fits.

    ipyleaflet's own `fit_bounds` waits for the browser step by step and needs the kernel's event
    loop; this says centre and zoom once, from any thread.

    Args:
        m: Any ipyleaflet map.
        bounds: (west, south, east, north) in degrees.
    """
    west, south, east, north = bounds
    low, high = _height_of(south), _height_of(north)
    center = [math.degrees(math.atan(math.sinh((low + high) / 2))), (west + east) / 2]
    width_px, height_px = _size_px(m)
    # Shares of the world's width; the ends keep a point from filling the screen.
    wide, tall = max((east - west) / 360, 1e-9), max((high - low) / (2 * math.pi), 1e-9)
    room = 0.85  # what is left beside the controls
    fits = min(room * width_px / wide, room * height_px / tall) / TILE_PX
    zoom = max(1, min(math.floor(math.log2(fits)), int(m.max_zoom or CLOSEST), CLOSEST))
    with m.hold_sync():
        m.center = center
        m.zoom = zoom


def _height_of(latitude: float) -> float:
    """Web Mercator's y on a sphere of radius 1."""
    return math.atanh(math.sin(math.radians(max(-MAX_LATITUDE, min(MAX_LATITUDE, latitude)))))


def _size_px(m: ipyleaflet.Map) -> tuple[float, float]:
    """(width, height) of the map on the screen; a usual one while no browser has told."""
    # Before the first view, ipyleaflet holds right = 0 and left = the largest whole number.
    width, height = m.right - m.left, m.bottom - m.top
    return (width, height) if width > 50 and height > 50 else (640.0, 480.0)
