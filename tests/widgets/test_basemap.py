"""The map that asks nobody, pictures in Web Mercator, and drawing later."""

from __future__ import annotations

import base64
import io
import re
import threading
import warnings

import ipyleaflet
import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from PIL import Image
from pyproj import Transformer

from earthmind_lab.widgets.basemap import PANES, ensure_panes, fly_to, land_layer, make_map
from earthmind_lab.widgets.later import Later
from earthmind_lab.widgets.web_mercator import (
    MAX_LATITUDE,
    WORLD_M,
    Piece,
    Shown,
    lay_out,
    shown_url,
)

SPAIN = (-0.775, 38.09, -0.745, 38.12)


def picture_of(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1])))


def land_at(longitude: float, latitude: float) -> bool:
    picture = picture_of(land_layer().url)
    transformer = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True)
    x, y = transformer.transform(longitude, latitude)
    side = picture.width
    column, row = ((x + WORLD_M) / (2 * WORLD_M), (WORLD_M - y) / (2 * WORLD_M))
    return picture.getpixel((int(column * side), int(row * side))) == 1


@pytest.mark.parametrize(
    ("place", "longitude", "latitude", "land"),
    [
        ("Madrid", -3.7, 40.4, True), ("Novosibirsk", 83, 55, True), ("Anadyr", 172, 65.5, True),
        ("Chukotka beyond 180", -175, 66.5, True), ("Taveuni's sea", -175, -17, False),
        ("South of Cape Agulhas", 20, -45, False), ("South pole's side", 90, -84, True),
        ("North pole's side", 0, 84.5, False), ("Black Sea", 34, 43, False),
        ("Ross Sea", -175, -75, False), ("Siberia at the pole circle", 100, 66.5, True),
        ("Atlantic at the pole circle", -2, 66.5, False),
    ],
)  # fmt: skip
def test_land_lies_where_it_is(place, longitude, latitude, land):
    assert land_at(longitude, latitude) is land


def test_land_is_small_and_covers_the_square_world():
    layer = land_layer()
    assert len(layer.url) < 160_000
    assert layer.bounds == [[-MAX_LATITUDE, -180.0], [MAX_LATITUDE, 180.0]]
    assert layer.pane in PANES


def asks_the_network(m: ipyleaflet.Map) -> bool:
    urls = [getattr(each, "url", "") for each in (*m.layers, *m.controls)]
    tiles = any(isinstance(layer, ipyleaflet.TileLayer) for layer in m.layers)
    return tiles or any(not url.startswith("data:") for url in urls if url)


def test_a_map_has_land_and_panes_and_asks_nobody():
    m = make_map()
    assert [layer.name for layer in m.layers] == ["land"]
    assert set(PANES) <= set(m.panes)
    assert not asks_the_network(m)
    assert asks_the_network(ipyleaflet.Map())  # the check sees tiles


def test_a_leafmap_map_asks_nobody_either():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # leafmap's own imports are not ours to mend
        m = make_map(host="leafmap")
    assert isinstance(m, ipyleaflet.Map)
    assert type(m).__module__.startswith("leafmap")
    assert [layer.name for layer in m.layers] == ["land"]
    assert not asks_the_network(m)


def test_panes_are_added_once_and_keep_those_of_others():
    m = ipyleaflet.Map(layers=(), panes={"mine": {"zIndex": 5}})
    changes = []
    m.observe(lambda change: changes.append(change["new"]), "panes")
    ensure_panes(m)
    ensure_panes(m)
    assert len(changes) == 1
    assert m.panes == {"mine": {"zIndex": 5}, **PANES}


@pytest.mark.parametrize("bounds", [SPAIN, (10, 60, 10.01, 60.001), (-0.4, -0.4, 0.4, 0.4)])
def test_flying_shows_the_whole_area_and_not_much_more(bounds):
    m = make_map()
    fly_to(m, bounds)
    transformer = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True)
    x, y = transformer.transform(bounds[0::2], bounds[1::2])
    pixel = 2 * WORLD_M / 256 / 2**m.zoom
    shares = ((x[1] - x[0]) / pixel / 640, (y[1] - y[0]) / pixel / 480)
    assert max(shares) <= 0.85
    assert max(shares) > 0.42 or m.zoom == 16
    middle = transformer.transform(m.center[1], m.center[0])
    assert middle == pytest.approx((sum(x) / 2, sum(y) / 2), abs=1)


def test_flying_works_from_a_thread_without_an_event_loop():
    m = make_map()
    thread = threading.Thread(target=fly_to, args=(m, SPAIN))
    thread.start()
    thread.join(5)
    assert m.center == pytest.approx([38.105, -0.76], abs=1e-3)


def test_flying_keeps_to_the_maps_own_limit():
    m = make_map(max_zoom=9)
    fly_to(m, SPAIN)
    assert m.zoom == 9


