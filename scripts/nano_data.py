"""Training windows for earthmind-nano: simulated scenes with exact truth, and real ones.

`prepare` fills folders once, and goes on where it stopped; `Windows` draws from them and from the
training scenes of the embedded catalog, with symmetries, clouds, radiometric jitter and small SAR
shifts. What is drawn follows from the generator that is given, and from nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from earthmind_lab.data.simulate import CLASSES as SIMULATED
from earthmind_lab.data.simulate import SimulatedScene
from earthmind_lab.data.simulate_change import CHANGES, simulate_pair_of_dates
from earthmind_lab.data.simulate_store import open_simulated, simulate_many
from earthmind_lab.errors import LoadError
from earthmind_lab.evaluate.truth import CLASSES, CLOUDS
from earthmind_lab.render import COMPOSITES, RATIO

SIZE = 352
"""Side of the model's input in pixels."""
VIEWS = ("vv_vh_ratio", "swir_nir_red", "true_colour")
SAR, FALSE_COLOUR, TRUE_COLOUR = range(3)
CLOUD_COLOUR = {FALSE_COLOUR: (215.0, 255.0, 255.0), TRUE_COLOUR: (255.0, 255.0, 255.0)}
OPAQUE, CLEAR = 0.4, 0.1
"""Opacity from which a pixel is cloud, and under which it isn't."""
FIRST_SEED = 10_000
ALL = slice(None)
PIECES = (128, 128, 96)
"""Sides of a mosaic's pieces: whole vision tokens of 32 px."""
PIXELS = {10: 0.6, 6: 0.2, 4: 0.2}
"""GSD of simulated scenes, and the share of each."""
CODES = np.array([SIMULATED.index(name) if name in SIMULATED else -1 for name in CLASSES])


@dataclass(kw_only=True, eq=False)
class Window:
    """One training sample."""

    views: np.ndarray
    """(3, S, S, 3) uint8 in the order of VIEWS; a missing sensor is zero."""
    yes: np.ndarray
    """(9, S, S) bool."""
    no: np.ndarray
    """(9, S, S) bool."""
    cloud: np.ndarray
    """(S, S) bool: hidden in the optical views."""
    held: frozenset[int]
    """Views that are there."""
    cloud_known: bool = True
    """Whether `cloud` is all there is."""
    counts: Mapping[str, int] | None = None
    """Things in it, by kind; None = nobody knows."""


@dataclass(kw_only=True, eq=False)
class RealScene:
    """A whole real chip with its truth, ready to be cut into windows."""

    name: str
    views: Mapping[int, np.ndarray]
    """View index to (H, W, 3) uint8."""
    yes: np.ndarray
    no: np.ndarray
    cloud: np.ndarray


@dataclass(kw_only=True, eq=False)
class Dates:
    """One simulated ground at two dates."""

    views: np.ndarray
    """(2, 3, S, S, 3) uint8."""
    yes: np.ndarray
    """(2, 9, S, S) bool."""
    change: str
    """A key of CHANGES."""


def prepare(work: Path, scenes: int, dates: int, workers: int = 2) -> None:
    """Simulate what isn't there yet."""
    for (gsd, share), shift in zip(PIXELS.items(), (0, 100_000, 200_000), strict=True):
        seeds = range(FIRST_SEED + shift, FIRST_SEED + shift + max(round(scenes * share), 1))
        simulate_many(seeds, work / f"gsd{gsd}", workers=workers, gsd=float(gsd))
    folder = work / "dates"
    folder.mkdir(parents=True, exist_ok=True)
    missing = [n for n in range(dates) if not (folder / f"dates_{n:05d}.npz").exists()]
    for number in tqdm(missing, desc="dates", unit="pair"):
        _draw_dates(folder / f"dates_{number:05d}.npz", number)


def _draw_dates(file: Path, number: int) -> None:
    """The changes take turns; a seed whose ground doesn't bear one gives way to the next."""
    change = list(CHANGES)[number % len(CHANGES)]
    for attempt in range(20):
        try:
            pair = simulate_pair_of_dates(
                FIRST_SEED + number + 10_000 * attempt, change, size=SIZE, cloudy=False
            )
        except LoadError:
            continue
        break
    else:
        raise SystemExit(f"no ground bears the change {change}")
    both = (pair.before, pair.after)
    part = file.with_suffix(".part")
    with part.open("wb") as stream:
        np.savez(
            stream,
            views=np.stack([pictures_of(scene) for scene in both]),
            classes=np.stack([scene.classes for scene in both]),
            about=np.array(json.dumps({"change": change})),
        )
    part.replace(file)


