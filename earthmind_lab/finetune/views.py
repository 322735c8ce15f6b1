"""Pictures of one example, however a data set lays them out.

a.png                          one picture
rgb/img/a.png, sar/img/a.png   a pair under one name (the published ``Multi_`` sets)
a/rgb_1.png, a/rgb_2.png, …    bands in groups of three under ``a.png`` (the ``MS_`` sets)
a/…png in order, a.gif, a.mp4  frames
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.errors import EarthMindError
from earthmind_lab.exchange import View
from earthmind_lab.finetune.folders import PictureFolder
from earthmind_lab.finetune.frames import frames_of_file, frames_of_pictures
from earthmind_lab.finetune.source import wrong
from earthmind_lab.render import picture_view

RGB, SAR = "rgb/img", "sar/img"
GROUPS = "rgb_*.png"
OTHERS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
"""Suffixes that the SAR picture of a pair may have instead of the optical one's."""


class Views:
    """Where pictures are and how they are read.

    Args:
        folder: Of the pictures.
        frames: Most frames of a series.

    Attributes:
        pairs: Whether each name is a pair: the folder holds rgb/img and sar/img.
    """

    def __init__(self, folder: PictureFolder, *, frames: int = 5) -> None:
        self.folder, self.frames = folder, frames
        self.pairs = all((folder.root / part).is_dir() for part in (RGB, SAR))

    def told(self, name: str) -> tuple[str, ...]:
        """Names of the files of a picture, before anything is opened."""
        if self.pairs:
            return self.folder.told(f"{RGB}/{name}"), self.folder.told(f"{SAR}/{name}")
        return (self.folder.told(name),)

    def open(self, names: Sequence[str], where: str, *, video: bool = False) -> tuple[View, ...]:
        """The pictures of an example.

        Args:
            names: As the data set names them.
            where: For people.
            video: Whether the names are frames or files of frames.

        Raises:
            LoadError: One is missing, lies outside the folder or can't be read.
            PromptError: One is no picture.
        """
        if self.pairs:
            if len(names) > 1:
                raise wrong(where, "a pair has one name.", found=", ".join(names))
            return tuple(view for name in names for view in self._pair(name, where))
        if video and len(names) > 1:
            paths = [self.folder.file(name, where) for name in names]
            return self._held(tuple(paths), where)
        shown = [view for name in names for view in self._named(name, where, video=video)]
        return tuple(shown)

    def drawn(self, shown: Sequence[View]) -> tuple[View, ...]:
        """Views of the size that masks are drawn on, as many as `Arrangement.mask_views`."""
        first = shown[0]
        return tuple(v for v in shown if (v.modality, v.name) == (first.modality, first.name))

    def mask(self, name: str, where: str) -> NDArray[np.bool_]:
        """(H, W) of a mask picture: whatever isn't black."""
        image = picture_view(self.folder.file(name, where)).image
        return np.asarray(image.any(axis=-1))

    def _named(self, name: str, where: str, *, video: bool) -> tuple[View, ...]:
        path = self.folder.path(name, where)
        if path.is_file():
            return self._held(path, where) if video else (self.folder.view(path),)
        inside = path if path.is_dir() else path.with_suffix("")
        if not inside.is_dir() or inside == self.folder.root:
            self.folder.file(name, where)  # says what is missing
        groups = self.folder.inside(inside, GROUPS)
        if groups and not video:
            # Different pictures of one moment have different names; frames share one.
            return tuple(self.folder.view(each, name=each.stem) for each in groups)
        frames = self.folder.inside(inside)
        if not frames:
            raise wrong(where, f"the folder {name!r} holds no picture.", change="PNG, JPEG, TIFF")
        return self._held(tuple(frames), where)

    def _pair(self, name: str, where: str) -> tuple[View, ...]:
        optical = self.folder.view(self.folder.file(f"{RGB}/{name}", where))
        sar = self.folder.view(self._sar(name, where), "sar")
        if optical.shape != sar.shape:
            raise wrong(
                where, f"the two pictures of {name!r} don't lie on one grid.",
                found=f"optical {optical.shape}, SAR {sar.shape} px (H, W)",
                change="bring both to one grid; resizing one would only hide it",
            )  # fmt: skip
        return optical, sar

    def _sar(self, name: str, where: str) -> Path:
        names = [name, *(str(Path(name).with_suffix(suffix)) for suffix in OTHERS)]
        there = (n for n in names if self.folder.path(f"{SAR}/{n}", where).is_file())
        return self.folder.file(f"{SAR}/{next(there, name)}", where)

    def _held(self, source: Path | tuple[Path, ...], where: str) -> tuple[View, ...]:
        """Frames, held as long as there is room."""

        def read() -> tuple[tuple[View, ...], int]:
            try:
                if isinstance(source, Path):
                    found = frames_of_file(source, self.frames)
                else:
                    found = frames_of_pictures(source, self.frames)
            except EarthMindError as error:
                raise wrong(where, error.asked, found=error.found, change=error.change) from error
            return found, sum(view.image.nbytes for view in found)

        found: Any = self.folder.held((source, self.frames), read)
        return tuple(found)
