"""Two stages of earthmind-nano, vision and masks, which run at the same time, one core each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from nano_data import FALSE_COLOUR, SAR, TRUE_COLOUR, Window, Windows
from nano_loop import Loop, rng_of
from nano_model import pixels
from torch import Tensor, nn
from torch.nn import functional

from earthmind_lab.evaluate.truth import CLASSES, CLOUDS
from earthmind_lab.model import EarthMindForConditionalGeneration


@contextmanager
def half() -> Iterator[None]:
    """bf16 where the processor gains from it."""
    with torch.autocast("cpu", torch.bfloat16):
        yield


def visible(window: Window, *, optical: bool) -> tuple[np.ndarray, np.ndarray]:
    """(9, S, S) bool: where each class is, and where it isn't, as a view can tell.

    An optical view knows nothing of the ground under clouds, SAR nothing of clouds.
    """

    def seen(mask: np.ndarray) -> np.ndarray:
        found = mask & ~window.cloud if optical else mask.copy()
        found[CLOUDS] = mask[CLOUDS] if optical else False
        return found

    return seen(window.yes), seen(window.no)


def fractions(window: Window, cells: int, *, optical: bool) -> tuple[np.ndarray, np.ndarray]:
    """(9, cells, cells) share of each class among known pixels, and the known share."""

    def pool(mask: np.ndarray) -> np.ndarray:
        values = torch.from_numpy(mask.astype(np.float32))[None]
        return functional.adaptive_avg_pool2d(values, cells)[0].numpy()

    yes, no = map(pool, visible(window, optical=optical))
    known = yes + no
    return np.divide(yes, known, out=np.zeros_like(yes), where=known > 0), known


MOSAICS = 0.55
"""Share of the steps of vision and masks that see mosaics; whole scenes follow."""


def redraw(tower: nn.Module) -> None:
    """Fan-in start of a tower: the library's small start leaves narrow features tiny.

    The scale of a layer's branches begins at one: at a tenth, four layers hardly add anything.
    """
    for module in tower.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.trunc_normal_(module.weight, std=1 / math.sqrt(module.weight[0].numel()))
    for name, value in tower.named_parameters():
        if "lambda" in name:
            nn.init.ones_(value)


def _drawn(
    data: Windows, rng: np.random.Generator, views: list[int], *, mosaics: bool, clouds: float
) -> list[Window]:
    """A window for each view."""
    if mosaics:
        return [data.mosaic(rng, clouds=clouds) for _ in views]
    return [data.draw(rng, [view], clouds=clouds) for view in views]


# --- vision ------------------------------------------------------------------------------------


def dense_loss(
    model: EarthMindForConditionalGeneration,
    head: nn.Module,
    windows: list[Window],
    views: list[int],
) -> tuple[Tensor, Tensor, np.ndarray, np.ndarray]:
    """Class shares per vision token: loss, prediction, truth, known share."""
    stack = np.stack([w.views[v] for w, v in zip(windows, views, strict=True)])
    truth, known = zip(
        *(fractions(w, 22, optical=v != SAR) for w, v in zip(windows, views, strict=True)),
        strict=True,
    )
    target = torch.from_numpy(np.stack(truth)).flatten(2).transpose(1, 2)  # (N, P, 9)
    weight = torch.from_numpy(np.stack(known)).flatten(2).transpose(1, 2)
    logits = head(model.vision_features(pixels(stack))).float()
    loss = functional.binary_cross_entropy_with_logits(logits, target, weight, reduction="sum")
    return loss / weight.sum().clamp(min=1), logits, target.numpy(), weight.numpy()


def vision_stage(
    model: EarthMindForConditionalGeneration, data: Windows, loop: Loop, head: nn.Module, batch: int
) -> None:
    """Teach the vision tower what covers each of its tokens, one view at a time."""
    for step in loop:
        rng = rng_of(21, step)
        views = rng.choice([SAR, FALSE_COLOUR, TRUE_COLOUR], batch, p=[0.4, 0.35, 0.25]).tolist()
        windows = _drawn(data, rng, views, mosaics=step < loop.steps * MOSAICS, clouds=0.15)
        with half():
            loss, *_ = dense_loss(model, head, windows, views)
        loop.step(loss)
        loop.bar.set_postfix(loss=f"{loss.item():.3f}")
        if step % 250 == 249:
            print(f"vision {step + 1}", gate(model, head, data, min(32, data.kept)), flush=True)


@torch.no_grad()
def gate(
    model: EarthMindForConditionalGeneration, head: nn.Module, data: Windows, count: int
) -> dict[str, dict[str, float]]:
    """Patch IoU per view and class on simulated windows that training never draws."""
    found = {}
    for name, view in (("sar", SAR), ("swir_nir_red", FALSE_COLOUR), ("true_colour", TRUE_COLOUR)):
        hits, union = np.zeros(len(CLASSES)), np.zeros(len(CLASSES))
        for start in range(0, count, 8):
            windows = [data.held(i) for i in range(start, min(start + 8, count))]
            with half():
                _, logits, target, weight = dense_loss(model, head, windows, [view] * len(windows))
            said, true, known = logits.numpy() > 0, target > 0.5, weight > 0.5
            hits += (said & true & known).sum((0, 1))
            union += ((said | true) & known).sum((0, 1))
        found[name] = {
            c: round(float(h / max(u, 1)), 2) for c, h, u in zip(CLASSES, hits, union, strict=True)
        }
    return found


# --- masks -------------------------------------------------------------------------------------


def mask_loss(logits: Tensor, iou: Tensor, target: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """BCE + Dice where the truth is known, and the error of the predicted IoU.

    Args:
        logits: (N, h, w).
        iou: (N,) as the decoder estimates it.
        target: (N, h, w) share of the class.
        known: (N, h, w) weight.

    Returns:
        Loss and the true IoU (N,).
    """
    weight = known / known.sum((1, 2), keepdim=True).clamp(min=1)
    bce = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    said, true = logits.sigmoid() * known, target * known
    dice = 1 - (2 * (said * true).sum((1, 2)) + 1) / (said.sum((1, 2)) + true.sum((1, 2)) + 1)
    hard, real = (logits > 0) & (known > 0.5), (target > 0.5) & (known > 0.5)
    measured = (hard & real).sum((1, 2)) / (hard | real).sum((1, 2)).clamp(min=1)
    loss = (bce * weight).sum((1, 2)).mean() + 0.5 * dice.mean()
    return loss + 0.1 * functional.mse_loss(iou, measured), measured


@dataclass(kw_only=True)
class Objects:
    """Masks to draw: which picture, which class, and its truth."""

    picture: Tensor
    index: Tensor
    target: Tensor
    known: Tensor


def objects(
    windows: list[Window], views: list[int], wanted: list[tuple[int, int]], side: int
) -> Objects:
    """Truth at the decoder's resolution for (picture, class) pairs."""
    shares = [fractions(w, side, optical=v != SAR) for w, v in zip(windows, views, strict=True)]
    return Objects(
        picture=torch.tensor([p for p, _ in wanted]),
        index=torch.tensor([c for _, c in wanted]),
        target=torch.from_numpy(np.stack([shares[p][0][c] for p, c in wanted])),
        known=torch.from_numpy(np.stack([shares[p][1][c] for p, c in wanted])),
    )


