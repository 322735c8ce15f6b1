"""Answers written in company: the same as those of the question asked alone."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from earthmind_lab.engine import loading, writing
from earthmind_lab.engine.local import LocalBackend, LocalState
from earthmind_lab.errors import OutOfDeviceMemory
from earthmind_lab.exchange import Found, Options, Prompt, Region, Turn
from tests.engine import tiny

OPTICAL, FALSE_COLOUR, SAR = (
    tiny.view("optical", seed=1),
    tiny.view("optical", seed=2),
    tiny.view("sar", seed=3),
)
TRIPLE = (OPTICAL, FALSE_COLOUR, SAR)
SERIES = tuple(replace(view, name="true_colour") for view in (OPTICAL, FALSE_COLOUR))
REGION = Region(mask=np.eye(64, dtype=bool))
TURN = Turn(question="What is here?", reply="Water.")
NEW = 16


@dataclass
class Asked:
    """A question, and what came of it."""

    prompt: Prompt
    options: Options
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    objects: tuple[Found, ...] = ()
    state: LocalState | None = None


def ask(text: str, views: Sequence[Any] = (), new: int = NEW, **more: Any) -> Asked:
    names = {"regions", "history", "follow"}
    prompt = Prompt(text=text, views=tuple(views), **{k: more[k] for k in names & set(more)})
    options = {k: v for k, v in more.items() if k not in names}
    return Asked(prompt, Options(max_new_tokens=new, **options))


def forms() -> list[Asked]:
    """Every form of prompt, several lengths, greedy and sampled."""
    return [
        ask("Segment the water.", (SAR,)),
        ask("Segment the water.", (OPTICAL,), temperature=1.0, seed=3),
        ask("Where are trees? Segment them, one after the other, please.", (SAR,), new=5),
        ask("Segment it.", SERIES),
        ask("Segment the water.", TRIPLE),
        ask("Describe the image in as many words as you have.", TRIPLE, new=24),
        ask("Is it wet?", (OPTICAL, SAR), fusion="weighted"),
        ask("Segment the wet.", (OPTICAL, SAR), fusion="weighted", sensor_off="sar"),
        ask("What is region1?", TRIPLE, regions=(REGION,)),
        ask("Hello?"),
        ask("Hello, and how is the weather over there today? Tell me more.", temperature=0.7),
        ask("And?", TRIPLE, history=(TURN,)),
        ask("And the rest of it?", (SAR,), history=(TURN, TURN), new=3),
        ask("Segment the water.", TRIPLE, temperature=1.0, seed=1),
        ask("Segment the water.", TRIPLE, temperature=1.0, seed=2),
        ask("Segment the snow.", (SAR,), sensor_off="optical", mask_source="sar"),
    ]


def backend(folder: str | Path, *, dtype: str = "float32") -> LocalBackend:
    folder = loading._folder(folder, None)
    digest = loading.weight_hash(loading._files(folder))
    key = loading._Key(folder=folder, weight_hash=digest, device="cpu", dtype="float32")
    loaded: Any = loading._load(key)
    model = loaded.model.to(getattr(torch, dtype))
    return LocalBackend(model, loaded.processor, loaded.capabilities)


def begin(raw: LocalBackend, asked: Asked) -> None:
    off, weighted = asked.options.sensor_off, asked.options.fusion == "weighted"
    views = [view for view in asked.prompt.views if weighted or view.modality != off]
    asked.state = raw.prefill(asked.prompt, asked.options, raw.encode(views))


def write(raw: LocalBackend, several: Sequence[Asked]) -> None:
    states = [asked.state for asked in several]
    for asked, step in zip(several, raw.step(states), strict=True):
        asked.ids.append(step.token_id)
        asked.logprobs.append(step.logprob)


def end(raw: LocalBackend, several: Sequence[Asked]) -> None:
    states = [asked.state for asked in several]
    for asked, objects in zip(several, raw.segment(states), strict=True):
        asked.objects = objects
        raw.release(asked.state)


def alone(raw: LocalBackend, several: Sequence[Asked]) -> list[Asked]:
    """The same questions, one after the other."""
    for asked in several:
        begin(raw, asked)
        while len(asked.ids) < asked.options.max_new_tokens:
            write(raw, [asked])
        end(raw, [asked])
    return list(several)


def together(raw: LocalBackend, several: Sequence[Asked], chance: random.Random) -> None:
    """All of them, joining at random, stepped in random company, leaving when done."""
    waiting, running = list(several), []
    chance.shuffle(waiting)
    while waiting or running:
        for _ in range(chance.randint(0, 4)):
            if waiting:
                running.append(waiting.pop())
                begin(raw, running[-1])
        everyone = chance.random() < 0.7
        some = running if everyone else chance.sample(running, len(running) // 2)
        write(raw, some)
        done = [one for one in running if len(one.ids) == one.options.max_new_tokens]
        running = [one for one in running if one not in done]
        end(raw, done)
    assert raw._slots.nbytes == 0, "nothing of the answers stays"


def same(one: Asked, other: Asked, *, exact: bool = True) -> None:
    """The same ids; masks to the last bit where promised.

    The tiny model is steep (its weights are eight times the usual): what float32 rounds grows to
    1e-3 in its logits, so that how close the two are is seen in float64.
    """
    assert one.ids == other.ids, one.prompt.text
    tolerance = 1e-3 if exact else 1e-6
    np.testing.assert_allclose(one.logprobs, other.logprobs, rtol=0, atol=tolerance)
    assert len(one.objects) == len(other.objects)
    for mine, theirs in zip(one.objects, other.objects, strict=True):
        assert mine.view == theirs.view
        if exact:
            assert mine.score == theirs.score
            assert np.array_equal(mine.mask_logits, theirs.mask_logits)
        else:
            np.testing.assert_allclose(mine.mask_logits, theirs.mask_logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(6))
def test_sixteen_in_company_equal_each_alone(tiny_folder: Path, seed: int, dtype: str) -> None:
    """In float64 objects of several answers are also drawn together, as in half precision."""
    asked = forms()
    together(backend(tiny_folder, dtype=dtype), asked, random.Random(seed))
    for one, other in zip(asked, alone(backend(tiny_folder, dtype=dtype), forms()), strict=True):
        same(one, other, exact=dtype == "float32")
    assert sum(len(one.objects) for one in asked) > 8, "the tiny model writes marks"


def test_nano_in_company_equals_each_alone() -> None:
    from earthmind_lab import AOI, load_chip, search_pairs
    from earthmind_lab.data.samples import place
    from earthmind_lab.render import render

    asked = []
    for name in ("spain", "denmark"):
        where = place(name)
        aoi = AOI.from_bbox(*where.bbox)
        chip = load_chip(search_pairs(aoi, where.dates, sensors=where.sensors)[0], aoi)
        asked += [
            (text, render(chip))
            for text in ("Segment the water.", "Describe the image.", "Is there snow?")
        ]

    def fresh() -> list[Asked]:
        return [ask(text, views, new=24) for text, views in asked]

    both = fresh(), fresh()
    together(backend("nano"), both[0], random.Random(0))
    for one, other in zip(both[0], alone(backend("nano"), both[1]), strict=True):
        same(one, other)
    assert any(one.objects for one in both[0])


class Full:
    """Memory that ends somewhere in a pass of the language model, until it doesn't."""

    def __init__(self, raw: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
        language = raw.model.language
        self.raw, self.patch, self.failed = raw, monkeypatch, 0
        self.places = [*(layer.mlp for layer in language.model.layers), language.lm_head]

    def try_until_it_fits(
        self, chance: random.Random, call: Callable[..., Any], *given: Any
    ) -> Any:
        for _ in range(chance.randint(0, 2)):
            where, after = chance.choice(self.places), chance.randint(0, 1)
            forward, calls = where.forward, itertools.count()

            def full(hidden: Any, after=after, forward=forward, calls=calls) -> Any:
                if next(calls) >= after:
                    raise torch.OutOfMemoryError("full")
                return forward(hidden)

            with self.patch.context() as patch:
                patch.setattr(where, "forward", full)
                try:
                    return call(*given)
                except OutOfDeviceMemory:
                    self.failed += 1
                    assert self.raw.cache.nbytes == 0, "room for the next try"
        return call(*given)


def test_a_call_that_fails_leaves_every_answer_as_it_was(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory ends in the middle of a pass, at any layer and at the head: nothing shows later."""
    raw, asked, chance = backend(tiny_folder), forms(), random.Random(0)
    memory = Full(raw, monkeypatch)
    for one in asked:
        memory.try_until_it_fits(chance, begin, raw, one)
    running = list(asked)
    while running:
        memory.try_until_it_fits(chance, write, raw, running)
        done = [one for one in running if len(one.ids) == one.options.max_new_tokens]
        running = [one for one in running if one not in done]
        found = memory.try_until_it_fits(chance, raw.segment, [one.state for one in done])
        for one, objects in zip(done, found, strict=True):
            one.objects = objects
            raw.release(one.state)
    assert memory.failed > 10
    assert raw._slots.nbytes == 0
    for one, other in zip(asked, alone(backend(tiny_folder), forms()), strict=True):
        same(one, other)


def test_texts_are_read_together_as_far_as_they_are_alike(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, passes = backend(tiny_folder), []
    read = raw._slots.read

    def counting(rows: Any, embeds: Any, counts: Any) -> Any:
        passes.append(sorted(counts))
        return read(rows, embeds, counts)

    asked = [ask(text) for text in ("Hello?", "Hello!!", "Hello " * 40, "Hi", "Hello, hello")]
    for one in asked:
        begin(raw, one)
    monkeypatch.setattr(raw._slots, "read", counting)
    write(raw, asked)
    lengths = sorted(len(one.state.content) for one in asked)
    assert passes == [lengths[4:], lengths[:4]]
    write(raw, asked)
    assert passes[2:] == [[1] * 5]
    passes.clear()
    monkeypatch.setattr(writing, "SEEN", 2 * lengths[3])
    more = [ask(text) for text in ("Hello?", "Hello!!", "Hi", "Hello, hello")]
    for one in more:
        begin(raw, one)
    write(raw, [*asked, *more])
    assert [len(counts) for counts in passes] == [2, 2, 5]


def test_pictures_asked_about_at_the_same_time_are_read_once(tiny_folder: Path) -> None:
    raw = backend(tiny_folder)
    asked = [ask(text, TRIPLE) for text in ("Is it wet?", "Segment the snow.", "And trees?")]
    for one in asked:
        begin(raw, one)
    read = [one.state.tokens_prefilled for one in asked]
    start = asked[0].state.start
    assert read == [
        len(one.state.content) - (start if number else 0) for number, one in enumerate(asked)
    ]
    kept = raw.kept()
    assert (kept["read"].hits, kept["read"].misses) == (2, 1)
    assert (kept["tokens"].entries, kept["tokens"].hits, kept["tokens"].misses) == (3, 6, 3)


def test_a_released_answer_serves_the_next_question(tiny_folder: Path) -> None:
    raw = backend(tiny_folder)
    first = [ask("Segment the water.", (view,), new=6) for view in (SAR, OPTICAL)]
    together(raw, first, random.Random(1))
    said = raw.decode(first[0].ids)
    turn = Turn(question="Segment the water.", reply=said)
    follow = [ask("And?", (view,), history=(turn,)) for view in (SAR, OPTICAL)]
    for one in follow:
        begin(raw, one)
    # All but the last token of the answer, which nobody has read yet, or up to a merged token.
    assert follow[0].state.tokens_prefilled < len(follow[0].state.content) - first[0].state.start
    for one in follow:
        raw.release(one.state)
    fresh = backend(tiny_folder)
    again = [replace(one, ids=[], logprobs=[]) for one in follow]
    together(raw, again, random.Random(2))
    once_more = [replace(one, ids=[], logprobs=[]) for one in follow]
    for one, other in zip(again, alone(fresh, once_more), strict=True):
        same(one, other)


def test_released_answers_can_be_released_again(tiny_folder: Path) -> None:
    raw = backend(tiny_folder)
    one = ask("Is it wet?", (SAR,))
    begin(raw, one)
    raw.release(one.state)
    raw.release(one.state)
    assert raw._slots.rows == []


def test_no_room_to_keep_an_answer_is_nobodys_business(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = backend(tiny_folder)
    one = ask("Is it wet?", (SAR,))
    begin(raw, one)
    write(raw, [one])

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(raw._slots, "copy", full)
    raw.release(one.state)
    assert raw._slots.rows == []
