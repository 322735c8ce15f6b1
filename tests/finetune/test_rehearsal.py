"""Old questions among the new ones: what is asked, what is kept, and never what is taught."""

from __future__ import annotations

import numpy as np

from earthmind_lab.exchange import Found, Prompt, Reply, Usage
from earthmind_lab.finetune.asks import YES_NO
from earthmind_lab.finetune.batches import digest
from earthmind_lab.finetune.examples import Example, ExampleInfo, Listed
from earthmind_lab.finetune.rehearsal import old_answers
from tests.finetune import toys

NAMES = ("water", "snow", "trees", "crops")


class Says:
    """Trees are there, and nothing else; whatever is looked at, it might be snow."""

    def __init__(self):
        self.asked = []

    def generate(self, prompt, options):
        self.asked.append(prompt.text)
        there = "trees" in prompt.text
        if prompt.text.startswith(("Describe", "What")):
            return Reply(text="Mostly snow.", raw="Mostly snow.")
        if prompt.text.endswith(YES_NO):
            return Reply(text="", raw="Yes." if there else "No.")
        if prompt.text.startswith(("Segment", "Mark", "Please", "Where", "Map")):
            if not there:
                return Reply(text="", raw="There are none here.")
            drawn = np.full(prompt.views[0].shape, -1.0, np.float32)
            drawn[:3] = 1.0
            found = Found(label="", score=1.0, mask_logits=drawn)
            return Reply(text="", raw="Sure, the trees: [SEG].", objects=(found,))
        if prompt.text.startswith("Who"):
            return Reply(text="", raw="I go on and on and", ended="length", usage=Usage())
        return Reply(text="", raw="Yes, there are." if there else "I can't tell.")


def new(count=6):
    """Questions about water and snow on as many pictures."""
    return Listed([
        Example(
            info=ExampleInfo(id=f"new-{n}", task="question", licence="CC-BY-4.0"),
            prompt=Prompt(text=f"Is there any {('Water', 'snow')[n % 2]}?",
                          views=(toys.view(seed=n),)),
            reply="Yes.",
        )
        for n in range(count)
    ])  # fmt: skip


def test_what_is_taught_is_neither_asked_nor_answered():
    engine = Says()
    old = old_answers(engine, new(), 40, names=NAMES)
    assert len(old) == 40
    assert len({(one.prompt.text, one.prompt.views[0].hash) for one in old.examples}) == 40
    said = " ".join([*engine.asked, *(one.reply for one in old.examples)]).lower()
    assert "trees" in said and "crops" in said and "water" not in said and "snow" not in said
    assert "Describe the scene." in engine.asked  # answered with snow, and so not kept
    assert not any("on and on" in one.reply for one in old.examples)
    assert {one.info.licence for one in old.examples} == {"CC-BY-4.0"}
    masks = [one for one in old.examples if one.masks is not None]
    assert masks and all(one.reply.count("[SEG]") == len(one.masks) == 1 for one in masks)
    assert all(one.masks.sum() == 3 * one.masks.shape[2] for one in masks)


def test_each_kind_of_answer_has_its_turn():
    replies = [one.reply for one in old_answers(Says(), new(20), 20, names=NAMES).examples]
    yes, no = (sum(reply.startswith(word) for reply in replies) for word in ("Yes", "No"))
    assert 3 <= yes <= 6 and 3 <= no <= 6
    assert sum("[SEG]" in reply for reply in replies) >= 3


def test_the_seed_decides():
    first, again, other = (
        digest(old_answers(Says(), new(), 10, names=NAMES, seed=seed)) for seed in (0, 0, 1)
    )
    assert first == again != other


def test_nothing_else_is_left_to_ask():
    assert len(old_answers(Says(), new(), 10, names=("water", "snow"))) <= 10
    none = Listed([])
    assert len(old_answers(Says(), none, 10, names=NAMES)) == 0
