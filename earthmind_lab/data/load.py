"""Loading a chip: plan (what will be read), then pixels of both sensors on one grid.

    plan = plan_chip(pair, aoi)        # headers only
    chip = load_chip(pair, aoi, plan=plan)

At the optical scene's own GSD the chip is a cut of the scene's UTM lattice, so its pixels are
the scene's own. Every other chip lies on `AOI.grid`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.aoi import AOI
from earthmind_lab.chip import Chip, LoadPlan, Radiometry
from earthmind_lab.data import radiometry as meaning
from earthmind_lab.data.assets import AssetRef, assets_of
from earthmind_lab.data.provenance import input_facts, provenance
from earthmind_lab.data.radiometry import SarMeaning
from earthmind_lab.data.resample import (
    Lattice,
    kernel_for,
    open_asset,
    read_on_grid,
    window_pixels,
)
from earthmind_lab.errors import GridMismatch, LoadError, NotTerrainCorrected, RadiometryUnknown
from earthmind_lab.grid import inside_mask, snap_to
from earthmind_lab.scene import Scene, ScenePair

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from rasterio.io import DatasetReader

BANDS = ("blue", "green", "red", "nir", "nir08", "swir16", "swir22")
"""Optical bands loaded by default, where the scene has them; `nir08` only without `nir`."""
POLARISATIONS = ("vv", "vh", "hh", "hv")
REFERENCE_BANDS = ("red", "green", "blue", "nir")
"""The finest bands of a multispectral scene; the first one there gives its lattice."""
MAX_SIDE_PX = 4096
"""Larger grids don't fit a model or a browser; they belong into several chips."""
DEFAULT_GSD = 10.0
"""Sentinel-1's and Sentinel-2's own, for grids that no scene gives."""
LATTICE_PX = 1e-3
"""How far, in pixels, a grid may be off a lattice to count as part of it."""


def plan_chip(
    pair: ScenePair,
    aoi: AOI,
    *,
    gsd: float | None = None,
    bands: Sequence[str] | None = None,
) -> LoadPlan:
    """What a load will cost; opens files, reads no pixels.

    Args:
        pair: The scenes.
        aoi: The area.
        gsd: Pixel size in metres; None = the optical scene's own, or 10.
        bands: Optical bands; None = blue to shortwave infrared, as far as the scene has them.

    Raises:
        LoadError: The area lies outside the scenes, or the chip would be too large; one of
            its kinds when a band, a file or the meaning of its numbers is missing.
    """
    names = _bands(pair.optical, bands)
    polarisations = _polarisations(pair.sar)
    for scene in pair.scenes:
        if not scene.footprint.intersects(aoi.geometry):
            raise LoadError(
                f"The scene {scene.id!r} does not reach the AOI {aoi.name!r}.",
                found=f"scene {_box(scene.footprint.bounds)}, AOI {_box(aoi.bounds)}",
                change="search again for this AOI",
            )
    grid = _grid(pair, aoi, gsd)
    if max(grid.shape) > MAX_SIDE_PX:
        raise LoadError(
            f"The AOI {aoi.name!r} is too large for one chip.",
            found=f"{grid.shape[1]} x {grid.shape[0]} px, at most {MAX_SIDE_PX} on a side",
            change="a smaller AOI, or a coarser gsd",
        )
    lattice = _lattice(pair, grid)
    size = 0
    refs = [ref for scene, band in _wanted(pair, names, polarisations)
            for ref in assets_of(scene, band)]  # fmt: skip
    for ref in refs:
        with open_asset(ref) as source:
            if source.crs is not None:
                size += window_pixels(source, lattice, grid) * np.dtype(source.dtypes[0]).itemsize
    return LoadPlan(
        pair=pair,
        aoi=aoi,
        grid=grid,
        bands=names,
        polarisations=polarisations,
        reads=len(refs),
        bytes=size,
    )


def load_chip(
    pair: ScenePair,
    aoi: AOI,
    *,
    gsd: float | None = None,
    bands: Sequence[str] | None = None,
    plan: LoadPlan | None = None,
) -> Chip:
    """Both sensors' pixels of an area on one grid, as reflectance and dB.

    Args:
        pair: The scenes.
        aoi: The area.
        gsd: Pixel size in metres; None = the optical scene's own, or 10.
        bands: Optical bands; None = blue to shortwave infrared, as far as the scene has them.
        plan: What `plan_chip` gave; then `gsd` and `bands` are taken from it.

    Raises:
        LoadError: As `plan_chip`, or the scenes have no data in the AOI.
    """
    plan = plan or plan_chip(pair, aoi, gsd=gsd, bands=bands)
    lattice = _lattice(plan.pair, plan.grid)
    layers = _read_layers(plan, lattice)
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


def _read_layers(plan: LoadPlan, lattice: Lattice) -> list[_Layer]:
    from tqdm.auto import tqdm

    wanted = _wanted(plan.pair, plan.bands, plan.polarisations)
    progress = tqdm(wanted, desc="loading", unit="band", delay=1, leave=False, disable=None)
    return [_read_layer(scene, band, lattice, plan.grid) for scene, band in progress]


