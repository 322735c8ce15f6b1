"""What the numbers in a raster mean: decided once, from declared facts, with the reason kept.

Two decisions are taken here and nowhere else: how optical DN become reflectance, and which
backscatter a SAR raster holds. Nothing is read off the pixels; what nobody declares is
refused, with what to declare.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.data.assets import AssetRef
from earthmind_lab.errors import RadiometryUnknown
from earthmind_lab.scene import Scene
from earthmind_lab.sensors import SENSORS, boa_offset

Convention = Literal["power", "amplitude", "dB"]
Quantity = Literal["sigma0", "gamma0", "gamma0_rtc"]
Geometry = Literal["ellipsoid", "terrain_corrected", "unknown"]

SAR_FLOOR_DB = -50.0
"""Below any sensor's noise floor: where a product holds less, it holds calm water or the rest
of a noise subtraction, which is data but has no logarithm."""
DN_MEDIAN = 3.0
"""Snow and cloud reach about 1.6; a median beyond this means DN were taken for reflectance."""


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """How stored numbers become physical ones: value x scale + offset."""

    scale: float = 1.0
    offset: float = 0.0
    nodata: tuple[float, ...] = ()
    """Stored values without data; NaN always is."""
    reason: str = ""
    """What decided it."""


@dataclass(frozen=True, kw_only=True)
class SarMeaning:
    """Which backscatter a SAR asset holds."""

    quantity: Quantity
    convention: Convention
    geometry: Geometry
    reason: str
    """What decided it."""


def optical_scaling(
    scene: Scene,
    ref: AssetRef,
    *,
    dtype: str,
    file_scaling: tuple[float, float] | None = None,
    file_nodata: float | None = None,
) -> Scaling:
    """How the numbers of an optical asset become reflectance.

    Args:
        scene: Its scene, for the sensor.
        ref: The asset.
        dtype: Data type of the file.
        file_scaling: (scale, offset) in the file's own band metadata.
        file_nodata: Nodata value of the file.

    Raises:
        RadiometryUnknown: Whole numbers and nothing that declares their scale or offset.
    """
    whole = np.dtype(dtype).kind in "iu"
    declared = _declared(scene, ref, file_scaling, whole)
    scale, offset, reason = declared or _by_rule(scene, ref, whole)
    if scale is None or offset is None:
        lacks = "scale" if scale is None else "offset"
        raise RadiometryUnknown(
            f"The numbers in {ref.name} have no declared {lacks}, so they are not reflectance.",
            found=f"{dtype}, {reason}",
            change="scale and offset in raster:bands (STAC 1.0) or bands (1.1) of the asset, such "
            "as scale 0.0001 and offset -0.1 (Sentinel-2 since baseline 04.00) or 0 (before)",
        )
    nodata = [value for value in (ref.fields.get("nodata"), file_nodata) if value is not None]
    if whole or scale != 1.0:
        nodata.append(0)  # DN 0 carries no reflectance in any of these products
    return Scaling(scale=scale, offset=offset, nodata=_numbers(nodata), reason=reason)


def optical_level(scene: Scene, ref: AssetRef) -> Literal["TOA", "SR"] | None:
    """Top of the atmosphere or surface reflectance; None when nothing says so."""
    sensor = SENSORS.get(scene.sensor)
    if sensor is not None and sensor.level is not None:
        return sensor.level
    properties = ref.properties
    named = [scene.collection, properties.get("processing:level"), scene.processing.get("level")]
    for text in (str(value).lower() for value in named if value):
        if re.search(r"l1c|toa|c2-l1|level-?1|^l1", text):
            return "TOA"
        if re.search(r"l2a|c2-l2|l2sp|boa|surface|^l2", text):
            return "SR"
    return None


def sar_meaning(scene: Scene, ref: AssetRef) -> SarMeaning:
    """Which backscatter a SAR asset holds.

    In this order: the card4l/ceos-ard fields of the item, the known collection, the unit of
    the band, which says dB or power, and beside it the band's own description, which may name
    sigma0 or gamma0. Product type and the description of an item or asset are never asked:
    catalogs copy them from the product that the raster was made from.

    Raises:
        RadiometryUnknown: Nothing declares it, or it needs a calibration.
    """
    known = str(scene.collection or ref.item.get("collection") or "").lower()
    quantity, source = _card4l_quantity(ref, known), "card4l fields of the item"
    if quantity is None and "sentinel-1-rtc" in (known, scene.sensor):
        quantity, source = "gamma0_rtc", "collection sentinel-1-rtc"
    convention = _convention(_field(ref, "measurement_convention")) or _unit_convention(ref)
    if convention is None and source.startswith("collection") and quantity:
        convention = "power"
    if quantity is None and "sentinel-1-grd" in (known, scene.sensor) and convention is None:
        raise RadiometryUnknown(
            f"The numbers in {ref.name} are Sentinel-1 GRD counts, not backscatter.",
            found="a GRD product, which needs its own calibration and noise tables",
            change="a terrain-corrected scene (collection sentinel-1-rtc); calibrating GRD is not "
            "supported yet",
        )
    if quantity is None and convention is not None:
        quantity, source = _band_quantity(ref), "unit of the band"
    if convention is None or quantity is None:
        found = f"measurement type {quantity}, no convention" if quantity else "no declaration"
        if convention is not None:
            found = f"{convention} of undeclared kind"
        raise RadiometryUnknown(
            f"The numbers in {ref.name} have no declared meaning.",
            found=found,
            change="card4l:measurement_type (gamma0, sigma0) and card4l:measurement_convention "
            "(linear power, linear amplitude, dB) in the item's properties",
        )
    reason = f"{source}: {quantity}, {convention}"
    geometry = _sar_geometry(ref, quantity)
    return SarMeaning(quantity=quantity, convention=convention, geometry=geometry, reason=reason)


def sar_scaling(
    scene: Scene,
    ref: AssetRef,
    meaning: SarMeaning,
    *,
    dtype: str,
    file_scaling: tuple[float, float] | None = None,
    file_nodata: float | None = None,
) -> Scaling:
    """How the stored numbers of a SAR asset become numbers of its convention.

    Args:
        scene: Its scene, for the sensor.
        ref: The asset.
        meaning: What `sar_meaning` said about it.
        dtype: Data type of the file.
        file_scaling: (scale, offset) in the file's own band metadata.
        file_nodata: Nodata value of the file.

    Raises:
        RadiometryUnknown: Whole numbers and nothing that declares their scale.
    """
    fields = ref.fields
    in_item = fields.get("scale") is not None
    in_file = file_scaling is not None and file_scaling != (1.0, 0.0)
    if np.dtype(dtype).kind in "iu" and not in_item and not in_file:
        raise RadiometryUnknown(
            f"The numbers in {ref.name} are uncalibrated counts.",
            found=f"{dtype} without a scale",
            change="scale and offset in raster:bands or bands of the asset",
        )
    scale, offset = _number(fields.get("scale"), 1.0), _number(fields.get("offset"), 0.0)
    if file_scaling is not None and in_file and not in_item:
        scale, offset = file_scaling
    sensor = SENSORS.get(scene.sensor)
    # The fill of a sensor's counts (0 in GRD) is a value like any other once they are calibrated.
    usual = sensor.nodata if sensor is not None and sensor.quantity is not None else None
    stated = (fields.get("nodata"), file_nodata, usual)
    nodata = _numbers([value for value in stated if value is not None])
    return Scaling(scale=scale, offset=offset, nodata=nodata, reason=meaning.reason)


def physical(stored: NDArray[Any], scaling: Scaling) -> NDArray[np.float32]:
    """Stored numbers as physical ones, nodata as NaN; nodata is decided before the offset."""
    missing = ~np.isfinite(stored) if stored.dtype.kind == "f" else np.zeros(stored.shape, bool)
    for value in scaling.nodata:
        missing |= stored == value
    # In double precision: DN x 0.0001 - 0.1 must be the nearest float32, not a rounded sum.
    values = stored.astype(np.float64) * scaling.scale + scaling.offset
    values[missing] = np.nan
    return values.astype(np.float32)


def to_power(values: NDArray[np.float32], convention: Convention) -> NDArray[np.float32]:
    """Backscatter in linear power, clipped to the floor; NaN where there is none.

    Args:
        values: In `convention`, NaN = nodata.
        convention: ``power``, ``amplitude`` or ``dB``.
    """
    wide = values.astype(np.float64)
    if convention == "dB":
        power = np.power(10.0, wide / 10)
    else:
        wide = np.maximum(wide, 0)  # negative: what noise subtraction leaves of calm water
        power = wide * wide if convention == "amplitude" else wide
    floor = 10 ** (SAR_FLOOR_DB / 10)
    return np.asarray(np.maximum(power, floor), dtype=np.float32)


def to_db(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """Linear power in dB, float32, never below the floor."""
    with np.errstate(divide="ignore", invalid="ignore"):
        decibel = 10 * np.log10(power.astype(np.float64))
    return np.asarray(np.maximum(decibel, SAR_FLOOR_DB), dtype=np.float32)


def check_reflectance(values: NDArray[np.float32], ref: AssetRef) -> None:
    """Refuse DN that were declared, or taken, as reflectance.

    Raises:
        RadiometryUnknown: The median is beyond anything a surface reflects.
    """
    seen = values[np.isfinite(values)]
    if seen.size and float(np.median(seen)) > DN_MEDIAN:
        raise RadiometryUnknown(
            f"The numbers in {ref.name} can't be reflectance.",
            found=f"a median of {float(np.median(seen)):.4g}",
            change="declare scale and offset of the DN in raster:bands or bands of the asset",
        )


def mostly_floor(decibel: NDArray[np.float32]) -> bool:
    """Whether more than half of the pixels with data lie at the floor."""
    seen = decibel[np.isfinite(decibel)]
    return bool(seen.size) and float((seen <= SAR_FLOOR_DB).mean()) > 0.5


def refuse_floor(ref: AssetRef, meaning: SarMeaning) -> NoReturn:
    """A whole raster at the floor: its numbers are not of the convention declared for it.

    Raises:
        RadiometryUnknown: Always.
    """
    raise RadiometryUnknown(
        f"The numbers in {ref.name} can't be backscatter in {meaning.convention}.",
        found=f"most of the raster at or below {SAR_FLOOR_DB:g} dB",
        change="declare scale and offset in raster:bands or bands of the asset, and the "
        "card4l:measurement_convention that the numbers have",
    )


def sar_details(ref: AssetRef) -> dict[str, Any]:
    """Noise removal, speckle filter and incidence as the item declares them."""
    noise = _field(ref, "noise_removal_applied")
    speckle = _field(ref, "speckle_filtering")
    if isinstance(speckle, Mapping):
        speckle = speckle.get("type") or "unnamed filter"
    near = _field(ref, "incidence_angle_near_range")
    far = _field(ref, "incidence_angle_far_range")
    return {
        "noise_removed": noise if isinstance(noise, bool) else None,
        "speckle_filter": str(speckle) if speckle and speckle is not True else None,
        "incidence": f"{near}-{far} degrees" if near and far else "unknown",
    }


def _declared(
    scene: Scene, ref: AssetRef, file_scaling: tuple[float, float] | None, whole: bool
) -> tuple[float, float | None, str] | None:
    """Scale and offset from the item, else from the file; offset None = unknown."""
    stated, offset = ref.fields.get("scale"), ref.fields.get("offset")
    in_file = file_scaling if file_scaling != (1.0, 0.0) else None
    if stated is None and in_file is None:
        return None
    if stated is None and in_file is not None:
        # GDAL gives 0 for an offset that the file doesn't declare.
        scale, offset, reason = in_file[0], in_file[1] or None, "scale and offset of the file"
    else:
        scale, reason = _number(stated, 1.0), "declared scale and offset of the asset"
        if offset is None and in_file is not None and math.isclose(in_file[0], scale):
            offset, reason = in_file[1] or None, "declared scale; offset of the file"
    if stated is not None and offset and _already_applied(ref):
        # The catalog subtracted it from the pixels and still declares it for some scenes.
        return scale, 0.0, "declared scale; offset already applied by the catalog"
    if offset is None and (whole or scale != 1.0) and scene.sensor.startswith("sentinel-2"):
        found, why = _baseline_offset(scene, ref)
        return scale, found, f"declared scale; {why}"
    return scale, _number(offset, 0.0), reason


def _already_applied(ref: AssetRef) -> bool:
    return ref.properties.get("earthsearch:boa_offset_applied") is True


def _baseline_offset(scene: Scene, ref: AssetRef) -> tuple[float | None, str]:
    """Sentinel-2's documented offset where nothing declares one; None = unknown."""
    if _already_applied(ref):
        return 0.0, "offset already applied by the catalog"
    baseline = ref.properties.get("s2:processing_baseline") or scene.processing.get("baseline")
    offset = boa_offset(baseline)
    if offset is None:
        return None, f"no offset known of processing baseline {baseline or 'unknown'}"
    return offset, f"offset of processing baseline {baseline}"


