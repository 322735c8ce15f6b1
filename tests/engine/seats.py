"""Many seats before one stand-in: what they ask, and what they are told."""

from __future__ import annotations

import random
import threading

import numpy as np

from earthmind_lab.exchange import Options, Prompt, Token, View

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
