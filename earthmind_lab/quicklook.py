"""A chip's picture in a notebook: small JPEGs of its composites, inside the page itself."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.chip import Chip
from earthmind_lab.figures import caption
from earthmind_lab.render import default_composites, render

SIDE_PX = 256
"""Longest side of a thumbnail: a notebook keeps each in its file."""


def quicklook(chip: Chip) -> str:
    """The default composites of a chip as HTML; empty where it has bands for none.

    Args:
        chip: Of any size: only every n-th pixel is rendered.

    Returns:
        A figure per composite with its name and day; text of catalogs is escaped.
    """
    thin = _thinned(chip)
    names = default_composites(thin)
    views = render(thin, names) if names else ()
    return "".join(
        f"<figure style='display:inline-block;margin:4px'><img width='{SIDE_PX}' "
        f"style='image-rendering:pixelated' alt='' src='{data_url(view.image)}'>"
        f"<figcaption>{escape(caption(view))}</figcaption></figure>"
        for view in views
    )


def data_url(image: NDArray[np.uint8], quality: int = 90) -> str:
    """A picture, (H, W, 3), as a JPEG inside its own address.

    >>> data_url(np.zeros((2, 2, 3), dtype=np.uint8))[:23]
    'data:image/jpeg;base64,'
    """
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _thinned(chip: Chip) -> Chip:
    """Every n-th pixel, so that a chip of any size costs the same."""
    from affine import Affine
    from odc.geo.geobox import GeoBox

    step = -(-max(chip.grid.shape) // SIDE_PX)
    if step == 1:
        return chip
    part = (..., slice(None, None, step), slice(None, None, step))
    arrays: dict[str, Any] = {
        name: np.ascontiguousarray(value[part])
        for name, value in vars(chip).items() if isinstance(value, np.ndarray)
    }  # fmt: skip
    # A thin AOI may fall between the pixels that are left; the picture shows all of them.
    arrays["inside"] = np.ones(arrays["inside"].shape, dtype=bool)
    a, b, c, d, e, f = chip.grid.affine[:6]
    affine = Affine(a * step, b * step, c, d * step, e * step, f)
    return replace(chip, grid=GeoBox(arrays["inside"].shape, affine, chip.grid.crs), **arrays)
