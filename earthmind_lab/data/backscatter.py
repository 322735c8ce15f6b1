"""Which backscatter a SAR raster holds, and how it becomes decibels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.data.assets import AssetRef
from earthmind_lab.data.radiometry import Scaling, number, numbers
from earthmind_lab.errors import RadiometryUnknown
from earthmind_lab.scene import Scene
from earthmind_lab.sensors import SENSORS, Convention, Quantity

Geometry = Literal["ellipsoid", "terrain_corrected", "unknown"]
SAR_FLOOR_DB = -50.0
"""Below any sensor's noise floor: where a product holds less, it holds calm water or the rest
of a noise subtraction, which is data but has no logarithm."""


@dataclass(frozen=True, kw_only=True)
class SarMeaning:
    """Which backscatter a SAR asset holds."""

    quantity: Quantity
    convention: Convention
    geometry: Geometry
    reason: str
    """What decided it."""


def sar_meaning(scene: Scene, ref: AssetRef) -> SarMeaning:
    """Which backscatter a SAR asset holds.

    In this order: the card4l/ceos-ard fields of the item, the known collection, the unit of
    the band, which says dB or power, and beside it the band's own description, which may name
    sigma0 or gamma0; without a unit, what the table of sensors says. Product type and the
    description of an item or asset are never asked: catalogs copy them from the product that the
    raster was made from.

    Raises:
        RadiometryUnknown: Nothing declares it.
    """
    known = str(scene.collection or ref.item.get("collection") or "").lower()
    quantity, source = _card4l_quantity(ref, known), "card4l fields of the item"
    if quantity is None and "sentinel-1-rtc" in (known, scene.sensor):
        quantity, source = "gamma0_rtc", "collection sentinel-1-rtc"
    convention = _convention(_field(ref, "measurement_convention")) or _unit_convention(ref)
    if convention is None and source.startswith("collection") and quantity:
        convention = "power"
    rule = SENSORS.get(scene.sensor)
    if quantity is None and convention is None and rule is not None and rule.convention:
        quantity, convention, source = rule.quantity, rule.convention, f"rule of {rule.title}"
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
    if geometry == "unknown" and source.startswith("rule") and rule is not None:
        geometry = rule.geometry or "unknown"
    return SarMeaning(quantity=quantity, convention=convention, geometry=geometry, reason=reason)


def stated_in_band(ref: AssetRef) -> tuple[Quantity | None, Convention | None]:
    """What the unit of a band, and beside it its description, say; None where they don't."""
    return _band_quantity(ref), _unit_convention(ref)


def grd_counts(scene: Scene, ref: AssetRef) -> bool:
    """Whether a SAR asset holds the counts of a Sentinel-1 GRD product, for its own tables."""
    known = str(scene.collection or ref.item.get("collection") or "").lower()
    convention = _convention(_field(ref, "measurement_convention")) or _unit_convention(ref)
    grd = "sentinel-1-grd" in (known, scene.sensor)
    return grd and convention is None and _card4l_quantity(ref, known) is None


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
        RadiometryUnknown: Whole numbers and nothing that declares their scale, or complex ones.
    """
    if np.dtype(dtype).kind == "c":
        raise RadiometryUnknown(
            f"The numbers in {ref.name} are complex: waves, not yet backscatter.",
            found=dtype,
            change="a detected product of the same scene, such as GRD, RTC or GEO",
        )
    fields = ref.fields
    in_item = fields.get("scale") is not None
    in_file = file_scaling is not None and file_scaling != (1.0, 0.0)
    sensor = SENSORS.get(scene.sensor)
    by_rule = sensor is not None and sensor.scale != 1.0
    if np.dtype(dtype).kind in "iu" and not (in_item or in_file or by_rule):
        raise RadiometryUnknown(
            f"The numbers in {ref.name} are uncalibrated counts.",
            found=f"{dtype} without a scale",
            change="scale and offset in raster:bands or bands of the asset",
        )
    scale, offset = number(fields.get("scale"), 1.0), number(fields.get("offset"), 0.0)
    if file_scaling is not None and in_file and not in_item:
        scale, offset = file_scaling
    elif sensor is not None and by_rule and not in_item:
        scale, offset = sensor.scale, sensor.offset or 0.0
    # The fill of a sensor's counts (0 in GRD) is a value like any other once they are calibrated.
    usual = sensor.nodata if sensor is not None and sensor.quantity is not None else None
    stated = (fields.get("nodata"), file_nodata, usual)
    nodata = numbers([value for value in stated if value is not None])
    return Scaling(scale=scale, offset=offset, nodata=nodata, reason=meaning.reason)


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


def mostly_floor(decibel: NDArray[np.float32]) -> bool:
    """Whether more than half of the pixels with data lie at the floor."""
    at_floor = np.count_nonzero(decibel <= SAR_FLOOR_DB)
    return bool(2 * at_floor > np.count_nonzero(np.isfinite(decibel)))


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
