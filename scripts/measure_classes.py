"""Print what the land classes look like in a folder of real optical/SAR pairs.

    python scripts/measure_classes.py SRC

SRC holds one folder per pair with `s2_l1c*.tif` or `s2_l2a*.tif` and `s1_*.tif`. Classes come from
spectral rules (and VV for built), not from people: good enough to centre the simulator's table
(`earthmind_lab/data/simulate_materials.py`), too coarse to be called truth. Per class and level
(toa, sr) it prints the median and half the 16-84 % range of B, G, R, NIR, SWIR1 reflectance and of
VV, VH dB (3 x 3 mean in linear power first, so that speckle does not count as spread).
"""

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from scipy import ndimage

F32 = NDArray[np.float32]
BANDS = ("B2", "B3", "B4", "B8", "B11")
# Baselines >= 04.00 add 1000 to every number. The files do not say so; a darkest blue above 0.18
# together with a darkest SWIR1 above 0.1 over water is the sign.
OFFSET_FOLDERS = ("terramesh_433D_629L_3_1",)


def optical(path: Path) -> F32:
    """Reflectance (5, y, x) of one optical file."""
    with rasterio.open(path) as source:
        names = [name.replace("B0", "B") for name in source.descriptions]
        numbers = source.read([names.index(band) + 1 for band in BANDS]).astype(np.float32)
    offset = 1000.0 if path.parent.name in OFFSET_FOLDERS else 0.0
    return np.where(numbers > 0, (numbers - offset) / 1e4, np.nan).astype(np.float32)


def sar(path: Path) -> F32:
    """Backscatter (2, y, x) in dB after a 3 x 3 mean of linear power."""
    with rasterio.open(path) as source:
        power = 10 ** (source.read([1, 2]).astype(np.float32) / 10)
    smooth = np.stack([ndimage.uniform_filter(band, 3) for band in power])
    return np.asarray(10 * np.log10(np.maximum(smooth, 1e-6)), np.float32)


def classes(pixels: F32, vv: F32) -> dict[str, NDArray[np.bool_]]:
    """Rule-based masks (y, x) per class."""
    _, green, red, nir, swir = pixels
    ndvi = (nir - red) / (nir + red + 1e-6)
    ndwi = (green - nir) / (green + nir + 1e-6)
    ndsi = (green - swir) / (green + swir + 1e-6)
    snow = (ndsi > 0.42) & (green > 0.25)
    built = (ndimage.uniform_filter(vv, 5) > -4) & (ndvi < 0.35) & ~snow
    water = ndimage.binary_erosion((ndwi > 0.05) & (swir < 0.12) & ~snow)
    land = ~(water | snow | built)
    return {
        "water, calm": water & (vv < -18),
        "water, windy": water & (vv >= -18),
        "snow": snow,
        "built": built,
        "trees": land & (ndvi > 0.5) & (green < 0.095) & (nir < 0.36) & (swir < 0.2),
        "crops, green": land & (ndvi > 0.55) & (nir >= 0.3),
        "grass": land & (ndvi > 0.25) & (ndvi <= 0.45),
        "bare": land & (ndvi < 0.22) & (swir > 0.18),
    }


def main(folder: Path) -> None:
    """Print the table per class, and per pair where the class holds at least 2 %."""
    pooled: dict[tuple[str, str], list[F32]] = defaultdict(list)
    for path in sorted(folder.glob("*/s2_l[12][ac]*.tif")):
        radar = sorted(path.parent.glob("s1_*.tif"))
        if "cloudy" in path.name or not radar:
            continue
        pixels, backscatter = optical(path), sar(radar[0])
        if pixels.shape[1:] != backscatter.shape[1:]:
            continue
        level = "toa" if "l1c" in path.name else "sr"
        for name, mask in classes(pixels, backscatter[0]).items():
            mask = mask & np.isfinite(pixels).all(axis=0)
            if mask.mean() > 0.02:
                values = np.concatenate([pixels[:, mask], backscatter[:, mask]])
                pooled[name, level].append(values)
                report(f"{name} {level} {path.parent.name[-16:]}", values)
    for (name, level), parts in sorted(pooled.items()):
        report(f"ALL {name} {level}", np.concatenate(parts, axis=1))


def report(name: str, values: F32) -> None:
    """Print median and half the 16-84 % range of (7, n) values."""
    low, middle, high = np.percentile(values, [16, 50, 84], axis=1)
    optics = " ".join(
        f"{m:.3f}±{(h - w) / 2:.3f}" for w, m, h in zip(low, middle, high, strict=True)
    )
    print(f"{name:<36}{values.shape[1]:>7} {optics}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
