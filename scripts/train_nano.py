"""Make earthmind-nano from nothing: `make nano`, or `python scripts/train_nano.py out/nano`.

Stages, in this order; what is done is skipped, and whatever was stopped goes on from its last
checkpoint, which is at most ten minutes old:

    prepare   simulate scenes and pairs of dates
    vision    vision tower on class shares; ends with the gate (IoU per token and class)
    masks     mask tower on class prompts, beside vision
    joint     language, [SEG] and mask decoder on packed questions
    real      scripts/nano.yaml: everything, mostly on windows of the real training scenes
    export    out/nano/model in bf16, with tokenizer and config, and scores.json beside it

Until `real` nothing has seen a real scene, so `fold PLACE` needs only that stage again: the same on
all real scenes but those of one place, into out/nano/folds/PLACE.

`install` copies the model over the embedded one; nothing else touches that. With NANO_SMOKE=1 every
stage runs to its end at toy size. docs/nano.md says what each stage is for, and what runs gave.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

# Threads that wait for each other spin: with several jobs on few cores they cost a hundredfold.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from nano_data import Windows, prepare
from nano_language import Finding, joint_groups, joint_stage, redraw_language
from nano_loop import PARENT, Loop, alone, done, ended, result
from nano_model import Encoder, config, tokenizer
from nano_plan import MINUTES, Plan, plan
from nano_real import PLACES, real_scenes, whole
from nano_recipe import tune
from nano_scores import score
from nano_towers import gate, mask_stage, redraw, vision_stage
from torch import nn

from earthmind_lab.evaluate.truth import CLASSES
from earthmind_lab.model import EarthMindForConditionalGeneration, EarthMindProcessor

GATE = {"water": 0.6, "trees": 0.4, "crops": 0.25, "built": 0.4, "snow": 0.8}
"""IoU per vision token that the best view must reach on fresh simulated scenes before language
starts. Bare ground isn't in it: one view alone confuses it with ploughed fields."""
REAL = 0.6
"""Share of real windows in the stage that draws any."""
SCENES_IN_MEMORY = 64
"""Simulated ones in that stage, which sees most of them once; two folds run side by side."""
WEIGHTS = Path(__file__).parent.parent / "earthmind_lab" / "weights" / "nano"
STAGES = ("prepare", "vision", "masks", "joint", "real", "export")
MOST_BYTES = 12_000_000


def build() -> tuple[EarthMindForConditionalGeneration, EarthMindProcessor]:
    """Model and processor with fresh weights."""
    torch.manual_seed(3)
    words = tokenizer()
    settings = config(len(words))
    processor = EarthMindProcessor(words, settings)
    return EarthMindForConditionalGeneration(settings), processor


def windows(work: Path, sizes: Plan) -> Windows:
    """What the stages before `real` draw from."""
    return Windows(work / "simulated", (), share_real=0.0, held=sizes.held)


def put(model: nn.Module, held: dict[str, Any]) -> None:
    """Put tensors into a model; others stay."""
    found = model.load_state_dict(held, strict=False)
    if found.unexpected_keys:
        raise SystemExit(f"a stage before doesn't fit: {found.unexpected_keys[:3]}")


def vision(work: Path, sizes: Plan) -> None:
    """Vision tower behind its gate."""
    model, _ = build()
    redraw(model.vision)
    head = nn.Linear(model.config.vision_config.hidden_size, len(CLASSES))
    groups = [{"params": [*model.vision.parameters(), *head.parameters()], "lr": 1e-3}]
    parts = {"vision": model.vision, "head": head}
    loop = Loop(work / "vision", sizes.vision, parts, groups, save=sizes.save)
    data = windows(work, sizes)
    vision_stage(model, data, loop, head, sizes.batch)
    found = gate(model, head, data, sizes.held)
    print(f"gate {found}", flush=True)
    ended(work / "vision", found)


