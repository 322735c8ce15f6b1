"""Training windows for earthmind-nano: simulated scenes with exact truth, and real ones.

`prepare_simulated` fills a folder once; `Windows` draws from it and from the training scenes of
the embedded catalog, with symmetries, clouds, radiometric jitter and small SAR shifts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from earthmind_lab.data.simulate import CLASSES as SIMULATED
from earthmind_lab.data.simulate import simulate_clouds, simulate_scene
from earthmind_lab.evaluate.truth import CLASSES
from earthmind_lab.render import COMPOSITES, RATIO

SIZE = 352
"""Side of the model's input in pixels."""
HELD = 64
"""Simulated scenes kept out of training."""
VIEWS = ("vv_vh_ratio", "swir_nir_red", "true_colour")
SAR, FALSE_COLOUR, TRUE_COLOUR = range(3)
CLOUD_COLOUR = {FALSE_COLOUR: (215.0, 255.0, 255.0), TRUE_COLOUR: (255.0, 255.0, 255.0)}


@dataclass(kw_only=True, eq=False)
class Window:
    """One training sample."""

    views: np.ndarray
    """(3, S, S, 3) uint8 in the order of VIEWS; a missing sensor is zero."""
    yes: np.ndarray
    """(6, S, S) bool."""
    no: np.ndarray
    """(6, S, S) bool."""
    cloud: np.ndarray
    """(S, S) bool: hidden in the optical views."""
    held: frozenset[int]
    """Views that are there."""


@dataclass(kw_only=True, eq=False)
class RealScene:
    """A whole real chip with its truth, ready to be cut into windows."""

    name: str
    views: Mapping[int, np.ndarray]
    """View index to (H, W, 3) uint8."""
    yes: np.ndarray
    no: np.ndarray
    cloud: np.ndarray


