"""What earthmind-nano is taught to say: questions with answers that follow from exact truth.

Every answer is a function of `Truth`; where the truth doesn't decide, no question is asked.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from earthmind_lab.evaluate.truth import CLASSES

NAMES = {
    "water": "water",
    "trees": "trees",
    "crops": "crops",
    "built": "built-up areas",
    "bare": "bare ground",
    "snow": "snow",
}
SYNONYMS = {
    "water": ("water", "water", "open water", "flooded areas", "rivers or lakes", "water bodies"),
    "trees": ("trees", "trees", "forest", "woodland", "tree cover"),
    "crops": ("crops", "crops", "farmland", "fields", "cropland", "agricultural land"),
    "built": ("built-up areas", "built-up", "buildings", "settlements", "urban areas", "houses"),
    "bare": ("bare ground", "bare", "bare soil", "bare land", "sand"),
    "snow": ("snow", "snow", "snow and ice", "snow cover"),
}
YES_NO = (" Answer yes or no.", " Yes or no?", " Answer with yes or no.")
PRESENCE = (
    "Is there {x} here?",
    "Is there any {x}?",
    "Is there {x} in the scene?",
    "Is there {x} in this image?",
    "Do you see {x}?",
    "Are there {x}?",
    "Can you see any {x} here?",
    "Does the scene contain {x}?",
    "Is {x} visible?",
)
SEGMENT = (
    "Segment the {x}.",
    "Segment {x}.",
    "Please segment the {x}.",
    "Segment all {x} in the scene.",
    "Mark the {x}.",
    "Where is the {x}?",
    "Show me the {x}.",
    "Outline the {x}.",
    "Find the {x}.",
    "Map the {x}.",
)
SEGMENT_TWO = ("Segment the {x} and the {y}.", "Mark the {x} and the {y}.")
DOMINANT = (
    "What is the main cover?",
    "What covers most of the area?",
    "What is the dominant land cover?",
    "Which land cover is most common?",
    "What is the main land cover here?",
)
DESCRIBE = (
    "Describe the scene.",
    "Describe the image.",
    "Describe this place.",
    "Describe what you see.",
    "What do you see?",
    "What is this?",
    "What is shown here?",
)
CLOUDS = (
    "Is it cloudy?",
    "Are there clouds?",
    "Do clouds hide the ground?",
    "Is the ground hidden by clouds?",
)
REGION = ("What is region1?", "What covers region1?", "Describe region1.", "What is in region1?")
MEASURE = (
    "How large is it?",
    "And how large is it?",
    "How big is the {x}?",
    "What is the area of the {x}?",
    "How many hectares of {x} are there?",
    "What share of the scene is {x}?",
)
OUTSIDE = (
    "How many cars are there?",
    "How many buildings are there?",
    "How many ships do you see?",
    "Count the ships.",
    "What is the capital of France?",
    "Who are you?",
    "Is there a volcano?",
    "Is there an airport?",
    "Segment the ships.",
    "Segment the cars.",
    "Segment the clouds.",
    "Where was this taken?",
    "What is the name of this town?",
    "Has it changed?",
    "What is the weather tomorrow?",
    "Write a poem.",
    "Which crop is it?",
    "How deep is the water?",
    "Is there a bridge?",
    "What year is it?",
    "Is this safe to drink?",
    "Tell me about the people here.",
)
KNOWS = "I can't tell. I know water, trees, crops, built-up areas, bare ground and snow."
CANT_MEASURE = "I can't measure. The mapped area comes from the mask."
HIDDEN = "Clouds hide the ground."
PRESENT_SHARE = 0.03
"""Share of the known ground from which a class counts as there."""
ABSENT_SHARE = 0.004
"""Share under which it counts as not there; in between nothing is asked."""

_DECISIVE = re.compile(
    r"Yes|No\b|Sure|There (?:is|are) no|can't tell|can't measure|Clouds|\[SEG\]|"
    + "|".join(re.escape(name) for name in NAMES.values())
)


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What is known about one training window."""

    yes: np.ndarray
    """(6,) share of the window that is this class."""
    no: np.ndarray
    """(6,) share of the window that certainly isn't."""
    hidden: float
    """Share of the window that clouds hide from every sensor in the prompt."""
    cloud: float | None
    """Share under cloud or shadow in the optical views; None without optical."""

    def present(self, index: int) -> bool | None:
        """Whether a class is there; None when the truth doesn't decide."""
        if self.yes[index] >= PRESENT_SHARE:
            return True
        possible = 1 - self.hidden - self.no[index]
        if possible < PRESENT_SHARE and self.yes[index] < ABSENT_SHARE:
            return False if self.hidden < 0.3 else None
        return None

    @property
    def ordered(self) -> list[int] | None:
        """Classes by share where the shares are known well enough to name the first."""
        unknown = 1 - self.hidden - self.yes - self.no
        best = int(np.argmax(self.yes))
        rivals = np.delete(self.yes + np.maximum(unknown, 0), best)
        if self.yes[best] < 0.25 or self.yes[best] < rivals.max() + 0.08:
            return None
        return [int(i) for i in np.argsort(-self.yes) if self.yes[i] >= 0.1]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One question with its answer."""

    question: str
    answer: str
    segments: tuple[int, ...] = ()
    """Class index of each [SEG]."""
    region: int | None = None
    """Class index that the marked region must have."""


def lines(truth: Truth, rng: random.Random, count: int) -> list[Line]:
    """`count` questions that the truth decides, in mixed kinds."""
    if truth.hidden > 0.8:
        return [_hidden(truth, rng) for _ in range(count)]
    makers = (_presence, _presence, _segment, _segment, _segment, _dominant, _describe)
    makers += (_clouds, _outside, _measure, _region, _segment_two)
    weights = (3, 3, 3, 3, 2, 2.5, 2.5, 0.5, 1.0, 0.4, 0.8, 0.6)
    found: list[Line] = []
    for _ in range(count * 6):
        line = rng.choices(makers, weights)[0](truth, rng)
        if line is not None:
            found.append(line)
        if len(found) == count:
            break
    return found


def corpus() -> Iterator[str]:
    """Every sentence of the templates, to train the tokenizer on."""
    everything = (*PRESENCE, *SEGMENT, *DOMINANT, *DESCRIBE, *CLOUDS, *REGION, *MEASURE, *OUTSIDE)
    for template in everything:
        for words in SYNONYMS.values():
            for word in words:
                text = template.format(x=word, y=word)
                yield text
                yield text + YES_NO[0]
    for index, name in enumerate(NAMES.values()):
        yield f"Yes, {present(index)} No, {absent(index)} {refusal(index)}"
        yield f"Sure, the {name}: [SEG]. Mostly {name}, with some {name} and {name}."
        yield f"Region 1 is {name}. Sure, the {name}: [SEG]; the {name}: [SEG]."
    yield from (KNOWS, CANT_MEASURE, HIDDEN, *YES_NO, *SEGMENT_TWO)


def decisive(answer: str) -> list[tuple[int, int]]:
    """Character spans of an answer that carry its content."""
    return [match.span() for match in _DECISIVE.finditer(answer)]


def _pick(truth: Truth, rng: random.Random, wanted: bool) -> int | None:
    options = [i for i in range(len(CLASSES)) if truth.present(i) is wanted]
    return rng.choice(options) if options else None


def _say(index: int, rng: random.Random) -> str:
    return rng.choice(SYNONYMS[CLASSES[index]])


def _name(index: int) -> str:
    return NAMES[CLASSES[index]]


def present(index: int) -> str:
    """The sentence that a class is there, without its capital.

    >>> present(1), present(0)
    ('there are trees here.', 'there is water here.')
    """
    return f"there {_verb(index)} {_name(index)} here."


def absent(index: int) -> str:
    """The sentence that a class isn't there, without its capital."""
    return f"there {_verb(index)} no {_name(index)} here."


