"""The bands of a chip, each read from its files onto the grid in declared quantities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.chip import LoadPlan
from earthmind_lab.data import backscatter, plausible, reflectance
from earthmind_lab.data.assets import AssetRef, assets_of
from earthmind_lab.data.backscatter import SarMeaning
from earthmind_lab.data.chip_grid import check_place
from earthmind_lab.data.files import REMOTE, Reader
from earthmind_lab.data.grd import read_grd
from earthmind_lab.data.plan import wanted
from earthmind_lab.data.provenance import input_facts
from earthmind_lab.data.radiometry import Scaling, physical
from earthmind_lab.data.raster import Raster
from earthmind_lab.data.resample import Kernel, Lattice, kernel_for, read_on_grid, whole_raster
from earthmind_lab.errors import RadiometryUnknown
from earthmind_lab.scene import Scene
from earthmind_lab.sensors import SENSORS

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
    values: NDArray[np.float32]
    """(y, x) reflectance or dB."""
    inputs: tuple[dict[str, Any], ...]
    """Per file: what it is and what was done to it."""
    first: AssetRef
    sar: SarMeaning | None = None
    dark: tuple[float | None, ...] = ()
    """Darkest reflectance of each file whose offset is in doubt; see `plausible.check_offset`."""
    details: tuple[Mapping[str, Any], ...] = ()
    """Per file, what its own tables say for the radiometry."""


def read_layers(plan: LoadPlan, lattice: Lattice, reader: Reader) -> list[Layer]:
    """Every band, several at a time; the first failure, or an interrupt, stops the others."""
    from tqdm.auto import tqdm

    pairs = wanted(plan.pair, plan.bands, plan.polarisations)
    remote = any(scene.assets[band].startswith(REMOTE) for scene, band in pairs)
    lanes = ThreadPoolExecutor(REMOTE_LANES if remote else LOCAL_LANES)
    try:
        reads = [lanes.submit(_read_layer, s, b, lattice, plan.grid, reader) for s, b in pairs]
        done = as_completed(reads)
        bar = {"desc": "loading", "unit": "band", "delay": 1, "leave": False, "disable": None}
        for read in tqdm(done, total=len(reads), **bar):
            read.result()
        return [read.result() for read in reads]
    except BaseException:
        reader.budget.cancel()
        raise
    finally:
        lanes.shutdown(cancel_futures=True)


def _read_layer(scene: Scene, band: str, lattice: Lattice, grid: GeoBox, reader: Reader) -> Layer:
    """One band; further items of the same acquisition fill what the first leaves empty."""
    refs = assets_of(scene, band)
    values = np.full(tuple(grid.shape), np.nan, dtype=np.float32)
    inputs: list[dict[str, Any]] = []
    kinds: list[SarMeaning] = []
    dark: list[float | None] = []
    details: list[Mapping[str, Any]] = []
    for ref in refs:
        with reader.open(ref) as source:
            part = _read_part(scene, ref, source, lattice, grid, reader)
            inputs.append(input_facts(scene, ref, source, part.kernel, part.scaling) | part.facts)
            kinds += [part.sar] if part.sar else []
            dark += [part.dark] if part.doubt else []
            details += [part.details] if part.details else []
        values = np.where(np.isnan(values), part.values, values)
        if not np.isnan(values).any():
            break
    _check_alike(scene, band, kinds)
    return Layer(
        band=band,
        scene=scene,
        values=values,
        inputs=tuple(inputs),
        first=refs[0],
        sar=kinds[0] if kinds else None,
        dark=tuple(dark),
        details=tuple(details),
    )


def _check_alike(scene: Scene, band: str, kinds: Sequence[SarMeaning]) -> None:
    """Refuse items of one acquisition whose numbers mean different things."""
    found = sorted({f"{kind.quantity}, {kind.geometry}" for kind in kinds})
    if len(found) > 1:
        raise RadiometryUnknown(
            f"The items of {scene.id!r} declare different backscatter in {band!r}.",
            found="; ".join(found),
            change="one of the items alone",
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
    doubt: bool = False
    """Whether its offset is in doubt."""
    dark: float | None = None
    """Darkest reflectance of the whole raster, looked up where there is doubt."""
    kernel: Kernel
    details: Mapping[str, Any] = field(default_factory=dict)
    """For the radiometry."""


def _read_part(
    scene: Scene, ref: AssetRef, source: Raster, lattice: Lattice, grid: GeoBox, reader: Reader
) -> _Part:
    if scene.modality == "sar":
        ref = _with_file_fields(ref, source)
        if backscatter.grd_counts(scene, ref):
            return _read_grd(scene, ref, source, lattice, grid, reader)
    check_place(source, ref, scene)
    read = _read_sar if scene.modality == "sar" else _read_optical
    return read(scene, ref, source, lattice, grid)


def _read_grd(
    scene: Scene, ref: AssetRef, source: Raster, lattice: Lattice, grid: GeoBox, reader: Reader
) -> _Part:
    found = read_grd(scene, ref, source, lattice, grid, reader)
    return _Part(
        values=found.values,
        scaling=Scaling(nodata=(0.0,), reason=found.meaning.reason),
        facts=found.facts,
        sar=found.meaning,
        kernel=found.kernel,
        details=found.details,
    )


def _read_optical(
    scene: Scene, ref: AssetRef, source: Raster, lattice: Lattice, grid: GeoBox
) -> _Part:
    scaling = reflectance.optical_scaling(
        scene,
        ref,
        dtype=str(source.dtype),
        file_scaling=source.scaling,
        file_nodata=source.nodata,
    )
    decode = partial(physical, scaling=scaling)
    values = read_on_grid(source, lattice, grid, decode)
    reflectance.check_reflectance(values, ref)
    plausible.check_reflectance_range(values, ref)
    doubt = plausible.offset_in_doubt(scene, ref, scaling)
    dark = plausible.darkest(decode(whole_raster(source, CHECK_SIDE))) if doubt else None
    kernel = kernel_for(source, lattice)
    return _Part(values=values, scaling=scaling, kernel=kernel, doubt=doubt, dark=dark)


def _read_sar(scene: Scene, ref: AssetRef, source: Raster, lattice: Lattice, grid: GeoBox) -> _Part:
    """Backscatter in dB; resampled as linear power, because power adds up and dB don't."""
    sensor = SENSORS.get(scene.sensor)
    sar = backscatter.sar_meaning(scene, ref)
    scaling = backscatter.sar_scaling(
        scene,
        ref,
        sar,
        dtype=str(source.dtype),
        file_scaling=source.scaling_at(sensor.scale_tag if sensor else None),
        file_nodata=source.nodata,
    )

    def decode(stored: NDArray[Any]) -> NDArray[np.float32]:
        return backscatter.to_power(physical(stored, scaling), sar.convention)

    decibel = backscatter.to_db(read_on_grid(source, lattice, grid, decode))
    # An AOI on calm water may lie at the floor; a whole raster there was misdeclared.
    if backscatter.mostly_floor(decibel) and backscatter.mostly_floor(
        backscatter.to_db(decode(whole_raster(source, CHECK_SIDE)))
    ):
        backscatter.refuse_floor(ref, sar)
    # A town may be as bright; a whole raster isn't.
    if plausible.too_strong(decibel) and plausible.too_strong(
        backscatter.to_db(decode(whole_raster(source, CHECK_SIDE)))
    ):
        plausible.refuse_strong(ref, sar.convention)
    clipped = int((decibel <= backscatter.SAR_FLOOR_DB).sum())
    return _Part(
        values=decibel,
        scaling=scaling,
        facts={"pixels_at_floor": clipped},
        sar=sar,
        kernel=kernel_for(source, lattice),
    )


def _with_file_fields(ref: AssetRef, source: Raster) -> AssetRef:
    """The unit and description of the file's band, where the item is silent about them."""
    own = {"unit": source.unit, "description": source.description}
    return replace(ref, fields={k: v for k, v in own.items() if v} | dict(ref.fields))
