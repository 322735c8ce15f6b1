"""Tie points and the way back, on those of a real scene of mountains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earthmind_lab.data.assets import AssetRef
from earthmind_lab.data.grd_place import TiePoints
from earthmind_lab.errors import GridMismatch, NotTerrainCorrected

REAL = json.loads((Path(__file__).parents[1] / "golden" / "grd_tie_points.json").read_text())
REF = AssetRef(item={"id": "S1"}, key="vv", asset={}, href="vv.tif", band="vv", fields={})
UTM = "EPSG:32643"


class Size:
    """What tie points ask of a raster."""

    height, width = 837, 1280


def real(rows: slice = slice(None)) -> TiePoints:
    """The real tie points, or some of their lines."""
    lon, lat = np.array(REAL["longitude"])[rows], np.array(REAL["latitude"])[rows]
    height = np.repeat(np.array(REAL["height"])[rows, None], lon.shape[1], axis=1)
    return TiePoints(lines=np.array(REAL["lines"])[rows], pixels=np.array(REAL["pixels"]),
                     x=lon, y=lat, height=height)  # fmt: skip


def mesh(ties: TiePoints) -> Any:
    return np.meshgrid(ties.lines, ties.pixels, indexing="ij")


def test_the_way_back_leads_to_the_tie_points() -> None:
    ties = real().in_crs(UTM)
    found = ties.find(ties.x, ties.y)
    assert np.abs(np.stack(found) - np.stack(mesh(ties))).max() < 1e-4


def test_a_polynomial_over_the_scene_misses_its_tie_points() -> None:
    """Why there is none: the points follow the mean height of the ground along the track."""
    ties = real().in_crs(UTM)
    line, pixel = (each.ravel() / each.max() for each in mesh(ties))
    terms = [line**i * pixel**j for i in range(4) for j in range(4 - i)]
    fit = np.stack(terms, axis=1)
    apart = [fit @ np.linalg.lstsq(fit, v.ravel(), rcond=None)[0] - v.ravel()
             for v in (ties.x, ties.y)]  # fmt: skip
    assert np.hypot(*apart).max() > 100  # metres; GDAL's default for points is such a cubic


def test_between_tie_points_the_geometry_is_bilinear() -> None:
    """Every other point of a line is foretold by its neighbours, so cells half as wide are too."""
    ties = real().in_crs(UTM)
    half = TiePoints(**{**vars(ties), **{
        name: getattr(ties, name)[..., ::2] for name in ("pixels", "x", "y", "height")
    }})  # fmt: skip
    line, pixel = mesh(ties)
    apart = [half.values_at(getattr(half, name), line, pixel) - getattr(ties, name)
             for name in ("x", "y")]  # fmt: skip
    assert np.hypot(*apart).max() < 0.8  # metres, and a quarter of it in cells half as wide


def test_spacing_is_that_of_the_scene() -> None:
    line, pixel = np.mgrid[0:3, 0:4] * 100.0
    points = TiePoints(lines=line[:, 0], pixels=pixel[0], x=500 - 9.6 * pixel + 2.8 * line,
                       y=-2.8 * pixel - 9.6 * line, height=0 * line, crs=UTM)  # fmt: skip
    assert points.spacing() == pytest.approx(10)
    # A tilted scene of the satellite: 20 pixels of 10 m each make one of the decimated raster.
    assert real().in_crs(UTM).spacing() == pytest.approx(200, rel=0.01)


@given(line=st.floats(-3, 840), pixel=st.floats(-3, 1283), flip=st.booleans())
def test_find_inverts_the_geometry(line: float, pixel: float, flip: bool) -> None:
    ties = real().in_crs(UTM)
    if flip:
        ties = TiePoints(**{**vars(ties), "x": ties.x[::-1, ::-1], "y": ties.y[::-1, ::-1]})
    at = np.array([line]), np.array([pixel])
    back = ties.find(ties.values_at(ties.x, *at), ties.values_at(ties.y, *at))
    assert np.abs(np.stack(back) - np.stack(at)).max() < 1e-4


def test_places_that_no_geometry_leads_to_are_nan() -> None:
    flat = TiePoints(**{**vars(real()), "x": np.zeros((10, 21))})
    lost = flat.find(np.array([1.0]), np.array([1.0]))
    assert np.isnan(lost).all()
    with pytest.raises(NotTerrainCorrected, match="can't be found"):
        flat.relief(*lost)


def test_relief_takes_the_cells_around() -> None:
    ties = real()
    # Heights of the second to fifth line: the cell between the third and fourth, one more around.
    found = ties.relief(np.array([220.0]), np.array([500.0]))
    expected = np.ptp(np.array(REAL["height"])[1:5]) * np.sqrt(20)
    assert found == pytest.approx(expected)
    single = ties.height.copy()
    single[2, 0] += 50  # now the heights vary along the lines: they are points, not means
    points = TiePoints(**{**vars(ties), "height": single})
    assert points.relief(np.array([220.0]), np.array([500.0])) == pytest.approx(
        expected / np.sqrt(20)
    )


def test_tie_points_must_form_a_grid_over_the_raster() -> None:
    ties = real()
    columns = (*mesh(ties), ties.x, ties.y, ties.height)
    rows = np.stack([each.ravel() for each in columns], axis=1)
    shuffled = np.random.default_rng(0).permutation(rows)
    built = TiePoints.of(shuffled, REF, Size())  # type: ignore[arg-type]
    assert np.array_equal(built.x, ties.x) and built.incidence is None
    holes, nowhere = rows[:-1], np.where(rows == rows[5, 2], np.nan, rows)
    stretched, twice = rows * (1, 1.01, 1, 1, 1), np.concatenate([rows, rows[:1]])
    for broken in (holes, nowhere, stretched, twice, rows[:21], rows[:0]):
        with pytest.raises(GridMismatch, match="'vv' of item 'S1'"):
            TiePoints.of(broken, REF, Size())  # type: ignore[arg-type]


def test_contradicting_grids_are_refused_across_the_antimeridian_too() -> None:
    ties = real()
    ties.check_same(TiePoints(**{**vars(ties), "x": ties.x + 360}), REF)
    for other in (TiePoints(**{**vars(ties), "x": ties.x + 1e-4}), real(slice(0, 9))):
        with pytest.raises(GridMismatch, match="not those of its annotation"):
            ties.check_same(other, REF)
