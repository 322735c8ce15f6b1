"""Fifty seats with one engine and a real model: what each gets is what it gets alone."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from earthmind_lab.engine import ResidentEngine
from earthmind_lab.errors import Cancelled
from earthmind_lab.exchange import Options, Prompt, Reply
from tests.engine import tiny
from tests.engine.test_company import forms
from tests.engine.test_local import backend

SEATS = 50
PLACES = 7
"""Seats share some chips, so that what is kept of one serves another."""
WAIT = 60.0

Job = tuple[Prompt, Options]


def jobs() -> list[Job]:
    """Of each seat a question: every form of prompt, about one of some places."""
    every = []
    for seat in range(SEATS):
        form = forms()[seat % len(forms())]
        views = tuple(
            tiny.view(view.modality, seed=100 * (seat % PLACES) + number)
            for number, view in enumerate(form.prompt.views)
        )
        text = f"{form.prompt.text} {seat}"
        options = replace(form.options, seat=f"seat {seat}")
        every.append((replace(form.prompt, text=text, views=views), options))
    return every


@pytest.fixture(scope="module")
def alone(tiny_folder: Path) -> list[Reply]:
    """The replies to each question asked of an engine that knows of no other."""
    engine = ResidentEngine(backend(tiny_folder))
    replies = []
    for prompt, options in jobs():
        replies.append(engine.generate(prompt, options))
        engine._backend.cache.clear()
    engine.close()
    return replies


class Fickle:
    """Gives up one ask after the other while the model writes, whatever has become of it."""

    def __init__(self, raw: Any) -> None:
        self._step, self.asks = raw.step, []
        raw.step = self

    def __call__(self, states: Sequence[Any]) -> Any:
        if self.asks:
            self.asks.pop().cancel()
        return self._step(states)


@pytest.mark.parametrize("cache_bytes", [None, 60_000, 0])
@pytest.mark.parametrize("seed", range(2))
def test_fifty_in_company_equal_each_alone(
    tiny_folder: Path, alone: list[Reply], cache_bytes: int | None, seed: int
) -> None:
    chance, every = random.Random(seed), jobs()
    raw = backend(tiny_folder, **({} if cache_bytes is None else {"cache_bytes": cache_bytes}))
    fickle = Fickle(raw)
    engine = ResidentEngine(raw, queue_limit=2 * SEATS)
    try:
        handles, given_up = {}, []
        for seat in chance.sample(range(SEATS), SEATS):
            prompt, options = every[seat]
            handles[seat] = engine.submit(prompt, options)
            if chance.random() < 0.4:  # the same seat asks once more and thinks better of it
                given_up.append(engine.submit(replace(prompt, text="Or this?"), options))
        fickle.asks = chance.sample(given_up, len(given_up))
        for seat, handle in handles.items():
            reply, wanted = handle.result(WAIT), alone[seat]
            assert reply.token_ids == wanted.token_ids, every[seat]
            assert len(reply.objects) == len(wanted.objects)
            for mine, theirs in zip(reply.objects, wanted.objects, strict=True):
                assert (mine.view, mine.score) == (theirs.view, theirs.score)
                assert np.array_equal(mine.mask_logits, theirs.mask_logits), every[seat]
        for handle in given_up:
            with contextlib.suppress(Cancelled):
                handle.result(WAIT)
        assert engine.stats().cancelled > 5
        assert raw._slots.rows == []
        assert raw._slots.nbytes == 0
        assert raw.cache.nbytes <= raw.cache.limit
    finally:
        engine.close()


def test_they_mark_enough_to_tell(alone: list[Reply]) -> None:
    assert sum(len(reply.objects) for reply in alone) > 30
    assert len({reply.token_ids for reply in alone}) > SEATS // 2
