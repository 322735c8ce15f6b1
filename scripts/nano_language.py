"""Joint stage of earthmind-nano: language, [SEG] and mask decoder on packed questions.

It starts when the vision gate is passed: before, it would learn to talk about colours. The stage
after it is a recipe: `nano_recipe`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from nano_data import FALSE_COLOUR, SAR, TRUE_COLOUR, Dates, Window, Windows
from nano_loop import Loop, rng_of
from nano_model import DATES, MODES, Batch, Encoder, pack, pixels, shown
from nano_text import STEP, change_lines, earlier_of, lines
from nano_towers import half, mask_loss, objects, redraw, visible
from torch import Tensor, nn
from torch.nn import functional

from earthmind_lab.evaluate.ground import decided
from earthmind_lab.finetune.asks import SURE
from earthmind_lab.model import EarthMindForConditionalGeneration


def redraw_language(model: EarthMindForConditionalGeneration) -> None:
    """Fan-in start of language and projector, as of the towers.

    Words begin about as loud as what a layer adds to them, or a question would forget after one
    layer what it asks about. The last norm makes up for that: words are tied to the logits.
    """
    redraw(model.projector)
    redraw(model.language.model)
    nn.init.normal_(model.language.model.embed_tokens.weight, std=0.5)
    nn.init.constant_(model.language.model.norm.weight, 0.08)


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
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Logits of packed questions, and the states before, between and after all layers."""
    count = model.config.tokens_per_tile
    # Regions repeat cells of the first optical view, else of the only one (see the processor).
    marked = 0 if mode != "both" else 1
    slots = []
    for row, cells in zip(tokens, batch.cells, strict=True):
        slots += [row, row[marked * count + torch.from_numpy(cells)]]
    embeds = model.embed(batch.ids, torch.cat(slots))
    mask = torch.zeros(batch.mask.shape).masked_fill(~batch.mask, -1e9)
    out = model.language.model(
        inputs_embeds=embeds, attention_mask=mask, position_ids=batch.positions, use_cache=False,
        output_hidden_states=True,
    )  # fmt: skip
    return model.language.lm_head(out.last_hidden_state).float(), out.hidden_states


def question_batch(
    encoder: Encoder,
    windows: list[Window] | list[Dates],
    mode: str,
    rng: np.random.Generator,
    per_scene: int,
) -> Batch:
    """Packed questions about a batch of windows, after the names that `Finding` reads."""
    scenes, names = [], [] if mode in DATES else encoder.names
    for window in windows:
        if isinstance(window, Dates):
            found = change_lines(window, rng, per_scene)
        else:
            found = lines(window, mode, rng, per_scene)
        asked = [encoder.encode(line, mode, earlier_of(line, found, rng), rng) for line in found]
        scenes.append([*names, *asked])
    return pack(encoder.prefix(mode), scenes, encoder.processor.seg_token_id)


CLOUD_SHARES = {"optical": 0.25, "picture": 0.25, "sar": 0.0, "both": 0.5}
"""Share of cloudy windows: a pair learns to trust SAR only where the optical views fail."""


class Finding(nn.Module):
    """Whether a class is there, read from the words that name it: a teacher.

    An answer teaches once per question whether something was found, through all the words of its
    form, and for long nothing comes of it (docs/nano.md). So a linear map of the states in the
    middle of the language model must tell whether a class is there, and how much of it, wherever
    it is named: in what is asked, and by the names of all classes, each for itself, that follow
    the pictures of each scene. In the middle, so that the layers after it can pass it on to the
    answer.

    Args:
        width: Of the language model.
        layers: Of it.
    """

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.after = layers // 2
        self.told = nn.Sequential(nn.RMSNorm(width), nn.Linear(width, 2))

    def loss(
        self, states: Sequence[Tensor], batch: Batch, windows: Sequence[Window], mode: str
    ) -> Tensor:
        """Error where the truth decides.

        Args:
            states: (B, L, D) each, as `read` gives them.
            batch: That was read.
            windows: B of them.
            mode: Of the prompt, which shows the ground under clouds or doesn't.
        """
        rows, places, classes = torch.tensor(batch.named).T
        told = self.told(states[self.after][rows, places].float())
        each = zip(*(_there(window, mode) for window in windows), strict=True)
        there, decides, share, known = (
            torch.from_numpy(np.stack(part))[rows, classes] for part in each
        )
        wrong = functional.binary_cross_entropy_with_logits(told[:, 0], there, reduction="none")
        off = (told[:, 1].sigmoid() - share.sqrt()) ** 2
        presence = (wrong * decides).sum() / decides.sum().clamp(min=1)
        return presence + (off * known).sum() / known.sum().clamp(min=1)


