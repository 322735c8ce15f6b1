"""A device's memory as torch sees it: how much is free, and what to do when it ends."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from earthmind_lab.engine.room import main_memory
from earthmind_lab.errors import OutOfDeviceMemory


def free_memory(device: torch.device) -> int:
    """Bytes that may still be taken on a device; without end where nobody can tell."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(device)[0]
    free = main_memory().free
    return sys.maxsize if free is None else free


def require(nbytes: int, *, what: str) -> None:
    """Refuse what main memory has no room for, before the system ends the process over it.

    Args:
        nbytes: That are about to be taken.
        what: Them, as the beginning of a sentence in the plural.

    Raises:
        OutOfDeviceMemory: Not so many are free.
    """
    free = main_memory().free if nbytes else None
    if free is not None and nbytes > free:
        raise OutOfDeviceMemory(
            f"{what} do not fit into main memory.",
            found=f"{nbytes >> 20} MiB needed, {free >> 20} MiB free",
            change="ask for fewer objects, allow fewer new tokens, or smaller views",
        )


def is_memory(error: BaseException) -> bool:
    """A full GPU has a class of its own in torch, full main memory only a sentence.

    numpy, which prepares the pictures and takes the masks, raises Python's own class.
    """
    full = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return full or "can't allocate memory" in str(error)


@contextmanager
def device_memory(device: torch.device, make_room: Callable[[], None]) -> Iterator[None]:
    """Turn a full device into our error, and make room for the next ask.

    Args:
        device: Where the work is done.
        make_room: Drops what can be made again.

    Raises:
        OutOfDeviceMemory: The memory has ended.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold what was made on the way
        make_room()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        raise OutOfDeviceMemory(
            f"The ask does not fit into the memory of {device}.",
            found=(str(error) or type(error).__name__).splitlines()[0],
            change="fewer or smaller views, or a device with more memory",
        ) from error
