"""Which views of a prompt a model reads and draws on, and in which order their tokens follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

from earthmind_lab.errors import PromptError
from earthmind_lab.exchange import Modality, Options, Prompt
from earthmind_lab.model.config import EarthMindConfig

FUSED = -1
"""View index of a block that holds optical and SAR fused to one token per place."""

Form: TypeAlias = Literal["text", "single", "frames", "pair"]


@dataclass(frozen=True, eq=False)
class Arrangement:
    """The views of one prompt under some options, as indices into `Prompt.views`."""

    config: EarthMindConfig
    prompt: Prompt
    options: Options

    @cached_property
    def kept(self) -> tuple[int, ...]:
        """The views the language model reads: SAR first, then optical.

        Raises:
            PromptError: `sensor_off` leaves nothing to see.
        """
        order: tuple[Modality, ...] = ("sar", "optical")
        seen = [m for m in order if m != self.options.sensor_off]
        kept = tuple(
            i for m in seen for i, view in enumerate(self.prompt.views) if view.modality == m
        )
        if self.prompt.views and not kept:
            raise PromptError(
                f"Without {self.options.sensor_off} there is nothing to see.",
                found=f"{len(self.prompt.views)} views, all {self.options.sensor_off}",
                change="sensor_off=None",
            )
        return kept

    @cached_property
    def fusion(self) -> str:
        """``weighted`` or ``concatenate`` for this prompt; only a pair can be weighted."""
        wanted = self.options.fusion or self.config.fusion
        both = len({view.modality for view in self.prompt.views}) == 2
        return wanted if both else "concatenate"

    @cached_property
    def form(self) -> Form:
        """How the views are arranged: ``text``, ``single``, ``pair`` or ``frames``."""
        if self.fusion == "weighted":
            return "pair"  # a sensor that is switched off keeps its place, with weight zero
        if len(self.kept) < 2:
            return "single" if self.kept else "text"
        sensors = {self.prompt.views[i].modality for i in self.kept}
        return "pair" if len(sensors) == 2 else "frames"

    @cached_property
    def single_tile(self) -> bool:
        """Whether each view is one square (several views of one sensor: the frames form)."""
        return self.form == "frames"

    @cached_property
    def mask_view(self) -> int:
        """The view that the mask tower sees.

        The first view of the wanted sensor; without one, the first view the model reads.

        Raises:
            PromptError: There is no view.
        """
        if not self.kept:
            raise PromptError("A mask needs a picture.", change="pass at least one view")
        wanted = self.options.mask_source or self.config.mask_source
        of_it = (i for i in self.kept if self.prompt.views[i].modality == wanted)
        return next(of_it, min(self.kept))

    @cached_property
    def mask_views(self) -> tuple[int, ...]:
        """All views an object is drawn on: one, but each frame of a series.

        Frames of a series are one composite at several times, so they share a name; other
        composites of the same acquisition are not drawn on again. `Prompt.follow` counts on
        after the views.

        Raises:
            PromptError: There is no view.
        """
        first = self.mask_view
        if self.form != "frames" and not self.prompt.follow:
            return (first,)
        drawn = self.prompt.views[first]
        series = [
            index
            for index in self.kept
            if (self.prompt.views[index].modality, self.prompt.views[index].name)
            == (drawn.modality, drawn.name)
        ]
        after = range(len(self.prompt.views), len(self.prompt.views) + len(self.prompt.follow))
        return (*series, *after)

    def blocks(self, tiles_per_view: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """(view, tile) in prompt order; tile by tile across the sensors of a pair.

        Raises:
            PromptError: More views of a sensor than are read, or views that are cut differently.
        """
        if len(tiles_per_view) != len(self.prompt.views):
            raise PromptError(
                "Each view needs its tile count.",
                found=f"{len(self.prompt.views)} views, {len(tiles_per_view)} counts",
            )
        if self.fusion == "weighted":
            sar = [i for i, view in enumerate(self.prompt.views) if view.modality == "sar"]
            if len(sar) > 1:
                raise PromptError(
                    "Weighted fusion takes one SAR view.",
                    found=f"{len(sar)}",
                    change="leave one of them out, or fusion='concatenate'",
                )
            return tuple((FUSED, tile) for tile in range(tiles_per_view[sar[0]]))
        most = self.config.max_frames
        if self.form == "frames" and len(self.kept) > most:
            raise PromptError(
                "The model reads fewer frames than that; it would not see the others.",
                found=f"{len(self.kept)} views of one sensor",
                change=f"at most {most}; later frames can be followed: Prompt(follow=...)",
            )
        counts = [tiles_per_view[i] for i in self.kept]
        if len(set(counts)) > 1:
            raise PromptError(
                "The views are cut differently, so their places do not correspond.",
                found=f"{counts} tiles",
                change="bring all views to one grid",
            )
        tiles = range(counts[0] if counts else 0)
        return tuple((view, tile) for tile in tiles for view in self.kept)

    def region_block(self, blocks: tuple[tuple[int, int], ...]) -> int:
        """The whole-picture tile of the first optical view read, else of the first view.

        With one view this is the last block, as published. The published model has no regions on
        a concatenated pair; taking the optical half is our own extension.
        """
        if blocks[0][0] == FUSED:
            return len(blocks) - 1
        optical = (i for i in self.kept if self.prompt.views[i].modality == "optical")
        view = next(optical, self.kept[0])
        return max(index for index, block in enumerate(blocks) if block[0] == view)
