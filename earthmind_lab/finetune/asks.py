"""Questions that the truth of a chip decides, with their answers.

Where it doesn't decide, nothing is asked: a class that may hide in unknown ground is neither there
nor absent. Thresholds are those by which models are scored (`evaluate.ground`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.evaluate.ground import ABSENT, PRESENT
from earthmind_lab.evaluate.truth import PixelTruth
from earthmind_lab.finetune.questions import SEG, pick
from earthmind_lab.mapping import RESOLVABLE_PX, components

Kind = Literal[
    "presence", "share", "dominant", "segment", "region", "verify", "compare", "describe", "two",
]  # fmt: skip
Wording = Literal["words", "per cent"]
KINDS: tuple[Kind, ...] = ("presence", "share", "dominant", "segment", "region", "verify")
"""What labelled chips are asked unless somebody wants more."""
EVERY_KIND: tuple[Kind, ...] = (*KINDS, "compare", "describe", "two")
SURE = 0.95
"""Share of the ground that must be known of a class before its share is asked for, and unless
said otherwise its mask."""
LEAD = 0.05
"""Share by which the main cover leads whatever else could be the first; and the more of two."""
SOME = 0.1
"""Share from which a description names a cover."""
YES_NO = " Answer yes or no."
PRESENCE = (
    "{Is} there {x} here?", "{Is} there any {x}?", "Do you see {x}?", "Can you see {x} here?",
)  # fmt: skip
SHARE = ("What share of the scene is {x}?", "How much of the scene is {x}?")
DOMINANT = ("What is the main land cover?", "What covers most of the area?",
            "What is the dominant land cover?")  # fmt: skip
SEGMENT = ("Segment the {x}.", "Segment {x}.", "Please segment the {x}.", "Mark the {x}.",
           "Where {is} the {x}?", "Map the {x}.")  # fmt: skip
REGION = ("What is region1?", "What covers region1?", "Describe region1.", "What is in region1?")
VERIFY = ("Does region1 show {x}?", "{Is} there {x} in region1?")
COMPARE = ("Is there more {x} than {y}?", "Is more of the scene {x} than {y}?")
WHICH = ("Which covers more, {x} or {y}?", "Is there more {x} or more {y}?")
DESCRIBE = ("Describe the scene.", "Describe the image.", "Describe what you see.",
            "What do you see?", "What is shown here?")  # fmt: skip
TWO = ("Segment the {x} and the {y}.", "Mark the {x} and the {y}.")
_PARTS = (("a tenth", 1 / 10), ("a fifth", 1 / 5), ("a third", 1 / 3), ("half", 1 / 2),
          ("two thirds", 2 / 3), ("four fifths", 4 / 5))  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One question about a chip."""

    id: str
    """``presence water``: unique within its chip."""
    kind: str
    """One of `Kind`, or of `asks_beyond`."""
    question: str
    reply: str
    index: int | None = None
    """The class of its region or of its first mask."""
    further: tuple[int, ...] = ()
    """Classes of further masks."""


