"""Make earthmind-nano from nothing: `python scripts/train_nano.py WORK all`.

Stages (each can be run alone, in this order; `all` runs vision and masks side by side):

    prepare   simulate scenes into WORK/simulated
    vision    vision tower on class shares; prints the gate (IoU per token and class)
    masks     mask tower on class prompts
    joint     language, [SEG] and mask decoder on questions; keeps the best on the stop scenes
    export    earthmind_lab/weights/nano in bf16, with tokenizer, config

Beside other work on two cores, `all` took 66 minutes: vision and masks 23 side by side, the joint
stage 43. Whole scenes are held out: see `earthmind_lab/evaluate/scenes.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

# Threads that wait for each other spin: with several jobs on few cores they cost a hundredfold.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from nano_data import HELD, Windows, prepare_simulated
from nano_model import Encoder, config, tokenizer
from nano_real import real_scenes, whole
from nano_scores import score
from nano_stages import gate, joint_stage, mask_stage, vision_stage
from torch import nn

from earthmind_lab.model import EarthMindForConditionalGeneration, EarthMindProcessor

GATE = {"water": 0.6, "trees": 0.4, "crops": 0.25, "built": 0.4, "snow": 0.8}
"""IoU per vision token that the best view must reach on fresh simulated scenes before language
starts. Bare ground isn't in it: one view alone confuses it with ploughed fields."""
WEIGHTS = Path(__file__).parent.parent / "earthmind_lab" / "weights" / "nano"


def build() -> tuple[EarthMindForConditionalGeneration, EarthMindProcessor]:
    """Model and processor with fresh weights."""
    torch.manual_seed(3)
    words = tokenizer()
    settings = config(len(words))
    processor = EarthMindProcessor(words, settings)
    return EarthMindForConditionalGeneration(settings), processor


def load_parts(model: nn.Module, path: Path, prefix: str = "") -> None:
    """Put the tensors of `path` that start with `prefix` into the model."""
    state = torch.load(path, weights_only=True)
    kept = {k: v for k, v in state.items() if k.startswith(prefix)}
    missing = model.load_state_dict(kept, strict=False)
    if missing.unexpected_keys:
        raise SystemExit(f"{path} doesn't fit: {missing.unexpected_keys[:3]}")


def vision(work: Path, steps: int) -> None:
    """Vision tower behind its gate."""
    model, _ = build()
    data = Windows(work / "simulated", real_scenes("train"), share_real=0.25, seed=21)
    save = partial(torch.save, model.state_dict(), work / "vision.pt")
    head = vision_stage(model, data, steps, save)
    save()
    found = gate(model, head, data, HELD)
    (work / "gate.json").write_text(json.dumps(found, indent=1))
    print(f"gate {found}")


def check_gate(work: Path) -> None:
    """Stop before language where vision has learned little more than colour."""
    found = json.loads((work / "gate.json").read_text())
    best = {name: max(view[name] for view in found.values()) for name in GATE}
    missed = {name: best[name] for name, least in GATE.items() if best[name] < least}
    if missed:
        raise SystemExit(f"the vision gate is not passed: {missed}, needed {GATE}")


def masks(work: Path, steps: int) -> None:
    """Mask tower with class prompts."""
    model, _ = build()
    data = Windows(work / "simulated", real_scenes("train"), share_real=0.3, seed=22)

    def save(prompts: nn.Module) -> None:
        torch.save(model.state_dict(), work / "masks.pt")
        torch.save(prompts.state_dict(), work / "prompts.pt")

    save(mask_stage(model, data, steps, save))


def joint(work: Path, steps: int, start: Path | None = None) -> None:
    """Language on top of both; the checkpoint that is best on the stop scenes stays."""
    model, processor = build()
    if start is not None:
        load_parts(model, start)
    else:
        check_gate(work)
        load_parts(model, work / "vision.pt", "vision.")
        load_parts(model, work / "masks.pt", "sam.")
    prompts = nn.Embedding(6, model.config.sam_config.mask_decoder_config.hidden_size)
    prompts.load_state_dict(torch.load(work / "prompts.pt", weights_only=True))
    data = Windows(
        work / "simulated", real_scenes("train"), share_real=0.3, seed=23 if start is None else 33
    )
    encoder = Encoder(processor, seed=24)
    stop = [whole(scene) for scene in real_scenes("stop")]
    fresh = [data.held(i) for i in range(0, HELD, 4)]
    best: list[float] = []

    def check(step: int) -> None:
        model.eval()
        real = score(model, encoder, stop, ("optical", "sar", "both"))
        sim = score(model, encoder, fresh, ("optical", "both"))
        model.train()
        value = float(np.mean(list(real.values())))
        print(f"joint {step} stop {value:.3f} {real}\n   simulated {sim}", flush=True)
        if not best or value > max(best):
            torch.save(model.state_dict(), work / "joint.pt")
        torch.save(model.state_dict(), work / "last.pt")
        best.append(value)

    joint_stage(model, prompts, encoder, data, steps, check)


def export(work: Path, name: str = "joint.pt") -> None:
    """Write the package's weights."""
    model, processor = build()
    load_parts(model, work / name)
    processor.save_pretrained(WEIGHTS)
    model.to(torch.bfloat16).save_pretrained(WEIGHTS)


def everything(work: Path, scenes: int, steps: tuple[int, int, int]) -> None:
    """All stages; vision and masks at the same time, one core each."""
    prepare_simulated(work / "simulated", scenes, first_seed=10_000)
    pair = []
    for stage, count in zip(("vision", "masks"), steps, strict=False):
        command = [sys.executable, __file__, str(work), stage, "--steps", str(count)]
        pair.append(subprocess.Popen([*command, "--threads", "1"]))
    if any(process.wait() for process in pair):
        raise SystemExit("a stage failed")
    joint(work, steps[2])
    export(work)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("work", type=Path)
    parser.add_argument("stage", choices=("all", "prepare", "vision", "masks", "joint", "export"))
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--start", type=Path, default=None, help="joint: go on from these weights")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    asked.work.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    if asked.stage == "all":
        everything(asked.work, asked.scenes, (1000, 1300, 850))
    elif asked.stage == "prepare":
        prepare_simulated(asked.work / "simulated", asked.scenes, first_seed=10_000)
    elif asked.stage == "vision":
        vision(asked.work, asked.steps or 1000)
    elif asked.stage == "masks":
        masks(asked.work, asked.steps or 1300)
    elif asked.stage == "joint":
        joint(asked.work, asked.steps or 850, asked.start)
    else:
        export(asked.work, "joint.pt")
    print(f"{asked.stage}: {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
