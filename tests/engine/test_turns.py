"""Many asks at once: what they get, and in which turns."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from earthmind_lab.errors import (
    PromptError,
)
from earthmind_lab.exchange import Options, Prompt, View
from tests.engine.seats import WAIT, asks, piled, said, same, script, told, view
from tests.engine.stand_in import StandIn


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
