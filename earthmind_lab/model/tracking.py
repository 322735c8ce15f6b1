"""Objects followed over frames with SAM 2's memory.

On the first frames an object is drawn by its language prompt; on the frames after them by what
was remembered: the masks drawn so far beside what was seen there, and one pointer per frame.
transformers' own video session takes no language prompt and blanks masks whose object score is
negative, so its parts are called one by one here too.

Source: Ravi et al. 2024, "SAM 2: Segment Anything in Images and Videos", with the choices of the
published EarthMind: language prompts on at most five frames, masks never blanked, memories kept
in bfloat16, pointers without a code of their age.

Shapes: F frames, N objects, C channels of the decoder, M channels of a memory, h w coarse grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from earthmind_lab.errors import EngineError
from earthmind_lab.model.segmentation import Drawn, MaskTower, SamFeatures


@dataclass(frozen=True, kw_only=True, eq=False)
class Memory:
    """What is kept of one frame."""

    features: Tensor
    """(h * w, N, M) bfloat16."""
    positions: Tensor
    """(h * w, N, M)."""
    pointer: Tensor
    """(N, C)."""


@dataclass(kw_only=True, eq=False)
class Tracker:
    """Follows N objects from frame to frame; frames must come in order.

    Args:
        tower: With SAM 2's memory.
        prompted: What is remembered of frames drawn by prompts, by frame index.
        followed: The same of frames drawn from memory.

    Raises:
        EngineError: The model was built without memory.
    """

    tower: MaskTower
    prompted: dict[int, Memory] = field(default_factory=dict)
    followed: dict[int, Memory] = field(default_factory=dict)
    _frame: int = 0

    def __post_init__(self) -> None:
        if not hasattr(self.tower.sam2, "memory_attention"):
            raise EngineError(
                "This model can't follow objects over frames: it has no memory.",
                change="ask about each frame on its own",
            )

    def draw(self, features: SamFeatures, prompts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Masks on the next frame from language prompts.

        Args:
            features: Of this one frame.
            prompts: (N, C) language embeddings.

        Returns:
            Logits (N, 4h, 4w), predicted IoU (N,), object score (N,).
        """
        drawn = self.tower.draw(features, self.tower.conditioned(features), prompts[None])
        self.prompted[self._frame] = self._remember(features, drawn)
        return self._done(drawn)

    def follow(self, features: SamFeatures) -> tuple[Tensor, Tensor, Tensor]:
        """Masks on the next frame from memory.

        Args:
            features: Of this one frame.

        Returns:
            As `draw`.

        Raises:
            EngineError: Nothing was drawn before.
        """
        if not self.prompted:
            raise EngineError("There is nothing to follow yet.", change="draw on a frame first")
        drawn = self.tower.draw(features, self.recalled(features), None)
        self.followed[self._frame] = self._remember(features, drawn)
        return self._done(drawn)

    def _done(self, drawn: Drawn) -> tuple[Tensor, Tensor, Tensor]:
        self._frame += 1
        masks, iou, _ = drawn.best()
        return masks, iou, drawn.score

    def _remember(self, features: SamFeatures, drawn: Drawn) -> Memory:
        sam: Any = self.tower.sam2
        masks, _, states = drawn.best()
        side = sam.config.image_size
        large = functional.interpolate(
            masks[:, None].float(), (side, side), mode="bilinear", align_corners=False
        )  # (N, 1, S, S)
        # Remembered with its doubt; SAM 2 itself makes a mask drawn from points hard first.
        scale, bias = sam.config.sigmoid_scale_for_mem_enc, sam.config.sigmoid_bias_for_mem_enc
        scaled = large.sigmoid() * scale + bias
        count, seen = len(masks), features.coarse
        kept, positions = sam.memory_encoder(
            seen.expand(count, -1, -1, -1), scaled.to(seen.dtype)
        )  # (N, M, h, w) each
        present = (drawn.score > 0)[:, None].to(states.dtype)  # (N, 1)
        pointer = sam.object_pointer_proj(states)
        return Memory(
            features=_sequence(kept.to(torch.bfloat16)),
            positions=_sequence(positions.to(seen.dtype).expand(count, -1, -1, -1)),
            pointer=present * pointer + (1 - present) * sam.no_object_pointer,
        )

    def recalled(self, features: SamFeatures) -> Tensor:
        """(N, C, h, w) the next frame's coarsest level after attending to the memories."""
        sam: Any = self.tower.sam2
        seen = features.coarse  # (1, C, h, w)
        memories, positions = [], []
        for age, memory in self._memories():
            memories.append(memory.features.to(seen.dtype))
            positions.append(memory.positions + sam.memory_temporal_positional_encoding[age - 1])
        pointers = torch.cat([_split(pointer, sam.mem_dim) for pointer in self._pointers()])
        count = pointers.shape[1]
        place = sam.vision_encoder.neck.position_encoding(seen.shape, seen.device, seen.dtype)
        attended = sam.memory_attention(
            current_vision_features=_sequence(seen).expand(-1, count, -1),
            current_vision_position_embeddings=_sequence(place.to(seen.dtype)),
            memory=torch.cat([*memories, pointers.to(seen.dtype)]),
            memory_posision_embeddings=torch.cat([*positions, torch.zeros_like(pointers)]),
            num_object_pointer_tokens=len(pointers),
        )  # (1, N, h * w, C)
        return attended[0].transpose(1, 2).reshape(count, *seen.shape[1:])  # type: ignore[no-any-return]

    def _memories(self) -> Iterator[tuple[int, Memory]]:
        """(age in frames, memory); 0 stands for every prompted frame, however old."""
        for memory in self.prompted.values():
            yield 0, memory
        oldest: int = self.tower.sam2.num_maskmem - 1
        for age in range(oldest, 0, -1):
            if self._frame - age in self.followed:
                yield age, self.followed[self._frame - age]

    def _pointers(self) -> list[Tensor]:
        """Pointers of the prompted frames, then of the followed ones, the latest first."""
        most: int = self.tower.sam2.config.max_object_pointers_in_encoder
        recent = (self.followed.get(self._frame - age) for age in range(1, most))
        return [m.pointer for m in (*self.prompted.values(), *recent) if m is not None]


def track(
    tower: MaskTower,
    frames: int,
    features: Callable[[int], SamFeatures],
    prompts: Tensor,
    *,
    prompted: int,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Masks of N objects on each frame, one frame after the other.

    Args:
        tower: With SAM 2's memory.
        frames: How many.
        features: Frame index -> features of that one frame; called once per frame, in order.
        prompts: (N, C) language embeddings.
        prompted: Frames from the first on that are drawn by the prompts; at least 1.

    Yields:
        Logits (N, 4h, 4w), predicted IoU (N,), object score (N,) of each frame.
    """
    tracker = Tracker(tower=tower)
    for index in range(frames):
        seen = features(index)
        yield tracker.draw(seen, prompts) if index < prompted else tracker.follow(seen)


def _sequence(grid: Tensor) -> Tensor:
    """(N, C, h, w) -> (h * w, N, C)."""
    return grid.flatten(2).permute(2, 0, 1)


def _split(pointer: Tensor, width: int) -> Tensor:
    """A pointer (N, C) as C / M tokens of a memory's width: (C / M, N, M)."""
    return pointer.reshape(len(pointer), -1, width).transpose(0, 1)
