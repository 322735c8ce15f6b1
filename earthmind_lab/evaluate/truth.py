"""Per-pixel truth of real chips from spectral indices and land-cover maps.

Each pixel and class is yes, no or unknown. Where an index and a map contradict each other
the pixel is unknown: a map may be older than the picture. This truth scores answers and
teaches the embedded model; it never answers in a model's place.

Sources of the thresholds: NDWI > 0 (McFeeters 1996), MNDWI (Xu 2006), NDSI > 0.42 with a
bright green band (Hall et al. 1995), NDVI for dense and absent vegetation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.evaluate.legends import CLASSES as LEGEND
from earthmind_lab.evaluate.legends import CODES

CLASSES = (
    "water", "trees", "crops", "built", "bare", "snow", "flooded vegetation", "clouds", "rangeland",
)  # fmt: skip
"""What earthmind-nano speaks of, in the order of every array here and of `legends.CLASSES`."""

WATER, TREES, CROPS, BUILT, BARE, SNOW, FLOODED, CLOUDS, RANGELAND = range(9)

LAND_COVER = {
    code: LEGEND.index(name) for code, name in CODES["terramesh"].items() if name is not None
}
"""Codes of TerraMesh's land-cover maps to class index; other codes are no class of ours. Clouds of
a map are those of its own pictures: see `with_clouds`."""


_FLOODED_CODE = next(code for code, index in LAND_COVER.items() if index == FLOODED)


@dataclass(frozen=True, kw_only=True, eq=False)
class PixelTruth:
    """What is known about each pixel."""

    yes: NDArray[np.bool_]
    """(9, H, W) True where the pixel certainly is the class."""
    no: NDArray[np.bool_]
    """(9, H, W) True where the pixel certainly isn't the class."""

    def __post_init__(self) -> None:
        if (self.yes & self.no).any():
            raise ValueError("a pixel can't be and not be a class")

    @property
    def known(self) -> NDArray[np.bool_]:
        """(9, H, W) True where the truth decides."""
        return self.yes | self.no


