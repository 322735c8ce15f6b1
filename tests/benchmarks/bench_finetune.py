"""Samples per second: transformers' Trainer with peft as it is, against ours with kept features;
and questions per second: ours packed, against ours not.

    python -m tests.benchmarks.bench_finetune          # both
    python -m tests.benchmarks.bench_finetune packing  # the second alone

The same model (nano, adapters on its language model, mask decoder and projector in full), the same
examples (pictures of noise at nano's size; three questions about each, one of them with a mask),
the same batch, order, optimiser and threads, by turns in one process. The first epoch of ours
encodes every picture once; later ones, and every further training from a cache on disk, encode
none. The losses of both must be one curve within rounding.

Packing: ten questions about each of some pairs, two pairs a pass with all their questions, against
the same twenty questions a pass in rows of their own; every other setting is equal, features of
the frozen towers are kept by both, and the first epoch, which encodes them, isn't counted.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import transformers

from earthmind_lab.exchange import Modality, Prompt, View
from earthmind_lab.finetune.batches import Collator
from earthmind_lab.finetune.building import build
from earthmind_lab.finetune.examples import Example, ExampleInfo, Listed
from earthmind_lab.finetune.recipe import Recipe
from earthmind_lab.finetune.run import finetune

PICTURES, EPOCHS, BATCH, ROUNDS = 8, 3, 4, 3
WANTED = 1.5
"""Times the samples per second, over all epochs together."""
PAIRS, QUESTIONS, SCENES = 6, 10, 2
"""Of packing: pairs, questions about each, pairs a pass."""
PACKED = 2.0
"""Times the questions per second that packing gives."""


def examples() -> Listed:
    """Three questions about each picture."""
    rng = np.random.default_rng(0)
    made = []
    for picture in range(PICTURES):
        image = rng.integers(0, 256, (352, 352, 3), dtype=np.uint8)
        view = View(image=image, name="true_colour", modality="optical", gsd=10.0)
        masks = np.zeros((1, 352, 352), bool)
        masks[0, 40:200, 20 * picture : 20 * picture + 150] = True
        for number, (text, reply, truth) in enumerate(
            [
                ("Is there any water?", "Yes, there is water.", None),
                ("What covers most of the ground?", "Mostly crops.", None),
                ("Segment the water.", "The water [SEG].", masks),
            ]
        ):
            made.append(
                Example(
                    info=ExampleInfo(id=f"{picture}-{number}", task="question"),
                    prompt=Prompt(text=text, views=(view,)),
                    reply=reply,
                    masks=truth,
                )
            )
    return Listed(made)


def recipe(where: str) -> Recipe:
    """What both do."""
    return Recipe.load("lora").replace(
        "lora.rank=16", "lora.alpha=32", "lora.dropout=0", "optimiser.rate=1e-4",
        "optimiser.schedule=constant", "optimiser.warmup=0", "optimiser.decay=0",
        f"cache.where={where}", "saving.every=1000000",
        batch=BATCH, accumulation=1, epochs=float(EPOCHS), precision="float32",
        checkpointing=False, device="cpu",
        train=("language", "projector", "text_head", "mask_decoder"),
    )  # fmt: skip


def questions() -> Listed:
    """Short questions about pairs at nano's size: three views, 367 tokens before each question."""
    rng = np.random.default_rng(1)
    made = []
    for scene in range(PAIRS):
        images = rng.integers(0, 256, (3, 352, 352, 3), dtype=np.uint8)
        sensors: tuple[Modality, ...] = ("sar", "optical", "optical")
        views = tuple(
            View(image=image, name=f"view {n}", modality=sensor, gsd=10.0)
            for n, (image, sensor) in enumerate(zip(images, sensors, strict=True))
        )
        for number in range(QUESTIONS):
            about = ("water", "trees", "crops", "snow", "bare ground")[number % 5]
            made.append(
                Example(
                    info=ExampleInfo(
                        id=f"{scene}-{number}", task="question", pictures=(f"scene {scene}",)
                    ),
                    prompt=Prompt(text=f"Is there any {about}?", views=views),
                    reply=("Yes.", f"No, there is no {about} here.")[number % 2],
                )
            )
    return Listed(made)


