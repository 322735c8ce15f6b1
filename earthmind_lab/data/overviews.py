"""Coarse pixels from a file's overviews, where an average of stored numbers means something.

How an overview was made is not written in the file. Where each coarse pixel still averages at
least `SIDE` x `SIDE` pixels of it, that hardly matters, be they averages themselves or one pixel
out of many.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from earthmind_lab.data.assets import AssetRef
from earthmind_lab.data.backscatter import sar_meaning
from earthmind_lab.data.files import Reader
from earthmind_lab.data.radiometry import numbers
from earthmind_lab.data.raster import Raster
from earthmind_lab.data.resample import Lattice, pixel_ratio
from earthmind_lab.scene import Scene

SIDE = 4
"""Overview pixels along a side of a pixel that is computed from them, at least."""


@contextmanager
def coarsest(
    scene: Scene, ref: AssetRef, source: Raster, lattice: Lattice, reader: Reader
) -> Iterator[Raster]:
    """The raster that pixels of a lattice are computed from: the file, or an overview of it.

    Decided from the pixel sizes and what is declared, never from the AOI.

    Args:
        scene: What the file belongs to.
        ref: The file.
        source: The file, open.
        lattice: Where the pixels lie.
        reader: Opens the overview.
    """
    level = _level(source, lattice)
    if level is None or not _averages_hold(scene, ref, source):
        yield source
        return
    with reader.open(ref, overview=level) as overview:
        yield overview


def _level(source: Raster, lattice: Lattice) -> int | None:
    """Number of the coarsest overview that is fine enough; None = none is."""
    factors = source.overviews
    if not factors or source.crs is None:
        return None
    most = pixel_ratio(source, lattice) / SIDE
    fit = [factor for factor in factors if 1 < factor <= most]
    return factors.index(max(fit)) if fit else None


def _averages_hold(scene: Scene, ref: AssetRef, source: Raster) -> bool:
    """Whether an average of stored numbers is the average of physical ones.

    The file must know its nodata by itself, else overviews mix it into their pixels. Power adds
    up; amplitudes and decibels don't.
    """
    if source.nodata is None or not {*numbers([ref.fields.get("nodata")])} <= {source.nodata}:
        return False
    if scene.modality == "optical":
        # DN 0 carries no reflectance in any product, whatever else is declared.
        return source.dtype.kind == "f" or source.nodata == 0
    own = {"unit": source.unit, "description": source.description}
    ref = replace(ref, fields={k: v for k, v in own.items() if v} | dict(ref.fields))
    return sar_meaning(scene, ref).convention == "power"
