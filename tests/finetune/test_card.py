"""The card of a run says what was measured; the gate lets through what it should."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
from shapely.geometry import box

from earthmind_lab.errors import EarthMindError, EngineError
from earthmind_lab.exchange import Found, Prompt, Reply
from earthmind_lab.finetune import carding
from earthmind_lab.finetune.batches import Joined
from earthmind_lab.finetune.card import Card, compared, table, worse, worst
from earthmind_lab.finetune.examples import Example, ExampleInfo, Listed
from earthmind_lab.finetune.gate import publish, sign_test, verdict
from earthmind_lab.finetune.rights import rights_of, terms
from earthmind_lab.finetune.run import finetune
from earthmind_lab.finetune.scoring import commonest, kind_of, score_of, unit_of
from earthmind_lab.finetune.telling import plain_text
from tests.finetune import toys

LICENSED = "CC-BY-4.0"


def licensed(examples, licence=LICENSED):
    """The same with a licence and somebody to name, each on its own ground."""
    found = []
    for number, example in enumerate(examples.examples):
        about = ExampleInfo(
            id=f"{example.info.id}<b>*|", task=example.info.task, licence=licence,
            attribution="Ada & Co", place=box(number, 0, number + 0.1, 0.1),
        )  # fmt: skip
        found.append(
            Example(info=about, prompt=example.prompt, reply=example.reply, masks=example.masks)
        )
    return Listed(found)


def moved(examples, by=40):
    """The same on other ground."""
    found = []
    for number, example in enumerate(licensed(examples).examples):
        place = box(number + by, 0, number + by + 0.1, 0.1)
        about = ExampleInfo(id=f"guard-{number}", task=example.info.task, place=place)
        found.append(
            Example(info=about, prompt=example.prompt, reply=example.reply, masks=example.masks)
        )
    return Listed(found)


@pytest.fixture(scope="module")
def run(toy, tmp_path_factory):
    recipe = toys.recipe(toy, "lora", "steps=3")
    return finetune(
        recipe, out=tmp_path_factory.mktemp("run") / "run", train=licensed(toys.mixed()),
        validation=moved(toys.single(2), 80), guard=moved(toys.mixed(4)),
        test=moved(toys.single(3), 60),
    )  # fmt: skip


def one(reply, task="question", masks=None):
    info = ExampleInfo(id="1", task=task)
    return Example(info=info, prompt=Prompt(text="?"), reply=reply, masks=masks)


def said(text="", *masks):
    drawn = tuple(Found(label="", score=1.0, mask_logits=np.where(m, 1.0, -1.0)) for m in masks)
    return Reply(text=text, objects=drawn)


# --- scores --------------------------------------------------------------------------------------


def test_answers_are_scored_by_their_kind():
    assert kind_of(one("No, there is none.")) == "yes/no"
    assert score_of(one("Yes."), said("yes, a lake")) == 1.0
    assert score_of(one("Yes."), said("There is water, yes")) == 0.0
    assert kind_of(one("About a third.")) == "short"
    assert score_of(one("About a third."), said("about  a THIRD")) == 1.0
    assert score_of(one("About 30 %."), said("About 35 %.")) == 0.0
    assert score_of(one("There is no snow here.", "segment"), said("No.")) == 1.0
    long = one("A wide river runs from the north to the south through fields.")
    assert kind_of(long) == "text" and score_of(long, said("A wide river.")) is None


def test_masks_are_scored_in_their_order_and_too_many_cost():
    left, right = np.zeros((2, 4, 4), bool)
    left[:, :2], right[:, 2:] = True, True
    both = one("[SEG] and [SEG].", "segment", np.stack([left, right]))
    assert score_of(both, said("", left, right)) == 1.0
    assert score_of(both, said("", right, left)) == 0.0
    assert score_of(both, said("", left)) == 0.5
    single = one("[SEG].", "segment", left[None])
    assert score_of(single, said("", left, right)) == 0.5
    assert score_of(single, said("", np.ones((4, 4), bool))) == 0.5
    assert score_of(single, said("", np.ones((8, 8), bool))) == 0.0  # another picture
    frames = one("[SEG].", "segment", np.stack([left, right])[None])
    assert score_of(frames, said("", left, right)) == 1.0
    assert score_of(frames, said("", left)) == 0.0
    west = replace(single, known=left[None])  # of the east nobody knows
    assert score_of(west, said("", np.ones((4, 4), bool))) == 1.0
    assert score_of(west, said("", right)) == 0.0


def rows(before, after, kind="yes/no", units=None, sides=None):
    about = [
        {"id": str(n), "task": "question", "kind": kind, "wanted": "Yes.",
         "unit": units[n] if units else str(n), "side": sides[n] if sides else True}
        for n in range(len(before))
    ]  # fmt: skip
    held = [[{"loss": 1.0, "score": s, "said": ""} for s in part] for part in (before, after)]
    return compared(about, *held)


def test_table_has_intervals_from_eight_places_on_only():
    (few,) = table(rows([1.0] * 7, [0.0] * 7), {})
    assert few["units"] == 7 and few["change"] == {
        "value": -1.0, "low": None, "high": None, "units": 7,
    }  # fmt: skip
    (many,) = table(rows([1, 0] * 4, [1, 1] * 4), {"question: yes/no": "no"})
    assert many["before"]["low"] < 0.5 < many["before"]["high"] and many["baseline"] == 0.0
    (shared,) = table(rows([1.0] * 8, [0.0] * 8, units=["here"] * 8), {})
    assert shared["units"] == 1 and shared["change"]["low"] is None
    (both,) = table(rows([1, 1, 1, 0], [1, 1, 1, 1], sides=[True, True, True, False]), {})
    assert both["balanced"] == {"before": 0.5, "after": 1.0}


def test_what_got_worse_is_named():
    made = rows([1.0, 1.0, 0.0], [0.0, 1.0, 1.0])
    assert [row["id"] for row in worst(made)] == ["0"]
    assert not worse(table(made, {}))  # one worse, one better
    assert worse(table(made[:2], {}))
    text = rows([None], [None], kind="text")
    text[0]["after"]["loss"] = 1.5
    assert [row["id"] for row in worst(text)] == ["0"] and worse(table(text, {}))


def test_commonest_answer_and_units():
    examples = Listed([one("Yes."), one("no"), one("No, none."), one("About half.")])
    assert commonest(examples)["answers"] == {
        "question: short": "about half", "question: yes/no": "no",
    }  # fmt: skip
    here = ExampleInfo(id="1", task="question", place=box(0, 0, 1, 1))
    assert unit_of(here) == unit_of(ExampleInfo(id="2", task="caption", place=box(0, 0, 1, 1)))
    assert unit_of(ExampleInfo(id="2", task="caption")) != unit_of(here)


# --- card ----------------------------------------------------------------------------------------


def test_card_of_a_run(run):
    card = run.card()
    assert set(card.data["sets"]) == {"test", "guard"}  # a test set takes validation's place
    guard = card.data["sets"]["guard"]
    assert guard["asked"] == 4 and not guard["shared"]
    masks = [row for row in guard["rows"] if row["kind"] == "mask"]
    assert masks[0]["loss"]["before"] != masks[0]["loss"]["after"]
    assert 0 < masks[0]["baseline"] < 1
    assert card.data["data"]["licences"] == {LICENSED: 8}
    assert card.data["adapter"] == run.hash and card.data["environment"]["versions"]["torch"]
    text = (run.folder / "card.md").read_text()
    assert text == card.markdown() and "Ada &amp; Co" in text and "seed 0" in text
    assert json.loads((run.folder / "card.json").read_text()) == card.data


def test_losses_before_are_those_of_the_model_that_it_began_from(run, toy):
    (said_so,) = carding.ask_all(
        toy, {"guard": moved(toys.mixed(4))}, device="cpu", said=""
    ).values()
    kept = [row["before"]["loss"] for row in run.card().data["sets"]["guard"]["outcomes"]]
    assert kept == [row["loss"] for row in said_so]


def test_no_word_of_a_model_is_markup(run):
    data = copy.deepcopy(run.card().data)
    for row in data["sets"]["guard"]["outcomes"]:
        row["before"]["score"], row["after"]["score"] = 1.0, 0.0
        row["after"]["said"] = "<script>alert(1)</script> | [a](javascript:b) `c`\n# d"
    worst_one = data["sets"]["guard"]["outcomes"][0]["id"]
    data["pictures"] = {"guard": {worst_one: ["javascript:x", "' onerror='"]}}
    card = Card(data)
    for page in (card.markdown(), card._repr_html_()):
        assert "<script" not in page and "&lt;script&gt;" in page
        assert "onerror" not in page and "src='javascript" not in page
    assert "[a](" not in card.markdown() and "\n# d" not in card.markdown()
    assert "<b>" not in card._repr_html_()


@pytest.mark.parametrize("text", ["# x", "- x", "1. x", "a|b", "<i>x</i>", "x\n\ny", "[x](y)"])
def test_text_stays_text(text):
    from markdown_it import MarkdownIt

    page = MarkdownIt("commonmark").enable("table").render(f"- {plain_text(text)}\n")
    assert page.count("<") == 4  # one list, one point
    assert "".join(text.split()) in page.replace("&lt;", "<").replace("&gt;", ">").replace(" ", "")


def test_pictures_of_what_got_worse_are_in_the_page(run):
    data = copy.deepcopy(run.card().data)
    row = data["sets"]["guard"]["outcomes"][0]
    row["before"]["score"], row["after"]["score"] = 1.0, 0.0
    data["pictures"] = {"guard": {row["id"]: carding._pictures(moved(toys.mixed(4)), 0)}}
    page = Card(data)._repr_html_()
    assert page.count("data:image/jpeg;base64,") == 1 and row["id"] in page
    assert len(carding._pictures(moved(toys.mixed(4)), 3)) == 2  # a pair


def test_without_sets_it_says_so(toy, tmp_path):
    recipe = toys.recipe(toy, "lora", "steps=1")
    made = finetune(recipe, out=tmp_path / "run", train=licensed(toys.mixed(2)))
    assert "No example was held out" in made.card().markdown()
    assert made._repr_html_().startswith("<h1>")
    with pytest.raises(EarthMindError, match="no guard set"):
        publish(made, tmp_path / "out")
    assert publish(made, tmp_path / "out", without_guard=True).ok


def test_a_model_that_cannot_be_asked_loses_no_training(toy, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise EngineError("No room.")

    monkeypatch.setattr(carding, "ask_all", fail)
    recipe = toys.recipe(toy, "lora", "steps=1")
    made = finetune(
        recipe, out=tmp_path / "run", train=licensed(toys.mixed(2)), guard=moved(toys.single(2))
    )
    assert made.adapter and "could not be asked" in made.card().markdown()
    with pytest.raises(EarthMindError, match="no guard set"):
        publish(made, tmp_path / "out")
    assert not list(tmp_path.glob("run/.card-*"))


def test_the_guard_loss_after_is_that_of_the_adapter(toy, tmp_path):
    """With early stop the adapter is the best one, not the last."""
    recipe = toys.recipe(
        toy, "lora", "steps=12", "evaluation.every=1", "evaluation.patience=3",
        "optimiser.rate=0.1", "evaluation.answers=0",
    )  # fmt: skip
    same = toys.mixed(4)
    made = finetune(recipe, out=tmp_path / "run", train=toys.single(2), validation=same, guard=same)
    told = [row["validation"] for row in made.losses() if "validation" in row]
    assert told.index(min(told)) < len(told) - 1
    assert made.guard["after"] == pytest.approx(min(told), rel=1e-6)


# --- gate ----------------------------------------------------------------------------------------


def judged(before, after, *, units=None, margin=0.05, shared=0):
    made = rows(before, after, units=units)
    guard = {"rows": table(made, {}), "outcomes": made, "shared": shared}
    data = {"licences": {LICENSED: 3}}
    return verdict(
        Card({"sets": {"guard": guard}, "data": data, "model_licence": "Apache-2.0"}),
        margin=margin,
    )


def test_gate_by_the_fall_beyond_the_margin():
    assert judged([1.0] * 20, [1.0] * 20).ok
    assert judged([1.0] * 20, [1.0] * 19 + [0.0]).ok  # exactly the margin
    bad = judged([1.0] * 20, [1.0] * 18 + [0.0] * 2)
    assert not bad.ok and "margin is 0.05" in bad.against[0]
    assert judged([1.0] * 20, [1.0] * 18 + [0.0] * 2, margin=0.1).ok
    with pytest.raises(EarthMindError, match="margin"):
        judged([1.0], [1.0], margin=float("nan"))


def test_gate_says_how_weak_its_test_is():
    few = judged([1.0] * 3, [0.0] * 3)
    assert "a weak test" in few.notes[0] and "p=0.12" in few.notes[0]
    one_place = judged([1.0] * 30, [1.0] * 30, units=["here"] * 30)
    assert "30 examples of 1 places" in one_place.notes[0] and "weak" in one_place.notes[0]
    many = judged([1.0] * 20, [0.0] * 20)
    assert "weak" not in many.notes[0] and "95 %" in many.notes[0]
    assert sign_test(8, 2) == pytest.approx(56 / 1024)


def test_what_cannot_be_answered_any_more_got_worse():
    made = rows([1.0, None], [None, 1.0])
    assert [row["after"]["score"] for row in made] == [0.0, 1.0]
    (entry,) = table(made, {})
    assert entry["asked"] == 1 and entry["change"]["value"] == -1.0
    broken = rows([None], [None], kind="text")
    broken[0]["after"]["loss"] = None
    guard = {"rows": table(broken, {}), "outcomes": broken, "shared": 0}
    data = {"sets": {"guard": guard}, "data": {"licences": {LICENSED: 1}}, "model_licence": "MIT"}
    assert "no number any more" in verdict(Card(data), margin=0.9, without_guard=True).against[0]
    assert worse(guard["rows"])


def test_gate_by_loss_where_answers_are_long():
    made = rows([None], [None], kind="text")
    made[0]["after"]["loss"] = 1.06
    guard = {"rows": table(made, {}), "outcomes": made, "shared": 0}
    data = {"sets": {"guard": guard}, "data": {"licences": {LICENSED: 1}}, "model_licence": "MIT"}
    assert not verdict(Card(data)).ok and verdict(Card(data), margin=0.1).ok


def test_a_guard_set_that_was_trained_on_is_none(toy, tmp_path):
    assert "is in the training data, too" in judged([], [], shared=2).against[0]
    assert judged([1.0], [1.0], shared=2).ok
    recipe = toys.recipe(toy, "lora", "steps=1")
    made = finetune(
        recipe, out=tmp_path / "run", train=licensed(toys.mixed(4)),
        guard=Joined([(licensed(toys.mixed(2)), 1.0), (moved(toys.single(1)), 1.0)]),
    )  # fmt: skip
    guard = made.card().data["sets"]["guard"]
    assert (guard["examples"], guard["shared"], guard["asked"]) == (3, 2, 1)
    assert [row["id"] for row in guard["outcomes"]] == ["guard-0"]


@pytest.mark.parametrize(
    ("licences", "says"),
    [
        ({"CC0-1.0": 2, "not said": 1}, "1 of 3 training examples say no licence"),
        ({"unknown": 1}, "say no licence"),
        ({"CC-BY-ND-4.0": 1}, "forbids"),
        ({"CC0-1.0; All rights reserved": 1}, "forbids"),
        ({"CC-BY-SA-4.0": 1, "ODbL-1.0": 1}, "both want"),
        ({"ODbL-1.0": 1}, None),
    ],
)
def test_licences(licences, says):
    if says is None:
        assert terms(licences, "Apache-2.0").alike == "ODbL-1.0"
        return
    with pytest.raises(EarthMindError, match=says):
        terms(licences, "Apache-2.0")


def test_share_alike_and_non_commercial_go_along():
    found = terms({"CC-BY-NC-SA-4.0": 1, "CC-BY-4.0": 2}, "Apache-2.0")
    assert found.alike == "CC-BY-NC-SA-4.0" and not found.commercial
    assert "non-commercial" in found.words and "share alike" in found.words
    assert terms({"CC-BY-4.0": 1}, "CC-BY-SA-4.0").alike == "CC-BY-SA-4.0"  # of the weights
    assert rights_of(licensed(toys.mixed(2)))["attributions"] == {"Ada & Co": 2}


def test_published_adapter(run, tmp_path):
    verdict_ = publish(run, tmp_path / "out", margin=0.9)
    assert verdict_.ok and verdict_.terms.words
    held = {path.name for path in (tmp_path / "out").iterdir()}
    assert held == {
        "README.md", "LICENCE.md", "card.json", "earthmind.json", "adapter_config.json",
        "adapter_model.safetensors", "parts.safetensors",
    }  # fmt: skip
    for path in (tmp_path / "out").glob("*.*[dn]"):
        assert str(run.recipe.model) not in path.read_text(), path.name
    assert "Ada" in (tmp_path / "out" / "LICENCE.md").read_text()
    data = json.loads((tmp_path / "out" / "card.json").read_text())
    assert not data["pictures"] and "wanted" not in data["sets"]["guard"]["outcomes"][0]
    assert Card.load(tmp_path / "out").markdown()


def test_nothing_is_half_written(run, tmp_path, monkeypatch):
    from earthmind_lab.finetune import gate

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gate, "_texts", full)
    with pytest.raises(EarthMindError, match="No space left"):
        publish(run, tmp_path / "out", margin=0.9)
    assert not list(tmp_path.iterdir())


def test_card_of_another_adapter_is_refused(run, tmp_path):
    import shutil

    other = tmp_path / "run"
    shutil.copytree(run.folder, other)
    (other / "adapter" / "parts.safetensors").unlink()
    with pytest.raises(EarthMindError, match="another adapter"):
        publish(other, tmp_path / "out", margin=0.9)
    (other / "card.json").write_text("{}")
    with pytest.raises(EarthMindError, match="has no card"):
        publish(other, tmp_path / "out")
    with pytest.raises(EarthMindError, match="has no card"):
        publish(tmp_path / "nowhere", tmp_path / "out")
