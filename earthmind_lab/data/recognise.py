"""Which sensor a STAC item is of, and which of its assets hold which band.

A sensor is recognised from what the item says (constellation, platform, instruments, ``sar:*``
and ``card4l:*`` fields) and from its asset keys. A collection id only helps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from earthmind_lab.bands import MASKS, OPTICAL_BANDS, SAR_BANDS, plain
from earthmind_lab.sensors import SENSORS, Modality, Sensor

_WORDS = {
    **{plain(word): b.name for b in (*OPTICAL_BANDS, *SAR_BANDS) for word in (b.name, *b.aliases)},
    **{plain(mask): mask for mask in MASKS},
}
"""What every sensor's bands may be called."""
_NOT_DATA_ROLES = {"thumbnail", "overview", "tiles", "visual"}
_NOT_DATA_TYPES = ("xml", "json", "html", "png", "jpeg", "text/", "pdf", "zip")


def bands_of(item: Mapping[str, Any]) -> dict[str, str]:
    """Our band names and the asset keys that hold them.

    A key outranks a band's name and common name, a finer ``_10m`` key a coarser one, a GeoTIFF
    a JPEG 2000. A file of several bands counts only where no file of one band does: beside those
    it is a picture made of them. Band numbers are read as those of the item's sensor, and as
    Sentinel-2's where nothing says whose they are.

    >>> bands_of({"assets": {"B04": {"href": "a.tif"}, "visual": {"href": "b.tif"}}})
    {'red': 'B04'}
    """
    return _bands(item, _fit(item).words)


def band_place(item: Mapping[str, Any], asset: Mapping[str, Any], band: str) -> tuple[int, int]:
    """Where a band lies in the file of one of the item's assets.

    Returns:
        Its number from 1, and how many bands the asset lists (1 where it lists none).

    >>> band_place({}, {"href": "a.tif", "bands": [{"name": "red"}, {"name": "nir"}]}, "nir")
    (2, 2)
    """
    places = _stacked(asset, _fit(item).words)
    return places.get(band, 1), max(1, len(_listed(asset)))


def band_named(text: str, item: Mapping[str, Any]) -> str | None:
    """The band that a file's own name for it means; None where it means none of ours.

    >>> band_named("B8A", {}), band_named("Sigma0_VV", {}), band_named("elevation", {})
    ('nir08', 'vv', None)
    """
    return _name(text, _fit(item).words)


def band_name(text: str, *, numbered: bool = False) -> str | None:
    """Our name of a band or polarisation that goes by this name elsewhere; None = unknown.

    Args:
        text: Such as ``Red``, ``swir1``, ``VV``, ``Sigma0_VV``.
        numbered: Whether ``B4`` and its like count, as Sentinel-2's.

    >>> band_name("B8A", numbered=True), band_name("Gamma0_VH"), band_name("B8A")
    ('nir08', 'vh', None)
    """
    return _name(text, SENSORS["sentinel-2"].words | _WORDS if numbered else _WORDS)


