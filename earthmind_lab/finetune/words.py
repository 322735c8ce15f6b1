"""Words for the nine classes, and every sentence that questions about them are made of.

A small model that is trained from nothing has a small vocabulary: what may be asked of it stands in
here and in the templates of `asks` and `asks_beyond`, and `sentences` says all of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from earthmind_lab.evaluate.legends import CLASSES
from earthmind_lab.finetune import asks, asks_beyond
from earthmind_lab.finetune.asks import YES_NO, told_share

CLOUDS = "clouds"
GROUND = tuple(name for name in CLASSES if name != CLOUDS)
"""What lies on the ground; clouds lie over it."""
SYNONYMS: Mapping[str, Sequence[str]] = {
    "water": ("water", "water", "open water", "flooded areas", "rivers or lakes", "water bodies"),
    "trees": ("trees", "trees", "forest", "woodland", "tree cover"),
    "crops": ("crops", "crops", "farmland", "fields", "cropland", "agricultural land"),
    "built-up areas": (
        "built-up areas", "built-up", "buildings", "settlements", "urban areas", "houses",
    ),
    "bare ground": ("bare ground", "bare", "bare soil", "bare land", "sand"),
    "snow": ("snow", "snow", "snow and ice", "snow cover"),
    "flooded vegetation": ("flooded vegetation", "flooded vegetation", "wetlands", "marsh",
                           "mangroves"),
    "clouds": ("clouds", "clouds", "cloud cover"),
    "rangeland": ("rangeland", "rangeland", "grassland", "shrubland", "scrub"),
}  # fmt: skip
"""What questions may say for a class; what stands twice is said more often. Answers use
the name."""


def sentences() -> Iterator[str]:
    """Every template with every word in it, and every answer: a vocabulary is made of these."""
    said = [word for words in SYNONYMS.values() for word in dict.fromkeys(words)]
    forms = (
        *asks.PRESENCE, *asks.SHARE, *asks.SEGMENT, *asks.VERIFY, *asks.COMPARE, *asks.WHICH,
        *asks.TWO, *asks_beyond.MORE, *asks_beyond.WHEN, *asks_beyond.MEASURE,
    )  # fmt: skip
    for form in forms:
        for word in said:
            for verb in ("is", "are"):
                yield form.format(x=word, y=word, Is=verb.capitalize(), **{"is": verb})
    yield from (*asks.DOMINANT, *asks.REGION, *asks.DESCRIBE, *asks_beyond.CLOUDY,
                *asks_beyond.HIDE, *asks_beyond.CHANGED, *asks_beyond.ANYTHING,
                 *asks_beyond.OUTSIDE, YES_NO)  # fmt: skip
    for form in (*asks_beyond.COUNT, *asks_beyond.ANY):
        yield from (form.format(x=many) for many in asks_beyond.PLURALS.values())
    yield from answers()


def answers() -> Iterator[str]:
    """Every answer's words."""
    for name in CLASSES:
        capital = name[0].upper() + name[1:]
        for verb in ("is", "are"):
            yield f"Yes, there {verb} {name} here. No, there {verb} no {name} here."
            yield f"There {verb} no {name} here."
        yield f"Sure, the {name}: [SEG]; the {name}: [SEG]."
        yield f"Mostly {name}, with some {name} and {name}."
        yield f"Region 1 is {name}. Yes, more {name} than {name}. No, more {name} than {name}."
        yield f"More {name}. Less {name}. Fewer {name}. {capital}."
        yield f"More {name}, less {name}. More {name}, fewer {name}."
    yield from (told_share(share / 100, "words") for share in range(1, 101))
    for kind in asks_beyond.PLURALS:
        yield from (asks_beyond.told_count(kind, count) for count in range(9))
    yield from asks_beyond.ANSWERS