def _by_rule(scene: Scene, ref: AssetRef, whole: bool) -> tuple[float | None, float | None, str]:
    """Scale and offset by the documented rule of the sensor; None = unknown."""
    if not whole:
        return 1.0, 0.0, "floating point without a scale: reflectance as it is"
    if re.match(r"landsat-?c2-?l2", str(scene.collection or "").lower()):
        return 2.75e-5, -0.2, "rule of Landsat Collection 2 Level 2"
    sensor = SENSORS.get(scene.sensor)
    if sensor is None or sensor.scale == 1.0:
        return None, 0.0, "no rule for this sensor"
    if sensor.offset is not None:
        return sensor.scale, sensor.offset, f"rule of {sensor.title}"
    offset, why = _baseline_offset(scene, ref)
    return sensor.scale, offset, f"rule of {sensor.title}; {why}"


def _card4l_quantity(ref: AssetRef, collection: str) -> Quantity | None:
    stated = _field(ref, "measurement_type")
    if stated is None or (isinstance(stated, str) and not stated.strip()):
        return None
    text = stated.lower() if isinstance(stated, str) else ""
    text = re.sub(r"[^a-z0-9]", "", text.replace("nought", "0").replace("naught", "0"))
    if text.startswith("sigma0"):
        return "sigma0"
    if text.startswith(("gamma0", "gammat0")):
        # card4l has one word for both; which of them is said by the product or its lineage.
        flattened = "rtc" in text or text.startswith("gammat0") or _normalised(ref)
        flattened = flattened or collection == "sentinel-1-rtc" or _radiometric(ref)
        return "gamma0_rtc" if flattened else "gamma0"
    raise RadiometryUnknown(
        f"The backscatter in {ref.name} is of a kind that isn't supported.",
        found=f"card4l:measurement_type {stated!r}",
        change="a gamma0 or sigma0 product",
    )


