from __future__ import annotations

import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from earthmind_lab.engine import ResidentEngine
from earthmind_lab.errors import (
    Cancelled,
    EngineBusy,
    EngineError,
    EngineUnavailable,
    OutOfDeviceMemory,
    PromptError,
)
from earthmind_lab.exchange import Done, Failed, Object, Options, Prompt, Queued, Token, View
from tests.engine.stand_in import StandIn

WAIT = 10.0


def ask(text: str = "What is here?") -> Prompt:
    return Prompt(text=text)


@pytest.fixture
def run():
    """Makes engines and closes them."""
    engines = []

    def make(backend: StandIn, **settings) -> ResidentEngine:
        engines.append(ResidentEngine(backend, **settings))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()
        backend = engine._backend
        assert (len(backend.alive), backend.twice) == (0, 0), "released exactly once"


class Gate:
    """Holds the worker in front of a token until opened."""

    def __init__(self, at: int = 3, only: str = "") -> None:
        self.at, self.only = at, only
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self, state) -> None:
        if state.written == self.at and self.only in state.prompt.text:
            self.reached.set()
            assert self.opened.wait(WAIT)


def test_events_of_an_ask_are_complete_and_in_order(run):
    backend = StandIn(reply=lambda p: "Sure, the lake: [SEG] and ships: [SEG].<|end|>")
    handle = run(backend, flush_seconds=0.0).submit(ask())
    events = list(handle.events())
    reply = handle.result()
    kinds = [type(event) for event in events]
    assert kinds == [Queued] + [Token] * kinds.count(Token) + [Object, Object, Done]
    assert {event.ask for event in events} == {handle.id}
    assert "".join(e.text for e in events if isinstance(e, Token)) == reply.text
    assert reply.text == "Sure, the lake and ships."
    assert [(f.label, reply.text[slice(*f.text_span)], f.score) for f in reply.objects] == [
        ("lake", "lake", 0.0),
        ("ships", "ships", 0.1),
    ]
    assert [e.found for e in events if isinstance(e, Object)] == list(reply.objects)
    assert bytes(reply.token_ids).endswith(b"<|end|>")
    assert len(reply.logprobs) == len(reply.token_ids) == reply.usage.tokens_new
    assert list(handle.events()) == events, "a second reader gets all from the start"


def test_usage_counts_what_was_done(run):
    view = View(image=np.zeros((8, 8, 3), np.uint8), name="a", modality="sar")
    engine = run(StandIn(reply=lambda p: "[SEG]"))
    first = engine.generate(Prompt(text="abc", views=(view,))).usage
    again = engine.generate(Prompt(text="abc", views=(view,))).usage
    assert (first.views_encoded, first.sam_encodes, first.tokens_prefilled) == (1, 1, 3)
    assert again.views_encoded == 0
    assert first.tokens_new == len("[SEG]") + 1, "the end of sequence counts"
    assert set(first.seconds) == {"queue", "encode", "prefill", "decode", "segment"}


def test_text_goes_out_in_batches(run):
    words = " ".join(f"word{number}" for number in range(14))
    steps: list[object] = []
    slow = StandIn(reply=lambda p: words, on_step=steps.append)
    engine = run(slow, flush_seconds=0.05, clock=lambda: 0.002 * len(steps))
    tokens = [event for event in engine.submit(ask()).events() if isinstance(event, Token)]
    assert len(steps) > 80
    assert 2 <= len(tokens) <= 5  # one in fifty milliseconds, of steps that take two


