"""Arrays of xarray as GeoTIFFs, so that they are read by the rules that files are read by.

A file is named after a checksum of what it holds and lies in the folder of the settings: the same
array is written once, and a record of it can be replayed while it is kept (`kept_arrays`). Of a
lazy array only the cut that an AOI needs is computed.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.aoi import AOI
from earthmind_lab.bands import MASKS
from earthmind_lab.data.kept_arrays import DRAFT, KeptArrays, use_array
from earthmind_lab.data.own_header import outline, outside
from earthmind_lab.data.plan import MAX_SIDE_PX
from earthmind_lab.data.recognise import band_name
from earthmind_lab.errors import GridMismatch, LoadError
from earthmind_lab.grid import gsd_of, placeless, snap_to

if TYPE_CHECKING:
    import xarray
    from odc.geo.geobox import GeoBox

MARGIN_PX = 256
"""Kept around an AOI: more than a kernel reaches, unless the chip is far coarser than the array."""
FILLS = ("_FillValue", "missing_value", "nodata")
"""Attributes that name a stored number without data."""


@dataclass(frozen=True, kw_only=True)
class StoredArray:
    """An array as a file."""

    path: Path
    sha256: str
    """Of the pixels and what the array says about them."""
    time: str | None
    """Its one ``time``."""


def is_array(value: Any) -> bool:
    """Whether it is a DataArray or a Dataset; xarray isn't loaded to find out."""
    return type(value).__module__.partition(".")[0] == "xarray"


def store_array(
    value: Any, modality: str, aoi: AOI | None = None, gsd: float | None = None
) -> StoredArray:
    """Write an array, or the part of it that an AOI needs.

    Args:
        value: DataArray of bands, or Dataset of one variable per band or, as `Chip.dataset`, of
            the variables ``optical`` and ``sar``.
        modality: ``optical`` or ``sar``.
        aoi: The area; None = all of it.
        gsd: Pixel size of the chip in metres, where it is known.

    Raises:
        GridMismatch: It has no place on the Earth.
        LoadError: It isn't made of bands, rows and columns of numbers, lies outside the AOI, or
            can't be written.
    """
    bands = _bands(value, modality)
    grid = _grid(bands[0][1], modality)
    rows, columns = _window(grid, aoi, gsd, modality)
    pixels = np.stack([_values(band, rows, columns) for _, band in bands])
    if grid.affine.e > 0:  # south first, as CF files often are
        pixels = pixels[:, ::-1]
    cut = _cut(grid, rows, columns)
    about = [_about(name, band, modality) for name, band in bands]
    head = f"{pixels.dtype}{pixels.shape}|{cut.crs}|{tuple(cut.affine)[:6]}|{about}|"
    digest = hashlib.sha256(head.encode())
    digest.update(np.ascontiguousarray(pixels).tobytes())
    kept = KeptArrays.from_settings()
    path = kept.path(modality, digest.hexdigest())
    if path.is_file():
        use_array(path)
    else:
        _write(path, pixels, cut, about)
        kept.sweep()
    return StoredArray(path=path, sha256=digest.hexdigest(), time=_time(value))


def _bands(value: Any, modality: str) -> list[tuple[str, xarray.DataArray]]:
    """The bands with their names, each (y, x)."""
    if hasattr(value, "data_vars") and modality not in value.data_vars:
        found = [
            (str(name), each.squeeze(_single(each)))
            for name, each in value.data_vars.items()
            if each.ndim >= 2 and each.dtype != bool and band_name(str(name)) not in MASKS
        ]
    else:
        array = value[modality] if hasattr(value, "data_vars") else value
        found = _layers(array.squeeze(_single(array)))
    kinds = {"whole" if each.dtype.kind in "iu" else each.dtype.kind for _, each in found}
    if any(each.ndim != 2 for _, each in found) or len(kinds) != 1 or not kinds & {"whole", "f"}:
        sizes = ", ".join(
            f"{name or 'array'} {dict(each.sizes)} {each.dtype}" for name, each in found
        )
        raise LoadError(
            f"The {modality} array isn't made of bands, rows and columns of one kind of numbers.",
            found=sizes or "no band",
            change="one time, .isel(time=0), and bands that are all whole numbers or all reals",
        )
    return found


