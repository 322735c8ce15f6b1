"""`earthmind evaluate`: one JSON object or a table, a message and 2 on an error, 130 on Ctrl-C."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from earthmind_lab import cli
from earthmind_lab.evaluate import controls
from tests.seeing_engine import Sees
from tests.world_catalog import World, lake


@pytest.fixture
def engine(monkeypatch):
    double = Sees()
    monkeypatch.setattr("earthmind_lab.engine.loading.load_engine", lambda *_, **__: double)
    return double


@pytest.fixture
def catalog(tmp_path):
    world = World(tmp_path / "world")
    for number in range(3):
        world.add(number, lake((10, 30), (10, 40)) if number else None)
    return str(world.path)


@pytest.fixture
def run(capsys):
    def run(*words):
        code = cli.main(["evaluate", *map(str, words)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.mark.parametrize("task", ["presence", "landcover"])
def test_json(run, catalog, engine, task):
    words = ["--labels", "maps", "--sensors", "sar,both", "--json"]
    code, out, _ = run(task, "--catalog", catalog, *words)
    assert (code, out.count("\n")) == (0, 1)
    data = json.loads(out)
    assert (data["task"], data["model"], data["file"]) == (task, "stand-in", None)
    assert {row["sensors"] for row in data["rows"]} == {"sar", "both"}
    assert data["parts"][0]["lines"]


def test_for_people_and_to_a_file(run, catalog, engine, tmp_path):
    target = tmp_path / "scores" / "presence.md"
    code, out, _ = run("presence", "--catalog", catalog, "--out", target)
    assert code == 0
    assert out.endswith(f"Wrote {target}\n")
    assert "### Per scene" in out and "| opt1 | opt1 |" in out
    assert out.startswith(target.read_text().rstrip("\n"))
    code, out, _ = run("landcover", "--catalog", catalog, "--out", tmp_path / "s.json", "--json")
    assert json.loads(out)["rows"] == json.loads((tmp_path / "s.json").read_text())["rows"]


@pytest.mark.parametrize("control", controls.CONTROLS)
def test_controls(run, catalog, engine, control, monkeypatch):
    if control == "shuffled":
        code, out, err = run("presence", "--control", control, "--model", "http://127.0.0.1:9")
        assert (code, out) == (2, "") and "server" in err
        return
    code, out, _ = run("presence", "--catalog", catalog, "--control", control, "--json")
    assert code == 0 and json.loads(out)["control"] == control


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["presence", "--catalog", "nowhere"], "nowhere"),
        (["presence", "--labels", "nothing"], "land-cover"),
        (["presence", "--sensors", "radar"], "optical, sar, both"),
        (["presence", "--control", "noise"], "blank"),
        (["flood"], "presence"),
        ([], "task"),
    ],
)
def test_bad_words(run, engine, words, says):
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert says in err and "Traceback" not in err


def test_bad_out_is_said_before_anything_is_asked(run, engine, tmp_path):
    code, out, err = run("presence", "--out", tmp_path)
    assert (code, out, engine.prompts) == (2, "", [])
    assert "--out" in err


def test_an_interrupt_is_130_and_leaves_no_file(run, catalog, engine, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "generate", interrupt)
    target = tmp_path / "table.md"
    code, out, err = run("presence", "--catalog", catalog, "--out", target)
    assert (code, out) == (130, "") and "stopped" in err
    assert not target.exists() and not list(tmp_path.glob(".earthmind*"))


def test_the_module_prints_both_tasks(monkeypatch, capsys, engine):
    from earthmind_lab.evaluate import __main__ as module
    from earthmind_lab.evaluate.report import Table

    def table(task):
        return lambda _: Table(
            task=task, model="m", revision="r", catalog="sample", control=None, asked=(),
            skipped=(), rows=(), parts=(),
        )  # fmt: skip

    monkeypatch.setattr(module, "load_engine", lambda *_: engine)
    monkeypatch.setattr(module, "evaluate_presence", table("presence"))
    monkeypatch.setattr(module, "evaluate_landcover", table("landcover"))
    assert module.main([]) == 0
    out = capsys.readouterr().out
    assert "task presence" in out and "task landcover" in out


def test_the_embedded_model_in_a_process(tmp_path):
    words = ["evaluate", "presence", "--sensors", "optical", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "earthmind_lab.cli", *words], capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    data = json.loads(done.stdout)
    assert data["model"] == "earthmind-nano"
    assert {row["training"] for row in data["rows"]} == {"yes", "place", "no"}