def mask_stage(
    model: EarthMindForConditionalGeneration,
    data: Windows,
    loop: Loop,
    prompts: nn.Embedding,
    batch: int,
) -> None:
    """Teach the mask tower one learned prompt per class; language is taught to speak them later."""
    side, recent = model.config.sam_image_size // 4, []
    for step in loop:
        rng = rng_of(22, step)
        views = rng.choice([SAR, FALSE_COLOUR, TRUE_COLOUR], batch, p=[0.5, 0.35, 0.15]).tolist()
        windows = _drawn(data, rng, views, mosaics=step < loop.steps * MOSAICS, clouds=0.1)
        wanted = [
            (i, int(c))
            for i, w in enumerate(windows)
            for c in rng.permutation(
                [
                    c
                    for c in range(len(CLASSES))
                    if w.yes[c].mean() > 0.01 and (c != CLOUDS or views[i] != SAR)
                ]
            )[:3]
        ]
        if not wanted:
            continue
        truth = objects(windows, views, wanted, side)
        with half():
            stack = np.stack([w.views[v] for w, v in zip(windows, views, strict=True)])
            features = model.segment_features(pixels(stack, sam=True))
            logits, iou, _ = model.sam(features.select(truth.picture), prompts(truth.index))
        loss, measured = mask_loss(logits.float(), iou.float(), truth.target, truth.known)
        loop.step(loss)
        recent = [*recent[-50:], float(measured.mean())]
        loop.bar.set_postfix(loss=f"{loss.item():.3f}", iou=f"{np.mean(recent):.3f}")
        if step % 250 == 249:
            found = mask_scores(model, prompts, data, min(24, data.kept))
            print(f"masks {step + 1} IoU {np.mean(recent):.3f}", found, flush=True)


@torch.no_grad()
def mask_scores(
    model: EarthMindForConditionalGeneration, prompts: nn.Module, data: Windows, count: int
) -> dict[str, dict[str, float]]:
    """Mask IoU per view and class on simulated windows that training never draws."""
    found, side = {}, model.config.sam_image_size // 4
    for name, view in (("sar", SAR), ("swir_nir_red", FALSE_COLOUR)):
        scores: dict[str, list[float]] = {c: [] for c in CLASSES}
        for i in range(count):
            window = data.held(i)
            wanted = [
                (0, c)
                for c in range(len(CLASSES))
                if window.yes[c].mean() > 0.02 and (c != CLOUDS or view != SAR)
            ]
            if not wanted:
                continue
            truth = objects([window], [view], wanted, side)
            with half():
                features = model.segment_features(pixels(window.views[view][None], sam=True))
                logits, iou, _ = model.sam(features, prompts(truth.index))
            _, measured = mask_loss(logits.float(), iou.float(), truth.target, truth.known)
            for (_, c), value in zip(wanted, measured, strict=True):
                scores[CLASSES[c]].append(float(value))
        found[name] = {c: round(float(np.mean(v)), 2) for c, v in scores.items() if v}
    return found
