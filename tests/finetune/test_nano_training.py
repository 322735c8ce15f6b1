"""earthmind-nano's training: every stage at toy size, killed once; its words; its checkpoints."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from earthmind_lab.engine.loading import load_engine
from earthmind_lab.errors import EngineError
from earthmind_lab.exchange import Options, Prompt
from earthmind_lab.finetune import checkpoints
from earthmind_lab.finetune.words import sentences

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"
PATIENCE = 240
"""Seconds until a stage of toy size is given up, on a machine that is busy with other things."""


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts import each other by their bare names."""
    monkeypatch.syspath_prepend(str(SCRIPTS))


# --- all stages --------------------------------------------------------------------------------


def start(work: Path, home: Path) -> subprocess.Popen[str]:
    env = {**os.environ, "NANO_SMOKE": "1", "PYTHONPATH": str(ROOT), "EARTHMIND_HOME": str(home),
           "OMP_NUM_THREADS": "1"}  # fmt: skip
    with (work.parent / "log.txt").open("a") as log:
        return subprocess.Popen(
            [sys.executable, str(SCRIPTS / "train_nano.py"), str(work)],
            env=env, stdout=log, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip


def until(found, process: subprocess.Popen[str]) -> None:
    began = time.monotonic()
    while not found():
        assert process.poll() is None, "it ended before it could be killed"
        if time.monotonic() - began > PATIENCE:
            process.kill()  # or it works on beside the tests that follow
            process.wait()
            pytest.fail(f"it was not there after {PATIENCE} s")
        time.sleep(0.05)


@pytest.mark.timeout(600)
def test_every_stage_ends_and_a_killed_one_goes_on(tmp_path, capsys):
    work, log = tmp_path / "nano", tmp_path / "log.txt"
    first = start(work, tmp_path / "home")
    until(lambda: checkpoints.all_of(work / "joint"), first)
    os.kill(first.pid, signal.SIGKILL)
    first.wait(10)
    again = start(work, tmp_path / "home")
    assert again.wait(PATIENCE) == 0, log.read_text()[-3000:]
    said = log.read_text()
    assert re.search(r"joint: goes on from step [1-4] of 4", said)
    for stage in ("[1/6] prepare", "[2/6] vision"):
        assert said.count(stage) == 1, stage
    for stage in ("prepare", "vision", "masks", "joint", "tune", "export"):
        assert (work / stage / "done.json").exists(), stage
    scores = json.loads((work / "scores.json").read_text())
    assert any(name.startswith("simulated both") for name in scores)
    weights = (work / "model" / "model.safetensors").stat().st_size
    assert weights <= 12_000_000
    engine = load_engine(work / "model", device="cpu")
    try:
        assert {"flooded vegetation", "clouds", "rangeland"} <= set(engine.capabilities.classes)
        reply = engine.generate(Prompt(text="Is there water here?"), Options(max_new_tokens=4))
        assert reply.usage.tokens_new > 0
    finally:
        engine.close()
    # Once more there is nothing to do.
    import train_nano
    from nano_plan import TOY

    train_nano.everything(work, TOY)
    assert "[" not in capsys.readouterr().out


# --- words -------------------------------------------------------------------------------------


def test_every_word_is_one_token_or_a_few():
    from nano_model import VOCABULARY, tokenizer

    words = tokenizer()
    assert len(words) <= VOCABULARY
    known = {word for text in sentences() for word in re.findall(r"[a-zA-Z'\-]+", text)}
    assert {"rangeland", "mangroves", "second", "harvested", "fewer", "six"} <= known
    more = []
    for word in sorted(known):
        # A word opens a sentence or follows another.
        ways = [words.encode(way, add_special_tokens=False) for way in (word, " " + word)]
        assert words.decode(ways[1]) == " " + word
        more += [word] if min(map(len, ways)) > 1 else []
    assert len(more) <= 5, more
    assert len(words.encode(" Answer yes or no.", add_special_tokens=False)) == 5
    short = [" water", " trees", " clouds", " rangeland", " flooded", " vegetation", "Yes", "No"]
    for word in short:
        assert len(words.encode(word, add_special_tokens=False)) == 1, word


def test_a_small_model_has_room_for_its_words():
    from train_nano import build

    model, _ = build()
    assert 2 * sum(p.numel() for p in model.parameters()) < 12_000_000


# --- windows and questions ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def scene():
    from earthmind_lab.data.simulate import simulate_scene

    return simulate_scene(12, cloudy=True, biome="coast")


def test_a_window_knows_clouds_apart_from_the_ground(scene):
    from nano_data import window_of
    from nano_stages import fractions

    from earthmind_lab.evaluate.truth import CLOUDS, WATER

    window = window_of(scene)
    assert not (window.yes & window.no).any()
    ground = np.delete(window.yes, CLOUDS, axis=0).sum(0)
    assert (ground == 1).all()
    optical, known = fractions(window, 22, optical=True)
    whole, whole_known = fractions(window, 22, optical=False)
    # What a cloud hides is unknown to an optical view, and SAR knows nothing of clouds.
    assert known[WATER].sum() < whole_known[WATER].sum()
    assert whole_known[CLOUDS].sum() == 0 < known[CLOUDS].sum()
    assert optical.shape == whole.shape == (9, 22, 22)


def test_questions_of_a_window_have_masks_for_their_marks(scene):
    from nano_data import window_of
    from nano_text import lines

    window = window_of(scene)
    kinds: dict[str, int] = {}
    for mode in ("optical", "sar", "both", "picture"):
        for seed in range(12):
            for line in lines(window, mode, np.random.default_rng(seed), 10):
                assert line.answer.count("[SEG]") == len(line.segments), line
                for index in line.segments:
                    assert window.yes[index].any(), line
                if line.region is not None:
                    assert line.region.shape == window.cloud.shape
                    assert line.region.any()
                kinds[mode] = kinds.get(mode, 0) + ("can't be drawn" in line.answer)
    # Masks of SAR and of a pair lie on SAR.
    assert kinds["both"] > 0 == kinds["optical"]


def test_under_closed_clouds_only_sar_sees(scene):
    from dataclasses import replace

    from nano_data import window_of
    from nano_text import lines

    from earthmind_lab.evaluate.truth import CLOUDS
    from earthmind_lab.finetune.asks_beyond import HIDDEN

    window = replace(window_of(scene), cloud=np.ones(scene.cloud.shape, bool))
    window.yes[CLOUDS], window.no[CLOUDS] = True, False

    def replies(mode: str) -> list[str]:
        return [
            line.answer
            for seed in range(20)
            for line in lines(window, mode, np.random.default_rng(seed), 10)
        ]

    blind, seeing = replies("optical"), replies("both")
    assert HIDDEN in blind
    assert not any(reply.startswith("Mostly") for reply in blind)
    assert HIDDEN not in seeing
    assert any(reply.startswith("Mostly") for reply in seeing)


# --- checkpoints -------------------------------------------------------------------------------


class Killed(Exception):
    """In the middle of a step."""


def _die(now: bool) -> None:
    if now:
        raise Killed


def trained(folder: Path, kills: tuple[int, ...] = (), save: float = 0.0) -> torch.Tensor:
    """Seven steps of a stage that is killed in some of them and started again."""
    from nano_loop import Loop, rng_of

    left = list(kills)
    while True:
        torch.manual_seed(1)
        net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 1))
        loop = Loop(folder, 7, {"net": net}, [{"params": list(net.parameters()), "lr": 0.1}],
                    save=save, warmup=2)  # fmt: skip
        try:
            for step in loop:
                rng = rng_of(5, step)
                values = torch.from_numpy(rng.normal(size=(16, 4)).astype(np.float32))
                loss = net(values).square().mean()
                _die(left[:1] == [step])
                loop.step(loss)
                loop.history["steps"] = step
        except Killed:
            left.pop(0)
            continue
        finally:
            loop.close()
        return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_a_stage_that_is_killed_ends_as_one_that_is_not(tmp_path):
    whole = trained(tmp_path / "whole")
    rng = random.Random(2)
    for attempt in range(3):
        kills = tuple(sorted(rng.sample(range(7), 3)))
        assert torch.equal(trained(tmp_path / f"killed{attempt}", kills), whole), kills
    # Without a checkpoint yet it begins anew, and ends alike too.
    assert torch.equal(trained(tmp_path / "late", (3, 5), save=1e9), whole)
    assert len(checkpoints.all_of(tmp_path / "whole")) == 2


