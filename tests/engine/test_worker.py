"""The worker dies: everything goes on, and where it can't, that is said."""

from __future__ import annotations

import ctypes
import random
import sys
import threading
import time

import pytest

from earthmind_lab.engine import worker
from earthmind_lab.engine.asks import STRIKES
from earthmind_lab.errors import (
    Cancelled,
    EngineError,
    EngineUnavailable,
)
from earthmind_lab.exchange import Object, Options, Prompt
from tests.engine.seats import WAIT, asks, of, piled, said, same, script, told, view
from tests.engine.stand_in import StandIn


def test_twenty_dead_workers_cost_nothing_but_time(run):
    noise, deaths = random.Random(4), []
    backend = StandIn(reply=script)

    def die(_) -> None:
        if len(deaths) < 20 and noise.random() < 0.02:
            deaths.append(engine._worker.ident)
            raise SystemExit

    for stage in ("on_encode", "on_prefill", "on_step", "on_segment"):
        setattr(backend, stage, die)
    prompts = asks(60)
    engine = run(backend)
    handles = [engine.submit(prompt, options) for prompt, options in prompts]
    for (prompt, _), handle in zip(prompts, handles, strict=True):
        reply = handle.result(WAIT)
        assert same(reply, run(StandIn(reply=script)).generate(prompt))
        assert said(handle) == reply.text
        assert len([e for e in told(handle) if isinstance(e, Object)]) == len(reply.objects)
    assert len(deaths) == 20
    assert not backend.alive
    assert backend.released == len(backend.answered)
    assert engine.stats().done == 60


def test_workers_killed_from_outside_while_answers_are_written(run):
    """Whenever it comes, on however busy a machine: what a worker writes before it is killed is
    counted in steps, not in seconds."""
    noise, prompts, lives = random.Random(8), asks(80), []
    most = [noise.randint(1, 60) for _ in range(20)]
    assert 4 * sum(most) < sum(len(script(prompt)) for prompt, _ in prompts), "asks are left to all"
    steps = 0

    def count(_) -> None:
        nonlocal steps
        steps += 1
        until = time.monotonic() + WAIT
        while len(lives) < 20 and steps >= most[len(lives)] and time.monotonic() < until:
            time.sleep(0.001)  # it has lived long enough
        time.sleep(0.002)

    backend = StandIn(reply=script, on_batch=count)
    engine = run(backend, places=4)
    handles = [engine.submit(prompt, options) for prompt, options in prompts]
    dead = None
    for number in range(20):
        # At any moment, or after some more steps: deaths in a row at one place are an ask's fault.
        fewest = noise.randint(1, most[number]) if number % 2 else 0
        until = time.monotonic() + WAIT
        while True:
            time.sleep(noise.uniform(0.001, 0.03))
            worker = engine._worker._worker
            # The thread is on its way: before that, it is Python's own code that would be killed.
            if worker is not dead and worker in threading._active.values() and steps >= fewest:
                break
            assert time.monotonic() < until
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(worker.ident), ctypes.py_object(SystemExit)
        )
        worker.join(WAIT)
        assert not worker.is_alive()
        dead = worker
        lives.append(steps)
        steps = 0
    assert not all(handle.ended for handle in handles)
    for (prompt, _), handle in zip(prompts, handles, strict=True):
        reply = handle.result(WAIT)
        assert same(reply, run(StandIn(reply=script)).generate(prompt))
        assert said(handle) == reply.text
    assert engine.generate(Prompt(text="later")).text


def test_an_answer_that_begins_anew_and_comes_out_otherwise_is_right_in_the_reply(run):
    attempts, died = iter(["one two three four.", "one two THREE four."]), []

    def die(state) -> None:
        if state.written == 14 and not died:
            died.append(1)
            raise SystemExit

    engine = run(StandIn(reply=lambda p: next(attempts) + "<|end|>", on_step=die))
    handle = engine.submit(Prompt(text="x"))
    assert handle.result(WAIT).text == "one two THREE four."
    assert said(handle) == "one two three", "and no end of another text after that"


@pytest.mark.parametrize("stage", ["on_encode", "on_prefill", "on_step", "on_segment"])
def test_an_ask_that_kills_every_worker_fails_and_the_others_are_answered(run, stage, caplog):
    poison, deaths = view(99), []

    def die(seen) -> None:
        if poison in of(seen):
            deaths.append(1)
            raise SystemExit

    prompts = asks(6)
    prompts[2] = (Prompt(text="bad", views=(poison,)), Options(seat="bad"))
    backend = StandIn(reply=script)
    setattr(backend, stage, die)
    _engine, handles = piled(run, backend, prompts)
    for (prompt, _), handle in zip(prompts, handles, strict=True):
        if prompt.views:
            with pytest.raises(EngineError, match="it ended the worker each time"):
                handle.result(WAIT)
        else:
            assert same(handle.result(WAIT), run(StandIn(reply=script)).generate(prompt))
    assert len(deaths) == STRIKES
    assert "died and is replaced" in caplog.text
    assert backend.released == len(backend.answered)


