"""Many asks at once: what they get, in which turns, and what one may do to another."""

from __future__ import annotations

import ctypes
import itertools
import random
import sys
import threading
import time
from collections import Counter

import numpy as np
import pytest

from earthmind_lab.engine import ResidentEngine, worker
from earthmind_lab.engine.asks import STRIKES
from earthmind_lab.errors import (
    Cancelled,
    EngineError,
    EngineUnavailable,
    OutOfDeviceMemory,
    PromptError,
)
from earthmind_lab.exchange import Done, Object, Options, Prompt, Queued, Token, View
from tests.engine.stand_in import StandIn

WAIT = 20.0


def view(number: int) -> View:
    image = np.full((8, 8, 3), number % 256, np.uint8)
    image[0, 0] = (number // 256, 1, 2)
    return View(image=image, name=f"view{number}", modality="sar")


def script(prompt: Prompt) -> str:
    """Some text of its own for each question, of any length, some with marks."""
    noise = random.Random(prompt.text)
    words = [noise.choice(["water", "field", "road", "é"]) + str(i) for i in range(3, 25)]
    if noise.random() < 0.5:
        words.insert(2, "the lake [SEG],")
    return " ".join(words[: noise.randint(3, 12)]) + ".<|end|>"


def told(handle) -> list:
    return list(handle.events())


def said(handle) -> str:
    return "".join(event.text for event in told(handle) if isinstance(event, Token))


def same(reply, other) -> bool:
    assert (reply.text, reply.raw, reply.ended) == (other.text, other.raw, other.ended)
    assert (reply.token_ids, reply.logprobs) == (other.token_ids, other.logprobs)
    labels = [[(f.label, f.score, f.text_span) for f in r.objects] for r in (reply, other)]
    return labels[0] == labels[1]


def of(seen) -> list[View]:
    """The views that the backend works on: given as views, a prompt, a state, or states."""
    prompts = [getattr(one, "prompt", one) for one in (seen if np.iterable(seen) else [seen])]
    return [one for p in prompts for one in (p.views if isinstance(p, Prompt) else [p])]


class Hold:
    """Holds the worker in its first step until opened, so that asks can pile up."""

    def __init__(self) -> None:
        self.opened, self.reached = threading.Event(), threading.Event()

    def __call__(self, states) -> None:
        self.reached.set()
        assert self.opened.wait(WAIT)


@pytest.fixture
def run():
    engines = []

    def make(backend: StandIn, **settings) -> ResidentEngine:
        settings = {"flush_seconds": 0.0, "queue_limit": 10_000, **settings}
        engines.append(ResidentEngine(backend, **settings))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()
        backend = engine._backend
        assert (len(backend.alive), backend.twice) == (0, 0), "released exactly once"
        assert not engine._worker._keeper.is_alive()
        assert engine._backend.closed


def piled(run, backend, prompts, **settings):
    """An engine with all these asks, submitted while the worker was held by another one."""
    hold, on_batch = Hold(), backend.on_batch
    backend.on_batch = hold
    engine = run(backend, **settings)
    first = engine.submit(Prompt(text="first"), Options(max_new_tokens=1, seat="first"))
    assert hold.reached.wait(WAIT)
    handles = [engine.submit(prompt, options) for prompt, options in prompts]
    backend.on_batch = on_batch
    hold.opened.set()
    first.result(WAIT)
    return engine, handles


def asks(count: int, **options) -> list[tuple[Prompt, Options]]:
    return [(Prompt(text=f"ask {i}"), Options(seat=f"seat {i}", **options)) for i in range(count)]


# --- together ------------------------------------------------------------------------------------


def test_fifty_interleaved_seats_hear_what_they_would_hear_alone(run):
    prompts = [
        Prompt(text=f"seat {seat}, question {n}", views=(view(seat),) if seat % 2 else ())
        for seat in range(50)
        for n in range(2)
    ]
    random.Random(1).shuffle(prompts)
    backend = StandIn(reply=script)
    engine, handles = piled(
        run, backend, [(p, Options(seat=p.text.partition(",")[0])) for p in prompts]
    )
    for prompt, handle in zip(prompts, handles, strict=True):
        reply = handle.result(WAIT)
        alone = run(StandIn(reply=script)).generate(prompt)
        assert same(reply, alone)
        assert said(handle) == reply.text
        assert {event.ask for event in told(handle)} == {handle.id}
    assert max(backend.batches) == 16
    assert sum(backend.segmented) == 101
    stats = engine.stats()
    assert (stats.done, stats.failed, stats.cancelled) == (101, 0, 0)
    assert (stats.running, stats.waiting) == (0, 0)
    assert stats.tokens_new == 1 + sum(len(h.result().token_ids) for h in handles)
    assert stats.tokens_prefilled == len("first") + sum(len(p.text) for p in prompts)
    assert stats.kept["tokens"].entries == 25


def test_texts_are_read_together_and_then_all_write_together(run):
    backend = StandIn(reply=lambda p: "abcdef<|end|>")
    piled(run, backend, asks(5), places=5, clock=lambda: 0.0)[1][-1].result(WAIT)
    # The first alone, with its first and only token; then five texts, then a step of five, ...
    assert backend.batches[:4] == [1, 5, 5, 5]
    assert backend.segmented == [1, 5]


def test_asks_join_and_leave_at_any_step(run):
    lengths = {"long": 40, "ask 0": 3, "ask 1": 4, "ask 2": 5}
    rng = random.Random(3)
    texts = {k: "".join(rng.choice("abcdefgh") for _ in range(n)) for k, n in lengths.items()}
    texts["first"] = "x"
    together = []
    backend = StandIn(reply=lambda p: texts[p.text])
    backend.on_batch = lambda states: together.append({s.prompt.text for s in states})
    order = [(Prompt(text="long"), Options(seat="long")), *asks(3)]
    _, handles = piled(run, backend, order, places=2)
    for handle in handles:
        assert handle.result(WAIT).text == texts[handle.prompt.text]
    assert {frozenset(group) for group in together if len(group) == 2} == {
        frozenset({"long", f"ask {i}"}) for i in range(3)
    }
    assert together[-1] == {"long"}


def test_a_turn_lets_in_what_takes_no_time_or_one_ask_that_does(run):
    """Whoever is being answered gets a token after each new picture; kept ones join together."""
    happened, now = [], [0.0]
    backend = StandIn(reply=lambda p: "abcdefgh ijklmnop qrstuvw" * 2)

    def encode(views) -> None:
        now[0] += 0.3 * len({v.hash for v in views} - backend.seen)

    backend.on_encode = encode
    backend.on_batch = lambda states: happened.append(len(states))
    backend.on_prefill = lambda prompt: happened.append(prompt.text)
    prompts = [(Prompt(text=f"new {i}", views=(view(i),)), Options()) for i in range(3)]
    prompts += [(Prompt(text=f"old {i}", views=(view(0),)), Options()) for i in range(3)]
    piled(run, backend, prompts, clock=lambda: now[0])[1][-1].result(WAIT)
    began = happened.index("new 0")
    assert happened[began : began + 16] == [
        "new 0", 1, 1, "new 1", 1, 2, "new 2", 1, 3, "old 0", "old 1", "old 2", 3, 6, 6, 6,
    ]  # fmt: skip


def test_asks_that_fail_take_no_more_of_a_turn_than_others(run):
    """Each fails after a second; the answer under way gets a token after each of them."""
    stamps, now = [], [0.0]
    backend = StandIn(reply=lambda p: "abcdefghijklmnopqrstuvwxyz" * 2)

    def fail(prompt: Prompt) -> None:
        if prompt.text.startswith("ask"):
            now[0] += 1.0
            raise ValueError("shapes")

    backend.on_prefill = fail
    backend.on_batch = lambda states: stamps.append(now[0])
    prompts = [(Prompt(text="good"), Options(seat="good")), *asks(20)]
    _, handles = piled(run, backend, prompts, clock=lambda: now[0], places=8)
    assert len(handles[0].result(WAIT).text) == 52
    assert max(later - sooner for sooner, later in itertools.pairwise(stamps)) == 1.0


def test_service_is_shared_evenly_under_unequal_piles(run):
    """Jain's index of the tokens that each seat had while every seat still had asks waiting."""
    prompts = [(Prompt(text=f"0/{n}"), Options(seat="0")) for n in range(50)]
    prompts += [(Prompt(text=f"{s}/{n}"), Options(seat=str(s))) for s in range(1, 50) for n in "ab"]
    left = Counter(options.seat for _, options in prompts)
    had = Counter(dict.fromkeys(left, 0))
    backend = StandIn(reply=lambda p: "abcdefghijklmnop<|end|>")

    def count(states) -> None:
        if all(left.values()):
            had.update(state.prompt.text.partition("/")[0] for state in states)

    def prefilled(prompt: Prompt) -> None:
        seat = prompt.text.partition("/")[0]
        if seat in left:
            left[seat] -= 1

    backend.on_batch, backend.on_prefill = count, prefilled
    for handle in piled(run, backend, prompts, places=8)[1]:
        handle.result(WAIT)
    assert set(left.values()) == {0}
    shares = list(had.values())
    assert len(shares) == 50
    assert sum(shares) ** 2 / (50 * sum(n * n for n in shares)) >= 0.95
    assert had["0"] <= max(had[str(s)] for s in range(1, 50)), "the pile wins nothing"


def test_batch_goes_on_under_a_stream_of_interactive_asks(run):
    """With every step one more interactive ask comes, until the batch is through."""
    people, handles = [], []

    def another(states) -> None:
        if handles and not handles[-1].ended and len(people) < 2000:
            seat = Options(seat=f"person {len(people)}")
            people.append(engine.submit(Prompt(text="person"), seat))

    backend = StandIn(reply=lambda p: "abc<|end|>")
    hold = Hold()
    backend.on_batch = hold
    engine = run(backend, places=4)
    people.append(engine.submit(Prompt(text="person"), Options(seat="first")))
    assert hold.reached.wait(WAIT)
    people += [engine.submit(Prompt(text="p"), Options(seat=f"early {i}")) for i in range(8)]
    handles += [engine.submit(p, o) for p, o in asks(6, priority=-1)]
    backend.on_batch = another
    hold.opened.set()
    for handle in handles:
        handle.result(WAIT)
    assert 20 < len(people) < 2000
    for handle in people:
        handle.result(WAIT)


@pytest.mark.parametrize("priority", [0, -1])
def test_what_only_fits_alone_is_answered_under_a_stream_of_others(run, priority):
    """Which shows when it is read; whoever comes after that waits until it has run."""
    people, big, hold, tries = [], [], Hold(), []

    def full(prompt: Prompt) -> None:
        if prompt.text == "big":
            tries.append(len(people))
            if backend.alive:
                raise OutOfDeviceMemory("Full.")

    def another(states) -> None:
        hold(states)
        while not big[0].ended and len(people) < 300 and sum(not p.ended for p in people) < 7:
            people.append(engine.submit(Prompt(text="p"), Options(seat=f"p{len(people)}")))

    lengths = itertools.cycle(range(3, 12))
    backend = StandIn(reply=lambda p: "abcdefghijkl"[: next(lengths)] + "<|end|>")
    backend.on_prefill, backend.on_batch = full, another
    engine = run(backend, places=4)
    people += [engine.submit(Prompt(text="p"), Options(seat=f"early {i}")) for i in range(7)]
    big.append(engine.submit(Prompt(text="big"), Options(seat="big", priority=priority)))
    hold.opened.set()
    assert big[0].result(WAIT).text
    assert len(tries) > 1, "it was sent back"
    assert len(people) < 40
    for handle in people:
        handle.result(WAIT)


# --- memory --------------------------------------------------------------------------------------


def test_an_ask_that_can_never_fit_is_refused_at_once_with_a_plan(run):
    engine = run(StandIn(needs_bytes=lambda p: len(p.views) * 9 << 20, room=10 << 20))
    handle = engine.submit(Prompt(text="x", views=(view(1), view(2))))
    assert handle.ended
    with pytest.raises(OutOfDeviceMemory, match=r"18 MiB needed, 10 MiB.*smaller views.*bfloat16"):
        handle.result(0)
    assert engine.generate(Prompt(text="x", views=(view(1),))).text == "You asked: x"
    assert engine.stats().failed == 1


def test_what_a_backend_says_about_its_memory_goes_to_who_asked(run):
    def needs(prompt: Prompt) -> int:
        if prompt.text == "large":
            raise OutOfDeviceMemory("Too large.", change="at most 4 of its 7 tiles")
        return 1 // len(prompt.views)

    engine = run(StandIn(needs_bytes=needs))
    with pytest.raises(OutOfDeviceMemory, match="4 of its 7 tiles"):
        engine.generate(Prompt(text="large"))
    with pytest.raises(EngineError, match="ZeroDivisionError"):
        engine.generate(Prompt(text="x"))


def test_what_is_under_way_fits_into_the_memory(run):
    needs = {f"ask {i}": 1 + i % 5 for i in range(40)}
    largest = 0

    def count(states) -> None:
        nonlocal largest
        largest = max(largest, sum(needs[s.prompt.text] for s in backend.alive))

    backend = StandIn(on_batch=count, needs_bytes=lambda p: needs.get(p.text, 1), room=12)
    for handle in piled(run, backend, asks(40))[1]:
        handle.result(WAIT)
    assert 10 <= largest <= 12


def test_a_device_that_is_full_sooner_than_thought(run):
    """More than three at a time do not fit, which only shows in the step."""

    def full(states) -> None:
        if len(states) > 3:
            raise OutOfDeviceMemory("Full.")

    prompts = asks(20)
    backend = StandIn(reply=script, on_batch=full)
    _, handles = piled(run, backend, prompts, places=8)
    for (prompt, _), handle in zip(prompts, handles, strict=True):
        reply = handle.result(WAIT)
        assert same(reply, run(StandIn(reply=script)).generate(prompt))
        assert said(handle) == reply.text, "nothing handed out twice"
    assert max(backend.batches) == 3
    assert len(backend.answered) > 21, "some began anew"
    assert not backend.alive and backend.released == len(backend.answered)


def test_text_that_was_handed_out_is_not_repeated_when_an_answer_begins_anew(run):
    handed = []

    def full(states) -> None:
        if len(states) == 2 and states[1].written == 30 and not handed:
            handed.append([len(handle._ask_text()) for handle in watch])
            raise OutOfDeviceMemory("Full.")

    watch: list = []
    backend = StandIn(reply=lambda p: f"{p.text}: one two three four five [SEG] six seven eight.")
    hold = Hold()
    backend.on_batch = hold
    engine = run(backend, places=2)
    older = engine.submit(Prompt(text="older"), Options(seat="a"))
    newer = engine.submit(Prompt(text="newer"), Options(seat="b"))
    assert hold.reached.wait(WAIT)
    for handle in (older, newer):
        handle._ask_text = lambda handle=handle: handle.said
        watch.append(handle)
    backend.on_batch = full
    hold.opened.set()
    for handle in (older, newer):
        assert said(handle) == handle.result(WAIT).text
        kinds = [type(event) for event in told(handle) if not isinstance(event, Queued)]
        assert kinds == [Token] * kinds.count(Token) + [Object, Done]
    assert handed and min(handed[0]) > 10
    assert sorted(backend.answered) == ["newer", "newer", "older"], "the newer one went back"


@pytest.mark.parametrize("error", [OutOfDeviceMemory, MemoryError])
@pytest.mark.parametrize("stage", ["on_encode", "on_prefill", "on_segment", "on_batch"])
def test_a_full_device_in_any_stage_makes_an_ask_wait_for_room(run, stage, error):
    def full(_) -> None:
        if len(backend.alive) > 2:
            raise error("Full.")

    prompts = asks(10)
    backend = StandIn(reply=script)
    setattr(backend, stage, full)
    _, handles = piled(run, backend, prompts, places=6)
    for (prompt, _), handle in zip(prompts, handles, strict=True):
        assert same(handle.result(WAIT), run(StandIn(reply=script)).generate(prompt))
        assert said(handle) == handle.result().text


def test_answers_complete_at_once_whose_objects_only_fit_alone(run):
    """All end in the same step; each is drawn once the others gave up their memory."""

    def full(_) -> None:
        if len(backend.alive) > 1:
            raise OutOfDeviceMemory("Full.")

    backend = StandIn(reply=lambda p: "abc [SEG]<|end|>", on_segment=full)
    _, handles = piled(run, backend, asks(6), places=4, clock=lambda: 0.0)
    for handle in handles:
        reply = handle.result(WAIT)
        assert (reply.text, len(reply.objects)) == (said(handle), 1)
    assert 4 in backend.batches


def test_answers_complete_at_once_lose_no_more_than_memory_asks_for(run):
    """Two of four fit: the first that is drawn makes room for the one that stayed."""

    def full(_) -> None:
        if len(backend.alive) > 2:
            raise OutOfDeviceMemory("Full.")

    backend = StandIn(reply=lambda p: "abc [SEG]<|end|>", on_segment=full)
    _, handles = piled(run, backend, asks(4), places=4, clock=lambda: 0.0)
    for handle in handles:
        assert len(handle.result(WAIT).objects) == 1
    assert Counter(backend.answered) == {
        "first": 1, "ask 0": 1, "ask 1": 1, "ask 2": 2, "ask 3": 2,
    }  # fmt: skip


@pytest.mark.parametrize("stage", ["on_encode", "on_prefill", "on_segment", "on_batch"])
def test_an_ask_that_fills_the_device_alone_fails_and_the_others_go_on(run, stage):
    big = view(99)

    def full(seen) -> None:
        if big in of(seen):
            raise OutOfDeviceMemory("Full.")

    prompts = asks(8)
    prompts[3] = (Prompt(text="large", views=(big,)), Options(seat="large"))
    backend = StandIn(reply=script)
    setattr(backend, stage, full)
    engine, handles = piled(run, backend, prompts, places=4)
    for (prompt, _), handle in zip(prompts, handles, strict=True):
        if prompt.views:
            with pytest.raises(OutOfDeviceMemory):
                handle.result(WAIT)
        else:
            assert same(handle.result(WAIT), run(StandIn(reply=script)).generate(prompt))
    assert engine.stats().failed == 1


# --- isolation -----------------------------------------------------------------------------------


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


# --- stopping ------------------------------------------------------------------------------------


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


# --- the worker dies -----------------------------------------------------------------------------


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


# --- how an answer ends --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "why", "text"),
    [
        ("Yes.<|end|>", "stop", "Yes."),
        (" ".join(map(str, range(90))), "length", None),
        ("no no " * 40, "repetition", ("no no " * 8).strip()),
        ("<|end|>", "empty", ""),
        ("\n\n<|end|>", "empty", ""),
        ("\n" * 128, "empty", ""),
        ("[SEG]<|end|>", "stop", ""),
    ],
)
def test_a_reply_says_why_it_ended(run, raw, why, text):
    engine = run(StandIn(reply=lambda p: raw))
    handle = engine.submit(Prompt(text="x"))
    reply = handle.result(WAIT)
    assert reply.ended == why
    assert bool(reply.remark) == (why != "stop")
    assert said(handle) == reply.text
    if text is not None:
        assert reply.text == text


def test_many_objects_are_no_repetition(run):
    engine = run(StandIn(reply=lambda p: "ships: " + "[SEG], " * 30 + "<|end|>"))
    reply = engine.generate(Prompt(text="x"), Options(max_new_tokens=400))
    assert (reply.ended, len(reply.objects)) == ("stop", 30)
    bounded = run(StandIn(reply=lambda p: "[SEG], " * 500))
    reply = bounded.generate(Prompt(text="x"), Options(max_new_tokens=4000))
    assert reply.ended == "repetition"
    assert 256 <= len(reply.token_ids) < 300


def test_what_the_model_can_not_see_is_refused_before_it_waits(run):
    big = View(image=np.zeros((65, 10, 3), np.uint8), name="b", modality="optical", gsd=10.0)
    handle = run(StandIn()).submit(Prompt(text="x", views=(big,)))
    assert handle.ended
    with pytest.raises(PromptError):
        handle.result(0)
