"""A picture as the browser paints it: each pixel where it belongs, no seam between the pieces."""

from __future__ import annotations

import io

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from PIL import Image
from pyproj import Transformer

from earthmind_lab.widgets.web_mercator import lay_out, shown_url

SIDE = 1500
GRID = GeoBox((SIDE, SIDE), Affine(10, 0, 690_000, 0, -10, 6_220_600), "EPSG:32630")
GROUND, OUTSIDE, MARK = (40, 40, 40), (255, 0, 255), (255, 255, 255)


def painted(browser, shown) -> np.ndarray:
    """(H, W, 3) what Chromium makes of it, over a ground of its own colour."""
    width, height = shown.size
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_content(
        f'<body style="margin:0;background:rgb{OUTSIDE}">'
        f'<img width={width} height={height} src="{shown_url(shown)}">'
    )
    page.wait_for_function("[...document.images].every(each => each.complete)")
    page.evaluate("Promise.all([...document.images].map(each => each.decode()))")
    seen = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
    page.close()
    return seen


def test_pixels_lie_where_they_belong_and_no_seam_shows(browser):
    image = np.full((SIDE, SIDE, 3), GROUND, dtype=np.uint8)
    marks = [(40, 40), (40, 1450), (760, 745), (1455, 60), (1440, 1440)]
    for row, column in marks:
        image[row - 4 : row + 5, column - 4 : column + 5] = MARK
    known = np.ones((SIDE, SIDE), dtype=bool)
    known[600:700, 900:1100] = False
    shown = lay_out(image, GRID, known=known)
    assert len(shown.pieces) > 4
    seen = painted(browser, shown)
    rows, columns = pixels_under(shown)
    for row, column in marks:
        close = (abs(rows - row - 0.5) < 12) & (abs(columns - column - 0.5) < 12)
        light = seen[..., 1][close].astype(float).clip(60) - 60
        found = np.average([rows[close], columns[close]], axis=1, weights=light)
        assert np.abs(found - (row + 0.5, column + 0.5)).max() < 0.2
    # A pixel and a half at each edge may be mixed.
    beyond = away(rows, 0, SIDE) | away(columns, 0, SIDE)
    hole = ~away(rows, 600, 700, -1.5) & ~away(columns, 900, 1100, -1.5)
    around = ~away(rows, 600, 700) & ~away(columns, 900, 1100)
    inside = ~away(rows, 0, SIDE, -1.5) & ~away(columns, 0, SIDE, -1.5) & ~around
    tint = seen[..., 0].astype(int) - seen[..., 1]  # all of the chip is grey
    assert tint[beyond].min() > 200
    assert tint[hole].min() > 200
    assert tint[inside].max() < 15


def pixels_under(shown) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) row and column of the chip under each pixel on the map, as fractions."""
    (south, west), (north, east) = shown.bounds
    to_metres = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True).transform
    (x0, y0), (x1, y1) = to_metres(west, south), to_metres(east, north)
    width, height = shown.size
    x = x0 + (np.arange(width) + 0.5) / width * (x1 - x0)
    y = y1 - (np.arange(height) + 0.5) / height * (y1 - y0)
    back = Transformer.from_crs("EPSG:3857", GRID.crs.to_wkt(), always_xy=True).transform
    columns, rows = ~GRID.affine @ back(*np.meshgrid(x, y))
    return rows, columns


def away(places: np.ndarray, low: float, high: float, margin: float = 1.5) -> np.ndarray:
    """Beyond an interval by more than a margin."""
    return (places < low - margin) | (places > high + margin)