def _normalised(ref: AssetRef) -> bool:
    """CARD4L/CEOS-ARD normalised radar backscatter: terrain-flattened by definition."""
    stated = str(_field(ref, "specification") or "").upper()
    return stated.split("-")[0] in ("NRB", "POL")


def _radiometric(ref: AssetRef) -> bool:
    """Whether the lineage says that slopes were taken out of the backscatter."""
    lineage = " ".join(_texts(ref.properties.get("processing:lineage"))).lower()
    return re.search(r"radiometric(ally)?[\s-]terrain|terrain[\s-]flatten", lineage) is not None


def _sar_geometry(ref: AssetRef, quantity: Quantity | None) -> Geometry:
    if quantity == "gamma0_rtc" or _normalised(ref):
        return "terrain_corrected"
    ours = ref.properties.get("earthmind:sar_geometry")
    if ours in ("ellipsoid", "terrain_corrected", "unknown"):
        return cast(Geometry, ours)
    stated = _field(ref, "geometric_accuracy_type")  # "gtc": geocoded and terrain-corrected
    texts = [stated, *_texts(ref.properties.get("processing:lineage"))]
    steps = ref.properties.get("processing:software")
    texts += [str(steps)] if isinstance(steps, Mapping) else []
    for text in (str(value).lower() for value in texts if value):
        if re.search(r"(not|un|no|without)[\s-]*terrain[\s-]*correct", text):
            return "ellipsoid"
        if text == "gtc" or re.search(r"terrain[\s-]*correct|range[\s-]*doppler[\s-]*terr", text):
            return "terrain_corrected"
        if "ellipsoid" in text:
            return "ellipsoid"
    return "unknown"


