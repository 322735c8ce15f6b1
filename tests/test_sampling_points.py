"""Areas from a sample: the paper's own example, and populations of which all is known."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import box

from earthmind_lab.aoi import AOI
from earthmind_lab.conversation import ask
from earthmind_lab.errors import EarthMindError
from earthmind_lab.exchange import View
from earthmind_lab.grid import inside_mask, mask_area_m2, polygons_to_mask
from earthmind_lab.sampling_points import (
    BACKGROUND,
    COLUMNS,
    allocate,
    estimate_area,
    sample_points,
)
from tests.stand_in_engine import StandInEngine, make_chip, square

LAKES = square((40, 40), (0, 10, 0, 20), (20, 30, 10, 20))
WOOD = square((40, 40), (30, 40, 15, 35))
CHIP = make_chip(water=LAKES)
PAPER = {
    "deforestation": (200_000, (66, 0, 5, 4)),
    "forest gain": (150_000, (0, 55, 8, 12)),
    "stable forest": (3_200_000, (1, 0, 153, 11)),
    "stable non-forest": (6_450_000, (2, 1, 9, 313)),
}
"""Table 8 of Olofsson et al. (2014): pixels of 30 m per stratum, and points by reference class."""
PIXEL_HA = 0.09


def answer_of(chip: Any = CHIP) -> Any:
    engine = StandInEngine(
        {"water": LAKES, "wood": WOOD}, {"What is here?": "Water and wood."},
        marks={"What is here?": ("water", "wood")},
    )  # fmt: skip
    return ask(chip, "What is here?", engine=engine)


def table_of(matrix: dict[str, tuple[float, tuple[int, ...]]]) -> pd.DataFrame:
    """The points of an error matrix."""
    rows = [
        {"stratum": name, "reference": label, "stratum_ha": area}
        for name, (area, counts) in matrix.items()
        for label, count in zip(matrix, counts, strict=True)
        for _ in range(count)
    ]
    return pd.DataFrame(rows)


def test_the_worked_example_of_the_paper() -> None:
    """Section 5.2 and tables 8 and 9: 235 086 pixels of deforestation, 95 % interval 68 418."""
    found = estimate_area(table_of({k: (n * PIXEL_HA, row) for k, (n, row) in PAPER.items()}))
    loss = found["deforestation"]
    assert round(loss.area_ha / PIXEL_HA) == 235_086
    assert round(1.96 * loss.standard_error_ha / PIXEL_HA) == 68_418
    assert round(loss.area_ha) == 21_158
    assert round((loss.interval_ha[1] - loss.interval_ha[0]) / 2) == 6_158
    assert loss.mapped_ha == pytest.approx(18_000)
    said = {each.label: each for each in found.classes}
    users = {"deforestation": (0.88, 0.07), "forest gain": (0.73, 0.10),
             "stable forest": (0.93, 0.04), "stable non-forest": (0.96, 0.02)}  # fmt: skip
    producers = dict(zip(PAPER, (0.75, 0.85, 0.93, 0.96), strict=True))
    for name, each in said.items():
        assert (round(each.users, 2), round(1.96 * each.users_error, 2)) == users[name]
        assert round(each.producers, 2) == producers[name]
    assert round(1.96 * loss.producers_error, 2) == 0.21
    assert (round(found.overall, 2), round(1.96 * found.overall_error, 2)) == (0.95, 0.02)
    assert found.counts["deforestation"] == {
        "deforestation": 66, "stable forest": 5, "stable non-forest": 4,
    }  # fmt: skip


def test_the_allocation_of_the_paper() -> None:
    """Table 5: 75 points in each rare class, 165 and 325 after rounding to fives."""
    weights = {name: n / 1e7 for name, (n, _) in PAPER.items()}
    found = allocate(weights, 640, least=75)
    assert list(found.values()) == [75, 75, 162, 328]


@given(
    st.dictionaries(st.integers(0, 9), st.integers(2, 5000), min_size=1, max_size=6),
    st.integers(2, 600), st.integers(0, 100),
)  # fmt: skip
def test_allocation_keeps_its_promises(pixels: dict[int, int], n: int, least: int) -> None:
    if n < 2 * len(pixels) or n > sum(pixels.values()):
        with pytest.raises(EarthMindError):
            allocate(pixels, n, least=least, most=pixels)
        return
    found = allocate(pixels, n, least=least, most=pixels)
    assert sum(found.values()) == n
    for name, size in found.items():
        assert 2 <= size <= pixels[name]
        assert size >= min(least, n // len(pixels), pixels[name])


def test_unbiased_with_an_honest_interval() -> None:
    """Of a made-up world everything is known: 600 samples of it find its areas on average, scatter
    as the standard error says, and nearly 95 % of the intervals hold the truth."""
    dice = np.random.default_rng(5)
    areas = {"a": 300.0, "b": 1200.0, "c": 8500.0}
    truth = {"a": (0.8, 0.15, 0.05), "b": (0.1, 0.85, 0.05), "c": (0.01, 0.04, 0.95)}
    wanted = {
        label: sum(areas[name] * truth[name][j] for name in areas) for j, label in enumerate(areas)
    }
    sizes = {"a": 60, "b": 80, "c": 260}
    found = [
        estimate_area(
            table_of({k: (areas[k], tuple(dice.multinomial(sizes[k], truth[k]))) for k in areas})
        )
        for _ in range(600)
    ]
    for label, true in wanted.items():
        guesses = np.array([each[label].area_ha for each in found])
        errors = np.array([each[label].standard_error_ha for each in found])
        assert abs(guesses.mean() - true) < 4 * guesses.std() / math.sqrt(len(guesses))
        assert np.sqrt((errors**2).mean()) == pytest.approx(guesses.std(), rel=0.1)
        held = [each[label].interval_ha[0] <= true <= each[label].interval_ha[1] for each in found]
        assert 0.89 < np.mean(held) < 0.98  # few points in a rare class: a bit short of 95 %
    producers = np.array([each["b"].producers for each in found])
    said = np.array([each["b"].producers_error for each in found])
    assert np.sqrt((said**2).mean()) == pytest.approx(producers.std(), rel=0.1)
    overall = np.array([each.overall for each in found])
    assert np.mean([each.overall_error for each in found]) == pytest.approx(overall.std(), rel=0.1)


def test_the_same_as_resampling_the_points() -> None:
    """A bootstrap within the strata, which knows no formula."""
    dice = np.random.default_rng(2)
    found = estimate_area(table_of({k: (n * PIXEL_HA, row) for k, (n, row) in PAPER.items()}))
    pixels = np.array([n for n, _ in PAPER.values()], float)
    counts = np.array([row for _, row in PAPER.values()])
    areas, producers = [], []
    for _ in range(4000):
        shares = np.array(
            [dice.multinomial(row.sum(), row / row.sum()) / row.sum() for row in counts]
        )
        areas.append((pixels[:, None] * shares).sum(axis=0) * PIXEL_HA)
        producers.append(np.diag(pixels[:, None] * shares) / areas[-1] * PIXEL_HA)
    for each, area, share in zip(
        found.classes, np.std(areas, 0), np.std(producers, 0), strict=True
    ):
        assert area == pytest.approx(each.standard_error_ha, rel=0.06)
        # A ratio: the formula is its linear part, and one class has a single such point in 325.
        assert share == pytest.approx(each.producers_error, rel=0.12)


def test_points_lie_in_their_strata_and_nowhere_twice() -> None:
    answer = answer_of()
    points = sample_points(answer, 200, seed=1, least=30)
    assert list(points.columns) == [*COLUMNS, "geometry"]
    assert points.crs.to_epsg() == 4326
    assert (points["reference"] == "").all()
    assert not points[["lon", "lat"]].duplicated().any()
    marked = {"water": LAKES, "wood": WOOD, BACKGROUND: ~(LAKES | WOOD)}
    for name, part in points.groupby("stratum"):
        near = [point.buffer(4e-5) for point in part.geometry]
        hit = polygons_to_mask(near, answer.grid)
        assert hit.sum() == len(part) >= 30
        assert (marked[str(name)] | ~hit).all()
        wanted = answer.areas.get(str(name))
        if wanted:
            assert part["stratum_ha"].iloc[0] == pytest.approx(wanted / 1e4, rel=1e-9)
    assert points["stratum"].iloc[:40].nunique() == 3  # shuffled


def test_the_seed_decides(tmp_path: Path) -> None:
    answer = answer_of()
    one, again, other = (sample_points(answer, 120, seed=seed) for seed in (3, 3, 4))
    assert one.equals(again)
    assert not one.equals(other)


def test_only_the_aoi_is_sampled() -> None:
    west, south, east, north = CHIP.aoi.bounds
    half = AOI(geometry=box(west, south, (west + east) / 2, north))
    answer = answer_of(replace(CHIP, aoi=half, inside=inside_mask(CHIP.grid, half.geometry)))
    points = sample_points(answer, 150)
    assert points.geometry.within(half.geometry.buffer(1e-9)).all()
    whole = points.groupby("stratum")["stratum_ha"].first().sum()
    inside = inside_mask(CHIP.grid, half.geometry)
    assert whole == pytest.approx(mask_area_m2(inside, CHIP.grid) / 1e4)


@pytest.mark.parametrize("ending", ["geojson", "gpkg", "csv"])
def test_a_file_of_points_is_enough(tmp_path: Path, ending: str) -> None:
    points = sample_points(answer_of(), 150)
    path = tmp_path / f"points.{ending}"
    if ending == "csv":
        points.drop(columns="geometry").to_csv(path, index=False)
    else:
        points.to_file(path)
    back = pd.read_csv(path) if ending == "csv" else geopandas.read_file(path)
    with pytest.raises(EarthMindError, match="150 of 150"):
        estimate_area(back)
    back["reference"] = back["stratum"]
    found = estimate_area(back)
    assert found.overall == pytest.approx(1.0)
    for each in found.classes:
        assert each.area_ha == pytest.approx(each.mapped_ha)
        assert (each.standard_error_ha, each.users) == (0.0, 1.0)
        assert each.producers == pytest.approx(1.0)
    assert found.to_dict()["classes"][0]["label"] in ("water", "wood", BACKGROUND)


def test_a_class_that_the_map_does_not_have(tmp_path: Path) -> None:
    table = table_of({"water": (100.0, (40, 10)), BACKGROUND: (900.0, (5, 45))})
    table.loc[table.index[-9:], "reference"] = "ice"
    found = estimate_area(table)
    ice = found["ice"]
    assert (ice.mapped_ha, ice.users, ice.producers) == (0.0, None, None)
    assert ice.area_ha == pytest.approx(900 * 9 / 50)
    assert sum(each.area_ha for each in found.classes) == pytest.approx(1000)
    table["reference"] = "ice"
    assert estimate_area(table)["water"].producers is None


@pytest.mark.parametrize(
    ("change", "said"),
    [({"drop": "stratum_ha"}, "no column stratum_ha"), ({"label": None}, "1 of 20"),
     ({"label": "  "}, "1 of 20"), ({"area": 7.0}, "one area"), ({"rows": 0}, "no point"),
     ({"rows": 11}, "1 points")],
)  # fmt: skip
def test_what_is_no_labelled_sample_is_refused(change: dict[str, Any], said: str) -> None:
    table = table_of({"water": (100.0, (8, 2)), BACKGROUND: (900.0, (1, 9))})
    if "drop" in change:
        table = table.drop(columns=change["drop"])
    if "label" in change:
        table.loc[3, "reference"] = change["label"]
    if "area" in change:
        table.loc[3, "stratum_ha"] = change["area"]
    with pytest.raises(EarthMindError, match=said):
        estimate_area(table.iloc[: change.get("rows", len(table))])


def test_too_few_points_or_pixels_are_refused() -> None:
    with pytest.raises(EarthMindError, match="too few"):
        sample_points(answer_of(), 5)
    with pytest.raises(EarthMindError, match="fewer pixels"):
        sample_points(answer_of(), 1601)
    assert len(sample_points(answer_of(), 1600)) == 1600
    view = View(image=np.zeros((40, 40, 3), np.uint8), name="p", modality="optical")
    picture = ask(view, "Segment the water.", engine=StandInEngine({"water": LAKES}))
    with pytest.raises(EarthMindError, match="no place"):
        sample_points(picture, 100)