def test_what_was_read_for_an_answer_that_nobody_got_is_given_back(run):
    """The worker is killed after `prefill` has opened a place and before the answer has it."""

    class Deadly(StandIn):
        def prefill(self, *given):
            state = super().prefill(*given)
            if len(self.answered) in (2, 3):
                raise SystemExit
            return state

    backend = Deadly(reply=script)
    _, handles = piled(run, backend, asks(4))
    for handle in handles:
        assert same(handle.result(WAIT), run(StandIn(reply=script)).generate(handle.prompt))
    assert len(backend.answered) > 5
    assert backend.released == len(backend.answered)


def test_a_worker_that_can_not_live_at_all_fails_the_asks(run, monkeypatch):
    engine = run(StandIn())
    monkeypatch.setattr(engine._line, "expire", lambda now: 1 / 0)
    with pytest.raises(EngineError, match="can't be kept alive"):
        engine.submit(Prompt(text="x")).result(WAIT)
    monkeypatch.undo()
    assert engine.generate(Prompt(text="x")).text == "You asked: x"


def test_a_model_that_can_not_begin_anew_is_given_up(run, monkeypatch):
    """It never lets go of what it held: the asks fail, more are refused, close frees it."""
    tries = []

    class Ill(StandIn):
        def abandon(self):
            super().abandon()
            tries.append(1)
            raise RuntimeError("device-side assert")

    monkeypatch.setattr(worker, "PAUSE_SECONDS", 0.0)
    backend = Ill(on_step=lambda state: sys.exit())
    engine = run(backend, places=1)
    handles = [engine.submit(Prompt(text="x"), Options(seat=seat)) for seat in "ab"]
    for handle in handles:
        with pytest.raises(EngineUnavailable, match=r"did not come to work.*device-side assert"):
            handle.result(WAIT)
    with pytest.raises(EngineUnavailable, match=r"kept alive.*device-side assert"):
        engine.submit(Prompt(text="y"))
    assert len(tries) == worker.STILLBORN
    assert not backend.closed
    engine.close()
    assert backend.closed
    assert len(tries) == worker.STILLBORN, "nobody tried while nobody asked"
    assert engine.stats().failed == 2


@pytest.mark.parametrize("lasting", [True, False])
def test_where_no_thread_can_be_started(run, monkeypatch, lasting):
    """For a moment, that costs time only; for long, it ends the asks and not the program."""
    start, died = threading.Thread.start, []

    def refuse(thread) -> None:
        if thread.name == "earthmind-stand-in" and len(died) < (1000 if lasting else 4):
            died.append(1)
            raise RuntimeError("can't start new thread")
        start(thread)

    def die(state) -> None:
        if not died:
            died.append(1)
            raise SystemExit

    monkeypatch.setattr(worker, "PAUSE_SECONDS", 0.001)
    engine = run(StandIn(on_step=die))
    monkeypatch.setattr(threading.Thread, "start", refuse)
    handle = engine.submit(Prompt(text="x"))
    if lasting:
        with pytest.raises(EngineUnavailable, match="can't start new thread"):
            handle.result(WAIT)
    else:
        assert handle.result(WAIT).text == "You asked: x"
    engine.close()
    assert engine._backend.closed


def test_close_does_not_wait_for_a_worker_that_never_comes(run, monkeypatch):
    failed = threading.Event()

    class Ill(StandIn):
        def abandon(self):
            super().abandon()
            failed.set()
            raise RuntimeError("device-side assert")

    monkeypatch.setattr(worker, "PAUSE_SECONDS", 2 * WAIT)
    engine = run(Ill(on_step=lambda state: sys.exit()))
    handle = engine.submit(Prompt(text="x"))
    assert failed.wait(WAIT)
    engine.close()
    assert engine._backend.closed
    with pytest.raises(Cancelled):
        handle.result(0)


def test_close_while_a_worker_dies(run):
    backend = StandIn(reply=script)
    dying = threading.Event()

    def die(states) -> None:
        dying.set()
        time.sleep(0.05)
        raise SystemExit

    backend.on_batch = die
    engine = run(backend)
    handle = engine.submit(Prompt(text="x"))
    assert dying.wait(WAIT)
    engine.close()
    with pytest.raises(Cancelled):
        handle.result(WAIT)
    assert backend.closed
