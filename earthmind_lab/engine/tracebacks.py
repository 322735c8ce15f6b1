"""Errors that are handed out hold nothing of what the model computed.

The traceback of an error holds the frames that it went through, and each frame the one that called
it, whether the traceback names that or not; all with their locals: caches of the failed ask, states
and masks of other answers. Where it failed may be told; what was there is let go.
"""

from __future__ import annotations

import traceback
from types import FrameType


def without_locals(error: Exception, *, module: str) -> Exception:
    """The error without the locals of frames that have ended, those of its causes too.

    Args:
        error: As it was caught.
        module: Name of the catching module: its own frames are alive and can't be cleared, so
            they are left out of the traceback; see `Callers`.
    """
    for link in _chain(error):
        trace = link.__traceback__
        while trace is not None and trace.tb_frame.f_globals.get("__name__") == module:
            trace = trace.tb_next
        traceback.clear_frames(trace)
        link.__traceback__ = trace
    return error


class Callers:
    """Frames that were running when errors were handed out, to be cleared once they have ended."""

    def __init__(self) -> None:
        self._frames: list[FrameType] = []

    def add(self, error: Exception) -> None:
        """Those through which an error is still connected to its catcher."""
        for link in _chain(error):
            if link.__traceback__ is not None:
                self._frames.append(link.__traceback__.tb_frame)

    def clear(self) -> None:
        """Let go of the locals of all that have ended since."""
        while self._frames:
            frame: FrameType | None = self._frames.pop()
            while frame is not None:
                try:
                    frame.clear()
                except RuntimeError:  # still running, and so are its callers
                    break
                frame = frame.f_back


def _chain(error: BaseException) -> list[BaseException]:
    """An error and what caused it."""
    found: dict[int, BaseException] = {}
    ahead: list[BaseException | None] = [error]
    while ahead:
        link = ahead.pop()
        if link is not None and id(link) not in found:
            found[id(link)] = link
            ahead += [link.__cause__, link.__context__]
    return list(found.values())
