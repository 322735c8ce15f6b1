"""Which band of a file of the user's own is which: by what the caller says, else by its names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from earthmind_lab.bands import MASKS, OPTICAL_BANDS, SAR_BANDS
from earthmind_lab.data.own_header import FileBand, Header
from earthmind_lab.data.recognise import band_name
from earthmind_lab.errors import LoadError

BandsLike: TypeAlias = "str | Sequence[str] | Mapping[str, int | str]"
"""Names in the file's order, or {name: number or name in the file}."""
NAMES: Mapping[str, tuple[str, ...]] = {
    "optical": tuple(band.name for band in OPTICAL_BANDS if band.name not in MASKS),
    "sar": tuple(band.name for band in SAR_BANDS),
}
"""What a band can be, by modality, in the order of a chip."""
_NUMBER = re.compile(r"B0?(\d{1,2}A?)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class GivenBand:
    """One band, as the caller names it."""

    name: str
    """Ours."""
    place: int | str | None
    """Number or name in the file; None = its place in the list."""
    numbered: bool
    """Whether it was called by Sentinel-2's number."""


@dataclass(frozen=True, kw_only=True)
class NamedBands:
    """The bands of one modality in one file."""

    header: Header
    bands: Mapping[str, FileBand]
    """Our name to the band."""
    numbered: bool = False
    """Whether Sentinel-2's numbers named them."""


def parse_bands(bands: BandsLike | None) -> tuple[GivenBand, ...]:
    """What a caller says of the bands; empty = nothing.

    Args:
        bands: As `BandsLike`; as one text with commas: ``"red,nir"``, ``"red=3,nir=4"``.

    Raises:
        LoadError: No name of a band, or one twice.

    >>> [(band.name, band.place) for band in parse_bands("B4=1,nir=2")]
    [('red', 1), ('nir', 2)]
    """
    if isinstance(bands, str):
        words = [word.strip() for word in bands.split(",")]
        parts = [word.partition("=") for word in words]
        placed = all(mark for _, mark, _ in parts)
        bands = {name.strip(): place.strip() for name, _, place in parts} if placed else words
    pairs = list(bands.items()) if isinstance(bands, Mapping) else [(n, None) for n in bands or ()]
    found = tuple(_given(name, place) for name, place in pairs)
    names = [band.name for band in found]
    if len(set(names)) < len(names):
        raise LoadError("bands= names a band twice.", found=", ".join(names)).asking("bands")
    return found


def name_bands(
    header: Header, modality: str, given: Sequence[GivenBand], *, shared: bool = False
) -> NamedBands:
    """The bands of a file that are of one modality.

    Args:
        header: The file.
        modality: ``optical`` or ``sar``.
        given: What `parse_bands` gave.
        shared: Whether the file holds the other modality, too.

    Raises:
        LoadError: Nothing says which band is which, or what is said doesn't fit the file.
    """
    own = [band for band in given if band.name in NAMES[modality]]
    if not own:
        return _by_description(header, modality)
    if any(band.place is None for band in own):
        listed = list(given) if shared else own
        if len(listed) != len(header.bands):
            raise LoadError(
                f"bands= names {len(listed)} bands, but {header.name} has {len(header.bands)}.",
                found=header.listed,
                change="one name per band in the file's order, or those you want by number: "
                "bands={'red': 3, 'nir': 4}",
            ).asking("bands")
        bands = {band.name: header.bands[listed.index(band)] for band in own}
    else:
        bands = {band.name: _placed(header, band) for band in own}
    return NamedBands(header=header, bands=bands, numbered=any(band.numbered for band in own))


def _given(name: str, place: int | str | None) -> GivenBand:
    ours = band_name(str(name), numbered=True)
    if ours is None or ours not in {*NAMES["optical"], *NAMES["sar"]}:
        raise LoadError(
            f"bands= names {name!r}, which is no band.",
            change=f"{', '.join((*NAMES['optical'], *NAMES['sar']))}, or Sentinel-2's B1 to B12",
        ).asking("bands")
    place = int(place) if isinstance(place, str) and place.isdigit() else place
    return GivenBand(name=ours, place=place, numbered=bool(_NUMBER.fullmatch(str(name))))


def _placed(header: Header, given: GivenBand) -> FileBand:
    """The band at a number, or of a name in the file."""
    for band in header.bands:
        if given.place in (band.number, band.description or None):
            return band
    raise LoadError(
        f"The file {header.name} has no band {given.place!r} to be {given.name!r}.",
        found=header.listed,
    ).asking("bands")


def _by_description(header: Header, modality: str) -> NamedBands:
    described = {band: band.description for band in header.bands if band.description}
    numbers = {found[1].upper() for found in map(_NUMBER.fullmatch, described.values()) if found}
    sentinel_2 = _sentinel_2(numbers)
    named = [(_name(text, sentinel_2), band) for band, text in described.items()]
    own = [(name, band) for name, band in named if name in NAMES[modality]]
    bands = dict(own)
    if not bands or len(bands) < len(own):
        lacks = "names that tell which is which" if not bands else "one band of each name"
        raise LoadError(
            f"The {'SAR' if modality == 'sar' else modality} file {header.name} lacks {lacks}.",
            found=header.listed,
            change=_EXAMPLES[modality],
        ).asking("bands")
    numbered = sentinel_2 and any(_NUMBER.fullmatch(band.description) for band in bands.values())
    return NamedBands(header=header, bands=bands, numbered=numbered)


_EXAMPLES = {
    "optical": "bands=('blue', 'green', 'red', 'nir') in the file's order (Sentinel-2's B2 and its "
    "like count, too), or bands={'red': 3, 'nir': 4} by number",
    "sar": "bands=('vv', 'vh') in the file's order, or bands={'vv': 1} by number",
}


def _sentinel_2(numbers: set[str]) -> bool:
    """Whether B2, B3, … are Sentinel-2's: Landsat's mean other bands from B1 or B5 on.

    Only Sentinel-2 has 8A and 12, and nobody exports Landsat's panchromatic B8 without any of
    the bands that lie beside it.
    """
    plain = {number.lstrip("0") for number in numbers}
    return bool(plain & {"8A", "12"}) or ("8" in plain and not plain & {"5", "6", "7"})


def _name(text: str, sentinel_2: bool) -> str | None:
    """Our name by the one in a file: GEE's ``B8``, ``VV``; SNAP's ``Sigma0_VV_db``."""
    found = band_name(text, numbered=sentinel_2)
    if found is not None:
        return found
    words = {word.lower() for word in re.split(r"[^A-Za-z0-9]+", text)}
    polarisations = words & set(NAMES["sar"])
    return polarisations.pop() if len(polarisations) == 1 else None
