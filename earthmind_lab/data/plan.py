"""What a load will cost: the grid, the files and their bytes, before a pixel is read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from earthmind_lab.aoi import AOI, AOILike
from earthmind_lab.chip import LoadPlan
from earthmind_lab.data.assets import AssetRef, assets_of
from earthmind_lab.data.budget import Budget
from earthmind_lab.data.cache import ChipCache
from earthmind_lab.data.cache_key import Keys
from earthmind_lab.data.chip_grid import BANDS, chip_grid, lattice_of
from earthmind_lab.data.files import Reader
from earthmind_lab.data.grd import read_pixels
from earthmind_lab.data.overviews import coarsest
from earthmind_lab.data.resample import Lattice, window_pixels
from earthmind_lab.errors import LoadError
from earthmind_lab.grid import inside_mask
from earthmind_lab.scene import Scene, ScenePair

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

POLARISATIONS = ("vv", "vh", "hh", "hv")
MAX_SIDE_PX = 4096
"""Larger grids don't fit a model or a browser; they belong into several chips."""


def plan_chip(
    pair: ScenePair,
    aoi: AOILike,
    *,
    gsd: float | None = None,
    bands: Sequence[str] | None = None,
    grid: GeoBox | None = None,
    deadline: float = 120.0,
    reader: Reader | None = None,
    cache: bool = True,
) -> LoadPlan:
    """What a load will cost; opens files, reads no pixels.

    What was planned before comes from the disk (`data.cache`), with no network.

    Args:
        pair: The scenes.
        aoi: The area, in any form `AOI.from_any` takes.
        gsd: Pixel size in metres; None = the optical scene's own, or 10.
        bands: Optical bands; None = blue to shortwave infrared, as far as the scene has them.
        grid: That of another chip, to be comparable with it; None = by `gsd`.
        deadline: Seconds for all of it.
        reader: Opens the files, within its own time limit in place of `deadline`.
        cache: Whether to look for the plan on disk first, and keep it there.

    Raises:
        AOIError: The area can't be used.
        LoadError: The area lies outside the scenes, holds no pixel centre, or would be too
            large a chip; one of its kinds when a band, a file or the meaning of its numbers is
            missing.
    """
    plan, _ = plan_with_keys(
        pair, aoi, gsd=gsd, bands=bands, grid=grid, deadline=deadline, reader=reader, cache=cache
    )
    return plan


def plan_with_keys(
    pair: ScenePair,
    aoi: AOILike,
    *,
    gsd: float | None = None,
    bands: Sequence[str] | None = None,
    grid: GeoBox | None = None,
    deadline: float = 120.0,
    reader: Reader | None = None,
    cache: bool = True,
) -> tuple[LoadPlan, Keys | None]:
    """As `plan_chip`, with the names under which plan and chip are kept; None without a cache."""
    reader, aoi = reader or Reader(budget=Budget(deadline)), AOI.from_any(aoi)
    check_pair(pair)
    names = _bands(pair.optical, bands)
    polarisations = _polarisations(pair.sar)
    _check_reach(pair, aoi)
    kept = ChipCache.from_settings() if cache else None
    asked = gsd if grid is None else grid
    keys = Keys(pair, aoi) if kept else None
    key = keys.plan(asked=asked, names=(names, polarisations)) if keys else None
    held = kept.get_plan(key) if kept else None
    if held is None:
        refs = _refs(pair, names, polarisations)
        reader.start(ref for _, ref in refs)
        grid = grid or chip_grid(pair, aoi, gsd, reader)
        check_size(grid, aoi)
        (size,) = _sizes(refs, lattice_of(pair, grid, reader), [grid], reader)
        held = grid, len(refs), size
        if kept:
            kept.put_plan(key, *held)
    grid, reads, size = held
    plan = LoadPlan(
        pair=pair,
        aoi=aoi,
        grid=grid,
        bands=names,
        polarisations=polarisations,
        reads=reads,
        bytes=size,
    )
    return plan, keys


def check_pair(pair: ScenePair) -> None:
    """Refuse what a search gives as a whole, before it fails somewhere else.

    Raises:
        LoadError: No pair.
    """
    if not isinstance(pair, ScenePair):
        raise LoadError(
            f"One pair is loaded at a time, and a {type(pair).__name__} is none.",
            change="pairs[0], the best of what search_pairs() gives",
        )


def plan_files(plan: LoadPlan) -> list[AssetRef]:
    """Every file that a plan reads."""
    return [ref for _, ref in _refs(plan.pair, plan.bands, plan.polarisations)]


