"""The three stages that make earthmind-nano: vision, masks, language.

Vision and masks are independent and run at the same time, one core each. Language starts when
the vision gate is passed: before, it would learn to talk about colours.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from nano_data import FALSE_COLOUR, SAR, TRUE_COLOUR, Window, Windows
from nano_model import MODES, Batch, Encoder, pack, pixels, truth_of
from nano_text import Line, lines
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm

from earthmind_lab.evaluate.truth import CLASSES
from earthmind_lab.model import EarthMindForConditionalGeneration


@contextmanager
def half() -> Iterator[None]:
    """bf16 where the processor gains from it."""
    with torch.autocast("cpu", torch.bfloat16):
        yield


CLOUDS = {"optical": 0.25, "picture": 0.25, "sar": 0.0, "both": 0.5}
"""Share of cloudy windows: a pair learns to trust SAR only where the optical views fail."""


FOLLOW_UPS = 0.12
"""Share of questions that come after one to four earlier ones of the same conversation."""


class Training:
    """Optimiser, warm-up and cosine decay by steps: a pause can't eat the schedule."""

    def __init__(
        self, groups: list[dict[str, object]], steps: int, *, warmup: int = 60, flat: float = 0.3
    ) -> None:
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.05)
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]

        def rate(step: int) -> float:
            rise = min(1.0, (step + 1) / warmup)
            done = max(0.0, (step / steps - flat) / (1 - flat))
            return rise * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))

        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, rate)

    def step(self, loss: Tensor) -> None:
        """One update, gradients clipped at 1."""
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.schedule.step()


def fractions(window: Window, cells: int, *, clouds: bool) -> tuple[np.ndarray, np.ndarray]:
    """(6, cells, cells) share of each class among known pixels, and the known share."""
    seen = ~window.cloud if clouds else np.ones_like(window.cloud)

    def pool(mask: np.ndarray) -> np.ndarray:
        values = torch.from_numpy((mask & seen).astype(np.float32))[None]
        return functional.adaptive_avg_pool2d(values, cells)[0].numpy()

    yes, no = pool(window.yes), pool(window.no)
    known = yes + no
    return np.divide(yes, known, out=np.zeros_like(yes), where=known > 0), known


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
        *(fractions(w, 22, clouds=v != SAR) for w, v in zip(windows, views, strict=True)),
        strict=True,
    )
    target = torch.from_numpy(np.stack(truth)).flatten(2).transpose(1, 2)  # (N, P, 6)
    weight = torch.from_numpy(np.stack(known)).flatten(2).transpose(1, 2)
    logits = head(model.vision_features(pixels(stack))).float()
    loss = functional.binary_cross_entropy_with_logits(logits, target, weight, reduction="sum")
    return loss / weight.sum().clamp(min=1), logits, target.numpy(), weight.numpy()


def vision_stage(
    model: EarthMindForConditionalGeneration, data: Windows, steps: int, save: Callable[[], None]
) -> nn.Module:
    """Teach the vision tower what covers each of its tokens, one view at a time."""
    head = nn.Linear(model.config.vision_config.hidden_size, len(CLASSES))
    groups = [{"params": [*model.vision.parameters(), *head.parameters()], "lr": 1e-3}]
    training = Training(groups, steps)
    bar = tqdm(range(steps), desc="vision")
    for step in bar:
        views = [
            int(v)
            for v in data.rng.choice([SAR, FALSE_COLOUR, TRUE_COLOUR], 12, p=[0.4, 0.35, 0.25])
        ]
        windows = [data.draw([view], clouds=0.15) for view in views]
        with half():
            loss, *_ = dense_loss(model, head, windows, views)
        training.step(loss)
        bar.set_postfix(loss=f"{loss.item():.3f}")
        if step % 250 == 249:
            print(f"vision {step + 1}", gate(model, head, data), flush=True)
            save()
    return head