def check_gate(work: Path) -> None:
    """Stop before language where vision has learned little more than colour."""
    found = json.loads((work / "vision" / "done.json").read_text())
    best = {name: max(view[name] for view in found.values()) for name in GATE}
    missed = {name: best[name] for name, least in GATE.items() if best[name] < least}
    if missed:
        raise SystemExit(f"the vision gate is not passed: {missed}, needed {GATE}")


def masks(work: Path, sizes: Plan) -> None:
    """Mask tower with class prompts."""
    model, _ = build()
    redraw(model.sam)
    prompts = nn.Embedding(len(CLASSES), model.config.sam_config.mask_decoder_config.hidden_size)
    groups = [{"params": [*model.sam.parameters(), *prompts.parameters()], "lr": 1e-3}]
    parts = {"sam": model.sam, "prompts": prompts}
    loop = Loop(work / "masks", sizes.masks, parts, groups, save=sizes.save)
    mask_stage(model, windows(work, sizes), loop, prompts, max(sizes.batch // 2, 1))
    ended(work / "masks", {})


def joint(work: Path, sizes: Plan) -> None:
    """Language on top of both, on simulated scenes alone.

    Scores are printed now and then; nothing is chosen by them: the last weights are the result.
    """
    if sizes.gate:
        check_gate(work)
    model, processor = build()
    redraw_language(model)
    put(model.vision, result(work / "vision", "vision."))
    put(model.sam, result(work / "masks", "sam."))
    prompts = nn.Embedding(len(CLASSES), model.config.sam_config.mask_decoder_config.hidden_size)
    put(prompts, result(work / "masks", "prompts."))
    words = model.config.text_config
    finding = Finding(words.hidden_size, words.num_hidden_layers)
    loop = Loop(
        work / "joint", sizes.joint, {"model": model, "finding": finding},
        joint_groups(model, prompts, finding), save=sizes.save, flat=0.4,
    )  # fmt: skip
    encoder, data = Encoder(processor), windows(work, sizes)
    joint_stage(
        model, prompts, finding, encoder, data, loop,
        lambda step: scores(model, encoder, data, sizes, f"joint {step}"),
        batch_size=max(sizes.batch * 2 // 3, 1), per_scene=sizes.questions, every=sizes.check,
    )  # fmt: skip
    loop.close()  # `spoken` holds the folder next
    ended(work / "joint", {})


def spoken(work: Path) -> Path:
    """What came of `joint` as the folder of a model, which a recipe begins from."""
    target, draft = work / "joint" / "model", work / "joint" / ".draft-model"
    held = alone(work / "joint")  # two folds may ask at the same time
    try:
        if not target.exists():
            model, processor = build()
            put(model, result(work / "joint", "model."))
            shutil.rmtree(draft, ignore_errors=True)
            model.save_pretrained(draft)
            processor.save_pretrained(draft)
            draft.rename(target)
    finally:
        os.close(held)
    return target


def real(work: Path, sizes: Plan, without: str | None = None) -> None:
    """The whole model by a recipe, mostly on windows of real scenes.

    Args:
        work: With the stages before.
        sizes: Of this stage.
        without: A place whose scenes are left out, for `folds`; None = the training scenes.
    """
    folder = work / "real" if without is None else work / "folds" / without
    scenes = real_scenes("train", sizes.places, without)
    data = Windows(
        work / "simulated", scenes, share_real=REAL, held=sizes.held, memory=SCENES_IN_MEMORY
    )
    tune(spoken(work), folder, data, sizes.real)
    ended(folder, {"scenes": [scene.name for scene in scenes]})


def scores(
    model: EarthMindForConditionalGeneration,
    encoder: Encoder,
    data: Windows,
    sizes: Plan,
    name: str,
) -> dict[str, float]:
    """Of real scenes that aren't trained on, and of fresh simulated ones."""
    small = not sizes.gate
    was = model.training
    model.eval()
    apart = [whole(scene) for scene in real_scenes("watched", sizes.places)]
    found = score(model, encoder, apart, ("both",) if small else ("optical", "sar", "both"))
    fresh = [data.held(i) for i in range(0, sizes.held, 4)]
    simulated = score(model, encoder, fresh, ("both",) if small else ("optical", "both"))
    model.train(was)
    print(f"{name}: real {found}\n   simulated {simulated}", flush=True)
    return {**{f"real {k}": v for k, v in found.items()},
            **{f"simulated {k}": v for k, v in simulated.items()}}  # fmt: skip


def exported(work: Path, sizes: Plan) -> None:
    """The model as it is shipped, and what it scores."""
    target = work / "model"
    draft = work / ".draft-model"
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(work / "real" / "model", draft)
    shutil.rmtree(target, ignore_errors=True)
    draft.rename(target)
    size = sum(file.stat().st_size for file in target.glob("*.safetensors"))
    if size > MOST_BYTES:
        raise SystemExit(f"{target} has {size} bytes of weights, at most {MOST_BYTES} are wanted")
    model = EarthMindForConditionalGeneration.from_pretrained(target, dtype=torch.float32)
    encoder = Encoder(EarthMindProcessor.from_pretrained(target, model.config))
    found = scores(model, encoder, windows(work, sizes), sizes, "exported")
    (work / "scores.json").write_text(json.dumps(found, indent=1) + "\n")
    ended(work / "export", found)


def prepared(work: Path, sizes: Plan) -> None:
    """Simulated scenes and dates."""
    prepare(work / "simulated", sizes.scenes, sizes.dates, sizes.threads)
    ended(work / "prepare", {"scenes": sizes.scenes, "dates": sizes.dates})


RUN = {"prepare": prepared, "vision": vision, "masks": masks, "joint": joint, "real": real,
       "export": exported}  # fmt: skip


def everything(work: Path, sizes: Plan) -> None:
    """All stages that aren't done; vision and masks at the same time, one core each."""
    held = alone(work)
    began = time.monotonic()
    for number, stage in enumerate(STAGES, start=1):
        if done(work / stage):
            continue
        left = sum(MINUTES[each] for each in STAGES if not done(work / each))
        about = f", about {left} minutes left" if sizes.gate else ""
        gone = time.monotonic() - began
        print(f"[{number}/{len(STAGES)}] {stage}, after {gone:.0f} s{about}", flush=True)
        if stage in ("vision", "masks"):
            _side_by_side(work)
        else:
            torch.set_num_threads(sizes.threads)
            RUN[stage](work, sizes)
    print(f"done in {time.monotonic() - began:.0f} s: {work / 'model'}", flush=True)
    os.close(held)


def _side_by_side(work: Path) -> None:
    pair = []
    for stage in ("vision", "masks"):
        if not done(work / stage):
            command = [sys.executable, __file__, str(work), stage, "--threads", "1"]
            pair.append(subprocess.Popen(command, env={**os.environ, PARENT: str(os.getpid())}))
    codes = [process.wait() for process in pair]
    if any(codes):
        raise SystemExit("a stage failed; its message stands above, and the same command goes on")


def install(work: Path) -> None:
    """Copy the model over the embedded one, whose README stays and wants its scores anew."""
    for file in (work / "model").iterdir():
        shutil.copy2(file, WEIGHTS / file.name)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("work", type=Path)
    parser.add_argument(
        "stage", nargs="?", default="all", choices=("all", *STAGES, "fold", "install")
    )
    parser.add_argument("place", nargs="?", choices=PLACES, help="of `fold`")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    asked.work.mkdir(parents=True, exist_ok=True)
    if asked.stage == "all":
        everything(asked.work, plan())
    elif asked.stage == "install":
        install(asked.work)
    elif asked.stage == "fold":
        if asked.place is None:
            parser.error(f"fold needs a place: {', '.join(PLACES)}")
        if not done(asked.work / "folds" / asked.place):
            real(asked.work, plan(), asked.place)
    elif not done(asked.work / asked.stage):
        RUN[asked.stage](asked.work, plan())


if __name__ == "__main__":
    main()
