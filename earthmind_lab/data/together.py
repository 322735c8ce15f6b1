"""What the bands of a chip say together: whether they fit, and what their numbers mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.chip import Radiometry
from earthmind_lab.data import plausible
from earthmind_lab.data.backscatter import SAR_FLOOR_DB, sar_details
from earthmind_lab.data.grd import grd_radiometry
from earthmind_lab.data.layers import Layer
from earthmind_lab.data.reflectance import optical_level
from earthmind_lab.data.shift import Shift, shift_details
from earthmind_lab.errors import RadiometryUnknown
from earthmind_lab.scene import ScenePair


def check_pixels(layers: Sequence[Layer], pixels: NDArray[np.float32]) -> None:
    """Refuse scenes whose bands, seen together, contradict what was declared.

    Args:
        layers: Every band.
        pixels: (band, y, x) reflectance or dB.

    Raises:
        RadiometryUnknown: They do.
    """
    for kind in ("optical", "sar"):
        held = [(each, values) for each, values in zip(layers, pixels, strict=True)
                if each.scene.modality == kind]  # fmt: skip
        if not held:
            continue
        title = f"the scene {held[0][0].scene.id!r}"
        bands = {each.band: values for each, values in held}
        plausible.check_bands(bands, title)
        if kind == "optical":
            parts = [(each.band, part) for each, _ in held for part in each.parts]
            dim = [part.dim for _, part in parts if part.dim is not None]
            plausible.check_scaled(dim, title)
            doubts = [(band, part) for band, part in parts if part.in_doubt]
            plausible.check_offset({band: part.darkest for band, part in doubts}, title)


def radiometry_of(
    pair: ScenePair, layers: Sequence[Layer], shift: Shift | None = None
) -> Radiometry:
    """What the numbers of some layers mean.

    Args:
        pair: The scenes.
        layers: Every band.
        shift: How far SAR lies from optical; None = not measured.

    Raises:
        RadiometryUnknown: They don't mean the same.
    """
    optical = [layer for layer in layers if layer.scene.modality == "optical"]
    sar = [layer for layer in layers if layer.scene.modality == "sar"]
    tables = [part.details for layer in sar for part in layer.parts if part.details]
    details = (_optical(optical) if optical else {}) | (_sar(sar) if sar else {})
    if tables:
        details |= grd_radiometry(tables)
    terrain = max((found["residual_shift_px"] for found in tables), default=None)
    return Radiometry(**details, **shift_details(pair, shift, terrain))


def _optical(layers: Sequence[Layer]) -> dict[str, Any]:
    offsets = {facts["offset"] for layer in layers for facts in layer.inputs}
    if len(offsets) > 1:
        raise RadiometryUnknown(
            "The optical bands or items declare different offsets.", found=str(sorted(offsets))
        )
    level = optical_level(layers[0].scene, layers[0].first) or "unknown"
    return {"level": level, "offset_applied": offsets.pop()}


def _sar(layers: Sequence[Layer]) -> dict[str, Any]:
    meanings = [part.sar for layer in layers for part in layer.parts if part.sar]
    kinds = {(each.quantity, each.geometry) for each in meanings}
    if len(kinds) > 1:
        raise RadiometryUnknown(
            "The polarisations declare different backscatter.",
            found=", ".join(sorted(map(str, kinds))),
        )
    quantity, geometry = kinds.pop()
    details = {
        "quantity": quantity,
        "geometry": geometry,
        "noise_floor_db": {layer.band: SAR_FLOOR_DB for layer in layers},
        **sar_details(layers[0].first),
    }
    filters = (details["speckle_filter"], layers[0].inputs[0].get("speckle_filter"))
    details["speckle_filter"] = "; then ".join(name for name in filters if name) or None
    return details
