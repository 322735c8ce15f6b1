"""Rasters as cloud-optimised GeoTIFFs: mask and probabilities of an answer, the bands of a chip.

    write_mask(answer, "water.tif")      # band 1: class, band 2: number of the object
    write_probability(answer, "sure.tif")   # a band per class, 0 to 1
    write_cog("chip.tif", chip.optical, chip.grid, names=chip.bands, unit="reflectance")

GDAL's COG driver writes them: tiles, overviews in front, one range request for a window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.errors import EarthMindError, PromptError
from earthmind_lab.grid import inside_mask, polygons_to_mask
from earthmind_lab.record_parts import BEFORE

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from shapely.geometry.base import BaseGeometry

    from earthmind_lab.answer import Answer
    from earthmind_lab.record import Record

OUTSIDE = 65535
"""In a mask: outside the AOI, where nothing was asked. 0 = inside, and nothing is marked there, be
it that no sensor saw it."""
MEDIA_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"


def mask_bands(answer: Answer) -> tuple[NDArray[np.uint16], tuple[str, ...]]:
    """Which class and which object each pixel is of.

    Args:
        answer: About a chip.

    Returns:
        (2, y, x): class from 1, in the order of the labels, and object from 1, in the order of the
        detections; where objects overlap, the smaller lies on top. And the labels.

    Raises:
        EarthMindError: A plain picture has no place, or there are more objects than numbers.
        PromptError: The answer is about two dates.
    """
    grid, area = _place(answer)
    if len(answer.detections) >= OUTSIDE:
        raise EarthMindError(
            "There are more objects than a mask has numbers.",
            found=f"{len(answer.detections)}",
            change=f"answer.save('answer.gpkg'), or fewer than {OUTSIDE}",
        )
    labels = tuple(dict.fromkeys(item.label for item in answer.detections))
    size = (int(grid.shape[0]), int(grid.shape[1]))
    bands = np.zeros((2, *size), np.uint16)
    numbered = sorted(enumerate(answer.detections, start=1), key=lambda each: -each[1].area_m2)
    for number, item in numbered:
        here = polygons_to_mask(item.geometry, grid)
        bands[:, here] = np.array([[labels.index(item.label) + 1], [number]], np.uint16)
    bands[:, ~inside_mask(grid, area)] = OUTSIDE
    return bands, labels


def _place(answer: Answer) -> tuple[GeoBox, BaseGeometry]:
    """Grid and area of the rasters of an answer.

    Raises:
        EarthMindError: A plain picture has none.
        PromptError: The answer is about two dates.
    """
    from shapely.geometry import shape

    if answer.grid is None or answer.record.aoi is None:
        raise EarthMindError("A plain picture has no place on the Earth, so it gives no raster.")
    check_one_date(answer.record)
    return answer.grid, shape(answer.record.aoi["geometry"])


def check_one_date(record: Record) -> None:
    """Refuse rasters of an answer about two dates.

    Raises:
        PromptError: It is about two.
    """
    if BEFORE in record.chip:
        raise PromptError(
            "An answer about two dates gives no raster and no points: nothing in them would tell "
            "what was marked on which date.",
            change="ask about each date alone, or save the features, which name their date",
        )


def write_mask(answer: Answer, path: str | Path) -> Path:
    """Write the classes and objects of an answer; their names and scores are in the tags.

    Raises:
        EarthMindError: As `mask_bands`.
        OSError: The file can't be written.
    """
    bands, labels = mask_bands(answer)
    assert answer.grid is not None
    tags = {f"class_{number}": label for number, label in enumerate(labels, start=1)}
    return write_cog(
        path, bands, answer.grid, names=("class", "object"), unit="1", nodata=OUTSIDE,
        tags=tags | _tags(answer), overviews="mode",
    )  # fmt: skip


def write_probability(answer: Answer, path: str | Path) -> Path:
    """Write the model's own probability that a pixel belongs to each class, uncalibrated.

    A band per label that the answer marks, float32 0 to 1, the highest of its masks; NaN outside
    the AOI. What no sensor saw there has a probability, too: the mask leaves it out.

    Args:
        answer: About a chip, with its masks.
        path: The file; its folder must exist.

    Raises:
        EarthMindError: A plain picture has no place, or the answer marks nothing.
        PromptError: The answer is about two dates.
        OSError: The file can't be written.
    """
    grid, area = _place(answer)
    held: dict[str, NDArray[np.float32]] = {}
    for found in answer.reply.objects:
        sure = answer.reply.probability(found)
        if sure is not None:
            held[found.label] = np.maximum(held.get(found.label, sure), sure)
    if not held:
        raise EarthMindError(
            "The answer marks nothing, so it has no probabilities.",
            change="a question that asks for a mask, such as 'Segment the water.'",
        )
    bands = np.stack(list(held.values()))
    bands[:, ~inside_mask(grid, area)] = np.nan
    return write_cog(path, bands, grid, names=tuple(held), unit="1", tags=_tags(answer))


def _tags(answer: Answer) -> dict[str, str]:
    """Whose it is, and which answer."""
    about = {name: text for name, text in answer.about().items() if text}
    return {**about, "answer_hash": answer.record.answer_hash, "question": answer.record.question}


def write_cog(
    path: str | Path, array: NDArray[Any], grid: GeoBox, *, names: Sequence[str], unit: str,
    nodata: float = float("nan"), tags: Mapping[str, str] | None = None,
    overviews: str = "average",
) -> Path:  # fmt: skip
    """Write bands as a cloud-optimised GeoTIFF.

    Args:
        path: The file; its folder must exist.
        array: (band, y, x).
        grid: Of the pixels.
        names: One a band, as its description.
        unit: Of the numbers, which are stored as they are: scale 1, offset 0.
        nodata: The value of pixels without one.
        tags: Further facts.
        overviews: How coarser levels are made; classes can't be averaged.

    Raises:
        OSError: The file can't be written.
    """
    import rasterio
    from rasterio.errors import RasterioError

    path, (count, height, width) = Path(path), array.shape
    try:
        with rasterio.open(
            path, "w", driver="COG", dtype=array.dtype.name, nodata=nodata, count=count,
            height=height, width=width, crs=str(grid.crs), transform=grid.affine,
            compress="deflate", predictor="yes", blocksize=256, overview_resampling=overviews,
        ) as target:  # fmt: skip
            target.write(array)
            target.update_tags(unit=unit, scale="1", offset="0", **(tags or {}))
            target.units, target.scales = (unit,) * count, (1.0,) * count
            target.offsets = (0.0,) * count
            for number, name in enumerate(names, start=1):
                target.set_band_description(number, name)
    except RasterioError as error:
        raise OSError(str(error)) from error
    return path
