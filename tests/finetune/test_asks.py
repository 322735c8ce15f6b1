"""Questions that follow from truth: what is asked, what is answered, and what stays unasked."""

from __future__ import annotations

import re

import numpy as np
import pytest

from earthmind_lab.evaluate.legends import CLASSES, named
from earthmind_lab.evaluate.truth import PixelTruth
from earthmind_lab.finetune import asks_beyond
from earthmind_lab.finetune.asks import EVERY_KIND, asks_of
from earthmind_lab.finetune.asks_beyond import (
    HAPPENED,
    HIDDEN,
    NOTHING,
    PLURALS,
    THROUGH,
    change_asks,
    cloud_asks,
    count_asks,
    hidden,
    outside_asks,
)
from earthmind_lab.finetune.words import GROUND, SYNONYMS, sentences

ALL = np.ones((20, 20), bool)


def truth(**shares: float) -> PixelTruth:
    """Stripes of some covers, by the first word of their names; nothing is unknown."""
    codes, start = np.full((20, 20), -1), 0
    for word, share in shares.items():
        index = next(i for i, name in enumerate(GROUND) if name.startswith(word))
        codes[start : start + round(share * 20)] = index
        start += round(share * 20)
    yes = np.stack([codes == index for index in range(len(GROUND))])
    return PixelTruth(yes=yes, no=~yes)


def found(held: PixelTruth, **options: object):
    return {a.id: a for a in asks_of(held, ALL, GROUND, "k", kinds=EVERY_KIND, **options)}


def test_comparisons_answer_both_ways():
    asked = found(truth(water=0.6, trees=0.3, snow=0.1))
    pair = asked["compare water, trees"], asked["compare trees, water"]
    assert [ask.reply.split(",")[0].strip(".") for ask in pair] == ["Yes", "No"]
    assert asked["which water, trees"].reply == asked["which trees, water"].reply == "Water."
    assert "compare crops, rangeland" not in asked  # neither is there


def test_unknown_ground_that_could_turn_a_comparison_leaves_it_unasked():
    held = truth(water=0.5, trees=0.4)
    yes, no = held.yes.copy(), held.no.copy()
    no[:, 18:] = False  # a tenth may be anything
    asked = found(PixelTruth(yes=yes, no=no))
    assert "compare water, trees" not in asked
    assert asked["compare water, crops"].reply.startswith("Yes")


def test_two_objects_one_of_which_is_not_there():
    asked = found(truth(water=0.6, trees=0.4))
    both, one = asked["two water, trees"], asked["two snow, trees"]
    assert both.reply == "Sure, the water: [SEG]; the trees: [SEG]."
    assert (both.index, both.further) == (0, (1,))
    assert one.reply == "Sure, the trees: [SEG]. There is no snow here."
    assert (one.index, one.further) == (1, ())
    assert "two snow, crops" not in asked
    assert one.reply.count("[SEG]") == 1 + len(one.further)


def test_a_description_names_what_covers_a_tenth():
    assert found(truth(crops=0.6, water=0.3, trees=0.1))["describe"].reply == (
        "Mostly crops, with some water and trees."
    )
    assert found(truth(crops=1.0))["describe"].reply == "Mostly crops."


def test_questions_use_every_word_and_answers_the_name():
    held, said = truth(flooded=0.6, rangeland=0.4), set()
    for seed in range(60):
        asked = found(held, words=SYNONYMS, seed=seed)["segment flooded vegetation"]
        assert asked.reply == "Sure, the flooded vegetation: [SEG]."
        said |= {word for word in SYNONYMS["flooded vegetation"] if word in asked.question}
    assert said == set(SYNONYMS["flooded vegetation"])


@pytest.mark.parametrize("name", CLASSES)
def test_every_word_means_its_class_to_those_who_score(name):
    for word in SYNONYMS[name]:
        assert named(f"Is there {word} here?") == (name,), word


def test_clouds_are_drawn_on_optical_pictures_only():
    drawn = {a.id: a for a in cloud_asks(0.5, "k", drawn=True)}
    assert drawn["segment clouds"].reply == "Sure, the clouds: [SEG]."
    assert drawn["cloudy"].reply == "Yes."
    assert drawn["hidden"].reply == "About half."
    on_sar = {a.id: a for a in cloud_asks(0.5, "k", drawn=False)}
    assert (on_sar["segment clouds"].reply, on_sar["segment clouds"].index) == (THROUGH, None)
    assert {a.id for a in cloud_asks(0.1, "k", drawn=True)} == {"segment clouds"}
    assert [a.reply for a in cloud_asks(0.0, "k", drawn=True)] == [
        "There are no clouds here.",
        "No.",
    ]
    assert not list(cloud_asks(None, "k", drawn=True))