def refusal(index: int) -> str:
    """The answer to a mask that can't be drawn."""
    return _capital(absent(index))


def _verb(index: int) -> str:
    return "are" if _name(index).endswith("s") else "is"


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def _balanced(truth: Truth, rng: random.Random) -> tuple[int, bool] | None:
    wanted = rng.random() < 0.5
    index = _pick(truth, rng, wanted)
    return None if index is None else (index, wanted)


def _presence(truth: Truth, rng: random.Random) -> Line | None:
    picked = _balanced(truth, rng)
    if picked is None:
        return None
    index, there = picked
    question = rng.choice(PRESENCE).format(x=_say(index, rng))
    if rng.random() < 0.45:
        return Line(question=question + rng.choice(YES_NO), answer="Yes." if there else "No.")
    text = f"Yes, {present(index)}" if there else f"No, {absent(index)}"
    return Line(question=question, answer=text)


def _segment(truth: Truth, rng: random.Random) -> Line | None:
    index = _pick(truth, rng, rng.random() < 0.68)
    if index is None:
        return None
    question = rng.choice(SEGMENT).format(x=_say(index, rng))
    if truth.present(index):
        return Line(
            question=question, answer=f"Sure, the {_name(index)}: [SEG].", segments=(index,)
        )
    return Line(question=question, answer=refusal(index))


