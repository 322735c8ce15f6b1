"""Which sensor a STAC item is of, and which of its assets hold which band.

A sensor is recognised from what the item says (constellation, platform, instruments, ``sar:*``
and ``card4l:*`` fields) and from its asset keys. A collection id only helps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from earthmind_lab.sensors import MASKS, OPTICAL_BANDS, SAR_BANDS, SENSORS, Modality

_NAMES = {alias: b.name for b in (*OPTICAL_BANDS, *SAR_BANDS) for alias in (b.name, *b.aliases)}
_S2_NUMBERS = dict(
    zip(
        ("1", "2", "3", "4", "5", "6", "7", "8", "8a", "9", "10", "11", "12"),
        (band.name for band in OPTICAL_BANDS),
        strict=False,
    )
)
_NOT_DATA_ROLES = {"thumbnail", "overview", "tiles", "visual"}
_NOT_DATA_TYPES = ("xml", "json", "html", "png", "jpeg", "text/", "pdf", "zip")


def bands_of(item: Mapping[str, Any]) -> dict[str, str]:
    """Our band names and the asset keys that hold them.

    A key outranks a band's name and common name, a finer ``_10m`` key a coarser one, a GeoTIFF
    a JPEG 2000. A file of several bands counts only where no file of one band does: beside those
    it is a picture made of them. Sentinel-2's band numbers count only where the item isn't of
    another satellite.

    >>> bands_of({"assets": {"B04": {"href": "a.tif"}, "visual": {"href": "b.tif"}}})
    {'red': 'B04'}
    """
    numbered = "other" not in _satellites(item)
    best: dict[str, tuple[tuple[int, int, str], str]] = {}
    for key, asset in _data_assets(item):
        for rank, name in enumerate(_names(key, asset, numbered)):
            if name is not None:
                place = (rank, int("jp2" in str(asset.get("type", asset["href"])).lower()), key)
                best[name] = min(best.get(name, (place, key)), (place, key))
                break
    held = {name: key for name, (_, key) in best.items()}
    if set(held) <= set(MASKS):
        for key, asset in _data_assets(item):
            for name in _stacked(asset, numbered):
                held.setdefault(name, key)
    return dict(sorted(held.items()))


def band_place(item: Mapping[str, Any], asset: Mapping[str, Any], band: str) -> tuple[int, int]:
    """Where a band lies in the file of one of the item's assets.

    Returns:
        Its number from 1, and how many bands the asset lists (1 where it lists none).

    >>> band_place({}, {"href": "a.tif", "bands": [{"name": "red"}, {"name": "nir"}]}, "nir")
    (2, 2)
    """
    places = _stacked(asset, "other" not in _satellites(item))
    return places.get(band, 1), max(1, len(_listed(asset)))


def band_named(text: str, item: Mapping[str, Any]) -> str | None:
    """The band that a file's own name for it means; None where it means none of ours.

    >>> band_named("B8A", {}), band_named("Sigma0_VV", {}), band_named("elevation", {})
    ('nir08', 'vv', None)
    """
    return _name(text, "other" not in _satellites(item))


def band_name(text: str, *, numbered: bool = False) -> str | None:
    """Our name of a band or polarisation that goes by this name elsewhere; None = unknown.

    Args:
        text: Such as ``Red``, ``swir1``, ``VV``, ``Sigma0_VV``.
        numbered: Whether ``B4`` and its like count, as Sentinel-2's.

    >>> band_name("B8A", numbered=True), band_name("Gamma0_VH"), band_name("B8A")
    ('nir08', 'vh', None)
    """
    return _name(text, numbered)


def recognise(item: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The products in a STAC item: sensor key to {band name: asset key}.

    Empty for anything without a spectral band or a polarisation, such as land-cover labels.
    An item that mixes both kinds and says neither gives one entry per kind.
    """
    bands = bands_of(item)
    polarisations = {b.name for b in SAR_BANDS}
    sar = {name: key for name, key in bands.items() if name in polarisations}
    optical = {name: key for name, key in bands.items() if name not in polarisations}
    satellites = _satellites(item)
    if sar and ("sentinel-1" in satellites or _radar_fields(item)):
        return {_sar_key(item, satellites): sar}
    found: dict[str, dict[str, str]] = {}
    if set(optical) - set(MASKS):
        found[_optical_key(item, satellites, optical)] = optical
    if sar and "sentinel-2" not in satellites:
        found[_sar_key(item, satellites)] = sar
    return found


