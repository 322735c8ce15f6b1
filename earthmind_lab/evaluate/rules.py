"""Rules that need no model, per class: what a score is worth is seen beside them.

VV < -17 dB for water, and one spectral index per class on the picture that was asked about. Truth
of water and snow comes from indices too, so on clear pictures the index is an upper bound by
construction, not a rival; under cloud, and against labels, it is one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.bands import stand_in
from earthmind_lab.baselines import water_baselines
from earthmind_lab.chip import Chip
from earthmind_lab.evaluate.truth import indices

SNOW_NDSI, SNOW_GREEN, DENSE_NDVI, BARREN_NDVI = 0.42, 0.2, 0.4, 0.2
"""Usual values, not tuned."""
BRIGHT_BLUE = 0.25
"""Reflectance from which the cloud rule calls a pixel cloud."""
Bool = NDArray[np.bool_]


def vv_rule(chip: Chip, label: str) -> Bool | None:
    """(H, W) water by backscatter; None for another class, or without VV."""
    found = water_baselines(chip).get("vv") if label == "water" else None
    return None if found is None else found.mask


def index_rule(chip: Chip, label: str) -> Bool | None:
    """(H, W) a class by one spectral index; None where the chip lacks the bands for it.

    Args:
        chip: The picture that was asked about, clouds and all.
        label: One of `legends.CLASSES`.
    """
    if label == "water":
        ndwi = water_baselines(chip).get("ndwi")
        return None if ndwi is None else ndwi.mask
    infrared = stand_in("nir", chip.wavelengths)
    missing = {"green", "red"} - set(chip.bands)
    if infrared is None or missing or chip.radiometry.level == "DN":
        return None
    names = [name for name in ("green", "red", "swir16") if name in chip.bands]
    bands = {name: chip.band(name) for name in names} | {"nir": chip.band(infrared)}
    with np.errstate(invalid="ignore"):
        found = indices(bands)
        ndvi = found["ndvi"]
        if label == "snow":
            ndsi = found.get("mndwi", found["ndwi"]) > SNOW_NDSI
            return np.asarray(ndsi & (bands["green"] > SNOW_GREEN))
        if label == "clouds":
            bright = chip.band("blue") > BRIGHT_BLUE if "blue" in chip.bands else None
            return None if bright is None else np.asarray(bright)
        if label in ("built-up areas", "bare ground"):
            return np.asarray((ndvi < BARREN_NDVI) & (found["ndwi"] < 0))
        return np.asarray(ndvi > DENSE_NDVI)
