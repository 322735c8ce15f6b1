"""Plain pictures with the masks of their answers drawn on them, for a page without a map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.errors import EarthMindError
from earthmind_lab.figures import draw_masks
from earthmind_lab.quicklook import data_url
from earthmind_lab.widgets.protocol import clean

if TYPE_CHECKING:
    from earthmind_lab.answer import Answer
    from earthmind_lab.session import Session
    from earthmind_lab.session.subject import SaidTurn, Subject

LONGEST_PX = 1024
"""Of a picture on the screen; larger ones are thinned out."""
NEWEST = "newest"
"""Show the masks of whichever answer has some and came last."""


class Pictures:
    """What a panel shows of pictures; drawn anew only where something differs.

    Args:
        session: Whose pictures.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.wanted: str | None = NEWEST
        """Id of the turn whose masks are drawn; None = none are."""
        self._image: tuple[str, NDArray[np.uint8]] | None = None
        self._drawn: tuple[str, Answer | None, dict[str, Any]] | None = None

    def row(self, subject: Subject | None) -> dict[str, Any]:
        """A picture for the browser; empty for any other subject.

        Returns:
            ``name``, ``url`` (JPEG), ``words``, ``shown`` (id of the turn whose masks are drawn,
            else empty), ``answers`` (rows of ``id``, ``title``, ``words``), ``fault``.
        """
        if subject is None or subject.picture is None:
            return {}
        row = {"name": clean(subject.name), "url": "", "words": "", "shown": "", "fault": ""}
        answers = [
            {"id": turn.id, "title": clean(turn.question), "words": self._words(turn)}
            for turn in subject.talk if turn.state == "done"
        ]  # fmt: skip
        marked = [each["id"] for each in answers if self._masks(each["id"])]
        wanted = marked[-1] if self.wanted == NEWEST and marked else self.wanted
        shown = wanted if wanted in marked else None
        try:
            row |= self._picture(subject, shown)
        except EarthMindError as error:
            row["fault"] = clean(error)
        return {**row, "answers": answers}

    def _picture(self, subject: Subject, shown: str | None) -> dict[str, Any]:
        assert subject.picture is not None
        answer = None if shown is None else self._session.answer(shown)
        if self._drawn is None or self._drawn[:2] != (subject.picture, answer):
            image = self._pixels(subject)
            height, width = image.shape[:2]
            drawn = draw_masks(image, answer.masks()) if answer is not None else image
            step = -(-max(height, width) // LONGEST_PX)
            row = {
                "url": data_url(np.ascontiguousarray(drawn[::step, ::step])),
                "words": f"{width} × {height} px, no place on the map",
                "shown": shown or "",
            }
            self._drawn = (subject.picture, answer, row)
        return self._drawn[2]

    def _pixels(self, subject: Subject) -> NDArray[np.uint8]:
        assert subject.picture is not None
        if self._image is None or self._image[0] != subject.picture:
            self._image = (subject.picture, self._session.picture(subject.name).image)
        return self._image[1]

    def _masks(self, ident: str) -> tuple[NDArray[np.bool_], ...]:
        answer = self._session.answer(ident)
        return () if answer is None else answer.masks()

    def _words(self, turn: SaidTurn) -> str:
        """What was marked, in pixels."""
        count = len(((turn.record or {}).get("model") or {}).get("mask_pixels", ()))
        if count == 0:
            return "nothing marked"
        answer = self._session.answer(turn.id)
        if answer is None:
            return f"{count} marked; ask again to see them"
        return ", ".join(
            f"{clean(found.label)}: {int(mask.sum()):,} px ({100 * mask.mean():.1f} %)"
            for found, mask in zip(
                [each for each in answer.reply.objects if each.mask_logits is not None],
                answer.masks(), strict=True,
            )
        )  # fmt: skip