def on_the_map(shown: Shown, column: float, row: float, piece: Piece) -> tuple[float, float]:
    """Where a pixel of a piece lies in metres of Web Mercator, as Leaflet stretches it."""
    (south, west), (north, east) = shown.bounds
    to_metres = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True).transform
    (x0, y0), (x1, y1) = to_metres(west, south), to_metres(east, north)
    x, y = piece.affine @ (column, row)
    width, height = shown.size
    return x0 + x / width * (x1 - x0), y1 - y / height * (y1 - y0)


@pytest.mark.parametrize(
    ("crs", "side", "north", "parts"),
    [("EPSG:32630", 60, 4_220_600, 1), ("EPSG:32629", 60, 4_220_600, 1),
     ("EPSG:32630", 2048, 4_220_600, 16), ("EPSG:32630", 2048, 7_800_000, 49),
     ("EPSG:32730", 1024, 6_000_000, 4)],
)  # fmt: skip
def test_a_pixel_stays_where_it_is_on_the_earth(crs, side, north, parts):
    """Everywhere in the picture, to a tenth of a pixel; the sphere's radius makes it larger."""
    grid = GeoBox((side, side), Affine(10, 0, 699_900, 0, -10, north), crs)
    numbers = np.arange(side * side).reshape(side, side)
    image = np.stack([numbers >> 16, numbers >> 8, numbers], axis=-1).astype(np.uint8)
    shown = lay_out(image, grid)
    assert len(shown.pieces) == parts
    to_map = Transformer.from_crs(crs, "EPSG:3857", always_xy=True)
    seen = np.zeros((side, side), dtype=int)
    for piece in shown.pieces:
        colours = piece.image.astype(int)
        rows, columns = np.divmod(
            (colours[..., 0] << 16) + (colours[..., 1] << 8) + colours[..., 2], side
        )
        seen[rows.ravel(), columns.ravel()] += 1
        for at in ((0, 0), (0, -1), (-1, 0), (-1, -1), (len(rows) // 2, len(rows) // 3)):
            row, column = rows[at], columns[at]
            here = at[1] % piece.image.shape[1] + 0.5, at[0] % piece.image.shape[0] + 0.5
            wanted = to_map.transform(*(grid.affine @ (column + 0.5, row + 0.5)))
            step = 10 / np.cos(np.radians(shown.bounds[0][0]))
            assert on_the_map(shown, *here, piece) == pytest.approx(wanted, abs=0.1 * step)
    assert seen.min() == 1


def test_nodata_are_holes_and_what_lies_outside_is_not_painted():
    grid = GeoBox((50, 50), Affine(10, 0, 699_900, 0, -10, 4_220_600), "EPSG:32630")
    image = np.full((50, 50, 3), 200, dtype=np.uint8)
    known = np.ones((50, 50), dtype=bool)
    assert "mask" not in shown_url(lay_out(image, grid, known=known))
    known[20:30, 20:30] = False
    holes, picture = map(
        picture_of, re.findall(r"href='([^']+)'", shown_url(lay_out(image, grid, known=known)))
    )
    assert (holes.format, picture.format) == ("PNG", "JPEG")
    assert (np.asarray(holes) == known).all()
    assert np.asarray(picture).shape == image.shape


def test_a_picture_on_the_maps_own_grid_is_not_turned():
    grid = GeoBox((40, 40), Affine(20, 0, 0, 0, -20, 5_000_000), "EPSG:3857")
    shown = lay_out(np.full((40, 40, 3), 90, dtype=np.uint8), grid)
    (piece,) = shown.pieces
    assert shown.size == (40, 40)
    assert piece.affine.almost_equals(Affine.identity(), precision=1e-6)


def test_a_large_picture_is_shown_at_less_resolution():
    grid = GeoBox((300, 500), Affine(10, 0, 500_000, 0, -10, 4_220_600), "EPSG:32630")
    shown = lay_out(np.full((300, 500, 3), 90, dtype=np.uint8), grid, max_side=100)
    (piece,) = shown.pieces
    assert max(shown.size) == 100
    assert piece.image.shape == (75, 125, 3)  # the browser takes it the rest of the way
    assert piece.affine.almost_equals(Affine.scale(0.8), precision=0.9)


def test_many_requests_are_one_drawing_and_an_error_ends_nothing(caplog):
    gate, drawn = threading.Event(), []

    def work():
        gate.wait(5)
        drawn.append(1)
        if len(drawn) == 1:
            raise ValueError("once")

    later = Later(work, name="test")
    for _ in range(100):
        later.ask()
    gate.set()
    assert later.settle(5)
    assert len(drawn) <= 2
    before = len(drawn)
    later.ask()
    assert later.settle(5)
    assert len(drawn) == before + 1
    assert "drawing failed" in caplog.text
    later.close()
    later.ask()
    assert not later.settle(0.01)
