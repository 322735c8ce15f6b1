"""Masks to measure claims with: of the reply itself, else of a follow-up segmentation.

Where no mask speaks there is no number: `Masks.of` gives None, and evidence says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.answer import components, mask_of, observable, resolvable_pixels
from earthmind_lab.chip import Chip
from earthmind_lab.claims import COVERS, asks_for_mask, canonical, canonical_words, denies
from earthmind_lab.errors import Cancelled, EarthMindError
from earthmind_lab.exchange import Reply, View

MOST_FOLLOW_UPS = 6
"""Follow-up questions per answer: each costs as much as a short question."""
FollowUp = Callable[[str], Reply]
"""Puts a question to the same engine on the same views."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Ground:
    """Where masks are measured."""

    allowed: NDArray[np.bool_]
    """(H, W) True where a pixel counts: inside the AOI and seen by a sensor."""
    chip: Chip | None
    """None for a plain picture: no areas."""
    least: int
    """Smallest resolvable object in pixels."""

    @classmethod
    def of(cls, chip: Chip | None, views: Sequence[View], seen_gsd: float | None) -> Ground:
        """The ground of a chip, or all of a plain picture."""
        if chip is None:
            allowed = np.ones(views[0].shape, dtype=bool)
            return cls(allowed=allowed, chip=None, least=resolvable_pixels(1.0, 1.0))
        least = resolvable_pixels(chip.gsd, seen_gsd or chip.gsd)
        return cls(allowed=observable(chip), chip=chip, least=least)

    def measure(self, mask: NDArray[np.bool_], source: str) -> dict[str, Any]:
        """Share, area, count of a mask, (H, W)."""
        inside = mask & self.allowed
        labels, count = components(inside)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        total = int(self.allowed.sum())
        return {
            "share": round(float(inside.sum()) / total, 4) if total else 0.0,
            "area_m2": self._area(inside),
            "count": int((sizes >= self.least).sum()),
            "source": source,
        }

    def _area(self, mask: NDArray[np.bool_]) -> float | None:
        if self.chip is None:
            return None
        return round(float((mask * self._areas).sum()), 1)

    @cached_property
    def _areas(self) -> NDArray[np.float64]:
        """m² per pixel, (y, 1) or (y, x); the costly part of every measurement."""
        from earthmind_lab.grid import pixel_areas

        assert self.chip is not None
        areas = pixel_areas(self.chip.grid)
        return areas[:, None] if areas.ndim == 1 else areas


@dataclass(frozen=True, kw_only=True, eq=False)
class Masked:
    """The mask of one label with where it comes from."""

    mask: NDArray[np.bool_]
    origin: Mapping[str, Any]
    """``source`` and, for a follow-up, its question, reply and usage."""
    objects: int
    """How many objects the reply marked apart."""


class Masks:
    """Masks by label: of the reply itself, else of one follow-up each.

    Args:
        reply: The reply to the question.
        question: What was asked.
        shape: (H, W) of the views.
        follow_up: Asks the same engine about the same views; None = ask nothing further.
    """

    def __init__(
        self, reply: Reply, question: str, shape: tuple[int, int], follow_up: FollowUp | None
    ) -> None:
        self._reply, self._question, self._shape = reply, question, shape
        self._follow_up = follow_up
        self._left = MOST_FOLLOW_UPS
        self._known: dict[str, Masked | None] = {}

    def of(self, label: str) -> Masked | None:
        """The mask of a label; None where no mask speaks."""
        name = canonical(label)
        if name not in self._known:
            self._known[name] = self._own(name) or self._asked(label)
        return self._known[name]

    def _own(self, name: str) -> Masked | None:
        found = [item for item in self._reply.objects if canonical(item.label) == name]
        masks = [mask for mask in map(mask_of, found) if mask is not None]
        if not masks:
            return None
        union = np.logical_or.reduce(masks)
        return Masked(mask=union, origin={"source": "this ask"}, objects=len(masks))

    def _asked(self, label: str) -> Masked | None:
        # The same request again would only repeat itself: a refusal proves nothing.
        same = asks_for_mask(self._question) and canonical(label) in canonical_words(self._question)
        if self._follow_up is None or self._left <= 0 or same:
            return None
        self._left -= 1
        name = canonical(label)
        question = f"Segment the {name if name in COVERS else label}."
        try:
            reply = self._follow_up(question)
        except Cancelled:
            raise
        except EarthMindError:  # the answer stands; only this claim stays unchecked
            return None
        origin = {
            "source": "follow-up", "question": question, "reply": reply.text,
            "usage": reply.usage.to_dict(),
        }  # fmt: skip
        masks = [mask for mask in map(mask_of, reply.objects) if mask is not None]
        if masks:
            union = np.logical_or.reduce(masks)
            return Masked(mask=union, origin=origin, objects=len(masks))
        empty = np.zeros(self._shape, dtype=bool)
        return Masked(mask=empty, origin=origin, objects=0) if denies(reply.text) else None
