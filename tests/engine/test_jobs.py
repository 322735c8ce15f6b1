"""Work for the thread that owns a model: done, refused, or told why not; nobody hangs."""

from __future__ import annotations

import threading

import pytest

from earthmind_lab.engine.jobs import Jobs
from earthmind_lab.errors import EngineBusy, EngineUnavailable
from tests.engine.stand_in import StandIn

WAIT = 20


def idle(run):
    return run(StandIn(reply=lambda _: "x<|end|>"))


def test_the_owner_does_it_also_while_nobody_asks(run):
    engine = idle(run)
    assert engine._line.jobs.call(threading.current_thread, WAIT).name == "earthmind-stand-in"
    with pytest.raises(ZeroDivisionError):
        engine._line.jobs.call(lambda: 1 / 0, WAIT)
    assert engine._line.jobs.call(lambda: 3, WAIT) == 3


def test_a_worker_that_dies_over_it_is_replaced_and_the_caller_lives(run):
    engine = idle(run)
    before = engine._line.jobs.call(threading.current_thread, WAIT)

    def dying():
        raise SystemExit

    with pytest.raises(EngineUnavailable, match="The worker died"):
        engine._line.jobs.call(dying, WAIT)
    after = engine._line.jobs.call(threading.current_thread, WAIT)
    assert after is not before


def test_what_is_not_begun_in_time_is_never_done():
    done = []
    jobs = Jobs(lambda: None)
    with pytest.raises(EngineBusy, match=r"within 0\.01 s"):
        jobs.call(lambda: done.append(1), 0.01)
    jobs.work()
    assert (done, jobs.waiting) == ([], False)


def test_whoever_is_interrupted_leaves_nothing_to_do(monkeypatch):
    done = []
    jobs = Jobs(lambda: None)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("concurrent.futures.Future.result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        jobs.call(lambda: done.append(1), WAIT)
    jobs.work()
    assert (done, jobs.waiting) == ([], False)


def test_a_timeout_of_the_job_itself_is_the_jobs():
    jobs = Jobs(lambda: None)
    jobs._wake = jobs.work

    def late():
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        jobs.call(late, WAIT)


def test_whoever_waits_when_the_engine_closes_is_told(run):
    engine = idle(run)
    begun, go_on = threading.Event(), threading.Event()
    told = []

    def asking(job):
        try:
            engine._line.jobs.call(job, WAIT)
        except EngineUnavailable as error:
            told.append(error)

    first = threading.Thread(target=asking, args=(lambda: (begun.set(), go_on.wait(WAIT)),))
    first.start()
    assert begun.wait(WAIT)
    second = threading.Thread(target=asking, args=(lambda: told.append("done"),))
    second.start()
    while not engine._line.jobs.waiting:
        assert second.is_alive()
    closing = threading.Thread(target=engine.close)
    closing.start()
    second.join(WAIT)
    assert [str(each) for each in told if "closed" in str(each)]
    go_on.set()
    first.join(WAIT)
    closing.join(WAIT)
    assert not first.is_alive() and not closing.is_alive()
    assert "done" not in told
    with pytest.raises(EngineUnavailable, match="closed"):
        engine._line.jobs.call(lambda: None, WAIT)