def bands_of(scene: SimulatedScene) -> dict[str, np.ndarray]:
    """Bands by name, backscatter too."""
    bands = dict(zip(scene.bands, scene.optical, strict=True))
    return bands | {"vv": scene.sar[0], "vh": scene.sar[1]}


def pictures_of(scene: SimulatedScene) -> np.ndarray:
    """(3, S, S, 3) uint8 in the order of VIEWS."""
    bands = bands_of(scene)
    return np.stack([compose(name, bands) for name in VIEWS])


def compose(name: str, bands: Mapping[str, np.ndarray]) -> np.ndarray:
    """A composite as `render` makes it, from plain arrays."""
    channels = []
    for band, (low, high) in zip(COMPOSITES[name].bands, COMPOSITES[name].stretch, strict=True):
        values = bands["vv"] - bands["vh"] if band == RATIO else bands[band]
        channels.append(np.rint(np.clip((values - low) / (high - low), 0, 1) * 255))
    return np.stack(channels, axis=-1).astype(np.uint8)


def window_of(scene: SimulatedScene) -> Window:
    """A simulated scene as a window, unchanged."""
    return Kept.of(scene).window()


@dataclass(frozen=True, kw_only=True, eq=False)
class Kept:
    """A simulated scene in memory, as small as it goes: 1.5 MB."""

    views: np.ndarray
    """(3, S, S, 3) uint8 in the order of VIEWS."""
    classes: np.ndarray
    """(S, S) uint8, codes of the simulator."""
    opacity: np.ndarray
    """(S, S) float16, of the clouds."""
    counts: Mapping[str, int]

    @classmethod
    def of(cls, scene: SimulatedScene) -> Kept:
        """From what the simulator drew."""
        return cls(
            views=pictures_of(scene), classes=scene.classes.astype(np.uint8),
            opacity=scene.cloud.astype(np.float16), counts=dict(scene.truth.counts),
        )  # fmt: skip

    def window(self, rows: slice = ALL, columns: slice = ALL) -> Window:
        """A piece of it, unchanged."""
        views = self.views[:, rows, columns].copy()
        yes, no, cloud = _truth(self.classes[rows, columns], self.opacity[rows, columns])
        return Window(
            views=views, yes=yes, no=no, cloud=cloud, held=frozenset(range(len(VIEWS))),
            counts=self.counts,
        )  # fmt: skip