def test_a_stage_ends_with_the_process_that_started_it(tmp_path, monkeypatch):
    from nano_loop import PARENT

    monkeypatch.setenv(PARENT, str(os.getppid()))
    trained(tmp_path / "watched")
    monkeypatch.setenv(PARENT, str(os.getpid()))  # nobody's parent
    with pytest.raises(SystemExit, match="is gone"):
        trained(tmp_path / "left")


def test_a_stage_refuses_what_is_not_its_own(tmp_path):
    from nano_loop import Loop, alone

    trained(tmp_path / "stage")

    def again(width: int, steps: int) -> None:
        net = nn.Sequential(nn.Linear(4, width), nn.Dropout(0.3), nn.Linear(width, 1))
        loop = Loop(tmp_path / "stage", steps, {"net": net}, [{"params": net.parameters()}], save=1)
        try:
            next(iter(loop))
        finally:
            loop.close()

    with pytest.raises(EngineError, match="another length"):
        again(8, 9)
    with pytest.raises(EngineError, match="another architecture"):
        again(9, 7)
    held = alone(tmp_path / "stage")
    with pytest.raises(EngineError, match="Another process works"):
        alone(tmp_path / "stage", patience=0.0)
    os.close(held)


def test_a_loss_that_is_no_number_teaches_nothing(tmp_path):
    from nano_loop import Loop

    net = nn.Linear(2, 1)
    before = net.weight.detach().clone()
    loop = Loop(tmp_path / "s", 3, {"net": net}, [{"params": list(net.parameters())}], save=0.0)
    next(iter(loop))
    with pytest.raises(EngineError, match="not a number"):
        loop.step(net(torch.tensor([[float("nan"), 1.0]])).sum())
    loop.close()
    assert torch.equal(net.weight, before)
    assert not checkpoints.all_of(tmp_path / "s")