def test_one_worker_serves_many_threads(run):
    backend = StandIn()
    engine = run(backend)
    replies: dict[str, str] = {}

    def go(name: str) -> None:
        for number in range(5):
            text = f"{name}-{number}"
            replies[text] = engine.generate(ask(text)).text

    threads = [threading.Thread(target=go, args=(f"t{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert len(replies) == 40
    assert all(reply == f"You asked: {text}" for text, reply in replies.items())
    assert len(backend.threads) == 1
    assert threading.get_ident() not in backend.threads


def test_asks_are_answered_by_priority_then_arrival(run):
    gate = Gate(only="first")
    backend = StandIn(on_step=gate)
    engine = run(backend, places=1)
    handles = [engine.submit(ask("first"))]
    assert gate.reached.wait(WAIT)
    handles += [engine.submit(ask("batch"), Options(priority=-1))]
    handles += [engine.submit(ask(text)) for text in ("second", "third")]
    positions = [next(iter(handle.events())).position for handle in handles]
    gate.opened.set()
    for handle in handles:
        handle.result(WAIT)
    assert backend.answered == ["first", "second", "third", "batch"]
    assert positions == [0, 1, 1, 2]


def test_cancel_while_queued_ends_at_once_and_never_runs(run):
    gate = Gate(only="first")
    backend = StandIn(on_step=gate)
    engine = run(backend)
    first = engine.submit(ask("first"))
    assert gate.reached.wait(WAIT)
    second = engine.submit(ask("second"))
    second.cancel()
    with pytest.raises(Cancelled):
        second.result(0)  # the worker is still held
    gate.opened.set()
    assert first.result(WAIT).text == "You asked: first"
    assert engine.generate(ask("third")).text == "You asked: third"
    assert backend.answered == ["first", "third"]


def test_cancel_while_decoding_stops_before_the_next_token(run):
    gate, steps = Gate(at=3), []
    backend = StandIn(on_step=lambda state: (steps.append(state.written), gate(state)))
    engine = run(backend)
    handle = engine.submit(ask())
    assert gate.reached.wait(WAIT)
    handle.cancel()
    gate.opened.set()
    with pytest.raises(Cancelled):
        handle.result(WAIT)
    assert isinstance(list(handle.events())[-1], Failed)
    assert engine.generate(ask("next")).text == "You asked: next"
    assert steps[:5] == [0, 1, 2, 3, 0], "one step was under way, none followed"
    assert backend.released == 2


def test_cancel_after_the_end_changes_nothing(run):
    handle = run(StandIn()).submit(ask())
    text = handle.result(WAIT).text
    handle.cancel()
    assert handle.result().text == text
    assert isinstance(list(handle.events())[-1], Done)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OutOfDeviceMemory("Too large."), OutOfDeviceMemory),
        (ZeroDivisionError("by zero"), EngineError),
        (RuntimeError("shapes"), EngineError),
    ],
)
def test_a_failing_ask_leaves_the_next_one_unharmed(run, error, expected):
    def fail(state) -> None:
        if "bad" in state.prompt.text and state.written == 2:
            raise error

    backend = StandIn(on_step=fail)
    engine = run(backend)
    bad, good = engine.submit(ask("bad")), engine.submit(ask("good"))
    with pytest.raises(expected, match=str(error)):
        bad.result(WAIT)
    assert isinstance(list(bad.events())[-1], Failed)
    assert good.result(WAIT).text == "You asked: good"
    # Where memory ended over both, the newer one went back into the line and was begun anew.
    again = ["good"] if isinstance(error, OutOfDeviceMemory) else []
    assert backend.answered in (["bad", "good"], ["bad", "good", *again])
    assert backend.released == len(backend.answered), "the broken ask holds nothing"


def test_a_failed_ask_keeps_no_hold_on_what_the_model_computed(run):
    def fail(state) -> None:
        held = state
        raise ValueError(str(held.written))

    with pytest.raises(EngineError) as caught:
        run(StandIn(on_step=fail)).generate(ask())
    trace = caught.value.__cause__.__traceback__
    while trace.tb_next:
        trace = trace.tb_next
    assert "held" not in trace.tb_frame.f_locals


def test_deadline_ends_the_running_and_the_waiting_ask(run):
    words = " ".join(map(str, range(1000)))
    backend = StandIn(reply=lambda p: words, on_step=lambda s: time.sleep(0.005))
    engine = run(backend, places=1)
    running = engine.submit(ask("a"), Options(max_new_tokens=2000, deadline=0.3))
    waiting = engine.submit(ask("b"), Options(deadline=0.05))
    with pytest.raises(EngineError, match=r"deadline of 0\.05 s"):
        waiting.result(WAIT)
    assert not running.ended, "the waiting ask failed without its turn"
    with pytest.raises(EngineError, match=r"deadline of 0\.3 s"):
        running.result(WAIT)
    assert backend.answered == ["a"]