def _truth(classes: np.ndarray, opacity: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    yes = classes[None] == CODES[:, None, None]
    no = ~yes
    yes[CLOUDS], no[CLOUDS] = opacity > OPAQUE, opacity < CLEAR
    return yes, no, opacity > OPAQUE


class Windows:
    """Draws training windows.

    Args:
        work: Folder of `prepare`.
        real: Real scenes to cut windows from.
        share_real: Share of real windows.
        held: Simulated scenes and pairs of dates that are kept out of training.
        memory: Simulated scenes that are kept in memory, once read; None = all of them.
    """

    def __init__(
        self, work: Path, real: Sequence[RealScene], *, share_real: float, held: int,
        memory: int | None = None,
    ) -> None:  # fmt: skip
        self.scenes = [(f, i) for gsd in PIXELS for f in (open_simulated(work / f"gsd{gsd}"),)
                       for i in range(len(f))]  # fmt: skip
        # Kept out are some of every GSD.
        order = np.random.default_rng(0).permutation(len(self.scenes))
        self.scenes = [self.scenes[i] for i in order]
        self.dates = sorted((work / "dates").glob("dates_*.npz"))
        self.real, self.share_real, self.kept = list(real), share_real, held
        self._read: dict[int, Kept] = {}
        self._memory = memory

    def draw(
        self, rng: np.random.Generator, needs: Sequence[int], *, clouds: float = 0.3
    ) -> Window:
        """One window that holds the views `needs`; cloudy with probability `clouds`."""
        fitting = [s for s in self.real if set(needs) <= set(s.views)]
        if fitting and rng.random() < self.share_real:
            window = cut(fitting[rng.integers(len(fitting))], rng)
        else:
            window = self._simulated(int(rng.integers(len(self.scenes) - self.kept)))
        if rng.random() < clouds and not window.cloud.any():
            self._cover(window, rng)
        _jitter(window, rng)
        return _turn(window, rng)

    def mosaic(self, rng: np.random.Generator, *, clouds: float = 0.3) -> Window:
        """A window of nine pieces, each of another simulated scene.

        Neighbouring pixels of one scene say nearly the same: a batch of a dozen scenes is a small
        sample of the ground there is. With nine times as many the towers learn what single
        patches tell in a third of the steps (docs/nano.md); context comes after, from whole scenes.
        """
        edges = np.cumsum([0, *rng.permutation(PIECES)])
        spans = [slice(low, high) for low, high in pairwise(edges.tolist())]
        pieces = [[self._piece(rng, rows, columns) for columns in spans] for rows in spans]

        def joined(part: Callable[[Window], np.ndarray], axis: int) -> np.ndarray:
            lines = [np.concatenate([part(p) for p in line], axis + 1) for line in pieces]
            return np.concatenate(lines, axis)

        window = Window(
            views=joined(lambda p: p.views, 1), yes=joined(lambda p: p.yes, 1),
            no=joined(lambda p: p.no, 1), cloud=joined(lambda p: p.cloud, 0),
            held=frozenset(range(len(VIEWS))),
        )  # fmt: skip
        if rng.random() < clouds:
            self._cover(window, rng)
        return _turn(window, rng)

    def held(self, index: int) -> Window:
        """One of the simulated windows that training never draws, unchanged."""
        return self._simulated(len(self.scenes) - self.kept + index)

    def draw_dates(self, rng: np.random.Generator) -> Dates:
        """A pair of dates, as it was drawn."""
        file = self.dates[rng.integers(len(self.dates) - self.kept)]
        return _read_dates(file)

    def held_dates(self, index: int) -> Dates:
        """One of the pairs of dates that training never draws."""
        return _read_dates(self.dates[len(self.dates) - self.kept + index])

    def _simulated(self, index: int) -> Window:
        return self._keep(index).window()

    def _piece(self, rng: np.random.Generator, rows: slice, columns: slice) -> Window:
        """As large as that, from somewhere in one of the scenes."""
        kept = self._keep(int(rng.integers(len(self.scenes) - self.kept)))
        height, width = rows.stop - rows.start, columns.stop - columns.start
        top, left = rng.integers(SIZE - height + 1), rng.integers(SIZE - width + 1)
        piece = kept.window(slice(top, top + height), slice(left, left + width))
        _jitter(piece, rng)
        return piece

    def _keep(self, index: int) -> Kept:
        if index not in self._read:
            folder, place = self.scenes[index]
            if len(self._read) == self._memory:
                self._read.pop(next(iter(self._read)))
            self._read[index] = Kept.of(folder[place])
        return self._read[index]

    def _cover(self, window: Window, rng: np.random.Generator) -> None:
        """Clouds of a simulated scene over a clear window; SAR stays as it is."""
        for _ in range(8):
            kept = self._keep(int(rng.integers(len(self.scenes) - self.kept)))
            opacity = kept.opacity.astype(np.float32)
            if opacity.any():
                break
        else:
            opacity = np.full_like(opacity, rng.uniform(0.5, 1.0))
        if rng.random() < 0.12:
            opacity = np.maximum(opacity, rng.uniform(0.9, 1.0)).astype(np.float32)
        shadow = np.roll(opacity, rng.integers(-40, 40, 2), (0, 1)) > 0.5
        for view, colour in CLOUD_COLOUR.items():
            shaded = window.views[view] * np.where(shadow, 0.55, 1.0)[..., None]
            mixed = shaded * (1 - opacity[..., None]) + np.array(colour) * opacity[..., None]
            window.views[view] = mixed.astype(np.uint8)
        window.cloud = opacity > OPAQUE
        # Where nobody said that there were no clouds before, only these are known.
        window.yes[CLOUDS] = window.cloud
        window.no[CLOUDS] &= opacity < CLEAR


def _read_dates(file: Path) -> Dates:
    with np.load(file, allow_pickle=False) as held:
        arrays = dict(held)
    yes = arrays["classes"][:, None] == CODES[None, :, None, None]
    return Dates(views=arrays["views"], yes=yes, change=json.loads(str(arrays["about"]))["change"])


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
        cloud_known=bool((scene.yes[CLOUDS] | scene.no[CLOUDS]).any()),
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
        cloud_known=window.cloud_known,
        counts=window.counts,
    )
