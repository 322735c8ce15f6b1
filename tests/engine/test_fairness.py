"""Who is served how much: turns between seats, and priorities, on a stand-in."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from earthmind_lab.errors import (
    OutOfDeviceMemory,
)
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
