"""How well single patches tell the classes apart: `python scripts/nano_check.py`.

A perceptron of two layers on single patches of 16 pixels learns in a minute what a vision tower
learns in half an hour, as far as colour and texture inside a patch go. So it shows quickly what a
change of the simulator, of a view or of the augmentation is worth. A vision tower must beat it:
otherwise it has learned colour only. Printed is the IoU per patch, class and view on fresh scenes.
`--real` scores the real scenes that decide when training stops as well.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from nano_data import FALSE_COLOUR, SAR, TRUE_COLOUR, VIEWS, Window, bands_of, compose, window_of
from nano_real import real_scenes
from torch import Tensor, nn
from torch.nn import functional

from earthmind_lab.data.simulate import simulate_scene
from earthmind_lab.evaluate.truth import CLASSES, CLOUDS

PATCH = 16
MORE = ("false_colour",)
"""Composites that the model isn't shown today, to see what they would be worth."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--scenes", type=int, default=240)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--views", nargs="+", default=[*VIEWS, *MORE], choices=[*VIEWS, *MORE])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    train = patches(range(700_000, 700_000 + asked.scenes))
    fresh = patches(range(800_000, 800_000 + 60))
    print(f"{asked.scenes} scenes, {asked.steps} steps, {time.monotonic() - began:.0f} s to draw")
    print("| view | loss | prior | " + " | ".join(CLASSES) + " |")
    print("|" + "---|" * (3 + len(CLASSES)))
    for name in asked.views:
        torch.manual_seed(0)
        net = learn(*train[name], steps=asked.steps)
        print(_row(name, net, *fresh[name], prior=train[name][1:]), flush=True)
        if asked.real and name in VIEWS:
            print(_row(f"{name}, real", net, *_real(name), prior=train[name][1:]), flush=True)
    print(f"{time.monotonic() - began:.0f} s")


def patches(seeds: range) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Per view: pixels (N, 16 * 16 * 3) uint8, share of each class and known share (N, 9)."""
    found: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
    for seed in seeds:
        scene = simulate_scene(seed)
        window, bands = window_of(scene), bands_of(scene)
        views = dict(zip(VIEWS, window.views, strict=True))
        views |= {name: compose(name, bands) for name in MORE}
        for name, image in views.items():
            found.setdefault(name, []).append(_cut(image, window, optical=name != VIEWS[SAR]))
    return {
        name: tuple(torch.from_numpy(np.concatenate(part)) for part in zip(*parts, strict=True))
        for name, parts in found.items()
    }  # type: ignore[misc]


def learn(pixels: Tensor, share: Tensor, known: Tensor, *, steps: int) -> nn.Module:
    """A perceptron on single patches."""
    net = nn.Sequential(nn.Linear(PATCH * PATCH * 3, 256), nn.GELU(), nn.Linear(256, 256),
                        nn.GELU(), nn.Linear(256, len(CLASSES)))  # fmt: skip
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        some = torch.randint(len(pixels), (2048,))
        loss = _loss(net(_input(pixels[some])), share[some], known[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net


@torch.no_grad()
def _row(
    name: str, net: nn.Module, pixels: Tensor, share: Tensor, known: Tensor,
    *, prior: tuple[Tensor, Tensor],
) -> str:  # fmt: skip
    logits = net(_input(pixels))
    mean = (prior[0] * prior[1]).sum(0) / prior[1].sum(0).clamp(min=1)
    constant = torch.logit(mean.clamp(1e-4, 1 - 1e-4)).expand_as(share)
    said, true, sure = logits > 0, share > 0.5, known > 0.5
    hits = (said & true & sure).sum(0)
    union = ((said | true) & sure).sum(0)
    # Where nothing is true and sure there is nothing to score.
    cells = [
        f"{h / max(u, 1):.2f}" if there else ""
        for h, u, there in zip(
            hits.tolist(), union.tolist(), (true & sure).any(0).tolist(), strict=True
        )
    ]
    losses = (float(_loss(each, share, known)) for each in (logits, constant))
    return f"| {name} | " + " | ".join(f"{v:.3f}" for v in losses) + f" | {' | '.join(cells)} |"


def _loss(logits: Tensor, share: Tensor, known: Tensor) -> Tensor:
    loss = functional.binary_cross_entropy_with_logits(logits, share, known, reduction="sum")
    return loss / known.sum().clamp(min=1)


def _input(pixels: Tensor) -> Tensor:
    return (pixels.float() - 96) / 64


def _cut(
    image: np.ndarray, window: Window, *, optical: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    count = len(image) // PATCH
    seen = [window.yes.copy(), window.no.copy()]
    for mask in seen:
        over = mask[CLOUDS].copy() if optical else np.zeros_like(mask[CLOUDS])
        mask &= ~window.cloud if optical else True
        mask[CLOUDS] = over
    pieces = image.reshape(count, PATCH, count, PATCH, 3).swapaxes(1, 2)
    yes, no = (
        m.reshape(len(m), count, PATCH, count, PATCH).mean((2, 4), dtype=np.float32) for m in seen
    )
    known = yes + no
    share = np.divide(yes, known, out=np.zeros_like(yes), where=known > 0)
    flat = [v.reshape(len(CLASSES), -1).T.copy() for v in (share, known)]
    return pieces.reshape(count * count, -1).copy(), flat[0], flat[1]


def _real(name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Patches of the watched scenes, at their own pixel size."""
    parts, view = [], VIEWS.index(name)
    for scene in real_scenes("watched"):
        side = min(scene.cloud.shape) // PATCH * PATCH
        window = Window(
            views=np.zeros(0), yes=scene.yes[:, :side, :side], no=scene.no[:, :side, :side],
            cloud=scene.cloud[:side, :side], held=frozenset({view}),
        )  # fmt: skip
        optical = view in (FALSE_COLOUR, TRUE_COLOUR)
        parts.append(_cut(scene.views[view][:side, :side], window, optical=optical))
    return tuple(torch.from_numpy(np.concatenate(p)) for p in zip(*parts, strict=True))  # type: ignore[return-value]


if __name__ == "__main__":
    main()
