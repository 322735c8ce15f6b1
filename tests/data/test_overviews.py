"""Overviews: read for coarse grids where their numbers are averages, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.shutil import copy

from earthmind_lab.aoi import AOI
from earthmind_lab.chip import Chip
from earthmind_lab.data import resample
from earthmind_lab.data.access import Access
from earthmind_lab.data.budget import Budget
from earthmind_lab.data.files import Files, Reader
from earthmind_lab.data.load import load_chip, plan_chip
from earthmind_lab.scene import Scene, ScenePair
from tests.range_server import serve

from .test_load import GAMMA0, S2_FIELDS, UTM, lonlat_box, make_pair, make_scene

SIDE, X, Y = 1024, 600_000.0, 9_600_000.0
RNG = np.random.default_rng(3)
SMOOTH = np.add.outer(np.sin(np.arange(SIDE) / 90), np.cos(np.arange(SIDE) / 70))
DN = (3000 + 800 * SMOOTH + RNG.normal(0, 100, (SIDE, SIDE))).astype(np.uint16)
POWER = (0.1 * np.exp(SMOOTH / 3) * RNG.gamma(4, 0.25, (SIDE, SIDE))).astype(np.float32)
AREA = AOI(geometry=lonlat_box(UTM, X + 1300, Y - 8200, X + 8300, Y - 900))


def write_cog(path: Path, values: np.ndarray, how: str, nodata: float | None) -> str:
    plain = path.with_suffix(".plain.tif")
    with rasterio.open(
        plain, "w", driver="GTiff", width=SIDE, height=SIDE, count=1, dtype=values.dtype, crs=UTM,
        transform=Affine(10, 0, X, 0, -10, Y), nodata=nodata,
    ) as target:  # fmt: skip
        target.write(values, 1)
    copy(plain, path, driver="COG", blocksize=128, overview_resampling=how)
    return str(path)


def optical(folder: Path, how: str = "average", nodata: float | None = 0) -> Scene:
    return make_scene({"red": write_cog(folder / "red.tif", DN, how, nodata)}, asset=S2_FIELDS)


def sar(folder: Path, how: str = "average", **stated: Any) -> Scene:
    convention = stated.get("card4l:measurement_convention")
    values = 10 * np.log10(POWER) if convention == "dB" else POWER
    href = write_cog(folder / "vv.tif", values, how, -9999)
    return make_scene(
        {"vv": href}, name="S1", sensor="sentinel-1-gamma0", properties=GAMMA0 | stated
    )


def pair_of(scene: Scene) -> ScenePair:
    return make_pair(None, scene) if scene.modality == "sar" else make_pair(scene)


def factor(chip: Chip) -> int | None:
    return chip.provenance["inputs"][0]["overview"]


@pytest.mark.parametrize(("gsd", "used"), [(None, None), (40, None), (79, None), (80, 2), (170, 4)])
def test_coarse_grids_read_an_overview(tmp_path: Path, gsd: float | None, used: int | None) -> None:
    """Never one with fewer than four pixels along a side of the chip's."""
    pair = pair_of(optical(tmp_path))
    assert factor(load_chip(pair, AREA, gsd=gsd)) == used


def test_the_plan_counts_what_is_read(tmp_path: Path) -> None:
    """The raster of the overview used, not the whole one."""
    plan = plan_chip(pair_of(optical(tmp_path)), AREA, gsd=160)
    assert plan.bytes <= (SIDE // 4) ** 2 * 2


@pytest.mark.parametrize("how", ["average", "nearest", "cubic"])
@pytest.mark.parametrize("make", [optical, sar])
def test_averages_are_those_of_the_full_resolution(
    tmp_path: Path, how: str, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = pair_of(make(tmp_path, how))
    seen = load_chip(pair, AREA, gsd=160)
    monkeypatch.setattr("earthmind_lab.data.overviews.SIDE", 10_000)
    full = load_chip(pair, AREA, gsd=160)
    assert (factor(seen), factor(full)) == (4, None)
    if seen.optical is not None:
        noise, found, wanted = 0.01, seen.optical, full.optical
    else:
        # Speckle of four looks: half of the mean a pixel, of which sixteen remain.
        noise, found, wanted = 0.5 / 4 * 0.2, 10 ** (seen.sar / 10), 10 ** (full.sar / 10)
    assert np.abs(found - wanted).std() < (noise if how == "nearest" else noise / 3)
    assert found.mean() == pytest.approx(wanted.mean(), rel=0.01)


@pytest.mark.parametrize("convention", ["dB", "linear amplitude"])
def test_what_is_not_power_is_read_in_full(tmp_path: Path, convention: str) -> None:
    scene = sar(tmp_path, **{"card4l:measurement_convention": convention})
    assert factor(load_chip(pair_of(scene), AREA, gsd=160)) is None


def test_a_file_silent_about_its_nodata_is_read_in_full(tmp_path: Path) -> None:
    """Its overviews mix nodata into the pixels at its border."""
    assert factor(load_chip(pair_of(optical(tmp_path, nodata=None)), AREA, gsd=160)) is None
    assert factor(load_chip(pair_of(optical(tmp_path, nodata=65535)), AREA, gsd=160)) is None


def test_values_from_overviews_never_depend_on_the_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resample, "BLOCK", 16)
    pair = pair_of(optical(tmp_path, "nearest"))
    large = load_chip(pair, AREA, gsd=170)
    part = AOI(geometry=lonlat_box(UTM, X + 3100, Y - 6100, X + 5200, Y - 2500))
    small = load_chip(pair, part, gsd=170)
    left, top = ~large.grid.affine @ (small.grid.affine.c, small.grid.affine.f)
    rows, columns = small.grid.shape
    cut = large.optical[:, round(top) : round(top) + rows, round(left) : round(left) + columns]
    assert np.array_equal(small.optical, cut)


def test_remote_overviews_save_the_bytes(tmp_path: Path) -> None:
    scene = optical(tmp_path)
    with serve(tmp_path) as server:
        href = server.href(tmp_path / "red.tif")
        remote = make_scene({"red": href}, asset=S2_FIELDS)
        files = Files(Access(hosts=(server.place,)))
        reader = Reader(files=files, budget=Budget(30))
        chip = load_chip(pair_of(remote), AREA, gsd=160, reader=reader)
        assert np.array_equal(chip.optical, load_chip(pair_of(scene), AREA, gsd=160).optical)
        assert files.remote(href, reader.budget).fetched < (tmp_path / "red.tif").stat().st_size / 4
        assert len(server.requests) <= 3  # the header, and the tiles of the overview
