"""A load ends soon after its time is over, or it was stopped, wherever it is just then.

The clock is turned by hand, in the middle of a computation: what comes after that step must not
begin.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.warp
from rasterio.windows import Window

from earthmind_lab.data import (
    backscatter,
    borders,
    chip_files,
    files,
    grd,
    grd_sample,
    interpolate,
    parts,
    raster,
    resample,
    shift,
    speckle,
)
from earthmind_lab.data.areas import open_area, plan_area
from earthmind_lab.data.budget import Budget, WebError
from earthmind_lab.data.cache import ChipCache
from earthmind_lab.data.files import Reader
from earthmind_lab.data.grd_product import Product
from earthmind_lab.data.load import load_chip, plan_chip
from earthmind_lab.data.series import load_series, plan_series
from earthmind_lab.errors import AssetUnavailable, Cancelled, LoadError
from earthmind_lab.scene import Scene, ScenePair
from tests import grd_product
from tests.data.test_load import DN, GAMMA0, S2_FIELDS, aoi_of, folder, make_pair, make_scene

__all__ = ["folder"]
# odc-geo multiplies affines in a way that affine 3 is about to retire.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
SIGMA0 = {**GAMMA0, "card4l:measurement_type": "sigma0"}
WHOLE = aoi_of(0, 120, 0, 120)


class Clock:
    """Stands still until it is turned."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many steps inside a small chip."""
    monkeypatch.setattr(resample, "BLOCK", 32)
    for name in ("interpolate", "radiometry", "borders", "speckle"):
        monkeypatch.setattr(f"earthmind_lab.data.{name}.ROWS", 16)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ChipCache:
    monkeypatch.setenv("EARTHMIND_CACHE_BYTES", "1GB")
    monkeypatch.setenv("EARTHMIND_HOME", str(tmp_path / "home"))
    return ChipCache.from_settings()


def red(folder: Path) -> ScenePair:
    return make_pair(make_scene({"red": str(folder / "red.tif")}, asset=S2_FIELDS))


def vv(folder: Path, properties: Any = GAMMA0, when: datetime | None = None) -> Scene:
    href = str(folder / "degrees" / "vv.tif")
    scene = make_scene({"vv": href}, name="S1", sensor="sentinel-1-rtc", properties=properties)
    return scene if when is None else replace(scene, datetime=when, start=when, end=when)


def early(folder: Path) -> ScenePair:
    return make_pair(None, vv(folder, SIGMA0, datetime(2016, 5, 1, tzinfo=UTC)))


def both(folder: Path) -> ScenePair:
    return make_pair(red(folder).optical, vv(folder))


def radar(folder: Path) -> ScenePair:
    return grd_product.pair_of(grd_product.Product().write(folder / "grd"))


def far(folder: Path) -> ScenePair:
    return make_pair(None, vv(folder))


RADAR = grd_product.aoi_at(-500, -400, 500, 400)
COMPUTATIONS: dict[str, tuple[Callable[[Path], ScenePair], tuple[Any, str], dict[str, Any]]] = {
    "decoding": (red, (parts, "physical"), {}),
    "averages": (red, (resample, "_warp_block"), {"gsd": 15.0}),
    "interpolation": (far, (interpolate.Places, "part"), {"gsd": 5.0}),
    "decibels": (far, (backscatter, "to_db"), {}),
    "speckle": (far, (speckle, "lee"), {"speckle": "lee"}),
    "borders": (early, (borders, "to_db"), {}),
    "shift": (both, (shift, "_edges"), {}),
    "radar counts": (radar, (Product, "power"), {"aoi": RADAR}),
    "radar pixels": (radar, (grd_sample, "_linear"), {"aoi": RADAR}),
    "radar averages": (radar, (grd_sample, "_average"), {"aoi": RADAR, "gsd": 25.0}),
    "radar decibels": (radar, (grd, "to_db"), {"aoi": RADAR}),
}
"""Per computation: the pair, what makes one step of it, and how it is loaded."""