@torch.no_grad()
def gate(
    model: EarthMindForConditionalGeneration, head: nn.Module, data: Windows, count: int = 32
) -> dict[str, dict[str, float]]:
    """Patch IoU per view and class on simulated windows that training never draws."""
    found = {}
    for name, view in (("sar", SAR), ("swir_nir_red", FALSE_COLOUR), ("true_colour", TRUE_COLOUR)):
        hits, union = np.zeros(len(CLASSES)), np.zeros(len(CLASSES))
        for start in range(0, count, 8):
            windows = [data.held(start + i) for i in range(8)]
            with half():
                _, logits, target, weight = dense_loss(model, head, windows, [view] * 8)
            said, true, known = logits.numpy() > 0, target > 0.5, weight > 0.5
            hits += (said & true & known).sum((0, 1))
            union += ((said | true) & known).sum((0, 1))
        found[name] = {
            c: round(float(h / max(u, 1)), 2) for c, h, u in zip(CLASSES, hits, union, strict=True)
        }
    return found


# --- masks -------------------------------------------------------------------------------------


def redraw(model: EarthMindForConditionalGeneration) -> None:
    """Fan-in start of the mask tower: the library's small start leaves narrow features tiny."""
    for name, value in model.sam.named_parameters():
        if value.dim() > 1 and "pos" not in name and "token" not in name and "embed" not in name:
            fan_in = value[0].numel()
            nn.init.trunc_normal_(value, std=1 / math.sqrt(fan_in))


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
    shares = [fractions(w, side, clouds=v != SAR) for w, v in zip(windows, views, strict=True)]
    return Objects(
        picture=torch.tensor([p for p, _ in wanted]),
        index=torch.tensor([c for _, c in wanted]),
        target=torch.from_numpy(np.stack([shares[p][0][c] for p, c in wanted])),
        known=torch.from_numpy(np.stack([shares[p][1][c] for p, c in wanted])),
    )


def mask_stage(
    model: EarthMindForConditionalGeneration,
    data: Windows,
    steps: int,
    save: Callable[[nn.Module], None],
) -> nn.Module:
    """Teach the mask tower one learned prompt per class; language is taught to speak them later."""
    redraw(model)
    width = model.config.sam_config.mask_decoder_config.hidden_size
    prompts = nn.Embedding(len(CLASSES), width)
    groups = [{"params": [*model.sam.parameters(), *prompts.parameters()], "lr": 1e-3}]
    training, side = Training(groups, steps), model.config.sam_image_size // 4
    bar, recent = tqdm(range(steps), desc="masks"), []
    for step in bar:
        views = [
            int(v)
            for v in data.rng.choice([SAR, FALSE_COLOUR, TRUE_COLOUR], 6, p=[0.5, 0.35, 0.15])
        ]
        windows = [data.draw([view], clouds=0.1) for view in views]
        wanted = [
            (i, c)
            for i, w in enumerate(windows)
            for c in data.rng.permutation([c for c in range(6) if w.yes[c].mean() > 0.01])[:3]
        ]
        if not wanted:
            continue
        truth = objects(windows, views, wanted, side)
        with half():
            features = model.segment_features(
                pixels(
                    np.stack([w.views[v] for w, v in zip(windows, views, strict=True)]), sam=True
                )
            )
            logits, iou, _ = model.sam(features.select(truth.picture), prompts(truth.index))
        loss, measured = mask_loss(logits.float(), iou.float(), truth.target, truth.known)
        training.step(loss)
        recent = [*recent[-50:], float(measured.mean())]
        bar.set_postfix(loss=f"{loss.item():.3f}", iou=f"{np.mean(recent):.3f}")
        if step % 250 == 249:
            print(
                f"masks {step + 1} IoU {np.mean(recent):.3f}",
                mask_scores(model, prompts, data),
                flush=True,
            )
            save(prompts)
    return prompts


@torch.no_grad()
def mask_scores(
    model: EarthMindForConditionalGeneration, prompts: nn.Module, data: Windows, count: int = 24
) -> dict[str, dict[str, float]]:
    """Mask IoU per view and class on simulated windows that training never draws."""
    found, side = {}, model.config.sam_image_size // 4
    for name, view in (("sar", SAR), ("swir_nir_red", FALSE_COLOUR)):
        scores: dict[str, list[float]] = {c: [] for c in CLASSES}
        for i in range(count):
            window = data.held(i)
            wanted = [(0, c) for c in range(6) if window.yes[c].mean() > 0.02]
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