def _segment_two(truth: Truth, rng: random.Random) -> Line | None:
    there = [i for i in range(len(CLASSES)) if truth.present(i)]
    if len(there) < 2:
        return None
    first, second = rng.sample(there, 2)
    question = rng.choice(SEGMENT_TWO).format(x=_say(first, rng), y=_say(second, rng))
    text = f"Sure, the {_name(first)}: [SEG]; the {_name(second)}: [SEG]."
    return Line(question=question, answer=text, segments=(first, second))


def _dominant(truth: Truth, rng: random.Random) -> Line | None:
    order = truth.ordered
    return (
        Line(question=rng.choice(DOMINANT), answer=f"Mostly {_name(order[0])}.") if order else None
    )


def _describe(truth: Truth, rng: random.Random) -> Line | None:
    order = truth.ordered
    if not order:
        return None
    text = f"Mostly {_name(order[0])}"
    if len(order) > 1:
        text += ", with some " + " and ".join(_name(i) for i in order[1:3])
    return Line(question=rng.choice(DESCRIBE), answer=text + ".")


def _clouds(truth: Truth, rng: random.Random) -> Line | None:
    if truth.cloud is None or 0.02 < truth.cloud < 0.2:
        return None
    question = rng.choice(CLOUDS) + rng.choice(("", YES_NO[0]))
    return Line(question=question, answer="Yes." if truth.cloud >= 0.2 else "No.")


def _outside(_: Truth, rng: random.Random) -> Line:
    return Line(question=rng.choice(OUTSIDE), answer=KNOWS)


def _measure(_: Truth, rng: random.Random) -> Line:
    index = rng.randrange(len(CLASSES))
    return Line(question=rng.choice(MEASURE).format(x=_say(index, rng)), answer=CANT_MEASURE)


def _region(truth: Truth, rng: random.Random) -> Line | None:
    index = _pick(truth, rng, True)
    if index is None:
        return None
    return Line(question=rng.choice(REGION), answer=f"Region 1 is {_name(index)}.", region=index)


def _hidden(truth: Truth, rng: random.Random) -> Line:
    index = rng.randrange(len(CLASSES))
    choice = rng.random()
    if choice < 0.15:
        return _outside(truth, rng)
    if choice < 0.3:
        return Line(question=rng.choice(CLOUDS), answer="Yes.")
    pool = PRESENCE if choice < 0.55 else SEGMENT if choice < 0.8 else (*DOMINANT, *DESCRIBE)
    return Line(question=rng.choice(pool).format(x=_say(index, rng)), answer=HIDDEN)
