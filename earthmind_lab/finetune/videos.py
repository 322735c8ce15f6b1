"""Frames of a video file, through PyAV (FFmpeg), which is there only if somebody wanted it."""

from __future__ import annotations

from collections.abc import Iterator, Set
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from earthmind_lab.errors import LoadError
from earthmind_lab.finetune.frames import spread
from earthmind_lab.render import MAX_PICTURE_PX, picture_view

if TYPE_CHECKING:
    from pathlib import Path

    from earthmind_lab.exchange import View

MOST_READ = 10_000
"""Frames of a video that are counted; a longer one is cut before it becomes examples."""
MOST_READ_PX = 10**11
"""Pixels of all its frames: 10,000 frames of 4K."""
_KINDS = "mov,matroska,avi,mpeg,mpegts,mpegvideo,m4v"
"""What a file may be, whatever its name says. Lists of files are left out: they name others, which
may lie outside the folder of pictures or on another machine."""


def frames_of_video(path: Path, most: int) -> tuple[View, ...]:
    """Frames of a video, upright as its file says that it is shown.

    Args:
        path: The file.
        most: Frames to take, spread evenly.

    Raises:
        LoadError: No video, a damaged, too long or too large one, or PyAV isn't there.
    """
    try:
        import av
    except ImportError as error:
        raise LoadError(
            f"The video {path.name!r} needs PyAV to be read.",
            found="no package av",
            change="pip install 'earthmind-lab[video]'; or a folder of its frames, or an animated "
            "GIF or WebP",
        ) from error
    try:
        told = _packets(av, path)
        frames, count = _decoded(av, path, set(spread(told, most)))
        if count != told:  # packets without a frame, or with half of one
            frames, _ = _decoded(av, path, set(spread(count, most)))
        return frames
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise LoadError(
            f"The video {path.name!r} can't be read.",
            found=getattr(error, "strerror", None) or str(error),
            change="the whole file again, in MP4, WebM, AVI or MPEG; or a folder of its frames",
        ) from error


@contextmanager
def _opened(av: Any, path: Path) -> Iterator[tuple[Any, Any]]:
    """The file and its moving picture, before anything of that is decoded."""
    given = {"format_whitelist": _KINDS}
    # Somebody's title in an old encoding is no reason to leave the pictures out.
    with av.open(str(path), options=given, metadata_errors="replace") as video:
        stream = video.streams.best("video")
        if stream is None or stream.disposition & av.stream.Disposition.attached_pic:
            found = ", ".join(sorted({each.type for each in video.streams})) or "nothing"
            raise LoadError(f"The file {path.name!r} holds no video.", found=found)
        if stream.codec_context is None:
            raise av.error.DecoderNotFoundError(0, "no decoder for its kind of picture")
        size = stream.codec_context.width, stream.codec_context.height
        if size[0] * size[1] > MAX_PICTURE_PX:
            raise LoadError(
                f"The frames of {path.name!r} are too large.",
                found=f"{size[0]} x {size[1]} px",
                change=f"at most {MAX_PICTURE_PX // 1_000_000} megapixels: cut them",
            )
        # A later frame may be larger than the file says of itself.
        stream.codec_context.options = {"max_pixels": str(MAX_PICTURE_PX)}
        yield video, stream


def _packets(av: Any, path: Path) -> int:
    """Packets of its pictures: nearly always the frames, and counted without decoding one.

    What a container says of its length is often missing or wrong.
    """
    with _opened(av, path) as (video, stream):
        pixels = stream.codec_context.width * stream.codec_context.height
        most = min(MOST_READ, MOST_READ_PX // max(1, pixels))
        count = 0
        for packet in video.demux(stream):
            count += packet.size > 0
            if count > most:
                raise _too_long(path, most)
    return count


def _decoded(av: Any, path: Path, wanted: Set[int]) -> tuple[tuple[View, ...], int]:
    """The wanted frames, and how many there are in all."""
    frames, count = [], 0
    with _opened(av, path) as (video, stream):
        for frame in video.decode(stream):
            if count in wanted:
                image = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
                frames.append(picture_view(np.ascontiguousarray(image)))
            count += 1
            if count > MOST_READ:
                raise _too_long(path, MOST_READ)
    return tuple(frames), count


def _too_long(path: Path, most: int) -> LoadError:
    return LoadError(
        f"The video {path.name!r} is too long.",
        found=f"more than {most} frames",
        change="cut it into shorter ones",
    )
