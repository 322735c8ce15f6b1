"""Training from a recipe to an adapter, and everything that can happen on the way."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from shapely.geometry import box

from earthmind_lab.engine.loading import load_engine
from earthmind_lab.errors import EarthMindError, EngineError, EngineUnavailable, PromptError
from earthmind_lab.exchange import Options, Prompt
from earthmind_lab.finetune import checkpoints, parallel
from earthmind_lab.finetune.batches import Joined, digest
from earthmind_lab.finetune.building import build
from earthmind_lab.finetune.examples import Listed
from earthmind_lab.finetune.following import read_log
from earthmind_lab.finetune.recipe import Recipe
from earthmind_lab.finetune.run import finetune, opened
from earthmind_lab.finetune.sets import Sets
from earthmind_lab.finetune.trainer import LabTrainer
from earthmind_lab.model import EarthMindForConditionalGeneration
from tests.finetune import spread, toys

KILLS = int(os.environ.get("EARTHMIND_KILLS", "1"))
"""How many random moments a training is killed at."""


def rows(run_or_folder) -> list[dict]:
    """The log without the clock."""
    text = (Path(getattr(run_or_folder, "folder", run_or_folder)) / "losses.jsonl").read_text()
    return [
        {k: v for k, v in json.loads(line).items() if k != "time"} for line in text.splitlines()
    ]


class Crash(Exception):
    """As from a defect somewhere else."""


def crash_at(step: int):
    def follow(line: dict) -> None:
        if line["step"] == step:
            raise Crash

    return follow


@pytest.fixture(scope="module")
def whole(toy, tmp_path_factory):
    """A training without a break."""
    recipe = toys.recipe(toy, "lora", "steps=7")
    return finetune(
        recipe,
        out=tmp_path_factory.mktemp("whole"),
        train=toys.mixed(),
        validation=toys.single(4),
        guard=toys.single(2),
    )


# --- what a training does ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pretrain", "instruct", "fusion", "image", "multi", "full"])
def test_every_recipe_learns_and_its_model_answers(toy, tmp_path, name):
    examples = toys.single() if name in ("image", "pretrain") else toys.mixed()
    recipe = toys.recipe(toy, name, "steps=16", "saving.every=100", "lora.dropout=0")
    run = finetune(recipe, out=tmp_path / "run", train=examples)
    losses = [row["loss"] for row in run.losses()]
    assert len(losses) == run.steps == 16
    assert sum(losses[-4:]) < sum(losses[:4])
    merged = run.merge(tmp_path / "merged")
    engine = load_engine(merged, device="cpu")
    try:
        prompt = Prompt(text="Where is it?", views=toys.pair(1))
        assert engine.generate(prompt, Options(max_new_tokens=4)).usage.tokens_new > 0
        assert engine.capabilities.fusion == ("weighted" if name == "fusion" else "concatenate")
    finally:
        engine.close()


def test_what_a_run_leaves(whole):
    held = {path.name for path in whole.folder.iterdir()}
    assert held == {
        "recipe.yaml", "run.json", "losses.jsonl", "checkpoints", "adapter", "card.md",
        "card.json", "card.html",
    }  # fmt: skip
    assert Recipe.load(whole.folder / "recipe.yaml") == whole.recipe
    about = json.loads((whole.folder / "run.json").read_text())
    assert about["steps"] == 7 and about["versions"]["torch"] and about["guard"]["after"] > 0
    steps = [row["step"] for row in whole.losses() if "loss" in row]
    assert steps == list(range(1, 8))
    assert [row["validation"] > 0 for row in whole.losses() if "validation" in row] == [True] * 2
    for row in whole.losses():
        if "loss" in row:
            weights = whole.recipe.losses.weights()
            told = sum(getattr(weights, k) * v for k, v in row["losses"].items())
            assert told == pytest.approx(row["loss"], rel=1e-5)


def test_the_same_seed_gives_the_same_adapter_and_another_another(toy, whole, tmp_path):
    again = finetune(
        whole.recipe,
        out=tmp_path / "a",
        train=toys.mixed(),
        validation=toys.single(4),
        guard=toys.single(2),
    )
    assert again.hash == whole.hash and len(again.hash) == 64
    assert rows(again) == rows(whole)
    other = finetune(whole.recipe.replace("seed=1"), out=tmp_path / "b", train=toys.mixed())
    assert other.hash != whole.hash


def test_only_what_the_recipe_trains_moves(toy, whole, tmp_path):
    before = EarthMindForConditionalGeneration.from_pretrained(toy).state_dict()
    merged = whole.merge(tmp_path / "merged")
    after = EarthMindForConditionalGeneration.from_pretrained(merged).state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    starts = ("language.", "projector.", "text_head.", "sam.sam2.mask_decoder.")
    assert all(name.startswith(starts) for name in moved)
    for start in starts:
        assert any(name.startswith(start) for name in moved), start


def test_frozen_weights_stay(toy, tmp_path):
    recipe = toys.recipe(
        toy, "full", "steps=2", "freeze=['language.model.layers.0.*', projector.*]"
    )
    run = finetune(recipe, out=tmp_path / "run", train=toys.single(4))
    parts = load_file(run.adapter / "parts.safetensors")
    assert any(name.startswith("language.model.layers.1.") for name in parts)
    assert not any(name.startswith(("language.model.layers.0.", "projector")) for name in parts)
    with pytest.raises(EarthMindError, match="fits no weight"):
        build(recipe.replace("freeze=[languag.*]"))


def test_rates_and_decay_of_parts(toy):
    recipe = toys.recipe(toy, "lora", "optimiser.rates={projector: 0.5}").replace(
        "optimiser.decay_vectors=false"
    )
    trainer = LabTrainer.__new__(LabTrainer)
    trainer.recipe, trainer.model, trainer.optimizer = recipe, build(recipe).step, None
    groups = trainer.create_optimizer().param_groups
    assert {group["lr"] for group in groups} == {5e-3, 2.5e-3}
    for group in groups:
        for weight in group["params"]:
            assert (group["weight_decay"] > 0) == (weight.ndim > 1)
    trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    assert sum(p.numel() for group in groups for p in group["params"]) == trained


def test_a_part_waits(toy, tmp_path):
    """Until half of the steps are made it stays to the bit; going on anywhere is exact."""
    recipe = toys.recipe(
        toy, "lora", "optimiser.waits={projector: 0.5}", "steps=4", "saving.every=1"
    )
    run = finetune(recipe, out=tmp_path / "a", train=toys.single(4))
    start = build(recipe).step.state_dict()
    for step in (1, 2, 3, 4):
        held = load_file(tmp_path / f"a/checkpoints/checkpoint-{step}/{checkpoints.WEIGHTS}")
        moved = {name.split(".")[1] for name in held if not torch.equal(held[name], start[name])}
        assert ("projector" in moved) == (step > 2) and "language" in moved
    with pytest.raises(Crash):
        finetune(recipe, out=tmp_path / "b", train=toys.single(4), follow=crash_at(4))
    assert finetune(recipe, out=tmp_path / "b", train=toys.single(4)).hash == run.hash
    with pytest.raises(EarthMindError, match="every part waits"):
        recipe.replace("train=[language]", "optimiser.waits={language: 0.1}")
    with pytest.raises(EarthMindError, match=r"optimiser: waits has no key 'visoin'.*vision"):
        recipe.replace("optimiser.waits={visoin: 0.1}")


def test_bfloat16_and_checkpointing_learn(toy, tmp_path):
    recipe = toys.recipe(toy, "lora", "steps=8", precision="bfloat16", checkpointing=True)
    run = finetune(recipe, out=tmp_path / "run", train=toys.mixed())
    losses = [row["loss"] for row in run.losses()]
    assert losses[-1] < losses[0]
    dtypes = {t.dtype for t in load_file(run.adapter / "parts.safetensors").values()}
    assert dtypes == {torch.float32}


def test_early_stop_keeps_the_best(toy, tmp_path):
    recipe = toys.recipe(toy, "lora", "steps=40", "evaluation.every=1", "evaluation.patience=2")
    run = finetune(
        recipe.replace("optimiser.rate=0.1", "saving.keep=1", "saving.every=100"),
        out=tmp_path / "run",
        train=toys.single(2),
        validation=toys.mixed(8),
    )
    told = [row["validation"] for row in run.losses() if "validation" in row]
    assert run.ended == "early" and run.steps < 40
    best = told.index(min(told))
    assert len(told) == best + 3
    held = load_file(tmp_path / f"run/checkpoints/checkpoint-{best + 1}/{checkpoints.WEIGHTS}")
    parts = load_file(run.adapter / "parts.safetensors")
    name = "projector.1.weight"
    assert torch.equal(parts[name], held[f"model.{name}"])


# --- breaks --------------------------------------------------------------------------------------


def test_going_on_is_exact(toy, whole, tmp_path):
    """Bit for bit: dropout, mask points, order, moments and rate go on where they were."""
    sets = {"validation": toys.single(4), "guard": toys.single(2)}
    for step in (1, 3, 6):
        with pytest.raises(Crash):
            finetune(whole.recipe, out=tmp_path, train=toys.mixed(), follow=crash_at(step), **sets)
    run = finetune(whole.recipe, out=tmp_path, train=toys.mixed(), **sets)
    assert rows(run) == rows(whole)
    assert run.hash == whole.hash
    assert run.guard == whole.guard


def test_going_on_is_exact_between_passes_of_a_step(toy, tmp_path):
    recipe = toys.recipe(toy, "lora", "steps=5", "saving.every=1", batch=1, accumulation=3)
    straight = finetune(recipe, out=tmp_path / "a", train=toys.mixed(7))
    with pytest.raises(Crash):
        finetune(recipe, out=tmp_path / "b", train=toys.mixed(7), follow=crash_at(4))
    again = finetune(recipe, out=tmp_path / "b", train=toys.mixed(7))
    assert rows(again) == rows(straight)
    assert again.hash == straight.hash


def test_killed_at_any_moment_it_goes_on(toy, tmp_path):
    steps = 10 + 2 * KILLS
    recipe = toys.recipe(toy, "lora", f"steps={steps}", "saving.every=1", "saving.keep=2")
    straight = finetune(recipe, out=tmp_path / "straight", train=toys.mixed())
    out, draw, killed = tmp_path / "killed", random.Random(7), 0
    for _ in range(KILLS):
        process = spread.SERVER.Process(target=spread.train, args=(recipe, out, toys.mixed()))
        began, wanted = time.time(), draw.randint(1, 3)
        process.start()
        while time.time() < began + 120 and process.is_alive():
            log = read_log(out / "losses.jsonl")
            if sum(row["time"] > began for row in log) >= wanted:  # steps of this process
                break
            time.sleep(0.002)
        time.sleep(draw.random() / 20)  # anywhere in a step, a checkpoint or between
        process.kill()
        process.join(60)
        killed += process.exitcode == -signal.SIGKILL
    assert killed == KILLS
    run = finetune(recipe, out=out, train=toys.mixed())
    assert run.hash == straight.hash
    assert rows(out) == rows(straight)
    assert not list((out / "checkpoints").glob(".*"))


def test_ctrl_c_saves_and_ends(toy, tmp_path):
    recipe = toys.recipe(toy, "lora", "saving.every=100")

    def press(line: dict) -> None:
        if line["step"] == 3:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    run = finetune(recipe, out=tmp_path, train=toys.mixed(), follow=press)
    assert signal.getsignal(signal.SIGINT) is before
    assert run.ended == "stopped" and run.adapter is None
    assert [path.name for path in checkpoints.all_of(tmp_path / "checkpoints")] == [
        f"checkpoint-{run.steps}"
    ]
    done = finetune(recipe, out=tmp_path, train=toys.mixed())
    assert done.ended == "done" and done.steps == 6
    straight = finetune(recipe, out=tmp_path / "straight", train=toys.mixed())
    assert done.hash == straight.hash


def test_a_full_disk_keeps_the_earlier_checkpoint(toy, tmp_path):
    """The system refuses to make files of more than 50 kB, as a full disk would."""
    recipe = toys.recipe(toy, "lora")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(line: dict) -> None:
        if line["step"] == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))

    try:
        with pytest.raises(EngineError, match=r"step 4 can't be written.*goes on from step 2"):
            finetune(recipe, out=tmp_path, train=toys.mixed(), follow=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    held = [path.name for path in (tmp_path / "checkpoints").iterdir()]
    assert held == ["checkpoint-2"]
    straight = finetune(recipe, out=tmp_path / "straight", train=toys.mixed())
    assert finetune(recipe, out=tmp_path, train=toys.mixed()).hash == straight.hash


# --- what is refused -----------------------------------------------------------------------------


def test_a_loss_that_is_no_number_ends_with_names(toy, tmp_path):
    recipe = toys.recipe(toy, "lora", "saving.every=1", "optimiser.rate=1e30")
    with pytest.raises(EngineError, match=r"loss of step \d is not a number.*(told|drawn)-\d"):
        finetune(recipe, out=tmp_path, train=toys.mixed())
    for path in checkpoints.all_of(tmp_path / "checkpoints"):
        held = load_file(path / checkpoints.WEIGHTS)
        assert all(tensor.isfinite().all() for tensor in held.values())


def test_a_gradient_that_is_no_number_moves_nothing(toy, tmp_path, monkeypatch):
    create = LabTrainer.create_optimizer

    def poisoned(self, model=None):
        self.model.model.projector[1].weight.register_hook(lambda grad: grad * float("nan"))
        return create(self, model)

    monkeypatch.setattr(LabTrainer, "create_optimizer", poisoned)
    with pytest.raises(EngineError, match=r"gradient of step 1 is not a number.*-\d"):
        finetune(toys.recipe(toy), out=tmp_path, train=toys.mixed())
    assert checkpoints.all_of(tmp_path / "checkpoints") == []


def test_another_training_in_the_folder(toy, whole, tmp_path, monkeypatch):
    from tests.engine import tiny

    out, sets = whole.folder, {"train": toys.mixed()}
    other = tiny.save(tmp_path / "other", seed=1)
    for recipe, says in (
        (whole.recipe.replace("lora.rank=2"), "differs in lora"),
        (whole.recipe.replace("optimiser.rate=1"), "differs in optimiser"),
        (whole.recipe.replace(model=str(other)), "differs in model"),
    ):
        with pytest.raises(EngineError, match=says):
            finetune(recipe, out=out, **sets)
    with pytest.raises(EngineError, match="differs in examples"):
        finetune(whole.recipe, out=out, train=toys.mixed(7))
    with pytest.raises(EngineError, match="holds a training already"):
        finetune(whole.recipe, out=out, resume=False, **sets)
    pieces = whole.recipe.replace("parallel.kind=fsdp2")
    with monkeypatch.context() as by:
        by.setattr(parallel, "check", lambda recipe: None)  # as if by torchrun
        with pytest.raises(EngineError, match=r"fsdp2 can't read .* none or ddp.*kind=ddp"):
            finetune(pieces, out=out, **sets)
    before = whole.folder / "checkpoints/checkpoint-6"
    with pytest.raises(EngineError, match=r"another architecture.*lora_A"):
        checkpoints.load_weights(before, build(whole.recipe.replace("lora.rank=2")).step)
    with pytest.raises(EngineError, match="other weights"):
        whole.merge(tmp_path / "merged", model=other)
    assert not (tmp_path / "merged").exists()


def test_examples_that_cannot_be_learned_from(toy, tmp_path):
    recipe = toys.recipe(toy)
    with pytest.raises(PromptError, match=r"'told-0' is too long.*max_length: 8"):
        finetune(recipe.replace("max_length=8"), out=tmp_path, train=Listed([toys.told(0)]))
    image = toys.recipe(toy, "image")
    with pytest.raises(PromptError, match="'told-2' has several pictures"):
        finetune(image, out=tmp_path, train=Listed([toys.told(2, *toys.pair(2))]))
    wrong = toys.drawn(1)
    wrong = type(wrong)(
        info=wrong.info, prompt=wrong.prompt, reply="[SEG] [SEG]", masks=wrong.masks
    )
    with pytest.raises(PromptError, match=r"one mask for each.*drawn-1"):
        finetune(recipe, out=tmp_path, train=Listed([wrong]))
    with pytest.raises(EarthMindError, match="no examples"):
        finetune(recipe, out=tmp_path, train=Listed([]))


def test_what_this_machine_cannot_do_is_said_before_anything_is_read(toy, tmp_path):
    absent = tmp_path / "absent"
    for recipe, says in (
        (toys.recipe(absent, "qlora"), "needs bitsandbytes"),
        (toys.recipe(absent, "lora", "parallel.kind=deepspeed"), "needs deepspeed"),
        (toys.recipe(absent, "lora", "parallel.kind=ddp"), "torchrun --nproc-per-node"),
    ):
        with pytest.raises(EngineUnavailable, match=says):
            finetune(recipe, out=tmp_path / "run", train=toys.mixed())
    assert not (tmp_path / "run").exists()


def test_repeats():
    one, two = toys.single(4), toys.mixed(6)
    joined = Joined([(one, 2.0), (two, 0.5)], seed=3)
    ids = [joined.info(index).id for index in range(len(joined))]
    assert ids[:8] == [one.info(index).id for index in range(4)] * 2
    assert len(ids) == 11 and len(set(ids[8:])) == 3
    assert [joined[index].info.id for index in range(11)] == ids
    again = Joined([(one, 2.0), (two, 0.5)], seed=3)
    assert digest(again) == digest(joined) != digest(Joined([(one, 2.0), (two, 0.5)], seed=4))


def test_a_guard_set_that_is_trained_on_is_told_before_the_first_step(toy, caplog):
    def here(examples, by=0.0):
        return Listed([
            replace(one, info=replace(one.info, place=box(n + by, 0, n + by + 0.1, 0.1)))
            for n, one in enumerate(examples.examples)
        ])  # fmt: skip

    train, apart = here(toys.single(4)), here(toys.single(2), by=0.5)
    both = Listed([*train.examples[:1], *apart.examples])
    told = "All 2 examples of the guard set show ground"
    for name, guard, wrong in (
        ("same", here(toys.single(2)), True), ("apart", apart, False), ("part", both, False),
    ):  # fmt: skip
        caplog.clear()
        opened(toys.recipe(toy), Sets(train=train, guard=guard))
        assert (told in caplog.text) is wrong, name


def test_a_second_process_is_kept_out(toy, tmp_path):
    recipe = toys.recipe(toy, "lora", "steps=2")
    folder = tmp_path / "run" / "checkpoints"
    with checkpoints.alone(folder), pytest.raises(EngineError, match="Another process"):
        finetune(recipe, out=tmp_path / "run", train=toys.single(2))
    assert finetune(recipe, out=tmp_path / "run", train=toys.single(2)).steps == 2


def test_an_adapter_that_cannot_be_written(toy, tmp_path, monkeypatch):
    from earthmind_lab.finetune import export

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    recipe = toys.recipe(toy, "lora", "steps=2")
    with monkeypatch.context() as patch:
        patch.setattr(export, "save_adapter", full)
        with pytest.raises(EngineError, match="free some space"):
            finetune(recipe, out=tmp_path / "run", train=toys.single(2))
    straight = finetune(recipe, out=tmp_path / "straight", train=toys.single(2))
    assert finetune(recipe, out=tmp_path / "run", train=toys.single(2)).hash == straight.hash
