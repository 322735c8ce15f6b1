"""Loading a chip: plan (what will be read), then pixels of both sensors on one grid.

    plan = plan_chip(pair, aoi)        # headers only
    chip = load_chip(pair, aoi, plan=plan)

At the optical scene's own GSD the chip is a cut of the scene's UTM lattice, so its pixels are
the scene's own. Every other chip lies on `AOI.grid`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.aoi import AOILike
from earthmind_lab.chip import Chip, LoadPlan
from earthmind_lab.data.budget import Budget
from earthmind_lab.data.cache import ChipCache
from earthmind_lab.data.cache_key import chip_key
from earthmind_lab.data.chip_grid import lattice_of
from earthmind_lab.data.files import Reader
from earthmind_lab.data.layers import read_layers
from earthmind_lab.data.plan import check_size, plan_chip, plan_files, plan_with_keys
from earthmind_lab.data.provenance import provenance
from earthmind_lab.data.shift import measure_shift
from earthmind_lab.data.speckle import Speckle, check_filter
from earthmind_lab.data.together import check_pixels, radiometry_of
from earthmind_lab.errors import LoadError
from earthmind_lab.grid import inside_mask
from earthmind_lab.scene import ScenePair

__all__ = ["load_chip", "plan_chip"]


def load_chip(
    pair: ScenePair,
    aoi: AOILike,
    *,
    gsd: float | None = None,
    bands: Sequence[str] | None = None,
    plan: LoadPlan | None = None,
    speckle: Speckle | None = None,
    deadline: float = 120.0,
    reader: Reader | None = None,
    cache: bool = True,
) -> Chip:
    """Both sensors' pixels of an area on one grid, as reflectance and dB.

    What was loaded before comes from the disk (`data.cache`), equal to the bit, with no network.

    Args:
        pair: The scenes.
        aoi: The area, in any form `AOI.from_any` takes.
        gsd: Pixel size in metres; None = the optical scene's own, or 10.
        bands: Optical bands; None = blue to shortwave infrared, as far as the scene has them.
        plan: What `plan_chip` gave; then `gsd` and `bands` are taken from it.
        speckle: ``lee`` filters the SAR pixels; by default they stay as they are, as models
            were trained on.
        deadline: Seconds for all of it.
        reader: Opens the files, within its own time limit in place of `deadline`.
        cache: Whether to look for the chip on disk first, and keep it there.

    Raises:
        AOIError: The area can't be used.
        AccessDenied: A file needs a key; the message names its variable.
        Cancelled: The reader's budget was cancelled.
        LoadError: As `plan_chip`, or the scenes have no data in the AOI, or there is no such
            speckle filter, or the time is over.
    """
    check_filter(speckle)
    reader = reader or Reader(budget=Budget(deadline))
    keys = None
    if plan is None:
        plan, keys = plan_with_keys(pair, aoi, gsd=gsd, bands=bands, reader=reader, cache=cache)
    plan = replace(plan, speckle=speckle or plan.speckle)
    if not cache:
        return _read(plan, reader)
    kept, key = ChipCache.from_settings(), keys.chip(plan) if keys else chip_key(plan)
    chip = kept.get(key, plan)
    if chip is None:
        chip = _read(plan, reader)
        kept.put(key, chip, reader.budget.check)
    return chip


def _read(plan: LoadPlan, reader: Reader) -> Chip:
    """The chip of a plan, from the files of its scenes."""
    check_size(plan.grid, plan.aoi)
    reader.start(plan_files(plan))
    lattice = lattice_of(plan.pair, plan.grid, reader)
    layers, pixels = read_layers(plan, lattice, reader)
    reader.check()
    split = len(plan.bands)
    check_pixels(layers, pixels)
    reader.check()
    optical, sar = pixels[:split] if split else None, pixels[split:] if plan.polarisations else None
    valid_optical = None if optical is None else _valid(optical)
    valid_sar = None if sar is None else _valid(sar)
    inside = inside_mask(plan.grid, plan.aoi.geometry)
    for name, valid in (("optical", valid_optical), ("SAR", valid_sar)):
        _check_data(plan, name, valid, inside)
    shift = None
    if optical is not None and sar is not None:
        shift = measure_shift(optical, sar, plan.bands, _valid(pixels), reader.check)
    return Chip(
        grid=plan.grid,
        optical=optical,
        sar=sar,
        bands=plan.bands,
        polarisations=plan.polarisations,
        valid_optical=valid_optical,
        valid_sar=valid_sar,
        inside=inside,
        radiometry=radiometry_of(plan.pair, layers, shift),
        pair=plan.pair,
        aoi=plan.aoi,
        provenance=provenance(plan, lattice, {layer.band: layer.inputs for layer in layers}),
    )


def _check_data(
    plan: LoadPlan, name: str, valid: NDArray[np.bool_] | None, inside: NDArray[np.bool_]
) -> None:
    """Refuse a chip without a single pixel of one of its sensors in the AOI."""
    if valid is not None and not valid[inside].any():
        raise LoadError(
            f"The {name} scene has no data in the AOI {plan.aoi.name!r}.",
            found="nodata only",
            change="another scene of the search, or another AOI",
        )


def _valid(stack: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(y, x) True where every band has data."""
    return np.asarray(np.isfinite(stack).all(axis=0), dtype=bool)
