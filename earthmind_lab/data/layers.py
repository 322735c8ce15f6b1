"""The bands of a chip, each read from its files onto the grid in declared quantities."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

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
from earthmind_lab.progress import bar
from earthmind_lab.scene import Scene

REMOTE_LANES, LOCAL_LANES = 16, 2
"""Bands read at a time: the network waits, a disk computes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """One band of the chip with where it came from."""

    band: str
    scene: Scene
    first: AssetRef
    parts: tuple[Part, ...]
    """Per file: what was done to its numbers."""
    inputs: tuple[dict[str, Any], ...]
    """Per file: what it is, for provenance."""


def read_layers(
    plan: LoadPlan, lattice: Lattice, reader: Reader
) -> tuple[list[Layer], NDArray[np.float32]]:
    """Every band, several at a time; the first failure, or an interrupt, stops the others.

    Args:
        plan: What to read.
        lattice: The lattice of its grid.
        reader: Opens the files.

    Returns:
        What each band is and where it came from, and the pixels of all, (band, y, x): optical
        bands first, as reflectance, then the polarisations in dB.
    """
    pairs = wanted(plan.pair, plan.bands, plan.polarisations)
    # All bands lie in one array from the start, which saves the chip a copy.
    pixels = np.empty((len(pairs), *plan.grid.shape), dtype=np.float32)
    remote = any(scene.assets[band].startswith(REMOTE) for scene, band in pairs)
    lanes = ThreadPoolExecutor(REMOTE_LANES if remote else LOCAL_LANES)
    try:
        reads = [
            lanes.submit(_read_layer, scene, band, lattice, plan, reader, into)
            for (scene, band), into in zip(pairs, pixels, strict=True)
        ]
        with bar(len(reads), unit="band", desc="loading", delay=1) as shown:
            reader.budget.step("reading bands", 0, len(reads))
            for done, read in enumerate(as_completed(reads), start=1):
                read.result()
                reader.budget.step("reading bands", done, len(reads))
                shown.update()
        return [read.result() for read in reads], pixels
    except BaseException:
        reader.budget.cancel()
        raise
    finally:
        lanes.shutdown(cancel_futures=True)


def _read_layer(
    scene: Scene,
    band: str,
    lattice: Lattice,
    plan: LoadPlan,
    reader: Reader,
    values: NDArray[np.float32],
) -> Layer:
    """One band into `values`; further items of the acquisition fill what the first leaves empty."""
    refs = assets_of(scene, band)
    parts: list[Part] = []
    inputs: list[dict[str, Any]] = []
    for ref in refs:
        with reader.open(ref) as source:
            pixels, part = read_part(scene, ref, source, lattice, plan, reader)
            facts = input_facts(scene, ref, source, part.kernel, part.scaling)
        parts.append(part)
        inputs.append(facts | dict(part.facts))
        np.copyto(values, pixels, where=np.isnan(values) if ref is not refs[0] else True)
        if not np.isnan(values).any():
            break
    _check_alike(scene, band, parts)
    return Layer(
        band=band,
        scene=scene,
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
