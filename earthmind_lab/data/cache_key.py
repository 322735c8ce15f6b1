"""What a chip depends on, as one hash: equal hashes, equal pixels.

Only what can be told without opening a file goes in, so that a kept chip is found with no network.
The score and the reasons of a pair, its catalog and the AOI's name stay out: they change no pixel,
and the chip that is found again carries those it was asked with.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from datetime import date
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import urlsplit

import numpy as np

from earthmind_lab.aoi import AOI
from earthmind_lab.chip import LoadPlan
from earthmind_lab.data.assets import assets_of
from earthmind_lab.data.grd_tables import Kind, find_table
from earthmind_lab.data.items import local_path
from earthmind_lab.errors import AssetUnavailable, EarthMindError
from earthmind_lab.grid import grid_data
from earthmind_lab.scene import Scene, ScenePair
from earthmind_lab.sensors import SENSORS

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

PROCESSING = 2
"""To be raised with every change of `data/`, `grid.py` or `sensors.py` that may change a pixel, a
mask, the radiometry or the provenance of any chip. Chips of other numbers are never found again and
are evicted in time; nothing has to be converted."""
_PLAN = 2
"""Of what is kept of a plan, to be raised when that changes."""
_APART = ("pair", "aoi", "reads", "bytes")
"""Fields of a plan that its key takes in another form, or that follow from the others."""


class Keys:
    """The names of what one load keeps: of its plan, and of its chip.

    What both depend on is looked at once.

    Args:
        pair: The scenes.
        aoi: The area.
    """

    def __init__(self, pair: ScenePair, aoi: AOI) -> None:
        self._inputs = _texts(_inputs(pair, aoi))

    def plan(self, *, asked: float | GeoBox | None, names: Sequence[Sequence[str]]) -> str | None:
        """The name of the plan that these arguments give; None where an item is no plain data.

        Args:
            asked: The gsd or the grid: None stands for a number that only a file tells.
            names: The optical bands and the polarisations that will be loaded.
        """
        grid = float(asked) if isinstance(asked, int | float) else asked
        return self._digest({"form": _PLAN, "grid": grid, "names": names})

    def chip(self, plan: LoadPlan) -> str | None:
        """The name of the chip that a plan of these scenes and this area gives; None as above."""
        rest = {f.name: getattr(plan, f.name) for f in fields(plan) if f.name not in _APART}
        return self._digest({"plan": rest})

    def _digest(self, more: Mapping[str, Any]) -> str | None:
        own = _texts(more)
        if self._inputs is None or own is None:
            return None
        parts = sorted({**self._inputs, **own}.items())
        text = ",".join(f'"{name}":{value}' for name, value in parts)
        return hashlib.sha256(f"{{{text}}}".encode()).hexdigest()


def chip_key(plan: LoadPlan) -> str | None:
    """The name of the chip that a plan gives; None where an item is no plain data."""
    return Keys(plan.pair, plan.aoi).chip(plan)


def as_plain(value: Any) -> Any:
    """For `json.dumps`: what an item or a chip may hold beside JSON's own types."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, date):  # a datetime is one
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is no plain data")


def _inputs(pair: ScenePair, aoi: AOI) -> dict[str, Any]:
    return {
        "processing": PROCESSING,
        "versions": _versions(),
        "aoi": aoi.geometry,
        "optical": pair.optical,
        "sar": pair.sar,
        # What users add to the table (`add_sensor`) may change from one run to the next.
        "sensors": [repr(SENSORS.get(scene.sensor)) for scene in pair.scenes],
        "files": [_state(href) for scene in pair.scenes for href in sorted(set(_hrefs(scene)))],
    }


@cache
def _versions() -> tuple[str, ...]:
    """Of what computes pixels: a record promises equal answers for equal versions only."""
    import pyproj
    import rasterio

    from earthmind_lab import __version__

    numbers = (np.__version__, rasterio.__version__, rasterio.__gdal_version__)
    return (__version__, *numbers, pyproj.__proj_version__)


def _texts(value: Mapping[str, Any]) -> dict[str, str] | None:
    """Each value as JSON; None where one is no plain data."""
    write = partial(json.dumps, sort_keys=True, separators=(",", ":"), default=_canonical)
    try:
        return {name: write(each) for name, each in value.items()}
    except (TypeError, ValueError, RecursionError):
        return None


def _canonical(value: Any) -> Any:
    if isinstance(value, Scene):
        return vars(value)
    if hasattr(value, "wkb_hex"):
        return value.wkb_hex
    if hasattr(value, "affine"):
        return grid_data(value)
    return as_plain(value)


def _hrefs(scene: Scene) -> Iterator[str]:
    """Every file that a load may open: a scene's own, and those of its further items."""
    yield from map(str, scene.assets.values())
    for item in scene.items:
        assets = item.get("assets")
        for asset in assets.values() if isinstance(assets, Mapping) else ():
            href = asset.get("href") if isinstance(asset, Mapping) else None
            if isinstance(href, str) and href.startswith(("/", "file:")):
                yield href
    yield from _tables(scene)


def _tables(scene: Scene) -> Iterator[str]:
    """What calibrates and places a Sentinel-1 GRD product, also where its item says it relatively.

    Nothing that can't be told: the load says so, and a plan or a chip isn't kept.
    """
    for band in scene.assets if scene.modality == "sar" else ():
        with suppress(EarthMindError):
            for ref in assets_of(scene, band):
                found = [find_table(ref, kind) for kind in get_args(Kind)]
                yield from (table.href for table in found if table is not None)


def _state(href: str) -> tuple[int, int, int] | None:
    """Size and times of a local file; None for a remote one, which its item speaks for.

    The time of change is there beside that of modification: copies and archives set the latter.
    """
    try:
        scheme = urlsplit(href).scheme
        if scheme not in ("", "file"):
            return None
        status = (local_path(href) if scheme else Path(href)).stat()
    except (OSError, ValueError, AssetUnavailable):
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
