"""``earthmind finetune``: exit codes, one JSON object, and a Ctrl-C that loses nothing."""

from __future__ import annotations

import json
import signal

import pytest

from earthmind_lab import cli
from earthmind_lab.data.samples import place
from earthmind_lab.engine.loading import load_engine
from earthmind_lab.exchange import Options, Prompt
from earthmind_lab.finetune.card import Card
from earthmind_lab.finetune.source import Source
from tests.finetune import toys
from tests.finetune.sets import picture, square, talk, write
from tests.finetune.test_labelled import collection, feature


@pytest.fixture
def data(tmp_path):
    """A file of questions, masks and a pair of pictures, as somebody would have it."""
    entries = []
    for number in range(8):
        name = f"{number}.png"
        picture(tmp_path / "images" / name, (64, 64), seed=number)
        if number % 2:
            entries.append(
                talk("<image>\nWhere is it?", "It is [SEG].", id=f"drawn-{number}", image=name)
                | {"masks": [square(5, 10 + number, 30, 40 + number)], "license": "CC0-1.0"}
            )
        else:
            entries.append(
                talk("<image>\nIs there water?", "Yes.", id=f"told-{number}", image=name)
            )
    write(tmp_path / "held.json", entries[:2])
    return write(tmp_path / "mixed.json", entries[2:])


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


def test_run(run, data, small, tmp_path):
    words = ["run", small, "--data", data, "--out", tmp_path / "run", "--set", "steps=3"]
    code, out, err = run(*words, "--json")
    found = json.loads(out)
    assert (code, found["steps"], found["ended"]) == (0, 3, "done")
    assert "Traceback" not in err
    again, text, _ = run(*words)
    assert again == 0 and found["hash"][:12] in text and "No example was held out" in text
    code, out, err = run(*words, "--anew")
    assert (code, out) == (2, "") and "holds a training already" in err


def test_from_a_file_to_a_model_that_is_handed_on(run, data, small, tmp_path):
    held = tmp_path / "held.json"
    code, text, _ = run("check", data, "--against", held, "--model", tmp_path / "no")
    assert code == 2 and not text
    code, text, err = run(
        "run", small, "--data", data, "--test", held, "--guard", held, "--licence", "CC-BY-4.0",
        "--out", tmp_path / "run", "--set", "steps=2", "--set", "optimiser.rate=1e-6",
    )  # fmt: skip
    assert code == 0, err
    assert "guard, segment, mask: IoU" in text and "test, question, yes/no: accuracy" in text
    card = Card.load(tmp_path / "run").data
    assert card["data"]["licences"] == {"CC-BY-4.0": 3, "CC0-1.0": 3}
    target = tmp_path / "model"
    code, text, err = run("publish", tmp_path / "run", "--out", target, "--merged", "--json")
    assert code == 0, err
    assert "CC-BY-4.0; CC0-1.0" in json.loads(text)["licence"]
    assert str(tmp_path) not in (target / "README.md").read_text()
    assert str(tmp_path) not in (target / "card.json").read_text()
    engine = load_engine(target, device="cpu")
    try:
        assert "CC0-1.0" in engine.capabilities.licence
        reply = engine.generate(
            Prompt(text="Is there water?", views=(toys.view(),)), Options(max_new_tokens=3)
        )
        assert reply.usage.tokens_new > 0
    finally:
        engine.close()
    code, out, err = run("publish", tmp_path / "run", "--out", target)
    assert (code, out) == (2, "") and "not empty" in err


def test_other_answers_under_old_ids_are_another_training(run, data, small, tmp_path):
    words = ["run", small, "--data", data, "--out", tmp_path / "run", "--set", "steps=2"]
    assert run(*words)[0] == 0
    data.write_text(data.read_text().replace("Yes.", "No."))
    code, _, err = run(*words)
    assert code == 2 and "differs in examples" in err


def test_ctrl_c_is_130_and_goes_on(run, data, small, tmp_path, monkeypatch):
    opened, pressed = Source.__getitem__, []

    def press(source, index):
        if index == 4 and not pressed:
            pressed.append(index)
            signal.raise_signal(signal.SIGINT)
        return opened(source, index)

    monkeypatch.setattr(Source, "__getitem__", press)
    words = ["run", small, "--data", data, "--out", tmp_path / "run"]
    code, text, _ = run(*words)
    assert code == 130 and "goes on" in text and pressed
    assert not (tmp_path / "run" / "card.json").exists()
    code, out, _ = run(*words, "--json")
    assert code == 0
    _, straight, _ = run("run", small, "--data", data, "--out", tmp_path / "straight", "--json")
    assert json.loads(out)["hash"] == json.loads(straight)["hash"]


def test_plan(run, data, small, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    code, out, _ = run("plan", small, "--json")
    found = json.loads(out)
    assert code == 0 and found["fits"] and found["seconds"] is None
    code, text, _ = run("plan", small, "--data", data)
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
        (["lora", "--data", "absent.json"], "absent.json"),
        (["lora", "--data", "areas.geojson"], "--set"),
    ],
)
def test_bad_input(run, tmp_path, words, says):
    code, out, err = run("run", *words, "--out", tmp_path / "run")
    assert (code, out) == (2, "")
    assert says in err and "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_areas_are_checked_as_they_would_be_asked_about(run, tmp_path):
    spain = place("spain")
    west, south, east, north = spain.bbox
    x, y = (west + east) / 2, (south + north) / 2
    areas = collection(
        tmp_path / "areas.geojson", feature("water", x - 0.002, y - 0.002, x + 0.002, y + 0.002)
    )
    code, out, err = run("check", areas)
    assert (code, out) == (2, "") and "areas.dates=" in err
    about = {"dates": spain.dates, "catalog": "sample", "side_km": "1.0"}
    sets = [word for key, value in about.items() for word in ("--set", f"areas.{key}={value}")]
    code, out, _ = run("check", areas, *sets, "--json")
    found = json.loads(out)
    assert code == 0 and found["ok"] and found["tasks"]["region"] >= 1
