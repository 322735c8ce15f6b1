"""What one ask may do to another: failures, cancels, deadlines."""

from __future__ import annotations

import gc
import random
import time
from collections import Counter

import pytest

from earthmind_lab.engine.answering import Answering
from earthmind_lab.errors import (
    Cancelled,
    EngineError,
    OutOfDeviceMemory,
)
from earthmind_lab.exchange import Done, Object, Options, Prompt
from tests.engine.seats import WAIT, Hold, asks, of, piled, said, same, script, told, view
from tests.engine.stand_in import StandIn


@pytest.mark.parametrize("stage", ["on_encode", "on_prefill", "on_step", "on_segment"])
def test_an_ask_that_fails_fails_alone(run, stage):
    marked = view(99)

    def fail(seen) -> None:
        if marked in of(seen):
            raise ValueError("shapes")

    prompts = asks(12)
    for bad in (2, 7):
        prompts[bad] = (Prompt(text=f"bad {bad}", views=(marked,)), Options(seat=f"seat {bad}"))
    backend = StandIn(reply=script)
    setattr(backend, stage, fail)
    engine, handles = piled(run, backend, prompts)
    for (prompt, _), handle in zip(prompts, handles, strict=True):
        if prompt.views:
            with pytest.raises(EngineError, match="ValueError: shapes"):
                handle.result(WAIT)
        else:
            assert same(handle.result(WAIT), run(StandIn(reply=script)).generate(prompt))
            assert said(handle) == handle.result().text
    assert (engine.stats().done, engine.stats().failed) == (11, 2)
    assert backend.released == len(backend.answered)


def test_a_step_that_fails_only_together_harms_nobody(run):
    def fail(states) -> None:
        if len(states) > 1:
            raise RuntimeError("never together")

    prompts = asks(6)
    backend = StandIn(reply=script, on_batch=fail)
    for (prompt, _), handle in zip(prompts, piled(run, backend, prompts)[1], strict=True):
        assert same(handle.result(WAIT), run(StandIn(reply=script)).generate(prompt))
    assert set(backend.batches) == {1}


def test_a_release_that_fails_spoils_no_answer(run, caplog):
    class Clumsy(StandIn):
        def release(self, state) -> None:
            super().release(state)
            raise RuntimeError("stuck")

    assert run(Clumsy()).generate(Prompt(text="x")).text == "You asked: x"
    assert "could not release" in caplog.text


def test_a_failed_ask_holds_nothing_of_the_causes_either(run):
    def inner(state) -> None:
        held = bytearray(10)
        raise ValueError(str(len(held)))

    def outer(state) -> None:
        kept = bytearray(10)
        try:
            inner(state)
        except ValueError as error:
            raise OutOfDeviceMemory(str(len(kept))) from error

    with pytest.raises(OutOfDeviceMemory) as caught:
        run(StandIn(on_step=outer)).generate(Prompt(text="x"))
    frames = []
    for error in (caught.value, caught.value.__cause__):
        trace = error.__traceback__
        while trace is not None:
            frames.append(trace.tb_frame)
            trace = trace.tb_next
    assert {"inner", "outer"} <= {frame.f_code.co_name for frame in frames}
    backend_side = [f for f in frames if "/engine/" in f.f_code.co_filename or "inner" in str(f)]
    for frame in backend_side:
        assert not {"held", "kept", "group", "states", "state"} & set(frame.f_locals), frame


@pytest.mark.parametrize("stage", ["on_encode", "on_prefill", "on_segment"])
def test_a_cancel_works_in_every_stage(run, stage):
    mine, handles = view(99), []

    def cancel(seen) -> None:
        if mine in of(seen):
            handles[0].cancel()

    backend = StandIn(reply=lambda p: "the lake [SEG].<|end|>")
    setattr(backend, stage, cancel)
    hold = Hold()
    backend.on_batch = hold
    engine = run(backend)
    engine.submit(Prompt(text="first"), Options(max_new_tokens=1))
    assert hold.reached.wait(WAIT)
    handles.append(engine.submit(Prompt(text="stopped", views=(mine,)), Options(seat="a")))
    handles.append(engine.submit(Prompt(text="other"), Options(seat="b")))
    backend.on_batch = lambda states: None
    hold.opened.set()
    stopped, other = handles
    with pytest.raises(Cancelled):
        stopped.result(WAIT)
    assert other.result(WAIT).text == "the lake."
    assert not [event for event in told(stopped) if isinstance(event, Object | Done)]
    assert ("stopped" in backend.answered) == (stage != "on_encode"), "nothing after that"
    assert backend.released == len(backend.answered)
    assert engine.stats().cancelled == 1


