"""The embedded model under everything at once: cancels, dead workers, tiny budgets, full memory.

Seats ask about chips of their own. Whatever happens meanwhile: nothing hangs, each answer that
comes is that of the question asked alone, and in the end the model holds what it held before.

    EARTHMIND_CAMPAIGN=1 python -m pytest tests/engine/test_campaign.py

is the whole of it: 200 cancels, 20 dead workers, memory that ends 100 times. The suite does a part.
"""

from __future__ import annotations

import ctypes
import gc
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor

from earthmind_lab import AOI, load_chip, search_pairs
from earthmind_lab.data.samples import place
from earthmind_lab.engine import ResidentEngine, worker
from earthmind_lab.engine.asks import Ask
from earthmind_lab.errors import Cancelled, OutOfDeviceMemory
from earthmind_lab.exchange import Done, Event, Failed, Options, Prompt, Reply, Turn, View
from earthmind_lab.render import render
from tests.engine.test_company import backend

WHOLE = float(os.environ.get("EARTHMIND_CAMPAIGN", "0.2"))
CANCELS, KILLS, FULL = (round(WHOLE * number) for number in (200, 20, 100))
SEATS, WAIT = 6, 60.0
BUDGETS = (0, 200_000, 2_000_000, 1 << 30)
"""Bytes to keep: nothing, about a view or two, about a place or two, everything."""
QUESTIONS = ("Segment the water.", "Describe the image.", "Is there snow?", "Segment the trees.")

Job = tuple[Prompt, Options]


def chips() -> list[tuple[View, ...]]:
    """Of each seat the pictures of a place: two real ones, and a part of each."""
    every = []
    for name in ("spain", "denmark"):
        where = place(name)
        aoi = AOI.from_bbox(*where.bbox)
        views = render(load_chip(search_pairs(aoi, where.dates, sensors=where.sensors)[0], aoi))
        every.append(tuple(views))
        every.append(tuple(replace(view, image=view.image[100:300, 20:220]) for view in views))
    return every


def jobs() -> list[Job]:
    """Every question about every chip, and one that goes on from another."""
    every = []
    for seat, views in enumerate(chips()):
        options = Options(max_new_tokens=24, seat=f"seat {seat}")
        every += [(Prompt(text=text, views=views), options) for text in QUESTIONS]
        history = (Turn(question=QUESTIONS[1], reply="Mostly crops."),)
        every.append((Prompt(text=QUESTIONS[0], views=views, history=history), options))
    return every


@dataclass
class World:
    """The engine, what is asked of it, and what each question gets alone."""

    engine: ResidentEngine
    jobs: list[Job]
    alone: list[Reply]
    base: tuple[int, int] = (0, 0)
    open: dict[str, tuple[int, Ask]] = field(default_factory=dict)
    """By the ask's id, with the number of its job."""
    failed: list[Ask] = field(default_factory=list)
    """Held until the end: neither they nor their errors may hold anything of the model's."""
    done: int = 0
    stopped: int = 0
    refused: int = 0
    """Asks that failed because memory ended while they had the device to themselves."""
    full: bool = False
    """Whether memory ends now and then."""

    @property
    def raw(self) -> Any:
        return self.engine._backend

    def submit(self, number: int) -> Ask:
        ask = self.engine.submit(*self.jobs[number])
        self.open[ask.id] = (number, ask)
        return ask

    def right(self, number: int, reply: Reply) -> None:
        """What the question gets alone, to the last bit of every mask."""
        wanted = self.alone[number]
        assert (reply.text, reply.token_ids) == (wanted.text, wanted.token_ids)
        assert len(reply.objects) == len(wanted.objects)
        for mine, theirs in zip(reply.objects, wanted.objects, strict=True):
            assert (mine.label, mine.view, mine.score) == (theirs.label, theirs.view, theirs.score)
            assert np.array_equal(mine.mask_logits, theirs.mask_logits)

    def look(self, *, wait: bool = False) -> None:
        """Check those that have ended; or wait for all."""
        end = time.monotonic() + WAIT
        while self.open:
            for key, (number, ask) in list(self.open.items()):
                if ask.ended:
                    self.check(number, ask, list(ask.events())[-1])
                    del self.open[key]
            if not wait:
                return
            assert time.monotonic() < end, "they hang"
            time.sleep(0.002)

    def check(self, number: int, ask: Ask, last: Event) -> None:
        """An ask has ended as it should. Errors aren't raised: they'd hold our own frames."""
        if isinstance(last, Done):
            self.right(number, last.reply)
            self.done += 1
            return
        assert isinstance(last, Failed)
        self.failed.append(ask)
        if isinstance(last.error, Cancelled):
            assert ask.stop_asked
            self.stopped += 1
        else:
            assert isinstance(last.error, OutOfDeviceMemory), last.error
            assert self.full
            self.refused += 1

    def busy(self, noise: random.Random) -> None:
        """As many asks as there are seats are open; some are ended and checked."""
        self.look()
        while len(self.open) < SEATS:
            self.submit(noise.randrange(len(self.jobs)))
        if noise.random() < 0.1:
            self.raw.cache.limit = noise.choice(BUDGETS)


