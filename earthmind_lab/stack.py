"""Chips, series and areas as labelled datasets of xarray.

What isn't loaded yet is loaded when it is computed (dask).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from earthmind_lab.errors import GridMismatch

if TYPE_CHECKING:
    import xarray
    from odc.geo.geobox import GeoBox

    from earthmind_lab.chip import Chip, ChipSeries, LoadPlan


def chip_dataset(chip: Chip) -> xarray.Dataset:
    """A chip as one dataset.

    Returns:
        ``optical`` (band, y, x) reflectance, ``sar`` (polarisation, y, x) dB, ``inside``,
        ``valid_optical`` and ``valid_sar`` (y, x), with band names as coordinates and the
        georeference where CF tools, rioxarray and odc-geo look for it.
    """
    names = ("inside", "optical", "sar", "valid_optical", "valid_sar")
    data = {name: getattr(chip, name) for name in names if getattr(chip, name) is not None}
    dataset = labelled(chip.grid, data, chip.bands, chip.polarisations)
    if chip.sar is not None:
        dataset["sar"].attrs["long_name"] = str(chip.radiometry.quantity)
    return dataset


def series_dataset(series: ChipSeries) -> xarray.Dataset:
    """A series as one dataset, a chip to a chunk.

    Returns:
        ``optical`` (time, band, y, x), ``sar`` (time, polarisation, y, x), ``valid_optical`` and
        ``valid_sar`` (time, y, x), ``inside`` (y, x); `time` is the start of the earlier scene
        of each pair in UTC. Computing raises what loading a chip raises.

    Raises:
        GridMismatch: The chips hold different bands.
    """
    delayed, da = _dask()
    members: Sequence[Chip | LoadPlan] = series.chips or series.plans
    bands, polarisations = members[0].bands, members[0].polarisations
    if any((m.bands, m.polarisations) != (bands, polarisations) for m in members):
        raise GridMismatch(
            "The chips of a series must hold the same bands to become one dataset.",
            found="; ".join(sorted({", ".join((*m.bands, *m.polarisations)) for m in members})),
            change="bands that all scenes have",
        )
    get = delayed(series.__getitem__, pure=False)
    chips = [get(index) for index in range(len(series))]
    shape = tuple(int(side) for side in series.grid.shape)

    def stacked(name: str, shape: tuple[int, ...], dtype: type) -> Any:
        return da.stack([da.from_delayed(getattr(c, name), shape, dtype) for c in chips])

    data: dict[str, Any] = {"inside": da.from_delayed(chips[0].inside, shape, bool)}
    for name, names in (("optical", bands), ("sar", polarisations)):
        if names:
            data[name] = stacked(name, (len(names), *shape), np.float32)
            data[f"valid_{name}"] = stacked(f"valid_{name}", shape, bool)
    dataset = labelled(series.grid, data, bands, polarisations)
    starts = [min(scene.start for scene in member.pair.scenes) for member in members]
    return dataset.assign_coords(
        time=np.array([start.replace(tzinfo=None) for start in starts], dtype="datetime64[ns]")
    )


def mosaic(
    edges: tuple[Sequence[int], Sequence[int]],
    read: Callable[[int, int], Any],
    bands: int,
) -> Any:
    """A (band, y, x) array of blocks, each read when it is computed.

    Args:
        edges: Rows and columns at which blocks begin, and the last one's end.
        read: (number of the block along y, along x) to its (band, y, x) float32 pixels.
        bands: Along the first axis.
    """
    delayed, da = _dask()
    reading = delayed(read, pure=False)
    heights, widths = (np.diff(part) for part in edges)
    blocks = [
        [
            da.from_delayed(reading(y, x), (bands, int(height), int(width)), np.float32)
            for x, width in enumerate(widths)
        ]
        for y, height in enumerate(heights)
    ]
    return da.block(blocks)


def _dask() -> tuple[Any, Any]:
    """`dask.delayed` and `dask.array`, which are typed in part."""
    import dask.array
    from dask.delayed import delayed

    return delayed, dask.array


def labelled(
    grid: GeoBox, data: dict[str, Any], bands: Sequence[str], polarisations: Sequence[str]
) -> xarray.Dataset:
    """Arrays on a grid with the names and the georeference that `Chip.dataset` has.

    Args:
        grid: Of the last two axes.
        data: ``optical``, ``sar``, masks; an array may have `time` in front.
        bands: Along the axis before y of ``optical``.
        polarisations: Along the axis before y of ``sar``.
    """
    import xarray
    from odc.geo.xr import xr_coords

    axes = {"optical": ("band", "y", "x"), "sar": ("polarisation", "y", "x")}
    coords: dict[Any, Any] = dict(xr_coords(grid, dims=("y", "x")))
    coords |= {"band": list(bands)} if bands else {}
    coords |= {"polarisation": list(polarisations)} if polarisations else {}
    variables = {}
    for name, array in data.items():
        dims = axes.get(name, ("y", "x"))
        if array.ndim > len(dims):
            dims = ("time", *dims)
        units = {"optical": {"units": "1", "long_name": "reflectance"}, "sar": {"units": "dB"}}
        variables[name] = (dims, array, units.get(name, {}))
    dataset = xarray.Dataset(variables, coords=coords)
    for name in data:
        dataset[name].encoding["grid_mapping"] = "spatial_ref"
    return dataset
