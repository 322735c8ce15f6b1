"""What each optical scene offers inside the AOI, before it is paired."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property

from shapely.geometry.base import BaseGeometry

from earthmind_lab.aoi import AOI
from earthmind_lab.data.clouds import Clear, Mask, read_mask
from earthmind_lab.data.files import REMOTE, Reader
from earthmind_lab.errors import AccessDenied, LoadError
from earthmind_lab.progress import bar
from earthmind_lab.scene import Scene

MASK_LANES = 16
"""Cloud masks fetched at a time."""
MASKS = "reading cloud masks"
UNKNOWN_CLEAR = 0.5
"""Clear share where nothing tells the cloud."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """What one optical scene offers inside the AOI."""

    scene: Scene
    mask: Mask | None
    """None when the scene has no mask or it can't be read."""
    cloud: float | None
    """Cloud and shadow in per cent: from the mask, else of the whole scene; None = unknown."""
    reasons: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """The mask shows no data anywhere inside the AOI."""
        return self.mask is not None and self.cloud is None

    def clear(self, overlap: float, shared: BaseGeometry | None) -> tuple[float, tuple[str, ...]]:
        """Share of the AOI that is clear inside the footprints, and the reasons for it.

        Args:
            overlap: Share of the AOI inside the footprints, 0 to 1.
            shared: That part, lon/lat; None = the whole AOI.
        """
        if self.mask is None:
            share = UNKNOWN_CLEAR if self.cloud is None else 1 - self.cloud / 100
            return overlap * share, self.reasons
        if shared is None:
            return self._whole
        return _told(self.mask, self.mask.shares(shared))

    @cached_property
    def _whole(self) -> tuple[float, tuple[str, ...]]:
        assert self.mask is not None
        return _told(self.mask, self.mask.shares())


def look_all(scenes: Iterable[Scene], aoi: AOI, reader: Reader | None = None) -> list[Look]:
    """`look` at each scene, several at a time where masks come over the network."""
    scenes, reader = list(scenes), reader or Reader()
    remote = any(href.startswith(REMOTE) for scene in scenes for href in scene.assets.values())
    if not remote:
        looked: list[Look] = []
        for scene in scenes:
            reader.budget.step(MASKS, len(looked), len(scenes))
            looked.append(look(scene, aoi, reader))
        return looked
    lanes = ThreadPoolExecutor(MASK_LANES)
    try:
        looks = [lanes.submit(look, scene, aoi, reader) for scene in scenes]
        with bar(len(looks), unit="scene", desc="cloud masks", delay=1) as shown:
            reader.budget.step(MASKS, 0, len(looks))
            for done, each in enumerate(as_completed(looks), start=1):
                each.result()
                reader.budget.step(MASKS, done, len(looks))
                shown.update()
        return [each.result() for each in looks]
    except BaseException:
        reader.budget.cancel()
        raise
    finally:
        lanes.shutdown(cancel_futures=True)


def look(scene: Scene, aoi: AOI, reader: Reader | None = None) -> Look:
    """Read what an optical scene's mask says about the AOI, or fall back to its percentage."""
    mask, reasons = None, []
    try:
        mask = read_mask(scene, aoi, reader)
    except (LoadError, AccessDenied) as error:
        reasons.append(f"The cloud mask can't be read: {error}")
    if mask is not None:
        return Look(scene=scene, mask=mask, cloud=mask.shares().cloud_percent)
    if scene.cloud_cover is None:
        reasons.append(
            "Nothing tells the cloud: counted as half clear, ranked behind pairs whose cloud is"
            " known."
        )
    else:
        reasons.append(
            f"No cloud mask inside the AOI: the whole scene's {scene.cloud_cover:.3g} % takes its"
            " place."
        )
    return Look(scene=scene, mask=None, cloud=scene.cloud_cover, reasons=tuple(reasons))


def _told(mask: Mask, shares: Clear) -> tuple[float, tuple[str, ...]]:
    clear = f"{100 * shares.clear:.3g} % of the AOI is clear, by the scene's mask: {mask.title}."
    snow = f"Snow or ice covers {100 * shares.snow:.3g} % of the AOI."
    return shares.clear, (clear, snow) if shares.snow >= 0.05 else (clear,)
