"""Several dates of one place as chips on one grid, loaded when they are asked for.

    series = load_series(pairs, aoi)   # headers only
    series.bytes, series[0], series.dataset.sar.mean("time")

Plans and chips that were made before come from the disk (`data.cache`), with no network.
"""

from __future__ import annotations

from collections.abc import Sequence

from earthmind_lab.aoi import AOI, AOILike
from earthmind_lab.chip import Chip, ChipSeries, LoadPlan
from earthmind_lab.data.budget import Budget
from earthmind_lab.data.files import Reader
from earthmind_lab.data.load import load_chip
from earthmind_lab.data.plan import plan_chip
from earthmind_lab.errors import LoadError
from earthmind_lab.scene import ScenePair


def plan_series(
    pairs: Sequence[ScenePair],
    aoi: AOILike,
    *,
    gsd: float | None = None,
    bands: Sequence[str] | None = None,
    deadline: float = 120.0,
    reader: Reader | None = None,
) -> tuple[LoadPlan, ...]:
    """What loading the chips of a series will cost, ordered by time.

    Args:
        pairs: The scenes of each date.
        aoi: The area, in any form `AOI.from_any` takes.
        gsd: Pixel size in metres; None = that of the first pair with an optical scene.
        bands: Optical bands of every chip; None = those of the first pair with an optical scene.
        deadline: Seconds for all of it.
        reader: Opens the files, within its own time limit in place of `deadline`.

    Returns:
        A plan per pair; all on the grid of the first pair with an optical scene.

    Raises:
        LoadError: As `plan_chip`, or there are no pairs.
    """
    if not pairs:
        raise LoadError("A series needs at least one pair.", change="search other dates")
    reader, aoi = reader or Reader(budget=Budget(deadline)), AOI.from_any(aoi)
    ordered = sorted(pairs, key=lambda pair: min(scene.start for scene in pair.scenes))
    first = next((pair for pair in ordered if pair.optical is not None), ordered[0])
    leading = plan_chip(first, aoi, gsd=gsd, bands=bands, reader=reader)
    bands = leading.bands or None
    return tuple(
        leading
        if pair is first
        else plan_chip(pair, aoi, bands=bands, grid=leading.grid, reader=reader)
        for pair in ordered
    )


def load_series(
    pairs: Sequence[ScenePair],
    aoi: AOILike,
    *,
    gsd: float | None = None,
    bands: Sequence[str] | None = None,
    deadline: float = 120.0,
    reader: Reader | None = None,
) -> ChipSeries:
    """The chips of several dates on one grid; only headers are read before a chip is asked for.

    Args:
        pairs: The scenes of each date.
        aoi: The area, in any form `AOI.from_any` takes.
        gsd: As `plan_series`.
        bands: As `plan_series`.
        deadline: Seconds for the plans, and for each chip.
        reader: Opens the files, within one time limit for everything in place of `deadline`.

    Raises:
        LoadError: As `plan_series`.
    """

    def load(plan: LoadPlan) -> Chip:
        return load_chip(plan.pair, plan.aoi, plan=plan, deadline=deadline, reader=reader)

    plans = plan_series(pairs, aoi, gsd=gsd, bands=bands, deadline=deadline, reader=reader)
    return ChipSeries(plans=plans, load=load)
