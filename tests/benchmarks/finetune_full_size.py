"""A LoRA step of the published size, with random weights, on this machine.

    python -m tests.benchmarks.finetune_full_size [FOLDER]

8 GB of disk, 14 GB of memory, minutes per step on two cores. Prints what was planned and what was
taken. `FOLDER` keeps the weights for another time.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from earthmind_lab.exchange import Prompt, View
from earthmind_lab.finetune.examples import Example, ExampleInfo, Listed
from earthmind_lab.finetune.recipe import Recipe
from earthmind_lab.finetune.run import finetune, planned
from tests.benchmarks.full_size import write_checkpoint

STEPS = 2


def examples() -> Listed:
    """A question and a mask about one picture of one tile."""
    image = np.random.default_rng(0).integers(0, 256, (448, 448, 3), dtype=np.uint8)
    view = View(image=image, name="true_colour", modality="optical", gsd=10.0)
    masks = np.zeros((1, 448, 448), bool)
    masks[0, 100:300, 100:300] = True
    asked = Prompt(text="Segment the water.", views=(view,))
    info = ExampleInfo(id="drawn", task="segment")
    drawn = Example(info=info, prompt=asked, reply="It is [SEG].", masks=masks)
    told = Example(
        info=ExampleInfo(id="told", task="question"),
        prompt=Prompt(text="Is there any water?", views=(view,)),
        reply="Yes.",
    )
    return Listed([drawn, told])


def main() -> None:
    """Train two steps."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else f"{name}/model")
        if not folder.exists():
            write_checkpoint(folder)
        recipe = Recipe.load("lora").replace(
            "lora.rank=16", "lora.alpha=32", "losses.points=12544", "optimiser.warmup=0",
            model=str(folder), steps=STEPS, accumulation=1, device="cpu",
            train=("language", "projector", "text_head", "mask_decoder"),
        )  # fmt: skip
        print(*planned(recipe).explain(), sep="\n", flush=True)
        began = time.perf_counter()
        run = finetune(recipe, out=f"{name}/run", train=examples())
        for row in run.losses():
            print(f"step {row['step']}: loss {row['loss']:.3f}, {row['losses']}")
        took = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(f"{STEPS} steps, loading and saving: {took:.0f} s, at most {peak / 1e9:.1f} GB")


if __name__ == "__main__":
    main()