def _convention(stated: Any) -> Convention | None:
    text = str(stated or "").lower()
    if "amplitude" in text:
        return "amplitude"
    if "db" in text or "decibel" in text or "log" in text:
        return "dB"
    return "power" if "power" in text or "intensity" in text else None


def _unit_convention(ref: AssetRef) -> Convention | None:
    return _convention(ref.fields.get("unit"))


def _band_quantity(ref: AssetRef) -> Quantity | None:
    """sigma0 or gamma0 where the band's unit, or its own description, names one of them."""
    for field in ("unit", "description"):
        text = re.sub(r"[\s_-]", "", str(ref.fields.get(field) or "").lower())
        sigma, gamma = (re.search(f"{letter}(0|⁰|₀|n[ao]ught|zero)", text)
                        for letter in ("(sigma|σ)", "(gamma|γ)"))  # fmt: skip
        if sigma and not gamma:
            return "sigma0"
        if gamma and not sigma:
            return "gamma0_rtc" if "rtc" in text else "gamma0"
    return None


def _field(ref: AssetRef, name: str) -> Any:
    """A card4l or ceos-ard field of the asset, else of the item."""
    for holder in (ref.asset, ref.properties):
        for prefix in ("card4l", "ceosard", "ceos-ard"):
            value = holder.get(f"{prefix}:{name}")
            if value is not None:
                return value
    return None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Sequence):
        yield from (str(part) for part in value)


def _number(value: Any, default: float) -> float:
    try:
        return default if value is None else float(value)
    except (TypeError, ValueError):
        return default


def _numbers(values: Sequence[Any]) -> tuple[float, ...]:
    found = []
    for value in values:
        number = _number(value, math.nan)
        if not math.isnan(number):
            found.append(number)
    return tuple(dict.fromkeys(found))
