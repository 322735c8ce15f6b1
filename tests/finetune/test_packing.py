"""A training that packs: the same losses, whatever else the recipe says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from shapely.geometry import box

from earthmind_lab.errors import EarthMindError, PromptError
from earthmind_lab.finetune.batches import Collator, Joined
from earthmind_lab.finetune.building import build
from earthmind_lab.finetune.examples import Listed
from earthmind_lab.finetune.features import FrozenFeatures, MemoryStore
from earthmind_lab.finetune.opening import open_examples
from earthmind_lab.finetune.packing import Packed, check_packing
from earthmind_lab.finetune.planning import pass_bytes
from earthmind_lab.finetune.recipe import Recipe
from earthmind_lab.finetune.run import finetune, planned
from earthmind_lab.model.config import EarthMindConfig
from earthmind_lab.model.memory import Sizes
from earthmind_lab.model.published import local_folder
from tests.finetune import sets, spread, toys
from tests.finetune.test_run import Crash, crash_at, rows


def recipe(toy, *changes, **values):
    values = {"steps": 6, "batch": 1, "packing": 3, **values}
    return toys.recipe(toy, "lora", *changes, **values)


# --- which examples come together ----------------------------------------------------------------


def test_every_example_is_in_one_row_of_its_scene():
    source = toys.scenes(3, 7)
    rows = Packed(source, 5, seed=1).rows
    assert sorted(index for row in rows for index in row) == list(range(21))
    assert [len(row) for row in rows] == [4, 3] * 3
    assert all(len({index // 7 for index in row}) == 1 for row in rows)
    assert rows == Packed(source, 5, seed=1).rows != Packed(source, 5, seed=2).rows


def test_the_same_pictures_on_other_ground_or_of_another_source_are_others():
    one = toys.scenes(1, 2)
    there = [
        replace(e, info=replace(e.info, place=box(n, 0, n + 1, 1)))
        for n in (0, 5)
        for e in one.examples
    ]
    assert len(Packed(Listed(there), 10)) == 2
    joined = Joined([(one, 2.0), (Listed(one.examples), 1.0)])
    assert sorted(map(len, Packed(joined, 10).rows)) == [2, 4]
    silent = Packed(toys.mixed(3), 10)
    assert len(silent) == 3 and "no two of 3 examples" in silent.said


def test_a_conversation_is_one_scene(tmp_path):
    for name in ("a.png", "b.png"):
        sets.picture(tmp_path / "images" / name, seed=ord(name[0]))
    talks = [
        sets.talk("Is it wet?", "Yes.", "And dry?", "No.", id=f"{name}{n}", image=name)
        for n in range(2)
        for name in ("a.png", "b.png")
    ]
    found = Packed(open_examples(sets.write(tmp_path / "train.json", talks)), 10)
    assert found.said == "Packing: 8 examples in 2 rows."
    for row in found.rows:
        assert len({found.examples.info(index).pictures for index in row}) == 1


# --- what is learned of them ---------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "bound"), [("float32", 1e-5), ("bfloat16", 2e-2)])
def test_a_pass_loses_what_its_examples_lose_in_rows_of_their_own(toy, precision, bound):
    """With features that are kept, and layers that are computed once more on the way back."""
    changes = {"precision": precision, "checkpointing": precision == "bfloat16"}
    packs = recipe(toy, "lora.dropout=0", **changes)
    built = build(packs)
    built.step.train()
    drawn = [Packed(toys.scenes(), 3)[place] for place in (0, 3, 5)]
    features = FrozenFeatures(built.step, built.processor, MemoryStore(1e9))
    found = []
    for given, kept in ((packs.replace("packing=1"), None), (packs, None), (packs, features)):
        batch = Collator(built.processor, given, kept)(drawn)
        names = batch.pop("names")
        built.step.generator.manual_seed(1)
        built.step.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            outputs = built.step(**batch)
        outputs.loss.backward()
        pull = built.step.model.projector[1].weight.grad.norm()
        # 16 bits alone move the toy's gradient by a third, also in rows of their own.
        pulls = {"gradient": pull} if precision == "float32" else {}
        assert pull.isfinite() and pull > 0
        found.append((names, len(batch["input_ids"]), {**outputs.losses, **pulls}))
    assert [rows for _, rows, _ in found] == [6, 3, 3]
    for names, _, losses in found[1:]:
        assert names == found[0][0]
        for name, loss in found[0][2].items():
            torch.testing.assert_close(losses[name], loss, rtol=bound, atol=1e-6)


def test_going_on_is_exact(toy, tmp_path):
    """With features that are kept, several passes a step, and checkpoints within an epoch."""
    given = recipe(toy, "saving.every=1", accumulation=2, batch=2, steps=4)
    straight = finetune(given, out=tmp_path / "a", train=toys.scenes(4))
    assert straight.losses()[-1]["epoch"] == pytest.approx(2)
    with pytest.raises(Crash):
        finetune(given, out=tmp_path / "b", train=toys.scenes(4), follow=crash_at(3))
    again = finetune(given, out=tmp_path / "b", train=toys.scenes(4))
    assert rows(again) == rows(straight)
    assert again.hash == straight.hash
    losses = [row["loss"] for row in straight.losses()]
    assert losses[-1] < losses[0]


def test_two_processes_are_one(toy, tmp_path):
    wanted = {"lora.dropout=0", "saving.every=9", "losses.mask=0", "losses.dice=0"}
    given = recipe(toy, *wanted, steps=2, optimiser={"rate": 1e-3, "decay": 0.0})
    data = toys.scenes(4)
    alone = finetune(given.replace(accumulation=2), out=tmp_path / "one", train=data)
    out = tmp_path / "two"
    assert spread.both(given.replace("parallel.kind=ddp"), out, data) == [0, 0]
    for ours, theirs in zip(rows(out), rows(alone), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
        assert ours["gradient"] == pytest.approx(theirs["gradient"], rel=1e-3)


# --- limits --------------------------------------------------------------------------------------


def test_a_row_ends_where_the_longest_would_be_exceeded(toy):
    """One that is too long by itself is refused by its name, as without packing."""
    built, drawn = build(recipe(toy)), [Packed(toys.scenes(1), 4)[0]]
    tokens = [
        int(Collator(built.processor, recipe(toy, packing=1))([each])["attention_mask"].sum())
        for each in drawn[0]
    ]
    for longest, count in ((sum(tokens), 1), (max(tokens), 4)):
        batch = Collator(built.processor, recipe(toy, packing=4, max_length=longest))(drawn)
        assert len(batch["input_ids"]) == count
    longer = drawn[0][int(np.argmax(tokens))].info.id
    with pytest.raises(PromptError, match=f"'{longer}' is too long"):
        Collator(built.processor, recipe(toy, packing=4, max_length=max(tokens) - 1))(drawn)


def test_sensors_weighed_by_the_question_are_not_packed(toy, tmp_path):
    weighted = recipe(toy, "fusion=weighted")
    with pytest.raises(EarthMindError, match=r"the question decides.*packing=1.*forms=image"):
        finetune(weighted, out=tmp_path, train=toys.scenes())
    check_packing(weighted.replace("forms=image"), "weighted")  # no pair, no weights
    check_packing(recipe(toy, "fusion=concatenate"), "weighted")


def test_a_plan_knows_rows(toy):
    given = recipe(toy, steps=0, packing=4, batch=2, epochs=3.0, accumulation=1)
    assert planned(given, train=toys.scenes(6)).steps == 9  # 6 rows, 3 passes an epoch
    nano = Recipe.load("lora").replace(batch=2)
    sizes = Sizes.of(EarthMindConfig.from_pretrained(local_folder("nano")).to_dict())
    needs = [
        pass_bytes(nano.replace(packing=n, batch=b), sizes) for n, b in ((1, 2), (10, 2), (1, 20))
    ]
    assert needs[0] < needs[1] < needs[2]
    with pytest.raises(EarthMindError, match="packing can't be 0"):
        Recipe.load("few").replace("packing=0")
