"""From files of the user's own and what is declared about them to a STAC item.

The item says what any catalog would have to say, so that one set of rules reads them all. What
nobody declares is refused here, with the argument of `open_chip` that declares it.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from earthmind_lab.data.assets import AssetRef
from earthmind_lab.data.backscatter import stated_in_band
from earthmind_lab.data.own_bands import NamedBands
from earthmind_lab.data.own_header import FileBand, box_text, outline, overlap
from earthmind_lab.errors import GridMismatch, LoadError, RadiometryUnknown
from earthmind_lab.grid import gsd_of
from earthmind_lab.scene import ANY_TIME

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

OPTICAL_WORDS = (
    "optical_scale=0.0001 with optical_offset=-0.1 (Sentinel-2 since baseline 04.00) or 0 (before, "
    "and collections that call themselves harmonised); optical_scale=2.75e-05 with "
    "optical_offset=-0.2 (Landsat Collection 2 Level 2)"
)
PICTURE_WORDS = (
    "optical_scale=1/255 with optical_offset=0 where the 8 bits are reflectance; a plain picture "
    "goes to em.ask('picture.png', …)"
)
SAR_WORDS = (
    "sar_quantity='sigma0', 'gamma0' or 'gamma0_rtc', and sar_scale='dB', 'power' or 'amplitude'; "
    "a Google Earth Engine export of COPERNICUS/S1_GRD is sigma0 in dB"
)


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What the caller says about the numbers of one modality; None = nothing."""

    scale: float | None = None
    """Reflectance per number of the file."""
    offset: float | None = None
    """Added to number x scale."""
    level: Literal["TOA", "SR"] | None = None
    quantity: Literal["sigma0", "gamma0", "gamma0_rtc"] | None = None
    convention: Literal["dB", "power", "amplitude"] | None = None
    nodata: float | None = None

    def __post_init__(self) -> None:
        choices = {
            "optical_level": (self.level, ("TOA", "SR")),
            "sar_quantity": (self.quantity, ("sigma0", "gamma0", "gamma0_rtc")),
            "sar_scale": (self.convention, ("dB", "power", "amplitude")),
        }
        for name, (value, known) in choices.items():
            if value is not None and value not in known:
                raise RadiometryUnknown(
                    f"{name}={value!r} is not known.", change=" or ".join(map(repr, known))
                )
        numbers = {"optical_scale": self.scale, "optical_offset": self.offset}
        for name, number in numbers.items():
            if number is not None and not math.isfinite(number):
                raise RadiometryUnknown(f"{name}={number!r} is no number.", change=OPTICAL_WORDS)
        if self.scale is not None and self.scale <= 0:
            raise RadiometryUnknown(f"optical_scale={self.scale!r} makes no reflectance.")


def item_of(
    modality: str,
    files: Sequence[NamedBands],
    declared: Declared,
    times: Mapping[str, str],
    *,
    name: str,
) -> dict[str, Any]:
    """The STAC item of one modality.

    Args:
        modality: ``optical`` or ``sar``.
        files: One of several bands, or some with one band each.
        declared: What the caller says.
        times: As `times_of` gives them.
        name: Id of the item.

    Raises:
        GridMismatch: A file's outline has no place in lon/lat.
        LoadError: The files of the bands don't overlap.
        RadiometryUnknown: Undeclared numbers, or declarations that contradict each other.
    """
    shape = _footprint(files, name)
    properties: dict[str, Any] = dict(times)
    if any(file.numbered for file in files):
        properties["instruments"] = ["msi"]
    if declared.level is not None:
        properties["processing:level"] = {"TOA": "L1", "SR": "L2"}[declared.level]
    if modality == "sar":
        properties |= _card4l(files, declared)
    keys = [modality] if len(files) == 1 else [next(iter(file.bands)) for file in files]
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": name,
        "geometry": shape.__geo_interface__,
        "bbox": list(shape.bounds),
        "properties": properties,
        "assets": {
            key: _asset(modality, file, declared) for key, file in zip(keys, files, strict=True)
        },
        "links": [],
    }


