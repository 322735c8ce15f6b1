"""Masks of answers: what the mask tower sees of each view is kept, and prompted by their marks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from earthmind_lab.engine.cache import ByteCache
from earthmind_lab.engine.device import require
from earthmind_lab.exchange import Found, View
from earthmind_lab.model.memory import OBJECTS
from earthmind_lab.model.modeling import EarthMindForConditionalGeneration
from earthmind_lab.model.processing import EarthMindProcessor
from earthmind_lab.model.segmentation import SamFeatures
from earthmind_lab.model.tracking import track


@dataclass(kw_only=True, eq=False)
class Drawing:
    """The objects of one answer, to be drawn."""

    marks: Tensor
    """(N, D) state of each [SEG]."""
    frames: dict[int, View]
    """Index into the prompt's views and the frames after them -> picture to draw on, in order."""
    prompted: int
    """Of the frames, from the first on, those drawn by the marks; the others by memory."""
    scope: str = ""
    """What mask features of its voice are kept under; see `Voice.features`."""
    sam_encodes: int = 0
    """Views that had to go through the mask encoder."""
    drawn: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    """Logits (N, h, w) and IoU (N,) of each frame."""

    @property
    def nbytes(self) -> int:
        """Bytes of main memory that its masks will take at the size of their pictures."""
        pixels = sum(math.prod(view.shape) for view in self.frames.values())
        return len(self.marks) * pixels * 4  # float32


class Drawer:
    """Draws with one model.

    In float32 each answer is drawn on its own: objects drawn together differ in the last bits from
    those drawn alone, enough to move a pixel at the edge of a mask, and an answer is promised to be
    the same whoever else was asking. In half precision, where nothing of the kind can be promised,
    they are drawn together.

    Args:
        model: In evaluation mode.
        processor: Of the same folder.
        cache: Where features of views are kept, kind ``sam``.
    """

    def __init__(
        self,
        model: EarthMindForConditionalGeneration,
        processor: EarthMindProcessor,
        cache: ByteCache,
    ) -> None:
        self._model, self._processor, self._cache = model, processor, cache

    def draw(self, drawings: Sequence[Drawing]) -> None:
        """Fill in `drawn` and `sam_encodes` of answers of one voice, which the model speaks with.

        Raises:
            OutOfDeviceMemory: There is no main memory for so many masks. How many an answer marks
                nobody knows before, so that no ask sets memory aside for them.
        """
        require(sum(drawing.nbytes for drawing in drawings), what="The masks of the answer")
        together = []
        for drawing in drawings:
            prompts = self._model.text_head(drawing.marks)  # (N, C)
            if drawing.prompted < len(drawing.frames):
                self._follow(drawing, prompts)
            elif self._model.dtype is torch.float32:
                for view in drawing.frames.values():
                    features = self._features(drawing, view)
                    parts = [self._model.sam(features, part) for part in _parts(prompts)]
                    logits, iou, _ = map(torch.cat, zip(*parts, strict=True))
                    drawing.drawn.append((logits, iou))
            else:
                together.append((drawing, prompts))
        self._all(together)

    def found(self, drawing: Drawing) -> tuple[Found, ...]:
        """The objects in the order of their marks; those of several frames follow each other."""
        drawn = [
            self._on(index, view, *of_frame)
            for (index, view), of_frame in zip(drawing.frames.items(), drawing.drawn, strict=True)
        ]
        return tuple(found for of_one_mark in zip(*drawn, strict=True) for found in of_one_mark)

    def _on(self, index: int, view: View, logits: Tensor, iou: Tensor) -> list[Found]:
        """The objects of one frame, in the order of their marks."""
        masks = [
            mask
            for part in _parts(logits)
            for mask in self._model.resize_logits(part, view.shape).cpu().numpy()  # (N, H, W)
        ]
        return [
            Found(label="", score=score, mask_logits=mask, view=index)
            for mask, score in zip(masks, iou.float().clamp(0, 1).tolist(), strict=True)
        ]

    def _follow(self, drawing: Drawing, prompts: Tensor) -> None:
        views = list(drawing.frames.values())
        followed = track(
            self._model.sam,
            len(views),
            lambda number: self._features(drawing, views[number]),
            prompts,
            prompted=drawing.prompted,
        )
        drawing.drawn = [(logits, iou) for logits, iou, _ in followed]

    def _all(self, drawings: Sequence[tuple[Drawing, Tensor]]) -> None:
        """Objects of several answers in as few calls of the mask decoder as fit."""
        jobs = [
            (drawing, self._features(drawing, view), prompt)
            for drawing, prompts in drawings
            for view in drawing.frames.values()
            for prompt in prompts
        ]
        logits, scores = [], []
        for first in range(0, len(jobs), OBJECTS):
            part = jobs[first : first + OBJECTS]
            features = _joined([seen for _, seen, _ in part])
            masks, iou, _ = self._model.sam(features, torch.stack([p for *_, p in part]))
            logits += list(masks)
            scores += list(iou)
        for drawing, group in itertools.groupby(range(len(jobs)), lambda n: jobs[n][0]):
            numbers, count = list(group), len(drawing.marks)
            drawing.drawn = [
                (torch.stack([logits[n] for n in frame]), torch.stack([scores[n] for n in frame]))
                for frame in (numbers[i : i + count] for i in range(0, len(numbers), count))
            ]

    def _features(self, drawing: Drawing, view: View) -> SamFeatures:
        """What the mask encoder makes of a view alone, from the cache where it is there."""
        features: SamFeatures | None = self._cache.get("sam", (view.hash, drawing.scope))
        if features is None:
            drawing.sam_encodes += 1
            pixels = torch.from_numpy(self._processor.sam_pixel_values(view))
            features = self._model.segment_features(
                pixels.to(self._model.device, self._model.dtype)
            )
            self._cache.put("sam", (view.hash, drawing.scope), features, nbytes=features.nbytes)
        return features


def _parts(objects: Tensor) -> tuple[Tensor, ...]:
    """So many at a time as are counted on."""
    parts: tuple[Tensor, ...] = torch.split(objects, OBJECTS)
    return parts


def _joined(each: Sequence[SamFeatures]) -> SamFeatures:
    """Features of one picture per object."""
    get: Callable[[str], Tensor] = lambda name: torch.cat([getattr(one, name) for one in each])  # noqa: E731
    return SamFeatures(coarse=get("coarse"), fine=get("fine"), middle=get("middle"))