def _there(window: Window, mode: str) -> tuple[np.ndarray, ...]:
    """(9,) float32 each: the class is there, that is decided, its share, that is known."""
    optical = mode in ("optical", "picture")
    yes, no = (part[:, ::STEP, ::STEP] for part in visible(window, optical=optical))
    ground = np.ones(yes.shape[1:], bool)
    sure = [decided(y, n, ground) for y, n in zip(yes, no, strict=True)]
    known = (yes | no).mean((1, 2))
    share = yes.mean((1, 2)) / np.maximum(known, 1e-6)
    parts = [bool(each) for each in sure], [each is not None for each in sure], share, known > SURE
    return tuple(np.asarray(part, np.float32) for part in parts)


SHARES = {"optical": 0.2, "sar": 0.26, "both": 0.36, "picture": 0.06, "dates sar": 0.05,
          "dates optical": 0.07}  # fmt: skip
"""Of the steps, per kind of prompt."""


def joint_groups(
    model: EarthMindForConditionalGeneration, prompts: nn.Module, finding: nn.Module
) -> list[dict[str, object]]:
    """What the joint stage trains, each part with its rate."""
    head = [
        *model.projector.parameters(),
        *model.language.parameters(),
        *model.text_head.parameters(),
        *finding.parameters(),
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


ALONE = 0.6
"""Share of the joint stage in which language learns alone, from a vision tower that stays as it is;
then that is trained too and masks are drawn. Until then [SEG] learns to say the class prompts,
which costs next to nothing: one that says nothing yet would spoil the mask decoder."""


def joint_stage(
    model: EarthMindForConditionalGeneration,
    prompts: nn.Module,
    finding: Finding,
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
        prompts: Class prompts of the mask stage: the teacher of [SEG].
        finding: The teacher of what is named.
        encoder: Questions to ids.
        data: Windows.
        loop: Of the stage, over `joint_groups`.
        check: Called every so many steps and at the end, to print scores.
        batch_size: Scenes per update.
        per_scene: Questions per scene.
        every: Steps between two checks.
    """
    recent: dict[str, list[float]] = {}
    for step in loop:
        rng = rng_of(23, step)
        alone = step < loop.steps * ALONE
        model.vision.requires_grad_(not alone)
        mode = str(rng.choice(list(SHARES), p=list(SHARES.values())))
        windows = [
            data.draw_dates(rng)
            if mode in DATES
            else data.draw(rng, MODES[mode], clouds=CLOUD_SHARES[mode])
            for _ in range(batch_size)
        ]
        batch = question_batch(encoder, windows, mode, rng, per_scene)
        with half():
            logits, states = read(model, see(model, windows, mode), batch, mode)
        text = functional.cross_entropy(
            logits.flatten(0, 1), batch.targets.flatten(), reduction="none"
        )
        loss = (text * batch.weights.flatten()).sum() / batch.weights.sum()
        parts = {"text": loss.item()}
        if mode not in DATES:
            found = finding.loss(states, batch, windows, mode)
            loss, parts["find"] = loss + found, found.item()
        if batch.segments:
            spoken, teacher = _spoken(model, prompts, states[-1], batch)
            pull = functional.mse_loss(spoken, teacher)
            loss, parts["pull"] = loss + pull, pull.item()
            if not alone:
                drawn = _drawn(model, spoken, windows, batch, mode, rng)
                loss, parts["mask"] = loss + drawn, drawn.item()
        loop.step(loss)
        for name, value in parts.items():
            recent[name] = [*recent.get(name, [])[-60:], value]
        loop.bar.set_postfix({name: f"{np.mean(last):.3f}" for name, last in recent.items()})
        if step % every == every - 1 or step == loop.steps - 1:
            check(step + 1)


def _spoken(
    model: EarthMindForConditionalGeneration, prompts: nn.Module, hidden: Tensor, batch: Batch
) -> tuple[Tensor, Tensor]:
    """(N, C) what each [SEG] says to the mask tower, and the class prompt that it should say."""
    rows, places, classes = torch.tensor(batch.segments).T
    with half():
        spoken = model.text_head(hidden[rows, places])
    return spoken.float(), prompts(classes)


def _drawn(
    model: EarthMindForConditionalGeneration,
    spoken: Tensor,
    windows: list[Window],
    batch: Batch,
    mode: str,
    rng: np.random.Generator,
) -> Tensor:
    """Loss of the masks of some [SEG]."""
    order = rng.permutation(len(batch.segments))[: 3 * len(windows)]
    chosen = [batch.segments[i] for i in order]
    view = SAR if mode == "sar" else TRUE_COLOUR if mode == "picture" else FALSE_COLOUR
    if mode == "both" and rng.random() < 0.65:
        view = SAR
    side = model.config.sam_image_size // 4
    truth = objects(windows, [view] * len(windows), [(r, c) for r, _, c in chosen], side)
    with half():
        features = model.segment_features(
            pixels(np.stack([w.views[view] for w in windows]), sam=True)
        )
        logits, iou, _ = model.sam(features.select(truth.picture), spoken[torch.from_numpy(order)])
    return mask_loss(logits.float(), iou.float(), truth.target, truth.known)[0]
