"""Baselines: open water by one simple rule per sensor, and how far two masks differ.

These are rules to compare with, not truth and never an answer. Each has known faults: NDWI takes
cloud, shadow and snow for water; VV takes roads, radar shadow and smooth bare ground.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.bands import stand_in
from earthmind_lab.chip import Chip

NDWI_THRESHOLD = 0.0
"""Open water above (McFeeters 1996)."""
VV_THRESHOLD_DB = -17.0
"""Calm open water below; the usual first threshold for C band."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Baseline:
    """A simple rule on the pixels of a chip; not truth."""

    name: str
    rule: str
    """The rule, as a sentence of its own would say it."""
    mask: NDArray[np.bool_]
    """(H, W) True where the rule says water."""
    seen: NDArray[np.bool_]
    """(H, W) True where the rule had data."""


def water_baselines(chip: Chip) -> dict[str, Baseline]:
    """Open water by one rule per sensor: ``ndwi`` (NDWI > 0) and ``vv`` (VV < -17 dB).

    Args:
        chip: Only the rules whose bands it holds are applied; an index needs reflectance, so
            never to a chip of brightness (`Radiometry.level` DN).
    """
    found: dict[str, Baseline] = {}
    infrared = stand_in("nir", chip.wavelengths)
    if "green" in chip.bands and infrared is not None and chip.radiometry.level != "DN":
        # Reflectance below 0 (over-corrected shadow) would flip the sign of the ratio.
        green, nir = (np.maximum(chip.band(name), 1e-4) for name in ("green", infrared))
        seen = np.isfinite(green) & np.isfinite(nir)
        ndwi = (green - nir) / (green + nir)
        mask = seen & (ndwi > NDWI_THRESHOLD)
        rule = f"NDWI > {NDWI_THRESHOLD:g}"
        found["ndwi"] = Baseline(name="ndwi", rule=rule, mask=mask, seen=seen)
    if "vv" in chip.polarisations:
        vv = chip.band("vv")
        seen = np.isfinite(vv)
        mask = seen & (vv < VV_THRESHOLD_DB)
        rule = f"VV < {VV_THRESHOLD_DB:g} dB"
        found["vv"] = Baseline(name="vv", rule=rule, mask=mask, seen=seen)
    return found


def disagreement(
    a: NDArray[np.bool_], b: NDArray[np.bool_], where: NDArray[np.bool_]
) -> dict[str, float]:
    """How far two masks differ.

    Args:
        a: (H, W) one mask.
        b: (H, W) the other.
        where: (H, W) True where both had data.

    Returns:
        ``iou`` (1.0 where both are empty: they agree), and as shares of `where`: ``both``,
        ``only_a``, ``only_b``.
    """
    total = max(int(where.sum()), 1)
    a, b = a & where, b & where
    union = int((a | b).sum())
    return {
        "iou": round(float((a & b).sum() / union), 4) if union else 1.0,
        "both": round(float((a & b).sum() / total), 4),
        "only_a": round(float((a & ~b).sum() / total), 4),
        "only_b": round(float((b & ~a).sum() / total), 4),
    }
