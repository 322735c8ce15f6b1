"""Q of a pair's score: what makes a scene worse than another of the same place and time.

Each penalty belongs to one scene, so that a pair's Q is the product over its scenes.
"""

from __future__ import annotations

from collections.abc import Mapping

from earthmind_lab.bands import SAR_BANDS
from earthmind_lab.scene import Scene
from earthmind_lab.sensors import SENSORS

PENALTIES: Mapping[str, tuple[float, str]] = {
    "uncorrected_sar": (
        0.8,
        "The SAR scene is not terrain-corrected: where there is relief, it shifts the pixels.",
    ),
    "single_polarisation": (0.9, "The SAR scene has a single polarisation."),
    "low_sun": (0.9, "The sun stood under 20° in the optical scene: long shadows."),
}
"""Factor of Q and its reason. The relief itself is not known before the pixels are loaded."""
LOW_SUN_DEG = 20
"""Elevation of the sun, degrees; at 20° shadows are 2.7 times as long as things are high."""
_POLARISATIONS = {band.name for band in SAR_BANDS}


def penalties_of(scene: Scene) -> dict[str, float]:
    """The penalties of a scene: name in `PENALTIES` to factor, 0 to 1."""
    names = []
    if scene.modality == "sar":
        if scene.sensor in SENSORS and SENSORS[scene.sensor].geometry == "ellipsoid":
            names.append("uncorrected_sar")
        if len(set(scene.assets) & _POLARISATIONS) < 2:
            names.append("single_polarisation")
    else:
        sun = scene.processing.get("sun_elevation")
        if sun is not None and sun < LOW_SUN_DEG:
            names.append("low_sun")
    return {name: PENALTIES[name][0] for name in names}


def penalty_reasons(penalties: Mapping[str, float]) -> list[str]:
    """The sentences of penalties."""
    return [PENALTIES[name][1] for name in penalties]


def shift_reasons(scene: Scene) -> tuple[str, ...]:
    """The geolocation error that the catalog declares; no penalty, since it can be measured."""
    error = scene.processing.get("geolocation_error_px")
    if not error:
        return ()
    return (f"The catalog declares a geolocation error of {error:g} px for {scene.id}.",)
