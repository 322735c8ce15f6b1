"""How the numbers of an optical raster become reflectance, and at which level."""

from __future__ import annotations

import math
import re

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.data.assets import AssetRef
from earthmind_lab.data.radiometry import Scaling, number, numbers
from earthmind_lab.errors import RadiometryUnknown
from earthmind_lab.scene import Scene
from earthmind_lab.sensors import SENSORS, Level, boa_offset

DN_MEDIAN = 3.0
"""Snow and cloud reach about 1.6; a median beyond this means DN were taken for reflectance."""


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
        nodata += _usual_nodata(scene)
    return Scaling(scale=scale, offset=offset, nodata=numbers(nodata), reason=reason)


def _usual_nodata(scene: Scene) -> list[float]:
    """DN that carry no reflectance, whatever is declared: 0 unless the sensor says another."""
    sensor = SENSORS.get(scene.sensor)
    if sensor is None or (sensor.nodata is None and sensor.level != "DN"):
        return [0.0]
    return [] if sensor.nodata is None else [sensor.nodata]  # brightness 0 is black


def optical_level(scene: Scene, ref: AssetRef) -> Level | None:
    """Top of the atmosphere or surface reflectance, or none at all; None when nothing says so."""
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


def check_reflectance(values: NDArray[np.float32], ref: AssetRef) -> None:
    """Refuse DN that were declared, or taken, as reflectance.

    Raises:
        RadiometryUnknown: The median is beyond anything a surface reflects.
    """
    beyond = np.count_nonzero(values > DN_MEDIAN)
    if not beyond or 2 * beyond < np.count_nonzero(np.isfinite(values)):
        return
    seen = values[np.isfinite(values)]
    if float(np.median(seen)) > DN_MEDIAN:
        raise RadiometryUnknown(
            f"The numbers in {ref.name} can't be reflectance.",
            found=f"a median of {float(np.median(seen)):.4g}",
            change="declare scale and offset of the DN in raster:bands or bands of the asset",
        )


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
        scale, reason = number(stated, 1.0), "declared scale and offset of the asset"
        if offset is None and in_file is not None and math.isclose(in_file[0], scale):
            offset, reason = in_file[1] or None, "declared scale; offset of the file"
    if stated is not None and offset and _already_applied(ref):
        # The catalog subtracted it from the pixels and still declares it for some scenes.
        return scale, 0.0, "declared scale; offset already applied by the catalog"
    if offset is None and (whole or scale != 1.0) and scene.sensor.startswith("sentinel-2"):
        found, why = _baseline_offset(scene, ref)
        return scale, found, f"declared scale; {why}"
    sensor = SENSORS.get(scene.sensor)
    if offset is None and sensor and sensor.offset and math.isclose(scale, sensor.scale):
        return scale, sensor.offset, f"declared scale; offset of {sensor.title}"
    return scale, number(offset, 0.0), reason


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
    sensor = SENSORS.get(scene.sensor)
    if sensor is None or sensor.scale == 1.0:
        return None, 0.0, "no rule for this sensor"
    if sensor.offset is not None:
        return sensor.scale, sensor.offset, f"rule of {sensor.title}"
    offset, why = _baseline_offset(scene, ref)
    return sensor.scale, offset, f"rule of {sensor.title}; {why}"
