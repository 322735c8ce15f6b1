"""Three stages of earthmind-nano: vision, masks, language. The last is a recipe: `nano_recipe`.

Vision and masks are independent and run at the same time, one core each. Language starts when
the vision gate is passed: before, it would learn to talk about colours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from nano_data import FALSE_COLOUR, SAR, TRUE_COLOUR, Dates, Window, Windows
from nano_loop import Loop, rng_of
from nano_model import DATES, MODES, Batch, Encoder, pack, pixels, shown
from nano_text import change_lines, earlier_of, lines
from torch import Tensor, nn
from torch.nn import functional

from earthmind_lab.evaluate.truth import CLASSES, CLOUDS
from earthmind_lab.model import EarthMindForConditionalGeneration


@contextmanager
def half() -> Iterator[None]:
    """bf16 where the processor gains from it."""
    with torch.autocast("cpu", torch.bfloat16):
        yield


CLOUD_SHARES = {"optical": 0.25, "picture": 0.25, "sar": 0.0, "both": 0.5}
"""Share of cloudy windows: a pair learns to trust SAR only where the optical views fail."""


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
    target = torch.from_numpy(np.stack(truth)).flatten(2).transpose(1, 2)  # (N, P, 6)
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
        windows = [
            data.mosaic(rng, clouds=0.15)
            if step < loop.steps * MOSAICS
            else data.draw(rng, [view], clouds=0.15)
            for view in views
        ]
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
        windows = [
            data.mosaic(rng, clouds=0.1)
            if step < loop.steps * MOSAICS
            else data.draw(rng, [view], clouds=0.1)
            for view in views
        ]
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


# --- language ----------------------------------------------------------------------------------


def see(
    model: EarthMindForConditionalGeneration, windows: list[Window] | list[Dates], mode: str
) -> Tensor:
    """Visual tokens of a batch, (B, V * T, D), views in prompt order."""
    stack = np.concatenate([shown(w, mode) for w in windows])  # (B * V, S, S, 3)
    frozen = not any(p.requires_grad for p in model.vision.parameters())
    with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
        features = model.vision_features(pixels(stack))
    tokens = model.project(features)
    return tokens.reshape(len(windows), -1, tokens.shape[-1])


def read(
    model: EarthMindForConditionalGeneration, tokens: Tensor, batch: Batch, mode: str
) -> tuple[Tensor, Tensor]:
    """Logits and last hidden states of packed questions."""
    count = model.config.tokens_per_tile
    # Regions repeat cells of the first optical view, else of the only one (see the processor).
    marked = 0 if mode != "both" else 1
    slots = []
    for row, cells in zip(tokens, batch.cells, strict=True):
        slots += [row, row[marked * count + torch.from_numpy(cells)]]
    embeds = model.embed(batch.ids, torch.cat(slots))
    mask = torch.zeros(batch.mask.shape).masked_fill(~batch.mask, -1e9)
    out = model(
        inputs_embeds=embeds, attention_mask=mask, position_ids=batch.positions, use_cache=False
    )
    return out.logits.float(), out.last_hidden_state


def question_batch(
    encoder: Encoder,
    windows: list[Window] | list[Dates],
    mode: str,
    rng: np.random.Generator,
    per_scene: int,
) -> Batch:
    """Packed questions about a batch of windows."""
    scenes = []
    for window in windows:
        if isinstance(window, Dates):
            found = change_lines(window, rng, per_scene)
        else:
            found = lines(window, mode, rng, per_scene)
        scenes.append(
            [encoder.encode(line, mode, earlier_of(line, found, rng), rng) for line in found]
        )
    return pack(encoder.prefix(mode), scenes, encoder.processor.seg_token_id)


SHARES = {"optical": 0.2, "sar": 0.26, "both": 0.36, "picture": 0.06, "dates sar": 0.05,
          "dates optical": 0.07}  # fmt: skip
"""Of the steps, per kind of prompt."""


def joint_groups(
    model: EarthMindForConditionalGeneration, prompts: nn.Module
) -> list[dict[str, object]]:
    """What the joint stage trains, each part with its rate; the vision tower from `THAW` on."""
    head = [
        *model.projector.parameters(),
        *model.language.parameters(),
        *model.text_head.parameters(),
    ]
    backbone = model.sam.sam2.vision_encoder.backbone
    fixed = {id(p) for p in backbone.parameters()}
    masks = [p for p in model.sam.parameters() if id(p) not in fixed]
    for part in (model.vision, backbone, prompts):
        part.requires_grad_(False)
    return [
        {"params": head, "lr": 1e-3},
        {"params": masks, "lr": 2e-4},
        {"params": list(model.vision.parameters()), "lr": 1e-4},
    ]


THAW = 0.6
"""Share of the joint stage after which the vision tower is trained too."""


def joint_stage(
    model: EarthMindForConditionalGeneration,
    prompts: nn.Module,
    encoder: Encoder,
    data: Windows,
    loop: Loop,
    check: Callable[[int], object],
    *,
    batch_size: int,
    per_scene: int,
    every: int,
) -> None:
    """Teach the language model to answer, and to prompt the mask tower.

    Args:
        model: With trained vision and masks.
        prompts: Class prompts of the mask stage: the teacher of [SEG] at first.
        encoder: Questions to ids.
        data: Windows.
        loop: Of the stage, over `joint_groups`.
        check: Called every so many steps and at the end, to print scores.
        batch_size: Scenes per update.
        per_scene: Questions per scene.
        every: Steps between two checks.
    """
    side, recent, steps = model.config.sam_image_size // 4, [], loop.steps
    for step in loop:
        rng = rng_of(23, step)
        model.vision.requires_grad_(step >= int(steps * THAW))
        mode = str(rng.choice(list(SHARES), p=list(SHARES.values())))
        windows = [
            data.draw_dates(rng)
            if mode in DATES
            else data.draw(rng, MODES[mode], clouds=CLOUD_SHARES[mode])
            for _ in range(batch_size)
        ]
        batch = question_batch(encoder, windows, mode, rng, per_scene)
        with half():
            logits, hidden = read(model, see(model, windows, mode), batch, mode)
        text = functional.cross_entropy(
            logits.flatten(0, 1), batch.targets.flatten(), reduction="none"
        )
        loss = (text * batch.weights.flatten()).sum() / batch.weights.sum()
        parts = [loss.item()]
        if batch.segments:
            extra, values = _draw(
                model, prompts, windows, hidden, batch, mode, rng, side, step / steps
            )  # fmt: skip
            loss = loss + extra
            parts += values
        loop.step(loss)
        recent = [*recent[-60:], parts + [0.0] * (4 - len(parts))]
        names = ("text", "mask", "pull", "iou")
        mean = np.mean(recent, axis=0)
        loop.bar.set_postfix({n: f"{v:.3f}" for n, v in zip(names, mean, strict=True)})
        if step % every == every - 1 or step == steps - 1:
            check(step + 1)


def _draw(
    model: EarthMindForConditionalGeneration,
    prompts: nn.Module,
    windows: list[Window],
    hidden: Tensor,
    batch: Batch,
    mode: str,
    rng: np.random.Generator,
    side: int,
    done: float,
) -> tuple[Tensor, list[float]]:
    """Masks of the [SEG] tokens: their loss, and the pull towards the class prompts."""
    order = rng.permutation(len(batch.segments))[: 3 * len(windows)]
    chosen = [batch.segments[i] for i in order]
    rows = torch.tensor([row for row, _, _ in chosen])
    places = torch.tensor([place for _, place, _ in chosen])
    view = SAR if mode == "sar" else TRUE_COLOUR if mode == "picture" else FALSE_COLOUR
    if mode == "both" and rng.random() < 0.65:
        view = SAR
    truth = objects(windows, [view] * len(windows), [(r, c) for r, _, c in chosen], side)
    with half():
        spoken = model.text_head(hidden[rows, places])
        teacher = prompts(truth.index)
        # Early on [SEG] says nothing yet and would spoil the decoder: half the prompts are the
        # teacher's until a third of the way.
        swap = torch.rand(len(chosen), 1) < (0.5 if done < 0.33 else 0.0)
        features = model.segment_features(
            pixels(np.stack([w.views[view] for w in windows]), sam=True)
        )
        logits, iou, _ = model.sam(features.select(rows), torch.where(swap, teacher, spoken))
    loss, measured = mask_loss(logits.float(), iou.float(), truth.target, truth.known)
    pull = functional.mse_loss(spoken.float(), teacher.float())
    total = loss + (1.0 if done < 0.33 else 0.2) * pull
    return total, [loss.item(), pull.item(), float(measured.mean())]