def plan_on_grids(
    pair: ScenePair,
    aoi: AOI,
    grids: Sequence[GeoBox],
    *,
    bands: Sequence[str] | None = None,
    reader: Reader | None = None,
) -> list[LoadPlan]:
    """As `plan_chip`, on several grids of one lattice; each file is opened once, nothing is kept.

    Args:
        pair: The scenes.
        aoi: The area.
        grids: Where to.
        bands: Optical bands, as `plan_chip`.
        reader: Opens the files, within a time limit; two minutes by default.

    Raises:
        LoadError: As `plan_chip`, for each of the grids.
    """
    reader = reader or Reader()
    names, polarisations = _bands(pair.optical, bands), _polarisations(pair.sar)
    _check_reach(pair, aoi)
    for grid in grids:
        check_size(grid, aoi)
    refs = _refs(pair, names, polarisations)
    reader.start(ref for _, ref in refs)
    sizes = _sizes(refs, lattice_of(pair, grids[0], reader), grids, reader)
    return [
        LoadPlan(pair=pair, aoi=aoi, grid=grid, bands=names, polarisations=polarisations,
                 reads=len(refs), bytes=size)
        for grid, size in zip(grids, sizes, strict=True)
    ]  # fmt: skip


def _bands(scene: Scene | None, asked: Sequence[str] | None) -> tuple[str, ...]:
    if scene is None:
        return ()
    if asked is None:
        names = [b for b in BANDS if b in scene.assets]
        chosen = tuple(b for b in names if b != "nir08" or "nir" not in names)
    else:
        chosen = tuple(dict.fromkeys([asked] if isinstance(asked, str) else asked))
    held = ", ".join(sorted(scene.assets))
    if not chosen:
        raise LoadError(f"No optical band of {scene.id!r} to load.", found=held)
    for band in chosen:
        if band not in scene.assets:
            raise LoadError(f"The scene {scene.id!r} has no band {band!r}.", found=held)
    return chosen


def _polarisations(scene: Scene | None) -> tuple[str, ...]:
    if scene is None:
        return ()
    chosen = tuple(name for name in POLARISATIONS if name in scene.assets)
    if not chosen:
        held = ", ".join(sorted(scene.assets))
        raise LoadError(f"The SAR scene {scene.id!r} has no polarisation to load.", found=held)
    return chosen


def wanted(
    pair: ScenePair, bands: Iterable[str], polarisations: Iterable[str]
) -> list[tuple[Scene, str]]:
    """Every band to read, with its scene: optical ones first."""
    both = ((pair.optical, bands), (pair.sar, polarisations))
    return [(scene, name) for scene, names in both if scene is not None for name in names]


def _refs(
    pair: ScenePair, bands: Iterable[str], polarisations: Iterable[str]
) -> list[tuple[Scene, AssetRef]]:
    """The assets of every band to read, with their scenes."""
    asked = wanted(pair, bands, polarisations)
    return [(scene, ref) for scene, band in asked for ref in assets_of(scene, band)]


def _check_reach(pair: ScenePair, aoi: AOI) -> None:
    for scene in pair.scenes:
        if not scene.footprint.intersects(aoi.geometry):
            raise LoadError(
                f"The scene {scene.id!r} does not reach the AOI {aoi.name!r}.",
                found=f"scene {_box(scene.footprint.bounds)}, AOI {_box(aoi.bounds)}",
                change="search again for this AOI",
            )


def check_size(grid: GeoBox, aoi: AOI) -> None:
    """Refuse grids beyond one chip, and areas between the pixel centres."""
    size = f"{grid.shape[1]} x {grid.shape[0]} px"
    if max(grid.shape) > MAX_SIDE_PX:
        raise LoadError(
            f"The AOI {aoi.name!r} is too large for one chip.",
            found=f"{size}, at most {MAX_SIDE_PX} on a side",
            change="a smaller AOI, or a coarser gsd",
        )
    if not inside_mask(grid, aoi.geometry).any():
        raise LoadError(
            f"The AOI {aoi.name!r} is smaller than a pixel: it holds no pixel centre.",
            found=f"{size} of {grid.affine.a:g} m around it",
            change="a larger AOI, or a finer gsd",
        )


def _sizes(
    refs: Iterable[tuple[Scene, AssetRef]],
    lattice: Lattice,
    grids: Sequence[GeoBox],
    reader: Reader,
) -> list[int]:
    """Bytes that are read of these files for each of several grids, at most."""
    sizes = [0] * len(grids)
    for scene, ref in refs:
        with reader.open(ref) as source:
            if source.crs is None:
                for index, grid in enumerate(grids if source.has_gcps else ()):
                    read = read_pixels(ref, source, lattice, grid)
                    sizes[index] += read * source.dtype.itemsize
                continue
            with coarsest(scene, ref, source, lattice, reader) as seen:
                for index, grid in enumerate(grids):
                    sizes[index] += window_pixels(seen, lattice, grid) * source.dtype.itemsize
    return sizes


def _box(bounds: Sequence[float]) -> str:
    return ",".join(f"{edge:.4f}" for edge in bounds)
