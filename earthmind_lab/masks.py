"""Masks to measure claims with: of the reply itself, else of a follow-up segmentation.

Where no mask speaks there is no number: `Masks.of` gives None, and evidence says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.answer import components, mask_of, observable, resolvable_pixels
from earthmind_lab.chip import Chip
from earthmind_lab.claims import asks_for_mask, canonical, canonical_words, read_claims
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
        from earthmind_lab.grid import mask_area_m2

        return None if self.chip is None else round(float(mask_area_m2(mask, self.chip.grid)), 1)


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
        question = f"Segment the {label}."
        reply = self._follow_up(question)
        origin = {
            "source": "follow-up", "question": question, "reply": reply.text,
            "usage": reply.usage.to_dict(),
        }  # fmt: skip
        masks = [mask for mask in map(mask_of, reply.objects) if mask is not None]
        if masks:
            union = np.logical_or.reduce(masks)
            return Masked(mask=union, origin=origin, objects=len(masks))
        denied = any(
            said.kind == "presence" and said.value is False
            for said in read_claims(reply.text, question)
        )
        empty = np.zeros(self._shape, dtype=bool)
        return Masked(mask=empty, origin=origin, objects=0) if denied else None
