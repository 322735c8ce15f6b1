"""TensorBoard's event files say what the log of the run says."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from earthmind_lab.errors import EngineUnavailable
from earthmind_lab.finetune import events
from earthmind_lab.finetune.run import finetune
from earthmind_lab.finetune.watching import Told, Watcher
from tests.finetune import toys


def read(folder) -> Iterator[Event]:
    """Events of all files, as TensorBoard's format has them: length, check, data, check."""
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            yield Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]


def scalars(found) -> dict[str, list[tuple[int, float]]]:
    kept: dict[str, list[tuple[int, float]]] = {}
    for event in found:
        for value in event.summary.value:
            if value.HasField("simple_value"):
                kept.setdefault(value.tag, []).append((event.step, value.simple_value))
    return kept


class StopsAt(Watcher):
    wants_answers = False

    def row(self, row):
        self.stop = row["step"] >= 1


def test_event_files_go_on_where_the_training_does(toy, tmp_path):
    recipe = toys.recipe(
        toy, "lora", "steps=4", "logs=tensorboard", "evaluation={every: 2, samples: 2, answers: 0}"
    )
    sets = {"train": toys.mixed(), "validation": toys.single(2)}
    finetune(recipe, out=tmp_path, watch=[StopsAt()], **sets)
    run = finetune(recipe, out=tmp_path, **sets)
    found = list(read(tmp_path / events.FOLDER))
    starts = [e.step for e in found if e.session_log.status == SessionLog.START]
    assert starts == [3]
    told = scalars(found)
    rows = [row for row in run.losses() if "loss" in row]
    for tag, key in (("loss/all", "loss"), ("rate", "rate"), ("gradient", "gradient")):
        wanted = [(row["step"], row[key]) for row in rows]
        assert told[tag] == [(step, pytest.approx(value, rel=1e-5)) for step, value in wanted]
    masks = [(r["step"], r["losses"]["mask"]) for r in rows if "mask" in r["losses"]]
    assert told["loss/mask"] == [(step, pytest.approx(v, rel=1e-5)) for step, v in masks]
    held = [row["validation"] for row in run.losses() if "validation" in row]
    assert [value for _, value in told["loss/held_out"]] == pytest.approx(held, rel=1e-5)
    assert [step for step, _ in told["score/held_out_segment_mask"]] == [0, 2, 2, 4]


def test_answers_are_text(tmp_path):
    files = events.EventFiles(tmp_path)
    files.began(0, 1)
    bad = "<script>alert(1)</script> ![x](http://x)"
    one = Told(id="a", task="question", kind="yes/no", question=bad, wanted=bad, said=bad,
               score=0.5)  # fmt: skip
    files.answered(0, [one], learned=True)
    files.ended("done")
    texts = [
        value.tensor.string_val[0].decode()
        for event in read(tmp_path / events.FOLDER)
        for value in event.summary.value
        if value.tag.startswith("answer/learned_a")
    ]
    (text,) = texts
    assert text.count("&lt;script&gt;") == 3 and "<script" not in text and "![x](" not in text
    assert "- score: 0.50" in text


def test_what_is_missing_is_said_before_anything_is_read(monkeypatch, toy, tmp_path):
    monkeypatch.setattr(events, "PACKAGE", "tensorboard_of_nobody")
    recipe = toys.recipe(toy, "lora", "logs=tensorboard")
    with pytest.raises(EngineUnavailable, match=r"no tensorboard_of_nobody.*\[finetune\]"):
        finetune(recipe, out=tmp_path / "run", train=toys.mixed(4))
    assert not (tmp_path / "run").exists()
