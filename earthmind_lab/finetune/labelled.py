"""Chips with labels as examples: what is there, how much, where, and what a region is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.chip import Chip
from earthmind_lab.errors import EarthMindError, LoadError
from earthmind_lab.evaluate.truth import PixelTruth
from earthmind_lab.exchange import Prompt, Region, View
from earthmind_lab.finetune.asks import KINDS, SURE, Ask, Kind, Wording, asks_of, region_of
from earthmind_lab.finetune.examples import ExampleInfo
from earthmind_lab.finetune.footprints import footprint_of_grid
from earthmind_lab.finetune.labels import Labels
from earthmind_lab.finetune.source import Opened, Recent, Row, Source, hashed, unique
from earthmind_lab.mapping import observable
from earthmind_lab.progress import bar
from earthmind_lab.render import render

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

ChipLike = Chip | Callable[[], Chip]
"""A chip, or what loads it: chips of many places needn't be in memory together."""


def labelled_chips(
    chips: Sequence[ChipLike],
    labels: Labels,
    *,
    composites: Sequence[str] = (),
    kinds: Sequence[Kind] = KINDS,
    shares: Wording = "words",
    drawn: float = SURE,
    licence: str = "",
    attribution: str = "",
    seed: int = 0,
) -> Source:
    """Questions and answers about chips, from what is known of their ground.

    Each chip is opened once here, to see what its labels decide, and again when one of its examples
    is opened; what `load_chip` loaded before comes from the disk. Ground that isn't seen, lies
    outside the AOI or isn't labelled is in no answer, and of no mask anything is learned there.
    Masks lie on the chip's grid.

    Args:
        chips: From `load_chip`, `open_chip`, or functions that call them.
        labels: `RasterLabels`, `PolygonLabels`, or anything of that kind.
        composites: Pictures that the model wants to be shown (`Capabilities.composites`, or the
            config's); empty = the usual ones. Rendered as the engine does.
        kinds: Of questions: ``presence``, ``share``, ``dominant``, ``segment``, ``region`` (what
            is it) and ``verify`` (is it water, is it crops: a yes and a no each); beyond the
            default ``compare``, ``describe`` and ``two`` (masks of two classes at once).
        shares: Answered in ``words`` (About a third.) or ``per cent`` (About 30 %.).
        drawn: Share of the ground that must be known of a class before its mask is asked for; of
            the rest nothing is learned.
        licence: Of the labels; those of the scenes are added.
        attribution: The same for whom to name.
        seed: Of phrasings.

    Raises:
        LoadError: The labels decide nothing on any chip.
    """
    shelf = _Shelf(chips, labels, tuple(composites))
    rows: list[Row] = []
    decided = 0
    with bar(len(chips), unit="chip", desc="reading labels", delay=1.0) as progress:
        for number in range(len(chips)):
            held = shelf.held(number)
            asks = list(
                asks_of(
                    held.truth, held.ground, labels.names, held.key, kinds=kinds, wording=shares,
                    seed=seed, drawn=drawn,
                )
            )  # fmt: skip
            decided += bool(asks)
            rows += [_row(shelf, number, held, ask, licence, attribution) for ask in asks]
            progress.update()
    if not rows:
        raise LoadError(
            "The labels decide nothing on these chips.",
            found=f"{len(chips)} chips, classes {', '.join(labels.names)}",
            change="labels on the chips' ground, more of it labelled, or complete=True where "
            "everything was drawn",
        )
    said = (
        f"{decided} of {len(chips)} labelled chips, {', '.join(labels.names)}, {len(rows)} examples"
    )
    return Source(form="labelled chips", said=said, rows=unique(rows))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Held:
    """One chip as far as examples need it; the bands are gone."""

    key: str
    pictures: tuple[str, ...]
    place: BaseGeometry
    views: tuple[View, ...]
    truth: PixelTruth
    ground: NDArray[np.bool_]
    provenance: Mapping[str, Any]

    @cached_property
    def digest(self) -> str:
        """Of its labels."""
        parts = (np.packbits(self.truth.yes), np.packbits(self.truth.no & self.ground))
        return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()

    @property
    def nbytes(self) -> int:
        return sum(view.image.nbytes for view in self.views) + 2 * self.truth.yes.nbytes


class _Shelf:
    """Opens chips; those opened last are held."""

    def __init__(
        self, chips: Sequence[ChipLike], labels: Labels, composites: tuple[str, ...]
    ) -> None:
        self._chips, self._labels, self._composites = chips, labels, composites
        self._recent: Recent[_Held] = Recent()

    def held(self, number: int) -> _Held:
        return self._recent.get(number, partial(self._open, number))

    def _open(self, number: int) -> tuple[_Held, int]:
        source = self._chips[number]
        chip = source if isinstance(source, Chip) else source()
        where = f"chip {number + 1} of {len(self._chips)} ({chip.aoi.name})"
        try:
            truth = self._labels.truth(chip)
            views = render(chip, preferred=self._composites)
        except EarthMindError as error:
            raise LoadError(
                f"{where}: {error.asked}", found=error.found, change=error.change
            ) from error
        held = _Held(
            key=f"{chip.aoi.name} {number + 1}",
            pictures=tuple(scene.id for scene in chip.pair.scenes),
            place=footprint_of_grid(chip.grid),
            views=views,
            truth=truth,
            ground=observable(chip),
            provenance=chip.provenance,
        )
        return held, held.nbytes


def _row(shelf: _Shelf, number: int, held: _Held, ask: Ask, licence: str, attribution: str) -> Row:
    licences = [licence, *held.provenance.get("licences", ())]
    owners = [attribution, *held.provenance.get("attribution", ())]
    tasks = {"segment": "segment", "two": "segment", "region": "region", "verify": "region"}
    task = tasks.get(ask.kind, "question")
    info = ExampleInfo(
        id=f"{held.key}: {ask.id}", task=task, pictures=held.pictures, place=held.place,
        licence="; ".join(dict.fromkeys(each for each in licences if each not in ("", "unknown"))),
        attribution="; ".join(dict.fromkeys(each for each in owners if each)),
        content=hashed(ask.question, ask.reply, held.digest),
    )  # fmt: skip
    return Row(info=info, where=info.id, open=partial(_opened, shelf, number, ask))


def _opened(shelf: _Shelf, number: int, ask: Ask) -> Opened:
    held = shelf.held(number)
    regions: tuple[Region, ...] = ()
    masks = known = None
    if ask.kind in ("region", "verify") and ask.index is not None:
        mask = region_of(held.truth, held.ground, ask.index)
        regions = (Region(mask=mask, label="region1"),)
    elif ask.index is not None:
        classes = [ask.index, *ask.further]
        masks = held.truth.yes[classes] & held.ground
        sure = held.truth.known[classes] & held.ground
        known = None if sure.all() else sure
    prompt = Prompt(text=ask.question, views=held.views, regions=regions)
    return Opened(prompt, ask.reply, masks, known)
