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
from earthmind_lab.data.backscatter import SAR_FLOOR_DB, sar_details
from earthmind_lab.data.chip_grid import lattice_of
from earthmind_lab.data.files import Reader
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
    check_size(plan.grid, plan.aoi)
    lattice = lattice_of(plan.pair, plan.grid, reader)
    layers, pixels = read_layers(plan, lattice, reader)
    optical, sar = layers[: len(plan.bands)], layers[len(plan.bands) :]
    reflectance = pixels[: len(optical)] if optical else None
    backscatter = pixels[len(optical) :] if sar else None
    valid_optical = None if reflectance is None else _valid(reflectance)
    valid_sar = None if backscatter is None else _valid(backscatter)
    inside = inside_mask(plan.grid, plan.aoi.geometry)
    _check_data(plan, (("optical", valid_optical), ("SAR", valid_sar)), inside)
    return Chip(
        grid=plan.grid,
        optical=reflectance,
        sar=backscatter,
        bands=plan.bands,
        polarisations=plan.polarisations,
        valid_optical=valid_optical,
        valid_sar=valid_sar,
        inside=inside,
        radiometry=radiometry_of(plan.pair, optical, sar),
        pair=plan.pair,
        aoi=plan.aoi,
        provenance=provenance(plan, lattice, {layer.band: layer.inputs for layer in layers}),
    )


def _check_data(
    plan: LoadPlan,
    masks: Iterable[tuple[str, NDArray[np.bool_] | None]],
    inside: NDArray[np.bool_],
) -> None:
    """Refuse a chip without a single pixel of one of its sensors in the AOI."""
    for name, valid in masks:
        if valid is not None and not valid[inside].any():
            raise LoadError(
                f"The {name} scene has no data in the AOI {plan.aoi.name!r}.",
                found="nodata only",
                change="another scene of the search, or another AOI",
            )


def _valid(stack: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(y, x) True where every band has data."""
    return np.asarray(np.isfinite(stack).all(axis=0), dtype=bool)


def radiometry_of(pair: ScenePair, optical: list[Layer], sar: list[Layer]) -> Radiometry:
    """What the numbers of some layers mean.

    Raises:
        RadiometryUnknown: They don't mean the same.
    """
    details: dict[str, Any] = {}
    if optical:
        offsets = {layer.inputs[0]["offset"] for layer in optical}
        if len(offsets) > 1:
            raise RadiometryUnknown(
                "The optical bands declare different offsets.", found=str(sorted(offsets))
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
