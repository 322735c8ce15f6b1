"""The bands of a chip, each read from its files onto the grid in declared quantities."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.chip import LoadPlan
from earthmind_lab.data import backscatter, reflectance
from earthmind_lab.data.assets import AssetRef, assets_of
from earthmind_lab.data.backscatter import SarMeaning
from earthmind_lab.data.chip_grid import check_place
from earthmind_lab.data.files import REMOTE, Reader
from earthmind_lab.data.overviews import coarsest
from earthmind_lab.data.plan import wanted
from earthmind_lab.data.provenance import input_facts
from earthmind_lab.data.radiometry import Scaling, physical, row_by_row
from earthmind_lab.data.raster import Raster
from earthmind_lab.data.resample import Lattice, kernel_for, read_on_grid, whole_raster
from earthmind_lab.scene import Scene

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

REMOTE_LANES, LOCAL_LANES = 16, 2
"""Bands read at a time: the network waits, a disk computes."""

CHECK_SIDE = 1024
"""Side of the thinned raster that tells a calm sea from numbers that were misdeclared."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """One band of the chip with where it came from."""

    band: str
    scene: Scene
    inputs: tuple[dict[str, Any], ...]
    """Per file: what it is and what was done to it."""
    first: AssetRef
    sar: SarMeaning | None = None


def read_layers(
    plan: LoadPlan, lattice: Lattice, reader: Reader
) -> tuple[list[Layer], NDArray[np.float32]]:
    """Every band, several at a time; the first failure, or an interrupt, stops the others.

    Returns:
        What each band is and where it came from, and the pixels of all, (band, y, x): optical
        bands first, as reflectance, then the polarisations in dB.
    """
    from tqdm.auto import tqdm

    pairs = wanted(plan.pair, plan.bands, plan.polarisations)
    # All bands lie in one array from the start, which saves the chip a copy.
    pixels = np.empty((len(pairs), *plan.grid.shape), dtype=np.float32)
    remote = any(scene.assets[band].startswith(REMOTE) for scene, band in pairs)
    lanes = ThreadPoolExecutor(REMOTE_LANES if remote else LOCAL_LANES)
    try:
        reads = [
            lanes.submit(_read_layer, scene, band, lattice, plan.grid, reader, into)
            for (scene, band), into in zip(pairs, pixels, strict=True)
        ]
        done = as_completed(reads)
        bar = {"desc": "loading", "unit": "band", "delay": 1, "leave": False, "disable": None}
        for read in tqdm(done, total=len(reads), **bar):
            read.result()
        return [read.result() for read in reads], pixels
    except BaseException:
        reader.budget.cancel()
        raise
    finally:
        lanes.shutdown(cancel_futures=True)


def _read_layer(
    scene: Scene,
    band: str,
    lattice: Lattice,
    grid: GeoBox,
    reader: Reader,
    values: NDArray[np.float32],
) -> Layer:
    """One band into `values`; further items of the acquisition fill what the first leaves empty."""
    refs = assets_of(scene, band)
    inputs: list[dict[str, Any]] = []
    kinds: list[SarMeaning] = []
    for ref in refs:
        with reader.open(ref) as source:
            check_place(source, ref, scene)
            read = _read_sar if scene.modality == "sar" else _read_optical
            with coarsest(scene, ref, source, lattice, reader) as seen:
                part = read(scene, ref, (source, seen), lattice, grid)
                overview = round(source.width / seen.width)
            kernel = kernel_for(source, lattice)
            facts = input_facts(scene, ref, source, kernel, part.scaling)
            inputs.append(facts | {"overview": overview if overview > 1 else None} | part.facts)
            kinds += [part.sar] if part.sar else []
        np.copyto(values, part.values, where=np.isnan(values) if ref is not refs[0] else True)
        if not np.isnan(values).any():
            break
    return Layer(
        band=band,
        scene=scene,
        inputs=tuple(inputs),
        first=refs[0],
        sar=kinds[0] if kinds else None,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """What one file gives to a layer."""

    values: NDArray[np.float32]
    """(y, x) reflectance or dB."""
    scaling: Scaling
    facts: dict[str, Any] = field(default_factory=dict)
    """For provenance."""
    sar: SarMeaning | None = None


def _read_optical(
    scene: Scene, ref: AssetRef, rasters: tuple[Raster, Raster], lattice: Lattice, grid: GeoBox
) -> _Part:
    """Reflectance; `rasters` are the file, and what its pixels are read from."""
    source, seen = rasters
    scaling = reflectance.optical_scaling(
        scene,
        ref,
        dtype=str(source.dtype),
        file_scaling=source.scaling,
        file_nodata=source.nodata,
    )
    decode = partial(physical, scaling=scaling)
    values = read_on_grid(seen, lattice, grid, decode)
    reflectance.check_reflectance(values, ref)
    return _Part(values=values, scaling=scaling)


def _read_sar(
    scene: Scene, ref: AssetRef, rasters: tuple[Raster, Raster], lattice: Lattice, grid: GeoBox
) -> _Part:
    """Backscatter in dB; resampled as linear power, because power adds up and dB don't."""
    source, seen = rasters
    ref = _with_file_fields(ref, source)
    sar = backscatter.sar_meaning(scene, ref)
    scaling = backscatter.sar_scaling(
        scene,
        ref,
        sar,
        dtype=str(source.dtype),
        file_scaling=source.scaling,
        file_nodata=source.nodata,
    )

    def decode(stored: NDArray[Any]) -> NDArray[np.float32]:
        return backscatter.to_power(physical(stored, scaling), sar.convention)

    decibel = row_by_row(backscatter.to_db, read_on_grid(seen, lattice, grid, decode))
    # An AOI on calm water may lie at the floor; a whole raster there was misdeclared.
    if backscatter.mostly_floor(decibel) and backscatter.mostly_floor(
        backscatter.to_db(decode(whole_raster(source, CHECK_SIDE)))
    ):
        backscatter.refuse_floor(ref, sar)
    clipped = int((decibel <= backscatter.SAR_FLOOR_DB).sum())
    return _Part(values=decibel, scaling=scaling, facts={"pixels_at_floor": clipped}, sar=sar)


def _with_file_fields(ref: AssetRef, source: Raster) -> AssetRef:
    """The unit and description of the file's band, where the item is silent about them."""
    own = {"unit": source.unit, "description": source.description}
    return replace(ref, fields={k: v for k, v in own.items() if v} | dict(ref.fields))
