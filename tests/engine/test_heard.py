"""Stopped or late in the middle of a long call: it ends there, and nothing shows later."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from earthmind_lab.engine import ResidentEngine
from earthmind_lab.engine.layers import heard_between
from earthmind_lab.errors import Cancelled, EngineError
from earthmind_lab.exchange import Done, Object, Options, Prompt, Token
from tests.engine import tiny
from tests.engine.seats import WAIT, Hold, asks, told, view
from tests.engine.stand_in import StandIn
from tests.engine.test_local import PROMPTS, SHORT, TRIPLE, backend, same

LAYERS = {"encode": 3 * 2, "prefill": 2, "segment": 2 + 5}
"""Of the tiny model, calls at least: two for each view, two of language, five of the mask tower."""


class Stopped:
    """Stops an ask between two layers: at the so-manieth one of a stage.

    Attributes:
        heard: Layers that were reached for the ask, by stage.
    """

    def __init__(self, engine: ResidentEngine, stage: str, number: int) -> None:
        self.turns, self.stage, self.number = engine._turns, stage, number
        self.handle, self.heard = None, dict.fromkeys((*LAYERS, "decode"), 0)
        engine._backend.listen(self)

    def __call__(self) -> None:
        group = self.turns._in_hand
        if self.handle is None or self.handle not in [one.ask for one in group]:
            self.turns.heed()
            return
        assert not self.handle.ended, "it goes on though it has ended"
        stage = next(one.stage for one in group if one.ask is self.handle)
        self.heard[stage] += 1
        stop = (stage, self.heard[stage]) == (self.stage, self.number)
        if stop:
            self.handle.cancel()
        try:
            self.turns.heed()
        finally:
            assert self.handle.ended == stop


@pytest.fixture
def make(tiny_folder):
    engines = []

    def build(**settings) -> ResidentEngine:
        engines.append(ResidentEngine(backend(tiny_folder), **settings))
        return engines[-1]

    yield build
    for engine in engines:
        engine.close()


OTHER = Prompt(text="Segment the water.", views=(tiny.view(seed=8),))
LONG = Options(max_new_tokens=60, seat="beside")


@pytest.fixture(scope="module")
def alone(tiny_folder):
    """The replies of an engine at which nobody is stopped."""
    engine = ResidentEngine(backend(tiny_folder))
    replies = engine.generate(PROMPTS["pair"], SHORT), engine.generate(OTHER, LONG)
    engine.close()
    return replies


def settled(engine: ResidentEngine) -> ResidentEngine:
    """The last event of an ask may be out before its place is free."""
    end = time.monotonic() + WAIT
    while engine.stats().running:
        assert time.monotonic() < end
        time.sleep(0.001)
    return engine


@pytest.mark.parametrize("company", [False, True])
@pytest.mark.parametrize(
    ("stage", "number"), [(stage, n + 1) for stage, count in LAYERS.items() for n in range(count)]
)
def test_a_cancel_between_two_layers(make, alone, stage, number, company):
    """At every layer of every stage; what was computed to its end serves the next question."""
    engine, prompt = make(), PROMPTS["pair"]
    raw, stopped = engine._backend, Stopped(engine, stage, number)
    if company:
        beside = engine.submit(OTHER, LONG)
        next(event for event in beside.events() if isinstance(event, Token))
    stopped.handle = engine.submit(prompt, SHORT)
    with pytest.raises(Cancelled):
        stopped.handle.result(WAIT)
    if company:
        assert beside.result(WAIT).token_ids == alone[1].token_ids
        for mine, theirs in zip(beside.result().objects, alone[1].objects, strict=True):
            assert np.array_equal(mine.mask_logits, theirs.mask_logits)
    assert not [e for e in stopped.handle.events() if isinstance(e, Object | Done)]
    assert stopped.heard[stage] == number
    stopped.handle = None
    assert settled(engine).stats().cancelled == 1
    assert raw._slots.rows == []
    assert raw._slots.nbytes == 0
    assert raw.cache.nbytes == sum(nbytes for _, nbytes in raw.cache._entries.values())
    again = engine.generate(prompt, SHORT)
    same(again, alone[0], exact=True)
    whole = (number - 1) // 2 if stage == "encode" else len(TRIPLE)
    assert again.usage.views_encoded == len(TRIPLE) - whole, "whole views are kept, no others"
    read = alone[0].usage.tokens_prefilled - again.usage.tokens_prefilled
    assert (read > 0) == (stage == "segment"), "pictures are read to their end or not at all"


def test_a_deadline_between_two_layers(make, alone):
    now = [0.0]
    engine = make(clock=lambda: now[0])
    layers = []

    def later() -> None:
        layers.append(now[0])
        now[0] += 1.0
        engine._turns.heed()

    engine._backend.listen(later)
    with pytest.raises(EngineError, match=r"deadline of 2\.5 s"):
        engine.generate(PROMPTS["pair"], replace(SHORT, deadline=2.5))
    assert layers == [0.0, 1.0, 2.0]
    engine._backend.listen(engine._turns.heed)
    same(
        engine.generate(PROMPTS["pair"], SHORT), make().generate(PROMPTS["pair"], SHORT), exact=True
    )


def test_nothing_is_asked_while_single_tokens_are_written_and_nothing_once_it_was_taken_away(make):
    raw, calls = make()._backend, []
    raw.listen(lambda: calls.append(1))
    state = raw.prefill(PROMPTS["pair"], SHORT, raw.encode(TRIPLE))
    raw.step([state])
    before = len(calls)
    assert before == LAYERS["encode"] + 2 + 2
    for _ in range(3):
        raw.step([state])
    assert len(calls) == before
    raw.listen(lambda: None)
    raw.segment([state])
    raw.release(state)
    assert len(calls) == before


def test_what_the_layers_compute_is_the_same_to_the_last_bit(make):
    raw = make()._backend
    pixels = torch.from_numpy(raw.processor.pixel_values(TRIPLE[0]))
    sam = torch.from_numpy(raw.processor.sam_pixel_values(TRIPLE[0]))
    raw.listen(lambda: None)
    with torch.inference_mode():
        heard = raw.model.encode_views(pixels), raw.model.segment_features(sam).coarse
    raw._unheard()
    raw._unheard = lambda: None
    with torch.inference_mode():
        bare = raw.model.encode_views(pixels), raw.model.segment_features(sam).coarse
    assert all(torch.equal(one, other) for one, other in zip(heard, bare, strict=True))


def test_every_tower_is_heard(make):
    model = make()._backend.model
    undo = heard_between(model, lambda: None)
    for tower in (model.language, model.vision, model.sam.sam2.vision_encoder, model.sam):
        assert [part for part in tower.modules() if "forward" in vars(part)]
    undo()


# --- whom a call is for, on a stand-in ------------------------------------------------------------


def test_others_are_heard_while_a_long_call_is_for_one(run):
    """One that is written is stopped, one that waits is late: neither waits for the call's end."""
    now, heard, hold, slow = [0.0], [], Hold(), view(3)
    made = StandIn(reply=lambda p: "abcdefghijklmnopqrstuvwxyz<|end|>", on_batch=hold)
    engine = run(made, places=2, clock=lambda: now[0])

    def encode(views) -> None:
        if slow in views:
            written.cancel()
            now[0] += 5.0
            made.heed()
            heard.extend([written.ended, late.ended, long.ended, len(made.alive)])

    made.on_encode = encode
    written = engine.submit(Prompt(text="written"), Options(seat="a"))
    assert hold.reached.wait(WAIT)
    long = engine.submit(Prompt(text="long", views=(slow,)), Options(seat="b"))
    late = engine.submit(Prompt(text="late"), Options(seat="c", deadline=4.0))
    hold.opened.set()
    assert long.result(WAIT).text == "abcdefghijklmnopqrstuvwxyz"
    assert heard == [True, True, False, 1], "its place is freed when the call is over"
    with pytest.raises(Cancelled):
        written.result(0)
    with pytest.raises(EngineError, match="deadline of 4 s"):
        late.result(0)
    stats = engine.stats()
    assert (stats.done, stats.cancelled, stats.failed) == (1, 1, 1)


