"""The bands of a chip, each read from its files onto the grid in declared quantities."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.chip import LoadPlan
from earthmind_lab.data.assets import AssetRef, assets_of
from earthmind_lab.data.files import REMOTE, Reader
from earthmind_lab.data.parts import Part, read_part
from earthmind_lab.data.plan import wanted
from earthmind_lab.data.provenance import input_facts
from earthmind_lab.data.resample import Lattice
from earthmind_lab.errors import RadiometryUnknown
from earthmind_lab.scene import Scene

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

REMOTE_LANES, LOCAL_LANES = 16, 2
"""Bands read at a time: the network waits, a disk computes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """One band of the chip with where it came from."""

    band: str
    scene: Scene
    values: NDArray[np.float32]
    """(y, x) reflectance or dB."""
    first: AssetRef
    parts: tuple[Part, ...]
    """Per file: what was done to its numbers."""
    inputs: tuple[dict[str, Any], ...]
    """Per file: what it is, for provenance."""


def read_layers(plan: LoadPlan, lattice: Lattice, reader: Reader) -> list[Layer]:
    """Every band, several at a time; the first failure, or an interrupt, stops the others.

    Args:
        plan: What to read.
        lattice: The lattice of its grid.
        reader: Opens the files.
    """
    from tqdm.auto import tqdm

    pairs = wanted(plan.pair, plan.bands, plan.polarisations)
    remote = any(scene.assets[band].startswith(REMOTE) for scene, band in pairs)
    lanes = ThreadPoolExecutor(REMOTE_LANES if remote else LOCAL_LANES)
    try:
        reads = [
            lanes.submit(_read_layer, scene, band, lattice, plan.grid, reader, plan.speckle)
            for scene, band in pairs
        ]
        done = as_completed(reads)
        bar = {"desc": "loading", "unit": "band", "delay": 1, "leave": False, "disable": None}
        for read in tqdm(done, total=len(reads), **bar):
            read.result()
        return [read.result() for read in reads]
    except BaseException:
        reader.budget.cancel()
        raise
    finally:
        lanes.shutdown(cancel_futures=True)


def _read_layer(
    scene: Scene,
    band: str,
    lattice: Lattice,
    grid: GeoBox,
    reader: Reader,
    filtered: str | None,
) -> Layer:
    """One band; further items of the same acquisition fill what the first leaves empty."""
    refs = assets_of(scene, band)
    values = np.full(tuple(grid.shape), np.nan, dtype=np.float32)
    parts: list[Part] = []
    inputs: list[dict[str, Any]] = []
    for ref in refs:
        with reader.open(ref) as source:
            pixels, part = read_part(scene, ref, source, lattice, grid, reader, filtered)
            facts = input_facts(scene, ref, source, part.kernel, part.scaling)
        parts.append(part)
        inputs.append(facts | dict(part.facts))
        values = np.where(np.isnan(values), pixels, values)
        if not np.isnan(values).any():
            break
    _check_alike(scene, band, parts)
    return Layer(
        band=band,
        scene=scene,
        values=values,
        first=refs[0],
        parts=tuple(parts),
        inputs=tuple(inputs),
    )


def _check_alike(scene: Scene, band: str, parts: Sequence[Part]) -> None:
    """Refuse items of one acquisition whose numbers mean different things."""
    kinds = [part.sar for part in parts if part.sar]
    found = sorted({f"{kind.quantity}, {kind.geometry}" for kind in kinds})
    if len(found) > 1:
        raise RadiometryUnknown(
            f"The items of {scene.id!r} declare different backscatter in {band!r}.",
            found="; ".join(found),
            change="one of the items alone",
        )