def item_field(item: Mapping[str, Any], *names: str) -> Any:
    """The first of these properties that the item or one of its assets gives, else None."""
    assets = item.get("assets")
    holders = [item.get("properties")]
    holders += list(assets.values()) if isinstance(assets, Mapping) else []
    for holder in holders:
        for name in names:
            if isinstance(holder, Mapping) and holder.get(name) is not None:
                return holder[name]
    return None


def _plain(text: object) -> str:
    return re.sub(r"[-_\s]", "", str(text).lower())


def _names(key: str, asset: Mapping[str, Any], numbered: bool) -> Iterator[str | None]:
    """What an asset may hold, surest first: by key, by finer-to-coarser key, by band."""
    suffix = re.fullmatch(r"(.+)_(10|20|60)m", key.lower())
    yield None if suffix else _name(key, numbered)
    for gsd in ("10", "20", "60"):
        yield _name(suffix[1], numbered) if suffix and suffix[2] == gsd else None
    bands = _listed(asset) or [asset]
    if len(bands) == 1:
        yield from _band_names(bands[0], numbered)
        yield from _polarisation(asset)


def _listed(asset: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The bands that an asset says its file has."""
    bands = asset.get("bands") or asset.get("eo:bands") or []
    bands = bands if isinstance(bands, list) else []
    return [band if isinstance(band, Mapping) else {} for band in bands]


def _stacked(asset: Mapping[str, Any], numbered: bool) -> dict[str, int]:
    """The bands of a file that holds several, and their numbers from 1."""
    bands, places = _listed(asset), dict[str, int]()
    for number, band in enumerate(bands, start=1) if len(bands) > 1 else ():
        name = next(filter(None, _band_names(band, numbered)), None)
        if name is not None:
            places.setdefault(name, number)
    return places


def _band_names(band: Mapping[str, Any], numbered: bool) -> Iterator[str | None]:
    """What a band may be, surest first."""
    yield _name(band.get("name"), numbered)
    for field in ("common_name", "eo:common_name"):
        yield _name(band.get(field), numbered=False)
    # "rededge" alone names three bands: the wavelength (micrometres) tells which.
    if "rededge" in (band.get("common_name"), band.get("eo:common_name")):
        yield _by_wavelength(band.get("center_wavelength", band.get("eo:center_wavelength")))
    yield from _polarisation(band)


def _polarisation(holder: Mapping[str, Any]) -> Iterator[str | None]:
    polarisations = holder.get("sar:polarizations")
    if isinstance(polarisations, list) and len(polarisations) == 1:
        yield _name(polarisations[0], numbered=False)


def _name(text: object, numbered: bool) -> str | None:
    plain = _plain(text) if text else ""
    number = re.fullmatch(r"b0?(\d{1,2}a?)", plain)
    if number and numbered:
        return _S2_NUMBERS.get(number[1])
    return _NAMES.get(plain)


def _by_wavelength(micrometres: object) -> str | None:
    if not isinstance(micrometres, int | float):
        return None
    rededges = [b for b in OPTICAL_BANDS if b.name.startswith("rededge")]
    nearest = min(rededges, key=lambda b: abs((b.wavelength_nm or 0) - 1000 * micrometres))
    return nearest.name


def _data_assets(item: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    assets = item.get("assets")
    for key, asset in assets.items() if isinstance(assets, Mapping) else ():
        if not isinstance(asset, Mapping) or not isinstance(asset.get("href"), str):
            continue
        roles = set(asset.get("roles") or ()) if isinstance(asset.get("roles"), list) else set()
        kind = str(asset.get("type") or "").lower()
        if "data" not in roles and roles & _NOT_DATA_ROLES:
            continue
        if not any(part in kind for part in _NOT_DATA_TYPES):
            yield str(key), asset


def _satellites(item: Mapping[str, Any]) -> set[str]:
    """``sentinel-1``, ``sentinel-2``, ``other``, as far as the item says so."""
    properties = item.get("properties")
    properties = properties if isinstance(properties, Mapping) else {}
    instruments = properties.get("instruments")
    said = [properties.get("constellation"), properties.get("platform")]
    said += instruments if isinstance(instruments, list) else []
    found = set()
    for text in (_plain(value) for value in said if value):
        if re.match(r"sentinel1|s1[abcd]?$|csar$", text):
            found.add("sentinel-1")
        elif re.match(r"sentinel2|s2[abcd]?$|msi$", text):
            found.add("sentinel-2")
        else:
            found.add("other")
    if not found:
        match = re.match(r"sentinel-?s?([12])(?!\d)", str(item.get("collection") or "").lower())
        found |= {f"sentinel-{match[1]}"} if match else set()
    return found - {"other"} or found


def _radar_fields(item: Mapping[str, Any]) -> bool:
    properties = item.get("properties")
    return any(str(name).startswith("sar:") for name in properties or ())


def _known_collection(item: Mapping[str, Any], modality: Modality) -> str | None:
    collection = str(item.get("collection") or "").lower()
    for sensor in SENSORS.values():
        if sensor.modality == modality and collection in sensor.collections:
            return sensor.key
    return None


def _optical_key(item: Mapping[str, Any], satellites: set[str], bands: Mapping[str, str]) -> str:
    known = _known_collection(item, "optical")
    numbers = any(re.fullmatch(r"B(\d\d|8A).*", key) for key in bands.values())
    sentinel_2 = "sentinel-2" in satellites or (not satellites and (numbers or "scl" in bands))
    if not sentinel_2:
        return known if known and not satellites else "optical"
    said = " ".join(
        str(value or "")
        for value in (
            item_field(item, "s2:product_type", "product:type"),
            item_field(item, "processing:level"),
            item.get("collection"),
            item.get("id"),
        )
    ).upper()
    if known:
        return known
    if "scl" in bands or re.search(r"L2A|MSI2A|\bL2\b", said):
        return "sentinel-2-l2a"
    return "sentinel-2-l1c" if re.search(r"L1C|MSI1C|\bL1\b", said) else "sentinel-2"


def _sar_key(item: Mapping[str, Any], satellites: set[str]) -> str:
    """The quantity comes from card4l fields, then the known collection, then calibration files."""
    family = "sentinel-1" if "sentinel-1" in satellites else "sar"
    prefixes = ("card4l", "ceosard", "ceos-ard", "ceos_ard")
    measured = _plain(item_field(item, *(f"{p}:measurement_type" for p in prefixes)) or "")
    known = _known_collection(item, "sar")
    if measured.startswith("sigma"):
        return f"{family}-sigma0"
    if measured.startswith("gamma"):
        said = _plain(item_field(item, *(f"{p}:specification" for p in prefixes)) or "")
        terrain = known == "sentinel-1-rtc" or "nrb" in said or measured.endswith(("rtc", "0t"))
        return f"{family}-rtc" if terrain else f"{family}-gamma0"
    if measured:
        return family
    if known and family == "sentinel-1":
        return known
    assets = item.get("assets") or {}
    raw = any("calibration" in str(key).lower() for key in assets)
    return "sentinel-1-grd" if raw and family == "sentinel-1" else family
