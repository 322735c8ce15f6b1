"""Series and large areas: plans first, pixels when they are asked for, no seams."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earthmind_lab.aoi import AOI
from earthmind_lab.chip import Chip
from earthmind_lab.data import areas, interpolate
from earthmind_lab.data.areas import open_area, plan_area
from earthmind_lab.data.chip_grid import chip_grid
from earthmind_lab.data.files import Reader
from earthmind_lab.data.load import load_chip, plan_chip
from earthmind_lab.data.series import load_series, plan_series
from earthmind_lab.errors import AssetUnavailable, Cancelled, GridMismatch, LoadError
from earthmind_lab.scene import Scene, ScenePair

from .test_load import (
    DN,
    GAMMA0,
    ORIGIN,
    POWER,
    S2_FIELDS,
    SIDE,
    aoi_of,
    make_pair,
    make_scene,
    upright,
    write,
)  # fmt: skip

# odc-geo multiplies affines in a way that affine 3 is about to retire.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
AREA = aoi_of(10, 110, 5, 115)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> ScenePair:
    """Optical at 10 and 20 m, SAR in degrees."""
    folder = tmp_path_factory.mktemp("area")
    hrefs = {b: write(folder / f"{b}.tif", v, upright(*ORIGIN, 10.0 * SIDE / len(v)))
             for b, v in DN.items() if b in ("red", "swir16")}  # fmt: skip
    place = upright(34.0545, -3.3898, 7.9e-5, 9.05e-5)
    sar = {b: write(folder / f"{b}.tif", v, place, "EPSG:4326", nodata=-9999)
           for b, v in POWER.items()}  # fmt: skip
    return make_pair(
        make_scene(hrefs, asset=S2_FIELDS),
        make_scene(sar, name="S1", sensor="sentinel-1-rtc", properties=GAMMA0),
    )


def later(pair: ScenePair, days: int, **changes: Any) -> ScenePair:
    """The same files as of another date."""

    def moved(scene: Scene | None) -> Scene | None:
        if scene is None:
            return None
        when = scene.start + timedelta(days=days)
        return replace(scene, datetime=when, start=when, end=when)

    return replace(pair, **{"optical": moved(pair.optical), "sar": moved(pair.sar), **changes})


class Opened:
    """Counts the files that are opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads = 0
        original = areas.read_layers

        def counted(*args: Any) -> Any:
            self.reads += 1
            return original(*args)

        monkeypatch.setattr(areas, "read_layers", counted)
        monkeypatch.setattr("earthmind_lab.data.load.read_layers", counted)


# --- series -------------------------------------------------------------------------------------


