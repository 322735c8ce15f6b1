"""Scores of earthmind-nano while it trains: by teacher forcing, a whole scene in one pass."""

from __future__ import annotations

import numpy as np
import torch
from nano_data import FALSE_COLOUR, SAR, TRUE_COLOUR, Window
from nano_language import read, see
from nano_model import MODES, Batch, Encoded, Encoder, pack, pixels
from nano_text import Line
from nano_towers import half, mask_loss, objects
from torch import Tensor

from earthmind_lab.evaluate.ground import decided
from earthmind_lab.evaluate.legends import CLASSES
from earthmind_lab.evaluate.truth import CLOUDS
from earthmind_lab.model import EarthMindForConditionalGeneration


@torch.no_grad()
def score(
    model: EarthMindForConditionalGeneration,
    encoder: Encoder,
    windows: list[Window],
    modes: tuple[str, ...],
) -> dict[str, float]:
    """Balanced presence accuracy, accept-or-refuse accuracy and mask IoU, by teacher forcing.

    The first token of an answer decides it, so this equals greedy decoding for these templates.
    """
    seg, side = encoder.processor.seg_token_id, model.config.sam_image_size // 4
    sides: dict[str, list[list[bool]]] = {}
    ious: dict[str, list[float]] = {}
    for mode in modes:
        for window in windows:
            if not set(MODES[mode]) <= window.held:
                continue
            seen = ~window.cloud if mode in ("optical", "picture") else True
            where = np.ones(window.cloud.shape, bool)
            asked = [
                (c, there)
                for c in range(len(CLASSES))
                if c != CLOUDS
                and (there := decided(window.yes[c] & seen, window.no[c] & seen, where)) is not None
            ]
            if not asked:
                continue
            rng = np.random.default_rng(0)
            encoded = [
                encoder.encode(q, mode, (), rng) for c, t in asked for q in _exam(c, bool(t))
            ]
            batch = pack(encoder.prefix(mode), [encoded], seg)
            with half():
                logits, states = read(model, see(model, [window], mode), batch, mode)
            first = _first_answers(batch, encoded)
            for (_, there), at in zip([a for a in asked for _ in range(2)], first, strict=True):
                right = bool(logits[0, at].argmax() == batch.targets[0, at])
                sides.setdefault(f"{mode} presence", [[], []])[bool(there)].append(right)
            _score_masks(model, window, mode, states[-1], batch, side, ious)
    found = {k: float(np.mean([np.mean(s) for s in v if s])) for k, v in sides.items()}
    found |= {f"{k} IoU": float(np.mean(v)) for k, v in ious.items()}
    return {k: round(v, 3) for k, v in sorted(found.items())}


def _exam(index: int, there: bool) -> list[Line]:
    name = CLASSES[index]
    verb = "are" if name.endswith("s") else "is"
    return [
        Line(
            question=f"{verb.capitalize()} there {name} here? Answer yes or no.",
            answer="Yes." if there else "No.",
        ),
        Line(
            question=f"Segment the {name}.",
            answer=f"Sure, the {name}: [SEG]." if there else f"There {verb} no {name} here.",
            segments=(index,) if there else (),
        ),
    ]


def _first_answers(batch: Batch, encoded: list[Encoded]) -> list[int]:
    at, found = batch.prefix, []
    for question in encoded:
        found.append(at + next(i for i, w in enumerate(question.weights) if w > 0) - 1)
        at += len(question.ids)
    return found


def _score_masks(
    model: EarthMindForConditionalGeneration,
    window: Window,
    mode: str,
    hidden: Tensor,
    batch: Batch,
    side: int,
    ious: dict[str, list[float]],
) -> None:
    if not batch.segments:
        return
    view = SAR if mode in ("sar", "both") else FALSE_COLOUR if mode == "optical" else TRUE_COLOUR
    truth = objects([window], [view], [(0, c) for _, _, c in batch.segments], side)
    places = torch.tensor([place for _, place, _ in batch.segments])
    with half():
        features = model.segment_features(pixels(window.views[view][None], sam=True))
        logits, iou, _ = model.segment(features, hidden[0, places])
    _, measured = mask_loss(logits.float(), iou.float(), truth.target, truth.known)
    for c, value in zip(truth.index.tolist(), measured.tolist(), strict=True):
        ious.setdefault(f"{mode} {CLASSES[c]}", []).append(value)
