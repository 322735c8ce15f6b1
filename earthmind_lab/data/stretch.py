"""The stretch of a whole scene, for pictures that published checkpoints were shown in percentiles.

Percentiles of a chip would change with its extent, so that the same field looked different in two
chips. Those of the scene don't, and two dates are comparable under the stretch of one of them:

    stretch = scene_stretch(pair.optical, chip.bands)
    views = band_groups(chip, stretch=stretch)
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.band_groups import PERCENTILES
from earthmind_lab.data.assets import AssetRef, assets_of
from earthmind_lab.data.files import Reader
from earthmind_lab.data.radiometry import physical
from earthmind_lab.data.reflectance import optical_scaling
from earthmind_lab.data.resample import whole_raster
from earthmind_lab.errors import LoadError
from earthmind_lab.scene import Scene

SIDE = 1024
"""A raster is thinned to at most this side: percentiles of a million pixels are those of all."""


def scene_stretch(
    scene: Scene, bands: Iterable[str], reader: Reader | None = None
) -> dict[str, tuple[float, float]]:
    """The 2nd and the 98th percentile of each band, over all that the scene shows.

    Args:
        scene: Optical scene.
        bands: Names of its bands.
        reader: Opens the files, within a time limit; two minutes by default.

    Returns:
        Band to (low, high) in reflectance.

    Raises:
        LoadError: A band is missing, holds no data, or can't be read.
    """
    reader = reader or Reader()
    return {band: _percentiles(scene, band, reader) for band in bands}


def _percentiles(scene: Scene, band: str, reader: Reader) -> tuple[float, float]:
    parts = [_thinned(scene, ref, reader) for ref in assets_of(scene, band)]
    values = np.concatenate(parts)
    if not values.size:
        raise LoadError(f"The band {band!r} of the scene {scene.id!r} holds no data.")
    low, high = np.percentile(values, PERCENTILES)
    return float(low), float(high)


def _thinned(scene: Scene, ref: AssetRef, reader: Reader) -> NDArray[np.float32]:
    """Reflectance of the pixels with data of one file, thinned."""
    with reader.open(ref) as source:
        scaling = optical_scaling(
            scene,
            ref,
            dtype=str(source.dtype),
            file_scaling=source.scaling,
            file_nodata=source.nodata,
        )
        values = physical(whole_raster(source, SIDE), scaling)
    return np.asarray(values[np.isfinite(values)])