@pytest.mark.parametrize("stage", ["on_batch", "on_segment"])
def test_a_call_for_several_ends_when_nobody_wants_it(run, stage):
    """As long as one does, it goes on for that one; the others have heard."""
    made = StandIn(reply=lambda p: "the lake [SEG]<|end|>")
    stopped = []

    def stop(states) -> None:
        if len(states) == 3 and not stopped:
            for handle in handles:
                handle.cancel()
                stopped.append(handle)
                made.heed()
                assert handle.ended
                assert len(stopped) < 3, "nobody wants it, and it goes on"

    handles = []
    hold = Hold()
    made.on_segment = stop if stage == "on_segment" else lambda states: None
    made.on_batch = hold
    engine = run(made, places=3, clock=lambda: 0.0)
    first = engine.submit(Prompt(text="first"), Options(max_new_tokens=1))
    assert hold.reached.wait(WAIT)
    handles += [engine.submit(*each) for each in asks(3)]
    made.on_batch = stop if stage == "on_batch" else lambda states: None
    hold.opened.set()
    first.result(WAIT)
    for handle in handles:
        with pytest.raises(Cancelled):
            handle.result(WAIT)
        assert not [e for e in told(handle) if isinstance(e, Object | Done)]
    assert len(stopped) == 3
    assert engine.generate(Prompt(text="c")).text == "the lake"
    assert engine.stats().cancelled == 3