def _footprint(files: Sequence[NamedBands], name: str) -> BaseGeometry:
    """Where all files of a modality have pixels, in lon/lat."""
    outlines = [outline(file.header.grid) for file in files]
    if not all(math.isfinite(edge) for shape in outlines for edge in shape.bounds):
        raise GridMismatch(f"The outline of {name} has no place in lon/lat.")
    shape = overlap(outlines)
    if shape.is_empty:
        found = ", ".join(
            f"{file.header.name} {box_text(shape.bounds)}"
            for file, shape in zip(files, outlines, strict=True)
        )
        raise LoadError("The files of the bands don't overlap.", found=found)
    return shape


def times_of(value: Any) -> dict[str, str]:
    """The time of a scene as properties of its item; of any time where it is None.

    Args:
        value: An instant, a day, ``"A/B"``; text, or an object of datetime, numpy or pandas.

    Raises:
        LoadError: No time, or one that ends before it starts.
    """
    if value is None:
        first, last = (moment.isoformat() for moment in ANY_TIME)
        return {"start_datetime": first, "end_datetime": last}
    text = value.isoformat() if isinstance(value, dt.date) else str(value).strip()
    parts = [part.strip() for part in text.split("/")]
    moments = list(filter(None, map(_moment, parts)))
    if len(parts) > 2 or len(moments) < len(parts) or moments != sorted(moments):
        raise LoadError(
            f"datetime={text!r} is no time.",
            change="datetime='2019-09-17T06:10:00Z', a day, 'A/B' where only an interval is known, "
            "or {'optical': …, 'sar': …}",
        ).asking("datetime")
    if len(parts) == 1:
        return {"datetime": parts[0]}
    return {"start_datetime": parts[0], "end_datetime": parts[1]}


def _moment(text: str) -> dt.datetime | None:
    try:
        moment = dt.datetime.fromisoformat(text)
        return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        return None


def _asset(modality: str, file: NamedBands, declared: Declared) -> dict[str, Any]:
    names = {band.number: name for name, band in file.bands.items()}
    entries = []
    for band in file.header.bands:
        entry: dict[str, Any] = {"name": names.get(band.number, f"band {band.number}")}
        if band.number in names and np.dtype(band.dtype).kind == "c":
            raise RadiometryUnknown(
                f"The numbers in {file.header.name} are complex: amplitude and phase.",
                found=f"band {band} of {band.dtype}",
                change="a detected, calibrated and terrain-corrected file",
            )
        if band.number in names and modality == "optical":
            entry |= _reflectance(file, band, declared)
        elif band.number in names:
            _check_calibrated(file, band)
        entries.append(entry if declared.nodata is None else entry | {"nodata": declared.nodata})
    # Two digits: degrees make odd metres, and 9.98 m were meant as 10.
    gsd = float(f"{gsd_of(file.header.grid):.2g}")
    return {"href": file.header.href, "roles": ["data"], "gsd": gsd, "bands": entries}


