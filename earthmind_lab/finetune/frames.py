"""Frames of one place: a folder of pictures, an animated picture, a video."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthmind_lab.errors import LoadError
from earthmind_lab.exchange import View
from earthmind_lab.render import DAMAGED, MAX_PICTURE_PX, PICTURE_FORMATS, picture_view

if TYPE_CHECKING:
    from collections.abc import Sequence

VIDEOS = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg"})


def spread(count: int, most: int) -> list[int]:
    """Which of `count` frames are taken: the first, the last, and evenly between.

    >>> spread(9, 5), spread(3, 5), spread(4, 1)
    ([0, 2, 4, 6, 8], [0, 1, 2], [0])
    """
    if count <= most:
        return list(range(count))
    return [round(step * (count - 1) / max(1, most - 1)) for step in range(most)]


def frames_of_pictures(paths: Sequence[Path], most: int) -> tuple[View, ...]:
    """Pictures of a folder as frames.

    Args:
        paths: In their order.
        most: Frames to take, spread evenly.

    Raises:
        LoadError: No pictures, or of different sizes.
    """
    if not paths:
        raise LoadError("The folder of frames holds no picture.", change="PNG, JPEG or TIFF files")
    return _alike(tuple(picture_view(paths[index]) for index in spread(len(paths), most)))


def frames_of_file(path: Path, most: int) -> tuple[View, ...]:
    """Frames of an animated GIF, WebP or PNG, of a TIFF with several pages, or of a video.

    Args:
        path: The file.
        most: Frames to take, spread evenly.

    Raises:
        LoadError: It can't be read, or reading a video needs a package that isn't there.
    """
    if path.suffix.lower() in VIDEOS:
        from earthmind_lab.finetune.videos import frames_of_video

        return _alike(frames_of_video(path, most))
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=PICTURE_FORMATS) as image:
                return _alike(tuple(_animated(image, path, most)))
    except (*DAMAGED, Image.DecompressionBombError) as error:
        raise LoadError(
            f"The file {path.name!r} can't be read as frames.", found=str(error),
            change=f"an animated GIF, WebP, PNG, a TIFF of several pages, or {_names()}",
        ) from error  # fmt: skip


def _animated(image: Any, path: Path, most: int) -> Iterator[View]:
    if image.width * image.height > MAX_PICTURE_PX:  # before the first frame is decoded
        raise LoadError(f"The file {path.name!r} is too large.", found=f"{image.size} px")
    for index in spread(getattr(image, "n_frames", 1), most):
        image.seek(index)
        # convert() leaves the file's own frame as it is; a later seek builds on it.
        yield picture_view(image.convert("RGB"))


def _alike(frames: tuple[View, ...]) -> tuple[View, ...]:
    if not frames:
        raise LoadError("There is no frame in it.")
    for one, other in pairwise(frames):
        if one.shape != other.shape:
            raise LoadError(
                "The frames differ in size.", found=f"{one.shape} and {other.shape} px",
                change="frames of one size, on one grid",
            )  # fmt: skip
    return frames


def _names() -> str:
    return ", ".join(sorted(VIDEOS))
