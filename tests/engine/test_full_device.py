"""Memory that ends: who waits, who begins anew, who fails."""

from __future__ import annotations

from collections import Counter

import pytest

from earthmind_lab.errors import (
    EngineError,
    OutOfDeviceMemory,
)
from earthmind_lab.exchange import Done, Object, Options, Prompt, Queued, Token
from tests.engine.seats import WAIT, Hold, asks, of, piled, said, same, script, told, view
from tests.engine.stand_in import StandIn


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