def _single(array: xarray.DataArray) -> list[Any]:
    """Dimensions of one entry that are neither rows nor columns."""
    spatial = _spatial(array)
    return [dim for dim, size in array.sizes.items() if size == 1 and dim not in spatial]


def _spatial(array: xarray.DataArray) -> tuple[Any, ...]:
    """Names of rows and columns."""
    return tuple(_odc(array).spatial_dims or array.dims[-2:])


def _odc(array: xarray.DataArray) -> Any:
    """odc-geo's view of an array: where its rows and columns lie."""
    import odc.geo.xr  # noqa: F401  gives arrays their .odc

    with placeless():  # which restores the filters of warnings
        # odc-geo multiplies affines in the way that affine 3 is about to give up.
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        return array.odc


def _layers(array: xarray.DataArray) -> list[tuple[str, xarray.DataArray]]:
    """Cut along the one dimension that isn't rows or columns."""
    others = [dim for dim in array.dims if dim not in _spatial(array)]
    long_name = array.attrs.get("long_name")
    if len(others) != 1:
        scalar = next((array.coords[n].item() for n in ("band", "polarisation")
                       if n in array.coords and array.coords[n].ndim == 0), None)  # fmt: skip
        return [(str(scalar if isinstance(scalar, str) else array.name or ""), array)]
    named: Sequence[Any] = list(array.coords[others[0]].values) if others[0] in array.coords else ()
    if not any(isinstance(name, str) for name in named):  # numbers, as rioxarray gives
        named = long_name if isinstance(long_name, tuple | list) else ()
    names = [str(name) for name in named] if len(named) == array.sizes[others[0]] else None
    return [
        (names[number] if names else "", array.isel({others[0]: number}))
        for number in range(array.sizes[others[0]])
    ]


def _grid(band: xarray.DataArray, modality: str) -> GeoBox:
    from odc.geo.geobox import GeoBox

    try:
        grid = _odc(band).geobox
    except ValueError:  # rows or columns without a step
        grid = None
    found = "no even rows and columns"
    if isinstance(grid, GeoBox) and _even(band, grid):
        if grid.crs is not None:
            return grid
        found = "no CRS"
    raise GridMismatch(
        f"The {modality} array has no place on the Earth.",
        found=found,
        change="array.odc.assign_crs('EPSG:32630') or array.rio.write_crs('EPSG:32630')",
    )


def _even(band: xarray.DataArray, grid: GeoBox) -> bool:
    """Whether the coordinates are the grid's all along: odc-geo looks at the first step only."""
    a = grid.affine
    if a.b or a.d:  # then coordinates are numbers of pixels
        return True
    for dim, start, step in zip(_spatial(band), (a.f, a.c), (a.e, a.a), strict=True):
        if dim in band.coords:
            expected = start + (np.arange(band.sizes[dim]) + 0.5) * step
            if not np.allclose(band.coords[dim], expected, rtol=0, atol=0.01 * abs(step)):
                return False
    return True


def _window(grid: GeoBox, aoi: AOI | None, gsd: float | None, modality: str) -> tuple[slice, slice]:
    """Rows and columns to keep: those of the AOI and a margin."""
    height, width = grid.shape
    if aoi is None and max(height, width) * gsd_of(grid) > MAX_SIDE_PX * (gsd or gsd_of(grid)):
        raise LoadError(  # before anything lazy is computed
            f"The {modality} array holds more than one chip.",
            found=f"{width} x {height} px, at most {MAX_SIDE_PX} on a side",
            change="aoi= with a part of it, or a coarser gsd=",
        )
    if aoi is None or grid.affine.b or grid.affine.d:
        return slice(0, height), slice(0, width)
    cut = snap_to(grid, aoi.geometry)
    left = round((cut.affine.c - grid.affine.c) / grid.affine.a)
    top = round((cut.affine.f - grid.affine.f) / grid.affine.e)
    margin = MARGIN_PX + math.ceil(2 * (gsd or 0) / gsd_of(grid))
    rows = slice(max(0, top - margin), min(height, top + cut.shape[0] + margin))
    columns = slice(max(0, left - margin), min(width, left + cut.shape[1] + margin))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        raise outside(f"{modality} array", outline(grid), aoi)
    return rows, columns