@dataclass(frozen=True, eq=False)
class _Ground:
    """What is known of a chip, and how to speak of it."""

    truth: PixelTruth
    ground: NDArray[np.bool_]
    names: Sequence[str]
    words: Mapping[str, Sequence[str]]
    key: str
    seed: int
    yes: NDArray[np.float64]
    """(class,) share of the ground that is it."""
    no: NDArray[np.float64]
    """(class,) share that isn't."""
    drawn: float = SURE
    """Share that must be known of a class before its mask is asked for."""

    def there(self, index: int) -> bool | None:
        return _there(self.yes[index], self.no[index])

    def sure(self, index: int, share: float = SURE) -> bool:
        return bool(self.yes[index] + self.no[index] >= share)

    def ask(self, options: Sequence[str], what: str, index: int, other: int | None = None) -> str:
        """A question about one class, or two."""
        name = self.names[index]
        say = [
            pick(self.words.get(each, (each,)), "word", what, self.key, each, self.seed)
            for each in (name, self.names[other] if other is not None else name)
        ]
        verb = verb_of(say[0])
        return pick(options, what, self.key, name, self.seed).format(
            x=say[0], y=say[1], Is=verb.capitalize(), **{"is": verb}
        )

    def of(self, index: int, kinds: Sequence[Kind], wording: Wording) -> Iterator[Ask]:
        """Questions about one class."""
        name, there = self.names[index], self.there(index)
        if "presence" in kinds and there is not None:
            short = pick((True, False), self.key, name)
            yield _presence(name, self.ask(PRESENCE, "presence", index), there, short)
        if "share" in kinds and there and self.sure(index):
            share = float(self.yes[index] / (self.yes[index] + self.no[index]))
            yield Ask(
                id=f"share {name}", kind="share", question=self.ask(SHARE, "share", index),
                reply=told_share(share, wording),
            )  # fmt: skip
        if "segment" in kinds and there is not None and self.sure(index, self.drawn):
            yield Ask(
                id=f"segment {name}", kind="segment",
                question=self.ask(SEGMENT, "segment", index),
                reply=_drawn(name) + "." if there else _absent(name),
                index=index if there else None,
            )  # fmt: skip
        if {"region", "verify"} & set(kinds):
            yield from self.marked(index, kinds)

    def marked(self, index: int, kinds: Sequence[Kind]) -> Iterator[Ask]:
        """Questions about the largest piece of a class."""
        name = self.names[index]
        region = region_of(self.truth, self.ground, index)
        if not region.any():
            return
        if "region" in kinds:
            yield Ask(
                id=f"region {name}", kind="region", question=self.ask(REGION, "region", index),
                reply=f"Region 1 is {name}.", index=index,
            )  # fmt: skip
        # What is surely something else here: yes and no come in pairs, so that looking pays.
        others = [i for i in range(len(self.names)) if self.truth.no[i][region].all()]
        if "verify" in kinds and others:
            other = pick(others, "other", self.key, name, self.seed)
            for asked, word in ((index, "Yes"), (other, "No")):
                yield Ask(
                    id=f"verify {name} {word.lower()}", kind="verify", index=index,
                    question=self.ask(VERIFY, "verify", asked) + YES_NO, reply=f"{word}.",
                )  # fmt: skip

    def between(self, first: int, second: int, kinds: Sequence[Kind]) -> Iterator[Ask]:
        """Questions about two classes in an order."""
        x, y = self.names[first], self.names[second]
        more = self._more(first, second)
        if "compare" in kinds and more is not None:
            short = pick((YES_NO, ""), "short", self.key, x, y, self.seed)
            told = f"Yes, more {x} than {y}." if more else f"No, more {y} than {x}."
            yield Ask(
                id=f"compare {x}, {y}", kind="compare",
                reply=told.split(",", maxsplit=1)[0] + "." if short else told,
                question=self.ask(COMPARE, "compare", first, second) + short,
            )  # fmt: skip
            yield Ask(
                id=f"which {x}, {y}", kind="compare", reply=_capital(x if more else y) + ".",
                question=self.ask(WHICH, "which", first, second),
            )  # fmt: skip
        both = self.there(first), self.there(second)
        if "two" in kinds and None not in both and any(both):
            if not all(self.sure(each, self.drawn) for each in (first, second)):
                return
            drawn = [i for i, there in zip((first, second), both, strict=True) if there]
            lacking = [i for i, there in zip((first, second), both, strict=True) if not there]
            masks = "; ".join(
                _drawn(self.names[i]).removeprefix("Sure, " if k else "")
                for k, i in enumerate(drawn)
            )
            refused = "".join(f" {_absent(self.names[i])}" for i in lacking)
            yield Ask(
                id=f"two {x}, {y}", kind="two", question=self.ask(TWO, "two", first, second),
                reply=f"{masks}.{refused}", index=drawn[0], further=tuple(drawn[1:]),
            )  # fmt: skip

    def _more(self, first: int, second: int) -> bool | None:
        """Whether there is more of the first, whatever the unknown ground may be."""
        if self.yes[first] >= 1 - self.no[second] + LEAD:
            return True
        return False if self.yes[second] >= 1 - self.no[first] + LEAD else None

    def whole(self, kinds: Sequence[Kind]) -> Iterator[Ask]:
        """Questions about the scene."""
        main = _main(self.truth, self.ground, self.yes, self.no)
        if main is None:
            return
        if "dominant" in kinds:
            question = pick(DOMINANT, "dominant", self.key, self.seed)
            reply = f"Mostly {self.names[main]}."
            yield Ask(id="dominant", kind="dominant", question=question, reply=reply)
        if "describe" in kinds:
            order = [int(i) for i in np.argsort(-self.yes) if self.yes[i] >= SOME and i != main]
            some = " and ".join(self.names[i] for i in order[:2])
            yield Ask(
                id="describe", kind="describe",
                question=pick(DESCRIBE, "describe", self.key, self.seed),
                reply=f"Mostly {self.names[main]}" + (f", with some {some}." if some else "."),
            )  # fmt: skip


