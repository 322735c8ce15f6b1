"""Two processes on two cores, over loopback."""

from __future__ import annotations

import importlib.machinery
import os
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from earthmind_lab.errors import EarthMindError, EngineError, EngineUnavailable
from earthmind_lab.finetune import checkpoints, parallel, zero
from earthmind_lab.finetune.planning import plan
from earthmind_lab.finetune.recipe import Recipe
from earthmind_lab.finetune.run import finetune
from tests.finetune import spread, toys
from tests.finetune.test_run import rows

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def alone(toy, tmp_path_factory):
    recipe = spread.recipe(toy, "none")
    return finetune(recipe, out=tmp_path_factory.mktemp("alone"), train=spread.examples())


def same(out: Path, alone) -> None:
    """The training in `out` is that of one process, within rounding."""
    for ours, theirs in zip(rows(out), rows(alone), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
        assert ours["gradient"] == pytest.approx(theirs["gradient"], rel=1e-4)
        assert ours["rate"] == theirs["rate"]
    for name in ("adapter_model.safetensors", "parts.safetensors"):
        ours, theirs = (load_file(f / "adapter" / name) for f in (out, alone.folder))
        assert ours.keys() == theirs.keys()
        for key, tensor in theirs.items():
            torch.testing.assert_close(ours[key], tensor, atol=1e-5, rtol=1e-4)


def test_fsdp_by_torchrun_is_one_process(toy, alone, tmp_path):
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "1", "--nproc-per-node", "2"),
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"),
        *("--local-addr", "127.0.0.1", str(ROOT / "tests/finetune/spread.py"), str(toy)),
        str(tmp_path),
    ]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    same(tmp_path, alone)


@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_going_on_with_two_processes(toy, alone, tmp_path, kind):
    recipe = spread.recipe(toy, kind)
    assert spread.both(recipe, tmp_path, spread.examples(), 3) == [3, 3]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["checkpoint-2"]
    assert spread.both(recipe, tmp_path, spread.examples()) == [0, 0]
    same(tmp_path, alone)


@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_processes_of_which_one_has_no_masks_wait_for_each_other(toy, tmp_path, kind):
    recipe = spread.recipe(toy, kind).replace(precision="bfloat16", checkpointing=True)
    assert spread.both(recipe, tmp_path, toys.mixed()) == [0, 0]
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3, 4]


def test_how_a_process_was_started_must_fit_the_recipe(monkeypatch):
    recipe = Recipe.load("lora")
    parallel.check(recipe)
    with pytest.raises(EngineUnavailable, match="torchrun"):
        parallel.check(recipe.replace("parallel.kind=fsdp2"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    parallel.check(recipe.replace("parallel.kind=fsdp2"))
    with pytest.raises(EngineUnavailable, match=r"2 processes.*parallel\.kind=ddp"):
        parallel.check(recipe)


def test_ray_gets_its_config_and_its_workers_a_recipe_of_theirs(tmp_path, alone, monkeypatch):
    """Ray itself is a stand-in here: a worker of its own would cost minutes."""
    given = {}

    class TorchTrainer:
        def __init__(self, loop, **options):
            given.update(options, loop=loop)

        def fit(self):
            config = given["train_loop_config"]
            assert config["workers"].parallel.kind == "ddp"
            assert config["sets"]["train"] is not None
            finetune(
                config["workers"].replace("parallel.kind=none"), out=config["out"], **config["sets"]
            )

    for name, held in {
        "ray": {"is_initialized": lambda: True},
        "ray.train": {"ScalingConfig": dict, "RunConfig": dict},
        "ray.train.torch": {"TorchTrainer": TorchTrainer},
    }.items():
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        vars(module).update(held)
        monkeypatch.setitem(sys.modules, name, module)
    recipe = alone.recipe.replace(parallel={"kind": "ray", "config": {"num_workers": 2}})
    run = finetune(recipe, out=tmp_path, train=spread.examples())
    assert given["scaling_config"] == {"num_workers": 2}
    assert (run.hash, run.steps, run.ended) == (alone.hash, 4, "done")
    monkeypatch.setattr(parallel.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineUnavailable, match="needs ray"):
        finetune(recipe, out=tmp_path, train=spread.examples())


def test_config_is_passed_through():
    recipe = Recipe.load("lora").replace("parallel.kind=fsdp2", "parallel.config.cpu_offload=true")
    given = parallel.arguments(recipe, cpu=True)
    assert given["ddp_backend"] == "gloo"
    assert given["fsdp_config"]["cpu_offload"] is True and given["fsdp_config"]["version"] == 2


def spread_by_deepspeed(config, *changes):
    recipe = Recipe.load("lora").replace(*changes)
    return recipe.replace(parallel={"kind": "deepspeed", "config": config})


def test_deepspeed_gets_its_config_over_ours():
    """Without batch and clipping DeepSpeed would refuse it, or not clip; its own bfloat16 would
    round the trained weights."""
    own = {"zero_optimization": {"stage": 1}, "communication_data_type": "fp32"}
    given = parallel.arguments(spread_by_deepspeed(own), cpu=False)
    assert not given["bf16"]
    told = given["deepspeed"]
    assert told["zero_optimization"]["stage"] == 1 and told["communication_data_type"] == "fp32"
    for name in ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps"):
        assert told[name] == "auto"
    assert told["gradient_clipping"] == "auto" and told["torch_autocast"]["dtype"] == "bfloat16"
    exact = spread_by_deepspeed({}, "precision=float32")
    assert "torch_autocast" not in parallel.arguments(exact, cpu=False)["deepspeed"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"zero_optimization": {"stage": 3}}, "fsdp2"),
        ({"optimizer": {"type": "Adam"}}, "optimiser of the recipe"),
        ({"bf16": {"enabled": True}}, "precision of the recipe"),
    ],
)
def test_deepspeed_is_not_told_what_the_recipe_decides(config, said):
    with pytest.raises(EarthMindError, match=said):
        zero.configuration(spread_by_deepspeed(config))
    copied = {"bf16": {"enabled": "auto"}, "train_batch_size": "auto"}
    assert zero.configuration(spread_by_deepspeed(copied)) == zero.configuration(
        spread_by_deepspeed({})
    )


def test_a_checkpoint_of_another_kind_is_not_gone_on_from(alone):
    about = checkpoints.all_of(alone.folder / "checkpoints")[-1] / checkpoints.ABOUT
    before = checkpoints.read_json(about)
    checkpoints.write_json(about, {**before, "spread": "deepspeed"})
    try:
        with pytest.raises(EngineError, match=r"kind: none can't read .* that of deepspeed"):
            finetune(alone.recipe, out=alone.folder, train=spread.examples())
    finally:
        checkpoints.write_json(about, before)


def test_what_zero_spreads_takes_less_per_process():
    found = plan(spread_by_deepspeed({}))
    one, four = (replace(found, processes=count).needs for count in (1, 4))
    assert one - four == pytest.approx(16 * found.trained * 3 / 4, abs=4)
