"""Chips as pictures: named composites with a fixed physical stretch, and plain pictures.

A composite is three bands, each stretched from a physical low (0) to a physical high (255),
the same on every chip, so that a grey value means the same reflectance or backscatter
everywhere. Pixels without data are black (0). Where a chip lacks a band, the one nearest in
wavelength stands in (`bands.stand_in`), so that any sensor fills a composite that it can see.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.bands import stand_in
from earthmind_lab.chip import BRIGHTNESS, Chip
from earthmind_lab.errors import PromptError
from earthmind_lab.exchange import Modality, View

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURE_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF")
"""What Pillow may take a picture for: it decodes these itself, others by programs that run code."""
MAX_PICTURE_PX = 100_000_000
"""Larger pictures are refused before they are decoded."""
DAMAGED = (
    OSError, EOFError, SyntaxError, ValueError, LookupError, TypeError, ArithmeticError,
    struct.error,
)  # fmt: skip
"""What Pillow raises for damaged files, beside its own errors."""


@dataclass(frozen=True, kw_only=True)
class Composite:
    """Three channels of one sensor."""

    name: str
    modality: Modality
    bands: tuple[str, str, str]
    """Band or polarisation per channel; ``vv-vh`` = VV minus VH in dB, the ratio of the powers."""
    stretch: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
    """(low, high) per channel: reflectance, or dB."""


RATIO = "vv-vh"
"""VV minus VH in dB, the ratio of the powers."""
_CO, _CROSS, _RATIO = (-25.0, 0.0), (-32.0, -7.0), (0.0, 15.0)
"""In dB, for polarisations that come back as they were sent, for the others, and between them."""
_VISIBLE, _INFRARED = 0.3, 0.4
"""Highest reflectance: vegetation reaches 0.4 and more from the red edge on."""


def _sar(name: str, *bands: str) -> Composite:
    first, second, third = bands * 3 if len(bands) == 1 else bands
    ranges = {"vv": _CO, "hh": _CO, "vh": _CROSS, "hv": _CROSS}
    stretch = (ranges[first], ranges[second], ranges.get(third, _RATIO))
    return Composite(name=name, modality="sar", bands=(first, second, third), stretch=stretch)


def _optical(name: str, *bands: str) -> Composite:
    first, second, third = bands * 3 if len(bands) == 1 else bands
    red, green, blue = (
        (0.0, _VISIBLE if band in ("red", "green", "blue") else _INFRARED)
        for band in (first, second, third)
    )
    return Composite(
        name=name, modality="optical", bands=(first, second, third), stretch=(red, green, blue)
    )


COMPOSITES = {
    composite.name: composite
    for composite in (
        _sar("vv_vh_ratio", "vv", "vh", RATIO),
        _sar("hh_hv_ratio", "hh", "hv", "hh-hv"),
        _optical("swir_nir_red", "swir16", "nir", "red"),
        _optical("true_colour", "red", "green", "blue"),
        _optical("false_colour", "nir", "red", "green"),  # colour infrared: vegetation is red
        _optical("agriculture", "swir16", "nir", "blue"),
        _optical("urban", "swir22", "swir16", "red"),
        _optical("red_edge", "nir", "rededge1", "red"),  # RapidEye's
        _sar("vv", "vv"),
        _sar("vh", "vh"),
        _sar("hh", "hh"),
        _sar("hv", "hv"),
        _optical("nir", "nir"),
    )
}
"""Every composite by name."""
COUNTERPARTS = {"vv_vh_ratio": "hh_hv_ratio", "vv": "hh", "vh": "hv"}
"""What takes a composite's place where the sensor sends the other polarisation."""
PREFERRED = ("vv_vh_ratio", "swir_nir_red", "true_colour")
"""What a model is shown unless it wants others, in this order, as far as the bands are there."""
FALLBACKS = {"sar": ("vv", "hh", "vh", "hv"), "optical": ("nir",)}
"""For a sensor that fills none of the preferred ones: the first that it can fill."""


def render(
    chip: Chip,
    composites: Sequence[str] | None = None,
    *,
    preferred: Sequence[str] = (),
) -> tuple[View, ...]:
    """Pictures of a chip.

    Args:
        chip: Reflectance and dB on one grid.
        composites: Names of `COMPOSITES`; None = `default_composites`.
        preferred: What the model wants to be shown (`Capabilities.composites`); empty =
            `PREFERRED`.

    Returns:
        uint8 pictures on the chip's grid; nodata is black.

    Raises:
        PromptError: An unknown composite, or one whose bands the chip lacks.
    """
    names = default_composites(chip, preferred) if composites is None else tuple(composites)
    if not names:
        raise PromptError(
            "The chip has no bands for any picture.",
            found=", ".join((*chip.bands, *chip.polarisations)),
            change=f"bands for one of {', '.join(preferred or PREFERRED)}",
        )
    return tuple(_view(chip, name) for name in names)


def default_composites(chip: Chip, preferred: Sequence[str] = ()) -> tuple[str, ...]:
    """Names of the composites that `render` makes of a chip.

    Those of `preferred` (empty = `PREFERRED`) that the chip has the bands for, or their
    `COUNTERPARTS`, in that order, and for a sensor that fills none of them the first of
    `FALLBACKS` that it fills.

    Raises:
        PromptError: An unknown composite.
    """
    wanted = [(name, COUNTERPARTS.get(name, name)) for name in preferred or PREFERRED]
    filled = [[n for n in names if _bands(chip, _composite(n))][:1] for names in wanted]
    names = list(dict.fromkeys(name for found in filled for name in found))
    for modality, fallbacks in FALLBACKS.items():
        if not any(COMPOSITES[name].modality == modality for name in names):
            names += [name for name in fallbacks if _bands(chip, COMPOSITES[name])][:1]
    return tuple(names)


