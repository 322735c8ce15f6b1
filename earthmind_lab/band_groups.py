"""Multispectral chips as three-band pictures, grouped as the published models were shown them.

EarthMind takes no extra channels: its code cuts the bands of Sentinel-2 into groups of three and
shows each group as one frame. Three such orders are published; all are written here as wavelengths
so that another optical sensor fills them as far as its bands reach.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.bands import WAVELENGTHS
from earthmind_lab.chip import BRIGHTNESS, Chip
from earthmind_lab.errors import PromptError
from earthmind_lab.exchange import View

Order = Literal["june", "benchmark", "training"]
TOLERANCE_NM = 40.0
"""A band stands for a wavelength of Sentinel-2 when its centre is at most this far off."""
FIXED = (0.0, 0.3)
"""The June stretch in reflectance: 0 to 3000 DN of Sentinel-2."""
PERCENTILES = (2.0, 98.0)
"""The newer stretch, per band."""


@dataclass(frozen=True, kw_only=True)
class _Order:
    """One published way to cut bands into groups."""

    true_colour: bool
    """Whether red, green and blue come first, as a picture of their own."""
    rest: tuple[float, ...]
    """Wavelengths of Sentinel-2 in nm, in order; cut in threes."""
    fill: bool
    """A last group of one or two: filled up with its last band, or dropped."""
    fixed: bool
    """The fixed stretch, or percentiles per band."""


_RGB = (665.0, 560.0, 490.0)
_ALL = (443.0, 490.0, 560.0, 665.0, 704.0, 740.0, 783.0, 842.0, 865.0, 945.0, 1610.0, 2190.0)
ORDERS: dict[str, _Order] = {
    # BigEarthNet as the June 2025 code prepares it: B01 to B12 sorted, B10 absent.
    "june": _Order(true_colour=False, rest=_ALL, fill=False, fixed=True),
    # EarthMind-Bench as the newer code reads it.
    "benchmark": _Order(
        true_colour=True,
        rest=(443.0, 704.0, 740.0, 783.0, 842.0, 865.0, 945.0, 1610.0, 2190.0),
        fill=True,
        fixed=False,
    ),
    # The newer code's training data: the broad near infrared (B08) is dropped.
    "training": _Order(
        true_colour=True,
        rest=(704.0, 740.0, 783.0, 865.0, 1610.0, 2190.0, 443.0, 945.0),
        fill=True,
        fixed=False,
    ),
}


def band_groups(
    chip: Chip,
    order: Order = "benchmark",
    *,
    stretch: Mapping[str, tuple[float, float]] | None = None,
) -> tuple[View, ...]:
    """The optical bands of a chip in groups of three: one view each, to be asked about together.

    Args:
        chip: With the bands that shall be shown; load it with ``bands=[...]`` for all of them.
        order: ``benchmark`` (newer inference; the default, as published for pairs), ``training``
            (newer training) or ``june`` (June 2025).
        stretch: (low, high) of bands in the place of percentiles: those of the whole scene
            (`data.stretch.scene_stretch`), the same for every chip of it and for a second date.
            None = those of the chip's valid pixels, as both builders were given whole files. The
            fixed stretch of ``june`` stays.

    Returns:
        Optical views named ``<order>_1``, ``<order>_2``, ...; bands that the chip lacks are left
        out before cutting. The numbers used are in each view's ``stretch``.

    Raises:
        PromptError: An unknown order, or too few bands.
    """
    if order not in ORDERS:
        raise PromptError(f"There is no band order {order!r}.", change=", ".join(ORDERS))
    rule = ORDERS[order]
    groups = group_names(chip.wavelengths, order)
    if not groups or chip.pair.optical is None:
        raise PromptError(
            f"The chip has too few optical bands for the order {order!r}.",
            found=", ".join(chip.bands) or "no optical bands",
            change="load it with bands=[...]: red, green, blue and at least one more"
            if rule.true_colour
            else "load it with bands=[...]: at least three",
        )
    return tuple(
        _view(chip, f"{order}_{number}", group, _limits(chip, group, rule, stretch or {}))
        for number, group in enumerate(groups, start=1)
    )


def group_names(
    bands: Iterable[str] | Mapping[str, float | None], order: Order
) -> list[tuple[str, str, str]]:
    """Names of the bands of each group.

    Args:
        bands: Names of the bands at hand, with or without their centres in nm; by default those
            of Sentinel-2.
        order: See `band_groups`.

    Example:
        >>> group_names(["red", "green", "blue", "nir08", "swir16"], "benchmark")
        [('red', 'green', 'blue'), ('nir08', 'swir16', 'swir16')]
    """
    rule = ORDERS[order]
    names = _by_wavelength(bands)
    first = [names[wave] for wave in _RGB if wave in names] if rule.true_colour else []
    if rule.true_colour and len(first) < 3:
        return []
    rest = [names[wave] for wave in rule.rest if wave in names]
    groups = [first] if first else []
    groups += [rest[start : start + 3] for start in range(0, len(rest), 3)]
    if len(groups[-1:]) and len(groups[-1]) < 3:
        last = groups.pop()
        if rule.fill:
            groups.append(last + last[-1:] * (3 - len(last)))
    return [(group[0], group[1], group[2]) for group in groups]


def _by_wavelength(bands: Iterable[str] | Mapping[str, float | None]) -> dict[float, str]:
    """Wavelength of Sentinel-2 -> the nearest band at hand; each band stands for one only."""
    if not isinstance(bands, Mapping):
        bands = {name: WAVELENGTHS.get(name) for name in bands}
    distances = sorted(
        (abs(centre - wave), wave, name)
        for name, centre in bands.items()
        if centre is not None
        for wave in _ALL
    )
    found: dict[float, str] = {}
    for distance, wave, name in distances:
        if distance <= TOLERANCE_NM and wave not in found and name not in found.values():
            found[wave] = name
    return found


def _limits(
    chip: Chip, group: Sequence[str], rule: _Order, given: Mapping[str, tuple[float, float]]
) -> tuple[tuple[float, float], ...]:
    """(low, high) of each band of a group."""
    if rule.fixed:
        fixed = BRIGHTNESS if chip.radiometry.level == "DN" else FIXED
        return (fixed,) * len(group)
    return tuple(given.get(band) or _percentiles(chip.band(band)) for band in group)


def _view(
    chip: Chip, name: str, group: tuple[str, str, str], limits: tuple[tuple[float, float], ...]
) -> View:
    channels = []
    for band, (low, high) in zip(group, limits, strict=True):
        values = chip.band(band)
        share = np.clip((values.astype(np.float64) - low) / max(high - low, 1e-6), 0, 1)
        # Truncated, not rounded, as both published builders convert to 8 bit.
        channels.append((np.nan_to_num(share) * 255).astype(np.uint8))
    assert chip.pair.optical is not None
    return View(
        image=np.stack(channels, axis=-1),
        name=name,
        modality="optical",
        time=chip.pair.optical.observed if chip.pair.optical.told else None,
        bands=group,
        gsd=chip.gsd,
        stretch=limits,
    )


def _percentiles(values: NDArray[np.float32]) -> tuple[float, float]:
    valid = values[np.isfinite(values)]
    if not len(valid):
        return FIXED
    low, high = np.percentile(valid, PERCENTILES)
    return float(low), float(high)
