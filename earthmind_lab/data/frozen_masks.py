"""What a cloud mask showed of an AOI, written into its item, so that it can be asked again offline.

    item["properties"]["earthmind:masks"] = [packed(scene, aoi, mask)]
    frozen_mask(scene, aoi)            # the mask, or None

The samples are kept as they are, with their place: a share can be asked of any part of the AOI.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from earthmind_lab.aoi import AOI
from earthmind_lab.data.clouds import MASK_SIDE, Mask, pixels_of
from earthmind_lab.errors import AssetUnavailable
from earthmind_lab.grid import placeless
from earthmind_lab.scene import Scene

if TYPE_CHECKING:
    from affine import Affine
    from rasterio.crs import CRS

MASKS = "earthmind:masks"
"""The property of an item that holds what its mask showed."""
_BITS = {"inside": 1, "observed": 2, "cloud": 4, "snow": 8}
"""Of a mask's samples, one byte each."""


def about(scene: Scene, aoi: AOI) -> dict[str, str]:
    """Whose mask, and of which area, however its ring was drawn."""
    outline = shapely.to_wkb(shapely.normalize(aoi.geometry), byte_order=1)
    return {"scene": scene.id, "aoi": hashlib.sha256(outline).hexdigest()}


def frozen_mask(scene: Scene, aoi: AOI) -> Mask | None:
    """What the scene's mask showed of this AOI when its search was frozen; None = it wasn't.

    Raises:
        AssetUnavailable: The mask could not be read then, or what was written of it is damaged.
    """
    wanted = about(scene, aoi) if scene.items else {}
    for item in scene.items:
        properties = item.get("properties")
        rows = properties.get(MASKS) if isinstance(properties, Mapping) else None
        for row in rows if isinstance(rows, list) else ():
            if isinstance(row, Mapping) and wanted.items() <= row.items():
                return _unpacked(row)
    return None


def packed(scene: Scene, aoi: AOI, mask: Mask) -> dict[str, Any]:
    """A mask as plain data, for `frozen_mask` to find."""
    transform, crs = mask.place
    layers = [(getattr(mask, name) * bit).astype(np.uint8) for name, bit in _BITS.items()]
    samples = zlib.compress(np.bitwise_or.reduce(layers).tobytes(), 9)
    return {
        **about(scene, aoi),
        "title": mask.title,
        "crs": crs.to_wkt(),
        "transform": list(transform)[:6],
        "shape": list(mask.inside.shape),
        "samples": base64.b64encode(samples).decode("ascii"),
    }


def _unpacked(row: Mapping[str, Any]) -> Mask:
    from rasterio.crs import CRS
    from rasterio.errors import CRSError
    from rasterio.transform import Affine

    if "lost" in row:
        raise AssetUnavailable(str(row["lost"])[:1000])
    try:
        samples = _samples(row)
        place = Affine(*(float(value) for value in row["transform"]))
        crs = CRS.from_wkt(row["crs"])
        return Mask(
            **{name: (samples & bit) > 0 for name, bit in _BITS.items()},
            place=(place, crs),
            rasterise=_rasteriser(place, crs, samples.shape),
            title=str(row["title"]),
        )
    except (ValueError, TypeError, LookupError, OverflowError, zlib.error, CRSError) as error:
        raise AssetUnavailable(
            "What the frozen search keeps of a cloud mask is damaged.",
            found=f"{type(error).__name__}: {error}"[:200],
            change="search again, and freeze that",
        ) from error


def _samples(row: Mapping[str, Any]) -> NDArray[np.uint8]:
    """(y, x) samples of a mask, each a sum of `_BITS`; at least one lies inside the AOI."""
    rows, columns = (int(side) for side in row["shape"])
    if not (0 < rows <= MASK_SIDE + 1 and 0 < columns <= MASK_SIDE + 1):
        raise ValueError(f"{columns} x {rows} samples")
    packed = base64.b64decode(row["samples"], validate=True)
    # No more than that is unpacked, whatever is in there.
    body = zlib.decompressobj().decompress(packed, rows * columns)
    samples = np.frombuffer(body, np.uint8).reshape(rows, columns)
    if not (samples & _BITS["inside"]).any():
        raise ValueError("no sample inside the AOI")
    return samples


def _rasteriser(place: Affine, crs: CRS, shape: tuple[int, ...]) -> Callable[[BaseGeometry], Any]:
    """A lon/lat geometry as (y, x) on the samples."""
    from rasterio.features import geometry_mask
    from rasterio.transform import Affine

    to_samples = pixels_of(place, crs)

    def rasterise(geometry: BaseGeometry) -> NDArray[np.bool_]:
        outline = to_samples(geometry)
        if outline.is_empty:
            return np.zeros(shape, bool)
        with placeless():
            inside: NDArray[np.bool_] = geometry_mask(
                [outline], shape, Affine.identity(), invert=True
            )
        return inside

    return rasterise