def _read_layer(scene: Scene, band: str, lattice: Lattice, grid: GeoBox) -> _Layer:
    """One band; further items of the same acquisition fill what the first leaves empty."""
    refs = assets_of(scene, band)
    sar = meaning.sar_meaning(scene, refs[0]) if scene.modality == "sar" else None
    values = np.full(tuple(grid.shape), np.nan, dtype=np.float32)
    inputs = []
    for ref in refs:
        with open_asset(ref) as source:
            _check_place(source, ref, scene)
            read = _read_sar if scene.modality == "sar" else _read_optical
            part, scaling, facts = read(scene, ref, source, lattice, grid)
            kernel = kernel_for(source, lattice)
            inputs.append(input_facts(scene, ref, kernel, scaling) | facts)
        values = np.where(np.isnan(values), part, values)
        if not np.isnan(values).any():
            break
    return _Layer(
        band=band, scene=scene, values=values, inputs=tuple(inputs), first=refs[0], sar=sar
    )


def _read_optical(
    scene: Scene, ref: AssetRef, source: DatasetReader, lattice: Lattice, grid: GeoBox
) -> tuple[NDArray[np.float32], meaning.Scaling, dict[str, Any]]:
    scaling = meaning.optical_scaling(
        scene,
        ref,
        dtype=source.dtypes[0],
        file_scaling=(source.scales[0], source.offsets[0]),
        file_nodata=source.nodata,
    )
    decode = partial(meaning.physical, scaling=scaling)
    values = read_on_grid(source, lattice, grid, decode)
    meaning.check_reflectance(values, ref)
    return values, scaling, {}


def _read_sar(
    scene: Scene, ref: AssetRef, source: DatasetReader, lattice: Lattice, grid: GeoBox
) -> tuple[NDArray[np.float32], meaning.Scaling, dict[str, Any]]:
    """Backscatter in dB; resampled as linear power, because power adds up and dB don't."""
    sar = meaning.sar_meaning(scene, ref)
    scaling = meaning.sar_scaling(ref, sar, dtype=source.dtypes[0], file_nodata=source.nodata)

    def decode(stored: NDArray[Any]) -> NDArray[np.float32]:
        return meaning.to_power(meaning.physical(stored, scaling), sar.convention)

    decibel = meaning.to_db(read_on_grid(source, lattice, grid, decode))
    clipped = int((decibel <= meaning.SAR_FLOOR_DB).sum())
    return decibel, scaling, {"pixels_at_floor": clipped}


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


def _reference(scene: Scene) -> AssetRef:
    """The asset whose lattice and GSD are the scene's own."""
    held = [band for band in (*REFERENCE_BANDS, *BANDS) if band in scene.assets]
    return assets_of(scene, held[0] if held else min(scene.assets))[0]


def _own_grid(scene: Scene) -> tuple[GeoBox | None, float | None]:
    """The scene's own grid where it is an upright UTM one; and its GSD where it is known."""
    from odc.geo.geobox import GeoBox
    from pyproj import CRS

    ref = _reference(scene)
    with open_asset(ref) as source:
        _check_place(source, ref, scene)
        grid = GeoBox.from_rio(source)
    affine = grid.affine
    upright = not affine.b and not affine.d and affine.a > 0 > affine.e
    square = math.isclose(affine.a, -affine.e, rel_tol=1e-6)
    crs = CRS.from_user_input(str(grid.crs))
    if upright and square and (crs.utm_zone or crs.to_epsg() in (3413, 3031)):
        code = crs.to_epsg()  # the file's WKT names the same CRS in a page of text
        return GeoBox(grid.shape, affine, f"EPSG:{code}" if code else grid.crs), affine.a
    declared = ref.asset.get("gsd", ref.properties.get("gsd"))
    return None, float(declared) if isinstance(declared, int | float) and declared > 0 else None


def _grid(pair: ScenePair, aoi: AOI, gsd: float | None) -> GeoBox:
    """A cut of the optical scene's lattice at its own GSD, else `AOI.grid`."""
    if pair.optical is None:
        return aoi.grid(gsd or DEFAULT_GSD)
    grid, native = _own_grid(pair.optical)
    if grid is not None and (gsd is None or math.isclose(gsd, native or 0.0, rel_tol=1e-6)):
        return snap_to(grid, aoi.geometry)
    return aoi.grid(gsd or native or DEFAULT_GSD)


def _lattice(pair: ScenePair, grid: GeoBox) -> Lattice:
    """The lattice of a grid, anchored where all of its chips are: at the scene's corner."""
    if pair.optical is not None:
        own, _ = _own_grid(pair.optical)
        if own is not None and own.crs == grid.crs and math.isclose(own.affine.a, grid.affine.a):
            steps = (
                (grid.affine.c - own.affine.c) / own.affine.a,
                (grid.affine.f - own.affine.f) / own.affine.e,
            )
            if all(abs(step - round(step)) < LATTICE_PX for step in steps):
                return Lattice.of(grid, (own.affine.c, own.affine.f))
    return Lattice.of(grid)


def _check_place(source: DatasetReader, ref: AssetRef, scene: Scene) -> None:
    """Refuse rasters that aren't on the map."""
    if source.crs is not None:
        return
    where = "only ground control points" if source.gcps[0] else "no CRS"
    if scene.modality == "sar":
        raise NotTerrainCorrected(
            f"The raster of {ref.name} is in radar geometry, not on the map.",
            found=where,
            change="a terrain-corrected scene, such as of the collection sentinel-1-rtc",
        )
    raise GridMismatch(
        f"The raster of {ref.name} has no place on the Earth.",
        found=where,
        change="a georeferenced file",
    )


def _check_data(
    plan: LoadPlan,
    stacks: Iterable[tuple[str, NDArray[np.float32] | None]],
    inside: NDArray[np.bool_],
) -> None:
    """Refuse a chip without a single pixel of one of its sensors in the AOI."""
    where = inside if inside.any() else np.ones_like(inside)
    for name, stack in stacks:
        if stack is not None and not _valid(stack)[where].any():
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