def _cut(grid: GeoBox, rows: slice, columns: slice) -> GeoBox:
    """A part of a grid, north first."""
    from affine import Affine
    from odc.geo.geobox import GeoBox

    a, turned = grid.affine, grid.affine.e > 0
    x, y = a @ (columns.start, rows.stop if turned else rows.start)
    down = (-a.b, -a.e) if turned else (a.b, a.e)
    affine = Affine(a.a, down[0], x, a.d, down[1], y)
    return GeoBox((rows.stop - rows.start, columns.stop - columns.start), affine, grid.crs)


def _values(band: xarray.DataArray, rows: slice, columns: slice) -> NDArray[Any]:
    y, x = _spatial(band)
    values = np.asarray(band.transpose(y, x).isel({y: rows, x: columns}).values)
    return values.astype(np.float32) if values.dtype == np.float16 else values


def _about(name: str, band: xarray.DataArray, modality: str) -> dict[str, Any]:
    """What a band says about itself: the attributes that CF, rioxarray and odc-stac write."""
    attrs = band.attrs
    long_name = attrs.get("long_name") if modality == "sar" else None
    fills = [attrs[key] for key in FILLS if key in attrs and np.ndim(attrs[key]) == 0]
    return {
        # The quantity of backscatter stands in the long name, as `Chip.dataset` writes it.
        "description": f"{long_name if isinstance(long_name, str) else ''} {name}".strip(),
        "unit": str(attrs.get("units") or ""),
        "scale": float(attrs.get("scale_factor", 1.0)),
        "offset": float(attrs.get("add_offset", 0.0)),
        "fill": float(fills[0]) if fills else None,
    }


def _write(
    path: Path, pixels: NDArray[Any], grid: GeoBox, about: Sequence[Mapping[str, Any]]
) -> None:
    """(band, y, x) as a GeoTIFF; the file appears complete or not at all."""
    import rasterio

    fills = {each["fill"] for each in about} - {None}
    if len({str(fill) for fill in fills}) > 1:
        raise LoadError(
            "The bands of the array declare different fill values.",
            found=", ".join(map(str, sorted(fills))),
            change="one _FillValue for all of them, or NaN",
        )
    draft = path.with_name(f"{path.name}.{uuid4().hex}{DRAFT}")
    count, height, width = pixels.shape
    options = {"driver": "GTiff", "compress": "deflate", "tiled": True, "BIGTIFF": "IF_SAFER"}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with placeless(), rasterio.open(
            draft, "w", dtype=pixels.dtype.name, count=count, height=height, width=width,
            crs=str(grid.crs), transform=grid.affine, nodata=next(iter(fills), None), **options,
        ) as target:  # fmt: skip
            target.write(pixels)
            target.descriptions = [each["description"] for each in about]
            target.units = [each["unit"] for each in about]
            target.scales = [each["scale"] for each in about]
            target.offsets = [each["offset"] for each in about]
        draft.replace(path)
    except (OSError, rasterio.errors.RasterioError) as error:
        raise LoadError(
            "The array can't be kept as a file.",
            found=f"{path}: {error}",
            change="EARTHMIND_HOME with a folder that can be written",
        ) from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _time(value: Any) -> str | None:
    """The one time of an array, UTC; None where it has none or several."""
    if "time" not in value.coords or value.coords["time"].size != 1:
        return None
    when = value.coords["time"].values.reshape(())
    return f"{np.datetime_as_string(when, unit='us')}Z" if when.dtype.kind == "M" else str(when)