@pytest.mark.parametrize("how", ["late", "stopped"])
@pytest.mark.parametrize("name", COMPUTATIONS)
def test_no_step_begins_after_the_end(
    name: str, how: str, folder: Path, kept: ChipCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is kept of it; the same load with the time it takes has further steps."""
    make, (place, step), options = COMPUTATIONS[name]
    pair, clock, steps, original = make(folder), Clock(), [], getattr(place, step)
    rest = {"aoi": WHOLE, **options}
    reader = Reader(budget=Budget(60, clock=clock))
    ends = {"late": lambda: setattr(clock, "now", 61.0), "stopped": reader.budget.cancel}

    def one_step(*args: Any, **more: Any) -> Any:
        steps.append(step)
        if len(steps) == 1:
            ends[how]()
        return original(*args, **more)

    monkeypatch.setattr(place, step, one_step)
    with pytest.raises(LoadError if how == "late" else Cancelled) as caught:
        load_chip(pair, reader=reader, **rest)
    assert len(steps) == 1
    assert how == "stopped" or "in time" in str(caught.value)
    assert kept.entries() == [] and not list(kept.folder.glob(".draft-*"))
    load_chip(pair, **rest)
    assert len(steps) > 2 and len(kept.entries()) == 1


def test_a_large_window_is_read_in_strips_of_which_none_begins_late(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raster, "HELD", 1)
    asked: list[None] = []

    def check() -> None:
        asked.append(None)
        if len(asked) == 2:
            raise WebError("late", "not ended")

    with rasterio.open(folder / "red.tif") as file:
        window = Window(0, 0, 120, 120)
        assert np.array_equal(raster.Raster(file).read(window), DN["red"])
        with pytest.raises(WebError):
            raster.Raster(file, check=check).read(window)
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("module", "work"), [(files, (rasterio, "open")), (resample, (rasterio.warp, "reproject"))]
)
def test_whoever_waited_for_another_thread_does_not_begin_late(
    module: Any, work: tuple[Any, str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GDAL's warnings are hushed by one thread at a time, and the others may be many."""
    clock, hushed, done = Clock(), module.placeless, []
    reader = Reader(budget=Budget(60, clock=clock))
    plan = plan_chip(red(folder), WHOLE, gsd=15.0)

    @contextmanager
    def waited() -> Iterator[None]:
        clock.now = 61.0
        with hushed():
            monkeypatch.setattr(*work, lambda *_args, **_more: done.append(work))
            yield

    monkeypatch.setattr(module, "placeless", waited)
    with pytest.raises(AssetUnavailable, match="in time"):
        load_chip(plan.pair, WHOLE, plan=plan, reader=reader)
    assert not done


def test_a_chip_is_not_lost_to_the_time_that_keeping_it_takes(
    folder: Path, kept: ChipCache, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    pair, clock, original = red(folder), Clock(), chip_files._write_array
    reader = Reader(budget=Budget(60, clock=clock))

    def slow(*args: Any) -> Any:
        clock.now = 61.0
        return original(*args)

    monkeypatch.setattr(chip_files, "_write_array", slow)
    with caplog.at_level(logging.WARNING):
        chip = load_chip(pair, WHOLE, reader=reader)
    assert chip.optical is not None and np.isfinite(chip.optical).all()
    assert "Nothing is kept" in caplog.text and "60 seconds" in caplog.text
    assert kept.entries() == [] and not list(kept.folder.glob(".draft-*"))


def test_a_stop_while_a_chip_is_written_is_a_stop(
    folder: Path, kept: ChipCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, original = Reader(), chip_files._write_array

    def stopped(*args: Any) -> Any:
        reader.budget.cancel()
        return original(*args)

    monkeypatch.setattr(chip_files, "_write_array", stopped)
    with pytest.raises(Cancelled):
        load_chip(red(folder), WHOLE, reader=reader)
    assert kept.entries() == [] and not list(kept.folder.glob(".draft-*"))


# --- what opens several chips --------------------------------------------------------------------


@pytest.mark.parametrize("call", [plan_chip, plan_area, open_area])
def test_a_deadline_holds_for_headers(call: Callable[..., Any], folder: Path) -> None:
    with pytest.raises(AssetUnavailable, match="not ended after 0 seconds"):
        call(red(folder), WHOLE, deadline=0.0)


@pytest.mark.parametrize("call", [plan_series, load_series])
def test_a_deadline_holds_for_headers_of_a_series(call: Callable[..., Any], folder: Path) -> None:
    with pytest.raises(AssetUnavailable, match="not ended after 0 seconds"):
        call([red(folder)], WHOLE, deadline=0.0)


def test_each_chip_and_each_chunk_has_the_deadline_for_itself(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = load_series([red(folder)], WHOLE, deadline=50.0)
    area = open_area(red(folder), WHOLE, deadline=50.0)
    given: list[float] = []

    class Noted(Budget):
        def __post_init__(self) -> None:
            given.append(self.seconds)
            super().__post_init__()

    monkeypatch.setattr("earthmind_lab.data.load.Budget", Noted)
    monkeypatch.setattr("earthmind_lab.data.areas.Budget", Noted)
    assert np.array_equal(area.optical.compute()[0], series[0].band("red"), equal_nan=True)
    assert given == [50.0, 50.0]
