"""Old questions among the new ones: what a model said before is what it should still say.

A training on a few labelled areas shows a model nothing else, and what isn't practised fades. So
before the first step the model is asked, about the pictures that it will learn from, what the new
examples do not speak of: other classes, the main cover, things that it doesn't know. Its own
answers and masks join the examples. They need no truth and no further pictures, and they teach
nothing: where the model was wrong before, it stays so.

What the new examples do speak of is never rehearsed, neither asked nor answered: a class that is
taught anew would be taught its old mistakes again.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from earthmind_lab.errors import EarthMindError
from earthmind_lab.evaluate.asking import yes_or_no
from earthmind_lab.evaluate.legends import CLASSES
from earthmind_lab.exchange import Options, Prompt, Reply
from earthmind_lab.finetune.asks import DESCRIBE, DOMINANT, PRESENCE, SEGMENT, YES_NO, verb_of
from earthmind_lab.finetune.asks_beyond import OUTSIDE
from earthmind_lab.finetune.batches import Joined
from earthmind_lab.finetune.examples import Example, ExampleInfo, Examples, Listed
from earthmind_lab.finetune.questions import SEG
from earthmind_lab.finetune.recipe import Recipe
from earthmind_lab.finetune.scoring import LEARNED, kind_of, same, some_of
from earthmind_lab.finetune.source import hashed
from earthmind_lab.progress import bar

LOG = logging.getLogger(__name__)

SPARE = 2
"""Times as many questions are asked as are kept, so that yes and no can be kept alike."""
LONGEST = 64
"""Tokens of an answer; longer ones are not rehearsed."""


def rehearsed(recipe: Recipe, train: Examples) -> Examples:
    """What a recipe learns from, with its share of old questions.

    Args:
        recipe: Its ``model``, ``rehearsal`` and ``seed``.
        train: What is new.

    Raises:
        EarthMindError: The model can't be opened, or an example can't.
    """
    count = round(recipe.rehearsal.share * len(train))
    if not count:
        return train
    from earthmind_lab.engine.loading import open_backend
    from earthmind_lab.engine.resident import ResidentEngine

    engine = ResidentEngine(open_backend(recipe.model, device=recipe.device))
    try:
        names = engine.capabilities.classes
        old = old_answers(engine, train, count, names=names, seed=recipe.seed)
    finally:
        engine.close()
    LOG.info("%d old questions are asked among %d new ones.", len(old), len(train))
    return Joined([(train, 1.0), (old, 1.0)], seed=recipe.seed)


def old_answers(
    engine: Any, train: Examples, count: int, *, names: Sequence[str] = (), seed: int = 0
) -> Listed:
    """Questions about the pictures of a training that it doesn't teach, as a model answers them.

    Args:
        engine: Of the model before its training.
        train: What will be learned.
        count: How many; fewer where the model has fewer answers that can be used.
        names: Of the classes that may be asked for; empty = those of `evaluate.legends`.
        seed: Which questions of which pictures.

    Raises:
        EarthMindError: An example can't be opened.
    """
    pictures, spoken = _seen(train)
    free = [name for name in names or CLASSES if not _mentions(spoken, name)]
    taught = [name for name in dict.fromkeys((*CLASSES, *names)) if _mentions(spoken, name)]
    asked = [(picture, each) for picture in pictures for each in _questions(free)
             if not any(_mentions(same(each[0]), name) for name in taught)]  # fmt: skip
    order = np.random.default_rng(seed).permutation(len(asked))[: SPARE * count]
    groups: dict[str, list[Example]] = {}
    with bar(len(order), unit="question", desc="old questions", delay=1.0) as progress:
        for index in order:
            picture, (question, task) = asked[index]
            one = _answered(engine, picture, question, task, taught)
            if one is not None:
                group = f"{kind_of(one)} {yes_or_no(one.reply)}"
                groups.setdefault(group, []).append(one)
            progress.update()
    return Listed(_in_turns(list(groups.values()), count))


def _seen(train: Examples) -> tuple[list[Example], str]:
    """An example of each picture, and all that is asked and answered, without case and marks."""
    pictures: dict[object, Example] = {}
    words: list[str] = []
    some = some_of(train, LEARNED)
    for index in range(len(some)):
        example = some[index]
        if example.prompt.views:
            pictures.setdefault(tuple(view.hash for view in example.prompt.views), example)
        words += [same(example.prompt.text), same(example.reply)]
    return list(pictures.values()), " . ".join(words)


def _mentions(text: str, name: str) -> bool:
    """Whether a class is spoken of.

    >>> _mentions("is there flooded vegetation", "flooded vegetation"), _mentions("snowy", "snow")
    (True, False)
    """
    return f" {same(name)} " in f" {text} "


def _questions(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Questions and their tasks: of each class three, and what is asked of any picture."""
    for number, name in enumerate(names):
        verbs = {"is": verb_of(name), "Is": verb_of(name).capitalize()}
        presence = [PRESENCE[(number + shift) % len(PRESENCE)] for shift in (0, 1)]
        yield presence[0].format(x=name, **verbs), "question"
        yield presence[1].format(x=name, **verbs) + YES_NO, "question"
        yield SEGMENT[number % len(SEGMENT)].format(x=name, **verbs), "segment"
    yield from ((text, "question") for text in (DOMINANT[0], DESCRIBE[0], *OUTSIDE[::4]))


def _answered(
    engine: Any, picture: Example, question: str, task: str, taught: Sequence[str]
) -> Example | None:
    """The model's own answer as an example; None where it can't be rehearsed."""
    prompt = Prompt(text=question, views=picture.prompt.views)
    try:
        reply: Reply = engine.generate(prompt, Options(max_new_tokens=LONGEST))
    except EarthMindError:
        return None  # what can't be asked can't be forgotten either
    text = reply.raw.strip()
    if reply.ended != "stop" or not text or any(_mentions(same(text), name) for name in taught):
        return None
    drawn = [found.mask_logits > 0 for found in reply.objects if found.mask_logits is not None]
    # A mask of nothing can't be learned, and marks are counted.
    if len(drawn) != text.count(SEG) or not all(mask.any() for mask in drawn):
        return None
    masks = np.stack(drawn) if drawn else None
    seen = hashlib.sha256(b"" if masks is None else np.packbits(masks).tobytes())
    info = ExampleInfo(
        id=f"rehearsal {hashed(picture.info.id, question)}", task=task,
        pictures=picture.info.pictures, place=picture.info.place, licence=picture.info.licence,
        attribution=picture.info.attribution,
        content=hashed(question, text, seen.hexdigest()),
    )  # fmt: skip
    return Example(info=info, prompt=prompt, reply=text, masks=masks)


def _in_turns(groups: Sequence[Sequence[Example]], count: int) -> list[Example]:
    """So many examples, of each group the first, then the second, and so on."""
    turns = zip_longest(*groups)
    return [one for turn in turns for one in turn if one is not None][:count]
