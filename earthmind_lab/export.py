"""Answers and chips as folders of files: everything appears, or nothing does.

DIR/answer.geojson  features in lon/lat        DIR/chip.png     quick look
DIR/answer.png      views and mask             DIR/optical.tif  reflectance
DIR/record.json     how it came about          DIR/sar.tif      backscatter in dB
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.answer import Answer, format_area, observable
from earthmind_lab.chip import Chip
from earthmind_lab.errors import EarthMindError
from earthmind_lab.exchange import View

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox


def check_folder(folder: str | Path) -> Path:
    """Refuse a folder that can't be written before anything costly is done.

    Raises:
        EarthMindError: It is a file, or lies under one.
    """
    folder = Path(folder)
    parents = [path for path in (folder, *folder.parents) if path.exists()]
    if parents and not parents[0].is_dir():
        raise EarthMindError(
            f"The folder {str(folder)!r} can't be made.",
            found=f"{parents[0]} is a file",
            change="another --out",
        )
    return folder


@contextmanager
def whole_folder(folder: str | Path) -> Iterator[Path]:
    """A draft folder whose files move into `folder` when the block ends without an error.

    Raises:
        EarthMindError: The folder can't be written.
    """
    folder = check_folder(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise EarthMindError(f"{folder} can't be written.", found=str(error)) from error
    try:
        yield draft
        if folder.exists():
            for file in sorted(draft.iterdir()):
                file.replace(folder / file.name)
        else:
            draft.chmod(0o755)
            draft.rename(folder)
    except OSError as error:
        raise EarthMindError(f"{folder} can't be written.", found=str(error)) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def save_answer(
    answer: Answer, folder: str | Path, views: Sequence[View], *, chip: Chip | None = None
) -> dict[str, Path]:
    """Features, figure and record of an answer.

    Args:
        answer: What to write.
        folder: Where; made if missing, files of the same names are replaced.
        views: The pictures that were asked about, for the figure.
        chip: Where they come from; None for a plain picture, which has no features.

    Returns:
        Name of each file to its path.
    """
    from earthmind_lab.render import save_figure

    allowed = None if chip is None else observable(chip)
    masks = [mask if allowed is None else mask & allowed for mask in answer.masks()]
    title = f"{answer.record.question} {answer.text}"
    if answer.area_m2 is not None:
        title += f" ({format_area(answer.area_m2)} mapped)"
    with whole_folder(folder) as draft:
        if answer.grid is not None:
            answer.save(draft / "answer.geojson")
        about = answer.about()
        save_figure(
            draft / "answer.png", views, masks, _captions(answer, views), title=title,
            attribution=f"{about['notice']} {about['attribution']}".strip(),
        )  # fmt: skip
        answer.record.save(draft / "record.json")
        names = [file.name for file in sorted(draft.iterdir())]
    return {name: Path(folder) / name for name in names}


def _captions(answer: Answer, views: Sequence[View]) -> list[str]:
    """Name and day per view, and which picture drew the masks."""
    from earthmind_lab.render import caption

    drawn = dict.fromkeys(views[found.view].name for found in answer.reply.objects)
    return [*map(caption, views), f"mask, drawn from\n{', '.join(drawn)}"]


def save_chip(chip: Chip, folder: str | Path) -> dict[str, Path]:
    """A chip as GeoTIFFs of physical quantities, and a quick look.

    Args:
        chip: What to write.
        folder: Where; made if missing, files of the same names are replaced.

    Returns:
        Name of each file to its path.
    """
    from earthmind_lab.render import render, save_figure

    owners = "; ".join(chip.provenance.get("attribution", ()))
    with whole_folder(folder) as draft:
        for name, array, bands, unit in (
            ("optical.tif", chip.optical, chip.bands, "reflectance"),
            ("sar.tif", chip.sar, chip.polarisations, f"{chip.radiometry.quantity} dB"),
        ):
            if array is not None:
                _write_tiff(draft / name, array, chip.grid, bands, unit, owners)
        save_figure(draft / "chip.png", render(chip), attribution=owners)
        names = [file.name for file in sorted(draft.iterdir())]
    return {name: Path(folder) / name for name in names}


def _write_tiff(
    path: Path, array: NDArray[np.float32], grid: GeoBox, bands: Sequence[str], unit: str,
    owners: str,
) -> None:  # fmt: skip
    """(band, y, x) as a compressed GeoTIFF; NaN is nodata."""
    import rasterio

    count, height, width = array.shape
    with rasterio.open(
        path, "w", driver="GTiff", dtype="float32", nodata=float("nan"), count=count,
        height=height, width=width, crs=str(grid.crs), transform=grid.affine, compress="deflate",
    ) as target:  # fmt: skip
        target.write(array)
        target.update_tags(unit=unit, attribution=owners)
        for number, name in enumerate(bands, start=1):
            target.set_band_description(number, name)