def held() -> tuple[int, int]:
    """Tensors that are alive, and the bytes behind them.

    Without those that have no bytes: what other tests in this process have measured with.
    """
    gc.collect()
    tensors = [
        one
        for one in gc.get_objects()
        if issubclass(type(one), torch.Tensor) and not issubclass(type(one), FakeTensor)
    ]
    storages = {one.untyped_storage().data_ptr(): one.untyped_storage() for one in tensors}
    return len(tensors), sum(storage.nbytes() for storage in storages.values())


def at_rest(engine: ResidentEngine) -> tuple[int, int]:
    """What is alive once nothing is under way and nothing is kept."""
    end = time.monotonic() + WAIT
    while engine.stats().running or engine.stats().waiting:
        assert time.monotonic() < end, "somebody is still there"
        time.sleep(0.005)
    raw: Any = engine._backend
    assert raw._slots.rows == []
    assert raw._slots.nbytes == 0
    cache = raw.cache
    assert cache.nbytes == sum(nbytes for _, nbytes in cache._entries.values()) <= cache.limit
    assert cache.nbytes == sum(kept.nbytes for kept in cache.kept().values())
    cache.clear()
    return held()


def back(world: World) -> None:
    """Everything is as it was; the worker may yet be a moment in its last turn."""
    end = time.monotonic() + WAIT
    while (now := at_rest(world.engine)) != world.base:
        assert time.monotonic() < end, f"tensors, bytes: {now} and before {world.base}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def made() -> Iterator[World]:
    engine, every = ResidentEngine(backend("nano")), jobs()
    alone = []
    for prompt, options in every:
        engine._backend.cache.clear()
        alone.append(engine.generate(prompt, options))
    yield World(engine, every, alone)
    engine.close()


@pytest.fixture
def world(made: World) -> Iterator[World]:
    """With its base line; afterwards everything must be back there, and sessions go on."""
    world = replace(made, open={}, failed=[], done=0, stopped=0)
    world.raw.cache.limit = BUDGETS[-1]
    world.base = at_rest(world.engine)
    yield world
    back(world)
    world.raw.cache.limit = BUDGETS[-1]
    for number in range(len(world.jobs)):
        world.submit(number)
    world.look(wait=True)
    back(world)


def test_the_model_marks_enough_to_tell(made: World) -> None:
    assert sum(len(reply.objects) for reply in made.alone) > 5
    assert len({reply.text for reply in made.alone}) > 6


def test_cancels_at_random_moments(world: World) -> None:
    noise = random.Random(5)
    spared: set[str] = set()
    while world.stopped < CANCELS:
        world.busy(noise)
        time.sleep(noise.uniform(0.0, 0.03))
        for key, (_, ask) in world.open.items():
            if ask.stop_asked or key in spared:
                continue
            if noise.random() < 0.7:
                ask.cancel()
            else:
                spared.add(key)
            break
    world.look(wait=True)
    assert world.done > CANCELS // 4, "others were answered meanwhile"


def test_workers_killed_at_random_moments(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker.logger, "disabled", True)  # else pytest keeps their tracebacks
    noise, killed = random.Random(6), 0
    written, ahead = 0, 0
    while killed < KILLS:
        world.busy(noise)
        time.sleep(noise.uniform(0.0, 0.02))
        # Something is written between deaths: six in a row at one place are an ask's doing.
        if world.engine._turns.tokens_new < written + ahead:
            continue
        time.sleep(noise.uniform(0.0, 0.1))
        thread = world.engine._worker._worker
        if thread is None or not thread.is_alive():
            continue
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
        )
        end = time.monotonic() + WAIT
        while thread.is_alive():  # one that waits for asks hears of it at the next
            world.busy(noise)
            assert time.monotonic() < end
            time.sleep(0.002)
        killed += 1
        written, ahead = world.engine._turns.tokens_new, noise.randint(1, 150)
    world.look(wait=True)
    assert world.engine._worker._worker.is_alive()
    assert world.done >= SEATS


class Full:
    """Memory that ends now and then, in any layer of any tower and at the head."""

    def __init__(self, world: World, noise: random.Random) -> None:
        self._turns, self._noise, self.failed = world.engine._turns, noise, 0

    def __call__(self) -> None:
        if self._noise.random() < 0.02:
            self.failed += 1
            raise torch.OutOfMemoryError("full")
        self._turns.heed()

    def before(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **more: Any) -> Any:
            if self._noise.random() < 0.02:
                self.failed += 1
                raise torch.OutOfMemoryError("full")
            return forward(*given, **more)

        return call


def test_memory_that_ends_again_and_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ask that has the device to itself then fails for want of it; nobody else notices."""
    noise = random.Random(7)
    full = Full(world, noise)
    head = world.raw.model.language.lm_head
    world.raw.listen(full)
    world.full = True
    with monkeypatch.context() as patch:
        patch.setattr(head, "forward", full.before(head.forward))
        while full.failed < FULL:
            world.busy(noise)
            time.sleep(0.005)
        world.raw.listen(world.engine._turns.heed)
    world.look(wait=True)
    world.full = False
    assert world.done > FULL // 4
