"""Compare what land looks like in the embedded real scenes and in simulated ones.

    python scripts/measure_classes.py [--scenes 200] [--first 500000] [--seen train,stop]

Every class is measured per scene: the median of B, G, R, NIR, SWIR1 reflectance, of VV, VH dB
(3 x 3 mean in linear power first, so that speckle does not count as spread), and texture: the
standard deviation inside windows of 3 x 3 and 9 x 9 pixels of one class, of red and NIR relative
to their mean, of VV in dB. Printed are the median of the scenes' medians and, in brackets, for real
scenes the spread: the least 16th and the greatest 84th percentile over the pixels of any scene; for
simulated ones the usual 16th and 84th. A star marks a simulated median outside the real spread.

Two tables, because real truth has two sources. `map`: what land-cover maps and labels say where the
spectrum does not contradict them, against the simulator's exact truth. `rule`: the same spectral
rules on both sides (NDVI, SWIR1, and VV for built), so that what the rules confuse is alike.
`--seen` names the splits of `evaluate/scenes.py` that are read.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.warp import Resampling, reproject
from scipy import ndimage

from earthmind_lab.chip import Chip
from earthmind_lab.data.samples import catalog_path
from earthmind_lab.data.simulate import CLASSES, simulate_scene
from earthmind_lab.evaluate.scenes import CASES, Case, load_case
from earthmind_lab.evaluate.truth import CLASSES as KNOWN
from earthmind_lab.evaluate.truth import PixelTruth, indices, with_land_cover

F32 = NDArray[np.float32]
Bool = NDArray[np.bool_]
Bands = Mapping[str, F32]
OPTICAL = ("blue", "green", "red", "nir", "swir16")
COLUMNS = (
    *OPTICAL, "vv", "vh", "red 3", "red 9", "nir 3", "nir 9", "vv 3", "vv 9",
)  # fmt: skip
LEAST = 300
"""Pixels that a class needs in a scene."""


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--first", type=int, default=500_000)
    parser.add_argument("--seen", default="train,stop,test")
    asked = parser.parse_args()
    real, simulated = defaultdict(list), defaultdict(list)
    for key, numbers in real_numbers(asked.seen.split(",")):
        real[key].append(numbers)
    for key, numbers in simulated_numbers(range(asked.first, asked.first + asked.scenes)):
        simulated[key].append(numbers)
    outside = np.zeros(2, int)
    for source in ("map", "rule"):
        print(f"\n{source}\n| class | level | scenes | " + " | ".join(COLUMNS) + " |")
        print("|" + "---|" * (3 + len(COLUMNS)))
        for key in sorted(set(real) | set(simulated)):
            if key[0] == source:
                outside += np.array(_rows(key, real.get(key, []), simulated.get(key, [])))
    print(f"\nOf {outside[1]} simulated medians {outside[0]} lie outside the real spread.")


def real_numbers(splits: list[str]) -> Iterator[tuple[tuple[str, str, str], F32]]:
    """(source, class, level) and its numbers, for every class of every real scene."""
    for case in CASES:
        if case.split not in splits or case.truth is not None:
            continue  # the cloudy picture shows clouds
        known = load_case(case)
        chip, level = known.chip, known.chip.radiometry.level or "unknown"
        bands = {name: chip.band(name) for name in (*chip.bands, *chip.polarisations)}
        seen = ~known.cloud
        for valid in (chip.valid_optical, chip.valid_sar):
            seen &= valid if valid is not None else True
        for name, mask in mapped(case, chip, known.truth).items():
            yield from _measured(("map", name, level), bands, mask & seen)
        for name, mask in by_rule(bands).items() if "swir16" in bands else ():
            yield from _measured(("rule", name, level), bands, mask & seen)


def simulated_numbers(seeds: range) -> Iterator[tuple[tuple[str, str, str], F32]]:
    """The same of simulated scenes without clouds."""
    for seed in seeds:
        scene = simulate_scene(seed, cloudy=False)
        bands = dict(zip(scene.bands, scene.optical, strict=True))
        bands |= {"vv": scene.sar[0], "vh": scene.sar[1]}
        for number, name in enumerate(CLASSES):
            yield from _measured(("map", name, scene.level), bands, scene.classes == number)
        for name, mask in by_rule(bands).items():
            yield from _measured(("rule", name, scene.level), bands, mask)


def mapped(case: Case, chip: Chip, truth: PixelTruth) -> dict[str, Bool]:
    """Masks (y, x) by the truth of a real scene, and of its map."""
    places = list(catalog_path().parent.rglob(f"LC_{case.name}*.tif"))
    if places:
        codes = np.zeros(chip.inside.shape, np.uint8)
        with rasterio.open(places[0]) as source:
            reproject(rasterio.band(source, 1), codes, dst_transform=chip.grid.affine,
                      dst_crs=str(chip.grid.crs), resampling=Resampling.nearest)  # fmt: skip
        if case.land_cover is None:
            ndvi = indices({name: chip.band(name) for name in chip.bands})["ndvi"]
            truth = with_land_cover(truth, codes, ndvi)
    return {name: truth.yes[i] for i, name in enumerate(KNOWN) if name not in case.doubted}


def by_rule(bands: Bands) -> dict[str, Bool]:
    """Masks (y, x) by the spectrum, and by VV for built; the same for real and simulated pixels."""
    green, nir, swir = bands["green"], bands["nir"], bands["swir16"]
    index = indices({name: bands[name] for name in OPTICAL})
    ndvi = index["ndvi"]
    snow = (index["mndwi"] > 0.42) & (green > 0.25)
    water = ndimage.binary_erosion((index["ndwi"] > 0.05) & (swir < 0.12) & ~snow)
    land, built = ~(water | snow), np.zeros_like(snow)
    if "vv" in bands:
        built = land & (ndimage.uniform_filter(np.nan_to_num(bands["vv"], nan=-30), 5) > -4)
        built &= ndvi < 0.35
    land &= ~built
    return {
        "water": water,
        "snow": snow,
        "built": built,
        "trees": land & (ndvi > 0.5) & (green < 0.095) & (nir < 0.36) & (swir < 0.2),
        "crops, green": land & (ndvi > 0.55) & (nir >= 0.3),
        "grass": land & (ndvi > 0.25) & (ndvi <= 0.45),
        "bare": land & (ndvi < 0.22) & (swir > 0.18),
    }


def _measured(
    key: tuple[str, str, str], bands: Bands, mask: Bool
) -> Iterator[tuple[tuple[str, str, str], F32]]:
    """Per column the 16th, 50th and 84th percentile over the pixels of the class, (columns, 3)."""
    if mask.sum() < LEAST:
        return
    values = [bands[name][mask] if name in bands else None for name in OPTICAL]
    for name in ("vv", "vh"):
        if name in bands:
            power = ndimage.uniform_filter(10 ** (np.nan_to_num(bands[name], nan=-30) / 10), 3)
            values.append(10 * np.log10(power[mask]))
        else:
            values.append(None)
    values += [_texture(bands.get(name), mask, side, name) for name, side in (
        ("red", 3), ("red", 9), ("nir", 3), ("nir", 9), ("vv", 3), ("vv", 9))]  # fmt: skip
    nothing = np.full(3, np.nan)
    yield (
        key,
        np.stack([nothing if v is None else np.percentile(v, [16, 50, 84]) for v in values]).astype(
            np.float32
        ),
    )


def _texture(band: F32 | None, mask: Bool, side: int, name: str) -> F32 | None:
    """Standard deviation inside every window that shows one class only."""
    if band is None:
        return None
    pure = ndimage.minimum_filter(mask, side)
    if pure.sum() < 50:
        return None
    values = np.nan_to_num(band, nan=0.0).astype(np.float64)
    mean = ndimage.uniform_filter(values, side)
    spread = np.sqrt(np.maximum(ndimage.uniform_filter(values**2, side) - mean**2, 0))
    if name != "vv":
        spread = spread / np.maximum(mean, 1e-3)
    return np.asarray(spread[pure], np.float32)


def _rows(key: tuple[str, str, str], real: list[F32], simulated: list[F32]) -> tuple[int, int]:
    """Print a class, real and simulated; how many simulated medians lie outside, of how many."""
    outside = compared = 0
    bounds = np.full((len(COLUMNS), 2), np.nan)
    for who, numbers in (("real", real), ("simulated", simulated)):
        cells = []
        for k, name in enumerate(COLUMNS):
            held = [n[k] for n in numbers if np.isfinite(n[k, 1])]
            low, middle, high = np.array(held).reshape(-1, 3).T
            if not len(middle):
                cells.append("")
                continue
            mark, m = "", float(np.median(middle))
            if who == "real":
                bounds[k] = low.min(), high.max()
                a, b = bounds[k]
            else:
                a, b = np.median(low), np.median(high)
                if np.isfinite(bounds[k, 0]):
                    compared += 1
                    mark = "" if bounds[k, 0] <= m <= bounds[k, 1] else "*"
                    outside += bool(mark)
            form = ".1f" if name.startswith("v") else ".3f"
            cells.append(f"{m:{form}}{mark} ({a:{form}}…{b:{form}})")
        if numbers:
            print(f"| {key[1]}, {who} | {key[2]} | {len(numbers)} | " + " | ".join(cells) + " |")
    return outside, compared


if __name__ == "__main__":
    main()