def _reflectance(file: NamedBands, band: FileBand, declared: Declared) -> dict[str, float]:
    """Scale and offset of an optical band; empty where its numbers are reflectance as they are."""
    name, whole = file.header.name, np.dtype(band.dtype).kind in "iu"
    # GDAL says offset 0 where a file gives a scale alone.
    stated_scale, stated_offset = band.scaling or (None, None)
    for argument, ours, theirs in (
        ("optical_scale", declared.scale, stated_scale),
        ("optical_offset", declared.offset, stated_offset or None),
    ):
        if ours is not None and theirs is not None and not math.isclose(ours, theirs, rel_tol=1e-6):
            raise RadiometryUnknown(
                f"{argument}={ours:g} contradicts the file {name}.",
                found=f"{theirs:g} in the metadata of band {band}",
                change=f"no {argument}, or a file without that metadata",
            ).asking(argument)
    scale = declared.scale if stated_scale is None else stated_scale
    if file.numbered and not stated_offset:
        stated_offset = None  # Sentinel-2's can be either
    offset = stated_offset if declared.offset is None else declared.offset
    if whole and scale is None:
        raise RadiometryUnknown(
            f"The numbers in {name} have no declared scale, so they are not reflectance.",
            found=f"band {band} of {band.dtype}",
            change=PICTURE_WORDS if band.dtype == "uint8" else OPTICAL_WORDS,
        ).asking("optical_scale", "optical_offset")
    if scale is None:
        return {} if offset is None else {"scale": 1.0, "offset": offset}
    if offset is None and scale != 1.0:
        raise RadiometryUnknown(
            f"The numbers in {name} have a scale, but no declared offset.",
            found=f"scale {scale:g}",
            change=OPTICAL_WORDS,
        ).asking("optical_offset")
    return {"scale": scale, "offset": offset or 0.0}


def _check_calibrated(file: NamedBands, band: FileBand) -> None:
    if np.dtype(band.dtype).kind in "iu" and band.scaling is None:
        raise RadiometryUnknown(
            f"The numbers in {file.header.name} are not calibrated backscatter.",
            found=f"band {band} of {band.dtype} without a scale",
            change="a calibrated file (SNAP: Radiometric > Calibrate), or scale and offset in the "
            "metadata of its bands where it holds backscatter as whole numbers",
        )


def _card4l(files: Sequence[NamedBands], declared: Declared) -> dict[str, str]:
    """Quantity and convention for the item: the caller's word, else the bands' own."""
    said: dict[str, set[str]] = {"sar_quantity": set(), "sar_scale": set()}
    for file in files:
        for band in file.bands.values():
            for argument, value in zip(said, _stated(band), strict=True):
                said[argument] |= {value} if value else set()
    ours = {"sar_quantity": declared.quantity, "sar_scale": declared.convention}
    bands = ", ".join(f"{band}{band.unit and ' in ' + band.unit}" for file in files
                      for band in file.bands.values())  # fmt: skip
    name = files[0].header.name
    for argument, value in ours.items():
        if len(said[argument] | ({value} - {None})) > 1 and not _finer(value, said[argument]):
            also = ", ".join(sorted(said[argument]))
            raise RadiometryUnknown(
                f"{argument}={value!r} contradicts the file {name}."
                if value
                else f"The polarisations of {name} declare different backscatter.",
                found=f"{also} by its bands {bands}",
                change=f"the {argument} that the numbers have, or a file that says the same",
            ).asking(argument)
    both = {argument: value or next(iter(said[argument]), None) for argument, value in ours.items()}
    lacking = [argument for argument, value in both.items() if value is None]
    if lacking:
        raise RadiometryUnknown(
            f"The numbers in {name} have no declared meaning.",
            found=f"bands {bands}; not declared: {', '.join(lacking)}",
            change=SAR_WORDS,
        ).asking(*lacking)
    quantity, convention = both.values()
    return {
        "card4l:measurement_type": str(quantity),
        "card4l:measurement_convention": str(convention),
    }


def _finer(value: str | None, said: set[str]) -> bool:
    """A file says gamma0 of flattened backscatter, too: the caller may know better."""
    return value == "gamma0_rtc" and said == {"gamma0"}


def _stated(band: FileBand) -> tuple[str | None, str | None]:
    """Quantity and convention by unit and name: ``intensity_db``, ``Sigma0_VV_db``."""
    unit = band.unit or ("dB" if band.description.lower().endswith("_db") else "")
    fields = {"unit": unit, "description": band.description}
    ref = AssetRef(item={}, key="", asset={}, href="", band="", fields=fields)
    return stated_in_band(ref)