def recognise(item: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The products in a STAC item: sensor key to {band name: asset key}.

    Empty for anything without a spectral band or a polarisation, such as land-cover labels.
    An item that mixes both kinds and says neither gives one entry per kind.
    """
    fit = _fit(item)
    bands = _bands(item, fit.words)
    polarisations = {b.name for b in SAR_BANDS}
    sar = {name: key for name, key in bands.items() if name in polarisations}
    optical = {name: key for name, key in bands.items() if name not in polarisations}
    if sar and (fit.radar is not None or _radar_fields(item)):
        return {_sar_key(item, fit.radar): sar}
    found: dict[str, dict[str, str]] = {}
    own_mask = fit.camera.mask.band if fit.camera and fit.camera.mask else None
    if set(optical) - {*MASKS, own_mask}:
        found[_optical_key(item, fit, optical)] = optical
    if sar and not (fit.camera and fit.camera.is_named(fit.said)):
        found[_sar_key(item, fit.radar)] = sar
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


_Words: TypeAlias = Mapping[str, str]
"""What the bands of an item may be called (`plain`), to their names."""


def _bands(item: Mapping[str, Any], words: _Words) -> dict[str, str]:
    best: dict[str, tuple[tuple[int, int, str], str]] = {}
    for key, asset in _data_assets(item):
        for rank, name in enumerate(_names(key, asset, words)):
            if name is not None:
                place = (rank, int("jp2" in str(asset.get("type", asset["href"])).lower()), key)
                best[name] = min(best.get(name, (place, key)), (place, key))
                break
    held = {name: key for name, (_, key) in best.items()}
    if set(held) <= set(MASKS):
        for key, asset in _data_assets(item):
            for name in _stacked(asset, words):
                held.setdefault(name, key)
    return dict(sorted(held.items()))


def _names(key: str, asset: Mapping[str, Any], words: _Words) -> Iterator[str | None]:
    """What an asset may hold, surest first: by key, by finer-to-coarser key, by band."""
    suffix = re.fullmatch(r"(.+)_(10|20|60)m", key.lower())
    yield None if suffix else _name(key, words)
    for gsd in ("10", "20", "60"):
        yield _name(suffix[1], words) if suffix and suffix[2] == gsd else None
    bands = _listed(asset) or [asset]
    if len(bands) == 1:
        yield from _band_names(bands[0], words)
        yield from _polarisation(asset, words)


def _listed(asset: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The bands that an asset says its file has."""
    bands = asset.get("bands") or asset.get("eo:bands") or []
    bands = bands if isinstance(bands, list) else []
    return [band if isinstance(band, Mapping) else {} for band in bands]


def _stacked(asset: Mapping[str, Any], words: _Words) -> dict[str, int]:
    """The bands of a file that holds several, and their numbers from 1."""
    bands, places = _listed(asset), dict[str, int]()
    for number, band in enumerate(bands, start=1) if len(bands) > 1 else ():
        name = next(filter(None, _band_names(band, words)), None)
        if name is not None:
            places.setdefault(name, number)
    return places


def _band_names(band: Mapping[str, Any], words: _Words) -> Iterator[str | None]:
    """What a band may be, surest first."""
    yield _name(band.get("name"), words)
    for field in ("common_name", "eo:common_name"):
        yield _name(band.get(field), words)
    # "rededge" alone names three bands: the wavelength (micrometres) tells which.
    if "rededge" in (band.get("common_name"), band.get("eo:common_name")):
        yield _by_wavelength(band.get("center_wavelength", band.get("eo:center_wavelength")))
    yield from _polarisation(band, words)


def _polarisation(holder: Mapping[str, Any], words: _Words) -> Iterator[str | None]:
    polarisations = holder.get("sar:polarizations")
    if isinstance(polarisations, list) and len(polarisations) == 1:
        yield _name(polarisations[0], words)


def _name(text: object, words: _Words) -> str | None:
    return words.get(plain(str(text))) if text else None


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


@dataclass(frozen=True, kw_only=True)
class _Fit:
    """What an item says about the sensor it is of."""

    said: tuple[str, ...]
    """The constellation, platform and instruments that it gives (`plain`)."""
    camera: Sensor | None
    radar: Sensor | None
    words: _Words
    guess: bool
    """It names no satellite, and not even its other fields tell an optical sensor."""


def _fit(item: Mapping[str, Any]) -> _Fit:
    properties, assets = (
        each if isinstance(each, Mapping) else {}
        for each in (item.get("properties"), item.get("assets"))
    )
    instruments = properties.get("instruments")
    names = [properties.get("constellation"), properties.get("platform")]
    names += instruments if isinstance(instruments, list) else []
    said = tuple(plain(str(name)) for name in names if name)
    keys = [plain(str(key)) for key in (*properties, *assets)]
    collection = str(item.get("collection") or "").lower()
    fits: dict[Modality, list[Sensor]] = {
        kind: _fitting(kind, said, collection, keys) for kind in ("optical", "sar")
    }
    # The last of several: what users added comes last. Where no satellite is named, several that
    # fit leave it open, because their numbers differ.
    camera, radar = (
        each[-1] if each and (len(each) == 1 or said) else None for each in fits.values()
    )
    guess = not said and not fits["optical"]
    words = dict(_WORDS)
    for sensor in (SENSORS["sentinel-2"] if guess else camera, radar):
        words |= sensor.words if sensor else {}
    return _Fit(said=said, camera=camera, radar=radar, words=words, guess=guess)


def _fitting(
    modality: Modality, said: tuple[str, ...], collection: str, keys: list[str]
) -> list[Sensor]:
    """The sensors that fit best: by collection, else by marks, else by name alone."""
    possible = [
        sensor
        for sensor in SENSORS.values()
        if sensor.modality == modality and not (said and sensor.names and not sensor.is_named(said))
    ]
    listed = [sensor for sensor in possible if collection in sensor.collections]
    marked = [] if listed else [sensor for sensor in possible if sensor.is_marked(keys)]
    names = said or (plain(collection),)
    return (
        listed
        or marked
        or [
            sensor
            for sensor in possible
            if not (sensor.marks or sensor.collections) and sensor.is_named(names)
        ]
    )


def _radar_fields(item: Mapping[str, Any]) -> bool:
    properties = item.get("properties")
    return any(str(name).startswith("sar:") for name in properties or ())


def _optical_key(item: Mapping[str, Any], fit: _Fit, bands: Mapping[str, str]) -> str:
    if fit.camera is None:
        numbers = any(re.fullmatch(r"B(\d\d|8A).*", key) for key in bands.values())
        if not (fit.guess and (numbers or "scl" in bands)):
            return "optical"
    elif fit.camera.key != "sentinel-2":
        return fit.camera.key
    said = " ".join(
        str(value or "")
        for value in (
            item_field(item, "s2:product_type", "product:type"),
            item_field(item, "processing:level"),
            item.get("collection"),
            item.get("id"),
        )
    ).upper()
    if "scl" in bands or re.search(r"L2A|MSI2A|\bL2\b", said):
        return "sentinel-2-l2a"
    return "sentinel-2-l1c" if re.search(r"L1C|MSI1C|\bL1\b", said) else "sentinel-2"


def _sar_key(item: Mapping[str, Any], radar: Sensor | None) -> str:
    """The quantity comes from card4l fields, then from what is known of the sensor."""
    if radar is not None and not radar.key.startswith("sentinel-1"):
        return radar.key
    family = "sar" if radar is None else "sentinel-1"
    prefixes = ("card4l", "ceosard", "ceos-ard", "ceos_ard")
    measured = plain(str(item_field(item, *(f"{p}:measurement_type" for p in prefixes)) or ""))
    if measured.startswith("sigma"):
        return f"{family}-sigma0"
    if measured.startswith("gamma"):
        said = plain(str(item_field(item, *(f"{p}:specification" for p in prefixes)) or ""))
        terrain = radar is not None and radar.key == "sentinel-1-rtc"
        terrain = terrain or "nrb" in said or measured.endswith(("rtc", "0t"))
        return f"{family}-rtc" if terrain else f"{family}-gamma0"
    return family if measured or radar is None else radar.key
