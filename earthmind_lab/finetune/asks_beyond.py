"""Questions beyond covers: clouds, numbers of things, change, and what nobody here can tell.

As in `asks`: what the truth doesn't decide isn't asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.evaluate.ground import ABSENT, PRESENT
from earthmind_lab.evaluate.truth import PixelTruth
from earthmind_lab.finetune.asks import SEGMENT, SURE, YES_NO, Ask, told_share
from earthmind_lab.finetune.questions import SEG, pick

CLOUDY = ("Is it cloudy?", "Are there clouds?", "Do clouds hide the ground?",
          "Is the ground hidden by clouds?")  # fmt: skip
HIDE = ("How much of the scene do clouds hide?", "How cloudy is it?")
COUNT = ("How many {x} are there?", "How many {x} do you see?", "Count the {x}.")
ANY = ("Are there {x} here?", "Do you see any {x}?")
CHANGED = ("What has changed?", "What changed between the two pictures?",
           "Describe the change.")  # fmt: skip
ANYTHING = ("Has anything changed?", "Has it changed?")
MORE = ("Is there more {x} in the second picture?", "Has the {x} grown?")
WHEN = ("Which picture shows more {x}?", "When was there more {x}?")
MEASURE = ("How large is it?", "How big is the {x}?", "What is the area of the {x}?",
           "How many hectares of {x} are there?")  # fmt: skip
OUTSIDE = (
    "How many cars are there?", "How many people live here?", "What is the capital of France?",
    "Who are you?", "Is there a volcano?", "Is there an airport?", "Segment the cars.",
    "Segment the ships.", "Where was this taken?", "What is the name of this town?",
    "What is the weather tomorrow?", "Write a poem.", "Which crop is it?", "How deep is the water?",
    "Is there a bridge?", "What year is it?", "Is this safe to drink?", "How tall are the trees?",
    "Tell me about the people here.",
)  # fmt: skip
KNOWS = (
    "I can't tell. I know water, trees, crops, built-up areas, bare ground, snow, flooded "
    "vegetation, clouds and rangeland."
)
CANT_MEASURE = "I can't measure. The mapped area comes from the mask."
HIDDEN = "Clouds hide the ground."
THROUGH = "Clouds can't be drawn here: the mask lies on SAR, which sees through them."
NOTHING = "Nothing has changed."
NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
PLURALS = {"town": "towns", "building": "buildings", "ship": "ships"}
HAPPENED = {"harvest": "Crops were harvested.", "ships": "Ships have moved."}
"""Changes that leave every cover where it is, by their names in `simulate_change`."""
ANSWERS = (
    "Yes.", "No.", KNOWS, CANT_MEASURE, HIDDEN, THROUGH, NOTHING, *HAPPENED.values(), "The first.",
    "The second.", "Sure, the clouds: [SEG].", "There are no clouds here.",
)  # fmt: skip
CLOUD_YES, CLOUD_NO = 0.2, 0.02
"""Share under cloud from which it is cloudy, and up to which it isn't."""
GROWN = 0.02
"""Share of the scene by which a cover must grow or shrink to be told."""


def cloud_asks(cloud: float | None, key: str, *, seed: int = 0, drawn: bool) -> Iterator[Ask]:
    """Questions about clouds.

    Args:
        cloud: Share of the picture under cloud or shadow; None = nobody knows.
        key: Of the chip.
        seed: See `asks.asks_of`.
        drawn: Whether the mask is drawn on a picture that shows clouds; SAR doesn't.
    """
    if cloud is None:
        return
    segment = pick(SEGMENT, "segment clouds", key, seed).format(x="clouds", **{"is": "are"})
    if not drawn:
        yield Ask(id="segment clouds", kind="segment", question=segment, reply=THROUGH)
    elif cloud >= PRESENT or cloud < ABSENT:
        there = cloud >= PRESENT
        yield Ask(
            id="segment clouds", kind="segment", question=segment,
            reply=f"Sure, the clouds: {SEG}." if there else "There are no clouds here.",
            index=0 if there else None,
        )  # fmt: skip
    if cloud >= CLOUD_YES:
        question = pick(HIDE, "hide", key, seed)
        yield Ask(id="hidden", kind="clouds", question=question, reply=told_share(cloud, "words"))
    if cloud >= CLOUD_YES or cloud <= CLOUD_NO:
        question = pick(CLOUDY, "cloudy", key, seed) + pick(("", YES_NO), "short", key, seed)
        reply = "Yes." if cloud >= CLOUD_YES else "No."
        yield Ask(id="cloudy", kind="clouds", question=question, reply=reply)