def test_counts_in_words():
    asked = {a.id: a.reply for a in count_asks({"ship": 2, "town": 0, "building": 7}, "k")}
    assert asked["count ships"] == "There are two ships."
    assert asked["count towns"] == "There are no towns."
    assert asked["count buildings"] == "There are more than six buildings."
    assert (asked["any ships"], asked["any towns"]) == ("Yes.", "No.")


def change(before: PixelTruth, after: PixelTruth, **options: object):
    asked = change_asks(before, after, ALL, GROUND, "k", **options)
    return {a.id: a.reply for a in asked}


def test_change_tells_what_grew_and_what_shrank():
    flood = change(truth(water=0.1, crops=0.9), truth(water=0.4, crops=0.6), changed=True)
    assert flood["change"] == "More water, fewer crops."
    assert (flood["changed"], flood["more water"], flood["more crops"]) == ("Yes.", "Yes.", "No.")
    assert (flood["when water"], flood["when crops"]) == ("The second.", "The first.")
    same = truth(water=0.1, crops=0.9)
    still = change(same, same, changed=False)
    assert (still["change"], still["changed"], still["more water"]) == (NOTHING, "No.", "No.")
    assert "when water" not in still
    cut = change(same, same, changed=True, happened=HAPPENED["harvest"])
    assert cut["change"] == "Crops were harvested."
    # Something has changed, but nobody can say what: nothing is said of it.
    assert "change" not in change(same, same, changed=True)


def test_what_nobody_sees_in_one_of_two_pictures_is_not_compared():
    before, after = truth(water=0.1, crops=0.9), truth(water=0.4, crops=0.6)
    seen = np.arange(20)[:, None] < 10
    half = PixelTruth(yes=after.yes & seen, no=after.no & seen)
    assert set(change(before, half, changed=True)) == {"changed"}


def test_hidden_ground_gives_one_answer():
    for ask in asks_of(truth(water=1.0), ALL, GROUND, "k", kinds=EVERY_KIND):
        said = hidden(ask)
        assert (said.question, said.reply, said.index, said.further) == (
            ask.question, HIDDEN, None, (),
        )  # fmt: skip


def words_of(text: str) -> set[str]:
    return set(re.findall(r"[A-Za-z'\-]+|\[SEG\]", text))


def test_every_word_that_is_asked_or_answered_is_among_the_sentences():
    known = set().union(*map(words_of, sentences()))
    rng, asked = np.random.default_rng(5), []
    for seed in range(300):
        codes = rng.choice(len(GROUND), p=rng.dirichlet(np.full(len(GROUND), 0.4)), size=(20, 20))
        codes = np.sort(codes, axis=None).reshape(20, 20)
        yes = np.stack([codes == index for index in range(len(GROUND))])
        held = PixelTruth(yes=yes, no=~yes)
        options = {"seed": seed, "words": SYNONYMS}
        asked += asks_of(held, ALL, GROUND, "k", kinds=EVERY_KIND, **options)
        other = PixelTruth(yes=np.roll(yes, 1, 0), no=~np.roll(yes, 1, 0))
        asked += change_asks(held, other, ALL, GROUND, "k", changed=True, **options)
        asked += cloud_asks(float(rng.random()), "k", seed=seed, drawn=seed % 2 == 0)
        asked += count_asks(dict.fromkeys(PLURALS, int(rng.integers(9))), "k", seed=seed)
        asked += outside_asks(GROUND, "k", seed=seed)
    asked += change_asks(held, held, ALL, GROUND, "k", changed=False)
    for ask in asked:
        for text in (ask.question, ask.reply):
            assert not words_of(text) - known, text
    kinds = {ask.kind for ask in asked}
    assert kinds == {*EVERY_KIND, "clouds", "count", "change", "outside"}
    replies = {ask.reply for ask in asked}
    for reply in (asks_beyond.KNOWS, asks_beyond.CANT_MEASURE, NOTHING, THROUGH):
        assert reply in replies