def see(model: EarthMindForConditionalGeneration, windows: list[Window], mode: str) -> Tensor:
    """Visual tokens of a batch, (B, V * T, D), views in prompt order."""
    stack = np.concatenate([w.views[list(MODES[mode])] for w in windows])  # (B * V, S, S, 3)
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
    encoder: Encoder, windows: list[Window], mode: str, rng: random.Random, seg: int, per_scene: int
) -> Batch:
    """Packed questions about a batch of windows."""
    scenes = []
    for window in windows:
        found = lines(truth_of(window, mode), rng, per_scene)
        encoded = []
        plain = [line for line in found if line.region is None]
        for line in found:
            earlier: list[Line] = []
            if line.region is None and rng.random() < FOLLOW_UPS:
                others = [other for other in plain if other is not line]
                earlier = rng.sample(others, min(len(others), rng.randint(1, 4)))
            encoded.append(encoder.encode(line, mode, window, earlier))
        scenes.append(encoded)
    return pack(encoder.prefix(mode), scenes, seg)


def joint_stage(
    model: EarthMindForConditionalGeneration,
    prompts: nn.Module,
    encoder: Encoder,
    data: Windows,
    steps: int,
    check: Callable[[int], None],
    *,
    real_share: tuple[float, float] = (0.3, 0.6),
    batch_size: int = 8,
    per_scene: int = 10,
    thaw: float = 0.6,
) -> None:
    """Teach the language model to answer, and to prompt the mask tower.

    Args:
        model: With trained vision and masks.
        prompts: Class prompts of the mask stage: the teacher of [SEG] at first.
        encoder: Questions to ids.
        data: Windows.
        steps: Updates.
        check: Called every 200 steps and at the end, to score and keep the best.
        real_share: Share of real windows before and in the last third.
        batch_size: Scenes per update.
        per_scene: Questions per scene.
        thaw: Share of the steps after which the vision tower is trained too.
    """
    seg, rng, side = (
        encoder.processor.seg_token_id,
        random.Random(11),
        model.config.sam_image_size // 4,
    )
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
    groups = [{"params": head, "lr": 1e-3}, {"params": masks, "lr": 2e-4}]
    groups.append({"params": list(model.vision.parameters()), "lr": 1e-4})
    training, bar, recent = Training(groups, steps, flat=0.4), tqdm(range(steps), desc="joint"), []
    modes, odds = ("optical", "sar", "both", "picture"), (0.22, 0.3, 0.42, 0.06)
    for step in bar:
        data.share_real = real_share[step > steps * 2 / 3]
        if step == int(steps * thaw):
            model.vision.requires_grad_(True)
        mode = rng.choices(modes, odds)[0]
        windows = [data.draw(MODES[mode], clouds=CLOUDS[mode]) for _ in range(batch_size)]
        batch = question_batch(encoder, windows, mode, rng, seg, per_scene)
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
            )
            loss = loss + extra
            parts += values
        training.step(loss)
        recent = [*recent[-60:], parts + [0.0] * (4 - len(parts))]
        mean = np.mean(recent, axis=0)
        bar.set_postfix(
            text=f"{mean[0]:.3f}",
            mask=f"{mean[1]:.3f}",
            pull=f"{mean[2]:.3f}",
            iou=f"{mean[3]:.2f}",
        )
        if step % 200 == 199 or step == steps - 1:
            check(step + 1)


def _draw(
    model: EarthMindForConditionalGeneration,
    prompts: nn.Module,
    windows: list[Window],
    hidden: Tensor,
    batch: Batch,
    mode: str,
    rng: random.Random,
    side: int,
    done: float,
) -> tuple[Tensor, list[float]]:
    """Masks of the [SEG] tokens: their loss, and the pull towards the class prompts."""
    chosen = rng.sample(batch.segments, min(len(batch.segments), 3 * len(windows)))
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