def count_asks(counts: Mapping[str, int], key: str, *, seed: int = 0) -> Iterator[Ask]:
    """How many things there are.

    Args:
        counts: By kind: ``town``, ``building``, ``ship``.
        key: Of the chip.
        seed: See `asks.asks_of`.
    """
    for kind, count in counts.items():
        many = PLURALS[kind]
        question = pick(COUNT, "count", key, kind, seed).format(x=many)
        yield Ask(id=f"count {many}", kind="count", question=question,
                  reply=told_count(kind, count))  # fmt: skip
        question = pick(ANY, "any", key, kind, seed).format(x=many) + YES_NO
        yield Ask(id=f"any {many}", kind="count", question=question,
                  reply="Yes." if count else "No.")  # fmt: skip


def told_count(kind: str, count: int) -> str:
    """A number as an answer.

    >>> told_count("ship", 1), told_count("ship", 0), told_count("town", 9)
    ('There is one ship.', 'There are no ships.', 'There are more than six towns.')
    """
    if count == 1:
        return f"There is one {kind}."
    number = NUMBERS[count] if count < len(NUMBERS) else f"more than {NUMBERS[-1]}"
    return f"There are {number} {PLURALS[kind]}."


def change_asks(
    before: PixelTruth, after: PixelTruth, ground: NDArray[np.bool_], names: Sequence[str],
    key: str, *, changed: bool, happened: str | None = None, seed: int = 0,
    words: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[Ask]:  # fmt: skip
    """Questions about two pictures of one place, the earlier one first.

    Args:
        before: (class, H, W) of the earlier picture.
        after: Of the later one.
        ground: (H, W) True where a pixel counts.
        names: Of the classes.
        key: Of the pair.
        changed: Whether anything has changed.
        happened: A change that no cover shows, in a sentence; None = there is none.
        seed: See `asks.asks_of`.
        words: As there.
    """
    total = int(ground.sum())
    known = (before.known & after.known & ground).sum(axis=(1, 2)) / max(total, 1) >= SURE
    grown = [
        float((after.yes[i] & ground).sum() - (before.yes[i] & ground).sum()) / max(total, 1)
        for i in range(len(names))
    ]
    told = told_change(grown, names) if changed else NOTHING
    if happened is not None and changed:
        told = happened
    if told is not None and known.all():
        yield Ask(id="change", kind="change", question=pick(CHANGED, "what", key, seed), reply=told)
    yield Ask(
        id="changed", kind="change", question=pick(ANYTHING, "any", key, seed) + YES_NO,
        reply="Yes." if changed else "No.",
    )  # fmt: skip
    for index, name in enumerate(names):
        if not known[index]:
            continue
        say = pick((words or {}).get(name, (name,)), "word", key, name, seed)
        if grown[index] >= GROWN or grown[index] <= ABSENT:
            yield Ask(
                id=f"more {name}", kind="change", reply="Yes." if grown[index] >= GROWN else "No.",
                question=pick(MORE, "more", key, name, seed).format(x=say) + YES_NO,
            )  # fmt: skip
        if abs(grown[index]) >= GROWN:
            yield Ask(
                id=f"when {name}", kind="change",
                reply="The second." if grown[index] > 0 else "The first.",
                question=pick(WHEN, "when", key, name, seed).format(x=say),
            )  # fmt: skip


def told_change(grown: Sequence[float], names: Sequence[str]) -> str | None:
    """What has grown and shrunk most; None where nothing did by much.

    >>> told_change([0.1, -0.07, 0.0], ["water", "trees", "snow"])
    'More water, fewer trees.'
    """
    most, least = int(np.argmax(grown)), int(np.argmin(grown))
    parts = []
    if grown[most] >= GROWN:
        parts.append(f"more {names[most]}")
    if grown[least] <= -GROWN:
        parts.append(f"{'fewer' if names[least].endswith('s') else 'less'} {names[least]}")
    text = ", ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else None


def outside_asks(names: Sequence[str], key: str, *, seed: int = 0) -> Iterator[Ask]:
    """What nobody here can tell: something else, and how large a thing is."""
    question = pick(OUTSIDE, "outside", key, seed)
    yield Ask(id="outside", kind="outside", question=question, reply=KNOWS)
    name = pick(names, "measure", key, seed)
    question = pick(MEASURE, "how large", key, seed).format(x=name)
    yield Ask(id="measure", kind="outside", question=question, reply=CANT_MEASURE)


def hidden(ask: Ask) -> Ask:
    """The same question where clouds hide the ground from every sensor in the prompt."""
    return Ask(id=ask.id, kind=ask.kind, question=ask.question, reply=HIDDEN)