def test_result_may_time_out_while_the_ask_goes_on(run):
    gate = Gate()
    handle = run(StandIn(on_step=gate)).submit(ask())
    with pytest.raises(TimeoutError):
        handle.result(0.01)
    gate.opened.set()
    assert handle.result(WAIT).text.startswith("You asked")


def test_a_full_queue_refuses_and_a_cancelled_ask_makes_room(run):
    gate = Gate(only="first")
    engine = run(StandIn(on_step=gate), queue_limit=1)
    engine.submit(ask("first"))
    assert gate.reached.wait(WAIT)
    waiting = engine.submit(ask("second"))
    with pytest.raises(EngineBusy):
        engine.submit(ask("third"))
    waiting.cancel()
    last = engine.submit(ask("fourth"))
    gate.opened.set()
    assert last.result(WAIT).text == "You asked: fourth"


def test_close_cancels_all_and_refuses_more(run):
    gate = Gate(only="first")
    backend = StandIn(on_step=gate)
    engine = run(backend)
    handles = [engine.submit(ask("first"))]
    assert gate.reached.wait(WAIT)
    handles.append(engine.submit(ask("second")))  # only now: it waits while the worker is held
    closing = threading.Thread(target=engine.close)
    closing.start()
    with pytest.raises(Cancelled):
        handles[1].result(WAIT)
    gate.opened.set()
    with pytest.raises(Cancelled):
        handles[0].result(WAIT)
    closing.join(WAIT)
    assert engine.closed
    assert backend.closed
    with pytest.raises(EngineUnavailable, match="load_engine"):
        engine.submit(ask())
    engine.close()  # once more does no harm


def test_an_interrupt_of_the_caller_cancels_the_ask(run, monkeypatch):
    gate = Gate()
    engine = run(StandIn(on_step=gate))
    handles = []
    submit = engine.submit

    def submit_and_interrupt(prompt, options=None):
        handle = submit(prompt, options)
        handles.append(handle)
        original = handle.result

        def result(timeout=None):
            assert gate.reached.wait(WAIT)
            handle.result = original
            raise KeyboardInterrupt

        handle.result = result
        return handle

    monkeypatch.setattr(engine, "submit", submit_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        engine.generate(ask())
    gate.opened.set()
    with pytest.raises(Cancelled):
        handles[0].result(WAIT)


def test_a_view_that_would_be_shrunk_is_refused_with_what_fits(run):
    engine = run(StandIn())
    image = np.zeros((65, 10, 3), np.uint8)
    chip = View(image=image, name="true_colour", modality="optical", gsd=10.0)
    with pytest.raises(PromptError, match=r"10 × 65 px at 10 m.*64 × 64 px \(0\.64 km\)"):
        engine.generate(Prompt(text="x", views=(chip,)))
    picture = View(image=image, name="picture", modality="optical")
    assert engine.generate(Prompt(text="x", views=(picture,))).text == "You asked: x"
    assert engine.seen_gsd(chip) == pytest.approx(10 * 65 / 32)
    assert engine.seen_gsd(picture) is None


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1])
def test_a_seed_that_no_generator_takes_is_refused(run, seed):
    engine = run(StandIn())
    with pytest.raises(PromptError, match=str(seed)):
        engine.generate(ask(), Options(seed=seed))
    for fits in (2**64 - 1, -(2**63)):
        torch.Generator().manual_seed(fits)
        assert engine.generate(ask(), Options(seed=fits)).text


def test_a_view_of_the_sensor_that_is_off_is_not_encoded(run):
    backend = StandIn()
    views = tuple(
        View(image=np.full((8, 8, 3), i, np.uint8), name=m, modality=m)
        for i, m in enumerate(("optical", "sar"))
    )
    reply = run(backend).generate(Prompt(text="x", views=views), Options(sensor_off="sar"))
    assert reply.usage.views_encoded == 1
    assert backend.seen == {views[0].hash}


def test_the_engine_needs_no_torch():
    code = (
        "import sys, earthmind_lab.engine as e; e.load_engine, e.ResidentEngine; "
        "bad = {'torch', 'transformers', 'rasterio', 'xarray'} & set(sys.modules); "
        "sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
