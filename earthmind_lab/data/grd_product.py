"""A Sentinel-1 GRD raster with the tables that calibrate it and the points that place it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.data import borders, grd_luts, grd_tables
from earthmind_lab.data.assets import AssetRef
from earthmind_lab.data.backscatter import to_power
from earthmind_lab.data.files import Reader
from earthmind_lab.data.grd_luts import Noise, Vectors
from earthmind_lab.data.grd_place import TiePoints
from earthmind_lab.data.grd_tables import Table, find_table, read_table
from earthmind_lab.data.raster import Raster
from earthmind_lab.data.resample import whole_raster
from earthmind_lab.errors import (
    AccessDenied,
    AssetUnavailable,
    NotTerrainCorrected,
    RadiometryUnknown,
)

SCALED_NOISE = (2, 50)
"""First IPF version whose noise tables are in squared counts as they are."""
RTC = "a terrain-corrected scene (collection sentinel-1-rtc)"


@dataclass(frozen=True, kw_only=True, eq=False)
class Product:
    """A GRD raster with what calibrates and places it."""

    sigma: Vectors
    noise: Noise | None
    """None = nothing to subtract."""
    noise_removed: bool
    """Whether the result is free of thermal noise."""
    ties: TiePoints
    """In lon/lat."""
    beta: Vectors
    """Beta nought, which with sigma nought tells the incidence."""
    tables: tuple[dict[str, str], ...]
    """For provenance."""
    reason: str
    size: tuple[int, int]
    """Lines and pixels of the raster."""
    border: NDArray[np.bool_] | None = None
    """Of the thinned raster, where dark pixels are border noise; None = nowhere."""
    masked: Counter[str] = field(default_factory=Counter)
    """Per rule, how many of the pixels read so far became NaN, counts of 0 aside."""

    def power(self, stored: NDArray[Any], line: int, pixel: int) -> NDArray[np.float32]:
        """Counts of a window as linear power; a count of 0 is border, as its noise, hence NaN.

        Where the noise is all there is, calm water as a rule, the floor stands in.
        """
        lines, pixels = line + np.arange(stored.shape[0]), pixel + np.arange(stored.shape[1])
        counts = stored.astype(np.float64)
        left = counts * counts
        if self.border is not None:
            spans = [(at[0], at[-1] + 1) for at in (lines, pixels)]
            noise = self.dark(stored, lines, pixels) & (stored > 0)
            noise &= borders.spread(self.border, self.size, spans, stored.shape)
            counts[noise] = 0
            if noise.any():
                self.masked["border_noise"] += int(noise.sum())
        if self.noise is not None:
            left -= self.noise.at(lines, pixels)
        left /= self.sigma.at(lines, pixels) ** 2
        left[counts == 0] = np.nan
        return to_power(left.astype(np.float32), "power")

    def dark(
        self, stored: NDArray[Any], lines: NDArray[Any], pixels: NDArray[Any]
    ) -> NDArray[np.bool_]:
        """Counts darker than an image with its thermal noise; also those of the border."""
        limit = 10 ** (borders.NOISE_DB / 20) * self.sigma.at(lines, pixels)
        return np.asarray(stored < limit, dtype=bool)

    def without_border_noise(self, source: Raster) -> Product:
        """The product of an early processor, whose border noise is told from the whole raster.

        At its near and far end it may begin without a count of 0. Nothing else is so dark there:
        the thermal noise is strongest at the ends of the swath.
        """
        look = whole_raster(source, borders.LOOK_SIDE)
        lines, pixels = (
            (np.arange(cells) + 0.5) * side / cells - 0.5
            for cells, side in zip(look.shape, self.size, strict=True)
        )
        empty, dark = look == 0, self.dark(look, lines, pixels)
        empty[:, [0, -1]] |= dark[:, [0, -1]]
        reason = f"{self.reason}, border noise masked"
        return replace(self, border=borders.beside_fill(empty, dark), reason=reason)


def open_product(ref: AssetRef, source: Raster, reader: Reader) -> Product:
    """A raster's tables and tie points, seen to belong together.

    Raises:
        AssetUnavailable: A table that the item lists can't be had.
        GridMismatch: The tie points don't place the raster.
        RadiometryUnknown: The calibration table is missing, or a table isn't of this raster.
    """
    table = _calibration_table(ref, source, reader)
    shape = (source.height, source.width)
    sigma = grd_luts.calibration(table, shape)
    annotation = _annotation(ref, source, reader)
    ties = _tie_points(ref, source, annotation)
    noise_table, noise = _noise(ref, source, reader)
    done = annotation is not None and _already_denoised(annotation)
    found = (table, noise_table, annotation)
    removed = done or noise is not None
    return Product(
        sigma=sigma,
        noise=None if done else noise,
        noise_removed=removed,
        ties=ties,
        beta=grd_luts.calibration(table, shape, "betaNought"),
        tables=tuple(each.facts() for each in found if each is not None),
        size=shape,
        reason=f"sigmaNought of {table.ref.key}, thermal noise {'' if removed else 'not '}removed",
    )


def _calibration_table(ref: AssetRef, source: Raster, reader: Reader) -> Table:
    if source.dtype.kind not in "ui":
        raise RadiometryUnknown(
            f"The numbers in {ref.name} are not the counts of a GRD product.",
            found=f"{source.dtype} without a declaration",
            change="card4l:measurement_type and card4l:measurement_convention in the item",
        )
    if source.crs is not None:
        raise RadiometryUnknown(
            f"The counts in {ref.name} can't be calibrated: the raster was put on a map, and the "
            "calibration table is for lines and pixels of the radar.",
            found=f"a raster in {source.crs}",
            change=f"the product as it was published, or {RTC}",
        )
    table = find_table(ref, "calibration")
    if table is None:
        raise RadiometryUnknown(
            f"The numbers in {ref.name} are Sentinel-1 GRD counts, and their calibration table is "
            "missing.",
            found=f"no asset such as 'schema-calibration-{ref.band}' in the item",
            change=f"an item with the product's calibration files, or {RTC}",
        )
    return read_table(table, "calibration", reader)


def _annotation(ref: AssetRef, source: Raster, reader: Reader) -> Table | None:
    """The product annotation; None where the item lists none, or only hints at one."""
    asset = find_table(ref, "product")
    if asset is None:
        return None
    try:
        table = read_table(asset, "product", reader)
    except (AccessDenied, AssetUnavailable):
        if grd_tables.hinted(asset):  # it may not be there, which some storages call forbidden
            return None
        raise
    size = "imageAnnotation/imageInformation/numberOf"
    stated = [grd_tables.number(table.root, size + each, asset) for each in ("Lines", "Samples")]
    if stated != [source.height, source.width]:
        raise grd_tables.refused(asset, f"{stated[0]:g} lines of {stated[1]:g} samples, for a "
                                 f"raster of {source.height} x {source.width}")  # fmt: skip
    return table


def _already_denoised(annotation: Table) -> bool:
    path = "imageAnnotation/processingInformation/thermalNoiseCorrectionPerformed"
    return grd_tables.text(annotation.root, path).lower() == "true"


def _tie_points(ref: AssetRef, source: Raster, annotation: Table | None) -> TiePoints:
    """The annotation's tie points, which have the incidence; else the file's own."""
    own = TiePoints.of_raster(ref, source)
    if annotation is None:
        if own is None:
            raise NotTerrainCorrected(
                f"The raster of {ref.name} is in radar geometry, not on the map.",
                found="neither ground control points nor a product annotation",
                change=RTC,
            )
        return own
    ties = TiePoints.of(grd_tables.tie_rows(annotation), annotation.ref, source)
    if own is not None:
        own.check_same(ties, ref)
    return ties


def _noise(ref: AssetRef, source: Raster, reader: Reader) -> tuple[Table | None, Noise | None]:
    """The noise table; None where there is none, or one that an old processor left unscaled."""
    asset = find_table(ref, "noise")
    if asset is None:
        return None, None
    table = read_table(asset, "noise", reader)
    noise = grd_luts.noise(table)
    version = re.search(r"IPF 0*(\d+)\.(\d+)", source.tags.get("TIFFTAG_SOFTWARE", ""))
    scaled = version is not None and (int(version[1]), int(version[2])) >= SCALED_NOISE
    return (table, noise) if noise.blocks or scaled else (None, None)
