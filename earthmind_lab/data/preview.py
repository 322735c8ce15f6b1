"""A scene as a small picture of an AOI, before anything is loaded: which of these is cloudy?

    view = preview(pair.optical, aoi)      # uint8, about 96 px a side

It is a load of a few bands on a coarse grid, so that pixels come from overviews wherever these hold
averages, under the same rules and with the same numbers as a chip.
"""

from __future__ import annotations

from earthmind_lab.aoi import AOI, AOILike
from earthmind_lab.data.budget import Budget
from earthmind_lab.data.files import REMOTE, Reader
from earthmind_lab.data.load import load_chip
from earthmind_lab.errors import PromptError, RadiometryUnknown
from earthmind_lab.exchange import View
from earthmind_lab.render import default_composites, render
from earthmind_lab.scene import Scene, ScenePair

SIDE_PX = 96
"""Longest side: a row of a table is no higher."""
SECONDS = 20.0
"""What is slower is no preview."""
_TRUE_COLOUR = ("red", "green", "blue")
_LEAST_GSD = 10.0


def preview(
    scene: Scene, aoi: AOILike, *, side: int = SIDE_PX, reader: Reader | None = None
) -> View:
    """A small picture of a scene: true colour of an optical one, polarisations of a SAR one.

    Args:
        scene: Of a search.
        aoi: The area, in any form `AOI.from_any` takes.
        side: Longest side of the picture in pixels, give or take one.
        reader: Opens the files, within its own time limit in place of `SECONDS`.

    Returns:
        uint8 (H, W, 3) in the fixed stretch of `render`; nodata is black.

    Raises:
        AOIError: The area can't be used.
        Cancelled: The reader's budget was cancelled.
        LoadError: The files can't be read in time, or there is no data in the AOI.
        RadiometryUnknown: The numbers have no declared meaning, so no picture means anything.
    """
    area, optical = AOI.from_any(aoi), scene.modality == "optical"
    alone = ScenePair(
        optical=scene if optical else None, sar=None if optical else scene, gap=None, overlap=1.0,
        cloud_in_aoi=None, score=0.0, factors={},
    )  # fmt: skip
    coarse = max(area.grid(gsd=_LEAST_GSD).shape) * _LEAST_GSD / side
    visible = _TRUE_COLOUR if optical and set(_TRUE_COLOUR) <= set(scene.assets) else None
    chip = load_chip(
        alone,
        area,
        gsd=max(_LEAST_GSD, coarse),
        bands=visible,
        reader=reader or Reader(budget=Budget(SECONDS)),
        cache=False,
    )
    names = default_composites(chip)
    try:
        return render(chip, names[:1])[0]
    except PromptError as error:
        raise RadiometryUnknown(
            f"There are no bands for a picture of {scene.id!r}.", found=error.found
        ) from error


def is_remote(scene: Scene) -> bool:
    """Whether a preview reads over the network."""
    return any(href.startswith(REMOTE) for href in scene.assets.values())
