"""Many simulated scenes in a folder, drawn once and read again and again.

    folder = simulate_many(range(1000), "simulated", workers=2)
    folder[0].truth.counts

One file per scene (NumPy's npz, no pickle), written beside its place and moved there when it is
whole, so that whoever stops it loses the scenes in work and a further call goes on. Reflectance is
kept in steps of 1/10000 and backscatter in steps of 0.01 dB, as products keep them; the truth is
exact.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from earthmind_lab.data.simulate import VERSION, SimulatedScene, native_size, simulate_scene
from earthmind_lab.data.simulate_optical import Sun
from earthmind_lab.data.simulate_sar import Pass
from earthmind_lab.data.simulate_truth import Thing, Truth
from earthmind_lab.errors import AssetUnavailable, LoadError
from earthmind_lab.progress import bar

SETTINGS = "settings.json"
PATIENCE = 300.0
"""Seconds that any scene may take before the work is given up."""


@dataclass(frozen=True, kw_only=True)
class SimulatedFolder:
    """Scenes that `simulate_many` has drawn, read when they are asked for."""

    path: Path
    """Where they are."""
    seeds: tuple[int, ...]
    """Seed of each, rising."""

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, index: int) -> SimulatedScene:
        """One of them.

        Raises:
            AssetUnavailable: Its file is missing or damaged.
            IndexError: Beyond the last one.
        """
        return _read(_place(self.path, self.seeds[index]))


def simulate_many(
    seeds: Iterable[int],
    folder: str | Path,
    *,
    workers: int = 1,
    size: int = 352,
    gsd: float = 10.0,
    cloudy: bool | None = None,
) -> SimulatedFolder:
    """Draw the scenes of many seeds into a folder, those that are not there yet.

    Args:
        seeds: Of the scenes, each as `simulate_scene`.
        folder: Made where it is missing. It holds scenes of one size, GSD and choice of clouds.
        workers: Processes; 1 = this one. With more, a script needs `if __name__ == "__main__":`.
        size: Pixels on each side.
        gsd: Metres per pixel.
        cloudy: Whether clouds cover a part of the optical bands; None draws it for each.

    Returns:
        The scenes asked for.

    Raises:
        LoadError: The folder holds other scenes, a file can't be written, or a worker died or
            stands still. What was whole stays; call again to go on.
    """
    path, wanted = Path(folder), tuple(sorted(set(seeds)))
    native_size(min(wanted, default=0), size, gsd)
    given = {"version": VERSION, "size": size, "gsd": gsd, "cloudy": cloudy}
    _agree(path, given)
    missing = [seed for seed in wanted if not _place(path, seed).exists()]
    with bar(len(wanted), unit="scene", desc="simulate", delay=1.0) as shown:
        shown.update(len(wanted) - len(missing))
        if workers <= 1:
            for seed in missing:
                _draw(path, seed, size, gsd, cloudy)
                shown.update()
        else:
            _in_parallel(missing, (path, size, gsd, cloudy), workers, shown)
    return SimulatedFolder(path=path, seeds=wanted)


def open_simulated(folder: str | Path) -> SimulatedFolder:
    """All scenes of a folder that `simulate_many` has filled, or begun to.

    Raises:
        AssetUnavailable: There is no such folder.
    """
    path = Path(folder)
    if not (path / SETTINGS).exists():
        raise AssetUnavailable(f"{path} holds no simulated scenes.", change="simulate_many")
    seeds = sorted(int(file.stem.split("_")[1]) for file in path.glob("scene_*.npz"))
    return SimulatedFolder(path=path, seeds=tuple(seeds))


def _agree(path: Path, given: dict[str, Any]) -> None:
    """Make the folder, or see that it holds scenes of the same kind."""
    settings = path / SETTINGS
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not settings.exists():
            _whole(settings, json.dumps(given).encode())
        held = json.loads(settings.read_text())
    except (OSError, ValueError) as error:
        raise LoadError(f"{path} can't hold simulated scenes.", found=str(error)) from error
    if held != given:
        raise LoadError(
            f"{path} holds simulated scenes of another kind.",
            found=f"{held}, asked for {given}", change="another folder",
        )  # fmt: skip


def _place(path: Path, seed: int) -> Path:
    return path / f"scene_{seed:08d}.npz"


def _in_parallel(missing: list[int], rest: tuple[Any, ...], workers: int, shown: Any) -> None:
    path, size, gsd, cloudy = rest
    # A fresh process each: a fork of one that has threads may hang.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
    left, running = iter(missing), set[Future[None]]()
    try:
        while True:
            for seed in islice(left, 2 * workers - len(running)):
                running.add(pool.submit(_draw, path, seed, size, gsd, cloudy))
            if not running:
                return
            done, running = wait(running, PATIENCE, FIRST_COMPLETED)
            if not done:
                raise LoadError(f"No scene was drawn for {PATIENCE:g} s.", change="call again")
            for future in done:
                future.result()
                shown.update()
    except BrokenProcessPool as error:
        raise LoadError(
            "A worker that draws scenes died.", found=str(error),
            change="call again: it goes on where it stopped",
        ) from error  # fmt: skip
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _draw(path: Path, seed: int, size: int, gsd: float, cloudy: bool | None) -> None:
    scene = simulate_scene(seed, size=size, gsd=gsd, cloudy=cloudy)
    about = {
        "gsd": scene.gsd, "seed": scene.seed, "biome": scene.biome, "level": scene.level,
        "wind": scene.wind, "sun": asdict(scene.sun), "radar": asdict(scene.radar),
        "things": [asdict(thing) for thing in scene.truth.listed], "simulated": True,
    }  # fmt: skip
    part = _place(path, seed).with_suffix(".part")
    try:
        with part.open("wb") as stream:
            np.savez(
                stream,
                about=np.array(json.dumps(about)),
                optical=np.rint(scene.optical * 1e4).astype(np.uint16),
                sar=np.rint(scene.sar * 100).astype(np.int16),
                classes=scene.truth.classes,
                things=scene.truth.things,
                cloud=np.rint(scene.cloud * 255).astype(np.uint8),
                shadow=np.rint(scene.shadow * 255).astype(np.uint8),
            )
        part.replace(_place(path, seed))
    except OSError as error:
        part.unlink(missing_ok=True)
        raise LoadError(
            f"Simulated scene {seed} can't be written to {path}.", found=str(error),
            change="make room, and call again: it goes on where it stopped",
        ) from error  # fmt: skip


def _whole(file: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(file)


def _read(file: Path) -> SimulatedScene:
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as held:
            arrays = dict(held)
        about = json.loads(str(arrays["about"]))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise AssetUnavailable(
            f"{file} is no simulated scene.", found=str(error),
            change="delete it, and call simulate_many again",
        ) from error  # fmt: skip
    listed = tuple(Thing(**{**thing, "box": tuple(thing["box"])}) for thing in about["things"])
    return SimulatedScene(
        optical=arrays["optical"].astype(np.float32) / np.float32(1e4),
        sar=arrays["sar"].astype(np.float32) / np.float32(100),
        truth=Truth(classes=arrays["classes"], things=arrays["things"], listed=listed),
        cloud=arrays["cloud"].astype(np.float32) / np.float32(255),
        shadow=arrays["shadow"].astype(np.float32) / np.float32(255),
        sun=Sun(**about["sun"]),
        radar=Pass(**about["radar"]),
        **{name: about[name] for name in ("gsd", "seed", "biome", "level", "wind")},
    )
