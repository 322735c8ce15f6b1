"""Pictures inside a request to arrays, and masks to run lengths."""

from __future__ import annotations

import base64
import binascii
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from earthmind_lab.errors import PromptError

_DATA = re.compile(r"data:image/(png|jpe?g);base64,", re.IGNORECASE)


def file_of(url: str) -> bytes:
    """The file in a data URL.

    Args:
        url: ``data:image/png;base64,…`` or ``data:image/jpeg;base64,…``, which many call ``jpg``.

    Raises:
        PromptError: Another kind of address, or no base64.
    """
    head = _DATA.match(url)
    if head is None:
        inside = url[:5].lower() == "data:"
        raise PromptError(
            "Only PNG and JPEG in base64 are taken."
            if inside
            else "Only pictures inside the request are taken: nothing is fetched or opened.",
            found=f"an address that begins with {url[:30]!r}",
            change="data:image/png;base64,… or data:image/jpeg;base64,…",
        )
    try:
        return base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise PromptError("The picture is no base64.", found=str(error)) from error


def size_of(file: bytes) -> tuple[int, int]:
    """Width and height that a file says; nothing is decoded.

    Raises:
        PromptError: It is no PNG or JPEG.
    """
    with _opened(file) as image:
        return image.width, image.height


def pixels_of(file: bytes) -> NDArray[np.uint8]:
    """The pixels of a file.

    Returns:
        (H, W, 3), turned upright where its camera says so.

    Raises:
        PromptError: It can't be read.
    """
    from earthmind_lab.render import picture_view

    with _opened(file) as image:
        return picture_view(image).image


@contextmanager
def _opened(file: bytes) -> Iterator[Image.Image]:
    """A file whose head has been read."""
    try:
        with warnings.catch_warnings():
            # The limits come before decoding.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(file), formats=("PNG", "JPEG")) as image:
                yield image
    except PromptError:
        raise
    except Exception as error:  # Pillow's plugins raise whatever the bytes make them stumble over
        raise PromptError(
            "The picture can't be read.", found=type(error).__name__, change="a whole PNG or JPEG"
        ) from error


def run_lengths(mask: NDArray[np.bool_]) -> str:
    """A mask in COCO's compressed form, column by column.

    Args:
        mask: (H, W).

    >>> run_lengths(np.array([[False, True], [True, True]]))
    '13'
    """
    flat = np.concatenate([[False], mask.T.ravel()])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], edges, [mask.size]])).tolist()
    text = []
    for index, count in enumerate(counts):
        # From the fourth on the difference to the one before last: shorter for upright shapes.
        left = count - counts[index - 2] if index > 2 else count
        more = True
        while more:
            bits, left = left & 0x1F, left >> 5
            more = left != (-1 if bits & 0x10 else 0)
            text.append(chr((bits | (0x20 if more else 0)) + 48))
    return "".join(text)
