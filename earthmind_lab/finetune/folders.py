"""Pictures that a file of examples names: inside one folder, and nowhere else."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from earthmind_lab.errors import AssetUnavailable
from earthmind_lab.exchange import Modality, View
from earthmind_lab.finetune.source import Recent, wrong
from earthmind_lab.render import picture_view

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif"})


class PictureFolder:
    """A folder of pictures.

    Names come out of other people's files, so that none may lead outside: not absolute, not with
    ``..``, not through a link.

    Args:
        root: The folder.

    Raises:
        AssetUnavailable: There is no such folder.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser().resolve()
        if not self.root.is_dir():
            raise AssetUnavailable(
                f"There is no folder of pictures {str(root)!r}.", change="images=FOLDER"
            )
        self._recent: Recent[Any] = Recent()

    def told(self, name: str) -> str:
        """How a picture is named before anything is opened; equal for equal files."""
        return os.path.normpath(self.root / name)

    def path(self, name: str, where: str) -> Path:
        """The file or folder of a name; need not exist.

        Raises:
            LoadError: It lies outside the folder.
        """
        if not name.strip() or "\0" in name:
            raise wrong(where, "a picture has no name.", found=repr(name))
        try:
            found = (self.root / name).resolve()
        except (OSError, RuntimeError) as error:  # a name too long, links in a circle
            raise wrong(where, "a picture's name leads nowhere.", found=str(error)) from error
        if Path(name).is_absolute() or not found.is_relative_to(self.root):
            raise wrong(
                where, f"the picture {name!r} lies outside the folder of pictures.",
                found=f"images={self.root}",
                change="names relative to images=, without .. and links that leave it",
            )  # fmt: skip
        return found

    def file(self, name: str, where: str) -> Path:
        """The file of a name.

        Raises:
            LoadError: It lies outside the folder, or isn't there.
        """
        found = self.path(name, where)
        if not found.is_file():
            raise wrong(
                where, f"there is no picture {name!r}.", found=f"nothing at {found}",
                change="images=FOLDER, or the name as it is in that folder",
            )  # fmt: skip
        return found

    def view(self, path: Path, modality: Modality = "optical", name: str = "picture") -> View:
        """A picture of the folder, from `file`; those opened last are held.

        Raises:
            PromptError: No picture, or too large.
        """

        def read() -> tuple[View, int]:
            view = replace(picture_view(path), modality=modality, name=name)
            return view, view.image.nbytes

        view: View = self.held((path, modality, name), read)
        return view

    def held(self, key: Any, make: Callable[[], tuple[Any, int]]) -> Any:
        """What was made last under a key, as far as there is room; see `Recent.get`."""
        return self._recent.get(key, make)

    def inside(self, folder: Path, pattern: str = "*") -> list[Path]:
        """Pictures of a folder in it, in the order people count: 2 before 10."""
        return sorted(self._inside(folder, pattern), key=lambda path: natural(path.name))

    def _inside(self, folder: Path, pattern: str) -> Iterator[Path]:
        for path in folder.glob(pattern):
            # A link in a folder of frames is a name like any other.
            if path.suffix.lower() in PICTURES and path.resolve().is_relative_to(self.root):
                yield path


def natural(name: str) -> list[tuple[int, str]]:
    """What names are ordered by.

    >>> sorted(["rgb_10.png", "rgb_2.png"], key=natural)
    ['rgb_2.png', 'rgb_10.png']
    """
    parts = re.split(r"([0-9]+)", name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