def fillable(chip: Chip, modality: Modality) -> tuple[str, ...]:
    """Names of every composite of one sensor that the chip has the bands for."""
    return tuple(
        name
        for name, composite in COMPOSITES.items()
        if composite.modality == modality and _bands(chip, composite)
    )


def picture_view(picture: str | Path | Image | NDArray[np.uint8]) -> View:
    """A plain picture: no place, no time, no metres.

    Args:
        picture: A file, a Pillow image, or uint8 of shape (H, W), (H, W, 3) or (H, W, 4).

    Raises:
        PromptError: No picture, too large, or numbers that need declared units.
    """
    if isinstance(picture, np.ndarray):
        image = _from_array(picture)
    elif isinstance(picture, str | Path):
        image = _from_file(Path(picture))
    else:
        image = _from_pillow(picture, "The picture")
    return View(image=image, name="picture", modality="optical", bands=("red", "green", "blue"))


def _composite(name: str) -> Composite:
    if name not in COMPOSITES:
        raise PromptError(f"There is no composite {name!r}.", change=", ".join(COMPOSITES))
    return COMPOSITES[name]


def _view(chip: Chip, name: str) -> View:
    composite = _composite(name)
    bands = _bands(chip, composite)
    if not bands:
        raise PromptError(
            f"The chip lacks bands for the composite {name!r}.",
            found=", ".join((*chip.bands, *chip.polarisations)),
            change=f"load it with {', '.join(dict.fromkeys(composite.bands))}",
        )
    brightness = composite.modality == "optical" and chip.radiometry.level == "DN"
    stretch = (BRIGHTNESS,) * 3 if brightness else composite.stretch
    channels = [
        _stretch(_channel(chip, band), low, high)
        for band, (low, high) in zip(bands, stretch, strict=True)
    ]
    scene = chip.pair.optical if composite.modality == "optical" else chip.pair.sar
    return View(
        image=np.stack(channels, axis=-1),
        name=name,
        modality=composite.modality,
        time=scene.observed if scene is not None and scene.told else None,
        bands=bands,
        gsd=chip.gsd,
        stretch=stretch,
    )


def _bands(chip: Chip, composite: Composite) -> tuple[str, ...]:
    """The chip's bands for a composite; empty when one is missing."""
    if composite.modality == "sar":
        needed = {part for band in composite.bands for part in band.split("-")}
        return composite.bands if needed <= set(chip.polarisations) else ()
    held = chip.wavelengths
    found = tuple(stand_in(band, held) for band in composite.bands)
    bands = tuple(band for band in found if band is not None)
    # Three channels of one band would be grey under the name of a colour composite.
    return bands if len(set(bands)) == len(set(composite.bands)) and None not in found else ()


def _channel(chip: Chip, band: str) -> NDArray[np.float32]:
    """A band or polarisation, or the difference of two in dB: ``vv-vh``."""
    if band in chip.bands:
        return chip.band(band)
    first, _, second = band.partition("-")
    return chip.band(first) - chip.band(second) if second else chip.band(first)


def _stretch(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.uint8]:
    """Low to 0 and high to 255, rounded; NaN to 0."""
    share = np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)
    return np.rint(np.nan_to_num(share) * 255).astype(np.uint8)


def _from_array(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype != np.uint8:
        raise _needs_units("The array", str(array.dtype))
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim == 2:
        array = np.stack([array] * 3, axis=-1)
    if array.ndim != 3 or array.shape[2] not in (3, 4):
        raise PromptError(
            "The array is no picture.",
            found=f"shape {array.shape}",
            change="rows, columns, and 1, 3 or 4 channels: (H, W, 3)",
        )
    _check_size("The array", array.shape[1], array.shape[0])
    return np.ascontiguousarray(array[:, :, :3])


def _from_file(path: Path) -> NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    if not path.is_file():
        raise PromptError(f"There is no picture {str(path)!r}.", change="the path of a picture")
    name = f"The file {path.name!r}"
    try:
        with warnings.catch_warnings():
            # Our own limit comes before decoding; Pillow's warning would say it twice.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=PICTURE_FORMATS) as image:
                return _from_pillow(image, name)
    except Image.DecompressionBombError as error:
        raise PromptError(f"{name} is too large.", found=str(error)) from error
    except UnidentifiedImageError as error:
        raise PromptError(
            f"{name} is no picture that can be read.",
            change="PNG, JPEG, WebP, BMP, GIF or 8-bit TIFF; rasters in reflectance or backscatter "
            "need declared units (open_chip, or --optical and --sar) and are not plain pictures",
        ) from error
    except DAMAGED as error:
        raise PromptError(f"{name} is damaged.", found=str(error)) from error


def _from_pillow(image: Image, name: str) -> NDArray[np.uint8]:
    from PIL import ImageOps

    _check_size(name, image.width, image.height)
    if image.mode.startswith(("I", "F")):
        raise _needs_units(name, f"mode {image.mode}")
    upright = ImageOps.exif_transpose(image)
    return np.asarray(upright.convert("RGB"), dtype=np.uint8)


def _check_size(name: str, width: int, height: int) -> None:
    if width * height > MAX_PICTURE_PX:
        raise PromptError(
            f"{name} is too large.",
            found=f"{width} x {height} px",
            change=f"at most {MAX_PICTURE_PX // 1_000_000} megapixels: cut it",
        )


def _needs_units(name: str, found: str) -> PromptError:
    return PromptError(
        f"{name} is no 8-bit picture: its numbers need a declared meaning.",
        found=found,
        change="open_chip(optical=…, sar=…) with declared units, or stretch it to 8 bit",
    )
