"""What one file gives to a band of a chip: pixels in the declared quantity, and what is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.chip import LoadPlan
from earthmind_lab.data import backscatter, borders, plausible, reflectance, speckle
from earthmind_lab.data.assets import AssetRef
from earthmind_lab.data.backscatter import SarMeaning
from earthmind_lab.data.chip_grid import check_place
from earthmind_lab.data.files import Reader
from earthmind_lab.data.grd import read_grd
from earthmind_lab.data.overviews import coarsest
from earthmind_lab.data.radiometry import Scaling, physical, row_by_row
from earthmind_lab.data.raster import Raster
from earthmind_lab.data.resample import Kernel, Lattice, kernel_for, read_on_grid, whole_raster
from earthmind_lab.errors import LoadError
from earthmind_lab.scene import Scene
from earthmind_lab.sensors import SENSORS

CHECK_SIDE = 1024
"""Side of the thinned raster that tells a calm sea from numbers that were misdeclared."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """One file, and what was done to its numbers."""

    scaling: Scaling
    kernel: Kernel
    facts: Mapping[str, Any] = field(default_factory=dict)
    """For provenance."""
    sar: SarMeaning | None = None
    """None for an optical file."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """For the radiometry, from tables of the file's own."""
    in_doubt: bool = False
    """Whether its optical offset is in doubt; see `plausible.check_offset`."""
    darkest: float | None = None
    """Darkest reflectance of the whole raster, looked up where there is doubt."""
    dim: bool | None = None
    """Whether an optical file is `plausible.next_to_nothing`; None = it shows nothing here."""


Pixels = NDArray[np.float32]
"""(y, x) reflectance or dB."""


def read_part(
    scene: Scene,
    ref: AssetRef,
    source: Raster,
    lattice: Lattice,
    plan: LoadPlan,
    reader: Reader,
) -> tuple[Pixels, Part]:
    """One file on a grid, NaN where it has no data.

    Args:
        scene: Its scene.
        ref: The asset.
        source: The open file.
        lattice: The lattice of the plan's grid.
        plan: Its grid, and how SAR is filtered.
        reader: Opens further files that give the numbers a meaning, and overviews.

    Raises:
        LoadError: It has no place, no meaning, or contradicts what is declared about it.
    """
    if scene.modality == "sar":
        ref = _with_file_fields(ref, source)
        if backscatter.grd_counts(scene, ref):
            return _read_grd(scene, ref, source, lattice, plan, reader)
    check_place(source, ref, scene)
    read = _read_sar if scene.modality == "sar" else _read_optical
    # Speckle is that of the file's own pixels: an overview has less.
    overview = coarsest(scene, ref, source, lattice, reader)
    with nullcontext(source) if plan.speckle else overview as seen:
        pixels, part = read(scene, ref, (source, seen), lattice, plan)
        factor = round(source.width / seen.width)
    facts = {**part.facts, "overview": factor if factor > 1 else None}
    return pixels, replace(part, facts=facts)


def _read_optical(
    scene: Scene, ref: AssetRef, rasters: tuple[Raster, Raster], lattice: Lattice, plan: LoadPlan
) -> tuple[Pixels, Part]:
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
    values = read_on_grid(seen, lattice, plan.grid, decode)

    def whole() -> Pixels:
        return decode(whole_raster(source, CHECK_SIDE))

    reflectance.check_reflectance(values, ref)
    plausible.check_reflectance_range(values, whole, ref)
    dim = plausible.next_to_nothing(values) and plausible.next_to_nothing(whole())
    in_doubt = plausible.offset_in_doubt(scene, ref, scaling)
    return values, Part(
        scaling=scaling,
        kernel=kernel_for(source, lattice),
        in_doubt=in_doubt,
        darkest=plausible.darkest(whole()) if in_doubt else None,
        dim=dim if dim or np.isfinite(values).any() else None,
    )


def _read_grd(
    scene: Scene,
    ref: AssetRef,
    source: Raster,
    lattice: Lattice,
    plan: LoadPlan,
    reader: Reader,
) -> tuple[Pixels, Part]:
    if plan.speckle is not None:
        raise LoadError(
            f"The speckle filter {plan.speckle!r} works on backscatter in map geometry.",
            found=f"{ref.name} in radar geometry",
            change="speckle=None, or a scene of the collection sentinel-1-rtc",
        )
    found = read_grd(scene, ref, source, lattice, plan.grid, reader)
    return found.values, Part(
        scaling=Scaling(nodata=(0.0,), reason=found.meaning.reason),
        kernel=found.kernel,
        facts=found.facts,
        sar=found.meaning,
        details=found.details,
    )


def _read_sar(
    scene: Scene, ref: AssetRef, rasters: tuple[Raster, Raster], lattice: Lattice, plan: LoadPlan
) -> tuple[Pixels, Part]:
    """Backscatter in dB; resampled as linear power, because power adds up and dB don't."""
    source, seen = rasters
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

    def decode(stored: NDArray[Any]) -> Pixels:
        return backscatter.to_power(physical(stored, scaling), sar.convention)

    clean = borders.clean(seen, scene, ref.band, sar, scaling)
    facts: dict[str, Any] = {}
    if plan.speckle is None:
        power = read_on_grid(clean, lattice, plan.grid, decode)
    else:
        looks = speckle.looks_of(scene, ref)
        calm = speckle.filtered(clean, decode, looks)
        power = read_on_grid(calm, lattice, plan.grid, lambda values: values)
        facts["speckle_filter"] = speckle.named(looks)
    decibel = row_by_row(backscatter.to_db, power, source.check)
    _check_backscatter(decibel, lambda: decode(whole_raster(clean, CHECK_SIDE)), ref, sar)
    facts["pixels_masked"] = dict(clean.masked)
    facts["pixels_clipped_at_0_db"] = clean.kept["clipped_at_0_db"]
    facts["pixels_at_floor"] = int((decibel <= backscatter.SAR_FLOOR_DB).sum())
    return decibel, Part(scaling=scaling, kernel=kernel_for(source, lattice), facts=facts, sar=sar)


def _check_backscatter(
    decibel: Pixels, whole: Callable[[], Pixels], ref: AssetRef, sar: SarMeaning
) -> None:
    """Refuse numbers that can't be what was declared: an AOI may be odd, a whole raster isn't."""
    for odd, refuse in (
        (backscatter.mostly_floor, backscatter.refuse_floor),
        (plausible.too_strong, plausible.refuse_strong),
    ):
        if odd(decibel) and odd(backscatter.to_db(whole())):
            refuse(ref, sar)


def _with_file_fields(ref: AssetRef, source: Raster) -> AssetRef:
    """The unit and description of the file's band, where the item is silent about them."""
    own = {"unit": source.unit, "description": source.description}
    return replace(ref, fields={k: v for k, v in own.items() if v} | dict(ref.fields))
