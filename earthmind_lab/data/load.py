"""Loading a chip: plan (what will be read), then pixels of both sensors on one grid.

    plan = plan_chip(pair, aoi)        # headers only
    chip = load_chip(pair, aoi, plan=plan)

At the optical scene's own GSD the chip is a cut of the scene's UTM lattice, so its pixels are
the scene's own. Every other chip lies on `AOI.grid`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
from earthmind_lab.data.grd import TERRAIN_NOTE, grd_radiometry
from earthmind_lab.data.layers import Layer, read_layers
from earthmind_lab.data.plan import check_size, plan_chip
from earthmind_lab.data.provenance import provenance
from earthmind_lab.data.reflectance import optical_level
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
        reader: Opens the files, within a time limit; two minutes by default.
        cache: Whether to look for the chip on disk first, and keep it there.

    Raises:
        AccessDenied: A file needs a key; the message names its variable.
        Cancelled: The reader's budget was cancelled.
        LoadError: As `plan_chip`, or the scenes have no data in the AOI.
    """
    reader = reader or Reader()
    plan = plan or plan_chip(pair, aoi, gsd=gsd, bands=bands, reader=reader, cache=cache)
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


def _check_pixels(*kinds: Sequence[Layer]) -> None:
    """Refuse scenes whose bands, seen together, contradict what was declared."""
    for layers in filter(None, kinds):
        scene = layers[0].scene
        title, bands = f"the scene {scene.id!r}", {layer.band: layer.values for layer in layers}
        plausible.check_bands(bands, title)
        if scene.modality == "optical":
            plausible.check_scaled(bands, title)
            dark = {layer.band: each for layer in layers for each in layer.dark}
            plausible.check_offset(dark, title)


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


def _radiometry(pair: ScenePair, optical: list[Layer], sar: list[Layer]) -> Radiometry:
    details: dict[str, Any] = {}
    if optical:
        offsets = {facts["offset"] for layer in optical for facts in layer.inputs}
        if len(offsets) > 1:
            raise RadiometryUnknown(
                "The optical bands or items declare different offsets.", found=str(sorted(offsets))
            )
        details["level"] = optical_level(optical[0].scene, optical[0].first)
        details["offset_applied"] = offsets.pop()
    if sar:
        kinds = {(layer.sar.quantity, layer.sar.geometry) for layer in sar if layer.sar}
        if len(kinds) > 1:
            raise RadiometryUnknown(
                "The polarisations declare different backscatter.",
                found=", ".join(sorted(map(str, kinds))),
            )
        details["quantity"], details["geometry"] = kinds.pop()
        details["noise_floor_db"] = {layer.band: SAR_FLOOR_DB for layer in sar}
        details |= sar_details(sar[0].first)
    tables = [found for layer in sar for found in layer.details]
    if tables:
        details |= grd_radiometry(tables)
    terrain = max((found["residual_shift_px"] for found in tables), default=None)
    return Radiometry(**details, **_residual_shift(pair, terrain))


def _residual_shift(pair: ScenePair, terrain: float | None) -> dict[str, Any]:
    """The largest geolocation error that a scene declares, or that its terrain lets expect.

    Args:
        pair: The scenes.
        terrain: Expected for a scene that isn't terrain-corrected, in pixels.
    """
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
    if terrain is not None and terrain >= max(declared.values(), default=0.0):
        return {"residual_shift_px": terrain, "residual_shift_note": TERRAIN_NOTE}
    if not declared:
        return {}
    worst = max(declared, key=lambda name: declared[name])
    note = f"declared by the source for {worst}; not measured"
    return {"residual_shift_px": declared[worst], "residual_shift_note": note}
