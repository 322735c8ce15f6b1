"""Loading a chip: plan (what will be read), then pixels of both sensors on one grid.

    plan = plan_chip(pair, aoi)        # headers only
    chip = load_chip(pair, aoi, plan=plan)

At the optical scene's own GSD the chip is a cut of the scene's UTM lattice, so its pixels are
the scene's own. Every other chip lies on `AOI.grid`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.aoi import AOI
from earthmind_lab.chip import Chip, LoadPlan, Radiometry
from earthmind_lab.data import radiometry as meaning
from earthmind_lab.data.assets import AssetRef, assets_of
from earthmind_lab.data.chip_grid import BANDS, check_place, chip_grid, lattice_of
from earthmind_lab.data.files import REMOTE, Reader
from earthmind_lab.data.provenance import input_facts, provenance
from earthmind_lab.data.radiometry import SarMeaning
from earthmind_lab.data.raster import Raster
from earthmind_lab.data.resample import (
    Lattice,
    kernel_for,
    read_on_grid,
    whole_raster,
    window_pixels,
)
from earthmind_lab.errors import LoadError, RadiometryUnknown
from earthmind_lab.grid import inside_mask
from earthmind_lab.scene import Scene, ScenePair

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

POLARISATIONS = ("vv", "vh", "hh", "hv")
MAX_SIDE_PX = 4096
"""Larger grids don't fit a model or a browser; they belong into several chips."""
REMOTE_LANES, LOCAL_LANES = 16, 2
"""Bands read at a time: the network waits, a disk computes."""
CHECK_SIDE = 1024
"""Side of the thinned raster that tells a calm sea from numbers that were misdeclared."""


def plan_chip(
    pair: ScenePair,
    aoi: AOI,
    *,
    gsd: float | None = None,
    bands: Sequence[str] | None = None,
    reader: Reader | None = None,
) -> LoadPlan:
    """What a load will cost; opens files, reads no pixels.

    Args:
        pair: The scenes.
        aoi: The area.
        gsd: Pixel size in metres; None = the optical scene's own, or 10.
        bands: Optical bands; None = blue to shortwave infrared, as far as the scene has them.
        reader: Opens the files, within a time limit; two minutes by default.

    Raises:
        LoadError: The area lies outside the scenes, holds no pixel centre, or would be too
            large a chip; one of its kinds when a band, a file or the meaning of its numbers is
            missing.
    """
    reader = reader or Reader()
    names = _bands(pair.optical, bands)
    polarisations = _polarisations(pair.sar)
    _check_reach(pair, aoi)
    grid = chip_grid(pair, aoi, gsd, reader)
    _check_size(grid, aoi)
    refs = [ref for scene, band in _wanted(pair, names, polarisations)
            for ref in assets_of(scene, band)]  # fmt: skip
    return LoadPlan(
        pair=pair,
        aoi=aoi,
        grid=grid,
        bands=names,
        polarisations=polarisations,
        reads=len(refs),
        bytes=_bytes(refs, lattice_of(pair, grid, reader), grid, reader),
    )