class Clock(transformers.TrainerCallback):
    """When each step ended, and its loss."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.losses: list[float] = []

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """The start."""
        self.times.append(time.time())

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """A step."""
        if "loss" in logs:
            self.times.append(time.time())
            self.losses.append(logs["loss"])


def plain(folder: Path, data: Listed) -> tuple[list[float], list[float]]:
    """The library's loop over a model with adapters."""
    asked = recipe("none")
    built, clock = build(asked), Clock()
    collate = Collator(built.processor, asked)

    def collator(drawn: list[Example]) -> dict[str, Any]:
        batch = collate(drawn)
        batch.pop("names")
        return batch

    transformers.Trainer(
        model=built.step,
        args=transformers.TrainingArguments(
            output_dir=str(folder),
            num_train_epochs=EPOCHS,
            per_device_train_batch_size=BATCH,
            learning_rate=asked.optimiser.rate,
            lr_scheduler_type="constant",
            seed=asked.seed,
            data_seed=asked.seed,
            remove_unused_columns=False,
            save_strategy="no",
            logging_steps=1,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=data,
        data_collator=collator,
        callbacks=[clock],
    ).train()
    return clock.times, clock.losses


def ours(folder: Path, data: Listed) -> tuple[list[float], list[float]]:
    """`finetune` with kept features."""
    began: list[float] = []

    class Begun(Listed):
        """Notes when the first example is opened: the start of the first step."""

        def __getitem__(self, index: int) -> Example:
            if not began:
                began.append(time.time())
            return super().__getitem__(index)

    run = finetune(recipe("memory"), out=folder, train=Begun(data.examples))
    rows = run.losses()
    return [*began, *(row["time"] for row in rows)], [row["loss"] for row in rows]


def packing(rounds: int = ROUNDS) -> float:
    """Print and give how many times the questions per second packing gives."""
    data, ratios = questions(), []
    asked = recipe("memory").replace(epochs=2.0)
    for number in range(rounds):
        took, losses = [], []
        for given in (
            asked.replace(batch=SCENES * QUESTIONS),
            asked.replace(batch=SCENES, packing=QUESTIONS),
        ):
            with tempfile.TemporaryDirectory() as name:
                rows = finetune(given, out=Path(name) / "run", train=data).losses()
            steps = PAIRS // SCENES  # of an epoch
            assert len(rows) == 2 * steps
            took.append(rows[-1]["time"] - rows[steps - 1]["time"])
            losses.append(rows[-1]["loss"])
        ratios.append(took[0] / took[1])
        each = len(data) / took[0], len(data) / took[1]
        print(
            f"packing, round {number + 1}: {ratios[-1]:.2f} times ({each[0]:.1f} and {each[1]:.1f} "
            f"questions per second, last losses {losses[0]:.3f} and {losses[1]:.3f})",
            flush=True,
        )
    found = statistics.median(ratios)
    print(f"{QUESTIONS} questions a pair, {SCENES} pairs a pass: {found:.2f} times the questions")
    return found


def main() -> None:
    """Print the ratios."""
    if packing() < PACKED:
        raise SystemExit(f"expected at least {PACKED} times the questions per second of unpacked")
    if "packing" in sys.argv[1:]:
        return
    data = examples()
    each = len(data) // BATCH
    ratios: dict[str, list[float]] = {"all epochs": [], "first epoch": [], "later epochs": []}
    apart = 0.0
    for number in range(ROUNDS):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            theirs, plain_losses = plain(folder / "plain", data)
            own, losses = ours(folder / "ours", data)
        spans = {
            "all epochs": (0, len(own) - 1),
            "first epoch": (0, each),
            "later epochs": (each, len(own) - 1),
        }
        for kind, (first, last) in spans.items():
            ratio = (theirs[last] - theirs[first]) / (own[last] - own[first])
            ratios[kind].append(ratio)
        apart = max(
            apart, *(abs(a - b) / abs(b) for a, b in zip(losses, plain_losses, strict=True))
        )
        print(f"round {number + 1}: {ratios['all epochs'][-1]:.2f} times", flush=True)
    print(f"{len(data)} examples of {PICTURES} pictures, {EPOCHS} epochs, batch {BATCH}")
    for kind, found in ratios.items():
        print(f"{kind}: {statistics.median(found):.2f} times the samples per second")
    print(f"losses differ by at most {apart:.1e} of their value")
    if statistics.median(ratios["all epochs"]) < WANTED or apart > 1e-3:
        raise SystemExit(f"expected at least {WANTED} times and one curve of losses")


if __name__ == "__main__":
    main()
