"""Who is served how much: turns between seats, and priorities, on a stand-in."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections import Counter

import pytest

from earthmind_lab.errors import Cancelled, OutOfDeviceMemory
from earthmind_lab.exchange import Options, Prompt
from tests.engine.seats import WAIT, Hold, asks, piled
from tests.engine.stand_in import StandIn


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
    assert len(had) == 50
    assert jain(had.values()) >= 0.95
    assert had["0"] <= max(had[str(s)] for s in range(1, 50)), "the pile wins nothing"


def jain(shares) -> float:
    """1 where all have the same, 1 / n where one has it all."""
    shares = list(shares)
    return sum(shares) ** 2 / (len(shares) * sum(n * n for n in shares))


@pytest.mark.parametrize("lengths", ["of the seat", "of the ask"])
def test_tokens_are_shared_evenly_whatever_the_length_of_answers(run, lengths):
    """Fifty seats that always have asks waiting, 16 places, answers of 8 to 260 tokens."""
    noise = random.Random(7)
    own = {str(seat): noise.randint(8, 260) for seat in range(50)}
    options = {seat: Options(seat=seat, max_new_tokens=260) for seat in own}
    waiting, had, handles = Counter(dict.fromkeys(own, 2)), Counter(dict.fromkeys(own, 0)), []

    def reply(prompt: Prompt) -> str:
        count = noise.randint(8, 260)
        if lengths == "of the seat":
            count = own.get(prompt.text, 1)
        return "".join(noise.choice("abcdefgh") for _ in range(count))

    def another(prompt: Prompt) -> None:
        if handles and not handles[0].stop_asked:
            waiting[prompt.text] -= 1
            assert min(waiting.values()) > 0, "each has one waiting at every moment"
            handles.append(engine.submit(prompt, options[prompt.text]))
            waiting[prompt.text] += 1

    def count(states) -> None:
        if handles and not handles[0].stop_asked:
            had.update(state.prompt.text for state in states)
            if had.total() > 50 * 500:
                for handle in handles:
                    handle.cancel()

    backend = StandIn(reply=reply, on_batch=count, on_prefill=another)
    hold = Hold()
    backend.on_batch = hold
    engine = run(backend, places=16)
    first = engine.submit(Prompt(text="first"), Options(max_new_tokens=1))
    assert hold.reached.wait(WAIT)
    handles += [engine.submit(Prompt(text=seat), options[seat]) for seat in [*own, *own]]
    backend.on_batch = count
    hold.opened.set()
    first.result(WAIT)
    for handle in handles:
        with contextlib.suppress(Cancelled):
            handle.result(WAIT)
    assert jain(had.values()) >= 0.95
    assert max(had.values()) - min(had.values()) <= 260


def test_whoever_stops_their_asks_before_the_first_token_takes_no_more_turns(run):
    """Their pictures were encoded all the same, and the others have waited."""
    begun, others = Counter(), []

    def encode(views) -> None:
        ask = engine._turns._in_hand[0].ask
        begun[ask.seat] += not (others and others[-1].ended)  # after them there is no other turn
        if ask.seat == "fickle":
            ask.cancel()
            backend.heed()

    backend = StandIn(reply=lambda p: "ab" * 32, on_encode=encode)
    hold = Hold()
    backend.on_batch = hold
    engine = run(backend, places=1)
    first = engine.submit(Prompt(text="first"), Options(max_new_tokens=1))
    assert hold.reached.wait(WAIT)
    fickle = [engine.submit(Prompt(text="x"), Options(seat="fickle")) for _ in range(40)]
    others += [engine.submit(Prompt(text="x"), Options(seat="other")) for _ in range(10)]
    backend.on_batch = lambda states: None
    hold.opened.set()
    first.result(WAIT)
    assert others[-1].result(WAIT)
    assert 8 <= begun["fickle"] <= 14, "not four times as many"
    for handle in fickle:
        with pytest.raises(Cancelled):
            handle.result(WAIT)


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
