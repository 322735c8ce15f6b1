"""Answers and chips as folders of files: everything appears, or nothing does.

DIR/answer.geojson  features in lon/lat        DIR/chip.png     quick look
DIR/answer.png      views and mask             DIR/optical.tif  reflectance
DIR/record.json     how it came about          DIR/sar.tif      backscatter in dB

Files of these names that an answer or a chip does not have are removed from a folder it goes into:
an old `answer.geojson` beside a new record would be taken for its answer.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from earthmind_lab.answer import Answer, format_area, observable
from earthmind_lab.chip import Chip
from earthmind_lab.cogs import write_cog
from earthmind_lab.errors import EarthMindError
from earthmind_lab.exchange import View

ANSWER_FILES = ("answer.geojson", "answer.png", "record.json")
"""What `save_answer` may write."""
CHIP_FILES = ("chip.png", "optical.tif", "sar.tif")
"""What `save_chip` may write."""


def check_folder(folder: str | Path, names: Collection[str] = ()) -> Path:
    """Refuse a folder that can't be written before anything costly is done.

    Args:
        folder: Where files should go; need not exist.
        names: Of the files that would be written or removed there.

    Raises:
        EarthMindError: It is a file or lies under one, can't be written, or one of the names is a
            folder there.
    """
    folder = Path(folder)
    try:
        there = next((path for path in (folder, *folder.parents) if path.exists()), None)
    except OSError as error:  # a name that is too long
        raise _unwritable(folder, str(error)) from error
    if there is not None and not there.is_dir():
        raise _unwritable(folder, f"{there} is a file")
    if there is not None and not os.access(there, os.W_OK | os.X_OK):
        raise _unwritable(folder, f"no right to write into {there}")
    taken = [name for name in sorted(names) if (folder / name).is_dir()]
    if taken:
        raise _unwritable(folder, f"{taken[0]} is a folder there")
    return folder


def _unwritable(folder: Path, found: str) -> EarthMindError:
    return EarthMindError(
        f"The folder {str(folder)!r} can't be written.", found=found, change="another --out"
    )


@contextmanager
def whole_folder(folder: str | Path, names: Collection[str]) -> Iterator[Path]:
    """A draft folder whose files move into `folder` when the block ends without an error.

    Args:
        folder: Where the files go; made if missing.
        names: All that may be drafted. Files of these names that were not are removed.

    Raises:
        EarthMindError: The folder can't be written; nothing in it has changed then.
    """
    folder = check_folder(folder, names)
    try:
        # In the folder where there is one: its parent may belong to somebody else.
        home = folder if folder.exists() else folder.parent
        home.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".earthmind.", dir=home))
    except OSError as error:
        raise _unwritable(folder, str(error)) from error
    try:
        yield draft
        if folder.exists():
            _move(draft, check_folder(folder, names), names)
        else:
            draft.chmod(0o755)
            draft.rename(folder)
    except OSError as error:
        raise _unwritable(folder, str(error)) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _move(draft: Path, folder: Path, names: Collection[str]) -> None:
    """Drafted files into a folder whose targets have been checked."""
    files = sorted(draft.iterdir())
    for name in set(names) - {file.name for file in files}:
        (folder / name).unlink(missing_ok=True)
    for file in files:
        file.replace(folder / file.name)


def save_answer(
    answer: Answer, folder: str | Path, views: Sequence[View], *, chip: Chip | None = None
) -> dict[str, Path]:
    """Features, figure and record of an answer.

    Args:
        answer: What to write.
        folder: Where; made if missing, `ANSWER_FILES` in it are replaced or removed.
        views: The pictures that were asked about, for the figure.
        chip: Where they come from; None for a plain picture, which has no features.

    Returns:
        Name of each file to its path.
    """
    from earthmind_lab.figures import save_figure

    allowed = None if chip is None else observable(chip)
    masks = [mask if allowed is None else mask & allowed for mask in answer.masks()]
    title = f"{answer.record.question} {answer.text}"
    if answer.area_m2 is not None:
        title += f" ({format_area(answer.area_m2)} mapped)"
    with whole_folder(folder, ANSWER_FILES) as draft:
        if answer.grid is not None:
            answer.save(draft / "answer.geojson")
        about = answer.about()
        save_figure(
            draft / "answer.png", views, masks, _captions(answer, views), title=title,
            attribution=_below(about["notice"], about["attribution"], about["licence"]),
        )  # fmt: skip
        answer.record.save(draft / "record.json")
        names = [file.name for file in sorted(draft.iterdir())]
    return {name: Path(folder) / name for name in names}


def _captions(answer: Answer, views: Sequence[View]) -> list[str]:
    """Name and day per view, and which picture drew the masks."""
    from earthmind_lab.figures import caption

    drawn = dict.fromkeys(views[found.view].name for found in answer.reply.objects)
    return [*map(caption, views), f"mask, drawn from\n{', '.join(drawn)}"]


def save_chip(chip: Chip, folder: str | Path) -> dict[str, Path]:
    """A chip as cloud-optimised GeoTIFFs of physical quantities, and a quick look.

    Args:
        chip: What to write.
        folder: Where; made if missing, `CHIP_FILES` in it are replaced or removed.

    Returns:
        Name of each file to its path.
    """
    from earthmind_lab.figures import save_figure
    from earthmind_lab.render import render

    owners = "; ".join(chip.provenance.get("attribution", ()))
    licence = "; ".join(chip.provenance.get("licences", ()))
    with whole_folder(folder, CHIP_FILES) as draft:
        for name, array, bands, unit in (
            ("optical.tif", chip.optical, chip.bands, "reflectance"),
            ("sar.tif", chip.sar, chip.polarisations, f"{chip.radiometry.quantity} dB"),
        ):
            if array is not None:
                tags = {"attribution": owners, "licence": licence}
                write_cog(draft / name, array, chip.grid, names=bands, unit=unit, tags=tags)
        below = _below(attribution=owners, licence=licence)
        save_figure(draft / "chip.png", render(chip), attribution=below)
        names = [file.name for file in sorted(draft.iterdir())]
    return {name: Path(folder) / name for name in names}


def _below(notice: str = "", attribution: str = "", licence: str = "") -> str:
    """What stands under a figure: who spoke, whose pixels they are and their licence."""
    return " ".join(filter(None, (notice, attribution, f"Licence: {licence}." * bool(licence))))