def asks_of(
    truth: PixelTruth, ground: NDArray[np.bool_], names: Sequence[str], key: str, *,
    kinds: Sequence[Kind] = KINDS, wording: Wording = "words", seed: int = 0,
    words: Mapping[str, Sequence[str]] | None = None, drawn: float = SURE,
) -> Iterator[Ask]:  # fmt: skip
    """Every question of some kinds that the truth decides.

    Args:
        truth: (class, H, W).
        ground: (H, W) True where a pixel counts.
        names: Of the classes; answers use them.
        key: Of the chip; with the seed it decides the phrasings.
        kinds: What to ask.
        wording: Of shares.
        seed: See `key`.
        words: Per name the words that questions may use for it; None = the name.
        drawn: Share of the ground that must be known of a class before its mask is asked for.
    """
    total = int(ground.sum())
    if not total:
        return
    held = _Ground(
        truth, ground, names, words or {}, key, seed,
        yes=(truth.yes & ground).sum(axis=(1, 2)) / total,
        no=(truth.no & ground).sum(axis=(1, 2)) / total,
        drawn=drawn,
    )  # fmt: skip
    count = range(len(names))
    for index in count:
        yield from held.of(index, kinds, wording)
    if {"compare", "two"} & set(kinds):
        for first, second in permutations(count, 2):
            yield from held.between(first, second, kinds)
    yield from held.whole(kinds)


def region_of(truth: PixelTruth, ground: NDArray[np.bool_], index: int) -> NDArray[np.bool_]:
    """(H, W) the largest connected piece of a class; empty where none can be resolved."""
    labels, count = components(truth.yes[index] & ground)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    if not count or sizes.max() < RESOLVABLE_PX:
        return np.zeros_like(ground)
    return np.asarray(labels == 1 + int(sizes.argmax()))


def told_share(share: float, wording: Wording) -> str:
    """A share as an answer.

    >>> told_share(0.31, "words"), told_share(0.31, "per cent"), told_share(0.97, "words")
    ('About a third.', 'About 30 %.', 'Nearly all of it.')
    """
    if wording == "per cent":
        step = 5 if share >= 0.1 else 1
        return f"About {max(1, round(share * 100 / step) * step)} %."
    if share < 0.07:
        return "Less than a tenth."
    if share > 0.93:
        return "All of it." if share == 1 else "Nearly all of it."
    word, _ = min(_PARTS, key=lambda part: abs(part[1] - share))
    return f"About {word}."


def _there(yes: float, no: float) -> bool | None:
    """Whether a class is there, as models are scored; None where nobody can tell."""
    if yes >= PRESENT:
        return True
    return False if yes < ABSENT and no > 1 - PRESENT else None


def _presence(name: str, question: str, there: bool, short: bool) -> Ask:
    reply = "Yes." if there else "No."
    if not short:
        verb = verb_of(name)
        reply = f"Yes, there {verb} {name} here." if there else f"No, there {verb} no {name} here."
    return Ask(
        id=f"presence {name}", kind="presence",
        question=question + (YES_NO if short else ""), reply=reply,
    )  # fmt: skip


def _drawn(name: str) -> str:
    return f"Sure, the {name}: {SEG}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _absent(name: str) -> str:
    return f"There {verb_of(name)} no {name} here."


def verb_of(name: str) -> str:
    """Of a class.

    >>> verb_of("water"), verb_of("crops")
    ('is', 'are')
    """
    return "are" if name.endswith("s") else "is"


def _main(
    truth: PixelTruth, ground: NDArray[np.bool_], yes: NDArray[np.float64], no: NDArray[np.float64]
) -> int | None:
    """The class that covers most, whatever the unknown ground may be."""
    best = int(yes.argmax())
    # What a rival could reach: all that isn't ruled out. Ground that is no class at all is one.
    rivals = np.delete(1 - no, best)
    other = float((truth.no.all(axis=0) & ground).sum() / ground.sum())
    unknown = float((~truth.known.any(axis=0) & ground).sum() / ground.sum())
    most = max([*rivals.tolist(), other + unknown])
    return best if yes[best] > 0 and yes[best] >= most + LEAD else None
