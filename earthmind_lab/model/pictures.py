"""Pictures to pixel values: how a view is cut, resized and normalised.

Resizing is Pillow's bicubic, because the published weights were trained behind it and no other
implementation gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def cut(
    image: NDArray[np.uint8], grid: tuple[int, int], side: int, *, thumbnail: bool
) -> list[NDArray[np.uint8]]:
    """Cut a picture into the squares that the vision tower reads.

    Args:
        image: uint8 (H, W, 3).
        grid: Columns and rows.
        side: S, in pixels.
        thumbnail: Append the whole picture where there are several squares.

    Returns:
        uint8 (S, S, 3) each, row by row.
    """
    columns, rows = grid
    whole = resize(image, (rows * side, columns * side))
    squares = [
        whole[y * side : (y + 1) * side, x * side : (x + 1) * side]
        for y in range(rows)
        for x in range(columns)
    ]
    return [*squares, resize(image, (side, side))] if len(squares) > 1 and thumbnail else squares


def resize(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture (H, W, 3) at another `size` (H, W); the aspect ratio is not kept."""
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC))


def normalise(
    images: NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.float32]:
    """(N, H, W, 3) of 0 to 255 -> (N, 3, H, W), in float32 throughout."""
    scaled = images.astype(np.float32) / np.float32(255)
    centred = (scaled - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return np.ascontiguousarray(centred.transpose(0, 3, 1, 2))


def best_grid(size: tuple[int, int], side: int, fewest: int, most: int) -> tuple[int, int]:
    """The (columns, rows) whose shape is nearest to that of a picture of `size` (H, W).

    On a tie the later, larger grid wins only if the picture fills more than half of it.
    """
    height, width = size
    aspect, area = width / height, width * height
    best, best_distance = (1, 1), float("inf")
    for columns, rows in candidates(fewest, most):
        distance = abs(aspect - columns / rows)
        if distance < best_distance:
            best, best_distance = (columns, rows), distance
        elif distance == best_distance and area > 0.5 * side * side * columns * rows:
            best = (columns, rows)
    return best


def candidates(fewest: int, most: int) -> list[tuple[int, int]]:
    """All grids of `fewest` to `most` squares, smallest first.

    Built as a set before the stable sort, as published: the order of grids of equal count is
    the order of that set, and ties depend on it.
    """
    grids = {
        (i, j)
        for n in range(fewest, most + 1)
        for i in range(1, n + 1)
        for j in range(1, n + 1)
        if fewest <= i * j <= most
    }
    return sorted(grids, key=lambda grid: grid[0] * grid[1])
