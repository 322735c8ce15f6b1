"""``earthmind finetune``: exit codes, one JSON object, and a Ctrl-C that loses nothing."""

from __future__ import annotations

import json
import signal
import sys
import types
from pathlib import Path

import pytest

from earthmind_lab import cli
from earthmind_lab.finetune.examples import Listed
from tests.finetune import toys


class Pressed(Listed):
    """Examples of which one presses Ctrl-C, once."""

    pressed = False

    def __getitem__(self, index):
        if index == 5 and not Pressed.pressed:
            Pressed.pressed = True
            signal.raise_signal(signal.SIGINT)
        return super().__getitem__(index)


@pytest.fixture
def sets(monkeypatch):
    """Files of examples, by their names."""
    held = {"mixed.json": toys.mixed(), "pressed.json": Pressed(toys.mixed().examples)}
    reader = types.ModuleType("earthmind_lab.finetune.opening")
    reader.open_examples = lambda path, **_: held[Path(path).name]
    monkeypatch.setitem(sys.modules, "earthmind_lab.finetune.opening", reader)


@pytest.fixture
def run(capsys):
    def run(*words):
        code = cli.main(["finetune", *map(str, words)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def small(toy, tmp_path):
    """A recipe file."""
    return toys.recipe(toy).save(tmp_path / "small.yaml")


def test_run(run, sets, small, tmp_path):
    words = ["run", small, "--data", "mixed.json", "--out", tmp_path / "run", "--set", "steps=3"]
    code, out, err = run(*words, "--json")
    found = json.loads(out)
    assert (code, found["steps"], found["ended"]) == (0, 3, "done")
    assert "Traceback" not in err
    again, text, _ = run(*words)
    assert again == 0 and found["hash"][:12] in text
    code, out, err = run(*words, "--anew")
    assert (code, out) == (2, "") and "holds a training already" in err


def test_ctrl_c_is_130_and_goes_on(run, sets, small, tmp_path):
    words = ["run", small, "--data", "pressed.json", "--out", tmp_path / "run"]
    code, text, _ = run(*words)
    assert code == 130 and "goes on" in text
    code, out, _ = run(*words, "--json")
    assert code == 0
    _, straight, _ = run(
        "run", small, "--data", "mixed.json", "--out", tmp_path / "straight", "--json"
    )
    assert json.loads(out)["hash"] == json.loads(straight)["hash"]


def test_plan(run, sets, small, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    code, out, _ = run("plan", small, "--json")
    found = json.loads(out)
    assert code == 0 and found["fits"] and found["seconds"] is None
    code, text, _ = run("plan", small, "--data", "mixed.json")
    assert code == 0 and "measured by one step" in text
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["lorra"], "no recipe 'lorra'"),
        (["lora", "--set", "lora.rnk=8"], "Try: rank"),
        (["lora", "--set", "model=absent"], "absent"),
        (["qlora"], "bitsandbytes"),
        (["lora"], "no examples to learn from"),
    ],
)
def test_bad_input(run, sets, tmp_path, words, says):
    code, out, err = run("run", *words, "--out", tmp_path / "run")
    assert (code, out) == (2, "")
    assert says in err and "Traceback" not in err
    assert not (tmp_path / "run").exists()