def test_a_series_loads_a_chip_when_it_is_asked_for(
    pair: ScenePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Opened(monkeypatch)
    series = load_series([later(pair, 12), pair], AREA)
    assert (len(series), opened.reads) == (2, 0)
    assert (
        series.bytes == sum(plan.bytes for plan in plan_series([pair, later(pair, 12)], AREA)) > 0
    )
    chip = series[1]
    assert opened.reads == 1 and chip.grid == series.grid
    expected = load_chip(pair, AREA)
    assert np.array_equal(chip.sar, expected.sar)
    assert [c.pair.optical.start for c in series] == sorted(c.pair.optical.start for c in series)


def test_the_dataset_of_a_series_is_its_chips(
    pair: ScenePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Opened(monkeypatch)
    series = load_series([pair, later(pair, 12)], AREA)
    data = series.dataset
    assert opened.reads == 0
    assert data.optical.dims == ("time", "band", "y", "x")
    assert data.sar.dims == ("time", "polarisation", "y", "x")
    assert (data.time.diff("time") == np.timedelta64(12, "D")).all()
    assert data.odc.geobox == series.grid
    first = data.isel(time=0).compute()
    assert opened.reads == 1  # one chip, once, for all of its arrays
    chip = series[0]
    for name in ("optical", "sar", "valid_optical", "valid_sar"):
        assert np.array_equal(first[name], getattr(chip, name), equal_nan=True)
        assert first[name].dtype == getattr(chip, name).dtype


def test_a_series_lies_on_the_grid_of_its_first_optical_scene(
    pair: ScenePair, tmp_path: Path
) -> None:
    """Another lattice is resampled onto it, and one sensor alone takes it too."""
    x, y = ORIGIN
    href = write(tmp_path / "red.tif", DN["red"], upright(x + 3.0, y - 4.0, 10))
    other = later(make_pair(make_scene({"red": href}, asset=S2_FIELDS), pair.sar), 5)
    series = load_series([later(pair, 9, optical=None), other, pair], AREA, bands=["red"])
    assert {plan.grid for plan in series.plans} == {chip_grid(pair, AREA, None, Reader())}
    kernels = [chip.provenance["resampling"].get("red") for chip in series]
    assert kernels == ["none", "bilinear", None]
    with pytest.raises(GridMismatch, match="same bands"):
        _ = series.dataset


def test_a_resampled_chip_of_a_series_does_not_depend_on_the_cut(
    pair: ScenePair, tmp_path: Path
) -> None:
    x, y = ORIGIN
    href = write(tmp_path / "red.tif", DN["red"], upright(x + 3.3, y - 4.1, 10))
    other = later(make_pair(make_scene({"red": href}, asset=S2_FIELDS)), 5)
    pairs = [make_pair(pair.optical), other]
    large = load_series(pairs, AREA, bands=["red"])[1]
    small = load_series(pairs, aoi_of(31, 70, 42, 80), bands=["red"])[1]
    assert np.array_equal(small.optical, large.optical[:, 21:60, 37:75])


def test_a_series_needs_pairs() -> None:
    with pytest.raises(LoadError, match="at least one pair"):
        load_series([], AREA)


def test_errors_inside_a_dataset_are_ours(pair: ScenePair, tmp_path: Path) -> None:
    broken = tmp_path / "red.tif"
    broken.write_bytes(Path(pair.optical.assets["red"]).read_bytes())
    scene = make_scene({"red": str(broken)}, asset=S2_FIELDS)
    data = load_series([make_pair(scene)], AREA).dataset
    area = open_area(make_pair(scene), AREA)
    broken.write_bytes(broken.read_bytes()[:2000])
    for lazy in (data, area):
        with pytest.raises(AssetUnavailable, match="'red'"):
            lazy.optical.compute()


def test_a_cancelled_reader_stops_what_is_computed(pair: ScenePair) -> None:
    reader = Reader()
    series = load_series([pair], AREA, reader=reader)
    area = open_area(pair, AREA, reader=reader)
    reader.budget.cancel()
    for lazy in (series.dataset, area):
        with pytest.raises(Cancelled):
            lazy.sar.compute()


# --- large areas --------------------------------------------------------------------------------


@given(
    side=st.integers(1, 5000), size=st.integers(2, 700), overlap=st.integers(0, 600)
)  # fmt: skip
def test_chips_cover_a_side_and_share_the_overlap(side: int, size: int, overlap: int) -> None:
    overlap = min(overlap, size - 1)
    starts = areas._starts(side, size, overlap)
    ends = [min(start + size, side) for start in starts]
    assert starts[0] == 0 and ends[-1] == side
    assert starts == sorted(set(starts))
    assert all(end - start >= overlap for end, start in zip(ends, starts[1:], strict=False))
    assert all(end - start == min(size, side) for start, end in zip(starts, ends, strict=True))


@pytest.mark.parametrize("gsd", [None, 25.0])
def test_neighbouring_chips_share_their_pixels(pair: ScenePair, gsd: float | None) -> None:
    plan = plan_area(pair, AREA, gsd=gsd, size=28, overlap=9)
    chips = [load_chip(pair, AREA, plan=each) for each in plan.chips]
    whole = load_chip(pair, AREA, gsd=gsd)
    assert plan.grid == whole.grid and len(chips) > 3
    seen = np.zeros(tuple(plan.grid.shape), dtype=int)
    for chip in chips:
        cut = place(whole, chip)
        assert np.array_equal(chip.optical, whole.optical[:, *cut], equal_nan=True)
        assert np.array_equal(chip.sar, whole.sar[:, *cut], equal_nan=True)
        seen[cut] += 1
    assert seen.min() == 1 and seen.max() >= 4
    assert plan.bytes == sum(each.bytes for each in plan.chips) > 0


def place(whole: Chip, part: Chip) -> tuple[slice, slice]:
    """Where a chip lies in another one."""
    column, row = ~whole.grid.affine @ (part.grid.affine.c, part.grid.affine.f)
    rows, columns = part.grid.shape
    return slice(round(row), round(row) + rows), slice(round(column), round(column) + columns)


def test_chips_without_a_pixel_of_the_area_are_left_out(pair: ScenePair) -> None:
    corner = AREA.geometry.difference(aoi_of(40, 111, 40, 116).geometry)
    plan = plan_area(pair, replace(AREA, geometry=corner), size=30, overlap=0)
    everything = plan_area(pair, AREA, size=30, overlap=0)
    assert plan.grid.shape == everything.grid.shape
    assert len(plan.chips) < len(everything.chips)


@pytest.mark.parametrize("gsd", [None, 25.0])
def test_a_lazy_area_equals_one_direct_load(
    pair: ScenePair, gsd: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(areas, "CHUNK", 32)
    opened = Opened(monkeypatch)
    data = open_area(pair, AREA, gsd=gsd)
    assert opened.reads == 0
    assert len(data.optical.chunks[1]) > 1
    data.sar.isel(y=0, x=0).compute()
    assert opened.reads == 1  # one pixel, one chunk
    chip = load_chip(pair, AREA, gsd=gsd)
    data = data.compute()
    for name in ("optical", "sar", "inside", "valid_optical", "valid_sar"):
        assert np.array_equal(data[name], chip.dataset[name], equal_nan=True)
        assert data[name].dims == chip.dataset[name].dims
        assert data[name].dtype == chip.dataset[name].dtype
    assert data.odc.geobox == chip.grid


def test_one_sensor_of_an_area_costs_nothing_of_the_other(
    pair: ScenePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = open_area(pair, AREA)
    opened = []
    original = Reader.open

    def spied(self: Reader, ref: Any, *more: Any, **options: Any) -> Any:
        opened.append(ref.band)
        return original(self, ref, *more, **options)

    monkeypatch.setattr(Reader, "open", spied)
    data.sar.compute()
    assert {*opened} == {*pair.sar.assets}


def test_a_chunk_without_data_is_empty(pair: ScenePair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(areas, "CHUNK", 32)
    data = open_area(make_pair(pair.optical), aoi_of(60, 240, 60, 240))
    valid = data.valid_optical.compute().values
    assert valid[:60, :60].all() and not valid[60:].any() and not valid[:, 60:].any()


@pytest.mark.parametrize(("size", "overlap"), [(5000, 10), (64, 64), (64, -1), (0, 0)])
def test_impossible_chips_are_refused(pair: ScenePair, size: int, overlap: int) -> None:
    with pytest.raises(LoadError, match="size and overlap"):
        plan_area(pair, AREA, size=size, overlap=overlap)


# --- interpolation ------------------------------------------------------------------------------


def test_places_between_nodes_are_near_the_exact_ones() -> None:
    """Between two UTM zones and at high latitude, within a thousandth of a pixel."""
    from pyproj import Transformer

    from earthmind_lab.data.resample import Lattice

    for crs, x, y in (
        ("EPSG:32637", 120_000.0, 9_600_000.0),
        ("EPSG:4326", 600_000.0, 8_800_000.0),
    ):
        zone = "EPSG:32736" if y > 9e6 else "EPSG:32636"
        lattice = Lattice(zone, 3.0, 7.0, 10.0, 10.0)
        start = (int(-y // 10), int(x // 10))
        step = 10.0 if crs != "EPSG:4326" else 9e-5
        change = Transformer.from_crs(zone, crs, always_xy=True)
        west, north = change.transform(x, y)
        source = upright(west, north, step)
        places = interpolate.places_of(lattice, start, (90, 70), (source, crs))
        rows, columns = places.part(0, 90)
        px = lattice.x0 + (start[1] + 0.5 + np.arange(70)) * 10.0
        py = lattice.y0 - (start[0] + 0.5 + np.arange(90)) * 10.0
        exact_x, exact_y = change.transform(*np.meshgrid(px, py))
        assert np.abs((exact_x - west) / step - 0.5 - columns).max() < 1e-3
        assert np.abs((north - exact_y) / step - 0.5 - rows).max() < 1e-3


def test_places_go_on_beyond_the_antimeridian() -> None:
    """A raster in degrees that ends at 180°, on the grid of the zone before it."""
    from pyproj import Transformer

    from earthmind_lab.data.resample import Lattice

    x, y = Transformer.from_crs("EPSG:4326", "EPSG:32660", always_xy=True).transform(179.9995, 5.0)
    lattice = Lattice("EPSG:32660", 0.0, 0.0, 10.0, 10.0)
    start, source = (int(-y // 10), int(x // 10)), upright(179.9, 5.01, 9e-5)
    columns = interpolate.places_of(lattice, start, (8, 30), (source, "EPSG:4326")).part(0, 8)[1]
    assert np.abs(np.diff(columns, axis=1) - 1).max() < 0.01


def test_every_door_takes_an_area_as_a_search_does(pair: ScenePair) -> None:
    bounds, bands = AREA.bounds, ["red"]
    chip = load_chip(pair, bounds, bands=bands)
    assert chip.grid == load_chip(pair, AOI.from_bbox(*bounds), bands=bands).grid
    assert plan_chip(pair, bounds, bands=bands).grid == chip.grid
    assert load_series([pair], bounds, bands=bands).grid == chip.grid
    assert plan_area(pair, bounds, bands=bands).grid == chip.grid
    inside = open_area(pair, bounds, bands=bands).inside
    assert np.array_equal(inside, chip.inside)


@pytest.mark.parametrize("door", [load_chip, plan_chip, plan_area, open_area])
def test_what_a_search_gives_is_a_list_of_pairs(pair: ScenePair, door: Any) -> None:
    with pytest.raises(LoadError, match=r"a list is none.*pairs\[0\]"):
        door([pair], AREA)


@pytest.mark.parametrize("sensors", ["both", "sar"])
def test_a_gsd_of_zero_is_no_default(pair: ScenePair, sensors: str) -> None:
    given = pair if sensors == "both" else replace(pair, optical=None)
    with pytest.raises(LoadError, match="GSD of 0 m"):
        load_chip(given, AREA, gsd=0)


def test_what_a_cell_shows_is_short(pair: ScenePair) -> None:
    plan = plan_area(pair, AREA, bands=["red"])
    assert re.fullmatch(r"AreaPlan\(\d+ x \d+ px of 10 m, EPSG:32736 in 1 chips\)", repr(plan))
    assert "MB" in plan._repr_html_()
