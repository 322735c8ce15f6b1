"""A training that is watched: in a notebook's kernel, as plain data, as a picture."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from defusedxml.ElementTree import fromstring
from jupyter_client import KernelManager

from earthmind_lab.engine.loading import load_engine
from earthmind_lab.exchange import Options
from earthmind_lab.finetune import checkpoints
from earthmind_lab.finetune.following import read_log
from earthmind_lab.finetune.history import History
from earthmind_lab.finetune.live import LiveView, curve, samples, table
from earthmind_lab.finetune.recipe import Recipe
from earthmind_lab.finetune.run import finetune
from earthmind_lab.finetune.scoring import longest_answer, score_of
from earthmind_lab.finetune.watching import Told, Watcher
from earthmind_lab.model import EarthMindProcessor
from tests.finetune import toys

ROOT = Path(__file__).parents[2]
START_SECONDS = 120.0
STEPS = 20_000
"""More than are made before a click arrives, however busy the machine is."""
CELL = f"""
from earthmind_lab.finetune.run import finetune
from tests.finetune import toys
recipe = toys.recipe({{toy!r}}, "lora", "steps={STEPS}", "evaluation.samples=1", "saving.keep=2")
run = finetune(recipe, out={{out!r}}, train=toys.single(4))
print(run.ended, run.steps)
"""


class Notes(Watcher):
    """What a watcher is told, in its order."""

    def __init__(self, stop_at: int = 0) -> None:
        self.notes, self.told, self._stop_at = [], [], stop_at

    def began(self, step, steps):
        self.notes.append(("began", step, steps))

    def row(self, row):
        self.notes.append(("validation" if "validation" in row else "row", row["step"]))
        self.stop = self.stop or row["step"] == self._stop_at

    def answered(self, step, told, *, learned):
        self.notes.append(("answered", step, learned))
        self.told += told

    def ended(self, how):
        self.notes.append(("ended", how))


def told(**other) -> Told:
    given = {"id": "a", "task": "question", "kind": "yes/no", "question": "Is it?", "score": 1.0}
    return Told(**{**given, "wanted": "Yes.", "said": "Yes.", **other})


# --- as plain data -------------------------------------------------------------------------------


def test_watching_changes_no_step_and_a_watcher_ends_it(toy, tmp_path):
    """In mixed precision: the model answers in the middle of its training and goes on unmoved."""
    recipe = toys.recipe(
        toy, "lora", "steps=4", "precision=bfloat16", "evaluation={samples: 2, answers: 0}"
    )
    sets = {"train": toys.mixed(), "validation": toys.single(2)}
    alone = finetune(recipe, out=tmp_path / "alone", **sets)
    first = Notes(stop_at=2)
    assert finetune(recipe, out=tmp_path / "run", watch=[first], **sets).ended == "stopped"
    then = Notes()
    run = finetune(recipe, out=tmp_path / "run", watch=[then], **sets)
    assert run.ended == "done" and run.hash == alone.hash
    assert [note for note in first.notes if note[0] != "row"] == [
        ("began", 0, 4), ("answered", 0, False), ("ended", "stopped"),
    ]  # fmt: skip
    assert [note for note in then.notes if note[0] != "row"] == [
        ("began", 3, 4), ("answered", 3, False), ("validation", 4), ("answered", 4, False),
        ("ended", "done"),
    ]  # fmt: skip
    drawn, said = first.told
    assert (drawn.kind, said.kind) == ("mask", "yes/no") and not drawn.failed + said.failed
    assert [caption for caption, _ in drawn.pictures][-2:] == ["wanted", "given"]
    wanted = dict(drawn.pictures)["wanted"]
    assert wanted.shape == toys.view().image.shape
    assert not np.array_equal(wanted, drawn.pictures[0][1])


def test_without_validation_it_is_asked_what_it_learns(toy, tmp_path):
    recipe = toys.recipe(toy, "lora", "steps=3", "evaluation={every: 2, samples: 1}")
    notes = Notes()
    finetune(recipe, out=tmp_path, train=toys.mixed(4), watch=[notes])
    asked = [note for note in notes.notes if note[0] == "answered"]
    assert asked == [("answered", 0, True), ("answered", 2, True)]


def test_the_answers_are_those_of_the_engine(toy, tmp_path):
    """What a watcher is told is what the model answers when it is opened."""
    notes = Notes()
    recipe = toys.recipe(
        toy, "lora", "steps=2", "lora.dropout=0", "evaluation={samples: 4, answers: 0}"
    )
    held = toys.mixed(4)
    run = finetune(recipe, out=tmp_path / "run", train=toys.mixed(), validation=held,
                   watch=[notes])  # fmt: skip
    last = notes.told[-4:]
    merged = run.merge(tmp_path / "merged")
    processor = EarthMindProcessor.from_pretrained(merged)
    engine = load_engine(merged, device="cpu")
    try:
        for one, example in zip(last, held.examples, strict=True):
            most = longest_answer(processor, example)
            reply = engine.generate(example.prompt, Options(max_new_tokens=most))
            assert one.said == reply.raw
            # One that is cut off at a mark has it drawn by the engine alone.
            if not reply.raw.endswith("[SEG]"):
                assert one.score == pytest.approx(score_of(example, reply), abs=1e-3)
    finally:
        engine.close()


def test_what_models_say_is_text():
    bad = "<img src=x onerror=alert(1)>"
    history = History()
    history.begin(0, 2)
    history.answer(0, [told(question=bad, wanted=bad, said=bad, task=bad, id=bad)], learned=False)
    history.answer(1, [told(said="No.", score=0.0, failed=bad, id=bad)], learned=False)
    view = LiveView(bad)
    view.answered(0, [told(said=bad, pictures=((bad, np.zeros((4, 4, 3), np.uint8)),))],
                  learned=False)  # fmt: skip
    view.ended(bad)
    pages = [samples(history), table(history)]
    pages += [each.value for each in view.widget.children if hasattr(each, "value")][:1]
    pages += [view._samples.value, view._said.value]
    assert all("&lt;img src=x" in page and "<img src=x" not in page for page in pages)


def test_a_training_that_goes_on_shows_what_was_before():
    rows = [
        {"step": n, "epoch": n / 4, "loss": 2.0 / n, "losses": {"text": 1.0, "mask": 0.5},
         "rate": 0.1, "time": 10.0 * n}
        for n in (1, 2, 3)
    ]  # fmt: skip
    history = History([*rows, {"step": 2, "validation": 0.5}, {"step": 4, "validation": 0.4}])
    history.begin(2, 8)
    assert [row["step"] for row in history.rows] == [1, 2] and history.pace is None
    assert history.validations == [(2, 0.5)]
    history.add({**rows[2], "step": 3, "time": 1000.0})
    history.add({**rows[2], "step": 4, "time": 1002.0})
    assert history.pace == 2.0  # not that of another day
    assert history.lines()["mask"] == ([1, 2, 3, 4], [0.5] * 4)
    text = curve(history).decode()
    assert fromstring(text).tag.endswith("svg")


# --- in a kernel ---------------------------------------------------------------------------------


@pytest.fixture
def kernel(tmp_path):
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    client = manager.blocking_client()
    try:
        client.start_channels()
        client.wait_for_ready(START_SECONDS)
        yield manager, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


class Front:
    """What a front end knows of a cell that runs: its widgets, their state, what it printed."""

    def __init__(self, client, code: str) -> None:
        self.client, self.widgets, self.printed, self.shown = client, {}, "", []
        self._asked = client.execute(code)

    def until(self, holds):
        """Take messages until something holds; False when the cell has ended before."""
        end = time.monotonic() + START_SECONDS
        while not holds(self):
            message = self.client.get_iopub_msg(timeout=max(0.0, end - time.monotonic()))
            kind, content = message["msg_type"], message["content"]
            if kind == "comm_open":
                self.widgets[content["comm_id"]] = dict(content["data"]["state"])
            elif kind == "comm_msg" and content["data"].get("method") == "update":
                state = self.widgets[content["comm_id"]]
                state |= content["data"]["state"]
                paths = content["data"].get("buffer_paths", ())
                for (key,), buffer in zip(paths, message["buffers"], strict=True):
                    state[key] = bytes(buffer)
            elif kind == "stream":
                self.printed += content["text"]
            elif kind == "error":
                pytest.fail("\n".join(content["traceback"]))
            elif kind == "display_data":
                self.shown.append(content["data"])
            elif kind == "status" and content["execution_state"] == "idle":
                ended = message["parent_header"].get("msg_id") == self._asked
                if ended:
                    return False
        return True

    def button(self):
        """Id and state of the Stop button; of the newest view."""
        found = [(i, s) for i, s in self.widgets.items() if s.get("icon") == "stop"]
        return found[-1] if found else (None, {})

    def trains(self) -> bool:
        return any(
            "Step 1" in str(state.get("value")) or "Step 2" in str(state.get("value"))
            for state in self.widgets.values()
        ) and not self.button()[1].get("disabled", True)


def test_stop_and_interrupt_in_a_notebook(kernel, toy, tmp_path):
    """The view shows itself; a click arrives while the cell runs, and so does an interrupt."""
    manager, client = kernel
    client.control_channel.send(client.session.msg("create_subshell_request", {}))
    beside = client.get_control_msg(timeout=START_SECONDS)["content"]["subshell_id"]
    out = tmp_path / "run"
    cell = CELL.format(toy=str(toy), out=str(out))
    first = Front(client, cell)
    assert first.until(Front.trains)
    assert any("application/vnd.jupyter.widget-view+json" in data for data in first.shown)
    click = client.session.msg(
        "comm_msg",
        {
            "comm_id": first.button()[0],
            "data": {"method": "custom", "content": {"event": "click"}},
        },
    )
    click["header"]["subshell_id"] = beside  # as JupyterLab sends it
    client.shell_channel.send(click)
    assert not first.until(lambda _: False)
    ended, steps = first.printed.split()[-2:]
    assert ended == "stopped" and 1 <= int(steps) < STEPS
    assert checkpoints.step_of(checkpoints.all_of(out / "checkpoints")[-1]) == int(steps)
    assert any("Stopped, with a checkpoint" in str(s.get("value")) for s in first.widgets.values())
    (picture,) = [s["value"] for s in first.widgets.values() if s.get("format") == "svg+xml"]
    assert fromstring(picture).tag.endswith("svg")

    again = Front(client, cell)
    assert again.until(Front.trains)
    assert len(read_log(out / "losses.jsonl")) > int(steps)  # it goes on, not anew
    manager.interrupt_kernel()
    assert not again.until(lambda _: False)
    ended, further = again.printed.split()[-2:]
    assert ended == "stopped" and int(steps) < int(further) < STEPS
    with pytest.raises(queue.Empty):
        client.get_iopub_msg(timeout=0.2)


def test_the_examples_of_the_page_run(toy, tmp_path, monkeypatch):
    page = (ROOT / "docs/finetune.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```py\n(.*?)```", page, re.DOTALL)
    watcher, form = (
        next(each for each in blocks if name in each) for name in ("UntilGood", "RecipeForm")
    )
    monkeypatch.chdir(tmp_path)
    recipe = toys.recipe(toy, "lora", "steps=3", "optimiser.rate=5e-2")
    space = {"finetune": finetune, "Watcher": Watcher, "recipe": recipe,
             "examples": toys.single(4)}  # fmt: skip
    exec(compile(watcher, "finetune.md", "exec"), space)
    assert space["run"].steps == 3 and not space["UntilGood"]().stop
    good = space["UntilGood"]()
    good.row({"validation": 0.05})
    assert good.stop
    exec(compile(form, "finetune.md", "exec"), space)
    assert space["form"].recipe == Recipe.load("few")