def test_two_hundred_cancels_at_any_moment(run):
    noise = random.Random(11)
    backend = StandIn(reply=script)
    cancelled, handles = set(), []

    def maybe(_) -> None:
        if handles and len(cancelled) < 200 and noise.random() < 0.3:
            open_ones = [h for h in handles if not h.ended and h.id not in cancelled]
            if open_ones:
                chosen = noise.choice(open_ones)
                cancelled.add(chosen.id)
                chosen.cancel()

    for stage in ("on_encode", "on_prefill", "on_step", "on_segment"):
        setattr(backend, stage, maybe)
    prompts = [
        (Prompt(text=f"ask {i}", views=(view(i % 7),) if i % 3 else ()), Options(seat=str(i % 20)))
        for i in range(500)
    ]
    engine, made = piled(run, backend, prompts)
    handles += made
    ended = Counter()
    for (prompt, _), handle in zip(prompts, made, strict=True):
        try:
            reply = handle.result(WAIT)
        except Cancelled:
            assert handle.id in cancelled
            ended["cancelled"] += 1
        else:
            assert reply.text == said(handle)
            assert reply.raw == script(prompt).removesuffix("<|end|>")
            ended["done"] += 1
    assert len(cancelled) == 200
    assert ended["cancelled"] >= 150, "the others had their last token when they were stopped"
    stats = engine.stats()
    assert (stats.done, stats.cancelled, stats.failed) == (
        ended["done"] + 1, ended["cancelled"], 0,
    )  # fmt: skip
    assert not backend.alive
    assert backend.released == len(backend.answered)
    assert engine.generate(Prompt(text="later")).raw + "<|end|>" == script(Prompt(text="later"))


def test_deadlines_by_the_engines_clock(run):
    now = [100.0]

    def tick(states) -> None:
        now[0] += 1.0

    backend = StandIn(reply=lambda p: "abcdefghijklmnopqrstuvwxyz<|end|>", on_batch=tick)
    due = {"never": None, "soon": 5.5, "late": 500.0, "waits": 9.5}
    prompts = [(Prompt(text=t), Options(seat=t, deadline=d)) for t, d in due.items()]
    _, (never, soon, late, waits) = piled(run, backend, prompts, places=3, clock=lambda: now[0])
    with pytest.raises(EngineError, match=r"deadline of 5\.5 s"):
        soon.result(WAIT)
    assert never.result(WAIT).text == late.result(WAIT).text == "abcdefghijklmnopqrstuvwxyz"
    with pytest.raises(EngineError, match=r"deadline of 9\.5 s"):
        waits.result(WAIT)
    assert 4 <= len(said(soon)) <= 6, "a token a second"
    assert len(said(waits)) < 6, "it took the place of the one that was late"


def test_a_failed_ask_holds_no_other_answer(run):
    """A frame that an error went through holds its caller's, and that one what others were told."""

    def fail(state) -> None:
        if state.prompt.text == "ask 1" and state.written == 5:
            raise ValueError("shapes")

    engine, handles = piled(run, StandIn(reply=script, on_step=fail), asks(4))
    with pytest.raises(EngineError) as caught:
        handles[1].result(WAIT)
    for handle in (handles[0], *handles[2:]):
        assert handle.result(WAIT)
    assert engine.generate(Prompt(text="one more turn")).text
    end = time.monotonic() + WAIT
    while alive := [one for one in gc.get_objects() if type(one) is Answering]:
        assert time.monotonic() < end, alive
        gc.collect()
    assert caught.value.__traceback__ is not None