def prepare_simulated(folder: Path, count: int, *, first_seed: int, workers: int = 2) -> None:
    """Simulate `count` scenes into memory-mapped arrays; does nothing when they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / f"done-{count}").exists():
        return
    views = np.lib.format.open_memmap(
        folder / "views.npy", "w+", np.uint8, (count, len(VIEWS), SIZE, SIZE, 3)
    )
    classes = np.lib.format.open_memmap(folder / "classes.npy", "w+", np.uint8, (count, SIZE, SIZE))
    cloud = np.lib.format.open_memmap(folder / "cloud.npy", "w+", np.uint8, (count, SIZE, SIZE))
    seeds = range(first_seed, first_seed + count)
    with ProcessPoolExecutor(workers) as pool:
        for i, scene in enumerate(tqdm(pool.map(_simulate, seeds, chunksize=8), total=count)):
            views[i], classes[i], cloud[i] = scene
    (folder / f"done-{count}").touch()


def _simulate(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng([seed, 7])
    scene = simulate_scene(seed, size=SIZE, gsd=float(rng.choice([10, 10, 7, 5, 4])), cloudy=False)
    bands = dict(zip(scene.bands, scene.optical, strict=True))
    bands |= {"vv": scene.sar[0], "vh": scene.sar[1]}
    views = np.stack([compose(name, bands) for name in VIEWS])
    cover, _ = simulate_clouds(seed, size=SIZE // 2, gsd=20.0)
    cloud = np.asarray(Image.fromarray((cover * 255).astype(np.uint8)).resize((SIZE, SIZE)))
    return views, scene.classes.astype(np.uint8), cloud


def compose(name: str, bands: Mapping[str, np.ndarray]) -> np.ndarray:
    """A composite as `render` makes it, from plain arrays."""
    channels = []
    for band, (low, high) in zip(COMPOSITES[name].bands, COMPOSITES[name].stretch, strict=True):
        values = bands["vv"] - bands["vh"] if band == RATIO else bands[band]
        channels.append(np.rint(np.clip((values - low) / (high - low), 0, 1) * 255))
    return np.stack(channels, axis=-1).astype(np.uint8)


class Windows:
    """Draws training windows.

    Args:
        folder: Of `prepare_simulated`.
        real: Real scenes to cut windows from.
        share_real: Share of real windows.
        seed: Of the draw.
    """

    def __init__(
        self, folder: Path, real: Sequence[RealScene], *, share_real: float, seed: int
    ) -> None:
        self.views = np.load(folder / "views.npy", mmap_mode="r")
        self.classes = np.load(folder / "classes.npy", mmap_mode="r")
        self.clouds = np.load(folder / "cloud.npy", mmap_mode="r")
        self.real = list(real)
        self.share_real = share_real
        self.rng = np.random.default_rng(seed)

    def draw(self, needs: Sequence[int], *, clouds: float = 0.3) -> Window:
        """One window that holds the views `needs`; cloudy with probability `clouds`."""
        rng = self.rng
        if self.real and rng.random() < self.share_real:
            fitting = [s for s in self.real if set(needs) <= set(s.views)]
            window = cut(fitting[rng.integers(len(fitting))], rng)
        else:
            window = self._simulated(int(rng.integers(len(self.views) - HELD)))
        if rng.random() < clouds and not window.cloud.any():
            self._cover(window)
        _jitter(window, rng)
        return _turn(window, rng)

    def held(self, index: int) -> Window:
        """One of the `HELD` simulated windows that training never draws, unchanged."""
        return self._simulated(len(self.views) - HELD + index)

    def _simulated(self, index: int) -> Window:
        codes = np.asarray(self.classes[index])
        yes = np.stack([codes == SIMULATED.index(name) for name in CLASSES])
        no = ~yes
        if "flooded vegetation" not in CLASSES:
            # A wood in a flood is neither surely one of these nor surely none of them.
            flooded = codes == SIMULATED.index("flooded vegetation")
            for name in ("water", "trees", "crops"):
                no[CLASSES.index(name)] &= ~flooded
        return Window(
            views=np.array(self.views[index]),
            yes=yes,
            no=no,
            cloud=np.zeros(codes.shape, bool),
            held=frozenset(range(len(VIEWS))),
        )

    def _cover(self, window: Window) -> None:
        opacity = np.asarray(self.clouds[self.rng.integers(len(self.clouds))]) / np.float32(255)
        if self.rng.random() < 0.12:
            opacity = np.maximum(opacity, self.rng.uniform(0.9, 1.0))
        shadow = np.roll(opacity, self.rng.integers(-40, 40, 2), (0, 1)) > 0.5
        for view, colour in CLOUD_COLOUR.items():
            shaded = window.views[view] * np.where(shadow, 0.55, 1.0)[..., None]
            mixed = shaded * (1 - opacity[..., None]) + np.array(colour) * opacity[..., None]
            window.views[view] = mixed.astype(np.uint8)
        window.cloud = opacity > 0.4


def cut(scene: RealScene, rng: np.random.Generator) -> Window:
    """A random window of a real scene, resampled as the processor does."""
    height, width = scene.cloud.shape
    side = rng.uniform(min(96, height, width), min(352, height, width))
    tall, wide = (int(np.clip(side * rng.uniform(0.8, 1.25), 64, n)) for n in (height, width))
    top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
    rows, columns = slice(top, top + tall), slice(left, left + wide)
    return resample(scene, rows, columns)


def resample(scene: RealScene, rows: slice, columns: slice) -> Window:
    """A window of a real scene at the model's size: bicubic pictures, nearest truth."""
    views = np.zeros((len(VIEWS), SIZE, SIZE, 3), np.uint8)
    for index, image in scene.views.items():
        views[index] = Image.fromarray(image[rows, columns]).resize((SIZE, SIZE), Image.BICUBIC)
    y = np.linspace(rows.start, rows.stop - 1e-3, SIZE, endpoint=False).astype(int)
    x = np.linspace(columns.start, columns.stop - 1e-3, SIZE, endpoint=False).astype(int)
    return Window(
        views=views,
        yes=scene.yes[:, y][:, :, x],
        no=scene.no[:, y][:, :, x],
        cloud=scene.cloud[y][:, x],
        held=frozenset(scene.views),
    )


def _jitter(window: Window, rng: np.random.Generator) -> None:
    """Radiometry and residual shift differ between scenes more than any simulator knows."""
    for view in (FALSE_COLOUR, TRUE_COLOUR):
        gain = rng.normal(1, 0.08) * rng.normal(1, 0.04, 3)
        offset = rng.uniform(0, 10) if rng.random() < 0.3 else 0.0
        window.views[view] = np.clip(window.views[view] * gain + offset, 0, 255).astype(np.uint8)
    if SAR in window.held:
        offset = rng.normal(0, 6, (1, 1, 3)) * np.array([1, 1, 0.5])
        moved = np.roll(window.views[SAR], rng.integers(-3, 4, 2), (0, 1))
        window.views[SAR] = np.clip(moved + offset, 0, 255).astype(np.uint8)


def _turn(window: Window, rng: np.random.Generator) -> Window:
    """One of the eight symmetries of the square."""
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))

    def turn(array: np.ndarray, axes: tuple[int, int]) -> np.ndarray:
        array = np.rot90(array, turns, axes)
        return np.ascontiguousarray(np.flip(array, axes[1]) if flip else array)

    return Window(
        views=turn(window.views, (1, 2)),
        yes=turn(window.yes, (1, 2)),
        no=turn(window.no, (1, 2)),
        cloud=turn(window.cloud, (0, 1)),
        held=window.held,
    )
