"""Areas too large for one chip: overlapping chips of one lattice, or one lazy dataset.

    plan = plan_area(pair, aoi)        # headers only; plan.bytes, plan.chips
    data = open_area(pair, aoi)        # nothing is read before it is computed

A pixel has the same value in every chip that holds it, and in the dataset: chips are cuts of one
lattice, and values never depend on the cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.aoi import AOI, AOILike
from earthmind_lab.chip import LoadPlan, grid_words
from earthmind_lab.data.budget import Budget
from earthmind_lab.data.chip_grid import chip_grid, lattice_of
from earthmind_lab.data.files import Reader
from earthmind_lab.data.layers import read_layers
from earthmind_lab.data.plan import MAX_SIDE_PX, check_pair, plan_on_grids
from earthmind_lab.data.together import check_pixels, radiometry_of
from earthmind_lab.errors import LoadError
from earthmind_lab.grid import inside_mask
from earthmind_lab.scene import ScenePair, html_table
from earthmind_lab.stack import labelled, mosaic

if TYPE_CHECKING:
    import xarray
    from odc.geo.geobox import GeoBox

SIZE, OVERLAP = 1024, 128
"""Side of a chip and what two neighbours share, in pixels."""
CHUNK = 1024
"""Side of a dataset's chunks in pixels; they begin at multiples of it on the lattice."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AreaPlan:
    """What an area will cost, and the chips that cover it."""

    grid: GeoBox
    """Of the whole area."""
    chips: tuple[LoadPlan, ...]
    """Overlapping cuts of `grid`, row by row; those without a pixel of the AOI are left out."""

    @property
    def bytes(self) -> int:
        """Upper estimate of what all chips together read, uncompressed; overlaps count twice."""
        return sum(plan.bytes for plan in self.chips)

    def __repr__(self) -> str:
        return f"AreaPlan({grid_words(self.grid)} in {len(self.chips)} chips)"

    def _repr_html_(self) -> str:
        rows = [("area", grid_words(self.grid)), ("chips", str(len(self.chips)))]
        return html_table([*rows, ("to read", f"{self.bytes / 1e6:.1f} MB")])


def plan_area(
    pair: ScenePair,
    aoi: AOILike,
    *,
    gsd: float | None = None,
    bands: Sequence[str] | None = None,
    size: int = SIZE,
    overlap: int = OVERLAP,
    deadline: float = 120.0,
    reader: Reader | None = None,
) -> AreaPlan:
    """Cover an area of any size with overlapping chips; opens files, reads no pixels.

    Args:
        pair: The scenes.
        aoi: The area, in any form `AOI.from_any` takes.
        gsd: Pixel size in metres; None = the optical scene's own, or 10.
        bands: Optical bands, as `plan_chip`.
        size: Side of a chip in pixels; a smaller area is one smaller chip.
        overlap: Pixels that two neighbours share, at least; the last of a row shares more.
        deadline: Seconds for all of it.
        reader: Opens the files, within its own time limit in place of `deadline`.

    Raises:
        LoadError: As `plan_chip`, but for the size; or chips can't have such a size or overlap.
    """
    if not (0 <= overlap < size <= MAX_SIDE_PX):
        raise LoadError(
            "Chips of such a size and overlap can't cover an area.",
            found=f"size {size}, overlap {overlap}",
            change=f"a size of at most {MAX_SIDE_PX} px, and an overlap below it",
        )
    check_pair(pair)
    reader, aoi = reader or Reader(budget=Budget(deadline)), AOI.from_any(aoi)
    whole = chip_grid(pair, aoi, gsd, reader)
    rows, columns = (_starts(int(side), size, overlap) for side in whole.shape)
    cuts = [whole[row : row + size, column : column + size] for row in rows for column in columns]
    held = [cut for cut in cuts if inside_mask(cut, aoi.geometry).any()]
    plans = plan_on_grids(pair, aoi, held or cuts[:1], bands=bands, reader=reader)
    return AreaPlan(grid=whole, chips=tuple(plans))


def open_area(
    pair: ScenePair,
    aoi: AOILike,
    *,
    gsd: float | None = None,
    bands: Sequence[str] | None = None,
    deadline: float = 120.0,
    reader: Reader | None = None,
) -> xarray.Dataset:
    """An area of any size as one dataset; only headers are read before it is computed.

    Args:
        pair: The scenes.
        aoi: The area, in any form `AOI.from_any` takes.
        gsd: Pixel size in metres; None = the optical scene's own, or 10.
        bands: Optical bands, as `plan_chip`.
        deadline: Seconds for the headers, and for each chunk.
        reader: Opens the files, within one time limit for everything in place of `deadline`.

    Returns:
        As `Chip.dataset`, in chunks. Computing raises what `load_chip` raises, save that a chunk
        may be empty.

    Raises:
        LoadError: As `plan_area`.
    """

    def limited() -> Reader:
        return reader or Reader(budget=Budget(deadline))

    opener, area = limited(), AOI.from_any(aoi)
    plan = plan_area(pair, area, gsd=gsd, bands=bands, size=CHUNK, overlap=0, reader=opener)
    whole, one = plan.grid, plan.chips[0]
    lattice = lattice_of(pair, whole, opener)
    corner = lattice.start(whole)
    edges = [_edges(first, int(side)) for first, side in zip(corner, whole.shape, strict=True)]

    def cut(y: int, x: int) -> GeoBox:
        (row0, row1), (column0, column1) = edges[0][y : y + 2], edges[1][x : x + 2]
        return whole[row0:row1, column0:column1]

    def read(y: int, x: int, sensor: LoadPlan) -> NDArray[np.float32]:
        layers, pixels = read_layers(replace(sensor, grid=cut(y, x)), lattice, limited())
        check_pixels(layers, pixels)
        radiometry_of(pair, layers)
        return pixels

    def inside(y: int, x: int) -> NDArray[np.float32]:
        return inside_mask(cut(y, x), area.geometry)[None].astype(np.float32)

    data: dict[str, Any] = {"inside": mosaic((edges[0], edges[1]), inside, 1)[0] > 0}
    # Apart, so that who computes SAR alone doesn't read a dozen optical bands.
    sensors = {"optical": replace(one, polarisations=()), "sar": replace(one, bands=())}
    for name, sensor in sensors.items():
        if count := len(sensor.bands) + len(sensor.polarisations):
            part = mosaic((edges[0], edges[1]), partial(read, sensor=sensor), count)
            data |= {name: part, f"valid_{name}": np.isfinite(part).all(axis=0)}
    return labelled(whole, data, one.bands, one.polarisations)


def _starts(side: int, size: int, overlap: int) -> list[int]:
    """Where chips begin along a side; the last one ends where the side does."""
    last = max(0, side - size)
    return [*range(0, last, size - overlap), last]


def _edges(first: int, side: int) -> list[int]:
    """Chunk edges along a side whose first pixel is number `first` of the lattice."""
    inner = range((first // CHUNK + 1) * CHUNK - first, side, CHUNK)
    return [0, *inner, side]
