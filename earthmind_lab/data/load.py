"""Loading a chip: plan (what will be read), then pixels of both sensors on one grid.

    plan = plan_chip(pair, aoi)        # headers only
    chip = load_chip(pair, aoi, plan=plan)

At the optical scene's own GSD the chip is a cut of the scene's UTM lattice, so its pixels are
the scene's own. Every other chip lies on `AOI.grid`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.aoi import AOI
from earthmind_lab.chip import Chip, LoadPlan, Radiometry
from earthmind_lab.data import plausible
from earthmind_lab.data.backscatter import SAR_FLOOR_DB, sar_details
from earthmind_lab.data.cache import ChipCache
from earthmind_lab.data.cache_key import chip_key
from earthmind_lab.data.chip_grid import lattice_of
from earthmind_lab.data.files import Reader
from earthmind_lab.data.grd import grd_radiometry
from earthmind_lab.data.layers import Layer, read_layers
from earthmind_lab.data.plan import check_size, plan_chip
from earthmind_lab.data.provenance import provenance
from earthmind_lab.data.reflectance import optical_level
from earthmind_lab.data.shift import Shift, measure_shift, shift_details
from earthmind_lab.data.speckle import Speckle, check_filter
from earthmind_lab.errors import LoadError, RadiometryUnknown
from earthmind_lab.grid import inside_mask
from earthmind_lab.scene import ScenePair

__all__ = ["load_chip", "plan_chip"]


def load_chip(
    pair: ScenePair,
    aoi: AOI,
    *,
    gsd: float | None = None,
    bands: Sequence[str] | None = None,
    plan: LoadPlan | None = None,
    speckle: Speckle | None = None,
    reader: Reader | None = None,
    cache: bool = True,
) -> Chip:
    """Both sensors' pixels of an area on one grid, as reflectance and dB.

    What was loaded before comes from the disk (`data.cache`), equal to the bit, with no network.

    Args:
        pair: The scenes.
        aoi: The area.
        gsd: Pixel size in metres; None = the optical scene's own, or 10.
        bands: Optical bands; None = blue to shortwave infrared, as far as the scene has them.
        plan: What `plan_chip` gave; then `gsd` and `bands` are taken from it.
        speckle: ``lee`` filters the SAR pixels; by default they stay as they are, as models
            were trained on.
        reader: Opens the files, within a time limit; two minutes by default.
        cache: Whether to look for the chip on disk first, and keep it there.

    Raises:
        AccessDenied: A file needs a key; the message names its variable.
        Cancelled: The reader's budget was cancelled.
        LoadError: As `plan_chip`, or the scenes have no data in the AOI, or there is no such
            speckle filter.
    """
    check_filter(speckle)
    reader = reader or Reader()
    plan = plan or plan_chip(pair, aoi, gsd=gsd, bands=bands, reader=reader, cache=cache)
    plan = replace(plan, speckle=speckle or plan.speckle)
    if not cache:
        return _read(plan, reader)
    kept, key = ChipCache.from_settings(), chip_key(plan)
    chip = kept.get(key, plan)
    if chip is None:
        chip = _read(plan, reader)
        kept.put(key, chip)
    return chip


def _read(plan: LoadPlan, reader: Reader) -> Chip:
    """The chip of a plan, from the files of its scenes."""
    check_size(plan.grid, plan.aoi)
    lattice = lattice_of(plan.pair, plan.grid, reader)
    layers = read_layers(plan, lattice, reader)
    optical = [layer for layer in layers if layer.band in plan.bands]
    sar = [layer for layer in layers if layer.band in plan.polarisations]
    reflectance = np.stack([layer.values for layer in optical]) if optical else None
    backscatter = np.stack([layer.values for layer in sar]) if sar else None
    _check_pixels(optical, sar)
    inside = inside_mask(plan.grid, plan.aoi.geometry)
    _check_data(plan, (("optical", reflectance), ("SAR", backscatter)), inside)
    shift = None
    if reflectance is not None and backscatter is not None:
        both = _valid(reflectance) & _valid(backscatter)
        shift = measure_shift(reflectance, backscatter, plan.bands, both)
    return Chip(
        grid=plan.grid,
        optical=reflectance,
        sar=backscatter,
        bands=plan.bands,
        polarisations=plan.polarisations,
        valid_optical=None if reflectance is None else _valid(reflectance),
        valid_sar=None if backscatter is None else _valid(backscatter),
        inside=inside,
        radiometry=_radiometry(plan.pair, optical, sar, shift),
        pair=plan.pair,
        aoi=plan.aoi,
        provenance=provenance(plan, lattice, {layer.band: layer.inputs for layer in layers}),
    )


def _check_pixels(*kinds: Sequence[Layer]) -> None:
    """Refuse scenes whose bands, seen together, contradict what was declared."""
    for layers in filter(None, kinds):
        scene = layers[0].scene
        title, bands = f"the scene {scene.id!r}", {layer.band: layer.values for layer in layers}
        plausible.check_bands(bands, title)
        if scene.modality == "optical":
            plausible.check_scaled(bands, title)
            doubts = [(each.band, part) for each in layers for part in each.parts if part.in_doubt]
            plausible.check_offset({band: part.darkest for band, part in doubts}, title)


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


def _radiometry(
    pair: ScenePair, optical: list[Layer], sar: list[Layer], shift: Shift | None
) -> Radiometry:
    details: dict[str, Any] = {}
    if optical:
        offsets = {facts["offset"] for layer in optical for facts in layer.inputs}
        if len(offsets) > 1:
            raise RadiometryUnknown(
                "The optical bands or items declare different offsets.", found=str(sorted(offsets))
            )
        details["level"] = optical_level(optical[0].scene, optical[0].first) or "unknown"
        details["offset_applied"] = offsets.pop()
    if sar:
        meanings = [part.sar for layer in sar for part in layer.parts if part.sar]
        kinds = {(each.quantity, each.geometry) for each in meanings}
        if len(kinds) > 1:
            raise RadiometryUnknown(
                "The polarisations declare different backscatter.",
                found=", ".join(sorted(map(str, kinds))),
            )
        details["quantity"], details["geometry"] = kinds.pop()
        details["noise_floor_db"] = {layer.band: SAR_FLOOR_DB for layer in sar}
        details |= sar_details(sar[0].first)
        filters = (details["speckle_filter"], sar[0].inputs[0].get("speckle_filter"))
        details["speckle_filter"] = "; then ".join(name for name in filters if name) or None
    tables = [part.details for layer in sar for part in layer.parts if part.details]
    if tables:
        details |= grd_radiometry(tables)
    terrain = max((found["residual_shift_px"] for found in tables), default=None)
    return Radiometry(**details, **shift_details(pair, shift, terrain))
