"""Questions that the truth of a chip decides, with their answers.

Where it doesn't decide, nothing is asked: a class that may hide in unknown ground is neither there
nor absent. Thresholds are those by which models are scored (`evaluate.ground`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from earthmind_lab.evaluate.ground import ABSENT, PRESENT
from earthmind_lab.evaluate.truth import PixelTruth
from earthmind_lab.finetune.questions import SEG, pick
from earthmind_lab.mapping import RESOLVABLE_PX, components

Kind = Literal["presence", "share", "dominant", "segment", "region", "verify"]
Wording = Literal["words", "per cent"]
KINDS: tuple[Kind, ...] = ("presence", "share", "dominant", "segment", "region", "verify")
SURE = 0.95
"""Share of the ground that must be known of a class before its share or its mask is asked for."""
LEAD = 0.05
"""Share by which the main cover leads whatever else could be the first."""
YES_NO = " Answer yes or no."
_PRESENCE = (
    "{Is} there {x} here?", "{Is} there any {x}?", "Do you see {x}?", "Can you see {x} here?",
)  # fmt: skip
_SHARE = ("What share of the scene is {x}?", "How much of the scene is {x}?")
_DOMINANT = ("What is the main land cover?", "What covers most of the area?",
             "What is the dominant land cover?")  # fmt: skip
_SEGMENT = ("Segment the {x}.", "Segment {x}.", "Please segment the {x}.", "Mark the {x}.",
            "Where {is} the {x}?", "Map the {x}.")  # fmt: skip
_REGION = ("What is region1?", "What covers region1?", "Describe region1.", "What is in region1?")
_VERIFY = ("Does region1 show {x}?", "{Is} there {x} in region1?")
_PARTS = (("a tenth", 1 / 10), ("a fifth", 1 / 5), ("a third", 1 / 3), ("half", 1 / 2),
          ("two thirds", 2 / 3), ("four fifths", 4 / 5))  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One question about a chip."""

    id: str
    """``presence water``: unique within its chip."""
    kind: Kind
    question: str
    reply: str
    index: int | None = None
    """The class of its mask or region."""


def asks_of(
    truth: PixelTruth, ground: NDArray[np.bool_], names: Sequence[str], key: str, *,
    kinds: Sequence[Kind] = KINDS, wording: Wording = "words", seed: int = 0,
) -> Iterator[Ask]:  # fmt: skip
    """Every question of some kinds that the truth decides.

    Args:
        truth: (class, H, W).
        ground: (H, W) True where a pixel counts.
        names: Of the classes.
        key: Of the chip; with the seed it decides the phrasings.
        kinds: What to ask.
        wording: Of shares.
        seed: See `key`.
    """
    total = int(ground.sum())
    if not total:
        return
    yes = (truth.yes & ground).sum(axis=(1, 2)) / total
    no = (truth.no & ground).sum(axis=(1, 2)) / total
    for index, name in enumerate(names):
        there = _there(yes[index], no[index])
        sure = yes[index] + no[index] >= SURE

        def say(options: Sequence[str], what: str, *, name: str = name) -> str:
            verb = _verb(name)
            return pick(options, what, key, name, seed).format(
                x=name, Is=verb.capitalize(), **{"is": verb}
            )

        if "presence" in kinds and there is not None:
            yield _presence(name, say(_PRESENCE, "presence"), there, pick((True, False), key, name))
        if "share" in kinds and there and sure:
            share = float(yes[index] / (yes[index] + no[index]))
            reply = told_share(share, wording)
            yield Ask(id=f"share {name}", kind="share", question=say(_SHARE, "share"), reply=reply)
        if "segment" in kinds and there is not None and sure:
            reply = f"Sure, the {name}: {SEG}." if there else _absent(name)
            yield Ask(
                id=f"segment {name}", kind="segment", question=say(_SEGMENT, "segment"),
                reply=reply, index=index if there else None,
            )  # fmt: skip
        region = region_of(truth, ground, index)
        if not region.any():
            continue
        if "region" in kinds:
            yield Ask(
                id=f"region {name}", kind="region", question=say(_REGION, "region"),
                reply=f"Region 1 is {name}.", index=index,
            )  # fmt: skip
        # What is surely something else here: yes and no come in pairs, so that looking pays.
        others = [n for i, n in enumerate(names) if truth.no[i][region].all()]
        if "verify" in kinds and others:
            other = pick(others, "other", key, name, seed)
            for asked, word in ((name, "Yes"), (other, "No")):
                yield Ask(
                    id=f"verify {name} {word.lower()}", kind="verify", index=index,
                    question=say(_VERIFY, "verify", name=asked) + YES_NO, reply=f"{word}.",
                )  # fmt: skip
    main = _main(truth, ground, yes, no)
    if "dominant" in kinds and main is not None:
        question = pick(_DOMINANT, "dominant", key, seed)
        yield Ask(id="dominant", kind="dominant", question=question, reply=f"Mostly {names[main]}.")


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
        verb = _verb(name)
        reply = f"Yes, there {verb} {name} here." if there else f"No, there {verb} no {name} here."
    return Ask(
        id=f"presence {name}", kind="presence",
        question=question + (YES_NO if short else ""), reply=reply,
    )  # fmt: skip


def _absent(name: str) -> str:
    return f"There {_verb(name)} no {name} here."


def _verb(name: str) -> str:
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