def indices(bands: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """NDWI, NDVI and, where ``swir16`` is given, MNDWI (= NDSI), from reflectance.

    Args:
        bands: ``green``, ``red``, ``nir`` and optionally ``swir16``, each (H, W).

    >>> one = np.full((1, 1), 0.1, np.float32)
    >>> float(indices({"green": one, "red": one, "nir": one})["ndwi"][0, 0])
    0.0
    """

    def ratio(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
        # Negative reflectance (over-corrected shadow) would flip the sign of the ratio.
        a, b = np.maximum(a, 1e-4), np.maximum(b, 1e-4)
        return (a - b) / (a + b)

    found = {
        "ndwi": ratio(bands["green"], bands["nir"]),
        "ndvi": ratio(bands["nir"], bands["red"]),
    }
    if "swir16" in bands:
        found["mndwi"] = ratio(bands["green"], bands["swir16"])
    return found


def spectral_truth(
    bands: Mapping[str, NDArray[np.float32]], visible: NDArray[np.bool_]
) -> PixelTruth:
    """What the spectrum alone decides: water, snow, and what dense vegetation rules out.

    Plants that stand in water look like plants or like water: neither rules them out, but bare
    ground and open water without a plant do.

    Args:
        bands: ``green``, ``red``, ``nir``, ``swir16`` reflectance, each (H, W).
        visible: (H, W) True where the ground is seen (valid, no cloud or shadow).
    """
    index = indices(bands)
    shape = (len(CLASSES), *visible.shape)
    yes, no = np.zeros(shape, bool), np.zeros(shape, bool)
    mndwi = index.get("mndwi", index["ndwi"])
    snow = (mndwi > 0.42) & (bands["green"] > 0.2) & (bands["nir"] > 0.15)
    water = (index["ndwi"] > 0) & (mndwi > 0) & (bands["nir"] < 0.15) & ~snow
    # Peat lakes are darker than the atmospheric correction is good for: every ratio is noise.
    water |= (bands["nir"] < 0.04) & (bands.get("swir16", bands["nir"]) < 0.03)
    dense = index["ndvi"] > 0.5
    barren = (index["ndvi"] < 0.2) & ~water & ~snow
    yes[WATER], yes[SNOW] = water, snow
    no[WATER] = snow | ((index["ndwi"] < -0.1) & (mndwi < -0.05))
    no[SNOW] = (mndwi < 0.2) | (bands["green"] < 0.12)
    no[TREES] = water | snow | barren
    for other in (CROPS, BUILT, BARE, RANGELAND):
        no[other] = water | snow
    no[BUILT] |= dense
    no[BARE] |= dense
    no[FLOODED] = snow | barren | (water & (index["ndvi"] < 0))
    return PixelTruth(yes=yes & visible, no=no & visible & ~yes)


def with_land_cover(
    truth: PixelTruth, codes: NDArray[np.integer], ndvi: NDArray[np.float32]
) -> PixelTruth:
    """Add what a land-cover map says where the picture doesn't contradict it.

    The map's rangeland holds pasture, which is farmland here, and its flooded vegetation holds
    flooded woods: there crops, and trees, stay unknown.

    Args:
        truth: From `spectral_truth`.
        codes: (H, W) codes of the map.
        ndvi: (H, W) of the picture.
    """
    yes, no = truth.yes.copy(), truth.no.copy()
    seen = truth.known.any(axis=0)
    fits = {
        TREES: ndvi > 0.4,
        CROPS: np.ones_like(seen),
        BUILT: ndvi < 0.45,
        BARE: ndvi < 0.25,
        FLOODED: ndvi > 0.3,
        RANGELAND: (ndvi > 0.12) & (ndvi < 0.7),
    }
    maybe = {RANGELAND: CROPS, FLOODED: TREES}
    for code, index in LAND_COVER.items():
        if index not in fits:
            continue
        agreed = (codes == code) & seen & fits[index] & ~no[index]
        yes[index] |= agreed
        for other in fits:
            if other not in (index, maybe.get(index)):
                no[other] |= agreed
    # What the picture says of water against a map of flooded plants is open, either way.
    no[FLOODED] &= ~((codes == _FLOODED_CODE) & truth.yes[WATER])
    # Both maps and pictures are needed for a yes; a no of the spectrum stands.
    no &= ~yes
    return PixelTruth(yes=yes, no=no)


def with_clouds(truth: PixelTruth, cloud: NDArray[np.bool_] | None) -> PixelTruth:
    """Add clouds, by the picture's own mask. What lies under them stays what it is.

    Args:
        truth: Of the ground.
        cloud: (H, W) True under cloud or shadow; None = nobody knows.
    """
    yes, no = truth.yes.copy(), truth.no.copy()
    if cloud is not None:
        yes[CLOUDS], no[CLOUDS] = cloud, ~cloud
    return PixelTruth(yes=yes, no=no)


def with_labels(
    truth: PixelTruth,
    absent: tuple[str, ...],
    vegetation: str | None,
    ndvi: NDArray[np.float32],
) -> PixelTruth:
    """Add what labels of a whole scene say, which list the classes that it holds.

    Args:
        truth: What the pixels say.
        absent: Class names that the labels leave out.
        vegetation: The only vegetated class that the labels name, if there is only one.
        ndvi: (H, W) of the picture.
    """
    yes, no = truth.yes.copy(), truth.no.copy()
    if vegetation is not None:
        index = CLASSES.index(vegetation)
        yes[index] |= (ndvi > 0.5) & ~no[index]
    for name in absent:
        index = CLASSES.index(name)
        # What looks like the class against its labels is unknown, such as shadow on snow.
        no[index] |= ~yes[index]
        yes[index] = False
    return PixelTruth(yes=yes, no=no & ~yes)