def load_chip(
    pair: ScenePair,
    aoi: AOI,
    *,
    gsd: float | None = None,
    bands: Sequence[str] | None = None,
    plan: LoadPlan | None = None,
    reader: Reader | None = None,
) -> Chip:
    """Both sensors' pixels of an area on one grid, as reflectance and dB.

    Args:
        pair: The scenes.
        aoi: The area.
        gsd: Pixel size in metres; None = the optical scene's own, or 10.
        bands: Optical bands; None = blue to shortwave infrared, as far as the scene has them.
        plan: What `plan_chip` gave; then `gsd` and `bands` are taken from it.
        reader: Opens the files, within a time limit; two minutes by default.

    Raises:
        AccessDenied: A file needs a key; the message names its variable.
        Cancelled: The reader's budget was cancelled.
        LoadError: As `plan_chip`, or the scenes have no data in the AOI.
    """
    reader = reader or Reader()
    plan = plan or plan_chip(pair, aoi, gsd=gsd, bands=bands, reader=reader)
    _check_size(plan.grid, plan.aoi)
    lattice = lattice_of(plan.pair, plan.grid, reader)
    layers = _read_layers(plan, lattice, reader)
    optical = [layer for layer in layers if layer.band in plan.bands]
    sar = [layer for layer in layers if layer.band in plan.polarisations]
    reflectance = np.stack([layer.values for layer in optical]) if optical else None
    backscatter = np.stack([layer.values for layer in sar]) if sar else None
    inside = inside_mask(plan.grid, plan.aoi.geometry)
    _check_data(plan, (("optical", reflectance), ("SAR", backscatter)), inside)
    return Chip(
        grid=plan.grid,
        optical=reflectance,
        sar=backscatter,
        bands=plan.bands,
        polarisations=plan.polarisations,
        valid_optical=None if reflectance is None else _valid(reflectance),
        valid_sar=None if backscatter is None else _valid(backscatter),
        inside=inside,
        radiometry=_radiometry(plan.pair, optical, sar),
        pair=plan.pair,
        aoi=plan.aoi,
        provenance=provenance(plan, lattice, {layer.band: layer.inputs for layer in layers}),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Layer:
    """One band of the chip with where it came from."""

    band: str
    scene: Scene
    values: NDArray[np.float32]
    """(y, x) reflectance or dB."""
    inputs: tuple[dict[str, Any], ...]
    """Per file: what it is and what was done to it."""
    first: AssetRef
    sar: SarMeaning | None = None


def _read_layers(plan: LoadPlan, lattice: Lattice, reader: Reader) -> list[_Layer]:
    """Every band, several at a time; the first failure, or an interrupt, stops the others."""
    from tqdm.auto import tqdm

    wanted = _wanted(plan.pair, plan.bands, plan.polarisations)
    remote = any(scene.assets[band].startswith(REMOTE) for scene, band in wanted)
    lanes = ThreadPoolExecutor(REMOTE_LANES if remote else LOCAL_LANES)
    try:
        reads = [lanes.submit(_read_layer, s, b, lattice, plan.grid, reader) for s, b in wanted]
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


def _read_layer(scene: Scene, band: str, lattice: Lattice, grid: GeoBox, reader: Reader) -> _Layer:
    """One band; further items of the same acquisition fill what the first leaves empty."""
    refs = assets_of(scene, band)
    values = np.full(tuple(grid.shape), np.nan, dtype=np.float32)
    inputs: list[dict[str, Any]] = []
    kinds: list[SarMeaning] = []
    for ref in refs:
        with reader.open(ref) as source:
            check_place(source, ref, scene)
            read = _read_sar if scene.modality == "sar" else _read_optical
            part = read(scene, ref, source, lattice, grid)
            kernel = kernel_for(source, lattice)
            inputs.append(input_facts(scene, ref, source, kernel, part.scaling) | part.facts)
            kinds += [part.sar] if part.sar else []
        values = np.where(np.isnan(values), part.values, values)
        if not np.isnan(values).any():
            break
    return _Layer(
        band=band,
        scene=scene,
        values=values,
        inputs=tuple(inputs),
        first=refs[0],
        sar=kinds[0] if kinds else None,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """What one file gives to a layer."""

    values: NDArray[np.float32]
    """(y, x) reflectance or dB."""
    scaling: meaning.Scaling
    facts: dict[str, Any] = field(default_factory=dict)
    """For provenance."""
    sar: SarMeaning | None = None


def _read_optical(
    scene: Scene, ref: AssetRef, source: Raster, lattice: Lattice, grid: GeoBox
) -> _Part:
    scaling = meaning.optical_scaling(
        scene,
        ref,
        dtype=str(source.dtype),
        file_scaling=source.scaling,
        file_nodata=source.nodata,
    )
    decode = partial(meaning.physical, scaling=scaling)
    values = read_on_grid(source, lattice, grid, decode)
    meaning.check_reflectance(values, ref)
    return _Part(values=values, scaling=scaling)


def _read_sar(scene: Scene, ref: AssetRef, source: Raster, lattice: Lattice, grid: GeoBox) -> _Part:
    """Backscatter in dB; resampled as linear power, because power adds up and dB don't."""
    ref = _with_file_fields(ref, source)
    sar = meaning.sar_meaning(scene, ref)
    scaling = meaning.sar_scaling(
        scene,
        ref,
        sar,
        dtype=str(source.dtype),
        file_scaling=source.scaling,
        file_nodata=source.nodata,
    )

    def decode(stored: NDArray[Any]) -> NDArray[np.float32]:
        return meaning.to_power(meaning.physical(stored, scaling), sar.convention)

    decibel = meaning.to_db(read_on_grid(source, lattice, grid, decode))
    # An AOI on calm water may lie at the floor; a whole raster there was misdeclared.
    if meaning.mostly_floor(decibel) and meaning.mostly_floor(
        meaning.to_db(decode(whole_raster(source, CHECK_SIDE)))
    ):
        meaning.refuse_floor(ref, sar)
    clipped = int((decibel <= meaning.SAR_FLOOR_DB).sum())
    return _Part(values=decibel, scaling=scaling, facts={"pixels_at_floor": clipped}, sar=sar)


def _with_file_fields(ref: AssetRef, source: Raster) -> AssetRef:
    """The unit and description of the file's band, where the item is silent about them."""
    own = {"unit": source.unit, "description": source.description}
    return replace(ref, fields={k: v for k, v in own.items() if v} | dict(ref.fields))


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


def _wanted(
    pair: ScenePair, bands: Iterable[str], polarisations: Iterable[str]
) -> list[tuple[Scene, str]]:
    wanted = [(pair.optical, band) for band in bands if pair.optical is not None]
    wanted += [(pair.sar, name) for name in polarisations if pair.sar is not None]
    return [(scene, name) for scene, name in wanted if scene is not None]


def _check_reach(pair: ScenePair, aoi: AOI) -> None:
    for scene in pair.scenes:
        if not scene.footprint.intersects(aoi.geometry):
            raise LoadError(
                f"The scene {scene.id!r} does not reach the AOI {aoi.name!r}.",
                found=f"scene {_box(scene.footprint.bounds)}, AOI {_box(aoi.bounds)}",
                change="search again for this AOI",
            )


def _check_size(grid: GeoBox, aoi: AOI) -> None:
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


def _bytes(refs: Iterable[AssetRef], lattice: Lattice, grid: GeoBox, reader: Reader) -> int:
    """What `load_chip` reads of these files, at most."""
    size = 0
    for ref in refs:
        with reader.open(ref) as source:
            if source.crs is not None:
                size += window_pixels(source, lattice, grid) * source.dtype.itemsize
    return size


def _check_data(
    plan: LoadPlan,
    stacks: Iterable[tuple[str, NDArray[np.float32] | None]],
    inside: NDArray[np.bool_],
) -> None:
    """Refuse a chip without a single pixel of one of its sensors in the AOI."""
    for name, stack in stacks:
        if stack is not None and not _valid(stack)[inside].any():
            raise LoadError(
                f"The {name} scene has no data in the AOI {plan.aoi.name!r}.",
                found="nodata only",
                change="another scene of the search, or another AOI",
            )


def _valid(stack: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(y, x) True where every band has data."""
    return np.asarray(np.isfinite(stack).all(axis=0), dtype=bool)


def _radiometry(pair: ScenePair, optical: list[_Layer], sar: list[_Layer]) -> Radiometry:
    details: dict[str, Any] = {}
    if optical:
        offsets = {layer.inputs[0]["offset"] for layer in optical}
        if len(offsets) > 1:
            raise RadiometryUnknown(
                "The optical bands declare different offsets.", found=str(sorted(offsets))
            )
        details["level"] = meaning.optical_level(optical[0].scene, optical[0].first)
        details["offset_applied"] = offsets.pop()
    if sar:
        kinds = {(layer.sar.quantity, layer.sar.geometry) for layer in sar if layer.sar}
        if len(kinds) > 1:
            raise RadiometryUnknown(
                "The polarisations declare different backscatter.",
                found=", ".join(sorted(map(str, kinds))),
            )
        details["quantity"], details["geometry"] = kinds.pop()
        details["noise_floor_db"] = {layer.band: meaning.SAR_FLOOR_DB for layer in sar}
        details |= meaning.sar_details(sar[0].first)
    return Radiometry(**details, **_residual_shift(pair))


def _residual_shift(pair: ScenePair) -> dict[str, Any]:
    """The largest geolocation error that a scene of the pair declares."""
    declared: dict[str, float] = {}
    for scene in pair.scenes:
        stated = [scene.processing.get("geolocation_error_px")]
        stated += [
            (item.get("properties") or {}).get("earthmind:geolocation_error_px")
            for item in scene.items
        ]
        known = [float(value) for value in stated if isinstance(value, int | float)]
        if known:
            declared[scene.id] = max(known)
    if not declared:
        return {}
    worst = max(declared, key=lambda name: declared[name])
    note = f"declared by the source for {worst}; not measured"
    return {"residual_shift_px": declared[worst], "residual_shift_note": note}


def _box(bounds: Sequence[float]) -> str:
    return ",".join(f"{edge:.4f}" for edge in bounds)
